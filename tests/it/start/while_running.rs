//! Topics that change while a process runs: it ends within seconds, and names the topic.

use std::time::Duration;

use steward::exit_code::ExitCode;

use super::{refusal, topics_refused};
use crate::support::process::Steward;
use crate::support::wait::PATIENCE;
use crate::support::world::{World, created, deleted, malformed, priced};

#[apply(broker_test)]
fn an_input_that_is_deleted_ends_the_process_and_is_named() {
    let mut world = World::new(2);
    world.produce(&[created(1).to(0), created(2).to(1)]);
    let steward = settled(&world);

    world.kafka.delete_topic(&world.names.input);

    let error = topic_changed(steward);
    assert!(error.contains(&format!("input topic {} does not exist any more", world.names.input)), "{error}");
}

#[apply(broker_test)]
fn an_input_that_is_created_again_and_refilled_ends_the_process_and_is_named() {
    refuses_the_new_input(|_, replace| replace());
}

/// The process sees only the new topic.
#[apply(broker_test)]
fn an_input_that_is_created_again_while_the_process_is_suspended_ends_it_and_is_named() {
    refuses_the_new_input(|steward, replace| {
        steward.sigstop();
        replace();
        steward.sigcont();
    });
}

/// Starts a process whose input is replaced by `during`, and asserts that neither it nor the next one goes on.
fn refuses_the_new_input(during: impl FnOnce(&Steward, &dyn Fn())) {
    let mut world = World::new(1);
    world.produce(&[created(1), malformed(1)]);
    let steward = settled(&world);

    during(&steward, &|| {
        world.kafka.delete_topic(&world.names.input);
        world.kafka.create_input(&world.names, 1);
        // Beyond the position of the old topic.
        world.kafka.produce(&world.names.input, &[created(3), created(4), priced(5, 1), deleted(6), created(7)]);
    });

    // The group may notice it first, and assign the partition again; then its recovery refuses the topic.
    let error = refusal(steward, ExitCode::TopicsRefused);
    let input = &world.names.input;
    assert!(error.contains(&**input) && error.contains("created again"), "{error}");
    let rejected: Vec<_> = world.kafka.read_committed(&world.names.dlq).iter().map(|record| record.offset).collect();
    assert_eq!(rejected, [0], "no event of the new topic was rejected for the state of the old one");
    // The committed offsets name the topic that they belong to.
    let error = topics_refused(&world.setup());
    assert!(error.contains(&**input), "{error}");
}

#[apply(broker_test)]
fn a_state_topic_that_is_deleted_ends_the_process_and_is_named() {
    let mut world = World::new(1);
    world.produce(&[created(1)]);
    let steward = settled(&world);

    world.kafka.delete_topic(&world.names.state);
    world.produce_unseen(&[priced(1, 5), priced(1, 6)]);

    let error = topic_changed(steward);
    assert!(error.contains(&format!("state topic {} does not exist any more", world.names.state)), "{error}");
}

#[apply(broker_test)]
fn partitions_that_are_added_while_running_make_no_valid_update_a_rejection() {
    let mut world = World::new(2);
    world.produce(&[created(1).to(0), created(2).to(1)]);
    let steward = settled(&world);

    world.kafka.add_partitions(&world.names.input, 3);
    // Producers hash over three partitions from now on: these keys have moved to the other partition.
    world.kafka.produce(&world.names.input, &[priced(1, 5).to(1), priced(2, 5).to(0)]);

    let error = topic_changed(steward);
    assert!(error.contains("had 2 partitions at the start, and has 3"), "{error}");
    assert_eq!(world.kafka.read_committed(&world.names.dlq), [], "no update was rejected");
}

/// A process that has committed the whole input.
fn settled(world: &World) -> Steward {
    let mut steward = world.setup().start();
    world.settle(&mut steward);
    steward
}

/// Waits for the process to end because of a changed topic, and returns its error.
fn topic_changed(mut steward: Steward) -> String {
    let changed = steward.wait_for_event("topic_changed", Duration::from_secs(15).max(PATIENCE));
    let error = refusal(steward, ExitCode::TopicsRefused);
    assert_eq!(changed["problem"], error.as_str());
    error
}
