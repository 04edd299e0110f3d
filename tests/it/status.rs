//! The status and the watchdog, without threads: what is a stall, after how long, and how it is described.

mod scene;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use steward::engine::partition::PartitionState;
use steward::observability::log_events::StallPhase;
use steward::observability::open_transactions::OpenTransactions;
use steward::observability::status::{HeldBack, InputReport};
use steward::observability::watchdog::IngestPressure;
use steward::record::{Batch, Epoch, Offset, Partition, Position};

use scene::Scene;

const P0: Partition = Partition(0);
const P1: Partition = Partition(1);
const LIMIT: Duration = Duration::from_secs(30);
const JOIN: Duration = Duration::from_secs(300);
const CHECK: Duration = Duration::from_millis(250);

#[apply(offline_test)]
fn a_stalled_partition_is_found_among_busy_ones() {
    let mut scene = Scene::serving(&[P0, P1]);
    scene.opens(&[(P0, 7), (P1, 3)]);

    let stall = scene.until_stall(2 * LIMIT, |scene, step| scene.commits(P1, 10 + step));

    assert_eq!((stall.phase, stall.partition, stall.offset), (StallPhase::Apply, Some(P0), Some(Offset(7))));
    assert_eq!((stall.duration, stall.limit), (LIMIT, LIMIT));
}

#[apply(offline_test)]
fn a_partition_without_work_never_stalls() {
    let mut scene = Scene::serving(&[P0]);
    scene.commits(P0, 5);
    scene.logs(P0, 5, 5);
    scene.runs_without_stall_for(10 * LIMIT);
}

#[apply(offline_test)]
fn the_clock_of_a_partition_starts_when_it_has_work() {
    let mut scene = Scene::serving(&[P0]);
    scene.commits(P0, 5);
    scene.runs_without_stall_for(10 * LIMIT);
    scene.logs(P0, 6, 6);
    scene.runs_without_stall_for(LIMIT);
    let stall = scene.until_stall(CHECK, |_, _| {});
    assert_eq!((stall.phase, stall.partition, stall.duration), (StallPhase::Poll, Some(P0), LIMIT));
    assert_eq!(stall.waiting_for, "records to arrive; the consumer is polling");
}

#[apply(offline_test)]
fn time_in_which_the_watchdog_did_not_run_does_not_count() {
    let mut scene = Scene::serving(&[P0]);
    scene.opens(&[(P0, 7)]);
    scene.runs_without_stall_for(LIMIT / 2);
    scene.now += 100 * LIMIT;
    scene.runs_without_stall_for(LIMIT / 2 - Duration::from_secs(3));
    let stall = scene.until_stall(Duration::from_secs(6), |_, _| {});
    assert!(stall.duration < LIMIT + Duration::from_secs(2), "{stall:?}");
}

#[apply(offline_test)]
fn a_tenth_of_the_time_counts_while_a_partition_waits_for_room() {
    let mut scene = Scene::serving(&[P0, P1]);
    scene.ingest = IngestPressure::Full;
    scene.opens(&[(P1, 3)]);
    scene.commits(P0, 5);
    scene.logs(P0, 6, 6);
    let mut checks = 0;
    let stall = scene.until_stall(11 * LIMIT, |scene, step| {
        checks = step;
        scene.commits(P1, 10 + step);
    });
    assert!(
        CHECK * u32::try_from(checks).expect("a few hundred") > 9 * LIMIT,
        "the partition waited for room that others used, and that was taken for a stall"
    );
    assert_eq!((stall.phase, stall.partition), (StallPhase::Poll, Some(P0)));
    assert_eq!(stall.waiting_for, "room for its records, which other partitions use");
}

