//! Owns which events and fields of the catalogue are read, and their types.
//!
//! One declaration generates the struct, its variant of [`LoggedEvent`], and its entry in [`READ`], which a test
//! compares with the catalogue. The event's name comes from the catalogue. A missing field has its default, so that
//! lines of another version can be read.

use serde::Deserialize;

use crate::observability::log_events::{self as catalogue, FieldKind, LogEvent as _, ProcessPhase};
use crate::tools::log_reader::counts::parse_counts;

#[derive(Debug, Clone, Copy)]
pub struct EventRead {
    pub name: &'static str,
    /// The fields that are read, each with the kinds that it can have in the catalogue.
    pub fields: &'static [(&'static str, &'static [FieldKind])],
}

trait Readable {
    /// The kinds of the catalogue that it can hold.
    const KINDS: &'static [FieldKind];
}

impl Readable for u64 {
    const KINDS: &'static [FieldKind] = &[FieldKind::Integer];
}
impl Readable for i64 {
    const KINDS: &'static [FieldKind] = &[FieldKind::Integer];
}
impl Readable for f64 {
    const KINDS: &'static [FieldKind] = &[FieldKind::Integer, FieldKind::Number];
}
impl Readable for Option<i64> {
    const KINDS: &'static [FieldKind] = &[FieldKind::Integer, FieldKind::OptionalInteger];
}
impl Readable for String {
    const KINDS: &'static [FieldKind] = &[FieldKind::Text];
}

macro_rules! read_events {
    ($(
        $event:ident { $($field:ident: $type:ty,)* }
    )+) => {
        $(
            #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
            #[serde(default)]
            pub struct $event {
                $(pub $field: $type,)*
            }
        )+

        #[derive(Debug, Clone, PartialEq)]
        #[allow(clippy::large_enum_variant, reason = "there is one at a time, and a box would be allocated for every `stats`")]
        pub enum LoggedEvent {
            $(
                $event($event),
            )+
            /// Any other event of steward, or of a library in it.
            Other,
        }

        impl LoggedEvent {
            pub(super) fn read(name: &str, json: &str) -> Result<LoggedEvent, serde_json::Error> {
                match name {
                    $(catalogue::$event::NAME => serde_json::from_str(json).map(LoggedEvent::$event),)+
                    _ => Ok(LoggedEvent::Other),
                }
            }
        }

        /// Every event and field that is read.
        pub const READ: &[EventRead] = &[
            $(EventRead {
                name: catalogue::$event::NAME,
                fields: &[$((stringify!($field), <$type as Readable>::KINDS),)*],
            },)+
        ];
    };
}

read_events! {
    ProcessStarting { version: String, instance: String, group: String, topic: String, }
    ProcessStopping { cause: String, }
    ProcessStopped { exit_code: i64, ran_ms: u64, }
    ProcessFailed { exit_code: i64, exit_name: String, error: String, }
    BecameReady { assigned: u64, }
    BecameUnready { cause: String, }
    PartitionsAssigned { partitions: String, count: u64, owned: u64, }
    PartitionsRevoked { partitions: String, count: u64, owned: u64, }
    PartitionsLost { partitions: String, count: u64, owned: u64, }
    RecoveryStarted { partition: i64, }
    RecoveryProgress { partition: i64, phase: String, percent: u64, }
    RecoveryFinished { partition: i64, took_ms: u64, entities: u64, }
    IngestPaused { held_bytes: u64, limit_bytes: u64, }
    IngestResumed { paused_ms: u64, }
    StatsReported {
        interval_ms: u64,
        phase: String,
        serving: String,
        recovering: String,
        events_per_s: f64,
        events_total: u64,
        applied_total: u64,
        rejected_total: u64,
        rejected: String,
        skipped_total: u64,
        lag_total: u64,
        behind_open_transaction_total: u64,
        behind_open_transaction: String,
        fetch_age_max_ms: u64,
        partitions_serving: u64,
        partitions_total: u64,
        oldest_age_ms: u64,
        oldest_partition: Option<i64>,
        oldest_offset: Option<i64>,
        latency_p50_ms: u64,
        latency_p99_ms: u64,
        state_bytes: u64,
        in_flight_bytes: u64,
        in_flight_limit_bytes: u64,
        transactions: u64,
        transaction_p50_ms: f64,
        transaction_p99_ms: f64,
        transactions_aborted: u64,
        entity_restarts: u64,
        memory_rss_bytes: u64,
        hottest_keys: String,
        slowest_keys: String,
    }
}

impl StatsReported {
    /// Returns the length of the interval in seconds, at least a millisecond, so that it can be a divisor.
    pub fn interval_s(&self) -> f64 {
        self.interval_ms.max(1) as f64 / 1000.0
    }

    /// Returns the first word of `phase`, as logged.
    pub fn phase_word(&self) -> &str {
        self.phase.split(',').next().unwrap_or_default().trim()
    }

    /// Returns what the process is doing; `None` if the value is from another version.
    pub fn process_phase(&self) -> Option<ProcessPhase> {
        ProcessPhase::ALL.iter().copied().find(|phase| phase.code() == self.phase_word())
    }

    /// Returns the oldest uncommitted event; `None` if there is none, or the line does not contain it.
    pub fn oldest(&self) -> Option<Waiting> {
        Some(Waiting { partition: self.oldest_partition?, offset: self.oldest_offset?, age_ms: self.oldest_age_ms })
    }

    /// Returns the events rejected per second within the interval.
    pub fn rejected_per_s(&self) -> f64 {
        let rejected = parse_counts(&self.rejected).fold(0, |sum: u64, (_, count)| sum.saturating_add(count));
        rejected as f64 / self.interval_s()
    }

    /// Returns the transactions committed per second within the interval.
    pub fn transactions_per_s(&self) -> f64 {
        self.transactions as f64 / self.interval_s()
    }
}

/// An uncommitted event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    pub partition: i64,
    pub offset: i64,
    /// Time since it was produced, in milliseconds.
    pub age_ms: u64,
}
