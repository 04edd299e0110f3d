//! What the actors need from outside, as traits; the in-memory twins stand in `ports/memory.rs`.
//!
//! Three directions, one port each:
//!
//! * [`EventSource`]: the consumer. It tells its [`SourceSink`] what was assigned, read, revoked and lost; it is told
//!   where to start a partition.
//! * [`PartitionReader`]: reads the state, the dead letters and the input again while a partition recovers.
//! * [`Transactions`]: one transaction at a time, and the answer to how it ended.
//!
//! [`Terms`] is the one thing that all sides share: who owns which partition right now. [`Clock`] is time.
//!
//! Architecture invariant: no rdkafka and no actix in any signature. A port either answers at once or takes a
//! callback; it never makes an actor wait.

pub mod memory;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use crate::entity::Entity;
use crate::progress::recovery::{Need, Recovered, Recovery, Refusal};
use crate::record::{Batch, Offset, Partition, Position, Record, Term};

pub use crate::progress::recovery::{Bounds, Topic};
pub use crate::progress::transaction::{Answer, Committed, Content, Mark, RefusedRecord, Stretch};

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

/// Which partitions this process owns, and under which term. The consumer's thread writes it inside the rebalance, at
/// the moment ownership ends or begins; the ingest actor renews a term when it has to recover a partition again; the
/// commit thread compares with it after it has taken the group's metadata and before it sends.
///
/// Why that suffices: metadata taken while a term was current is metadata of a generation in which the partition was
/// owned. Whoever compares *after* taking it therefore never sends offsets of a lost partition with newer metadata.
#[derive(Debug, Default)]
pub struct Terms {
    current: RwLock<HashMap<Partition, Term>>,
    minted: AtomicU64,
}

impl Terms {
    /// No partition is owned.
    #[must_use]
    pub fn new() -> Terms {
        Terms::default()
    }

    /// The partition is owned from now on. Any older term of it ends.
    pub fn begin(&self, partition: Partition) -> Term {
        let term = Term(self.minted.fetch_add(1, Ordering::Relaxed) + 1);
        self.write().insert(partition, term);
        term
    }

    /// The partition is still owned, but what was done under `old` no longer counts. `None` where `old` is over.
    #[must_use]
    pub fn renew(&self, partition: Partition, old: Term) -> Option<Term> {
        let mut current = self.write();
        let held = current.get_mut(&partition).filter(|held| **held == old)?;
        *held = Term(self.minted.fetch_add(1, Ordering::Relaxed) + 1);
        Some(*held)
    }

    /// The partition is owned no more. Returns the term that ended.
    pub fn end(&self, partition: Partition) -> Option<Term> {
        self.write().remove(&partition)
    }

    /// The present ownership of the partition.
    #[must_use]
    pub fn current(&self, partition: Partition) -> Option<Term> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).get(&partition).copied()
    }

    /// Whether `term` is the present ownership of `partition`.
    #[must_use]
    pub fn is_current(&self, partition: Partition, term: Term) -> bool {
        self.current(partition) == Some(term)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<Partition, Term>> {
        // The map is whole after every single operation, so a panic elsewhere cannot have left it half written.
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }
}

// ---------------------------------------------------------------------------------------------------------- intake

/// What the consumer has to say. Order matters: a sink handles them one after the other.
#[derive(Debug)]
pub enum SourceEvent {
    /// These partitions are owned from now on; nothing is read of them until [`EventSource::start`].
    Assigned(Vec<(Partition, Term)>),
    /// Records, or a position alone, of a partition that was started. Offsets and positions of one term only rise.
    Batch(Batch),
    /// These partitions are about to go. What is applied may still be committed: `drained` is called once that is
    /// done or hopeless; the consumer gives them up then, or at `deadline` at the latest, and says `Gone`.
    Revoked {
        /// Partitions and the terms that are about to end.
        partitions: Vec<(Partition, Term)>,
        /// When the consumer stops waiting.
        deadline: Instant,
        /// To be called once; dropping it uncalled counts as called.
        drained: Drained,
    },
    /// Ownership under these terms is over: after a revocation in good order.
    Gone(Vec<(Partition, Term)>),
    /// Ownership under these terms was over before anybody said so: nothing of it may be committed.
    Lost(Vec<(Partition, Term)>),
    /// Events were deleted by retention before they were read: `[first, until)` does not exist any more. The source
    /// goes on reading at `until`.
    Expired {
        /// The partition.
        partition: Partition,
        /// Its term.
        term: Term,
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
    /// Reads `partition` from `position` on, if `term` is still its term.
    fn start(&self, partition: Partition, term: Term, position: Position);
    /// Stops reading `partition`, which recovers again under a newer term.
    fn hold(&self, partition: Partition);
    /// Stops reading everything; then revokes what is owned as in any rebalance, and leaves the group.
    fn leave(&self);
}

// -------------------------------------------------------------------------------------------------------- recovery

/// Reads one partition of each topic again. Blocking; every call ends by itself.
pub trait PartitionReader {
    /// The group's committed position of the input partition, once no transaction is open on it.
    ///
    /// # Errors
    /// See [`ReadFailure`].
    fn committed(&mut self) -> Result<Option<Committed>, ReadFailure>;

