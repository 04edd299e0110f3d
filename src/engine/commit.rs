//! Group commit: decides when a transaction is due, what it carries, and what its end means.
//!
//! A batch is committed when all of its records have an outcome and every earlier batch of the partition is committed or
//! in the same transaction. Complete batches wait for the transaction in flight to end, and then for a short linger. The
//! next transaction takes all that waits, up to a limit in bytes; of an output that is coalesced by key it carries only
//! the newest record of each key. A transaction begins only when its content is ready.
//!
//! Three facts hold; assertions check a) and c):
//!
//! * a) at most one transaction is in flight, and none while the producer is reset;
//! * b) a batch is committed once: it leaves its queue for the transaction in flight, and leaves that only when the end is
//!   clear;
//! * c) only queues of the current epoch are sent. A queue ends with its epoch, and so does its part of the transaction in
//!   flight.
//!
//! An abort is not a rollback: the same content is sent again, except for the queues that have ended. After an end that
//! is in doubt, a new producer fences every request that may still be on its way. Then the group's committed positions
//! and their metadata show whether the transaction took effect.
//!
//! A batch is never split, and a transaction that timed out twice because of one batch would time out again. Its
//! partition recovers under a new epoch: the records are read again, in batches of the present limit.
//!
//! This file has the inputs, the commands, the state, and the decision when to send. `limit` bounds what a transaction
//! carries, `content` chooses it, and `transaction_end` handles its end.

mod content;
pub mod limit;
pub mod transaction;
mod transaction_end;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::batches::{BatchId, CompleteBatch, Head, OpenBatch, OpenBatches, OpenWork, OrderBroken};
use crate::engine::commit::limit::TransactionLimit;
use crate::engine::commit::transaction::{CommitOutcome, OffsetRange, ResetOutcome, TransactionContent};
use crate::engine::dead_owners::FencedBy;
use crate::engine::offset_metadata::{NewestState, OffsetMetadata};
use crate::engine::outcome::{Degradation, Outcomes, PerOutput, RecordId};
use crate::engine::planted::{Planted, planted};
use crate::record::{Epoch, Offset, Partition, Position};

/// Attempts with content that the broker refuses, before the process ends.
pub const REFUSALS_ALLOWED: u32 = 3;
/// Producers that are fenced within a minute before the process ends: by the coordinator's timeout, or without a process
/// that is known to have done it.
pub const FENCINGS_PER_MINUTE: usize = 3;
/// Stale generations in a row before a process that stops drops its work. While a rebalance ends, the next generation is
/// known within milliseconds; the waits before the last attempt add up to 750 ms.
pub const STALE_GENERATIONS_ALLOWED: u32 = 5;
/// Attempts that time out with a batch above the limit, before its records are read again in smaller batches.
pub const TIMEOUTS_OF_A_LARGE_BATCH: u32 = 2;
/// The wait before content is sent again the first time; it doubles up to [`MAX_RETRY_WAIT`].
const MIN_RETRY_WAIT: Duration = Duration::from_millis(50);
const MAX_RETRY_WAIT: Duration = Duration::from_secs(2);
/// The time that passes between two transactions without a linger.
pub const GAP_WITHOUT_LINGER: Duration = Duration::from_millis(1);
/// With a longer linger, a transaction that begins too early and is refused costs little more.
pub const MAX_LINGER: Duration = Duration::from_millis(5);
const MINUTE: Duration = Duration::from_secs(60);

/// Names a revocation that waits until its partitions are drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevocationId(pub u64);

