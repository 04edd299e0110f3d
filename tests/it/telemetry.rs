//! Whatever happens, a line is one bounded JSON object, and the wrong level is refused before it can silence anything.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use proptest::prelude::*;
use serde_json::Value;
use steward::config::LogFormat;
use steward::entity::{
    CorruptSnapshot, Entity, RawEvent, Reason, Rejection, SizeLimits, apply_record, panicked_in_entity_code,
};
use steward::observability::log_events::{
    BecameReady, ClientRole, EventRejected, KafkaClientError, KafkaClientLog, KeyPolicy, LogEvent, LogLevelChanged,
    ProcessFailed, StatsReported, ThreadPanicked, TransactionCommitted,
};
use steward::observability::logging::{
    Destination, LIBRARY_LOG, LogFilter, LogStyle, LoggingError, MAX_LINE_BYTES, MAX_PANIC_CHARS, MAX_TEXT_BYTES,
    {self},
};
use steward::record::{Headers, Offset, Record};

use crate::support::capture::{Capture, PATIENCE, parse};
use crate::support::panics;

/// 2026-01-31T12:00:00.007Z
const NOW_MS: i64 = 1_769_860_800_007;

#[apply(offline_test)]
fn a_line_is_flat_and_starts_with_what_every_line_has() {
    let lines = lines_of(LogStyle::Json, everything(), || {
        let key = KeyPolicy::Plain.show(b"7");
        let trace_id = Some("4bf92f3577b34da6a3ce929d0e0e4736");
        let rejected = EventRejected {
            reason: "not_found",
            partition: 3,
            offset: 42,
            key,
            trace_id,
            span_id: Some("00f067aa0ba902b7"),
            trace_flags: Some("01"),
        };
        rejected.emit();
    });
    assert_eq!(
        lines,
        [concat!(
            r#"{"timestamp":"2026-01-31T12:00:00.007Z","level":"WARN","event":"event_rejected","#,
            r#""message":"an event was rejected","target":"steward::ingest","#,
            r#""reason":"not_found","partition":3,"offset":42,"key":"7","#,
            r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7","trace_flags":"01"}"#
        )]
    );
}

#[apply(offline_test)]
fn a_line_is_one_json_object_whatever_its_texts_contain() {
    property(&(any_text(), any_text(), any::<i64>(), any::<f64>()), |(detail, code, number, fraction)| {
        let lines = lines_of(LogStyle::Json, everything(), || {
            KafkaClientError { code: &code, detail: &detail, client: ClientRole::Consumer }.emit();
            a_library_says(&detail, &code, number, fraction);
        });
        prop_assert_eq!(lines.len(), 2);
        for line in &lines {
            prop_assert!(line.len() < MAX_LINE_BYTES);
            prop_assert!(!line.contains('\n'));
            prop_assert!(parse(line).is_some(), "{}", line);
        }
        let own: Value = serde_json::from_str(&lines[0]).expect("parsed above");
        if let Some(cut) = own["detail"].as_str().expect("a text").strip_suffix('…') {
            prop_assert!(detail.starts_with(cut));
        } else {
            prop_assert_eq!(&own["detail"], &Value::from(detail.as_str()));
        }
        prop_assert_eq!(&own["level"], "WARN");
        let library: Value = serde_json::from_str(&lines[1]).expect("parsed above");
        prop_assert_eq!(&library["number"], &Value::from(number));
        Ok(())
    });
}

#[apply(offline_test)]
fn a_line_for_people_is_one_line_without_control_characters_whatever_its_texts_contain() {
    property(&(any_text(), any_text()), |(detail, code)| {
        let lines = lines_of(LogStyle::Text, everything(), || {
            KafkaClientError { code: &code, detail: &detail, client: ClientRole::Consumer }.emit();
            a_library_says(&detail, &code, 0, 0.0);
        });
        prop_assert_eq!(lines.len(), 2);
        for line in lines {
            prop_assert!(line.len() < MAX_LINE_BYTES);
            prop_assert!(!line.contains(char::is_control), "{:?}", line);
        }
        Ok(())
    });
}

