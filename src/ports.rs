//! What the runtime needs from outside, as traits. `testing::memory` has a fake of each.
//!
//! There are three ports:
//!
//! * [`InputConsumer`]: the consumer. It reports assignments, records, revocations and losses to its [`ConsumerSink`], and
//!   starts and stops reading a partition on request.
//! * [`Recoveries`]: recovers partitions, several at a time, and reports each result.
//! * [`Transactions`]: runs one transaction or one producer reset at a time, and reports how it ended.
//!
//! [`Clock`] is the time. Beside the ports, all sides share one table: the current epochs
//! ([`Ownership`](crate::engine::ownership::Ownership)).
//!
//! Architecture invariant: no signature has a type of rdkafka or actix. A port reports its result through a callback,
//! and a call never waits for Kafka. [`InputConsumer`] may wait a few milliseconds for room in the poll thread's
//! command channel.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::commit::transaction::{CommitOutcome, ResetOutcome, TransactionContent};
use crate::engine::recovery::Recovered;
use crate::engine::recovery::driver::RecoveryFailure;
use crate::record::{Batch, Epoch, Offset, Partition, Position};

/// The time for waits and for the log. The times in an entity come from its records.
pub trait Clock: Send + Sync {
    /// Monotonic time, for deadlines.
    fn now(&self) -> Instant;
    /// Milliseconds since 1970 by the wall clock, for ages and latencies.
    fn unix_ms(&self) -> i64;
    /// Milliseconds since an arbitrary moment, which rise in steps of several. For code that checks after each event
    /// whether time has passed, and for which [`now`](Clock::now) would cost too much.
    fn coarse_ms(&self) -> u64;
}

/// An event of the consumer. A sink handles them in order.
#[derive(Debug)]
pub enum ConsumerEvent {
    /// These partitions are owned from now on. None of them is read before [`InputConsumer::start`].
    Assigned(Vec<(Partition, Epoch)>),
    /// Records, or a position alone, of a partition that was started. Offsets and positions of one epoch only rise.
    Batch(Batch),
    /// The group is taking these partitions away. Applied events may still be committed. The consumer gives the
    /// partitions up when `drained` is dropped, or at `deadline`, and then reports [`ConsumerEvent::Revoked`].
    Revoking { partitions: Vec<(Partition, Epoch)>, deadline: Instant, drained: Drained },
    /// The group has taken these partitions away, after [`ConsumerEvent::Revoking`].
    Revoked(Vec<(Partition, Epoch)>),
    /// Ownership of these partitions ended without a drain: nothing of them may be committed.
    Lost(Vec<(Partition, Epoch)>),
    /// Retention has deleted the events of `[first, until)` before they were read. The source continues at `until`, the
    /// log's start.
    Expired { partition: Partition, epoch: Epoch, first: Position, until: Position },
    /// The consumer cannot continue, and the process has to end.
    Failed(ConsumerFailure),
}

/// Calls a function when it is dropped: the revocation has nothing left to wait for.
pub struct Drained(Option<Box<dyn FnOnce() + Send>>);

impl Drained {
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

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerFailure {
    /// Another consumer has joined with the same static membership, and replaces this one.
    #[error("another member of the group uses this instance name ({0}); give each process its own")]
    InstanceReplaced(String),
    #[error(
        "input topic {topic} had {expected} partitions at the start and has {found}; create new topics and replay, keys have moved"
    )]
    PartitionsChanged { topic: String, expected: i32, found: i32 },
    #[error(
        "input topic {topic}: the log of partition {partition} ends at {end}, before position {first}: the topic was created again or lost its end; the state may contain events that are gone, so replay into new topics"
    )]
    Recreated { topic: String, partition: Partition, first: Position, end: Position },
    #[error(
        "partition {partition} gave offset {offset} after position {next}, and again after a seek to it: offsets of one assignment only rise; look at the brokers' history (an unclean election, a restored backup), then restart: that verifies the state"
    )]
    OrderBroken { partition: Partition, offset: Offset, next: Position },
    /// Another cause, such as a missing permission or a group protocol that does not match.
    #[error("{0}")]
    Fatal(String),
}

pub trait ConsumerSink: Send {
    /// Takes the event, or returns it if there is no room. The source then offers the event again, and meanwhile
    /// continues to serve the group.
    ///
    /// # Errors
    /// The event, unchanged.
    fn offer(&mut self, event: ConsumerEvent) -> Result<(), ConsumerEvent>;
    /// Returns whether the sink has room for another batch. If not, the consumer takes no records, but stays in the
    /// group.
    fn wants_records(&self) -> bool;
    /// Bytes of keys and values in the next batches, all partitions together; at least one record is offered.
    fn batch_bytes(&self) -> u64;
}

/// The consumer, as the ingest actor commands it.
pub trait InputConsumer: Send {
    /// Reads `partition` from `position`, if `epoch` is its current epoch.
    fn start(&self, partition: Partition, epoch: Epoch, position: Position);
    /// Stops reading `partition` until the next `start`. The partition stays assigned.
    fn hold(&self, partition: Partition);
    /// Stops reading every partition, revokes them as in any rebalance, and leaves the group.
    fn leave(&self);
}

/// Called once with the result of a recovery, on any thread.
pub type RecoveryReply = Box<dyn FnOnce(Result<Recovered, RecoveryFailure>) + Send>;

pub trait Recoveries: Send {
    /// Recovers `partition`, as long as `epoch` is its current epoch, then calls `reply`.
    fn begin(&self, partition: Partition, epoch: Epoch, reply: RecoveryReply);
}

/// Called once with the outcome of a transaction, on any thread.
pub type CommitReply = Box<dyn FnOnce(CommitOutcome) + Send>;
/// Called once with the outcome of a producer reset, on any thread.
pub type ResetReply = Box<dyn FnOnce(ResetOutcome) + Send>;

pub trait Transactions: Send {
    /// Sends the content in one transaction, then calls `reply`.
    fn commit(&self, content: Arc<TransactionContent>, reply: CommitReply);
    /// Builds a new producer, which fences the old one and every request that is still in flight. Then fetches the
    /// group's committed offsets of `partitions`, and calls `reply`.
    fn reset_producer(&self, partitions: Vec<Partition>, reply: ResetReply);
}
