//! Owns the status: what each partition is doing, and since when.
//!
//! Actors and threads write it; the watchdog, the heartbeat, `stats` and tests read it as a [`StatusSnapshot`]. The
//! table is by partition, because a process can be busy while one of its partitions is stuck. Only completed work
//! counts as progress, such as a commit or records that a recovery has read. A loop that runs is not progress.
//!
//! The [`Watchdog`](crate::observability::watchdog::Watchdog) decides what is a stall. [`CurrentEvent`] is the event
//! that an entity thread is processing.
//!
//! Architecture invariant: no clock; times are arguments.

mod current_event;

pub use crate::observability::status::current_event::CurrentEvent;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::batches::{Head, OpenWork};
use crate::engine::partition::PartitionState;
use crate::record::{Batch, Key, Offset, Partition, Position, Topic};

/// A response older than this says nothing about the present: the partition is not being fetched, or its broker is
/// silent.
const FRESH_RESPONSE: Duration = Duration::from_secs(5);

/// A delay that a broker announces counts for at most this long.
const LONGEST_DELAY: Duration = Duration::from_secs(120);

/// The status of the process. Shared by all actors and threads.
#[derive(Debug)]
pub struct Status {
    table: Mutex<StatusTable>,
}

#[derive(Debug)]
struct StatusTable {
    assigned_at: Option<Instant>,
    /// The owned partitions, and those that are not owned any more but have work in a transaction.
    partitions: BTreeMap<Partition, PartitionStatus>,
    /// The last progress of any recovery. Recoveries that wait for their turn share it.
    recovery_progress_at: Instant,
    /// When the thread of the ingest actor and the committer last ran.
    actors_ran_at: Instant,
    /// Why the last commit failed; `None` after a successful one.
    commit_error: Option<String>,
    /// When any broker last sent anything to the consumer; `None` if none is known to have.
    brokers_responded_at: Option<Instant>,
    /// One for each entity thread.
    current_events: Vec<Arc<CurrentEvent>>,
}

#[derive(Debug)]
struct PartitionStatus {
    /// `None` if the partition is not owned any more.
    state: Option<PartitionState>,
    progress_at: Instant,
    recovery: RecoveryAt,
    /// The most steps that any attempt at recovery has completed.
    max_recovery_steps: u64,
    /// Committed position, last stable offset and high watermark of the input, as reported by the brokers.
    committed: Option<Position>,
    last_stable: Option<Position>,
    high_watermark: Option<Position>,
    held_back: Option<HeldBackSince>,
    /// When the broker that the partition is fetched from last sent anything, but not before the partition served. Later
    /// than now while the broker delays its responses.
    responded_at: Instant,
    /// The first record of each batch in the ingest actor's mailbox. Bounded by the number of open batches.
    mailbox: VecDeque<Option<(Offset, Option<Key>)>>,
    /// Batches that entities have received and that are not committed. Used to look up keys.
    uncommitted: VecDeque<Arc<Batch>>,
    work: OpenWork,
}

impl PartitionStatus {
    fn new(now: Instant) -> PartitionStatus {
        PartitionStatus {
            state: None,
            progress_at: now,
            recovery: RecoveryAt::Queued,
            max_recovery_steps: 0,
            committed: None,
            last_stable: None,
            high_watermark: None,
            held_back: None,
            responded_at: now,
            mailbox: VecDeque::new(),
            uncommitted: VecDeque::new(),
            work: OpenWork::default(),
        }
    }

    /// Returns the uncommitted records that can be read. Those behind an open transaction cannot.
    fn readable_lag(&self) -> Option<u64> {
        Some(self.last_stable?.distance_from(self.committed?))
    }

    /// Returns the uncommitted records, including those behind an open transaction.
    fn lag(&self) -> Option<u64> {
        let end = self.last_stable?.max(self.high_watermark.unwrap_or(Position(0)));
        Some(end.distance_from(self.committed?))
    }

