//! The numbers of the process: totals since the start, rates and percentiles of the interval; and the log throttle.

use std::iter::{once, repeat_n};
use std::sync::Arc;
use std::time::{Duration, Instant};

use steward::entity::Reason;
use steward::observability::log_events::LogEvent;
use steward::observability::log_throttle::{LogThrottle, Occurrence, ThrottleSummary};
use steward::observability::stats::{Sample, Stats, StatsInterval};

use crate::support::capture::Capture;

mod hottest;

#[apply(offline_test)]
fn rates_are_of_the_interval_and_totals_of_the_process() {
    let (stats, mut window, start) = counting();
    stats.events_read(300, 30_000);
    stats.applied(250);
    stats.skipped(10);
    let first = window.close(start + 2 * SECOND, &sample());
    assert_eq!((first.interval_ms, first.events_total, first.applied_total, first.skipped_total), (2000, 300, 250, 10));
    assert_eq!((first.events_per_s, first.bytes_per_s), (150.0, 15_000.0));
    stats.events_read(1, 100);
    let second = window.close(start + 5 * SECOND, &sample());
    assert_eq!((second.interval_ms, second.events_total, second.applied_total), (3000, 301, 250));
    assert_eq!((second.events_per_s, second.bytes_per_s), (0.3, 33.3));
    assert_eq!(stats.totals().bytes, 30_100);
}

#[apply(offline_test)]
fn rejections_are_counted_by_reason_within_the_interval() {
    let (stats, mut window, start) = counting();
    stats.rejected(Reason::NotFound, 1);
    stats.rejected(Reason::MalformedJson, 2);
    stats.rejected(Reason::MalformedJson, 1);
    let first = window.close(start + SECOND, &sample());
    assert_eq!((first.rejected.as_str(), first.rejected_total), ("malformed_json:3,not_found:1", 4));
    stats.rejected(Reason::Panicked, 5);
    let second = window.close(start + 2 * SECOND, &sample());
    assert_eq!((second.rejected.as_str(), second.rejected_total), ("panicked:5", 9));
    assert_eq!(window.close(start + 3 * SECOND, &sample()).rejected, "");
}

#[apply(offline_test)]
fn percentiles_are_of_the_interval() {
    let (stats, mut window, start) = counting();
    stats.latencies_ms(repeat_n(10, 98));
    stats.latencies_ms(repeat_n(500, 2));
    (0..99).for_each(|_| stats.transaction(Duration::from_micros(3_500)));
    stats.transaction(Duration::from_millis(80));
    stats.transaction_aborted();
    stats.entity_restarted();
    let first = window.close(start + SECOND, &sample());
    assert_eq!(first.latency_p50_ms, 10);
    assert_close(first.latency_p99_ms as f64, 500.0);
    assert_close(first.transaction_p50_ms, 3.5);
    assert_close(first.transaction_p99_ms, 3.5);
    assert_eq!((first.transactions, first.transactions_aborted, first.entity_restarts), (100, 1, 1));
    let second = window.close(start + 2 * SECOND, &sample());
    assert_eq!((second.latency_p50_ms, second.latency_p99_ms), (0, 0));
    assert_eq!((second.transaction_p50_ms, second.transaction_p99_ms), (0.0, 0.0));
    assert_eq!((second.transactions, second.transactions_aborted, second.entity_restarts), (0, 0, 0));
}

#[apply(offline_test)]
fn a_time_of_more_than_an_hour_counts_as_an_hour() {
    let (stats, mut window, start) = counting();
    stats.latencies_ms(once(i64::MAX));
    stats.transaction(Duration::MAX);
    let line = window.close(start + SECOND, &sample());
    assert_close(line.latency_p50_ms as f64, 3_600_000.0);
    assert_close(line.transaction_p50_ms, 3_600_000.0);
}

#[apply(offline_test)]
fn an_event_from_the_future_has_no_latency_and_no_age() {
    let (stats, mut window, start) = counting();
    stats.latencies_ms(once(-5));
    let line = window.close(start + SECOND, &Sample { oldest_unix_ms: Some(NOW_MS + 1), ..sample() });
    assert_eq!((line.latency_p50_ms, line.oldest_age_ms), (0, 0));
}

#[apply(offline_test)]
fn partitions_add_up_and_disappear_with_their_ownership() {
    let (stats, mut window, start) = counting();
    stats.own_partition(1);
    stats.own_partition(0);
    stats.update_partition(1, |level| {
        level.lag = 5;
        level.entities_passivated = 7;
        level.state_bytes = 700;
    });
    stats.update_partition(0, |level| {
        level.lag = 12;
        level.entities_passivated = 1;
        level.state_bytes = 100;
    });
    let both = window.close(start + SECOND, &Sample { oldest_unix_ms: Some(NOW_MS - 300), ..sample() });
    assert_eq!((both.lag.as_str(), both.lag_total, both.oldest_age_ms), ("0:12,1:5", 17, 300));
    assert_eq!((both.entities_passivated, both.state_bytes), (8, 800));
    stats.drop_partition(0);
    stats.update_partition(0, |level| level.lag = 99);
    let one = window.close(start + 2 * SECOND, &sample());
    assert_eq!((one.lag.as_str(), one.lag_total, one.oldest_age_ms), ("1:5", 5, 0));
    stats.own_partition(1);
    assert_eq!(window.close(start + 3 * SECOND, &sample()).lag.as_str(), "1:0");
}

