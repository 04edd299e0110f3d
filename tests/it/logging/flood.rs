//! Endless bad input costs one line per kind, and then one per kind and window, for any partitions and reasons.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use steward::entity::Reason;
use steward::observability::log_throttle::{LogThrottle, Occurrence};

use crate::faults::number;
use crate::support::kafka::{Kafka, Outgoing, record};
use crate::support::ledger::wait_until_committed;
use crate::support::names::Names;
use crate::support::process::Setup;
use crate::support::wait::{PATIENCE, now};

/// The events arrive within 100 seconds. A window has 10 seconds.
#[apply(offline_test)]
fn a_million_events_of_all_kinds_cost_one_line_per_kind_and_window() {
    const EVENTS: u64 = 1_000_000;
    const WINDOWS: usize = 10;
    let window = Duration::from_secs(10);
    let mut throttle: LogThrottle<Reason, u64> = LogThrottle::new(window, Reason::ALL.len());
    let began = now();
    let (mut firsts, mut summaries, mut counted) = (0, 0, 0);
    for number in 0..EVENTS {
        let now = began + Duration::from_micros(number * 100);
        let due =
            if throttle.next_deadline().is_some_and(|due| due <= now) { throttle.summaries(now) } else { Vec::new() };
        summaries += due.len();
        counted += due.iter().map(|summary| summary.count).sum::<u64>();
        let reason = Reason::ALL[usize::try_from(number).expect("small") % Reason::ALL.len()];
        firsts += u64::from(throttle.seen(&reason, number, now) == Occurrence::First);
    }
    let rest = throttle.finish(began + window * 10);
    summaries += rest.len();
    counted += rest.iter().map(|summary| summary.count).sum::<u64>();

    assert_eq!(firsts, Reason::ALL.len() as u64, "each kind is logged once");
    assert_eq!(firsts + counted, EVENTS, "each event is logged or counted");
    assert!(summaries <= Reason::ALL.len() * WINDOWS, "{summaries}");
}

#[apply(broker_test)]
fn a_hundred_thousand_bad_events_cost_two_lines_for_each_reason() {
    const EVENTS: usize = 100_000;
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 6);
    kafka.produce(&names.input, &bad_events(EVENTS));
    let mut steward = Setup::new(&kafka, &names).set("log.stats_interval_ms", 3_600_000).start();
    wait_until_committed(&kafka, &names, PATIENCE * 2);
    steward.stop();

    let mut reported: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for line in steward.events("event_rejected") {
        reported.entry(reason(&line)).or_default().0 += 1;
    }
    let summaries = steward.events("events_rejected");
    for line in &summaries {
        reported.entry(reason(line)).or_default().1 += number(line, "count");
    }
    let per_reason = EVENTS / REASONS.len();
    let expected = REASONS.map(|reason| (reason.to_owned(), (1, per_reason as u64 - 1)));
    assert_eq!(
        reported,
        BTreeMap::from(expected),
        "the first of each reason is logged, and all others are counted, also at the end"
    );
    let stopped = steward.wait_for_event("process_stopped", PATIENCE);
    let windows = usize::try_from(number(&stopped, "ran_ms") / 10_000).expect("small") + 1;
    assert!(summaries.len() <= REASONS.len() * windows, "{} in {windows} windows", summaries.len());
    let lines = steward.output().lines().count();
    assert!(lines < 60 + summaries.len(), "{lines} lines");
    steward.assert_no_errors_but(&[]);
}

#[apply(broker_test)]
fn a_flood_that_stops_is_summarised_by_the_timer() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 2);
    kafka.produce(&names.input, &bad_events(600));
    let mut steward = Setup::new(&kafka, &names).start();

    // No event follows, and the process does not stop.
    let mut counted = 0;
    while counted < 600 - REASONS.len() as u64 {
        counted += number(&steward.wait_for_event("events_rejected", PATIENCE), "count");
    }

    assert_eq!(counted, 600 - REASONS.len() as u64);
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

// ----------------------------------------------------------------------------------------------------------- helpers

const REASONS: [&str; 5] = ["missing_key", "null_payload", "malformed_json", "unknown_event_type", "not_found"];

/// Events with the same number for each of [`REASONS`], spread over all partitions.
fn bad_events(count: usize) -> Vec<Outgoing> {
    let one = |number: usize| {
        let id = number.to_string();
        match number % REASONS.len() {
            0 => record("", "{}"),
            1 => crate::support::kafka::tombstone(&id),
            2 => record(&id, "{"),
            3 => record(&id, r#"{"eventType":"ServiceLoved"}"#),
            _ => record(&id, format!(r#"{{"eventType":"ServiceDeleted","id":{id}}}"#)),
        }
    };
    (0..count).map(one).collect()
}

fn reason(line: &Value) -> String {
    line["reason"].as_str().expect("a code").to_owned()
}
