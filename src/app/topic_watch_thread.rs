//! Looks at the three topics while the process runs, on a thread of its own, and stops the process if one of them is not
//! the topic of the start any more (`engine::topic_watch` decides).
//!
//! A transaction with a `not_found` waits for a look that begins after the event was processed. If partitions were
//! added, an update is read where its entity is not; it must not be rejected although it is valid. Likewise if the
//! input was created again. Other transactions wait only while a difference was seen once and is not confirmed.
//!
//! Every 15 s it also looks at the members of the group, and names those that are not steward
//! (`engine::foreign_members`).
//!
//! Architecture invariant: a look without an answer stops nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::config::Config;
use crate::engine::commit::transaction::TransactionContent;
use crate::engine::foreign_members::{ForeignMembers, GroupLook, GroupMember};
use crate::engine::topic_watch::{LookVerdict, TopicIdentities, TopicWatch};
use crate::kafka::admin::topic_look::TopicObserver;
use crate::kafka::client::context::ReportingContext;
use crate::kafka::client::settings::member_ids;
use crate::observability::log_events::{ForeignMember, LogEvent, ranges};
use crate::ports::{Clock, CommitReply, ResetReply, Transactions};
use crate::record::Partition;
use crate::runtime::{OnStop, StopCause};

/// How often the topics are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often the members of the group are looked at.
const MEMBERS_EVERY: Duration = Duration::from_secs(15);
/// The wait before a difference is looked at again.
const CONFIRM_AFTER: Duration = Duration::from_secs(2);
/// The wait after a look without an answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long transactions wait for a look while no broker answers one. Then they are sent.
const MAX_HELD: Duration = Duration::from_secs(5);
/// Transactions that wait for a look: the committer sends one at a time.
const MAX_WAITING: usize = 2;

/// What the thread calls once the topics are known to be unchanged.
type Release = Box<dyn FnOnce() + Send>;

/// Sends the transactions on, those with a `not_found` after a look.
pub(super) struct WatchedTransactions {
    /// Whether the last look found a difference. Written by the thread.
    is_suspected: Arc<AtomicBool>,
    transactions: Arc<Mutex<Box<dyn Transactions>>>,
    waiting: Sender<Release>,
}

pub(super) struct WatchParts<'a> {
    pub(super) config: &'a Config,
    pub(super) identities: TopicIdentities,
    pub(super) context: ReportingContext,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stop: OnStop,
}

/// Starts the thread. It ends when the returned transactions are dropped.
///
/// # Errors
/// The client or the thread cannot be started.
pub(super) fn start(parts: WatchParts<'_>, transactions: Box<dyn Transactions>) -> io::Result<WatchedTransactions> {
    let WatchParts { config, identities, context, clock, stop } = parts;
    let observer = TopicObserver::new(config, context).map_err(io::Error::other)?;
    let (waiting, inbox) = bounded(MAX_WAITING);
    let watch = TopicWatch::new(identities);
    let is_suspected = Arc::new(AtomicBool::new(false));
    let mut watcher = Watcher {
        watch,
        observer,
        foreign: ForeignMembers::new(member_ids(config)),
        group: config.kafka.group_id.clone(),
        next_members: clock.now(),
        clock,
        stop,
        is_suspected: Arc::clone(&is_suspected),
        unanswered_since: None,
        held: Vec::new(),
    };
    thread::Builder::new().name("topic-watch".to_owned()).spawn(move || watcher.run(&inbox))?;
    Ok(WatchedTransactions { is_suspected, transactions: Arc::new(Mutex::new(transactions)), waiting })
}

struct Watcher {
    watch: TopicWatch,
    observer: TopicObserver<ReportingContext>,
    foreign: ForeignMembers,
    group: String,
    next_members: Instant,
    clock: Arc<dyn Clock>,
    stop: OnStop,
    is_suspected: Arc<AtomicBool>,
    /// Since when no look was answered.
    unanswered_since: Option<Instant>,
    /// Transactions that wait for a look.
    held: Vec<Release>,
}

impl Watcher {
    fn run(&mut self, inbox: &Receiver<Release>) {
        let mut next_look = self.clock.now() + LOOK_EVERY;
        loop {
            let wait = next_look.saturating_duration_since(self.clock.now());
            match inbox.recv_timeout(wait) {
                Ok(release) => {
                    self.held.push(release);
                    if self.is_suspected.load(Ordering::Relaxed) {
                        // A look at once would ask the same broker too soon.
                        continue;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.observer.serve(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let wait = match self.watch.looked(self.observer.look(self.watch.at_start())) {
                LookVerdict::Unchanged => {
                    self.unanswered_since = None;
                    self.is_suspected.store(false, Ordering::Relaxed);
                    self.release();
                    // Not while no broker responds: the client library aborts the process if the coordinator responds
                    // to a request that has timed out.
                    self.look_at_members();
                    LOOK_EVERY
                }
                LookVerdict::Suspected => {
                    self.unanswered_since = None;
                    self.is_suspected.store(true, Ordering::Relaxed);
                    CONFIRM_AFTER
                }
                LookVerdict::NoAnswer => {
                    let now = self.clock.now();
                    if now.saturating_duration_since(*self.unanswered_since.get_or_insert(now)) >= MAX_HELD {
                        self.release();
                    }
                    RETRY_AFTER
                }
                // What is held is dropped with this thread: its transaction is never sent.
                LookVerdict::Changed(change) => return (self.stop)(StopCause::TopicChanged(change)),
            };
            next_look = self.clock.now() + wait;
        }
    }

    /// Names the members of the group that are not steward. Not while transactions wait for a look at the topics.
    fn look_at_members(&mut self) {
        let now = self.clock.now();
        if now < self.next_members || !self.held.is_empty() {
            return;
        }
        let members = match self.observer.members(self.watch.at_start()) {
            GroupLook::Members(members) => members,
            GroupLook::Rebalancing(_) => return,
            GroupLook::NoAnswer => return self.next_members = now + MEMBERS_EVERY,
        };
        self.next_members = now + MEMBERS_EVERY;
        for GroupMember { client_id, host, partitions } in self.foreign.seen(members) {
            let partitions = ranges(partitions.iter().map(|partition| partition.0));
            ForeignMember { group: &self.group, client_id: &client_id, host: &host, partitions: &partitions }.emit();
        }
    }

    fn release(&mut self) {
        self.held.drain(..).for_each(|release| release());
    }
}

impl Transactions for WatchedTransactions {
    fn commit(&self, content: Arc<TransactionContent>, reply: CommitReply) {
        let transactions = Arc::clone(&self.transactions);
        let waits = content.has_not_found() || self.is_suspected.load(Ordering::Relaxed);
        let send = move || lock(&transactions).commit(content, reply);
        if !waits {
            return send();
        }
        // If the thread has ended, the process ends for the reason that it gave.
        drop(self.waiting.try_send(Box::new(send)));
    }

    fn reset_producer(&self, partitions: Vec<Partition>, reply: ResetReply) {
        lock(&self.transactions).reset_producer(partitions, reply);
    }
}

/// Held only to hand a request over.
fn lock(transactions: &Mutex<Box<dyn Transactions>>) -> std::sync::MutexGuard<'_, Box<dyn Transactions>> {
    transactions.lock().unwrap_or_else(PoisonError::into_inner)
}
