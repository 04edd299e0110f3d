//! What a replay did, or would do, by count and reason; and the warnings before it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::tools::dlq::replay::Done;
use crate::tools::dlq::replay::decision::ReplayCounts;
use crate::tools::dlq::replay::plan::Planned;
use crate::tools::dlq::{NAMED_RECORDS, Obstacle};
use crate::tools::failure::CommandFailure;
use crate::tools::note;
use crate::tools::output::{self, OutputFormat};

/// Says on standard error what someone should think of before.
pub(super) fn warn(planned: &Planned) {
    let plan = &planned.plan;
    for (obstacle, (count, named)) in &plan.kept {
        let places: Vec<String> = named.iter().map(ToString::to_string).collect();
        let more = if *count > NAMED_RECORDS as u64 { ", and more" } else { "" };
        note(&format!("{count} cannot be sent, {}: {}{more}", why(*obstacle), places.join(", ")));
    }
    if plan.total() == 0 {
        return;
    }
    if plan.refused_again() > 0 {
        note(&format!(
            "warning: {} of {} break a rule in every state of their service, and will be rejected again",
            plan.refused_again(),
            plan.total()
        ));
    }
    match planned.overwrites {
        Some(0) => {}
        Some(count) => note(&format!(
            "warning: {count} of {} are older than the newest event of their service; an old update that is sent now overwrites newer values",
            plan.total()
        )),
        None => note(
            "warning: an event that is sent again takes effect after all events since then; an old update overwrites newer values",
        ),
    }
}

fn why(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::Truncated => {
            "they were too large for the DLQ topic and are not complete (the events are in the input at their source offsets)"
        }
        Obstacle::FromElsewhere => {
            "they come from another group, or from another topic or partition than the input has"
        }
        Obstacle::Unreadable => "their headers are not those that this version of steward writes",
    }
}

#[derive(Serialize)]
struct ReplaySummaryJson {
    executed: bool,
    interrupted: bool,
    elapsed_ms: u128,
    planned: u64,
    replayed: u64,
    reasons: BTreeMap<&'static str, ReplayCounts>,
    overwrites: Option<u64>,
    replayed_before: u64,
    truncated: u64,
    from_elsewhere: u64,
    unreadable: u64,
    refused_by_broker: usize,
}

/// Prints the summary. `done` is `None` for a dry run.
pub(super) fn report(
    planned: &Planned,
    count: u64,
    done: Option<&Done>,
    form: OutputFormat,
) -> Result<(), CommandFailure> {
    match form {
        OutputFormat::Json => output::print(&json(planned, count, done)),
        OutputFormat::Table => output::print(&text(planned, count, done)),
    }
}

fn json(planned: &Planned, count: u64, done: Option<&Done>) -> String {
    let plan = &planned.plan;
    let kept = |obstacle| plan.kept.get(&obstacle).map_or(0, |(count, _)| *count);
    output::json(&ReplaySummaryJson {
        executed: done.is_some(),
        interrupted: done.is_some_and(|done| done.interrupted),
        elapsed_ms: done.map_or(0, |done| done.elapsed.as_millis()),
        planned: count,
        replayed: done.map_or(0, |done| done.replayed),
        reasons: plan.reasons.iter().map(|(reason, counts)| (reason.code(), *counts)).collect(),
        overwrites: planned.overwrites,
        replayed_before: plan.replayed,
        truncated: kept(Obstacle::Truncated),
        from_elsewhere: kept(Obstacle::FromElsewhere),
        unreadable: kept(Obstacle::Unreadable),
        refused_by_broker: done.map_or(0, |done| done.refused.len()),
    })
}

fn text(planned: &Planned, count: u64, done: Option<&Done>) -> String {
    let plan = &planned.plan;
    let mut table = output::table(["reason", "to send", "of them refused again for sure"]);
    for (reason, counts) in &plan.reasons {
        table.add_row([reason.code(), &counts.replay.to_string(), &counts.refused_again.to_string()]);
    }
    let before = match plan.replayed {
        0 => String::new(),
        before => format!("; {before} more were replayed before"),
    };
    let sent = match done {
        None if count < plan.total() => format!("{count} of {} DLQ records would be sent", plan.total()),
        None => format!("{count} DLQ records would be sent"),
        Some(done) => format!(
            "{} of {count} DLQ records sent to the input again, in {:.1} s",
            done.replayed,
            done.elapsed.as_secs_f64()
        ),
    };
    if plan.reasons.is_empty() { format!("{sent}{before}") } else { format!("{table}\n{sent}{before}") }
}
