//! What the search found in the tail of the DLQ partition.

use rustc_hash::FxHashSet;

use crate::record::{Offset, Position};

pub(super) struct DlqTail {
    /// The start of the DLQ partition's log.
    pub(super) low: Position,
    pub(super) offsets: FxHashSet<Offset>,
    /// D.
    pub(super) newest: Option<Offset>,
    pub(super) oldest: Option<Offset>,
    pub(super) unreadable: Option<UnreadableDlqRecords>,
    pub(super) of_other_groups: Option<OtherGroupsDlqRecords>,
}

/// DLQ records that other groups have written, and the group of one of them.
#[derive(Clone)]
pub(super) struct OtherGroupsDlqRecords {
    pub(super) records: u64,
    pub(super) group: String,
}

/// DLQ records without steward's headers, or of another input.
#[derive(Clone, Copy)]
pub(super) struct UnreadableDlqRecords {
    pub(super) records: u64,
    /// The offset of the newest one in the DLQ partition.
    pub(super) newest: Offset,
}

impl DlqTail {
    /// Nothing is read yet of the log that starts at `low`.
    pub(super) fn from(low: Position) -> DlqTail {
        let (newest, oldest, unreadable, of_other_groups) = (None, None, None, None);
        DlqTail { low, offsets: FxHashSet::default(), newest, oldest, unreadable, of_other_groups }
    }

    /// Returns whether a rejected event without a DLQ record has lost it. If retention has deleted DLQ records, it may
    /// have deleted those of the events before the oldest remaining one.
    pub(super) fn has_lost(&self, offset: Offset) -> bool {
        self.low == Position(0) || self.oldest.is_some_and(|oldest| offset > oldest)
    }
}
