//! Owns what happened in a whole log, pod by pod and over time: what a post-mortem is written from.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::observability::log_events::Level;
use crate::tools::log_reader::counts::Tally;
use crate::tools::log_reader::events::LoggedEvent;
use crate::tools::log_reader::fleet::{Fleet, PodNotice, WhenFull};
use crate::tools::log_reader::line::{LineReading, LogLine, UnixMs};
use crate::tools::log_reader::pod::Pod;
use crate::tools::log_reader::series::Series;
use crate::tools::log_reader::timeline::Timeline;

/// Names of warnings and errors that are told apart.
const MAX_KINDS: usize = 200;
/// Single warnings and errors that are kept: the first ones, and the last ones.
const MAX_FIRST_NOTICES: usize = 250;
const MAX_LAST_NOTICES: usize = 250;
/// Silences and ends that are kept.
const MAX_FINDINGS: usize = 500;

/// All warnings or errors of one name.
#[derive(Debug, Clone)]
pub struct FindingKind {
    /// The event's name.
    pub name: String,
    /// WARN or ERROR.
    pub level: Level,
    /// How many lines.
    pub count: u64,
    /// The first one.
    pub first: PodNotice,
    /// When the last one was written.
    pub last: UnixMs,
    /// The pods that wrote them.
    pub pods: BTreeSet<String>,
}

/// Something that went wrong, of which a person wants to know when it began.
#[derive(Debug, Clone, PartialEq)]
pub struct LogFinding {
    /// When.
    pub at: UnixMs,
    /// Where.
    pub pod: String,
    /// How bad: as the log's levels promise.
    pub level: Level,
    /// In words.
    pub text: String,
}

/// A whole log.
#[derive(Debug)]
pub struct Recording {
    /// The pods as they were at the end, and the sums.
    pub fleet: Fleet,
    /// Numbers over time, by pod.
    pub series: BTreeMap<String, Series>,
    /// What happened when, by pod.
    pub timelines: BTreeMap<String, Timeline>,
    /// Warnings and errors by name.
    pub kinds: BTreeMap<String, FindingKind>,
    /// The first warnings and errors.
    pub first_notices: Vec<PodNotice>,
    /// The last ones beyond those.
    pub last_notices: VecDeque<PodNotice>,
    /// How many stood in between.
    pub notices_left_out: u64,
    /// How processes ended, by exit code and its name.
    pub exits: Tally,
    /// When the first and the last line were written.
    pub range: Option<(UnixMs, UnixMs)>,
    /// Silences, and ends that are none cleanly.
    findings: Vec<LogFinding>,
}

impl Default for Recording {
    fn default() -> Recording {
        Recording {
            fleet: Fleet::new("log", WhenFull::LeaveOut),
            series: BTreeMap::new(),
            timelines: BTreeMap::new(),
            kinds: BTreeMap::new(),
            first_notices: Vec::new(),
            last_notices: VecDeque::new(),
            notices_left_out: 0,
            exits: Tally::default(),
            range: None,
            findings: Vec::new(),
        }
    }
}

impl Recording {
    /// Takes a line.
    pub fn tell(&mut self, reading: &LineReading) {
        let LineReading::Ours(line) = reading else {
            return self.fleet.tell(reading, UnixMs::default());
        };
        let name = self.fleet.name_of(line).to_owned();
        if let Some(pod) = self.fleet.pods.get(&name) {
            let found = look_back(pod, line);
            for (finding, silent_from) in found {
                if let Some(from) = silent_from {
                    self.timelines.entry(name.clone()).or_default().fall_silent(from);
                }
                self.find(finding);
            }
        }
        // The log's own time is the reader's clock here.
        self.fleet.tell(reading, line.written);
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
            self.series.entry(name.clone()).or_default().tell(line.written, stats);
        }
        self.timelines.entry(name.clone()).or_default().tell(line);
        if line.level == Level::WARN || line.level == Level::ERROR {
            self.note(name, line);
        }
    }

    /// No line follows.
    pub fn end(&mut self) {
        let Some((_, end)) = self.range else { return };
        let silent: Vec<(String, UnixMs)> = self
            .fleet
            .pods
            .values()
            .filter(|pod| !pod.life.has_ended() && end.since(pod.written.1) > pod.patience_ms())
            .map(|pod| (pod.name.clone(), pod.written.1))
            .collect();
        for (pod, at) in silent {
            self.timelines.entry(pod.clone()).or_default().fall_silent(at);
            let text = "is not heard of any more, without a last word, while others go on".to_owned();
            self.find(LogFinding { at, pod, level: Level::WARN, text });
        }
        self.timelines.values_mut().for_each(Timeline::sort);
    }

    /// What went wrong, in the order of time: of each kind of warning or error the first, silences, and ends.
    #[must_use]
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
        // An end with an error is told with its exit code; its line would say the same again.
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

    fn note(&mut self, pod: String, line: &LogLine) {
        let notice = PodNotice {
            written: line.written,
            pod,
            level: line.level,
            name: line.name.clone(),
            detail: line.detail.clone(),
        };
        self.count_kind(&notice);
        if self.first_notices.len() < MAX_FIRST_NOTICES {
            self.first_notices.push(notice);
            return;
        }
        if self.last_notices.len() == MAX_LAST_NOTICES {
            self.last_notices.pop_front();
            self.notices_left_out += 1;
        }
        self.last_notices.push_back(notice);
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

/// What a line says of the time before it: a silence, with the moment at which it began, or an end without a last word.
fn look_back(pod: &Pod, line: &LogLine) -> Vec<(LogFinding, Option<UnixMs>)> {
    let last = pod.written.1;
    let silent_ms = line.written.since(last);
    let finding = |text: String| LogFinding { at: last, pod: pod.name.clone(), level: Level::WARN, text };
    if pod.life.has_ended() {
        return Vec::new();
    }
    if matches!(line.event, LoggedEvent::ProcessStarting(_)) {
        let text = format!(
            "ended without a last word and started again {:.1} s later: killed, out of memory, or its node was lost",
            silent_ms as f64 / 1000.0
        );
        return vec![(finding(text), Some(last))];
    }
    if silent_ms > pod.patience_ms() {
        return vec![(finding(format!("was silent for {:.0} s", silent_ms as f64 / 1000.0)), Some(last))];
    }
    Vec::new()
}
