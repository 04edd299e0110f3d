//! Batches complete in any order; only those before the first incomplete one may be committed.

use std::sync::Arc;

use steward::engine::batches::{BatchId, CompleteBatch, Head, OpenBatches, OrderBroken};
use steward::engine::outcome::{Outcomes, Output, OutputRecord};
use steward::record::{Batch, Epoch, Offset, Position};

use super::{P0, all_refused, batch_of, open_batch, rejected_of, snapshot_of};

const EPOCH: Epoch = Epoch(1);

#[apply(offline_test)]
fn outcomes_above_the_limit_are_cut_with_dlq_records_first() {
    let batch = Arc::new(batch_of(P0, EPOCH, &[3, 5]));
    let all = || -> Outcomes {
        let snapshots = [snapshot_of(P0, "a", 0), snapshot_of(P0, "b", 1), snapshot_of(P0, "c", 2)];
        snapshots.into_iter().chain([rejected_of(&batch, 0), rejected_of(&batch, 1)]).collect()
    };
    let shape = |max_bytes: u64| -> Vec<(usize, usize)> {
        let parts = all().cut(max_bytes);
        parts.iter().map(|part| (part.records[Output::Dlq].len(), part.records[Output::State].len())).collect()
    };
    assert_eq!(shape(u64::MAX), [(2, 3)]);
    assert_eq!(shape(1), [(1, 0), (1, 0), (0, 1), (0, 1), (0, 1)], "a record always fits");
    let rejected = all().records[Output::Dlq].iter().map(OutputRecord::weight_bytes).sum();
    assert_eq!(shape(rejected)[0], (2, 0));
    assert_eq!(Outcomes::default().cut(1).len(), 1, "a position alone goes out, too");
}

#[apply(offline_test)]
fn a_batch_is_taken_only_when_all_before_it_are_done() {
    let mut queue = queue_of(&[&[0, 1], &[2], &[3, 4]]);
    assert!(queue.complete(BatchId(3), Outcomes::default()).is_none());
    assert!(queue.complete(BatchId(2), Outcomes::default()).is_none());
    assert!(!queue.has_complete());
    assert_eq!(taken(&mut queue), [0; 0]);
    assert!(queue.complete(BatchId(1), Outcomes::default()).is_none());
    assert!(queue.has_complete());
    assert_eq!(taken(&mut queue), [1, 2, 3]);
    assert_eq!((queue.records(), queue.has_complete()), (0, false));
}

#[apply(offline_test)]
fn a_position_alone_is_done_at_once() {
    let mut queue = queue_of(&[&[0]]);
    queue.open(open_batch(2, Batch::new(P0, EPOCH, Position(5)))).expect("it is behind the first");
    assert!(!queue.has_complete(), "it still waits for the batches before it");
    assert!(queue.complete(BatchId(1), Outcomes::default()).is_none());
    assert_eq!(taken(&mut queue), [1, 2]);
}

#[apply(offline_test)]
fn a_batch_that_does_not_fit_stays_in_front() {
    let mut queue = queue_of(&[&[0], &[1]]);
    assert!(queue.complete(BatchId(1), Outcomes { applied: 1, ..Outcomes::default() }).is_none());
    assert!(queue.take_complete_if(|outcomes| outcomes.applied == 0).is_none());
    assert_eq!(taken(&mut queue), [1]);
    assert!(
        queue.take_complete_if(|_| panic!("the second is not complete, so it is not asked whether it fits")).is_none()
    );
}

#[apply(offline_test)]
fn offsets_that_fall_are_refused() {
    let broken = |before, after| OrderBroken { partition: 0, before: Position(before), after: Position(after) };
    let mut queue = queue_of(&[&[5, 7]]);
    for offsets in [&[7, 8][..], &[5], &[0]] {
        let refused = queue.open(open_batch(2, batch_of(P0, EPOCH, offsets)));
        assert_eq!(refused, Err(broken(8, offsets[0])), "{offsets:?}");
    }
    let refused = queue.open(open_batch(2, Batch::new(P0, EPOCH, Position(7))));
    assert_eq!(refused, Err(broken(8, 7)), "a position alone may not fall either");
    assert_eq!(queue.records(), 2, "a refused batch was opened");
    let mut ahead = OpenBatches::starting_with(Position(10), Vec::new());
    assert_eq!(ahead.open(open_batch(1, batch_of(P0, EPOCH, &[9]))), Err(broken(10, 9)), "below the start");
}

#[apply(offline_test)]
fn gaps_between_batches_are_accepted() {
    let mut queue = queue_of(&[&[0], &[5], &[100]]);
    queue.open(open_batch(4, Batch::new(P0, EPOCH, Position(101)))).expect("the same position again");
    queue.open(open_batch(5, Batch::new(P0, EPOCH, Position(200)))).expect("behind markers");
    assert_eq!(queue.records(), 3);
}

