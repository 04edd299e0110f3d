//! The columns of a pod's row, and which of them are left out first if there is little room.

use crate::tools::log_reader::{Life, Liveness, Now, Pod, PodTotals, Readiness, UnixMs};
use crate::tools::{output, units};

/// Maximum width of a pod's name, in characters.
const MAX_NAME_WIDTH: usize = 36;
const MIN_NAME_WIDTH: usize = 10;

pub(super) struct Column {
    pub(super) title: &'static str,
    /// Width in characters.
    pub(super) width: u16,
    /// If there is little room, the highest rank is left out first.
    rank: u8,
    pub(super) pod: fn(&Pod, UnixMs) -> String,
    /// The value for all pods.
    pub(super) all: fn(&Now, &PodTotals) -> String,
}

/// A column whose value comes from the last `stats`.
macro_rules! stat {
    ($title:literal, $width:literal, $rank:literal, |$stats:ident| $pod:expr, |$now:ident| $all:expr) => {
        Column {
            title: $title,
            width: $width,
            rank: $rank,
            pod: |pod, now| pod.live_stats(now).map_or_else(|| "-".to_owned(), |$stats| $pod),
            all: |$now, _| $all,
        }
    };
}

/// A column whose value is a sum over all lines.
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
    // The partitions of a silent pod soon belong to another pod.
    let owned = pod.owned.filter(|_| pod.liveness(now) == Liveness::Live);
    owned.map_or_else(|| "-".to_owned(), |owned| owned.to_string())
}

pub(super) const STATE_WIDTH: u16 = 22;

/// Returns the columns that fit beside names of this width.
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

pub(super) fn name_width<'a>(pods: impl Iterator<Item = &'a Pod>) -> u16 {
    let longest = pods.map(|pod| name(pod).chars().count()).max().unwrap_or(0);
    longest.clamp(MIN_NAME_WIDTH, MAX_NAME_WIDTH) as u16
}

/// Returns the name of a pod. If its lines have none, its instance name.
pub(super) fn name(pod: &Pod) -> String {
    let name = match &pod.instance {
        Some(instance) if pod.name.starts_with('(') => instance,
        Some(_) | None => &pod.name,
    };
    let name = output::harmless(name);
    output::end_of_name(&name, MAX_NAME_WIDTH)
}

/// Kind of a pod's state, which selects its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateKind {
    Good,
    Transient,
    Bad,
    Ended,
}

/// Describes the state of a pod in a few words.
pub(super) fn state(pod: &Pod, now: UnixMs) -> (StateKind, String) {
    if pod.liveness(now) == Liveness::Silent {
        return (StateKind::Bad, format!("silent for {}", units::millis(now.since(pod.read_at))));
    }
    match &pod.life {
        Life::Failed { exit_code, exit_name } => {
            (StateKind::Bad, format!("exit {exit_code} {}", output::harmless(exit_name)))
        }
        Life::Stopped { exit_code: 0 } => (StateKind::Ended, "stopped".to_owned()),
        Life::Stopped { exit_code } => (StateKind::Bad, format!("stopped, exit {exit_code}")),
        Life::Stopping => (StateKind::Transient, "stopping".to_owned()),
        Life::Unknown => (StateKind::Transient, "no numbers yet".to_owned()),
        Life::Starting if pod.recovering.is_empty() => (StateKind::Transient, "starting".to_owned()),
        Life::Starting | Life::Running => running(pod),
    }
}

fn running(pod: &Pod) -> (StateKind, String) {
    if !pod.recovering.is_empty() {
        let least = pod.recovering.values().map(|(_, percent)| *percent).min().unwrap_or(0);
        return (StateKind::Transient, format!("recovering {}, {least} %", pod.recovering.len()));
    }
    let phase = output::harmless(pod.stats.as_ref().map_or("running", |stats| stats.phase_word()));
    match &pod.readiness {
        Readiness::Unready { .. } => (StateKind::Transient, format!("{phase}, not ready")),
        Readiness::Unknown | Readiness::Ready if pod.is_ingest_paused => {
            (StateKind::Transient, format!("{phase}, ingest full"))
        }
        Readiness::Unknown | Readiness::Ready if phase == "serving" => (StateKind::Good, phase),
        Readiness::Unknown | Readiness::Ready => (StateKind::Transient, phase),
    }
}
