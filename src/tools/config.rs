//! `steward config`: checks a configuration, and prints the default one.

use clap::{Args, Subcommand};

use crate::exit_code::ExitCode;
use crate::kafka::admin::access::AccessFailure;
use crate::kafka::client::settings;
use crate::tools::failure::CommandFailure;
use crate::tools::options::ConfigFile;
use crate::tools::output;

const DEFAULT: &str = include_str!("../../config.toml");

/// Check a configuration, or print the default one
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steward config default > config.toml
  steward config check --config config.toml

Next: `steward run --config config.toml`.")]
pub(crate) struct ConfigArguments {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    Check(CheckArguments),
    /// Print config.toml: every key with its default, its unit and its limits
    #[command(after_help = "\
Example:
  steward config default > config.toml

Next: change it, then `steward config check --config config.toml`.")]
    Default,
}

/// Print the configuration in force and the source of each value, or every mistake in it
///
/// Reads the same input as `steward run`, including the files with secrets, and makes no connection. The result is TOML
/// that can be loaded again, except for the secrets, which are never printed. All mistakes are reported at once, each
/// with its key, its place, the allowed values and a remedy. The exit code is then 3.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steward config check --config config.toml
  STEWARD__KAFKA__GROUP_ID=blue steward config check

Next: `steward run --config config.toml`; docs/configuration.md describes each key.")]
struct CheckArguments {
    #[command(flatten)]
    config: ConfigFile,
}

pub(crate) fn run(arguments: &ConfigArguments) -> Result<ExitCode, CommandFailure> {
    match &arguments.command {
        ConfigCommand::Check(arguments) => {
            let effective = arguments.config.load(&[])?;
            // Only the client library can check the values of its properties.
            settings::check(&effective.config, "check").map_err(AccessFailure::Settings)?;
            output::print_bytes(effective.describe().as_bytes())?;
        }
        ConfigCommand::Default => output::print_bytes(DEFAULT.as_bytes())?,
    }
    Ok(ExitCode::Done)
}
