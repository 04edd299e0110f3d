//! `steward demo`: runs the service against an embedded cluster, and prints the outcome.
//!
//! Architecture invariant: this file only prints. `engine` runs the demo, counts and compares.

pub mod engine;

use std::fmt::Write as _;

use clap::Args;
use indicatif::ProgressBar;

use crate::exit_code::ExitCode;
use crate::tools::demo::engine::{Comparison, DemoPlan, DemoStep};
use crate::tools::failure::CommandFailure;
use crate::tools::{note, output};

/// Differences that are printed one by one. Further ones are only counted.
const SHOWN_DIFFERENCES: usize = 20;

/// Try steward out, without a Kafka
///
/// Starts a small cluster inside this process, produces events (some of them invalid on purpose), processes them as
/// `steward run` does, and compares every state and every rejected event with an independent model of the contract. The
/// same seed gives the same events. Exits with 0 if nothing differs, else with 15.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steward demo
  steward demo --seed 7 --events 200000 --keys 5000

Next: `steward produce --help` and `steward run --help` for the same against your own Kafka.")]
pub struct DemoArguments {
    #[command(flatten)]
    plan: DemoPlan,
}

/// Renders the table, the verdict, the differences and the closing words.
pub fn report(outcome: &Comparison) -> String {
    let mut table = output::table(["events", "by the model", "in the topics", ""]);
    let mut row = |what: &str, expected: u64, seen: u64| {
        let result = if expected == seen { "ok" } else { "differs" };
        table.add_row([what, &expected.to_string(), &seen.to_string(), result]);
    };
    row("applied", outcome.applied.0, outcome.applied.1);
    for (reason, expected, seen) in &outcome.rejected {
        row(&format!("rejected: {reason}"), *expected, *seen);
    }
    row("services at the end", outcome.entities.0, outcome.entities.1);
    let mut text = format!("{table}\n\n{}\n", verdict(outcome));
    for difference in outcome.differences.iter().take(SHOWN_DIFFERENCES) {
        writeln!(text, "  {}", output::harmless(difference)).expect("a write to a String cannot fail");
    }
    let more = outcome.differences.len().saturating_sub(SHOWN_DIFFERENCES);
    if more > 0 {
        writeln!(text, "  and {more} more").expect("a write to a String cannot fail");
    }
    text + "\n" + CLOSING_WORDS
}

fn verdict(outcome: &Comparison) -> String {
    if !outcome.is_exact() {
        return format!(
            "The outcome differs from the model: {} differences. Please report this output with the seed.",
            outcome.differences.len().max(1)
        );
    }
    let events = outcome.applied.1 + outcome.rejected.iter().map(|(_, _, seen)| seen).sum::<u64>();
    let took = outcome.took.as_secs_f64();
    format!(
        "All {events} events have the right outcome, each exactly once, after {took:.1} s. Every state of every service and\n\
         every rejected event was compared, byte for byte, with a second implementation of the contract."
    )
}

/// What the demo cannot show, and the commands for a real Kafka.
pub const CLOSING_WORDS: &str = "\
The cluster inside this process implements Kafka's protocol, but it has no real transactions, no storage and no
compaction. So the demo has shown the rules, the order per key, supervision and the DLQ records. It has not shown that
a kill at any moment loses nothing, nor what a restart restores. That needs a real broker.
  steward config default > config.toml     then set kafka.bootstrap_servers
  steward run --config config.toml         kill it at any time, and start it again
  steward produce --config config.toml
  steward state list --config config.toml
";

pub(crate) fn run(arguments: &DemoArguments) -> Result<ExitCode, CommandFailure> {
    let bar = output::bar(arguments.plan.events, "events");
    let outcome = engine::run(&arguments.plan, &mut |step| show(&bar, step)).map_err(CommandFailure::Demo)?;
    bar.finish_and_clear();
    output::print(&format!("\n{}", report(&outcome)))?;
    Ok(if outcome.is_exact() { ExitCode::Done } else { ExitCode::CheckFailed })
}

/// Prints the progress. If there is a bar, lines go above it.
fn show(bar: &ProgressBar, step: DemoStep) {
    let line = match step {
        DemoStep::Progress { settled, .. } => return bar.set_position(settled),
        DemoStep::Joining { partitions } => format!(
            "a cluster in this process: topics services, services.state and services.dlq with {partitions} partitions each\n\
             joining the group (the embedded cluster takes about 3 s for it) ..."
        ),
        DemoStep::Serving => {
            "all partitions are restored and serve; events arrive, some of them invalid on purpose".to_owned()
        }
        DemoStep::Rejected { reason, partition, offset, detail } => {
            format!("  rejected {reason:<19} partition {partition}, offset {offset}: {}", shortened(&detail))
        }
    };
    if bar.is_hidden() {
        note(&line);
    } else {
        bar.println(line);
    }
}

fn shortened(detail: &str) -> String {
    const MAX_CHARACTERS: usize = 110;
    let detail = output::harmless(detail);
    match detail.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}...", &detail[..end]),
        None => detail.to_string(),
    }
}
