//! Owns the history in a whole log, by pod and over time, for a post-mortem.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::observability::log_events::Level;
use crate::tools::log_reader::counts::Tally;
use crate::tools::log_reader::events::LoggedEvent;
use crate::tools::log_reader::fleet::{Fleet, PodNotice};
use crate::tools::log_reader::line::{LineReading, LogLine, UnixMs};
use crate::tools::log_reader::pod::{Pod, keep};
use crate::tools::log_reader::series::Series;
use crate::tools::log_reader::timeline::Timeline;

const MAX_KINDS: usize = 200;
/// Maximum number of single warnings and errors that are kept: the first ones, and the last ones.
const MAX_FIRST_NOTICES: usize = 250;
const MAX_LAST_NOTICES: usize = 250;
const MAX_FINDINGS: usize = 500;

/// All warnings or errors of one name.
#[derive(Debug, Clone)]
pub struct FindingKind {
    pub name: String,
    pub level: Level,
    pub count: u64,
    pub first: PodNotice,
    pub last: UnixMs,
    pub pods: BTreeSet<String>,
}

/// A problem, with its start.
#[derive(Debug, Clone, PartialEq)]
pub struct LogFinding {
    pub at: UnixMs,
    pub pod: String,
    pub level: Level,
    pub text: String,
}

#[derive(Debug, Default)]
pub struct Recording {
    /// The pods at the end of the log, and the sums.
    pub fleet: Fleet,
    /// Numbers over time, by pod.
    pub series: BTreeMap<String, Series>,
    pub timelines: BTreeMap<String, Timeline>,
    pub kinds: BTreeMap<String, FindingKind>,
    pub first_notices: Vec<PodNotice>,
    pub last_notices: VecDeque<PodNotice>,
    /// The number of warnings and errors between those.
    pub notices_left_out: u64,
    /// Ends of processes, by exit code and its name.
    pub exits: Tally,
    /// Timestamps of the first and the last line.
    pub range: Option<(UnixMs, UnixMs)>,
    /// Silences, and ends that were not clean.
    findings: Vec<LogFinding>,
}

impl Recording {
    pub fn add(&mut self, reading: &LineReading) {
        let LineReading::Steward(line) = reading else {
            return self.fleet.add(reading, UnixMs::default());
        };
        let name = self.fleet.name_of(line).to_owned();
        if let Some(pod) = self.fleet.pods.get(&name)
            && let Some(finding) = silence_before(pod, line)
        {
            self.timelines.entry(name.clone()).or_default().silent_from(finding.at);
            self.find(finding);
        }
        // Here the reader's clock is the time of the log.
        self.fleet.add(reading, line.written);
        if !self.fleet.pods.contains_key(&name) {
            return;
        }
        if let LoggedEvent::ProcessStopped(end) = &line.event {
            self.exits.add(&end.exit_code.to_string(), 1);
        }
        if let LoggedEvent::ProcessFailed(end) = &line.event {
            self.exits.add(&format!("{} {}", end.exit_code, end.exit_name), 1);
            let text = format!("ended with exit code {}: {}", end.exit_code, line.detail);
            self.find(LogFinding { at: line.written, pod: name.clone(), level: Level::ERROR, text });
        }
        let (first, last) = self.range.unwrap_or((line.written, line.written));
        self.range = Some((first.min(line.written), last.max(line.written)));
        if let LoggedEvent::StatsReported(stats) = &line.event {
            self.series.entry(name.clone()).or_default().add(line.written, stats);
        }
        self.timelines.entry(name.clone()).or_default().add(line);
        if line.is_notice() {
            self.note(PodNotice::new(name, line));
        }
    }

    pub fn end(&mut self) {
        let Some((_, end)) = self.range else { return };
        let silent: Vec<(String, UnixMs)> = self
            .fleet
            .pods
            .values()
            .filter(|pod| !pod.life.has_ended() && end.since(pod.written.1) > pod.silence_limit_ms())
            .map(|pod| (pod.name.clone(), pod.written.1))
            .collect();
        for (pod, at) in silent {
            self.timelines.entry(pod.clone()).or_default().silent_from(at);
            let text = "writes no more lines, and did not report its end, while other pods continue".to_owned();
            self.find(LogFinding { at, pod, level: Level::WARN, text });
        }
        self.timelines.values_mut().for_each(Timeline::sort);
    }

    /// Returns the problems in order of time: the first warning or error of each kind, silences, and ends.
    pub fn findings(&self) -> Vec<LogFinding> {
        let firsts = self.kinds.values().map(|kind| LogFinding {
            at: kind.first.written,
            pod: kind.first.pod.clone(),
            level: kind.level,
            text: match kind.count {
                1 => format!("{}: {}", kind.name, kind.first.detail),
                count => format!("{} (the first of {count}): {}", kind.name, kind.first.detail),
            },
        });
        // `self.findings` already contains each end with an error, with its exit code.
        let firsts = firsts.filter(|finding| !finding.text.starts_with("process_failed"));
        let mut findings: Vec<LogFinding> = firsts.chain(self.findings.iter().cloned()).collect();
        findings.sort_by_key(|finding| finding.at);
        findings
    }

    fn find(&mut self, finding: LogFinding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        }
    }

    fn note(&mut self, notice: PodNotice) {
        self.count_kind(&notice);
        if self.first_notices.len() < MAX_FIRST_NOTICES {
            self.first_notices.push(notice);
            return;
        }
        self.notices_left_out += u64::from(self.last_notices.len() == MAX_LAST_NOTICES);
        keep(&mut self.last_notices, notice, MAX_LAST_NOTICES);
    }

    fn count_kind(&mut self, notice: &PodNotice) {
        if !self.kinds.contains_key(&notice.name) && self.kinds.len() >= MAX_KINDS {
            return;
        }
        let kind = self.kinds.entry(notice.name.clone()).or_insert_with(|| FindingKind {
            name: notice.name.clone(),
            level: notice.level,
            count: 0,
            first: notice.clone(),
            last: notice.written,
            pods: BTreeSet::new(),
        });
        kind.count += 1;
        kind.last = kind.last.max(notice.written);
        if notice.written < kind.first.written {
            kind.first = notice.clone();
        }
        kind.pods.insert(notice.pod.clone());
    }
}

/// Returns what a line implies about the time before it: a silence, or an end that was not reported.
fn silence_before(pod: &Pod, line: &LogLine) -> Option<LogFinding> {
    let at = pod.written.1;
    let silent_ms = line.written.since(at);
    let silent_s = silent_ms as f64 / 1000.0;
    let text = if pod.life.has_ended() {
        return None;
    } else if matches!(line.event, LoggedEvent::ProcessStarting(_)) {
        format!(
            "ended without a final line and started again {silent_s:.1} s later: killed, out of memory, or its node was lost"
        )
    } else if silent_ms > pod.silence_limit_ms() {
        format!("was silent for {silent_s:.0} s")
    } else {
        return None;
    };
    Some(LogFinding { at, pod: pod.name.clone(), level: Level::WARN, text })
}