#[apply(offline_test)]
fn time_in_which_the_brokers_refuse_records_for_now_does_not_count_for_work_that_waits_for_its_commit() {
    let mut scene = Scene::serving(&[P0]);
    scene.opens_decided(P0, 7);
    scene.is_refused_for_now = true;
    scene.runs_without_stall_for(LIMIT * 10);
    scene.is_refused_for_now = false;
    scene.runs_without_stall_for(LIMIT - CHECK);
    scene.now += CHECK;
    assert_eq!(scene.check().map(|stall| stall.phase), Some(StallPhase::Commit), "refused no more, and not committed");

    let mut scene = Scene::serving(&[P0]);
    scene.opens(&[(P0, 7)]);
    scene.is_refused_for_now = true;
    scene.runs_without_stall_for(LIMIT);
    scene.now += CHECK;
    assert_eq!(
        scene.check().map(|stall| stall.phase),
        Some(StallPhase::Apply),
        "an entity that hangs is another cause"
    );
}

#[apply(offline_test)]
fn all_of_the_time_counts_for_a_partition_with_uncommitted_records_while_ingest_is_full() {
    let mut scene = Scene::serving(&[P0]);
    scene.ingest = IngestPressure::Full;
    scene.opens(&[(P0, 3)]);
    scene.runs_without_stall_for(LIMIT);
    assert_eq!(scene.until_stall(CHECK, |_, _| {}).phase, StallPhase::Apply);
}

#[apply(offline_test)]
fn a_recovery_with_progress_never_stalls_however_long_it_takes() {
    let mut scene = Scene::recovering(&[P0]);
    scene.status.recovery_started(P0, scene.now);
    for step in 1..50 {
        scene.reads(P0, step);
        scene.runs_without_stall_for(LIMIT - 2 * CHECK);
    }
    let stall = scene.until_stall(LIMIT, |_, _| {});
    assert_eq!((stall.phase, stall.partition, stall.offset), (StallPhase::Restore, Some(P0), None));
    assert_eq!(stall.waiting_for, "records of the state topic: at position 49 of 1000");
}

#[apply(offline_test)]
fn a_recovery_to_which_the_brokers_respond_never_stalls_although_no_record_arrives() {
    let mut scene = Scene::recovering(&[P0]);
    scene.status.recovery_started(P0, scene.now);
    scene.reads(P0, 1);
    for _ in 0..20 {
        scene.runs_without_stall_for(LIMIT - 2 * CHECK);
        scene.status.recovery_responded(P0, scene.now, CHECK);
    }
    assert_eq!(scene.until_stall(LIMIT, |_, _| {}).phase, StallPhase::Restore);
}

#[apply(offline_test)]
fn a_recovery_that_waits_for_its_turn_shares_the_progress_of_the_others() {
    let mut scene = Scene::recovering(&[P0, P1]);
    scene.status.recovery_started(P1, scene.now);
    for step in 1..50 {
        scene.reads(P1, step);
        scene.runs_without_stall_for(LIMIT / 2);
    }
    // Its clock restarts with its own turn.
    scene.status.set_state(P1, Some(PartitionState::Serving), scene.now);
    scene.runs_without_stall_for(LIMIT / 2);
    scene.status.recovery_started(P0, scene.now);
    scene.runs_without_stall_for(LIMIT - 2 * CHECK);
    let stall = scene.until_stall(4 * CHECK, |_, _| {});
    assert_eq!((stall.phase, stall.partition), (StallPhase::Restore, Some(P0)));
}

#[apply(offline_test)]
fn a_repeated_attempt_at_recovery_is_no_progress() {
    let mut scene = Scene::recovering(&[P0]);
    let mut attempts = 0;
    let stall = scene.until_stall(2 * LIMIT, |scene, step| {
        // Each attempt gets as far as the one before, and fails.
        scene.status.recovery_started(P0, scene.now);
        scene.reads(P0, 1 + step % 10);
        attempts += 1;
    });
    assert_eq!(stall.phase, StallPhase::Restore);
    assert!(attempts > 100, "{attempts}");
}

#[apply(offline_test)]
fn a_recovery_that_blocks_others_is_named_before_those_that_wait() {
    let mut scene = Scene::recovering(&[P0, P1]);
    scene.status.recovery_started(P0, scene.now);
    scene.reads(P0, 1);
    let stall = scene.until_stall(2 * LIMIT, |_, _| {});
    assert_eq!(stall.partition, Some(P0), "{stall:?}");
}

