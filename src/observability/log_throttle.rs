//! Bounds repeated log events: the first event of a kind is logged, the others are counted and summarised when the
//! window ends.
//!
//! The window of a kind starts with its first event. When it ends, the events after the first become one summary, and
//! another window starts. If there were none, the kind is removed, and its next event is a first one again. So a flood
//! costs one line, and then one more per window, however long it lasts.
//!
//! The owner calls [`LogThrottle::summaries`] at [`LogThrottle::next_deadline`], by timer, so that a flood that stops is
//! summarised even if no event follows. [`LogThrottle::finish`] summarises the rest at the end of the process.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occurrence {
    /// The first of its kind: log it.
    First,
    /// A repetition: a summary will count it.
    Counted,
}

/// The events of a kind after the first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThrottleSummary<K, L> {
    /// `None` for all kinds together beyond the maximum number of kinds.
    pub kind: Option<K>,
    /// At least one; the event that was logged is not counted.
    pub count: u64,
    /// The time in which they occurred.
    pub window: Duration,
    pub last: L,
}

/// Counts repeated events by kind. `K` is the kind, `L` what a summary contains of the last event.
#[derive(Debug)]
pub struct LogThrottle<K, L> {
    window: Duration,
    max_kinds: usize,
    /// The key `None` counts the kinds beyond `max_kinds`.
    kinds: BTreeMap<Option<K>, Counting<L>>,
}

#[derive(Debug)]
struct Counting<L> {
    since: Instant,
    repeats: Option<(u64, L)>,
}

impl<K: Ord + Clone, L> LogThrottle<K, L> {
    /// Creates a throttle that summarises every `window`. Kinds beyond `max_kinds` are counted together.
    pub fn new(window: Duration, max_kinds: usize) -> LogThrottle<K, L> {
        LogThrottle { window, max_kinds, kinds: BTreeMap::new() }
    }

    pub fn seen(&mut self, kind: &K, last: L, now: Instant) -> Occurrence {
        let known = Some(kind.clone());
        let full = self.kinds.keys().flatten().count() >= self.max_kinds;
        let slot = if full && !self.kinds.contains_key(&known) { None } else { known };
        match self.kinds.entry(slot) {
            Entry::Vacant(vacant) => {
                vacant.insert(Counting { since: now, repeats: None });
                Occurrence::First
            }
            Entry::Occupied(mut occupied) => {
                let repeats = &mut occupied.get_mut().repeats;
                let before = repeats.as_ref().map_or(0, |(count, _)| *count);
                *repeats = Some((before + 1, last));
                Occurrence::Counted
            }
        }
    }

    /// Returns when the next window ends; `None` if nothing is counted.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.kinds.values().map(|counting| counting.since + self.window).min()
    }

    /// Returns the summaries of the windows that have ended. Kinds without repetition are removed.
    pub fn summaries(&mut self, now: Instant) -> Vec<ThrottleSummary<K, L>> {
        let window = self.window;
        self.summarise(now, |counting| now >= counting.since + window)
    }

    /// Returns the summaries of all remaining counts, and removes every kind.
    pub fn finish(&mut self, now: Instant) -> Vec<ThrottleSummary<K, L>> {
        let summaries = self.summarise(now, |_| true);
        self.kinds.clear();
        summaries
    }

    fn summarise(&mut self, now: Instant, due: impl Fn(&Counting<L>) -> bool) -> Vec<ThrottleSummary<K, L>> {
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
