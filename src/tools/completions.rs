//! `steward completions`: completion scripts for shells.

use clap::Args;
use clap_complete::Shell;

use crate::exit_code::ExitCode;
use crate::tools::failure::CommandFailure;
use crate::tools::output;

/// Print a script with which a shell completes steward's commands and flags
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steward completions bash > /etc/bash_completion.d/steward
  steward completions zsh > \"${fpath[1]}/_steward\"
  steward completions fish > ~/.config/fish/completions/steward.fish

Next: start a new shell.")]
pub(crate) struct CompletionsArguments {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script for `command`, the whole command line.
pub(crate) fn run(arguments: &CompletionsArguments, mut command: clap::Command) -> Result<ExitCode, CommandFailure> {
    // Into memory first, because the generator panics if a pipe breaks.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "steward", &mut script);
    output::print_bytes(&script)?;
    Ok(ExitCode::Done)
}
