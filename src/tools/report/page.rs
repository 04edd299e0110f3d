//! The page: one self-contained file, in light or dark mode.
//!
//! The content of a log is not trusted. `maud` escapes every text, and control characters and marks of writing direction
//! are shown as escapes.

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::observability::log_events::{Level, all_events};
use crate::tools::log_reader::{Bucket, FindingKind, Life, LogFinding, Pod, PodNotice, Recording, Timeline, UnixMs};
use crate::tools::report::chart::{COLOURS, Curve, TimeSpan, Unit, chart};
use crate::tools::report::lanes::lanes;
use crate::tools::{output, units};

const STYLE: &str = include_str!("style.css");
/// The browser fetches nothing and runs nothing, whatever a line contains.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";
/// Maximum number of findings at the top.
const SHOWN_FINDINGS: usize = 15;
/// Maximum number of pods in the charts and the timeline: those that read most.
const SHOWN_PODS: usize = 24;
/// Maximum number of reasons: twice as many as exist, because a log can contain anything.
const SHOWN_REASONS: usize = 20;
/// Points of the chart of rejections.
const REASON_SLOTS: u64 = 240;

/// Formats the page of a recording that has ended. `sources` names the files.
pub fn page(recording: &Recording, sources: &str) -> String {
    let body = match recording.range {
        Some(range) => content(recording, range),
        None => html! { p { "No line of steward was read. Are these its logs, in the format " code { "json" } "?" } },
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "steward report" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "steward report" }
                (body)
                (footer(recording, sources))
            }
        }
    };
    page.into_string()
}

fn content(recording: &Recording, range: (UnixMs, UnixMs)) -> Markup {
    let span = TimeSpan::new(range);
    let pods = shown_pods(recording);
    html! {
        p class="faint" {
            (units::moment(range.0)) " to " (units::moment(range.1)) ", " (units::millis(range.1.since(range.0)))
        }
        (numbers(recording))
        (findings(&recording.findings()))
        (timeline(recording, span, &pods))
        (charts(recording, span, &pods))
        (pod_table(recording))
        (reasons(recording))
        (kinds(recording))
        (notices(recording))
    }
}

/// Returns the pods that are drawn, sorted by name. The index of a pod is that of its colour.
fn shown_pods(recording: &Recording) -> Vec<&Pod> {
    let mut pods: Vec<&Pod> = recording.fleet.pods.values().collect();
    pods.sort_by_key(|pod| std::cmp::Reverse(pod.totals.events));
    pods.truncate(SHOWN_PODS);
    pods.sort_by(|left, right| left.name.cmp(&right.name));
    pods
}

fn numbers(recording: &Recording) -> Markup {
    let totals = &recording.fleet.totals;
    let numbers = [
        (recording.fleet.pods.len() as u64, "pods"),
        (totals.events, "events read"),
        (totals.applied, "applied"),
        (totals.rejected, "rejected"),
        (totals.skipped, "skipped"),
        (totals.transactions, "transactions"),
        (totals.aborted, "aborted"),
        (totals.restarts, "restarts"),
        (totals.vanished, "of these without a final line"),
        (totals.errors, "errors"),
        (totals.warnings, "warnings"),
    ];
    html! {
        ul class="numbers" {
            @for (number, what) in numbers { li { b { (units::count(number)) } (what) } }
            @for (exit, count) in recording.exits.largest_first() {
                li { b { (units::count(count)) } "exit " (output::harmless(exit)) }
            }
        }
    }
}

fn findings(findings: &[LogFinding]) -> Markup {
    html! {
        h2 { "What went wrong first" }
        @if findings.is_empty() {
            p { "Nothing: no warning, no error, no silence." }
        } @else {
            div class="scroll" { table {
                @for finding in findings.iter().take(SHOWN_FINDINGS) {
                    tr {
                        td class="t" { (units::moment(finding.at)) }
                        td { (level(finding.level)) }
                        td class="t" { (output::harmless(&finding.pod)) }
                        td class="d" { (output::harmless(&finding.text)) }
                    }
                }
            } }
            @if findings.len() > SHOWN_FINDINGS {
                p class="faint" { "and " (findings.len() - SHOWN_FINDINGS) " more; see the tables below" }
            }
        }
    }
}

fn level(level: Level) -> Markup {
    let word = if level == Level::ERROR { "ERROR" } else { "WARN" };
    html! { span class=(word) { (word) } }
}

fn timeline(recording: &Recording, span: TimeSpan, pods: &[&Pod]) -> Markup {
    let nothing = Timeline::default();
    let names: Vec<String> = pods.iter().map(|pod| output::harmless(&pod.name)).collect();
    let drawn = pods.iter().map(|pod| recording.timelines.get(&pod.name).unwrap_or(&nothing));
    let rows: Vec<(&str, &Timeline)> = names.iter().map(String::as_str).zip(drawn).collect();
    let left_out: u64 = recording.timelines.values().map(|timeline| timeline.left_out).sum();
    html! {
        h2 { "Timeline" }
        (lanes(span, &rows))
        @if recording.fleet.pods.len() > pods.len() {
            p class="faint" {
                "Of " (recording.fleet.pods.len()) " pods, the " (pods.len()) " that read most are drawn, here and below."
            }
        }
        @if left_out > 0 { p class="faint" { (units::count(left_out)) " more events and activities are not shown." } }
    }
}

