//! An input whose head has expired: events that were never read, and events that verification needs.

use steward::exit_code::ExitCode;

use super::{LIMIT, numbers};
use crate::support::kafka::{Outgoing, Place};
use crate::support::process::Setup;
use crate::support::world::{World, created, created_with_description, malformed, priced};

#[apply(broker_test)]
fn events_that_expired_unread_are_counted_and_processing_goes_on() {
    let mut world = World::new(1);
    world.produce(&[created(1), created(2)]);
    world.process_input();
    world.produce_unseen(&[priced(1, 5), created(3), malformed(1)]);
    world.produce(&[priced(1, 6), priced(3, 6)]);

    world.kafka.delete_records(&world.names.input, 0, 5);
    let steward = world.process_input_with(&world.setup());

    world.assert_exact();
    let expired = steward.events("events_expired");
    let [expired] = expired.as_slice() else { panic!("logged once: {expired:?}") };
    assert_eq!(expired["level"], "ERROR");
    assert_eq!(numbers(expired, ["partition", "first", "last", "count"]), [0, 2, 4, 3]);
    steward.assert_no_errors_but(&["events_expired"]);
}

#[apply(broker_test)]
fn events_that_expired_unread_end_the_process_if_configured() {
    let mut world = World::new(1);
    world.produce(&[created(1), created(2)]);
    world.process_input();
    let before = world.outputs();
    world.produce_unseen(&[priced(1, 5), priced(1, 6)]);

    world.kafka.delete_records(&world.names.input, 0, 3);
    let mut steward = world.setup().set("recovery.on_expired", "stop").start();
    let code = steward.wait_exit(LIMIT);

    assert_eq!(code, i32::from(ExitCode::EventsExpired.code()));
    assert_eq!(world.outputs(), before, "it stopped before it went on");
    assert_eq!(world.kafka.committed(&world.names.group, &world.names.input), [Some(2)], "nothing is passed over");
    let error = steward.errors().iter().map(ToString::to_string).collect::<String>();
    assert!(error.contains("recovery.on_expired"), "{error}");
}

#[apply(broker_test)]
fn events_that_expire_while_the_process_is_behind_are_counted() {
    let mut world = World::new(1);
    let mut steward = slow_reader(&world).start();
    let (kept, cut) = fall_behind(&mut world, &mut steward);

    let expired = steward.wait_for_event("events_expired", LIMIT);
    world.settle(&mut steward);
    steward.stop();

    let [partition, first, last, count] = numbers(&expired, ["partition", "first", "last", "count"]);
    assert_eq!((partition, last, count), (0, cut - 1, cut - first));
    // What the brokers had sent before it stood still was read in spite of everything.
    let seen: Vec<Place> = kept.into_iter().filter(|place| place.offset < first || place.offset > last).collect();
    world.process(&seen);
    world.assert_exact();
    steward.assert_no_errors_but(&["events_expired"]);
}

#[apply(broker_test)]
fn events_that_expire_while_the_process_is_behind_end_it_if_configured() {
    let mut world = World::new(1);
    let mut steward = slow_reader(&world).set("recovery.on_expired", "stop").start();
    let (_, cut) = fall_behind(&mut world, &mut steward);

    assert_eq!(steward.wait_exit(LIMIT), i32::from(ExitCode::EventsExpired.code()));

    let committed = world.kafka.committed(&world.names.group, &world.names.input)[0];
    assert!(committed.is_some_and(|committed| committed < cut), "{committed:?} passes over what expired up to {cut}");
}

#[apply(broker_test)]
fn of_a_range_whose_head_is_gone_the_rest_is_verified() {
    let mut world = World::new(1);
    world.produce(&[created(1), created(2), malformed(1), priced(1, 5), priced(2, 5)]);
    world.process_input();
    let before = world.outputs();

    world.set_offsets(0);
    world.kafka.delete_records(&world.names.input, 0, 3);
    let steward = world.process_input();

    assert_eq!(numbers(&steward.events("recovery_finished")[0], ["start", "verified", "skipped"]), [5, 2, 2]);
    assert_eq!(world.outputs(), before, "not a record more");
    world.produce(&[priced(1, 6)]);
    world.process_input();
    world.assert_exact();
}

