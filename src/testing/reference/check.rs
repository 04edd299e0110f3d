//! Compares what a `read_committed` reader saw with what the [`Model`] says, and names every difference.
//!
//! Nothing is sampled and nothing is excused: each entity, each record of the state topic, each DLQ record and each
//! committed offset is looked at. The headers' names are spelled out here a second time, so that a slip in the shared
//! list is found too.

mod difference;
mod dlq;
mod state;

use std::collections::BTreeMap;

pub use crate::testing::reference::check::difference::{Difference, Fault};

use crate::testing::reference::{Model, TopicRecord};

/// What only the caller knows about the run.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// The input topic's name, as `steward-source-topic` must say it.
    pub topic: String,
    /// The consumer group's name, as `steward-group` must say it.
    pub group: String,
}

/// What a `read_committed` reader saw after the input was worked off.
#[derive(Debug, Clone, Default)]
pub struct SeenRecords {
    /// The state topic, from its beginning, in the order of each partition. What compaction took away may be missing;
    /// the newest record of each key, tombstones included, may not.
    pub state: Vec<TopicRecord>,
    /// The DLQ topic, from its beginning, in the order of each partition.
    pub dlq_records: Vec<TopicRecord>,
    /// The group's committed position by partition of the input; missing where nothing was committed.
    pub committed: BTreeMap<i32, i64>,
    /// The end of the log by partition of the input.
    pub ends: BTreeMap<i32, i64>,
}

/// Every difference between what was seen and what the model says; empty where the contract was kept.
///
/// Each record of the state topic is compared with the history of its entity where the model keeps it
/// ([`Model::keeping_history`]); else only the newest of each key, and that the source offsets rise.
#[must_use]
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

/// A header's value as decimal digits; `None` where it is missing or anything else, a sign or a leading zero included.
fn decimal(record: &TopicRecord, name: &str) -> Option<i64> {
    let text = std::str::from_utf8(record.last_header(name)??).ok()?;
    text.parse().ok().filter(|number: &i64| number.to_string() == text)
}
