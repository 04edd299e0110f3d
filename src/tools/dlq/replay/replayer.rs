//! Owns the replay of DLQ records: each is sent to the input again once, whichever process is killed when, and however
//! many replays run.
//!
//! An event and its receipt leave in one transaction. Three facts together make a DLQ record replayed once:
//!
//! a) **A sender has read every receipt.** A producer registers first, which fences an earlier producer of the same
//!    transactional id and ends its transaction. Only then the receipts are read, to the high watermark. The only way to a
//!    producer is `Replayer::register`, which does both in this order.
//! b) **All replays of a DLQ topic share a transactional id,** made from the topic's name alone. So a second replay at the
//!    same time fences the first, which stops. What both could send is sent only by the one that registered last, after it
//!    has read what the other committed.
//! c) **After an end without a clear response the producer is never used again.** A new one registers and the receipts are
//!    read again (a). The DLQ records that they name are replayed already.
//!
//! A batch that the brokers refuse for its content is sent record by record, so that the record at fault is found. It is
//! reported, and the others are sent.
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
    GroupOffsets, ProducerReadiness, TransactionDriver, TransactionOutcome, TransactionRequest,
};
use crate::kafka::transactions::producer_record::ProducerRecord;
use crate::ports::Clock;
use crate::tools::dlq::dlq_record::ReplayEvent;
use crate::tools::dlq::location::DlqLocation;
use crate::tools::dlq::receipt::ReplayReceipts;
use crate::tools::dlq::receipts_topic;
use crate::tools::dlq::replay_failure::ReplayFailure;

/// Attempts for one batch before the replay ends.
const MAX_ATTEMPTS: u32 = 4;

/// Most events of one batch, so that a crash or another replay leaves little in doubt.
pub const BATCH_EVENTS: usize = 500;

/// Bytes of one batch, unless a single event has more. Half of what a topic takes by default, so that a batch is not
/// refused for its total size.
pub const BATCH_BYTES: usize = 524_288;

const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub struct ReplayProgress {
    /// How many events are in the input.
    pub replayed: u64,
    /// The DLQ records whose events the broker refuses, and why.
    pub refused: Vec<(DlqLocation, String)>,
}

/// Returns the transactional id of every replay of a DLQ topic. An instance name has no colon, so no process of a group
/// can have this id.
pub fn transactional_id(dlq_topic: &str) -> String {
    format!("{dlq_topic}:replay")
}

/// Replays DLQ records. Two at a time fence each other.
pub struct Replayer<'a> {
    config: &'a Config,
    clock: Arc<dyn Clock>,
    limit: Duration,
    receipts_topic: String,
    driver: TransactionDriver<ReportingContext>,
    /// All receipts, with those of this run.
    replayed: ReplayReceipts,
}

