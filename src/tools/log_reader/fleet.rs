//! Owns the state of all pods, and their sums.

use std::collections::{BTreeMap, VecDeque};

use crate::observability::log_events::Level;
use crate::tools::log_reader::counts::{Tally, parse_counts};
use crate::tools::log_reader::events::Waiting;
use crate::tools::log_reader::line::{LineReading, LogLine, UnixMs};
use crate::tools::log_reader::pod::{Liveness, Pod, PodTotals, keep};

const MAX_POD_COUNT: usize = 200;
const MAX_NOTICES: usize = 200;
/// Totals that fell this often without a start are those of several processes.
const MIXED_FALLS: u64 = 3;

/// What happens to a pod beyond the maximum number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It replaces the pod that has been silent for longest, if any has ended or is silent.
    DropSilent,
    /// Its lines are only counted.
    #[default]
    LeaveOut,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PodNotice {
    pub written: UnixMs,
    pub pod: String,
    pub level: Level,
    pub name: String,
    /// Message and fields.
    pub detail: String,
}

impl PodNotice {
    pub(super) fn new(pod: String, line: &LogLine) -> PodNotice {
        let LogLine { written, level, name, detail, .. } = line;
        PodNotice { written: *written, pod, level: *level, name: name.clone(), detail: detail.clone() }
    }
}

/// Sums over the live pods.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Now {
    pub live: usize,
    pub silent: usize,
    pub ended: usize,
    pub events_per_s: f64,
    pub lag: u64,
    /// Offsets that open transactions of the input hold back.
    pub behind_open_transaction: u64,
    /// Partitions that serve, and the partitions of the input; 0 if the lines do not contain them.
    pub partitions_serving: u64,
    pub partitions_total: u64,
    /// Longest time since the broker of a served partition sent anything.
    pub fetch_age_max_ms: u64,
    /// Age of the oldest uncommitted event of all pods.
    pub oldest_age_ms: u64,
    /// That event, with its pod, if it is known.
    pub oldest: Option<(String, Waiting)>,
    /// The highest percentile of a pod, as in the following field.
    pub latency_p50_ms: u64,
    pub latency_p99_ms: u64,
    pub rejected_per_s: f64,
    pub transactions_per_s: f64,
    /// Transactions aborted within the last interval.
    pub aborted: u64,
    pub memory_rss_bytes: u64,
    pub in_flight_bytes: u64,
    /// Events rejected within the last interval by reason.
    pub rejected: Tally,
    /// The most frequent keys within the last interval.
    pub hottest: Tally,
    /// The keys that occupied a thread longest within the last interval, in milliseconds.
    pub slowest: Tally,
}

#[derive(Debug, Clone, Default)]
pub struct Fleet {
    pub pods: BTreeMap<String, Pod>,
    /// The last warnings and errors, the newest at the end.
    pub notices: VecDeque<PodNotice>,
    /// Sums over all lines, including those of dropped pods.
    pub totals: PodTotals,
    /// Lines of steward.
    pub lines: u64,
    /// Lines of other programs, and lines too long to be steward's.
    pub other_lines: u64,
    /// Lines that begin like steward's, but cannot be parsed.
    pub damaged_lines: u64,
    /// Lines of pods beyond the maximum number.
    pub lines_left_out: u64,
    pub dropped_pods: u64,
    when_full: WhenFull,
    /// Name of the pod of the following lines without a name.
    pub unnamed: String,
}

impl Fleet {
    /// Creates an empty fleet. Lines without a name belong to a pod called `unnamed`.
    pub fn new(unnamed: &str, when_full: WhenFull) -> Fleet {
        Fleet { when_full, unnamed: unnamed.to_owned(), ..Fleet::default() }
    }

    pub fn name_of<'a>(&'a self, line: &'a LogLine) -> &'a str {
        line.pod.as_deref().unwrap_or(&self.unnamed)
    }

    /// Adds a line that was read at a time of the reader's clock.
    pub fn add(&mut self, reading: &LineReading, read_at: UnixMs) {
        match reading {
            LineReading::Other => self.other_lines += 1,
            LineReading::Damaged => self.damaged_lines += 1,
            LineReading::Steward(line) => {
                self.lines += 1;
                self.add_line(line, read_at);
            }
        }
    }

