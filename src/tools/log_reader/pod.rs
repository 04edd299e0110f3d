//! Owns what is known of one pod, as a fold over its lines.

use std::collections::{BTreeMap, VecDeque};

use crate::observability::log_events::Level;
use crate::tools::log_reader::counts::{Tally, parse_counts};
use crate::tools::log_reader::events::{LoggedEvent, StatsReported};
use crate::tools::log_reader::line::{LogLine, UnixMs};

/// How many of the last values are kept for small pictures.
const HISTORY: usize = 120;
/// Recoveries of a pod that are kept apart.
const MAX_RECOVERIES: usize = 4_096;
/// How often a pod is expected to speak until its first `stats` tells.
const DEFAULT_INTERVAL_MS: u64 = 10_000;
/// Silent for this many intervals, and a pod counts as stale.
const STALE_INTERVALS: u64 = 3;
/// The interval is the pod's own word, so it is not believed without limits.
const INTERVAL_RANGE_MS: std::ops::RangeInclusive<u64> = 1_000..=600_000;

/// Where the process of a pod is in its life.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Life {
    /// Nothing was heard that tells.
    #[default]
    Unknown,
    /// It has started, and has told no numbers yet.
    Starting,
    /// It runs.
    Running,
    /// It was told to stop.
    Stopping,
    /// It ended cleanly.
    Stopped {
        /// Its exit code.
        exit_code: i64,
    },
    /// It ended with an error.
    Failed {
        /// Its exit code.
        exit_code: i64,
        /// The exit code's name.
        exit_name: String,
    },
}

impl Life {
    /// Whether its last line was a last word.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        match self {
            Life::Stopped { .. } | Life::Failed { .. } => true,
            Life::Unknown | Life::Starting | Life::Running | Life::Stopping => false,
        }
    }
}

/// Whether a pod is ready, by its own word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Readiness {
    /// It has not said.
    #[default]
    Unknown,
    /// It serves all it owns.
    Ready,
    /// It does not.
    Unready {
        /// What it waits for.
        cause: String,
    },
}

/// Whether a pod is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// It speaks.
    Heard,
    /// It has been silent for longer than three of its intervals, without a last word.
    Stale,
    /// It has ended, and said so.
    Ended,
}

/// Sums over all that was read, restarts of the process included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodTotals {
    /// Events read.
    pub events: u64,
    /// Events applied and committed.
    pub applied: u64,
    /// Events rejected and committed.
    pub rejected: u64,
    /// The same by reason.
    pub rejected_by_reason: Tally,
    /// Events skipped, because the state contained them.
    pub skipped: u64,
    /// Transactions committed.
    pub transactions: u64,
    /// Transactions aborted.
    pub aborted: u64,
    /// Entities started again after a panic.
    pub entity_restarts: u64,
    /// Starts of the process after the first time that something was heard of it.
    pub restarts: u64,
    /// Starts before which the process said no last word: killed, out of memory, or its node was lost.
    pub vanished: u64,
    /// Lines of level WARN.
    pub warnings: u64,
    /// Lines of level ERROR.
    pub errors: u64,
}

impl PodTotals {
    /// Adds another one.
    pub fn add(&mut self, other: &PodTotals) {
        let PodTotals {
            events,
            applied,
            rejected,
            rejected_by_reason,
            skipped,
            transactions,
            aborted,
            entity_restarts,
            restarts,
            vanished,
            warnings,
            errors,
        } = other;
        let pairs = [
            (&mut self.events, events),
            (&mut self.applied, applied),
            (&mut self.rejected, rejected),
            (&mut self.skipped, skipped),
            (&mut self.transactions, transactions),
            (&mut self.aborted, aborted),
            (&mut self.entity_restarts, entity_restarts),
            (&mut self.restarts, restarts),
            (&mut self.vanished, vanished),
            (&mut self.warnings, warnings),
            (&mut self.errors, errors),
        ];
        for (sum, more) in pairs {
            *sum = sum.saturating_add(*more);
        }
        self.rejected_by_reason.merge(rejected_by_reason);
    }
}

