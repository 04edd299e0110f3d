//! Faults around the service while it works: brokers that stop, records that are too large, transactions that hang. The
//! tests check from outside what a `read_committed` reader sees, and the log.

pub mod hanging;
mod isolated_broker;
mod passivation;
mod phases;
mod recoveries;
mod replicas;
mod sizes;
mod slow_writes;
mod stalls;
mod strangers;

use std::time::Duration;

use serde_json::Value;

use crate::support::broker::Broker;
use crate::support::kafka::{Kafka, Outgoing};
use crate::support::ledger::{Ledger, MAX_PAYLOAD_BYTES};
use crate::support::load::{Load, events};
use crate::support::names::Names;
use crate::support::process::{Setup, Steward, wait_for_log};
use crate::support::wait::{Deadline, PATIENCE, wait_until};

/// The minimum of what the library may read ahead.
const PREFETCH_BYTES: u64 = 1 << 20;
/// A budget that is full soon after the broker stops.
const SMALL_BUDGET_BYTES: u64 = PREFETCH_BYTES + (512 << 10);
/// Twice what one round of reading takes under that budget, because a single call may return more. In addition one of
/// the events that are too large on purpose: a call requests a number of records, whatever their sizes.
const ONE_BATCH_BYTES: u64 = 2 * (SMALL_BUDGET_BYTES / 8) + TOO_LARGE_BYTES;
const TOO_LARGE_BYTES: u64 = MAX_PAYLOAD_BYTES + 1_024;
/// More than a debug build with its clients needs, far less than the backlog.
const MAX_RSS_BYTES: u64 = 300 << 20;

#[apply(own_broker_test)]
fn a_broker_that_hangs_for_20_seconds_pauses_ingest_and_loses_nothing() {
    let mut broker = Broker::own();
    let (kafka, names) = (broker.kafka(), Names::new());
    let mut steward = busy(&kafka, &names);
    let load = Load::on(&kafka, &names.input, 2, 500);

    broker.pause();
    let is_full = |line: &Value| number(line, "in_flight_bytes") >= number(line, "in_flight_limit_bytes");
    let silence = Deadline::after(Duration::from_secs(20));
    let full = wait_for_log(&steward, "the budget is full", silence.left(), |lines| {
        lines.iter().filter(|line| line["event"] == "stats").rfind(|line| is_full(line)).cloned()
    });
    wait_until("20 s of silence are over", PATIENCE, || {
        assert!(steward.is_running(), "it ended while the broker was paused; {}", steward.tail());
        silence.passed()
    });
    broker.resume();

    let applied = number(&full, "applied_total");
    steward.wait_for_event_where("stats", PATIENCE, |line| number(line, "applied_total") > applied + 1_000);
    load.stop();
    let ledger = Ledger::of(&kafka, &names).assert_exact();
    assert!(ledger.events() > 20_000, "too few events for a meaningful test: {}", ledger.events());
    assert!(
        !steward.events("ingest_paused").is_empty(),
        "ingest was paused, and the log does not say so; {}",
        steward.tail()
    );
    steward.wait_for_event("ingest_resumed", PATIENCE);
    assert_bounded(&steward);
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

#[apply(own_broker_test)]
fn a_broker_that_crashes_and_restarts_loses_nothing() {
    let mut broker = Broker::own();
    let (kafka, names) = (broker.kafka(), Names::new());
    // The time that a broker takes to start on this machine is not what is tested.
    let mut steward = busy_with(&kafka, &names, small(&kafka, &names).set("health.stall_timeout_ms", 120_000));
    let load = Load::on(&kafka, &names.input, 2, 500);

    for round in 1..=2 {
        let before = last_stats(&steward);
        broker.restart();
        steward.wait_for_event_where("stats", PATIENCE, |line| {
            number(line, "applied_total") > number(&before, "applied_total") + 1_000
        });
        assert!(steward.is_running(), "round {round}; {}", steward.tail());
    }

    load.stop();
    Ledger::of(&kafka, &names).assert_exact();
    assert_bounded(&steward);
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

// ----------------------------------------------------------------------------------------------------------- helpers

/// A process with a small budget that has just begun with a backlog.
fn busy(kafka: &Kafka, names: &Names) -> Steward {
    busy_with(kafka, names, small(kafka, names))
}

pub fn busy_with(kafka: &Kafka, names: &Names, setup: Setup) -> Steward {
    busy_on(3, kafka, names, setup)
}

pub fn busy_on(partitions: i32, kafka: &Kafka, names: &Names, setup: Setup) -> Steward {
    kafka.create_input(names, partitions);
    kafka.produce(&names.input, &events(1, 40_000, 2_000).collect::<Vec<Outgoing>>());
    let mut steward = setup.start();
    steward.wait_for_event_where("stats", PATIENCE, |line| number(line, "applied_total") > 0);
    steward
}

pub fn small(kafka: &Kafka, names: &Names) -> Setup {
    Setup::new(kafka, names)
        .set("limits.max_in_flight_bytes", i64::try_from(SMALL_BUDGET_BYTES).expect("small"))
        .set("log.stats_interval_ms", 200)
}

/// The newest `stats` so far.
fn last_stats(steward: &Steward) -> Value {
    steward.events("stats").pop().expect("it was waited for")
}

/// Asserts that the bytes in flight exceeded the budget by at most one batch, and that the memory is bounded.
#[track_caller]
fn assert_bounded(steward: &Steward) {
    for line in steward.events("stats") {
        let limit = number(&line, "in_flight_limit_bytes") + ONE_BATCH_BYTES;
        assert!(number(&line, "in_flight_bytes") <= limit, "beyond the budget: {line}");
        assert!(number(&line, "memory_rss_bytes") <= MAX_RSS_BYTES, "too much memory: {line}");
        assert!(number(&line, "memory_rss_bytes") > 0, "no memory in {line}");
    }
}

/// A field of a log line.
#[track_caller]
pub fn number(line: &Value, field: &str) -> u64 {
    line[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {line}"))
}
