//! What a transaction carries, and how it can end, as values: what the committer's machine and the thread that talks
//! to the brokers say to each other.

use std::time::Duration;

use crate::engine::outcome::OutputRecord;
use crate::record::{Epoch, Partition, Position};

/// The offset range of one partition's input whose outcomes a transaction carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetRange {
    /// The partition.
    pub partition: Partition,
    /// The ownership under which it was processed.
    pub epoch: Epoch,
    /// What the group had committed before; `None` where it had committed nothing.
    pub start: Option<Position>,
    /// What the transaction commits.
    pub end: Position,
}

/// What one transaction carries. Sent again as it is (less the epochs that ended) when the first try did not commit.
#[derive(Debug, Clone, Default)]
pub struct TransactionContent {
    /// Names the transaction within this process; part of the metadata in the offsets' metadata.
    pub number: u64,
    /// The records, output by output. Those of an output that is coalesced have one record of each key; those of any
    /// other output are in source order within a partition.
    pub records: Vec<OutputRecord>,
    /// The input offsets: one offset range per partition.
    pub offset_ranges: Vec<OffsetRange>,
}

/// How a transaction ended. Only `Committed`, `Aborted` and `StaleGeneration` are clear outcomes.
#[derive(Debug)]
pub enum CommitOutcome {
    /// It took effect, and every request went out once.
    Committed {
        /// From begin to the end's answer.
        took: Duration,
    },
    /// It had no effect; the same content may be sent again.
    Aborted {
        /// For the log.
        cause: String,
        /// Whether time ran out: the next transaction should carry less.
        timed_out: bool,
    },
    /// It had no effect: the group does not know this process as the member that it takes itself for. Once it is one
    /// again, and the epochs are still current, the same content may be sent again.
    StaleGeneration {
        /// For the log.
        cause: String,
    },
    /// Nothing was sent: these partitions' epochs are not current. The transaction was aborted or not begun.
    Stale(Vec<Partition>),
    /// It may have taken effect, or a request of it may still be under way. The producer must not be used again.
    InDoubt {
        /// For the log.
        cause: String,
    },
    /// The broker refused the producer.
    Fenced {
        /// For the log.
        cause: String,
        /// How long the transaction had been open, in comparison with its timeout: an old one was timed out by the
        /// coordinator; a young one was fenced by another process.
        within_timeout: bool,
    },
    /// The broker refuses the content, however often it is sent.
    Refused {
        /// For the log.
        cause: String,
        /// Which record, where the broker told.
        record: Option<RefusedRecord>,
    },
    /// The producer is unusable, and the process has to end.
    Fatal { cause: String },
}

/// How the reset of the producer ended.
#[derive(Debug)]
pub enum ResetOutcome {
    /// The new producer is ready and every older one is fenced. Holds the group's committed position of each partition
    /// that was asked for.
    Ready(Vec<(Partition, Option<Committed>)>),
    /// There is no new producer yet; another attempt may succeed.
    Failed { cause: String },
    /// Another process registered the same transactional id at the same time.
    Fenced { cause: String },
    /// No attempt can succeed, and the process has to end.
    Fatal { cause: String },
}

/// The record of a content that the broker refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRecord {
    /// Its index in the content's records.
    pub index: usize,
    /// Whether the record is too large, so that a part of it may be accepted.
    pub too_large: bool,
}

/// A group's committed position, and the metadata that the transaction left with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The next record to read.
    pub position: Position,
    /// Instance and transaction that committed it: the offset's metadata.
    pub metadata: String,
}

/// The metadata that a transaction leaves in the offsets' metadata, which makes the answer to "did it take effect" exact.
#[derive(Debug, Clone)]
pub struct OffsetMetadata {
    instance: String,
}

impl OffsetMetadata {
    /// `instance` names one run of one process: unique, so that a restarted process never meets its own old metadata.
    #[must_use]
    pub fn new(instance: impl Into<String>) -> OffsetMetadata {
        OffsetMetadata { instance: instance.into() }
    }

    /// The metadata of the transaction with this number.
    #[must_use]
    pub fn of(&self, number: u64) -> String {
        format!("{}/{number}", self.instance)
    }
}
