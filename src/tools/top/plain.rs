//! The same numbers as a plain table, for pipes and files.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table};

use crate::tools::log_reader::{Tally, UnixMs, Waiting};
use crate::tools::top::View;
use crate::tools::top::columns::{
    COLUMNS, {self},
};
use crate::tools::{output, units};

/// Warnings and errors that are shown.
const SHOWN_NOTICES: usize = 10;
/// Keys that are shown.
const SHOWN_KEYS: usize = 10;

/// The table, what was rejected, and the last warnings.
#[must_use]
pub fn plain(view: &View, now: UnixMs) -> String {
    let fleet = view.fleet();
    if fleet.pods.is_empty() {
        return format!("no line of steward was read; {} other lines were\n", units::count(fleet.other_lines));
    }
    let sum = fleet.now(now);
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(["pod", "state"].into_iter().chain(COLUMNS.iter().map(|column| column.title)));
    for pod in view.pods() {
        let numbers = COLUMNS.iter().map(|column| (column.pod)(pod, now));
        table.add_row([columns::name(pod), columns::state(pod, now).1].into_iter().chain(numbers));
    }
    let totals = COLUMNS.iter().map(|column| (column.all)(&sum, &fleet.totals));
    table.add_row(["total".to_owned(), heard(&sum)].into_iter().chain(totals));
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = format!("{table}\n");
    let mut say = |line: String| {
        writeln!(text, "{line}").expect("a String takes everything");
    };
    say(format!(
        "events {}, applied {}, rejected {}, skipped {}, transactions {}, aborted {}",
        units::count(fleet.totals.events),
        units::count(fleet.totals.applied),
        units::count(fleet.totals.rejected),
        units::count(fleet.totals.skipped),
        units::count(fleet.totals.transactions),
        units::count(fleet.totals.aborted),
    ));
    if !fleet.totals.rejected_by_reason.is_empty() {
        say(format!("rejected: {}", list(&fleet.totals.rejected_by_reason, usize::MAX)));
    }
    if !sum.hottest.is_empty() {
        say(format!("hottest keys: {}", list(&sum.hottest, SHOWN_KEYS)));
    }
    if !sum.slowest.is_empty() {
        say(format!("slowest keys, in ms: {}", list(&sum.slowest, SHOWN_KEYS)));
    }
    if let Some((pod, waiting)) = &sum.oldest {
        say(waits_longest(pod, *waiting));
    }
    if fleet.is_mixed_up() {
        say(columns_of_a_mixture().to_owned());
    }
    let skipped = fleet.notices.len().saturating_sub(SHOWN_NOTICES);
    if !fleet.notices.is_empty() {
        say("last warnings and errors:".to_owned());
    }
    for notice in fleet.notices.iter().skip(skipped) {
        say(format!(
            "  {} {:<5} {} {}: {}",
            units::moment(notice.written),
            notice.level,
            output::harmless(&notice.pod),
            output::harmless(&notice.name),
            output::harmless(&notice.detail)
        ));
    }
    if fleet.damaged_lines > 0 {
        say(format!("{} lines of steward could not be read", units::count(fleet.damaged_lines)));
    }
    text
}

/// What to say where numbers of several processes came under one name.
pub(super) fn columns_of_a_mixture() -> &'static str {
    "lines of several processes without names: add --prefix to kubectl logs"
}

/// The event to look at where lag does not fall.
pub(super) fn waits_longest(pod: &str, waiting: Waiting) -> String {
    format!(
        "waits longest: partition {}, offset {}, {} old, in {}",
        waiting.partition,
        waiting.offset,
        units::millis(waiting.age_ms),
        output::harmless(pod)
    )
}

/// `3 pods, 1 silent`.
pub(super) fn heard(sum: &crate::tools::log_reader::Now) -> String {
    let mut text = format!("{} heard", sum.heard);
    for (count, what) in [(sum.stale, "silent"), (sum.ended, "ended")] {
        if count > 0 {
            write!(text, ", {count} {what}").expect("a String takes everything");
        }
    }
    text
}

fn list(tally: &Tally, shown: usize) -> String {
    let counts = tally.largest_first().into_iter().take(shown);
    counts
        .map(|(name, count)| format!("{} {}", output::harmless(name), units::count(count)))
        .collect::<Vec<_>>()
        .join(", ")
}
