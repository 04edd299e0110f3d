//! The group's offsets, moved by an operator: back, forward, beyond the end.

use super::{LIMIT, numbers};
use crate::support::world::{World, created, created_with_description, deleted, malformed, priced};

/// The client library asks for an unknown topic once a second, and recovery reads three topics.
#[apply(lone_broker_test)]
fn a_recovery_with_little_to_read_is_quick() {
    let mut world = World::new(1);
    world.produce(&[created(1), malformed(1), priced(1, 5)]);
    world.process_input();

    let steward = world.process_input();

    let [took_ms, verified] = numbers(&steward.events("recovery_finished")[0], ["took_ms", "verified"]);
    assert_eq!(verified, 3, "it read all three topics");
    assert!(took_ms < 1_500, "recovery of three events took {took_ms} ms");
}

#[apply(broker_test)]
fn offsets_set_back_to_the_earliest_change_nothing() {
    let mut world = World::new(2);
    world.produce(&[created(1).to(0), malformed(1).to(0), priced(1, 5).to(0)]);
    world.produce(&[created(2).to(1), deleted(2).to(1), malformed(2).to(1)]);
    world.process_input();
    let before = world.outputs();

    world.set_offsets(0);
    let steward = world.process_input();

    assert_eq!(world.outputs(), before, "not a record more");
    world.assert_exact();
    let mut skipped: Vec<_> =
        steward.events("events_skipped").iter().map(|line| numbers(line, ["partition", "count"])).collect();
    skipped.sort_unstable();
    assert_eq!(skipped, [[0, 3], [1, 3]]);
}

#[apply(broker_test)]
fn events_that_offsets_set_forward_would_miss_are_repaired() {
    let mut world = World::new(1);
    world.produce(&[created(1), created(2), created(3)]);
    world.process_input();
    let missed = [priced(1, 5), priced(1, 6), malformed(1), deleted(2), created(3), created(4)];
    world.produce(&missed);

    world.set_offsets(9);
    let mut steward = world.setup().start();
    let repaired = steward.wait_for_event("lost_write_repaired", LIMIT);
    world.settle(&mut steward);
    steward.stop();

    world.assert_exact();
    assert_eq!(repaired["level"], "ERROR");
    assert_eq!(numbers(&repaired, ["partition", "entities", "events", "rejections"]), [0, 3, 4, 2]);
    steward.assert_no_errors_but(&["lost_write_repaired"]);
}

#[apply(broker_test)]
fn offsets_set_forward_on_a_group_without_state_lose_nothing() {
    let mut world = World::new(1);
    world.produce(&[created(1), malformed(1), priced(1, 5)]);

    world.set_offsets(2);
    let steward = world.process_input_with(&world.setup());

    world.assert_exact();
    let repaired = steward.events("lost_write_repaired");
    let [repaired] = repaired.as_slice() else { panic!("one range, one repair: {repaired:?}") };
    assert_eq!(numbers(repaired, ["entities", "events", "rejections", "from", "until"]), [1, 1, 1, 0, 2]);
}

#[apply(broker_test)]
fn without_verification_offsets_set_forward_pass_events_over() {
    let mut world = World::new(1);
    world.produce(&[created(1), created(2)]);
    world.process_input();
    world.produce_unseen(&[priced(1, 5), malformed(1), created(3), deleted(2)]);
    world.produce(&[priced(1, 7), priced(2, 7), created(3)]);

    world.set_offsets(6);
    let steward = world.process_input_with(&world.setup().set("recovery.verify_max_records", 0));

    world.assert_exact();
    let passed_over = steward.events("events_passed_over");
    let [passed_over] = passed_over.as_slice() else { panic!("logged once: {passed_over:?}") };
    assert_eq!(passed_over["level"], "WARN");
    assert_eq!(numbers(passed_over, ["partition", "from", "until"]), [0, 2, 6]);
    steward.assert_no_errors_but(&[]);
}

#[apply(broker_test)]
fn without_verification_offsets_set_back_apply_nothing_twice() {
    let mut world = World::new(1);
    world.produce(&[created(1), malformed(1), priced(1, 5), created(2), deleted(2), malformed(1)]);
    world.process_input();
    let before = world.outputs();

    world.set_offsets(0);
    let steward = world.process_input_with(&world.setup().set("recovery.verify_max_records", 0));

    assert_eq!(world.outputs(), before, "not a record more");
    world.assert_exact();
    steward.assert_no_errors_but(&[]);
}

#[apply(broker_test)]
fn a_rejected_event_is_not_applied_under_a_higher_limit() {
    let mut world = World::with_payload_limit(1, 200);
    world.produce(&[created_with_description(1, &"x".repeat(200)), created(2)]);
    world.process_input_with(&world.setup().set("limits.max_payload_bytes", 200));
    world.assert_exact();
    let before = world.outputs();
    assert_eq!(before[1].len(), 1, "one event is too large");

    // Within the look-back.
    let steward = world.process_input();
    assert_eq!(numbers(&steward.events("recovery_finished")[0], ["verified", "skipped"]), [2, 2]);
    assert_eq!(world.outputs(), before, "after another start");

    // From the beginning.
    world.set_offsets(0);
    world.process_input();
    assert_eq!(world.outputs(), before, "after offsets that were set back");

    // Also without verification, when the events are read again.
    world.set_offsets(0);
    world.process_input_with(&world.setup().set("recovery.verify_max_records", 0));
    assert_eq!(world.outputs(), before, "after offsets that were set back, without verification");
    world.assert_exact();
}

#[apply(broker_test)]
fn an_offset_beyond_the_end_counts_as_the_end() {
    let mut world = World::new(1);
    world.produce(&[created(1), priced(1, 5)]);
    world.process_input();

    world.set_offsets(100);
    let mut steward = world.setup().start();
    let beyond = steward.wait_for_event("committed_offset_beyond_end", LIMIT);
    world.produce(&[priced(1, 6), malformed(1), created(2)]);
    world.settle(&mut steward);
    steward.stop();

    world.assert_exact();
    assert_eq!(beyond["level"], "WARN");
    assert_eq!(numbers(&beyond, ["partition", "committed", "end"]), [0, 100, 2]);
    steward.assert_no_errors_but(&[]);
}

#[apply(broker_test)]
fn a_range_that_is_too_long_is_not_verified() {
    let mut world = World::new(1);
    world.produce(&[created(1), malformed(1), priced(1, 2), created(2), deleted(2), priced(1, 3)]);
    world.process_input();
    let before = world.outputs();

    world.set_offsets(0);
    let strict = world.setup().set("recovery.verify_max_records", 5).set("recovery.look_back_records", 5);
    let steward = world.process_input_with(&strict);

    let skipped = steward.events("verification_skipped");
    let [skipped] = skipped.as_slice() else { panic!("logged once: {skipped:?}") };
    assert_eq!((&skipped["level"], &skipped["cause"]), (&"WARN".into(), &"too_long".into()));
    assert_eq!(numbers(skipped, ["partition", "from", "until", "records"]), [0, 0, 6, 6]);
    assert_eq!(numbers(&steward.events("recovery_finished")[0], ["start", "verified"]), [6, 0]);
    assert_eq!(world.outputs(), before, "not a record more");
    world.assert_exact();
}
