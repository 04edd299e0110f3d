//! `steward demo`: shows the whole of it on one machine. What is shown, and how it is told, stands here.
//!
//! Architecture invariant: plain values come in. Whoever runs the demo counts and compares; here it is only told.

use std::fmt::Write as _;

use clap::Args;

use super::{Failure, out};
use crate::exit_code::ExitCode;

/// Differences that are told one by one; the others are counted.
const SHOWN_DIFFERENCES: usize = 20;

/// See it work, without a Kafka
///
/// Starts a small cluster inside this process, produces events (some of them wrong on purpose), serves them as `steward
/// run` would, and compares every state and every refused event with an independent model of the contract. Same seed,
/// same events. Exits with 0 if nothing differs, else with 15.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steward demo
  steward demo --seed 7 --events 200000 --keys 5000

Next: `steward produce --help` and `steward run --help` for the same against your own Kafka.")]
pub struct Arguments {
    /// What the events are drawn from: the same number gives the same events
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// How many events
    #[arg(long, value_name = "COUNT", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub events: u64,
    /// How many services they are about, at the most
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub keys: u32,
}

/// What can happen to an event, how often it should have happened, and how often it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Such as `applied`, or the code of a reason.
    pub what: String,
    /// By the model.
    pub expected: u64,
    /// In the topics.
    pub seen: u64,
}

/// What a demo has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Applied first, then the reasons.
    pub rows: Vec<Row>,
    /// Whatever differs from the model, a sentence each.
    pub differences: Vec<String>,
}

impl Outcome {
    /// Whether everything is as the contract wants it.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.differences.is_empty() && self.rows.iter().all(|row| row.expected == row.seen)
    }

    /// The exit code of the command.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        if self.is_exact() { ExitCode::Done } else { ExitCode::CheckFailed }
    }

    /// The table, the verdict, the differences and the closing words.
    #[must_use]
    pub fn tell(&self) -> String {
        let mut table = out::table(["events", "expected", "seen", ""]);
        for row in &self.rows {
            let mark = if row.expected == row.seen { "ok" } else { "differs" };
            table.add_row([row.what.as_str(), &row.expected.to_string(), &row.seen.to_string(), mark]);
        }
        let mut text = format!("{table}\n\n{}\n", self.verdict());
        for difference in self.differences.iter().take(SHOWN_DIFFERENCES) {
            writeln!(text, "  {}", out::harmless(difference)).expect("a String takes everything");
        }
        let more = self.differences.len().saturating_sub(SHOWN_DIFFERENCES);
        if more > 0 {
            writeln!(text, "  and {more} more").expect("a String takes everything");
        }
        text + "\n" + CLOSING_WORDS
    }

    fn verdict(&self) -> String {
        if self.is_exact() {
            let events: u64 = self.rows.iter().map(|row| row.seen).sum();
            return format!("All {events} events are where they belong, each exactly once.");
        }
        format!(
            "The outcome differs from the model: {} differences. Please report this output with the seed.",
            self.differences.len().max(1)
        )
    }
}

/// What the demo cannot show, and where to look at that.
pub const CLOSING_WORDS: &str = "\
The cluster inside this process speaks Kafka's protocol, but has no real transactions, keeps nothing and compacts
nothing. So this has shown the rules, the order per key, supervision and the dead letters. It has not shown that a kill
at any moment loses nothing, nor what a restart restores: that takes a real broker.
  steward config default > config.toml     then set kafka.bootstrap_servers
  steward run --config config.toml         kill it whenever you like, and start it again
  steward produce --config config.toml
  steward state list --config config.toml
";

/// Where the engine takes over.
pub(super) fn run(_arguments: &Arguments) -> Result<ExitCode, Failure> {
    Err(Failure::Absent("the demo is not part of this build; build steward from its main branch"))
}
