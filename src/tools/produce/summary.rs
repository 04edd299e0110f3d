//! The summary: sent events by kind, and their required outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::exit_code::ExitCode;
use crate::testing::workload::{EventKind, InvalidKind, OddKind, Workload};
use crate::tools::failure::CommandFailure;
use crate::tools::output::{self, OutputFormat};

const VALID: [EventKind; 3] = [EventKind::Created, EventKind::Updated, EventKind::Deleted];

pub(super) const TAGS: usize = VALID.len() + OddKind::ALL.len() + InvalidKind::ALL.len();

/// Returns the number of a kind, below [`TAGS`].
pub(super) fn tag(kind: EventKind) -> usize {
    match kind {
        EventKind::Created => 0,
        EventKind::Updated => 1,
        EventKind::Deleted => 2,
        EventKind::Odd(kind) => VALID.len() + kind as usize,
        EventKind::Invalid(kind) => VALID.len() + OddKind::ALL.len() + kind as usize,
    }
}

/// Returns the kinds in the order of their numbers.
fn kinds() -> impl Iterator<Item = EventKind> {
    let odd = OddKind::ALL.into_iter().map(EventKind::Odd);
    let invalid = InvalidKind::ALL.into_iter().map(EventKind::Invalid);
    VALID.into_iter().chain(odd).chain(invalid)
}

fn name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Created => "created",
        EventKind::Updated => "updated",
        EventKind::Deleted => "deleted",
        EventKind::Odd(kind) => kind.name(),
        EventKind::Invalid(kind) => kind.name(),
    }
}

fn group(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Created | EventKind::Updated | EventKind::Deleted => "valid",
        EventKind::Odd(_) => "odd",
        EventKind::Invalid(_) => "invalid",
    }
}

fn outcome(kind: EventKind) -> &'static str {
    kind.reason().map_or("applied", crate::entity::Reason::code)
}

pub(super) struct ProduceSummary<'a> {
    pub(super) topic: &'a str,
    pub(super) workload: &'a Workload,
    /// Acknowledged records by tag.
    pub(super) delivered: Vec<u64>,
    /// Refused records by Kafka's error code.
    pub(super) refused: BTreeMap<String, u64>,
    pub(super) elapsed: Duration,
    pub(super) interrupted: bool,
}

#[derive(Serialize)]
struct ProduceSummaryJson<'a> {
    topic: &'a str,
    seed: u64,
    start_timestamp_ms: i64,
    interrupted: bool,
    elapsed_ms: u128,
    sent: u64,
    refused: &'a BTreeMap<String, u64>,
    kinds: BTreeMap<&'static str, u64>,
    expected: Expected,
}

#[derive(Serialize)]
struct Expected {
    applied: u64,
    rejected: BTreeMap<&'static str, u64>,
}

impl ProduceSummary<'_> {
    pub(super) fn print(&self, form: OutputFormat) -> Result<(), CommandFailure> {
        match form {
            OutputFormat::Json => output::print(&self.json()),
            OutputFormat::Table => output::print(&self.text()),
        }
    }

    /// Fails if the broker has refused records.
    pub(super) fn exit_code(&self) -> Result<ExitCode, CommandFailure> {
        if self.refused.is_empty() {
            return Ok(ExitCode::Done);
        }
        let codes: Vec<String> = self.refused.iter().map(|(code, count)| format!("{count} x {code}")).collect();
        Err(CommandFailure::RecordsRefused { refused: self.refused.values().sum(), codes: codes.join(", ") })
    }

    fn sent(&self) -> impl Iterator<Item = (EventKind, u64)> {
        kinds().map(|kind| (kind, self.delivered.get(tag(kind)).copied().unwrap_or(0))).filter(|(_, count)| *count > 0)
    }

    fn json(&self) -> String {
        let mut expected = Expected { applied: 0, rejected: BTreeMap::new() };
        for (kind, count) in self.sent() {
            match kind.reason() {
                None => expected.applied += count,
                Some(reason) => *expected.rejected.entry(reason.code()).or_default() += count,
            }
        }
        output::json(&ProduceSummaryJson {
            topic: self.topic,
            seed: self.workload.seed,
            start_timestamp_ms: self.workload.start_timestamp_ms,
            interrupted: self.interrupted,
            elapsed_ms: self.elapsed.as_millis(),
            sent: self.delivered.iter().sum(),
            refused: &self.refused,
            kinds: self.sent().map(|(kind, count)| (name(kind), count)).collect(),
            expected,
        })
    }

    fn text(&self) -> String {
        let mut table = output::table(["kind", "group", "outcome", "sent"]);
        for (kind, count) in self.sent() {
            table.add_row([name(kind), group(kind), outcome(kind), &count.to_string()]);
        }
        let sent: u64 = self.delivered.iter().sum();
        let rate = (sent as f64 / self.elapsed.as_secs_f64().max(0.001)).round();
        format!(
            "{table}\n{sent} events to {topic} in {seconds:.1} s, {rate}/s. For the same events: --seed {seed} --start-timestamp-ms {start}",
            topic = self.topic,
            seconds = self.elapsed.as_secs_f64(),
            seed = self.workload.seed,
            start = self.workload.start_timestamp_ms,
        )
    }
}

/// One line of `--list-kinds --json`.
#[derive(Serialize)]
struct JsonKind {
    kind: &'static str,
    group: &'static str,
    expected: &'static str,
    weight: u32,
}

/// Prints the kinds that have weights.
pub(super) fn list_kinds(form: OutputFormat) -> Result<(), CommandFailure> {
    let weight = |kind: EventKind| match kind {
        EventKind::Created | EventKind::Updated | EventKind::Deleted => None,
        EventKind::Odd(kind) => Some(kind.default_weight()),
        EventKind::Invalid(kind) => Some(kind.default_weight()),
    };
    let rows: Vec<JsonKind> = kinds()
        .filter_map(|kind| {
            let weight = weight(kind)?;
            Some(JsonKind { kind: name(kind), group: group(kind), expected: outcome(kind), weight })
        })
        .collect();
    if form == OutputFormat::Json {
        let mut out = output::CommandOutput::new();
        for row in &rows {
            out.line(&output::json(row))?;
        }
        return out.end();
    }
    let mut table = output::table(["kind", "group", "outcome", "weight"]);
    for row in &rows {
        table.add_row([row.kind, row.group, row.expected, &row.weight.to_string()]);
    }
    output::print(&table.to_string())
}
