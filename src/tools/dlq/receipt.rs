//! What was replayed: one small record for each DLQ record, and the set of them.
//!
//! A mark names the DLQ record by its place, and tells besides which event it was and when it was refused. A mark
//! whose place fits and whose rest does not is of an older topic of the same name, and counts for nothing: a DLQ record
//! topic that was deleted and created again begins with offsets that were there before.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::record::{Offset, Partition};
use crate::tools::dlq::{DlqLocation, DlqRecord};

/// What a mark takes in memory, with the map's own share, in bytes.
const HELD_BYTES: u64 = 96;

/// A DLQ record that was replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayReceipt {
    /// Where the DLQ record stands.
    pub letter: DlqLocation,
    /// The input partition of the event.
    pub source_partition: Partition,
    /// The input offset of the event.
    pub source_offset: Offset,
    /// When it was refused, in milliseconds since 1970; `None` where the DLQ record has no timestamp.
    pub refused_ms: Option<i64>,
}

/// A record in the topic of marks that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no mark of a replay ({0})")]
pub struct NotAReceipt(String);

/// A mark's value. Fields may be added: a reader ignores what it does not know.
#[derive(Serialize, Deserialize)]
struct ReceiptValue {
    source_partition: i32,
    source_offset: i64,
    refused_ms: Option<i64>,
}

impl ReplayReceipt {
    /// The record's key: partition and offset of the DLQ record, `3-4711`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}-{}", self.letter.partition, self.letter.offset)
    }

    /// The record's value, a JSON object.
    #[must_use]
    pub fn value(&self) -> String {
        let value = ReceiptValue {
            source_partition: self.source_partition.0,
            source_offset: self.source_offset.0,
            refused_ms: self.refused_ms,
        };
        serde_json::to_string(&value).expect("three numbers can always be written")
    }
}

fn place(key: &[u8]) -> Option<DlqLocation> {
    let (partition, offset) = std::str::from_utf8(key).ok()?.split_once('-')?;
    let place = DlqLocation { partition: Partition(partition.parse().ok()?), offset: Offset(offset.parse().ok()?) };
    (place.partition.0 >= 0 && place.offset.0 >= 0).then_some(place)
}

/// All that was replayed.
#[derive(Debug, Default)]
pub struct ReplayReceipts(HashMap<DlqLocation, ReplayReceipt>);

impl ReplayReceipts {
    /// Takes a record of the topic of marks; a null value takes the mark back.
    ///
    /// # Errors
    /// It is none. Then it is not known what was replayed: nobody else writes there.
    pub fn take(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), NotAReceipt> {
        let letter = key.and_then(place).ok_or_else(|| NotAReceipt("its key is not PARTITION-OFFSET".to_owned()))?;
        let Some(value) = value else {
            self.0.remove(&letter);
            return Ok(());
        };
        let value: ReceiptValue = serde_json::from_slice(value).map_err(|error| NotAReceipt(error.to_string()))?;
        self.add(ReplayReceipt {
            letter,
            source_partition: Partition(value.source_partition),
            source_offset: Offset(value.source_offset),
            refused_ms: value.refused_ms,
        });
        Ok(())
    }

    /// Remembers one that was just replayed.
    pub fn add(&mut self, mark: ReplayReceipt) {
        self.0.insert(mark.letter, mark);
    }

    /// Whether this very DLQ record was replayed.
    #[must_use]
    pub fn contains(&self, mark: &ReplayReceipt) -> bool {
        self.0.get(&mark.letter) == Some(mark)
    }

    /// Whether this letter was replayed. One that cannot be replayed never was.
    #[must_use]
    pub fn contains_letter(&self, letter: &DlqRecord<'_>) -> bool {
        letter.mark().is_some_and(|mark| self.contains(&mark))
    }

    /// How many marks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was ever replayed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the marks take in memory, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.0.len() as u64 * HELD_BYTES
    }
}