#[apply(offline_test)]
fn batches_that_stay_in_the_mailbox_are_a_stall_in_the_route_phase() {
    let mut scene = Scene::serving(&[P0]);
    scene.status.batch_offered(P0, Some((Offset(4), Some(b"four"))));
    scene.status.batch_offered(P0, Some((Offset(9), Some(b"nine"))));
    let stall = scene.until_stall(2 * LIMIT, |_, _| {});
    assert_eq!((stall.phase, stall.partition, stall.offset), (StallPhase::Route, Some(P0), Some(Offset(4))));
    assert_eq!(stall.waiting_for, "the ingest actor to take 2 batches from its mailbox");
    assert_eq!(scene.status.key_at(P0, Offset(4)).as_deref(), Some(&b"four"[..]));

    // An actor that takes the batches is no stall; an actor that does not run is named.
    scene.status.batch_routed(P0, None);
    scene.status.batch_routed(P0, None);
    scene.runs_without_stall_for(2 * LIMIT);
    scene.opens(&[(P0, 4)]);
    scene.do_actors_run = false;
    let stall = scene.until_stall(2 * LIMIT, |_, _| {});
    assert_eq!((stall.phase, stall.offset), (StallPhase::Route, Some(Offset(4))));
    assert!(stall.waiting_for.starts_with("the ingest actor, which has not run for "), "{stall:?}");
}

#[apply(offline_test)]
fn a_refused_offer_leaves_nothing_in_the_mailbox() {
    let mut scene = Scene::serving(&[P0]);
    scene.status.batch_offered(P0, Some((Offset(4), None)));
    scene.status.offer_refused(P0);
    scene.runs_without_stall_for(2 * LIMIT);
}

#[apply(offline_test)]
fn the_event_that_an_entity_is_processing_is_named_instead_of_the_oldest_one() {
    let mut scene = Scene::serving(&[P0, P1]);
    let threads = [scene.status.add_entity_thread(), scene.status.add_entity_thread()];
    scene.opens(&[(P0, 7), (P1, 3)]);
    threads[1].set(P0, Offset(12));
    let stall = scene.until_stall(2 * LIMIT, |_, step| {
        // The other thread works.
        threads[0].set(P1, Offset(step));
    });
    assert_eq!((stall.phase, stall.partition, stall.offset), (StallPhase::Apply, Some(P0), Some(Offset(12))));
    assert!(stall.waiting_for.starts_with("an entity that has been processing this event for "), "{stall:?}");

    // It delays all entities of its thread, of other partitions too.
    let mut scene = Scene::serving(&[P0, P1]);
    let current_event = scene.status.add_entity_thread();
    current_event.set(P0, Offset(12));
    scene.opens(&[(P1, 3)]);
    let stall = scene.until_stall(2 * LIMIT, |_, _| {});
    assert_eq!((stall.partition, stall.offset), (Some(P0), Some(Offset(12))));

    let mut scene = Scene::serving(&[P0]);
    let current_event = scene.status.add_entity_thread();
    current_event.set(P0, Offset(12));
    current_event.clear();
    scene.opens(&[(P0, 3)]);
    let stall = scene.until_stall(2 * LIMIT, |_, _| {});
    assert_eq!((stall.offset, stall.waiting_for.as_str()), (Some(Offset(3)), "the entities of a batch to finish"));
}

#[apply(offline_test)]
fn a_transaction_that_outlives_its_partition_is_still_watched() {
    let mut scene = Scene::serving(&[P0]);
    scene.routes(P0, 7, b"seven");
    scene.routes(P0, 8, b"eight");
    scene.opens_decided(P0, 7);
    scene.runs_without_stall_for(LIMIT / 2);
    scene.status.set_state(P0, None, scene.now);
    scene.opens_decided(P0, 7);
    assert_eq!(scene.status.key_at(P0, Offset(7)).as_deref(), Some(&b"seven"[..]));
    assert_eq!(scene.status.key_at(P0, Offset(8)), None, "it is not in the transaction");
    scene.runs_without_stall_for(LIMIT / 2 - 2 * CHECK);
    let stall = scene.until_stall(4 * CHECK, |_, _| {});
    assert_eq!((stall.phase, stall.partition, stall.offset), (StallPhase::Commit, Some(P0), Some(Offset(7))));
}

