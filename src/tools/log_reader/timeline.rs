//! Owns what a pod was doing when, and what happened to it, for one lane of a picture.

use crate::observability::log_events::{Level, ProcessPhase};
use crate::tools::log_reader::events::LoggedEvent;
use crate::tools::log_reader::line::{LogLine, UnixMs};

/// Changes of what a pod does that are kept.
const MAX_TURNS: usize = 2_000;
/// Marks of each kind that are kept of a pod.
const MAX_MARKS: usize = 200;
/// Longest text of a mark, in characters.
const MAX_MARK_CHARS: usize = 160;

/// What a pod is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It starts, or joins the group.
    Starting,
    /// Partitions recover, or it is not ready for another reason.
    Recovering,
    /// It serves all it owns.
    Serving,
    /// It was told to stop, and drains.
    Stopping,
    /// It has ended cleanly.
    Ended,
    /// It has ended with an error.
    Failed,
    /// Nothing is heard of it, and it has said no last word.
    Silent,
}

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimelineEventKind {
    /// The process started, or ended.
    Life,
    /// Partitions came or went.
    Rebalance,
    /// A partition has recovered.
    Recovery,
    /// Reading paused or went on.
    Intake,
    /// A line of level WARN.
    Warning,
    /// A line of level ERROR.
    Error,
}

impl TimelineEventKind {
    /// Every kind.
    pub const ALL: [TimelineEventKind; 6] = [
        TimelineEventKind::Life,
        TimelineEventKind::Rebalance,
        TimelineEventKind::Recovery,
        TimelineEventKind::Intake,
        TimelineEventKind::Warning,
        TimelineEventKind::Error,
    ];
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct TimelineEvent {
    /// When.
    pub at: UnixMs,
    /// What kind of thing.
    pub kind: TimelineEventKind,
    /// In words.
    pub text: String,
}

/// One pod over time.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    /// What it began to do, and when.
    pub turns: Vec<(UnixMs, Doing)>,
    /// What happened.
    pub marks: Vec<TimelineEvent>,
    /// Marks and turns for which there was no room.
    pub left_out: u64,
}

impl Timeline {
    /// Takes a line of the pod.
    pub fn tell(&mut self, line: &LogLine) {
        if let Some(doing) = self.doing_after(&line.event) {
            self.turn(line.written, doing);
        }
        if let Some((kind, text)) = mark_of(line) {
            self.mark(TimelineEvent { at: line.written, kind, text });
        }
    }

    /// From this moment on nothing was heard.
    pub fn fall_silent(&mut self, at: UnixMs) {
        self.turn(at, Doing::Silent);
    }

    /// What it is doing, as far as was told.
    #[must_use]
    pub fn doing(&self) -> Option<Doing> {
        self.turns.last().map(|(_, doing)| *doing)
    }

    /// Puts everything in the order of time, which lines of several files need not come in.
    pub fn sort(&mut self) {
        self.turns.sort_by_key(|(at, _)| *at);
        self.marks.sort_by_key(|mark| mark.at);
    }

    fn doing_after(&self, event: &LoggedEvent) -> Option<Doing> {
        match event {
            LoggedEvent::ProcessStarting(_) => Some(Doing::Starting),
            LoggedEvent::ProcessStopping(_) => Some(Doing::Stopping),
            LoggedEvent::ProcessStopped(_) => Some(Doing::Ended),
            LoggedEvent::ProcessFailed(_) => Some(Doing::Failed),
            LoggedEvent::BecameReady(_) => Some(Doing::Serving),
            LoggedEvent::BecameUnready(_) | LoggedEvent::RecoveryStarted(_) => Some(Doing::Recovering),
            LoggedEvent::StatsReported(stats) => match stats.process_phase() {
                Some(ProcessPhase::Joining) => Some(Doing::Starting),
                Some(ProcessPhase::Recovering | ProcessPhase::Rebalancing) => Some(Doing::Recovering),
                Some(ProcessPhase::Stopping) => Some(Doing::Stopping),
                Some(ProcessPhase::Serving) => Some(Doing::Serving),
                // A value of another version: the activity stays, unless this line ends a silence.
                None => (self.doing() == Some(Doing::Silent)).then_some(Doing::Serving),
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

    fn turn(&mut self, at: UnixMs, doing: Doing) {
        if self.doing() == Some(doing) {
            return;
        }
        if self.turns.len() < MAX_TURNS {
            self.turns.push((at, doing));
        } else {
            self.left_out += 1;
        }
    }

    fn mark(&mut self, mut mark: TimelineEvent) {
        if let Some((end, _)) = mark.text.char_indices().nth(MAX_MARK_CHARS) {
            mark.text.truncate(end);
            mark.text.push('…');
        }
        if self.marks.iter().filter(|there| there.kind == mark.kind).count() < MAX_MARKS {
            self.marks.push(mark);
        } else {
            self.left_out += 1;
        }
    }
}

fn mark_of(line: &LogLine) -> Option<(TimelineEventKind, String)> {
    if line.level == Level::ERROR {
        return Some((TimelineEventKind::Error, format!("{}: {}", line.name, line.detail)));
    }
    if line.level == Level::WARN {
        return Some((TimelineEventKind::Warning, format!("{}: {}", line.name, line.detail)));
    }
    match &line.event {
        LoggedEvent::ProcessStarting(start) => {
            Some((TimelineEventKind::Life, format!("starts, version {}", start.version)))
        }
        LoggedEvent::ProcessStopping(stop) => Some((TimelineEventKind::Life, format!("stops: {}", stop.cause))),
        LoggedEvent::ProcessStopped(stop) => {
            Some((TimelineEventKind::Life, format!("has stopped, exit code {}", stop.exit_code)))
        }
        LoggedEvent::PartitionsAssigned(change) => Some((
            TimelineEventKind::Rebalance,
            format!("gets partitions {}, owns {}", change.partitions, change.owned),
        )),
        LoggedEvent::PartitionsRevoked(change) => Some((
            TimelineEventKind::Rebalance,
            format!("gives back partitions {}, owns {}", change.partitions, change.owned),
        )),
        LoggedEvent::RecoveryFinished(recovery) => {
            let text = format!("partition {} has recovered after {} ms", recovery.partition, recovery.took_ms);
            Some((TimelineEventKind::Recovery, text))
        }
        LoggedEvent::IngestPaused(_) => {
            Some((TimelineEventKind::Intake, "reading pauses: what is read is not committed".to_owned()))
        }
        LoggedEvent::IngestResumed(resumed) => {
            Some((TimelineEventKind::Intake, format!("reading goes on after {} ms", resumed.paused_ms)))
        }
        // Failures are of level ERROR and losses of level WARN: told above.
        LoggedEvent::ProcessFailed(_)
        | LoggedEvent::PartitionsLost(_)
        | LoggedEvent::BecameReady(_)
        | LoggedEvent::BecameUnready(_)
        | LoggedEvent::RecoveryStarted(_)
        | LoggedEvent::RecoveryProgress(_)
        | LoggedEvent::StatsReported(_)
        | LoggedEvent::Other => None,
    }
}
