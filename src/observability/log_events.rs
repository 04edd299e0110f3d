//! Owns the log catalogue: every line that steward writes about itself, one struct per event.
//!
//! There is no open port, so the log is how the process is watched, and its lines are a contract: each event has a
//! stable name (the field `event`), one level and named fields. A family of events is declared with `log_events!`,
//! which makes of one declaration the struct, its documentation, the entry of the catalogue and the line itself, so
//! that none of them can drift from the others. `docs/log-events.md` is written from the catalogue by a test.
//!
//! What a level promises: ERROR, a promise is broken or the process ends; WARN, someone should look, it still works;
//! INFO, the life cycle; DEBUG, a decision; TRACE, each record. Whatever can repeat is counted and summarised
//! ([`crate::observability::log_throttle::LogThrottle`]).
//!
//! Architecture invariant: a leaf. It names tracing and plain values, and anyone may name it. Codes come in as text,
//! from closed enums elsewhere, keys through [`KeyPolicy`]; bytes of a payload and secrets never come in.
//! Architecture invariant: nothing here cuts or escapes; the bound of a line is kept where lines are written, for
//! those of libraries too.

mod about;
mod client;
mod commit;
mod group;
mod health;
mod ingest;
mod process;
mod recovery;
mod topics;

pub use crate::observability::log_events::about::*;
pub use crate::observability::log_events::client::*;
pub use crate::observability::log_events::commit::*;
pub use crate::observability::log_events::group::*;
pub use crate::observability::log_events::health::*;
pub use crate::observability::log_events::ingest::*;
pub use crate::observability::log_events::process::*;
pub use crate::observability::log_events::recovery::*;
pub use crate::observability::log_events::topics::*;

use std::time::Duration;

pub use tracing::Level;

/// One line of the log.
pub trait LogEvent {
    /// The stable name, which stands in the field `event`.
    const NAME: &'static str;
    /// The level, the same for every line of this name.
    const LEVEL: Level;
    /// Writes the line.
    fn emit(self);
    /// Whether the log shows lines of this name at present.
    fn is_shown() -> bool;
}

/// One entry of the catalogue.
#[derive(Debug, Clone, Copy)]
pub struct EventSpec {
    /// The stable name.
    pub name: &'static str,
    /// The level of every line of this name.
    pub level: Level,
    /// The sentence that stands in `message`.
    pub message: &'static str,
    /// What happened.
    pub meaning: &'static str,
    /// What the operator does about it.
    pub action: &'static str,
    /// The fields beside `timestamp`, `level`, `event`, `message` and `target`.
    pub fields: &'static [FieldSpec],
    /// Writes a line whose texts are all the given one and whose numbers are as long as they get: by it a test
    /// compares what is written with this entry, and measures the longest line.
    pub emit_specimen: fn(&'static str),
}

/// One field of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldSpec {
    /// The key in the line.
    pub name: &'static str,
    /// What stands there.
    pub kind: FieldKind,
    /// What it says, with its unit where the name does not end in one.
    pub meaning: &'static str,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// A JSON string.
    Text,
    /// A JSON number without a fraction.
    Integer,
    /// A JSON number.
    Number,
    /// A string, or the field is absent.
    OptionalText,
    /// A number without a fraction, or the field is absent.
    OptionalInteger,
}

/// Events that belong together: one target for the filter of `log.level`, one section in the documentation.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// The target of its lines.
    pub target: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// Its events, in the order of a life.
    pub events: &'static [EventSpec],
}

/// Every event there is, in the order in which a process meets them.
pub const CATALOGUE: &[Family] = &[
    process::FAMILY,
    topics::FAMILY,
    group::FAMILY,
    recovery::FAMILY,
    ingest::FAMILY,
    commit::FAMILY,
    client::FAMILY,
    health::FAMILY,
];

/// Every event, without the families.
pub fn all_events() -> impl Iterator<Item = &'static EventSpec> {
    CATALOGUE.iter().flat_map(|family| family.events)
}

