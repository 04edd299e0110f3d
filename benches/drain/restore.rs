//! How long a process with existing state takes until it serves, and how much memory it needs.
//!
//! Steward itself makes the state, from creations. Then, in each round, one process reads the state topic and does
//! nothing else, for comparison. Another one is steward, from its assignment until the last partition serves. In the
//! last round memory is measured twice: with all entities passivated, and after every entity had an event, so that all
//! are actors.

use std::time::{Duration, Instant};

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::Serialize;
use steward::testing::workload::Workload;

use crate::backlog::{Backlog, EventSink, update, workload};
use crate::broker::BenchBroker;
use crate::committed::CommittedOffsets;
use crate::contender::Contender;
use crate::machine::{peak_bytes, resident_bytes};
use crate::numbers::{Spread, mib, thousands};
use crate::options::{Options, Shape};
use crate::processes::drain;
use crate::support::names::{Names, unique};
use crate::support::process::{Setup, Steward};
use crate::support::wait::now;

const LIMIT: Duration = Duration::from_secs(300);

/// The figures for one number of entities.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Restore {
    entities: u64,
    raw_per_s: Spread,
    /// From the assignment until the last partition serves.
    seconds: Spread,
    per_s: Spread,
    /// Ratio to raw consume, by round.
    to_raw: Spread,
    snapshot_bytes_each: f64,
    /// Resident memory per passivated entity, beyond a process without entities.
    passivated_bytes_each: f64,
    /// Further resident memory per entity when all are actors.
    actor_bytes_each: f64,
    peak_bytes: u64,
}

/// Measures, and prints the table.
pub fn measure(options: &Options, broker: &BenchBroker) -> Vec<Restore> {
    let empty_bytes = bytes_without_entities(options, broker);
    let sizes = options.restore_sizes();
    let all: Vec<Restore> = sizes.into_iter().map(|entities| restore(options, broker, entities, empty_bytes)).collect();
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "entities",
        "all serve after",
        "entities/s",
        "raw consume/s",
        "to raw",
        "snapshot",
        "passivated",
        "as an actor, more",
        "peak memory",
    ]);
    for one in &all {
        let bytes = |bytes: f64| format!("{bytes:.0} B");
        table.add_row([
            thousands(one.entities as f64),
            one.seconds.with_spread(|seconds| format!("{seconds:.2} s")),
            thousands(one.per_s.median),
            thousands(one.raw_per_s.median),
            format!("{:.2}", one.to_raw.median),
            bytes(one.snapshot_bytes_each),
            bytes(one.passivated_bytes_each),
            bytes(one.actor_bytes_each),
            mib(one.peak_bytes as f64),
        ]);
    }
    println!("restore\n{table}");
    all
}

/// Returns the resident memory of a process that serves empty partitions.
fn bytes_without_entities(options: &Options, broker: &BenchBroker) -> f64 {
    let names = Names::new();
    broker.kafka.create_topic(&names.input, options.partitions, &[]);
    let mut steward = Setup::new(&broker.kafka, &names).start();
    wait_until_all_serve(&mut steward, options.partitions);
    let bytes = resident_bytes(steward.pid()).expect("the process runs") as f64;
    steward.stop();
    for topic in [&names.input, &names.state, &names.dlq] {
        broker.kafka.delete_topic(topic);
    }
    bytes
}

fn wait_until_all_serve(steward: &mut Steward, partitions: i32) -> Instant {
    for _ in 0..partitions {
        steward.wait_for_event("recovery_finished", LIMIT);
    }
    now()
}

/// Starts steward with existing state. Returns it with the seconds from the assignment until all partitions serve.
fn serve(options: &Options, broker: &BenchBroker, names: &Names, entities: u64) -> (Steward, f64) {
    let mut steward = Setup::new(&broker.kafka, names)
        .set("limits.max_active_entities", i64::try_from(2 * entities).expect("a few million"))
        .set("limits.entity_idle_ms", 600_000)
        .start();
    steward.wait_for_event("partitions_assigned", LIMIT);
    let assigned = now();
    let served = wait_until_all_serve(&mut steward, options.partitions);
    (steward, served.saturating_duration_since(assigned).as_secs_f64())
}

fn restore(options: &Options, broker: &BenchBroker, entities: u64, empty_bytes: f64) -> Restore {
    let kafka = &broker.kafka;
    let keys = u32::try_from(entities).expect("a few million");
    let options = &options.with(entities, keys);
    let creations = Workload {
        creates: 1.0,
        updates: 0.0,
        deletes: 0.0,
        invalid_share: 0.0,
        odd_share: 0.0,
        ..workload(options, Shape::Uniform)
    };
    let names = Names { input: unique("bench-services"), ..Names::new() };
    kafka.create_topic(&names.input, options.partitions, &[]);
    eprintln!("restore: {entities} entities");
    let mut sink = EventSink::to(kafka, &names.input);
    for event in creations.generate().expect("the workload is valid") {
        sink.send(&event);
    }
    sink.finish();
    let backlog = Backlog::of(kafka, names.input.clone(), options.partitions);
    drain(Contender::Steward, broker, &backlog, &names);

    let state = Backlog::of(kafka, names.state.clone(), options.partitions);
    // The other offsets of the topic are transaction markers.
    let records = i64::try_from(entities).expect("a few million");
    let readers = Names { input: names.state.clone(), ..Names::new() };
    let state = Backlog { events: records, ..state };
    let mut rounds = Vec::new();
    let mut steward = loop {
        let raw = drain(Contender::Raw, broker, &state, &readers);
        let (mut steward, seconds) = serve(options, broker, &names, entities);
        eprintln!("restore: {seconds:.2} s; raw consume {:.2} s", raw.seconds);
        rounds.push((raw.events_per_s, seconds));
        if rounds.len() >= options.rounds {
            break steward;
        }
        steward.stop();
    };
    let passivated = resident_bytes(steward.pid()).expect("the process runs") as f64;
    let finished = steward.events("recovery_finished");
    let state_bytes: u64 = finished.iter().filter_map(|event| event["state_bytes"].as_u64()).sum();
    let restored: u64 = finished.iter().filter_map(|event| event["entities"].as_u64()).sum();
    assert_eq!(restored, entities, "every entity is restored");

    let mut sink = EventSink::to(kafka, &names.input);
    for id in 0..entities {
        sink.send(&update(creations.first_id + id, id));
    }
    sink.finish();
    let backlog = Backlog::of(kafka, names.input.clone(), options.partitions);
    CommittedOffsets::of(kafka, &names.group, &backlog).wait_until_complete();
    let active = resident_bytes(steward.pid()).expect("the process runs") as f64;
    let peak_bytes = peak_bytes(steward.pid()).expect("the process runs");
    steward.stop();
    for topic in [&names.input, &names.state, &names.dlq] {
        kafka.delete_topic(topic);
    }
    let each = |bytes: f64| bytes / entities as f64;
    Restore {
        entities,
        raw_per_s: Spread::of(rounds.iter().map(|(raw, _)| *raw)),
        seconds: Spread::of(rounds.iter().map(|(_, seconds)| *seconds)),
        per_s: Spread::of(rounds.iter().map(|(_, seconds)| entities as f64 / seconds)),
        to_raw: Spread::of(rounds.iter().map(|(raw, seconds)| entities as f64 / seconds / raw)),
        snapshot_bytes_each: each(state_bytes as f64),
        passivated_bytes_each: each(passivated - empty_bytes),
        actor_bytes_each: each(active - passivated),
        peak_bytes,
    }
}
