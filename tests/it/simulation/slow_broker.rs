//! A broker that takes few bytes a second, from the start or from some moment on. A transaction that does not end within
//! the timeout has no effect. Every partition must go on, and each event count once.

use std::time::Duration;

use steward::record::{Partition, Topic};
use steward::testing::memory::InjectedOutcome;

use super::{Run, Scenario, TRANSACTION_TIMEOUT, World, settle};
use crate::support::capture::Capture;
use crate::support::paused::on_one_thread;

/// The watchdog ends the process after this time without a commit.
const STALL: Duration = Duration::from_secs(30);

#[apply(offline_test)]
fn every_partition_goes_on_at_any_rate_at_which_one_record_fits_into_the_timeout() {
    for (seed, bytes_a_second) in (1..).zip([500, 1_000, 3_000, 20_000]) {
        play(seed, bytes_a_second, 0).assert_exact(seed);
    }
}

#[apply(offline_test)]
fn batches_that_were_read_before_the_broker_became_slow_are_read_again_in_smaller_ones() {
    for (seed, bytes_a_second) in (1..).zip([350, 400]) {
        let run = play(seed, bytes_a_second, 300);
        let again = run.log.iter().filter(|line| line.name == "recovery_finished").count();
        assert!(again > 3, "no batch was too large for the test: {again} recoveries");
        run.assert_exact(seed);
    }
}

/// The first `quick` events are committed at full speed.
fn play(seed: u64, bytes_a_second: u64, quick: usize) -> Run {
    let capture = Capture::here();
    let scenario = Scenario { keys: 200, pods: 1, partitions: 3, largest_bytes: 2_000, ..Scenario::stormy() };
    let run = on_one_thread(move |clock| async move {
        let mut world = World::new(seed, scenario, clock);
        if quick > 0 {
            world.produce_many(quick);
            world.calm().await;
        }
        world.produce_many(world.events.len());
        world.assign_unowned();
        let mut position = Vec::new();
        let mut moved_at = world.now();
        while !world.is_committed() {
            world.run_recovery(0);
            settle().await;
            let pod = world.pods[0].memory.clone();
            for partition in pod.started() {
                pod.poll(partition, 50);
            }
            settle().await;
            match pod.pending_bytes() {
                Some(bytes) => {
                    let takes = Duration::from_millis(1_000 * bytes / bytes_a_second + 5);
                    let ends = if takes < TRANSACTION_TIMEOUT {
                        InjectedOutcome::CommitsAfter(takes)
                    } else {
                        InjectedOutcome::TimesOut
                    };
                    tokio::time::sleep(takes.min(TRANSACTION_TIMEOUT)).await;
                    pod.end_pending(ends);
                }
                None => {
                    pod.end_pending(InjectedOutcome::Commits);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            settle().await;
            let committed: Vec<_> = (0..3).map(|of| world.kafka.committed(Partition(of))).collect();
            if committed != position {
                (position, moved_at) = (committed, world.now());
            }
            let stands = world.now().saturating_duration_since(moved_at);
            assert!(stands < STALL, "seed {seed}, {bytes_a_second} bytes a second: stands still at {position:?}");
        }
        assert!(world.kafka.bounds(Topic::Input, Partition(0)).high.0 > 50, "too few events for a meaningful test");
        world.result()
    });
    Run { log: capture.all(), ..run }
}
