//! Shows what the poll thread is doing, and since when, to the watchdog and to tests.
//!
//! Only the poll thread writes it. A reader never waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollPhase {
    /// Serves the group and takes records.
    Polling,
    /// Holds events that the sink has no room for.
    Offering,
    /// Waits until applied events are committed, before it gives partitions up.
    Revoking,
    /// Brings a partition to its position.
    Seeking,
    /// Leaves the group.
    Leaving,
    Ended,
}

impl PollPhase {
    const ALL: [PollPhase; 6] = [
        PollPhase::Polling,
        PollPhase::Offering,
        PollPhase::Revoking,
        PollPhase::Seeking,
        PollPhase::Leaving,
        PollPhase::Ended,
    ];

    /// Returns the name in log lines.
    pub fn name(self) -> &'static str {
        match self {
            PollPhase::Polling => "polling",
            PollPhase::Offering => "offering",
            PollPhase::Revoking => "revoking",
            PollPhase::Seeking => "seeking",
            PollPhase::Leaving => "leaving",
            PollPhase::Ended => "ended",
        }
    }
}

/// The poll thread's phase, its start, and the last turn of the thread's loop.
#[derive(Debug)]
pub struct PollPhaseWatch {
    origin: Instant,
    /// Milliseconds since the origin in the upper bits, the phase's index in the lower eight: one word, so that both
    /// are of one moment.
    phase_since: AtomicU64,
    /// Milliseconds since the origin.
    last_turn: AtomicU64,
}

/// The content of a [`PollPhaseWatch`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PhaseReading {
    pub phase: PollPhase,
    pub since: Instant,
    /// The last turn of the thread's loop. A moment long ago means that a call does not return.
    pub last_turn: Instant,
}

impl PollPhaseWatch {
    pub(super) fn new(now: Instant) -> PollPhaseWatch {
        PollPhaseWatch { origin: now, phase_since: AtomicU64::new(0), last_turn: AtomicU64::new(0) }
    }

    pub fn read(&self) -> PhaseReading {
        let phase_since = self.phase_since.load(Ordering::Relaxed);
        PhaseReading {
            phase: PollPhase::ALL[(phase_since & 0xff) as usize],
            since: self.origin + Duration::from_millis(phase_since >> 8),
            last_turn: self.origin + Duration::from_millis(self.last_turn.load(Ordering::Relaxed)),
        }
    }

    /// Records a turn of the thread's loop in this phase.
    pub(super) fn record_turn(&self, phase: PollPhase, now: Instant) {
        let at_ms = u64::try_from(now.duration_since(self.origin).as_millis()).unwrap_or(u64::MAX >> 8);
        self.last_turn.store(at_ms, Ordering::Relaxed);
        if self.read().phase != phase {
            self.phase_since.store((at_ms << 8) | phase as u64, Ordering::Relaxed);
        }
    }
}
