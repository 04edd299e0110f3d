//! `steward completions`: scripts for shells.

use clap::Args;
use clap_complete::Shell;

use super::out::Out;
use super::{Failure, command};
use crate::exit_code::ExitCode;

/// Print the script that lets a shell complete steward's commands and flags
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steward completions bash > /etc/bash_completion.d/steward
  steward completions zsh > \"${fpath[1]}/_steward\"
  steward completions fish > ~/.config/fish/completions/steward.fish

Next: start a new shell.")]
pub(super) struct Arguments {
    /// Which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    // Into memory first: the generator panics when a pipe breaks.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command(), "steward", &mut script);
    let mut out = Out::new();
    out.text(&script)?;
    out.end()?;
    Ok(ExitCode::Done)
}
