//! What the group commit and the commit thread exchange: the content of a transaction, and the outcomes.

use std::time::Duration;

use crate::engine::dead_owners::FencedBy;
use crate::engine::offset_metadata::NewestState;
use crate::engine::outcome::OutputRecord;
use crate::entity::Reason;
use crate::record::{Epoch, Partition, Position};

/// The range of one partition's input offsets whose outcomes a transaction carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetRange {
    pub partition: Partition,
    pub epoch: Epoch,
    /// The group's committed position before, if any.
    pub start: Option<Position>,
    pub end: Position,
    /// The newest event that the state partition contains after the transaction.
    pub newest_state: Option<NewestState>,
}

/// The content of one transaction. If an attempt did not commit, the same content is sent again, without the epochs that
/// have ended.
#[derive(Debug, Clone, Default)]
pub struct TransactionContent {
    /// Names the transaction within this process; part of the offsets' metadata.
    pub number: u64,
    /// The records, output by output. Those of an output that is coalesced have one record of each key; those of any
    /// other output are in source order within a partition.
    pub records: Vec<OutputRecord>,
    /// One range per partition.
    pub offset_ranges: Vec<OffsetRange>,
}

impl TransactionContent {
    /// Returns whether an event was rejected because its entity does not exist.
    pub fn has_not_found(&self) -> bool {
        let mut rejected = self.records.iter().filter_map(OutputRecord::rejected_event);
        rejected.any(|rejected| rejected.rejection.reason == Reason::NotFound)
    }
}

/// How a transaction ended. Only `Committed`, `Aborted` and `StaleGeneration` are clear outcomes.
#[derive(Debug)]
pub enum CommitOutcome {
    /// It took effect, and every request was sent once. `took` is the time from begin to the response to the commit.
    Committed { took: Duration },
    /// It had no effect; the same content may be sent again. If it timed out, the next transaction should carry less.
    Aborted { cause: String, timed_out: bool },
    /// It had no effect: the group has moved past this member's generation. Once the member has the current one, and if
    /// the epochs are still current, the same content may be sent again.
    StaleGeneration { cause: String },
    /// Nothing was committed: the epochs of these partitions are not current. The transaction was aborted or not begun.
    Stale(Vec<Partition>),
    /// It may have taken effect, or a request of it may still be on its way. The producer must not be used again.
    InDoubt { cause: String },
    /// The broker refused the producer.
    Fenced { cause: String, by: FencedBy },
    /// The broker refuses the content, and would refuse it again.
    Refused {
        cause: String,
        /// `None` if the broker did not name it.
        record: Option<RefusedRecord>,
    },
    /// The producer is unusable, and the process has to end.
    Fatal { cause: String },
}

#[derive(Debug)]
pub enum ResetOutcome {
    /// The new producer is ready and every older one is fenced. Holds the group's committed position of each partition
    /// that was asked for.
    Ready(Vec<(Partition, Option<CommittedOffset>)>),
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
    /// The index in [`TransactionContent::records`].
    pub index: usize,
    /// Whether the record is too large, so that a part of it may be accepted.
    pub too_large: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    pub position: Position,
    /// The instance and the transaction that committed it, see
    /// [`OffsetMetadata`](crate::engine::offset_metadata::OffsetMetadata).
    pub metadata: String,
}
