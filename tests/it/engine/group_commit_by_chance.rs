//! The group commit against a ledger, with random inputs and outcomes.
//!
//! Every record becomes one DLQ record, so that the DLQ records of the ledger are the list of committed records. For
//! every run: each offset of a partition is committed once and in order; no complete batch of a current epoch is lost;
//! a revocation is drained once; each opened batch is committed or dropped, once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::Config;
use steward::engine::batches::{BatchId, CompleteBatch};
use steward::engine::commit::transaction::{
    CommitOutcome, CommittedOffset, RefusedRecord, ResetOutcome, TransactionContent,
};
use steward::engine::commit::{CommitCommand, CommitInput, GroupCommit, GroupCommitSettings, RevocationId};
use steward::engine::offset_metadata::OffsetMetadata;
use steward::engine::outcome::{Outcomes, Output};
use steward::engine::topic_watch::TopicIds;
use steward::record::{Batch, Epoch, Partition, Position};

use super::{all_refused, batch_of, open_batch};
use crate::support::wait::now;

const PARTITIONS: i32 = 3;

/// A step of a run. Numbers choose among what exists, so that shrinking keeps a step possible.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A partition that is not owned is assigned and has recovered.
    Joins(i32),
    /// Records are read.
    Reads(i32, u8),
    /// One of the open batches has all outcomes.
    Completes(u8),
    /// The group takes the partition away.
    Revokes(i32),
    /// Its epoch ends; the machine does not learn of it yet.
    Ends(i32),
    /// The machine learns of the ended epochs.
    LearnsOfEnds,
    /// The pending transaction or reset ends.
    EndsWith(Ending),
    /// Time passes up to the machine's deadline, or by some milliseconds.
    Waits(u16),
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    Commits,
    Aborts,
    StaleGeneration,
    TimesOut,
    CommitsInDoubt,
    AbortsInDoubt,
    TooLarge,
    Fails,
    /// Another owner moves the position while the transaction is in doubt.
    Confused,
}

fn step() -> impl Strategy<Value = Step> {
    let partition = || 0..PARTITIONS;
    let ending = prop_oneof![
        12 => Just(Ending::Commits),
        3 => Just(Ending::Aborts),
        2 => Just(Ending::StaleGeneration),
        2 => Just(Ending::TimesOut),
        2 => Just(Ending::CommitsInDoubt),
        2 => Just(Ending::AbortsInDoubt),
        1 => Just(Ending::TooLarge),
        2 => Just(Ending::Fails),
        1 => Just(Ending::Confused),
    ];
    prop_oneof![
        6 => ending.prop_map(Step::EndsWith),
        4 => partition().prop_map(Step::Joins),
        6 => (partition(), 1..5_u8).prop_map(|(partition, records)| Step::Reads(partition, records)),
        6 => any::<u8>().prop_map(Step::Completes),
        1 => partition().prop_map(Step::Revokes),
        1 => partition().prop_map(Step::Ends),
        2 => Just(Step::LearnsOfEnds),
        4 => (0..3_000_u16).prop_map(Step::Waits),
    ]
}

#[apply(offline_test)]
fn every_record_is_committed_once_in_any_sequence_of_events() {
    let cases = std::env::var("STEWARD_PROPTEST_CASES").map_or(1_000, |cases| cases.parse().expect("a number"));
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 50_000, ..Config::default() };
    let limit = prop_oneof![Just(1_000_000_u64), Just(1), Just(1_500), Just(4_000)];
    let runs = (limit, prop::collection::vec(step(), 1..160));
    if let Err(broken) = crate::support::chance::runner(config).run(&runs, |(limit, steps)| World::play(limit, &steps))
    {
        panic!("{broken}");
    }
}

// ------------------------------------------------------------------------------------------------------------ harness

type Checked = Result<(), TestCaseError>;

/// The content of the topics.
#[derive(Debug, Default)]
struct Ledger {
    committed: BTreeMap<Partition, CommittedOffset>,
    /// The source offsets of the DLQ records, per partition in the order of the topic.
    rejected: BTreeMap<Partition, Vec<i64>>,
}

impl Ledger {
    fn position(&self, partition: Partition) -> i64 {
        self.committed.get(&partition).map_or(0, |committed| committed.position.0)
    }

