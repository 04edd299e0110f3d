//! The checker finds each fault: a test changes a perfect outcome in one way, and the checker has to name the fault.

use steward::testing::reference::{Expectation, Fault, HeaderOf, Model, Rejected, SeenRecords, TopicRecord, check};
use steward::testing::workload::Workload;

#[apply(offline_test)]
fn a_perfect_outcome_has_no_differences() {
    assert_eq!(broken(|_| {}), []);
}

#[apply(offline_test)]
fn a_long_perfect_outcome_has_no_differences() {
    let workload = Workload { events: 3_000, keys: 40, invalid_share: 0.2, ..Workload::default() };
    let mut model = Model::keeping_history(workload.max_payload_bytes);
    for (offset, event) in (0..).zip(workload.generate().expect("the defaults are valid")) {
        let headers = event.headers.into_iter().map(|(name, value)| (name, Some(value))).collect();
        let (partition, timestamp_ms) = (i32::try_from(offset % 3).expect("less than 3"), Some(event.timestamp_ms));
        let (key, value) = (event.key, event.value);
        model.process_record(&TopicRecord { partition, offset, timestamp_ms, key, value, headers });
    }
    let found: Vec<String> = check(&model, &expectation(), &perfect(&model)).iter().map(ToString::to_string).collect();
    assert_eq!(found, [""; 0]);
}

#[apply(offline_test)]
fn a_state_topic_thinned_by_compaction_has_no_differences() {
    assert_eq!(broken(|seen| _ = seen.state.remove(at(&seen.state, 0, 10))), []);
}

#[apply(offline_test)]
fn a_lost_event_is_found() {
    let mut events = input();
    events.remove(1);
    assert_eq!(faults_of_state_from(&events), [Fault::StateDiffers, Fault::HistoryDiffers]);
}

#[apply(offline_test)]
fn a_doubled_event_is_found() {
    let mut events = input();
    let again = TopicRecord { offset: 15, ..events[1].clone() };
    events.insert(2, again);
    assert_eq!(faults_of_state_from(&events), [Fault::StateDiffers, Fault::HistoryUnknown, Fault::HistoryDiffers]);
}

#[apply(offline_test)]
fn a_swapped_pair_is_found() {
    let mut events = input();
    events.swap(1, 2);
    (events[1].offset, events[2].offset) = (10, 20);
    assert_eq!(faults_of_state_from(&events), [Fault::StateDiffers, Fault::HistoryDiffers]);
}

#[apply(offline_test)]
fn a_wrong_timestamp_is_found() {
    let mut events = input();
    events[2].timestamp_ms = Some(events[2].timestamp_ms.unwrap_or(0) + 1);
    assert_eq!(faults_of_state_from(&events), [Fault::StateDiffers, Fault::HistoryDiffers]);
}

#[apply(offline_test)]
fn a_lost_last_event_is_reported_as_the_older_state() {
    let mut seen = perfect(&model());
    seen.state.remove(at(&seen.state, 0, 20));
    let differences = check(&model(), &expectation(), &seen);
    assert_eq!(differences.len(), 1);
    assert_eq!(differences[0].fault, Fault::StateDiffers);
    assert!(differences[0].to_string().ends_with("its state after offset 10"), "{}", differences[0]);
}

#[apply(offline_test)]
fn a_missing_entity_is_found() {
    assert_eq!(broken(|seen| seen.state.retain(|record| record.partition == 0)), [Fault::StateMissing]);
}

#[apply(offline_test)]
fn an_entity_that_was_never_created_is_found() {
    let invented = |seen: &mut SeenRecords| {
        let mut copy = seen.state[0].clone();
        copy.key = Some(b"77".to_vec());
        seen.state.push(copy);
    };
    assert_eq!(broken(invented), [Fault::StateUnexpected, Fault::HistoryUnknown]);
}

