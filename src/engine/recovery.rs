//! Recovery of one partition: what it contains, where processing starts, and what has to be published first.
//!
//! C is the group's committed position, M the newest source offset in the state partition, D the newest one in the DLQ
//! partition. The order of the reads is the safety argument:
//!
//! * a) C is fetched once no transaction is open on it. From then on no earlier owner can commit to the partition.
//! * b) *Then* the high watermark of the state partition is taken, uncommitted records included. The state is read as
//!   committed up to there, so the state that was read is complete.
//! * c) The tail of the DLQ partition is read likewise.
//!
//! Processing starts at `max(C, M+1, D+1)`. Before that, verification replays the input up to the start position without
//! output. It begins at `min(C, M+1)`, or `look_back_records` before the start, whichever is earlier. A write that the
//! replay finds and the topics lack was lost, and is published before anything else.
//!
//! Each stage is a type that owns what is known so far, and is traded for the next one:
//!
//! ```text
//! Recovery -> Restore -> Restored -> DlqSearch -> PlannedRecovery -> Verification -> Recovered
//!             read state             read DLQ     compare M          read input
//! ```
//!
//! The stages read nothing themselves: [`driver::recover`] is the loop that fetches what each one needs.
//!
//! Architecture invariant: nothing is published before the whole range is verified; a part of it could resurrect an entity
//! that the rest deletes.

mod dlq;
pub mod driver;
mod recreation;
mod restore;
mod start_plan;
mod verification;

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::engine::budget::{Budget, Lease};
use crate::engine::outcome::Outcomes;
pub use crate::engine::recovery::start_plan::{StartPlan, plan};
use crate::entity::Entity;
use crate::record::{Epoch, Key, Offset, Partition, Position, Record};

/// The three topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Events.
    Input,
    /// Snapshots.
    State,
    /// Events that were not applied.
    Dlq,
}

/// The ends of a partition's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBounds {
    /// The first offset that is still there.
    pub low: Position,
    /// The high watermark: behind the last record of any transaction, committed or not.
    pub high: Position,
}

/// What an entity passivated costs beside its key and its snapshot: map slot and allocations, in bytes.
pub const PASSIVATED_OVERHEAD_BYTES: u64 = 112;

/// What the operator decided.
#[derive(Debug, Clone)]
pub struct RecoverySettings {
    /// The input topic: DLQ records of another one say nothing about this one's events.
    pub topic: String,
    /// The group whose snapshots these are.
    pub group: String,
    /// At least so many offsets before the start are replayed.
    pub look_back_records: u64,
    /// A longer stretch is not verified; 0 trusts the committed position.
    pub verify_max_records: u64,
    /// Whether another group's snapshots are taken over.
    pub adopt_group: bool,
    /// Whether events that expired unread end the process.
    pub stop_on_expired: bool,
    /// As when events are processed.
    pub max_payload_bytes: u64,
}

/// An entity passivated.
#[derive(Debug, Clone)]
pub struct Passivated {
    /// Its JSON; `None` for one that is known to be absent.
    pub snapshot: Option<Arc<[u8]>>,
    /// The newest event that this contains.
    pub newest: Offset,
}

/// Why a partition must not be served. Each ends the process; trying again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryRefusal {
    /// A record in the state topic that steward did not write.
    #[error(
        "state topic, partition {partition}, offset {offset}: {why}; only steward may write to the state topic: give steward new state and DLQ topics and a new group, and it makes the state anew from the input"
    )]
    ForeignState {
        /// The partition.
        partition: Partition,
        /// Where in the state topic.
        offset: Offset,
        /// What is wrong with it.
        why: String,
    },
    /// Another group owns the state.
    #[error(
        "state topic, partition {partition}: the snapshots belong to group {found:?}, this is {own:?}; give each group a state topic of its own, or set recovery.adopt_group = true if the other group is gone for good"
    )]
    OtherGroup {
        /// The partition.
        partition: Partition,
        /// Whose snapshots stand there.
        found: String,
        /// This process's group.
        own: String,
    },
    /// The input is not the one that the state was made from.
    #[error(
        "input partition {partition}: {why}; the input topic was created anew: give steward new state and DLQ topics and a new group"
    )]
    Recreated {
        /// The partition.
        partition: Partition,
        /// How that shows.
        why: String,
    },
    /// The entities do not fit into the memory that is allowed.
    #[error(
        "partition {partition} has {partition_bytes} bytes of entities passivated so far and brings all to {held_bytes}, limits.max_state_bytes is {limit_bytes}; raise it, or run at least {pods} times as many pods"
    )]
    StateTooLarge {
        /// The partition that was one too many.
        partition: Partition,
        /// What it holds alone as far as it was read, in bytes.
        partition_bytes: u64,
        /// What all hold, in bytes.
        held_bytes: u64,
        /// What is allowed.
        limit_bytes: u64,
        /// How many times the pods it would take, if the rest of the partition is like what was read of it.
        pods: u64,
    },
    /// Events were deleted unread, and `recovery.on_expired` is `stop`.
    #[error(
        "partition {partition}: events {first} up to {until} were deleted by retention before they were read, and recovery.on_expired is \"stop\"; set it to \"continue\" to go on without them"
    )]
    Expired {
        /// The partition.
        partition: Partition,
        /// The first one missing.
        first: Position,
        /// The first one that is there.
        until: Position,
    },
}

