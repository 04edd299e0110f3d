//! Owns the state of one pod, as a fold over its lines.

use std::collections::{BTreeMap, VecDeque};

use crate::observability::log_events::Level;
use crate::tools::log_reader::counts::Tally;
use crate::tools::log_reader::events::{LoggedEvent, StatsReported};
use crate::tools::log_reader::line::{LogLine, UnixMs};

/// Values that are kept for sparklines.
const HISTORY: usize = 120;
const MAX_RECOVERIES: usize = 4_096;
/// Assumed interval of `stats` before the first one.
const DEFAULT_INTERVAL_MS: u64 = 10_000;
/// A pod counts as silent after this many intervals without a line.
const STALE_INTERVALS: u64 = 3;
/// The interval comes from the log, so it is limited.
const INTERVAL_RANGE_MS: std::ops::RangeInclusive<u64> = 1_000..=600_000;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Life {
    #[default]
    Unknown,
    /// It has started, and has not logged `stats` yet.
    Starting,
    Running,
    Stopping,
    Stopped {
        exit_code: i64,
    },
    Failed {
        exit_code: i64,
        exit_name: String,
    },
}

impl Life {
    /// Returns whether its last line reports its end.
    pub fn has_ended(&self) -> bool {
        matches!(self, Life::Stopped { .. } | Life::Failed { .. })
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Readiness {
    #[default]
    Unknown,
    Ready,
    Unready {
        cause: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    Live,
    /// It has written no line for longer than three of its intervals, and has not reported its end.
    Silent,
    /// It has reported its end.
    Ended,
}

/// Sums over all lines, including those before a restart of the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodTotals {
    pub events: u64,
    pub applied: u64,
    pub rejected: u64,
    pub rejected_by_reason: Tally,
    pub skipped: u64,
    pub transactions: u64,
    pub aborted: u64,
    pub entity_restarts: u64,
    /// Starts of the process after its first line.
    pub restarts: u64,
    /// Starts before which the process did not report its end: killed, out of memory, or its node was lost.
    pub vanished: u64,
    pub warnings: u64,
    pub errors: u64,
}

impl PodTotals {
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
#[derive(Debug, Clone, Default)]
pub struct Pod {
    /// The name in the prefix of its lines, or the name that the reader gives to lines without a prefix.
    pub name: String,
    /// `instance` of its last start.
    pub instance: Option<String>,
    pub version: Option<String>,
    pub life: Life,
    pub readiness: Readiness,
    pub stats: Option<StatsReported>,
    /// Timestamps of its first and its last line.
    pub written: (UnixMs, UnixMs),
    /// When its last line was read, by the reader's clock.
    pub read_at: UnixMs,
    /// Number of partitions that it owns, if known.
    pub owned: Option<u64>,
    /// Partitions that recover, with phase and percentage.
    pub recovering: BTreeMap<i64, (String, u64)>,
    pub is_ingest_paused: bool,
    pub totals: PodTotals,
    /// How often its totals fell without a start in between, which happens if several processes have one name.
    pub unexplained_falls: u64,
    /// Events per second of the last `stats` lines.
    pub rates: VecDeque<u64>,
    /// Lag of the last `stats` lines.
    pub lags: VecDeque<u64>,
    /// The process has started, and has not logged `stats` since.
    has_restarted: bool,
}

impl Pod {
    pub fn new(name: String, written: UnixMs, read_at: UnixMs) -> Pod {
        Pod { name, written: (written, written), read_at, ..Pod::default() }
    }

    /// Returns the interval of its `stats`, in milliseconds.
    pub fn interval_ms(&self) -> u64 {
        let logged = self.stats.as_ref().map(|stats| stats.interval_ms).filter(|interval| *interval > 0);
        logged.unwrap_or(DEFAULT_INTERVAL_MS).clamp(*INTERVAL_RANGE_MS.start(), *INTERVAL_RANGE_MS.end())
    }

    /// Returns the time without a line after which it counts as silent, in milliseconds.
    pub fn silence_limit_ms(&self) -> u64 {
        STALE_INTERVALS * self.interval_ms()
    }

    /// Returns whether it writes lines, at a time of the reader's clock.
    pub fn liveness(&self, now: UnixMs) -> Liveness {
        if self.life.has_ended() {
            Liveness::Ended
        } else if now.since(self.read_at) > self.silence_limit_ms() {
            Liveness::Silent
        } else {
            Liveness::Live
        }
    }

    /// Returns the last numbers of a live pod. Those of a silent pod are outdated.
    pub fn live_stats(&self, now: UnixMs) -> Option<&StatsReported> {
        self.stats.as_ref().filter(|_| self.liveness(now) == Liveness::Live)
    }

    /// Returns what the line adds to the totals.
    pub fn add(&mut self, line: &LogLine, read_at: UnixMs) -> PodTotals {
        let is_first = self.life == Life::Unknown && self.stats.is_none();
        self.read_at = self.read_at.max(read_at);
        self.written = (self.written.0.min(line.written), self.written.1.max(line.written));
        let mut added = PodTotals::default();
        if line.level == Level::ERROR {
            added.errors = 1;
        } else if line.level == Level::WARN {
            added.warnings = 1;
        }
        self.apply_event(&line.event, is_first, &mut added);
        self.totals.add(&added);
        added
    }

    fn apply_event(&mut self, event: &LoggedEvent, is_first: bool, added: &mut PodTotals) {
        match event {
            LoggedEvent::ProcessStarting(start) => {
                added.restarts = u64::from(!is_first);
                added.vanished = u64::from(!is_first && !self.life.has_ended());
                self.reset(Life::Starting);
                self.stats = None;
                self.has_restarted = true;
                self.instance = Some(start.instance.clone());
                self.version = Some(start.version.clone());
            }
            LoggedEvent::ProcessStopping(_) => self.life = Life::Stopping,
            LoggedEvent::ProcessStopped(stop) => self.reset(Life::Stopped { exit_code: stop.exit_code }),
            LoggedEvent::ProcessFailed(failure) => {
                let exit_name = failure.exit_name.clone();
                self.reset(Life::Failed { exit_code: failure.exit_code, exit_name });
            }
            LoggedEvent::BecameReady(_) => {
                self.set_running();
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
            LoggedEvent::IngestPaused(_) => self.is_ingest_paused = true,
            LoggedEvent::IngestResumed(_) => self.is_ingest_paused = false,
            LoggedEvent::StatsReported(stats) => self.count(stats, added),
            LoggedEvent::Other => {}
        }
    }

    /// Starts or ends the process: what was reported before does not hold any more.
    fn reset(&mut self, life: Life) {
        self.life = life;
        self.readiness = Readiness::Unknown;
        self.owned = None;
        self.recovering.clear();
        self.is_ingest_paused = false;
    }

    fn set_running(&mut self) {
        match self.life {
            // A process writes nothing after its end, so this is another one of the same name.
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
        self.set_running();
        let known = self.stats.take();
        if known.as_ref().is_some_and(|known| stats.events_total < known.events_total) {
            self.unexplained_falls += 1;
        }
        // The counts before the first line are not part of the log, unless the process has just started.
        let baseline =
            known.unwrap_or_else(|| if self.has_restarted { StatsReported::default() } else { stats.clone() });
        added.events = increase(baseline.events_total, stats.events_total);
        added.applied = increase(baseline.applied_total, stats.applied_total);
        added.rejected = increase(baseline.rejected_total, stats.rejected_total);
        added.skipped = increase(baseline.skipped_total, stats.skipped_total);
        added.transactions = stats.transactions;
        added.aborted = stats.transactions_aborted;
        added.entity_restarts = stats.entity_restarts;
        added.rejected_by_reason = Tally::of_list(&stats.rejected);
        keep(&mut self.rates, stats.events_per_s as u64, HISTORY);
        keep(&mut self.lags, stats.lag_total, HISTORY);
        if stats.recovering.is_empty() {
            // The line about the end of a recovery may be missing.
            self.recovering.clear();
        }
        self.has_restarted = false;
        self.stats = Some(stats.clone());
    }
}

/// Returns the increase of a count. A lower count is that of a restarted process.
fn increase(before: u64, after: u64) -> u64 {
    after.checked_sub(before).unwrap_or(after)
}

/// Appends a value, and drops the first one if there are more than `max`.
pub(super) fn keep<T>(newest: &mut VecDeque<T>, value: T, max: usize) {
    if newest.len() == max {
        newest.pop_front();
    }
    newest.push_back(value);
}