#[apply(offline_test)]
fn batches_that_are_put_back_keep_their_order() {
    let mut queue = queue_of(&[&[0], &[1], &[2], &[3]]);
    for id in 1..=4 {
        assert!(queue.complete(BatchId(id), Outcomes { applied: id, ..Outcomes::default() }).is_none());
    }
    let mut batches: Vec<CompleteBatch> =
        std::iter::from_fn(|| queue.take_complete_if(|outcomes| outcomes.applied < 4)).collect();
    assert_eq!((batches.len(), queue.records()), (3, 1));
    let back = batches.split_off(1);
    queue.put_back(back);
    assert_eq!(queue.records(), 3);
    let again: Vec<(u64, u64)> = std::iter::from_fn(|| queue.take_complete_if(|_| true))
        .map(|done| (done.open.id.0, done.outcomes.applied))
        .collect();
    assert_eq!(again, [(2, 2), (3, 3), (4, 4)], "each with its own outcomes");
}

#[apply(offline_test)]
fn only_the_finished_prefix_survives_a_revocation() {
    let mut queue = queue_of(&[&[0], &[1], &[2, 3, 4], &[5, 6]]);
    for id in [1, 2, 4] {
        assert!(queue.complete(BatchId(id), Outcomes::default()).is_none());
    }
    assert_eq!(queue.drop_incomplete(), 5, "three that are open, and two behind them");
    assert_eq!(queue.drop_incomplete(), 0);
    assert!(queue.complete(BatchId(3), Outcomes::default()).is_some(), "it is not open any more");
    assert_eq!(taken(&mut queue), [1, 2]);
    let mut unfinished = queue_of(&[&[0]]);
    assert_eq!(unfinished.drop_incomplete(), 1);
    assert!(!unfinished.has_complete());
}

#[apply(offline_test)]
fn dlq_records_are_in_source_order() {
    let mut queue = OpenBatches::starting_with(Position(0), Vec::new());
    let open = open_batch(1, batch_of(P0, EPOCH, &[3, 5, 8]));
    let batch = Arc::clone(&open.batch);
    queue.open(open).expect("the first");
    let outcomes = [2, 0, 1].map(|index| rejected_of(&batch, index)).into_iter().collect();
    assert!(queue.complete(BatchId(1), outcomes).is_none());
    let done = queue.take_complete_if(|_| true).expect("it is done");
    let offsets: Vec<i64> = done.outcomes.records[Output::Dlq].iter().map(|record| record.source.0).collect();
    assert_eq!(offsets, [3, 5, 8]);
}

#[apply(offline_test)]
fn a_batch_is_completed_once() {
    let mut queue = queue_of(&[&[0], &[1]]);
    assert!(queue.complete(BatchId(2), Outcomes { applied: 1, ..Outcomes::default() }).is_none());
    let second = queue.complete(BatchId(2), Outcomes { applied: 9, ..Outcomes::default() });
    assert_eq!(second.map(|outcomes| outcomes.applied), Some(9), "the second one comes back");
    assert!(queue.complete(BatchId(77), Outcomes::default()).is_some(), "it was never opened");
    assert!(queue.complete(BatchId(1), Outcomes::default()).is_none());
    let applied: Vec<u64> =
        std::iter::from_fn(|| queue.take_complete_if(|_| true)).map(|done| done.outcomes.applied).collect();
    assert_eq!(applied, [0, 1], "the first outcomes count");
}

#[apply(offline_test)]
fn outcomes_of_keys_add_up() {
    let batch = Arc::new(batch_of(P0, EPOCH, &[0, 1]));
    let mut all = all_refused(&batch);
    let weight = all.weight_bytes();
    let snapshot = snapshot_of(P0, "k", 4);
    let more = snapshot.weight_bytes();
    all.merge(Outcomes { applied: 2, skipped: 3, ..[snapshot].into_iter().collect() });
    all.merge(Outcomes { applied: 1, skipped: 1, ..Outcomes::default() });
    let (snapshots, rejected) = (all.records[Output::State].len(), all.records[Output::Dlq].len());
    assert_eq!((snapshots, rejected, all.applied, all.skipped), (1, 2, 3, 4));
    assert_eq!(all.weight_bytes(), weight + more);
}

#[apply(offline_test)]
fn the_head_is_the_oldest_record_that_is_left() {
    let mut queue = OpenBatches::starting_with(Position(0), Vec::new());
    queue.open(open_batch(1, Batch::new(P0, EPOCH, Position(3)))).expect("a position");
    assert_eq!(queue.head(), None, "a position is no record");
    queue.open(open_batch(2, batch_of(P0, EPOCH, &[5]))).expect("behind it");
    let head = |is_complete| Some(Head { offset: Offset(5), timestamp_ms: Some(1_005), is_complete });
    assert_eq!(queue.head(), head(false));
    assert!(queue.complete(BatchId(2), Outcomes::default()).is_none());
    assert_eq!(queue.head(), head(true));
    assert_eq!(taken(&mut queue), [1, 2]);
    assert_eq!(queue.head(), None);
}

/// A queue that starts at 0 and has these batches open, numbered from 1.
fn queue_of(batches: &[&[i64]]) -> OpenBatches {
    let mut queue = OpenBatches::starting_with(Position(0), Vec::new());
    for (id, offsets) in (1..).zip(batches) {
        queue.open(open_batch(id, batch_of(P0, EPOCH, offsets))).expect("offsets that rise");
    }
    queue
}

fn taken(queue: &mut OpenBatches) -> Vec<u64> {
    std::iter::from_fn(|| queue.take_complete_if(|_| true)).map(|done| done.open.id.0).collect()
}
