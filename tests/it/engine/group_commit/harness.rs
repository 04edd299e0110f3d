//! Drives the machine, and puts its commands into words.

use std::sync::Arc;
use std::time::{Duration, Instant};

use steward::engine::batches::{BatchId, CompleteBatch};
use steward::engine::commit::transaction::{CommitOutcome, ResetOutcome, TransactionContent};
use steward::engine::commit::{
    CommitCommand, CommitInput, CommitNotice, GroupCommit, GroupCommitSettings, RevocationId, StopReason,
};
use steward::engine::offset_metadata::OffsetMetadata;
use steward::engine::outcome::{Degradation, Outcomes, Output};
use steward::engine::topic_watch::TopicIds;
use steward::record::{Batch, Epoch, Offset, Partition, Position};

use crate::engine::{batch_of, open_batch, rejected_of, snapshot_of};
use crate::support::wait::now;

/// A batch that was opened.
pub struct Read {
    pub id: BatchId,
    pub batch: Arc<Batch>,
}

/// The machine, a clock that is set by hand, and the last commands in words.
pub struct Committer {
    pub machine: GroupCommit,
    now: Instant,
    next_batch: u64,
    last: Vec<String>,
}

impl Committer {
    /// It waits for its first producer.
    pub fn without_a_producer(max_transaction_bytes: u64) -> Committer {
        Committer::with_settings(GroupCommitSettings {
            max_transaction_bytes,
            transaction_timeout: Duration::from_secs(10),
            min_interval: Duration::ZERO,
            offset_metadata: OffsetMetadata::new("run", TopicIds::default()),
            max_dlq_record_bytes: u64::MAX,
            linger_per_partition: Duration::ZERO,
        })
    }

    fn with_settings(settings: GroupCommitSettings) -> Committer {
        let (machine, first) = GroupCommit::new(settings);
        Committer { machine, now: now(), next_batch: 1, last: vec![in_words(&first)] }
    }

    /// It has a producer, and no partitions.
    pub fn with_limit(max_transaction_bytes: u64) -> Committer {
        let mut committer = Committer::without_a_producer(max_transaction_bytes);
        committer.resets(ResetOutcome::Ready(vec![]));
        committer
    }

    /// It has a producer, and cuts DLQ records above this size.
    pub fn with_dlq_limit(max_dlq_record_bytes: u64) -> Committer {
        let mut committer = Committer::with_settings(GroupCommitSettings {
            max_transaction_bytes: 1_000_000,
            transaction_timeout: Duration::from_secs(10),
            min_interval: Duration::ZERO,
            offset_metadata: OffsetMetadata::new("run", TopicIds::default()),
            max_dlq_record_bytes,
            linger_per_partition: Duration::ZERO,
        });
        committer.resets(ResetOutcome::Ready(vec![]));
        committer
    }

    /// It serves this partition, and has just begun to linger.
    pub fn lingering(partition: Partition, linger_per_partition: Duration) -> Committer {
        let offset_metadata = OffsetMetadata::new("run", TopicIds::default());
        let mut committer = Committer::with_settings(GroupCommitSettings {
            max_transaction_bytes: 1_000_000,
            transaction_timeout: Duration::from_secs(10),
            min_interval: Duration::ZERO,
            offset_metadata,
            max_dlq_record_bytes: u64::MAX,
            linger_per_partition,
        });
        committer.resets(ResetOutcome::Ready(vec![]));
        committer.joins(partition, Epoch(1), None, 0);
        committer.ends(committed());
        committer
    }

    /// It serves this partition, and the interval after its first transaction has just begun.
    pub fn with_interval(partition: Partition, min_interval: Duration) -> Committer {
        let mut committer = Committer::with_settings(GroupCommitSettings {
            max_transaction_bytes: 1_000_000,
            transaction_timeout: Duration::from_secs(10),
            min_interval,
            offset_metadata: OffsetMetadata::new("run", TopicIds::default()),
            max_dlq_record_bytes: u64::MAX,
            linger_per_partition: Duration::ZERO,
        });
        committer.resets(ResetOutcome::Ready(vec![]));
        committer.joins(partition, Epoch(1), None, 0);
        committer.ends(committed());
        committer
    }

    pub fn new() -> Committer {
        Committer::with_limit(1_000_000)
    }

    /// These partitions have joined at 0 under epoch 1, one transaction each.
    pub fn serving(partitions: &[Partition]) -> Committer {
        let mut committer = Committer::new();
        for partition in partitions {
            committer.joins(*partition, Epoch(1), None, 0);
            committer.ends(committed());
        }
        committer
    }

