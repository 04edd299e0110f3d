//! The commands: one file or folder each, with what they share.

pub(crate) mod completions;
pub(crate) mod config;
pub mod demo;
pub mod dlq;
pub(crate) mod failure;
pub(crate) mod health;
pub mod log_reader;
mod options;
mod output;
pub(crate) mod produce;
pub mod report;
pub(crate) mod run;
pub(crate) mod state;
pub mod top;
mod units;

use std::io::Write as _;

/// Writes a line to standard error. Nobody is left to be told if that fails.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
