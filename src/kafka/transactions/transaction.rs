//! Owns the open transaction and every way it can end.
//!
//! A [`Producer`] is traded for a [`Transaction`], and only a clear response gives it back. The client library repeats
//! requests by itself and does not report it. If the first copy of a repeated request was only delayed, it can end the
//! *next* transaction of the same producer epoch, or add offsets to it. A resend waits at least 0.8 x `RETRY_BACKOFF`,
//! so a call that returned sooner has sent its request once. Any other call leaves the producer in doubt, and the
//! producer is dropped even if the call succeeded.
//!
//! Offsets that were accepted late are committed nevertheless: both copies belong to this transaction, and a coordinator
//! that is always late would otherwise prevent every one. The transaction is in doubt afterwards.
//!
//! Source: KIP-447; KIP-890, which the client library does not implement; librdkafka's `rdkafka_txnmgr.c`.
//!
//! Architecture invariant: a producer whose last transaction is in doubt is never used again.
//! Architecture invariant: nothing here depends on the entity type; content is bytes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::OAuthToken;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, TopicPartitionList};

use crate::kafka::client::context::{TakesStatistics, read_statistics};
use crate::kafka::client::errors::{
    BrokerRefusal, Cause, ClientCall, ErrorClass, KafkaFailure, classify, classify_fatal,
};
use crate::kafka::client::ffi::serve_token;
use crate::kafka::client::settings::{RETRY_BACKOFF, with_refusals_logged};
use crate::kafka::transactions::earlier::EarlierProducers;
use crate::kafka::transactions::producer_record::ProducerRecord;
use crate::ports::Clock;
use crate::record::Partition;

/// A call that took this long may have sent its request twice: 0.8 of the client's backoff, which is its jitter.
pub const RESENT_AFTER: Duration = Duration::from_millis(RETRY_BACKOFF.as_millis() as u64 * 4 / 5);

/// How long the offsets are waited for, if the last transaction did not wait in vain. A later answer is in doubt, and costs
/// the producer whatever it says. From the second transaction on that ran into it the wait doubles, so that calls which
/// never return are few.
pub const WAIT_FOR_OFFSETS: Duration = RESENT_AFTER;

/// The same for the end of a transaction. It is longer because a late answer may still be that it took effect, and because
/// a registration in the meantime would abort it. Above it the coordinator is away, and a registration finds the next one
/// sooner than the client's repetitions.
const WAIT_FOR_END: Duration = Duration::from_secs(2);

/// Shortest limit of a call, however old the transaction is.
const LEAST_WAIT: Duration = Duration::from_secs(1);

/// A response that took this long was delayed.
const NOTICEABLE_DELAY: Duration = Duration::from_millis(100);

/// Limits of the calls of one registration: the first, and the longest. Each call makes the client ask at once for what
/// it waits for, the coordinator or the producer id. By itself it asks again only after 500 ms, a constant.
const FIRST_REGISTER_CALL: Duration = Duration::from_millis(25);
const LONGEST_REGISTER_CALL: Duration = Duration::from_millis(100);

/// The log line of the client library about a repeated registration: its facility, and its text if no broker has
/// responded, so that the request may still be under way.
const REGISTERS_AGAIN: &str = "GETPID";
const NO_RESPONSE: &str = "Local: ";

/// How long a broker still writes markers after it has reported a transaction as committed, for each partition of the
/// transaction. It refuses to begin another one meanwhile, and the client repeats the request only after 20 ms.
pub const MARKER_WRITTEN_WITHIN: Duration = Duration::from_micros(400);

/// Pause between two polls of a wait for deliveries. The client's own flush waits 100 ms, and a poll cannot wait for
/// less than 2 ms: it spends the remainder below a whole millisecond reading the clock.
const DELIVERY_POLL: Duration = Duration::from_micros(500);

/// How long to wait for further deliveries after a record was refused and nothing else was reported. The client sends
/// nothing more then, and reports what is left in its queue only when it is purged, or at its timeout.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);

/// Wait of one poll while the queue is full.
const FULL_QUEUE_POLL: Duration = Duration::from_millis(5);

