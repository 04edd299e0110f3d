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

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::kafka::client::context::ReportingContext;
use crate::kafka::client::errors::{BrokerRefusal, Cause, ClientCall, KafkaFailure};
use crate::kafka::client::settings::ProducerIdentity;
use crate::kafka::reader::topic_reader::TopicProgress;
use crate::kafka::transactions::driver::{
    GroupOffsets, ProducerState, TransactionDriver, TransactionOutcome, TransactionRequest,
};
use crate::kafka::transactions::producer_record::ProducerRecord;
use crate::ports::Clock;
use crate::tools::dlq::dlq_record::{DlqLocation, ReplayEvent};
use crate::tools::dlq::receipt::ReplayReceipts;
use crate::tools::dlq::receipts_topic;
use crate::tools::dlq::replay_failure::ReplayFailure;

/// How often a batch is tried in a row, before the replay gives up.
const MAX_ATTEMPTS: u32 = 4;

/// Events of one batch at most, so that a crash or another replay leaves little in doubt.
pub const BATCH_EVENTS: usize = 500;

/// Bytes of one batch, unless a single event has more. Half of what a topic takes by default, so that a batch is not
/// refused for what its events are together.
pub const BATCH_BYTES: usize = 524_288;

/// The pause before another attempt.
const PAUSE: Duration = Duration::from_millis(500);

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
    clock: Arc<dyn Clock>,
    limit: Duration,
    marks_topic: String,
    driver: TransactionDriver<ReportingContext>,
    /// Everything that is marked, of this run as well.
    replayed: ReplayReceipts,
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
        receipts_topic::prepare(config, &*clock)?;
        let id = transactional_id(&config.kafka.dlq_topic);
        let identity = ProducerIdentity { transactional_id: &id, client_id: "steward-dlq-replay" };
        let mut replayer = Replayer {
            config,
            driver: TransactionDriver::for_command(config, identity, Arc::clone(&clock)),
            clock,
            limit,
            marks_topic: receipts_topic::topic_of(&config.kafka.dlq_topic),
            replayed: ReplayReceipts::default(),
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
        self.driver.serve();
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
            if self.driver.state() != ProducerState::Ready {
                self.register(|_| ())?;
            }
            // Known only now: an attempt without a clear answer may have succeeded.
            let rest: Vec<&ReplayEvent> = batch.iter().filter(|replay| !self.replayed.contains(&replay.mark)).collect();
            if rest.is_empty() {
                return Ok(Ok(batch.len() as u64));
            }
            attempts += 1;
            let topics = (self.config.kafka.topic.as_str(), self.marks_topic.as_str());
            let Ok(outcome) = self.driver.run(&mut ReplayTransaction::new(topics, &rest));
            let cause = match outcome {
                TransactionOutcome::Committed { .. } => {
                    rest.iter().for_each(|replay| self.replayed.add(replay.mark));
                    return Ok(Ok(batch.len() as u64));
                }
                TransactionOutcome::Aborted(cause)
                | TransactionOutcome::InDoubt(cause)
                | TransactionOutcome::Fenced { cause, within_timeout: false } => cause,
                TransactionOutcome::Fenced { cause, within_timeout: true } => return Err(self.fenced(&cause)),
                TransactionOutcome::Refused { refusal, cause, record } => {
                    return if ReplayTransaction::is_of_an_event(refusal, record) {
                        Ok(Err(cause))
                    } else {
                        Err(self.forbidden(&cause))
                    };
                }
                TransactionOutcome::Fatal(cause) => return Err(self.stuck(&cause)),
            };
            if attempts >= MAX_ATTEMPTS {
                let (input, marks) = (self.config.kafka.topic.clone(), self.marks_topic.clone());
                return Err(ReplayFailure::GivenUp { attempts, cause: cause.to_string(), input, marks });
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// a) First the registration, then the marks.
    fn register(&mut self, progress: impl FnMut(TopicProgress)) -> Result<(), ReplayFailure> {
        let (config, limit, clock) = (self.config, self.limit, &*self.clock);
        let reset = self.driver.reset(limit, || receipts_topic::read_existing(config, limit, clock, progress));
        let read = reset.map_err(|failure| match failure {
            KafkaFailure::Fenced(cause) => self.fenced(&cause),
            KafkaFailure::Refused(_, cause) => self.forbidden(&cause),
            KafkaFailure::Retry(cause)
            | KafkaFailure::AbortAndResend(cause)
            | KafkaFailure::InDoubt(cause)
            | KafkaFailure::Fatal(cause) => self.stuck(&cause),
        })?;
        self.replayed = read?;
        Ok(())
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

/// Events, each with its receipt behind it.
struct ReplayTransaction<'r> {
    input: &'r str,
    receipts_topic: &'r str,
    /// With key and value of the receipt.
    events: Vec<(&'r ReplayEvent, String, String)>,
}

impl<'r> ReplayTransaction<'r> {
    fn new((input, receipts_topic): (&'r str, &'r str), batch: &[&'r ReplayEvent]) -> ReplayTransaction<'r> {
        let events = batch.iter().map(|event| (*event, event.mark.key(), event.mark.value())).collect();
        ReplayTransaction { input, receipts_topic, events }
    }

    /// Whether an event is refused for its content. Receipts are small and plain: if one is refused, the receipts topic
    /// takes nothing.
    fn is_of_an_event(refusal: BrokerRefusal, record: Option<usize>) -> bool {
        let is_receipt = record.is_some_and(|index| index % 2 == 1);
        match refusal {
            BrokerRefusal::Permission => false,
            BrokerRefusal::TooLarge | BrokerRefusal::Invalid => !is_receipt,
        }
    }
}

impl TransactionRequest for ReplayTransaction<'_> {
    type Stop = Infallible;
    type Withheld = Infallible;

    fn before(&mut self, _: ClientCall, _: Duration) -> Result<(), Infallible> {
        Ok(())
    }

    fn records(&self) -> impl Iterator<Item = ProducerRecord<'_>> {
        self.events.iter().flat_map(|(replay, key, value)| {
            let (partition, key, value) = (replay.letter.partition, key.as_bytes(), value.as_bytes());
            [event(self.input, replay), ProducerRecord::new(self.receipts_topic, partition, Some(key), Some(value))]
        })
    }

    fn offsets(&mut self) -> Result<Option<GroupOffsets>, Infallible> {
        Ok(None)
    }
}

/// The event as it goes back. It gets its timestamp when it is produced: a copied timestamp could expire at once, would
/// take `updatedAt` back in time, and may be refused.
fn event<'r>(topic: &'r str, replay: &'r ReplayEvent) -> ProducerRecord<'r> {
    let record = ProducerRecord::new(topic, replay.partition, replay.key.as_deref(), replay.value.as_deref());
    replay.headers.iter().fold(record, |record, (name, value)| record.header(name, value.as_deref()))
}
