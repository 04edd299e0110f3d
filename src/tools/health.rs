//! `steward health`: the probes. A probe reads only the heartbeat file, and nothing else that could fail.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::app::{SystemClock, host_name};
use crate::config::{Config, environment, keys};
use crate::exit_code::ExitCode;
use crate::observability::heartbeat::{DEFAULT_MAX_AGE_MS, Heartbeat, ProbeResult};
use crate::ports::Clock as _;
use crate::tools::failure::CommandFailure;
use crate::tools::options::ConfigFile;
use crate::tools::{note, output};

const FILE_KEY: &str = "health.file";

/// Check the health of the running process (for probes)
///
/// `steward run` writes its status to the file health.file once a second. These commands read the file, print one line
/// with the reason, and exit with 0 (healthy) or 15 (not healthy). A file that is missing, older than --max-age-ms,
/// damaged, dated in the future or written by another host or container is not healthy. The line names the process. No
/// port is open, and no broker is contacted.
#[derive(Debug, Args)]
#[command(after_help = "\
Example, in a pod:
  livenessProbe:
    exec: { command: [steward, health, live] }
    periodSeconds: 5
    failureThreshold: 3

Next: the log of the process has details.")]
pub(crate) struct HealthArguments {
    #[command(subcommand)]
    command: HealthCommand,
}

#[derive(Debug, Subcommand)]
enum HealthCommand {
    /// Check that there is progress, or a known reason for none. If not, restart the process
    #[command(after_help = "\
Example:
  steward health live --config config.toml

Next: `steward health ready` checks more. The log names what a process that is not live waits for.")]
    Live(ProbeArguments),
    /// Check that it is a settled member of the group and serves all its partitions. If not, wait before stopping the
    /// next process
    #[command(after_help = "\
Example:
  steward health ready --config config.toml

Next: a process that restores for a long time logs its progress.")]
    Ready(ProbeArguments),
}

#[derive(Debug, Args)]
struct ProbeArguments {
    #[command(flatten)]
    config: ConfigFile,
    /// The heartbeat file, instead of the configuration's health.file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Greatest age of the last heartbeat, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = DEFAULT_MAX_AGE_MS, value_parser = clap::value_parser!(u64).range(1..))]
    max_age_ms: u64,
}

pub(crate) fn run(arguments: &HealthArguments) -> Result<ExitCode, CommandFailure> {
    let check = match &arguments.command {
        HealthCommand::Live(_) => Heartbeat::check_live,
        HealthCommand::Ready(_) => Heartbeat::check_ready,
    };
    let (HealthCommand::Live(probe) | HealthCommand::Ready(probe)) = &arguments.command;
    let path = probe.file.clone().unwrap_or_else(|| configured_file(probe.config.path()));
    let result = match Heartbeat::read(&path) {
        Ok(heartbeat) => heartbeat
            .check_host(&host_name())
            .unwrap_or_else(|| check(&heartbeat, SystemClock.unix_ms(), Duration::from_millis(probe.max_age_ms))),
        Err(error) => ProbeResult::Unhealthy(error.to_string()),
    };
    let code = match result {
        ProbeResult::Healthy(_) => ExitCode::Done,
        ProbeResult::Unhealthy(_) => ExitCode::CheckFailed,
    };
    output::print(&output::harmless(&result.to_string()))?;
    Ok(code)
}

/// Returns the heartbeat file of the running process: from the variable, else from the key in the file, else the
/// default.
///
/// The rest of the configuration is not checked, on purpose. The running process has loaded its configuration already. A
/// later mistake in the file must not make every probe fail and restart a working process.
fn configured_file(config: Option<&Path>) -> PathBuf {
    let variable = keys::variable(FILE_KEY);
    let overridden = environment().find(|(name, _)| name.eq_ignore_ascii_case(&variable)).map(|(_, value)| value);
    let named = overridden.filter(|value| !value.is_empty()).map(PathBuf::from);
    named.or_else(|| config.and_then(file_in)).unwrap_or_else(|| Config::default().health.file)
}

fn file_in(config: &Path) -> Option<PathBuf> {
    let read = std::fs::read_to_string(config).map_err(|error| error.to_string());
    // Only the message of the parser: its `Display` would quote the line, which may hold a secret.
    let parsed = read.and_then(|text| text.parse::<toml::Table>().map_err(|error| error.message().trim().to_owned()));
    match parsed {
        Ok(table) => table.get("health")?.get("file")?.as_str().map(PathBuf::from),
        Err(problem) => {
            note(&format!(
                "warning: {} cannot be read ({problem}), so the default health.file is read; set the file with --file",
                config.display()
            ));
            None
        }
    }
}
