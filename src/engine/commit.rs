//! Group commit, self-clocked: when a transaction is due, what it carries, and what its end means.
//!
//! Batches whose outcomes are complete, in order, wait for the running transaction to end and for a short rest behind it;
//! then all that waits goes into the next one, and of each key only the newest snapshot. A transaction is opened only when
//! its content is ready. Three facts hold, lettered in the assertions:
//!
//! * a) at most one transaction is under way, and none while a new producer is being built;
//! * b) a batch is committed once: it leaves its queue for the in_flight, and the in_flight only when the end is clear;
//! * c) only queues of the present epoch are sent. A queue ends with its epoch, and what was in the in_flight goes with it.
//!
//! An abort is not a rollback: the same in_flight is sent again, less the queues that ended. After an end without a clear
//! answer a fresh producer fences all that may still be under way, and the group's committed positions then tell, by
//! position and metadata, whether the in_flight took effect.
//!
//! Here is what comes in and goes out, the state, and when something is sent; `load` chooses what goes into a transaction,
//! and `answers` says what its end means.

mod content;
mod outcomes;
pub mod transaction;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::batches::{BatchId, DoneBatch, Head, OpenBatch, OpenBatches, OpenWork, OrderBroken};
use crate::engine::commit::transaction::{
    CommitOutcome, OffsetMetadata, OffsetRange, ResetOutcome, TransactionContent,
};
use crate::engine::outcome::{Degradation, Outcomes, PerOutput, RecordId};
use crate::record::{Epoch, Offset, Partition, Position};

/// Attempts of content that the broker refuses, before the process ends.
pub const REFUSALS_ALLOWED: u32 = 3;
/// Transactions that the coordinator timed out within a minute, before the process ends.
pub const TIMED_OUT_FENCINGS_PER_MINUTE: usize = 3;
/// Refusals in a row by a group that does not know this member, before a process that stops drops its work. While a
/// rebalance ends, the next one is known within milliseconds; the waits before the last attempt add up to 750.
pub const STALE_GENERATIONS_ALLOWED: u32 = 5;
/// The first wait before content is sent again; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// What passes from one transaction to the next by itself.
pub const PASSES_ANYWAY: Duration = Duration::from_millis(1);
/// The longest rest: beyond that, to be refused and to come again costs little more.
pub const LONGEST_REST: Duration = Duration::from_millis(5);
const MINUTE: Duration = Duration::from_secs(60);

/// Names a revocation that waits for its partitions to drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevocationId(pub u64);

/// What the machine is told.
#[derive(Debug)]
pub enum CommitInput {
    /// A partition has recovered: its queue begins.
    Joined {
        /// The partition.
        partition: Partition,
        /// Its epoch.
        epoch: Epoch,
        /// What the group has committed.
        committed: Option<Position>,
        /// The first position to process.
        start: Position,
        /// What recovery has to publish, in batches without records that all stand at `start`; one at least, so that
        /// the first transaction commits the position.
        repairs: Vec<DoneBatch>,
    },
    /// A batch was read and handed to its entities.
    Opened(OpenBatch),
    /// All records of a batch have an outcome.
    Completed {
        /// The partition.
        partition: Partition,
        /// The epoch under which it was read.
        epoch: Epoch,
        /// Which batch.
        id: BatchId,
        /// The outcomes.
        outcomes: Outcomes,
    },
    /// The transaction in flight has ended.
    TransactionEnded(CommitOutcome),
    /// The reset of the producer has ended.
    ProducerReset(ResetOutcome),
    /// These partitions are about to go.
    Revoking {
        /// To be named in [`CommitCommand::Drained`].
        id: RevocationId,
        /// Partitions and epochs.
        partitions: Vec<(Partition, Epoch)>,
    },
    /// Ownership under these epochs is over.
    OwnershipEnded(Vec<(Partition, Epoch)>),
    /// The process stops: nothing is read any more, and what is done is committed as far as the group still lets it.
    Stopping,
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug)]
pub enum CommitCommand {
    /// Send this in one transaction.
    Commit(Arc<TransactionContent>),
    /// Build a new producer, then ask what is committed for these partitions.
    ResetProducer(Vec<Partition>),
    /// A transaction took effect.
    Committed(Receipt),
    /// Nothing of the revocation is left to be committed.
    Drained(RevocationId),
    /// It cannot be told what of this epoch was committed: recover the partition again under a new epoch.
    Invalidate(Partition, Epoch),
    /// Work of a epoch that is over was dropped.
    Dropped {
        /// The partition.
        partition: Partition,
        /// How many records.
        records: u64,
    },
    /// The process has to end.
    Stop(StopReason),
    /// Something to tell in the log.
    Log(CommitNotice),
}

