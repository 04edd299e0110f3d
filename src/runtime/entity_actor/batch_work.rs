//! Owns a batch while entities process it. The entity that finishes last sends the outcomes to the committer.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use actix::Addr;

use crate::engine::batches::BatchId;
use crate::engine::commit::CommitInput;
use crate::engine::outcome::{Outcomes, Output, OutputRecord};
use crate::record::Batch;
use crate::runtime::committer::CommitActor;
use crate::runtime::post;

/// A key, and the range of its records in [`BatchWork::by_key`].
pub(in crate::runtime) type KeyRecords<'b> = (&'b [u8], Range<u32>);

pub struct BatchWork {
    pub(super) batch: Arc<Batch>,
    id: BatchId,
    /// Indices of the batch's records, grouped by key; those of one key are in order.
    by_key: Vec<u32>,
    unfinished_keys: AtomicUsize,
    outcomes: Mutex<Outcomes>,
    committer: Addr<CommitActor>,
}

impl BatchWork {
    /// Starts the work of `keys` entities, each of which gets a range of `by_key`. `decided` holds the outcomes of the
    /// records that need no entity. Without keys the batch is complete at once.
    pub(in crate::runtime) fn start(
        batch: Arc<Batch>,
        id: BatchId,
        by_key: Vec<u32>,
        keys: usize,
        mut decided: Outcomes,
        committer: Addr<CommitActor>,
    ) -> Arc<BatchWork> {
        decided.records[Output::State].reserve(keys);
        let (unfinished_keys, outcomes) = (AtomicUsize::new(keys), Mutex::new(decided));
        let work = BatchWork { batch, id, by_key, unfinished_keys, outcomes, committer };
        if keys == 0 {
            work.complete();
        }
        Arc::new(work)
    }

    /// Returns the index in the batch of the record at this index of `by_key`.
    pub(super) fn index_at(&self, by_key: u32) -> u32 {
        self.by_key[by_key as usize]
    }

    /// Prefetches the records of a key that follow the one about to be processed. Both arguments are indices of
    /// `by_key`, where the records of a key are neighbours. In the batch they are far apart.
    pub(super) fn prefetch_after(&self, current: u32, records: &Range<u32>) {
        let following = &self.by_key[current as usize + 1..records.end as usize];
        if let Some(next) = following.first() {
            self.batch.prefetch(*next as usize);
        }
        if let Some(next_but_one) = following.get(1) {
            self.batch.prefetch_span(*next_but_one as usize);
        }
    }

    pub(super) fn finish_key(&self, snapshot: Option<OutputRecord>, others: Outcomes) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        snapshot.into_iter().for_each(|snapshot| outcomes.push(snapshot));
        outcomes.merge(others);
        drop(outcomes);
        // The lock above orders this key's outcomes before the count: the thread that counts to zero sees them all.
        if self.unfinished_keys.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.complete();
        }
    }

    fn complete(&self) {
        let outcomes = std::mem::take(&mut *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner));
        let (partition, epoch) = (self.batch.partition(), self.batch.epoch());
        post(&self.committer, CommitInput::Completed { partition, epoch, id: self.id, outcomes });
    }
}
