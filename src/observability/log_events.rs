//! Owns the log catalogue: every line that steward writes, with one struct for each event.
//!
//! There is no open port, so the log is the monitoring interface, and its lines are a contract. Each event has a stable
//! name (the field `event`), one level and named fields. `log_events!` declares a family of events. It generates the
//! struct, its documentation, the entry of the catalogue and the code that writes the line, so that they cannot drift
//! apart. Fields with a closed list of values have enums, declared with `field_values!`. A test generates
//! `docs/log-events.md` from the catalogue.
//!
//! Levels: ERROR, a guarantee is broken or the process ends; WARN, someone should look, the process still works; INFO,
//! the life cycle; DEBUG, a decision; TRACE, each record. Repeated events are counted and summarised
//! ([`crate::observability::log_throttle::LogThrottle`]).
//!
//! Architecture invariant: a leaf. It depends on tracing and plain values only, and every module may use it. Keys pass
//! through [`KeyPolicy`]; payload bytes and secrets are not accepted.
//! Architecture invariant: nothing here cuts or escapes. `logging` bounds each line as it writes it, for libraries too.

mod about;
mod client;
mod commit;
mod fields;
mod group;
mod health;
mod ingest;
mod process;
mod recovery;
mod topics;

pub use crate::observability::log_events::about::*;
pub use crate::observability::log_events::client::*;
pub use crate::observability::log_events::commit::*;
pub use crate::observability::log_events::fields::{
    FieldKind, FieldSpec, FieldValue, PartitionNumbers, counts, ranges,
};
pub use crate::observability::log_events::group::*;
pub use crate::observability::log_events::health::*;
pub use crate::observability::log_events::ingest::*;
pub use crate::observability::log_events::process::*;
pub use crate::observability::log_events::recovery::*;
pub use crate::observability::log_events::topics::*;

use std::time::Duration;

pub use tracing::Level;

use crate::observability::log_events::fields::field_values;

pub trait LogEvent {
    /// The stable name, which the field `event` contains.
    const NAME: &'static str;
    /// The level of every line of this name.
    const LEVEL: Level;
    fn emit(self);
    /// Returns whether the log filter currently shows lines of this name.
    fn is_shown() -> bool;
}

/// One entry of the catalogue.
#[derive(Debug, Clone, Copy)]
pub struct EventSpec {
    pub name: &'static str,
    pub level: Level,
    /// The sentence in the field `message`.
    pub message: &'static str,
    pub meaning: &'static str,
    /// What the operator does.
    pub action: &'static str,
    /// The fields besides `timestamp`, `level`, `event`, `message` and `target`.
    pub fields: &'static [FieldSpec],
    /// Writes a line in which each free text is the given text and every other value is as long as its type permits.
    /// Tests use it to compare the written line with this entry, and to measure the longest line.
    pub emit_specimen: fn(&'static str),
}

/// Events that belong together: one target for the filter `log.level`, one section in the documentation.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    pub target: &'static str,
    pub title: &'static str,
    /// The events, in life-cycle order.
    pub events: &'static [EventSpec],
}

/// Every event, in the order in which a process emits them.
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

pub fn all_events() -> impl Iterator<Item = &'static EventSpec> {
    CATALOGUE.iter().flat_map(|family| family.events)
}

/// Converts a duration to the unit of every field that ends in `_ms`.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Declares a family: `FAMILY`, and for each event its struct, its [`LogEvent`] and its [`EventSpec`].
///
/// The input looks like the structs that it generates. `#[event(...)]` gives level, name and message, `#[action(...)]`
/// gives what an operator does; the doc comments become the text of the catalogue.
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
                    $(#[doc = $about:literal])+
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
                    $(#[doc = $about])+
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
                        $($field = $crate::observability::log_events::fields::FieldType::recorded(&self.$field),)*
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
                        kind: <$type as $crate::observability::log_events::fields::FieldType>::KIND,
                        meaning: concat!($($about),+).trim_ascii(),
                        values: <$type as $crate::observability::log_events::fields::FieldType>::VALUES,
                    },)*],
                    emit_specimen: |_text| {
                        use $crate::observability::log_events::LogEvent as _;
                        $event { $($field: $crate::observability::log_events::fields::FieldType::specimen(_text),)* }.emit();
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
