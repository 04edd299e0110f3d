//! Owns a producer without transactions, for `steward produce`: in order, each record once, in bounded memory.
//!
//! Deliveries are counted per tag, which the caller gives to each record. Single records are not remembered.
//!
//! Architecture invariant: all records of a key are in one partition, in the order in which they were sent. The producer
//! is idempotent, never drops a record by itself, and hashes keys as Kafka's own clients do.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};
use rdkafka::util::IntoOpaque;
use rdkafka::{ClientContext, Statistics};

use crate::config::Config;
use crate::kafka::admin::access::{Access, AccessFailure, ClientMessages, UNKNOWN_TOPIC_PATIENCE};
use crate::kafka::client::context::{ClientRole, ReportingContext};
use crate::kafka::client::errors::{ErrorClass, class_of};
use crate::kafka::client::ffi::{serve_token, waiting_callbacks};
use crate::kafka::client::settings::{Compression, SettingsError, plain_producer};
use crate::ports::Clock;
use crate::record::Partition;

/// Limit of the wait of one [`PlainProducer::poll`].
const LONGEST_SLEEP: Duration = Duration::from_millis(1);
/// Calls of the client's poll in a row without a delivery report, after which the queue counts as empty.
const MAX_EMPTY_POLLS: u32 = 16;

#[derive(Debug, Clone, Copy)]
pub struct PlainRecord<'a> {
    /// `None`: the key decides.
    pub partition: Option<Partition>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// Milliseconds since 1970. The client library takes 0 for the present.
    pub timestamp_ms: i64,
    pub headers: &'a [(String, Vec<u8>)],
}

