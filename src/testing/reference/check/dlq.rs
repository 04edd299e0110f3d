//! Checks the DLQ topic: each rejected event once, in order, unchanged, with the right reason.

use std::collections::BTreeMap;

use crate::entity::Reason;
use crate::testing::reference::check::difference::{Difference, Fault, shown};
use crate::testing::reference::check::{Expectation, decimal};
use crate::testing::reference::json::{self, ModelJson, Text};
use crate::testing::reference::{HeaderOf, Model, Rejected, TopicRecord};

/// Greatest length of `steward-detail`, in bytes.
const MAX_DETAIL_BYTES: usize = 4096;
/// Greatest number of characters of the input that `steward-detail` may quote.
const MAX_QUOTED_CHARACTERS: usize = 64;

pub(super) fn check(model: &Model, expected: &Expectation, records: &[TopicRecord]) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut found: BTreeMap<(i32, i64), Vec<&TopicRecord>> = BTreeMap::new();
    let mut newest: BTreeMap<i32, i64> = BTreeMap::new();
    for record in records {
        let source_offset = match place(record) {
            Ok(source_offset) => source_offset,
            Err(difference) => {
                differences.push(difference);
                continue;
            }
        };
        found.entry((record.partition, source_offset)).or_default().push(record);
        if let Some(earlier) = newest.insert(record.partition, source_offset).filter(|it| *it > source_offset) {
            let rising = format!("an event after offset {earlier}");
            let difference = Fault::DlqRecordOutOfOrder.at(record.partition, rising, format!("offset {source_offset}"));
            differences.push(difference.key(record.key.as_deref()).offset(source_offset));
        }
    }
    for rejected in model.rejections() {
        let event = &rejected.record;
        let here = |difference: Difference| difference.key(event.key.as_deref()).offset(event.offset);
        let copies = found.remove(&(event.partition, event.offset)).unwrap_or_default();
        if copies.is_empty() {
            let reason = rejected.reason.code();
            differences.push(here(Fault::DlqRecordMissing.at(event.partition, reason, "no DLQ record")));
        }
        if copies.len() > 1 {
            let times = format!("{} times", copies.len());
            differences.push(here(Fault::DlqRecordDoubled.at(event.partition, "once", times)));
        }
        for copy in copies {
            differences.extend(check_one(expected, rejected, copy).into_iter().map(here));
        }
    }
    for ((partition, source_offset), records) in found {
        for record in records {
            let reason = shown(record.last_header("steward-reason").flatten());
            let difference = Fault::DlqRecordUnexpected.at(partition, "no DLQ record", reason);
            differences.push(difference.key(record.key.as_deref()).offset(source_offset));
        }
    }
    differences
}

/// Returns the input offset of a DLQ record that is in the partition of its event.
fn place(record: &TopicRecord) -> Result<i64, Difference> {
    let partition = decimal(record, "steward-source-partition");
    let Some((source_partition, source_offset)) = partition.zip(decimal(record, "steward-source-offset")) else {
        let expected = "decimal digits in steward-source-partition and steward-source-offset";
        let found = format!("{:?} at offset {} of the DLQ topic", record.headers, record.offset);
        let difference = Fault::DlqRecordWithoutSource.at(record.partition, expected, found);
        return Err(difference.key(record.key.as_deref()));
    };
    if source_partition != i64::from(record.partition) {
        let expected = format!("partition {source_partition}");
        let difference =
            Fault::DlqRecordOnWrongPartition.at(record.partition, expected, format!("partition {}", record.partition));
        return Err(difference.key(record.key.as_deref()).offset(source_offset));
    }
    Ok(source_offset)
}

