//! Makes the client's calls: one transaction, or one new producer, at a time. The letters are those of the parent.
//!
//! Each step is announced before it begins, with the limit that its call is given; a worker whose turn is over ends there
//! instead, and with it its clients.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::{Offset, TopicPartitionList};

use crate::engine::commit::transaction::{CommitOutcome, RefusedRecord, ResetOutcome, TransactionContent};
use crate::kafka::client::errors::{BrokerRefusal, Cause, KafkaFailure, group_moved_on};
use crate::kafka::consumer::membership::Membership;
use crate::kafka::reader::committed::{build, committed, serve};
use crate::kafka::transactions::commit_thread::{Abandoned, CommitSettings, CommitStep, Tools};
use crate::kafka::transactions::out_record;
use crate::kafka::transactions::transaction::{Ended, Producer, Transaction, Undelivered};
use crate::record::{Partition, header};

/// How long a new producer may take to register. Shorter than the watchdog's patience.
const REGISTER_LIMIT: Duration = Duration::from_secs(10);

/// How long the question for committed offsets may take.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// Old clients that may be closing at the same time, before a renewal waits for them.
const MAX_CLOSING: usize = 8;

/// The broker still writes the markers of the last transaction for a moment, and refuses offsets meanwhile. The client
/// repeats them only after its back-off, and a repeated request is one in doubt. Records wait 20 ms at a time, and so
/// absorb it; offsets alone do not.
const OFFSETS_ALONE_GAP: Duration = Duration::from_millis(50);

/// How often the clients may call back while there is nothing to send.
const IDLE_POLL: Duration = Duration::from_millis(200);

/// One thing to do.
pub(super) enum Job {
    /// Run a transaction.
    Commit(Arc<TransactionContent>, Sender<CommitOutcome>),
    /// Build a new producer, and ask what is committed for these partitions.
    ResetProducer(Vec<Partition>, Sender<ResetOutcome>),
}

/// The failure that decides, and the record at fault where there is one.
type AtFault = (KafkaFailure, Option<RefusedRecord>);

/// How a transaction ended, unless the supervisor has abandoned the worker.
type WorkerReply = Result<CommitOutcome, Abandoned>;

/// See the module.
pub(super) struct Worker<C: ConsumerContext + Clone + 'static> {
    tools: Tools<C>,
    number: u64,
    /// `None` before the first renewal, and from an unclear end to the next one.
    producer: Option<Producer<C>>,
    /// Asks for committed offsets; it never joins the group.
    asker: Option<BaseConsumer<C>>,
    last_end: Option<Instant>,
    /// The last transaction was aborted for sure, and only its producer is in doubt: the next commit may register
    /// another one without asking how things stand.
    owes_a_producer: bool,
}

