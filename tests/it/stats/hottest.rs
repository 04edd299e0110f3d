//! The sketch of the hottest keys against an exact count.

use std::collections::BTreeMap;

use proptest::prelude::*;
use steward::observability::heavy_hitters::{COUNTERS, HeavyHitters, MAX_KEY_BYTES, MAX_KEYS_PER_BATCH};

use super::{SECOND, counting, sample};
use crate::support::chance;

#[apply(offline_test)]
fn a_few_keys_are_counted_exactly() {
    let mut hottest = HeavyHitters::default();
    for (key, count) in [("a", 1), ("b", 5), ("a", 3), ("c", 5)] {
        hottest.add(key.as_bytes(), count);
    }
    assert_eq!(hottest.top(2), [(&b"b"[..], 5), (&b"c"[..], 5)]);
    assert_eq!(hottest.top(10), [(&b"b"[..], 5), (&b"c"[..], 5), (&b"a"[..], 4)]);
    assert_eq!(HeavyHitters::default().top(5), []);
}

/// Far more keys than counters, some of them hot.
#[apply(offline_test)]
fn no_count_is_too_low_or_too_high_by_more_than_its_bound() {
    let key = prop_oneof![2 => 0_u16..5, 3 => 0_u16..1_000];
    let steps = prop::collection::vec((key, 1_u64..50), 0..2_000);
    check(&steps, |steps| {
        let (mut hottest, mut exact) = (HeavyHitters::default(), BTreeMap::new());
        for (key, count) in steps {
            hottest.add(&key.to_be_bytes(), *count);
            *exact.entry(*key).or_insert(0) += count;
        }
        let all: u64 = exact.values().sum();
        let listed = hottest.top(usize::MAX);
        prop_assert!(listed.len() <= COUNTERS);
        for (key, count) in &listed {
            let right = exact[&u16::from_be_bytes([key[0], key[1]])];
            prop_assert!(
                (right..=right + all / COUNTERS as u64).contains(count),
                "{count}, and it is {right} of {all}"
            );
        }
        for (key, right) in exact.iter().filter(|(_, right)| **right > all / COUNTERS as u64) {
            let is_listed = listed.iter().any(|(key_listed, _)| **key_listed == key.to_be_bytes());
            prop_assert!(is_listed, "{key} with {right} of {all} is missing");
        }
        prop_assert!(listed.is_sorted_by(|left, right| left.1 >= right.1), "{listed:?}");
        Ok(())
    });
}

/// What a batch leaves out makes a count too low by its own bound at most.
#[apply(offline_test)]
fn every_key_with_a_large_share_is_named_by_batches_too() {
    let key = prop_oneof![1 => 0_u16..3, 4 => 0_u16..5_000];
    let batches = prop::collection::vec(prop::collection::vec(key, 1..3_000), 1..8);
    check(&batches, |batches| {
        let (mut hottest, mut exact, mut all) = (HeavyHitters::default(), BTreeMap::new(), 0);
        for batch in batches {
            let mut of_batch: BTreeMap<[u8; 2], usize> = BTreeMap::new();
            batch.iter().for_each(|key| *of_batch.entry(key.to_be_bytes()).or_insert(0) += 1);
            of_batch.iter().for_each(|(key, count)| *exact.entry(*key).or_insert(0) += *count as u64);
            all += batch.len() as u64;
            hottest.add_batch(batch.len(), of_batch.iter().map(|(key, count)| (&key[..], *count)));
        }
        let (too_high, too_low) = (all / COUNTERS as u64, all / MAX_KEYS_PER_BATCH as u64);
        let listed: BTreeMap<&[u8], u64> = hottest.top(usize::MAX).into_iter().collect();
        for (key, right) in &exact {
            match listed.get(&key[..]) {
                Some(count) => prop_assert!(count + too_low >= *right && *count <= right + too_high),
                None => prop_assert!(*right <= too_high + too_low, "{key:?} with {right} of {all} is missing"),
            }
        }
        Ok(())
    });
}

#[apply(offline_test)]
fn only_the_keys_with_many_events_of_a_large_batch_are_counted() {
    let mut hottest = HeavyHitters::default();
    let few = [(&b"few"[..], 100), (&b"many"[..], 101)];
    hottest.add_batch(100 * MAX_KEYS_PER_BATCH, few);
    assert_eq!(hottest.top(5), [(&b"many"[..], 101)]);
    hottest.add_batch(MAX_KEYS_PER_BATCH - 1, [(&b"one"[..], 1)]);
    assert_eq!(hottest.top(5), [(&b"many"[..], 101), (&b"one"[..], 1)]);
}

#[apply(offline_test)]
fn a_key_that_is_too_long_is_not_counted() {
    let mut hottest = HeavyHitters::default();
    hottest.add(&vec![b'x'; MAX_KEY_BYTES + 1], 7);
    assert_eq!(hottest.top(5), []);
    hottest.add(&vec![b'x'; MAX_KEY_BYTES], 7);
    assert_eq!(hottest.top(5).len(), 1);
}

#[apply(offline_test)]
fn the_line_contains_the_hottest_keys_of_the_interval() {
    let (stats, mut window, start) = counting();
    stats.keys_read(9, [(&b"1"[..], 1), (b"a,b", 3), (b"42", 5)]);
    stats.keys_read(9, (10..20).map(|_| (&b"7"[..], 1)));
    let line =
        window.close(start + SECOND, &steward::observability::stats::Sample { oldest: Some((3, 17)), ..sample() });
    assert_eq!(line.hottest_keys, "7:10,42:5,a%2Cb:3,1:1");
    assert_eq!((line.oldest_partition, line.oldest_offset), (Some(3), Some(17)));
    stats.keys_read(10, (0..10_u8).map(|_| (&b"2"[..], 1)));
    assert_eq!(window.close(start + 2 * SECOND, &sample()).hottest_keys, "2:10", "an interval begins with nothing");

    // Five are named, each cut where it is long.
    let long: Vec<Vec<u8>> = (0..10_u8).map(|number| [vec![0xff; 500], vec![number]].concat()).collect();
    stats.keys_read(10, long.iter().map(|key| (&key[..], 1)));
    let line = window.close(start + 3 * SECOND, &sample());
    assert_eq!(line.hottest_keys.split(',').count(), 5, "{}", line.hottest_keys);
    assert!(line.hottest_keys.len() <= 5 * 75, "{}", line.hottest_keys);
    assert_eq!((line.oldest_partition, line.oldest_offset), (None, None));
}

#[apply(offline_test)]
fn the_line_contains_the_slowest_keys_of_the_interval_if_they_are_slow() {
    let (stats, mut window, start) = counting();
    for (key, ms) in [(&b"7"[..], 4), (b"42", 400), (b"7", 4), (b"a,b", 10), (b"8", 9)] {
        stats.key_took(key, ms);
    }
    let line = window.close(start + SECOND, &sample());
    assert_eq!(line.slowest_keys, "42:400,a%2Cb:10", "a hundredth of the interval is 10 ms");
    assert_eq!(window.close(start + 2 * SECOND, &sample()).slowest_keys, "");
}

fn check<S: Strategy>(strategy: &S, property: impl Fn(&S::Value) -> Result<(), TestCaseError>)
where
    S::Value: Clone,
{
    let config = proptest::test_runner::Config { failure_persistence: None, cases: 64, ..Default::default() };
    let held = chance::runner(config).run(strategy, |value| property(&value));
    held.unwrap_or_else(|failure| panic!("{failure}"));
}
