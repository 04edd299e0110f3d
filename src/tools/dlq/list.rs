//! `steward dlq list`.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::ops::ControlFlow;

use clap::Args;

use crate::entity::Reason;
use crate::exit_code::ExitCode;
use crate::tools::dlq::row::{self, DlqRow};
use crate::tools::dlq::{DlqLocation, DlqRecord, DlqSourceOptions, Wanted, read_dlq_records};
use crate::tools::failure::CommandFailure;
use crate::tools::note;
use crate::tools::output::{self, CommandOutput, OutputFormat};

/// Rows of a table, unless `--limit` says otherwise.
const TABLE_ROWS: usize = 100;

/// Print refused events, without their values
///
/// The newest ones in the order in which they were refused. Without a limit, --json prints all, as they are read: in
/// the order of the offsets within a partition.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steward dlq list --config config.toml
  steward dlq list --config config.toml --reason invalid_event --since 2026-01-31T12:00:00Z --limit 20
  steward dlq list --config config.toml --key 42 --json | jq -r .detail

With --json each DLQ record is one line: partition, offset and timestamp_ms (of the DLQ record: when it was refused), \
reason, detail, key (null if it is null or not UTF-8), key_base64 (if it is not UTF-8), value_bytes, truncated, \
truncated_headers and truncated_key_bytes (their number and length, if they were left out), \
source_topic, source_partition, source_offset, source_timestamp_ms (of the event), group (null before release 0.2), \
replayed (null if that may not \
be read).

Next: `steward dlq show PARTITION OFFSET` shows one of them whole.")]
pub(super) struct DlqListArguments {
    #[command(flatten)]
    source: DlqSourceOptions,
    #[command(flatten)]
    wanted: Wanted,
    /// Print at most this many DLQ records, the newest: without it, 100 in a table, all with --json
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
}

pub(super) fn run(arguments: &DlqListArguments) -> Result<ExitCode, CommandFailure> {
    let DlqListArguments { source, wanted, .. } = arguments;
    let config = source.load(None)?;
    let (scope, filter) = (wanted.scope(), wanted.filter());
    let reader = source.open(&config, scope)?;
    let replayed = source.receipts_if_readable(&config, scope)?;

    let form = source.form.form();
    let limit = match (arguments.limit, form) {
        (Some(limit), _) => Some(limit),
        (None, OutputFormat::Table) => Some(TABLE_ROWS),
        (None, OutputFormat::Json) => None,
    };
    let mut out = CommandOutput::new();
    let mut newest: BTreeMap<(Option<i64>, DlqLocation), DlqRow> = BTreeMap::new();
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    // Lines that are printed while they are read would run into the bar.
    let is_quiet = limit.is_none() && io::stdout().is_terminal();
    let bar = if is_quiet { indicatif::ProgressBar::hidden() } else { output::bar(0, "offsets") };
    let take = |dlq_record: &DlqRecord<'_>| {
        if filter.wants(dlq_record) {
            let code = dlq_record.reason().map_or("(not written by steward)", Reason::code);
            *counts.entry(code).or_default() += 1;
            let row = DlqRow::new(dlq_record, replayed.as_ref());
            match limit {
                None => out.line(&output::json(&row))?,
                Some(limit) => {
                    newest.insert((dlq_record.timestamp_ms, dlq_record.location), row);
                    if newest.len() > limit {
                        newest.pop_first();
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    };
    output::with_progress(&bar, |progress| read_dlq_records(reader, take, progress))?;

    match form {
        OutputFormat::Json => {
            for row in newest.values() {
                out.line(&output::json(row))?;
            }
        }
        OutputFormat::Table => out.line(&row::table(newest.values()))?,
    }
    out.end()?;
    report(&counts, limit, form);
    Ok(ExitCode::Done)
}

fn report(counts: &BTreeMap<&'static str, u64>, limit: Option<usize>, form: OutputFormat) {
    let total: u64 = counts.values().sum();
    let shown = limit.map_or(total, |limit| total.min(limit as u64));
    let reasons: Vec<String> = counts.iter().map(|(code, count)| format!("{code} {count}")).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join(", ")) };
    if shown < total {
        note(&format!("the newest {shown} of {total} DLQ records{reasons}; --limit {total} shows all of them"));
    } else if form == OutputFormat::Table {
        note(&format!("{total} DLQ records{reasons}"));
    }
}