/// One pod, container or process.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its name, as the prefix of its lines has it, or as whoever reads an unnamed stream calls it.
    pub name: String,
    /// `instance` of its last start, and the group and topic that it serves.
    pub instance: Option<String>,
    /// Version of the program.
    pub version: Option<String>,
    /// Where it is in its life.
    pub life: Life,
    /// Whether it is ready.
    pub readiness: Readiness,
    /// Its last numbers.
    pub stats: Option<StatsReported>,
    /// When its first and its last line were written.
    pub written: (UnixMs, UnixMs),
    /// When its last line was heard, by the reader's clock.
    pub heard: UnixMs,
    /// Partitions that it owns, where it has said so.
    pub owned: Option<u64>,
    /// Partitions that recover, with phase and percent.
    pub recovering: BTreeMap<i64, (String, u64)>,
    /// Whether reading pauses.
    pub intake_pauses: bool,
    /// Sums over all that was read of it.
    pub totals: PodTotals,
    /// How often its totals fell without a start in between: the lines of several processes under one name.
    pub unexplained_falls: u64,
    /// Events per second, the last `stats` lines.
    pub rates: VecDeque<u64>,
    /// Lag, the last `stats` lines.
    pub lags: VecDeque<u64>,
    /// The process has started, and has told no `stats` since.
    has_restarted: bool,
}

impl Pod {
    /// A pod of which the first line is about to be told.
    #[must_use]
    pub fn new(name: String, written: UnixMs, heard: UnixMs) -> Pod {
        Pod {
            name,
            instance: None,
            version: None,
            life: Life::Unknown,
            readiness: Readiness::Unknown,
            stats: None,
            written: (written, written),
            heard,
            owned: None,
            recovering: BTreeMap::new(),
            intake_pauses: false,
            totals: PodTotals::default(),
            unexplained_falls: 0,
            rates: VecDeque::new(),
            lags: VecDeque::new(),
            has_restarted: false,
        }
    }

    /// How often it writes its numbers, in milliseconds.
    #[must_use]
    pub fn interval_ms(&self) -> u64 {
        let told = self.stats.as_ref().map(|stats| stats.interval_ms).filter(|interval| *interval > 0);
        told.unwrap_or(DEFAULT_INTERVAL_MS).clamp(*INTERVAL_RANGE_MS.start(), *INTERVAL_RANGE_MS.end())
    }

    /// How long it may be silent before it counts as stale, in milliseconds.
    #[must_use]
    pub fn patience_ms(&self) -> u64 {
        STALE_INTERVALS * self.interval_ms()
    }

    /// Whether it is heard, at a moment of the reader's clock.
    #[must_use]
    pub fn voice(&self, now: UnixMs) -> Voice {
        if self.life.has_ended() {
            Voice::Ended
        } else if now.since(self.heard) > self.patience_ms() {
            Voice::Stale
        } else {
            Voice::Heard
        }
    }

    /// Takes a line of this pod, and returns what it adds to the totals.
    pub fn tell(&mut self, line: &LogLine, heard: UnixMs) -> PodTotals {
        let is_first = self.is_unheard_of();
        self.heard = self.heard.max(heard);
        self.written = (self.written.0.min(line.written), self.written.1.max(line.written));
        let mut added = PodTotals::default();
        if line.level == Level::ERROR {
            added.errors = 1;
        } else if line.level == Level::WARN {
            added.warnings = 1;
        }
        self.tell_event(&line.event, is_first, &mut added);
        self.totals.add(&added);
        added
    }

    fn is_unheard_of(&self) -> bool {
        self.life == Life::Unknown && self.stats.is_none()
    }

