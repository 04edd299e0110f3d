//! The most frequent keys, without a count for each key: the algorithm SpaceSaving (Metwally, Agrawal, El Abbadi, 2005),
//! which keeps a fixed number of counters. A key without a counter replaces the key with the lowest count, and inherits
//! that count.
//!
//! * a) A count is never too low, and too high by at most the number of all events divided by [`COUNTERS`].
//! * b) So every key with more than that share of the events has a counter.
//!
//! The input is batches, already counted by key. Keys with few events in a large batch are left out, so that the work
//! does not grow with the number of keys: at most [`MAX_KEYS_PER_BATCH`] keys of a batch are counted, and a count may
//! be too low by that share of the events.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

/// Keys that are counted at a time.
pub const COUNTERS: usize = 64;
/// Keys of one batch that are counted.
pub const MAX_KEYS_PER_BATCH: usize = 256;
/// Longer keys are not counted, so that the counters' memory has a bound.
pub const MAX_KEY_BYTES: usize = 1_024;

#[derive(Debug, Default)]
pub struct HeavyHitters {
    counters: Vec<Counter>,
    indexes: HashMap<Box<[u8]>, usize, FxBuildHasher>,
}

#[derive(Debug)]
struct Counter {
    key: Box<[u8]>,
    count: u64,
}

impl HeavyHitters {
    /// Counts a batch of `events` events, by key.
    pub fn add_batch<'k>(&mut self, events: usize, keys: impl IntoIterator<Item = (&'k [u8], usize)>) {
        let few = events / MAX_KEYS_PER_BATCH;
        for (key, count) in keys.into_iter().filter(|(_, count)| *count > few) {
            self.add(key, count as u64);
        }
    }

    pub fn add(&mut self, key: &[u8], count: u64) {
        if key.len() > MAX_KEY_BYTES {
            return;
        }
        if let Some(index) = self.indexes.get(key) {
            self.counters[*index].count += count;
            return;
        }
        if self.counters.len() < COUNTERS {
            self.indexes.insert(key.into(), self.counters.len());
            self.counters.push(Counter { key: key.into(), count });
            return;
        }
        let smallest = self.counters.iter_mut().enumerate().min_by_key(|(_, counter)| counter.count);
        let Some((index, counter)) = smallest else { return };
        self.indexes.remove(&counter.key);
        counter.key = key.into();
        counter.count += count;
        self.indexes.insert(key.into(), index);
    }

    /// Returns the `most` keys with the highest counts, the highest first.
    pub fn top(&self, most: usize) -> Vec<(&[u8], u64)> {
        let mut all: Vec<(&[u8], u64)> = self.counters.iter().map(|counter| (&*counter.key, counter.count)).collect();
        all.sort_unstable_by(|(left, left_count), (right, right_count)| {
            right_count.cmp(left_count).then_with(|| left.cmp(right))
        });
        all.truncate(most);
        all
    }
}
