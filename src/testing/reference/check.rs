//! Compares the records that a `read_committed` reader saw with the [`Model`], and reports every difference.
//!
//! The check is complete, not sampled: it covers each entity, each record of the state topic, each DLQ record and each
//! committed position. Header names are written out a second time here, so that a typo in the shared list is found.

mod difference;
mod dlq;
mod state;

use std::collections::BTreeMap;

pub use crate::testing::reference::check::difference::{Difference, Fault};

use crate::testing::reference::{Model, TopicRecord};

/// Names that only the caller knows.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// The input topic: the required value of `steward-source-topic`.
    pub topic: String,
    /// The consumer group: the required value of `steward-group`.
    pub group: String,
}

/// What a `read_committed` reader saw after the service had processed the whole input.
#[derive(Debug, Clone, Default)]
pub struct SeenRecords {
    /// The state topic from its beginning, each partition in order. Records that compaction removed may be missing, but
    /// not the newest record of a key, tombstones included.
    pub state: Vec<TopicRecord>,
    /// The DLQ topic from its beginning, each partition in order.
    pub dlq_records: Vec<TopicRecord>,
    /// The group's committed position by input partition. A partition without a committed position is missing.
    pub committed: BTreeMap<i32, i64>,
    /// The log end offset by input partition.
    pub ends: BTreeMap<i32, i64>,
}

/// Returns every difference between the seen records and the model; empty if the contract was kept.
///
/// If the model keeps history ([`Model::keeping_history`]), each record of the state topic is compared with the history
/// of its entity. Otherwise only the newest record of each key is compared, and the source offsets must rise.
pub fn check(model: &Model, expected: &Expectation, seen: &SeenRecords) -> Vec<Difference> {
    let mut differences = state::check(model, expected, &seen.state);
    differences.extend(dlq::check(model, expected, &seen.dlq_records));
    differences.extend(check_positions(model, seen));
    differences
}

fn check_positions(model: &Model, seen: &SeenRecords) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (&partition, &last) in model.last_offsets() {
        let committed = seen.committed.get(&partition);
        if committed.is_none_or(|position| *position <= last) {
            let found = committed.map_or("nothing committed".to_owned(), ToString::to_string);
            let difference = Fault::CommittedBehind.at(partition, format!("at least {}", last + 1), found);
            differences.push(difference.offset(last));
        }
    }
    for (&partition, &committed) in &seen.committed {
        let end = seen.ends.get(&partition).copied().unwrap_or(0);
        if committed > end {
            differences.push(Fault::CommittedBeyond.at(partition, format!("at most {end}"), committed.to_string()));
        }
    }
    differences
}

/// Parses a header's value as decimal digits. Returns `None` if the header is missing or has another form, for example a
/// plus sign or a leading zero.
fn decimal(record: &TopicRecord, name: &str) -> Option<i64> {
    let text = std::str::from_utf8(record.last_header(name)??).ok()?;
    text.parse().ok().filter(|number: &i64| number.to_string() == text)
}
