//! The loop of a recovery: reads what each stage needs, through the [`PartitionReader`] trait.

use crate::engine::commit::transaction::CommittedOffset;
use crate::engine::recovery::dlq::WindowRead;
use crate::engine::recovery::{CommittedPosition, LogBounds, Recovered, Recovery, RecoveryRefusal};
use crate::entity::Entity;
use crate::record::{Partition, Position, Record, Topic};

/// Reads one partition of each topic from a given position. Calls block, and each call has a limit of its own. For the
/// errors, see [`ReadFailure`].
pub trait PartitionReader {
    /// Returns the group's committed position of the input partition, once no transaction is open on it.
    fn committed(&mut self) -> Result<Option<CommittedOffset>, ReadFailure>;

    /// Returns the ends of the log, uncommitted records included.
    fn bounds(&mut self, topic: Topic) -> Result<LogBounds, ReadFailure>;

    /// Reads committed records from `from` until the reader's position is at or after `until`, and calls `take` with
    /// each record before `until`.
    fn read(
        &mut self,
        topic: Topic,
        from: Position,
        until: Position,
        take: &mut dyn FnMut(&Record<'_>),
    ) -> Result<(), ReadFailure>;
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadFailure {
    /// The epoch of the partition has ended, so the result is not needed.
    #[error("the partition is not owned any more")]
    Cancelled,
    /// The position stood still for longer than any transaction may last.
    #[error(
        "topic {topic}, partition {partition} has stood at position {position} of {until} for {stalled_ms} ms; an open transaction that the brokers do not end hangs there: find it with kafka-transactions.sh find-hanging, and abort it"
    )]
    Hanging { topic: String, partition: Partition, position: Position, until: Position, stalled_ms: u64 },
    /// A transaction that is not ended holds the committed offset back.
    #[error(
        "the committed offset of topic {topic}, partition {partition} has been held back by an open transaction for {waited_ms} ms; find it with kafka-transactions.sh find-hanging, or list and describe, and abort it"
    )]
    OffsetHeldBack { topic: String, partition: Partition, waited_ms: u64 },
    /// A permission is missing; another attempt cannot succeed.
    #[error("{0}")]
    Denied(String),
    /// The broker or the network failed.
    #[error("{0}")]
    Kafka(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryFailure {
    #[error(transparent)]
    Refused(#[from] RecoveryRefusal),
    #[error(transparent)]
    Unread(#[from] ReadFailure),
}

/// Recovers one partition: reads what each stage needs, in the order that the parent module explains.
pub fn recover<E: Entity>(
    recovery: Recovery<E>,
    reader: &mut dyn PartitionReader,
) -> Result<Recovered, RecoveryFailure> {
    let committed = reader.committed()?.map(CommittedPosition::from);
    recovery.refuse_other_input(committed.as_ref())?;
    let state_log = reader.bounds(Topic::State)?;
    let mut restore = recovery.restore(committed, state_log);
    read(reader, Topic::State, (state_log.low, state_log.high), |record| restore.record(record))?;
    let restored = restore.finish()?;

    let (dlq_log, input_log) = (reader.bounds(Topic::Dlq)?, reader.bounds(Topic::Input)?);
    let mut search = restored.search_dlq(dlq_log, input_log)?;
    let planned = loop {
        read(reader, Topic::Dlq, search.window(), |record| {
            search.record(record);
            Ok(())
        })?;
        match search.finish_window()? {
            WindowRead::TooFew(next) => search = next,
            WindowRead::Enough(planned) => break planned,
        }
    };

    if let Some(mut check) = planned.newest_event_check() {
        read(reader, Topic::Input, check.range(), |record| check.record(record))?;
        check.finish()?;
    }
    let mut verification = planned.verify();
    if let Some(range) = verification.range() {
        read(reader, Topic::Input, range, |record| {
            verification.record(record);
            Ok(())
        })?;
    }
    Ok(verification.finish())
}

/// Reads a range to its end, and returns the first refusal of a record.
fn read(
    reader: &mut dyn PartitionReader,
    topic: Topic,
    (from, until): (Position, Position),
    mut take: impl FnMut(&Record<'_>) -> Result<(), RecoveryRefusal>,
) -> Result<(), RecoveryFailure> {
    let mut refusal = None;
    reader.read(topic, from, until, &mut |record| {
        if refusal.is_none() {
            refusal = take(record).err();
        }
    })?;
    refusal.map_or(Ok(()), |refusal| Err(refusal.into()))
}
