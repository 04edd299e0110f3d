//! Owns what people type and read: one file per command. It talks, and decides nothing.
//!
//! Results go to standard output, everything else (progress, errors) to standard error. With `--json` a result is JSON
//! whose fields only grow. A reader that goes away (`| head`) ends a command without complaint. An error is one
//! message that ends with what to do, and an exit code of the closed list.
//!
//! Architecture invariant: Kafka's client is not known here; `kafka::topic_reader`, `kafka::plain_producer` and
//! `kafka::replay` are.

use std::sync::OnceLock;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::tools::failure::CommandFailure;

use crate::config::Tls;
use crate::exit_code::ExitCode;
use crate::kafka::admin::access;
use crate::tools::{completions, config, demo, dlq, health, produce, report, run, state, top};

const STORY: &str = "\
steward owns the current state of every service that a Kafka topic describes.

  services ──events──> steward run ──> services.state   what each service is now (compacted)
                                  └──> services.dlq     events that were refused, and why

Events carry the id of their service as key. Each key has one supervised actor that judges its events in order and \
applies them. State, refused events and read positions go out in one transaction: nothing is lost, nothing is applied \
twice, whatever is killed whenever. Start more processes of the same group, and they share the work.";

const FIRST_STEPS: &str = "\
First steps:
  steward demo                                  see all of it work, without a Kafka
  steward config default > config.toml          every key, explained
  steward config check --config config.toml     find the mistakes, see what is in force
  steward run --config config.toml              serve
  steward produce --config config.toml          have something to serve
  steward state get 42 --config config.toml     see what became of it
  steward dlq list --config config.toml         see what was refused, and why
  steward run --config config.toml | steward top    watch it work

Each command tells more with --help. Exit codes: docs/exit-codes.md; what the log says: docs/log-events.md.";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "steward", version = version(), about = STORY, after_help = FIRST_STEPS)]
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

/// The whole command line as clap sees it, for completions and for tests of the help.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Does what this process was started for.
///
/// A panic that nobody caught is a bug, and ends in the exit code for one; its message stands on standard error.
#[must_use]
pub fn main() -> std::process::ExitCode {
    let outcome = std::panic::catch_unwind(|| {
        let cli = Cli::parse();
        cli.run().unwrap_or_else(|failure| failure.tell())
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
            StewardCommand::Completions(arguments) => completions::run(&arguments),
        }
    }
}

/// `0.1.0 (librdkafka 2.12.1, with TLS)`.
fn version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let library = access::library();
        let tls = match library.tls {
            Tls::BuiltIn => "with TLS",
            Tls::Absent => "without TLS: build with the feature `tls` for it",
        };
        format!("{} (librdkafka {}, {tls})", env!("CARGO_PKG_VERSION"), library.version)
    })
}
