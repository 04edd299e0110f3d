//! Owns the format and the destination of the log: one line per event on standard output, JSON unless it is a terminal.
//!
//! The app calls [`install`] once. An event before that goes through [`emergency_line`], so that even a configuration
//! that cannot be read leaves one line of the same format. [`log_panics`] logs each panic.
//!
//! Every line is bounded, including those of libraries: a text by [`MAX_TEXT_BYTES`], a line by [`MAX_LINE_BYTES`],
//! because container runtimes cut longer lines in two, and a part of a JSON object cannot be parsed.
//!
//! Architecture invariant: only [`crate::observability::log_events`] writes steward's own lines; lines of libraries have
//! the name [`LIBRARY_LOG`] and cannot have another.
//! Architecture invariant: no clock; the caller of [`install`] passes one.
//! Deliberately absent: spans, files and rotation. The platform handles the lines on standard output.

mod line;
mod writer;

pub use crate::observability::logging::writer::{FINISH_LIMIT, GapLine, LogWriter};

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd as _;
use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{Dispatch, Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::log_level::{LogLevel, Verbosity, WrongPart};
use crate::config::{LogConfig, LogFormat};
use crate::observability::log_events::{LogEvent, LogLinesDropped, ThreadPanicked};

/// Maximum length of a text in a line, in bytes including escapes. A text that was cut ends in `…`.
pub const MAX_TEXT_BYTES: usize = 2048;

/// Maximum length of a line, in bytes including its end. Fields that do not fit are left out, and the field `truncated`
/// is added. No event of the catalogue is that long.
pub const MAX_LINE_BYTES: usize = 16_000;

/// Maximum length of a panic message that is logged, in characters, because it may quote a payload.
pub const MAX_PANIC_CHARS: usize = 64;

/// The event name of the lines that libraries write.
pub const LIBRARY_LOG: &str = "library_log";

/// Returns the time: milliseconds since 1970.
pub type WallClock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Takes a line, including its end, and does not wait until it is written.
pub type LogSink = Arc<dyn Fn(&str) + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStyle {
    Json,
    /// For people.
    Text,
    /// For people, in colour.
    ColouredText,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Destination {
    pub is_terminal: bool,
    /// `NO_COLOR` is set and not empty.
    pub no_color: bool,
}

impl Destination {
    pub fn of_stdout() -> Destination {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Destination { is_terminal: io::stdout().is_terminal(), no_color }
    }
}

impl LogStyle {
    pub fn choose(format: LogFormat, to: Destination) -> LogStyle {
        match format {
            LogFormat::Json => LogStyle::Json,
            LogFormat::Auto if !to.is_terminal => LogStyle::Json,
            LogFormat::Auto | LogFormat::Text if to.is_terminal && !to.no_color => LogStyle::ColouredText,
            LogFormat::Auto | LogFormat::Text => LogStyle::Text,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error(
        "log.level is {level:?}, and {part:?} in it is neither a level nor target=level; use error, warn, info, debug or trace, or a filter such as info,librdkafka=debug"
    )]
    WrongLevel { level: String, part: String },
    #[error("the log has been dropped: {0}")]
    Gone(String),
    #[error("the log was set up twice: {0}")]
    SetUpTwice(String),
    #[error("the thread that writes the log cannot be started: {0}")]
    NoWriter(io::Error),
}

/// A client that the group has fenced cannot be closed in the usual way, and rdkafka reports that as an error. The fencing
/// itself has an event.
const OF_CLOSING_CONSUMERS: &str = "rdkafka::consumer::base_consumer";

/// The lines that are written: a level for all, and others for single targets.
#[derive(Debug, Clone)]
pub struct LogFilter(Targets);

impl LogFilter {
    /// Parses `log.level`: at most one level for all (default `info`), and any number of `target=level`.
    ///
    /// # Errors
    /// [`LoggingError::WrongLevel`] names the part that is wrong.
    pub fn parse(level: &str) -> Result<LogFilter, LoggingError> {
        let wrong = |WrongPart(part)| LoggingError::WrongLevel { level: level.to_owned(), part };
        let LogLevel { general, targets } = LogLevel::parse(level).map_err(wrong)?;
        let targets = targets.into_iter().map(|(target, verbosity)| (target, level_filter(verbosity)));
        let base = Targets::new().with_target(OF_CLOSING_CONSUMERS, LevelFilter::OFF);
        Ok(LogFilter(base.with_targets(targets).with_default(level_filter(general))))
    }
}

fn level_filter(verbosity: Verbosity) -> LevelFilter {
    match verbosity {
        Verbosity::Off => LevelFilter::OFF,
        Verbosity::Error => LevelFilter::ERROR,
        Verbosity::Warn => LevelFilter::WARN,
        Verbosity::Info => LevelFilter::INFO,
        Verbosity::Debug => LevelFilter::DEBUG,
        Verbosity::Trace => LevelFilter::TRACE,
    }
}

/// Changes the filter of a log while it is in use.
#[derive(Debug, Clone)]
pub struct Levels(reload::Handle<Targets, Registry>);

impl Levels {
    /// Replaces the filter, for every thread. An error means that the log has been dropped.
    pub fn set(&self, filter: LogFilter) -> Result<(), LoggingError> {
        self.0.reload(filter.0).map_err(|error| LoggingError::Gone(error.to_string()))?;
        // Libraries that use the `log` crate check this level before they log.
        let level = LevelFilter::current().to_string();
        log::set_max_level(level.parse().expect("both crates have the same names of levels"));
        Ok(())
    }
}

pub fn dispatch(filter: LogFilter, style: LogStyle, now: WallClock, out: LogSink) -> Dispatch {
    adjustable(filter, style, now, out).0
}

/// Creates a log like [`dispatch`], and what changes its filter.
pub fn adjustable(filter: LogFilter, style: LogStyle, now: WallClock, out: LogSink) -> (Dispatch, Levels) {
    let (filter, handle) = reload::Layer::new(filter.0);
    (Dispatch::new(tracing_subscriber::registry().with(filter).with(Lines { style, now, out })), Levels(handle))
}

/// Sets up the log of this process on standard output, for steward's own lines and those of libraries. Returns what
/// changes the filter later, and the writer: the caller drops it at the end of the process, after the last line.
///
/// # Errors
/// `log.level` is wrong, the process already has a log, or the thread that writes it cannot be started.
pub fn install(log: &LogConfig, now: WallClock) -> Result<(Levels, LogWriter), LoggingError> {
    let filter = LogFilter::parse(&log.level)?;
    let style = LogStyle::choose(log.format, Destination::of_stdout());
    let writer = write_to_stdout(style, Arc::clone(&now), log.max_queued_bytes).map_err(LoggingError::NoWriter)?;
    let (dispatch, levels) = adjustable(filter, style, now, writer.sink());
    dispatch.try_init().map_err(|error| LoggingError::SetUpTwice(error.to_string()))?;
    Ok((levels, writer))
}

/// Writes one event to standard output with the default settings, even if the log is not set up. Waits for at most
/// [`FINISH_LIMIT`], whether or not the output is read.
pub fn emergency_line(now: WallClock, event: impl LogEvent) {
    let style = LogStyle::choose(LogFormat::Auto, Destination::of_stdout());
    match write_to_stdout(style, Arc::clone(&now), 2 * MAX_LINE_BYTES) {
        Ok(writer) => emergency_line_to(style, now, writer.sink(), event),
        // Without a thread, this one has to write.
        Err(_) => emergency_line_to(style, now, Arc::new(to_stdout), event),
    }
}

/// Starts a writer on a descriptor of its own. `Stdout` has a buffer, which loses its place if a write takes only a
/// part.
fn write_to_stdout(style: LogStyle, now: WallClock, max_queued_bytes: usize) -> io::Result<LogWriter> {
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    LogWriter::start(stdout, max_queued_bytes, Box::new(move |dropped_lines| gap_line(style, &now, dropped_lines)))
}

/// Returns the line that replaces dropped lines; `None` if the current filter hides it.
fn gap_line(style: LogStyle, now: &WallClock, dropped_lines: u64) -> Option<String> {
    if !LogLinesDropped::is_shown() {
        return None;
    }
    let line = Arc::new(Mutex::new(String::new()));
    let written = Arc::clone(&line);
    let sink: LogSink = Arc::new(move |text| written.lock().unwrap_or_else(PoisonError::into_inner).push_str(text));
    // A filter that permits more would slow down every log statement of the process, also later.
    let filter = LogFilter(Targets::new().with_default(LogLinesDropped::LEVEL));
    tracing::dispatcher::with_default(&dispatch(filter, style, Arc::clone(now), sink), || {
        LogLinesDropped { dropped_lines }.emit();
    });
    Some(std::mem::take(&mut *line.lock().unwrap_or_else(PoisonError::into_inner)))
}

pub fn emergency_line_to(style: LogStyle, now: WallClock, out: LogSink, event: impl LogEvent) {
    let everything = LogFilter(Targets::new().with_default(LevelFilter::TRACE));
    tracing::dispatcher::with_default(&dispatch(everything, style, now, out), || event.emit());
}

/// Installs [`panic_logger`].
pub fn log_panics(caught: fn(&str) -> bool, bug: impl Fn() + Send + Sync + 'static, now: WallClock) {
    std::panic::set_hook(Box::new(panic_logger(caught, bug, now)));
}

/// Returns a panic hook that logs every panic except those of entity code, which are caught, counted, and logged with
/// their event. `caught` receives the location of the panic and returns whether this thread runs entity code.
///
/// `bug` is called after the line of a panic that is not caught, because the process has lost a thread.
pub fn panic_logger(
    caught: fn(&str) -> bool,
    bug: impl Fn() + Send + Sync,
    now: WallClock,
) -> impl Fn(&PanicHookInfo<'_>) + Send + Sync {
    move |panic| {
        let location = panic.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        if caught(&location) {
            return;
        }
        let thread = std::thread::current();
        let message = panic.payload_as_str().unwrap_or("no message");
        let detail: String = message.chars().take(MAX_PANIC_CHARS).collect();
        let event = ThreadPanicked { thread: thread.name().unwrap_or("unnamed"), location: &location, detail: &detail };
        if tracing::dispatcher::has_been_set() {
            event.emit();
        } else {
            emergency_line(now.clone(), event);
        }
        bug();
    }
}

fn to_stdout(line: &str) {
    // A closed standard output must not end the process, so errors are ignored.
    let _ = io::stdout().lock().write_all(line.as_bytes());
}

struct Lines {
    style: LogStyle,
    now: WallClock,
    out: LogSink,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        (self.out)(&line::format(event, self.style, (self.now)()));
    }
}