/// A transaction that took effect.
#[derive(Debug)]
pub struct Receipt {
    /// Its number.
    pub number: u64,
    /// From its begin to the clear answer.
    pub took: Duration,
    /// What it committed.
    pub offset_ranges: Vec<OffsetRange>,
    /// The batches whose outcomes it carried.
    pub batches: Vec<DoneBatch>,
    /// The number of records sent.
    pub records: PerOutput<usize>,
}

/// Something to tell in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitNotice {
    /// The transaction had no effect and is sent again.
    Aborted {
        /// Its number.
        number: u64,
        /// Why.
        cause: String,
        /// Counted from 1.
        attempt: u32,
    },
    /// It cannot be told yet whether the transaction took effect.
    InDoubt {
        /// Its number.
        number: u64,
        /// Why.
        cause: String,
        /// Since the content was first sent.
        took: Duration,
    },
    /// A fresh producer is there, and what the positions told.
    ProducerReset {
        /// The number of the transaction in doubt; `None` where none was.
        number: Option<u64>,
        /// What became of it.
        verdict: DoubtVerdict,
        /// Since the content was first sent.
        took: Duration,
    },
    /// No fresh producer could be had; it is tried again.
    ProducerResetFailed {
        /// Why.
        cause: String,
        /// Counted from 1.
        attempt: u32,
    },
    /// The coordinator timed the transaction out.
    TimedOut {
        /// Its number.
        number: u64,
        /// Why.
        cause: String,
    },
    /// The broker refuses the content; it is tried again.
    Refused {
        /// Why.
        cause: String,
        /// The partition of the record, where the broker told.
        partition: Option<Partition>,
        /// The source offset of the record, where the broker told.
        offset: Option<Offset>,
        /// Counted from 1.
        attempt: u32,
    },
    /// A record that is too large is sent without a part of it.
    Degraded {
        degradation: Degradation,
        partition: Partition,
        /// The newest source offset of the record.
        offset: Offset,
        /// The length of what is left out.
        bytes: u64,
    },
    /// The process stops, the group refuses what is left, and it was dropped.
    CutShort {
        /// Why.
        cause: String,
        /// Refusals in a row.
        attempts: u32,
        /// How many records were dropped.
        records: u64,
    },
}

/// What the committed positions told of a transaction in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoubtVerdict {
    /// There was none.
    NothingInDoubt,
    /// It took effect.
    Committed,
    /// It had no effect and is sent again.
    NotCommitted,
    /// The positions tell neither: the partitions are recovered again.
    Unknown,
    /// All its partitions were lost meanwhile: their next owners go by what is committed, whatever that is.
    Lost,
}

/// Why the process has to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// Another process uses the same transactional id.
    DuplicateInstance(String),
    /// The broker refuses what is to be written, however often it is sent.
    Refused {
        /// Why.
        cause: String,
        /// The record, where the broker told: partition and source offset.
        record: Option<(Partition, Offset)>,
    },
    /// The coordinator times out transaction after transaction.
    TimedOutTooOften(String),
    /// The producer is beyond help.
    ProducerFatal(String),
    /// Offsets fell within one assignment.
    OrderBroken(OrderBroken),
}

/// Bounds.
#[derive(Debug, Clone)]
pub struct GroupCommitSettings {
    /// What one transaction carries at most, in bytes before coalescing; one batch always fits.
    pub max_transaction_bytes: u64,
    /// Names the transactions of this process in the offsets' metadata.
    pub offset_metadata: OffsetMetadata,
    /// How long no transaction is begun after one took effect, for each of its partitions, less [`PASSES_ANYWAY`] and at
    /// most [`LONGEST_REST`]: what is done meanwhile goes into the next one.
    pub rest_per_partition: Duration,
}

