//! What a partition contains, where it goes on, and what it has to publish first.
//!
//! The order is the safety argument. First the group's committed position, once no transaction is open on it; *then*
//! the high watermark of the state partition, uncommitted records included; then the state is read as committed until
//! the reader stands there; likewise the tail of the DLQ records. Whoever owned the partition before can commit
//! nothing to it after the first of these answers, so what is read is all there is.
//!
//! Then the verification: M is the newest source offset in the state, D that in the DLQ records, C the committed
//! position. Processing starts at `max(C, M+1, D+1)`; the stretch before it is replayed silently, from `min(C, M+1)`
//! or `look_back_records` back, whichever is earlier. What the replay finds beyond what was read was lost, and is
//! published before anything else.
//!
//! [`Recovery`] says what it needs next, the shell ([`crate::engine::recovery::driver::recover`]) fetches it. One partition, one epoch, one
//! machine.
//!
//! Here is what comes in and goes out, and what is needed when; `state` and `dlq_records` take in what is read, `plan`
//! decides where to start, and `replay` finds what is missing.

mod dlq;
pub mod driver;
mod restore;
mod start_plan;
mod verification;

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::engine::budget::{Budget, Lease};
use crate::engine::commit::transaction::Committed;
use crate::engine::outcome::Outcomes;
use crate::engine::recovery::dlq::DlqTail;
pub use crate::engine::recovery::start_plan::{StartPlan, plan};
use crate::engine::recovery::verification::Verification;
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

/// What is needed next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// [`Recovery::committed`].
    Committed,
    /// [`Recovery::bounds`] of this topic.
    Bounds(Topic),
    /// [`Recovery::record`] for each record of `[from, until)`, then [`Recovery::read`].
    Read {
        /// Which topic.
        topic: Topic,
        /// The first position.
        from: Position,
        /// The position behind the last.
        until: Position,
    },
    /// Nothing: [`Recovery::finish`].
    Nothing,
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

impl NotVerified {
    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            NotVerified::TooLong => "too_long",
            NotVerified::HeadExpired => "head_expired",
        }
    }
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

/// See the module.
pub struct Recovery<E: Entity> {
    entity: Arc<E>,
    partition: Partition,
    epoch: Epoch,
    settings: RecoverySettings,
    stage: RecoveryStage,
    committed: Option<Committed>,
    dlq_low: Position,
    dlq_high: Position,
    input: LogBounds,
    entities: FxHashMap<Key, Passivated>,
    /// The newest event that the state contains, and its key.
    newest: Option<(Offset, Vec<u8>)>,
    lease: Lease,
    held_bytes: u64,
    dlq: DlqTail,
    plan: StartPlan,
    replay: Verification<E>,
    adopted: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecoveryStage {
    Committed,
    Bounds(Topic),
    State { from: Position, until: Position },
    Dlq { from: Position, until: Position },
    RecordAtNewest { seen: bool },
    Replay,
    Done,
}

impl<E: Entity> Recovery<E> {
    /// Nothing is known yet. `budget` is that of all entities passivated.
    #[must_use]
    pub fn new(
        entity: Arc<E>,
        partition: Partition,
        epoch: Epoch,
        settings: RecoverySettings,
        budget: &Arc<Budget>,
    ) -> Recovery<E> {
        let nowhere = LogBounds { low: Position(0), high: Position(0) };
        Recovery {
            entity,
            partition,
            epoch,
            settings,
            stage: RecoveryStage::Committed,
            committed: None,
            dlq_low: Position(0),
            dlq_high: Position(0),
            input: nowhere,
            entities: FxHashMap::default(),
            newest: None,
            lease: budget.hold(0),
            held_bytes: 0,
            dlq: DlqTail::default(),
            plan: StartPlan { start: Position(0), replay: None, findings: Vec::new() },
            replay: Verification {
                touched: FxHashMap::default(),
                rejected: Vec::new(),
                replayed: 0,
                skipped: 0,
                skipped_uncommitted: 0,
                applied: 0,
            },
            adopted: None,
        }
    }

    /// What is needed next.
    #[must_use]
    pub fn need(&self) -> Need {
        match self.stage {
            RecoveryStage::Committed => Need::Committed,
            RecoveryStage::Bounds(topic) => Need::Bounds(topic),
            RecoveryStage::State { from, until } => Need::Read { topic: Topic::State, from, until },
            RecoveryStage::Dlq { from, until } => Need::Read { topic: Topic::Dlq, from, until },
            RecoveryStage::RecordAtNewest { .. } => match &self.newest {
                Some((newest, _)) => Need::Read { topic: Topic::Input, from: Position(newest.0), until: newest.next() },
                None => unreachable!("the record at the newest snapshot is asked for only when there is one"),
            },
            RecoveryStage::Replay => match self.plan.replay {
                Some((from, until)) => Need::Read { topic: Topic::Input, from, until },
                None => unreachable!("the stage is entered only with a stretch"),
            },
            RecoveryStage::Done => Need::Nothing,
        }
    }

    /// What the group has committed.
    pub fn committed(&mut self, committed: Option<Committed>) {
        self.committed = committed;
        self.stage = RecoveryStage::Bounds(Topic::State);
    }