#[derive(Debug)]
pub enum CommitInput {
    /// A partition has recovered: its queue begins.
    Recovered {
        partition: Partition,
        epoch: Epoch,
        /// The group's committed position.
        committed: Option<Position>,
        /// The first position to process.
        start: Position,
        /// The newest event that the state contains, before the repairs.
        newest_state: Option<NewestState>,
        /// What recovery publishes, in batches without records. There is at least one, so that the first transaction
        /// commits a position. That of the last is `start`; see `Recovered::repair_batches`.
        repairs: Vec<CompleteBatch>,
    },
    /// A batch was read and handed to its entities.
    Opened(OpenBatch),
    /// All records of a batch have an outcome.
    Completed { partition: Partition, epoch: Epoch, id: BatchId, outcomes: Outcomes },
    /// The transaction in flight has ended.
    TransactionEnded(CommitOutcome),
    /// The reset of the producer has ended.
    ProducerReset(ResetOutcome),
    /// The group is taking these partitions away. The `id` is returned in [`CommitCommand::Drained`].
    Revoking { id: RevocationId, partitions: Vec<(Partition, Epoch)> },
    /// These partitions are revoked or lost.
    OwnershipEnded(Vec<(Partition, Epoch)>),
    /// The process stops: it reads nothing more, and commits what is complete as long as the group permits it.
    Stopping,
    /// Time has passed.
    Tick,
}

/// What the caller has to do.
#[derive(Debug)]
pub enum CommitCommand {
    /// Send this in one transaction.
    Commit(Arc<TransactionContent>),
    /// Build a new producer, then fetch the committed offsets of these partitions.
    ResetProducer(Vec<Partition>),
    Committed(CommitReceipt),
    /// The revocation has nothing left to commit.
    Drained(RevocationId),
    /// Recover the partition under a new epoch.
    Invalidate(Partition, Epoch, InvalidationCause),
    /// Work of an ended epoch was dropped.
    Dropped {
        partition: Partition,
        records: u64,
    },
    Stop(StopReason),
    Log(CommitNotice),
}

#[derive(Debug)]
pub struct CommitReceipt {
    pub number: u64,
    /// From begin to the clear outcome.
    pub took: Duration,
    pub offset_ranges: Vec<OffsetRange>,
    pub batches: Vec<CompleteBatch>,
    pub records: PerOutput<usize>,
}

/// What to log. Attempts count from 1; `took` is the time since the content was first sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitNotice {
    /// The transaction had no effect and is sent again.
    Aborted { number: u64, cause: String, attempt: u32 },
    /// It is not known yet whether the transaction took effect.
    InDoubt { number: u64, cause: String, took: Duration },
    /// The new producer is ready, and the committed positions were compared.
    ProducerReset {
        /// The number of the transaction in doubt, if there was one.
        number: Option<u64>,
        verdict: DoubtVerdict,
        took: Duration,
    },
    /// There is no new producer yet; another attempt follows.
    ProducerResetFailed { cause: String, attempt: u32 },
    /// The coordinator timed the transaction out.
    TimedOut { number: u64, cause: String },
    /// The recovery of another process ended the transaction, because this process was no member of the group.
    TakenForDead { number: u64, cause: String },
    /// The broker refuses the content; another attempt follows. The record is named if the broker named it.
    Refused { cause: String, partition: Option<Partition>, offset: Option<Offset>, attempt: u32 },
    /// A record that is too large is sent without a part of it.
    Degraded {
        degradation: Degradation,
        partition: Partition,
        /// The newest source offset of the record.
        offset: Offset,
        /// The length of what is left out.
        bytes: u64,
    },
    /// The process stops, the group refuses the remaining work, and it was dropped.
    CutShort {
        cause: String,
        /// Refusals in a row.
        attempts: u32,
        records: u64,
    },
}

/// Why a partition has to recover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidationCause {
    /// It is unknown what was committed under its epoch.
    UnknownCommit,
    /// A batch timed out, and is read again in smaller ones.
    BatchTooLarge,
}

/// What the committed positions show about a transaction in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoubtVerdict {
    NothingInDoubt,
    Committed,
    /// It had no effect and is sent again.
    NotCommitted,
    /// The positions show neither: the partitions recover again.
    Unknown,
    /// All its partitions were lost in the meantime: their next owners start from what is committed.
    Lost,
}

/// Why the process has to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// Another process uses the same transactional id.
    DuplicateInstance(String),
    /// The broker refuses the content in every attempt. Holds partition and source offset of the record, if it is named.
    Refused {
        cause: String,
        record: Option<(Partition, Offset)>,
    },
    /// The coordinator times out transaction after transaction.
    TimedOutTooOften(String),
    ProducerFatal(String),
    OrderBroken(OrderBroken),
}

