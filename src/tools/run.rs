//! `steward run`: the service itself.

use std::sync::Arc;

use clap::Args;

use crate::app::{self, SystemClock};
use crate::exit_code::ExitCode;
use crate::observability::log_events::ProcessFailed;
use crate::observability::logging;
use crate::ports::Clock as _;
use crate::tools::failure::CommandFailure;
use crate::tools::options::ConfigFile;

/// Serve: read events, own the state, publish it
///
/// Joins the consumer group, restores the assigned partitions, and serves until it is stopped. Standard
/// output is the log: JSON lines, or text on a terminal. SIGTERM or Ctrl-C ends it cleanly: what is applied is
/// committed first, within shutdown.drain_timeout_ms. A second one ends it at once.
///
/// The input topic has to exist; the state and DLQ topics are created. Start the command again, on this machine
/// or another, and the processes share the partitions.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steward run --config config.toml
  STEWARD__KAFKA__BOOTSTRAP_SERVERS=kafka:9092 steward run

Next: `steward health ready --config config.toml` asks whether it serves, `steward produce` gives it something to do, \
`steward state list` shows what became of it. docs/log-events.md explains each line of the log, docs/exit-codes.md \
each way to end.")]
pub(crate) struct RunArguments {
    #[command(flatten)]
    config: ConfigFile,
}

pub(crate) fn run(arguments: &RunArguments) -> Result<ExitCode, CommandFailure> {
    match arguments.config.load(&[]) {
        Ok(effective) => Ok(app::run(&effective)),
        Err(error) => {
            let failure = CommandFailure::from(error);
            // There is no log yet, and the process is monitored by its log alone.
            let code = failure.exit_code();
            let event =
                ProcessFailed { exit_code: code.code().into(), exit_name: code.name(), error: &failure.to_string() };
            logging::emergency_line(Arc::new(|| SystemClock.unix_ms()), event);
            Err(failure)
        }
    }
}
