//! Whose state it is: a group that has lost its offsets, and one that finds the state of another.

use steward::exit_code::ExitCode;

use super::{LIMIT, numbers};
use crate::support::names::unique;
use crate::support::world::{World, created, deleted, malformed, priced};

#[apply(broker_test)]
fn a_group_without_offsets_continues_behind_its_state() {
    let mut world = World::new(1);
    world.produce(&[created(1), malformed(1), priced(1, 5), malformed(1)]);
    world.process_input();
    let before = world.outputs();

    world.kafka.delete_group(&world.names.group);
    assert_eq!(world.kafka.committed(&world.names.group, &world.names.input), [None]);
    let steward = world.process_input();

    assert_eq!(world.outputs(), before, "not a record more");
    let missing = steward.events("committed_offset_missing");
    let [missing] = missing.as_slice() else { panic!("logged once: {missing:?}") };
    assert_eq!(missing["level"], "WARN");
    assert_eq!(numbers(missing, ["partition", "assumed"]), [0, 3]);
    world.produce(&[priced(1, 6), deleted(1)]);
    world.process_input();
    world.assert_exact();
}

#[apply(broker_test)]
fn groups_that_share_a_dlq_topic_do_not_skip_each_other_s_events() {
    let mut world = World::new(1);
    world.produce(&[created(1), malformed(1), priced(1, 5), malformed(2)]);
    world.process_input();
    let rejected_by_the_first = world.outputs()[1].clone();
    (world.names.group, world.names.state) = (unique("second-group"), unique("second.state"));

    let steward = world.process_input();

    let others = steward.events("dlq_records_of_other_groups");
    assert_eq!(numbers(&others[0], ["partition", "count"]), [0, 2]);
    let [state, dlq_records] = world.outputs();
    assert_eq!(state.last().and_then(|newest| newest.last_header("steward-source-offset")).as_deref(), Some("2"));
    assert_eq!(dlq_records.len(), 2 * rejected_by_the_first.len(), "each group rejects for itself");
    // Each knows its own: nothing is rejected again.
    world.process_input();
    assert_eq!(world.outputs(), [state, dlq_records]);
}

#[apply(broker_test)]
fn another_group_s_state_is_refused_and_taken_over_only_on_demand() {
    let mut world = World::new(1);
    world.produce(&[created(1), created(2), malformed(1)]);
    world.process_input();
    let before = world.outputs();
    let old_group: String = std::mem::replace(&mut world.names.group, unique("another-group"));

    let mut refused = world.setup().start();
    assert_eq!(refused.wait_exit(LIMIT), i32::from(ExitCode::TopicsRefused.code()));
    let error = refused.errors().iter().map(ToString::to_string).collect::<String>();
    for named in ["recovery.adopt_group", &old_group, &world.names.group] {
        assert!(error.contains(named), "{named} is not named in {error}");
    }
    assert_eq!(world.outputs(), before, "nothing is written before it is allowed");

    let steward = world.process_input_with(&world.setup().set("recovery.adopt_group", true));
    steward.assert_no_errors_but(&[]);
    assert_eq!(world.outputs(), before, "taking over repeats nothing");
    let adopted = steward.events("group_adopted");
    let [adopted] = adopted.as_slice() else { panic!("logged once: {adopted:?}") };
    assert_eq!((&adopted["level"], &adopted["from_group"]), (&"WARN".into(), &old_group.as_str().into()));

    world.produce(&[priced(1, 5), priced(2, 5)]);
    world.process_input_with(&world.setup().set("recovery.adopt_group", true));
    world.taken_over = Some(old_group);
    world.assert_exact();
}
