//! Owns the one procedure that runs a transaction, for the commit thread and for `steward dlq replay`:
//! [`TransactionDriver`].
//!
//! A driver holds the producer of one transactional id. A run makes the calls in the order of [`ClientCall`]: it begins
//! a transaction, produces every record, waits for the deliveries, sends the offsets if there are any, and commits. The
//! caller supplies the content as a [`TransactionRequest`] and maps the [`TransactionOutcome`] to its own action.
//!
//! That no transaction takes effect twice, and that none is believed committed and is not, rests on these facts:
//!
//! a) **A registration fences.** It ends every transaction that an earlier producer of the transactional id has open,
//!    and the broker refuses that producer from then on.
//! b) **Only a clear answer returns the producer** (see [`Ended`]). Any other end drops it. So a delayed request of a
//!    transaction in doubt cannot hit a later transaction: that one has another producer epoch.
//! c) **After a transaction in doubt, [`TransactionDriver::reset`] is the only way to a producer.** It registers first,
//!    and only then lets the caller read what was committed. In the other order the old transaction could still commit
//!    after the read. In this order nothing can change the answer, and the caller decides by it: the commit thread by
//!    the committed offsets and their metadata, the replay by its receipts.
//! d) **A transaction whose commit was never sent has no effect** once it is aborted, or once another producer has
//!    registered. [`TransactionDriver::replace`] is enough then. It is only for a caller whose content no other process
//!    can have sent meanwhile. The offsets of the commit thread are such content: the group's generation fences them.
//!    Nothing fences a replay but the registration, so a replay always resets.
//! e) **The offsets are the last thing before the commit.** [`TransactionRequest::offsets`] is called after all records
//!    are delivered, and can withhold the offsets: then the transaction is aborted. The commit thread takes the group's
//!    metadata there and compares the ownership epochs; the order of these two is its own.
//! f) **A fenced producer is of two kinds.** Within the transaction timeout only another process can have fenced it.
//!    Later, the coordinator may have timed the transaction out; librdkafka gives the same code. The age counts from the
//!    producer's last clear answer, and is unlimited while a late registration of this process may still arrive.
//! g) **INVALID_TXN_STATE and INVALID_PRODUCER_ID_MAPPING are in doubt, not fatal** (see `client::errors`), although
//!    librdkafka flags them as fatal. A new producer continues.
//!
//! Source: KIP-447 and KIP-890; librdkafka#5423, #4849.
//!
//! Architecture invariant: nothing here decides whether or when content is sent again.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;

use crate::config::Config;
use crate::kafka::admin::access::ClientMessages;
use crate::kafka::client::context::{ClientRole, ReportingContext, TakesStatistics};
use crate::kafka::client::errors::{BrokerRefusal, Cause, ClientCall, KafkaFailure};
use crate::kafka::client::settings::{ProducerIdentity, transactional_producer};
use crate::kafka::transactions::producer_record::ProducerRecord;
use crate::kafka::transactions::transaction::{Ended, Producer, ProducerParts, Transaction, Undelivered};
use crate::ports::Clock;

/// Clients of earlier producers that may be closing at the same time. A registration above this limit is refused, to be
/// tried again later.
const MAX_CLOSING: usize = 8;

/// The content of one transaction, and what its caller does between the calls.
pub trait TransactionRequest {
    /// Why the caller ends the run between two calls; `Infallible` if it never does.
    type Stop;
    /// Why the caller withholds the offsets; `Infallible` if it never does.
    type Withheld: fmt::Display;

    /// Called before each call that may block, with the longest time that the call may take.
    ///
    /// # Errors
    /// Ends the run at once. The producer is dropped, and its transaction stays open until the next registration.
    fn before(&mut self, call: ClientCall, limit: Duration) -> Result<(), Self::Stop>;

    /// The records in the order in which they are produced, the same ones on each call.
    fn records(&self) -> impl Iterator<Item = ProducerRecord<'_>>;

