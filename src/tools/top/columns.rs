//! What is told of a pod in a row, and what is left out first where there is little room.

use crate::tools::log_reader::{Life, Now, Pod, PodTotals, Readiness, UnixMs, Voice};
use crate::tools::{output, units};

/// Widest name of a pod that is shown, in characters.
const MAX_NAME_WIDTH: usize = 36;
/// Narrowest column of names.
const MIN_NAME_WIDTH: usize = 10;

/// One column of numbers.
pub(super) struct Column {
    /// Its heading.
    pub(super) title: &'static str,
    /// Its width, in characters.
    pub(super) width: u16,
    /// The lowest goes last where there is no room.
    rank: u8,
    /// What it tells of a pod.
    pub(super) pod: fn(&Pod, UnixMs) -> String,
    /// What it tells of all.
    pub(super) all: fn(&Now, &PodTotals) -> String,
}

/// A column whose value comes from the last `stats`.
macro_rules! stat {
    ($title:literal, $width:literal, $rank:literal, |$stats:ident| $pod:expr, |$now:ident| $all:expr) => {
        Column {
            title: $title,
            width: $width,
            rank: $rank,
            pod: |pod, now| match &pod.stats {
                // What a silent pod told last is not what it is.
                Some($stats) if pod.voice(now) == Voice::Heard => $pod,
                Some(_) | None => "-".to_owned(),
            },
            all: |$now, _| $all,
        }
    };
}

/// A column whose value is a sum over all that was read.
macro_rules! total {
    ($title:literal, $width:literal, $rank:literal, |$totals:ident| $value:expr) => {
        Column {
            title: $title,
            width: $width,
            rank: $rank,
            pod: |pod, _| {
                let $totals = &pod.totals;
                $value
            },
            all: |_, $totals| $value,
        }
    };
}

/// Every column, in the order in which they stand.
#[rustfmt::skip]
pub(super) const COLUMNS: &[Column] = &[
    stat!("events/s", 8, 0, |stats| units::short(stats.events_per_s), |now| units::short(now.events_per_s)),
    stat!("lag", 8, 1, |stats| units::short_count(stats.lag_total), |now| units::short_count(now.lag)),
    stat!("oldest", 8, 2, |stats| units::millis(stats.oldest_age_ms), |now| units::millis(now.oldest_age_ms)),
    stat!("p50", 8, 7, |stats| units::millis(stats.latency_p50_ms), |now| units::millis(now.latency_p50_ms)),
    stat!("p99", 8, 3, |stats| units::millis(stats.latency_p99_ms), |now| units::millis(now.latency_p99_ms)),
    stat!("rej/s", 6, 4, |stats| units::short(stats.rejected_per_s()), |now| units::short(now.rejected_per_s)),
    stat!("tx/s", 5, 9, |stats| units::short(stats.transactions_per_s()), |now| units::short(now.transactions_per_s)),
    total!("aborts", 6, 10, |totals| units::short_count(totals.aborted)),
    stat!("memory", 10, 8, |stats| units::bytes(stats.memory_rss_bytes), |now| units::bytes(now.memory_rss_bytes)),
    stat!("in flight", 10, 13, |stats| units::bytes(stats.in_flight_bytes), |now| units::bytes(now.in_flight_bytes)),
    Column { title: "owns", width: 4, rank: 11, pod: owned, all: |_, _| String::new() },
    total!("restarts", 8, 5, |totals| units::short_count(totals.restarts)),
    total!("warn", 5, 12, |totals| units::short_count(totals.warnings)),
    total!("error", 5, 6, |totals| units::short_count(totals.errors)),
];

fn owned(pod: &Pod, now: UnixMs) -> String {
    // The partitions of a silent pod are somebody else's before long.
    let owned = pod.owned.filter(|_| pod.voice(now) == Voice::Heard);
    owned.map_or_else(|| "-".to_owned(), |owned| owned.to_string())
}

/// Width of the column that says what a pod is doing.
pub(super) const STATE_WIDTH: u16 = 22;

/// The columns for which there is room behind names of this width.
pub(super) fn that_fit(width: u16, name_width: u16) -> Vec<&'static Column> {
    let mut room = i32::from(width) - i32::from(name_width) - i32::from(STATE_WIDTH) - 2;
    let mut by_rank: Vec<&Column> = COLUMNS.iter().collect();
    by_rank.sort_by_key(|column| column.rank);
    let mut fitting = Vec::new();
    for column in by_rank {
        room -= i32::from(column.width) + 1;
        if room < 0 {
            break;
        }
        fitting.push(column.rank);
    }
    COLUMNS.iter().filter(|column| fitting.contains(&column.rank)).collect()
}

/// Width of the column of names.
pub(super) fn name_width<'a>(pods: impl Iterator<Item = &'a Pod>) -> u16 {
    let longest = pods.map(|pod| name(pod).chars().count()).max().unwrap_or(0);
    longest.clamp(MIN_NAME_WIDTH, MAX_NAME_WIDTH) as u16
}

/// The name of a pod; of one whose lines carry none, its own word.
pub(super) fn name(pod: &Pod) -> String {
    let name = match &pod.instance {
        Some(instance) if pod.name.starts_with('(') => instance,
        Some(_) | None => &pod.name,
    };
    let name = output::harmless(name);
    let length = name.chars().count();
    if length <= MAX_NAME_WIDTH {
        return name;
    }
    // The end of a name tells pods of one set apart.
    let end: String = name.chars().skip(length - MAX_NAME_WIDTH + 1).collect();
    format!("…{end}")
}

/// How the state of a pod is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Good,
    Passing,
    Bad,
    Over,
}

/// What a pod is doing, in a few words.
pub(super) fn state(pod: &Pod, now: UnixMs) -> (Mood, String) {
    if pod.voice(now) == Voice::Stale {
        return (Mood::Bad, format!("silent for {}", units::millis(now.since(pod.heard))));
    }
    match &pod.life {
        Life::Failed { exit_code, exit_name } => {
            (Mood::Bad, format!("exit {exit_code} {}", output::harmless(exit_name)))
        }
        Life::Stopped { exit_code: 0 } => (Mood::Over, "stopped".to_owned()),
        Life::Stopped { exit_code } => (Mood::Bad, format!("stopped, exit {exit_code}")),
        Life::Stopping => (Mood::Passing, "stopping".to_owned()),
        Life::Unknown => (Mood::Passing, "no numbers yet".to_owned()),
        Life::Starting if pod.recovering.is_empty() => (Mood::Passing, "starting".to_owned()),
        Life::Starting | Life::Running => running(pod),
    }
}

fn running(pod: &Pod) -> (Mood, String) {
    if !pod.recovering.is_empty() {
        let least = pod.recovering.values().map(|(_, percent)| *percent).min().unwrap_or(0);
        return (Mood::Passing, format!("recovering {}, {least} %", pod.recovering.len()));
    }
    let doing = pod.stats.as_ref().map_or("running", |stats| stats.phase_word());
    let doing = output::harmless(doing);
    match &pod.readiness {
        Readiness::Unready { .. } => (Mood::Passing, format!("{doing}, not ready")),
        Readiness::Unknown | Readiness::Ready if pod.intake_pauses => (Mood::Passing, format!("{doing}, intake full")),
        Readiness::Unknown | Readiness::Ready if doing == "serving" => (Mood::Good, doing),
        Readiness::Unknown | Readiness::Ready => (Mood::Passing, doing),
    }
}
