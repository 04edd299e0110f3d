//! Owns numbers over time in bounded memory: the longer the time, the lower the resolution.
//!
//! Time is divided into buckets of one width. If there are more than [`MAX_BUCKETS`], the width doubles and neighbours
//! are merged. Counts are added; of measurements the worst is kept, so that a peak of a second is still visible in the
//! chart of a week.

use std::collections::BTreeMap;

use crate::tools::log_reader::counts::Tally;
use crate::tools::log_reader::events::StatsReported;
use crate::tools::log_reader::line::UnixMs;

/// Maximum number of buckets of one series: more than a chart has pixels for.
const MAX_BUCKETS: usize = 800;
const FIRST_WIDTH_MS: i64 = 1_000;

/// The numbers of one or more `stats` lines.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bucket {
    /// Timestamp of the last of them.
    pub at: UnixMs,
    /// Sum of their intervals, the divisor for rates.
    pub covered_ms: u64,
    pub events: f64,
    pub transactions: u64,
    pub aborted: u64,
    /// Events rejected by reason.
    pub rejected: Tally,
    /// The highest value, as in the following fields.
    pub lag: u64,
    pub behind_open_transaction: u64,
    pub fetch_age_max_ms: u64,
    pub oldest_age_ms: u64,
    pub latency_p50_ms: u64,
    pub latency_p99_ms: u64,
    pub memory_rss_bytes: u64,
}

impl Bucket {
    fn of(written: UnixMs, stats: &StatsReported) -> Bucket {
        Bucket {
            at: written,
            covered_ms: stats.interval_ms.max(1),
            events: stats.events_per_s * stats.interval_s(),
            transactions: stats.transactions,
            aborted: stats.transactions_aborted,
            rejected: Tally::of_list(&stats.rejected),
            lag: stats.lag_total,
            behind_open_transaction: stats.behind_open_transaction_total,
            fetch_age_max_ms: stats.fetch_age_max_ms,
            oldest_age_ms: stats.oldest_age_ms,
            latency_p50_ms: stats.latency_p50_ms,
            latency_p99_ms: stats.latency_p99_ms,
            memory_rss_bytes: stats.memory_rss_bytes,
        }
    }

    fn merge(&mut self, other: &Bucket) {
        self.at = self.at.max(other.at);
        self.covered_ms = self.covered_ms.saturating_add(other.covered_ms);
        self.events += other.events;
        self.transactions = self.transactions.saturating_add(other.transactions);
        self.aborted = self.aborted.saturating_add(other.aborted);
        self.rejected.merge(&other.rejected);
        self.lag = self.lag.max(other.lag);
        self.behind_open_transaction = self.behind_open_transaction.max(other.behind_open_transaction);
        self.fetch_age_max_ms = self.fetch_age_max_ms.max(other.fetch_age_max_ms);
        self.oldest_age_ms = self.oldest_age_ms.max(other.oldest_age_ms);
        self.latency_p50_ms = self.latency_p50_ms.max(other.latency_p50_ms);
        self.latency_p99_ms = self.latency_p99_ms.max(other.latency_p99_ms);
        self.memory_rss_bytes = self.memory_rss_bytes.max(other.memory_rss_bytes);
    }

    /// Converts a count of this bucket to a rate per second.
    pub fn per_s(&self, count: f64) -> f64 {
        count * 1000.0 / self.covered_ms.max(1) as f64
    }
}

/// The `stats` lines of one pod, as a series.
#[derive(Debug, Clone)]
pub struct Series {
    width_ms: i64,
    longest_interval_ms: u64,
    buckets: BTreeMap<i64, Bucket>,
}

impl Default for Series {
    fn default() -> Series {
        Series { width_ms: FIRST_WIDTH_MS, longest_interval_ms: 0, buckets: BTreeMap::new() }
    }
}

impl Series {
    pub fn add(&mut self, written: UnixMs, stats: &StatsReported) {
        self.longest_interval_ms = self.longest_interval_ms.max(stats.interval_ms.min(600_000));
        self.put(&Bucket::of(written, stats));
        while self.buckets.len() > MAX_BUCKETS {
            self.width_ms = self.width_ms.saturating_mul(2);
            for bucket in std::mem::take(&mut self.buckets).into_values() {
                self.put(&bucket);
            }
        }
    }

    fn put(&mut self, bucket: &Bucket) {
        let slot = bucket.at.0.div_euclid(self.width_ms);
        self.buckets.entry(slot).and_modify(|known| known.merge(bucket)).or_insert_with(|| bucket.clone());
    }

    pub fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.buckets.values()
    }

    /// Returns the distance of two buckets beyond which there is a gap between them.
    pub fn gap_ms(&self) -> u64 {
        let width_ms = u64::try_from(self.width_ms).unwrap_or(u64::MAX);
        self.longest_interval_ms.max(width_ms).saturating_mul(5) / 2
    }
}
