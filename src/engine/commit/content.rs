//! Chooses the content of a transaction: which complete batches, and which of their records.

use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::engine::batches::CompleteBatch;
use crate::engine::commit::transaction::{OffsetRange, TransactionContent};
use crate::engine::commit::{CommitCommand, CommitNotice, GroupCommit, InFlight, InFlightPart};
use crate::engine::offset_metadata::NewestState;
use crate::engine::outcome::{Outcomes, Output, OutputRecord};
use crate::engine::planted::{Planted, planted};
use crate::record::Partition;

impl GroupCommit {
    /// Takes complete batches out of the queues, up to the limit: first from those that close, then in turn. Returns
    /// their bytes too.
    pub(super) fn take_complete(&mut self) -> (Vec<InFlightPart>, u64) {
        let limit_bytes = self.limit.bytes();
        let mut bytes: u64 = 0;
        let mut parts = Vec::new();
        for partition in self.serving_order() {
            let Some(queue) = self.queues.get_mut(&partition) else { continue };
            let is_first = parts.is_empty();
            let mut complete = Vec::new();
            let mut with_it = bytes;
            while let Some(batch) = queue.open.take_complete_if(|outcomes: &Outcomes| {
                with_it = bytes.saturating_add(outcomes.weight_bytes());
                (is_first && complete.is_empty()) || with_it <= limit_bytes
            }) {
                bytes = with_it;
                complete.push(batch);
            }
            let Some(last) = complete.last() else { continue };
            let mut end = last.open.batch.end();
            if planted(Planted::LastRecordInsteadOfPosition) && !last.open.batch.is_empty() {
                end = end.back(1);
            }
            let (epoch, start, newest_state) = (queue.epoch, queue.committed, queue.newest_state);
            parts.push(InFlightPart { partition, epoch, start, end, newest_state, complete });
            self.last_served = Some(partition);
        }
        (parts, bytes)
    }

    fn serving_order(&self) -> Vec<Partition> {
        let mut order: Vec<(bool, bool, Partition)> = self
            .queues
            .iter()
            .filter(|(_, queue)| queue.open.has_complete())
            .map(|(partition, queue)| (!queue.is_revoking, Some(*partition) <= self.last_served, *partition))
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, _, partition)| partition).collect()
    }

    /// Cuts the DLQ records that the client would not take.
    pub(super) fn cut_oversized(&mut self, parts: &[InFlightPart], commands: &mut Vec<CommitCommand>) {
        let limit = self.settings.max_dlq_record_bytes;
        let records =
            parts.iter().flat_map(|part| &part.complete).flat_map(|batch| &batch.outcomes.records[Output::Dlq]);
        for record in records.filter(|record| record.weight_bytes() > limit) {
            let mut cut = self.degraded_copy(record);
            while cut.weight_bytes() > limit
                && let Some((degradation, bytes)) = cut.degrade()
            {
                cut.degradation = Some(degradation);
                self.degraded.insert(record.id(), degradation);
                let (partition, offset) = (record.partition, record.source);
                commands.push(CommitCommand::Log(CommitNotice::Degraded { degradation, partition, offset, bytes }));
            }
        }
    }

    pub(super) fn content_of(&self, parts: &[InFlightPart], number: u64) -> TransactionContent {
        let range_of = |part: &InFlightPart| OffsetRange {
            partition: part.partition,
            epoch: part.epoch,
            start: part.start,
            end: part.end,
            newest_state: part.newest_state.max(newest_snapshot(&part.complete)),
        };
        let mut records = Vec::new();
        for output in Output::ALL {
            let lists = parts.iter().flat_map(|part| &part.complete).map(|batch| &batch.outcomes.records[output]);
            if output.is_coalesced_by_key() {
                self.push_newest_of_each_key(lists, &mut records);
            } else {
                records.extend(lists.flatten().map(|record| self.degraded_copy(record)));
            }
        }
        TransactionContent { number, records, offset_ranges: parts.iter().map(range_of).collect() }
    }

    /// `lists` are in source order, so that a later record of a key is the newer one.
    fn push_newest_of_each_key<'a>(
        &self,
        lists: impl Iterator<Item = &'a Vec<OutputRecord>> + Clone,
        records: &mut Vec<OutputRecord>,
    ) {
        let capacity = lists.clone().map(Vec::len).sum();
        let mut newest: FxHashMap<(Partition, Option<&[u8]>), usize> =
            FxHashMap::with_capacity_and_hasher(capacity, FxBuildHasher);
        for record in lists.flatten() {
            let index = *newest.entry((record.partition, record.key())).or_insert(records.len());
            let copy = self.degraded_copy(record);
            match records.get_mut(index) {
                Some(_) if planted(Planted::OldestRecordOfKey) => {}
                Some(older) => *older = copy,
                None => records.push(copy),
            }
        }
    }

    /// Returns a copy that leaves out what did not fit.
    fn degraded_copy(&self, record: &OutputRecord) -> OutputRecord {
        let degradation = if self.degraded.is_empty() { None } else { self.degraded.get(&record.id()).copied() };
        OutputRecord { degradation, ..record.clone() }
    }

    /// After the limit was lowered, returns the batches above it to their queues.
    pub(super) fn return_excess(&mut self, in_flight: &mut InFlight) {
        let limit_bytes = self.limit.bytes();
        let mut bytes: u64 = 0;
        let mut keep = Vec::new();
        for mut part in in_flight.parts.drain(..) {
            let mut kept = part.complete.len();
            for (index, batch) in part.complete.iter().enumerate() {
                let with_it = bytes.saturating_add(batch.outcomes.weight_bytes());
                let is_first = keep.is_empty() && index == 0;
                if !is_first && with_it > limit_bytes {
                    kept = index;
                    break;
                }
                bytes = with_it;
            }
            let back = part.complete.split_off(kept);
            if let Some(queue) = self.queue_mut(part.partition, part.epoch) {
                queue.open.put_back(back);
            }
            if let Some(last) = part.complete.last() {
                part.end = last.open.batch.end();
                keep.push(part);
            }
        }
        in_flight.parts = keep;
        in_flight.bytes = bytes;
    }
}

/// Returns the newest event that the snapshots of these batches contain. It is in the last batch of events that has a
/// snapshot, or in a repair.
fn newest_snapshot(complete: &[CompleteBatch]) -> Option<NewestState> {
    let mut newest = None;
    for batch in complete.iter().rev() {
        let snapshots = batch.outcomes.records[Output::State].iter();
        let of_batch = snapshots.max_by_key(|snapshot| snapshot.source);
        newest = newest.max(
            of_batch.map(|snapshot| NewestState { offset: snapshot.source, is_tombstone: snapshot.value().is_none() }),
        );
        if newest.is_some() && !batch.open.batch.is_empty() {
            break;
        }
    }
    newest
}
