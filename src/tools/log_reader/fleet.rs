//! Owns the picture of all pods: which there are, what they tell, what they add up to.

use std::collections::{BTreeMap, VecDeque};

use crate::observability::log_events::Level;
use crate::tools::log_reader::counts::{Tally, parse_counts};
use crate::tools::log_reader::events::Waiting;
use crate::tools::log_reader::line::{LineReading, LogLine, UnixMs};
use crate::tools::log_reader::pod::{Pod, PodTotals, Voice};

/// Pods that are kept apart.
const MAX_POD_COUNT: usize = 200;
/// Warnings and errors that are kept.
const MAX_NOTICES: usize = 200;
/// PodTotals that fell this often without a start are those of several processes.
const FALLS_OF_A_MIXTURE: u64 = 3;

/// What becomes of a pod for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It takes the place of the pod that has been silent for longest, if one has ended or gone silent.
    ForgetTheSilent,
    /// Its lines are counted, and not told.
    LeaveOut,
}

/// A warning or an error.
#[derive(Debug, Clone, PartialEq)]
pub struct PodNotice {
    /// When it was written.
    pub written: UnixMs,
    /// The pod.
    pub pod: String,
    /// WARN or ERROR.
    pub level: Level,
    /// The event's name.
    pub name: String,
    /// Message and fields.
    pub detail: String,
}

/// What all pods that are heard add up to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Now {
    /// Pods that are heard.
    pub heard: usize,
    /// Pods that have gone silent.
    pub stale: usize,
    /// Pods that have ended.
    pub ended: usize,
    /// Events read per second.
    pub events_per_s: f64,
    /// Events not committed.
    pub lag: u64,
    /// Age of the oldest event that is read and not committed: the worst of all.
    pub oldest_age_ms: u64,
    /// That event, with its pod, where it is told.
    pub oldest: Option<(String, Waiting)>,
    /// Median latency: the worst of all.
    pub latency_p50_ms: u64,
    /// The latency of 99 of 100: the worst of all.
    pub latency_p99_ms: u64,
    /// Events rejected per second.
    pub rejected_per_s: f64,
    /// Transactions committed per second.
    pub transactions_per_s: f64,
    /// Transactions aborted within the last interval.
    pub aborted: u64,
    /// Resident memory.
    pub memory_rss_bytes: u64,
    /// Bytes read and not committed.
    pub in_flight_bytes: u64,
    /// Events rejected within the last interval by reason.
    pub rejected: Tally,
    /// The busiest keys within the last interval.
    pub hottest: Tally,
    /// The keys that kept a thread longest within the last interval, in milliseconds.
    pub slowest: Tally,
}

/// All pods.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// By name.
    pub pods: BTreeMap<String, Pod>,
    /// The last warnings and errors, the newest at the end.
    pub notices: VecDeque<PodNotice>,
    /// Sums over all that was read, pods that were forgotten included.
    pub totals: PodTotals,
    /// Lines of steward.
    pub lines: u64,
    /// Lines that are somebody else's, or too long to be steward's.
    pub other_lines: u64,
    /// Lines that begin like steward's, and cannot be read.
    pub damaged_lines: u64,
    /// Lines of pods for which there was no room.
    pub lines_left_out: u64,
    /// Pods that were forgotten for newer ones.
    pub forgotten: u64,
    when_full: WhenFull,
    /// What the pod is called whose lines carry no name.
    unnamed: String,
}

impl Fleet {
    /// Nobody yet. Lines without a name belong to a pod called `unnamed`.
    #[must_use]
    pub fn new(unnamed: &str, when_full: WhenFull) -> Fleet {
        Fleet {
            pods: BTreeMap::new(),
            notices: VecDeque::new(),
            totals: PodTotals::default(),
            lines: 0,
            other_lines: 0,
            damaged_lines: 0,
            lines_left_out: 0,
            forgotten: 0,
            when_full,
            unnamed: unnamed.to_owned(),
        }
    }

    /// From here on, lines without a name belong to a pod called so.
    pub fn call_unnamed(&mut self, name: &str) {
        name.clone_into(&mut self.unnamed);
    }

    /// The name of the pod that a line belongs to.
    #[must_use]
    pub fn name_of<'a>(&'a self, line: &'a LogLine) -> &'a str {
        line.pod.as_deref().unwrap_or(&self.unnamed)
    }

    /// Takes a line, heard at a moment of the reader's clock.
    pub fn tell(&mut self, reading: &LineReading, heard: UnixMs) {
        match reading {
            LineReading::NotOurs => self.other_lines += 1,
            LineReading::Damaged => self.damaged_lines += 1,
            LineReading::Ours(line) => {
                self.lines += 1;
                self.tell_line(line, heard);
            }
        }
    }

    /// A line that was too long to be looked at.
    pub fn tell_too_long(&mut self) {
        self.other_lines += 1;
    }

    fn tell_line(&mut self, line: &LogLine, heard: UnixMs) {
        let name = self.name_of(line).to_owned();
        if !self.pods.contains_key(&name) && !self.has_room(heard) {
            self.lines_left_out += 1;
            return;
        }
        if line.level == Level::WARN || line.level == Level::ERROR {
            if self.notices.len() == MAX_NOTICES {
                self.notices.pop_front();
            }
            self.notices.push_back(PodNotice {
                written: line.written,
                pod: name.clone(),
                level: line.level,
                name: line.name.clone(),
                detail: line.detail.clone(),
            });
        }
        let pod = self.pods.entry(name.clone()).or_insert_with(|| Pod::new(name, line.written, heard));
        self.totals.add(&pod.tell(line, heard));
    }

    /// Whether there is room for one more, which may cost the most silent one its place.
    fn has_room(&mut self, now: UnixMs) -> bool {
        if self.pods.len() < MAX_POD_COUNT {
            return true;
        }
        if self.when_full == WhenFull::LeaveOut {
            return false;
        }
        let silent = self.pods.values().filter(|pod| pod.voice(now) != Voice::Heard);
        let Some(name) = silent.min_by_key(|pod| pod.heard).map(|pod| pod.name.clone()) else { return false };
        self.pods.remove(&name);
        self.forgotten += 1;
        true
    }

    /// Forgets the pods that have ended or gone silent, and of which nothing was heard for so long. Their sums stay.
    pub fn forget_silent(&mut self, now: UnixMs, after_ms: u64) {
        let before = self.pods.len();
        self.pods.retain(|_, pod| pod.voice(now) == Voice::Heard || now.since(pod.heard) <= after_ms);
        self.forgotten += (before - self.pods.len()) as u64;
    }

    /// What the pods that are heard add up to, at a moment of the reader's clock.
    #[must_use]
    pub fn now(&self, now: UnixMs) -> Now {
        let mut sum = Now::default();
        for pod in self.pods.values() {
            match pod.voice(now) {
                Voice::Heard => sum.heard += 1,
                Voice::Stale => {
                    sum.stale += 1;
                    continue;
                }
                Voice::Ended => {
                    sum.ended += 1;
                    continue;
                }
            }
            let Some(stats) = &pod.stats else { continue };
            sum.events_per_s += stats.events_per_s;
            sum.lag = sum.lag.saturating_add(stats.lag_total);
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

    /// Whether the lines of several processes came without names, so that their numbers are mixed up.
    #[must_use]
    pub fn is_mixed_up(&self) -> bool {
        self.pods.get(&self.unnamed).is_some_and(|pod| pod.unexplained_falls >= FALLS_OF_A_MIXTURE)
    }
}
