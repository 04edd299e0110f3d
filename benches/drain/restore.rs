//! What a process that starts over existing state takes: time until it serves, and memory.
//!
//! The state is made by steward itself from creations. Then, in each round, one process reads the state topic and does
//! nothing with it, for comparison; another one is steward, from its assignment until the last partition serves. The last
//! one is left passivated, and after that every entity gets an event, so that all of them are actors.

use std::time::{Duration, Instant};

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::Serialize;
use steward::testing::workload::Workload;

use crate::backlog::{Backlog, EventSink, workload};
use crate::broker::Ground;
use crate::contender::{Asker, Contender, drain};
use crate::machine::{peak_bytes, resident_bytes};
use crate::numbers::{Middle, mib, thousands};
use crate::options::{Options, Shape};
use crate::support::names::{Names, unique};
use crate::support::process::{Setup, Steward};
use crate::support::wait::now;

const LIMIT: Duration = Duration::from_secs(300);

/// What was measured with so many entities.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Restore {
    entities: u64,
    raw_per_s: Middle,
    /// From the assignment until the last partition serves.
    seconds: Middle,
    per_s: Middle,
    /// Of each round.
    to_raw: Middle,
    snapshot_bytes_each: f64,
    /// Resident memory over that of a process without entities.
    passivated_bytes_each: f64,
    /// Further resident memory once all are actors.
    actor_bytes_each: f64,
    peak_bytes: u64,
}

/// Measures and tells.
pub fn measure(options: &Options, ground: &Ground) -> Vec<Restore> {
    let empty_bytes = empty(options, ground);
    let sizes = options.restore_sizes();
    let all: Vec<Restore> = sizes.into_iter().map(|entities| restore(options, ground, entities, empty_bytes)).collect();
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

/// What a process takes that serves empty partitions.
fn empty(options: &Options, ground: &Ground) -> f64 {
    let names = Names::new();
    ground.kafka.create_topic(&names.input, options.partitions, &[]);
    let mut steward = Setup::new(&ground.kafka, &names).start();
    wait_until_all_serve(&mut steward, options.partitions);
    let bytes = resident_bytes(steward.pid()).expect("it runs") as f64;
    steward.stop();
    for topic in [&names.input, &names.state, &names.dlq] {
        ground.kafka.delete_topic(topic);
    }
    bytes
}

fn wait_until_all_serve(steward: &mut Steward, partitions: i32) -> Instant {
    for _ in 0..partitions {
        steward.wait_for_event("recovery_finished", LIMIT);
    }
    now()
}

/// Starts steward over its state, and tells how long it took from the assignment until all partitions served.
fn serve(options: &Options, ground: &Ground, names: &Names, entities: u64) -> (Steward, f64) {
    let mut steward = Setup::new(&ground.kafka, names)
        .set("limits.max_active_entities", i64::try_from(2 * entities).expect("a few million"))
        .set("limits.entity_idle_ms", 600_000)
        .start();
    steward.wait_for_event("partitions_assigned", LIMIT);
    let assigned = now();
    let served = wait_until_all_serve(&mut steward, options.partitions);
    (steward, served.saturating_duration_since(assigned).as_secs_f64())
}

fn restore(options: &Options, ground: &Ground, entities: u64, empty_bytes: f64) -> Restore {
    let kafka = &ground.kafka;
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
    for event in creations.generate().expect("the workload makes sense") {
        sink.send(&event);
    }
    sink.finish();
    let backlog = Backlog::of(kafka, names.input.clone(), options.partitions);
    drain(Contender::Steward, ground, &backlog, &names);

    let state = Backlog::of(kafka, names.state.clone(), options.partitions);
    // What lies between them are the ends of transactions.
    let records = i64::try_from(entities).expect("a few million");
    let readers = Names { input: names.state.clone(), ..Names::new() };
    let state = Backlog { events: records, ..state };
    let mut rounds = Vec::new();
    let mut steward = loop {
        let raw = drain(Contender::Raw, ground, &state, &readers);
        let (mut steward, seconds) = serve(options, ground, &names, entities);
        eprintln!("restore: {seconds:.2} s; raw consume {:.2} s", raw.seconds);
        rounds.push((raw.events_per_s, seconds));
        if rounds.len() >= options.rounds {
            break steward;
        }
        steward.stop();
    };
    let passivated = resident_bytes(steward.pid()).expect("it runs") as f64;
    let finished = steward.events("recovery_finished");
    let state_bytes: u64 = finished.iter().filter_map(|event| event["state_bytes"].as_u64()).sum();
    let restored: u64 = finished.iter().filter_map(|event| event["entities"].as_u64()).sum();
    assert_eq!(restored, entities, "every entity is there again");

    let mut sink = EventSink::to(kafka, &names.input);
    for id in 0..entities {
        sink.send(&crate::latency::update(creations.first_id + id, id));
    }
    sink.finish();
    let backlog = Backlog::of(kafka, names.input.clone(), options.partitions);
    Asker::of(kafka, &names.group, &backlog).wait_until_committed();
    let active = resident_bytes(steward.pid()).expect("it runs") as f64;
    let peak_bytes = peak_bytes(steward.pid()).expect("it runs");
    steward.stop();
    for topic in [&names.input, &names.state, &names.dlq] {
        kafka.delete_topic(topic);
    }
    let each = |bytes: f64| bytes / entities as f64;
    Restore {
        entities,
        raw_per_s: Middle::of(rounds.iter().map(|(raw, _)| *raw)),
        seconds: Middle::of(rounds.iter().map(|(_, seconds)| *seconds)),
        per_s: Middle::of(rounds.iter().map(|(_, seconds)| entities as f64 / seconds)),
        to_raw: Middle::of(rounds.iter().map(|(raw, seconds)| entities as f64 / seconds / raw)),
        snapshot_bytes_each: each(state_bytes as f64),
        passivated_bytes_each: each(passivated - empty_bytes),
        actor_bytes_each: each(active - passivated),
        peak_bytes,
    }
}
