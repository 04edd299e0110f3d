//! What the process is doing, and since when: one small board that actors and threads keep up to date, and that the
//! watchdog, the heartbeat file and the tests read. Whoever waits can say for what.
//!
//! The board is kept by partition, because a process can be busy as a whole while one partition stands still. What
//! counts as movement is what was finished: a commit, a stretch of a recovery; never that a loop came round.
//!
//! [`Watchdog`] judges what stands on the board. [`CurrentEvent`] shows which event an entity is at.
//!
//! Absent on purpose: a clock. Times are handed in.

mod current_event;

pub use crate::observability::status::current_event::CurrentEvent;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::batches::{Head, OpenWork};
use crate::engine::partition::PartitionState;
use crate::engine::recovery::Topic;
use crate::record::{Batch, Key, Offset, Partition, Position};

/// The board.
#[derive(Debug)]
pub struct Status {
    inner: Mutex<StatusTable>,
}

#[derive(Debug)]
struct StatusTable {
    assigned: Option<Instant>,
    /// What is owned, and what is not owned any more but still in a transaction.
    places: BTreeMap<Partition, PartitionStatus>,
    /// The last movement of any recovery: those that wait for their turn share it.
    recoveries_moved: Instant,
    /// When the thread of ingest actor and committer last came round.
    actors_turned: Instant,
    /// Why the last attempt to commit came to nothing; `None` since one did.
    commit_trouble: Option<String>,
    seats: Vec<Arc<CurrentEvent>>,
}

/// One partition on the board.
#[derive(Debug)]
struct PartitionStatus {
    stage: Option<PartitionState>,
    moved: Instant,
    recovery: RecoveryAt,
    /// How far the farthest attempt at a recovery came, in steps.
    farthest: u64,
    /// What the group has committed, and where the input ends, as far as the brokers told.
    committed: Option<Position>,
    end: Option<Position>,
    /// Batches in the ingest actor's mailbox, each by its first record. Bounded by the batches that may be open.
    offered: VecDeque<Option<(Offset, Option<Key>)>>,
    /// Batches that were handed to entities and are not committed: whoever explains looks records up in them.
    under_way: VecDeque<Arc<Batch>>,
    work: OpenWork,
}

impl PartitionStatus {
    fn new(now: Instant) -> PartitionStatus {
        PartitionStatus {
            stage: None,
            moved: now,
            recovery: RecoveryAt::Queued,
            farthest: 0,
            committed: None,
            end: None,
            offered: VecDeque::new(),
            under_way: VecDeque::new(),
            work: OpenWork::default(),
        }
    }

    fn lag(&self) -> Option<u64> {
        Some(self.end?.distance_from(self.committed?))
    }

    fn is_forgotten(&self) -> bool {
        self.stage.is_none() && self.work.batches == 0 && self.offered.is_empty()
    }
}

/// Where the recovery of a partition stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RecoveryAt {
    /// It waits for its turn.
    #[default]
    Queued,
    /// It asks for committed offsets and the ends of logs.
    Asking,
    /// It reads.
    Reading {
        /// Which topic.
        topic: Topic,
        /// Where the reader stands.
        position: Position,
        /// Where it has to get.
        until: Position,
    },
}

/// A look at the board.
#[derive(Debug, Clone)]
pub struct StatusSnapshot {
    /// How old the present assignment is; `None` before the group was joined.
    pub since_assigned: Option<Duration>,
    /// Partitions that recover.
    pub recovering: usize,
    /// Partitions that serve.
    pub serving: usize,
    /// Partitions that are about to go.
    pub revoking: usize,
    /// Which ones recover.
    pub recovering_partitions: Vec<Partition>,
    /// Which ones serve.
    pub serving_partitions: Vec<Partition>,
    /// Records read and not committed.
    pub open_records: u64,
    /// The oldest of them.
    pub oldest: Option<(Partition, Head)>,
    /// Each partition, in order.
    pub standings: Vec<Standing>,
    /// How long the thread of ingest actor and committer has not come round.
    pub since_actors_turned: Duration,
    /// Why the last attempt to commit came to nothing; `None` since one did.
    pub commit_trouble: Option<String>,
    /// The event that each thread of entities is at; `None` for one that has nothing to do.
    pub seated: Vec<Option<(Partition, Offset)>>,
}

/// How one partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Which one.
    pub partition: Partition,
    /// Its stage; `None` for one that is not owned any more, and whose work is still in a transaction.
    pub stage: Option<PartitionState>,
    /// How long nothing of it was finished. One that waits for its turn to recover shares the others' movement.
    pub since_moved: Duration,
    /// Records in the topic that are not committed, as far as the brokers told.
    pub lag: u64,
    /// What is read and not committed.
    pub work: OpenWork,
    /// Batches that the ingest actor has not taken from its mailbox.
    pub offered: usize,
    /// The first record of the oldest of those.
    pub offered_first: Option<Offset>,
    /// Where its recovery stands, while it recovers.
    pub recovery: RecoveryAt,
}