/// A producer without an open transaction. Every request so far had a clear response.
pub struct Producer<C: TakesStatistics + 'static> {
    client: Closing<C>,
    clock: Arc<dyn Clock>,
    transaction_timeout: Duration,
    /// When it had registered, or its last transaction had ended. Its producer epoch was the newest then.
    last_response: Instant,
}

/// What the producers of one transactional id are built from.
pub struct ProducerParts<C> {
    /// The settings of a transactional producer.
    pub config: ClientConfig,
    pub context: C,
    pub clock: Arc<dyn Clock>,
    pub transaction_timeout: Duration,
    /// Shared by all drivers of the transactional id.
    pub earlier: Arc<EarlierProducers>,
}

/// An open transaction. If it is dropped, it stays open until the next producer of this id registers, or until it times
/// out.
pub struct Transaction<C: TakesStatistics + 'static> {
    producer: Producer<C>,
    began: Instant,
    /// The next transaction needs another producer. A record was not delivered: the partition's sequence numbers have a
    /// gap, which costs this epoch the next transaction. Or a broker does not respond on this producer's connection.
    /// Or the offsets were accepted late.
    is_unusable: bool,
    /// Why the transaction is in doubt whatever its end returns: its offsets were accepted late.
    doubt: Option<Cause>,
}

/// How a transaction ended. Only a clear response gives the producer back.
pub enum Ended<C: TakesStatistics + 'static> {
    /// It took effect, and every request was sent once. The duration is from begin to the response.
    Committed(Producer<C>, Duration),
    /// It had no effect. The producer comes back only if the abort was quick, every record was delivered, and the
    /// brokers respond.
    Aborted(Option<Producer<C>>, Cause),
    /// It has no clear end. The failure is neither `Retry` nor `AbortAndResend`.
    Failed(KafkaFailure),
}

/// One of the reasons why a transaction cannot be committed.
#[derive(Debug, Clone)]
pub struct Undelivered {
    /// The index of the record that failed; `None` if the transaction failed as a whole.
    pub index: Option<usize>,
    pub failure: KafkaFailure,
}

impl<C: TakesStatistics + Clone + 'static> Producer<C> {
    /// Connects and registers the transactional id, which fences every earlier producer of that id and ends what they
    /// have open. Blocks up to `limit`.
    ///
    /// # Errors
    /// [`KafkaFailure::Retry`] if the limit has passed, `Fenced` if another process registers at the same moment,
    /// `Refused` if an ACL is missing, `Fatal` otherwise.
    pub fn register(parts: &ProducerParts<C>, limit: Duration) -> Result<Producer<C>, KafkaFailure> {
        let (clock, earlier) = (Arc::clone(&parts.clock), Arc::clone(&parts.earlier));
        let deadline = clock.now() + limit;
        let context = Deliveries {
            inner: parts.context.clone(),
            failed: Mutex::default(),
            earlier: Arc::clone(&earlier),
            clock: Arc::clone(&clock),
        };
        let detailed = earlier.logs_refusals().then(|| with_refusals_logged(&parts.config));
        let client = BaseProducer::from_config_and_context(detailed.as_ref().unwrap_or(&parts.config), context)
            .map_err(|error| classify(&error, ClientCall::Init))
            .map(|client| Closing { client: Some(client), earlier })?;
        let mut call_limit = FIRST_REGISTER_CALL;
        loop {
            serve_token(client.get().client());
            // Each call resumes the one before. Callbacks are served in between.
            let Err(error) = client.get().init_transactions(call_limit) else { break };
            call_limit = (call_limit * 2).min(LONGEST_REGISTER_CALL);
            let failure = classify(&error, ClientCall::Init);
            if !matches!(failure, KafkaFailure::Retry(_)) || clock.now() >= deadline {
                client.earlier.had_no_response(clock.now());
                return Err(failure);
            }
            client.get().poll(FULL_QUEUE_POLL);
        }
        let last_response = clock.now();
        Ok(Producer { client, clock, transaction_timeout: parts.transaction_timeout, last_response })
    }
}

