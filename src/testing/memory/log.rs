//! The log of one partition of a topic, with the records of transactions that are open.

use std::collections::BTreeMap;

use crate::engine::recovery::LogBounds;
use crate::record::{Offset, Position};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    pub offset: Offset,
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A record to be appended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryRecord {
    /// Milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

#[derive(Debug)]
struct Entry {
    record: StoredRecord,
    /// The transactional id of the transaction that is open.
    open: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct MemoryLog {
    entries: Vec<Entry>,
    start: i64,
    end: i64,
}

impl MemoryLog {
    pub(super) fn append(&mut self, record: MemoryRecord) -> Offset {
        self.append_to(record, None)
    }

    /// Appends a record of a transaction, which its marker ends.
    pub(super) fn append_open(&mut self, record: MemoryRecord, transactional_id: &str) {
        self.append_to(record, Some(transactional_id.to_owned()));
    }

    fn append_to(&mut self, record: MemoryRecord, open: Option<String>) -> Offset {
        let offset = Offset(self.end);
        let MemoryRecord { timestamp_ms, key, value, headers } = record;
        self.entries.push(Entry { record: StoredRecord { offset, timestamp_ms, key, value, headers }, open });
        self.end += 1;
        offset
    }

    pub(super) fn append_marker(&mut self) {
        self.end += 1;
    }

    /// Writes the marker that ends a transaction, if it has records here.
    pub(super) fn end_transaction(&mut self, transactional_id: &str, is_committed: bool) {
        if !self.has_open(transactional_id) {
            return;
        }
        let is_of = |entry: &Entry| entry.open.as_deref() == Some(transactional_id);
        self.entries.retain(|entry| is_committed || !is_of(entry));
        self.entries.iter_mut().filter(|entry| is_of(entry)).for_each(|entry| entry.open = None);
        self.append_marker();
    }

    pub(super) fn has_open(&self, transactional_id: &str) -> bool {
        self.entries.iter().any(|entry| entry.open.as_deref() == Some(transactional_id))
    }

    pub(super) fn delete_before(&mut self, position: Position) {
        self.start = position.0.clamp(self.start, self.end);
        self.entries.retain(|entry| !entry.record.offset.is_before(position));
    }

    /// Removes what compaction may remove: each record that has a newer one of its key, and the tombstones that
    /// `is_removed` selects.
    pub(super) fn compact(&mut self, is_removed: impl Fn(&StoredRecord) -> bool) {
        let stable = self.last_stable();
        let mut newest: BTreeMap<Option<Vec<u8>>, Offset> = BTreeMap::new();
        newest.extend(self.committed().map(|record| (record.key.clone(), record.offset)));
        self.entries.retain(|Entry { record, .. }| {
            let is_newest = newest.get(&record.key) == Some(&record.offset);
            !record.offset.is_before(stable) || (is_newest && (record.value.is_some() || !is_removed(record)))
        });
    }

    pub(super) fn bounds(&self) -> LogBounds {
        LogBounds { low: Position(self.start), high: Position(self.end) }
    }

    /// The last stable offset: a `read_committed` reader does not read beyond the first open transaction.
    pub(super) fn last_stable(&self) -> Position {
        let first_open = self.entries.iter().find(|entry| entry.open.is_some());
        first_open.map_or(Position(self.end), |entry| Position(entry.record.offset.0))
    }

    /// The records that a `read_committed` reader sees.
    pub(super) fn committed(&self) -> impl Iterator<Item = &StoredRecord> {
        self.entries.iter().take_while(|entry| entry.open.is_none()).map(|entry| &entry.record)
    }
}
