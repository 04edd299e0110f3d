//! Owns the receipts of replayed DLQ records: one small record for each, and the set of them.
//!
//! A receipt names the DLQ record by its location, and has the event's source and the time of the rejection as well. A
//! receipt whose location matches and whose rest does not is of an older topic of the same name, and is ignored: a DLQ
//! topic that was deleted and created again uses the same offsets again.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::record::{Offset, Partition};
use crate::tools::dlq::location::DlqLocation;

/// Memory of a receipt with its share of the map, in bytes.
const HELD_BYTES: u64 = 96;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayReceipt {
    pub location: DlqLocation,
    pub source_partition: Partition,
    pub source_offset: Offset,
    /// When the event was rejected, in milliseconds since 1970; `None` if the DLQ record has no timestamp.
    pub refused_ms: Option<i64>,
}

/// A record of the receipts topic that is no receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no receipt of a replay ({0})")]
pub struct NotAReceipt(String);

/// The value of the record. Fields may be added: a reader ignores fields that it does not know.
#[derive(Serialize, Deserialize)]
struct ReceiptValue {
    source_partition: i32,
    source_offset: i64,
    refused_ms: Option<i64>,
}

impl ReplayReceipt {
    /// Returns the record's key: partition and offset of the DLQ record, `3-4711`.
    pub fn key(&self) -> String {
        format!("{}-{}", self.location.partition, self.location.offset)
    }

    pub fn value(&self) -> String {
        let value = ReceiptValue {
            source_partition: self.source_partition.0,
            source_offset: self.source_offset.0,
            refused_ms: self.refused_ms,
        };
        serde_json::to_string(&value).expect("three numbers can always be written")
    }
}

fn parse_key(key: &[u8]) -> Option<DlqLocation> {
    let (partition, offset) = std::str::from_utf8(key).ok()?.split_once('-')?;
    let location = DlqLocation { partition: Partition(partition.parse().ok()?), offset: Offset(offset.parse().ok()?) };
    (location.partition.0 >= 0 && location.offset.0 >= 0).then_some(location)
}

#[derive(Debug, Default)]
pub struct ReplayReceipts(HashMap<DlqLocation, ReplayReceipt>);

impl ReplayReceipts {
    /// Takes a record of the receipts topic. A null value removes the receipt.
    ///
    /// # Errors
    /// The record is no receipt. Then it is not known what was replayed.
    pub fn take(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), NotAReceipt> {
        let location =
            key.and_then(parse_key).ok_or_else(|| NotAReceipt("its key is not PARTITION-OFFSET".to_owned()))?;
        let Some(value) = value else {
            self.0.remove(&location);
            return Ok(());
        };
        let value: ReceiptValue = serde_json::from_slice(value).map_err(|error| NotAReceipt(error.to_string()))?;
        self.add(ReplayReceipt {
            location,
            source_partition: Partition(value.source_partition),
            source_offset: Offset(value.source_offset),
            refused_ms: value.refused_ms,
        });
        Ok(())
    }

    pub fn add(&mut self, receipt: ReplayReceipt) {
        self.0.insert(receipt.location, receipt);
    }

    /// Returns whether this very DLQ record was replayed.
    pub fn contains(&self, receipt: &ReplayReceipt) -> bool {
        self.0.get(&receipt.location) == Some(receipt)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Memory in use, in bytes.
    pub fn held_bytes(&self) -> u64 {
        self.0.len() as u64 * HELD_BYTES
    }
}