impl<C: TakesStatistics + 'static> Producer<C> {
    /// Opens a transaction. That is local; the first record reaches the coordinator. An error drops the producer.
    pub fn begin(self) -> Result<Transaction<C>, KafkaFailure> {
        self.context().lock().clear();
        match self.client.get().begin_transaction() {
            Ok(()) => Ok(Transaction { began: self.clock.now(), producer: self, is_unusable: false, doubt: None }),
            Err(error) => Err(self.classify(&error, ClientCall::Begin)),
        }
    }

    pub fn serve(&self) {
        serve_token(self.client.get().client());
        self.client.get().poll(Duration::ZERO);
    }

    fn context(&self) -> &Deliveries<C> {
        self.client.get().context()
    }

    /// Classifies an error. A code that only reports an earlier failure of the client is replaced by that failure.
    fn classify(&self, error: &KafkaError, step: ClientCall) -> KafkaFailure {
        if ErrorClass::of(error) == ErrorClass::ClientFailed
            && let Some((code, text)) = self.client.get().client().fatal_error()
        {
            return classify_fatal(code, text, step);
        }
        classify(error, step)
    }
}

impl<C: TakesStatistics + 'static> Transaction<C> {
    /// Puts a record into the client's queue; `index` names it in [`Undelivered`]. Waits while the queue is full, at
    /// most as long as the transaction may last. A record that does not even fit into an empty queue is refused as too
    /// large. After an error the transaction has to be aborted, or dropped.
    pub fn stage(&mut self, record: ProducerRecord<'_>, index: usize) -> Result<(), KafkaFailure> {
        let client = self.producer.client.get();
        let mut outgoing = BaseRecord::<[u8], [u8], usize> {
            topic: record.topic,
            partition: Some(record.partition.0),
            payload: record.value,
            key: record.key,
            timestamp: None,
            headers: Some(record.headers),
            delivery_opaque: index,
        };
        let mut was_empty = false;
        loop {
            let Err((error, returned)) = client.send(outgoing) else { return Ok(()) };
            let failure = self.producer.classify(&error, ClientCall::Produce);
            let KafkaFailure::Retry(cause) = failure else {
                self.is_unusable = true;
                return Err(failure);
            };
            if was_empty {
                self.is_unusable = true;
                let text = format!("the record is larger than the client's queue ({cause})");
                return Err(KafkaFailure::Refused(BrokerRefusal::TooLarge, Cause { text, ..cause }));
            }
            // Deliveries go on meanwhile, so only the next attempt shows whether the record alone is too large.
            was_empty = client.in_flight_count() == 0;
            if self.is_overdue() {
                return Err(KafkaFailure::AbortAndResend(Cause { timed_out: true, ..cause }));
            }
            client.poll(FULL_QUEUE_POLL);
            outgoing = returned;
        }
    }

    /// Waits until every staged record is delivered, at most as long as the transaction may last. An error has at least
    /// one failure.
    pub fn wait_for_deliveries(&mut self) -> Result<(), Vec<Undelivered>> {
        let client = self.producer.client.get();
        let mut late = None;
        let mut last_failure = (0, self.producer.clock.now());
        while client.in_flight_count() > 0 {
            let failures = self.producer.context().lock().len();
            let now = self.producer.clock.now();
            if failures > last_failure.0 {
                last_failure = (failures, now);
            } else if failures > 0 && now.saturating_duration_since(last_failure.1) > AFTER_REFUSAL && self.is_refused()
            {
                break;
            }
            if self.is_overdue() {
                let left = client.in_flight_count();
                let text = format!("{left} records were not delivered within the transaction's timeout");
                late = Some(Undelivered { index: None, failure: KafkaFailure::AbortAndResend(Cause::timeout(text)) });
                break;
            }
            client.poll(Duration::ZERO);
            std::thread::sleep(DELIVERY_POLL);
        }
        let reported = std::mem::take(&mut *self.producer.context().lock());
        let refused = self.producer.client.earlier.refused_for_now(self.began);
        // A smaller transaction would wait as well.
        let not_too_large = |failure: KafkaFailure| match (failure, &refused) {
            (KafkaFailure::AbortAndResend(cause), Some(refused)) if cause.timed_out => {
                KafkaFailure::AbortAndResend(Cause {
                    text: format!("{refused}; {}", cause.text),
                    timed_out: false,
                    ..cause
                })
            }
            (failure, _) => failure,
        };
        let failure = |error: &KafkaError| not_too_large(self.producer.classify(error, ClientCall::Delivery));
        let mut failed: Vec<Undelivered> = reported
            .iter()
            .map(|(index, error)| Undelivered { index: Some(*index), failure: failure(error) })
            .collect();
        let late = late.map(|Undelivered { index, failure }| Undelivered { index, failure: not_too_large(failure) });
        failed.extend(late);
        if failed.is_empty() {
            return Ok(());
        }
        self.is_unusable = true;
        if self.is_overdue() {
            self.producer.client.earlier.waited_in_vain();
        }
        failed.extend(self.own_failure());
        Err(failed)
    }

    /// Returns whether a record was refused for its content, so that the transaction can only be aborted.
    fn is_refused(&self) -> bool {
        let reported = self.producer.context().lock();
        reported.iter().any(|(_, error)| matches!(classify(error, ClientCall::Delivery), KafkaFailure::Refused(..)))
    }

    /// Waits until the brokers that lead these partitions respond without delay, if one of them has delayed a request of
    /// late. A broker whose quota is exceeded accepts the records at once and then ignores the connection for as long as
    /// the records would have taken. The offsets would wait behind that, and their late response would be in doubt.
    ///
    /// # Errors
    /// The delay does not end in time. The connection stays blocked, so the next transaction gets another one.
    pub fn wait_out_delay<'r>(
        &mut self,
        partitions: impl Iterator<Item = (&'r str, Partition)>,
    ) -> Result<(), KafkaFailure> {
        if !self.producer.client.earlier.may_be_delayed(self.producer.clock.now()) {
            return Ok(());
        }
        for (topic, partition) in partitions.collect::<BTreeSet<_>>() {
            let started = self.producer.clock.now();
            // The rest of the timeout is for the offsets and the commit.
            let left = (self.producer.transaction_timeout * 3 / 4).saturating_sub(self.age()).max(LEAST_WAIT);
            let response = self.producer.client.get().client().fetch_watermarks(topic, partition.0, left);
            let took = self.producer.clock.now().saturating_duration_since(started);
            if took >= NOTICEABLE_DELAY {
                self.producer.client.earlier.were_delayed(self.producer.clock.now());
            }
            // Another failure than a timeout says nothing about a delay; the next call has its own.
            if response.is_err_and(|error| ErrorClass::of(&error) == ErrorClass::TimedOut) {
                self.is_unusable = true;
                let text = format!(
                    "the broker of partition {partition} of {topic} delays its responses, perhaps because of a quota, and did not respond within {} ms",
                    left.as_millis()
                );
                return Err(KafkaFailure::AbortAndResend(Cause::timeout(text)));
            }
        }
        Ok(())
    }

    /// Returns the failure of the transaction as a whole, which no delivery report has.
    ///
    /// The client refuses to open a transaction while one is open. The refusal names the error, if there was one.
    fn own_failure(&self) -> Option<Undelivered> {
        let error = self.producer.client.get().begin_transaction().err()?;
        let is_error = ErrorClass::of(&error) != ErrorClass::WrongState;
        is_error.then(|| Undelivered { index: None, failure: self.producer.classify(&error, ClientCall::Delivery) })
    }

    /// Adds the input offsets under the group's generation.
    ///
    /// The client may block here far beyond its limit after the group's coordinator has moved, until a connection to
    /// some broker changes. The caller has to be able to abandon this thread.
    ///
    /// If the call succeeds so late that the request may have been sent twice, the end of the transaction is in doubt.
    ///
    /// # Errors
    /// The transaction cannot be committed.
    pub fn send_offsets(
        &mut self,
        offsets: &TopicPartitionList,
        group: &ConsumerGroupMetadata,
    ) -> Result<(), KafkaFailure> {
        let started = self.producer.clock.now();
        let result = self.producer.client.get().send_offsets_to_transaction(offsets, group, self.offsets_limit());
        if self.producer.clock.now().saturating_duration_since(started) >= RESENT_AFTER {
            self.producer.client.earlier.were_delayed(self.producer.clock.now());
        }
        let is_accepted = result.is_ok();
        let failure = result.err().map(|error| self.producer.classify(&error, ClientCall::SendOffsets));
        match self.settle(ClientCall::SendOffsets, started, failure) {
            Err(KafkaFailure::InDoubt(cause)) if is_accepted => {
                self.is_unusable = true;
                self.doubt = Some(cause);
                Ok(())
            }
            settled => settled,
        }
    }

    /// Commits the transaction. Its records must be delivered before.
    pub fn commit(mut self) -> Ended<C> {
        let (started, limit) = (self.producer.clock.now(), self.end_limit());
        let result = self.producer.client.get().commit_transaction(limit);
        if self.producer.clock.now().saturating_duration_since(started) >= limit {
            self.producer.client.earlier.waited_in_vain_for_answer();
        }
        let failure = result.err().map(|error| self.producer.classify(&error, ClientCall::Commit));
        match (self.settle(ClientCall::Commit, started, failure), self.doubt.take()) {
            (Ok(()), None) => {
                let took = self.age();
                self.producer.last_response = self.producer.clock.now();
                self.producer.client.earlier.committed();
                Ended::Committed(self.producer, took)
            }
            (Ok(()), Some(doubt)) => Ended::Failed(KafkaFailure::InDoubt(doubt)),
            // The client reports this before it sends anything, so there is a transaction to abort.
            (Err(KafkaFailure::AbortAndResend(cause) | KafkaFailure::Retry(cause)), _) => self.abort(cause),
            (Err(failure), _) => Ended::Failed(failure),
        }
    }

    pub fn abort(mut self, why: Cause) -> Ended<C> {
        let client = self.producer.client.get();
        let limit = self.time_left();
        let started = self.producer.clock.now();
        let result = match client.in_flight_count() {
            0 => client.abort_transaction(limit),
            _ => while_polled(client, || client.abort_transaction(limit)),
        };
        let ended = self.producer.clock.now();
        let quick = ended.saturating_duration_since(started) < RESENT_AFTER;
        match result {
            Ok(()) => {
                self.producer.last_response = ended;
                Ended::Aborted((quick && !self.is_unusable).then_some(self.producer), why)
            }
            Err(error) => {
                let failure = self.producer.classify(&error, ClientCall::Abort);
                Ended::Failed(self.settle(ClientCall::Abort, started, Some(failure)).expect_err("a failure stays one"))
            }
        }
    }

    /// Returns since when the coordinator may have held a transaction of this producer open. That can be longer than
    /// this transaction is open. The client repeats the request that adds partitions as soon as it is connected again,
    /// and the delayed first copy opens a transaction of its own. The coordinator times that one out, however quick
    /// this one is.
    ///
    /// `None` while the request of an earlier registration, or a second request of this one, may still arrive and raise
    /// the producer epoch. Then a fenced producer does not prove that there is another process.
    pub fn may_be_open_since(&self) -> Option<Instant> {
        let may_be_overtaken = self.producer.client.earlier.may_still_register(self.producer.clock.now());
        (!may_be_overtaken).then_some(self.producer.last_response)
    }

    pub fn age(&self) -> Duration {
        self.producer.clock.now().saturating_duration_since(self.began)
    }

    /// A call that may have sent its request twice is in doubt, whatever it returned. `Fenced` is a clear response.
    fn settle(&self, step: ClientCall, started: Instant, failure: Option<KafkaFailure>) -> Result<(), KafkaFailure> {
        let took = self.producer.clock.now().saturating_duration_since(started);
        let cause = match failure {
            Some(KafkaFailure::Fenced(cause)) => return Err(KafkaFailure::Fenced(cause)),
            Some(KafkaFailure::Fatal(cause)) => return Err(KafkaFailure::Fatal(cause)),
            Some(other) if took < RESENT_AFTER => return Err(other),
            Some(other) => other.cause().clone(),
            None if took < RESENT_AFTER => return Ok(()),
            None => Cause::timeout("it succeeded, but so late that it may have been sent twice"),
        };
        Err(KafkaFailure::InDoubt(Cause {
            text: format!("{step:?} took {} ms: {}", took.as_millis(), cause.text),
            ..cause
        }))
    }

    /// Returns the limit of the next call: what is left of the transaction timeout, and at least `LEAST_WAIT`.
    pub fn time_left(&self) -> Duration {
        self.producer.transaction_timeout.saturating_sub(self.age()).max(LEAST_WAIT)
    }

    /// Returns how long the offsets are waited for.
    pub fn offsets_limit(&self) -> Duration {
        (WAIT_FOR_OFFSETS * self.producer.client.earlier.wait_factor()).min(self.time_left())
    }

    /// Returns how long the end is waited for.
    pub fn end_limit(&self) -> Duration {
        (WAIT_FOR_END * self.producer.client.earlier.wait_factor()).min(self.time_left())
    }

    fn is_overdue(&self) -> bool {
        self.age() >= self.producer.transaction_timeout
    }
}