    /// Returns the offsets, after all records are delivered; `None` if the transaction has none. An error aborts it.
    fn offsets(&mut self) -> Result<Option<GroupOffsets>, Self::Withheld>;
}

/// Input offsets, and the group's metadata that fences them (KIP-447).
pub struct GroupOffsets {
    pub offsets: TopicPartitionList,
    pub group: ConsumerGroupMetadata,
}

/// How a run ended.
#[derive(Debug)]
pub enum TransactionOutcome<W> {
    /// It took effect, and every request was sent once.
    Committed {
        /// From begin to the response to the commit.
        took: Duration,
    },
    /// It had no effect. The same content may be sent again.
    Aborted(Cause),
    /// The caller withheld the offsets, and the transaction was aborted.
    Withheld(W),
    /// It had no effect, and the same content would be refused again.
    Refused {
        refusal: BrokerRefusal,
        cause: Cause,
        /// Index of the record that the broker refused; `None` if it refused the transaction as a whole.
        record: Option<usize>,
    },
    /// The broker refused the producer.
    Fenced {
        cause: Cause,
        /// `true`: only another process can have fenced the producer. See fact f) of the module.
        within_timeout: bool,
    },
    /// It may have taken effect, or a request of it may still be under way.
    InDoubt(Cause),
    Fatal(Cause),
}

impl<W> TransactionOutcome<W> {
    /// Returns the outcome of a failure that cost the producer, and with it whatever was open.
    pub fn without_producer(failure: KafkaFailure, within_timeout: bool) -> TransactionOutcome<W> {
        match failure {
            KafkaFailure::Fenced(cause) => TransactionOutcome::Fenced { cause, within_timeout },
            KafkaFailure::Retry(cause) | KafkaFailure::AbortAndResend(cause) | KafkaFailure::InDoubt(cause) => {
                TransactionOutcome::InDoubt(cause)
            }
            KafkaFailure::Refused(refusal, cause) => TransactionOutcome::Refused { refusal, cause, record: None },
            KafkaFailure::Fatal(cause) => TransactionOutcome::Fatal(cause),
        }
    }

    /// Names why a transaction was aborted, if it was: only then is it certain that it had no effect.
    fn replace_aborted(self, reason: TransactionOutcome<W>) -> TransactionOutcome<W> {
        if let TransactionOutcome::Aborted(_) = self { reason } else { self }
    }
}

/// What the driver needs before the next run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProducerReadiness {
    /// Nothing.
    Ready,
    /// A new producer: the last transaction had no effect, only its producer is in doubt (fact d).
    Replaceable,
    /// [`TransactionDriver::reset`]: there was no producer yet, or the last transaction is in doubt (fact c).
    ResetRequired,
}

/// Holds the producer of one transactional id between its transactions.
pub struct TransactionDriver<C: TakesStatistics + 'static> {
    parts: ProducerParts<C>,
    producer: Option<Producer<C>>,
    /// Whether [`TransactionDriver::replace`] is enough. Set only if there is no producer.
    is_replaceable: bool,
}

