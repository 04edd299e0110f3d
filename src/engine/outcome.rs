//! What became of the records of a batch: snapshots, rejected events, and how much of a transaction they take.

use std::sync::Arc;

use crate::entity::Rejection;
use crate::record::{Batch, Record, Snapshot};

/// What became of the records of one batch, or of a part of them.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// The newest snapshot of each key that was applied to.
    pub snapshots: Vec<Snapshot>,
    /// What was refused.
    pub dlq_records: Vec<RejectedEvent>,
    /// Events applied.
    pub applied: u64,
    /// Events that a snapshot or the DLQ topic contains already.
    pub skipped: u64,
}

impl Outcomes {
    /// Takes in the outcomes of other keys of the same batch.
    pub fn merge(&mut self, other: Outcomes) {
        self.snapshots.extend(other.snapshots);
        self.dlq_records.extend(other.dlq_records);
        self.applied += other.applied;
        self.skipped += other.skipped;
    }

    /// Cuts into parts that weigh at most `max_bytes` each, one record at least; one part, though empty, there always
    /// is. DLQ records come first: while a snapshot is missing, the next recovery goes over the whole stretch again.
    #[must_use]
    pub fn cut(self, max_bytes: u64) -> Vec<Outcomes> {
        let mut parts = vec![Outcomes { applied: self.applied, skipped: self.skipped, ..Outcomes::default() }];
        let mut room = max_bytes;
        let mut part_for = |weight: u64, parts: &mut Vec<Outcomes>| {
            if weight > room && room < max_bytes {
                parts.push(Outcomes::default());
                room = max_bytes;
            }
            room = room.saturating_sub(weight);
            parts.len() - 1
        };
        for letter in self.dlq_records {
            let part = part_for(letter.weight_bytes(), &mut parts);
            parts[part].dlq_records.push(letter);
        }
        for snapshot in self.snapshots {
            let part = part_for(snapshot.weight_bytes(), &mut parts);
            parts[part].snapshots.push(snapshot);
        }
        parts
    }

    /// What the records weigh in a transaction, in bytes.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        let snapshots: u64 = self.snapshots.iter().map(Snapshot::weight_bytes).sum();
        let dlq_records: u64 = self.dlq_records.iter().map(RejectedEvent::weight_bytes).sum();
        snapshots + dlq_records
    }
}

/// An event that was not applied: a record of the DLQ topic to be.
#[derive(Debug, Clone)]
pub struct RejectedEvent {
    /// The batch that holds the event's bytes.
    pub batch: Arc<Batch>,
    /// Which of its records.
    pub index: u32,
    /// Which rule it broke, and how.
    pub rejection: Rejection,
    /// The broker refused the whole: the value is left out, its length stands in a header.
    pub truncated: bool,
}

impl RejectedEvent {
    /// The event as it was read.
    #[must_use]
    pub fn record(&self) -> Record<'_> {
        self.batch.record(self.index as usize)
    }

    /// What the record weighs in a transaction, in bytes, steward's own headers estimated.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        let record = self.record();
        let value = if self.truncated { 0 } else { record.value.map_or(0, <[u8]>::len) };
        let headers: usize =
            record.headers.iter().map(|header| header.name.len() + header.value.map_or(0, <[u8]>::len)).sum();
        (record.key.map_or(0, <[u8]>::len) + value + headers + self.rejection.detail.len() + 256) as u64
    }
}
