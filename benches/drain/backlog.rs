//! Topics with events that the project's own generator has made.

use std::time::Duration;

use steward::app::SystemClock;
use steward::config::Config;
use steward::kafka::client::settings::Compression;
use steward::kafka::plain_producer::{PlainProducer, PlainRecord, SendResult};
use steward::testing::workload::{EventKind, GeneratedEvent, InvalidKind, OddKind, Workload};

use crate::options::{Options, Shape};
use crate::support::kafka::Kafka;
use crate::support::names::unique;
use crate::support::wait::unix_ms;

/// Longest time without a record that the broker acknowledges.
const LIMIT: Duration = Duration::from_secs(30);
/// Events between two polls of the producer.
const POLL_EVERY: u64 = 1_000;

/// A topic with events.
pub struct Backlog {
    pub topic: String,
    pub partitions: i32,
    /// Sum of the high watermarks.
    pub events: i64,
    /// High watermark of each partition.
    pub ends: Vec<i64>,
}

/// The workload of the drain: some 90 % updates, 1 % events that break a rule and 1 % unusual ones. Payloads at the size
/// limit, which the generator has among both, are left out: a few of them would be a tenth of all bytes.
pub fn workload(options: &Options, shape: Shape) -> Workload {
    let usual = Workload::default();
    let invalid = usual.invalid_weights.iter().filter(|(kind, _)| *kind != InvalidKind::TooLarge).copied().collect();
    let odd = usual.odd_weights.iter().filter(|(kind, _)| *kind != OddKind::LargestPayload).copied().collect();
    let interval_ms = 1;
    let length_ms = i64::try_from(options.events * interval_ms).expect("the number of events fits");
    Workload {
        events: options.events,
        keys: options.keys,
        zipf_exponent: shape.zipf_exponent(),
        invalid_weights: invalid,
        odd_weights: odd,
        start_timestamp_ms: unix_ms() - length_ms,
        interval_ms,
        ..usual
    }
}

impl Backlog {
    /// Creates a topic and produces the events of the workload.
    pub fn prepare(kafka: &Kafka, options: &Options, shape: Shape) -> Backlog {
        let topic = unique("bench-services");
        kafka.create_topic(&topic, options.partitions, &[]);
        let workload = workload(options, shape);
        eprintln!(
            "{}: {} events over {} keys into {} partitions",
            shape.name(),
            options.events,
            options.keys,
            options.partitions
        );
        let events = workload.generate().expect("the workload is valid");
        let mut sink = EventSink::to(kafka, &topic);
        for event in events {
            sink.send(&event);
        }
        sink.finish();
        Backlog::of(kafka, topic, options.partitions)
    }

    /// Describes an existing topic.
    pub fn of(kafka: &Kafka, topic: String, partitions: i32) -> Backlog {
        let ends: Vec<i64> = kafka.ends(&topic).iter().map(|ends| ends.high).collect();
        Backlog { topic, partitions, events: ends.iter().sum(), ends }
    }
}

/// Produces events as `steward produce` does.
pub struct EventSink {
    producer: PlainProducer,
    sent: u64,
}

impl EventSink {
    pub fn to(kafka: &Kafka, topic: &str) -> EventSink {
        let mut config = Config::default();
        config.kafka.bootstrap_servers = kafka.address().to_owned();
        config.kafka.topic = topic.to_owned();
        let producer = PlainProducer::connect(&config, Some(Compression::Lz4), 1, LIMIT, &SystemClock);
        EventSink { producer: producer.expect("the broker answers"), sent: 0 }
    }

    /// Sends an event, in order. Waits while the queue is full.
    pub fn send(&mut self, event: &GeneratedEvent) {
        let record = PlainRecord {
            partition: event.key.is_none().then_some(steward::record::Partition(0)),
            key: event.key.as_deref(),
            value: event.value.as_deref(),
            timestamp_ms: event.timestamp_ms,
            headers: &event.headers,
        };
        while self.producer.send(record, 0).expect("the broker takes it") == SendResult::Full {
            self.producer.poll(Duration::from_millis(5));
        }
        self.sent += 1;
        if self.sent.is_multiple_of(POLL_EVERY) {
            self.serve(Duration::ZERO);
        }
    }

    /// Polls the client for at most `wait`. A record that the broker refuses ends the measurement.
    pub fn serve(&self, wait: Duration) {
        self.producer.poll(wait);
        self.producer.check().expect("the broker takes what is sent");
    }

    /// Waits until the broker has acknowledged everything.
    pub fn finish(self) {
        while self.producer.in_flight() > 0 {
            self.serve(Duration::from_millis(5));
        }
        let refused = self.producer.refused_records();
        assert!(refused.is_empty(), "the broker refused records: {refused:?}");
    }
}

/// The creation of a service, at the present time.
pub fn creation(id: u64) -> GeneratedEvent {
    let value = format!(
        r#"{{"eventType":"ServiceCreated","id":{id},"name":"Web development","description":"Full stack","tags":["web"]}}"#
    );
    event(id, value, EventKind::Created)
}

/// An update that sets the price of a service, at the present time.
pub fn update(id: u64, price: u64) -> GeneratedEvent {
    event(id, format!(r#"{{"eventType":"ServiceUpdated","id":{id},"pricePerHour":{price}}}"#), EventKind::Updated)
}

fn event(id: u64, value: String, kind: EventKind) -> GeneratedEvent {
    let key = Some(id.to_string().into_bytes());
    GeneratedEvent { key, value: Some(value.into_bytes()), timestamp_ms: unix_ms(), headers: Vec::new(), kind }
}
