//! `steward config`: what is in force, what is wrong, what there is.

use clap::{Args, Subcommand};

use crate::exit_code::ExitCode;
use crate::kafka::admin::access::AccessFailure;
use crate::kafka::client::settings;
use crate::tools::failure::CommandFailure;
use crate::tools::options::ConfigFile;
use crate::tools::output::Output;

/// The complete configuration with its defaults.
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
    Default(DefaultArguments),
}

/// Print the configuration in force and where each value comes from, or every mistake in it
///
/// Reads what `steward run` would read, the files with secrets included, and connects to nobody. The result is TOML that
/// could be loaded again, but for the secrets, which are never shown. A mistake comes with its key, its place, what is
/// allowed and what to do; all of them are told at once, and the exit code is 3.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steward config check --config config.toml
  STEWARD__KAFKA__GROUP_ID=blue steward config check

Next: `steward run --config config.toml`; docs/configuration.md tells more about each key.")]
struct CheckArguments {
    #[command(flatten)]
    config: ConfigFile,
}

/// Print config.toml: every key with its default, its unit and its limits
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  steward config default > config.toml

Next: change it, then `steward config check --config config.toml`.")]
struct DefaultArguments {}

pub(crate) fn run(arguments: &ConfigArguments) -> Result<ExitCode, CommandFailure> {
    let mut out = Output::new();
    match &arguments.command {
        ConfigCommand::Check(arguments) => {
            let effective = arguments.config.load(&[])?;
            // Which values a property of the client takes, only the client library knows.
            settings::check(&effective.config, "check").map_err(AccessFailure::Settings)?;
            out.text(effective.describe().as_bytes())?;
        }
        ConfigCommand::Default(DefaultArguments {}) => out.text(DEFAULT.as_bytes())?,
    }
    out.end()?;
    Ok(ExitCode::Done)
}
