//! The group commit machine against a ledger, with happenings and answers drawn by chance.
//!
//! Every record becomes one DLQ record, so that the ledger's letters *are* the list of what was committed. It holds
//! for every run: what a partition has committed is each of its offsets once and in order; what a queue of the present
//! epoch has done is not lost; a revocation is answered once; what was opened was committed or dropped, once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::Config;
use steward::engine::batches::{BatchId, DoneBatch};
use steward::engine::commit::transaction::{
    CommitOutcome, Committed, OffsetMetadata, RefusedRecord, ResetOutcome, TransactionContent,
};
use steward::engine::commit::{CommitCommand, CommitInput, GroupCommit, GroupCommitSettings, RevocationId};
use steward::engine::outcome::{Outcomes, Output};
use steward::record::{Batch, Epoch, Partition, Position};

use super::{all_refused, batch_of, open_batch};
use crate::support::wait::now;

const PARTITIONS: i32 = 3;

/// What may come. Numbers choose among what there is, so that shrinking keeps a happening possible.
#[derive(Debug, Clone, Copy)]
enum Happening {
    /// A partition that is not owned is assigned and has recovered.
    Joins(i32),
    /// Records are read.
    Reads(i32, u8),
    /// One of the open batches has all outcomes.
    Completes(u8),
    /// The partition is about to go.
    Revokes(i32),
    /// Its epoch ends; nobody has told the machine yet.
    Ends(i32),
    /// The machine hears of epochs that ended.
    HearsOfEnds,
    /// What is under way ends in this way.
    Answers(Fate),
    /// Time passes up to what the machine waits for, or by some milliseconds.
    Waits(u16),
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Commits,
    Aborts,
    StaleGeneration,
    TimesOut,
    CommitsUnanswered,
    AbortsUnanswered,
    TooLarge,
    Fails,
    /// Somebody else moves the position while the transaction is in doubt.
    Confused,
}

fn happening() -> impl Strategy<Value = Happening> {
    let partition = || 0..PARTITIONS;
    let fate = prop_oneof![
        12 => Just(Fate::Commits),
        3 => Just(Fate::Aborts),
        2 => Just(Fate::StaleGeneration),
        2 => Just(Fate::TimesOut),
        2 => Just(Fate::CommitsUnanswered),
        2 => Just(Fate::AbortsUnanswered),
        1 => Just(Fate::TooLarge),
        2 => Just(Fate::Fails),
        1 => Just(Fate::Confused),
    ];
    prop_oneof![
        6 => fate.prop_map(Happening::Answers),
        4 => partition().prop_map(Happening::Joins),
        6 => (partition(), 1..5_u8).prop_map(|(partition, records)| Happening::Reads(partition, records)),
        6 => any::<u8>().prop_map(Happening::Completes),
        1 => partition().prop_map(Happening::Revokes),
        1 => partition().prop_map(Happening::Ends),
        2 => Just(Happening::HearsOfEnds),
        4 => (0..3_000_u16).prop_map(Happening::Waits),
    ]
}

#[apply(offline_test)]
fn every_record_is_committed_once_whatever_comes() {
    let cases = std::env::var("STEWARD_PROPTEST_CASES").map_or(1_000, |cases| cases.parse().expect("a number"));
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 50_000, ..Config::default() };
    let limit = prop_oneof![Just(1_000_000_u64), Just(1), Just(1_500), Just(4_000)];
    let runs = (limit, prop::collection::vec(happening(), 1..160));
    if let Err(broken) =
        crate::support::chance::runner(config).run(&runs, |(limit, happenings)| World::play(limit, &happenings))
    {
        panic!("{broken}");
    }
}

// ------------------------------------------------------------------------------------------------------------ harness

type Judged = Result<(), TestCaseError>;