#[apply(offline_test)]
fn a_missing_tombstone_is_found() {
    assert_eq!(broken(|seen| _ = seen.state.remove(at(&seen.state, 0, 50))), [Fault::StateDiffers]);
    assert_eq!(broken(|seen| seen.state.retain(|it| it.key != Some(b"43".to_vec()))), [Fault::StateMissing]);
}

#[apply(offline_test)]
fn wrong_headers_of_a_snapshot_are_found() {
    let newest = |change: fn(&mut TopicRecord)| {
        broken(move |seen| {
            let index = at(&seen.state, 0, 20);
            change(&mut seen.state[index]);
        })
    };
    assert_eq!(newest(|it| set(it, "steward-group", b"other")), [Fault::StateHeader]);
    assert_eq!(newest(|it| set(it, "traceparent", b"00-other")), [Fault::StateHeader]);
    assert_eq!(newest(|it| set(it, "tracestate", b"more")), [Fault::StateHeader]);
    assert_eq!(newest(|it| it.headers.retain(|(name, _)| name != "traceparent")), [Fault::StateHeader]);
    let offset = newest(|it| set(it, "steward-source-offset", b"21"));
    assert_eq!(offset, [Fault::StateHeader, Fault::HistoryUnknown]);
}

#[apply(offline_test)]
fn a_snapshot_on_the_wrong_partition_is_found() {
    let moved = |seen: &mut SeenRecords| {
        let index = at(&seen.state, 1, 0);
        seen.state[index].partition = 0;
    };
    assert_eq!(broken(moved), [Fault::StateMissing, Fault::StateOnWrongPartition]);
}

#[apply(offline_test)]
fn a_snapshot_without_its_source_is_found() {
    let newest = |change: fn(&mut TopicRecord)| {
        broken(move |seen| {
            let index = at(&seen.state, 1, 0);
            change(&mut seen.state[index]);
        })
    };
    let expected = [Fault::StateMissing, Fault::StateWithoutSource];
    assert_eq!(newest(|it| it.key = None), expected);
    assert_eq!(newest(|it| it.headers.clear()), expected);
    assert_eq!(newest(|it| set(it, "steward-source-offset", b"00")), expected);
    assert_eq!(newest(|it| set(it, "steward-source-partition", b"+1")), expected);
}

#[apply(offline_test)]
fn an_older_snapshot_after_a_newer_one_is_found() {
    let swapped = |seen: &mut SeenRecords| {
        let (older, newer) = (at(&seen.state, 0, 10), at(&seen.state, 0, 20));
        seen.state.swap(older, newer);
    };
    assert_eq!(broken(swapped), [Fault::StateDiffers, Fault::HistoryNotRising]);
}

#[apply(offline_test)]
fn a_snapshot_that_is_published_twice_is_found() {
    let twice = |seen: &mut SeenRecords| {
        let index = at(&seen.state, 0, 20);
        seen.state.insert(index, seen.state[index].clone());
    };
    assert_eq!(broken(twice), [Fault::HistoryNotRising]);
}

#[apply(offline_test)]
fn a_wrong_snapshot_that_was_repaired_later_is_found() {
    let repaired = |seen: &mut SeenRecords| {
        let index = at(&seen.state, 0, 10);
        seen.state[index].value = Some(b"{}".to_vec());
    };
    assert_eq!(broken(repaired), [Fault::HistoryDiffers]);
}

#[apply(offline_test)]
fn a_snapshot_of_a_rejected_event_is_found() {
    let of_rejected = |seen: &mut SeenRecords| {
        let index = at(&seen.state, 0, 10);
        set(&mut seen.state[index], "steward-source-offset", b"5");
    };
    assert_eq!(broken(of_rejected), [Fault::HistoryUnknown]);
}

#[apply(offline_test)]
fn without_history_the_newest_snapshot_is_still_compared() {
    let model = processed(Model::new(LIMIT), &input());
    let mut seen = perfect(&self::model());
    assert_eq!(faults(&model, &seen), []);
    seen.state.remove(at(&seen.state, 0, 20));
    assert_eq!(faults(&model, &seen), [Fault::StateDiffers]);
}

