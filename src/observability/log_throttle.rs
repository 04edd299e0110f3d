//! What repeats is counted: the first of its kind is logged, the rest is summarised when its window ends.
//!
//! A kind's window opens with its first event. When it ends, the events after the first are one summary, and another
//! window opens; when there were none, the kind is forgotten and its next event is a first one again. So a flood costs
//! one line, and then one more per window, however long it lasts.
//!
//! The owner asks [`LogThrottle::summaries`] when [`LogThrottle::next_deadline`] comes, by timer: a flood that stops is summed up
//! even if nothing follows it. At the end of the process [`LogThrottle::finish`] leaves nothing uncounted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Whether an event is to be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occurrence {
    /// The first of its kind: log it.
    First,
    /// One of many: it will be part of a summary.
    Counted,
}

/// What came after the first event of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThrottleSummary<K, L> {
    /// The kind; `None` for all kinds together that there was no room to tell apart.
    pub kind: Option<K>,
    /// How many, at least one; the event that was logged is not among them.
    pub count: u64,
    /// How long it took them to come.
    pub window: Duration,
    /// The last of them.
    pub last: L,
}

/// Counts what repeats, by kind. `K` is the kind, `L` what a summary tells of the last event.
#[derive(Debug)]
pub struct LogThrottle<K, L> {
    window: Duration,
    max_kinds: usize,
    /// `None` is the kind of those for which there is no room.
    kinds: BTreeMap<Option<K>, Counting<L>>,
}

#[derive(Debug)]
struct Counting<L> {
    since: Instant,
    repeats: Option<(u64, L)>,
}

impl<K: Ord + Clone, L> LogThrottle<K, L> {
    /// Sums up every `window`. When `max_kinds` are being counted, further kinds count as one together.
    #[must_use]
    pub fn new(window: Duration, max_kinds: usize) -> LogThrottle<K, L> {
        LogThrottle { window, max_kinds, kinds: BTreeMap::new() }
    }

    /// An event of `kind` has come.
    pub fn seen(&mut self, kind: &K, last: L, now: Instant) -> Occurrence {
        let known = Some(kind.clone());
        let full = self.kinds.keys().flatten().count() >= self.max_kinds;
        let slot = if full && !self.kinds.contains_key(&known) { None } else { known };
        match self.kinds.entry(slot) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(Counting { since: now, repeats: None });
                Occurrence::First
            }
            std::collections::btree_map::Entry::Occupied(mut occupied) => {
                let repeats = &mut occupied.get_mut().repeats;
                let before = repeats.as_ref().map_or(0, |(count, _)| *count);
                *repeats = Some((before + 1, last));
                Occurrence::Counted
            }
        }
    }

    /// When the next window ends. `None` while nothing is counted.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.kinds.values().map(|counting| counting.since + self.window).min()
    }

    /// The windows that have ended by `now`. Kinds that have gone quiet are forgotten.
    pub fn summaries(&mut self, now: Instant) -> Vec<ThrottleSummary<K, L>> {
        let window = self.window;
        self.sum_up(now, |counting| now >= counting.since + window)
    }

    /// All that was counted and is not summed up yet. Everything is forgotten.
    pub fn finish(&mut self, now: Instant) -> Vec<ThrottleSummary<K, L>> {
        let summaries = self.sum_up(now, |_| true);
        self.kinds.clear();
        summaries
    }

    fn sum_up(&mut self, now: Instant, due: impl Fn(&Counting<L>) -> bool) -> Vec<ThrottleSummary<K, L>> {
        let mut summaries = Vec::new();
        self.kinds.retain(|kind, counting| {
            if !due(counting) {
                return true;
            }
            let Some((count, last)) = counting.repeats.take() else { return false };
            let window = now.saturating_duration_since(counting.since);
            summaries.push(ThrottleSummary { kind: kind.clone(), count, window, last });
            counting.since = now;
            true
        });
        summaries
    }
}