#[derive(Debug, Clone)]
pub struct GroupCommitSettings {
    /// Bytes in one transaction before coalescing, at most; one batch always fits.
    pub max_transaction_bytes: u64,
    /// Time after which the coordinator ends a transaction.
    pub transaction_timeout: Duration,
    /// The shortest time from the begin of a transaction to the begin of the next one. It is cut short if as much waits
    /// as a transaction may carry, so that it does not limit the throughput.
    pub min_interval: Duration,
    /// Names the transactions of this process in the offsets' metadata.
    pub offset_metadata: OffsetMetadata,
    /// A larger DLQ record is cut before it is sent, because the client's queue would never take it.
    pub max_dlq_record_bytes: u64,
    /// The wait after a commit for each of its partitions, less [`GAP_WITHOUT_LINGER`] and at most [`MAX_LINGER`].
    /// Batches that complete in the meantime go into the next transaction.
    pub linger_per_partition: Duration,
}

#[derive(Debug)]
struct PartitionQueue {
    epoch: Epoch,
    committed: Option<Position>,
    /// The newest event that the state contains, as far as it is committed.
    newest_state: Option<NewestState>,
    open: OpenBatches,
    /// The partition is revoking: only what was complete by then is still sent.
    is_revoking: bool,
}

/// What the transaction in flight carries of one queue.
#[derive(Debug)]
struct InFlightPart {
    partition: Partition,
    epoch: Epoch,
    start: Option<Position>,
    end: Position,
    /// What the state contained before.
    newest_state: Option<NewestState>,
    complete: Vec<CompleteBatch>,
}

/// The transaction in flight. It stays in flight until its end is clear, through all attempts.
#[derive(Debug, Default)]
struct InFlight {
    parts: Vec<InFlightPart>,
    /// Bytes of the batches in it.
    bytes: u64,
    content: Arc<TransactionContent>,
    first_sent_at: Option<Instant>,
    /// When the last attempt began.
    sent_at: Option<Instant>,
    aborts: u32,
    /// How many of the aborts were timeouts.
    timeouts: u32,
    refusals: u32,
    /// How often it was in doubt and turned out not to be committed.
    doubts: u32,
    stale_generations: u32,
}

impl InFlight {
    fn age(&self, now: Instant) -> Duration {
        self.first_sent_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }
}

/// How long the next transaction waits.
#[derive(Debug, Clone, Copy)]
struct Linger {
    /// The broker writes the markers of the last transaction.
    markers_until: Instant,
    /// The minimum interval has passed; at least `markers_until`.
    interval_until: Instant,
}

#[derive(Debug)]
enum ProducerState {
    Idle,
    /// After a commit: the next transaction does not begin before this time.
    Lingering(Linger),
    Sending(InFlight),
    /// The transaction ended clearly without effect, and is sent again at this time.
    RetryWaiting(InFlight, Instant),
    /// The producer is being reset. A transaction in flight is in doubt.
    Resetting(Option<InFlight>),
    /// The reset failed, and is tried again at this time.
    ResetWaiting(Option<InFlight>, Instant),
    /// The process ends: nothing is sent any more.
    Stopped,
}

#[derive(Debug)]
pub struct GroupCommit {
    settings: GroupCommitSettings,
    queues: BTreeMap<Partition, PartitionQueue>,
    producer: ProducerState,
    revocations: BTreeMap<RevocationId, Vec<(Partition, Epoch)>>,
    next_number: u64,
    limit: TransactionLimit,
    resets_failed: u32,
    fenced_at: VecDeque<(Instant, FencedBy)>,
    /// Records that are too large, until they are committed or their epoch ends.
    degraded: HashMap<RecordId, Degradation>,
    is_stopping: bool,
    /// The next transaction begins with the partition after this one, so that none starves.
    last_served: Option<Partition>,
}

impl GroupCommit {
    /// Returns the machine and its first command, which builds the first producer.
    pub fn new(settings: GroupCommitSettings) -> (GroupCommit, CommitCommand) {
        let limit = TransactionLimit::new(settings.max_transaction_bytes, settings.transaction_timeout);
        let machine = GroupCommit {
            settings,
            queues: BTreeMap::new(),
            producer: ProducerState::Resetting(None),
            revocations: BTreeMap::new(),
            next_number: 1,
            limit,
            resets_failed: 0,
            fenced_at: VecDeque::new(),
            degraded: HashMap::new(),
            is_stopping: false,
            last_served: None,
        };
        (machine, CommitCommand::ResetProducer(Vec::new()))
    }

