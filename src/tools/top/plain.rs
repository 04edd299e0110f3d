//! Formats a [`View`] as a plain table, for pipes and files.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table};

use crate::tools::log_reader::{Now, Tally, UnixMs, Waiting};
use crate::tools::top::View;
use crate::tools::top::columns::{self, COLUMNS};
use crate::tools::{output, units};

const SHOWN_NOTICES: usize = 10;
const SHOWN_KEYS: usize = 10;
/// Responses to fetches are further apart only if something is wrong, or if reading is paused.
const NOTABLE_FETCH_AGE_MS: u64 = 10_000;

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
    table.add_row(["total".to_owned(), pod_counts(&sum)].into_iter().chain(totals));
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = format!("{table}\n");
    let mut add_line = |line: String| {
        writeln!(text, "{line}").expect("writing to a String does not fail");
    };
    add_line(format!(
        "events {}, applied {}, rejected {}, skipped {}, transactions {}, aborted {}",
        units::count(fleet.totals.events),
        units::count(fleet.totals.applied),
        units::count(fleet.totals.rejected),
        units::count(fleet.totals.skipped),
        units::count(fleet.totals.transactions),
        units::count(fleet.totals.aborted),
    ));
    if !fleet.totals.rejected_by_reason.is_empty() {
        add_line(format!("rejected: {}", list(&fleet.totals.rejected_by_reason, usize::MAX)));
    }
    if !sum.hottest.is_empty() {
        add_line(format!("hottest keys: {}", list(&sum.hottest, SHOWN_KEYS)));
    }
    if !sum.slowest.is_empty() {
        add_line(format!("slowest keys, in ms: {}", list(&sum.slowest, SHOWN_KEYS)));
    }
    if let Some((pod, waiting)) = &sum.oldest {
        add_line(waits_longest(pod, *waiting));
    }
    for remark in remarks(&sum) {
        add_line(remark);
    }
    if fleet.is_mixed() {
        add_line(MIXED_LINES_HINT.to_owned());
    }
    let skipped = fleet.notices.len().saturating_sub(SHOWN_NOTICES);
    if !fleet.notices.is_empty() {
        add_line("last warnings and errors:".to_owned());
    }
    for notice in fleet.notices.iter().skip(skipped) {
        add_line(format!(
            "  {} {:<5} {} {}: {}",
            units::moment(notice.written),
            notice.level,
            output::harmless(&notice.pod),
            output::harmless(&notice.name),
            output::harmless(&notice.detail)
        ));
    }
    if fleet.damaged_lines > 0 {
        add_line(format!("{} lines of steward could not be read", units::count(fleet.damaged_lines)));
    }
    text
}

/// The hint if several processes have one name.
pub(super) const MIXED_LINES_HINT: &str = "lines of several processes without names: add --prefix to kubectl logs";

/// Describes the event to look at if the lag does not fall.
pub(super) fn waits_longest(pod: &str, waiting: Waiting) -> String {
    format!(
        "waits longest: partition {}, offset {}, {} old, in {}",
        waiting.partition,
        waiting.offset,
        units::millis(waiting.age_ms),
        output::harmless(pod)
    )
}

/// What is wrong although every pod that is shown serves.
pub(super) fn remarks(sum: &Now) -> Vec<String> {
    let mut remarks = Vec::new();
    if sum.behind_open_transaction > 0 {
        let held_back = units::count(sum.behind_open_transaction);
        remarks.push(format!("{held_back} events behind an open transaction of the input"));
    }
    if sum.partitions_serving < sum.partitions_total {
        remarks.push(format!("{} of {} partitions serve", sum.partitions_serving, sum.partitions_total));
    }
    if sum.fetch_age_max_ms >= NOTABLE_FETCH_AGE_MS {
        remarks.push(format!("a broker has sent nothing for {}", units::millis(sum.fetch_age_max_ms)));
    }
    remarks
}

/// Such as `3 live, 1 silent`.
pub(super) fn pod_counts(sum: &Now) -> String {
    let mut text = format!("{} live", sum.live);
    for (count, what) in [(sum.silent, "silent"), (sum.ended, "ended")] {
        if count > 0 {
            write!(text, ", {count} {what}").expect("writing to a String does not fail");
        }
    }
    text
}

fn list(tally: &Tally, shown: usize) -> String {
    let counts = tally.largest_first().into_iter().take(shown);
    let words = counts.map(|(name, count)| format!("{} {}", output::harmless(name), units::count(count)));
    words.collect::<Vec<_>>().join(", ")
}