    fn write(&mut self, content: &TransactionContent, offset_metadata: &OffsetMetadata) -> Checked {
        for record in &content.records {
            self.rejected.entry(record.partition).or_default().push(record.source.0);
        }
        for range in &content.offset_ranges {
            let before = self.committed.get(&range.partition).map(|committed| committed.position);
            prop_assert_eq!(range.start, before, "an offset range starts at the group's position");
            prop_assert!(before <= Some(range.end), "positions rise: {:?} then {:?}", before, range);
            let committed = CommittedOffset {
                position: range.end,
                metadata: offset_metadata.of(content.number, range.newest_state),
            };
            self.committed.insert(range.partition, committed);
        }
        for (partition, rejected) in &self.rejected {
            let expected: Vec<i64> = (0..self.position(*partition)).collect();
            prop_assert_eq!(rejected, &expected, "partition {}: each once, and in order", partition);
        }
        Ok(())
    }

    /// Another owner commits one record.
    fn move_on(&mut self, partition: Partition) {
        let position = self.position(partition);
        self.rejected.entry(partition).or_default().push(position);
        let committed = CommittedOffset { position: Position(position + 1), metadata: "another/1".into() };
        self.committed.insert(partition, committed);
    }
}

enum Pending {
    Transaction(Arc<TransactionContent>),
    Reset(Vec<Partition>),
}

/// An owned partition, as its consumer sees it.
struct Owned {
    epoch: Epoch,
    next: i64,
    is_closing: bool,
}

struct World {
    machine: GroupCommit,
    now: Instant,
    offset_metadata: OffsetMetadata,
    ledger: Ledger,
    pending: Option<Pending>,
    /// The position moved while a transaction was in doubt.
    /// The partitions of the last transaction that ended, and their epochs.
    doubted: Vec<(Partition, Epoch)>,
    is_confused: bool,
    /// The transaction timed out.
    has_timed_out: bool,
    owned: BTreeMap<Partition, Owned>,
    ended: Vec<(Partition, Epoch)>,
    open: Vec<(BatchId, Arc<Batch>)>,
    next_batch: u64,
    next_epoch: u64,
    revocations: BTreeSet<RevocationId>,
    next_revocation: u64,
    batches_committed: BTreeSet<BatchId>,
    records_opened: u64,
    records_committed: u64,
    records_dropped: u64,
}

impl World {
    fn play(limit: u64, steps: &[Step]) -> Checked {
        let offset_metadata = OffsetMetadata::new("run", TopicIds::default());
        let linger_per_partition = Duration::from_millis(4);
        let (machine, first) = GroupCommit::new(GroupCommitSettings {
            max_transaction_bytes: limit,
            transaction_timeout: Duration::from_secs(10),
            min_interval: Duration::ZERO,
            offset_metadata: offset_metadata.clone(),
            max_dlq_record_bytes: u64::MAX,
            linger_per_partition,
        });
        let mut world = World {
            machine,
            now: now(),
            offset_metadata,
            ledger: Ledger::default(),
            pending: None,
            is_confused: false,
            has_timed_out: false,
            doubted: Vec::new(),
            owned: BTreeMap::new(),
            ended: Vec::new(),
            open: Vec::new(),
            next_batch: 1,
            next_epoch: 1,
            revocations: BTreeSet::new(),
            next_revocation: 1,
            batches_committed: BTreeSet::new(),
            records_opened: 0,
            records_committed: 0,
            records_dropped: 0,
        };
        world.execute(vec![first])?;
        for step in steps {
            world.takes(*step)?;
        }
        world.calms_down()
    }

    fn takes(&mut self, step: Step) -> Checked {
        match step {
            Step::Joins(partition) => self.joins(Partition(partition)),
            Step::Reads(partition, records) => self.reads(Partition(partition), records),
            Step::Completes(which) => self.completes(which),
            Step::Revokes(partition) => self.revokes(Partition(partition)),
            Step::Ends(partition) => {
                let ended = self.owned.remove(&Partition(partition));
                self.ended.extend(ended.map(|owned| (Partition(partition), owned.epoch)));
                Ok(())
            }
            Step::LearnsOfEnds => self.learns_of_ends(),
            Step::EndsWith(ending) => self.ends_with(ending),
            Step::Waits(ms) => {
                let by_chance = self.now + Duration::from_millis(ms.into());
                self.now = self.machine.next_deadline().map_or(by_chance, |due| due.min(by_chance).max(self.now));
                self.input(CommitInput::Tick)
            }
        }
    }

