//! Owns the command line: its arguments, which command runs, and the exit code of the process.
//!
//! Results go to standard output, everything else (progress, errors) to standard error. With `--json` a result is JSON
//! whose fields are only ever added to. A reader that closes the pipe early (`| head`) ends a command without an error.
//! An error is one message that ends with what to do, and an exit code of the closed list.
//!
//! Architecture invariant: no command is implemented here; each has a module in `tools`.

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::exit_code::ExitCode;
use crate::tools::failure::CommandFailure;
use crate::tools::{completions, config, demo, dlq, health, produce, report, run, state, top, version};

const STORY: &str = "\
steward owns the current state of every service that a Kafka topic describes.

  services ──events──> steward run ──> services.state   what each service is now (compacted)
                                  └──> services.dlq     events that were rejected, and why

Events carry the id of their service as key. Each key has one supervised actor that validates its events and applies \
them in order. State, rejected events and consumed offsets are committed in one transaction: nothing is lost and nothing \
is applied twice, even if a process is killed. Start more processes with the same group, and they share the work.";

const FIRST_STEPS: &str = "\
First steps:
  steward demo                                  try it out, without a Kafka
  steward config default > config.toml          print every key with its documentation
  steward config check --config config.toml     find mistakes, print the values in force
  steward run --config config.toml              run the service
  steward produce --config config.toml          send events to it
  steward state get 42 --config config.toml     print one service
  steward dlq list --config config.toml         print the rejected events, and why
  steward run --config config.toml | steward top    watch it work

--help of each command has details. Exit codes: docs/exit-codes.md. Log events: docs/log-events.md.";

#[derive(Debug, Parser)]
#[command(name = "steward", version = version::line(), about = STORY, after_help = FIRST_STEPS)]
#[command(subcommand_required = true, arg_required_else_help = true, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    command: StewardCommand,
}

#[derive(Debug, Subcommand)]
enum StewardCommand {
    Run(run::RunArguments),
    Config(config::ConfigArguments),
    Produce(Box<produce::ProduceArguments>),
    State(state::StateArguments),
    Dlq(dlq::DlqArguments),
    Health(health::HealthArguments),
    Top(top::TopArguments),
    Report(report::ReportArguments),
    Demo(demo::DemoArguments),
    Completions(completions::CompletionsArguments),
}

/// Returns the whole command line as clap sees it, for tests of the help.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that the arguments name, and returns its exit code.
///
/// An uncaught panic is a bug, and ends with [`ExitCode::Unexpected`]; its message is on standard error.
pub fn main() -> std::process::ExitCode {
    let outcome = std::panic::catch_unwind(|| {
        let cli = Cli::parse();
        cli.run().unwrap_or_else(|failure| failure.report())
    });
    std::process::ExitCode::from(outcome.unwrap_or(ExitCode::Unexpected).code())
}

impl Cli {
    fn run(self) -> Result<ExitCode, CommandFailure> {
        match self.command {
            StewardCommand::Run(arguments) => run::run(&arguments),
            StewardCommand::Config(arguments) => config::run(&arguments),
            StewardCommand::Produce(arguments) => produce::run(&arguments),
            StewardCommand::State(arguments) => state::run(&arguments),
            StewardCommand::Dlq(arguments) => dlq::run(&arguments),
            StewardCommand::Health(arguments) => health::run(&arguments),
            StewardCommand::Top(arguments) => top::run(&arguments),
            StewardCommand::Report(arguments) => report::run(&arguments),
            StewardCommand::Demo(arguments) => demo::run(&arguments),
            StewardCommand::Completions(arguments) => completions::run(&arguments, command()),
        }
    }
}
