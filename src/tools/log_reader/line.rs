//! Owns the reading of one line: whose it is, when it was written, and what it tells.

use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::observability::log_events::{Level, all_events};
use crate::tools::log_reader::events::LoggedEvent;
use crate::tools::log_reader::prefix::pod_of;

/// Longest text that is kept of a line's fields, in characters.
const MAX_DETAIL_CHARS: usize = 600;
/// Longest name of an event that is kept, in characters.
const MAX_NAME_CHARS: usize = 64;

/// Milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// How long after `earlier` this is, in milliseconds; 0 where it is not.
    #[must_use]
    pub fn since(self, earlier: UnixMs) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

/// What a line is.
#[derive(Debug, Clone, PartialEq)]
pub enum LineReading {
    /// A line of steward.
    Ours(Box<LogLine>),
    /// It begins like a line of steward, and cannot be read: cut, or damaged.
    Damaged,
    /// Somebody else's.
    NotOurs,
}

/// A line of steward.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    /// The pod that the prefix names, if there is one.
    pub pod: Option<String>,
    /// When it was written.
    pub written: UnixMs,
    /// Its level.
    pub level: Level,
    /// The event's stable name.
    pub name: String,
    /// The event, as far as it is read.
    pub event: LoggedEvent,
    /// What it says, for a person; kept of warnings and errors only.
    pub detail: String,
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

/// How every JSON object with a first field begins. Labels in braces, which some tools write in front, do not.
const OBJECT: &str = "{\"";
/// How every line of steward begins.
const OURS: &str = "{\"timestamp\":\"";

/// Reads one line, without its end.
#[must_use]
pub fn read(line: &[u8]) -> LineReading {
    let line = String::from_utf8_lossy(line);
    let Some(start) = line.find(OURS).or_else(|| line.find(OBJECT)) else { return LineReading::NotOurs };
    let (prefix, json) = line.split_at(start);
    let json = json.trim_end();
    let not_read = if json.starts_with(OURS) { LineReading::Damaged } else { LineReading::NotOurs };
    let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(json) else { return not_read };
    let (Some(written), Some(level)) = (parse_time(&envelope.timestamp), parse_level(&envelope.level)) else {
        return LineReading::NotOurs;
    };
    let Ok(event) = LoggedEvent::read(&envelope.event, json) else { return LineReading::Damaged };
    let is_notice = level == Level::WARN || level == Level::ERROR;
    LineReading::Ours(Box::new(LogLine {
        pod: pod_of(prefix),
        written,
        level,
        name: envelope.event.chars().take(MAX_NAME_CHARS).collect(),
        event,
        detail: if is_notice { detail(&envelope.event, json) } else { String::new() },
    }))
}

fn parse_time(text: &str) -> Option<UnixMs> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok().map(UnixMs)
}

fn parse_level(text: &str) -> Option<Level> {
    // By the exact words of the contract; `Level` itself would read numbers, too.
    let known = [("ERROR", Level::ERROR), ("WARN", Level::WARN), ("INFO", Level::INFO), ("DEBUG", Level::DEBUG)];
    let found = known.into_iter().chain([("TRACE", Level::TRACE)]).find(|(word, _)| *word == text);
    found.map(|(_, level)| level)
}

/// The fields beside the envelope's, in the order of the catalogue, as `name=value`. In front the message, unless the
/// event is of the catalogue: there its name says as much.
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

fn shortened(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
