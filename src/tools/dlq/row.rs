//! A DLQ record without its value, as it is listed.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::tools::dlq::{DlqRecord, ReplayReceipts};
use crate::tools::output;

/// Most characters of a detail in a table.
const DETAIL_LENGTH: usize = 120;
/// Most characters of a key in a table.
const KEY_LENGTH: usize = 40;

#[derive(Debug, Serialize)]
pub(super) struct DlqRow {
    partition: i32,
    offset: i64,
    timestamp_ms: Option<i64>,
    reason: Option<String>,
    detail: Option<String>,
    key: Option<String>,
    /// Only if the key is not UTF-8.
    key_base64: Option<String>,
    value_bytes: Option<u64>,
    truncated: bool,
    /// Number of the event's headers, if they were left out.
    truncated_headers: Option<u64>,
    /// Length of the key, if the record has only its first bytes.
    truncated_key_bytes: Option<u64>,
    source_topic: Option<String>,
    source_partition: Option<i32>,
    source_offset: Option<i64>,
    source_timestamp_ms: Option<i64>,
    group: Option<String>,
    /// Null if it is not known.
    replayed: Option<bool>,
}

impl DlqRow {
    pub(super) fn new(dlq_record: &DlqRecord<'_>, replayed: Option<&ReplayReceipts>) -> DlqRow {
        let source = dlq_record.source();
        let (key, key_base64) = text_or_base64(dlq_record.key);
        let truncation = dlq_record.truncation();
        let value_bytes = dlq_record.value.map(|value| value.len() as u64);
        DlqRow {
            partition: dlq_record.location.partition.0,
            offset: dlq_record.location.offset.0,
            timestamp_ms: dlq_record.timestamp_ms,
            reason: dlq_record.reason_code().map(str::to_owned),
            detail: dlq_record.detail().map(Cow::into_owned),
            key,
            key_base64,
            value_bytes: truncation.and_then(|truncation| truncation.value_bytes).or(value_bytes),
            truncated: truncation.is_some(),
            truncated_headers: truncation.and_then(|truncation| truncation.headers),
            truncated_key_bytes: truncation.and_then(|truncation| truncation.key_bytes),
            source_topic: source.map(|source| source.topic.to_owned()),
            source_partition: source.map(|source| source.partition.0),
            source_offset: source.map(|source| source.offset.0),
            source_timestamp_ms: source.and_then(|source| source.timestamp_ms),
            group: dlq_record.group().map(Cow::into_owned),
            replayed: replayed.map(|replayed| dlq_record.is_replayed(replayed)),
        }
    }
}

pub(super) fn table<'a>(rows: impl Iterator<Item = &'a DlqRow>) -> String {
    let mut table =
        output::table(["partition", "offset", "rejected at", "reason", "key", "source offset", "replayed", "detail"]);
    for row in rows {
        table.add_row([
            row.partition.to_string(),
            row.offset.to_string(),
            row.timestamp_ms.map_or_else(String::new, moment),
            short(row.reason.as_deref().unwrap_or("(not written by steward)"), KEY_LENGTH),
            match (&row.key, &row.key_base64) {
                (Some(key), _) => short(key, KEY_LENGTH),
                (None, Some(base64)) => short(&format!("base64 {base64}"), KEY_LENGTH),
                (None, None) => "(null)".to_owned(),
            },
            row.source_offset.map_or_else(String::new, |offset| offset.to_string()),
            replayed(row.replayed).to_owned(),
            short(row.detail.as_deref().unwrap_or_default(), DETAIL_LENGTH),
        ]);
    }
    table.to_string()
}

pub(super) fn replayed(replayed: Option<bool>) -> &'static str {
    match replayed {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not known",
    }
}

/// At most `length` characters, with control characters escaped.
fn short(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        Some((end, _)) => format!("{}…", output::harmless(&text[..end])),
        None => output::harmless(text),
    }
}

/// `2026-01-31T12:00:00.123Z`; the number itself if that is no time.
pub(super) fn moment(ms: i64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok();
    moment.and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{ms} ms since 1970"))
}

/// Returns the bytes as text, or in base64 if they are not UTF-8. Neither if they are null.
pub(super) fn text_or_base64(bytes: Option<&[u8]>) -> (Option<String>, Option<String>) {
    let Some(bytes) = bytes else { return (None, None) };
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(BASE64_STANDARD.encode(bytes))),
    }
}