#[apply(offline_test)]
fn a_missing_dlq_record_is_found() {
    assert_eq!(broken(|seen| _ = seen.dlq_records.remove(1)), [Fault::DlqRecordMissing]);
}

#[apply(offline_test)]
fn a_doubled_dlq_record_is_found() {
    let doubled = |seen: &mut SeenRecords| seen.dlq_records.insert(1, seen.dlq_records[1].clone());
    assert_eq!(broken(doubled), [Fault::DlqRecordDoubled]);
}

#[apply(offline_test)]
fn a_dlq_record_of_an_applied_event_is_found() {
    let applied = |seen: &mut SeenRecords| {
        let mut copy = seen.dlq_records[1].clone();
        set(&mut copy, "steward-source-offset", b"50");
        seen.dlq_records.push(copy);
    };
    // Partition 0 ends with the DLQ record of offset 30.
    assert_eq!(broken(applied), [Fault::DlqRecordUnexpected]);
}

#[apply(offline_test)]
fn dlq_records_out_of_order_are_found() {
    assert_eq!(broken(|seen| seen.dlq_records.swap(0, 1)), [Fault::DlqRecordOutOfOrder]);
}

#[apply(offline_test)]
fn a_dlq_record_on_the_wrong_partition_is_found() {
    let moved = |seen: &mut SeenRecords| seen.dlq_records[0].partition = 1;
    assert_eq!(broken(moved), [Fault::DlqRecordMissing, Fault::DlqRecordOnWrongPartition]);
}

#[apply(offline_test)]
fn a_dlq_record_without_its_source_is_found() {
    let expected = [Fault::DlqRecordMissing, Fault::DlqRecordWithoutSource];
    assert_eq!(broken(|seen| set(&mut seen.dlq_records[0], "steward-source-offset", b"five")), expected);
    assert_eq!(broken(|seen| seen.dlq_records[0].headers.clear()), expected);
}

#[apply(offline_test)]
fn a_wrong_reason_is_found() {
    let wrong = |seen: &mut SeenRecords| set(&mut seen.dlq_records[0], "steward-reason", b"not_found");
    assert_eq!(broken(wrong), [Fault::DlqRecordReason]);
}

#[apply(offline_test)]
fn a_changed_key_of_a_dlq_record_is_found() {
    assert_eq!(broken(|seen| seen.dlq_records[0].key = Some(b"042".to_vec())), [Fault::DlqRecordKey]);
    // An empty key is not a null one.
    assert_eq!(broken(|seen| seen.dlq_records[2].key = Some(Vec::new())), [Fault::DlqRecordKey]);
}

#[apply(offline_test)]
fn a_changed_value_of_a_dlq_record_is_found() {
    assert_eq!(broken(|seen| seen.dlq_records[0].value = None), [Fault::DlqRecordValue]);
    let trimmed = |seen: &mut SeenRecords| seen.dlq_records[0].value.iter_mut().for_each(|value| value.truncate(9));
    assert_eq!(broken(trimmed), [Fault::DlqRecordValue]);
}

#[apply(offline_test)]
fn changed_original_headers_are_found() {
    let expected = [Fault::DlqRecordOriginalHeaders];
    assert_eq!(broken(|seen| seen.dlq_records[1].headers[0].1 = None), expected);
    assert_eq!(broken(|seen| seen.dlq_records[1].headers[1].1 = Some(Vec::new())), expected);
    assert_eq!(broken(|seen| seen.dlq_records[1].headers.swap(0, 1)), expected);
    assert_eq!(broken(|seen| drop(seen.dlq_records[1].headers.remove(0))), expected);
}