/// What stands in the topics.
#[derive(Debug, Default)]
struct Ledger {
    committed: BTreeMap<Partition, Committed>,
    /// The offsets of the DLQ records, per partition as they stand there.
    rejected: BTreeMap<Partition, Vec<i64>>,
}

impl Ledger {
    fn position(&self, partition: Partition) -> i64 {
        self.committed.get(&partition).map_or(0, |committed| committed.position.0)
    }

    fn write(&mut self, content: &TransactionContent, offset_metadata: &OffsetMetadata) -> Judged {
        for record in &content.records {
            self.rejected.entry(record.partition).or_default().push(record.source.0);
        }
        for range in &content.offset_ranges {
            let before = self.committed.get(&range.partition).map(|committed| committed.position);
            prop_assert_eq!(range.start, before, "an offset range starts where the group stands");
            prop_assert!(before <= Some(range.end), "positions rise: {:?} then {:?}", before, range);
            let committed = Committed { position: range.end, metadata: offset_metadata.of(content.number) };
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
        let committed = Committed { position: Position(position + 1), metadata: "another/1".into() };
        self.committed.insert(partition, committed);
    }
}

enum UnderWay {
    Transaction(Arc<TransactionContent>),
    Renewal(Vec<Partition>),
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
    under_way: Option<UnderWay>,
    /// The position moved while a transaction was in doubt.
    /// The partitions of the last transaction that ended, and their epochs.
    doubted: Vec<(Partition, Epoch)>,
    is_confused: bool,
    owned: BTreeMap<Partition, Owned>,
    ended: Vec<(Partition, Epoch)>,
    open: Vec<(BatchId, Arc<Batch>)>,
    next_batch: u64,
    next_term: u64,
    revocations: BTreeSet<RevocationId>,
    next_revocation: u64,
    batches_committed: BTreeSet<BatchId>,
    records_opened: u64,
    records_committed: u64,
    records_dropped: u64,
}

impl World {
    fn play(limit: u64, happenings: &[Happening]) -> Judged {
        let offset_metadata = OffsetMetadata::new("run");
        let linger_per_partition = Duration::from_millis(4);
        let (machine, first) = GroupCommit::new(GroupCommitSettings {
            max_transaction_bytes: limit,
            offset_metadata: offset_metadata.clone(),
            linger_per_partition,
        });
        let mut world = World {
            machine,
            now: now(),
            offset_metadata,
            ledger: Ledger::default(),
            under_way: None,
            is_confused: false,
            doubted: Vec::new(),
            owned: BTreeMap::new(),
            ended: Vec::new(),
            open: Vec::new(),
            next_batch: 1,
            next_term: 1,
            revocations: BTreeSet::new(),
            next_revocation: 1,
            batches_committed: BTreeSet::new(),
            records_opened: 0,
            records_committed: 0,
            records_dropped: 0,
        };
        world.obey(vec![first])?;
        for happening in happenings {
            world.happens(*happening)?;
        }
        world.calms_down()
    }

    fn happens(&mut self, happening: Happening) -> Judged {
        match happening {
            Happening::Joins(partition) => self.joins(Partition(partition)),
            Happening::Reads(partition, records) => self.reads(Partition(partition), records),
            Happening::Completes(which) => self.completes(which),
            Happening::Revokes(partition) => self.revokes(Partition(partition)),
            Happening::Ends(partition) => {
                let ended = self.owned.remove(&Partition(partition));
                self.ended.extend(ended.map(|owned| (Partition(partition), owned.epoch)));
                Ok(())
            }
            Happening::HearsOfEnds => self.hears_of_ends(),
            Happening::Answers(fate) => self.answers(fate),
            Happening::Waits(ms) => {
                let by_chance = self.now + Duration::from_millis(ms.into());
                self.now = self.machine.next_deadline().map_or(by_chance, |due| due.min(by_chance).max(self.now));
                self.tell(CommitInput::Tick)
            }
        }
    }

