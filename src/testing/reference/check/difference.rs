//! The sentences in which an outcome's faults are told.

use std::fmt;

use crate::testing::reference::ShownBytes;

/// One way in which an outcome differs from the contract. `Display` is a sentence that names the place, what was
/// expected and what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What is wrong.
    pub fault: Fault,
    /// The partition of the input, or of the record where that is what is wrong.
    pub partition: i32,
    /// The key; `None` where the record has none, or where it is not about one.
    pub key: Option<Vec<u8>>,
    /// The input offset that it is about; `None` where there is no single one.
    pub offset: Option<i64>,
    /// What the contract asks for.
    pub expected: String,
    /// What was seen.
    pub found: String,
}

/// The kinds of [`Difference`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The state topic has no record of an entity.
    StateMissing,
    /// The state topic has a record of an entity to which nothing was ever applied.
    StateUnexpected,
    /// An entity is not what its events make it: one was lost, doubled, swapped or misread.
    StateDiffers,
    /// A header of an entity's newest record is missing or says something else.
    StateHeader,
    /// A state record stands in another partition than the event that it comes from.
    StateOnWrongPartition,
    /// A state record has no key, or does not name its event in decimal digits.
    StateWithoutSource,
    /// Of two records of one key, the later does not come from a later event.
    HistoryNotRising,
    /// A state record names an event that was not applied to its entity.
    HistoryUnknown,
    /// A state record is not what its entity was after the event that it names.
    HistoryDiffers,
    /// A rejected event is not in the DLQ topic.
    DlqRecordMissing,
    /// An event stands in the DLQ topic more than once.
    DlqRecordDoubled,
    /// The DLQ topic holds an event that breaks no rule, or that does not exist.
    DeadLetterUnexpected,
    /// A DLQ record does not name its event in decimal digits.
    DlqRecordWithoutSource,
    /// A DLQ record stands in another partition than its event.
    DlqRecordOnWrongPartition,
    /// Two DLQ records of one partition do not stand in the order of their events.
    DlqRecordOutOfOrder,
    /// A DLQ record's key is not the event's, byte for byte.
    DlqRecordKey,
    /// A DLQ record's value is not the event's, byte for byte.
    DlqRecordValue,
    /// A DLQ record's first headers are not the event's, unchanged.
    DlqRecordOriginalHeaders,
    /// A DLQ record names another reason.
    DlqRecordReason,
    /// `steward-detail` is missing, too long, quotes too much, or lists other violations.
    DlqRecordDetail,
    /// Another of the headers that steward adds is missing, doubled, strange or wrong.
    DlqRecordHeader,
    /// The group has not passed the last record of the input.
    CommittedBehind,
    /// The group stands behind the end of the log.
    CommittedBeyond,
}

impl Fault {
    fn sentence(self) -> &'static str {
        match self {
            Fault::StateMissing => "the state topic has no record of the entity",
            Fault::StateUnexpected => "the state topic has a record of an entity to which nothing was applied",
            Fault::StateDiffers => "the entity is not what its events make it",
            Fault::StateHeader => "a header of the entity's newest record is wrong",
            Fault::StateOnWrongPartition => "a state record stands in another partition than its event",
            Fault::StateWithoutSource => "a state record does not name its entity and event",
            Fault::HistoryNotRising => "a state record does not come from a later event than the one before it",
            Fault::HistoryUnknown => "a state record names an event that was not applied to its entity",
            Fault::HistoryDiffers => "a state record is not what its entity was after the event",
            Fault::DlqRecordMissing => "a rejected event is not in the DLQ topic",
            Fault::DlqRecordDoubled => "an event stands in the DLQ topic more than once",
            Fault::DeadLetterUnexpected => "the DLQ topic holds an event that was not to be rejected",
            Fault::DlqRecordWithoutSource => "a DLQ record does not name its event",
            Fault::DlqRecordOnWrongPartition => "a DLQ record stands in another partition than its event",
            Fault::DlqRecordOutOfOrder => "DLQ records do not stand in the order of their events",
            Fault::DlqRecordKey => "a DLQ record's key is not its event's",
            Fault::DlqRecordValue => "a DLQ record's value is not its event's",
            Fault::DlqRecordOriginalHeaders => "a DLQ record does not begin with its event's headers",
            Fault::DlqRecordReason => "a DLQ record names another reason",
            Fault::DlqRecordDetail => "a DLQ record's detail is wrong",
            Fault::DlqRecordHeader => "a header of a DLQ record is wrong",
            Fault::CommittedBehind => "the group has not passed the last record",
            Fault::CommittedBeyond => "the group stands behind the end of the log",
        }
    }

    /// A difference of this kind, so far without key and offset.
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

/// Bytes as they stand in a sentence.
pub(super) fn shown(bytes: Option<&[u8]>) -> String {
    ShownBytes(bytes).to_string()
}
