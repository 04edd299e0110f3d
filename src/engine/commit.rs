//! Group commit, self-clocked: when a transaction is due, what it carries, and what its end means.
//!
//! Batches whose outcomes are complete, in order, wait for the running transaction to end and for a short rest behind it;
//! then all that waits goes into the next one, and of each key only the newest snapshot. A transaction is opened only when
//! its content is ready. Three facts hold, lettered in the assertions:
//!
//! * a) at most one transaction is under way, and none while a new producer is being built;
//! * b) a batch is committed once: it leaves its line for the cargo, and the cargo only when the end is clear;
//! * c) only lines of the present term are sent. A line ends with its term, and what was in the cargo goes with it.
//!
//! An abort is not a rollback: the same cargo is sent again, less the lines that ended. After an end without a clear
//! answer a fresh producer fences all that may still be under way, and the group's committed positions then tell, by
//! position and mark, whether the cargo took effect.
//!
//! Here is what comes in and goes out, the state, and when something is sent; `load` chooses what goes into a transaction,
//! and `answers` says what its end means.

mod content;
mod outcomes;
pub mod transaction;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::batches::{BatchId, DoneBatch, Head, OpenBatch, OpenBatches, OpenWork, OrderBroken};
use crate::engine::commit::transaction::{CommitOutcome, OffsetMetadata, OffsetRange, TransactionContent};
use crate::engine::outcome::Outcomes;
use crate::record::{Epoch, Offset, Partition, Position};

/// Attempts of content that the broker refuses, before the process ends.
pub const REFUSALS_ALLOWED: u32 = 3;
/// Transactions that the coordinator timed out within a minute, before the process ends.
pub const TIMED_OUT_FENCINGS_PER_MINUTE: usize = 3;
/// Refusals in a row by a group that does not know this member, before a process that stops drops its work. While a
/// rebalance ends, the next one is known within milliseconds; the waits before the last attempt add up to 750.
pub const OUT_OF_GROUP_ALLOWED: u32 = 5;
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
    /// A partition has recovered: its line begins.
    Joined {
        /// The partition.
        partition: Partition,
        /// Its term.
        term: Epoch,
        /// What the group has committed.
        committed: Option<Position>,
        /// The first position to process.
        start: Position,
        /// What recovery has to publish, in batches without records that all stand at `start`; one at least, so that
        /// the first transaction commits the position.
        heals: Vec<DoneBatch>,
    },
    /// A batch was read and handed to its entities.
    Opened(OpenBatch),
    /// All records of a batch have an outcome.
    Completed {
        /// The partition.
        partition: Partition,
        /// The term under which it was read.
        term: Epoch,
        /// Which batch.
        id: BatchId,
        /// The outcomes.
        outcomes: Outcomes,
    },
    /// The transaction, or the building of a new producer, has ended.
    Ended(CommitOutcome),
    /// These partitions are about to go.
    Revoked {
        /// To be named in [`CommitCommand::Drained`].
        id: RevocationId,
        /// Partitions and terms.
        partitions: Vec<(Partition, Epoch)>,
    },
    /// Ownership under these terms is over.
    Over(Vec<(Partition, Epoch)>),
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
    Renew(Vec<Partition>),
    /// A transaction took effect.
    Committed(Receipt),
    /// Nothing of the revocation is left to be committed.
    Drained(RevocationId),
    /// It cannot be told what of this term was committed: recover the partition again under a new term.
    Forfeit(Partition, Epoch),
    /// Work of a term that is over was dropped.
    Dropped {
        /// The partition.
        partition: Partition,
        /// How many records.
        records: u64,
    },
    /// The process has to end.
    Stop(StopReason),
    /// Something to tell in the log.
    Tell(CommitNotice),
}

