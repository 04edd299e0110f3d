//! Owns the numbers of the process: what the actors count, and the event `stats`.
//!
//! Actors and threads share one [`Stats`]. A counter costs one atomic addition per batch, a histogram one short lock per
//! batch or transaction. The monitor owns a [`StatsInterval`], which converts the counts to
//! [`log_events::StatsReported`] every interval: totals since the start, rates and percentiles of the interval.
//! [`HeavyHitters`] finds the most frequent keys without a count for each key.
//!
//! Architecture invariant: pure. No clock; the time is an argument. No actor and no Kafka; plain numbers.
//! Architecture invariant: the numbers are for people. No code decides by them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::entity::Reason;
use crate::observability::heavy_hitters::HeavyHitters;
use crate::observability::log_events::{self, PartitionNumbers};

/// Maximum length of a list by reason or key in `stats`, in bytes.
const MAX_LIST_BYTES: usize = 2000;

/// A fetch age below this is not listed. The consumer reports once a second.
const NOTABLE_FETCH_AGE_MS: u64 = 3_000;

/// Number of keys that `stats` names, of the hottest and of the slowest.
const KEYS_NAMED: usize = 5;

/// A key is slow if its events occupy a thread for at least this fraction (1/100) of the interval. On a busy machine any
/// key can have less now and then.
const SLOW_FRACTION: u64 = 100;

/// Highest value of the histograms; a longer time counts as this.
const LONGEST: Duration = Duration::from_hours(1);

/// Counts since the process started: atomic numbers while actors count, plain ones when they are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts<N> {
    /// Events that were read.
    pub events: N,
    /// Bytes of their keys, values and headers.
    pub bytes: N,
    /// Events applied and committed.
    pub applied: N,
    /// Events rejected and committed, in the order of [`Reason::ALL`].
    pub rejected: [N; Reason::ALL.len()],
    /// Events skipped, because the state contained them.
    pub skipped: N,
    /// Transactions committed.
    pub transactions: N,
    pub transactions_aborted: N,
    /// Entities started again after a panic.
    pub entity_restarts: N,
}

pub type Totals = Counts<u64>;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionLevel {
    /// Offsets between the committed position and the end of the input.
    pub lag: u64,
    /// Offsets that an open transaction of the input holds back.
    pub behind_open_transaction: u64,
    /// Milliseconds since the broker that the partition is fetched from sent anything; 0 if the partition does not
    /// serve.
    pub fetch_age_ms: u64,
    pub entities_passivated: u64,
    /// Bytes of the snapshots in memory.
    pub state_bytes: u64,
}

/// The numbers of the process. Shared by all actors and threads.
#[derive(Debug)]
pub struct Stats {
    counts: Counts<AtomicU64>,
    entities_active: AtomicU64,
    in_flight_bytes: AtomicU64,
    /// Milliseconds from an event's timestamp to its commit.
    latencies_ms: Mutex<Histogram<u64>>,
    /// Microseconds of a transaction.
    transactions_us: Mutex<Histogram<u64>>,
    partitions: Mutex<BTreeMap<i32, PartitionLevel>>,
    hottest: Mutex<HeavyHitters>,
    /// Milliseconds by key.
    slowest: Mutex<HeavyHitters>,
}

impl Default for Stats {
    fn default() -> Stats {
        Stats {
            counts: Counts::default(),
            entities_active: AtomicU64::default(),
            in_flight_bytes: AtomicU64::default(),
            latencies_ms: Mutex::new(histogram(LONGEST.as_millis())),
            transactions_us: Mutex::new(histogram(LONGEST.as_micros())),
            partitions: Mutex::default(),
            hottest: Mutex::default(),
            slowest: Mutex::default(),
        }
    }
}

impl Stats {
    pub fn new() -> Stats {
        Stats::default()
    }

    /// Counts events that were read, and the bytes of their keys, values and headers.
    pub fn events_read(&self, count: u64, bytes: u64) {
        add(&self.counts.events, count);
        add(&self.counts.bytes, bytes);
    }

