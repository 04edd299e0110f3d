//! Owns the replay of DLQ records: each goes back to the input once, whatever is killed whenever and whoever else tries.
//!
//! The event and its mark leave in one transaction. That each DLQ record is replayed once rests on three things that
//! have to hold together:
//!
//! a) **Whoever is about to send knows every mark.** A producer registers first, which ends whatever an earlier one of
//!    the same transactional id had under way and fences it; only then the marks are read, to their true end. There is
//!    no way to a producer but `Replayer::register`, which does both in this order.
//! b) **All replays of a DLQ topic share a transactional id,** made from the topic's name alone. So a second
//!    replay at the same time fences the first, which stops; and what both could send, only the one has sent that
//!    registered last, after it had read what the other committed.
//! c) **After an end without a clear answer the producer is never used again.** A new one registers, the marks are read
//!    again (a), and what they name was replayed.
//!
//! A batch that the brokers refuse for its content is sent record by record, so that the one at fault is found; it is
//! told, and the others go.
//!
//! Architecture invariant: nothing is produced to the DLQ topic.
//! Architecture invariant: nothing here decides what is replayed, or how fast.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};

use crate::config::Config;
use crate::kafka::admin::access::{AccessFailure, ClientMessages};
use crate::kafka::admin::preflight::StartRefusal;
use crate::kafka::client::context::{ClientEvents, ClientRole, ReportingContext};
use crate::kafka::client::errors::{BrokerRefusal, Cause, KafkaFailure};
use crate::kafka::client::settings::{ProducerIdentity, transactional_producer};
use crate::kafka::reader::topic_reader::TopicProgress;
use crate::kafka::replay_receipts;
use crate::kafka::transactions::out_record::OutRecord;
use crate::kafka::transactions::transaction::{EarlierProducers, Ended, Producer, Transaction, Undelivered};
use crate::ports::Clock;
use crate::record::{Offset, Partition};
use crate::tools::dlq::{DlqLocation, NotAReceipt, ReplayEvent, ReplayReceipts};

/// How often a batch is tried in a row, before the replay gives up.
const MAX_ATTEMPTS: u32 = 4;

/// Events of one batch at most, so that a crash or another replay leaves little in doubt.
pub const BATCH_EVENTS: usize = 500;

/// Bytes of one batch, unless a single event has more. Half of what a topic takes by default, so that a batch is not
/// refused for what its events are together.
pub const BATCH_BYTES: usize = 524_288;

/// The pause before another attempt.
const PAUSE: Duration = Duration::from_millis(500);

/// Why a replay could not begin, or not go on. What was replayed until then is marked: the same command goes on.
#[derive(Debug, thiserror::Error)]
pub enum ReplayFailure {
    /// A topic could not be read.
    #[error(transparent)]
    Access(#[from] AccessFailure),
    /// The topic of marks could not be looked at or created.
    #[error(transparent)]
    Topics(#[from] StartRefusal),
    /// Marks would be deleted, and their DLQ records replayed again.
    #[error(
        "topic {topic} must have cleanup.policy=compact and nothing else, or it forgets what was replayed: {command}"
    )]
    NotCompacted {
        /// The topic of marks.
        topic: String,
        /// What cures it.
        command: String,
    },
    /// A mark stands in the partition of its DLQ record.
    #[error("topic {topic} has {found} partitions, the DLQ records have {needed}; add the missing ones: {command}")]
    TooFewPartitions {
        /// The topic of marks.
        topic: String,
        /// How many it has.
        found: i32,
        /// How many it needs.
        needed: i32,
        /// What cures it.
        command: String,
    },
    /// Something stands among the marks that is none, so that it is not known what was replayed.
    #[error(
        "topic {topic} partition {partition} offset {offset}: {problem}; only `steward dlq replay` writes there: see who else did, or use the version of steward that wrote it"
    )]
    ForeignMark {
        /// The topic of marks.
        topic: String,
        /// The partition.
        partition: Partition,
        /// The offset.
        offset: Offset,
        /// What is wrong with it.
        problem: NotAReceipt,
    },
    /// More marks than may be held.
    #[error("the marks of what was replayed take more than {limit_bytes} bytes; raise limits.max_state_bytes")]
    TooManyMarks {
        /// `limits.max_state_bytes`.
        limit_bytes: u64,
    },
    /// Another replay of these DLQ records registered later.
    #[error(
        "another replay of {dlq_topic} has begun, and goes on where this one was stopped ({cause}); wait for it, then start again: what was replayed is not repeated"
    )]
    Fenced {
        /// The DLQ topic.
        dlq_topic: String,
        /// What the client said.
        cause: String,
    },
    /// The brokers do not allow it.
    #[error(
        "the brokers refuse the replay: {cause}; allow Write on the topics {input} and {marks} and on the transactional id {transactional_id}"
    )]
    Forbidden {
        /// What the client said.
        cause: String,
        /// The input topic.
        input: String,
        /// The topic of marks.
        marks: String,
        /// The id.
        transactional_id: String,
    },
    /// It was tried often enough.
    #[error(
        "no transaction succeeded in {attempts} attempts ({cause}); see whether the brokers are healthy and this user may write to {input} and {marks}, then start again: what was replayed is not repeated"
    )]
    GivenUp {
        /// How often.
        attempts: u32,
        /// What the client said last.
        cause: String,
        /// The input topic.
        input: String,
        /// The topic of marks.
        marks: String,
    },
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct ReplayProgress {
    /// How many are in the input.
    pub replayed: u64,
    /// What the input's broker does not take, and why.
    pub refused: Vec<(DlqLocation, String)>,
}