/// A transaction that took effect.
#[derive(Debug)]
pub struct Receipt {
    /// Its number.
    pub number: u64,
    /// From its begin to the clear answer.
    pub took: Duration,
    /// What it committed.
    pub stretches: Vec<OffsetRange>,
    /// The batches whose outcomes it carried.
    pub batches: Vec<DoneBatch>,
    /// Snapshots sent.
    pub snapshots: usize,
    /// Dead letters sent.
    pub dead_letters: usize,
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
    Unanswered {
        /// Its number.
        number: u64,
        /// Why.
        cause: String,
        /// Since the content was first sent.
        took: Duration,
    },
    /// A fresh producer is there, and what the positions told.
    Renewed {
        /// The number of the transaction in doubt; `None` where none was.
        number: Option<u64>,
        /// What became of it.
        verdict: DoubtVerdict,
        /// Since the content was first sent.
        took: Duration,
    },
    /// No fresh producer could be had; it is tried again.
    RenewFailed {
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
    /// A snapshot goes without its trace context.
    Untraced {
        /// Its partition.
        partition: Partition,
        /// Its newest source offset.
        offset: Offset,
        /// The length of the context.
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
    /// A dead letter goes without its value.
    Truncated {
        /// Its partition.
        partition: Partition,
        /// Its source offset.
        offset: Offset,
        /// The value's length.
        bytes: u64,
    },
}

/// What the committed positions told of a transaction in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoubtVerdict {
    /// There was none.
    NothingInDoubt,
    /// It took effect.
    TookEffect,
    /// It had no effect and is sent again.
    HadNone,
    /// The positions tell neither: the partitions are recovered again.
    CannotTell,
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
    /// What one transaction carries at the most, in bytes before coalescing; one batch always fits.
    pub max_transaction_bytes: u64,
    /// Names the transactions of this process in the offsets' metadata.
    pub mark: OffsetMetadata,
    /// How long no transaction is begun after one took effect, for each of its partitions, less [`PASSES_ANYWAY`] and at
    /// most [`LONGEST_REST`]: what is done meanwhile goes into the next one.
    pub rest_per_partition: Duration,
}

/// One partition under one term.
#[derive(Debug)]
struct PartitionQueue {
    term: Epoch,
    committed: Option<Position>,
    open: OpenBatches,
    /// It is about to go: only what is done already is still sent.
    closing: bool,
}

/// The part of a cargo that is of one line.
#[derive(Debug)]
struct InFlightPart {
    partition: Partition,
    term: Epoch,
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
    out_of_group: u32,
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
    Resting(Instant),
    /// A transaction is under way.
    Sending(InFlight),
    /// A transaction ended clearly without effect; it is sent again at this time.
    Waiting(InFlight, Instant),
    /// A new producer is being built; the cargo is in doubt.
    Renewing(Option<InFlight>),
    /// No new producer could be had; it is tried again at this time.
    RenewWaiting(Option<InFlight>, Instant),
    /// The process ends: nothing is sent any more.
    Stopped,
}

/// See the module.
#[derive(Debug)]
pub struct GroupCommit {
    settings: GroupCommitSettings,
    lines: BTreeMap<Partition, PartitionQueue>,
    flight: ProducerState,
    revocations: BTreeMap<RevocationId, Vec<(Partition, Epoch)>>,
    next_number: u64,
    /// Halved by a transaction that timed out, doubled by one that did not.
    limit_bytes: u64,
    renewals_failed: u32,
    timed_out_at: VecDeque<Instant>,
    truncated: HashSet<(Partition, Offset)>,
    /// Snapshots, by their newest source offset, that are too large with their trace context.
    untraced: HashSet<(Partition, Offset)>,
    is_stopping: bool,
    /// The partition after which the next cargo begins, so that none is starved.
    last_served: Option<Partition>,
}

impl GroupCommit {
    /// The machine, and its first command: build a producer.
    #[must_use]
    pub fn new(settings: GroupCommitSettings) -> (GroupCommit, CommitCommand) {
        let limit_bytes = settings.max_transaction_bytes;
        let machine = GroupCommit {
            settings,
            lines: BTreeMap::new(),
            flight: ProducerState::Renewing(None),
            revocations: BTreeMap::new(),
            next_number: 1,
            limit_bytes,
            renewals_failed: 0,
            timed_out_at: VecDeque::new(),
            truncated: HashSet::new(),
            untraced: HashSet::new(),
            is_stopping: false,
            last_served: None,
        };
        (machine, CommitCommand::Renew(Vec::new()))
    }

