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
//! Processing starts at `max(C, M+1, D+1)`. Before that, verification reads the input again up to the start position
//! without output. It begins at `min(C, M+1)`, or `look_back_records` before the start, whichever is earlier, and at
//! the log's start if retention has deleted that part. A write that the verification finds and the topics lack was
//! lost, and is published before anything else.
//!
//! C says in its metadata what the state contained. A state that contains less, and that the input cannot complete, is
//! refused (`lost_state`).
//!
//! Each stage is a type that owns what is known so far, and is traded for the next one:
//!
//! ```text
//! Recovery -> Restore -> Restored -> DlqSearch -> PlannedRecovery -> Verification -> Recovered
//!  fetch C    read state             read DLQ     check event M      read input
//!             (restore)              (dlq,        (recreation)       (verification)
//!                                     start_plan,
//!                                     lost_state)
//! ```
//!
//! The stages read nothing themselves: [`driver::recover`] is the loop that fetches what each one needs.
//!
//! Architecture invariant: nothing is published before the whole range is verified; a part of it could resurrect an
//! entity that the rest deletes.

mod dlq;
mod dlq_tail;
pub mod driver;
mod lost_state;
pub mod read_stall;
mod recreation;
mod restore;
mod start_plan;
mod verification;

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::engine::budget::{Budget, Lease};
use crate::engine::commit::transaction::CommittedOffset;
use crate::engine::offset_metadata::{NewestState, PositionFacts};
use crate::engine::outcome::Outcomes;
pub use crate::engine::recovery::lost_state::StateLost;
pub use crate::engine::recovery::start_plan::{CommittedBy, StartPlan, plan};
use crate::engine::topic_watch::TopicIds;
use crate::entity::{Entity, SizeLimits};
use crate::record::{Epoch, Key, Offset, Partition, Position, Record, TopicId};

/// The ends of a partition's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBounds {
    /// The log's start: the first position that retention has left.
    pub low: Position,
    /// The high watermark: after the last record of any transaction, committed or not.
    pub high: Position,
}

/// The memory of a passivated entity besides its key and snapshot: map slot and allocations.
pub const PASSIVATED_OVERHEAD_BYTES: u64 = 112;

#[derive(Debug, Clone)]
pub struct RecoverySettings {
    /// The input topic. DLQ records of another topic are ignored.
    pub topic: String,
    pub state_topic: String,
    pub group: String,
    /// Of the input and the state topic, as they were at the start of the process.
    pub topic_ids: TopicIds,
    /// Whether a tombstone stays in the state topic at least until retention has deleted the events that it covers.
    pub tombstones_outlive_events: bool,
    /// At least this number of offsets before the start is verified.
    pub look_back_records: u64,
    /// A longer range is not verified; 0 trusts the committed position.
    pub verify_max_records: u64,
    pub adopt_group: bool,
    pub stop_on_expired: bool,
    /// The limits that hold when events are processed.
    pub size_limits: SizeLimits,
}

#[derive(Debug, Clone)]
pub struct StoredEntity {
    /// The entity's JSON; `None` if it is known to be absent.
    pub snapshot: Option<Arc<[u8]>>,
    /// The newest event that the snapshot contains.
    pub newest: Offset,
}

/// Why a partition must not be served. Each refusal ends the process; another attempt changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryRefusal {
    #[error(
        "state topic, partition {partition}, offset {offset}: {why}; only steward may write to the state topic: give steward new state and DLQ topics and a new group, and it builds the state again from the input"
    )]
    ForeignState {
        partition: Partition,
        /// In the state topic.
        offset: Offset,
        why: String,
    },
    #[error(
        "state topic, partition {partition}: the snapshots belong to group {found:?}, this is {own:?}; give each group a state topic of its own, or set recovery.adopt_group = true if the other group is gone for good"
    )]
    OtherGroup { partition: Partition, found: String, own: String },
    #[error(
        "input topic {topic}, partition {partition}: {why}; the topic was created again: give steward new state and DLQ topics and a new group"
    )]
    Recreated { topic: String, partition: Partition, why: String },
    /// C was committed for an input topic with another id.
    #[error(
        "input topic {topic} was deleted and created again: its id was {expected} when the position of partition {partition} was committed, and is {found}; give steward new state and DLQ topics and a new group. If it is a copy with the same events at the same offsets, accept it: stop all processes of the group, then {}",
        forget_facts(group, topic, None)
    )]
    OtherInput { topic: String, partition: Partition, expected: TopicId, found: TopicId, group: String },
    #[error(transparent)]
    StateLost(Box<StateLost>),
    #[error(
        "partition {partition} has {partition_bytes} bytes of entities passivated so far and brings all to {held_bytes}, limits.max_state_bytes is {limit_bytes}; raise it, or run at least {pods} times as many pods"
    )]
    StateTooLarge {
        partition: Partition,
        /// Bytes of this partition, as far as it was read.
        partition_bytes: u64,
        /// Bytes of all partitions.
        held_bytes: u64,
        limit_bytes: u64,
        /// How many times as many pods are needed, if the unread rest of the partition is like the part that was read.
        pods: u64,
    },
    #[error(
        "partition {partition}: events {first} up to {until} were deleted by retention before they were read, and recovery.on_expired is \"stop\"; set it to \"continue\" to go on without them"
    )]
    Expired { partition: Partition, first: Position, until: Position },
}

