//! The open batches of one partition under one epoch, and the batches that are complete in order.
//!
//! Batches are opened in the order of their offsets and completed in any order, because entities work in parallel. Only
//! the complete batches before the first incomplete one may be committed.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::engine::budget::Lease;
use crate::engine::outcome::Outcomes;
use crate::engine::planted::{Planted, planted};
use crate::record::{Batch, Offset, Position};

/// Names a batch within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

#[derive(Debug)]
pub struct OpenBatch {
    pub id: BatchId,
    pub batch: Arc<Batch>,
    /// The bytes of the batch in the in-flight budget, until it is committed or dropped.
    pub lease: Lease,
    /// Dropped with the batch, for the code that counts batches.
    pub guard: Option<Box<dyn std::any::Any + Send>>,
}

/// A batch whose records all have an outcome.
#[derive(Debug)]
pub struct CompleteBatch {
    pub open: OpenBatch,
    pub outcomes: Outcomes,
}

/// Positions fell within one epoch: a bug, or a broker that breaks its guarantee.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("offsets of partition {partition} fell from position {before} to {after} within one assignment")]
pub struct OrderBroken {
    pub partition: i32,
    pub before: Position,
    pub after: Position,
}

/// The batches of one partition in the order of their offsets.
#[derive(Debug)]
pub struct OpenBatches {
    /// The position after the last batch that was opened.
    read_to: Position,
    queue: VecDeque<OpenEntry>,
}

#[derive(Debug)]
struct OpenEntry {
    open: OpenBatch,
    outcomes: Option<Outcomes>,
}

impl OpenBatches {
    /// Starts with complete batches that have no records, all at the position `start`. Reading begins there.
    pub fn starting_with(start: Position, complete: Vec<CompleteBatch>) -> OpenBatches {
        let queue =
            complete.into_iter().map(|CompleteBatch { open, outcomes }| OpenEntry { open, outcomes: Some(outcomes) });
        OpenBatches { read_to: start, queue: queue.collect() }
    }

    /// # Errors
    /// The batch begins before the end of the last one.
    pub fn open(&mut self, open: OpenBatch) -> Result<(), OrderBroken> {
        let batch = &open.batch;
        let first = if batch.is_empty() { batch.end() } else { Position(batch.record(0).offset.0) };
        if first < self.read_to {
            return Err(OrderBroken { partition: batch.partition().0, before: self.read_to, after: first });
        }
        self.read_to = batch.end();
        let is_complete = batch.is_empty() || planted(Planted::CommittedBeforeOutcomes);
        let outcomes = is_complete.then(Outcomes::default);
        self.queue.push_back(OpenEntry { open, outcomes });
        Ok(())
    }

    /// Completes a batch. Returns the outcomes if no such batch is open, or if it is complete already.
    pub fn complete(&mut self, id: BatchId, mut outcomes: Outcomes) -> Option<Outcomes> {
        let Ok(index) = self.queue.binary_search_by_key(&id, |entry| entry.open.id) else {
            return Some(outcomes);
        };
        let entry = &mut self.queue[index];
        if entry.outcomes.is_some() {
            return Some(outcomes);
        }
        outcomes.sort_by_source();
        entry.outcomes = Some(outcomes);
        None
    }

    /// Takes the oldest batch, if it is complete and `fits` agrees.
    pub fn take_complete_if(&mut self, fits: impl FnOnce(&Outcomes) -> bool) -> Option<CompleteBatch> {
        self.queue.front()?.outcomes.as_ref().filter(|outcomes| fits(outcomes))?;
        let OpenEntry { open, outcomes } = self.queue.pop_front()?;
        outcomes.map(|outcomes| CompleteBatch { open, outcomes })
    }

    /// Puts batches that were taken back in front, in their order.
    pub fn put_back(&mut self, batches: Vec<CompleteBatch>) {
        for CompleteBatch { open, outcomes } in batches.into_iter().rev() {
            debug_assert!(self.queue.front().is_none_or(|front| open.id < front.open.id), "put back in order");
            self.queue.push_front(OpenEntry { open, outcomes: Some(outcomes) });
        }
    }

    /// Returns whether the oldest batch is complete.
    pub fn has_complete(&self) -> bool {
        self.queue.front().is_some_and(|entry| entry.outcomes.is_some())
    }

    /// Bytes that the complete batches before the first incomplete one hold of the in-flight budget.
    pub fn complete_bytes(&self) -> u64 {
        let complete = self.queue.iter().take_while(|entry| entry.outcomes.is_some());
        complete.map(|entry| entry.open.lease.bytes()).sum()
    }

    /// Returns whether a batch holds more than `bytes` of the in-flight budget, and has several records.
    pub fn has_larger_than(&self, bytes: u64) -> bool {
        self.queue.iter().any(|entry| entry.open.batch.len() > 1 && entry.open.lease.bytes() > bytes)
    }

    /// Drops every batch from the first incomplete one on. Returns the number of their records.
    pub fn drop_incomplete(&mut self) -> u64 {
        let complete = self.queue.iter().take_while(|entry| entry.outcomes.is_some()).count();
        self.queue.drain(complete..).map(|entry| entry.open.batch.len() as u64).sum()
    }

    /// Records in batches that were not taken.
    pub fn records(&self) -> u64 {
        self.queue.iter().map(|entry| entry.open.batch.len() as u64).sum()
    }

    pub fn batches(&self) -> u64 {
        self.queue.len() as u64
    }

    /// The oldest record in a batch that was not taken.
    pub fn head(&self) -> Option<Head> {
        let entry = self.queue.iter().find(|entry| !entry.open.batch.is_empty())?;
        let record = entry.open.batch.record(0);
        Some(Head { offset: record.offset, timestamp_ms: record.timestamp_ms, is_complete: entry.outcomes.is_some() })
    }
}

/// The work of one partition that is read and not committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenWork {
    /// Batches, including those without records: a position, or what a recovery publishes.
    pub batches: u64,
    pub records: u64,
    /// The oldest record; `None` if no batch has any.
    pub head: Option<Head>,
}

impl OpenWork {
    /// Returns whether the oldest batch has all outcomes and only waits for a transaction.
    pub fn is_complete(&self) -> bool {
        self.head.is_none_or(|head| head.is_complete)
    }
}

/// The oldest record of a partition that is not in a transaction yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub offset: Offset,
    /// Milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Whether its batch has all outcomes and only waits for a transaction.
    pub is_complete: bool,
}