impl<C: ConsumerContext + Clone + 'static> Worker<C> {
    pub(super) fn new(tools: Tools<C>, number: u64) -> Worker<C> {
        Worker { tools, number, producer: None, asker: None, last_end: None, owes_a_producer: false }
    }

    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let reported = match jobs.recv_timeout(IDLE_POLL) {
                Ok(Job::Commit(content, outcomes)) => {
                    self.commit(&content).and_then(|outcome| self.report(outcome, &outcomes))
                }
                Ok(Job::ResetProducer(partitions, outcomes)) => {
                    self.reset_producer(&partitions).and_then(|outcome| self.report(outcome, &outcomes))
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.serve_clients();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if reported.is_err() {
                return;
            }
        }
    }

    fn report<O>(&self, outcome: O, outcomes: &Sender<O>) -> Result<(), Abandoned> {
        self.enter(CommitStep::Idle, None)?;
        outcomes.send(outcome).map_err(|_| Abandoned)
    }

    /// Lets the clients call back: statistics, errors, and the refresh of access tokens.
    fn serve_clients(&self) {
        if let Some(producer) = &self.producer {
            producer.serve();
        }
        if let Some(asker) = &self.asker {
            serve(asker);
        }
    }

    /// e) Announces a step; with a limit, it is given up when it takes much longer.
    fn enter(&self, step: CommitStep, limit: Option<Duration>) -> Result<(), Abandoned> {
        self.tools.phase.enter(self.number, step, self.tools.clock.now(), limit)
    }

    // -------------------------------------------------------------------------------------------------- commit

    fn commit(&mut self, content: &TransactionContent) -> WorkerReply {
        assert_covered(content);
        let stale = self.stale(content);
        if !stale.is_empty() {
            return Ok(CommitOutcome::Stale(stale));
        }
        if let Membership::NotAMember(why) = (self.tools.group)() {
            return Ok(CommitOutcome::StaleGeneration { cause: why.to_owned() });
        }
        let producer = match self.producer.take() {
            Some(producer) => producer,
            None if self.owes_a_producer => match self.register()? {
                Ok(producer) => producer,
                Err(failure) => return Ok(self.answer_without_producer(failure, Duration::ZERO)),
            },
            None => return Ok(CommitOutcome::InDoubt { cause: "there is no producer before a renewal".to_owned() }),
        };
        self.leave_a_gap(content);
        self.enter(CommitStep::Producing, Some(self.tools.settings.transaction_timeout))?;
        let mut transaction = match producer.begin() {
            Ok(transaction) => transaction,
            Err(failure) => return Ok(self.answer_without_producer(failure, Duration::ZERO)),
        };
        if let Err((failure, record)) = self.produce(&mut transaction, content)? {
            return self.give_up(transaction, failure, record);
        }

        // a) first the metadata, b) then the epochs, c) then the offsets.
        let member = match (self.tools.group)() {
            Membership::Member(member) => member,
            Membership::NotAMember(why) => {
                let ended = self.give_up(transaction, KafkaFailure::AbortAndResend(Cause::of_ours(why)), None)?;
                return Ok(if let CommitOutcome::Aborted { cause, .. } = ended {
                    CommitOutcome::StaleGeneration { cause }
                } else {
                    ended
                });
            }
        };
        let stale = self.stale(content);
        if !stale.is_empty() {
            let ended =
                self.give_up(transaction, KafkaFailure::AbortAndResend(Cause::of_ours("ownership ended")), None)?;
            return Ok(if matches!(ended, CommitOutcome::Aborted { .. }) {
                CommitOutcome::Stale(stale)
            } else {
                ended
            });
        }
        self.enter(CommitStep::SendingOffsets, Some(transaction.time_left()))?;
        if let Err(failure) = transaction.send_offsets(&self.offsets(content), &member) {
            return self.give_up(transaction, failure, None);
        }
        self.enter(CommitStep::Committing, Some(transaction.time_left()))?;
        let open_since = transaction.may_be_open_since();
        Ok(self.conclude(transaction.commit(), open_since, None))
    }

    /// The partitions of `content` whose epoch is over.
    fn stale(&self, content: &TransactionContent) -> Vec<Partition> {
        let over = content
            .stretches
            .iter()
            .filter(|stretch| !self.tools.ownership.is_current(stretch.partition, stretch.epoch));
        over.map(|stretch| stretch.partition).collect()
    }

    fn leave_a_gap(&self, content: &TransactionContent) {
        let Some(last_end) = self.last_end else { return };
        if content.snapshots.is_empty() && content.dlq_records.is_empty() {
            let since = self.tools.clock.now().saturating_duration_since(last_end);
            std::thread::sleep(OFFSETS_ALONE_GAP.saturating_sub(since));
        }
    }

    /// Stages every record, and waits until all are delivered. On failure also names the record where one is at fault.
    fn produce(
        &self,
        transaction: &mut Transaction<C>,
        content: &TransactionContent,
    ) -> Result<Result<(), AtFault>, Abandoned> {
        let CommitSettings { topic, state_topic, dlq_topic, group_id, .. } = &self.tools.settings;
        let snapshots = content.snapshots.iter().map(|snapshot| out_record::snapshot(state_topic, group_id, snapshot));
        let letters = content.dlq_records.iter().map(|letter| out_record::dlq_record(dlq_topic, topic, letter));
        for (index, record) in snapshots.chain(letters).enumerate() {
            let Err(failure) = transaction.stage(record, index) else { continue };
            let mut failed = vec![Undelivered { index: Some(index), failure: failure.clone() }];
            if matches!(failure, KafkaFailure::AbortAndResend(_)) {
                // The client takes no more since something failed: what that was is the cause.
                self.enter(CommitStep::DrainingQueue, Some(transaction.time_left()))?;
                failed.extend(transaction.drain().err().unwrap_or_default());
            }
            return Ok(Err(at_fault(content, failed)));
        }
        self.enter(CommitStep::DrainingQueue, Some(transaction.time_left()))?;
        Ok(transaction.drain().map_err(|failed| at_fault(content, failed)))
    }

    fn offsets(&self, content: &TransactionContent) -> TopicPartitionList {
        let mark = self.tools.mark.of(content.number);
        let mut offsets = TopicPartitionList::with_capacity(content.stretches.len());
        for stretch in &content.stretches {
            let mut element = offsets.add_partition(&self.tools.settings.topic, stretch.partition.0);
            element
                .set_offset(Offset::Offset(stretch.end.0))
                .expect("a position is an absolute offset, not a logical one");
            element.set_metadata(&mark);
        }
        offsets
    }

    /// Aborts where the failure leaves something to abort, and says how it ended.
    fn give_up(
        &mut self,
        transaction: Transaction<C>,
        failure: KafkaFailure,
        record: Option<RefusedRecord>,
    ) -> WorkerReply {
        let open_since = transaction.may_be_open_since();
        match failure {
            KafkaFailure::Retry(cause) | KafkaFailure::AbortAndResend(cause) => {
                self.enter(CommitStep::Aborting, Some(transaction.time_left()))?;
                Ok(self.conclude(transaction.abort(cause), open_since, None))
            }
            KafkaFailure::Refused(_, cause) => {
                self.enter(CommitStep::Aborting, Some(transaction.time_left()))?;
                match transaction.abort(cause.clone()) {
                    // Where the first partition was refused, the coordinator knows of no transaction to abort. Whatever
                    // became of it: no commit was sent, so it has no effect once another producer is registered.
                    Ended::Failed(KafkaFailure::InDoubt(_)) => {
                        self.last_end = Some(self.tools.clock.now());
                        self.owes_a_producer = true;
                        Ok(CommitOutcome::Refused { cause: cause.to_string(), record })
                    }
                    ended @ (Ended::Committed(..) | Ended::Aborted(..) | Ended::Failed(_)) => {
                        Ok(self.conclude(ended, open_since, Some(record)))
                    }
                }
            }
            KafkaFailure::Fenced(_) | KafkaFailure::InDoubt(_) | KafkaFailure::Fatal(_) => {
                Ok(self.answer_without_producer(failure, self.age_of(open_since)))
            }
        }
    }

    /// Takes the producer back where there is one. `refused` is what led to an abort.
    fn conclude(
        &mut self,
        ended: Ended<C>,
        open_since: Option<Instant>,
        refused: Option<Option<RefusedRecord>>,
    ) -> CommitOutcome {
        self.last_end = Some(self.tools.clock.now());
        match ended {
            Ended::Committed(producer, took) => {
                self.producer = Some(producer);
                CommitOutcome::Committed { took }
            }
            Ended::Aborted(producer, cause) => {
                self.owes_a_producer = producer.is_none();
                self.producer = producer;
                match refused {
                    Some(record) => CommitOutcome::Refused { cause: cause.to_string(), record },
                    None if group_moved_on(&cause) => CommitOutcome::StaleGeneration { cause: cause.to_string() },
                    None => CommitOutcome::Aborted { timed_out: cause.timed_out, cause: cause.to_string() },
                }
            }
            Ended::Failed(failure) => self.answer_without_producer(failure, self.age_of(open_since)),
        }
    }

    /// How old something of this process's own can be that has fenced the producer; as old as can be where nothing is
    /// known of it.
    fn age_of(&self, open_since: Option<Instant>) -> Duration {
        open_since.map_or(Duration::MAX, |since| self.tools.clock.now().saturating_duration_since(since))
    }

    /// The producer is gone, and with it whatever is open. `age` is the oldest that the coordinator can have timed out:
    /// of a producer that is younger, only another process's can be the newer one.
    fn answer_without_producer(&self, failure: KafkaFailure, age: Duration) -> CommitOutcome {
        match failure {
            KafkaFailure::Fenced(cause) => CommitOutcome::Fenced {
                cause: cause.to_string(),
                within_timeout: age < self.tools.settings.transaction_timeout,
            },
            KafkaFailure::Retry(cause) | KafkaFailure::AbortAndResend(cause) | KafkaFailure::InDoubt(cause) => {
                CommitOutcome::InDoubt { cause: cause.to_string() }
            }
            KafkaFailure::Refused(_, cause) => CommitOutcome::Refused { cause: cause.to_string(), record: None },
            KafkaFailure::Fatal(cause) => CommitOutcome::Fatal { cause: cause.to_string() },
        }
    }

    // --------------------------------------------------------------------------------------------------- renew

    fn reset_producer(&mut self, partitions: &[Partition]) -> Result<ResetOutcome, Abandoned> {
        let producer = match self.register()? {
            Ok(producer) => producer,
            Err(failure) => return Ok(answer_to_registration(failure)),
        };
        self.enter(CommitStep::AskingCommitted, None)?;
        Ok(match self.ask_committed(partitions) {
            Ok(positions) => {
                self.producer = Some(producer);
                ResetOutcome::Ready(positions)
            }
            Err(cause) => ResetOutcome::Failed { cause },
        })
    }

    /// Lets go of the old producer, and fences it with a new one.
    fn register(&mut self) -> Result<Result<Producer<C>, KafkaFailure>, Abandoned> {
        self.enter(CommitStep::Renewing, None)?;
        self.producer = None;
        self.last_end = None;
        self.owes_a_producer = false;
        let closing = self.tools.predecessors.closing();
        if closing > MAX_CLOSING {
            let cause = Cause::of_ours(format!("{closing} old producers are still closing"));
            return Ok(Err(KafkaFailure::Retry(cause)));
        }
        Ok(Producer::register(
            &self.tools.clients.producer,
            self.tools.context.clone(),
            Arc::clone(&self.tools.clock),
            self.tools.settings.transaction_timeout,
            REGISTER_LIMIT,
            Arc::clone(&self.tools.predecessors),
        ))
    }

    fn ask_committed(
        &mut self,
        partitions: &[Partition],
    ) -> Result<Vec<(Partition, Option<crate::engine::commit::transaction::Committed>)>, String> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let asker = match self.asker.take() {
            Some(asker) => asker,
            None => build(&self.tools.clients.asker, self.tools.context.clone())
                .map_err(|error| format!("the client that asks for committed offsets cannot be built: {error}"))?,
        };
        let answer = committed(&asker, &self.tools.settings.topic, partitions, ASK_LIMIT)
            .map_err(|error| format!("the group's committed offsets could not be had: {error}"));
        self.asker = Some(asker);
        answer
    }
}