/// A stranger in the group commits past events, and a part of them expires before steward comes back.
#[apply(broker_test)]
fn of_events_that_another_program_passed_over_those_that_are_left_are_applied() {
    let mut world = World::new(1);
    world.produce(&[created(1), created(2)]);
    world.process_input();
    world.produce_unseen(&[priced(1, 5), created(3)]);
    world.produce(&[priced(1, 6), created(4), priced(2, 7)]);
    world.set_offsets(7);
    world.kafka.delete_records(&world.names.input, 0, 4);

    let steward = world.process_input_with(&world.setup());

    world.assert_exact();
    let expired = steward.events("events_expired");
    let [expired] = expired.as_slice() else { panic!("logged once: {expired:?}") };
    assert_eq!(numbers(expired, ["partition", "first", "last", "count"]), [0, 2, 3, 2]);
    let repaired = steward.events("lost_write_repaired");
    assert_eq!(numbers(&repaired[0], ["entities", "events", "from", "until"]), [3, 3, 4, 7]);
    steward.assert_no_errors_but(&["events_expired", "lost_write_repaired"]);
    world.process_input();
}

#[apply(broker_test)]
fn a_state_topic_that_was_deleted_after_events_expired_refuses_the_start() {
    let mut world = World::new(1);
    world.produce(&[created(1), created(2), created(3)]);
    world.process_input();
    world.kafka.delete_records(&world.names.input, 0, 1);
    world.kafka.delete_topic(&world.names.state);

    // At the second start the topic is there: the first one has created it.
    for _ in 0..2 {
        let mut refused = world.setup().start();
        assert_eq!(refused.wait_exit(LIMIT), i32::from(ExitCode::TopicsRefused.code()));
        let error = refused.errors().iter().map(ToString::to_string).collect::<String>();
        assert!(error.contains(&world.names.state) && error.contains("the id of the topic was"), "{error}");
    }
    assert_eq!(world.kafka.committed(&world.names.group, &world.names.input), [Some(3)], "nothing moved");
}

#[apply(broker_test)]
fn a_first_start_on_a_log_that_was_cut_begins_at_its_start() {
    let mut world = World::new(1);
    world.produce_unseen(&[created(1), created(2)]);
    world.produce(&[created(1), priced(2, 5)]);
    world.kafka.delete_records(&world.names.input, 0, 2);

    world.process_input();

    world.assert_exact();
}

/// Its client fetches one batch at a time, and so holds next to nothing that it has not handed on.
fn slow_reader(world: &World) -> Setup {
    let one_batch = toml::toml! { "fetch.message.max.bytes" = "1024" };
    world.setup().set("kafka.properties", one_batch)
}

/// Freezes a process that serves, produces more than its client has asked for, cuts the log, and lets it go on. Returns
/// where the events are that were produced meanwhile, and where the log starts.
fn fall_behind(world: &mut World, steward: &mut crate::support::process::Steward) -> (Vec<Place>, i64) {
    world.produce(&[created(1), created(2)]);
    world.settle(steward);
    steward.sigstop();
    let mut places = Vec::new();
    // One batch each.
    for id in 10..20 {
        places.extend(world.produce_unseen(&[large(id)]));
    }
    places.extend(world.produce_unseen(&[priced(1, 5), priced(10, 5), priced(19, 5)]));
    let cut = places[10].offset;
    world.kafka.delete_records(&world.names.input, 0, cut);
    steward.sigcont();
    (places, cut)
}

/// An event larger than one fetch.
fn large(id: u64) -> Outgoing {
    created_with_description(id, &"x".repeat(2_000))
}
