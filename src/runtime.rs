//! Who does what, when.
//!
//! * [`ingest`]: fans the records of a batch out by key, and owns each partition's life cycle.
//! * [`registry`]: where an entity is, passivated or as an actor; birth and rest.
//! * [`entity_actor`]: one key: judges each of its records, in order.
//! * [`committer`]: carries out what the group commit machine decides.
//!
//! Messages go one way, ingest -> entity -> committer, and nobody waits for an answer: a batch counts down the keys
//! that still work on it, and the last one tells the committer. What is under way is bounded by the in-flight budget
//! in bytes and by [`MAX_OPEN_BATCHES`]; every mailbox has room for that many messages, so that sending never blocks.
//!
//! Architecture invariant: no rdkafka; the outside is reached through `ports` alone.

pub mod committer;
pub mod entity_actor;
pub mod ingest;
pub mod registry;

use std::sync::Arc;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message};

use crate::engine::budget::Budget;
use crate::engine::commit::StopReason;
use crate::engine::recovery::RecoveryRefusal;
use crate::engine::recovery::driver::ReadFailure;
use crate::observability::log_events::KeyPolicy;
use crate::observability::stats::Stats;
use crate::observability::status::Status;
use crate::ports::{Clock, SourceFailure};

/// Batches that are read and not yet committed, all partitions together.
pub const MAX_OPEN_BATCHES: usize = 1_024;
/// Room in a mailbox: a message for each open batch, and as many again for what else has to be said.
pub const MAILBOX_MESSAGES: usize = 4 * MAX_OPEN_BATCHES;

/// Why the pipeline cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopCause {
    /// The committer's machine says so.
    Commit(StopReason),
    /// A partition must not be served.
    Refused(RecoveryRefusal),
    /// A partition cannot be read.
    Unreadable(ReadFailure),
    /// The consumer cannot go on.
    Source(SourceFailure),
    /// The entities have outgrown what is allowed.
    StateTooLarge {
        /// What they take, in bytes.
        held_bytes: u64,
        /// What is allowed.
        limit_bytes: u64,
    },
}

/// What all actors share.
#[derive(Clone)]
pub struct Shared {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub stats: Arc<Stats>,
    /// What the process is doing.
    pub status: Arc<Status>,
    /// Bytes read and not yet committed.
    pub in_flight: Arc<Budget>,
    /// Bytes of entities passivated.
    pub passivated: Arc<Budget>,
    /// How keys stand in the log.
    pub keys: Arc<KeyPolicy>,
    /// Called once the pipeline cannot go on; the first reason counts.
    pub stop: Arc<dyn Fn(StopCause) + Send + Sync>,
}

/// Puts a message into a mailbox. What can be under way is bounded by [`MAX_OPEN_BATCHES`], so a mailbox has room for
/// it, with one exception: one of an actor that has not started yet has actix's own small capacity, and must not lose
/// what its arbiter has had no time for.
///
/// A closed mailbox is that of an actor whose process ends: the work is dropped with it, and read again.
#[expect(clippy::disallowed_methods, reason = "the capacity it ignores is that of an actor that has not started yet")]
pub(crate) fn post<A, M>(to: &Addr<A>, message: M)
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    match to.try_send(message) {
        Ok(()) | Err(actix::dev::SendError::Closed(_)) => {}
        Err(actix::dev::SendError::Full(message)) => to.do_send(message),
    }
}