    fn joins(&mut self, partition: Partition) -> Judged {
        if self.owned.contains_key(&partition) {
            return Ok(());
        }
        // The consumer speaks in order: what ended was said before the partition came back.
        self.hears_of_ends()?;
        if self.is_in_doubt(partition) {
            // A recovery waits until no transaction is open on the partition.
            return Ok(());
        }
        let epoch = Epoch(self.next_term);
        self.next_term += 1;
        let committed = self.ledger.committed.get(&partition).map(|committed| committed.position);
        let start = committed.unwrap_or(Position(0));
        self.owned.insert(partition, Owned { epoch, next: start.0, is_closing: false });
        let open = open_batch(self.take_id().0, Batch::new(partition, epoch, start));
        let repairs = vec![DoneBatch { open, outcomes: Outcomes::default() }];
        self.tell(CommitInput::Joined { partition, epoch, committed, start, repairs })
    }

    fn reads(&mut self, partition: Partition, records: u8) -> Judged {
        let id = self.take_id();
        let Some(owned) = self.owned.get_mut(&partition).filter(|owned| !owned.is_closing) else { return Ok(()) };
        let offsets: Vec<i64> = (owned.next..).take(records.into()).collect();
        owned.next += i64::from(records);
        let open = open_batch(id.0, batch_of(partition, owned.epoch, &offsets));
        self.records_opened += u64::from(records);
        self.open.push((id, Arc::clone(&open.batch)));
        self.tell(CommitInput::Opened(open))
    }

    fn completes(&mut self, which: u8) -> Judged {
        if self.open.is_empty() {
            return Ok(());
        }
        let (id, batch) = self.open.remove(usize::from(which) % self.open.len());
        let mut outcomes = all_refused(&batch);
        outcomes.records[Output::Dlq].reverse();
        self.tell(CommitInput::Completed { partition: batch.partition(), epoch: batch.epoch(), id, outcomes })
    }

    fn revokes(&mut self, partition: Partition) -> Judged {
        let Some(owned) = self.owned.get_mut(&partition) else { return Ok(()) };
        owned.is_closing = true;
        let partitions = vec![(partition, owned.epoch)];
        let id = RevocationId(self.next_revocation);
        self.next_revocation += 1;
        self.revocations.insert(id);
        self.tell(CommitInput::Revoking { id, partitions })
    }

    fn hears_of_ends(&mut self) -> Judged {
        let ended = std::mem::take(&mut self.ended);
        if ended.is_empty() { Ok(()) } else { self.tell(CommitInput::OwnershipEnded(ended)) }
    }

    fn answers(&mut self, fate: Fate) -> Judged {
        match self.under_way.take() {
            None => Ok(()),
            Some(UnderWay::Transaction(content)) => self.ends(&content, fate),
            Some(UnderWay::Renewal(partitions)) => {
                if matches!(fate, Fate::Fails) {
                    return self.tell(CommitInput::ProducerReset(ResetOutcome::Failed { cause: "away".into() }));
                }
                if matches!(fate, Fate::Confused) {
                    // Whoever has lost the partition has no say any more; one that holds it must notice.
                    // Nobody else can commit to one that came back meanwhile, under a epoch of its own.
                    let doubted = |of: &Partition| {
                        self.owned.get(of).is_none_or(|owned| self.doubted.contains(&(*of, owned.epoch)))
                    };
                    let moved: Vec<Partition> = partitions.iter().copied().filter(doubted).collect();
                    self.is_confused = !moved.is_empty();
                    moved.into_iter().for_each(|partition| self.ledger.move_on(partition));
                }
                let committed = |of: &Partition| (*of, self.ledger.committed.get(of).cloned());
                self.tell(CommitInput::ProducerReset(ResetOutcome::Ready(partitions.iter().map(committed).collect())))
            }
        }
    }

