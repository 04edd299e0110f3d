//! The log reader parses what steward writes, from any source and between lines of other programs, in bounded memory.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use steward::observability::log_events::{FieldKind, Level, all_events, counts};
use steward::observability::logging::LogStyle;
use steward::tools::log_reader::{
    Activity, Fleet, Life, LineReading, LineSplitter, Liveness, LogLine, LoggedEvent, MAX_LINE_BYTES, Piece, READ,
    Recording, Series, StatsReported, Tally, UnixMs, WhenFull, parse_counts, pod_of, read,
};
use steward::tools::report::page;
use steward::tools::top::{Colours, View, plain};

use crate::telemetry::{everything, lines_of};

// ------------------------------------------------------------------------------------------------------ the contract

#[apply(offline_test)]
fn every_event_and_field_that_is_read_is_in_the_catalogue() {
    for event in READ {
        let spec = all_events().find(|spec| spec.name == event.name);
        let spec = spec.unwrap_or_else(|| panic!("{} is read, and not in the catalogue", event.name));
        for (field, kinds) in event.fields {
            let written = spec.fields.iter().find(|spec| spec.name == *field);
            let written = written.unwrap_or_else(|| panic!("{} has no field {field}", event.name));
            assert!(
                kinds.contains(&written.kind),
                "{} {field} is read as {kinds:?}, and is {:?}",
                event.name,
                written.kind
            );
        }
    }
}

#[apply(offline_test)]
fn the_lines_that_a_process_writes_are_parsed() {
    for spec in all_events() {
        let line = ours(&specimen(spec.name));
        assert_eq!((line.name.as_str(), line.level), (spec.name, spec.level));
        assert_eq!(line.written, UnixMs(1_769_860_800_007));
        let is_read = READ.iter().any(|event| event.name == spec.name);
        assert_eq!(line.event != LoggedEvent::Other, is_read, "{}", spec.name);
    }
}

#[apply(offline_test)]
fn a_warning_has_its_fields_in_the_order_of_the_catalogue() {
    let line =
        ours(&warning(0, "transaction_aborted", &[("attempt", json!(2)), ("number", json!(7)), ("cause", json!("x"))]));
    assert_eq!(line.detail, "number=7  cause=x  attempt=2");
    let line = ours(&warning(0, "library_log", &[("message", json!("a message")), ("b", json!(true))]));
    assert_eq!(line.detail, "a message  b=true");
    let line = ours(&warning(0, "library_log", &[("message", json!("é".repeat(2_000)))]));
    assert_eq!(line.detail.chars().count(), 601);
    assert_eq!(ours(&stats(0, &[])).detail, "", "kept of warnings and errors only");
}

#[apply(offline_test)]
fn the_prefix_of_a_line_names_its_pod() {
    let known = [
        ("", None),
        ("[pod/steward-0/steward] ", Some("steward-0")),
        ("[pod/steward-0/steward] 2026-01-31T12:00:00.000000000Z ", Some("steward-0")),
        ("steward-1  | ", Some("steward-1")),
        ("\u{1b}[36msteward-1  |\u{1b}[0m ", Some("steward-1")),
        ("steward-2 steward ", Some("steward-2")),
        ("team-a steward-2 steward ", Some("steward-2")),
        ("\u{1b}[32mteam-a\u{1b}[0m \u{1b}[33msteward-2\u{1b}[0m steward ", Some("steward-2")),
        ("2026-01-31T12:00:00Z {container=\"steward\", pod=\"steward-3\"} ", Some("steward-3")),
        ("2026-01-31T12:00:00.000000000Z stdout F ", None),
        ("Jan 31 12:00:00 host steward[7]: ", Some("steward[7]")),
        (" \t ", None),
        ("a\u{7}b | ", Some("a")),
    ];
    for (prefix, pod) in known {
        assert_eq!(pod_of(prefix).as_deref(), pod, "{prefix:?}");
        let line = ours(&format!("{prefix}{}", stats(0, &[])));
        assert_eq!(line.pod.as_deref(), pod, "{prefix:?}");
    }
    assert_eq!(pod_of(&"x".repeat(5_000)).map(|name| name.len()), Some(80));
}

