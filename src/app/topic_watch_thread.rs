//! Looks at the three topics while the process runs, on a thread of its own, and stops the process if one of them is not
//! the topic of the start any more (`engine::topic_watch` decides).
//!
//! A transaction with a `not_found` is committed only after a look that began after the event was read. If partitions
//! were added, an update is read where its entity is not; it must not be rejected although it is valid. Likewise if the
//! input was created again. Other transactions wait only while a difference was seen once and is not confirmed.
//! `kafka::transactions::topic_looks` has the requests and the waits.
//!
//! Every 15 s it also looks at the members of the group, and names those that are not steward
//! (`engine::foreign_members`).
//!
//! Architecture invariant: a look without an answer stops nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use crate::config::Config;
use crate::engine::foreign_members::{ForeignMembers, GroupLook, GroupMember};
use crate::engine::topic_watch::{LookDoubt, LookVerdict, TopicIdentities, TopicWatch};
use crate::kafka::admin::topic_look::TopicObserver;
use crate::kafka::client::context::ReportingContext;
use crate::kafka::client::settings::member_ids;
use crate::kafka::transactions::topic_looks::{LookInbox, LookWake, TopicLooks, topic_looks};
use crate::observability::log_events::{ForeignMember, LogEvent, ranges};
use crate::ports::Clock;
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

pub(super) struct WatchParts<'a> {
    pub(super) config: &'a Config,
    pub(super) identities: TopicIdentities,
    pub(super) context: ReportingContext,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stop: OnStop,
}

/// Starts the thread. It ends when the returned end is dropped.
///
/// # Errors
/// The client or the thread cannot be started.
pub(super) fn start(parts: WatchParts<'_>) -> io::Result<TopicLooks> {
    let WatchParts { config, identities, context, clock, stop } = parts;
    let observer = TopicObserver::new(config, context).map_err(io::Error::other)?;
    let (looks, inbox) = topic_looks();
    let mut watcher = Watcher {
        watch: TopicWatch::new(identities),
        observer,
        foreign: ForeignMembers::new(member_ids(config)),
        group: config.kafka.group_id.clone(),
        next_members: clock.now(),
        clock,
        stop,
        unanswered_since: None,
    };
    thread::Builder::new().name("topic-watch".to_owned()).spawn(move || watcher.run(&inbox))?;
    Ok(looks)
}

struct Watcher {
    watch: TopicWatch,
    observer: TopicObserver<ReportingContext>,
    foreign: ForeignMembers,
    group: String,
    next_members: Instant,
    clock: Arc<dyn Clock>,
    stop: OnStop,
    /// Since when no look was answered.
    unanswered_since: Option<Instant>,
}

impl Watcher {
    fn run(&mut self, inbox: &LookInbox) {
        let mut next_look = self.clock.now() + LOOK_EVERY;
        let mut is_suspected = false;
        loop {
            let wait = next_look.saturating_duration_since(self.clock.now());
            match inbox.wait(wait) {
                LookWake::Requested if self.has_no_answer() => {
                    inbox.answer_all();
                    continue;
                }
                // A look at once would ask the same broker too soon.
                LookWake::Requested if is_suspected => continue,
                LookWake::Requested | LookWake::Due => self.observer.serve(),
                LookWake::Ended => return,
            }
            // Before the look begins.
            let newest_request = inbox.newest_request();
            let wait = match self.watch.looked(self.observer.look(self.watch.at_start())) {
                LookVerdict::Unchanged => {
                    is_suspected = false;
                    self.unanswered_since = None;
                    inbox.found_nothing(newest_request);
                    // Not while no broker responds: the client library aborts the process if the coordinator responds
                    // to a request that has timed out.
                    if !inbox.has_unanswered() {
                        self.look_at_members();
                    }
                    LOOK_EVERY
                }
                LookVerdict::Suspected => {
                    is_suspected = true;
                    self.unanswered_since = None;
                    inbox.doubted(LookDoubt::Suspected);
                    CONFIRM_AFTER
                }
                LookVerdict::NoAnswer => {
                    self.unanswered_since.get_or_insert(self.clock.now());
                    if !is_suspected {
                        inbox.doubted(LookDoubt::NoAnswer);
                    }
                    if self.has_no_answer() {
                        inbox.answer_all();
                    }
                    RETRY_AFTER
                }
                // The end of the inbox keeps the commit thread from committing what waits for a look.
                LookVerdict::Changed(change) => return (self.stop)(StopCause::TopicChanged(change)),
            };
            next_look = self.clock.now() + wait;
        }
    }

    /// Returns whether no look was answered for so long that transactions do not wait any more.
    fn has_no_answer(&self) -> bool {
        let now = self.clock.now();
        self.unanswered_since.is_some_and(|since| now.saturating_duration_since(since) >= MAX_HELD)
    }

    /// Names the members of the group that are not steward.
    fn look_at_members(&mut self) {
        let now = self.clock.now();
        if now < self.next_members {
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
}
