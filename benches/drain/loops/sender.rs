//! A transactional producer that measures its transactions.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rdkafka::ClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{DeliveryResult, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use steward::kafka::client::settings::{self, ProducerIdentity};

use super::member::{Member, config_of};
use crate::contender::{Reported, Task};
use crate::support::wait::now;

/// Longest call of a transaction.
const LIMIT: Duration = Duration::from_secs(30);
/// Pause between two polls of a wait.
const PAUSE: Duration = Duration::from_micros(500);
/// How long a transaction collects records.
pub const INTERVAL: Duration = Duration::from_millis(100);

pub struct Sender {
    producer: BaseProducer<Deliveries>,
    took_us: Histogram<u64>,
}

/// Any record that is not delivered ends the measurement.
struct Deliveries;

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            panic!("produce: {error}");
        }
    }
}

impl Sender {
    /// Registers the producer with its coordinator.
    pub fn register(task: &Task) -> Sender {
        let config = config_of(task);
        let id = format!("{}-loop", task.group);
        let identity = ProducerIdentity { transactional_id: &id, client_id: &id };
        let mut settings = settings::transactional_producer(&config, identity, None);
        settings.set("queue.buffering.max.kbytes", "1048576").set("queue.buffering.max.messages", "2000000");
        let producer: BaseProducer<Deliveries> =
            settings.create_with_context(Deliveries).expect("settings that the library knows");
        producer.init_transactions(LIMIT).expect("the broker answers");
        Sender {
            producer,
            took_us: Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("an hour in microseconds, three digits"),
        }
    }

    /// Opens a transaction.
    pub fn begin(&self) -> Instant {
        self.producer.begin_transaction().expect("none is open");
        now()
    }

    /// Stages a record. Waits while the queue is full.
    pub fn send(
        &self,
        topic: &str,
        partition: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Option<OwnedHeaders>,
    ) {
        let mut record = BaseRecord::<[u8], [u8]> {
            topic,
            partition: Some(partition),
            payload: value,
            key,
            timestamp: None,
            headers,
            delivery_opaque: (),
        };
        while let Err((error, returned)) = self.producer.send(record) {
            assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "produce: {error}");
            self.pause();
            record = returned;
        }
    }

    /// Sleeps between polls, because a poll with a wait reads the clock in a loop during its last millisecond.
    fn pause(&self) {
        self.producer.poll(Duration::ZERO);
        std::thread::sleep(PAUSE);
    }

    /// Waits until all records are delivered, and commits them with the member's positions.
    pub fn commit(&mut self, began: Instant, member: &Member) {
        while self.producer.in_flight_count() > 0 {
            self.pause();
        }
        use rdkafka::consumer::Consumer as _;
        let group = member.consumer().group_metadata().expect("a member has metadata");
        let positions = member.positions().expect("positions are offsets");
        self.producer.send_offsets_to_transaction(&positions, &group, LIMIT).expect("the group accepts them");
        self.producer.commit_transaction(LIMIT).expect("the broker commits");
        let took = now().saturating_duration_since(began);
        self.took_us.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Summarises the durations of the transactions.
    pub fn reported(&self) -> Reported {
        let in_ms = |quantile: f64| self.took_us.value_at_quantile(quantile) as f64 / 1_000.0;
        Reported { transactions: self.took_us.len(), transaction_p50_ms: in_ms(0.5), transaction_p99_ms: in_ms(0.99) }
    }
}