#[apply(offline_test)]
fn an_assignment_does_not_reset_the_age_of_a_hanging_transaction() {
    let mut scene = Scene::serving(&[P0]);
    scene.opens_decided(P0, 7);
    scene.runs_without_stall_for(LIMIT / 2);
    scene.status.set_state(P0, None, scene.now);
    scene.status.set_state(P0, Some(PartitionState::Recovering), scene.now);
    scene.runs_without_stall_for(LIMIT / 2 - 2 * CHECK);
    assert_eq!(scene.until_stall(4 * CHECK, |_, _| {}).partition, Some(P0));
}

#[apply(offline_test)]
fn a_stalled_commit_names_the_error_of_the_last_attempt() {
    let mut scene = Scene::serving(&[P0]);
    scene.opens_decided(P0, 7);
    scene.commit_step = Some(("the commit thread, SendingOffsets".to_owned(), Duration::from_secs(4)));
    scene.status.commit_failed("the group is changing generations");
    let stall = scene.until_stall(2 * LIMIT, |_, _| {});
    assert_eq!(stall.phase, StallPhase::Commit);
    assert_eq!(
        stall.waiting_for,
        "the commit thread, SendingOffsets for 4000 ms; the last attempt failed: the group is changing generations"
    );

    // A commit clears it.
    scene.commits(P0, 8);
    scene.opens_decided(P0, 8);
    scene.commit_step = None;
    let stall = scene.until_stall(2 * LIMIT, |_, _| {});
    assert_eq!(stall.waiting_for, "a transaction to begin");
}

#[apply(offline_test)]
fn a_revoked_partition_that_is_not_released_is_a_stall_in_the_rebalance_phase() {
    let mut scene = Scene::serving(&[P0]);
    scene.status.set_state(P0, Some(PartitionState::Revoking), scene.now);
    let stall = scene.until_stall(2 * LIMIT, |_, _| {});
    assert_eq!((stall.phase, stall.partition, stall.limit), (StallPhase::Rebalance, Some(P0), LIMIT));
}

#[apply(offline_test)]
fn a_process_that_is_no_member_of_its_group_has_a_limit_of_its_own() {
    let mut scene = Scene::new();
    scene.runs_without_stall_for(JOIN - 2 * CHECK);
    let stall = scene.until_stall(4 * CHECK, |_, _| {});
    assert_eq!((stall.phase, stall.partition, stall.offset, stall.limit), (StallPhase::Rebalance, None, None, JOIN));
    assert_eq!(stall.waiting_for, "the process to become a member of its group: no assignment has arrived");

    // The time restarts when the process leaves the group, and ends when it is a member again.
    let mut scene = Scene::serving(&[]);
    scene.runs_without_stall_for(JOIN);
    scene.not_member = Some("the consumer has no member id");
    scene.runs_without_stall_for(JOIN - 2 * CHECK);
    scene.not_member = None;
    scene.runs_without_stall_for(CHECK);
    scene.not_member = Some("the consumer has no member id");
    scene.runs_without_stall_for(JOIN - 2 * CHECK);
    let stall = scene.until_stall(4 * CHECK, |_, _| {});
    assert_eq!(stall.waiting_for, "the process to become a member of its group: the consumer has no member id");
}

#[apply(offline_test)]
fn a_member_without_partitions_never_stalls() {
    Scene::serving(&[]).runs_without_stall_for(10 * JOIN);
}

#[apply(offline_test)]
fn a_poll_thread_that_hangs_is_a_stall_in_the_poll_phase() {
    let mut scene = Scene::serving(&[P0]);
    scene.does_consumer_run = false;
    let stall = scene.until_stall(2 * LIMIT, |_, _| {});
    assert_eq!((stall.phase, stall.partition), (StallPhase::Poll, None));
    assert_eq!(stall.waiting_for, "a call of the consumer to return");
}

