//! Owns how the log looks and where it goes: one line an event on standard output, JSON unless a person is looking.
//!
//! [`install`] is called once, by the app. What has to be said before that, or instead, goes through
//! [`emergency_line`], so that even a configuration that cannot be read leaves one line of the same shape.
//! [`log_panics`] makes of a panic a line as well.
//!
//! Every line is bounded, whoever wrote it: a text at [`MAX_TEXT_BYTES`], a line at [`MAX_LINE_BYTES`], because
//! container runtimes cut longer lines in two, and half a JSON object is none.
//!
//! Architecture invariant: a line of steward's own comes from [`crate::log_events`]; lines of libraries carry the name
//! [`LIBRARY_LOG`] and cannot take another.
//! Architecture invariant: no clock; whoever installs it says what time it is.
//! Absent on purpose: spans, files and rotation. What happens to a line on standard output is the platform's business.

mod line;

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use tracing::{Dispatch, Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};
use crate::log_events::{EntityPanicLocated, LogEvent, ThreadPanicked};

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
pub type UnixMs = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Takes a finished line, its end included.
pub type Out = Arc<dyn Fn(&str) + Send + Sync>;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
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

impl Look {
    /// What `log.format` means here.
    #[must_use]
    pub fn choose(format: LogFormat, around: Surroundings) -> Look {
        match format {
            LogFormat::Json => Look::Json,
            LogFormat::Auto if !around.terminal => Look::Json,
            LogFormat::Auto | LogFormat::Text if around.terminal && !around.no_color => Look::ColouredText,
            LogFormat::Auto | LogFormat::Text => Look::Text,
        }
    }
}

/// Why the log could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryError {
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
    /// Something has set up a log in this process before.
    #[error("the log was set up twice: {0}")]
    SetUpTwice(String),
}

/// Which lines are written: a level for all, and others for single targets.
#[derive(Debug, Clone)]
pub struct Filter(Targets);

impl Filter {
    /// Reads `log.level`: at most one level for all (`info` where there is none), and any number of `target=level`.
    ///
    /// # Errors
    /// Names `log.level` and the part that is wrong.
    pub fn parse(level: &str) -> Result<Filter, TelemetryError> {
        let wrong = |part: &str| TelemetryError::WrongLevel { level: level.to_owned(), part: part.to_owned() };
        let mut general = None;
        let mut targets = Targets::new();
        for part in level.split(',').map(str::trim) {
            let Some((target, of_target)) = part.rsplit_once('=') else {
                // A word that is no level would be taken for a target by tracing's own filter, and silence the rest.
                let first = general.replace(level_named(part).ok_or_else(|| wrong(part))?);
                if first.is_some() {
                    return Err(wrong(part));
                }
                continue;
            };
            let of_target = level_named(of_target.trim()).ok_or_else(|| wrong(part))?;
            let target = target.trim();
            if target.is_empty() || target.contains(['[', ']', '{', '}', '=']) {
                return Err(wrong(part));
            }
            targets = targets.with_target(target, of_target);
        }
        Ok(Filter(targets.with_default(general.unwrap_or(LevelFilter::INFO))))
    }
}

fn level_named(name: &str) -> Option<LevelFilter> {
    let named = [
        ("error", LevelFilter::ERROR),
        ("warn", LevelFilter::WARN),
        ("info", LevelFilter::INFO),
        ("debug", LevelFilter::DEBUG),
        ("trace", LevelFilter::TRACE),
    ];
    named.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, filter)| filter)
}

/// A log that writes finished lines to `out`.
#[must_use]
pub fn dispatch(filter: Filter, look: Look, now: UnixMs, out: Out) -> Dispatch {
    Dispatch::new(tracing_subscriber::registry().with(filter.0).with(Lines { look, now, out }))
}

/// Sets up the log of this process, on standard output, for steward's own lines and those of libraries.
///
/// # Errors
/// `log.level` is no filter, or there is a log already.
pub fn install(log: &Log, now: UnixMs) -> Result<(), TelemetryError> {
    let filter = Filter::parse(&log.level)?;
    let look = Look::choose(log.format, Surroundings::of_stdout());
    dispatch(filter, look, now, Arc::new(to_stdout))
        .try_init()
        .map_err(|error| TelemetryError::SetUpTwice(error.to_string()))
}

/// Writes one event to standard output whether or not there is a log, as if it were set up with the defaults.
pub fn emergency_line(now: UnixMs, event: impl LogEvent) {
    let look = Look::choose(LogFormat::Auto, Surroundings::of_stdout());
    emergency_line_to(look, now, Arc::new(to_stdout), event);
}

/// [`emergency_line`], with everything that it would look up.
pub fn emergency_line_to(look: Look, now: UnixMs, out: Out, event: impl LogEvent) {
    let everything = Filter(Targets::new().with_default(LevelFilter::TRACE));
    tracing::dispatcher::with_default(&dispatch(everything, look, now, out), || event.emit());
}

/// Makes of every panic a line. While `caught` says that this thread runs entity code, whose panics are caught, counted
/// and logged as `entity_panicked` by those who know the event, all that is added is where in the code it was.
///
/// `bug` is called after the line of a panic that nobody catches: a thread of the process is gone for good.
pub fn log_panics(caught: fn() -> bool, bug: impl Fn() + Send + Sync + 'static, now: UnixMs) {
    std::panic::set_hook(Box::new(move |panic| {
        let location = panic.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        if caught() {
            return EntityPanicLocated { location: &location }.emit();
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
    look: Look,
    now: UnixMs,
    out: Out,
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