/// What a recovery found, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveryFinding {
    /// There is state, but the group has no committed position: the position after the state counts as one.
    CommittedMissing { position: Position },
    /// The committed position is beyond the log's end: the end counts as committed.
    CommittedBeyondEnd { committed: Position, end: Position },
    /// Events were deleted before steward processed them, from the first missing position to the log's start.
    Expired { first: Position, until: Position },
    /// The range has more than `verify_max_records` offsets, and was not verified.
    NotVerified { from: Position, until: Position },
    /// Verification is off, and the committed position is beyond what the state and the DLQ contain. The range is from
    /// the first position whose event is in neither topic to where processing starts.
    PassedOver { from: Position, until: Position },
    /// The group's position was before events that are contained already: they were skipped.
    Skipped { events: u64 },
    /// There are DLQ records without steward's headers, or of another input. `offset` is that of the newest one.
    UnreadableDlqRecords { records: u64, offset: Offset },
    /// There are DLQ records of other groups, which are ignored. `group` is that of one of them.
    OtherGroupsDlqRecords { records: u64, group: String },
    /// Another group's snapshots were taken over.
    Adopted { group: String },
}

/// Events whose outcomes were lost, and what is published for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repaired {
    pub entities: u64,
    /// Events applied to the entities.
    pub events: u64,
    pub rejections: u64,
    /// The range that was verified.
    pub from: Position,
    pub until: Position,
}

/// A partition that is ready to serve.
#[derive(Debug)]
pub struct Recovered {
    pub partition: Partition,
    pub epoch: Epoch,
    pub entities: FxHashMap<Key, StoredEntity>,
    pub lease: Lease,
    pub committed: Option<Position>,
    pub start: Position,
    /// The newest event that the state contains, without the repairs.
    pub newest_state: Option<NewestState>,
    /// Events at or after `start` that are in the DLQ already.
    pub rejected: FxHashSet<Offset>,
    /// What has to be published first.
    pub repairs: Outcomes,
    /// The repairs in numbers, to be logged once they are published; `None` if nothing was lost.
    pub repaired: Option<Repaired>,
    pub findings: Vec<RecoveryFinding>,
    pub verified: u64,
    /// Replayed events that are contained already.
    pub skipped: u64,
}

impl Recovered {
    /// Takes the repairs, in parts of at most `max_bytes`, each with the position that its transaction commits. There
    /// is at least one part.
    ///
    /// The last part commits the start position, the others the start of the verified range. If the process dies between
    /// two parts, the next recovery verifies the same range again, and finds the rest.
    pub fn take_repairs(&mut self, max_bytes: u64) -> Vec<(Position, Outcomes)> {
        let mut parts = std::mem::take(&mut self.repairs).cut(max_bytes);
        let last = parts.pop().map(|last| (self.start, last));
        let again_from = self.repaired.map_or(self.start, |repaired| repaired.from);
        parts.into_iter().map(|part| (again_from, part)).chain(last).collect()
    }
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
    /// `budget` is the one of all passivated entities.
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

/// C, and what it says.
#[derive(Debug, Clone, Copy)]
struct CommittedPosition {
    position: Position,
    /// `None` if steward has not committed it.
    facts: Option<PositionFacts>,
}

impl CommittedPosition {
    fn by(self) -> CommittedBy {
        if self.facts.is_some() { CommittedBy::Steward } else { CommittedBy::Other }
    }
}

impl From<CommittedOffset> for CommittedPosition {
    fn from(CommittedOffset { position, metadata }: CommittedOffset) -> CommittedPosition {
        CommittedPosition { position, facts: PositionFacts::parse(&metadata) }
    }
}

/// Returns the command that commits the same position without metadata, for one partition or for all.
fn forget_facts(group: &str, input: &str, partition: Option<Partition>) -> String {
    let partition = partition.map_or(String::new(), |partition| format!(":{partition}"));
    format!(
        "kafka-consumer-groups.sh --bootstrap-server <brokers> --group {group} --topic {input}{partition} --reset-offsets --to-current --execute"
    )
}

fn number(record: &Record<'_>, name: &str) -> Option<i64> {
    std::str::from_utf8(record.headers.last(name)?).ok()?.parse().ok()
}

fn snapshot_bytes(passivated: &StoredEntity) -> u64 {
    passivated.snapshot.as_ref().map_or(0, |snapshot| snapshot.len() as u64)
}

/// Returns the memory of a passivated entity, in bytes.
pub fn passivated_bytes(key: &Key, passivated: &StoredEntity) -> u64 {
    key.len() as u64 + snapshot_bytes(passivated) + PASSIVATED_OVERHEAD_BYTES
}
