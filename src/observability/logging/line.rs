//! Owns the format of one line, and its bounds.
//!
//! The fields of an event are visited once. Name and message are stored separately, because they come first. The other
//! fields follow, as far as the line has room.

use std::borrow::Cow;
use std::fmt;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use crate::observability::logging::{LIBRARY_LOG, LogStyle, MAX_LINE_BYTES, MAX_TEXT_BYTES};

const TIMESTAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// Field names that an event must not use.
const RESERVED: [&str; 6] = ["timestamp", "level", "event", "message", "target", "truncated"];

/// Formats one event, including the end of the line.
pub(super) fn format(event: &Event<'_>, style: LogStyle, unix_ms: i64) -> String {
    let metadata = event.metadata();
    let is_own = metadata.module_path().is_some_and(|module| module.starts_with("steward::observability::log_events"));
    let mut fields = LineFields {
        style,
        origin: if is_own { LineOrigin::Steward } else { LineOrigin::Library },
        name: LIBRARY_LOG.to_owned(),
        message: String::new(),
        target: metadata.target().to_owned(),
        rest: Vec::new(),
    };
    event.record(&mut fields);
    let level = *metadata.level();
    let (front, end) = match style {
        LogStyle::Json => (fields.json_front(&timestamp(unix_ms), level), "}\n".to_owned()),
        LogStyle::Text => fields.text_front(&timestamp(unix_ms), level, LinePaint::NONE),
        LogStyle::ColouredText => fields.text_front(&timestamp(unix_ms), level, LinePaint::of(level)),
    };
    join(front, &fields.rest, style, &end)
}

/// Appends the fields that fit to the front part of the line.
fn join(front: String, fields: &[(String, String)], style: LogStyle, end: &str) -> String {
    let written = |(name, shown): &(String, String)| match style {
        LogStyle::Json => format!(",{}:{shown}", quoted(name)),
        LogStyle::Text | LogStyle::ColouredText => format!(" {}={shown}", visible(name)),
    };
    let last = written(&("truncated".to_owned(), "true".to_owned()));
    let room = MAX_LINE_BYTES - last.len() - end.len();
    let mut line = front;
    let mut left_out = None;
    for field in fields.iter().map(written) {
        if line.len() + field.len() <= room {
            line.push_str(&field);
        } else {
            left_out = Some(last.as_str());
        }
    }
    line.push_str(left_out.unwrap_or_default());
    line.push_str(end);
    line
}

/// RFC 3339 in UTC with milliseconds. A time after the year 9999 is written as 1970.
fn timestamp(unix_ms: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000);
    let time = time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&TIMESTAMP).unwrap_or_else(|_| "1970-01-01T00:00:00.000Z".to_owned())
}

#[derive(PartialEq, Eq)]
enum LineOrigin {
    Steward,
    Library,
}

struct LineFields {
    style: LogStyle,
    origin: LineOrigin,
    name: String,
    message: String,
    target: String,
    /// Name and formatted value of the other fields.
    rest: Vec<(String, String)>,
}

impl LineFields {
    fn json_front(&self, timestamp: &str, level: Level) -> String {
        let [name, message, target] = [&self.name, &self.message, &self.target].map(|text| quoted(text));
        format!(r#"{{"timestamp":"{timestamp}","level":"{level}","event":{name},"message":{message},"target":{target}"#)
    }

    fn text_front(&self, timestamp: &str, level: Level, paint: LinePaint) -> (String, String) {
        let LinePaint { dim, level: colour, bold, end } = paint;
        let [name, message, target] = [&self.name, &self.message, &self.target].map(|text| visible(&cut(text)));
        let origin = match self.origin {
            LineOrigin::Steward => String::new(),
            LineOrigin::Library => format!(" {dim}{target}{end}"),
        };
        let front = format!("{dim}{timestamp}{end} {colour}{level:>5}{end} {bold}{name}{end}{origin} {message}{dim}");
        (front, format!("{end}\n"))
    }

    /// Stores a text of the front part, or adds it to the other fields.
    fn put_text(&mut self, field: &Field, value: &str) {
        match (field.name(), &self.origin) {
            ("message", _) => value.clone_into(&mut self.message),
            ("event", LineOrigin::Steward) => value.clone_into(&mut self.name),
            // Records of the `log` crate have one common target, and their own as a field.
            ("log.target", LineOrigin::Library) => value.clone_into(&mut self.target),
            ("log.module_path" | "log.file", LineOrigin::Library) => {}
            _ => {
                let shown = match self.style {
                    LogStyle::Json => quoted(value),
                    LogStyle::Text | LogStyle::ColouredText => readable(value),
                };
                self.put(field, &shown);
            }
        }
    }

    fn put(&mut self, field: &Field, shown: &str) {
        let name = field.name();
        let name = match (RESERVED.contains(&name), name) {
            (_, "log.line") => return,
            (true, _) => format!("field.{name}"),
            (false, _) => name.to_owned(),
        };
        self.rest.push((name, shown.to_owned()));
    }
}

impl Visit for LineFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, &value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no value for NaN and infinity.
        let shown = if value.is_finite() { serde_json::Number::from_f64(value) } else { None };
        self.put(field, &shown.map_or_else(|| "null".to_owned(), |number| number.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, if value { "true" } else { "false" });
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put_text(field, &value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_text(field, &format!("{value:?}"));
    }
}

/// Returns a JSON string of at most [`MAX_TEXT_BYTES`] without its quotes.
fn quoted(text: &str) -> String {
    serde_json::Value::from(cut(text).as_ref()).to_string()
}

/// Returns a text for people: without quotes if it is one word.
fn readable(text: &str) -> String {
    let word = !text.is_empty() && text.chars().all(|char| char.is_alphanumeric() || "_-.:/,+@".contains(char));
    if word { cut(text).into_owned() } else { visible(&quoted(text)) }
}

/// Returns the text with control characters escaped, because they could move a terminal's cursor or start another line.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() { shown.extend(char.escape_default()) } else { shown.push(char) }
    }
    shown
}

/// Returns the text, cut between characters so that its JSON string has at most [`MAX_TEXT_BYTES`].
fn cut(text: &str) -> Cow<'_, str> {
    const ELLIPSIS: &str = "…";
    let mut bytes = 0;
    let mut fits = 0;
    for (at, char) in text.char_indices() {
        bytes += bytes_in_line(char);
        if bytes > MAX_TEXT_BYTES {
            return format!("{}{ELLIPSIS}", &text[..fits]).into();
        }
        if bytes + ELLIPSIS.len() <= MAX_TEXT_BYTES {
            fits = at + char.len_utf8();
        }
    }
    text.into()
}

fn bytes_in_line(char: char) -> usize {
    match char {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        // JSON escapes most of these; the style for people escapes the rest.
        _ if char.is_control() => "\\u0000".len(),
        _ => char.len_utf8(),
    }
}

/// Escape codes of a terminal.
#[derive(Clone, Copy)]
struct LinePaint {
    dim: &'static str,
    level: &'static str,
    bold: &'static str,
    end: &'static str,
}

impl LinePaint {
    const NONE: LinePaint = LinePaint { dim: "", level: "", bold: "", end: "" };

    fn of(level: Level) -> LinePaint {
        let level = match level {
            Level::ERROR => "\x1b[1;31m",
            Level::WARN => "\x1b[33m",
            Level::INFO => "\x1b[32m",
            Level::DEBUG => "\x1b[34m",
            Level::TRACE => "\x1b[35m",
        };
        LinePaint { dim: "\x1b[2m", level, bold: "\x1b[1m", end: "\x1b[0m" }
    }
}