#[apply(offline_test)]
fn what_is_held_back_or_not_fetched_is_listed_by_partition() {
    let (stats, mut window, start) = counting();
    (0..3).for_each(|partition| stats.own_partition(partition));
    stats.update_partition(1, |level| (level.behind_open_transaction, level.fetch_age_ms) = (500, 900));
    stats.update_partition(2, |level| (level.behind_open_transaction, level.fetch_age_ms) = (7, 41_000));
    let line = window.close(start + SECOND, &sample());
    assert_eq!((line.behind_open_transaction_total, line.behind_open_transaction.as_str()), (507, "1:500,2:7"));
    assert_eq!((line.fetch_age_max_ms, line.fetch_age_ms.as_str()), (41_000, "2:41000"));
    assert_eq!((line.partitions_serving, line.partitions_total), (3, 12));
}

#[apply(offline_test)]
fn the_number_of_active_entities_is_never_negative() {
    let (stats, mut window, start) = counting();
    stats.entity_spawned();
    stats.entity_spawned();
    stats.entities_stopped(1);
    assert_eq!(window.close(start, &sample()).entities_active, 1);
    stats.entities_stopped(2);
    assert_eq!(window.close(start, &sample()).entities_active, 0);
}

#[apply(offline_test)]
fn an_interval_without_length_has_no_rate() {
    let (stats, mut window, start) = counting();
    stats.events_read(5, 5);
    let line = window.close(start, &sample());
    assert_eq!((line.interval_ms, line.events_per_s, line.bytes_per_s), (0, 0.0, 0.0));
}

#[apply(offline_test)]
fn many_partitions_still_fit_into_the_line() {
    let (stats, mut window, start) = counting();
    (0..10_000).for_each(|partition| stats.own_partition(partition));
    let line = window.close(start + SECOND, &sample());
    assert!(line.lag.as_str().len() <= 600, "{} bytes", line.lag.as_str().len());
    assert!(line.lag.as_str().ends_with(":0,..."), "{:?}", line.lag);
}

#[apply(offline_test)]
fn many_threads_count_without_losing_any() {
    let (stats, mut window, start) = counting();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    stats.events_read(1, 10);
                    stats.transaction(Duration::from_millis(1));
                    stats.rejected(Reason::InvalidEvent, 1);
                }
            });
        }
    });
    let line = window.close(start + SECOND, &sample());
    assert_eq!((line.events_total, line.transactions, line.rejected_total), (4000, 4000, 4000));
}

#[apply(offline_test)]
fn the_numbers_are_logged_in_one_line() {
    let log = Capture::here();
    let (stats, mut window, start) = counting();
    stats.set_in_flight_bytes(77);
    window.close(start + SECOND, &sample()).emit();
    let line = log.wait_for(steward::observability::log_events::StatsReported::NAME);
    assert_eq!(line.integer("in_flight_bytes"), 77);
    assert_eq!(line.integer("in_flight_limit_bytes"), 1000);
    assert_eq!(line.integer("memory_rss_bytes"), 5000);
    assert_eq!(line.text("phase"), "committing");
    assert_eq!((line.text("serving"), line.text("recovering")), ("0-2".to_owned(), "7".to_owned()));
}

// --------------------------------------------------------------------------------------------------------- log throttle

#[apply(offline_test)]
fn the_first_of_a_kind_is_logged_and_the_rest_is_summarised() {
    let (mut throttle, start) = throttle(10);
    assert_eq!(throttle.next_deadline(), None);
    assert_eq!(throttle.seen(&"a", 1, start), Occurrence::First);
    assert_eq!(throttle.seen(&"a", 2, start + SECOND), Occurrence::Counted);
    assert_eq!(throttle.seen(&"a", 3, start + 2 * SECOND), Occurrence::Counted);
    assert_eq!(throttle.next_deadline(), Some(start + WINDOW));
    assert_eq!(throttle.summaries(start + WINDOW - Duration::from_millis(1)), []);
    assert_eq!(throttle.summaries(start + WINDOW), [summary(Some("a"), 2, WINDOW, 3)]);
}

#[apply(offline_test)]
fn a_flood_that_stops_is_removed_after_its_summary() {
    let (mut throttle, start) = throttle(10);
    throttle.seen(&"a", 1, start);
    throttle.seen(&"a", 2, start);
    assert_eq!(throttle.summaries(start + WINDOW).len(), 1);
    assert_eq!(throttle.summaries(start + 2 * WINDOW), []);
    assert_eq!(throttle.next_deadline(), None);
    assert_eq!(throttle.seen(&"a", 3, start + 2 * WINDOW), Occurrence::First);
}