impl<C: TakesStatistics + Clone + 'static> TransactionDriver<C> {
    pub fn new(parts: ProducerParts<C>) -> TransactionDriver<C> {
        TransactionDriver { parts, producer: None, is_replaceable: false }
    }

    pub fn state(&self) -> ProducerReadiness {
        match &self.producer {
            Some(_) => ProducerReadiness::Ready,
            None if self.is_replaceable => ProducerReadiness::Replaceable,
            None => ProducerReadiness::ResetRequired,
        }
    }

    /// Serves the client's callbacks between two runs.
    pub fn serve(&self) {
        if let Some(producer) = &self.producer {
            producer.serve();
        }
    }

    /// Registers a new producer, then reads what was committed. The producer can be used only if both succeed (fact c).
    /// Blocks up to `limit` for the registration.
    ///
    /// # Errors
    /// The outer error is the registration's, see [`Producer::register`]; the inner one is that of `read_committed`.
    pub fn reset<T, E>(
        &mut self,
        limit: Duration,
        read_committed: impl FnOnce() -> Result<T, E>,
    ) -> Result<Result<T, E>, KafkaFailure> {
        let producer = self.register(limit)?;
        let read = read_committed();
        if read.is_ok() {
            self.producer = Some(producer);
        }
        Ok(read)
    }

    /// Registers a new producer without reading what was committed (fact d).
    pub fn replace(&mut self, limit: Duration) -> Result<(), KafkaFailure> {
        assert_eq!(self.state(), ProducerReadiness::Replaceable, "d) the last transaction had no effect");
        self.producer = Some(self.register(limit)?);
        Ok(())
    }

    fn register(&mut self, limit: Duration) -> Result<Producer<C>, KafkaFailure> {
        self.producer = None;
        self.is_replaceable = false;
        let closing = self.parts.earlier.closing();
        if closing > MAX_CLOSING {
            return Err(KafkaFailure::Retry(Cause::of_ours(format!("{closing} old producers are still closing"))));
        }
        Producer::register(&self.parts, limit)
    }

    /// Runs one transaction. Blocks at most as long as a transaction may last, except for the offsets (see
    /// [`Transaction::send_offsets`]). An error is the caller's own, from [`TransactionRequest::before`].
    pub fn run<R: TransactionRequest>(&mut self, request: &mut R) -> Result<TransactionOutcome<R::Withheld>, R::Stop> {
        let Some(producer) = self.producer.take() else {
            return Ok(TransactionOutcome::InDoubt(Cause::of_ours("there is no producer before a reset")));
        };
        request.before(ClientCall::Produce, self.parts.transaction_timeout)?;
        let mut transaction = match producer.begin() {
            Ok(transaction) => transaction,
            Err(failure) => return Ok(TransactionOutcome::without_producer(failure, true)),
        };
        if let Err(Undelivered { failure, index }) = produce(&mut transaction, request)? {
            return self.abort(transaction, failure, index, request);
        }
        match request.offsets() {
            Ok(None) => {}
            Ok(Some(GroupOffsets { offsets, group })) => {
                request.before(ClientCall::SendOffsets, transaction.offsets_limit())?;
                if let Err(failure) = transaction.send_offsets(&offsets, &group) {
                    return self.abort(transaction, failure, None, request);
                }
            }
            Err(withheld) => {
                let failure = KafkaFailure::AbortAndResend(Cause::of_ours(withheld.to_string()));
                let outcome = self.abort(transaction, failure, None, request)?;
                return Ok(outcome.replace_aborted(TransactionOutcome::Withheld(withheld)));
            }
        }
        request.before(ClientCall::Commit, transaction.end_limit())?;
        let open_since = transaction.may_be_open_since();
        Ok(self.conclude(transaction.commit(), open_since))
    }

    /// Aborts, if the failure leaves a transaction to abort. `record` is the one at fault.
    fn abort<R: TransactionRequest>(
        &mut self,
        transaction: Transaction<C>,
        failure: KafkaFailure,
        record: Option<usize>,
        request: &mut R,
    ) -> Result<TransactionOutcome<R::Withheld>, R::Stop> {
        let open_since = transaction.may_be_open_since();
        let (cause, refusal) = match failure {
            KafkaFailure::Retry(cause) | KafkaFailure::AbortAndResend(cause) => (cause, None),
            KafkaFailure::Refused(refusal, cause) => (cause, Some(refusal)),
            KafkaFailure::Fenced(_) | KafkaFailure::InDoubt(_) | KafkaFailure::Fatal(_) => {
                return Ok(TransactionOutcome::without_producer(failure, self.is_within_timeout(open_since)));
            }
        };
        request.before(ClientCall::Abort, transaction.time_left())?;
        let ended = transaction.abort(cause.clone());
        let Some(refusal) = refusal else { return Ok(self.conclude(ended, open_since)) };
        let refused = TransactionOutcome::Refused { refusal, cause, record };
        // If the first partition was refused, the coordinator has no transaction to abort, and the abort fails. No
        // commit was sent, so the transaction has no effect once another producer has registered (fact d).
        if let Ended::Failed(KafkaFailure::InDoubt(_)) = ended {
            self.is_replaceable = true;
            return Ok(refused);
        }
        Ok(self.conclude(ended, open_since).replace_aborted(refused))
    }

    /// Takes the producer back, if there is one.
    fn conclude<W>(&mut self, ended: Ended<C>, open_since: Option<Instant>) -> TransactionOutcome<W> {
        match ended {
            Ended::Committed(producer, took) => {
                self.producer = Some(producer);
                TransactionOutcome::Committed { took }
            }
            Ended::Aborted(producer, cause) => {
                self.is_replaceable = producer.is_none();
                self.producer = producer;
                TransactionOutcome::Aborted(cause)
            }
            Ended::Failed(failure) => TransactionOutcome::without_producer(failure, self.is_within_timeout(open_since)),
        }
    }

    /// Returns whether the coordinator cannot have timed out anything of this producer yet (fact f).
    fn is_within_timeout(&self, open_since: Option<Instant>) -> bool {
        let age = open_since.map(|since| self.parts.clock.now().saturating_duration_since(since));
        age.is_some_and(|age| age < self.parts.transaction_timeout)
    }
}