/// Only a bug upstream can stage a record whose partition's offsets do not go with it: nothing would fence it.
fn assert_covered(content: &TransactionContent) {
    let covered: BTreeSet<Partition> = content.stretches.iter().map(|stretch| stretch.partition).collect();
    let staged = content.snapshots.iter().map(|snapshot| snapshot.partition);
    for partition in staged.chain(content.dlq_records.iter().map(|letter| letter.batch.partition())) {
        assert!(covered.contains(&partition), "records of partition {partition} come with a stretch of it");
    }
    assert!(!covered.is_empty(), "a transaction carries offsets: they are what fences it");
}

/// The failure that decides, and the record at fault: a record that is too large takes its batch's neighbours with it,
/// and the largest of them is the one.
fn at_fault(content: &TransactionContent, failed: Vec<Undelivered>) -> AtFault {
    let rank = |failed: &Undelivered| {
        let weight = failed.index.map(|index| weight_of(content, index));
        (failed.failure.gravity(), failed.failure.cause().timed_out, weight)
    };
    let worst = failed.into_iter().max_by_key(rank).expect("called with at least one");
    let record = match &worst.failure {
        KafkaFailure::Refused(refusal, _) => worst.index.map(|index| named(content, index, *refusal)),
        KafkaFailure::Retry(_)
        | KafkaFailure::AbortAndResend(_)
        | KafkaFailure::Fenced(_)
        | KafkaFailure::InDoubt(_)
        | KafkaFailure::Fatal(_) => None,
    };
    (worst.failure, record)
}