#[apply(offline_test)]
fn a_flood_that_lasts_costs_one_summary_per_window() {
    let (mut throttle, start) = throttle(10);
    throttle.seen(&"a", 0, start);
    for round in 0..5 {
        let at = start + round * WINDOW;
        (1..=100).for_each(|number| assert_eq!(throttle.seen(&"a", number, at + SECOND), Occurrence::Counted));
        assert_eq!(throttle.summaries(at + WINDOW), [summary(Some("a"), 100, WINDOW, 100)]);
    }
}

#[apply(offline_test)]
fn kinds_do_not_hide_each_other() {
    let (mut throttle, start) = throttle(10);
    assert_eq!(throttle.seen(&"a", 1, start), Occurrence::First);
    assert_eq!(throttle.seen(&"b", 2, start + SECOND), Occurrence::First);
    throttle.seen(&"b", 3, start + 2 * SECOND);
    assert_eq!(throttle.summaries(start + WINDOW), []);
    assert_eq!(throttle.next_deadline(), Some(start + SECOND + WINDOW));
    assert_eq!(throttle.summaries(start + SECOND + WINDOW), [summary(Some("b"), 1, WINDOW, 3)]);
}

#[apply(offline_test)]
fn kinds_beyond_the_maximum_count_as_one() {
    let (mut throttle, start) = throttle(2);
    assert_eq!(throttle.seen(&"a", 1, start), Occurrence::First);
    assert_eq!(throttle.seen(&"b", 2, start), Occurrence::First);
    assert_eq!(throttle.seen(&"c", 3, start), Occurrence::First);
    assert_eq!(throttle.seen(&"d", 4, start), Occurrence::Counted);
    assert_eq!(throttle.seen(&"a", 5, start), Occurrence::Counted);
    assert_eq!(throttle.summaries(start + WINDOW), [summary(None, 1, WINDOW, 4), summary(Some("a"), 1, WINDOW, 5)]);
}

#[apply(offline_test)]
fn all_remaining_events_are_summarised_at_the_end() {
    let (mut throttle, start) = throttle(10);
    throttle.seen(&"a", 1, start);
    throttle.seen(&"a", 2, start);
    assert_eq!(throttle.finish(start + SECOND), [summary(Some("a"), 1, SECOND, 2)]);
    assert_eq!(throttle.finish(start + SECOND), []);
    assert_eq!(throttle.next_deadline(), None);
}

#[apply(offline_test)]
fn every_event_of_a_flood_is_logged_or_summarised_exactly_once() {
    use proptest::prelude::*;
    let steps = prop::collection::vec((0_u8..6, 0_u64..15), 0..200);
    let config = proptest::test_runner::Config { failure_persistence: None, ..Default::default() };
    let held = crate::support::chance::runner(config).run(&steps, |steps| {
        let now = now();
        let mut throttle = LogThrottle::new(WINDOW, 3);
        let (mut at, mut reported) = (now, 0);
        for (kind, seconds) in &steps {
            at += SECOND * u32::try_from(*seconds).expect("it is small");
            reported += throttle.summaries(at).iter().map(|summary| summary.count).sum::<u64>();
            reported += u64::from(throttle.seen(kind, (), at) == Occurrence::First);
        }
        reported += throttle.finish(at).iter().map(|summary| summary.count).sum::<u64>();
        prop_assert_eq!(reported, steps.len() as u64);
        Ok(())
    });
    held.unwrap_or_else(|failure| panic!("{failure}"));
}

// ------------------------------------------------------------------------------------------------------- helpers

const SECOND: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(10);
const NOW_MS: i64 = 1_769_860_800_007;

fn counting() -> (Arc<Stats>, StatsInterval, Instant) {
    let (stats, start) = (Arc::new(Stats::new()), now());
    (stats.clone(), StatsInterval::open(stats, start), start)
}

fn sample() -> Sample {
    Sample {
        keys: Arc::new(steward::observability::log_events::KeyPolicy::Plain),
        unix_ms: NOW_MS,
        phase: "committing".to_owned(),
        serving: vec![0, 1, 2],
        recovering: vec![7],
        partitions_total: 12,
        in_flight_limit_bytes: 1000,
        memory_rss_bytes: 5000,
        oldest_unix_ms: None,
        oldest: None,
    }
}

fn throttle(max_kinds: usize) -> (LogThrottle<&'static str, i64>, Instant) {
    (LogThrottle::new(WINDOW, max_kinds), now())
}

fn summary(kind: Option<&'static str>, count: u64, window: Duration, last: i64) -> ThrottleSummary<&'static str, i64> {
    ThrottleSummary { kind, count, window, last }
}

/// The histograms have two significant digits.
#[track_caller]
fn assert_close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= expected / 100.0, "{found} is not {expected}");
}

#[expect(clippy::disallowed_methods, reason = "an arbitrary moment to count from")]
fn now() -> Instant {
    Instant::now()
}