    fn set_held_back(&mut self, now: Instant) {
        let (Some(last_stable), Some(high_watermark)) = (self.last_stable, self.high_watermark) else { return };
        let is_same = |held: &HeldBackSince| held.last_stable == last_stable;
        let first_seen = self.held_back.filter(is_same).map_or(now, |held| held.first_seen);
        let held = HeldBackSince { last_stable, high_watermark, first_seen, last_seen: now };
        self.held_back = (last_stable < high_watermark).then_some(held);
    }

    fn is_removable(&self) -> bool {
        self.state.is_none() && self.work.batches == 0 && self.mailbox.is_empty()
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RecoveryAt {
    #[default]
    Queued,
    /// Fetching the committed offset and the ends of the logs.
    FetchingOffsets,
    Reading {
        topic: Topic,
        position: Position,
        until: Position,
    },
}

/// A report of the consumer about the log of a partition of the input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InputReport {
    /// Behind the last record that is before all open transactions.
    pub last_stable: Option<Position>,
    /// Behind the last record.
    pub high_watermark: Option<Position>,
    /// Time since the broker that the partition is fetched from sent anything; `None` if that is unknown.
    pub since_response: Option<Duration>,
    /// Whether no broker leads the partition, so that none can respond.
    pub lacks_leader: bool,
    /// For how long a broker delays further responses, because of a quota.
    pub delay: Duration,
}

/// An open transaction of a producer of the input, as of the last response of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HeldBackSince {
    last_stable: Position,
    high_watermark: Position,
    first_seen: Instant,
    last_seen: Instant,
}

/// The records of a partition of the input that an open transaction holds back: its own, and those behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldBack {
    /// The last stable offset: where the transaction begins.
    pub last_stable: Position,
    pub high_watermark: Position,
    /// How long the last stable offset has been this one, below the high watermark.
    pub open_for: Duration,
}

impl From<HeldBackSince> for HeldBack {
    fn from(held: HeldBackSince) -> HeldBack {
        let HeldBackSince { last_stable, high_watermark, first_seen, last_seen } = held;
        HeldBack { last_stable, high_watermark, open_for: last_seen.saturating_duration_since(first_seen) }
    }
}

impl HeldBack {
    pub fn offsets(&self) -> u64 {
        self.high_watermark.distance_from(self.last_stable)
    }
}

#[derive(Debug, Clone)]
pub struct StatusSnapshot {
    /// Age of the last assignment; `None` if the process is no member of the group.
    pub since_assigned: Option<Duration>,
    /// In ascending order.
    pub partitions: Vec<PartitionSnapshot>,
    /// Time since the thread of the ingest actor and the committer last ran.
    pub since_actors_ran: Duration,
    /// Why the last commit failed; `None` after a successful one.
    pub commit_error: Option<String>,
    /// Time since any broker sent anything to the consumer; `None` if none is known to have.
    pub since_any_response: Option<Duration>,
    /// The event that each entity thread is processing; `None` for an idle thread.
    pub current_events: Vec<Option<(Partition, Offset)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionSnapshot {
    pub partition: Partition,
    /// `None` for a partition that is not owned any more, but has work in a transaction.
    pub state: Option<PartitionState>,
    /// Time since the last progress. A recovery that waits for its turn shares the progress of the others.
    pub since_progress: Duration,
    /// Uncommitted records in the input topic that can be read, as far as the brokers have reported.
    pub lag: u64,
    /// What an open transaction of the input holds back; `None` if the partition does not serve.
    pub held_back: Option<HeldBack>,
    /// Time since the broker that the partition is fetched from sent anything, or since the partition serves. Time without
    /// a leader does not count.
    pub since_response: Duration,
    /// Whether that broker has announced that it delays its responses, because of a quota.
    pub is_throttled: bool,
    /// Uncommitted records that were read.
    pub work: OpenWork,
    /// Batches in the ingest actor's mailbox.
    pub mailbox_batches: usize,
    /// The first record of the oldest of them.
    pub mailbox_head: Option<Offset>,
    pub recovery: RecoveryAt,
}

impl PartitionSnapshot {
    /// Returns whether the partition has work, so that a lack of progress is a fault.
    pub fn has_work(&self) -> bool {
        self.has_uncommitted()
            || self.lag > 0
            || matches!(self.state, Some(PartitionState::Recovering | PartitionState::Revoking))
    }