impl Standing {
    /// Whether something waits to be done, so that no movement is a fault.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.has_read()
            || self.lag > 0
            || matches!(self.stage, Some(PartitionState::Recovering | PartitionState::Revoking))
    }

    /// Whether something of it is read and not committed.
    #[must_use]
    pub fn has_read(&self) -> bool {
        self.work.batches > 0 || self.offered > 0
    }
}

impl StatusSnapshot {
    /// Whether the process is a settled member of the group and all it owns serves.
    #[must_use]
    pub fn is_ready(&self, settle: Duration) -> bool {
        self.since_assigned.is_some_and(|age| age >= settle) && self.recovering == 0 && self.revoking == 0
    }
}

impl Status {
    /// Nothing is owned.
    #[must_use]
    pub fn new(now: Instant) -> Status {
        let board = StatusTable {
            assigned: None,
            places: BTreeMap::new(),
            recoveries_moved: now,
            actors_turned: now,
            commit_trouble: None,
            seats: Vec::new(),
        };
        Status { inner: Mutex::new(board) }
    }

    /// The group has spoken: an assignment, possibly an empty one.
    pub fn assigned(&self, now: Instant) {
        self.board().assigned = Some(now);
    }

    /// The process is no member of the group any more.
    pub fn left(&self) {
        self.board().assigned = None;
    }

    /// A partition is at this stage; `None` for one that is gone. Work of it that is in a transaction stays.
    pub fn stage(&self, partition: Partition, stage: Option<PartitionState>, now: Instant) {
        let mut board = self.board();
        let place = board.places.entry(partition).or_insert_with(|| PartitionStatus::new(now));
        if place.stage == stage {
            return;
        }
        let was = std::mem::replace(&mut place.stage, stage);
        match stage {
            Some(PartitionState::Serving) => {
                place.moved = now;
                board.recoveries_moved = now;
            }
            Some(PartitionState::Revoking) => place.moved = now,
            // What was done under the former ownership, if any, does not count any more.
            Some(PartitionState::Recovering) => {
                let is_in_doubt = place.work.batches > 0;
                // A transaction that hangs does not become younger by an assignment.
                let moved = if is_in_doubt && was.is_none() { place.moved } else { now };
                let (work, offered) = (place.work, std::mem::take(&mut place.offered));
                *place = PartitionStatus { stage, moved, work, offered, ..PartitionStatus::new(now) };
            }
            None => {
                (place.committed, place.end) = (None, None);
                if place.is_forgotten() {
                    board.places.remove(&partition);
                }
            }
        }
    }

    // -------------------------------------------------------------------------------------------------- recovery

    /// A recovery has its turn. Said again for each further attempt, which is no movement.
    pub fn recovery_begins(&self, partition: Partition, now: Instant) {
        let mut board = self.board();
        let Some(place) = board.places.get_mut(&partition) else { return };
        if place.recovery == RecoveryAt::Queued {
            place.moved = now;
        }
        place.recovery = RecoveryAt::Asking;
    }

    /// A recovery stands here after so many steps: records passed and questions answered, within this attempt. It has
    /// moved if no attempt came that far before.
    pub fn recovery_at(&self, partition: Partition, at: RecoveryAt, steps: u64, now: Instant) {
        let mut board = self.board();
        let Some(place) = board.places.get_mut(&partition) else { return };
        place.recovery = at;
        if steps > place.farthest {
            place.farthest = steps;
            place.moved = now;
            board.recoveries_moved = now;
        }
    }

    // -------------------------------------------------------------------------------------------------- records

    /// A batch is about to be put into the ingest actor's mailbox; `first` is its first record, if it has one.
    pub fn offers(&self, partition: Partition, first: Option<(Offset, Option<&[u8]>)>) {
        let first = first.map(|(offset, key)| (offset, key.map(Key::from)));
        if let Some(place) = self.board().places.get_mut(&partition) {
            place.offered.push_back(first);
        }
    }

    /// There was no room in the mailbox for the batch that was offered last.
    pub fn offer_refused(&self, partition: Partition) {
        if let Some(place) = self.board().places.get_mut(&partition) {
            place.offered.pop_back();
        }
    }

    /// The ingest actor is done with the oldest batch that was offered. `batch` is what it handed to entities.
    pub fn routed(&self, partition: Partition, batch: Option<Arc<Batch>>) {
        if let Some(place) = self.board().places.get_mut(&partition) {
            place.offered.pop_front();
            place.under_way.extend(batch);
        }
    }