/// A value that may stand in a line.
trait Plain {
    /// How the catalogue names it.
    const KIND: FieldKind;
    /// The longest one, or `text`.
    fn specimen(text: &'static str) -> Self;
    /// What is written.
    fn field(&self) -> impl tracing::Value;
}

/// `impl Plain` for a type: kind, and an expression for the specimen.
macro_rules! plain {
    ($($type:ty: $kind:ident = |$text:ident| $specimen:expr;)*) => {$(
        impl Plain for $type {
            const KIND: FieldKind = FieldKind::$kind;
            fn specimen($text: &'static str) -> Self {
                $specimen
            }
            fn field(&self) -> impl tracing::Value {
                self
            }
        }
    )*};
}

plain! {
    &str: Text = |text| text;
    String: Text = |text| text.to_owned();
    i32: Integer = |_text| i32::MIN;
    i64: Integer = |_text| i64::MIN;
    u64: Integer = |_text| u64::MAX;
    f64: Number = |_text| f64::MIN_POSITIVE;
    Option<&str>: OptionalText = |text| Some(text);
    Option<i32>: OptionalInteger = |_text| Some(i32::MIN);
    Option<i64>: OptionalInteger = |_text| Some(i64::MIN);
}

impl Plain for Option<LoggedKey> {
    const KIND: FieldKind = FieldKind::OptionalText;
    fn specimen(text: &'static str) -> Self {
        Some(LoggedKey::specimen(text))
    }
    fn field(&self) -> impl tracing::Value {
        self.as_ref().map(LoggedKey::as_str)
    }
}

/// Declares a family: `FAMILY`, and for each event its struct, its [`LogEvent`] and its [`EventSpec`].
///
/// Reads like the structs that it makes. `#[event(...)]` gives level, name and sentence, `#[action(...)]` what an
/// operator does; the doc comments become the catalogue's words.
macro_rules! log_events {
    (
        target: $target:literal,
        title: $title:literal,
        $(
            $(#[doc = $meaning:literal])+
            #[event($level:ident, $name:literal, $message:literal)]
            #[action($action:literal)]
            pub struct $event:ident $(<$lifetime:lifetime>)? {
                $(
                    $(#[doc = $says:literal])+
                    pub $field:ident: $type:ty,
                )*
            }
        )+
    ) => {
        $(
            $(#[doc = $meaning])+
            #[doc = ""]
            #[doc = concat!("Action: ", $action)]
            #[derive(Debug, Clone)]
            pub struct $event $(<$lifetime>)? {
                $(
                    $(#[doc = $says])+
                    pub $field: $type,
                )*
            }

            impl $(<$lifetime>)? $crate::observability::log_events::LogEvent for $event $(<$lifetime>)? {
                const NAME: &'static str = $name;
                const LEVEL: tracing::Level = tracing::Level::$level;
                fn emit(self) {
                    tracing::event!(
                        target: $target,
                        tracing::Level::$level,
                        event = $name,
                        $($field = $crate::observability::log_events::Plain::field(&self.$field),)*
                        $message
                    );
                }
                fn is_shown() -> bool {
                    tracing::enabled!(target: $target, tracing::Level::$level)
                }
            }

            impl $(<$lifetime>)? $event $(<$lifetime>)? {
                const SPEC: $crate::observability::log_events::EventSpec = $crate::observability::log_events::EventSpec {
                    name: $name,
                    level: tracing::Level::$level,
                    message: $message,
                    meaning: concat!($($meaning),+).trim_ascii(),
                    action: $action,
                    fields: &[$($crate::observability::log_events::FieldSpec {
                        name: stringify!($field),
                        kind: <$type as $crate::observability::log_events::Plain>::KIND,
                        meaning: concat!($($says),+).trim_ascii(),
                    },)*],
                    emit_specimen: |_text| {
                        use $crate::observability::log_events::LogEvent as _;
                        $event { $($field: $crate::observability::log_events::Plain::specimen(_text),)* }.emit();
                    },
                };
            }
        )+

        /// Every event of this family.
        pub(super) const FAMILY: $crate::observability::log_events::Family = $crate::observability::log_events::Family {
            target: $target,
            title: $title,
            events: &[$($event::SPEC,)+],
        };
    };
}
use log_events;

/// A duration in the unit of every field that ends in `_ms`.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Writes partition numbers as ranges, `0-3,7`, in ascending order and each once, whatever the order they come in.
#[must_use]
pub fn ranges(numbers: impl IntoIterator<Item = i32>) -> String {
    let mut numbers: Vec<i32> = numbers.into_iter().collect();
    numbers.sort_unstable();
    numbers.dedup();
    let runs = numbers.chunk_by(|left, right| left.checked_add(1) == Some(*right));
    let written = runs.map(|run| match run {
        [] => String::new(),
        [alone] => alone.to_string(),
        [first, .., last] => format!("{first}-{last}"),
    });
    written.collect::<Vec<_>>().join(",")
}

/// Writes counts by name, `0:12,1:0`, in the order they come in. What would pass `limit` bytes is left out whole, so
/// that no number is cut in two, and `...` says so.
#[must_use]
pub fn counts<K: std::fmt::Display>(pairs: impl IntoIterator<Item = (K, u64)>, limit: usize) -> String {
    let mut written = String::new();
    for (name, count) in pairs {
        let pair = format!("{}{name}:{count}", if written.is_empty() { "" } else { "," });
        if written.len() + pair.len() + ",...".len() > limit {
            written.push_str(",...");
            break;
        }
        written.push_str(&pair);
    }
    written
}