/// Runs `call` while another thread serves the delivery reports that it waits for.
fn while_polled<P, T>(client: &BaseProducer<P>, call: impl FnOnce() -> T) -> T
where
    P: ProducerContext,
{
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let poll = || {
            while !done.load(Ordering::Acquire) {
                client.poll(FULL_QUEUE_POLL);
            }
        };
        let name = "abort-poll".to_owned();
        // Without the thread the call runs into its limit, which is an answer too.
        let _polling = std::thread::Builder::new().name(name).spawn_scoped(scope, poll);
        let result = call();
        done.store(true, Ordering::Release);
        result
    })
}

/// A client that is destroyed on a thread of its own: with an open transaction, or brokers that are away, that is slow.
struct Closing<C: TakesStatistics + 'static> {
    /// `None` only during the drop.
    client: Option<BaseProducer<Deliveries<C>>>,
    earlier: Arc<EarlierProducers>,
}

impl<C: TakesStatistics + 'static> Closing<C> {
    fn get(&self) -> &BaseProducer<Deliveries<C>> {
        self.client.as_ref().expect("taken by drop alone")
    }
}

impl<C: TakesStatistics + 'static> Drop for Closing<C> {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let closing = self.earlier.one_more_closes();
        let close = move || {
            drop(client);
            drop(closing);
        };
        // Without a thread the client is destroyed here, with the closure.
        drop(std::thread::Builder::new().name("producer-close".to_owned()).spawn(close));
    }
}