    /// What is read and not committed, all partitions together.
    pub fn open(&self, mut work: BTreeMap<Partition, OpenWork>, now: Instant) {
        let mut board = self.board();
        for (partition, place) in &mut board.places {
            place.work = work.remove(partition).unwrap_or_default();
            if place.stage.is_none() {
                // Only what is in a transaction is left of it.
                place.under_way.truncate(usize::try_from(place.work.batches).unwrap_or(usize::MAX));
            }
        }
        board.places.extend(
            work.into_iter()
                .map(|(partition, work)| (partition, PartitionStatus { work, ..PartitionStatus::new(now) })),
        );
        board.places.retain(|_, place| !place.is_forgotten());
    }

    /// A transaction took effect that carried this partition up to `position`.
    pub fn committed(&self, partition: Partition, position: Position, now: Instant) {
        let mut board = self.board();
        board.commit_trouble = None;
        let Some(place) = board.places.get_mut(&partition) else { return };
        place.moved = now;
        if place.stage.is_some() {
            place.committed = Some(position);
            let done = place.under_way.iter().take_while(|batch| batch.next() <= position).count();
            place.under_way.drain(..done);
        }
    }

    /// A transaction came to nothing, and is repeated.
    pub fn commit_failed(&self, cause: &str) {
        self.board().commit_trouble = Some(cause.to_owned());
    }

    /// Where a partition's input ends, less what open transactions hold back.
    pub fn end(&self, partition: Partition, end: Position) {
        let mut board = self.board();
        let place = board.places.get_mut(&partition).filter(|place| place.stage.is_some());
        if let Some(place) = place {
            place.end = Some(end);
        }
    }

    // -------------------------------------------------------------------------------------------------- threads

    /// The thread of ingest actor and committer came round.
    pub fn actors_turned(&self, now: Instant) {
        self.board().actors_turned = now;
    }

    /// The current_event of one more thread of entities.
    #[must_use]
    pub fn current_event(&self) -> Arc<CurrentEvent> {
        let current_event = Arc::new(CurrentEvent::default());
        self.board().seats.push(Arc::clone(&current_event));
        current_event
    }

    // -------------------------------------------------------------------------------------------------- looking

    /// The lag of each partition of which both ends are known.
    #[must_use]
    pub fn lags(&self) -> BTreeMap<Partition, u64> {
        let board = self.board();
        board.places.iter().filter_map(|(partition, place)| Some((*partition, place.lag()?))).collect()
    }

    /// The key of a record that is read and not committed; `None` where it has none, or is not such a record.
    #[must_use]
    pub fn key_at(&self, partition: Partition, offset: Offset) -> Option<Key> {
        let board = self.board();
        let place = board.places.get(&partition)?;
        let offered = place.offered.iter().flatten().find(|(first, _)| *first == offset);
        if let Some((_, key)) = offered {
            return key.clone();
        }
        let records = place.under_way.iter().flat_map(|batch| batch.iter());
        records.filter(|record| record.offset == offset).find_map(|record| record.key.map(Key::from))
    }

    /// A look at the board.
    #[must_use]
    pub fn read(&self, now: Instant) -> StatusSnapshot {
        let board = self.board();
        let at = |stage: PartitionState| -> Vec<Partition> {
            let found = board.places.iter().filter(|(_, place)| place.stage == Some(stage));
            found.map(|(partition, _)| *partition).collect()
        };
        let (recovering_partitions, serving_partitions) = (at(PartitionState::Recovering), at(PartitionState::Serving));
        let heads = board.places.iter().filter_map(|(partition, place)| Some((*partition, place.work.head?)));
        let since = |moment: Instant| now.saturating_duration_since(moment);
        StatusSnapshot {
            since_assigned: board.assigned.map(since),
            recovering: recovering_partitions.len(),
            serving: serving_partitions.len(),
            revoking: at(PartitionState::Revoking).len(),
            recovering_partitions,
            serving_partitions,
            open_records: board.places.values().map(|place| place.work.records).sum(),
            oldest: heads.min_by_key(|(_, head)| head.timestamp_ms.unwrap_or(i64::MAX)),
            standings: board.places.iter().map(|(partition, place)| board.standing(*partition, place, now)).collect(),
            since_actors_turned: since(board.actors_turned),
            commit_trouble: board.commit_trouble.clone(),
            seated: board.seats.iter().map(|current_event| current_event.occupant()).collect(),
        }
    }

    fn board(&self) -> MutexGuard<'_, StatusTable> {
        // Every single change leaves the board whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StatusTable {
    fn standing(&self, partition: Partition, place: &PartitionStatus, now: Instant) -> Standing {
        let is_queued = place.stage == Some(PartitionState::Recovering) && place.recovery == RecoveryAt::Queued;
        let moved = if is_queued { place.moved.max(self.recoveries_moved) } else { place.moved };
        Standing {
            partition,
            stage: place.stage,
            since_moved: now.saturating_duration_since(moved),
            lag: place.lag().unwrap_or(0),
            work: place.work,
            offered: place.offered.len(),
            offered_first: place.offered.iter().flatten().map(|(offset, _)| *offset).next(),
            recovery: place.recovery,
        }
    }
}
