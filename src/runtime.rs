//! Owns the actors. They reach the world outside of the process through `ports` alone.
//!
//! * [`ingest`]: life cycle of the owned partitions; fans batches out by key.
//! * `entity_pool`: entities of all partitions: threads, actors, passivation.
//! * `entity_actor`: one key: accepts or rejects its events, in order.
//! * [`committer`]: executes the commands of the group commit machine.
//! * [`assemble`]: wires the actors to each other and to the ports.
//!
//! Messages flow one way, ingest -> entity -> committer, and no actor awaits another. A batch counts its unfinished
//! keys; the last one sends the outcomes to the committer. The in-flight budget in bytes and [`MAX_OPEN_BATCHES`] bound
//! the work. Each mailbox has room for a message of every open batch, so sending never blocks.
//!
//! Architecture invariant: no rdkafka.

pub mod assemble;
pub mod committer;
mod entity_actor;
mod entity_pool;
pub mod ingest;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use actix::dev::{SendError, ToEnvelope};
use actix::{Actor, Addr, Handler, Message, Recipient};

use crate::engine::budget::Budget;
use crate::engine::commit::StopReason;
use crate::engine::commit::limit::{FIRST_BYTES, LEAST_READ_AHEAD_BYTES, TransactionLimit};
use crate::engine::recovery::RecoveryRefusal;
use crate::engine::recovery::driver::ReadFailure;
use crate::engine::topic_watch::TopicChange;
use crate::observability::log_events::KeyPolicy;
use crate::observability::stats::Stats;
use crate::observability::status::Status;
use crate::ports::{Clock, ConsumerFailure};

/// Batches read and not yet committed, all partitions together.
pub const MAX_OPEN_BATCHES: usize = 1_024;
/// Capacity of a mailbox: a message of each open batch, and three times as many other messages.
pub const MAILBOX_MESSAGES: usize = 4 * MAX_OPEN_BATCHES;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopCause {
    /// The group commit machine cannot continue.
    Commit(StopReason),
    /// A partition must not be served.
    Refused(RecoveryRefusal),
    /// A partition cannot be read.
    Unreadable(ReadFailure),
    /// A topic is not the one of the start any more.
    TopicChanged(TopicChange),
    /// The consumer cannot continue.
    Consumer(ConsumerFailure),
    /// The entities hold more memory than allowed.
    StateTooLarge { held_bytes: u64, limit_bytes: u64 },
}

#[derive(Debug, Clone, Copy)]
pub struct MemoryLimits {
    /// Bytes read and not yet committed.
    pub in_flight_bytes: u64,
    /// Bytes of all entities.
    pub state_bytes: u64,
}

/// What all actors share.
#[derive(Clone)]
pub struct Shared {
    pub clock: Arc<dyn Clock>,
    pub stats: Arc<Stats>,
    pub status: Arc<Status>,
    /// Bytes read and not yet committed.
    pub in_flight: Arc<Budget>,
    /// Batches read and not yet committed.
    pub open_batches: OpenBatchCount,
    read_limits: Arc<ReadLimits>,
    /// Bytes of all entities.
    pub state_memory: Arc<Budget>,
    /// How keys appear in the log.
    pub keys: Arc<KeyPolicy>,
    pub stop: OnStop,
}

/// Called when the process has to stop. The first cause counts.
pub type OnStop = Arc<dyn Fn(StopCause) + Send + Sync>;

impl Shared {
    pub fn new(clock: Arc<dyn Clock>, limits: MemoryLimits, keys: KeyPolicy, stop: OnStop) -> Shared {
        Shared {
            stats: Arc::new(Stats::new()),
            status: Arc::new(Status::new(clock.now())),
            clock,
            in_flight: Budget::new(limits.in_flight_bytes),
            open_batches: OpenBatchCount::default(),
            read_limits: Arc::new(ReadLimits {
                batch_bytes: AtomicU64::new(FIRST_BYTES),
                ahead_bytes: AtomicU64::new(LEAST_READ_AHEAD_BYTES),
            }),
            state_memory: Budget::new(limits.state_bytes),
            keys: Arc::new(keys),
            stop,
        }
    }

    /// Returns whether another batch may be read.
    pub fn takes_records(&self) -> bool {
        self.in_flight.held_bytes() < self.in_flight_limit_bytes() && self.open_batches.has_room()
    }

    /// Returns the bytes in flight at which reading pauses.
    pub fn in_flight_limit_bytes(&self) -> u64 {
        self.in_flight.limit_bytes().min(self.read_limits.ahead_bytes.load(Ordering::Relaxed))
    }

    /// Bytes that the next batch should have.
    pub fn batch_bytes(&self) -> u64 {
        self.read_limits.batch_bytes.load(Ordering::Relaxed)
    }

    fn set_read_limits(&self, limit: &TransactionLimit) {
        self.read_limits.batch_bytes.store(limit.batch_bytes(), Ordering::Relaxed);
        self.read_limits.ahead_bytes.store(limit.read_ahead_bytes(), Ordering::Relaxed);
    }
}

/// What the size of transactions demands of reading, see [`TransactionLimit`].
#[derive(Debug)]
struct ReadLimits {
    batch_bytes: AtomicU64,
    ahead_bytes: AtomicU64,
}

/// Number of batches that are read and neither committed nor dropped. A clone is the same count.
#[derive(Debug, Clone, Default)]
pub struct OpenBatchCount(Arc<AtomicUsize>);

impl OpenBatchCount {
    /// Counts a batch until the guard is dropped.
    fn count(&self) -> OpenBatchGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenBatchGuard(Arc::clone(&self.0))
    }

    pub fn has_room(&self) -> bool {
        self.0.load(Ordering::Relaxed) < MAX_OPEN_BATCHES
    }
}

/// One open batch; see [`OpenBatchCount`].
#[must_use]
#[derive(Debug)]
pub struct OpenBatchGuard(Arc<AtomicUsize>);

impl Drop for OpenBatchGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Puts a message into a mailbox. The mailbox has room, because [`MAX_OPEN_BATCHES`] bounds the messages. The exception
/// is an actor that has not started: its mailbox has actix's small default capacity, and the message must not be lost
/// while its arbiter is busy.
///
/// If the mailbox is closed, the process is ending. The message is dropped, and the next owner does the work again.
#[expect(clippy::disallowed_methods, reason = "the capacity it ignores is that of an actor that has not started")]
pub(crate) fn post<A, M>(to: &Addr<A>, message: M)
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    match to.try_send(message) {
        Ok(()) | Err(SendError::Closed(_)) => {}
        Err(SendError::Full(message)) => to.do_send(message),
    }
}

/// Does the same as [`post`], for a sender that knows the message and not the actor.
#[expect(clippy::disallowed_methods, reason = "the capacity it ignores is that of an actor that has not started")]
pub(crate) fn post_to<M>(to: &Recipient<M>, message: M)
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    match to.try_send(message) {
        Ok(()) | Err(SendError::Closed(_)) => {}
        Err(SendError::Full(message)) => to.do_send(message),
    }
}
