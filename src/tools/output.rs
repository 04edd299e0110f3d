//! How results look, and where they go.

use std::io::{
    BufWriter, IsTerminal as _, StdoutLock, Write, {self},
};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::tools::failure::CommandFailure;

/// A terminal with fewer columns breaks the lines by itself.
const MIN_WIDTH: u16 = 60;

/// Who reads a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputFormat {
    /// People: a table.
    Table,
    /// Machines: JSON.
    Json,
}

/// The flag that chooses the form.
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

/// Standard output, gathered. What was not flushed is lost: end with [`Output::end`].
pub(crate) struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    pub(crate) fn new() -> Output {
        Output(BufWriter::new(io::stdout().lock()))
    }

    /// Writes one line.
    ///
    /// # Errors
    /// The reader went away, or the disk is full.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), CommandFailure> {
        writeln!(self.0, "{line}").map_err(CommandFailure::Output)
    }

    /// Writes text that ends its own lines.
    ///
    /// # Errors
    /// The reader went away, or the disk is full.
    pub(crate) fn text(&mut self, text: &[u8]) -> Result<(), CommandFailure> {
        self.0.write_all(text).map_err(CommandFailure::Output)
    }

    /// Hands on what was gathered.
    ///
    /// # Errors
    /// The reader went away, or the disk is full.
    pub(crate) fn end(mut self) -> Result<(), CommandFailure> {
        self.0.flush().map_err(CommandFailure::Output)
    }
}

/// Writes one line to standard output.
///
/// # Errors
/// The reader went away, or the disk is full.
pub(crate) fn print(line: &str) -> Result<(), CommandFailure> {
    let mut out = Output::new();
    out.line(line)?;
    out.end()
}

/// One line of JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("texts, numbers and raw JSON can always be written")
}

/// An empty table, as wide as the terminal at most.
pub(crate) fn table<const COLUMNS: usize>(header: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    // Below that, columns of a letter each help nobody; some pseudo terminals say that they have no width at all.
    if table.width().is_some_and(|width| width >= MIN_WIDTH) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}

/// Text from a topic, made harmless: what would steer a terminal is shown as an escape.
pub(crate) fn harmless(text: &str) -> String {
    let shown = |c: char| {
        let steers =
            c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if steers { c.escape_unicode().to_string() } else { c.to_string() }
    };
    text.chars().map(shown).collect()
}

/// A bar on standard error, where a person looks at it.
pub(crate) fn bar(length: u64, unit: &str) -> ProgressBar {
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let template = format!("{{bar:40}} {{human_pos}} of {{human_len}} {unit}, {{per_sec}}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).expect("the template is a constant but for a plain word");
    ProgressBar::with_draw_target(Some(length), target).with_style(style)
}
