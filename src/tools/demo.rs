//! `steward demo`: shows the whole of it on one machine. What is shown, and how it is told, stands here.
//!
//! Architecture invariant: plain values come in. Whoever runs the demo counts and compares; here it is only told.

pub mod engine;

use std::fmt::Write as _;

use clap::Args;

use indicatif::ProgressBar;

use crate::exit_code::ExitCode;
use crate::tools::demo::engine::{DemoPlan, Outcome, Scene};
use crate::tools::failure::CommandFailure;
use crate::tools::{note, output};

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
pub struct DemoArguments {
    /// What the events are drawn from: the same number gives the same events
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// How many events
    #[arg(long, value_name = "COUNT", default_value_t = 6_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub events: u64,
    /// How many services they are about, at most
    #[arg(long, value_name = "COUNT", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub keys: u32,
}

/// The table, the verdict, the differences and the closing words.
#[must_use]
pub fn tell(outcome: &Outcome) -> String {
    let mut table = output::table(["events", "by the model", "in the topics", ""]);
    let mut row = |what: &str, expected: u64, seen: u64| {
        let mark = if expected == seen { "ok" } else { "differs" };
        table.add_row([what, &expected.to_string(), &seen.to_string(), mark]);
    };
    row("applied", outcome.applied.0, outcome.applied.1);
    for (reason, expected, seen) in &outcome.rejected {
        row(&format!("refused: {reason}"), *expected, *seen);
    }
    row("services at the end", outcome.entities.0, outcome.entities.1);
    let mut text = format!("{table}\n\n{}\n", verdict(outcome));
    for difference in outcome.differences.iter().take(SHOWN_DIFFERENCES) {
        writeln!(text, "  {}", output::harmless(difference)).expect("a String takes everything");
    }
    let more = outcome.differences.len().saturating_sub(SHOWN_DIFFERENCES);
    if more > 0 {
        writeln!(text, "  and {more} more").expect("a String takes everything");
    }
    text + "\n" + CLOSING_WORDS
}

fn verdict(outcome: &Outcome) -> String {
    if !outcome.is_exact() {
        return format!(
            "The outcome differs from the model: {} differences. Please report this output with the seed.",
            outcome.differences.len().max(1)
        );
    }
    let events = outcome.applied.1 + outcome.rejected.iter().map(|(_, _, seen)| seen).sum::<u64>();
    let took = outcome.took.as_secs_f64();
    format!(
        "All {events} events are where they belong, each exactly once, after {took:.1} s: every state of every service and every\n\
         refused event was compared, byte for byte, with a second implementation of the contract."
    )
}

/// What the demo cannot show, and where to look at that.
pub const CLOSING_WORDS: &str = "\
The cluster inside this process speaks Kafka's protocol, but has no real transactions, keeps nothing and compacts
nothing. So this has shown the rules, the order per key, supervision and the DLQ records. It has not shown that a kill
at any moment loses nothing, nor what a restart restores: that takes a real broker.
  steward config default > config.toml     then set kafka.bootstrap_servers
  steward run --config config.toml         kill it whenever you like, and start it again
  steward produce --config config.toml
  steward state list --config config.toml
";

pub(crate) fn run(arguments: &DemoArguments) -> Result<ExitCode, CommandFailure> {
    let DemoArguments { seed, events, keys } = *arguments;
    let bar = output::bar(events, "events");
    let outcome =
        engine::play(&DemoPlan { seed, events, keys }, &mut |scene| show(&bar, scene)).map_err(CommandFailure::Demo)?;
    bar.finish_and_clear();
    output::print(&format!("\n{}", tell(&outcome)))?;
    Ok(if outcome.is_exact() { ExitCode::Done } else { ExitCode::CheckFailed })
}

/// What happens, as it happens. Lines go above the bar where there is one.
fn show(bar: &ProgressBar, scene: Scene) {
    let line = match scene {
        Scene::Progress { settled, .. } => return bar.set_position(settled),
        Scene::Joining { partitions } => format!(
            "a cluster in this process: topics services, services.state and services.dlq with {partitions} partitions each\n\
             joining the group (the embedded cluster takes about 3 s for it) ..."
        ),
        Scene::Serving => {
            "all partitions are restored and serve; events arrive, some of them wrong on purpose".to_owned()
        }
        Scene::Refused { reason, partition, offset, detail } => {
            format!("  refused {reason:<19} partition {partition}, offset {offset}: {}", shortened(&detail))
        }
    };
    if bar.is_hidden() {
        note(&line);
    } else {
        bar.println(line);
    }
}

fn shortened(detail: &str) -> String {
    const LONGEST: usize = 110;
    let detail = output::harmless(detail);
    match detail.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &detail[..end]),
        None => detail.to_string(),
    }
}