#[apply(offline_test)]
fn a_text_is_cut_at_its_bound_between_characters() {
    let written = |detail: &str| {
        let lines = lines_of(LogStyle::Json, everything(), || {
            KafkaClientError { code: "", detail, client: ClientRole::Admin }.emit();
        });
        let line: Value = serde_json::from_str(&lines[0]).expect("a line is JSON");
        line["detail"].as_str().expect("a text").to_owned()
    };
    let fits = "x".repeat(MAX_TEXT_BYTES);
    assert_eq!(written(&fits), fits);
    assert_eq!(written(&format!("{fits}x")), format!("{}…", "x".repeat(MAX_TEXT_BYTES - 3)));
    let wide = written(&"€".repeat(MAX_TEXT_BYTES));
    assert_eq!(wide.len(), MAX_TEXT_BYTES - MAX_TEXT_BYTES % 3);
    assert!(wide.ends_with("€…"));
    let escaped = written(&"\u{1}".repeat(MAX_TEXT_BYTES));
    assert_eq!(escaped.chars().count(), (MAX_TEXT_BYTES - 3) / 6 + 1);
}

#[apply(offline_test)]
fn a_line_with_too_many_fields_is_marked_as_truncated() {
    let long = "x".repeat(10_000);
    let long = long.as_str();
    for look in [LogStyle::Json, LogStyle::Text, LogStyle::ColouredText] {
        let lines = lines_of(look, everything(), || {
            tracing::info!(a = long, b = long, c = long, d = long, e = long, f = long, g = long, h = long, last = 1);
        });
        assert_eq!(lines.len(), 1);
        assert!(lines[0].len() < MAX_LINE_BYTES);
        assert!(lines[0].contains("truncated"));
        assert!(lines[0].contains("last"), "a short field still has room");
    }
}

