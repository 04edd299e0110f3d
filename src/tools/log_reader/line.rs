//! Owns the parsing of one line: its pod, its timestamp, and its event.
//!
//! A container runtime or a shipper may store each line as a text in a JSON object of its own. That object is
//! unwrapped. A part of a line that it cut in two counts as damaged; a line of steward is too short to be cut.

use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::observability::log_events::{Level, all_events};
use crate::tools::log_reader::events::LoggedEvent;
use crate::tools::log_reader::prefix::pod_of;

/// Maximum length of the text of a line's fields, in characters.
const MAX_DETAIL_CHARS: usize = 600;
/// Maximum length of an event's name, in characters.
const MAX_NAME_CHARS: usize = 64;

/// Milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// Returns the time since `earlier`, in milliseconds; 0 if `earlier` is later.
    pub fn since(self, earlier: UnixMs) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum LineReading {
    Steward(Box<LogLine>),
    /// It begins like a line of steward, but cannot be parsed: cut, or damaged.
    Damaged,
    /// A line of another program.
    Other,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    /// The pod that the prefix names.
    pub pod: Option<String>,
    pub written: UnixMs,
    pub level: Level,
    pub name: String,
    pub event: LoggedEvent,
    /// Message and fields for a person. Empty unless it is a warning or an error.
    pub detail: String,
}

impl LogLine {
    pub(super) fn is_notice(&self) -> bool {
        self.level == Level::WARN || self.level == Level::ERROR
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    timestamp: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    level: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    event: std::borrow::Cow<'a, str>,
}

/// Start of every JSON object with a field. Labels in braces, which some tools write in front, start differently.
const OBJECT: &str = "{\"";
/// Start of every line of steward.
const STEWARD_OBJECT: &str = "{\"timestamp\":\"";

/// An object in which another program stores a line.
#[derive(Deserialize)]
struct Wrapper {
    /// Docker's `json-file`, Fluent Bit.
    log: Option<String>,
    /// Vector, Fluentd.
    message: Option<String>,
    /// `journalctl -o json`.
    #[serde(rename = "MESSAGE")]
    journal: Option<String>,
}

/// Parses one line, without its end.
pub fn read(line: &[u8]) -> LineReading {
    let line = String::from_utf8_lossy(line);
    if let Some(start) = line.find(STEWARD_OBJECT) {
        let (prefix, json) = line.split_at(start);
        return read_object(pod_of(prefix), json);
    }
    let Some(start) = line.find(OBJECT) else { return LineReading::Other };
    let (prefix, json) = line.split_at(start);
    let Some(wrapped) = unwrapped(json) else { return LineReading::Other };
    match wrapped.find(STEWARD_OBJECT) {
        Some(start) => read_object(pod_of(prefix).or_else(|| pod_of(&wrapped[..start])), &wrapped[start..]),
        None => LineReading::Other,
    }
}

fn unwrapped(json: &str) -> Option<String> {
    let Wrapper { log, message, journal } = serde_json::from_str(json.trim_end()).ok()?;
    log.or(message).or(journal)
}

/// Parses an object that begins like one of steward.
fn read_object(pod: Option<String>, json: &str) -> LineReading {
    let json = json.trim_end();
    let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(json) else { return LineReading::Damaged };
    let (Some(written), Some(level)) = (parse_time(&envelope.timestamp), parse_level(&envelope.level)) else {
        return LineReading::Other;
    };
    let Ok(event) = LoggedEvent::read(&envelope.event, json) else { return LineReading::Damaged };
    let name = envelope.event.chars().take(MAX_NAME_CHARS).collect();
    let mut line = LogLine { pod, written, level, name, event, detail: String::new() };
    if line.is_notice() {
        line.detail = detail(&envelope.event, json);
    }
    LineReading::Steward(Box::new(line))
}

fn parse_time(text: &str) -> Option<UnixMs> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok().map(UnixMs)
}

fn parse_level(text: &str) -> Option<Level> {
    // The exact words of the contract; the parser of `Level` would accept numbers, too.
    let known = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
    known.into_iter().find(|level| level.as_str() == text)
}

/// Formats the other fields in the order of the catalogue, as `name=value`. The message comes first, unless the event is
/// in the catalogue: then its name says the same.
fn detail(name: &str, json: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(json) else { return String::new() };
    for of_envelope in ["timestamp", "level", "event", "target"] {
        fields.remove(of_envelope);
    }
    let message = fields.remove("message");
    let spec = all_events().find(|spec| spec.name == name);
    let known = spec.map_or(&[][..], |spec| spec.fields).iter().filter_map(|field| fields.remove_entry(field.name));
    let known: Vec<(String, Value)> = known.collect();
    let mut words: Vec<String> = Vec::new();
    if spec.is_none() {
        words.extend(message.as_ref().and_then(Value::as_str).map(str::to_owned));
    }
    words.extend(known.into_iter().chain(fields).map(|(name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{name}={text}")
    }));
    shortened(&words.join("  "), MAX_DETAIL_CHARS)
}

pub(super) fn shortened(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
