//! `steward dlq list` and `steward dlq show`. The tests of the replay have modules of their own.

mod permissions;
mod records;
mod replay;
mod replay_in_doubt;
mod scene;

use std::collections::BTreeMap;

use serde_json::Value;
use steward::entity::Reason;

use crate::cli::steward;
use crate::support::kafka::{Outgoing, record};
use scene::{Scene, lines};

#[apply(offline_test)]
fn a_wrong_command_line_ends_with_2() {
    let wrong: [&[&str]; 9] = [
        &["dlq"],
        &["dlq", "list", "--reason", "bad_mood"],
        &["dlq", "list", "--offset", "3"],
        &["dlq", "list", "--since", "yesterday"],
        &["dlq", "list", "--key", ""],
        &["dlq", "show", "1"],
        &["dlq", "show", "-1", "0"],
        &["dlq", "replay", "--rate", "0"],
        &["dlq", "replay", "--limit", "0"],
    ];
    for arguments in wrong {
        let ran = steward(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}: {}", ran.stderr);
    }
}

#[apply(offline_test)]
fn an_unreachable_broker_is_reported() {
    // This socket reserves the port without listening, so that no other process takes it.
    let reserved = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = reserved.local_addr().expect("bound").to_string();
    for arguments in [&["list"][..], &["show", "0", "0"], &["replay"], &["replay", "--execute"]] {
        let reach = ["--bootstrap-servers", &address, "--timeout-ms", "400"];
        let ran = steward(["dlq"].iter().chain(arguments).chain(&reach).copied());
        assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(&address) && ran.stderr.contains("400 ms"), "{}", ran.stderr);
    }
}

// ------------------------------------------------------------------------------------------------------------- list

/// The timestamp of the first DLQ record, in milliseconds since 1970: 2026-01-31T12:00:00Z. The next ones follow at
/// intervals of one second.
const FIRST_MS: i64 = 1_769_860_800_000;

#[apply(broker_test)]
fn thousands_of_dlq_records_of_all_reasons_are_listed_and_filtered() {
    let scene = Scene::new(3);
    let dlq_records: Vec<Outgoing> = (0..11_000_i64).map(|number| numbered(&scene, number)).collect();
    scene.kafka.produce(&scene.names.dlq, &dlq_records);

    let all = list(&scene, &[]);
    assert_eq!(all.len(), 11_000);
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for line in &all {
        *counts.entry(line["reason"].as_str().expect("a code")).or_default() += 1;
    }
    let expected: BTreeMap<&str, u64> = Reason::ALL.map(|reason| (reason.code(), 1_000)).into();
    assert_eq!(counts, expected);

    let filtered: [(&[&str], usize); 9] = [
        (&["--reason", "not_found"], 1_000),
        (&["--reason", "not_found", "--reason", "panicked"], 2_000),
        (&["--key", "7"], 22),
        (&["--key", "7", "--key", "8"], 44),
        (&["--since", "2026-01-31T12:00:10Z", "--until", "2026-01-31T13:00:20+01:00"], 10),
        (&["--partition", "1"], 3_667),
        (&["--partition", "1", "--offset", "0", "--offset", "5"], 2),
        (&["--source-from", "100", "--source-to", "199"], 300),
        (&["--reason", "not_found", "--partition", "0", "--source-to", "19"], 1),
    ];
    for (flags, count) in filtered {
        assert_eq!(list(&scene, flags).len(), count, "{flags:?}");
    }
    let one = &list(&scene, &["--partition", "1", "--offset", "5"])[0];
    assert_eq!((&one["offset"], &one["source_offset"], &one["key"]), (&5.into(), &5.into(), &"16".into()));
    assert_eq!((&one["timestamp_ms"], &one["value_bytes"]), (&(FIRST_MS + 16_000).into(), &2.into()));
    assert_eq!((&one["truncated"], &one["replayed"]), (&false.into(), &false.into()));
}

#[apply(broker_test)]
fn a_list_is_bounded_and_shows_the_newest() {
    let scene = Scene::new(3);
    let dlq_records: Vec<Outgoing> = (0..150).map(|number| numbered(&scene, number)).collect();
    scene.kafka.produce(&scene.names.dlq, &dlq_records);

    let ran = scene.dlq(&["list", "--limit", "3", "--json"]);
    assert!(ran.stderr.contains("the newest 3 of 150 DLQ records"), "{}", ran.stderr);
    assert!(ran.stderr.contains("missing_key 14, ") || ran.stderr.contains(", missing_key 14"), "{}", ran.stderr);
    let times: Vec<i64> = lines(&ran.ok()).iter().map(|line| line["timestamp_ms"].as_i64().expect("ms")).collect();
    assert_eq!(times, [147, 148, 149].map(|number| FIRST_MS + number * 1_000), "ordered by the time of rejection");

    let table = scene.dlq(&["list"]);
    assert!(table.stderr.contains("the newest 100 of 150"), "{}", table.stderr);
    let table = table.ok();
    assert!(table.contains("2026-01-31T12:02:29Z") && !table.contains("2026-01-31T12:00:01Z"), "{table}");
}