    fn add_line(&mut self, line: &LogLine, read_at: UnixMs) {
        let name = self.name_of(line).to_owned();
        if !self.pods.contains_key(&name) && !self.has_room(read_at) {
            self.lines_left_out += 1;
            return;
        }
        if line.is_notice() {
            keep(&mut self.notices, PodNotice::new(name.clone(), line), MAX_NOTICES);
        }
        let pod = self.pods.entry(name.clone()).or_insert_with(|| Pod::new(name, line.written, read_at));
        self.totals.add(&pod.add(line, read_at));
    }

    /// Returns whether there is room for one more pod. May drop a silent one.
    fn has_room(&mut self, now: UnixMs) -> bool {
        if self.pods.len() < MAX_POD_COUNT {
            return true;
        }
        if self.when_full == WhenFull::LeaveOut {
            return false;
        }
        let silent = self.pods.values().filter(|pod| pod.liveness(now) != Liveness::Live);
        let Some(name) = silent.min_by_key(|pod| pod.read_at).map(|pod| pod.name.clone()) else { return false };
        self.pods.remove(&name);
        self.dropped_pods += 1;
        true
    }

    /// Drops the pods that have ended or are silent, and have written no line for `after_ms`. Their sums stay.
    pub fn drop_silent(&mut self, now: UnixMs, after_ms: u64) {
        let before = self.pods.len();
        self.pods.retain(|_, pod| pod.liveness(now) == Liveness::Live || now.since(pod.read_at) <= after_ms);
        self.dropped_pods += (before - self.pods.len()) as u64;
    }

    /// Returns the sums over the live pods, at a time of the reader's clock.
    pub fn now(&self, now: UnixMs) -> Now {
        let mut sum = Now::default();
        for pod in self.pods.values() {
            match pod.liveness(now) {
                Liveness::Live => sum.live += 1,
                Liveness::Silent => sum.silent += 1,
                Liveness::Ended => sum.ended += 1,
            }
            let Some(stats) = pod.live_stats(now) else { continue };
            sum.events_per_s += stats.events_per_s;
            sum.lag = sum.lag.saturating_add(stats.lag_total);
            sum.behind_open_transaction =
                sum.behind_open_transaction.saturating_add(stats.behind_open_transaction_total);
            sum.partitions_serving = sum.partitions_serving.saturating_add(stats.partitions_serving);
            sum.partitions_total = sum.partitions_total.max(stats.partitions_total);
            sum.fetch_age_max_ms = sum.fetch_age_max_ms.max(stats.fetch_age_max_ms);
            sum.oldest_age_ms = sum.oldest_age_ms.max(stats.oldest_age_ms);
            if let Some(waiting) = stats.oldest()
                && sum.oldest.as_ref().is_none_or(|(_, known)| known.age_ms < waiting.age_ms)
            {
                sum.oldest = Some((pod.name.clone(), waiting));
            }
            sum.latency_p50_ms = sum.latency_p50_ms.max(stats.latency_p50_ms);
            sum.latency_p99_ms = sum.latency_p99_ms.max(stats.latency_p99_ms);
            sum.rejected_per_s += stats.rejected_per_s();
            sum.transactions_per_s += stats.transactions_per_s();
            sum.aborted = sum.aborted.saturating_add(stats.transactions_aborted);
            sum.memory_rss_bytes = sum.memory_rss_bytes.saturating_add(stats.memory_rss_bytes);
            sum.in_flight_bytes = sum.in_flight_bytes.saturating_add(stats.in_flight_bytes);
            parse_counts(&stats.rejected).for_each(|(reason, count)| sum.rejected.add(reason, count));
            parse_counts(&stats.hottest_keys).for_each(|(key, count)| sum.hottest.add(key, count));
            parse_counts(&stats.slowest_keys).for_each(|(key, ms)| sum.slowest.add(key, ms));
        }
        sum
    }

    /// Returns whether lines of several processes have no names, so that their numbers are mixed.
    pub fn is_mixed(&self) -> bool {
        self.pods.get(&self.unnamed).is_some_and(|pod| pod.unexplained_falls >= MIXED_FALLS)
    }
}