#[apply(offline_test)]
fn lines_of_other_programs_and_damaged_lines_are_distinguished() {
    let whole = stats(0, &[]);
    let cases = [
        ("", LineReading::Other),
        ("Starting steward ...", LineReading::Other),
        (r#"{"level":"info","msg":"an ingress"}"#, LineReading::Other),
        (r#"{"timestamp":"yesterday","level":"INFO","event":"stats"}"#, LineReading::Other),
        (r#"{"timestamp":"2026-01-31T12:00:00Z","level":"info","event":"stats"}"#, LineReading::Other),
        (&whole[..whole.len() / 2], LineReading::Damaged),
        (
            r#"{"timestamp":"2026-01-31T12:00:00Z","level":"INFO","event":"stats","lag_total":"many"}"#,
            LineReading::Damaged,
        ),
    ];
    for (line, reading) in cases {
        assert_eq!(read(line.as_bytes()), reading, "{line}");
    }
    assert_eq!(read(b"\xff\xfe{\"\xff"), LineReading::Other);
    assert!(matches!(read(format!("\u{fffd} {whole}  ").as_bytes()), LineReading::Steward(_)));
}

#[apply(offline_test)]
fn lines_in_objects_of_a_runtime_or_shipper_are_unwrapped() {
    let whole = warning(7, "library_log", &[("message", json!("\"quoted\" <é>"))]);
    let objects = [
        json!({"log": format!("{whole}\n"), "stream": "stdout", "time": "2026-01-31T12:00:00.123456789Z"}),
        json!({"log": whole, "kubernetes": {"pod_name": "steward-0"}}),
        json!({"message": whole, "source_type": "docker_logs"}),
        json!({"MESSAGE": whole, "_PID": "7"}),
    ];
    for object in objects {
        assert_eq!(read(object.to_string().as_bytes()), read(whole.as_bytes()), "{object}");
        let named = ours(&format!("steward-1  | {object}"));
        assert_eq!(named.pod.as_deref(), Some("steward-1"));
    }
    let inside = json!({"log": prefixed("steward-2", &whole)});
    assert_eq!(ours(&inside.to_string()).pod.as_deref(), Some("steward-2"));

    // Docker cuts a line of more than 16 KiB. The first part counts as damaged, once.
    let (first, second) = whole.split_at(40);
    assert_eq!(read(json!({"log": first}).to_string().as_bytes()), LineReading::Damaged);
    assert_eq!(read(json!({"log": format!("{second}\n")}).to_string().as_bytes()), LineReading::Other);
    for other in [json!({"log": "GET /"}), json!({"log": 7}), json!({"log": null}), json!({"stream": "stdout"})] {
        assert_eq!(read(other.to_string().as_bytes()), LineReading::Other, "{other}");
    }
    let cut = json!({"log": whole}).to_string();
    assert_eq!(read(&cut.as_bytes()[..cut.len() - 5]), LineReading::Other);
}

#[apply(offline_test)]
fn a_missing_field_of_another_version_has_its_default() {
    let line = ours(&written(0, "INFO", "stats", &[("lag_total", json!(7)), ("news", json!([1, {"a": 2}]))]));
    assert_eq!(line.event, LoggedEvent::StatsReported(StatsReported { lag_total: 7, ..StatsReported::default() }));
}

// --------------------------------------------------------------------------------------------------------- the lines

#[apply(offline_test)]
fn lines_are_whole_independent_of_the_chunks() {
    proptest!(|(lines in prop::collection::vec("[a-z]{0,9}", 0..20), ends_open: bool, cuts in prop::collection::vec(1..9_usize, 0..60))| {
        let mut stream = lines.join("\r\n");
        if !ends_open && !lines.is_empty() {
            stream.push('\n');
        }
        let mut expected: Vec<String> = lines.clone();
        if ends_open && expected.last().is_some_and(String::is_empty) {
            expected.pop();
        }
        let mut splitter = LineSplitter::default();
        let mut found = Vec::new();
        let mut take = |piece: Piece<'_>| found.push(text_of(piece));
        let mut rest = stream.as_bytes();
        for cut in cuts {
            let (chunk, after) = rest.split_at(cut.min(rest.len()));
            splitter.push(chunk, &mut take);
            rest = after;
        }
        splitter.push(rest, &mut take);
        splitter.finish(&mut take);
        prop_assert_eq!(found, expected);
    });
}

#[apply(offline_test)]
fn a_line_that_is_too_long_does_not_hide_others() {
    let longest = "x".repeat(MAX_LINE_BYTES);
    let stream = format!("a\n{longest}\n{longest}x\nb\n{longest}x");
    for chunk in [7, 4_096, stream.len()] {
        let mut splitter = LineSplitter::default();
        let mut found = Vec::new();
        let mut take = |piece: Piece<'_>| found.push(text_of(piece).len());
        stream.as_bytes().chunks(chunk).for_each(|chunk| splitter.push(chunk, &mut take));
        splitter.finish(&mut take);
        assert_eq!(found, [1, MAX_LINE_BYTES, TOO_LONG.len(), 1, TOO_LONG.len()], "in chunks of {chunk}");
    }
}

#[apply(offline_test)]
fn lists_are_read_as_they_are_written() {
    let pairs = [("malformed_json", 3), ("not_found", 1)];
    assert_eq!(parse_counts(&counts(pairs, 100)).collect::<Vec<_>>(), pairs);
    assert_eq!(parse_counts(&counts(pairs, 25)).collect::<Vec<_>>(), pairs[..1]);
    assert_eq!(parse_counts("").count(), 0);
    assert_eq!(parse_counts("a:b:7,:3,x,y:-1,...").collect::<Vec<_>>(), [("a:b", 7)]);
}

#[apply(offline_test)]
fn counts_of_names_beyond_the_maximum_are_not_lost() {
    let mut tally = Tally::default();
    for n in 0..1_000 {
        tally.add(&format!("name-{n}"), 1);
    }
    tally.add(&"x".repeat(200), 3);
    tally.add(&"x".repeat(200), u64::MAX);
    assert!(tally.largest_first().len() <= 129, "{}", tally.largest_first().len());
    assert_eq!((tally.of("name-7"), tally.largest_first()[0]), (1, (Tally::OTHERS, u64::MAX)));
    let mut long = Tally::default();
    long.add(&"x".repeat(200), 3);
    long.add(&"x".repeat(200), 4);
    assert_eq!(long.largest_first(), [("x".repeat(80).as_str(), 7)]);
}

#[apply(offline_test)]
fn no_bytes_cause_a_panic() {
    let line = stats(0, &[("rejected", json!("not_found:3"))]);
    let noise = prop::collection::vec(any::<u8>(), 0..300);
    proptest!(|(noise in noise, at in 0..line.len(), in_front: bool)| {
        let mut bytes = line.clone().into_bytes();
        if in_front {
            bytes.splice(0..0, noise);
        } else {
            bytes.splice(at..at, noise);
        }
        show(&[read(&bytes)]);
    });
}

#[apply(offline_test)]
fn no_values_cause_a_panic() {
    let number = prop_oneof![Just(0_u64), Just(u64::MAX), any::<u64>()];
    let rate = prop_oneof![
        Just(0.0),
        Just(-1.0),
        Just(f64::MAX),
        any::<f64>().prop_filter("JSON has no other", |x| x.is_finite())
    ];
    let text = prop_oneof![Just("a:1,b:18446744073709551615".to_owned()), ".{0,40}"];
    let moment = prop_oneof![Just(-62_000_000_000_000_i64), Just(253_000_000_000_000), 0..2_000_000_000_000_i64];
    let line = (0..READ.len(), moment, number, rate, text, ".{0,10}");
    proptest!(|(lines in prop::collection::vec(line, 1..12))| {
        let readings: Vec<LineReading> = lines.into_iter().map(|(event, at, number, rate, text, prefix)| {
            let spec = all_events().find(|spec| spec.name == READ[event].name).expect("another test holds it");
            let value = |(field, kinds): &(&'static str, &[FieldKind])| {
                let is_text = kinds.contains(&FieldKind::Text);
                let is_rate = field.ends_with("_per_s");
                (*field, if is_text { json!(text) } else if is_rate { json!(rate) } else { json!(number) })
            };
            let fields: Vec<(&str, Value)> = READ[event].fields.iter().map(value).collect();
            read(format!("{prefix}{}", written(at, &spec.level.to_string(), spec.name, &fields)).as_bytes())
        }).collect();
        show(&readings);
    });
}

/// Adds the lines to everything that shows them.
fn show(readings: &[LineReading]) {
    let mut view = View::new("-", Colours::None);
    let mut recording = Recording::default();
    for reading in readings {
        view.add(reading, UnixMs(0));
        recording.add(reading);
    }
    recording.end();
    assert!(!plain(&view, UnixMs(i64::MAX)).is_empty());
    assert!(page(&recording, "-").ends_with("</html>"));
}

// ---------------------------------------------------------------------------------------------------------- the pods

#[apply(offline_test)]
fn counts_before_the_first_line_are_not_part_of_the_totals() {
    let fleet = fleet_of(&[
        stats(0, &[("events_total", json!(1_000)), ("rejected_total", json!(10))]),
        stats(10, &[("events_total", json!(1_300)), ("rejected_total", json!(12)), ("rejected", json!("not_found:2"))]),
    ]);
    assert_eq!((fleet.totals.events, fleet.totals.rejected), (300, 2));
    assert_eq!(fleet.totals.rejected_by_reason.of("not_found"), 2);
}

#[apply(offline_test)]
fn totals_continue_after_a_restart() {
    let fleet = fleet_of(&[
        start(0, "steward-0"),
        stats(10, &[("events_total", json!(500)), ("transactions", json!(3))]),
        stopped(15, 0),
        start(20, "steward-0"),
        stats(30, &[("events_total", json!(70)), ("transactions", json!(2))]),
    ]);
    let totals = &fleet.totals;
    assert_eq!((totals.events, totals.transactions, totals.restarts, totals.vanished), (570, 5, 1, 0));
    assert_eq!(pod(&fleet).life, Life::Running);
}

#[apply(offline_test)]
fn an_end_that_was_not_reported_is_distinguished_from_one_that_was() {
    let fleet = fleet_of(&[start(0, "a"), stats(10, &[]), start(12, "a"), failed(13, 7, "stalled")]);
    assert_eq!((fleet.totals.restarts, fleet.totals.vanished, fleet.totals.errors), (1, 1, 1));
    assert_eq!(pod(&fleet).life, Life::Failed { exit_code: 7, exit_name: "stalled".to_owned() });
    assert_eq!(pod(&fleet).liveness(UnixMs(i64::MAX)), Liveness::Ended);
}

#[apply(offline_test)]
fn a_pod_recovers_until_its_last_partition_serves() {
    let recovery = |at, event, partition, percent| {
        written(
            at,
            "INFO",
            event,
            &[("partition", json!(partition)), ("percent", json!(percent)), ("phase", json!("state"))],
        )
    };
    let mut fleet = fleet_of(&[recovery(0, "recovery_started", 0, 0), recovery(0, "recovery_started", 1, 0)]);
    fleet.add(&read(recovery(1, "recovery_progress", 1, 40).as_bytes()), UnixMs(1_000));
    assert_eq!(pod(&fleet).recovering.values().map(|(_, percent)| *percent).collect::<Vec<_>>(), [0, 40]);
    fleet.add(&read(recovery(2, "recovery_finished", 0, 0).as_bytes()), UnixMs(2_000));
    fleet.add(&read(recovery(2, "recovery_finished", 1, 0).as_bytes()), UnixMs(2_000));
    assert!(pod(&fleet).recovering.is_empty());
}

#[apply(offline_test)]
fn a_pod_is_silent_after_three_intervals_and_not_in_the_total() {
    let fields = [("interval_ms", json!(5_000)), ("lag_total", json!(4)), ("oldest_age_ms", json!(900))];
    let mut fleet = fleet_of(&[prefixed("a", &stats(0, &fields)), prefixed("b", &stats(0, &fields))]);
    fleet.add(&read(prefixed("b", &stats(15, &fields)).as_bytes()), UnixMs(15_000));

    let then = fleet.now(UnixMs(15_000));
    assert_eq!((then.live, then.silent, then.lag), (2, 0, 8));
    let after = fleet.now(UnixMs(15_001));
    assert_eq!((after.live, after.silent, after.lag, after.oldest_age_ms), (1, 1, 4, 900));
}

#[apply(offline_test)]
fn lines_of_several_processes_with_one_name_are_detected() {
    let total = |at, total| stats(at, &[("events_total", json!(total))]);
    let mixed: Vec<String> = (0..4).flat_map(|n| [total(10 * n, 1_000 + n), total(10 * n + 1, 50 + n)]).collect();
    assert!(fleet_of(&mixed).is_mixed());
    let named: Vec<String> = mixed.iter().enumerate().map(|(n, line)| prefixed(["a", "b"][n % 2], line)).collect();
    assert!(!fleet_of(&named).is_mixed());
    let restarted: Vec<String> = (0..8).flat_map(|n| [start(10 * n, "a"), total(10 * n + 1, 50 - n)]).collect();
    assert!(!fleet_of(&restarted).is_mixed());
}

#[apply(offline_test)]
fn pods_and_warnings_are_bounded() {
    let lines = |moment: fn(i64) -> i64| {
        (0..1_000).map(move |n| (UnixMs(moment(n)), prefixed(&format!("pod-{n}"), &warning(n, "w", &[]))))
    };
    let mut at_once = Fleet::new("-", WhenFull::DropSilent);
    for (_, line) in lines(|n| n) {
        at_once.add(&read(line.as_bytes()), UnixMs(0));
    }
    assert_eq!((at_once.pods.len(), at_once.notices.len(), at_once.lines_left_out), (200, 200, 800));

    let mut one_after_another = Fleet::new("-", WhenFull::DropSilent);
    for (now, line) in lines(|n| n * 60_000) {
        one_after_another.add(&read(line.as_bytes()), now);
    }
    assert_eq!((one_after_another.pods.len(), one_after_another.dropped_pods), (200, 800));
    assert!(one_after_another.pods.contains_key("pod-999"));
    assert_eq!(one_after_another.totals.warnings, 1_000);
}

#[apply(offline_test)]
fn a_silent_pod_is_dropped_and_its_counts_are_kept() {
    let mut fleet = fleet_of(&[start(0, "a"), stats(1, &[("events_total", json!(7))])]);
    fleet.drop_silent(UnixMs(60_000), 60_000);
    assert_eq!(fleet.pods.len(), 1, "not yet");
    fleet.drop_silent(UnixMs(62_000), 60_000);
    assert_eq!((fleet.pods.len(), fleet.totals.events), (0, 7));
}

// ---------------------------------------------------------------------------------------------------- the recording

#[apply(offline_test)]
fn a_long_series_has_a_lower_resolution_and_loses_no_count_and_no_peak() {
    let mut series = Series::default();
    for n in 0..20_000_u64 {
        let stats = StatsReported {
            interval_ms: 10_000,
            events_per_s: 5.0,
            transactions: 2,
            latency_p99_ms: if n == 12_345 { 9_999 } else { 7 },
            rejected: "not_found:1".to_owned(),
            ..StatsReported::default()
        };
        series.add(UnixMs(i64::try_from(n).expect("it is small") * 10_000), &stats);
    }
    assert!((400..=800).contains(&series.buckets().count()), "{}", series.buckets().count());
    assert_eq!(series.buckets().map(|bucket| bucket.transactions).sum::<u64>(), 40_000);
    assert_eq!(series.buckets().map(|bucket| bucket.rejected.of("not_found")).sum::<u64>(), 20_000);
    assert_eq!(series.buckets().map(|bucket| bucket.latency_p99_ms).max(), Some(9_999));
    assert!(series.buckets().all(|bucket| (bucket.per_s(bucket.events) - 5.0).abs() < 1e-9), "a rate stays a rate");
    let moments: Vec<i64> = series.buckets().map(|bucket| bucket.at.0).collect();
    assert!(moments.windows(2).all(|pair| pair[1] - pair[0] <= i64::try_from(series.gap_ms()).expect("small")));
}

#[apply(offline_test)]
fn the_first_problem_is_the_first_finding() {
    let recording = recorded(&[
        prefixed("b", &start(0, "b")),
        prefixed("b", &warning(20, "partitions_lost", &[("partitions", json!("0"))])),
        // Files of pods come one after the other, so what was first need not be read first.
        prefixed("a", &start(1, "a")),
        prefixed("a", &warning(5, "transaction_aborted", &[("cause", json!("first"))])),
        prefixed("a", &warning(6, "transaction_aborted", &[("cause", json!("second"))])),
        prefixed("a", &failed(30, 7, "stalled")),
        prefixed("b", &stopped(31, 0)),
    ]);
    let found: Vec<(String, Level, String)> =
        recording.findings().into_iter().map(|found| (found.pod, found.level, found.text)).collect();
    let expected = [
        ("a", Level::WARN, "transaction_aborted (the first of 2): cause=first"),
        ("b", Level::WARN, "partitions_lost: partitions=0"),
        ("a", Level::ERROR, "ended with exit code 7: exit_code=7  exit_name=stalled  error=it failed"),
    ];
    assert_eq!(found, expected.map(|(pod, level, text)| (pod.to_owned(), level, text.to_owned())));
    assert_eq!(recording.exits.largest_first(), [("0", 1), ("7 stalled", 1)]);
}

#[apply(offline_test)]
fn a_silence_and_its_end_are_found() {
    let serving = |at| stats(at, &[("phase", json!("serving, consumer polling, committer Idle"))]);
    let recording = recorded(&[
        prefixed("a", &serving(0)),
        prefixed("a", &serving(10)),
        prefixed("a", &serving(100)),
        prefixed("b", &serving(100)),
        prefixed("a", &serving(110)),
        prefixed("a", &serving(140)),
    ]);
    let activities = |pod: &str| -> Vec<(i64, Activity)> {
        recording.timelines[pod].activities.iter().map(|(at, doing)| (at.0 / 1_000, *doing)).collect()
    };
    assert_eq!(activities("a"), [(0, Activity::Serving), (10, Activity::Silent), (100, Activity::Serving)]);
    assert_eq!(activities("b"), [(100, Activity::Serving), (100, Activity::Silent)]);
    let texts: Vec<String> =
        recording.findings().into_iter().map(|found| format!("{} {}", found.pod, found.text)).collect();
    assert_eq!(texts[0], "a was silent for 90 s");
    assert!(texts[1].starts_with("b writes no more lines"), "{texts:?}");
}

// --------------------------------------------------------------------------------------------------------- the lines

/// What a real process writes, of the event of this name.
fn specimen(name: &str) -> String {
    let spec = all_events().find(|spec| spec.name == name).expect("it is one of them");
    let lines = lines_of(LogStyle::Json, everything(), || (spec.emit_specimen)("a text"));
    lines.into_iter().next().expect("an event writes a line")
}

/// A line as steward writes it, some seconds after the beginning.
pub fn written(at_ms: i64, level: &str, event: &str, fields: &[(&str, Value)]) -> String {
    let moment = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000).expect("a moment");
    let moment = moment.format(&time::format_description::well_known::Rfc3339).expect("a year of four digits");
    let mut object = format!(r#"{{"timestamp":"{moment}","level":"{level}","event":{}"#, json!(event));
    let fields: Map<String, Value> = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let fields = Value::Object(fields).to_string();
    if fields.len() > 2 {
        object.push(',');
        object.push_str(&fields[1..fields.len() - 1]);
    }
    object.push('}');
    object
}

/// A line of `stats`, at some second, with an interval of ten.
pub fn stats(at_s: i64, fields: &[(&str, Value)]) -> String {
    let mut all: BTreeMap<&str, Value> = BTreeMap::from([("interval_ms", json!(10_000))]);
    all.extend(fields.iter().cloned());
    written(at_s * 1_000, "INFO", "stats", &all.into_iter().collect::<Vec<_>>())
}

/// A line of level WARN.
pub fn warning(at_s: i64, event: &str, fields: &[(&str, Value)]) -> String {
    written(at_s * 1_000, "WARN", event, fields)
}

pub fn start(at_s: i64, instance: &str) -> String {
    written(at_s * 1_000, "INFO", "process_starting", &[("instance", json!(instance)), ("version", json!("0.1.0"))])
}

pub fn stopped(at_s: i64, exit_code: i64) -> String {
    written(at_s * 1_000, "INFO", "process_stopped", &[("exit_code", json!(exit_code))])
}

pub fn failed(at_s: i64, exit_code: i64, exit_name: &str) -> String {
    let fields = [("exit_code", json!(exit_code)), ("exit_name", json!(exit_name)), ("error", json!("it failed"))];
    written(at_s * 1_000, "ERROR", "process_failed", &fields)
}

/// As `kubectl logs --prefix` writes it.
pub fn prefixed(pod: &str, line: &str) -> String {
    format!("[pod/{pod}/steward] {line}")
}

const TOO_LONG: &str = "(too long)";

fn text_of(piece: Piece<'_>) -> String {
    match piece {
        Piece::Line(line) => String::from_utf8_lossy(line).into_owned(),
        Piece::TooLong => TOO_LONG.to_owned(),
    }
}

#[track_caller]
fn ours(line: &str) -> LogLine {
    match read(line.trim_end().as_bytes()) {
        LineReading::Steward(line) => *line,
        other @ (LineReading::Damaged | LineReading::Other) => panic!("{other:?}: {line}"),
    }
}

/// A fleet that read each line when it was written.
fn fleet_of(lines: &[String]) -> Fleet {
    let mut fleet = Fleet::new("-", WhenFull::DropSilent);
    for line in lines {
        let line = ours(line);
        let written = line.written;
        fleet.add(&LineReading::Steward(Box::new(line)), written);
    }
    fleet
}

/// The only one.
fn pod(fleet: &Fleet) -> &steward::tools::log_reader::Pod {
    fleet.pods.values().next().expect("the fleet has a pod")
}

pub fn recorded(lines: &[String]) -> Recording {
    let mut recording = Recording::default();
    lines.iter().for_each(|line| recording.add(&read(line.as_bytes())));
    recording.end();
    recording
}
