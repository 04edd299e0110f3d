//! Owns the step from a batch to its keys: which records belong to which key, and the outcomes of those that need no
//! entity, because they have no key or are in the DLQ already.

use std::sync::Arc;

use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};

use crate::engine::outcome::{Outcomes, OutputRecord};
use crate::entity::{Entity, SizeLimits, apply_record};
use crate::record::{Batch, Offset};
use crate::runtime::entity_actor::batch_work::KeyRecords;

/// Splits the batches of all partitions.
pub(in crate::runtime) struct FanOut<E: Entity> {
    pub(in crate::runtime) entity: Arc<E>,
    pub(in crate::runtime) size_limits: SizeLimits,
}

/// What the fan-out keeps for a partition from one batch to the next.
#[derive(Default)]
pub(super) struct FanOutState {
    /// Offsets still to be read whose events are in the DLQ already.
    pub(super) in_dlq: FxHashSet<Offset>,
    /// How many keys the last batch had.
    keys: usize,
}

pub(super) struct BatchByKey<'b> {
    pub(super) keys: Vec<KeyRecords<'b>>,
    /// Indices of records, those of one key next to each other and in order.
    pub(super) by_key: Vec<u32>,
    /// The outcomes of records that need no entity.
    pub(super) decided: Outcomes,
}

impl<E: Entity> FanOut<E> {
    pub(super) fn split<'b>(&self, batch: &'b Arc<Batch>, state: &mut FanOutState) -> BatchByKey<'b> {
        let mut decided = Outcomes::default();
        let mut grouping = Grouping::with_capacity(batch.len(), state.keys);
        for (index, record) in batch.iter().enumerate() {
            let index = u32::try_from(index).expect("a batch holds less than 2^32 records");
            if !state.in_dlq.is_empty() && state.in_dlq.remove(&record.offset) {
                decided.skipped += 1;
                continue;
            }
            match record.key {
                Some(key) if !key.is_empty() => grouping.add(key, index),
                Some(_) | None => decided.push(self.reject_without_key(batch, index)),
            }
        }
        let (keys, by_key) = grouping.finish();
        state.keys = keys.len();
        BatchByKey { keys, by_key, decided }
    }

    fn reject_without_key(&self, batch: &Arc<Batch>, index: u32) -> OutputRecord {
        let record = batch.record(index as usize);
        let decided = apply_record(&*self.entity, &self.entity.absent(), &record, self.size_limits);
        let rejection = decided.err().expect("a record without a key is always rejected");
        OutputRecord::rejected(batch, index, rejection)
    }
}

/// Groups the records of a batch by key without an allocation per key: keys are numbered and counted first, then each
/// record is put into the range of its key, as in a counting sort.
struct Grouping<'b> {
    numbers: FxHashMap<&'b [u8], u32>,
    /// Each key, and how many records it has.
    keys: Vec<(&'b [u8], u32)>,
    /// The number of the key and the index of each record, in order.
    records: Vec<(u32, u32)>,
}

impl<'b> Grouping<'b> {
    /// `keys` is an estimate. Room for as many keys as there are records would exceed the processor's cache.
    fn with_capacity(records: usize, keys: usize) -> Grouping<'b> {
        let keys = keys.min(records);
        Grouping {
            numbers: FxHashMap::with_capacity_and_hasher(keys, FxBuildHasher),
            keys: Vec::with_capacity(keys),
            records: Vec::with_capacity(records),
        }
    }

    fn add(&mut self, key: &'b [u8], index: u32) {
        let next = u32::try_from(self.keys.len()).expect("no more keys than records");
        let number = *self.numbers.entry(key).or_insert(next);
        match self.keys.get_mut(number as usize) {
            Some((_, count)) => *count += 1,
            None => self.keys.push((key, 1)),
        }
        self.records.push((number, index));
    }

    /// Returns the keys in the order of their first records, and the indices of the records by key.
    fn finish(self) -> (Vec<KeyRecords<'b>>, Vec<u32>) {
        let mut end = 0;
        // Each range starts empty and grows with each record of its key.
        let empty_ranges = self.keys.into_iter().map(|(key, count)| {
            let start = end;
            end += count;
            (key, start..start)
        });
        let mut keys: Vec<KeyRecords<'_>> = empty_ranges.collect();
        let mut by_key = vec![0; self.records.len()];
        for (number, index) in self.records {
            let range = &mut keys[number as usize].1;
            by_key[range.end as usize] = index;
            range.end += 1;
        }
        (keys, by_key)
    }
}
