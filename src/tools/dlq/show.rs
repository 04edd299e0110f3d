//! `steward dlq show`.

use std::borrow::Cow;
use std::ops::ControlFlow;

use clap::Args;
use serde::Serialize;

use crate::exit_code::ExitCode;
use crate::kafka::reader::topic_reader::ReadScope;
use crate::record::{Offset, Partition};
use crate::tools::dlq::row::{DlqRow, moment, replayed, text_or_base64};
use crate::tools::dlq::{DlqRecord, DlqSourceOptions, ReplayReceipts, read_dlq_records};
use crate::tools::failure::CommandFailure;
use crate::tools::output::{self, OutputFormat};

/// Print one refused event whole, with its value
///
/// Exits with 15 if there is no DLQ record at this offset.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steward dlq show 3 4711 --config config.toml
  steward dlq show 3 4711 --json | jq -r .value

With --json it is one line with the fields of `steward dlq list`, and: value (null if it is null or not UTF-8), \
value_base64 (if it is not UTF-8), headers (the event's own, in order, each with name, value and value_base64). \
Without it, what would steer a terminal is shown as an escape.

Next: docs/dlq-reasons.md says what to do; `steward dlq replay --partition 3 --offset 4711` sends it to the input again.")]
pub(super) struct DlqShowArguments {
    /// The partition of the DLQ topic
    #[arg(value_name = "PARTITION", value_parser = clap::value_parser!(i32).range(0..))]
    partition: i32,
    /// The offset in that partition
    #[arg(value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    offset: i64,
    #[command(flatten)]
    source: DlqSourceOptions,
}

pub(super) fn run(arguments: &DlqShowArguments) -> Result<ExitCode, CommandFailure> {
    let source = &arguments.source;
    let config = source.load(None)?;
    let scope = ReadScope::Record(Partition(arguments.partition), Offset(arguments.offset));
    let reader = source.open(&config, scope)?;
    let receipts = source.receipts_if_readable(&config, scope)?;
    let mut shown = None;
    let take = |dlq_record: &DlqRecord<'_>| {
        shown = Some(match source.form.form() {
            OutputFormat::Json => json(dlq_record, receipts.as_ref()),
            OutputFormat::Table => details(dlq_record, receipts.as_ref()),
        });
        Ok(ControlFlow::Break(()))
    };
    read_dlq_records(reader, take, |_| ())?;
    let Some(shown) = shown else {
        let (topic, partition, offset) = (&config.kafka.dlq_topic, arguments.partition, arguments.offset);
        return Err(CommandFailure::NotFound(format!(
            "there is no DLQ record in {topic} partition {partition} at offset {offset}: retention removed it, or it is no record's offset; see `steward dlq list --partition {partition}`"
        )));
    };
    output::print(&shown)?;
    Ok(ExitCode::Done)
}

#[derive(Serialize)]
struct DlqRecordJson {
    #[serde(flatten)]
    row: DlqRow,
    value: Option<String>,
    value_base64: Option<String>,
    headers: Vec<JsonHeader>,
}

#[derive(Serialize)]
struct JsonHeader {
    name: String,
    value: Option<String>,
    value_base64: Option<String>,
}

fn json(dlq_record: &DlqRecord<'_>, receipts: Option<&ReplayReceipts>) -> String {
    let header = |(name, value): (&str, Option<&[u8]>)| {
        let (value, value_base64) = text_or_base64(value);
        JsonHeader { name: name.to_owned(), value, value_base64 }
    };
    let (value, value_base64) = text_or_base64(dlq_record.value);
    let headers = dlq_record.own_headers().map(header).collect();
    output::json(&DlqRecordJson { row: DlqRow::new(dlq_record, receipts), value, value_base64, headers })
}

fn details(dlq_record: &DlqRecord<'_>, receipts: Option<&ReplayReceipts>) -> String {
    let mut table = output::table(["field", "value"]);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    let unknown = || "unknown".to_owned();
    row("DLQ record", format!("partition {}, offset {}", dlq_record.location.partition, dlq_record.location.offset));
    row("rejected at", dlq_record.timestamp_ms.map_or_else(unknown, moment));
    row("reason", dlq_record.reason_code().map_or_else(unknown, output::harmless));
    row("detail", dlq_record.detail().map_or_else(unknown, |detail| output::harmless(&detail)));
    row("replayed", replayed(receipts.map(|receipts| dlq_record.is_replayed(receipts))).to_owned());
    match dlq_record.source() {
        Some(source) => {
            let topic = output::harmless(source.topic);
            row("event", format!("{topic} partition {}, offset {}", source.partition, source.offset));
            row("event's timestamp", source.timestamp_ms.map_or_else(|| "none".to_owned(), moment));
        }
        None => row("event", unknown()),
    }
    let truncation = dlq_record.truncation();
    row("key", bytes(dlq_record.key));
    if let Some(length) = truncation.and_then(|truncation| truncation.key_bytes) {
        let sha256 = truncation.and_then(|truncation| truncation.key_sha256).map_or_else(unknown, output::harmless);
        row("whole key", format!("(left out: {length} bytes, SHA-256 {sha256})"));
    }
    if let Some(headers) = truncation.and_then(|truncation| truncation.headers) {
        row("headers", format!("(left out: the event has {headers})"));
    }
    for (name, value) in dlq_record.own_headers() {
        row(&format!("header {}", output::harmless(name)), bytes(value));
    }
    match truncation.and_then(|truncation| truncation.value_bytes) {
        Some(length) => row("value", format!("(left out: the topic did not take its {length} bytes)")),
        None => row("value", bytes(dlq_record.value)),
    }
    table.to_string()
}

fn bytes(bytes: Option<&[u8]>) -> String {
    match bytes.map(String::from_utf8_lossy) {
        None => "(null)".to_owned(),
        Some(Cow::Borrowed(text)) => output::harmless(text),
        Some(Cow::Owned(lossy)) => format!("{} (not UTF-8; --json shows the bytes)", output::harmless(&lossy)),
    }
}
