//! What holds a read back: an open transaction is named only if there is one, and a response is progress.

use std::time::{Duration, Instant};

use steward::engine::recovery::read_stall::{LogReport, StallCause, StallTimer};
use steward::record::{Partition, Position};

const P0: Partition = Partition(0);
const P1: Partition = Partition(1);
const LIMIT: Duration = Duration::from_secs(25);
const SECOND: Duration = Duration::from_secs(1);
const POSITION: Position = Position(7);

#[apply(offline_test)]
fn an_open_transaction_at_the_position_is_named_after_the_limit() {
    let mut read = Read::begins();
    read.goes_on_for(LIMIT - SECOND, |read| read.reports(7, 9));
    assert!(read.timer.state(read.now).is_held_back);
    assert_eq!(read.after_a_second(|read| read.reports(7, 9)), Some(StallCause::OpenTransaction(P0)));
}

#[apply(offline_test)]
fn a_transaction_elsewhere_is_not_named() {
    // The last stable offset is above the position: the records are there, and the broker has not sent them yet.
    Read::begins().goes_on_for(20 * LIMIT, |read| read.reports(8, 9));
    // Nothing is known about it.
    Read::begins().goes_on_for(20 * LIMIT, |read| read.reports_log(LogReport::default()).responds());
}

#[apply(offline_test)]
fn responses_are_progress_however_slow() {
    let mut read = Read::begins();
    for _ in 0..20 {
        read.goes_on_for(LIMIT - SECOND, |_| {});
        read.reports(8, 9);
    }
    read.goes_on_for(LIMIT - SECOND, |_| {});
    assert_eq!(read.after_a_second(|_| {}), Some(StallCause::NoResponse(LIMIT)));
}

#[apply(offline_test)]
fn a_delay_that_the_broker_announces_is_no_silence() {
    let mut read = Read::begins();
    read.throttled = 2 * LIMIT;
    read.reports(8, 9);
    read.throttled = Duration::ZERO;
    read.goes_on_for(3 * LIMIT - SECOND, |_| {});
    assert_eq!(read.timer.state(read.now).throttled, 2 * LIMIT);
    assert_eq!(read.after_a_second(|_| {}), Some(StallCause::NoResponse(LIMIT)));
}

#[apply(offline_test)]
fn an_error_ends_the_read_unless_responses_follow() {
    let mut read = Read::begins();
    read.timer.failed("away".to_owned(), read.now);
    read.goes_on_for(LIMIT - SECOND, |_| {});
    assert_eq!(read.after_a_second(|_| {}), Some(StallCause::Error("away".to_owned())));

    let mut read = Read::begins();
    read.timer.failed("away".to_owned(), read.now);
    assert!(read.timer.state(read.now).is_failing, "a response that brings an error is no progress");
    read.goes_on_for(10 * LIMIT, |read| read.reports(8, 9));
    assert!(!read.timer.state(read.now).is_failing);
}

#[apply(offline_test)]
fn a_position_that_moves_begins_anew() {
    let mut read = Read::begins();
    for _ in 0..10 {
        read.goes_on_for(LIMIT - SECOND, |read| read.reports(7, 9));
        read.timer.moved(read.now);
    }
}

#[apply(offline_test)]
fn an_old_report_names_no_transaction() {
    let mut read = Read::begins();
    read.reports(7, 9);
    read.goes_on_for(LIMIT - SECOND, |_| {});
    assert_eq!(read.after_a_second(|_| {}), Some(StallCause::NoResponse(LIMIT)));
}

#[apply(offline_test)]
fn time_in_which_the_process_did_not_run_does_not_count() {
    let mut read = Read::begins();
    read.now += 10 * LIMIT;
    read.timer.did_not_run(10 * LIMIT);
    read.goes_on_for(LIMIT - SECOND, |_| {});
    assert_eq!(read.after_a_second(|_| {}), Some(StallCause::NoResponse(LIMIT)));
}

#[apply(offline_test)]
fn the_partition_with_the_transaction_is_named_among_several() {
    let mut read = Read::begins();
    let fresh = |last_stable| log(last_stable, 9);
    read.goes_on_for(LIMIT - SECOND, |read| {
        read.timer.reported([(P0, POSITION, fresh(8)), (P1, POSITION, fresh(7))], Duration::ZERO, read.now);
    });
    assert_eq!(read.after_a_second(|_| {}), Some(StallCause::OpenTransaction(P1)));
}

// ------------------------------------------------------------------------------------------------------- the helpers

struct Read {
    timer: StallTimer,
    now: Instant,
    throttled: Duration,
}

impl Read {
    fn begins() -> Read {
        let now = now();
        Read { timer: StallTimer::new(now), now, throttled: Duration::ZERO }
    }

    /// The broker has just responded; the position is 7.
    fn reports(&mut self, last_stable: i64, high_watermark: i64) {
        self.reports_log(log(last_stable, high_watermark));
    }

    fn reports_log(&mut self, log: LogReport) -> &mut Read {
        self.timer.reported([(P0, POSITION, log)], self.throttled, self.now);
        self
    }

    /// The broker has just responded, without anything about the log.
    fn responds(&mut self) {
        self.reports_log(LogReport { since_response: Some(Duration::ZERO), ..LogReport::default() });
    }

    fn after_a_second(&mut self, happens: impl Fn(&mut Read)) -> Option<StallCause> {
        self.now += SECOND;
        happens(self);
        self.timer.verdict(LIMIT, self.now)
    }

    #[track_caller]
    fn goes_on_for(&mut self, time: Duration, happens: impl Fn(&mut Read)) {
        for _ in 0..time.as_secs() {
            assert_eq!(self.after_a_second(&happens), None);
        }
    }
}

fn log(last_stable: i64, high_watermark: i64) -> LogReport {
    LogReport {
        last_stable: Some(Position(last_stable)),
        high_watermark: Some(Position(high_watermark)),
        since_response: Some(Duration::ZERO),
    }
}

#[expect(clippy::disallowed_methods, reason = "an arbitrary start")]
fn now() -> Instant {
    Instant::now()
}
