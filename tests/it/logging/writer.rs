//! The writer of the log: whatever standard output does, no thread that logs waits, no line is cut, and each dropped
//! line is counted.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use proptest::prelude::*;
use steward::observability::logging::{FINISH_LIMIT, LogWriter};

use crate::support::capture::PATIENCE;
use crate::support::wait::{now, wait_until};
use crate::telemetry::property;

const AT_ONCE: Duration = Duration::ZERO;
const MAX_QUEUED_BYTES: usize = 1_000_000;

#[apply(offline_test)]
fn a_reader_that_stops_delays_no_line_and_the_oldest_waiting_lines_are_counted() {
    let out = Output::default();
    let writer = writer_to(&out, 1_000);
    let sink = writer.sink();
    sink("first\n");
    wait_until("the writer thread waits for the reader", PATIENCE, || out.is_waiting());
    for number in 0..1_000 {
        sink(&format!("{number}\n"));
    }
    assert!(!writer.finish(AT_ONCE), "nothing was read");

    out.open();

    assert!(writer.finish(PATIENCE));
    let lines = out.lines();
    // Four bytes per line: the newest 250 wait.
    let expected: Vec<String> = ["first".to_owned(), "gap 750".to_owned()]
        .into_iter()
        .chain((750..1_000).map(|number| number.to_string()))
        .collect();
    assert_eq!(lines, expected);
}

#[apply(offline_test)]
fn an_output_that_takes_parts_or_fails_for_a_time_gets_whole_lines_in_order() {
    let reply = prop_oneof![
        (1_usize..50).prop_map(Ok),
        Just(Err(io::ErrorKind::Interrupted)),
        Just(Err(io::ErrorKind::WouldBlock))
    ];
    let lengths = prop::collection::vec(0_usize..200, 0..50);
    property(&(prop::collection::vec(reply, 0..40), lengths), |(replies, lengths)| {
        let out = Output::default();
        out.open();
        *out.0.replies.lock().expect("no thread panics") = replies;
        let writer = writer_to(&out, MAX_QUEUED_BYTES);
        let lines: Vec<String> = lengths.iter().map(|length| "x".repeat(*length)).collect();
        for line in &lines {
            (writer.sink())(&format!("{line}\n"));
        }
        prop_assert!(writer.finish(PATIENCE));
        prop_assert_eq!(out.lines(), lines);
        Ok(())
    });
}

#[apply(offline_test)]
fn the_end_of_the_process_waits_for_no_output_that_fails_and_a_limited_time_for_one_that_is_not_read() {
    let closed = LogWriter::start(Closed, MAX_QUEUED_BYTES, Box::new(|_| None)).expect("a thread can be started");
    (closed.sink())("a line\n");
    assert!(!closed.finish(PATIENCE));

    let out = Output::default();
    let unread = writer_to(&out, MAX_QUEUED_BYTES);
    (unread.sink())("a line\n");
    let began = now();
    drop(unread);
    assert!(began.elapsed() >= FINISH_LIMIT, "a slow reader gets the last lines");
    out.open();
}

#[apply(offline_test)]
fn a_line_that_is_longer_than_the_queue_is_written() {
    let out = Output::default();
    out.open();
    let writer = writer_to(&out, 10);
    (writer.sink())("longer than the queue\n");
    assert!(writer.finish(PATIENCE));
    assert_eq!(out.lines(), ["longer than the queue"], "a single line is written, whatever the bound");
}

// ----------------------------------------------------------------------------------------------------------- helpers

fn writer_to(out: &Output, max_queued_bytes: usize) -> LogWriter {
    let gap = |dropped| Some(format!("gap {dropped}\n"));
    LogWriter::start(out.clone(), max_queued_bytes, Box::new(gap)).expect("a thread can be started")
}

/// An output that blocks until it is opened, and then replies as configured.
#[derive(Clone, Default)]
struct Output(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// The replies to the first writes, the last one first. Further writes take everything.
    replies: Mutex<Vec<Result<usize, io::ErrorKind>>>,
}

#[derive(Default)]
struct State {
    is_open: bool,
    is_waiting: bool,
    written: Vec<u8>,
}

impl Output {
    fn open(&self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).is_open = true;
        self.0.changed.notify_all();
    }

    fn is_waiting(&self) -> bool {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).is_waiting
    }

    fn lines(&self) -> Vec<String> {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8(state.written.clone()).expect("lines are text");
        assert!(text.is_empty() || text.ends_with('\n'), "the last line is cut: {text:?}");
        text.lines().map(str::to_owned).collect()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_waiting = !state.is_open;
        let mut state =
            self.0.changed.wait_while(state, |state| !state.is_open).unwrap_or_else(PoisonError::into_inner);
        let reply = self.0.replies.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let taken = reply.unwrap_or(Ok(bytes.len()))?.min(bytes.len());
        state.written.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A pipe whose reader has ended.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
