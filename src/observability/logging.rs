//! Owns how the log looks and where it goes: one line an event on standard output, JSON unless a person is looking.
//!
//! [`install`] is called once, by the app. What has to be said before that, or instead, goes through
//! [`emergency_line`], so that even a configuration that cannot be read leaves one line of the same shape.
//! [`log_panics`] makes of a panic a line as well.
//!
//! Every line is bounded, whoever wrote it: a text at [`MAX_TEXT_BYTES`], a line at [`MAX_LINE_BYTES`], because
//! container runtimes cut longer lines in two, and half a JSON object is none.
//!
//! Architecture invariant: a line of steward's own comes from [`crate::observability::log_events`]; lines of libraries carry the name
//! [`LIBRARY_LOG`] and cannot take another.
//! Architecture invariant: no clock; whoever installs it says what time it is.
//! Absent on purpose: spans, files and rotation. What happens to a line on standard output is the platform's business.

mod line;

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use tracing::{Dispatch, Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::log_level::{LogLevel, Verbosity, WrongPart};
use crate::config::{LogConfig, LogFormat};
use crate::observability::log_events::{LogEvent, ThreadPanicked};

/// The longest text in a line, in bytes as they stand there, escapes included. What is cut ends in `…`.
pub const MAX_TEXT_BYTES: usize = 2048;

/// The longest line, in bytes, its end included. Fields that do not fit are left out, and `truncated` says so; no
/// event of the catalogue gets there.
pub const MAX_LINE_BYTES: usize = 16_000;

/// Longest part of a panic's message that is logged, in characters: it may quote a payload.
pub const MAX_PANIC_CHARS: usize = 64;

/// The name of lines that libraries write.
pub const LIBRARY_LOG: &str = "library_log";

/// Tells the time: milliseconds since 1970.
pub type WallClock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Takes a finished line, its end included.
pub type LogSink = Arc<dyn Fn(&str) + Send + Sync>;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStyle {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
    /// For people, in colour.
    ColouredText,
}

/// What is known of the place that lines go to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Surroundings {
    /// A person looks at it.
    pub terminal: bool,
    /// `NO_COLOR` is set and not empty.
    pub no_color: bool,
}

impl Surroundings {
    /// Those of standard output.
    #[must_use]
    pub fn of_stdout() -> Surroundings {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Surroundings { terminal: std::io::stdout().is_terminal(), no_color }
    }
}

impl LogStyle {
    /// What `log.format` means here.
    #[must_use]
    pub fn choose(format: LogFormat, around: Surroundings) -> LogStyle {
        match format {
            LogFormat::Json => LogStyle::Json,
            LogFormat::Auto if !around.terminal => LogStyle::Json,
            LogFormat::Auto | LogFormat::Text if around.terminal && !around.no_color => LogStyle::ColouredText,
            LogFormat::Auto | LogFormat::Text => LogStyle::Text,
        }
    }
}

/// Why the log could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoggingError {
    /// `log.level` is no filter.
    #[error(
        "log.level is {level:?}, and {part:?} in it is neither a level nor target=level; use error, warn, info, debug or trace, or a filter such as info,librdkafka=debug"
    )]
    WrongLevel {
        /// What is configured.
        level: String,
        /// What of it is wrong.
        part: String,
    },
    /// There is no log any more whose level could be changed.
    #[error("the log is gone: {0}")]
    Gone(String),
    /// Something has set up a log in this process before.
    #[error("the log was set up twice: {0}")]
    SetUpTwice(String),
}

/// Which lines are written: a level for all, and others for single targets.
#[derive(Debug, Clone)]
pub struct LogFilter(Targets);