#[apply(offline_test)]
fn a_key_is_found_until_its_event_is_committed() {
    let scene = Scene::serving(&[P0]);
    let mut batch = Batch::new(P0, Epoch(1), Position(0));
    batch.push(Offset(4), None, Some(b"four"), None, []);
    batch.push(Offset(5), None, None, None, []);
    scene.status.batch_offered(P0, Some((Offset(4), Some(b"four"))));
    scene.status.batch_routed(P0, Some(Arc::new(batch)));

    assert_eq!(scene.status.key_at(P0, Offset(4)).as_deref(), Some(&b"four"[..]));
    assert_eq!(scene.status.key_at(P0, Offset(5)), None, "it has none");
    assert_eq!(scene.status.key_at(P1, Offset(4)), None);
    scene.commits(P0, 5);
    assert_eq!(scene.status.key_at(P0, Offset(4)).as_deref(), Some(&b"four"[..]), "a part of the batch is open");
    scene.commits(P0, 6);
    assert_eq!(scene.status.key_at(P0, Offset(4)), None);
}

#[apply(offline_test)]
fn nothing_of_an_ended_ownership_is_left() {
    let scene = Scene::serving(&[P0]);
    scene.commits(P0, 5);
    scene.logs(P0, 9, 9);
    assert_eq!(scene.status.lags(), BTreeMap::from([(P0, 4)]));
    scene.status.set_state(P0, None, scene.now);
    scene.logs(P0, 10, 10);
    scene.commits(P0, 6);
    assert_eq!(scene.status.snapshot(scene.now).partitions, []);
    scene.status.set_state(P0, Some(PartitionState::Recovering), scene.now);
    assert_eq!(scene.status.lags(), BTreeMap::new());
}

/// The lag is 0, because nothing reports the events that the broker has.
#[apply(offline_test)]
fn a_broker_that_sends_nothing_while_others_respond_is_a_stall_in_the_fetch_phase() {
    let mut scene = Scene::serving(&[P0, P1]);
    scene.do_brokers_respond = true;
    let stall = scene.until_stall(2 * LIMIT, |scene, _| scene.logs(P1, 5, 5));
    assert_eq!((stall.phase, stall.partition, stall.offset), (StallPhase::Fetch, Some(P0), None));
    assert_eq!((stall.duration, stall.limit), (LIMIT, LIMIT));
    assert!(stall.waiting_for.contains("the broker that the partition is fetched from"), "{stall:?}");

    // Empty responses count as responses.
    for partition in [P0, P1] {
        scene.logs(partition, 0, 0);
    }
    scene.runs_without_stall_for(LIMIT - CHECK);
    // With events that do not arrive it is the same stall.
    scene.commits(P0, 5);
    scene.logs(P0, 6, 6);
    assert_eq!(scene.until_stall(2 * LIMIT, |scene, _| scene.logs(P1, 5, 5)).phase, StallPhase::Fetch);
}

#[apply(offline_test)]
fn a_silent_broker_is_no_stall_while_nothing_is_fetched_or_no_broker_responds() {
    let mut scene = Scene::serving(&[P0]);
    scene.runs_without_stall_for(10 * LIMIT);
    scene.do_brokers_respond = true;
    scene.is_polling = false;
    scene.runs_without_stall_for(10 * LIMIT);
    scene.is_polling = true;
    scene.ingest = IngestPressure::Full;
    scene.runs_without_stall_for(10 * LIMIT);
    scene.ingest = IngestPressure::Open;
    scene.status.set_state(P0, Some(PartitionState::Recovering), scene.now);
    scene.status.recovery_started(P0, scene.now);
    for step in 1..20 {
        scene.reads(P0, step);
        scene.runs_without_stall_for(LIMIT / 2);
    }
    // The time before it served does not count.
    scene.status.set_state(P0, Some(PartitionState::Serving), scene.now);
    scene.runs_without_stall_for(LIMIT - CHECK);
    assert_eq!(scene.until_stall(2 * CHECK, |_, _| {}).phase, StallPhase::Fetch);
}

