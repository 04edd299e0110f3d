//! Produces the same number of records per second to each partition. A partition without a leader delays no other one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::producer::Producer as _;
use steward::testing::workload::Workload;

use crate::support::kafka::{Kafka, Outgoing, record, send};
use crate::support::ledger::outgoing;
use crate::support::wait::{Deadline, PATIENCE};

pub const PARTITIONS: i32 = 6;
/// Time between two records of a partition: 60 records per second in all.
const INTERVAL: Duration = Duration::from_millis(100);
const KEYS: u32 = 200;

/// The idempotent producer of a topic, on a thread.
pub struct SteadyLoad {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<usize>>,
}

impl SteadyLoad {
    /// Produces events for steward. In each partition, nearly all of them change the state topic.
    pub fn of_events(kafka: &Kafka, topic: &str, seed: u64) -> SteadyLoad {
        let events = (0..PARTITIONS).map(|partition| {
            let seed = seed.wrapping_add(u64::try_from(partition).expect("partitions count from 0"));
            let workload = Workload { seed, events: 1_000_000, keys: KEYS, ..Workload::default() };
            let events = workload.generate().expect("the workload is valid");
            events.map(move |event| Outgoing { partition: Some(partition), ..outgoing(event, PARTITIONS) })
        });
        SteadyLoad::new(kafka, topic, events.collect())
    }

    /// Produces small records.
    pub fn of_records(kafka: &Kafka, topic: &str) -> SteadyLoad {
        let records = (0..PARTITIONS).map(|partition| {
            std::iter::repeat_with(move || Outgoing { partition: Some(partition), ..record("key", "value") })
        });
        SteadyLoad::new(kafka, topic, records.collect())
    }

    /// `records` has an endless stream for each partition.
    fn new<I: Iterator<Item = Outgoing> + Send + 'static>(kafka: &Kafka, topic: &str, records: Vec<I>) -> SteadyLoad {
        let (kafka, topic) = (Kafka::at(kafka.address()), topic.to_owned());
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || produce(&kafka, &topic, records, &over));
        SteadyLoad { is_over, thread: Some(thread) }
    }

    /// Stops, and returns the number of produced records. The cluster has acknowledged all of them.
    pub fn stop(mut self) -> usize {
        self.is_over.store(true, Ordering::Release);
        let thread = self.thread.take().expect("only this function and drop take it");
        thread.join().expect("the load does not panic")
    }
}

impl Drop for SteadyLoad {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // The test has failed already, so the result of the load does not matter, and the thread ends by itself.
    }
}

fn produce<I: Iterator<Item = Outgoing>>(
    kafka: &Kafka,
    topic: &str,
    mut records: Vec<I>,
    is_over: &AtomicBool,
) -> usize {
    let producer = kafka.producer(&[("enable.idempotence", "true"), ("acks", "all"), ("message.timeout.ms", "120000")]);
    let mut sent = 0;
    while !is_over.load(Ordering::Acquire) {
        let next = Deadline::after(INTERVAL);
        for partition in &mut records {
            let record = partition.next().expect("the stream is longer than a test");
            send(&producer, topic, &record, sent, Deadline::after(PATIENCE));
            sent += 1;
        }
        while !next.passed() {
            producer.poll(next.left());
        }
    }
    producer.flush(2 * PATIENCE).expect("the cluster comes back within the test");
    producer.context().assert_delivered(sent);
    sent
}