    /// Counts the events of each key in a batch of `events` events.
    pub fn keys_read<'k>(&self, events: usize, keys: impl IntoIterator<Item = (&'k [u8], usize)>) {
        lock(&self.hottest).add_batch(events, keys);
    }

    /// Counts milliseconds for which events of this key occupied their thread.
    pub fn key_took(&self, key: &[u8], ms: u64) {
        lock(&self.slowest).add(key, ms);
    }

    pub fn applied(&self, count: u64) {
        add(&self.counts.applied, count);
    }

    pub fn rejected(&self, reason: Reason, count: u64) {
        let counters = Reason::ALL.iter().zip(&self.counts.rejected);
        for (_, counter) in counters.filter(|(known, _)| **known == reason) {
            add(counter, count);
        }
    }

    pub fn skipped(&self, count: u64) {
        add(&self.counts.skipped, count);
    }

    pub fn transaction(&self, took: Duration) {
        add(&self.counts.transactions, 1);
        // Saturating: a longer time counts as the longest.
        lock(&self.transactions_us).saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn transaction_aborted(&self) {
        add(&self.counts.transactions_aborted, 1);
    }

    /// Records the time from timestamp to commit of committed events. A timestamp in the future counts as 0.
    pub fn latencies_ms(&self, latencies_ms: impl Iterator<Item = i64>) {
        let mut histogram = lock(&self.latencies_ms);
        for latency_ms in latencies_ms {
            histogram.saturating_record(u64::try_from(latency_ms).unwrap_or(0));
        }
    }

    pub fn entity_restarted(&self) {
        add(&self.counts.entity_restarts, 1);
    }

    pub fn entity_spawned(&self) {
        add(&self.entities_active, 1);
    }

    pub fn entities_stopped(&self, count: u64) {
        // Not below zero, so that a miscount shows as a small number instead of a huge one.
        let fewer = |active: u64| Some(active.saturating_sub(count));
        // The closure always returns a value, so the update cannot fail.
        let _ = self.entities_active.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
    }

    pub fn set_in_flight_bytes(&self, bytes: u64) {
        self.in_flight_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Adds an owned partition; its numbers are zero.
    pub fn own_partition(&self, partition: i32) {
        lock(&self.partitions).insert(partition, PartitionLevel::default());
    }

    /// Changes the numbers of a partition. Has no effect if the partition is not owned, so that a late update cannot add
    /// it again.
    pub fn update_partition(&self, partition: i32, change: impl FnOnce(&mut PartitionLevel)) {
        if let Some(level) = lock(&self.partitions).get_mut(&partition) {
            change(level);
        }
    }

    pub fn drop_partition(&self, partition: i32) {
        lock(&self.partitions).remove(&partition);
    }

    pub fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            events: read(&self.counts.events),
            bytes: read(&self.counts.bytes),
            applied: read(&self.counts.applied),
            rejected: self.counts.rejected.each_ref().map(read),
            skipped: read(&self.counts.skipped),
            transactions: read(&self.counts.transactions),
            transactions_aborted: read(&self.counts.transactions_aborted),
            entity_restarts: read(&self.counts.entity_restarts),
        }
    }
}

/// What the monitor adds to the numbers, because the actors do not count it.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// The wall clock, in milliseconds since 1970.
    pub unix_ms: i64,
    pub phase: String,
    pub serving: Vec<i32>,
    pub recovering: Vec<i32>,
    /// Partitions of the input.
    pub partitions_total: u64,
    /// `limits.max_in_flight_bytes`.
    pub in_flight_limit_bytes: u64,
    /// How the line shows keys.
    pub keys: Arc<log_events::KeyPolicy>,
    pub memory_rss_bytes: u64,
    /// Timestamp of the oldest uncommitted event, in milliseconds since 1970.
    pub oldest_unix_ms: Option<i64>,
    /// Partition and offset of that event.
    pub oldest: Option<(i32, i64)>,
}

/// The current interval of `stats`. There is one for each [`Stats`], because closing an interval resets its histograms.
#[derive(Debug)]
pub struct StatsInterval {
    stats: Arc<Stats>,
    opened: Instant,
    before: Totals,
}

impl StatsInterval {
    pub fn open(stats: Arc<Stats>, now: Instant) -> StatsInterval {
        let before = stats.totals();
        StatsInterval { stats, opened: now, before }
    }

