//! Recovers one partition: the loop that fetches what the machine needs, and the trait that it fetches with.

use crate::engine::commit::transaction::Committed;
use crate::engine::recovery::{LogBounds, Need, Recovered, Recovery, RecoveryRefusal, Topic};
use crate::entity::Entity;
use crate::record::{Partition, Position, Record};

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
    fn bounds(&mut self, topic: Topic) -> Result<LogBounds, ReadFailure>;

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
    Refused(#[from] RecoveryRefusal),
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
