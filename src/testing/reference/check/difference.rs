//! The kinds of differences between an outcome and the model, and their messages.

use std::fmt;

use crate::testing::reference::ShownBytes;

/// One difference between an outcome and the contract. `Display` gives the place, the expected and the found content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub fault: Fault,
    /// The partition of the input, or of the record if the record is in the wrong partition.
    pub partition: i32,
    /// `None` if the record has no key, or if the difference concerns no key.
    pub key: Option<Vec<u8>>,
    /// The input offset; `None` if the difference concerns no single offset.
    pub offset: Option<i64>,
    pub expected: String,
    pub found: String,
}

/// The kinds of [`Difference`]. Each has a sentence in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    StateMissing,
    StateUnexpected,
    /// An entity's state does not follow from its events: one was lost, applied twice, reordered or misread.
    StateDiffers,
    /// A header of an entity's newest record is missing or has another value.
    StateHeader,
    StateOnWrongPartition,
    /// A state record has no key, or does not name its event in decimal digits.
    StateWithoutSource,
    HistoryNotRising,
    HistoryUnknown,
    HistoryDiffers,
    DlqRecordMissing,
    DlqRecordDoubled,
    /// The DLQ topic holds an event that breaks no rule, or that does not exist.
    DlqRecordUnexpected,
    DlqRecordWithoutSource,
    DlqRecordOnWrongPartition,
    DlqRecordOutOfOrder,
    /// A DLQ record's key is not the event's, byte for byte.
    DlqRecordKey,
    /// A DLQ record's value is not the event's, byte for byte.
    DlqRecordValue,
    DlqRecordOriginalHeaders,
    DlqRecordReason,
    /// `steward-detail` is missing, too long, quotes too much, or lists other violations.
    DlqRecordDetail,
    /// Another header that steward adds is missing, repeated, unknown or wrong.
    DlqRecordHeader,
    CommittedBehind,
    CommittedBeyond,
}

impl Fault {
    fn sentence(self) -> &'static str {
        match self {
            Fault::StateMissing => "the state topic has no record of the entity",
            Fault::StateUnexpected => "the state topic has a record of an entity to which nothing was applied",
            Fault::StateDiffers => "the entity's state does not follow from its events",
            Fault::StateHeader => "a header of the entity's newest record is wrong",
            Fault::StateOnWrongPartition => "a state record is in another partition than its event",
            Fault::StateWithoutSource => "a state record does not name its entity and event",
            Fault::HistoryNotRising => "a state record does not come from a later event than the one before it",
            Fault::HistoryUnknown => "a state record names an event that was not applied to its entity",
            Fault::HistoryDiffers => "a state record differs from its entity's state after the event",
            Fault::DlqRecordMissing => "a rejected event is not in the DLQ topic",
            Fault::DlqRecordDoubled => "an event is in the DLQ topic more than once",
            Fault::DlqRecordUnexpected => "the DLQ topic holds an event that was not to be rejected",
            Fault::DlqRecordWithoutSource => "a DLQ record does not name its event",
            Fault::DlqRecordOnWrongPartition => "a DLQ record is in another partition than its event",
            Fault::DlqRecordOutOfOrder => "DLQ records are not in the order of their events",
            Fault::DlqRecordKey => "a DLQ record's key is not its event's",
            Fault::DlqRecordValue => "a DLQ record's value is not its event's",
            Fault::DlqRecordOriginalHeaders => "a DLQ record does not begin with its event's headers",
            Fault::DlqRecordReason => "a DLQ record names another reason",
            Fault::DlqRecordDetail => "a DLQ record's detail is wrong",
            Fault::DlqRecordHeader => "a header of a DLQ record is wrong",
            Fault::CommittedBehind => "the committed position is not past the last record",
            Fault::CommittedBeyond => "the committed position is past the end of the log",
        }
    }

    /// Makes a difference of this kind, without key and offset.
    pub(super) fn at(self, partition: i32, expected: impl Into<String>, found: impl Into<String>) -> Difference {
        let (expected, found) = (expected.into(), found.into());
        Difference { fault: self, partition, key: None, offset: None, expected, found }
    }
}

impl Difference {
    pub(super) fn key(mut self, key: Option<&[u8]>) -> Difference {
        self.key = key.map(<[u8]>::to_vec);
        self
    }

    pub(super) fn offset(mut self, offset: i64) -> Difference {
        self.offset = Some(offset);
        self
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {}", self.partition)?;
        if let Some(key) = &self.key {
            write!(f, ", key {}", ShownBytes(Some(key)))?;
        }
        if let Some(offset) = self.offset {
            write!(f, ", input offset {offset}")?;
        }
        write!(f, ": {}: expected {}, found {}", self.fault.sentence(), self.expected, self.found)
    }
}

pub(super) fn shown(bytes: Option<&[u8]>) -> String {
    ShownBytes(bytes).to_string()
}
