//! Reads a partition for a recovery.

use std::sync::Arc;

use crate::engine::commit::transaction::CommittedOffset;
use crate::engine::ownership::Ownership;
use crate::engine::recovery::LogBounds;
use crate::engine::recovery::driver::{PartitionReader, ReadFailure};
use crate::record::{Batch, Epoch, Header, Partition, Position, Record, Topic};
use crate::testing::memory::kafka::MemoryKafka;
use crate::testing::memory::log::StoredRecord;

pub(super) struct MemoryReader {
    pub(super) kafka: MemoryKafka,
    pub(super) partition: Partition,
    pub(super) epoch: Epoch,
    pub(super) ownership: Arc<Ownership>,
}

impl MemoryReader {
    fn check(&self) -> Result<(), ReadFailure> {
        if self.ownership.is_current(self.partition, self.epoch) { Ok(()) } else { Err(ReadFailure::Cancelled) }
    }
}

impl PartitionReader for MemoryReader {
    fn committed(&mut self) -> Result<Option<CommittedOffset>, ReadFailure> {
        self.check()?;
        let cluster = self.kafka.lock();
        if cluster.is_group_away() {
            return Err(ReadFailure::Kafka("the group has no coordinator".into()));
        }
        let stable = cluster.logs(self.partition).stable_committed();
        stable.ok_or_else(|| ReadFailure::Kafka("a transaction is open on the committed offset".into()))
    }

    fn bounds(&mut self, topic: Topic) -> Result<LogBounds, ReadFailure> {
        self.check()?;
        Ok(self.kafka.bounds(topic, self.partition))
    }

    fn read(
        &mut self,
        topic: Topic,
        from: Position,
        until: Position,
        take: &mut dyn FnMut(&Record<'_>),
    ) -> Result<(), ReadFailure> {
        self.check()?;
        let cluster = self.kafka.lock();
        let log = cluster.logs(self.partition).log(topic);
        if log.last_stable() < until {
            return Err(ReadFailure::Kafka(format!("a transaction is open at position {}", log.last_stable())));
        }
        let mut batch = Batch::new(self.partition, self.epoch, from);
        let is_wanted = |record: &&StoredRecord| !record.offset.is_before(from) && record.offset.is_before(until);
        log.committed().filter(is_wanted).for_each(|record| push(&mut batch, record));
        drop(cluster);
        batch.iter().for_each(|record| take(&record));
        Ok(())
    }
}

pub(super) fn push(batch: &mut Batch, record: &StoredRecord) {
    let headers = record.headers.iter().map(|(name, value)| Header { name, value: value.as_deref() });
    batch.push(record.offset, record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), headers);
}