    /// The ends of the log, uncommitted records included.
    ///
    /// # Errors
    /// See [`ReadFailure`].
    fn bounds(&mut self, topic: Topic) -> Result<Bounds, ReadFailure>;

    /// Reads committed records from `from` on, until the reader's position is at or behind `until`. `take` is called
    /// with each record and the position behind it; records at or beyond `until` may be left out, never given.
    ///
    /// # Errors
    /// See [`ReadFailure`].
    fn read(
        &mut self,
        topic: Topic,
        from: Position,
        until: Position,
        take: &mut dyn FnMut(&Record<'_>),
    ) -> Result<(), ReadFailure>;
}

/// Why a partition could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadFailure {
    /// The partition was revoked or lost meanwhile: nobody waits for the answer.
    #[error("the partition is not owned any more")]
    Cancelled,
    /// The position stood still for longer than any transaction may last.
    #[error(
        "{topic:?} partition {partition} has stood at position {position} of {until} for {stalled_ms} ms; an open transaction that the brokers do not end hangs there: find it with kafka-transactions.sh find-hanging, and abort it"
    )]
    Hanging {
        /// Which topic.
        topic: Topic,
        /// Which partition.
        partition: Partition,
        /// Where the reader stands.
        position: Position,
        /// Where it has to get.
        until: Position,
        /// For how long.
        stalled_ms: u64,
    },
    /// A permission is missing, which no waiting grants.
    #[error("{0}")]
    Denied(String),
    /// The broker or the network.
    #[error("{0}")]
    Kafka(String),
}

/// Why a partition was not recovered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryFailure {
    /// It must not be served; trying again changes nothing.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be read.
    #[error(transparent)]
    Unread(#[from] ReadFailure),
}

/// Recovers one partition: fetches what the machine needs until it needs nothing.
///
/// # Errors
/// See [`RecoveryFailure`].
pub fn recover<E: Entity>(
    mut recovery: Recovery<E>,
    reader: &mut dyn PartitionReader,
) -> Result<Recovered, RecoveryFailure> {
    loop {
        match recovery.need() {
            Need::Committed => recovery.committed(reader.committed()?),
            Need::Bounds(topic) => recovery.bounds(reader.bounds(topic)?)?,
            Need::Read { topic, from, until } => {
                let mut refusal = None;
                reader.read(topic, from, until, &mut |record| {
                    if refusal.is_none() {
                        refusal = recovery.record(record).err();
                    }
                })?;
                refusal.map_or(Ok(()), Err)?;
                recovery.read()?;
            }
            Need::Nothing => return Ok(recovery.finish()),
        }
    }
}

/// Takes what became of a recovery, on whatever thread it ends.
pub type RecoveryReply = Box<dyn FnOnce(Result<Recovered, RecoveryFailure>) + Send>;

/// Recovers partitions, several at a time.
pub trait Recoveries: Send {
    /// Recovers `partition` for as long as `term` is its term, and answers.
    fn begin(&self, partition: Partition, term: Term, reply: RecoveryReply);
}

// ---------------------------------------------------------------------------------------------------- transactions

/// Takes the answer, on whatever thread it arrives.
pub type Reply = Box<dyn FnOnce(Answer) + Send>;

/// Runs one transaction at a time.
pub trait Transactions: Send {
    /// Sends the content in one transaction, and answers.
    fn commit(&self, content: Arc<Content>, reply: Reply);
    /// Builds a new producer, which fences the old one and all that it has under way; then asks what the group has
    /// committed for `partitions`, and answers [`Answer::Renewed`].
    fn renew(&self, partitions: Vec<Partition>, reply: Reply);
}