    pub fn has_uncommitted(&self) -> bool {
        self.work.batches > 0 || self.mailbox_batches > 0
    }
}

impl StatusSnapshot {
    /// Returns whether the last assignment is at least `settle` old and every owned partition serves.
    pub fn is_ready(&self, settle: Duration) -> bool {
        self.since_assigned.is_some_and(|age| age >= settle)
            && !self.has(PartitionState::Recovering)
            && !self.has(PartitionState::Revoking)
    }

    pub fn has(&self, state: PartitionState) -> bool {
        self.in_state(state).next().is_some()
    }

    /// Returns the partitions in this state, in ascending order.
    pub fn in_state(&self, state: PartitionState) -> impl Iterator<Item = Partition> {
        self.partitions.iter().filter(move |at| at.state == Some(state)).map(|at| at.partition)
    }

    pub fn open_records(&self) -> u64 {
        self.partitions.iter().map(|at| at.work.records).sum()
    }

    pub fn oldest(&self) -> Option<(Partition, Head)> {
        let heads = self.partitions.iter().filter_map(|at| Some((at.partition, at.work.head?)));
        heads.min_by_key(|(_, head)| head.timestamp_ms.unwrap_or(i64::MAX))
    }
}

impl Status {
    pub fn new(now: Instant) -> Status {
        let table = StatusTable {
            assigned_at: None,
            partitions: BTreeMap::new(),
            recovery_progress_at: now,
            actors_ran_at: now,
            commit_error: None,
            brokers_responded_at: None,
            current_events: Vec::new(),
        };
        Status { table: Mutex::new(table) }
    }

    /// Records an assignment, possibly an empty one.
    pub fn assigned(&self, now: Instant) {
        self.table().assigned_at = Some(now);
    }

    pub fn left_group(&self) {
        self.table().assigned_at = None;
    }

    /// Sets the state of a partition; `None` if it is not owned any more. Its work in a transaction is kept.
    pub fn set_state(&self, partition: Partition, state: Option<PartitionState>, now: Instant) {
        let mut table = self.table();
        let status = table.partitions.entry(partition).or_insert_with(|| PartitionStatus::new(now));
        if status.state == state {
            return;
        }
        let before = std::mem::replace(&mut status.state, state);
        match state {
            Some(PartitionState::Serving) => {
                status.progress_at = now;
                // Until here the partition was not fetched.
                (status.responded_at, status.held_back) = (now, None);
                table.recovery_progress_at = now;
            }
            Some(PartitionState::Revoking) => status.progress_at = now,
            // The work of an earlier ownership, if any, does not count any more.
            Some(PartitionState::Recovering) => {
                // An assignment must not hide a transaction that hangs.
                let keeps_age = status.work.batches > 0 && before.is_none();
                let progress_at = if keeps_age { status.progress_at } else { now };
                let (work, mailbox) = (status.work, std::mem::take(&mut status.mailbox));
                *status = PartitionStatus { state, progress_at, work, mailbox, ..PartitionStatus::new(now) };
            }
            None => {
                (status.committed, status.last_stable, status.high_watermark) = (None, None, None);
                if status.is_removable() {
                    table.partitions.remove(&partition);
                }
            }
        }
    }

    /// Records that an attempt at recovery starts. A further attempt is no progress.
    pub fn recovery_started(&self, partition: Partition, now: Instant) {
        let mut table = self.table();
        let Some(status) = table.partitions.get_mut(&partition) else { return };
        if status.recovery == RecoveryAt::Queued {
            status.progress_at = now;
        }
        status.recovery = RecoveryAt::FetchingOffsets;
    }