    /// The ends of the log that was asked for.
    ///
    /// # Errors
    /// When the input is shorter than what the state contains.
    pub fn bounds(&mut self, bounds: LogBounds) -> Result<(), RecoveryRefusal> {
        let RecoveryStage::Bounds(topic) = self.stage else {
            unreachable!("bounds were not asked for: {:?}", self.stage)
        };
        match topic {
            Topic::State => self.stage = RecoveryStage::State { from: bounds.low, until: bounds.high },
            Topic::Dlq => {
                (self.dlq_low, self.dlq_high) = (bounds.low, bounds.high);
                self.stage = RecoveryStage::Bounds(Topic::Input);
            }
            Topic::Input => {
                self.input = bounds;
                self.refuse_input_shorter_than("the state contains", self.newest.as_ref().map(|(newest, _)| *newest))?;
                self.stage = self.dlq_window_before(self.dlq_high);
            }
        }
        Ok(())
    }

    /// One record of what is being read.
    ///
    /// # Errors
    /// See [`RecoveryRefusal`].
    pub fn record(&mut self, record: &Record<'_>) -> Result<(), RecoveryRefusal> {
        match self.stage {
            RecoveryStage::State { .. } => self.state_record(record),
            RecoveryStage::Dlq { .. } => {
                self.dlq_record(record);
                Ok(())
            }
            RecoveryStage::RecordAtNewest { .. } => self.record_at_newest(record),
            RecoveryStage::Replay => {
                self.replay_record(record);
                Ok(())
            }
            RecoveryStage::Committed | RecoveryStage::Bounds(_) | RecoveryStage::Done => {
                unreachable!("no record was asked for: {:?}", self.stage)
            }
        }
    }

    /// All that was to be read has been read.
    ///
    /// # Errors
    /// See [`RecoveryRefusal`].
    pub fn read(&mut self) -> Result<(), RecoveryRefusal> {
        self.stage = match self.stage {
            RecoveryStage::State { until, .. } => {
                self.lease.set(self.held_bytes);
                // Nothing is left to be read, so what is held is all there is.
                self.refuse_too_much_state(until)?;
                RecoveryStage::Bounds(Topic::Dlq)
            }
            RecoveryStage::Dlq { from, .. } => self.dlq_window_read(from)?,
            RecoveryStage::RecordAtNewest { seen: true } => self.after_checks(),
            RecoveryStage::RecordAtNewest { seen: false } => {
                return Err(self.recreated("the record that the newest snapshot contains is not there".into()));
            }
            RecoveryStage::Replay => RecoveryStage::Done,
            RecoveryStage::Committed | RecoveryStage::Bounds(_) | RecoveryStage::Done => {
                unreachable!("nothing was read: {:?}", self.stage)
            }
        };
        Ok(())
    }

    /// Hands the partition over.
    ///
    /// # Panics
    /// When something is still needed.
    #[must_use]
    pub fn finish(mut self) -> Recovered {
        assert!(self.stage == RecoveryStage::Done, "recovery still needs something: {:?}", self.stage);
        let repairs = self.repairs();
        let start = self.plan.start;
        // Tombstones matter as long as an event that they contain may still come.
        self.entities.retain(|_, passivated| passivated.snapshot.is_some() || !passivated.newest.is_before(start));
        let held: u64 = self.entities.iter().map(|(key, passivated)| passivated_bytes(key, passivated)).sum();
        self.lease.set(held);
        let rejected = self.dlq.offsets.iter().copied().filter(|offset| !offset.is_before(start)).collect();
        let mut findings = self.plan.findings;
        if let Some(group) = self.adopted {
            findings.push(RecoveryFinding::Adopted { group });
        }
        if self.dlq.unreadable > 0 {
            let (records, offset) = (self.dlq.unreadable, self.dlq.newest_unreadable);
            findings.push(RecoveryFinding::UnreadableDlqRecords { records, offset });
        }
        let committed = self.committed.map(|committed| committed.position);
        let behind = committed.map_or(0, |position| self.plan.start.distance_from(position.max(self.input.low)));
        let skipped = if self.plan.replay.is_some() { self.replay.skipped_uncommitted } else { behind };
        if skipped > 0 {
            findings.push(RecoveryFinding::Skipped { events: skipped });
        }
        let is_whole = repairs.snapshots.is_empty() && repairs.dlq_records.is_empty();
        let repaired = self.plan.replay.filter(|_| !is_whole).map(|(from, until)| Repaired {
            entities: repairs.snapshots.len() as u64,
            events: self.replay.applied,
            rejections: repairs.dlq_records.len() as u64,
            from,
            until,
        });
        Recovered {
            partition: self.partition,
            epoch: self.epoch,
            entities: self.entities,
            lease: self.lease,
            committed,
            start,
            rejected,
            repairs,
            repaired,
            findings,
            replayed: self.replay.replayed,
            skipped: self.replay.skipped,
        }
    }

    fn after_checks(&self) -> RecoveryStage {
        if self.plan.replay.is_some() { RecoveryStage::Replay } else { RecoveryStage::Done }
    }

    fn recreated(&self, why: String) -> RecoveryRefusal {
        RecoveryRefusal::Recreated { partition: self.partition, why }
    }

    fn refuse_input_shorter_than(&self, what: &str, newest: Option<Offset>) -> Result<(), RecoveryRefusal> {
        match newest {
            Some(newest) if newest.next() > self.input.high => {
                let end = self.input.high;
                Err(self.recreated(format!("it ends at {end}, but {what} the event at offset {newest}")))
            }
            Some(_) | None => Ok(()),
        }
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
