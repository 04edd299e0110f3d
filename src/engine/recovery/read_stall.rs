//! Decides what holds a read of a partition back, if its position does not move: an open transaction, an error, or a
//! broker that sends nothing.
//!
//! * a) Only an open transaction keeps the last stable offset at the position, below the high watermark. A transaction is
//!   named only if the broker reports that, in a response that has just arrived.
//! * b) A response is progress, however slow, whatever it contains: a broker delays the responses to a client above its
//!   quota, and leaves the records out of them. A part of a response is progress as well.
//! * c) A broker names the time for which it delays further responses. Until then its silence proves nothing.
//! * d) Responses end the relevance of an earlier error.

use std::time::{Duration, Instant};

use crate::record::{Partition, Position};

/// a) An older response says nothing about the present.
const FRESH: Duration = Duration::from_secs(5);
/// c) An announced delay counts for at most this long.
const LONGEST_DELAY: Duration = Duration::from_secs(120);
/// d) A response that comes with an error may seem to be a little later, because reports come once a second.
const REPORT_JITTER: Duration = Duration::from_secs(2);

/// What the client reports about the log of a partition, as of the last response to a fetch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogReport {
    pub last_stable: Option<Position>,
    pub high_watermark: Option<Position>,
    /// Time since the broker sent anything; `None` if it is not connected.
    pub since_response: Option<Duration>,
}

/// How long a read has stood still.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadStall {
    /// Time since the position moved.
    pub stalled: Duration,
    /// Time since the position moved or the broker sent anything. A delay that the broker announced does not count.
    pub silent: Duration,
    /// Whether an open transaction holds the position.
    pub is_held_back: bool,
    /// Whether the last thing that came was an error.
    pub is_failing: bool,
    /// The longest delay that the broker announced since the position moved, because of a quota.
    pub throttled: Duration,
}

/// Why a read ends without its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StallCause {
    /// An open transaction in this partition, for longer than any may last.
    OpenTransaction(Partition),
    Error(String),
    /// The broker has sent nothing for this long.
    NoResponse(Duration),
}

#[derive(Debug)]
pub struct StallTimer {
    moved_at: Instant,
    /// When the broker last sent anything, and the announced delay after that.
    responded_at: Instant,
    /// The last error since the position moved, and when it came.
    error: Option<(Instant, String)>,
    /// The partition that an open transaction holds back, and when that was reported.
    held_back: Option<(Partition, Instant)>,
    throttled: Duration,
}

impl StallTimer {
    pub fn new(now: Instant) -> StallTimer {
        StallTimer { moved_at: now, responded_at: now, error: None, held_back: None, throttled: Duration::ZERO }
    }

    /// A position has moved.
    pub fn moved(&mut self, now: Instant) {
        *self = StallTimer { responded_at: self.responded_at.max(now), ..StallTimer::new(now) };
    }

    /// The process did not run for this long, which proves nothing about brokers and transactions.
    pub fn did_not_run(&mut self, time: Duration) {
        self.moved_at += time;
        self.responded_at += time;
    }

    pub fn failed(&mut self, reason: String, now: Instant) {
        self.error = Some((now, reason));
    }

    /// Takes the client's report about each partition that is still being read, with its position.
    pub fn reported(
        &mut self,
        partitions: impl IntoIterator<Item = (Partition, Position, LogReport)>,
        throttled: Duration,
        now: Instant,
    ) {
        self.throttled = self.throttled.max(throttled);
        self.held_back = None;
        for (partition, position, log) in partitions {
            let Some(since_response) = log.since_response else { continue };
            if let Some(responded_at) = now.checked_sub(since_response) {
                self.responded_at = self.responded_at.max(responded_at + throttled.min(LONGEST_DELAY));
            }
            let is_held_back = log.last_stable.is_some_and(|last_stable| last_stable <= position)
                && log.high_watermark.is_some_and(|high_watermark| position < high_watermark);
            if is_held_back && since_response < FRESH && self.held_back.is_none() {
                self.held_back = Some((partition, now));
            }
        }
    }

    pub fn state(&self, now: Instant) -> ReadStall {
        ReadStall {
            stalled: now.saturating_duration_since(self.moved_at),
            silent: now.saturating_duration_since(self.responded_at),
            is_held_back: self.held_back_by(now).is_some(),
            is_failing: self.current_error().is_some(),
            throttled: self.throttled,
        }
    }

    /// Returns why the read has to end; `None` if it goes on.
    pub fn verdict(&self, limit: Duration, now: Instant) -> Option<StallCause> {
        let ReadStall { stalled, silent, .. } = self.state(now);
        if stalled < limit {
            return None;
        }
        if let Some(partition) = self.held_back_by(now) {
            return Some(StallCause::OpenTransaction(partition));
        }
        match self.current_error() {
            Some(reason) => Some(StallCause::Error(reason.to_owned())),
            None => (silent >= limit).then_some(StallCause::NoResponse(silent)),
        }
    }

    /// d) Returns the last error, unless responses followed it.
    fn current_error(&self) -> Option<&str> {
        let (at, reason) = self.error.as_ref()?;
        (self.responded_at <= *at + REPORT_JITTER).then_some(reason)
    }

    fn held_back_by(&self, now: Instant) -> Option<Partition> {
        let (partition, at) = self.held_back?;
        (now.saturating_duration_since(at) < FRESH).then_some(partition)
    }
}