    fn ends(&mut self, content: &TransactionContent, fate: Fate) -> Judged {
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
            match fate {
                Fate::Commits => {
                    self.ledger.write(content, &self.offset_metadata)?;
                    CommitOutcome::Committed { took: Duration::from_millis(1) }
                }
                Fate::Aborts | Fate::Fails => aborted(false),
                Fate::StaleGeneration => CommitOutcome::StaleGeneration { cause: "an old generation".into() },
                Fate::TimesOut => aborted(true),
                Fate::CommitsUnanswered => {
                    self.ledger.write(content, &self.offset_metadata)?;
                    CommitOutcome::InDoubt { cause: "silence".into() }
                }
                Fate::AbortsUnanswered | Fate::Confused => CommitOutcome::InDoubt { cause: "silence".into() },
                Fate::TooLarge => match content.records.iter().position(|record| record.degradation.is_none()) {
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
        self.tell(CommitInput::TransactionEnded(answer))
    }

    fn is_in_doubt(&self, partition: Partition) -> bool {
        match &self.under_way {
            Some(UnderWay::Transaction(content)) => content.offset_ranges.iter().any(|of| of.partition == partition),
            Some(UnderWay::Renewal(partitions)) => partitions.contains(&partition),
            None => false,
        }
    }

    fn take_id(&mut self) -> BatchId {
        self.next_batch += 1;
        BatchId(self.next_batch)
    }

    fn tell(&mut self, input: CommitInput) -> Judged {
        let commands = self.machine.handle(input, self.now);
        self.obey(commands)
    }

    fn obey(&mut self, commands: Vec<CommitCommand>) -> Judged {
        for command in commands {
            match command {
                CommitCommand::Commit(content) => {
                    prop_assert!(self.under_way.is_none(), "two at a time");
                    prop_assert!(!content.offset_ranges.is_empty(), "a transaction of nothing");
                    self.under_way = Some(UnderWay::Transaction(content));
                }
                CommitCommand::ResetProducer(partitions) => {
                    prop_assert!(self.under_way.is_none(), "two at a time");
                    self.under_way = Some(UnderWay::Renewal(partitions));
                }
                CommitCommand::Committed(receipt) => {
                    for done in &receipt.batches {
                        prop_assert!(self.batches_committed.insert(done.open.id), "{:?} twice", done.open.id);
                        self.records_committed += done.open.batch.len() as u64;
                    }
                }
                CommitCommand::Drained(id) => prop_assert!(self.revocations.remove(&id), "{:?} was drained twice", id),
                CommitCommand::Invalidate(partition, epoch) => {
                    prop_assert!(std::mem::take(&mut self.is_confused), "nothing moved the position of {}", partition);
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
        if !matches!(self.under_way, Some(UnderWay::Renewal(_))) && self.under_way.is_some() {
            self.is_confused = false;
        }
        Ok(())
    }

    /// Everything is completed and answered; then nothing may be left over.
    fn calms_down(&mut self) -> Judged {
        self.hears_of_ends()?;
        while !self.open.is_empty() {
            self.completes(0)?;
        }
        let mut turns = 0;
        while self.under_way.is_some() || self.machine.next_deadline().is_some() {
            self.now = self.machine.next_deadline().map_or(self.now, |due| due.max(self.now));
            self.tell(CommitInput::Tick)?;
            self.answers(Fate::Commits)?;
            turns += 1;
            prop_assert!(turns < 1_000, "it does not come to rest");
        }
        for (partition, owned) in self.owned.iter().filter(|(_, owned)| !owned.is_closing) {
            prop_assert_eq!(self.ledger.position(*partition), owned.next, "partition {}: something is lost", partition);
        }
        prop_assert!(self.revocations.is_empty(), "nobody answered {:?}", self.revocations);
        prop_assert!(self.machine.open_work().is_empty(), "{:?}", self.machine.open_work());
        prop_assert_eq!(self.records_committed + self.records_dropped, self.records_opened, "each record has one end");
        Ok(())
    }
}