    pub fn joins(&mut self, partition: Partition, epoch: Epoch, committed: Option<i64>, start: i64) -> Vec<String> {
        self.joins_with(partition, epoch, committed, start, Outcomes::default())
    }

    pub fn joins_with(
        &mut self,
        partition: Partition,
        epoch: Epoch,
        committed: Option<i64>,
        start: i64,
        repairs: Outcomes,
    ) -> Vec<String> {
        let start = Position(start);
        let open = open_batch(self.next_batch, Batch::new(partition, epoch, start));
        self.next_batch += 1;
        let repairs = vec![CompleteBatch { open, outcomes: repairs }];
        self.handle(CommitInput::Recovered {
            partition,
            epoch,
            committed: committed.map(Position),
            start,
            newest_state: None,
            repairs,
        })
    }

    pub fn opens(&mut self, partition: Partition, epoch: Epoch, offsets: &[i64]) -> Read {
        let open = open_batch(self.next_batch, batch_of(partition, epoch, offsets));
        self.next_batch += 1;
        let read = Read { id: open.id, batch: Arc::clone(&open.batch) };
        self.handle(CommitInput::Opened(open));
        read
    }

    /// The batch has these keys applied at its last offset, and the events at these offsets rejected.
    pub fn completes(&mut self, read: &Read, applied: &[&str], refused: &[i64]) -> Vec<String> {
        let (partition, epoch) = (read.batch.partition(), read.batch.epoch());
        let newest = read.batch.end().0 - 1;
        let index_of = |offset: i64| read.batch.iter().position(|record| record.offset == Offset(offset));
        let rejected = |offset: &i64| {
            let index = index_of(*offset).expect("an offset of the batch");
            rejected_of(&read.batch, u32::try_from(index).expect("a small batch"))
        };
        let snapshots = applied.iter().map(|key| snapshot_of(partition, key, newest));
        let records: Outcomes = snapshots.chain(refused.iter().map(rejected)).collect();
        let outcomes = Outcomes { applied: applied.len() as u64, ..records };
        self.handle(CommitInput::Completed { partition, epoch, id: read.id, outcomes })
    }

    pub fn ends(&mut self, outcome: CommitOutcome) -> Vec<String> {
        self.handle(CommitInput::TransactionEnded(outcome))
    }

    pub fn resets(&mut self, outcome: ResetOutcome) -> Vec<String> {
        self.handle(CommitInput::ProducerReset(outcome))
    }

    pub fn revokes(&mut self, id: u64, partitions: &[(Partition, Epoch)]) -> Vec<String> {
        self.handle(CommitInput::Revoking { id: RevocationId(id), partitions: partitions.to_vec() })
    }

    pub fn loses(&mut self, partition: Partition, epoch: Epoch) -> Vec<String> {
        self.handle(CommitInput::OwnershipEnded(vec![(partition, epoch)]))
    }

    pub fn ticks(&mut self, passed: Duration) -> Vec<String> {
        self.now += passed;
        self.handle(CommitInput::Tick)
    }

    pub fn stops(&mut self) -> Vec<String> {
        self.handle(CommitInput::Stopping)
    }

    /// How long until the machine wants to be woken.
    pub fn wait(&self) -> Option<Duration> {
        self.next_deadline().map(|at| at - self.now)
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.machine.next_deadline()
    }

    /// The last commands.
    pub fn last(&self) -> Vec<String> {
        self.last.clone()
    }

    pub fn first(&self) -> Vec<String> {
        self.last()
    }

    fn handle(&mut self, input: CommitInput) -> Vec<String> {
        self.last = self.machine.handle(input, self.now).iter().map(in_words).collect();
        self.last()
    }
}

pub fn committed() -> CommitOutcome {
    CommitOutcome::Committed { took: Duration::from_millis(3) }
}

pub fn aborted() -> CommitOutcome {
    CommitOutcome::Aborted { cause: "the group moved on".into(), timed_out: false }
}

pub fn stale_generations() -> CommitOutcome {
    CommitOutcome::StaleGeneration { cause: "an old generation".into() }
}

pub fn doubtful() -> CommitOutcome {
    CommitOutcome::InDoubt { cause: "silence".into() }
}