#[apply(offline_test)]
fn a_delay_that_the_broker_announces_is_no_stall() {
    let mut scene = Scene::serving(&[P0]);
    scene.do_brokers_respond = true;
    scene.commits(P0, 5);
    scene.delay = 3 * LIMIT;
    scene.logs(P0, 9, 9);
    scene.runs_without_stall_for(4 * LIMIT - 2 * CHECK);
    assert_eq!(scene.until_stall(4 * CHECK, |_, _| {}).phase, StallPhase::Fetch);
}

#[apply(offline_test)]
fn a_partition_without_a_leader_is_no_stall() {
    let mut scene = Scene::serving(&[P0]);
    scene.do_brokers_respond = true;
    scene.logs(P0, 5, 5);
    scene.commits(P0, 5);
    for _ in 0..20 {
        scene.lacks_leader(P0);
        scene.runs_without_stall_for(LIMIT / 2);
    }
    assert_eq!(scene.until_stall(2 * LIMIT, |_, _| {}).phase, StallPhase::Fetch);
}

#[apply(offline_test)]
fn events_behind_an_open_transaction_are_lag_and_no_work() {
    let mut scene = Scene::serving(&[P0]);
    scene.commits(P0, 5);
    scene.logs(P0, 5, 505);
    assert_eq!(scene.status.lags(), BTreeMap::from([(P0, 500)]));
    assert_eq!(scene.held_back(P0).map(|held| held.offsets()), Some(500));
    scene.runs_without_stall_for(10 * LIMIT);
    scene.logs(P0, 505, 505);
    assert_eq!(scene.held_back(P0), None);
}

#[apply(offline_test)]
fn the_age_of_an_open_transaction_counts_while_the_last_stable_offset_stands_still() {
    let mut scene = Scene::serving(&[P0]);
    scene.logs(P0, 5, 6);
    for _ in 0..10 {
        scene.now += Duration::from_secs(1);
        scene.logs(P0, 5, 7);
    }
    let open_for = Duration::from_secs(10);
    let held = HeldBack { last_stable: Position(5), high_watermark: Position(7), open_for };
    assert_eq!(scene.held_back(P0), Some(held));
    // Offsets of an old response, while the partition is paused, make it no older.
    scene.now += LIMIT;
    let since_response = Some(LIMIT);
    let log = InputReport {
        last_stable: Some(Position(5)),
        high_watermark: Some(Position(7)),
        since_response,
        lacks_leader: false,
        delay: Duration::ZERO,
    };
    scene.status.set_input_report(P0, log, scene.now);
    assert_eq!(scene.held_back(P0), Some(held));
    // Another transaction.
    scene.logs(P0, 6, 8);
    assert_eq!(scene.held_back(P0).map(|held| held.open_for), Some(Duration::ZERO));
    scene.status.set_state(P0, Some(PartitionState::Recovering), scene.now);
    scene.logs(P0, 6, 8);
    assert_eq!(scene.held_back(P0), None, "it is not fetched");
}

#[apply(offline_test)]
fn an_open_transaction_is_warned_about_once_and_again_after_long() {
    let mut scene = Scene::serving(&[P0, P1]);
    let limit = Duration::from_secs(60);
    let mut transactions = OpenTransactions::new(limit);
    let mut warned = Vec::new();
    for second in 0..1_400 {
        scene.now += Duration::from_secs(1);
        // That of P1 is short each time.
        scene.logs(P1, second / 30, second / 30 + 1);
        // That of P0 ends after 1,300 s, and the next one begins.
        scene.logs(P0, i64::from(second > 1_300), 9);
        let due = transactions.due(&scene.status.snapshot(scene.now), scene.now);
        warned.extend(due.into_iter().map(|(partition, held)| (second, partition, held.last_stable)));
    }
    let [first, second] = [Position(0), Position(1)];
    assert_eq!(warned, [(60, P0, first), (660, P0, first), (1_260, P0, first), (1_361, P0, second)]);
}
