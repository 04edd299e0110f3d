//! A repair that takes several transactions: the process dies after the first one, and nothing is lost.

use std::sync::Arc;

use steward::observability::log_events::{LogEvent as _, LostWriteRepaired};
use steward::record::{Partition, Position, Topic};
use steward::testing::memory::InjectedOutcome;

use super::world::{World, settle};
use super::{Run, Scenario};
use crate::support::capture::Capture;
use crate::support::paused::on_one_thread;

#[apply(offline_test)]
fn a_repair_that_is_interrupted_between_two_transactions_is_completed_by_the_next_owner() {
    let capture = Arc::new(Capture::here());
    capture.announce(LostWriteRepaired::NAME);
    let logged = Arc::clone(&capture);
    let run: Run = on_one_thread(|clock| async move {
        let partition = Partition(0);
        let mut world = World::new(5, Scenario { pods: 1, partitions: 1, ..Scenario::stormy() }, clock);
        world.produce_many(400);
        // Another member of the group commits past all events.
        let end = world.kafka.bounds(Topic::Input, partition).high;
        world.kafka.set_committed(partition, Some(end));
        world.assign_unowned();
        settle().await;
        // The producer is registered, and the recovery has found what is missing.
        while world.pods[0].memory.is_busy() && world.kafka.committed(partition).is_some_and(|of| of.position == end) {
            world.run_recovery(0);
            settle().await;
            world.pods[0].memory.end_pending(InjectedOutcome::Commits);
            settle().await;
        }
        let committed = world.kafka.committed(partition).map(|committed| committed.position);
        assert_eq!(committed, Some(Position(0)), "the first part commits the start of the verified range");
        assert!(!world.kafka.records(Topic::Dlq, partition).is_empty(), "it carries a part of what is missing");
        assert!(logged.lines(LostWriteRepaired::NAME).is_empty(), "the repair is not complete");
        world.crash();
        world.calm().await;
        world.result()
    });
    run.assert_exact(5);
    assert_eq!(capture.lines(LostWriteRepaired::NAME).len(), 1, "the rest, once it is committed");
}