    /// Takes the input in and says what is to be done about it.
    pub fn handle(&mut self, input: CommitInput, now: Instant) -> Vec<CommitCommand> {
        let mut commands = Vec::new();
        if matches!(self.flight, ProducerState::Stopped) {
            // Nothing is sent any more, so there is nothing to wait for: the group can be left at once.
            if let CommitInput::Revoked { id, .. } = input {
                commands.push(CommitCommand::Drained(id));
            }
            return commands;
        }
        match input {
            CommitInput::Joined { partition, term, committed, start, heals } => {
                self.join((partition, term), committed, start, heals, &mut commands);
            }
            CommitInput::Opened(open) => self.open(open, &mut commands),
            CommitInput::Completed { partition, term, id, outcomes } => {
                self.complete(partition, term, id, outcomes);
            }
            CommitInput::Ended(answer) => self.ended(answer, now, &mut commands),
            CommitInput::Revoked { id, partitions } => {
                self.revoke(id, partitions, &mut commands);
                self.hurry(now);
            }
            CommitInput::Over(partitions) => self.over(&partitions, &mut commands),
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
        match &self.flight {
            ProducerState::Resting(at) | ProducerState::Waiting(_, at) | ProducerState::RenewWaiting(_, at) => {
                Some(*at)
            }
            ProducerState::Idle | ProducerState::Sending(_) | ProducerState::Renewing(_) | ProducerState::Stopped => {
                None
            }
        }
    }

    /// What no transaction has committed yet, by partition. What is in a transaction stays there until that has ended,
    /// also where the partition is owned no more.
    #[must_use]
    pub fn open_work(&self) -> BTreeMap<Partition, OpenWork> {
        let mut work: BTreeMap<Partition, OpenWork> = BTreeMap::new();
        // The cargo comes first: it was read before what is still in the line.
        for part in self.cargo().map_or(&[][..], |cargo| &cargo.parts) {
            let of = work.entry(part.partition).or_default();
            of.batches += part.done.len() as u64;
            of.records += records_of(part);
            of.head = of.head.or_else(|| head_of(part));
        }
        for (partition, line) in self.lines.iter().filter(|(_, line)| line.open.batches() > 0) {
            let of = work.entry(*partition).or_default();
            of.batches += line.open.batches();
            of.records += line.open.records();
            of.head = of.head.or_else(|| line.open.oldest());
        }
        work
    }

    fn cargo(&self) -> Option<&InFlight> {
        match &self.flight {
            ProducerState::Sending(cargo) | ProducerState::Waiting(cargo, _) => Some(cargo),
            ProducerState::Renewing(cargo) | ProducerState::RenewWaiting(cargo, _) => cargo.as_ref(),
            ProducerState::Idle | ProducerState::Resting(_) | ProducerState::Stopped => None,
        }
    }

    fn join(
        &mut self,
        (partition, term): (Partition, Epoch),
        committed: Option<Position>,
        start: Position,
        heals: Vec<DoneBatch>,
        commands: &mut Vec<CommitCommand>,
    ) {
        let open = OpenBatches::starting_with(start, heals);
        let line = PartitionQueue { term, committed, open, closing: false };
        if let Some(old) = self.lines.insert(partition, line) {
            assert!(old.term < term, "c) terms of {partition} only rise: {:?} then {term:?}", old.term);
            commands.push(CommitCommand::Dropped { partition, records: old.open.records() });
        }
    }

    fn open(&mut self, open: OpenBatch, commands: &mut Vec<CommitCommand>) {
        let partition = open.batch.partition();
        let term = open.batch.term();
        let line = self.lines.get_mut(&partition).filter(|line| line.term == term && !line.closing);
        let Some(line) = line else {
            return commands.push(CommitCommand::Dropped { partition, records: open.batch.len() as u64 });
        };
        if let Err(broken) = line.open.open(open) {
            self.stop(StopReason::OrderBroken(broken), commands);
        }
    }

    fn complete(&mut self, partition: Partition, term: Epoch, id: BatchId, outcomes: Outcomes) {
        let line = self.lines.get_mut(&partition).filter(|line| line.term == term);
        // What is late was reported when its line ended, began to close, or did not take the batch in the first place.
        let _late = line.and_then(|line| line.open.complete(id, outcomes));
    }

    fn revoke(&mut self, id: RevocationId, partitions: Vec<(Partition, Epoch)>, commands: &mut Vec<CommitCommand>) {
        for (partition, term) in &partitions {
            if let Some(line) = self.lines.get_mut(partition).filter(|line| line.term == *term) {
                line.closing = true;
                let records = line.open.drop_unfinished();
                if records > 0 {
                    commands.push(CommitCommand::Dropped { partition: *partition, records });
                }
            }
        }
        self.revocations.insert(id, partitions);
    }

    /// The consumer waits for a revocation far shorter than the longest wait after an abort.
    fn hurry(&mut self, now: Instant) {
        if let ProducerState::Resting(at) | ProducerState::Waiting(_, at) = &mut self.flight {
            *at = now.min(*at);
        }
    }

    fn over(&mut self, partitions: &[(Partition, Epoch)], commands: &mut Vec<CommitCommand>) {
        for (partition, term) in partitions {
            if self.lines.get(partition).is_some_and(|line| line.term == *term)
                && let Some(line) = self.lines.remove(partition)
            {
                let records = line.open.records();
                if records > 0 {
                    commands.push(CommitCommand::Dropped { partition: *partition, records });
                }
            }
            self.truncated.retain(|(of, _)| of != partition);
            self.untraced.retain(|(of, _)| of != partition);
        }
    }

    fn settle_revocations(&mut self, commands: &mut Vec<CommitCommand>) {
        let settled: Vec<RevocationId> = self
            .revocations
            .iter()
            .filter(|(_, partitions)| partitions.iter().all(|(partition, term)| self.is_drained(*partition, *term)))
            .map(|(id, _)| *id)
            .collect();
        for id in settled {
            self.revocations.remove(&id);
            commands.push(CommitCommand::Drained(id));
        }
    }

    fn is_drained(&self, partition: Partition, term: Epoch) -> bool {
        let waits = self.lines.get(&partition).is_some_and(|line| line.term == term && line.open.has_done());
        let travels = self
            .cargo()
            .is_some_and(|cargo| cargo.parts.iter().any(|part| part.partition == partition && part.term == term));
        !waits && !travels
    }

    // ------------------------------------------------------------------------------------------------- sending

    fn pump(&mut self, now: Instant, commands: &mut Vec<CommitCommand>) {
        match std::mem::replace(&mut self.flight, ProducerState::Idle) {
            resting @ ProducerState::Resting(until) if now < until && !self.is_stopping => self.flight = resting,
            ProducerState::Idle | ProducerState::Resting(_) => {
                let parts = self.load();
                if !parts.is_empty() {
                    self.send(InFlight { parts, ..InFlight::default() }, now, commands);
                }
            }
            ProducerState::Waiting(cargo, at) if at <= now => self.send_again(cargo, now, commands),
            ProducerState::RenewWaiting(cargo, at) if at <= now => self.renew(cargo, commands),
            busy @ (ProducerState::Sending(_)
            | ProducerState::Waiting(..)
            | ProducerState::Renewing(_)
            | ProducerState::RenewWaiting(..)
            | ProducerState::Stopped) => self.flight = busy,
        }
    }

    fn send(&mut self, mut cargo: InFlight, now: Instant, commands: &mut Vec<CommitCommand>) {
        let number = self.next_number;
        self.next_number += 1;
        cargo.content = Arc::new(self.content_of(&cargo.parts, number));
        cargo.sent_at.get_or_insert(now);
        commands.push(CommitCommand::Commit(Arc::clone(&cargo.content)));
        self.flight = ProducerState::Sending(cargo);
    }

    /// Sends what is left of a cargo whose last try had no effect, less the lines that ended since.
    fn send_again(&mut self, mut cargo: InFlight, now: Instant, commands: &mut Vec<CommitCommand>) {
        cargo.parts.retain(|part| {
            let is_current = self.lines.get(&part.partition).is_some_and(|line| line.term == part.term);
            if !is_current {
                commands.push(CommitCommand::Dropped { partition: part.partition, records: records_of(part) });
            }
            is_current
        });
        self.return_to_lines(&mut cargo);
        if cargo.parts.is_empty() {
            self.flight = ProducerState::Idle;
            return self.pump(now, commands);
        }
        self.send(cargo, now, commands);
    }

    fn renew(&mut self, cargo: Option<InFlight>, commands: &mut Vec<CommitCommand>) {
        let asked = cargo.iter().flat_map(|cargo| &cargo.parts).map(|part| part.partition).collect();
        commands.push(CommitCommand::Renew(asked));
        self.flight = ProducerState::Renewing(cargo);
    }

    fn stop(&mut self, reason: StopReason, commands: &mut Vec<CommitCommand>) {
        self.flight = ProducerState::Stopped;
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