impl<'a> PlainRecord<'a> {
    /// `opaque` comes back with the delivery report.
    pub(super) fn for_client<D: IntoOpaque>(self, topic: &'a str, opaque: D) -> BaseRecord<'a, [u8], [u8], D> {
        let mut record = BaseRecord::with_opaque_to(topic, opaque).timestamp(self.timestamp_ms);
        record.partition = self.partition.map(|partition| partition.0);
        record.key = self.key;
        record.payload = self.value;
        record.headers = (!self.headers.is_empty()).then(|| {
            let headers = OwnedHeaders::new_with_capacity(self.headers.len());
            self.headers
                .iter()
                .fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
        });
        record
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendResult {
    Queued,
    /// The queue is full: poll, and try again.
    Full,
}

/// The producer. Dropping it drops the records that are still queued.
pub struct PlainProducer {
    producer: BaseProducer<DeliveryCounter>,
    topic: String,
    servers: String,
    partitions: Vec<Partition>,
    client_errors: Arc<ClientMessages>,
}

impl PlainProducer {
    /// Connects, and checks that the topic exists. Records have a tag below `tags`.
    ///
    /// # Errors
    /// No broker answers within `limit`, the topic does not exist, or the settings or the user are refused.
    pub fn connect(
        config: &Config,
        compression: Option<Compression>,
        tags: usize,
        limit: Duration,
        clock: &dyn Clock,
    ) -> Result<PlainProducer, AccessFailure> {
        let client_errors = ClientMessages::new();
        let reporting = ReportingContext::new(config, ClientRole::Producer, client_errors.clone());
        let delivered = std::iter::repeat_with(AtomicU64::default).take(tags).collect();
        let counter = DeliveryCounter { reporting, delivered, refused: Mutex::default() };
        let producer: BaseProducer<DeliveryCounter> = plain_producer(config, compression)
            .create_with_context(counter)
            .map_err(|error| SettingsError::of(&error, config))?;
        serve_token(producer.client());
        let (topic, servers) = (config.kafka.topic.clone(), config.kafka.bootstrap_servers.clone());
        let access = Access { topic: &topic, servers: &servers, limit, clock, client_errors: &client_errors };
        let partitions = access.partitions(UNKNOWN_TOPIC_PATIENCE, producer.client(), || {
            // Each call serves at least one.
            for _ in 0..waiting_callbacks(producer.client()) {
                producer.poll(Duration::ZERO);
            }
        })?;
        Ok(PlainProducer { producer, topic, servers, partitions, client_errors })
    }

    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// Queues a record, if there is room.
    ///
    /// # Errors
    /// The client refuses the record, or has failed.
    ///
    /// # Panics
    /// `tag` is not below the number of tags.
    pub fn send(&self, record: PlainRecord<'_>, tag: usize) -> Result<SendResult, AccessFailure> {
        assert!(tag < self.producer.context().delivered.len(), "tag {tag} was not announced");
        match self.producer.send(record.for_client(&self.topic, tag)) {
            Ok(()) => Ok(SendResult::Queued),
            Err((error, _)) if ErrorClass::of(&error) == ErrorClass::QueueFull => Ok(SendResult::Full),
            Err((error, _)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                Err(self.refused(code))
            }
        }
    }

    /// Serves the client's callbacks, then waits at most `wait`, and at most a millisecond.
    pub fn poll(&self, wait: Duration) {
        serve_token(self.producer.client());
        // One call of the client serves one callback: a delivery report of one record, or a log line.
        let mut settled = self.settled();
        let mut empty_polls = 0;
        while empty_polls < MAX_EMPTY_POLLS {
            self.producer.poll(Duration::ZERO);
            let before = std::mem::replace(&mut settled, self.settled());
            empty_polls = if settled == before { empty_polls + 1 } else { 0 };
        }
        // The client's own wait spins for the rest of a millisecond, and would keep a processor busy.
        std::thread::sleep(wait.min(LONGEST_SLEEP));
    }

    /// Returns the number of records without a delivery report.
    pub fn in_flight(&self) -> u64 {
        u64::try_from(self.producer.in_flight_count()).unwrap_or(0)
    }

    /// Returns the number of delivered records, by tag.
    pub fn delivered(&self) -> Vec<u64> {
        self.producer.context().delivered.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Returns the number of delivered and refused records.
    pub fn settled(&self) -> u64 {
        let counter = self.producer.context();
        let delivered: u64 = counter.delivered.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        delivered + counter.refused().iter().map(|(_, count)| count).sum::<u64>()
    }

    /// Returns the number of refused records, by the broker's code.
    pub fn refused_records(&self) -> BTreeMap<String, u64> {
        self.producer.context().refused().iter().map(|(code, count)| (code.to_string(), *count)).collect()
    }

    /// # Errors
    /// The first refusal that is not about a single record.
    pub fn check(&self) -> Result<(), AccessFailure> {
        let code =
            self.producer.context().refused().iter().map(|(code, _)| *code).find(|code| !is_about_the_record(*code));
        if let Some((code, reason)) = self.producer.client().fatal_error() {
            let remedy = "start again; records that were not counted may have been written";
            let what = format!("to go on with topic {}", self.topic);
            return Err(AccessFailure::Refused { what, code: format!("{code}: {reason}"), remedy });
        }
        code.map_or(Ok(()), |code| Err(self.refused(code)))
    }

    /// Drops all records in flight. Returns the failure to report: nothing was delivered within `limit`.
    pub fn give_up(&self, limit: Duration) -> AccessFailure {
        let what =
            format!("topic {} at {}: {} records are under way, and it", self.topic, self.servers, self.in_flight());
        self.producer.purge(PurgeConfig::default().queue().inflight());
        AccessFailure::Stuck {
            what,
            limit_ms: limit.as_millis(),
            last_error: self.client_errors.last(),
            remedy: "see whether the brokers run and the topic's partitions have a leader, then start again with the same seed on a new topic",
        }
    }

    fn refused(&self, code: RDKafkaErrorCode) -> AccessFailure {
        let remedy = if class_of(code).is_access_refusal() {
            "give this user the ACL (Describe and Write on the topic), or name another user in kafka.security"
        } else {
            "see the broker's log, then start again"
        };
        AccessFailure::Refused { what: format!("writes to topic {}", self.topic), code: code.to_string(), remedy }
    }
}

/// Returns whether the refusal is about one record, so that the next record may be accepted.
fn is_about_the_record(code: RDKafkaErrorCode) -> bool {
    matches!(
        class_of(code),
        ErrorClass::RecordTooLarge
            | ErrorClass::InvalidSize
            | ErrorClass::InvalidRecord
            | ErrorClass::CorruptRecord
            // A record after one of those, in the same request.
            | ErrorClass::Purged
    )
}

/// The producer's context: counts deliveries and refusals. Called on the thread that polls.
struct DeliveryCounter {
    reporting: ReportingContext,
    delivered: Vec<AtomicU64>,
    /// One entry per code, of which there are few.
    refused: Mutex<Vec<(RDKafkaErrorCode, u64)>>,
}

impl DeliveryCounter {
    fn refused(&self) -> std::sync::MutexGuard<'_, Vec<(RDKafkaErrorCode, u64)>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProducerContext for DeliveryCounter {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, tag: usize) {
        match result {
            Ok(_) => {
                self.delivered[tag].fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                let mut refused = self.refused();
                match refused.iter_mut().find(|(known, _)| *known == code) {
                    Some((_, count)) => *count += 1,
                    None => refused.push((code, 1)),
                }
            }
        }
    }
}

impl ClientContext for DeliveryCounter {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.reporting.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reporting.error(error, reason);
    }

    fn stats(&self, _: Statistics) {}

    fn generate_oauth_token(&self, oauthbearer_config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.reporting.generate_oauth_token(oauthbearer_config)
    }
}