impl LogFilter {
    /// Reads `log.level`: at most one level for all (`info` where there is none), and any number of `target=level`.
    ///
    /// # Errors
    /// Names `log.level` and the part that is wrong.
    pub fn parse(level: &str) -> Result<LogFilter, LoggingError> {
        let wrong = |WrongPart(part)| LoggingError::WrongLevel { level: level.to_owned(), part };
        let LogLevel { general, targets } = LogLevel::parse(level).map_err(wrong)?;
        let targets = targets.into_iter().map(|(target, verbosity)| (target, level_filter(verbosity)));
        Ok(LogFilter(Targets::new().with_targets(targets).with_default(level_filter(general))))
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

/// Changes which lines of a log are written while it is in use.
#[derive(Debug, Clone)]
pub struct Levels(reload::Handle<Targets, Registry>);

impl Levels {
    /// From now on this filter counts, for every thread.
    ///
    /// # Errors
    /// The log is gone.
    pub fn set(&self, filter: LogFilter) -> Result<(), LoggingError> {
        self.0.reload(filter.0).map_err(|error| LoggingError::Gone(error.to_string()))?;
        // Libraries that use the `log` crate ask for this one before they say anything.
        log::set_max_level(of_log_crate(LevelFilter::current()));
        Ok(())
    }
}

fn of_log_crate(level: LevelFilter) -> log::LevelFilter {
    match level.into_level() {
        None => log::LevelFilter::Off,
        Some(Level::ERROR) => log::LevelFilter::Error,
        Some(Level::WARN) => log::LevelFilter::Warn,
        Some(Level::INFO) => log::LevelFilter::Info,
        Some(Level::DEBUG) => log::LevelFilter::Debug,
        Some(Level::TRACE) => log::LevelFilter::Trace,
    }
}

/// A log that writes finished lines to `out`.
#[must_use]
pub fn dispatch(filter: LogFilter, look: LogStyle, now: WallClock, out: LogSink) -> Dispatch {
    adjustable(filter, look, now, out).0
}

/// The same, and what changes its level.
#[must_use]
pub fn adjustable(filter: LogFilter, look: LogStyle, now: WallClock, out: LogSink) -> (Dispatch, Levels) {
    let (filter, handle) = reload::Layer::new(filter.0);
    (Dispatch::new(tracing_subscriber::registry().with(filter).with(Lines { look, now, out })), Levels(handle))
}

/// Sets up the log of this process, on standard output, for steward's own lines and those of libraries. What comes back
/// changes its level later.
///
/// # Errors
/// `log.level` is no filter, or there is a log already.
pub fn install(log: &LogConfig, now: WallClock) -> Result<Levels, LoggingError> {
    let filter = LogFilter::parse(&log.level)?;
    let look = LogStyle::choose(log.format, Surroundings::of_stdout());
    let (dispatch, levels) = adjustable(filter, look, now, Arc::new(to_stdout));
    dispatch.try_init().map_err(|error| LoggingError::SetUpTwice(error.to_string()))?;
    Ok(levels)
}

/// Writes one event to standard output whether or not there is a log, as if it were set up with the defaults.
pub fn emergency_line(now: WallClock, event: impl LogEvent) {
    let look = LogStyle::choose(LogFormat::Auto, Surroundings::of_stdout());
    emergency_line_to(look, now, Arc::new(to_stdout), event);
}

/// [`emergency_line`], with everything that it would look up.
pub fn emergency_line_to(look: LogStyle, now: WallClock, out: LogSink, event: impl LogEvent) {
    let everything = LogFilter(Targets::new().with_default(LevelFilter::TRACE));
    tracing::dispatcher::with_default(&dispatch(everything, look, now, out), || event.emit());
}

/// Makes of every panic a line, but for those of entity code: they are caught, counted, and logged by those who know
/// the event. `caught` is told where in the code it was, and says whether this thread runs entity code.
///
/// `bug` is called after the line of a panic that nobody catches: a thread of the process is gone for good.
pub fn log_panics(caught: fn(&str) -> bool, bug: impl Fn() + Send + Sync + 'static, now: WallClock) {
    std::panic::set_hook(Box::new(move |panic| {
        let location = panic.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        if caught(&location) {
            return;
        }
        let thread = std::thread::current();
        let said = panic.payload_as_str().unwrap_or("no message");
        let detail: String = said.chars().take(MAX_PANIC_CHARS).collect();
        let event = ThreadPanicked { thread: thread.name().unwrap_or("unnamed"), location: &location, detail: &detail };
        if tracing::dispatcher::has_been_set() {
            event.emit();
        } else {
            emergency_line(now.clone(), event);
        }
        bug();
    }));
}

fn to_stdout(line: &str) {
    // A log that nobody takes any more must not end the process that writes it, so a failure is not one.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

/// Writes each event as one line.
struct Lines {
    look: LogStyle,
    now: WallClock,
    out: LogSink,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        (self.out)(&line::of(event, self.look, (self.now)()));
    }
}

/// A level as it stands in `level`.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}
