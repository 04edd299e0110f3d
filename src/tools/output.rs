//! Formats and prints results.

use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::kafka::reader::topic_reader::TopicProgress;
use crate::tools::failure::CommandFailure;

/// On a terminal with fewer columns, tables are not fitted; the terminal wraps the lines.
const MIN_WIDTH: u16 = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputFormat {
    Table,
    Json,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OutputFormatFlag {
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

impl OutputFormatFlag {
    pub(crate) fn form(&self) -> OutputFormat {
        if self.json { OutputFormat::Json } else { OutputFormat::Table }
    }
}

/// Buffered standard output. The caller must call [`CommandOutput::end`], or buffered text is lost.
///
/// A write fails if the reader closed the pipe, or the disk is full.
pub(crate) struct CommandOutput(BufWriter<StdoutLock<'static>>);

impl CommandOutput {
    pub(crate) fn new() -> CommandOutput {
        CommandOutput(BufWriter::new(io::stdout().lock()))
    }

    pub(crate) fn line(&mut self, line: &str) -> Result<(), CommandFailure> {
        writeln!(self.0, "{line}").map_err(CommandFailure::Output)
    }

    pub(crate) fn end(mut self) -> Result<(), CommandFailure> {
        self.0.flush().map_err(CommandFailure::Output)
    }
}

/// Writes one line to standard output.
pub(crate) fn print(line: &str) -> Result<(), CommandFailure> {
    print_bytes(format!("{line}\n").as_bytes())
}

pub(crate) fn print_bytes(text: &[u8]) -> Result<(), CommandFailure> {
    let mut out = CommandOutput::new();
    out.0.write_all(text).map_err(CommandFailure::Output)?;
    out.end()
}

pub(crate) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("texts, numbers and raw JSON always serialise")
}

/// Makes an empty table, at most as wide as the terminal.
pub(crate) fn table<const COLUMNS: usize>(header: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    // On a narrower terminal, columns would shrink to one character each. Some pseudo terminals report a width of 0.
    if table.width().is_some_and(|width| width >= MIN_WIDTH) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}

/// Escapes the characters of a text from a topic that would control the terminal.
pub(crate) fn harmless(text: &str) -> String {
    let shown = |c: char| {
        let controls =
            c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if controls { c.escape_unicode().to_string() } else { c.to_string() }
    };
    text.chars().map(shown).collect()
}

/// Shortens a name at its start, because pods of one set differ in the end of their names.
pub(crate) fn end_of_name(name: &str, max_chars: usize) -> String {
    let length = name.chars().count();
    if length <= max_chars {
        return name.to_owned();
    }
    let end: String = name.chars().skip(length - max_chars + 1).collect();
    format!("…{end}")
}

/// Shows the progress of `read` on a bar.
pub(crate) fn with_progress<T>(bar: &ProgressBar, read: impl FnOnce(&mut dyn FnMut(TopicProgress)) -> T) -> T {
    let outcome = read(&mut |progress: TopicProgress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    outcome
}

/// Makes a progress bar on standard error, which is hidden if standard error is no terminal.
pub(crate) fn bar(length: u64, unit: &str) -> ProgressBar {
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let template = format!("{{bar:40}} {{human_pos}} of {{human_len}} {unit}, {{per_sec}}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).expect("the template is valid with any plain word");
    ProgressBar::with_draw_target(Some(length), target).with_style(style)
}
