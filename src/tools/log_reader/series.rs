//! Owns numbers over time in bounded memory: as the time grows longer, the picture grows coarser.
//!
//! Time is cut into buckets of one width. Whenever there are more than [`MAX_BUCKETS`], the width doubles and neighbours
//! are put together. What is counted is summed up; of what is measured the worst is kept, so that a peak of a second
//! can still be seen in the picture of a week.

use std::collections::BTreeMap;

use crate::tools::log_reader::counts::{Tally, parse_counts};
use crate::tools::log_reader::events::StatsReported;
use crate::tools::log_reader::line::UnixMs;

/// Most buckets of one series: more than a chart has room for.
const MAX_BUCKETS: usize = 800;
/// The width to begin with, in milliseconds.
const FIRST_WIDTH_MS: i64 = 1_000;

/// What one or more `stats` lines told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bucket {
    /// When the last of them was written.
    pub at: UnixMs,
    /// How long their intervals are, all together; what is counted is to be divided by this.
    pub covered_ms: u64,
    /// Events read.
    pub events: f64,
    /// Transactions committed.
    pub transactions: u64,
    /// Transactions aborted.
    pub aborted: u64,
    /// Events rejected by reason.
    pub rejected: Tally,
    /// The greatest lag.
    pub lag: u64,
    /// The greatest age of the oldest event that was not committed.
    pub oldest_age_ms: u64,
    /// The greatest median latency.
    pub latency_p50_ms: u64,
    /// The greatest latency of 99 of 100.
    pub latency_p99_ms: u64,
    /// The greatest resident memory.
    pub memory_rss_bytes: u64,
}

impl Bucket {
    fn of(written: UnixMs, stats: &StatsReported) -> Bucket {
        let mut rejected = Tally::default();
        parse_counts(&stats.rejected).for_each(|(reason, count)| rejected.add(reason, count));
        Bucket {
            at: written,
            covered_ms: stats.interval_ms.max(1),
            events: stats.events_per_s * stats.interval_s(),
            transactions: stats.transactions,
            aborted: stats.transactions_aborted,
            rejected,
            lag: stats.lag_total,
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
        self.oldest_age_ms = self.oldest_age_ms.max(other.oldest_age_ms);
        self.latency_p50_ms = self.latency_p50_ms.max(other.latency_p50_ms);
        self.latency_p99_ms = self.latency_p99_ms.max(other.latency_p99_ms);
        self.memory_rss_bytes = self.memory_rss_bytes.max(other.memory_rss_bytes);
    }

    /// A count of this bucket, per second.
    #[must_use]
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
    /// Takes the numbers of a line.
    pub fn tell(&mut self, written: UnixMs, stats: &StatsReported) {
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
        self.buckets.entry(slot).and_modify(|there| there.merge(bucket)).or_insert_with(|| bucket.clone());
    }

    /// The buckets, in the order of time.
    pub fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.buckets.values()
    }

    /// Two buckets that are further apart than this have a gap between them.
    #[must_use]
    pub fn gap_ms(&self) -> u64 {
        let width_ms = u64::try_from(self.width_ms).unwrap_or(u64::MAX);
        self.longest_interval_ms.max(width_ms).saturating_mul(5) / 2
    }
}