/// Stores which records were not delivered, and when a registration was repeated: the library reports that only in its
/// log. Passes everything except the deliveries to the inner context.
struct Deliveries<C> {
    inner: C,
    failed: Mutex<Vec<(usize, KafkaError)>>,
    earlier: Arc<EarlierProducers>,
    clock: Arc<dyn Clock>,
}

impl<C> Deliveries<C> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(usize, KafkaError)>> {
        // A panic cannot leave a half-done push.
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: TakesStatistics> ClientContext for Deliveries<C> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == REGISTERS_AGAIN && message.contains(NO_RESPONSE) {
            self.earlier.had_no_response(self.clock.now());
        }
        if matches!(level, RDKafkaLogLevel::Debug) && self.earlier.logs_refusals() {
            self.earlier.logged(facility, message, self.clock.now());
        }
        self.inner.log(level, facility, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let Ok(read) = read_statistics(statistics, None) else { return self.inner.stats_raw(statistics) };
        if read.throttle.is_some() {
            self.earlier.were_delayed(self.clock.now());
        }
        self.inner.take_statistics(read);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.inner.error(error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.inner.generate_oauth_token(config)
    }
}

impl<C: TakesStatistics> ProducerContext for Deliveries<C> {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        if let Err((error, _)) = result {
            self.lock().push((index, error.clone()));
        }
    }
}