fn charts(recording: &Recording, span: TimeSpan, pods: &[&Pod]) -> Markup {
    type Measure = fn(&Bucket) -> f64;
    let of_pods: [(&str, Unit, Measure); 10] = [
        ("Events per second", Unit::Number, |bucket| bucket.per_s(bucket.events)),
        ("Lag, in events", Unit::Number, |bucket| bucket.lag as f64),
        ("Events behind an open transaction of the input", Unit::Number, |bucket| {
            bucket.behind_open_transaction as f64
        }),
        ("Time since the broker of a partition sent anything", Unit::Millis, |bucket| bucket.fetch_age_max_ms as f64),
        ("Age of the oldest event not committed", Unit::Millis, |bucket| bucket.oldest_age_ms as f64),
        ("Latency, median", Unit::Millis, |bucket| bucket.latency_p50_ms as f64),
        ("Latency, 99 of 100", Unit::Millis, |bucket| bucket.latency_p99_ms as f64),
        ("Transactions per second", Unit::Number, |bucket| bucket.per_s(bucket.transactions as f64)),
        ("Transactions aborted", Unit::Number, |bucket| bucket.aborted as f64),
        ("Resident memory", Unit::Bytes, |bucket| bucket.memory_rss_bytes as f64),
    ];
    let curves = |measure: Measure| -> Vec<Curve> {
        let drawn = pods.iter().enumerate().filter_map(|(colour, pod)| {
            let series = recording.series.get(&pod.name)?;
            let points = series.buckets().map(|bucket| (bucket.at, measure(bucket))).collect();
            Some(Curve { name: output::harmless(&pod.name), colour, points, gap_ms: series.gap_ms() })
        });
        drawn.collect()
    };
    let by_reason = reason_curves(recording);
    html! {
        h2 { "Charts" }
        div class="legend" {
            @for (colour, pod) in pods.iter().enumerate() {
                span { i class={ "c" (colour % COLOURS) } {} (output::harmless(&pod.name)) }
            }
        }
        div class="charts" {
            @for (title, unit, measure) in of_pods {
                @if let Some(chart) = chart(title, unit, span, &curves(measure)) { (chart) }
            }
            @if let Some(chart) = chart("Rejected per second by reason, all pods", Unit::Number, span, &by_reason) {
                div {
                    (chart)
                    div class="legend" {
                        @for curve in &by_reason { span { i class={ "c" (curve.colour % COLOURS) } {} (curve.name) } }
                    }
                }
            }
        }
        p class="faint" { "A point is the worst value, or the mean rate, of its time." }
    }
}

/// Returns the rejections of all pods, in slots that are at least as long as an interval of `stats`.
fn reason_curves(recording: &Recording) -> Vec<Curve> {
    let Some((from, until)) = recording.range else { return Vec::new() };
    let buckets = || recording.series.values().flat_map(|series| series.buckets());
    let longest = buckets().map(|bucket| bucket.covered_ms).max().unwrap_or(1);
    let width_ms = (until.since(from) / REASON_SLOTS).max(longest).max(1_000);
    let width = i64::try_from(width_ms).unwrap_or(i64::MAX);
    let mut slots: BTreeMap<i64, BTreeMap<&str, u64>> = BTreeMap::new();
    for bucket in buckets() {
        let slot = slots.entry(bucket.at.0.div_euclid(width)).or_default();
        for (reason, count) in bucket.rejected.largest_first() {
            let counted = slot.entry(reason).or_default();
            *counted = counted.saturating_add(count);
        }
    }
    let reasons = recording.fleet.totals.rejected_by_reason.largest_first();
    let curves = reasons.iter().take(SHOWN_REASONS).enumerate().map(|(colour, (reason, _))| Curve {
        name: output::harmless(reason),
        colour,
        points: slots
            .iter()
            .map(|(slot, counts)| {
                let count = counts.get(reason).copied().unwrap_or(0);
                (UnixMs(slot.saturating_mul(width)).max(from), count as f64 * 1000.0 / width_ms as f64)
            })
            .collect(),
        gap_ms: width_ms.saturating_mul(5) / 2,
    });
    curves.collect()
}

fn pod_table(recording: &Recording) -> Markup {
    html! {
        h2 { "Pods" }
        div class="scroll" { table {
            tr {
                th { "pod" } th { "version" } th { "at the end" } th { "first line" } th { "last line" }
                @for title in ["events", "applied", "rejected", "aborts", "restarts", "no final line", "warnings", "errors"] {
                    th class="n" { (title) }
                }
            }
            @for pod in recording.fleet.pods.values() {
                @let totals = &pod.totals;
                tr {
                    td class="t" { (output::harmless(&pod.name)) }
                    td { (output::harmless(pod.version.as_deref().unwrap_or_default())) }
                    td { (at_the_end(pod, recording)) }
                    td class="t" { (units::moment(pod.written.0)) }
                    td class="t" { (units::moment(pod.written.1)) }
                    @for number in [totals.events, totals.applied, totals.rejected, totals.aborted, totals.restarts, totals.vanished, totals.warnings, totals.errors] {
                        td class="n" { (units::count(number)) }
                    }
                }
            }
        } }
    }
}