#[apply(offline_test)]
fn missing_doubled_and_wrong_headers_of_a_dlq_record_are_found() {
    let header = |change: fn(&mut Vec<HeaderOf>)| broken(move |seen| change(&mut seen.dlq_records[0].headers));
    assert_eq!(header(|it| it.push(it[0].clone())), [Fault::DlqRecordHeader]);
    assert_eq!(header(|it| it.push(("steward-extra".into(), None))), [Fault::DlqRecordHeader]);
    assert_eq!(header(|it| it.retain(|(name, _)| name != "steward-source-topic")), [Fault::DlqRecordHeader]);
    assert_eq!(
        broken(|seen| set(&mut seen.dlq_records[0], "steward-source-topic", b"other")),
        [Fault::DlqRecordHeader]
    );
    assert_eq!(
        header(|it| it.retain(|(name, _)| name != "steward-reason")),
        [Fault::DlqRecordReason, Fault::DlqRecordHeader]
    );
    assert_eq!(
        header(|it| it.retain(|(name, _)| name != "steward-detail")),
        [Fault::DlqRecordDetail, Fault::DlqRecordHeader]
    );
}

#[apply(offline_test)]
fn a_timestamp_that_is_not_decimal_is_found() {
    let timestamp = |index: usize, value: &'static [u8]| {
        broken(move |seen| set(&mut seen.dlq_records[index], "steward-source-timestamp", value))
    };
    assert_eq!(timestamp(0, b"1767225600005"), []);
    assert_eq!(timestamp(0, b"2026-01-01T00:00:00.005Z"), [Fault::DlqRecordHeader]);
    assert_eq!(timestamp(0, b"1767225600006"), [Fault::DlqRecordHeader]);
    // A record without a timestamp has -1.
    assert_eq!(timestamp(2, b"-1"), []);
    assert_eq!(timestamp(2, b"0"), [Fault::DlqRecordHeader]);
}

#[apply(offline_test)]
fn a_detail_that_is_empty_too_long_or_quotes_too_much_is_found() {
    let detail = |value: Vec<u8>| broken(move |seen| set(&mut seen.dlq_records[0], "steward-detail", &value));
    let quoted = |characters: usize| [b"no such type: ", &UNKNOWN_TYPE.as_bytes()[..characters]].concat();
    assert_eq!(detail(vec![b'x'; 4096]), []);
    assert_eq!(detail(quoted(64)), []);
    assert_eq!(detail(quoted(65)), [Fault::DlqRecordDetail]);
    assert_eq!(detail(vec![b'x'; 4097]), [Fault::DlqRecordDetail]);
    assert_eq!(detail(Vec::new()), [Fault::DlqRecordDetail]);
    assert_eq!(detail(vec![0xff]), [Fault::DlqRecordDetail]);
}

