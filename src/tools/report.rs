//! `steward report`: one page from stored logs, for a post-mortem.
//!
//! Lines are read one after the other. The memory for what is kept of them is bounded, whatever the length of the logs.

mod chart;
mod lanes;
mod page;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use clap::Args;
use flate2::bufread::MultiGzDecoder;
use indicatif::ProgressBar;

use crate::exit_code::ExitCode;
use crate::tools::failure::CommandFailure;
use crate::tools::log_reader::{LineReading, LineSplitter, MAX_LINE_BYTES, Piece, Recording, read};
use crate::tools::{note, output, units};

pub use crate::tools::report::page::page;

/// The argument for standard input or standard output.
const DASH: &str = "-";
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Write a page with charts of logs, for a post-mortem
///
/// Reads the logs of any number of pods, in one file or several, plain or gzip, and writes one self-contained HTML page:
/// what went wrong first, a timeline of the pods, and for each pod over time: rates, lag, age of the oldest event,
/// latencies, transactions, memory, rejections by reason; then every kind of warning and error with what to do about it.
/// It uses only the documented lines (docs/log-events.md), and lines of other programs may be in between. The charts
/// show `stats`, a line every log.stats_interval_ms.
///
/// The prefix of a line names its pod (`kubectl logs --prefix`, `docker compose logs`, stern, logcli). Lines without a
/// name belong to a pod named after their file. List the files of one pod in order of time. The command needs at most
/// about 100 MB of memory, whatever the length of the logs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl logs -l app.kubernetes.io/name=steward --prefix --tail=-1 | steward report - -o incident.html
  kubectl logs steward-0 --previous > steward-0.log; steward report steward-0.log
  steward report logs/*.log.gz --output - | gzip > incident.html.gz

Next: open the page in a browser. docs/log-events.md explains each event, docs/exit-codes.md each exit code; `steward top` \
shows the same live.")]
pub struct ReportArguments {
    /// The logs; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<OsString>,
    /// The file to write; `-` is standard output, and an existing file is replaced
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: OsString,
}

pub(crate) fn run(arguments: &ReportArguments) -> Result<ExitCode, CommandFailure> {
    let mut recording = Recording::default();
    let bar = output::bar(length_of(&arguments.files), "bytes");
    for file in &arguments.files {
        read_log(file, &mut recording, &bar)
            .map_err(|error| CommandFailure::Unreadable { file: Path::new(file).display().to_string(), error })?;
    }
    bar.finish_and_clear();
    recording.end();
    let sources: Vec<String> = arguments.files.iter().map(|file| name_of(file)).collect();
    let page = page(&recording, &sources.join(", "));
    write_page(&arguments.output, &page)?;
    note(&summary(&recording, &arguments.output));
    Ok(ExitCode::Done)
}

/// Returns the known bytes to read.
fn length_of(files: &[OsString]) -> u64 {
    let lengths = files.iter().filter(|file| *file != DASH).filter_map(|file| std::fs::metadata(file).ok());
    lengths.map(|metadata| metadata.len()).sum()
}

fn read_log(file: &OsStr, recording: &mut Recording, bar: &ProgressBar) -> io::Result<()> {
    recording.fleet.unnamed = name_of(file);
    if file == DASH {
        // The length is not known, so there is no progress bar.
        return read_plain_or_gzip(BufReader::new(io::stdin().lock()), recording);
    }
    let opened = File::open(file)?;
    read_plain_or_gzip(BufReader::with_capacity(MAX_LINE_BYTES, bar.wrap_read(opened)), recording)
}

fn read_plain_or_gzip(mut source: impl BufRead, recording: &mut Recording) -> io::Result<()> {
    let is_gzip = source.fill_buf()?.starts_with(&GZIP_MAGIC);
    if is_gzip { read_lines(MultiGzDecoder::new(source), recording) } else { read_lines(source, recording) }
}

fn read_lines(mut source: impl Read, recording: &mut Recording) -> io::Result<()> {
    let mut take = |piece: Piece<'_>| match piece {
        Piece::Line(line) => recording.add(&read(line)),
        Piece::TooLong => recording.add(&LineReading::Other),
    };
    let mut lines = LineSplitter::default();
    let mut bytes = vec![0; MAX_LINE_BYTES];
    loop {
        match source.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => lines.push(&bytes[..count], &mut take),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    lines.finish(&mut take);
    Ok(())
}

/// `steward-0` of `logs/steward-0.log.gz`.
fn name_of(file: &OsStr) -> String {
    if file == DASH {
        return "standard input".to_owned();
    }
    let name = Path::new(file).file_name().unwrap_or(file).to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.strip_suffix(".log").unwrap_or(name).to_owned()
}

fn write_page(output: &OsStr, page: &str) -> Result<(), CommandFailure> {
    if output == DASH {
        return output::print_bytes(page.as_bytes());
    }
    std::fs::write(output, page)
        .map_err(|error| CommandFailure::Unwritable { file: Path::new(output).display().to_string(), error })
}

fn summary(recording: &Recording, output: &OsStr) -> String {
    let fleet = &recording.fleet;
    let first = recording.findings().first().map_or_else(
        || "nothing went wrong".to_owned(),
        |finding| format!("first, at {}, {}: {}", units::moment(finding.at), finding.pod, finding.text),
    );
    let first: String = first.chars().take(300).collect();
    let place = if output == DASH { "standard output".to_owned() } else { Path::new(output).display().to_string() };
    if fleet.lines == 0 {
        return format!(
            "no line of steward among {} lines; the page is in {place}",
            units::count(fleet.other_lines + fleet.damaged_lines)
        );
    }
    output::harmless(&format!(
        "{} lines of {} pods, {} errors, {} warnings; {first}; the page is in {place}",
        units::count(fleet.lines),
        fleet.pods.len(),
        units::count(fleet.totals.errors),
        units::count(fleet.totals.warnings),
    ))
}