#[apply(broker_test)]
fn a_list_never_shows_a_value() {
    let scene = Scene::new(1);
    let dlq_record =
        scene.dlq_record("malformed_json", record("42", "hunter2"), 5).header("steward-detail", "see for yourself");
    scene.kafka.produce(&scene.names.dlq, &[dlq_record]);

    for flags in [&["list"][..], &["list", "--json"]] {
        let shown = scene.dlq(flags).ok();
        assert!(shown.contains("see for yourself") && !shown.contains("hunter2"), "{shown}");
    }
}

#[apply(broker_test)]
fn an_empty_topic_is_listed() {
    let scene = Scene::new(2);
    assert!(scene.dlq(&["list"]).stderr.contains("0 DLQ records"));
    assert_eq!(scene.dlq(&["list", "--json"]).ok(), "");
}

// ------------------------------------------------------------------------------------------------------------- show

#[apply(broker_test)]
fn a_dlq_record_is_shown_whole() {
    let scene = Scene::new(2);
    let event = record("42", r#"{"eventType":"?"}"#).to(1).header("trace", "abc").null_header("empty");
    let event = event.header("steward-reason", "an older header of the name");
    scene.kafka.produce(&scene.names.dlq, &[scene.dlq_record("unknown_event_type", event, 17)]);

    let table = scene.dlq(&["show", "1", "0"]).ok();
    for expected in ["unknown_event_type", r#"{"eventType":"?"}"#, "header trace", "abc", "offset 17", "42", "(null)"] {
        assert!(table.contains(expected), "{expected}: {table}");
    }
    let shown: Value = serde_json::from_str(&scene.dlq(&["show", "1", "0", "--json"]).ok()).expect("one object");
    assert_eq!((&shown["value"], &shown["key"]), (&r#"{"eventType":"?"}"#.into(), &"42".into()));
    assert_eq!((&shown["reason"], &shown["source_offset"]), (&"unknown_event_type".into(), &17.into()));
    let names: Vec<&Value> =
        shown["headers"].as_array().expect("headers").iter().map(|header| &header["name"]).collect();
    assert_eq!(names, ["trace", "empty", "steward-reason"], "only the event's own headers are listed");
    assert_eq!(shown["headers"][1]["value"], Value::Null);
}

#[apply(broker_test)]
fn bytes_that_are_not_text_are_shown_without_steering_a_terminal() {
    let scene = Scene::new(1);
    let event = record([0xff, 0x1b], "\u{1b}[2J\u{202e}x").header("h\u{7}", [0xfe, 0xff]);
    let truncated = Outgoing { value: None, ..record("1", "") }.header("own", "1");
    let truncated = scene.dlq_record("malformed_json", truncated, 2);
    let truncated = truncated.header("steward-truncated", "true").header("steward-truncated-length", "9000");
    let foreign = record("1", [0xc3]).header("\u{1b}", "1");
    let detailed = scene.dlq_record("malformed_json", event, 1).header("steward-detail", "\u{1b}]0;title\u{7}");
    scene.kafka.produce(&scene.names.dlq, &[detailed, truncated, foreign]);

    for flags in [&["show", "0", "0"][..], &["show", "0", "2"], &["list"]] {
        let shown = scene.dlq(flags).ok();
        let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!shown.contains(steers), "{shown:?}");
    }
    assert!(scene.dlq(&["show", "0", "0"]).ok().contains("\\u{1b}[2J\\u{202e}x"));
    assert!(scene.dlq(&["show", "0", "1"]).ok().contains("did not take its 9000 bytes"));
    let shown: Value = serde_json::from_str(&scene.dlq(&["show", "0", "0", "--json"]).ok()).expect("one object");
    assert_eq!((&shown["key"], &shown["key_base64"]), (&Value::Null, &"/xs=".into()));
    assert_eq!(shown["headers"][0]["value_base64"], "/v8=");
    let listed = list(&scene, &[]);
    assert_eq!((&listed[1]["truncated"], &listed[1]["value_bytes"]), (&true.into(), &9_000.into()));
    assert_eq!((&listed[2]["reason"], &listed[2]["source_offset"]), (&Value::Null, &Value::Null));
}

#[apply(broker_test)]
fn a_missing_dlq_record_ends_with_15() {
    let scene = Scene::new(1);
    scene.kafka.produce(&scene.names.dlq, &[scene.dlq_record("not_found", record("1", "{}"), 0)]);
    let ran = scene.dlq(&["show", "0", "1"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (15, ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("no DLQ record"), "{}", ran.stderr);
    assert_eq!(scene.dlq(&["show", "1", "0"]).code, 2, "the partition does not exist");
}

// ------------------------------------------------------------------------------------------------------------ helpers

fn list(scene: &Scene, flags: &[&str]) -> Vec<Value> {
    lines(&scene.dlq(&[&["list", "--json"], flags].concat()).ok())
}

/// A DLQ record: reason, partition and key are taken in turn from 11 reasons, 3 partitions and 500 keys.
fn numbered(scene: &Scene, number: i64) -> Outgoing {
    let reason = Reason::ALL[usize::try_from(number % 11).expect("small")];
    let partition = i32::try_from(number % 3).expect("a small number");
    let event = record((number % 500).to_string(), "{}").to(partition).at(FIRST_MS + number * 1_000);
    scene.dlq_record(reason.code(), event, number / 3)
}
