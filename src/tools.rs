//! The commands: one file or folder each, and what they share.

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
pub(crate) mod version;

use std::io::Write as _;

/// Writes a line to standard error. If that fails, there is no other place to report it.
fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
