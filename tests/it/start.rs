//! The start of a process, with the real binary on a real Kafka: the topics it refuses and their remedies, the topics it
//! creates, its first position, and two processes with the same instance name.

mod refusals;
mod threads;
mod topics;
mod while_running;

use std::time::Duration;

use steward::exit_code::ExitCode;

use crate::support::process::{Setup, Steward};
use crate::support::wait::PATIENCE;
use crate::support::world::{World, created, created_with_description, malformed, priced};

/// The limit for one step of a process on a busy machine.
const LIMIT: Duration = PATIENCE;

#[apply(broker_test)]
fn the_first_start_of_a_group_reads_from_the_earliest_record() {
    let mut world = World::new(2);
    world.produce(&[created(1).to(0), created(2).to(1), priced(1, 5).to(0), malformed(2).to(1)]);

    let steward = world.process_input();

    world.assert_exact();
    let mut starts: Vec<_> = steward
        .events("recovery_finished")
        .iter()
        .map(|line| (line["partition"].as_i64(), line["start"].as_i64(), line["committed"].is_null()))
        .collect();
    starts.sort_unstable();
    assert_eq!(starts, [(Some(0), Some(0), true), (Some(1), Some(0), true)]);
}

#[apply(broker_test)]
fn every_compression_that_kafka_supports_is_read() {
    let mut world = World::new(1);
    for (id, compression) in (1..).zip(["none", "gzip", "snappy", "lz4", "zstd"]) {
        let events = [created_with_description(id, &"compressible ".repeat(15)), priced(id, 5), priced(id, 6)];
        // All three events are in one batch.
        let settings = [("compression.type", compression), ("linger.ms", "200")];
        let places = world.kafka.produce_with(&settings, &world.names.input, &events);
        world.process(&places);
    }

    world.process_input();

    world.assert_exact();
    assert_eq!(world.model.state().len(), 5, "one service for each compression");
}

#[apply(broker_test)]
fn of_two_processes_with_the_same_name_the_older_ends_and_harms_nothing() {
    let mut world = World::new(2);
    let setup = world.setup().instance("the-same");
    world.produce(&[created(1).to(0), created(2).to(1)]);
    let mut older = setup.start();
    world.settle(&mut older);

    let mut newer = setup.start();
    newer.wait_for_event("process_starting", LIMIT);
    // As long as both processes run, there are events to commit.
    let mut price = 0;
    while older.is_running() {
        price += 1;
        world.produce(&[priced(1, price).to(0), priced(2, price).to(1), malformed(1).to(0)]);
        assert!(price < 2_000, "the older process does not end; {}", older.tail());
    }
    let code = older.wait_exit(LIMIT);
    world.settle(&mut newer);
    newer.stop();

    world.assert_exact();
    assert_eq!(code, i32::from(ExitCode::DuplicateInstance.code()), "{}", older.tail());
    let fenced = older.wait_for_event("producer_fenced", LIMIT);
    assert!(fenced["transactional_id"].as_str().is_some_and(|id| id.ends_with("the-same")), "{fenced}");
    for probe in ["live", "ready"] {
        assert_eq!(older.health(probe, &[]).code, i32::from(ExitCode::CheckFailed.code()), "{probe}");
    }
    let failed = older.wait_for_event("process_failed", LIMIT);
    assert!(
        failed["error"].as_str().is_some_and(|error| error.contains("another process uses this instance name")),
        "{failed}"
    );
    newer.assert_no_errors_but(&[]);
}

#[apply(broker_test)]
fn a_state_that_does_not_fit_ends_the_process_and_names_the_number_of_pods_needed() {
    let mut world = World::new(1);
    let events: Vec<_> = (0..500).map(|id| created_with_description(id, &"x".repeat(255))).collect();
    world.produce(&events);
    world.process_input();
    let before = world.outputs();

    let too_small = world.setup().set("limits.max_state_bytes", 100_000);
    let error = refusal(too_small.start(), ExitCode::StateTooLarge);

    // The state has about 280,000 bytes. The process read less than half of it.
    for part in ["partition 0 has 1", "limits.max_state_bytes is 100000", "at least 3 times as many pods"] {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    assert_eq!(world.outputs(), before);
    world.process_input_with(&world.setup().set("limits.max_state_bytes", 1_000_000));
    world.assert_exact();
}

// --------------------------------------------------------------------------------------------------------- helpers

/// Waits for the process to end with this exit code, and returns its error.
fn refusal(mut steward: Steward, expected: ExitCode) -> String {
    let code = steward.wait_exit(LIMIT);
    assert_eq!(code, i32::from(expected.code()), "{}", steward.tail());
    let failed = steward.wait_for_event("process_failed", LIMIT);
    assert_eq!(failed["exit_name"], expected.name());
    failed["error"].as_str().expect("a text").to_owned()
}

/// Returns the error of a start that refuses its topics.
fn topics_refused(setup: &Setup) -> String {
    let mut steward = setup.start();
    let refused = steward.wait_for_event("preflight_refused", LIMIT);
    let error = refusal(steward, ExitCode::TopicsRefused);
    assert_eq!(refused["problem"], error.as_str());
    error
}