/// What recovery noticed, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveryFinding {
    /// There is state, but the group has committed nothing: the position counts as behind the state.
    CommittedMissing {
        /// What it counts as.
        position: Position,
    },
    /// The committed position lies beyond the log's end, which it counts as.
    CommittedBeyondEnd {
        /// What was committed.
        committed: Position,
        /// The log's end.
        end: Position,
    },
    /// Events were deleted unread.
    Expired {
        /// The first one missing.
        first: Position,
        /// The first one that is there.
        until: Position,
    },
    /// The stretch was not replayed.
    NotVerified {
        /// Why.
        cause: NotVerified,
        /// Its first position.
        from: Position,
        /// The position behind it.
        until: Position,
    },
    /// Verification is off, and the committed position stands beyond what state and DLQ records contain.
    PassedOver {
        /// The first position that nothing is known of.
        from: Position,
        /// Where processing goes on.
        until: Position,
    },
    /// The group's position stood before events that are contained already: they were skipped.
    Skipped {
        /// How many.
        events: u64,
    },
    /// DLQ records without the headers that steward writes, or of another input.
    UnreadableDlqRecords {
        /// How many.
        records: u64,
        /// The newest one.
        offset: Offset,
    },
    /// Snapshots of another group were taken over.
    Adopted {
        /// Which group's.
        group: String,
    },
}

/// Events that were never published, and what is published for them now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repaired {
    /// Entities published.
    pub entities: u64,
    /// Events applied to them.
    pub events: u64,
    /// DLQ records published.
    pub rejections: u64,
    /// The first position of the stretch that was replayed.
    pub from: Position,
    /// The position behind it.
    pub until: Position,
}

/// Why a stretch was not replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotVerified {
    /// It has more than `verify_max_records` offsets.
    TooLong,
    /// Retention has deleted its head.
    HeadExpired,
}

/// A partition that is ready to serve.
#[derive(Debug)]
pub struct Recovered {
    /// The partition.
    pub partition: Partition,
    /// The ownership for which it was recovered.
    pub epoch: Epoch,
    /// Its entities passivated.
    pub entities: FxHashMap<Key, Passivated>,
    /// The memory they take.
    pub lease: Lease,
    /// What the group has committed.
    pub committed: Option<Position>,
    /// The first position to process.
    pub start: Position,
    /// Events at or behind `start` that stand in the DLQ records already.
    pub rejected: FxHashSet<Offset>,
    /// What has to be published first.
    pub repairs: Outcomes,
    /// The same in numbers, for the log, once it is published; `None` if nothing was missing.
    pub repaired: Option<Repaired>,
    /// For the log.
    pub findings: Vec<RecoveryFinding>,
    /// Events replayed.
    pub replayed: u64,
    /// Of these: contained already.
    pub skipped: u64,
}

/// What every stage of a recovery needs.
pub struct Recovery<E: Entity> {
    entity: Arc<E>,
    partition: Partition,
    epoch: Epoch,
    settings: RecoverySettings,
    lease: Lease,
}

impl<E: Entity> Recovery<E> {
    /// Creates the recovery of a partition. `budget` is the one of all passivated entities.
    #[must_use]
    pub fn new(
        entity: Arc<E>,
        partition: Partition,
        epoch: Epoch,
        settings: RecoverySettings,
        budget: &Arc<Budget>,
    ) -> Recovery<E> {
        Recovery { entity, partition, epoch, settings, lease: budget.hold(0) }
    }
}

fn number(record: &Record<'_>, name: &str) -> Option<i64> {
    std::str::from_utf8(record.headers.last(name)?).ok()?.parse().ok()
}

fn snapshot_bytes(passivated: &Passivated) -> u64 {
    passivated.snapshot.as_ref().map_or(0, |snapshot| snapshot.len() as u64)
}

/// What an entity passivated takes, in bytes.
#[must_use]
pub fn passivated_bytes(key: &Key, passivated: &Passivated) -> u64 {
    key.len() as u64 + snapshot_bytes(passivated) + PASSIVATED_OVERHEAD_BYTES
}
