//! The contenders, and what the parent process and a contender's process exchange.
//!
//! Imports nothing else of this benchmark, so that every other file may import it.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A program that drains the backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contender {
    /// Consumes, and does nothing
    Raw,
    /// Copies each record into a topic, in transactions with the offsets
    PassThrough,
    /// The same work as steward, in one loop
    HandLoop,
    /// `steward run`
    Steward,
    /// The code of steward in this program, with an entity that is slow for one key
    #[value(skip)]
    SlowService,
}

impl Contender {
    /// All that can be selected, the one with the least work first.
    pub const ALL: [Contender; 4] = [Contender::Raw, Contender::PassThrough, Contender::HandLoop, Contender::Steward];

    /// The name in tables and in the chart.
    pub fn name(self) -> &'static str {
        match self {
            Contender::Raw => "raw consume",
            Contender::PassThrough => "pass-through",
            Contender::HandLoop => "hand loop",
            Contender::Steward => "steward",
            Contender::SlowService => "steward with a slow key",
        }
    }
}

/// What a loop has to do: JSON on its command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    pub contender: Contender,
    pub brokers: String,
    pub input: String,
    pub state: String,
    pub dlq: String,
    pub group: String,
    /// Events in the input.
    pub events: i64,
    /// Partitions of the input.
    pub partitions: i32,
    /// A key, and the microseconds that each of its events takes.
    pub slow: Option<(String, u64)>,
}

/// The line that a loop writes when its partitions are assigned.
pub const ASSIGNED: &str = "assigned";
/// The line that a loop writes with its first event.
pub const FIRST_EVENT: &str = "first event";
/// The line that a loop writes when it has read all events.
pub const READ: &str = "read";

/// What a contender reports about itself when it ends: the last line of a loop, as JSON.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Reported {
    pub transactions: u64,
    /// Half of all transactions took less than this, in milliseconds.
    pub transaction_p50_ms: f64,
    pub transaction_p99_ms: f64,
}

/// The figures of one drain by one contender.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    pub seconds: f64,
    /// When the last event of each partition was committed; empty if the contender commits nothing.
    pub partition_seconds: Vec<f64>,
    /// From the assignment to the first event.
    pub seconds_before_first: f64,
    pub events_per_s: f64,
    pub client_us_per_event: f64,
    /// `None` if the broker's process cannot be observed.
    pub broker_us_per_event: Option<f64>,
    pub peak_bytes: u64,
    pub reported: Reported,
}
