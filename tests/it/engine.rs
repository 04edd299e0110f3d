//! The state machines that decide: inputs and the resulting commands, without actors, threads or brokers.

mod budget;
mod dead_owners;
mod foreign_members;
mod group_commit;
mod group_commit_by_chance;
mod group_commit_doubt;
mod offset_metadata;
mod offsets;
mod oversized;
mod ownership;
mod partition;
mod read_stall;
mod recovery;
mod recovery_by_chance;
mod recovery_facts;
mod recovery_plan;
mod static_membership;
mod topic_watch;
mod transaction_limit;

use std::sync::Arc;

use steward::engine::batches::{BatchId, OpenBatch};
use steward::engine::budget::Budget;
use steward::engine::outcome::{EntitySnapshot, Outcomes, OutputRecord};
use steward::entity::{Reason, Rejection};
use steward::record::{Batch, Epoch, Offset, Partition, Position};

const P0: Partition = Partition(0);
const P1: Partition = Partition(1);

/// A batch of one record at each offset; the value's length decides what a DLQ record of it weighs.
fn batch_of(partition: Partition, epoch: Epoch, offsets: &[i64]) -> Batch {
    let start = offsets.first().copied().unwrap_or(0);
    let mut batch = Batch::new(partition, epoch, Position(start));
    for offset in offsets {
        batch.push(Offset(*offset), Some(1_000 + offset), Some(b"k"), Some(b"0123456789"), []);
    }
    batch
}

fn open_batch(id: u64, batch: Batch) -> OpenBatch {
    let lease = Budget::new(u64::MAX).hold(batch.held_bytes());
    OpenBatch { id: BatchId(id), batch: Arc::new(batch), lease, guard: None }
}

fn snapshot_of(partition: Partition, key: &str, newest: i64) -> OutputRecord {
    let value = Some(Arc::from(format!("{key} after {newest}").as_bytes()));
    let snapshot = EntitySnapshot { key: Arc::from(key.as_bytes()), value, trace: None };
    OutputRecord::snapshot(partition, Offset(newest), snapshot)
}

fn rejected_of(batch: &Arc<Batch>, index: u32) -> OutputRecord {
    OutputRecord::rejected(batch, index, Rejection::new(Reason::NotFound, "not found"))
}

/// Every record of the batch is rejected.
fn all_refused(batch: &Arc<Batch>) -> Outcomes {
    let records = u32::try_from(batch.len()).expect("a small batch");
    (0..records).map(|index| rejected_of(batch, index)).collect()
}