/// One partition under one epoch.
#[derive(Debug)]
struct PartitionQueue {
    epoch: Epoch,
    committed: Option<Position>,
    open: OpenBatches,
    /// It is about to go: only what is done already is still sent.
    closing: bool,
}

/// The part of a in_flight that is of one queue.
#[derive(Debug)]
struct InFlightPart {
    partition: Partition,
    epoch: Epoch,
    start: Option<Position>,
    end: Position,
    done: Vec<DoneBatch>,
}

#[derive(Debug, Default)]
struct InFlight {
    parts: Vec<InFlightPart>,
    content: Arc<TransactionContent>,
    sent_at: Option<Instant>,
    aborts: u32,
    refusals: u32,
    /// How often it was in doubt, and had no effect.
    doubts: u32,
    /// Refusals in a row by a group that does not know this member.
    stale_generations: u32,
}

impl InFlight {
    /// Since it was first sent.
    fn age(&self, now: Instant) -> Duration {
        self.sent_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }
}

/// What the producer does.
#[derive(Debug)]
enum ProducerState {
    /// Nothing.
    Idle,
    /// A transaction took effect, and the next one is not begun before this time.
    Lingering(Instant),
    /// A transaction is under way.
    Sending(InFlight),
    /// A transaction ended clearly without effect; it is sent again at this time.
    RetryWaiting(InFlight, Instant),
    /// A new producer is being built; the in_flight is in doubt.
    Resetting(Option<InFlight>),
    /// No new producer could be had; it is tried again at this time.
    ResetWaiting(Option<InFlight>, Instant),
    /// The process ends: nothing is sent any more.
    Stopped,
}

/// See the module.
#[derive(Debug)]
pub struct GroupCommit {
    settings: GroupCommitSettings,
    queues: BTreeMap<Partition, PartitionQueue>,
    producer: ProducerState,
    revocations: BTreeMap<RevocationId, Vec<(Partition, Epoch)>>,
    next_number: u64,
    /// Halved by a transaction that timed out, doubled by one that did not.
    limit_bytes: u64,
    resets_failed: u32,
    timed_out_at: VecDeque<Instant>,
    /// Records that the broker refused as too large, until they are committed or their epoch ends.
    degraded: HashMap<RecordId, Degradation>,
    is_stopping: bool,
    /// The partition after which the next in_flight begins, so that none is starved.
    last_served: Option<Partition>,
}

impl GroupCommit {
    /// The machine, and its first command: build a producer.
    #[must_use]
    pub fn new(settings: GroupCommitSettings) -> (GroupCommit, CommitCommand) {
        let limit_bytes = settings.max_transaction_bytes;
        let machine = GroupCommit {
            settings,
            queues: BTreeMap::new(),
            producer: ProducerState::Resetting(None),
            revocations: BTreeMap::new(),
            next_number: 1,
            limit_bytes,
            resets_failed: 0,
            timed_out_at: VecDeque::new(),
            degraded: HashMap::new(),
            is_stopping: false,
            last_served: None,
        };
        (machine, CommitCommand::ResetProducer(Vec::new()))
    }

    /// Takes the input in and says what is to be done about it.
    pub fn handle(&mut self, input: CommitInput, now: Instant) -> Vec<CommitCommand> {
        let mut commands = Vec::new();
        if matches!(self.producer, ProducerState::Stopped) {
            // Nothing is sent any more, so there is nothing to wait for: the group can be left at once.
            if let CommitInput::Revoking { id, .. } = input {
                commands.push(CommitCommand::Drained(id));
            }
            return commands;
        }
        match input {
            CommitInput::Joined { partition, epoch, committed, start, repairs } => {
                self.join((partition, epoch), committed, start, repairs, &mut commands);
            }
            CommitInput::Opened(open) => self.open(open, &mut commands),
            CommitInput::Completed { partition, epoch, id, outcomes } => {
                self.complete(partition, epoch, id, outcomes);
            }
            CommitInput::TransactionEnded(outcome) => self.transaction_ended(outcome, now, &mut commands),
            CommitInput::ProducerReset(outcome) => self.producer_reset(outcome, now, &mut commands),
            CommitInput::Revoking { id, partitions } => {
                self.revoke(id, partitions, &mut commands);
                self.hurry(now);
            }
            CommitInput::OwnershipEnded(partitions) => self.over(&partitions, &mut commands),
            CommitInput::Stopping => self.is_stopping = true,
            CommitInput::Tick => {}
        }
        self.pump(now, &mut commands);
        self.settle_revocations(&mut commands);
        commands
    }