    pub fn close(&mut self, now: Instant, sample: &Sample) -> log_events::StatsReported {
        let interval = now.saturating_duration_since(self.opened);
        let totals = self.stats.totals();
        let before = std::mem::replace(&mut self.before, totals);
        self.opened = now;
        let latencies_ms = take(&self.stats.latencies_ms);
        let transactions_us = take(&self.stats.transactions_us);
        let partitions = lock(&self.stats.partitions).clone();
        let hottest = std::mem::take(&mut *lock(&self.stats.hottest));
        let slowest = std::mem::take(&mut *lock(&self.stats.slowest));
        let show = |(key, count): (&[u8], u64)| Some((sample.keys.show(key)?, count));
        let hottest = hottest.top(KEYS_NAMED).into_iter().filter_map(show);
        let is_slow = |ms: u64| ms.saturating_mul(SLOW_FRACTION) >= log_events::millis(interval);
        let slowest = slowest.top(KEYS_NAMED);
        let slowest = slowest.into_iter().filter(|(_, ms)| is_slow(*ms)).filter_map(show);

        log_events::StatsReported {
            interval_ms: log_events::millis(interval),
            phase: sample.phase.clone(),
            serving: log_events::ranges(sample.serving.iter().copied()),
            recovering: log_events::ranges(sample.recovering.iter().copied()),
            partitions_serving: sample.serving.len() as u64,
            partitions_total: sample.partitions_total,
            events_per_s: per_second(totals.events - before.events, interval),
            bytes_per_s: per_second(totals.bytes - before.bytes, interval),
            events_total: totals.events,
            applied_total: totals.applied,
            rejected_total: totals.rejected.iter().sum(),
            rejected: rejected_since(&before, &totals),
            skipped_total: totals.skipped,
            lag_total: partitions.values().map(|level| level.lag).sum(),
            lag: by_partition(&partitions, |level| level.lag, 0),
            behind_open_transaction_total: partitions.values().map(|level| level.behind_open_transaction).sum(),
            behind_open_transaction: by_partition(&partitions, |level| level.behind_open_transaction, 1),
            fetch_age_max_ms: partitions.values().map(|level| level.fetch_age_ms).max().unwrap_or(0),
            fetch_age_ms: by_partition(&partitions, |level| level.fetch_age_ms, NOTABLE_FETCH_AGE_MS),
            oldest_age_ms: sample.oldest_unix_ms.map_or(0, |oldest| age_ms(oldest, sample.unix_ms)),
            oldest_partition: sample.oldest.map(|(partition, _)| partition),
            oldest_offset: sample.oldest.map(|(_, offset)| offset),
            hottest_keys: log_events::counts(hottest, MAX_LIST_BYTES),
            slowest_keys: log_events::counts(slowest, MAX_LIST_BYTES),
            latency_p50_ms: latencies_ms.value_at_quantile(0.5),
            latency_p99_ms: latencies_ms.value_at_quantile(0.99),
            entities_active: self.stats.entities_active.load(Ordering::Relaxed),
            entities_passivated: partitions.values().map(|level| level.entities_passivated).sum(),
            state_bytes: partitions.values().map(|level| level.state_bytes).sum(),
            in_flight_bytes: self.stats.in_flight_bytes.load(Ordering::Relaxed),
            in_flight_limit_bytes: sample.in_flight_limit_bytes,
            transactions: totals.transactions - before.transactions,
            transaction_p50_ms: in_ms(transactions_us.value_at_quantile(0.5)),
            transaction_p99_ms: in_ms(transactions_us.value_at_quantile(0.99)),
            transactions_aborted: totals.transactions_aborted - before.transactions_aborted,
            entity_restarts: totals.entity_restarts - before.entity_restarts,
            memory_rss_bytes: sample.memory_rss_bytes,
        }
    }
}

/// Lists a number of each partition that has at least `least` of it.
fn by_partition(
    partitions: &BTreeMap<i32, PartitionLevel>,
    number: impl Fn(&PartitionLevel) -> u64,
    least: u64,
) -> PartitionNumbers {
    let numbers = partitions.iter().map(|(partition, level)| (partition, number(level)));
    PartitionNumbers::of(numbers.filter(|(_, number)| *number >= least))
}

fn rejected_since(before: &Totals, totals: &Totals) -> String {
    let counts = totals.rejected.iter().zip(&before.rejected).map(|(now, before)| now - before);
    let by_reason = Reason::ALL.iter().map(|reason| reason.code()).zip(counts);
    log_events::counts(by_reason.filter(|(_, count)| *count > 0), MAX_LIST_BYTES)
}

fn per_second(count: u64, interval: Duration) -> f64 {
    if interval.is_zero() { 0.0 } else { rounded(count as f64 / interval.as_secs_f64()) }
}

fn in_ms(microseconds: u64) -> f64 {
    rounded(microseconds as f64 / 1000.0)
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn age_ms(then_unix_ms: i64, now_unix_ms: i64) -> u64 {
    u64::try_from(now_unix_ms.saturating_sub(then_unix_ms)).unwrap_or(0)
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Creates a histogram from 1 to `highest`, with two significant digits.
fn histogram(highest: u128) -> Histogram<u64> {
    let highest = u64::try_from(highest).unwrap_or(u64::MAX);
    Histogram::new_with_bounds(1, highest, 2).expect("an hour is more than two of any unit used here")
}

fn take(histogram: &Mutex<Histogram<u64>>) -> Histogram<u64> {
    let mut filling = lock(histogram);
    let full = filling.clone();
    filling.reset();
    full
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every operation leaves the numbers consistent, so a panic elsewhere does no harm.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