    fn joins(&mut self, partition: Partition) -> Checked {
        if self.owned.contains_key(&partition) {
            return Ok(());
        }
        // The consumer reports in order: the end of an epoch comes before the partition is assigned again.
        self.learns_of_ends()?;
        if self.is_in_doubt(partition) {
            // A recovery waits until no transaction is open on the partition.
            return Ok(());
        }
        let epoch = Epoch(self.next_epoch);
        self.next_epoch += 1;
        let committed = self.ledger.committed.get(&partition).map(|committed| committed.position);
        let start = committed.unwrap_or(Position(0));
        self.owned.insert(partition, Owned { epoch, next: start.0, is_closing: false });
        let open = open_batch(self.take_id().0, Batch::new(partition, epoch, start));
        let repairs = vec![CompleteBatch { open, outcomes: Outcomes::default() }];
        self.input(CommitInput::Recovered { partition, epoch, committed, start, newest_state: None, repairs })
    }

    fn reads(&mut self, partition: Partition, records: u8) -> Checked {
        let id = self.take_id();
        let Some(owned) = self.owned.get_mut(&partition).filter(|owned| !owned.is_closing) else { return Ok(()) };
        let offsets: Vec<i64> = (owned.next..).take(records.into()).collect();
        owned.next += i64::from(records);
        let open = open_batch(id.0, batch_of(partition, owned.epoch, &offsets));
        self.records_opened += u64::from(records);
        self.open.push((id, Arc::clone(&open.batch)));
        self.input(CommitInput::Opened(open))
    }

    fn completes(&mut self, which: u8) -> Checked {
        if self.open.is_empty() {
            return Ok(());
        }
        let (id, batch) = self.open.remove(usize::from(which) % self.open.len());
        let mut outcomes = all_refused(&batch);
        outcomes.records[Output::Dlq].reverse();
        self.input(CommitInput::Completed { partition: batch.partition(), epoch: batch.epoch(), id, outcomes })
    }

    fn revokes(&mut self, partition: Partition) -> Checked {
        let Some(owned) = self.owned.get_mut(&partition) else { return Ok(()) };
        owned.is_closing = true;
        let partitions = vec![(partition, owned.epoch)];
        let id = RevocationId(self.next_revocation);
        self.next_revocation += 1;
        self.revocations.insert(id);
        self.input(CommitInput::Revoking { id, partitions })
    }

    fn learns_of_ends(&mut self) -> Checked {
        let ended = std::mem::take(&mut self.ended);
        if ended.is_empty() { Ok(()) } else { self.input(CommitInput::OwnershipEnded(ended)) }
    }

    fn ends_with(&mut self, ending: Ending) -> Checked {
        match self.pending.take() {
            None => Ok(()),
            Some(Pending::Transaction(content)) => self.ends(&content, ending),
            Some(Pending::Reset(partitions)) => {
                if matches!(ending, Ending::Fails) {
                    return self.input(CommitInput::ProducerReset(ResetOutcome::Failed { cause: "away".into() }));
                }
                if matches!(ending, Ending::Confused) {
                    // A lost partition does not count for the verdict; an owned one must be noticed. No other owner can
                    // commit to a partition that came back meanwhile under a new epoch.
                    let doubted = |of: &Partition| {
                        self.owned.get(of).is_none_or(|owned| self.doubted.contains(&(*of, owned.epoch)))
                    };
                    let moved: Vec<Partition> = partitions.iter().copied().filter(doubted).collect();
                    self.is_confused = !moved.is_empty();
                    moved.into_iter().for_each(|partition| self.ledger.move_on(partition));
                }
                let committed = |of: &Partition| (*of, self.ledger.committed.get(of).cloned());
                self.input(CommitInput::ProducerReset(ResetOutcome::Ready(partitions.iter().map(committed).collect())))
            }
        }
    }

