//! Checks the state topic: the newest record of each entity, and the history before it.

use std::collections::{BTreeMap, BTreeSet};

use crate::testing::reference::check::difference::{Difference, Fault, shown};
use crate::testing::reference::check::{Expectation, decimal};
use crate::testing::reference::{Model, ModelSnapshot, TopicRecord};

/// A record that names its entity and event.
struct Found<'a> {
    record: &'a TopicRecord,
    source_offset: i64,
}

pub(super) fn check(model: &Model, expected: &Expectation, records: &[TopicRecord]) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut entities: BTreeMap<(i32, &[u8]), Vec<Found<'_>>> = BTreeMap::new();
    for record in records {
        match place(record) {
            Ok((key, found)) => entities.entry((record.partition, key)).or_default().push(found),
            Err(difference) => differences.push(difference),
        }
    }
    for (&(partition, key), found) in &entities {
        differences.extend(check_history(model, partition, key, found));
        let newest = found.last().expect("an entry is made with its first record");
        match model.newest_of(partition, key) {
            Some(snapshot) => {
                differences.extend(check_newest(model, expected, snapshot, newest, key));
            }
            None => {
                let value = shown(newest.record.value.as_deref());
                differences.push(Fault::StateUnexpected.at(partition, "no record", value).key(Some(key)));
            }
        }
    }
    let seen: BTreeSet<(i32, &[u8])> = entities.into_keys().collect();
    for ((partition, key), newest) in model.newest() {
        if !seen.contains(&(*partition, key.as_slice())) {
            let missing = Fault::StateMissing.at(*partition, shown(newest.value.as_deref()), "no record");
            differences.push(missing.key(Some(key)).offset(newest.newest_offset));
        }
    }
    differences
}

fn place(record: &TopicRecord) -> Result<(&[u8], Found<'_>), Difference> {
    let partition = decimal(record, "steward-source-partition");
    let source = partition.zip(decimal(record, "steward-source-offset"));
    let Some((key, (source_partition, source_offset))) = record.key.as_deref().zip(source) else {
        let expected = "a key, and decimal digits in steward-source-partition and steward-source-offset";
        let found = format!("{:?} at offset {} of the state topic", record.headers, record.offset);
        return Err(Fault::StateWithoutSource.at(record.partition, expected, found).key(record.key.as_deref()));
    };
    if source_partition != i64::from(record.partition) {
        let expected = format!("partition {source_partition}, the partition of its event");
        let found = format!("partition {}, at offset {}", record.partition, record.offset);
        let difference = Fault::StateOnWrongPartition.at(record.partition, expected, found);
        return Err(difference.key(Some(key)).offset(source_offset));
    }
    Ok((key, Found { record, source_offset }))
}

fn check_newest(
    model: &Model,
    expected: &Expectation,
    snapshot: &ModelSnapshot,
    newest: &Found<'_>,
    key: &[u8],
) -> Vec<Difference> {
    let partition = newest.record.partition;
    let here = |difference: Difference| difference.key(Some(key)).offset(snapshot.newest_offset);
    if newest.record.value != snapshot.value {
        let older = model.history_of(partition, key).unwrap_or_default();
        let older = older.iter().rev().find(|older| older.value == newest.record.value);
        let hint = older.map_or(String::new(), |older| format!(", its state after offset {}", older.newest_offset));
        let found = shown(newest.record.value.as_deref()) + &hint;
        return vec![here(Fault::StateDiffers.at(partition, shown(snapshot.value.as_deref()), found))];
    }
    let offset = snapshot.newest_offset.to_string().into_bytes();
    let headers = [
        ("steward-source-offset", Some(offset.as_slice())),
        ("steward-group", Some(expected.group.as_bytes())),
        ("traceparent", snapshot.traceparent.as_deref()),
        ("tracestate", snapshot.tracestate.as_deref()),
    ];
    let wrong = headers.into_iter().filter_map(|(name, value)| {
        let found = newest.record.last_header(name).flatten();
        let named = |value| format!("{name} {}", shown(value));
        (found != value).then(|| here(Fault::StateHeader.at(partition, named(value), named(found))))
    });
    wrong.collect()
}

/// Checks that each record comes from a later event than the record before it, and has the state after that event.
fn check_history(model: &Model, partition: i32, key: &[u8], found: &[Found<'_>]) -> Vec<Difference> {
    let mut differences = Vec::new();
    for pair in found.windows(2) {
        let (earlier, later) = (pair[0].source_offset, pair[1].source_offset);
        if later <= earlier {
            let rising = format!("an event after offset {earlier}");
            let difference = Fault::HistoryNotRising.at(partition, rising, format!("offset {later}"));
            differences.push(difference.key(Some(key)).offset(later));
        }
    }
    let Some(history) = model.history_of(partition, key) else { return differences };
    for Found { record, source_offset } in found {
        let here = |difference: Difference| difference.key(Some(key)).offset(*source_offset);
        let value = record.value.as_deref();
        match history.binary_search_by_key(source_offset, |snapshot| snapshot.newest_offset).ok().map(|at| &history[at])
        {
            Some(snapshot) if snapshot.value.as_deref() == value => {}
            Some(snapshot) => {
                let expected = shown(snapshot.value.as_deref());
                differences.push(here(Fault::HistoryDiffers.at(partition, expected, shown(value))));
            }
            None => differences.push(here(Fault::HistoryUnknown.at(partition, "an applied event", shown(value)))),
        }
    }
    differences
}