    /// Handles an input, and returns the commands that follow from it.
    pub fn handle(&mut self, input: CommitInput, now: Instant) -> Vec<CommitCommand> {
        let mut commands = Vec::new();
        if matches!(self.producer, ProducerState::Stopped) {
            // Nothing is sent any more, so a revocation has nothing to wait for and the process can leave the group.
            if let CommitInput::Revoking { id, .. } = input {
                commands.push(CommitCommand::Drained(id));
            }
            return commands;
        }
        match input {
            CommitInput::Recovered { partition, epoch, committed, start, newest_state, repairs } => {
                let open = OpenBatches::starting_with(start, repairs);
                let queue = PartitionQueue { epoch, committed, newest_state, open, is_revoking: false };
                self.begin_queue(partition, queue, &mut commands);
            }
            CommitInput::Opened(open) => self.open(open, &mut commands),
            CommitInput::Completed { partition, epoch, id, outcomes } => self.complete(partition, epoch, id, outcomes),
            CommitInput::TransactionEnded(outcome) => self.transaction_ended(outcome, now, &mut commands),
            CommitInput::ProducerReset(outcome) => self.producer_reset(outcome, now, &mut commands),
            CommitInput::Revoking { id, partitions } => {
                self.revoke(id, partitions, &mut commands);
                self.end_wait(now);
            }
            CommitInput::OwnershipEnded(partitions) => self.end_ownership(&partitions, &mut commands),
            CommitInput::Stopping => self.is_stopping = true,
            CommitInput::Tick => {}
        }
        self.advance(now, &mut commands);
        self.settle_revocations(&mut commands);
        commands
    }

    /// Returns what bounds the next transaction, and what is read for it.
    pub fn limit(&self) -> &TransactionLimit {
        &self.limit
    }