/// The transactional id of every replay of a DLQ topic. A colon stands in no instance name, so that no process
/// of a group can have it.
#[must_use]
pub fn transactional_id(dlq_topic: &str) -> String {
    format!("{dlq_topic}:replay")
}

/// Replays DLQ records. Two at a time fence each other.
pub struct Replayer<'a> {
    config: &'a Config,
    settings: ClientConfig,
    context: ReportingContext,
    clock: Arc<dyn Clock>,
    limit: Duration,
    marks_topic: String,
    /// `None` from an end without a clear answer to the next registration.
    producer: Option<Producer<ReportingContext>>,
    /// Everything that is marked, of this run as well.
    replayed: ReplayReceipts,
    /// What earlier producers may still do.
    predecessors: Arc<EarlierProducers>,
}

/// How an attempt ended.
enum Attempt {
    /// All of it is in the input, and marked.
    Committed,
    /// It has no effect, or nobody knows; then the producer is gone, and the marks are read before the next attempt.
    Again(Cause),
    /// The brokers do not take the content of one event at least.
    Refused(Cause),
    /// It cannot go on.
    Failed(ReplayFailure),
}

impl<'a> Replayer<'a> {
    /// Creates the topic of marks where it is missing, fences every other replay, and reads what was replayed.
    ///
    /// # Errors
    /// The brokers do not answer within `limit` or refuse, or the topic of marks does not keep what it is told.
    pub fn begin(
        config: &'a Config,
        limit: Duration,
        clock: Arc<dyn Clock>,
        progress: impl FnMut(TopicProgress),
    ) -> Result<Replayer<'a>, ReplayFailure> {
        replay_receipts::prepare(config, &*clock)?;
        let id = transactional_id(&config.kafka.dlq_topic);
        let identity = ProducerIdentity { transactional_id: &id, client_id: "steward-dlq-replay" };
        let events: Arc<dyn ClientEvents> = ClientMessages::new();
        let mut replayer = Replayer {
            config,
            settings: transactional_producer(config, identity, None),
            context: ReportingContext::new(config, ClientRole::Producer, events),
            clock,
            limit,
            marks_topic: replay_receipts::topic_of(&config.kafka.dlq_topic),
            producer: None,
            replayed: ReplayReceipts::default(),
            predecessors: Arc::default(),
        };
        replayer.register(progress)?;
        Ok(replayer)
    }

    /// Everything that is marked.
    #[must_use]
    pub fn replayed(&self) -> &ReplayReceipts {
        &self.replayed
    }

    /// Lets the client call back while nothing is under way.
    pub fn serve(&self) {
        if let Some(producer) = &self.producer {
            producer.serve();
        }
    }

    /// Produces the events and their marks in one transaction. Blocks; tries again, to a limit.
    ///
    /// # Errors
    /// Nothing of the batch is known to be in the input; the marks know.
    pub fn send(&mut self, batch: Vec<ReplayEvent>) -> Result<ReplayProgress, ReplayFailure> {
        let mut sent = ReplayProgress::default();
        match self.send_all(&batch)? {
            Ok(replayed) => sent.replayed += replayed,
            Err(_) => {
                for replay in batch {
                    match self.send_all(std::slice::from_ref(&replay))? {
                        Ok(replayed) => sent.replayed += replayed,
                        Err(cause) => sent.refused.push((replay.letter, cause.to_string())),
                    }
                }
            }
        }
        Ok(sent)
    }

    /// Returns how many are in the input, or the refusal of the whole for its content.
    fn send_all(&mut self, batch: &[ReplayEvent]) -> Result<Result<u64, Cause>, ReplayFailure> {
        let mut attempts = 0;
        loop {
            if self.producer.is_none() {
                self.register(|_| ())?;
            }
            // Known only now: an attempt without a clear answer may have succeeded.
            let rest: Vec<&ReplayEvent> = batch.iter().filter(|replay| !self.replayed.contains(&replay.mark)).collect();
            if rest.is_empty() {
                return Ok(Ok(batch.len() as u64));
            }
            attempts += 1;
            match self.attempt(&rest) {
                Attempt::Committed => {
                    let marks: Vec<_> = rest.iter().map(|replay| replay.mark).collect();
                    marks.into_iter().for_each(|mark| self.replayed.add(mark));
                    return Ok(Ok(batch.len() as u64));
                }
                Attempt::Refused(cause) => return Ok(Err(cause)),
                Attempt::Failed(failure) => return Err(failure),
                Attempt::Again(cause) if attempts >= MAX_ATTEMPTS => {
                    let (input, marks) = (self.config.kafka.topic.clone(), self.marks_topic.clone());
                    return Err(ReplayFailure::GivenUp { attempts, cause: cause.to_string(), input, marks });
                }
                Attempt::Again(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// a) First the registration, then the marks.
    fn register(&mut self, progress: impl FnMut(TopicProgress)) -> Result<(), ReplayFailure> {
        let timeout = Duration::from_millis(self.config.kafka.transaction_timeout_ms);
        let producer = Producer::register(
            &self.settings,
            self.context.clone(),
            Arc::clone(&self.clock),
            timeout,
            self.limit,
            Arc::clone(&self.predecessors),
        );
        let producer = producer.map_err(|failure| match failure {
            KafkaFailure::Fenced(cause) => self.fenced(&cause),
            KafkaFailure::Refused(_, cause) => self.forbidden(&cause),
            KafkaFailure::Retry(cause)
            | KafkaFailure::AbortAndResend(cause)
            | KafkaFailure::InDoubt(cause)
            | KafkaFailure::Fatal(cause) => self.stuck(&cause),
        })?;
        self.replayed = replay_receipts::read_existing(self.config, self.limit, &*self.clock, progress)?;
        self.producer = Some(producer);
        Ok(())
    }

    fn attempt(&mut self, batch: &[&ReplayEvent]) -> Attempt {
        let Some(producer) = self.producer.take() else {
            return Attempt::Again(Cause::of_ours("there is no producer"));
        };
        let mut transaction = match producer.begin() {
            Ok(transaction) => transaction,
            Err(failure) => return self.without_producer(failure, Duration::ZERO),
        };
        if let Err(failed) = self.stage(&mut transaction, batch) {
            return self.give_up(transaction, failed);
        }
        let open_since = transaction.may_be_open_since();
        match transaction.commit() {
            Ended::Committed(producer, _) => {
                self.producer = Some(producer);
                Attempt::Committed
            }
            Ended::Aborted(producer, cause) => {
                self.producer = producer;
                Attempt::Again(cause)
            }
            Ended::Failed(failure) => self.without_producer(failure, self.age_of(open_since)),
        }
    }

    /// Stages every event with its mark behind it, and waits until all are delivered.
    fn stage(
        &self,
        transaction: &mut Transaction<ReportingContext>,
        batch: &[&ReplayEvent],
    ) -> Result<(), Undelivered> {
        for (index, replay) in batch.iter().enumerate() {
            let (key, value) = (replay.mark.key(), replay.mark.value());
            let mark = OutRecord {
                topic: &self.marks_topic,
                partition: replay.letter.partition.0,
                key: Some(key.as_bytes()),
                value: Some(value.as_bytes()),
                headers: OwnedHeaders::new(),
            };
            for (record, index) in [(event(&self.config.kafka.topic, replay), 2 * index), (mark, 2 * index + 1)] {
                let Err(failure) = transaction.stage(record, index) else { continue };
                let mut failed = vec![Undelivered { index: Some(index), failure: failure.clone() }];
                if matches!(failure, KafkaFailure::AbortAndResend(_)) {
                    // The client takes no more since something failed: what that was is the cause.
                    failed.extend(transaction.drain().err().unwrap_or_default());
                }
                return Err(worst(failed));
            }
        }
        transaction.drain().map_err(worst)
    }

    /// Aborts where the failure leaves something to abort, and says how it ended.
    fn give_up(&mut self, transaction: Transaction<ReportingContext>, failed: Undelivered) -> Attempt {
        let age = self.age_of(transaction.may_be_open_since());
        let (cause, refusal) = match failed.failure {
            KafkaFailure::Retry(cause) | KafkaFailure::AbortAndResend(cause) => (cause, None),
            KafkaFailure::Refused(refusal, cause) => (cause, Some(refusal)),
            failure @ (KafkaFailure::Fenced(_) | KafkaFailure::InDoubt(_) | KafkaFailure::Fatal(_)) => {
                return self.without_producer(failure, age);
            }
        };
        // No commit was sent: whatever becomes of the abort, nothing takes effect once another producer has registered.
        match transaction.abort(cause.clone()) {
            Ended::Aborted(producer, _) => self.producer = producer,
            Ended::Committed(..) | Ended::Failed(KafkaFailure::InDoubt(_)) => {}
            Ended::Failed(failure) => return self.without_producer(failure, age),
        }
        match (refusal, failed.index) {
            (None, _) => Attempt::Again(cause),
            (Some(BrokerRefusal::Permission), _) => Attempt::Failed(self.forbidden(&cause)),
            // Of the mark, which is small and plain: the topic of marks takes nothing.
            (Some(BrokerRefusal::TooLarge | BrokerRefusal::Invalid), Some(index)) if index % 2 == 1 => {
                Attempt::Failed(self.forbidden(&cause))
            }
            (Some(BrokerRefusal::TooLarge | BrokerRefusal::Invalid), _) => Attempt::Refused(cause),
        }
    }

    /// The producer is gone. `age` is the oldest that the coordinator can have timed out: of a producer that is
    /// younger, only another replay's can be the newer one.
    /// How old something of this replay's own can be that has fenced the producer.
    fn age_of(&self, open_since: Option<Instant>) -> Duration {
        open_since.map_or(Duration::MAX, |since| self.clock.now().saturating_duration_since(since))
    }

    fn without_producer(&self, failure: KafkaFailure, age: Duration) -> Attempt {
        let timeout = Duration::from_millis(self.config.kafka.transaction_timeout_ms);
        match failure {
            KafkaFailure::Fenced(cause) if age < timeout => Attempt::Failed(self.fenced(&cause)),
            KafkaFailure::Refused(_, cause) => Attempt::Failed(self.forbidden(&cause)),
            KafkaFailure::Fatal(cause) => Attempt::Failed(self.stuck(&cause)),
            KafkaFailure::Fenced(cause)
            | KafkaFailure::Retry(cause)
            | KafkaFailure::AbortAndResend(cause)
            | KafkaFailure::InDoubt(cause) => Attempt::Again(cause),
        }
    }

    fn fenced(&self, cause: &Cause) -> ReplayFailure {
        ReplayFailure::Fenced { dlq_topic: self.config.kafka.dlq_topic.clone(), cause: cause.to_string() }
    }

    fn forbidden(&self, cause: &Cause) -> ReplayFailure {
        ReplayFailure::Forbidden {
            cause: cause.to_string(),
            input: self.config.kafka.topic.clone(),
            marks: self.marks_topic.clone(),
            transactional_id: transactional_id(&self.config.kafka.dlq_topic),
        }
    }

    fn stuck(&self, cause: &Cause) -> ReplayFailure {
        let (input, marks) = (self.config.kafka.topic.clone(), self.marks_topic.clone());
        ReplayFailure::GivenUp { attempts: 1, cause: cause.to_string(), input, marks }
    }
}

/// The event as it goes back. It is stamped when it is produced: a copied timestamp could expire at once, would take
/// `updatedAt` back in time, and may be refused.
fn event<'r>(topic: &'r str, replay: &'r ReplayEvent) -> OutRecord<'r> {
    let headers = OwnedHeaders::new_with_capacity(replay.headers.len());
    let headers = replay
        .headers
        .iter()
        .fold(headers, |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() }));
    OutRecord {
        topic,
        partition: replay.partition.0,
        key: replay.key.as_deref(),
        value: replay.value.as_deref(),
        headers,
    }
}

/// The failure that decides.
fn worst(failed: Vec<Undelivered>) -> Undelivered {
    failed.into_iter().max_by_key(|failed| failed.failure.gravity()).expect("called with at least one")
}