    /// Records what an attempt at recovery is doing, and the steps that it has completed: records read and requests
    /// answered. Only more steps than in any earlier attempt are progress.
    pub fn recovery_at(&self, partition: Partition, at: RecoveryAt, steps: u64, now: Instant) {
        let mut table = self.table();
        let Some(status) = table.partitions.get_mut(&partition) else { return };
        status.recovery = at;
        if steps > status.max_recovery_steps {
            status.max_recovery_steps = steps;
            status.progress_at = now;
            table.recovery_progress_at = now;
        }
    }

    /// Records that the brokers responded to a recovery that long ago, without records that it could read. That is
    /// progress: a broker delays the responses to a client above its quota.
    pub fn recovery_responded(&self, partition: Partition, now: Instant, ago: Duration) {
        let mut table = self.table();
        let Some(status) = table.partitions.get_mut(&partition) else { return };
        let responded_at = now.checked_sub(ago).unwrap_or(status.progress_at);
        status.progress_at = status.progress_at.max(responded_at);
        table.recovery_progress_at = table.recovery_progress_at.max(responded_at);
    }

    /// Records that a batch is about to be put into the ingest actor's mailbox; `first` is its first record, if any.
    pub fn batch_offered(&self, partition: Partition, first: Option<(Offset, Option<&[u8]>)>) {
        let first = first.map(|(offset, key)| (offset, key.map(Key::from)));
        if let Some(status) = self.table().partitions.get_mut(&partition) {
            status.mailbox.push_back(first);
        }
    }

    pub fn offer_refused(&self, partition: Partition) {
        if let Some(status) = self.table().partitions.get_mut(&partition) {
            status.mailbox.pop_back();
        }
    }

    /// Records that the ingest actor has handled the oldest batch of its mailbox. `batch` is what entities received of
    /// it.
    pub fn batch_routed(&self, partition: Partition, batch: Option<Arc<Batch>>) {
        if let Some(status) = self.table().partitions.get_mut(&partition) {
            status.mailbox.pop_front();
            status.uncommitted.extend(batch);
        }
    }

    /// Sets the uncommitted records that were read, for all partitions.
    pub fn set_open_work(&self, mut work: BTreeMap<Partition, OpenWork>, now: Instant) {
        let mut table = self.table();
        for (partition, status) in &mut table.partitions {
            status.work = work.remove(partition).unwrap_or_default();
            if status.state.is_none() {
                // Only the batches in a transaction are left.
                status.uncommitted.truncate(usize::try_from(status.work.batches).unwrap_or(usize::MAX));
            }
        }
        let added = |(partition, work)| (partition, PartitionStatus { work, ..PartitionStatus::new(now) });
        table.partitions.extend(work.into_iter().map(added));
        table.partitions.retain(|_, status| !status.is_removable());
    }

    pub fn committed(&self, partition: Partition, position: Position, now: Instant) {
        let mut table = self.table();
        table.commit_error = None;
        let Some(status) = table.partitions.get_mut(&partition) else { return };
        status.progress_at = now;
        if status.state.is_some() {
            status.committed = Some(position);
            let done = status.uncommitted.iter().take_while(|batch| batch.end() <= position).count();
            status.uncommitted.drain(..done);
        }
    }

    pub fn commit_failed(&self, cause: &str) {
        self.table().commit_error = Some(cause.to_owned());
    }