#[apply(offline_test)]
fn a_number_that_json_cannot_represent_is_null() {
    let lines = lines_of(LogStyle::Json, everything(), || tracing::info!(ratio = f64::NAN, peak = f64::INFINITY));
    assert!(lines[0].ends_with(r#""ratio":null,"peak":null}"#), "{}", lines[0]);
}

#[apply(offline_test)]
fn a_line_of_a_library_cannot_take_the_name_of_an_event() {
    let lines = lines_of(LogStyle::Json, everything(), || {
        tracing::info!(event = "lost_write_repaired", level = "ERROR", timestamp = 1, "hello");
    });
    let line: Value = serde_json::from_str(&lines[0]).expect("a line is JSON");
    assert_eq!(line["event"], LIBRARY_LOG);
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["message"], "hello");
    assert_eq!(line["field.event"], "lost_write_repaired");
    assert_eq!(line["field.level"], "ERROR");
    assert_eq!(line["field.timestamp"], 1);
}

#[apply(offline_test)]
fn a_line_for_people_reads_from_left_to_right() {
    let emit = || ThreadPanicked { thread: "commit", location: "src/x.rs:1:2", detail: "no \"way\"\u{1b}[2J" }.emit();
    assert_eq!(
        lines_of(LogStyle::Text, everything(), emit),
        [concat!(
            "2026-01-31T12:00:00.007Z ERROR thread_panicked a thread panicked",
            r#" thread=commit location=src/x.rs:1:2 detail="no \"way\"\u001b[2J""#
        )]
    );
    let coloured = lines_of(LogStyle::ColouredText, everything(), emit);
    assert!(coloured[0].contains("\u{1b}[1;31mERROR\u{1b}[0m"), "{coloured:?}");
    assert!(coloured[0].ends_with("\u{1b}[0m"), "{coloured:?}");
}

#[apply(offline_test)]
fn only_a_terminal_gets_colours() {
    let terminal = Destination { is_terminal: true, no_color: false };
    let quiet = Destination { is_terminal: true, no_color: true };
    let pipe = Destination { is_terminal: false, no_color: false };
    let check = |format, around, look| assert_eq!(LogStyle::choose(format, around), look);
    check(LogFormat::Auto, terminal, LogStyle::ColouredText);
    check(LogFormat::Auto, quiet, LogStyle::Text);
    check(LogFormat::Auto, pipe, LogStyle::Json);
    check(LogFormat::Text, terminal, LogStyle::ColouredText);
    check(LogFormat::Text, quiet, LogStyle::Text);
    check(LogFormat::Text, pipe, LogStyle::Text);
    check(LogFormat::Json, terminal, LogStyle::Json);
    check(LogFormat::Json, pipe, LogStyle::Json);
}

#[apply(offline_test)]
fn a_wrong_level_is_refused_by_name() {
    for right in [
        "info",
        "WARN",
        "error,librdkafka=debug",
        " info , steward::commit = trace",
        "librdkafka=debug",
        "librdkafka=off",
    ] {
        assert!(LogFilter::parse(right).is_ok(), "{right}");
    }
    let refused = |level: &str| match LogFilter::parse(level) {
        Err(error @ LoggingError::WrongLevel { .. }) => error.to_string(),
        other => panic!("{level:?} gave {other:?}"),
    };
    for wrong in
        ["", "inof", "off", "3", "info,warn", "info,", "librdkafka=", "=info", "info,librdkafka=loud", "a[b]=info"]
    {
        let message = refused(wrong);
        assert!(message.starts_with("log.level is "), "{message}");
    }
    assert!(refused("info,librdkafka=loud").contains(r#""librdkafka=loud""#));
}

#[apply(offline_test)]
fn a_filter_can_show_one_target_in_more_detail() {
    let shown = |level: &str| {
        let filter = LogFilter::parse(level).expect("it is right");
        let lines = lines_of(LogStyle::Json, filter, || {
            BecameReady { assigned: 1, took_ms: 1 }.emit();
            KafkaClientLog { facility: "FETCH", detail: "", client: ClientRole::Consumer }.emit();
            a_transaction();
        });
        lines.iter().map(|line| parse(line).expect("a line is JSON").name).collect::<Vec<_>>()
    };
    assert_eq!(shown("warn"), [""; 0]);
    assert_eq!(shown("info"), [BecameReady::NAME]);
    assert_eq!(shown("librdkafka=debug"), [BecameReady::NAME, KafkaClientLog::NAME]);
    assert_eq!(shown("warn,librdkafka=debug"), [KafkaClientLog::NAME]);
    assert_eq!(shown("debug,librdkafka=info"), [BecameReady::NAME, TransactionCommitted::NAME]);
}

#[apply(offline_test)]
fn a_failure_before_the_log_is_set_up_leaves_a_line() {
    let (out, lines) = gathering();
    let failed = ProcessFailed { exit_code: 2, exit_name: "configuration", error: "log.level is \"inof\"" };
    logging::emergency_line_to(LogStyle::Json, now(), out, failed);
    assert_eq!(
        lines(),
        [concat!(
            r#"{"timestamp":"2026-01-31T12:00:00.007Z","level":"ERROR","event":"process_failed","#,
            r#""message":"the process failed","target":"steward::process","#,
            r#""exit_code":2,"exit_name":"configuration","error":"log.level is \"inof\""}"#
        )]
    );
}

#[apply(offline_test)]
fn a_panic_leaves_a_line() {
    let log = Capture::here();
    log.announce(ThreadPanicked::NAME);
    let _hook = panics::for_this_thread(logging::panic_logger(|_| false, || {}, now()));
    let message = "ä".repeat(100);
    let panicked = catch_unwind(|| panic!("{message}"));
    assert!(panicked.is_err());
    let line = log.wait_for(ThreadPanicked::NAME);
    assert_eq!(line.text("detail"), "ä".repeat(MAX_PANIC_CHARS));
    assert!(line.text("location").starts_with("tests/it/telemetry.rs:"), "{line:?}");
}

#[apply(offline_test)]
fn a_panic_in_entity_code_reports_its_location_and_is_no_error() {
    let log = Capture::here();
    let _hook = panics::for_this_thread(logging::panic_logger(panicked_in_entity_code, || {}, now()));
    let record = Record {
        key: Some(b"1"),
        value: Some(b"{}"),
        timestamp_ms: Some(0),
        offset: Offset(0),
        headers: Headers::EMPTY,
    };
    let rejection = apply_record(&Fragile, &(), &record, SizeLimits::of_payload(100)).expect_err("it panics");
    assert_eq!(rejection.reason, Reason::Panicked);
    let location = rejection.location.expect("the hook has recorded it");
    assert!(location.starts_with("tests/it/telemetry.rs:"), "{location}");
    assert_eq!(log.all(), [], "the code that handles the event logs it");
    assert!(!panicked_in_entity_code("here"));
}

#[apply(offline_test)]
fn the_level_changes_while_the_log_is_in_use_on_every_thread() {
    let (out, lines) = gathering();
    let filter = |level: &str| LogFilter::parse(level).expect("it is right");
    let (dispatch, levels) = logging::adjustable(filter("info"), LogStyle::Json, now(), out);
    // One more subscriber: with a single one, tracing asks only the first thread that meets a statement.
    let _other = Capture::elsewhere();
    let on_another_thread = || {
        let dispatch = dispatch.clone();
        let emit = move || tracing::dispatcher::with_default(&dispatch, a_transaction);
        std::thread::spawn(emit).join().expect("it does not panic");
    };

    on_another_thread();
    levels.set(filter("info,steward::commit=debug")).expect("the log is there");
    on_another_thread();
    levels.set(filter("error")).expect("the log is there");
    on_another_thread();
    let is_shown = tracing::dispatcher::with_default(&dispatch, LogLevelChanged::is_shown);
    assert!(!is_shown, "nothing below an error");
    levels.set(filter("debug")).expect("the log is there");
    on_another_thread();

    assert_eq!(lines().len(), 2, "{:?}", lines());
    drop(dispatch);
    assert!(levels.set(filter("info")).is_err(), "there is no log any more");
}

#[apply(offline_test)]
fn a_test_fails_on_an_error_that_it_did_not_announce() {
    let failed = |announced: &'static str| {
        let (log, dispatch) = elsewhere();
        log.announce(announced);
        let _hook = panics::silent();
        tracing::dispatcher::with_default(&dispatch, || {
            ProcessFailed { exit_code: 1, exit_name: "any", error: "any" }.emit();
        });
        catch_unwind(AssertUnwindSafe(|| drop(log))).is_err()
    };
    assert!(failed("something else"));
    assert!(!failed(ProcessFailed::NAME));
}

#[apply(offline_test)]
fn a_test_can_wait_for_a_line_of_another_thread() {
    let (log, dispatch) = elsewhere();
    let other = std::thread::spawn(move || {
        let _guard = tracing::dispatcher::set_default(&dispatch);
        BecameReady { assigned: 1, took_ms: 5 }.emit();
        BecameReady { assigned: 2, took_ms: 6 }.emit();
    });
    let second = log.wait_for_match(BecameReady::NAME, |line| line.integer("assigned") == 2);
    assert_eq!(second.integer("took_ms"), 6);
    other.join().expect("it does not panic");
}

#[apply(offline_test)]
fn a_test_on_one_thread_waits_while_the_clock_is_paused() {
    let log = Capture::here();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without I/O needs nothing of the system");
    runtime.block_on(async {
        let late = async {
            tokio::time::sleep(PATIENCE / 2).await;
            BecameReady { assigned: 1, took_ms: 5 }.emit();
        };
        let (line, ()) = futures_util::future::join(log.appears(BecameReady::NAME), late).await;
        assert_eq!(line.integer("took_ms"), 5);
    });
}

#[apply(offline_test)]
fn the_log_of_a_child_process_is_read_line_by_line() {
    let mut lines = lines_of(LogStyle::Json, everything(), || BecameReady { assigned: 1, took_ms: 5 }.emit());
    lines.push("Killed".to_owned());
    let log = Capture::of_process(std::io::Cursor::new(lines.join("\n")));
    assert_eq!(log.wait_for(BecameReady::NAME).integer("took_ms"), 5);
    let _hook = panics::silent();
    let missing = catch_unwind(AssertUnwindSafe(|| log.wait_for(StatsReported::NAME)));
    assert!(missing.is_err(), "it ended without one");
    assert_eq!(log.noise(), ["Killed"]);
}

// ------------------------------------------------------------------------------------------------------- the helpers

/// What `emit` writes at [`NOW_MS`], line by line.
pub fn lines_of(look: LogStyle, filter: LogFilter, emit: impl FnOnce()) -> Vec<String> {
    let (out, lines) = gathering();
    tracing::dispatcher::with_default(&logging::dispatch(filter, look, now(), out), emit);
    lines()
}

/// The filter that lets everything pass.
pub fn everything() -> LogFilter {
    LogFilter::parse("trace").expect("it is a level")
}

fn now() -> logging::WallClock {
    Arc::new(|| NOW_MS)
}

/// Where lines can be written, and what was. Each has to come whole, with one end.
fn gathering() -> (logging::LogSink, impl Fn() -> Vec<String>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let gathered = lines.clone();
    let out = move |line: &str| {
        let line = line.strip_suffix('\n').expect("a line has an end");
        lines.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
    };
    (Arc::new(out), move || gathered.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

fn elsewhere() -> (Capture, tracing::Dispatch) {
    let log = Capture::elsewhere();
    let dispatch = log.dispatch();
    (log, dispatch)
}

fn a_library_says(detail: &str, code: &str, number: i64, fraction: f64) {
    tracing::warn!(code, number, fraction, debug = ?detail, display = %code, big = u128::MAX, flag = true, "{detail}");
}

/// An event of the level DEBUG.
fn a_transaction() {
    let committed = TransactionCommitted {
        number: 1,
        events: 1,
        snapshots: 1,
        dlq_records: 0,
        bytes: 10,
        took_ms: 1,
        partitions: "0",
    };
    committed.emit();
}

/// Texts of all kinds, many of them with what JSON, terminals and line readers stumble over, some of them long.
pub fn any_text() -> impl Strategy<Value = String> {
    let char = prop_oneof![any::<char>(), prop::char::range('\0', '\u{9f}'), Just('"'), Just('\\'), Just('\u{2028}')];
    let short = prop::collection::vec(char.clone(), 0..40);
    let long = prop::collection::vec(char, 1_000..4_000);
    prop_oneof![3 => short, 1 => long].prop_map(|chars| chars.into_iter().collect())
}

#[track_caller]
pub fn property<S: Strategy>(values: &S, holds: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = proptest::test_runner::Config { cases: 64, failure_persistence: None, ..Default::default() };
    if let Err(failure) = crate::support::chance::runner(config).run(values, holds) {
        panic!("{failure}");
    }
}

/// An entity whose code panics on every event.
struct Fragile;

impl Entity for Fragile {
    type State = ();
    fn absent(&self) -> Self::State {}
    fn apply(&self, (): &(), _: RawEvent<'_>) -> Result<(), Rejection> {
        panic!("it always does")
    }
    fn encode(&self, (): &()) -> Option<Vec<u8>> {
        None
    }
    fn decode(&self, _: &[u8]) -> Result<(), CorruptSnapshot> {
        Ok(())
    }
    fn newest_event_ms(&self, (): &()) -> Option<i64> {
        None
    }
}
