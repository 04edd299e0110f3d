//! Events that lie in a topic before anybody drains it, made by the project's own generator.

use std::time::Duration;

use steward::app::SystemClock;
use steward::config::Config;
use steward::kafka::plain_producer::{Compression, PlainProducer, PlainRecord, SendResult};
use steward::testing::workload::{GeneratedEvent, InvalidKind, OddKind, Workload};

use crate::options::{Options, Shape};
use crate::support::kafka::Kafka;
use crate::support::names::unique;
use crate::support::wait::unix_ms;

/// How long the broker may take nothing.
const LIMIT: Duration = Duration::from_secs(30);
/// Events between two looks at what the broker has taken.
const LOOK_EVERY: u64 = 1_000;

/// A topic with events.
pub struct Backlog {
    pub topic: String,
    pub partitions: i32,
    /// Behind the last event, all partitions together.
    pub events: i64,
    /// Behind the last event of each partition.
    pub ends: Vec<i64>,
}

/// The workload of the drain: some 90 % updates, 1 % that break a rule and 1 % that are unusual. Payloads at the limit,
/// which the generator has among both, are left out: a few of them would be a tenth of all bytes.
pub fn workload(options: &Options, shape: Shape) -> Workload {
    let usual = Workload::default();
    let invalid = usual.invalid_weights.iter().filter(|(kind, _)| *kind != InvalidKind::TooLarge).copied().collect();
    let odd = usual.odd_weights.iter().filter(|(kind, _)| *kind != OddKind::LargestPayload).copied().collect();
    let interval_ms = 1;
    let length_ms = i64::try_from(options.events * interval_ms).expect("fewer events than milliseconds in an age");
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
    /// Produces it.
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
        let events = workload.generate().expect("the workload makes sense");
        let mut sink = EventSink::to(kafka, &topic);
        for event in events {
            sink.send(&event);
        }
        sink.finish();
        Backlog::of(kafka, topic, options.partitions)
    }

    /// What lies in this topic.
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
    /// Into this topic.
    pub fn to(kafka: &Kafka, topic: &str) -> EventSink {
        let mut config = Config::default();
        config.kafka.bootstrap_servers = kafka.address().to_owned();
        config.kafka.topic = topic.to_owned();
        let producer = PlainProducer::connect(&config, Some(Compression::Lz4), 1, LIMIT, &SystemClock);
        EventSink { producer: producer.expect("the broker answers"), sent: 0 }
    }

    /// One event, behind those before it. Waits while the queue is full.
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
        if self.sent.is_multiple_of(LOOK_EVERY) {
            self.serve(Duration::ZERO);
        }
    }

    /// Serves the client for at most `wait`. A record that the broker refuses is the end of the measurement.
    pub fn serve(&self, wait: Duration) {
        self.producer.poll(wait);
        self.producer.check().expect("the broker takes what is sent");
    }

    /// Waits until the broker has everything.
    pub fn finish(self) {
        while self.producer.in_flight() > 0 {
            self.serve(Duration::from_millis(5));
        }
        let refused = self.producer.refused_records();
        assert!(refused.is_empty(), "the broker refused records: {refused:?}");
    }
}