    /// Records what the consumer reports about a partition of the input. The offsets are those of the last response to a
    /// fetch, so they do not change while the partition is paused.
    pub fn set_input_report(&self, partition: Partition, log: InputReport, now: Instant) {
        let mut table = self.table();
        let Some(status) = table.partitions.get_mut(&partition).filter(|status| status.state.is_some()) else { return };
        status.last_stable = log.last_stable.or(status.last_stable);
        status.high_watermark = log.high_watermark.or(status.high_watermark);
        if log.lacks_leader {
            status.responded_at = now;
            return;
        }
        let Some(since_response) = log.since_response else { return };
        let responded_at =
            now.checked_sub(since_response).unwrap_or(status.responded_at) + log.delay.min(LONGEST_DELAY);
        status.responded_at = status.responded_at.max(responded_at);
        // An old response says nothing about now, nor does one from before the partition served.
        if status.state == Some(PartitionState::Serving) && since_response < FRESH_RESPONSE {
            status.set_held_back(now);
        }
    }

    /// Records how long ago any broker sent anything to the consumer.
    pub fn set_since_any_response(&self, since: Option<Duration>, now: Instant) {
        let mut table = self.table();
        let responded_at = since.and_then(|since| now.checked_sub(since));
        table.brokers_responded_at = table.brokers_responded_at.max(responded_at);
    }

    /// Records that the thread of the ingest actor and the committer runs.
    pub fn actors_ran(&self, now: Instant) {
        self.table().actors_ran_at = now;
    }

    /// Registers an entity thread. The thread writes to the value that this returns.
    pub fn add_entity_thread(&self) -> Arc<CurrentEvent> {
        let current_event = Arc::new(CurrentEvent::default());
        self.table().current_events.push(Arc::clone(&current_event));
        current_event
    }

    /// Returns the lag of each partition whose committed position and end are known, including the records behind an
    /// open transaction.
    pub fn lags(&self) -> BTreeMap<Partition, u64> {
        let table = self.table();
        table.partitions.iter().filter_map(|(partition, status)| Some((*partition, status.lag()?))).collect()
    }

    /// Returns the key of an uncommitted record; `None` if the record has none, or is not uncommitted.
    pub fn key_at(&self, partition: Partition, offset: Offset) -> Option<Key> {
        let table = self.table();
        let status = table.partitions.get(&partition)?;
        if let Some((_, key)) = status.mailbox.iter().flatten().find(|(first, _)| *first == offset) {
            return key.clone();
        }
        let records = status.uncommitted.iter().flat_map(|batch| batch.iter());
        records.filter(|record| record.offset == offset).find_map(|record| record.key.map(Key::from))
    }

    pub fn snapshot(&self, now: Instant) -> StatusSnapshot {
        let table = self.table();
        StatusSnapshot {
            since_assigned: table.assigned_at.map(|at| now.saturating_duration_since(at)),
            partitions: table.partitions.iter().map(|(partition, at)| table.partition(*partition, at, now)).collect(),
            since_actors_ran: now.saturating_duration_since(table.actors_ran_at),
            commit_error: table.commit_error.clone(),
            since_any_response: table.brokers_responded_at.map(|at| now.saturating_duration_since(at)),
            current_events: table.current_events.iter().map(|current| current.get()).collect(),
        }
    }

    fn table(&self) -> MutexGuard<'_, StatusTable> {
        // Every change leaves the table consistent, so a panic elsewhere does no harm.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StatusTable {
    fn partition(&self, partition: Partition, status: &PartitionStatus, now: Instant) -> PartitionSnapshot {
        let is_queued = status.state == Some(PartitionState::Recovering) && status.recovery == RecoveryAt::Queued;
        let progress_at =
            if is_queued { status.progress_at.max(self.recovery_progress_at) } else { status.progress_at };
        PartitionSnapshot {
            partition,
            state: status.state,
            since_progress: now.saturating_duration_since(progress_at),
            lag: status.readable_lag().unwrap_or(0),
            held_back: status.held_back.filter(|_| status.state == Some(PartitionState::Serving)).map(HeldBack::from),
            since_response: now.saturating_duration_since(status.responded_at),
            is_throttled: status.responded_at > now,
            work: status.work,
            mailbox_batches: status.mailbox.len(),
            mailbox_head: status.mailbox.iter().flatten().map(|(offset, _)| *offset).next(),
            recovery: status.recovery,
        }
    }
}