impl TransactionDriver<ReportingContext> {
    /// Returns the driver of a command, which is no member of a group. Messages of the client are dropped: the outcome
    /// of a run has its cause.
    pub fn for_command(
        config: &Config,
        identity: ProducerIdentity<'_>,
        clock: Arc<dyn Clock>,
    ) -> TransactionDriver<ReportingContext> {
        TransactionDriver::new(ProducerParts {
            config: transactional_producer(config, identity, None),
            context: ReportingContext::new(config, ClientRole::Producer, ClientMessages::new()),
            clock,
            transaction_timeout: Duration::from_millis(config.kafka.transaction_timeout_ms),
            earlier: Arc::default(),
        })
    }
}

/// Produces every record, and waits until all are delivered and the brokers respond without delay.
fn produce<C: TakesStatistics + 'static, R: TransactionRequest>(
    transaction: &mut Transaction<C>,
    request: &mut R,
) -> Result<Result<(), Undelivered>, R::Stop> {
    let mut failed = Vec::new();
    for (index, record) in request.records().enumerate() {
        if let Err(failure) = transaction.stage(record, index) {
            failed.push(Undelivered { index: Some(index), failure });
            break;
        }
    }
    // With `AbortAndResend` the client takes no more records because something failed before: the deliveries have the
    // cause. Any other failure is the record's own.
    let has_cause = failed.iter().any(|failed| !matches!(failed.failure, KafkaFailure::AbortAndResend(_)));
    if !has_cause {
        request.before(ClientCall::Delivery, transaction.time_left())?;
        failed.extend(transaction.wait_for_deliveries().err().unwrap_or_default());
    }
    if failed.is_empty() {
        let partitions = request.records().map(|record| (record.topic, record.partition));
        failed.extend(transaction.wait_out_delay(partitions).err().map(|failure| Undelivered { index: None, failure }));
    }
    Ok(if failed.is_empty() { Ok(()) } else { Err(decisive(failed, request)) })
}

/// Returns the failure that decides. A record that is too large fails together with its neighbours in the record batch,
/// and the largest of them is the one at fault.
fn decisive(failed: Vec<Undelivered>, request: &impl TransactionRequest) -> Undelivered {
    let weights: Vec<u64> = request.records().map(|record| record.weight_bytes()).collect();
    let rank = |failed: &Undelivered| {
        let weight = failed.index.map(|index| weights[index]);
        (failed.failure.gravity(), failed.failure.cause().timed_out, weight)
    };
    failed.into_iter().max_by_key(rank).expect("called with at least one failure")
}