fn at_the_end(pod: &Pod, recording: &Recording) -> String {
    let end = recording.range.map_or(pod.written.1, |(_, end)| end);
    match &pod.life {
        Life::Stopped { exit_code } => format!("stopped, exit code {exit_code}"),
        Life::Failed { exit_code, exit_name } => {
            format!("failed, exit code {exit_code} {}", output::harmless(exit_name))
        }
        Life::Unknown | Life::Starting | Life::Running | Life::Stopping
            if end.since(pod.written.1) > pod.silence_limit_ms() =>
        {
            "silent, without a final line".to_owned()
        }
        Life::Unknown => "no numbers".to_owned(),
        Life::Starting => "starting".to_owned(),
        Life::Running => "running".to_owned(),
        Life::Stopping => "stopping".to_owned(),
    }
}

fn reasons(recording: &Recording) -> Markup {
    let totals = &recording.fleet.totals;
    let reasons = totals.rejected_by_reason.largest_first();
    html! {
        h2 { "Rejected by reason" }
        @if reasons.is_empty() {
            p { "Nothing was rejected." }
        } @else {
            div class="scroll" { table {
                tr {
                    th { "reason" } th class="n" { "events" } th class="n" { "of all events" }
                    @for pod in recording.fleet.pods.values().take(SHOWN_PODS) { th class="n" { (output::harmless(&pod.name)) } }
                }
                @for (reason, count) in reasons.into_iter().take(SHOWN_REASONS) {
                    tr {
                        td { code { (output::harmless(reason)) } }
                        td class="n" { (units::count(count)) }
                        td class="n" { (format!("{:.3} %", count as f64 * 100.0 / totals.events.max(count).max(1) as f64)) }
                        @for pod in recording.fleet.pods.values().take(SHOWN_PODS) {
                            td class="n" { (units::count(pod.totals.rejected_by_reason.of(reason))) }
                        }
                    }
                }
            } }
        }
    }
}

fn kinds(recording: &Recording) -> Markup {
    let mut kinds: Vec<&FindingKind> = recording.kinds.values().collect();
    kinds.sort_by_key(|kind| (kind.level != Level::ERROR, kind.first.written));
    html! {
        h2 { "Warnings and errors by kind" }
        @if kinds.is_empty() {
            p { "None." }
        } @else {
            div class="scroll" { table {
                tr {
                    th { "level" } th { "event" } th class="n" { "lines" } th { "first" } th { "last" } th class="n" { "pods" }
                    th { "what to do" }
                }
                @for kind in kinds {
                    @let spec = all_events().find(|spec| spec.name == kind.name);
                    tr {
                        td { (level(kind.level)) }
                        td { code { (output::harmless(&kind.name)) } }
                        td class="n" { (units::count(kind.count)) }
                        td class="t" { (units::moment(kind.first.written)) }
                        td class="t" { (units::moment(kind.last)) }
                        td class="n" { (kind.pods.len()) }
                        td class="d" { (spec.map_or("", |spec| spec.action)) }
                    }
                }
            } }
        }
    }
}

fn notices(recording: &Recording) -> Markup {
    let row = |notice: &PodNotice| {
        html! {
            tr {
                td class="t" { (units::moment(notice.written)) }
                td { (level(notice.level)) }
                td class="t" { (output::harmless(&notice.pod)) }
                td { code { (output::harmless(&notice.name)) } }
                td class="d" { (output::harmless(&notice.detail)) }
            }
        }
    };
    html! {
        @if !recording.first_notices.is_empty() {
            h2 { "Warnings and errors, line by line" }
            details {
                summary { (recording.first_notices.len() + recording.last_notices.len()) " lines" }
                div class="scroll" { table {
                    tr { th { "written" } th { "level" } th { "pod" } th { "event" } th { "details" } }
                    @for notice in &recording.first_notices { (row(notice)) }
                    @if recording.notices_left_out > 0 {
                        tr { td colspan="5" class="faint" { (units::count(recording.notices_left_out)) " more lines in between" } }
                    }
                    @for notice in &recording.last_notices { (row(notice)) }
                } }
            }
        }
    }
}

fn footer(recording: &Recording, sources: &str) -> Markup {
    let fleet = &recording.fleet;
    html! {
        h2 { "What was read" }
        p class="faint" {
            (output::harmless(sources)) ": " (units::count(fleet.lines)) " lines of steward, "
            (units::count(fleet.other_lines)) " others, " (units::count(fleet.damaged_lines)) " damaged"
            @if fleet.lines_left_out > 0 {
                ", " (units::count(fleet.lines_left_out)) " of pods beyond the first " (fleet.pods.len())
            }
            ". Written by steward " (env!("CARGO_PKG_VERSION")) "."
        }
    }
}
