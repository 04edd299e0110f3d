//! Starts of a process on topics and offsets that were moved, deleted, cut, or lack a write. The real binary on a real
//! Kafka, checked by what a `read_committed` reader sees and by the log.

mod expired;
mod groups;
mod lost_writes;
mod offsets;

use std::time::Duration;

use serde_json::Value;

use crate::support::wait::PATIENCE;

/// The longest time of one step of a process on a busy machine.
const LIMIT: Duration = PATIENCE;

/// Some fields of a line of the log, as numbers.
fn numbers<const N: usize>(line: &Value, fields: [&str; N]) -> [i64; N] {
    fields.map(|field| line[field].as_i64().unwrap_or_else(|| panic!("{field} is no number in {line}")))
}