    /// When [`CommitInput::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.producer {
            ProducerState::Lingering(at) | ProducerState::RetryWaiting(_, at) | ProducerState::ResetWaiting(_, at) => {
                Some(*at)
            }
            ProducerState::Idle | ProducerState::Sending(_) | ProducerState::Resetting(_) | ProducerState::Stopped => {
                None
            }
        }
    }

    /// What no transaction has committed yet, by partition. What is in a transaction stays there until that has ended,
    /// also where the partition is owned no more.
    #[must_use]
    pub fn open_work(&self) -> BTreeMap<Partition, OpenWork> {
        let mut work: BTreeMap<Partition, OpenWork> = BTreeMap::new();
        // The in_flight comes first: it was read before what is still in the queue.
        for part in self.in_flight().map_or(&[][..], |in_flight| &in_flight.parts) {
            let of = work.entry(part.partition).or_default();
            of.batches += part.done.len() as u64;
            of.records += records_of(part);
            of.head = of.head.or_else(|| head_of(part));
        }
        for (partition, queue) in self.queues.iter().filter(|(_, queue)| queue.open.batches() > 0) {
            let of = work.entry(*partition).or_default();
            of.batches += queue.open.batches();
            of.records += queue.open.records();
            of.head = of.head.or_else(|| queue.open.oldest());
        }
        work
    }

    fn in_flight(&self) -> Option<&InFlight> {
        match &self.producer {
            ProducerState::Sending(in_flight) | ProducerState::RetryWaiting(in_flight, _) => Some(in_flight),
            ProducerState::Resetting(in_flight) | ProducerState::ResetWaiting(in_flight, _) => in_flight.as_ref(),
            ProducerState::Idle | ProducerState::Lingering(_) | ProducerState::Stopped => None,
        }
    }

    fn join(
        &mut self,
        (partition, epoch): (Partition, Epoch),
        committed: Option<Position>,
        start: Position,
        repairs: Vec<DoneBatch>,
        commands: &mut Vec<CommitCommand>,
    ) {
        let open = OpenBatches::starting_with(start, repairs);
        let queue = PartitionQueue { epoch, committed, open, closing: false };
        if let Some(old) = self.queues.insert(partition, queue) {
            assert!(old.epoch < epoch, "c) ownership of {partition} only rise: {:?} then {epoch:?}", old.epoch);
            commands.push(CommitCommand::Dropped { partition, records: old.open.records() });
        }
    }

    fn open(&mut self, open: OpenBatch, commands: &mut Vec<CommitCommand>) {
        let partition = open.batch.partition();
        let epoch = open.batch.epoch();
        let queue = self.queues.get_mut(&partition).filter(|queue| queue.epoch == epoch && !queue.closing);
        let Some(queue) = queue else {
            return commands.push(CommitCommand::Dropped { partition, records: open.batch.len() as u64 });
        };
        if let Err(broken) = queue.open.open(open) {
            self.stop(StopReason::OrderBroken(broken), commands);
        }
    }

    fn complete(&mut self, partition: Partition, epoch: Epoch, id: BatchId, outcomes: Outcomes) {
        let queue = self.queues.get_mut(&partition).filter(|queue| queue.epoch == epoch);
        // What is late was reported when its queue ended, began to close, or did not take the batch in the first place.
        let _late = queue.and_then(|queue| queue.open.complete(id, outcomes));
    }

    fn revoke(&mut self, id: RevocationId, partitions: Vec<(Partition, Epoch)>, commands: &mut Vec<CommitCommand>) {
        for (partition, epoch) in &partitions {
            if let Some(queue) = self.queues.get_mut(partition).filter(|queue| queue.epoch == *epoch) {
                queue.closing = true;
                let records = queue.open.drop_unfinished();
                if records > 0 {
                    commands.push(CommitCommand::Dropped { partition: *partition, records });
                }
            }
        }
        self.revocations.insert(id, partitions);
    }

    /// The consumer waits for a revocation far shorter than the longest wait after an abort.
    fn hurry(&mut self, now: Instant) {
        if let ProducerState::Lingering(at) | ProducerState::RetryWaiting(_, at) = &mut self.producer {
            *at = now.min(*at);
        }
    }

    fn over(&mut self, partitions: &[(Partition, Epoch)], commands: &mut Vec<CommitCommand>) {
        for (partition, epoch) in partitions {
            if self.queues.get(partition).is_some_and(|queue| queue.epoch == *epoch)
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
        let waits = self.queues.get(&partition).is_some_and(|queue| queue.epoch == epoch && queue.open.has_done());
        let travels = self.in_flight().is_some_and(|in_flight| {
            in_flight.parts.iter().any(|part| part.partition == partition && part.epoch == epoch)
        });
        !waits && !travels
    }

    // ------------------------------------------------------------------------------------------------- sending

    fn pump(&mut self, now: Instant, commands: &mut Vec<CommitCommand>) {
        match std::mem::replace(&mut self.producer, ProducerState::Idle) {
            passivated @ ProducerState::Lingering(until) if now < until && !self.is_stopping => {
                self.producer = passivated
            }
            ProducerState::Idle | ProducerState::Lingering(_) => {
                let parts = self.load();
                if !parts.is_empty() {
                    self.send(InFlight { parts, ..InFlight::default() }, now, commands);
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

    fn send(&mut self, mut in_flight: InFlight, now: Instant, commands: &mut Vec<CommitCommand>) {
        let number = self.next_number;
        self.next_number += 1;
        in_flight.content = Arc::new(self.content_of(&in_flight.parts, number));
        in_flight.sent_at.get_or_insert(now);
        commands.push(CommitCommand::Commit(Arc::clone(&in_flight.content)));
        self.producer = ProducerState::Sending(in_flight);
    }

    /// Sends what is left of a in_flight whose last try had no effect, less the queues that ended since.
    fn send_again(&mut self, mut in_flight: InFlight, now: Instant, commands: &mut Vec<CommitCommand>) {
        in_flight.parts.retain(|part| {
            let is_current = self.queues.get(&part.partition).is_some_and(|queue| queue.epoch == part.epoch);
            if !is_current {
                commands.push(CommitCommand::Dropped { partition: part.partition, records: records_of(part) });
            }
            is_current
        });
        self.return_to_lines(&mut in_flight);
        if in_flight.parts.is_empty() {
            self.producer = ProducerState::Idle;
            return self.pump(now, commands);
        }
        self.send(in_flight, now, commands);
    }

    fn reset_producer(&mut self, in_flight: Option<InFlight>, commands: &mut Vec<CommitCommand>) {
        let asked = in_flight.iter().flat_map(|in_flight| &in_flight.parts).map(|part| part.partition).collect();
        commands.push(CommitCommand::ResetProducer(asked));
        self.producer = ProducerState::Resetting(in_flight);
    }

    fn stop(&mut self, reason: StopReason, commands: &mut Vec<CommitCommand>) {
        self.producer = ProducerState::Stopped;
        commands.push(CommitCommand::Stop(reason));
        commands.extend(std::mem::take(&mut self.revocations).into_keys().map(CommitCommand::Drained));
    }
}

fn head_of(part: &InFlightPart) -> Option<Head> {
    let batch = part.done.iter().map(|done| &done.open.batch).find(|batch| !batch.is_empty())?;
    let record = batch.record(0);
    Some(Head { offset: record.offset, timestamp_ms: record.timestamp_ms, decided: true })
}

fn records_of(part: &InFlightPart) -> u64 {
    part.done.iter().map(|done| done.open.batch.len() as u64).sum()
}

fn wait_after(attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    (FIRST_WAIT * 2_u32.pow(doublings)).min(LONGEST_WAIT)
}