    fn ends(&mut self, content: &TransactionContent, ending: Ending) -> Checked {
        let is_current = |of: Partition, epoch: Epoch| self.owned.get(&of).is_some_and(|owned| owned.epoch == epoch);
        let stale: Vec<Partition> = content
            .offset_ranges
            .iter()
            .filter(|range| !is_current(range.partition, range.epoch))
            .map(|range| range.partition)
            .collect();
        self.doubted = content.offset_ranges.iter().map(|range| (range.partition, range.epoch)).collect();
        let aborted = |timed_out| CommitOutcome::Aborted { cause: "no effect".into(), timed_out };
        let answer = if stale.is_empty() {
            match ending {
                Ending::Commits => {
                    self.ledger.write(content, &self.offset_metadata)?;
                    CommitOutcome::Committed { took: Duration::from_millis(1) }
                }
                Ending::Aborts | Ending::Fails => aborted(false),
                Ending::StaleGeneration => CommitOutcome::StaleGeneration { cause: "an old generation".into() },
                Ending::TimesOut => aborted(true),
                Ending::CommitsInDoubt => {
                    self.ledger.write(content, &self.offset_metadata)?;
                    CommitOutcome::InDoubt { cause: "silence".into() }
                }
                Ending::AbortsInDoubt | Ending::Confused => CommitOutcome::InDoubt { cause: "silence".into() },
                Ending::TooLarge => match content.records.iter().position(|record| record.degradation.is_none()) {
                    Some(index) => {
                        let record = Some(RefusedRecord { index, too_large: true });
                        CommitOutcome::Refused { cause: "too large".into(), record }
                    }
                    None => aborted(false),
                },
            }
        } else {
            CommitOutcome::Stale(stale)
        };
        // Records of a batch that is too large may be read again.
        self.has_timed_out = matches!(answer, CommitOutcome::Aborted { timed_out: true, .. });
        self.input(CommitInput::TransactionEnded(answer))?;
        self.has_timed_out = false;
        Ok(())
    }

    fn is_in_doubt(&self, partition: Partition) -> bool {
        match &self.pending {
            Some(Pending::Transaction(content)) => content.offset_ranges.iter().any(|of| of.partition == partition),
            Some(Pending::Reset(partitions)) => partitions.contains(&partition),
            None => false,
        }
    }

    fn take_id(&mut self) -> BatchId {
        self.next_batch += 1;
        BatchId(self.next_batch)
    }

    fn input(&mut self, input: CommitInput) -> Checked {
        let commands = self.machine.handle(input, self.now);
        self.execute(commands)
    }

    fn execute(&mut self, commands: Vec<CommitCommand>) -> Checked {
        for command in commands {
            match command {
                CommitCommand::Commit(content) => {
                    prop_assert!(self.pending.is_none(), "two at a time");
                    prop_assert!(!content.offset_ranges.is_empty(), "a transaction of nothing");
                    self.pending = Some(Pending::Transaction(content));
                }
                CommitCommand::ResetProducer(partitions) => {
                    prop_assert!(self.pending.is_none(), "two at a time");
                    self.pending = Some(Pending::Reset(partitions));
                }
                CommitCommand::Committed(receipt) => {
                    for done in &receipt.batches {
                        prop_assert!(self.batches_committed.insert(done.open.id), "{:?} twice", done.open.id);
                        self.records_committed += done.open.batch.len() as u64;
                    }
                }
                CommitCommand::Drained(id) => prop_assert!(self.revocations.remove(&id), "{:?} was drained twice", id),
                CommitCommand::Invalidate(partition, epoch, _) => {
                    let is_expected = std::mem::take(&mut self.is_confused) || self.has_timed_out;
                    prop_assert!(is_expected, "nothing moved the position of {}", partition);
                    // All partitions of the transaction are invalidated together.
                    self.is_confused = true;
                    if self.owned.get(&partition).is_some_and(|owned| owned.epoch == epoch) {
                        self.owned.remove(&partition);
                    }
                }
                CommitCommand::Dropped { records, .. } => self.records_dropped += records,
                CommitCommand::Stop(reason) => prop_assert!(false, "it stopped: {:?}", reason),
                CommitCommand::Log(_) => {}
            }
        }
        if !matches!(self.pending, Some(Pending::Reset(_))) && self.pending.is_some() {
            self.is_confused = false;
        }
        Ok(())
    }

    /// Everything is completed and answered; then nothing may be left over.
    fn calms_down(&mut self) -> Checked {
        self.learns_of_ends()?;
        while !self.open.is_empty() {
            self.completes(0)?;
        }
        let mut turns = 0;
        while self.pending.is_some() || self.machine.next_deadline().is_some() {
            self.now = self.machine.next_deadline().map_or(self.now, |due| due.max(self.now));
            self.input(CommitInput::Tick)?;
            self.ends_with(Ending::Commits)?;
            turns += 1;
            prop_assert!(turns < 1_000, "it does not end");
        }
        for (partition, owned) in self.owned.iter().filter(|(_, owned)| !owned.is_closing) {
            prop_assert_eq!(self.ledger.position(*partition), owned.next, "partition {}: something is lost", partition);
        }
        prop_assert!(self.revocations.is_empty(), "not drained: {:?}", self.revocations);
        prop_assert!(self.machine.open_work().is_empty(), "{:?}", self.machine.open_work());
        prop_assert_eq!(self.records_committed + self.records_dropped, self.records_opened, "each record has one end");
        Ok(())
    }
}