    fn tell_event(&mut self, event: &LoggedEvent, is_first: bool, added: &mut PodTotals) {
        match event {
            LoggedEvent::ProcessStarting(start) => {
                added.restarts = u64::from(!is_first);
                added.vanished = u64::from(!is_first && !self.life.has_ended());
                self.begin_anew();
                self.instance = Some(start.instance.clone());
                self.version = Some(start.version.clone());
            }
            LoggedEvent::ProcessStopping(_) => self.life = Life::Stopping,
            LoggedEvent::ProcessStopped(stop) => self.end(Life::Stopped { exit_code: stop.exit_code }),
            LoggedEvent::ProcessFailed(failure) => {
                let exit_name = failure.exit_name.clone();
                self.end(Life::Failed { exit_code: failure.exit_code, exit_name });
            }
            LoggedEvent::BecameReady(_) => {
                self.live();
                self.readiness = Readiness::Ready;
            }
            LoggedEvent::BecameUnready(unready) => self.readiness = Readiness::Unready { cause: unready.cause.clone() },
            LoggedEvent::PartitionsAssigned(change) => self.owned = Some(change.owned),
            LoggedEvent::PartitionsRevoked(change) => self.owned = Some(change.owned),
            LoggedEvent::PartitionsLost(change) => self.owned = Some(change.owned),
            LoggedEvent::RecoveryStarted(recovery) => self.recover(recovery.partition, "started", 0),
            LoggedEvent::RecoveryProgress(recovery) => {
                self.recover(recovery.partition, &recovery.phase, recovery.percent.min(100));
            }
            LoggedEvent::RecoveryFinished(recovery) => {
                self.recovering.remove(&recovery.partition);
            }
            LoggedEvent::IngestPaused(_) => self.intake_pauses = true,
            LoggedEvent::IngestResumed(_) => self.intake_pauses = false,
            LoggedEvent::StatsReported(stats) => self.count(stats, added),
            LoggedEvent::Other => {}
        }
    }

    fn begin_anew(&mut self) {
        self.life = Life::Starting;
        // They are those of the process before.
        self.stats = None;
        self.readiness = Readiness::Unknown;
        self.owned = None;
        self.recovering.clear();
        self.intake_pauses = false;
        self.has_restarted = true;
    }

    fn end(&mut self, life: Life) {
        self.life = life;
        self.readiness = Readiness::Unknown;
        self.owned = None;
        self.recovering.clear();
        self.intake_pauses = false;
    }

    /// It shows that it runs, unless it has told more than that.
    fn live(&mut self) {
        match self.life {
            // A last word is followed by nothing of the same process, so another one speaks under the name.
            Life::Unknown | Life::Starting | Life::Stopped { .. } | Life::Failed { .. } => self.life = Life::Running,
            Life::Running | Life::Stopping => {}
        }
    }

    fn recover(&mut self, partition: i64, phase: &str, percent: u64) {
        if self.recovering.len() < MAX_RECOVERIES || self.recovering.contains_key(&partition) {
            self.recovering.insert(partition, (phase.chars().take(32).collect(), percent));
        }
    }

    fn count(&mut self, stats: &StatsReported, added: &mut PodTotals) {
        self.live();
        let known = self.stats.take();
        if known.as_ref().is_some_and(|known| stats.events_total < known.events_total) {
            self.unexplained_falls += 1;
        }
        // What a process counted before its first line that was read belongs to nobody's time, unless it has just begun.
        let baseline =
            known.unwrap_or_else(|| if self.has_restarted { StatsReported::default() } else { stats.clone() });
        added.events = risen(baseline.events_total, stats.events_total);
        added.applied = risen(baseline.applied_total, stats.applied_total);
        added.rejected = risen(baseline.rejected_total, stats.rejected_total);
        added.skipped = risen(baseline.skipped_total, stats.skipped_total);
        added.transactions = stats.transactions;
        added.aborted = stats.transactions_aborted;
        added.entity_restarts = stats.entity_restarts;
        for (reason, count) in parse_counts(&stats.rejected) {
            added.rejected_by_reason.add(reason, count);
        }
        keep(&mut self.rates, stats.events_per_s as u64);
        keep(&mut self.lags, stats.lag_total);
        if stats.recovering.is_empty() {
            // The end of a recovery may have been said in a line that was not read.
            self.recovering.clear();
        }
        self.has_restarted = false;
        self.stats = Some(stats.clone());
    }
}

/// How much a count of a process has risen; one that fell began anew.
fn risen(before: u64, after: u64) -> u64 {
    after.checked_sub(before).unwrap_or(after)
}

fn keep(history: &mut VecDeque<u64>, value: u64) {
    if history.len() == HISTORY {
        history.pop_front();
    }
    history.push_back(value);
}
