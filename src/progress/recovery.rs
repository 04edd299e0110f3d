//! What a partition contains, where it goes on, and what it has to publish first.
//!
//! The order is the safety argument. First the group's committed position, once no transaction is open on it; *then*
//! the high watermark of the state partition, uncommitted records included; then the state is read as committed until
//! the reader stands there; likewise the tail of the dead letters. Whoever owned the partition before can commit
//! nothing to it after the first of these answers, so what is read is all there is.
//!
//! Then the verification: M is the newest source offset in the state, D that in the dead letters, C the committed
//! position. Processing starts at `max(C, M+1, D+1)`; the stretch before it is replayed silently, from `min(C, M+1)`
//! or `look_back_records` back, whichever is earlier. What the replay finds beyond what was read was lost, and is
//! published before anything else.
//!
//! [`Recovery`] says what it needs next, the shell ([`crate::ports::recover`]) fetches it. One partition, one term, one
//! machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::entity::{Entity, judge};
use crate::progress::budget::{Budget, Lease};
use crate::progress::offsets::Outcomes;
use crate::progress::transaction::Committed;
use crate::record::{
    Batch, DeadLetter, Key, Offset, Partition, Position, Record, Snapshot, Term, TraceContext, header,
};

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
pub struct Bounds {
    /// The first offset that is still there.
    pub low: Position,
    /// The high watermark: behind the last record of any transaction, committed or not.
    pub high: Position,
}

/// What an entity at rest costs beside its key and its snapshot: map slot and allocations, in bytes.
pub const RESTING_OVERHEAD_BYTES: u64 = 112;
/// The fewest dead letters that are looked at from the end of their log at once.
const MIN_DLQ_WINDOW: u64 = 1_000;

/// What the operator decided.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The input topic: dead letters of another one say nothing about this one's events.
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

