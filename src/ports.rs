//! What the actors need from outside, as traits; the in-memory twins stand in `ports/memory.rs`.
//!
//! Three directions, one port each:
//!
//! * [`EventSource`]: the consumer. It tells its [`SourceSink`] what was assigned, read, revoked and lost; it is told
//!   where to start a partition.
//! * [`PartitionReader`]: reads the state, the DLQ records and the input again while a partition recovers.
//! * [`Transactions`]: one transaction at a time, and the answer to how it ended.
//!
//! [`Ownership`] is the one thing that all sides share: who owns which partition right now. [`Clock`] is time.
//!
//! Architecture invariant: no rdkafka and no actix in any signature. A port either answers at once or takes a
//! callback; it never makes an actor wait.

use crate::engine::commit::transaction::{CommitOutcome, ResetOutcome, TransactionContent};
use crate::engine::recovery::driver::RecoveryFailure;
use std::sync::Arc;
use std::time::Instant;

use crate::engine::recovery::Recovered;
use crate::record::{Batch, Epoch, Offset, Partition, Position};

/// Time, as an argument. The service's own times come from its records; this one is for waits and for the log.
pub trait Clock: Send + Sync {
    /// A moment that only rises, for deadlines.
    fn now(&self) -> Instant;
    /// Milliseconds since 1970 by the wall clock, for ages and latencies.
    fn unix_ms(&self) -> i64;
    /// Milliseconds since some moment, which rise in steps of several: for whoever wants to know after each event whether
    /// time has passed, and would spend more on asking [`now`](Clock::now) than on the answer.
    fn coarse_ms(&self) -> u64;
}

// ---------------------------------------------------------------------------------------------------------- intake

/// What the consumer has to say. Order matters: a sink handles them one after the other.
#[derive(Debug)]
pub enum SourceEvent {
    /// These partitions are owned from now on; nothing is read of them until [`EventSource::start`].
    Assigned(Vec<(Partition, Epoch)>),
    /// Records, or a position alone, of a partition that was started. Offsets and positions of one epoch only rise.
    Batch(Batch),
    /// These partitions are about to go. What is applied may still be committed: `drained` is called once that is
    /// done or hopeless; the consumer gives them up then, or at `deadline` at the latest, and says `Gone`.
    Revoking {
        /// Partitions and the epochs that are about to end.
        partitions: Vec<(Partition, Epoch)>,
        /// When the consumer stops waiting.
        deadline: Instant,
        /// To be called once; dropping it uncalled counts as called.
        drained: Drained,
    },
    /// Ownership under these epochs is over: after a revocation cleanly.
    Revoked(Vec<(Partition, Epoch)>),
    /// Ownership under these epochs was over before anybody said so: nothing of it may be committed.
    Lost(Vec<(Partition, Epoch)>),
    /// Events were deleted by retention before they were read: `[first, until)` does not exist any more. The source
    /// goes on reading at `until`.
    Expired {
        /// The partition.
        partition: Partition,
        /// Its epoch.
        epoch: Epoch,
        /// The position that was to be read.
        first: Position,
        /// The log's start.
        until: Position,
    },
    /// The consumer cannot go on. The process has to end.
    Failed(SourceFailure),
}

/// Called when a revocation has nothing left to wait for.
pub struct Drained(Option<Box<dyn FnOnce() + Send>>);

impl Drained {
    /// Wraps what is to happen.
    pub fn new(call: impl FnOnce() + Send + 'static) -> Drained {
        Drained(Some(Box::new(call)))
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call();
        }
    }
}

impl std::fmt::Debug for Drained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Drained")
    }
}

/// Why the consumer cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceFailure {
    /// Another consumer with the same static membership took this one's place.
    #[error("another member of the group uses this instance name ({0}); give each process its own")]
    InstanceReplaced(String),
    /// The topic has another number of partitions than at the start.
    #[error(
        "the input topic had {expected} partitions at the start and has {found}; create new topics and replay, keys have moved"
    )]
    PartitionsChanged {
        /// At the start.
        expected: i32,
        /// Now.
        found: i32,
    },
    /// The input was replaced under the group's feet, or has lost its end.
    #[error(
        "the log of partition {partition} ends at {end}, before position {first}: the topic was created anew or lost its end; state of events that are gone must not be built upon, replay into new topics"
    )]
    Recreated {
        /// The partition.
        partition: Partition,
        /// The position that was to be read.
        first: Position,
        /// The log's end.
        end: Position,
    },
    /// Offsets fell within one assignment.
    #[error(
        "partition {partition} gave offset {offset} after position {next}, and again after a seek to it: offsets of one assignment only rise; look at the brokers' history (an unclean election, a restored backup), then restart: that verifies the state"
    )]
    OrderBroken {
        /// The partition.
        partition: Partition,
        /// What came.
        offset: Offset,
        /// The position behind everything that came before.
        next: Position,
    },
    /// A permission is missing, the group's protocol does not fit, and the like.
    #[error("{0}")]
    Fatal(String),
}

/// Who listens to an [`EventSource`].
pub trait SourceSink: Send {
    /// Takes the event, or gives it back when there is no room; the source then offers it again, and meanwhile goes
    /// on serving the group.
    ///
    /// # Errors
    /// The event, untouched.
    fn offer(&mut self, event: SourceEvent) -> Result<(), SourceEvent>;
    /// Whether another batch is welcome. The source stops taking records while it is not, without leaving the group.
    fn wants_records(&self) -> bool;
}

/// The consumer, as the ingest actor commands it.
pub trait EventSource: Send {
    /// Reads `partition` from `position` on, if `epoch` is still its epoch.
    fn start(&self, partition: Partition, epoch: Epoch, position: Position);
    /// Stops reading `partition`, which recovers again under a newer epoch.
    fn hold(&self, partition: Partition);
    /// Stops reading everything; then revokes what is owned as in any rebalance, and leaves the group.
    fn leave(&self);
}

// -------------------------------------------------------------------------------------------------------- recovery

/// Takes what became of a recovery, on whatever thread it ends.
pub type RecoveryReply = Box<dyn FnOnce(Result<Recovered, RecoveryFailure>) + Send>;

/// Recovers partitions, several at a time.
pub trait Recoveries: Send {
    /// Recovers `partition` for as long as `epoch` is its epoch, and answers.
    fn begin(&self, partition: Partition, epoch: Epoch, reply: RecoveryReply);
}

// ---------------------------------------------------------------------------------------------------- transactions

/// Called once with the outcome of a transaction, on any thread.
pub type CommitReply = Box<dyn FnOnce(CommitOutcome) + Send>;
/// Called once with the outcome of a producer reset, on any thread.
pub type ResetReply = Box<dyn FnOnce(ResetOutcome) + Send>;

/// Runs one transaction at a time.
pub trait Transactions: Send {
    /// Sends the content in one transaction, then calls `reply`.
    fn commit(&self, content: Arc<TransactionContent>, reply: CommitReply);
    /// Builds a new producer, which fences the old one and every request that is still in flight. Then fetches the
    /// group's committed offsets of `partitions`, and calls `reply`.
    fn reset_producer(&self, partitions: Vec<Partition>, reply: ResetReply);
}