#[apply(offline_test)]
fn a_detail_that_lists_other_violations_is_found() {
    let detail =
        |value: &'static str| broken(move |seen| set(&mut seen.dlq_records[1], "steward-detail", value.as_bytes()));
    let expected = [Fault::DlqRecordDetail];
    assert_eq!(detail("the name is wrong"), expected);
    assert_eq!(detail("[]"), expected);
    assert_eq!(detail(r#"[{"field":"name","code":"length","message":"m"}]"#), expected);
    assert_eq!(
        detail(r#"[{"field":"name","code":"length","message":"m"},{"field":"name","code":"type","message":"m"}]"#),
        expected
    );
    assert_eq!(detail(r#"[{"field":"name","code":"length"},{"field":"name","code":"blank"}]"#), expected);
}

#[apply(offline_test)]
fn violations_may_be_listed_in_any_order() {
    let detail = r#"[{"field":"name","code":"blank","message":"m"},{"field":"name","code":"length","message":"m"}]"#;
    assert_eq!(broken(|seen| set(&mut seen.dlq_records[1], "steward-detail", detail.as_bytes())), []);
}

#[apply(offline_test)]
fn a_committed_offset_before_the_last_record_is_found() {
    assert_eq!(broken(|seen| _ = seen.committed.insert(0, 51)), []);
    assert_eq!(broken(|seen| _ = seen.committed.insert(0, 50)), [Fault::CommittedBehind]);
    assert_eq!(broken(|seen| _ = seen.committed.remove(&1)), [Fault::CommittedBehind]);
}

#[apply(offline_test)]
fn a_committed_offset_past_the_end_is_found() {
    assert_eq!(broken(|seen| _ = seen.committed.insert(0, 61)), [Fault::CommittedBeyond]);
}

#[apply(offline_test)]
fn a_difference_is_described_in_a_sentence() {
    let mut seen = perfect(&model());
    set(&mut seen.dlq_records[0], "steward-reason", b"not_found");
    seen.committed.insert(1, 3);
    let sentences: Vec<String> = check(&model(), &expectation(), &seen).iter().map(ToString::to_string).collect();
    let expected = [
        "partition 0, key `42`, input offset 5: a DLQ record names another reason: expected steward-reason \
         `unknown_event_type`, found steward-reason `not_found`",
        "partition 1, input offset 7: the committed position is not past the last record: expected at least 8, found 3",
    ];
    assert_eq!(sentences, expected);
}

const LIMIT: u64 = 10_000;
const UNKNOWN_TYPE: &str =
    r#"{"eventType":"ServiceArchived, which is one of the types that only another version knows about","id":42}"#;

/// In partition 0, service 42 is created and updated twice, and 43 is created and deleted. Partition 1 has its own 42.
/// Some events of both partitions are rejected. Some records have headers, one has no timestamp, and offsets have gaps.
fn input() -> Vec<TopicRecord> {
    let created = |id: u64| {
        format!(r#"{{"eventType":"ServiceCreated","id":{id},"name":"n","description":"d","tags":[],"pricePerHour":1}}"#)
    };
    let blank = format!(r#"{{"eventType":"ServiceUpdated","id":42,"name":"{}"}}"#, " ".repeat(70));
    let trace: [(&str, Option<&str>); 3] =
        [("traceparent", Some("00-first")), ("traceparent", Some("00-last")), ("other", None)];
    let foreign: [(&str, Option<&str>); 2] = [("steward-reason", Some("not_found")), ("empty", None)];
    let mut unknown = record(0, 5, "42", UNKNOWN_TYPE, &[]);
    unknown.timestamp_ms = Some(1_767_225_600_005);
    let keyless = TopicRecord { key: None, timestamp_ms: None, ..record(1, 5, "42", "{}", &[]) };
    vec![
        record(0, 0, "42", &created(42), &[]),
        record(0, 10, "42", r#"{"eventType":"ServiceUpdated","id":42,"pricePerHour":2}"#, &[]),
        record(0, 20, "42", r#"{"eventType":"ServiceUpdated","id":42,"pricePerHour":3}"#, &trace),
        record(0, 30, "42", &blank, &foreign),
        record(0, 40, "43", &created(43), &[]),
        record(0, 50, "43", r#"{"eventType":"ServiceDeleted","id":43}"#, &[]),
        record(1, 0, "42", &created(42), &[]),
        keyless,
        record(1, 7, "44", r#"{"eventType":"ServiceDeleted","id":44}"#, &[]),
        unknown,
    ]
}

fn record(partition: i32, offset: i64, key: &str, value: &str, headers: &[(&str, Option<&str>)]) -> TopicRecord {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), value.map(|value| value.as_bytes().to_vec())));
    TopicRecord {
        partition,
        offset,
        timestamp_ms: Some(1_767_225_600_000 + offset),
        key: Some(key.into()),
        value: Some(value.into()),
        headers: headers.collect(),
    }
}

fn model() -> Model {
    processed(Model::keeping_history(LIMIT), &input())
}

fn processed(mut model: Model, events: &[TopicRecord]) -> Model {
    let mut events = events.to_vec();
    events.sort_by_key(|event| (event.partition, event.offset));
    for event in &events {
        model.process_record(event);
    }
    model
}

fn expectation() -> Expectation {
    Expectation { topic: "services".into(), group: "steward".into() }
}

/// The records of a service that keeps the contract.
fn perfect(model: &Model) -> SeenRecords {
    let mut seen = SeenRecords::default();
    for ((partition, key), _) in model.newest() {
        for snapshot in model.history_of(*partition, key).unwrap_or_default() {
            let mut headers = vec![
                ("steward-source-partition".to_owned(), Some(partition.to_string().into_bytes())),
                ("steward-source-offset".to_owned(), Some(snapshot.newest_offset.to_string().into_bytes())),
                ("steward-group".to_owned(), Some(b"steward".to_vec())),
            ];
            headers.extend(snapshot.traceparent.clone().map(|value| ("traceparent".to_owned(), Some(value))));
            let (key, value) = (Some(key.clone()), snapshot.value.clone());
            let offset = i64::try_from(seen.state.len()).expect("few records");
            seen.state.push(TopicRecord { partition: *partition, offset, timestamp_ms: Some(0), key, value, headers });
        }
    }
    seen.dlq_records = model.rejections().iter().map(dlq_record).collect();
    seen.committed = model.last_offsets().iter().map(|(partition, last)| (*partition, last + 1)).collect();
    seen.ends = model.last_offsets().iter().map(|(partition, last)| (*partition, last + 10)).collect();
    seen
}

fn dlq_record(rejected: &Rejected) -> TopicRecord {
    let event = &rejected.record;
    let violations: Vec<String> = rejected
        .violations
        .iter()
        .map(|broken| format!(r#"{{"field":"{}","code":"{}","message":"m"}}"#, broken.field, broken.code))
        .collect();
    let detail = if violations.is_empty() { "no".to_owned() } else { format!("[{}]", violations.join(",")) };
    let added = [
        ("steward-reason", rejected.reason.code().to_owned()),
        ("steward-detail", detail),
        ("steward-source-topic", "services".to_owned()),
        ("steward-source-partition", event.partition.to_string()),
        ("steward-source-offset", event.offset.to_string()),
        ("steward-source-timestamp", event.timestamp_ms.unwrap_or(-1).to_string()),
        ("steward-group", "steward".to_owned()),
    ];
    let mut copy = event.clone();
    copy.headers.extend(added.map(|(name, value)| (name.to_owned(), Some(value.into_bytes()))));
    copy
}

/// Changes a perfect outcome, and returns the faults that the checker finds, each once.
fn broken(change: impl FnOnce(&mut SeenRecords)) -> Vec<Fault> {
    let model = model();
    let mut seen = perfect(&model);
    change(&mut seen);
    faults(&model, &seen)
}

/// Returns the faults of a state topic that was made from `events` instead of the input.
fn faults_of_state_from(events: &[TopicRecord]) -> Vec<Fault> {
    let mut seen = perfect(&model());
    seen.state = perfect(&processed(Model::keeping_history(LIMIT), events)).state;
    faults(&model(), &seen)
}

fn faults(model: &Model, seen: &SeenRecords) -> Vec<Fault> {
    let mut faults: Vec<Fault> = check(model, &expectation(), seen).iter().map(|difference| difference.fault).collect();
    faults.sort_unstable();
    faults.dedup();
    faults
}

fn at(state: &[TopicRecord], partition: i32, source_offset: i64) -> usize {
    let offset = source_offset.to_string();
    let found = state.iter().position(|record| {
        record.partition == partition && record.last_header("steward-source-offset") == Some(Some(offset.as_bytes()))
    });
    found.expect("the perfect outcome contains this snapshot")
}

/// Changes the last header of the name, or adds it.
fn set(record: &mut TopicRecord, name: &str, value: &[u8]) {
    match record.headers.iter_mut().rev().find(|(found, _)| found == name) {
        Some((_, old)) => *old = Some(value.to_vec()),
        None => record.headers.push((name.into(), Some(value.to_vec()))),
    }
}
