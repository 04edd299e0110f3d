//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::contender::Contender;

/// Measures how fast steward works, beside a loop written by hand for the same work.
#[derive(Debug, Clone, Parser)]
#[command(name = "drain", max_term_width = 120)]
pub struct Options {
    /// What to measure [default: the drain]
    #[arg(value_enum)]
    measures: Vec<Measure>,
    /// Events of the backlog
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    pub events: u64,
    /// Keys over which the events are spread
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub keys: u32,
    /// Partitions of the topics
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub partitions: i32,
    /// How often each contender drains the backlog
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub rounds: usize,
    /// An existing Kafka, as host:port; without it one is started, as for the tests
    #[arg(long, value_name = "SERVERS", env = "STEWARD_BENCH_KAFKA")]
    pub brokers: Option<String>,
    /// The broker's process id: measures its processor time, if it runs on this machine
    #[arg(long, value_name = "PID", requires = "brokers")]
    pub broker_pid: Option<u32>,
    /// Only these contenders
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<Contender>,
    /// Only these shapes of the backlog
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',')]
    pub shapes: Vec<Shape>,
    /// Rates of the latency, in events per second; without them 100, 1000, 10000 and half of the maximum. The first one
    /// is that of the sustained load, 5000 without it
    #[arg(long, value_name = "RATE", value_delimiter = ',')]
    pub rates: Vec<u64>,
    /// During the latency, one event in N also updates a service that does not exist
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub not_found_in: Option<u64>,
    /// How long the sustained load lasts [default: 720]
    #[arg(long, value_name = "SECONDS")]
    pub sustained_s: Option<u64>,
    /// The sustained load only with the segments of steward
    #[arg(long)]
    pub own_segments: bool,
    /// Transactions over one service before a restore; 0 leaves this restore out [default: 1000000]
    #[arg(long, value_name = "N")]
    pub transactions: Option<u64>,
    /// Writes all figures of all runs as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draws the drain as SVG
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// A tenth of everything: shows that it works, not how fast
    #[arg(long)]
    quick: bool,
    /// Cargo passes this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
    /// This process is a contender, and this is its task
    #[arg(long, hide = true)]
    pub child: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// How fast a backlog is drained
    Drain,
    /// From producing an event to its snapshot being visible, at steady rates
    Latency,
    /// How soon a process with existing state serves, and how much memory it takes
    Restore,
    /// What a key whose events take 1 ms each costs the others
    SlowKey,
    /// From the start of the process to the first committed event
    Start,
    /// How soon a process serves after a long load, with Kafka's default segments and with steward's: an hour
    Sustained,
    /// All of these but the sustained load
    All,
}

/// How the events are spread over the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// All keys are equally frequent
    Uniform,
    /// Popularity falls with the rank to the power of 1.1
    Zipf,
}

impl Shape {
    pub const ALL: [Shape; 2] = [Shape::Uniform, Shape::Zipf];

    /// The name in tables and in the chart.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Uniform => "uniform",
            Shape::Zipf => "Zipf 1.1",
        }
    }

    /// The exponent of the workload's distribution.
    pub fn zipf_exponent(self) -> f64 {
        match self {
            Shape::Uniform => 0.0,
            Shape::Zipf => 1.1,
        }
    }
}

impl Options {
    /// Parses the command line, and applies `--quick`.
    pub fn parse() -> Options {
        let mut options = <Options as clap::Parser>::parse();
        if options.quick {
            options.events /= 10;
            options.keys /= 10;
            options.rounds = options.rounds.min(2);
        }
        options
    }

    /// The same options with another backlog.
    pub fn with(&self, events: u64, keys: u32) -> Options {
        Options { events, keys, ..self.clone() }
    }

    /// The measurements, in order.
    pub fn measures(&self) -> Vec<Measure> {
        let all = [Measure::Drain, Measure::Latency, Measure::Restore, Measure::SlowKey, Measure::Start];
        if self.measures.is_empty() {
            vec![Measure::Drain]
        } else if self.measures.contains(&Measure::All) {
            all.to_vec()
        } else {
            self.measures.clone()
        }
    }

    /// How long each rate of the latencies lasts.
    pub fn latency_seconds(&self) -> Duration {
        Duration::from_secs(if self.quick { 3 } else { 20 })
    }

    /// How long the sustained load lasts.
    pub fn sustained_seconds(&self) -> u64 {
        self.sustained_s.unwrap_or(if self.quick { 10 } else { 720 })
    }

    /// Transactions over one service before a restore.
    pub fn transactions(&self) -> u64 {
        self.transactions.unwrap_or(if self.quick { 1_000 } else { 1_000_000 })
    }

    /// Numbers of entities that are restored.
    pub fn restore_sizes(&self) -> Vec<u64> {
        if self.quick { vec![20_000] } else { vec![100_000, 1_000_000] }
    }

    /// The contenders, in order.
    pub fn contenders(&self) -> Vec<Contender> {
        Contender::ALL.into_iter().filter(|contender| self.only.is_empty() || self.only.contains(contender)).collect()
    }

    /// The shapes of the backlog, in order.
    pub fn shapes(&self) -> Vec<Shape> {
        Shape::ALL.into_iter().filter(|shape| self.shapes.is_empty() || self.shapes.contains(shape)).collect()
    }
}
