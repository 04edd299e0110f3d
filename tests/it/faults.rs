//! Brokers that stop, records that do not fit, transactions that hang: what happens around the service while it works.
//! Judged from outside, by what a `read_committed` reader sees and what the log says.

pub mod hanging;
mod phases;
mod recoveries;
mod rest;
mod sizes;
mod stalls;

use std::time::Duration;

use serde_json::Value;

use crate::support::broker::Broker;
use crate::support::kafka::{Kafka, Outgoing};
use crate::support::ledger::{Ledger, MAX_PAYLOAD_BYTES};
use crate::support::load::{Load, events};
use crate::support::names::Names;
use crate::support::process::{Setup, Steward, wait_for_log};
use crate::support::wait::{Deadline, PATIENCE, wait_until};

/// What the library may have read ahead at the least.
const PREFETCH_BYTES: u64 = 1 << 20;
/// A budget that a broker's outage fills at once.
const SMALL_BUDGET_BYTES: u64 = PREFETCH_BYTES + (512 << 10);
/// What one round of reading takes under that budget, twice: give or take what a single call returns. And one of the
/// events that are too large on purpose: a call asks for a number of records, and learns their sizes afterwards.
const ONE_BATCH_BYTES: u64 = 2 * (SMALL_BUDGET_BYTES / 8) + TOO_LARGE_BYTES;
const TOO_LARGE_BYTES: u64 = MAX_PAYLOAD_BYTES + 1_024;
/// Above what a debug build with its clients takes, far below what the backlog would.
const MAX_RSS_BYTES: u64 = 300 << 20;

#[apply(own_broker_test)]
fn a_broker_that_stands_still_for_20_seconds_slows_the_intake_and_costs_nothing() {
    let mut broker = Broker::own();
    let (kafka, names) = (broker.kafka(), Names::new());
    let mut steward = busy(&kafka, &names);
    let load = Load::on(&kafka, &names.input, 2, 500);

    broker.pause();
    let is_full = |line: &Value| number(line, "in_flight_bytes") >= number(line, "in_flight_limit_bytes");
    let silence = Deadline::after(Duration::from_secs(20));
    let full = wait_for_log(&steward, "the intake is full", silence.left(), |lines| {
        lines.iter().filter(|line| line["event"] == "stats").rfind(|line| is_full(line)).cloned()
    });
    wait_until("20 s of silence are over", PATIENCE, || {
        assert!(steward.is_running(), "it ended while the broker stood still; {}", steward.tail());
        silence.passed()
    });
    broker.resume();

    let applied = number(&full, "applied_total");
    steward.wait_for_event_where("stats", PATIENCE, |line| number(line, "applied_total") > applied + 1_000);
    load.stop();
    let ledger = Ledger::of(&kafka, &names).assert_exact();
    assert!(ledger.events() > 20_000, "too little went in to mean anything: {}", ledger.events());
    assert!(!steward.events("ingest_paused").is_empty(), "the intake was full and nobody said so; {}", steward.tail());
    steward.wait_for_event("ingest_resumed", PATIENCE);
    assert_bounded(&steward);
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

#[apply(own_broker_test)]
fn a_broker_that_crashes_and_comes_back_costs_nothing() {
    let mut broker = Broker::own();
    let (kafka, names) = (broker.kafka(), Names::new());
    // How long a broker takes to start on this machine is not what is shown.
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

/// A process with a small budget that works on a backlog that it has only begun.
fn busy(kafka: &Kafka, names: &Names) -> Steward {
    busy_with(kafka, names, small(kafka, names))
}

pub fn busy_with(kafka: &Kafka, names: &Names, setup: Setup) -> Steward {
    kafka.create_input(names, 3);
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

/// Whatever happened: the bytes in flight stayed within the budget and one batch, and the memory within reason.
#[track_caller]
fn assert_bounded(steward: &Steward) {
    for line in steward.events("stats") {
        let limit = number(&line, "in_flight_limit_bytes") + ONE_BATCH_BYTES;
        assert!(number(&line, "in_flight_bytes") <= limit, "beyond the budget: {line}");
        assert!(number(&line, "memory_rss_bytes") <= MAX_RSS_BYTES, "too much memory: {line}");
        assert!(number(&line, "memory_rss_bytes") > 0, "the memory is not told: {line}");
    }
}

/// A field of a log line.
#[track_caller]
pub fn number(line: &Value, field: &str) -> u64 {
    line[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {line}"))
}
