//! Owns the history of one pod: its activities and its events, for one lane of the report's timeline.

use crate::observability::log_events::{Level, ProcessPhase};
use crate::tools::log_reader::events::LoggedEvent;
use crate::tools::log_reader::line::{LogLine, UnixMs, shortened};

const MAX_ACTIVITIES: usize = 2_000;
/// Maximum number of events of each kind that are kept.
const MAX_EVENTS: usize = 200;
/// Maximum length of an event's text, in characters.
const MAX_EVENT_CHARS: usize = 160;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It starts, or joins the group.
    Starting,
    /// Partitions recover, or it is not ready for another reason.
    Recovering,
    Serving,
    Stopping,
    Ended,
    Failed,
    /// It writes no lines, and has not reported its end.
    Silent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimelineEventKind {
    /// The process starts or ends.
    Life,
    /// Partitions are assigned or revoked.
    Rebalance,
    Recovery,
    /// Reading pauses or resumes.
    Ingest,
    Warning,
    Error,
}

impl TimelineEventKind {
    pub const ALL: [TimelineEventKind; 6] = [
        TimelineEventKind::Life,
        TimelineEventKind::Rebalance,
        TimelineEventKind::Recovery,
        TimelineEventKind::Ingest,
        TimelineEventKind::Warning,
        TimelineEventKind::Error,
    ];
}

#[derive(Debug, Clone, PartialEq)]
pub struct TimelineEvent {
    pub at: UnixMs,
    pub kind: TimelineEventKind,
    pub text: String,
}

#[derive(Debug, Clone, Default)]
pub struct Timeline {
    /// Each activity, with its start.
    pub activities: Vec<(UnixMs, Activity)>,
    pub events: Vec<TimelineEvent>,
    /// Events and activities beyond the maximum.
    pub left_out: u64,
}

impl Timeline {
    pub fn add(&mut self, line: &LogLine) {
        if let Some(doing) = self.activity_after(&line.event) {
            self.push_activity(line.written, doing);
        }
        if let Some((kind, text)) = event_of(line) {
            let text = shortened(&text, MAX_EVENT_CHARS);
            self.push_event(TimelineEvent { at: line.written, kind, text });
        }
    }

    /// Records that the pod wrote no lines from this time on.
    pub fn silent_from(&mut self, at: UnixMs) {
        self.push_activity(at, Activity::Silent);
    }

    pub fn doing(&self) -> Option<Activity> {
        self.activities.last().map(|(_, doing)| *doing)
    }

    /// Sorts by time, because lines of several files are not always in order.
    pub fn sort(&mut self) {
        self.activities.sort_by_key(|(at, _)| *at);
        self.events.sort_by_key(|event| event.at);
    }

    fn activity_after(&self, event: &LoggedEvent) -> Option<Activity> {
        match event {
            LoggedEvent::ProcessStarting(_) => Some(Activity::Starting),
            LoggedEvent::ProcessStopping(_) => Some(Activity::Stopping),
            LoggedEvent::ProcessStopped(_) => Some(Activity::Ended),
            LoggedEvent::ProcessFailed(_) => Some(Activity::Failed),
            LoggedEvent::BecameReady(_) => Some(Activity::Serving),
            LoggedEvent::BecameUnready(_) | LoggedEvent::RecoveryStarted(_) => Some(Activity::Recovering),
            LoggedEvent::StatsReported(stats) => match stats.process_phase() {
                Some(ProcessPhase::Joining) => Some(Activity::Starting),
                Some(ProcessPhase::Recovering | ProcessPhase::Rebalancing) => Some(Activity::Recovering),
                Some(ProcessPhase::Stopping) => Some(Activity::Stopping),
                Some(ProcessPhase::Serving) => Some(Activity::Serving),
                // A value of another version: the activity stays, unless this line ends a silence.
                None => (self.doing() == Some(Activity::Silent)).then_some(Activity::Serving),
            },
            LoggedEvent::PartitionsAssigned(_)
            | LoggedEvent::PartitionsRevoked(_)
            | LoggedEvent::PartitionsLost(_)
            | LoggedEvent::RecoveryProgress(_)
            | LoggedEvent::RecoveryFinished(_)
            | LoggedEvent::IngestPaused(_)
            | LoggedEvent::IngestResumed(_)
            | LoggedEvent::Other => None,
        }
    }

    fn push_activity(&mut self, at: UnixMs, doing: Activity) {
        if self.doing() == Some(doing) {
            return;
        }
        if self.activities.len() < MAX_ACTIVITIES {
            self.activities.push((at, doing));
        } else {
            self.left_out += 1;
        }
    }

    fn push_event(&mut self, event: TimelineEvent) {
        if self.events.iter().filter(|known| known.kind == event.kind).count() < MAX_EVENTS {
            self.events.push(event);
        } else {
            self.left_out += 1;
        }
    }
}

fn event_of(line: &LogLine) -> Option<(TimelineEventKind, String)> {
    if line.level == Level::ERROR {
        return Some((TimelineEventKind::Error, format!("{}: {}", line.name, line.detail)));
    }
    if line.level == Level::WARN {
        return Some((TimelineEventKind::Warning, format!("{}: {}", line.name, line.detail)));
    }
    let (kind, text) = match &line.event {
        LoggedEvent::ProcessStarting(start) => (TimelineEventKind::Life, format!("starts, version {}", start.version)),
        LoggedEvent::ProcessStopping(stop) => (TimelineEventKind::Life, format!("stops: {}", stop.cause)),
        LoggedEvent::ProcessStopped(stop) => {
            (TimelineEventKind::Life, format!("has stopped, exit code {}", stop.exit_code))
        }
        LoggedEvent::PartitionsAssigned(change) => {
            let text = format!("was assigned partitions {}, owns {}", change.partitions, change.owned);
            (TimelineEventKind::Rebalance, text)
        }
        LoggedEvent::PartitionsRevoked(change) => {
            let text = format!("released partitions {}, owns {}", change.partitions, change.owned);
            (TimelineEventKind::Rebalance, text)
        }
        LoggedEvent::RecoveryFinished(recovery) => {
            let text = format!("partition {} has recovered after {} ms", recovery.partition, recovery.took_ms);
            (TimelineEventKind::Recovery, text)
        }
        LoggedEvent::IngestPaused(_) => {
            (TimelineEventKind::Ingest, "reading pauses: too many uncommitted records".to_owned())
        }
        LoggedEvent::IngestResumed(resumed) => {
            (TimelineEventKind::Ingest, format!("reading resumes after {} ms", resumed.paused_ms))
        }
        // Failures have the level ERROR and losses the level WARN: handled above.
        LoggedEvent::ProcessFailed(_)
        | LoggedEvent::PartitionsLost(_)
        | LoggedEvent::BecameReady(_)
        | LoggedEvent::BecameUnready(_)
        | LoggedEvent::RecoveryStarted(_)
        | LoggedEvent::RecoveryProgress(_)
        | LoggedEvent::StatsReported(_)
        | LoggedEvent::Other => return None,
    };
    Some((kind, text))
}