fn in_words(command: &CommitCommand) -> String {
    match command {
        CommitCommand::Commit(content) => content_in_words(content),
        CommitCommand::ResetProducer(partitions) => {
            format!("reset {:?}", partitions.iter().map(|of| of.0).collect::<Vec<_>>())
        }
        CommitCommand::Committed(receipt) => {
            let batches: Vec<u64> = receipt.batches.iter().map(|done| done.open.id.0).collect();
            format!("committed {} batches {batches:?}", receipt.number)
        }
        CommitCommand::Drained(id) => format!("drained {}", id.0),
        CommitCommand::Invalidate(partition, epoch, _) => format!("invalidate {partition} epoch {}", epoch.0),
        CommitCommand::Dropped { partition, records } => format!("dropped {records} of {partition}"),
        CommitCommand::Stop(reason) => format!("stop: {}", reason_in_words(reason)),
        CommitCommand::Log(notice) => format!("log {}", notice_in_words(notice)),
    }
}

fn content_in_words(content: &TransactionContent) -> String {
    let place = |position: Option<Position>| position.map_or("-".to_owned(), |position| position.to_string());
    let offset_ranges =
        content.offset_ranges.iter().map(|of| format!("{}:{}..{}", of.partition, place(of.start), of.end));
    let records = content.records.iter().map(|of| match of.output() {
        Output::State => {
            let key = String::from_utf8_lossy(of.key().expect("a snapshot has a key"));
            let value = of.value().map(|value| String::from_utf8_lossy(value).into_owned());
            assert_eq!(value, Some(format!("{key} after {}", of.source)), "a value of another event");
            let trace = if of.trace().is_some() { "+trace" } else { "" };
            format!("{}.{key}@{}{trace}", of.partition, of.source)
        }
        Output::Dlq => {
            let sign = if of.degradation.is_some() { '~' } else { '!' };
            format!("{sign}{}.{}", of.partition, of.source)
        }
    });
    let words: Vec<String> = offset_ranges.chain(records).collect();
    in_order(&format!("commit {} {}", content.number, words.join(" ")))
}

/// Positions and snapshots of several partitions come in any order; DLQ records do not.
pub fn in_order(commands: &str) -> String {
    let mut words: Vec<&str> = commands.split(' ').collect();
    words.sort_by_key(|word| match word.chars().next() {
        Some('!' | '~') => (3, ""),
        Some(_) if word.contains('@') => (2, *word),
        Some(_) if word.contains("..") => (1, *word),
        Some(_) | None => (0, ""),
    });
    words.join(" ")
}

fn named(record: Option<(Partition, Offset)>) -> String {
    record.map_or("-".to_owned(), |(partition, offset)| format!("{partition}/{offset}"))
}

fn reason_in_words(reason: &StopReason) -> String {
    match reason {
        StopReason::DuplicateInstance(cause) => format!("duplicate instance, {cause}"),
        StopReason::Refused { record, .. } => format!("refused {}", named(*record)),
        StopReason::TimedOutTooOften(cause) => format!("timed out too often, {cause}"),
        StopReason::ProducerFatal(cause) => format!("producer fatal, {cause}"),
        StopReason::OrderBroken(broken) => broken.to_string(),
    }
}

fn notice_in_words(notice: &CommitNotice) -> String {
    match notice {
        CommitNotice::Aborted { number, attempt, .. } => format!("aborted {number} attempt {attempt}"),
        CommitNotice::InDoubt { number, .. } => format!("in doubt {number}"),
        CommitNotice::ProducerReset { number, verdict, .. } => {
            format!("reset {}: {verdict:?}", number.map_or("-".to_owned(), |number| number.to_string()))
        }
        CommitNotice::ProducerResetFailed { attempt, .. } => format!("reset failed attempt {attempt}"),
        CommitNotice::TakenForDead { number, .. } => format!("taken for dead {number}"),
        CommitNotice::TimedOut { number, .. } => format!("timed out {number}"),
        CommitNotice::Refused { partition, offset, attempt, .. } => {
            format!("refused {} attempt {attempt}", named(partition.zip(*offset)))
        }
        CommitNotice::Degraded { degradation, partition, offset, bytes } => {
            let how = match degradation {
                Degradation::TraceContext => "untraced",
                Degradation::Value => "truncated",
                Degradation::Headers => "without headers",
                Degradation::Key => "with a cut key",
            };
            format!("{how} {partition}/{offset} of {bytes} bytes")
        }
        CommitNotice::CutShort { attempts, records, .. } => format!("cut short after {attempts}: {records} records"),
    }
}