impl<'a> Replayer<'a> {
    /// Creates the receipts topic if it is missing, fences every other replay, and reads the receipts.
    ///
    /// # Errors
    /// The brokers do not respond within `limit` or refuse, or the receipts topic does not keep every receipt.
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
            receipts_topic: receipts_topic::topic_of(&config.kafka.dlq_topic),
            replayed: ReplayReceipts::default(),
        };
        replayer.register(progress)?;
        Ok(replayer)
    }

    pub fn replayed(&self) -> &ReplayReceipts {
        &self.replayed
    }

    /// Serves the client's callbacks between two batches.
    pub fn serve(&self) {
        self.driver.serve();
    }

    /// Produces the events and their receipts in one transaction. Blocks, and tries again up to a limit.
    ///
    /// # Errors
    /// Whether the batch is in the input is not known; the receipts show it.
    pub fn send(&mut self, batch: Vec<ReplayEvent>) -> Result<ReplayProgress, ReplayFailure> {
        let mut sent = ReplayProgress::default();
        match self.send_all(&batch)? {
            Ok(replayed) => sent.replayed += replayed,
            Err(_) => {
                for replay in batch {
                    match self.send_all(std::slice::from_ref(&replay))? {
                        Ok(replayed) => sent.replayed += replayed,
                        Err(cause) => sent.refused.push((replay.location, cause.to_string())),
                    }
                }
            }
        }
        Ok(sent)
    }

    /// Returns how many events are in the input, or the refusal of the batch for its content.
    fn send_all(&mut self, batch: &[ReplayEvent]) -> Result<Result<u64, Cause>, ReplayFailure> {
        let mut attempts = 0;
        loop {
            if self.driver.state() != ProducerReadiness::Ready {
                self.register(|_| ())?;
            }
            // Known only after the reset: an attempt in doubt may have succeeded.
            let rest: Vec<&ReplayEvent> =
                batch.iter().filter(|replay| !self.replayed.contains(&replay.receipt)).collect();
            if rest.is_empty() {
                return Ok(Ok(batch.len() as u64));
            }
            attempts += 1;
            let mut transaction = ReplayTransaction {
                input: &self.config.kafka.topic,
                receipts_topic: &self.receipts_topic,
                events: rest.iter().map(|event| (*event, event.receipt.key(), event.receipt.value())).collect(),
            };
            let Ok(outcome) = self.driver.run(&mut transaction);
            let cause = match outcome {
                TransactionOutcome::Committed { .. } => {
                    rest.iter().for_each(|replay| self.replayed.add(replay.receipt));
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
                TransactionOutcome::Fatal(cause) => return Err(self.given_up(1, &cause)),
            };
            if attempts >= MAX_ATTEMPTS {
                return Err(self.given_up(attempts, &cause));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// a) First the registration, then the receipts.
    fn register(&mut self, progress: impl FnMut(TopicProgress)) -> Result<(), ReplayFailure> {
        let (config, limit, clock) = (self.config, self.limit, &*self.clock);
        let reset = self.driver.reset(limit, || receipts_topic::read_existing(config, limit, clock, progress));
        let read = reset.map_err(|failure| match failure {
            KafkaFailure::Fenced(cause) => self.fenced(&cause),
            KafkaFailure::Refused(_, cause) => self.forbidden(&cause),
            KafkaFailure::Retry(cause)
            | KafkaFailure::AbortAndResend(cause)
            | KafkaFailure::InDoubt(cause)
            | KafkaFailure::Fatal(cause) => self.given_up(1, &cause),
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
            receipts: self.receipts_topic.clone(),
            transactional_id: transactional_id(&self.config.kafka.dlq_topic),
        }
    }

    fn given_up(&self, attempts: u32, cause: &Cause) -> ReplayFailure {
        let (input, receipts) = (self.config.kafka.topic.clone(), self.receipts_topic.clone());
        ReplayFailure::GivenUp { attempts, cause: cause.to_string(), input, receipts }
    }
}

/// Events, each followed by its receipt.
struct ReplayTransaction<'r> {
    input: &'r str,
    receipts_topic: &'r str,
    /// With key and value of the receipt.
    events: Vec<(&'r ReplayEvent, String, String)>,
}

impl ReplayTransaction<'_> {
    /// Returns whether an event is refused for its content. Receipts are small and plain: if one is refused, the
    /// receipts topic takes nothing.
    fn is_of_an_event(refusal: BrokerRefusal, record: Option<usize>) -> bool {
        let is_receipt = record.is_some_and(|index| index % 2 == 1);
        match refusal {
            BrokerRefusal::Permission | BrokerRefusal::Clock => false,
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
            let (partition, key, value) = (replay.location.partition, key.as_bytes(), value.as_bytes());
            [event(self.input, replay), ProducerRecord::new(self.receipts_topic, partition, Some(key), Some(value))]
        })
    }

    fn offsets(&mut self) -> Result<Option<GroupOffsets>, Infallible> {
        Ok(None)
    }
}

/// Returns the event as it goes back. It gets its timestamp when it is produced: a copied timestamp could expire at
/// once, would take `updatedAt` back in time, and may be refused.
fn event<'r>(topic: &'r str, replay: &'r ReplayEvent) -> ProducerRecord<'r> {
    let record = ProducerRecord::new(topic, replay.partition, replay.key.as_deref(), replay.value.as_deref());
    replay.headers.iter().fold(record, |record, (name, value)| record.header(name, value.as_deref()))
}