/// An entity at rest.
#[derive(Debug, Clone)]
pub struct Resting {
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
pub enum Refusal {
    /// A record in the state topic that steward did not write.
    #[error(
        "state topic, partition {partition}, offset {offset}: {why}; only steward may write to the state topic: give steward new state and dead letter topics and a new group, and it makes the state anew from the input"
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
        "input partition {partition}: {why}; the input topic was created anew: give steward new state and dead letter topics and a new group"
    )]
    Recreated {
        /// The partition.
        partition: Partition,
        /// How that shows.
        why: String,
    },
    /// The entities do not fit into the memory that is allowed.
    #[error(
        "partition {partition} has {partition_bytes} bytes of entities at rest so far and brings all to {held_bytes}, limits.max_state_bytes is {limit_bytes}; raise it, or run at least {pods} times as many pods"
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
pub enum Finding {
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
    /// Verification is off, and the committed position stands beyond what state and dead letters contain.
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
    /// Dead letters without the headers that steward writes, or of another input.
    UnreadableDeadLetters {
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
pub struct Healed {
    /// Entities published.
    pub entities: u64,
    /// Events applied to them.
    pub events: u64,
    /// Dead letters published.
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
    pub term: Term,
    /// Its entities at rest.
    pub entities: FxHashMap<Key, Resting>,
    /// The memory they take.
    pub lease: Lease,
    /// What the group has committed.
    pub committed: Option<Position>,
    /// The first position to process.
    pub start: Position,
    /// Events at or behind `start` that stand in the dead letters already.
    pub rejected: FxHashSet<Offset>,
    /// What has to be published first.
    pub heals: Outcomes,
    /// The same in numbers, for the log, once it is published; `None` if nothing was missing.
    pub healed: Option<Healed>,
    /// For the log.
    pub findings: Vec<Finding>,
    /// Events replayed.
    pub replayed: u64,
    /// Of these: contained already.
    pub skipped: u64,
}

/// Where to start, and what to replay before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The first position to process.
    pub start: Position,
    /// The stretch to replay silently.
    pub replay: Option<(Position, Position)>,
    /// What was noticed on the way.
    pub findings: Vec<Finding>,
}

/// Decides where a partition starts. `newest_state` is M, `newest_dlq` is D.
#[must_use]
pub fn plan(
    committed: Option<Position>,
    newest_state: Option<Offset>,
    newest_dlq: Option<Offset>,
    input: Bounds,
    settings: &Settings,
) -> Plan {
    let mut findings = Vec::new();
    let behind_state = newest_state.map_or(Position(0), Offset::next);
    let behind_dlq = newest_dlq.map_or(Position(0), Offset::next);
    let mut position = match (committed, newest_state) {
        (Some(position), _) => position,
        (None, None) => input.low,
        (None, Some(_)) => {
            findings.push(Finding::CommittedMissing { position: behind_state });
            behind_state
        }
    };
    if position > input.high {
        findings.push(Finding::CommittedBeyondEnd { committed: position, end: input.high });
        position = input.high;
    }
    let trusts_committed = settings.verify_max_records == 0;
    let contained = behind_state.max(behind_dlq);
    let mut start = if trusts_committed { position } else { position.max(contained) };
    let unknown_from = contained.max(input.low);
    if trusts_committed && position > unknown_from {
        findings.push(Finding::PassedOver { from: unknown_from, until: position });
    }
    if start < input.low {
        findings.push(Finding::Expired { first: start, until: input.low });
        start = input.low;
    }
    let replay =
        if trusts_committed { None } else { stretch(position, behind_state, start, input, settings, &mut findings) };
    Plan { start, replay, findings }
}

fn stretch(
    position: Position,
    behind_state: Position,
    start: Position,
    input: Bounds,
    settings: &Settings,
    findings: &mut Vec<Finding>,
) -> Option<(Position, Position)> {
    if start <= input.low {
        return None;
    }
    let unsure_from = position.min(behind_state);
    let length = start.distance_from(unsure_from);
    let cause = if unsure_from < input.low {
        Some(NotVerified::HeadExpired)
    } else if length > settings.verify_max_records {
        Some(NotVerified::TooLong)
    } else {
        None
    };
    if let Some(cause) = cause {
        findings.push(Finding::NotVerified { cause, from: unsure_from, until: start });
        return None;
    }
    let look_back = settings.look_back_records.min(settings.verify_max_records);
    let from = unsure_from.min(start.back(look_back)).max(input.low);
    (from < start).then_some((from, start))
}

/// See the module.
pub struct Recovery<E: Entity> {
    entity: Arc<E>,
    partition: Partition,
    term: Term,
    settings: Settings,
    stage: Stage,
    committed: Option<Committed>,
    dlq_low: Position,
    dlq_high: Position,
    input: Bounds,
    entities: FxHashMap<Key, Resting>,
    /// The newest event that the state contains, and its key.
    newest: Option<(Offset, Vec<u8>)>,
    lease: Lease,
    held_bytes: u64,
    dlq: DeadLetters,
    plan: Plan,
    replay: Replay<E>,
    adopted: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Committed,
    Bounds(Topic),
    State { from: Position, until: Position },
    Dlq { from: Position, until: Position },
    RecordAtNewest { seen: bool },
    Replay,
    Done,
}

/// What the tail of the dead letters told.
#[derive(Default)]
struct DeadLetters {
    offsets: FxHashSet<Offset>,
    newest: Option<Offset>,
    /// The oldest source offset in the window that is read.
    window_newest: Option<Offset>,
    oldest: Option<Offset>,
    unreadable: u64,
    newest_unreadable: Offset,
}

/// What the silent replay found.
struct Replay<E: Entity> {
    touched: FxHashMap<Key, Touched<E>>,
    rejected: Vec<DeadLetter>,
    replayed: u64,
    skipped: u64,
    /// Of the skipped: those that the group has not committed.
    skipped_uncommitted: u64,
    applied: u64,
}

struct Touched<E: Entity> {
    state: E::State,
    newest: Offset,
    trace: Option<Box<TraceContext>>,
    is_changed: Changed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Changed {
    No,
    Yes,
}

impl<E: Entity> Recovery<E> {
    /// Nothing is known yet. `budget` is that of all entities at rest.
    #[must_use]
    pub fn new(
        entity: Arc<E>,
        partition: Partition,
        term: Term,
        settings: Settings,
        budget: &Arc<Budget>,
    ) -> Recovery<E> {
        let nowhere = Bounds { low: Position(0), high: Position(0) };
        Recovery {
            entity,
            partition,
            term,
            settings,
            stage: Stage::Committed,
            committed: None,
            dlq_low: Position(0),
            dlq_high: Position(0),
            input: nowhere,
            entities: FxHashMap::default(),
            newest: None,
            lease: budget.hold(0),
            held_bytes: 0,
            dlq: DeadLetters { newest_unreadable: Offset(0), ..DeadLetters::default() },
            plan: Plan { start: Position(0), replay: None, findings: Vec::new() },
            replay: Replay {
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
            Stage::Committed => Need::Committed,
            Stage::Bounds(topic) => Need::Bounds(topic),
            Stage::State { from, until } => Need::Read { topic: Topic::State, from, until },
            Stage::Dlq { from, until } => Need::Read { topic: Topic::Dlq, from, until },
            Stage::RecordAtNewest { .. } => match &self.newest {
                Some((newest, _)) => Need::Read { topic: Topic::Input, from: Position(newest.0), until: newest.next() },
                None => unreachable!("the record at the newest snapshot is asked for only when there is one"),
            },
            Stage::Replay => match self.plan.replay {
                Some((from, until)) => Need::Read { topic: Topic::Input, from, until },
                None => unreachable!("the stage is entered only with a stretch"),
            },
            Stage::Done => Need::Nothing,
        }
    }

    /// What the group has committed.
    pub fn committed(&mut self, committed: Option<Committed>) {
        self.committed = committed;
        self.stage = Stage::Bounds(Topic::State);
    }

    /// The ends of the log that was asked for.
    ///
    /// # Errors
    /// When the input is shorter than what the state contains.
    pub fn bounds(&mut self, bounds: Bounds) -> Result<(), Refusal> {
        let Stage::Bounds(topic) = self.stage else { unreachable!("bounds were not asked for: {:?}", self.stage) };
        match topic {
            Topic::State => self.stage = Stage::State { from: bounds.low, until: bounds.high },
            Topic::Dlq => {
                (self.dlq_low, self.dlq_high) = (bounds.low, bounds.high);
                self.stage = Stage::Bounds(Topic::Input);
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
    /// See [`Refusal`].
    pub fn record(&mut self, record: &Record<'_>) -> Result<(), Refusal> {
        match self.stage {
            Stage::State { .. } => self.state_record(record),
            Stage::Dlq { .. } => {
                self.dlq_record(record);
                Ok(())
            }
            Stage::RecordAtNewest { .. } => self.record_at_newest(record),
            Stage::Replay => {
                self.replay_record(record);
                Ok(())
            }
            Stage::Committed | Stage::Bounds(_) | Stage::Done => {
                unreachable!("no record was asked for: {:?}", self.stage)
            }
        }
    }

    /// All that was to be read has been read.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn read(&mut self) -> Result<(), Refusal> {
        self.stage = match self.stage {
            Stage::State { until, .. } => {
                self.lease.set(self.held_bytes);
                // Nothing is left to be read, so what is held is all there is.
                self.refuse_too_much_state(until)?;
                Stage::Bounds(Topic::Dlq)
            }
            Stage::Dlq { from, .. } => self.dlq_window_read(from)?,
            Stage::RecordAtNewest { seen: true } => self.after_checks(),
            Stage::RecordAtNewest { seen: false } => {
                return Err(self.recreated("the record that the newest snapshot contains is not there".into()));
            }
            Stage::Replay => Stage::Done,
            Stage::Committed | Stage::Bounds(_) | Stage::Done => unreachable!("nothing was read: {:?}", self.stage),
        };
        Ok(())
    }

    /// Hands the partition over.
    ///
    /// # Panics
    /// When something is still needed.
    #[must_use]
    pub fn finish(mut self) -> Recovered {
        assert!(self.stage == Stage::Done, "recovery still needs something: {:?}", self.stage);
        let heals = self.heals();
        let start = self.plan.start;
        // Tombstones matter as long as an event that they contain may still come.
        self.entities.retain(|_, resting| resting.snapshot.is_some() || !resting.newest.is_before(start));
        let held: u64 = self.entities.iter().map(|(key, resting)| resting_bytes(key, resting)).sum();
        self.lease.set(held);
        let rejected = self.dlq.offsets.iter().copied().filter(|offset| !offset.is_before(start)).collect();
        let mut findings = self.plan.findings;
        if let Some(group) = self.adopted {
            findings.push(Finding::Adopted { group });
        }
        if self.dlq.unreadable > 0 {
            let (records, offset) = (self.dlq.unreadable, self.dlq.newest_unreadable);
            findings.push(Finding::UnreadableDeadLetters { records, offset });
        }
        let committed = self.committed.map(|committed| committed.position);
        let behind = committed.map_or(0, |position| self.plan.start.distance_from(position.max(self.input.low)));
        let skipped = if self.plan.replay.is_some() { self.replay.skipped_uncommitted } else { behind };
        if skipped > 0 {
            findings.push(Finding::Skipped { events: skipped });
        }
        let is_whole = heals.snapshots.is_empty() && heals.dead_letters.is_empty();
        let healed = self.plan.replay.filter(|_| !is_whole).map(|(from, until)| Healed {
            entities: heals.snapshots.len() as u64,
            events: self.replay.applied,
            rejections: heals.dead_letters.len() as u64,
            from,
            until,
        });
        Recovered {
            partition: self.partition,
            term: self.term,
            entities: self.entities,
            lease: self.lease,
            committed,
            start,
            rejected,
            heals,
            healed,
            findings,
            replayed: self.replay.replayed,
            skipped: self.replay.skipped,
        }
    }

    // -------------------------------------------------------------------------------------------------- the state

    fn state_record(&mut self, record: &Record<'_>) -> Result<(), Refusal> {
        let foreign = |why: String| Refusal::ForeignState { partition: self.partition, offset: record.offset, why };
        let Some(key) = record.key else {
            return Err(foreign("it has no key".into()));
        };
        let Some(newest) = number(record, header::STATE_OFFSET).map(Offset) else {
            return Err(foreign(format!("it lacks the header {}", header::STATE_OFFSET)));
        };
        if number(record, header::STATE_PARTITION) != Some(i64::from(self.partition.0)) {
            return Err(foreign("it is of another input partition".into()));
        }
        let group = record.headers.last(header::STATE_GROUP).unwrap_or_default();
        if group != self.settings.group.as_bytes() {
            let found = String::from_utf8_lossy(group).into_owned();
            if !self.settings.adopt_group {
                let own = self.settings.group.clone();
                return Err(Refusal::OtherGroup { partition: self.partition, found, own });
            }
            self.adopted = Some(found);
        }
        if let Some(value) = record.value {
            self.entity.check(value).map_err(|corrupt| foreign(corrupt.0))?;
        }
        self.keep(key, record.value, newest);
        self.weigh(record.offset)
    }

    fn keep(&mut self, key: &[u8], value: Option<&[u8]>, newest: Offset) {
        let resting = Resting { snapshot: value.map(Arc::from), newest };
        match self.entities.get_mut(key) {
            Some(older) => {
                self.held_bytes = self.held_bytes + snapshot_bytes(&resting) - snapshot_bytes(older);
                *older = resting;
            }
            None => {
                let key: Key = Arc::from(key);
                self.held_bytes += resting_bytes(&key, &resting);
                self.entities.insert(key, resting);
            }
        }
        match &mut self.newest {
            Some((older, of)) if *older < newest => {
                *older = newest;
                of.clear();
                of.extend_from_slice(key);
            }
            Some(_) => {}
            None => self.newest = Some((newest, key.to_vec())),
        }
    }

    /// Charges the budget, not for each record; `at` is the last one that was read.
    fn weigh(&mut self, at: Offset) -> Result<(), Refusal> {
        if self.held_bytes.abs_diff(self.lease.bytes()) > 65_536 {
            self.lease.set(self.held_bytes);
            self.refuse_too_much_state(at.next())?;
        }
        Ok(())
    }

    /// `read_to` is where the reader of the state stands.
    fn refuse_too_much_state(&self, read_to: Position) -> Result<(), Refusal> {
        if self.lease.fits() {
            return Ok(());
        }
        let budget = self.lease.budget();
        let (held_bytes, limit_bytes) = (budget.held_bytes(), budget.limit_bytes());
        let unread_bytes = match self.need() {
            Need::Read { topic: Topic::State, from, until } => {
                let (read, unread) = (read_to.distance_from(from).max(1), until.distance_from(read_to));
                u128::from(self.held_bytes) * u128::from(unread) / u128::from(read)
            }
            Need::Read { topic: Topic::Input | Topic::Dlq, .. } | Need::Committed | Need::Bounds(_) | Need::Nothing => {
                0
            }
        };
        let needed_bytes = u64::try_from(u128::from(held_bytes) + unread_bytes).unwrap_or(u64::MAX);
        Err(Refusal::StateTooLarge {
            partition: self.partition,
            partition_bytes: self.held_bytes,
            held_bytes,
            limit_bytes,
            pods: needed_bytes.div_ceil(limit_bytes.max(1)).max(2),
        })
    }

    // ------------------------------------------------------------------------------------------------- the guards

    fn recreated(&self, why: String) -> Refusal {
        Refusal::Recreated { partition: self.partition, why }
    }

    fn refuse_input_shorter_than(&self, what: &str, newest: Option<Offset>) -> Result<(), Refusal> {
        match newest {
            Some(newest) if newest.next() > self.input.high => {
                let end = self.input.high;
                Err(self.recreated(format!("it ends at {end}, but {what} the event at offset {newest}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn record_at_newest(&mut self, record: &Record<'_>) -> Result<(), Refusal> {
        let Some((newest, key)) = &self.newest else { return Ok(()) };
        let written_at = self.entities.get(&key[..]).and_then(|resting| {
            let state = self.entity.decode(resting.snapshot.as_deref()?).ok()?;
            self.entity.newest_event_ms(&state)
        });
        let is_other_key = record.key != Some(key);
        let is_other_time = written_at.is_some_and(|at| record.timestamp_ms != Some(at));
        if is_other_key || is_other_time {
            let what = if is_other_key { "another key" } else { "another timestamp" };
            return Err(self.recreated(format!(
                "the record at offset {newest} has {what} than the event that the newest snapshot contains"
            )));
        }
        self.stage = Stage::RecordAtNewest { seen: true };
        Ok(())
    }

    // ------------------------------------------------------------------------------------------- the dead letters

    fn dlq_window_before(&self, until: Position) -> Stage {
        let window = self.settings.look_back_records.max(MIN_DLQ_WINDOW);
        Stage::Dlq { from: until.back(window).max(self.dlq_low), until }
    }

    fn dlq_record(&mut self, record: &Record<'_>) {
        let topic = record.headers.last(header::SOURCE_TOPIC);
        let is_ours = topic == Some(self.settings.topic.as_bytes())
            && number(record, header::SOURCE_PARTITION) == Some(i64::from(self.partition.0));
        let dlq = &mut self.dlq;
        let Some(offset) = number(record, header::SOURCE_OFFSET).map(Offset).filter(|_| is_ours) else {
            dlq.unreadable += 1;
            dlq.newest_unreadable = dlq.newest_unreadable.max(record.offset);
            return;
        };
        dlq.offsets.insert(offset);
        dlq.newest = dlq.newest.max(Some(offset));
        dlq.window_newest = dlq.window_newest.max(Some(offset));
        dlq.oldest = Some(dlq.oldest.map_or(offset, |oldest| oldest.min(offset)));
    }

    /// Windows are read from the end backwards until one lies wholly before what will be replayed. Dead letters stand
    /// in the order of their source, except those that a recovery published later: a window is far longer than these.
    fn dlq_window_read(&mut self, from: Position) -> Result<Stage, Refusal> {
        self.refuse_input_shorter_than("the dead letters contain", self.dlq.newest)?;
        let committed = self.committed.as_ref().map(|committed| committed.position);
        let newest = self.newest.as_ref().map(|(newest, _)| *newest);
        self.plan = plan(committed, newest, self.dlq.newest, self.input, &self.settings);
        if let Some(Finding::Expired { first, until }) =
            self.plan.findings.iter().find(|finding| matches!(finding, Finding::Expired { .. }))
            && self.settings.stop_on_expired
        {
            return Err(Refusal::Expired { partition: self.partition, first: *first, until: *until });
        }
        let needed_from = self.plan.replay.map_or(self.plan.start, |(from, _)| from);
        let window_newest = std::mem::take(&mut self.dlq.window_newest);
        let is_enough = window_newest.is_some_and(|newest| newest.is_before(needed_from));
        if from > self.dlq_low && !is_enough {
            return Ok(self.dlq_window_before(from));
        }
        let is_checkable = newest.is_some_and(|newest| !newest.is_before(self.input.low));
        Ok(if is_checkable { Stage::RecordAtNewest { seen: false } } else { self.after_checks() })
    }

    fn after_checks(&self) -> Stage {
        if self.plan.replay.is_some() { Stage::Replay } else { Stage::Done }
    }

    // ------------------------------------------------------------------------------------------------- the replay

    fn replay_record(&mut self, record: &Record<'_>) {
        self.replay.replayed += 1;
        if self.dlq.offsets.contains(&record.offset) {
            return self.skip(record.offset);
        }
        let key = record.key.unwrap_or_default();
        let contained = match self.replay.touched.get(key) {
            Some(touched) => Some(touched.newest),
            None => self.entities.get(key).map(|resting| resting.newest),
        };
        if contained.is_some_and(|newest| record.offset <= newest) {
            return self.skip(record.offset);
        }
        if !self.replay.touched.contains_key(key) {
            let touched = self.touch(key);
            self.replay.touched.insert(Arc::from(key), touched);
        }
        let touched = self.replay.touched.get_mut(key).expect("inserted just above");
        match judge(&*self.entity, &touched.state, record, self.settings.max_payload_bytes) {
            Ok(next) => {
                touched.state = next;
                touched.newest = record.offset;
                touched.trace = TraceContext::of(record.headers);
                touched.is_changed = Changed::Yes;
                self.replay.applied += 1;
            }
            Err(_) if !self.is_missing(record.offset) => {}
            Err(rejection) => {
                let mut batch = Batch::new(self.partition, self.term, Position(record.offset.0));
                batch.push(record.offset, record.timestamp_ms, record.key, record.value, record.headers.iter());
                let letter = DeadLetter { batch: Arc::new(batch), index: 0, rejection, truncated: false };
                self.replay.rejected.push(letter);
            }
        }
    }

    /// Whether a dead letter that was not found was lost. Where retention has cut the dead letters, those before the
    /// oldest that is left may have been there.
    fn is_missing(&self, offset: Offset) -> bool {
        self.dlq_low == Position(0) || self.dlq.oldest.is_some_and(|oldest| offset > oldest)
    }

    fn skip(&mut self, offset: Offset) {
        self.replay.skipped += 1;
        // Where the group has no position, that behind the state counts as it.
        let behind_state = self.newest.as_ref().map_or(Position(0), |(newest, _)| newest.next());
        let position = self.committed.as_ref().map_or(behind_state, |committed| committed.position);
        if !offset.is_before(position) {
            self.replay.skipped_uncommitted += 1;
        }
    }

    fn touch(&self, key: &[u8]) -> Touched<E> {
        let resting = self.entities.get(key);
        let state = match resting.and_then(|resting| resting.snapshot.as_deref()) {
            Some(snapshot) => self.entity.decode(snapshot).expect("decoded once already when it was read"),
            None => self.entity.absent(),
        };
        let newest = resting.map_or(Offset(-1), |resting| resting.newest);
        Touched { state, newest, trace: None, is_changed: Changed::No }
    }

    /// What differs from what was read, and the dead letters that are missing; the entities take the healed state.
    fn heals(&mut self) -> Outcomes {
        let mut heals = Outcomes::default();
        let changed = std::mem::take(&mut self.replay.touched);
        let mut changed: BTreeMap<Offset, (Key, Touched<E>)> = changed
            .into_iter()
            .filter(|(_, touched)| touched.is_changed == Changed::Yes)
            .map(|(key, touched)| (touched.newest, (key, touched)))
            .collect();
        while let Some((newest, (key, touched))) = changed.pop_first() {
            let value: Option<Arc<[u8]>> = self.entity.encode(&touched.state).map(Arc::from);
            let was = self.entities.get(&key).and_then(|resting| resting.snapshot.clone());
            if value != was {
                heals.snapshots.push(Snapshot {
                    partition: self.partition,
                    key: Arc::clone(&key),
                    value: value.clone(),
                    newest,
                    trace: touched.trace,
                });
                self.entities.insert(key, Resting { snapshot: value, newest });
            }
        }
        heals.dead_letters = std::mem::take(&mut self.replay.rejected);
        heals.applied = 0;
        heals
    }
}

fn number(record: &Record<'_>, name: &str) -> Option<i64> {
    std::str::from_utf8(record.headers.last(name)?).ok()?.parse().ok()
}

fn snapshot_bytes(resting: &Resting) -> u64 {
    resting.snapshot.as_ref().map_or(0, |snapshot| snapshot.len() as u64)
}

/// What an entity at rest takes, in bytes.
#[must_use]
pub fn resting_bytes(key: &Key, resting: &Resting) -> u64 {
    key.len() as u64 + snapshot_bytes(resting) + RESTING_OVERHEAD_BYTES
}