/// Compares one DLQ record with its event. The differences have no key and offset yet.
fn check_one(expected: &Expectation, rejected: &Rejected, copy: &TopicRecord) -> Vec<Difference> {
    let event = &rejected.record;
    let partition = event.partition;
    let mut differences = Vec::new();
    if copy.key != event.key {
        let (key, found) = (shown(event.key.as_deref()), shown(copy.key.as_deref()));
        differences.push(Fault::DlqRecordKey.at(partition, key, found));
    }
    if copy.value != event.value {
        let (value, found) = (shown(event.value.as_deref()), shown(copy.value.as_deref()));
        differences.push(Fault::DlqRecordValue.at(partition, value, found));
    }
    if !copy.headers.starts_with(&event.headers) {
        let (headers, found) = (shown_headers(&event.headers), shown_headers(&copy.headers));
        differences.push(Fault::DlqRecordOriginalHeaders.at(partition, headers, found));
        return differences;
    }
    let added = &copy.headers[event.headers.len()..];
    let values = [
        ("steward-reason", Some(rejected.reason.code().to_owned())),
        ("steward-detail", None),
        ("steward-source-topic", Some(expected.topic.clone())),
        ("steward-source-partition", Some(partition.to_string())),
        ("steward-source-offset", Some(event.offset.to_string())),
        ("steward-source-timestamp", Some(event.timestamp_ms.unwrap_or(-1).to_string())),
        ("steward-group", Some(expected.group.clone())),
    ];
    let names: Vec<&str> = added.iter().map(|(name, _)| name.as_str()).collect();
    let expected_names = values.each_ref().map(|(name, _)| *name);
    if names != expected_names {
        differences.push(Fault::DlqRecordHeader.at(partition, expected_names.join(", "), names.join(", ")));
    }
    for (name, value) in values {
        let found = added.iter().rev().find(|(found, _)| found == name).and_then(|(_, value)| value.as_deref());
        let Some(value) = value else { continue };
        if found != Some(value.as_bytes()) {
            let fault = if name == "steward-reason" { Fault::DlqRecordReason } else { Fault::DlqRecordHeader };
            differences.push(fault.at(partition, format!("{name} `{value}`"), format!("{name} {}", shown(found))));
        }
    }
    if let Err(problem) = check_detail(rejected, copy) {
        let found = shown(copy.last_header("steward-detail").flatten());
        differences.push(Fault::DlqRecordDetail.at(partition, problem, found));
    }
    differences
}

fn shown_headers(headers: &[HeaderOf]) -> String {
    let each: Vec<String> = headers.iter().map(|(name, value)| format!("{name}={}", shown(value.as_deref()))).collect();
    format!("[{}]", each.join(", "))
}

/// # Errors
/// Describes the expected detail.
fn check_detail(rejected: &Rejected, copy: &TopicRecord) -> Result<(), String> {
    let detail = copy.last_header("steward-detail").flatten().and_then(|detail| std::str::from_utf8(detail).ok());
    let Some(detail) = detail.filter(|detail| !detail.is_empty()) else { return Err("a non-empty text".into()) };
    if detail.len() > MAX_DETAIL_BYTES {
        return Err(format!("at most {MAX_DETAIL_BYTES} bytes, not {}", detail.len()));
    }
    let input = String::from_utf8_lossy(rejected.record.value.as_deref().unwrap_or_default());
    if quotes_too_much(detail, &input) {
        return Err(format!("at most {MAX_QUOTED_CHARACTERS} characters of the value"));
    }
    if rejected.reason == Reason::InvalidEvent {
        let mut violations: Vec<(String, String)> =
            rejected.violations.iter().map(|broken| (broken.field.to_owned(), broken.code.to_owned())).collect();
        violations.sort_unstable();
        let mut listed = listed(detail).ok_or("an array of objects with field, code and message")?;
        listed.sort_unstable();
        if violations != listed {
            return Err(format!("the violations {violations:?}"));
        }
    }
    Ok(())
}

fn quotes_too_much(detail: &str, input: &str) -> bool {
    let starts: Vec<usize> = detail.char_indices().map(|(at, _)| at).chain([detail.len()]).collect();
    starts
        .windows(MAX_QUOTED_CHARACTERS + 2)
        .any(|ends| input.contains(&detail[ends[0]..ends[MAX_QUOTED_CHARACTERS + 1]]))
}

/// Returns the pairs of field and code that the detail of an invalid event lists.
fn listed(detail: &str) -> Option<Vec<(String, String)>> {
    let ModelJson::Array(items) = json::read(detail.as_bytes()).ok()? else { return None };
    let pair = |item: &ModelJson| {
        let ModelJson::Object(fields) = item else { return None };
        let [(first, field), (second, code), (third, message)] = fields.as_slice() else { return None };
        let named = first.is("field") && second.is("code") && third.is("message");
        let (ModelJson::Text(Text::Whole(field)), ModelJson::Text(Text::Whole(code)), ModelJson::Text(_)) =
            (field, code, message)
        else {
            return None;
        };
        named.then(|| (field.clone(), code.clone()))
    };
    items.iter().map(pair).collect()
}