/// What the record weighs; the index counts the snapshots, then the DLQ records.
fn weight_of(content: &TransactionContent, index: usize) -> u64 {
    match index.checked_sub(content.snapshots.len()) {
        None => {
            let snapshot = &content.snapshots[index];
            let trace = snapshot.trace.as_deref();
            let traced = [
                trace.and_then(|trace| trace.traceparent.as_deref().map(|value| (header::TRACEPARENT, value))),
                trace.and_then(|trace| trace.tracestate.as_deref().map(|value| (header::TRACESTATE, value))),
            ];
            let traced: usize = traced.iter().flatten().map(|(name, value)| name.len() + value.len()).sum();
            snapshot.weight_bytes() + traced as u64
        }
        Some(letter) => content.dlq_records[letter].weight_bytes(),
    }
}

fn named(content: &TransactionContent, index: usize, refusal: BrokerRefusal) -> RefusedRecord {
    match index.checked_sub(content.snapshots.len()) {
        None => RefusedRecord::Snapshot { index, too_large: refusal == BrokerRefusal::TooLarge },
        Some(index) => RefusedRecord::DlqRecord { index, too_large: refusal == BrokerRefusal::TooLarge },
    }
}

fn answer_to_registration(failure: KafkaFailure) -> ResetOutcome {
    match failure {
        KafkaFailure::Retry(cause) | KafkaFailure::AbortAndResend(cause) | KafkaFailure::InDoubt(cause) => {
            ResetOutcome::Failed { cause: cause.to_string() }
        }
        // No transaction of this producer can have timed out: another process registers the same id right now.
        KafkaFailure::Fenced(cause) => ResetOutcome::Fenced { cause: cause.to_string() },
        KafkaFailure::Refused(_, cause) => {
            ResetOutcome::Fatal { cause: format!("{cause}; allow Write on the transactional id") }
        }
        KafkaFailure::Fatal(cause) => ResetOutcome::Fatal { cause: cause.to_string() },
    }
}