    /// Returns when [`CommitInput::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        use ProducerState::{Idle, Lingering, ResetWaiting, Resetting, RetryWaiting, Sending, Stopped};
        match &self.producer {
            Lingering(linger) => Some(self.linger_ends_at(*linger)),
            RetryWaiting(..) if planted(Planted::RetryHasNoDeadline) => None,
            RetryWaiting(_, at) | ResetWaiting(_, at) => Some(*at),
            Idle | Sending(_) | Resetting(_) | Stopped => None,
        }
    }

    /// Returns the work that no transaction has committed yet, by partition. Work in a transaction stays there until the
    /// transaction has ended, even if the partition is no longer owned.
    pub fn open_work(&self) -> BTreeMap<Partition, OpenWork> {
        let mut open_work: BTreeMap<Partition, OpenWork> = BTreeMap::new();
        // The transaction in flight comes first: its records were read before those that are still in the queue.
        for part in self.in_flight().map_or(&[][..], |in_flight| &in_flight.parts) {
            let work = open_work.entry(part.partition).or_default();
            work.batches += part.complete.len() as u64;
            work.records += records_of(part);
            work.head = work.head.or_else(|| head_of(part));
        }
        for (partition, queue) in self.queues.iter().filter(|(_, queue)| queue.open.batches() > 0) {
            let work = open_work.entry(*partition).or_default();
            work.batches += queue.open.batches();
            work.records += queue.open.records();
            work.head = work.head.or_else(|| queue.open.head());
        }
        open_work
    }

    fn in_flight(&self) -> Option<&InFlight> {
        match &self.producer {
            ProducerState::Sending(in_flight) | ProducerState::RetryWaiting(in_flight, _) => Some(in_flight),
            ProducerState::Resetting(in_flight) | ProducerState::ResetWaiting(in_flight, _) => in_flight.as_ref(),
            ProducerState::Idle | ProducerState::Lingering(_) | ProducerState::Stopped => None,
        }
    }

    /// Returns the queue of the partition, if it is of this epoch.
    fn queue(&self, partition: Partition, epoch: Epoch) -> Option<&PartitionQueue> {
        self.queues.get(&partition).filter(|queue| queue.epoch == epoch)
    }

    fn queue_mut(&mut self, partition: Partition, epoch: Epoch) -> Option<&mut PartitionQueue> {
        self.queues.get_mut(&partition).filter(|queue| queue.epoch == epoch)
    }

    fn begin_queue(&mut self, partition: Partition, queue: PartitionQueue, commands: &mut Vec<CommitCommand>) {
        let epoch = queue.epoch;
        if let Some(old) = self.queues.insert(partition, queue) {
            assert!(old.epoch < epoch, "c) epochs of {partition} only rise: {:?} then {epoch:?}", old.epoch);
            commands.push(CommitCommand::Dropped { partition, records: old.open.records() });
        }
    }

    fn open(&mut self, open: OpenBatch, commands: &mut Vec<CommitCommand>) {
        let partition = open.batch.partition();
        let Some(queue) = self.queue_mut(partition, open.batch.epoch()).filter(|queue| !queue.is_revoking) else {
            return commands.push(CommitCommand::Dropped { partition, records: open.batch.len() as u64 });
        };
        if let Err(broken) = queue.open.open(open) {
            self.stop(StopReason::OrderBroken(broken), commands);
        }
    }

    fn complete(&mut self, partition: Partition, epoch: Epoch, id: BatchId, outcomes: Outcomes) {
        // Late outcomes were reported when their queue ended, began to close, or did not accept the batch.
        let _late = self.queue_mut(partition, epoch).and_then(|queue| queue.open.complete(id, outcomes));
    }

    fn revoke(&mut self, id: RevocationId, partitions: Vec<(Partition, Epoch)>, commands: &mut Vec<CommitCommand>) {
        if planted(Planted::RevocationDropsKeptWork) {
            self.queues.values_mut().for_each(|queue| while queue.open.take_complete_if(|_| true).is_some() {});
        }
        for (partition, epoch) in &partitions {
            if let Some(queue) = self.queue_mut(*partition, *epoch) {
                queue.is_revoking = true;
                let records = queue.open.drop_incomplete();
                if records > 0 {
                    commands.push(CommitCommand::Dropped { partition: *partition, records });
                }
            }
        }
        self.revocations.insert(id, partitions);
    }

    /// Ends a linger and the wait after an abort: the consumer waits far shorter for a revocation than that wait can be.
    fn end_wait(&mut self, now: Instant) {
        match &mut self.producer {
            ProducerState::Lingering(_) => self.producer = ProducerState::Idle,
            ProducerState::RetryWaiting(_, at) => *at = now.min(*at),
            ProducerState::Idle
            | ProducerState::Sending(_)
            | ProducerState::Resetting(_)
            | ProducerState::ResetWaiting(..)
            | ProducerState::Stopped => {}
        }
    }

    fn end_ownership(&mut self, partitions: &[(Partition, Epoch)], commands: &mut Vec<CommitCommand>) {
        for (partition, epoch) in partitions {
            if self.queue(*partition, *epoch).is_some()
                && let Some(queue) = self.queues.remove(partition)
            {
                let records = queue.open.records();
                if records > 0 {
                    commands.push(CommitCommand::Dropped { partition: *partition, records });
                }
            }
            self.degraded.retain(|(_, of, _), _| of != partition);
        }
    }

    fn settle_revocations(&mut self, commands: &mut Vec<CommitCommand>) {
        let settled: Vec<RevocationId> = self
            .revocations
            .iter()
            .filter(|(_, partitions)| partitions.iter().all(|(partition, epoch)| self.is_drained(*partition, *epoch)))
            .map(|(id, _)| *id)
            .collect();
        for id in settled {
            self.revocations.remove(&id);
            commands.push(CommitCommand::Drained(id));
        }
    }

    fn is_drained(&self, partition: Partition, epoch: Epoch) -> bool {
        let is_waiting = self.queue(partition, epoch).is_some_and(|queue| queue.open.has_complete());
        let is_in_flight = self.in_flight().is_some_and(|in_flight| {
            in_flight.parts.iter().any(|part| part.partition == partition && part.epoch == epoch)
        });
        !is_waiting && !is_in_flight
    }

    /// Starts what is due: the next transaction, the next attempt, or the next reset.
    fn advance(&mut self, now: Instant, commands: &mut Vec<CommitCommand>) {
        match std::mem::replace(&mut self.producer, ProducerState::Idle) {
            ProducerState::Lingering(linger) if now < self.linger_ends_at(linger) && !self.is_stopping => {
                self.producer = ProducerState::Lingering(linger);
            }
            ProducerState::Idle | ProducerState::Lingering(_) => {
                let (parts, bytes) = self.take_complete();
                if !parts.is_empty() {
                    self.send(InFlight { parts, bytes, ..InFlight::default() }, now, commands);
                }
            }
            ProducerState::RetryWaiting(in_flight, at) if at <= now => self.send_again(in_flight, now, commands),
            ProducerState::ResetWaiting(in_flight, at) if at <= now => self.reset_producer(in_flight, commands),
            busy @ (ProducerState::Sending(_)
            | ProducerState::RetryWaiting(..)
            | ProducerState::Resetting(_)
            | ProducerState::ResetWaiting(..)
            | ProducerState::Stopped) => self.producer = busy,
        }
    }

    /// The minimum interval is cut short if a whole transaction waits. The bytes of the events stand for those of their
    /// outcomes.
    fn linger_ends_at(&self, Linger { markers_until, interval_until }: Linger) -> Instant {
        let is_due =
            || self.queues.values().map(|queue| queue.open.complete_bytes()).sum::<u64>() >= self.limit.bytes();
        if interval_until > markers_until && is_due() { markers_until } else { interval_until }
    }

    fn send(&mut self, mut in_flight: InFlight, now: Instant, commands: &mut Vec<CommitCommand>) {
        let number = self.next_number;
        self.next_number += 1;
        self.cut_oversized(&in_flight.parts, commands);
        in_flight.content = Arc::new(self.content_of(&in_flight.parts, number));
        in_flight.first_sent_at.get_or_insert(now);
        in_flight.sent_at = Some(now);
        commands.push(CommitCommand::Commit(Arc::clone(&in_flight.content)));
        self.producer = ProducerState::Sending(in_flight);
    }

    /// Sends the transaction in flight again, without the queues that have ended since. The last attempt had no effect.
    fn send_again(&mut self, mut in_flight: InFlight, now: Instant, commands: &mut Vec<CommitCommand>) {
        in_flight.parts.retain(|part| {
            let is_current = self.queue(part.partition, part.epoch).is_some();
            if !is_current {
                commands.push(CommitCommand::Dropped { partition: part.partition, records: records_of(part) });
            }
            is_current
        });
        self.return_excess(&mut in_flight);
        if in_flight.parts.is_empty() {
            self.producer = ProducerState::Idle;
            return self.advance(now, commands);
        }
        self.send(in_flight, now, commands);
    }

    fn reset_producer(&mut self, in_flight: Option<InFlight>, commands: &mut Vec<CommitCommand>) {
        let partitions = in_flight.iter().flat_map(|in_flight| &in_flight.parts).map(|part| part.partition).collect();
        commands.push(CommitCommand::ResetProducer(partitions));
        self.producer = ProducerState::Resetting(in_flight);
    }

    fn stop(&mut self, reason: StopReason, commands: &mut Vec<CommitCommand>) {
        self.producer = ProducerState::Stopped;
        commands.push(CommitCommand::Stop(reason));
        commands.extend(std::mem::take(&mut self.revocations).into_keys().map(CommitCommand::Drained));
    }
}

fn head_of(part: &InFlightPart) -> Option<Head> {
    let batch = part.complete.iter().map(|complete| &complete.open.batch).find(|batch| !batch.is_empty())?;
    let record = batch.record(0);
    Some(Head { offset: record.offset, timestamp_ms: record.timestamp_ms, is_complete: true })
}

fn records_of(part: &InFlightPart) -> u64 {
    part.complete.iter().map(|complete| complete.open.batch.len() as u64).sum()
}

fn wait_after(attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    (MIN_RETRY_WAIT * 2_u32.pow(doublings)).min(MAX_RETRY_WAIT)
}
