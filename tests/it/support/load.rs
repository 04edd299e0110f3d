//! Produces events continuously during a test, and generates backlogs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::producer::Producer as _;
use steward::testing::workload::Workload;

use super::kafka::{Kafka, Outgoing, send};
use super::ledger::outgoing;
use super::wait::{Deadline, PATIENCE};

/// Number of events that are sent before each flush.
const CHUNK: usize = 50;
/// Time between two chunks. It gives about 2,000 events per second, so that throughput does not matter to a test.
const INTERVAL: Duration = Duration::from_millis(20);
/// A load that is not stopped ends after this number of events.
const MAX_EVENTS: u64 = 2_000_000;

/// Returns events of a seed, some of them invalid on purpose.
pub fn events(seed: u64, events: u64, keys: u32) -> impl Iterator<Item = Outgoing> {
    events_of(&Workload { seed, events, keys, invalid_share: 0.02, odd_share: 0.02, ..Workload::default() })
}

/// Returns the events of a workload. The key determines the partition.
pub fn events_of(workload: &Workload) -> impl Iterator<Item = Outgoing> + use<> {
    workload.generate().expect("the workload is valid").map(|event| Outgoing { partition: None, ..outgoing(event, 1) })
}

/// Produces events at a steady rate until it is stopped, also while the broker is unreachable.
pub struct Load {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Load {
    /// Starts with the events of `seed` on `keys` keys.
    pub fn on(kafka: &Kafka, topic: &str, seed: u64, keys: u32) -> Load {
        Load::of(kafka, topic, CHUNK, events(seed, MAX_EVENTS, keys))
    }

    /// Starts with these events, `chunk` at a time, and ends after the last one.
    pub fn of(
        kafka: &Kafka,
        topic: &str,
        chunk: usize,
        events: impl Iterator<Item = Outgoing> + Send + 'static,
    ) -> Load {
        let (address, topic) = (kafka.address().to_owned(), topic.to_owned());
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread =
            std::thread::spawn(move || produce_until_stopped(&Kafka::at(&address), &topic, chunk, events, &over));
        Load { is_over, thread: Some(thread) }
    }

    /// Stops, and returns the number of produced events. The broker has acknowledged all of them.
    pub fn stop(mut self) -> u64 {
        self.is_over.store(true, Ordering::Release);
        let thread = self.thread.take().expect("only this function and drop take it");
        thread.join().expect("the load does not panic")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // The test has failed already, so the result of the load does not matter.
            let _ = thread.join();
        }
    }
}

fn produce_until_stopped(
    kafka: &Kafka,
    topic: &str,
    chunk: usize,
    events: impl Iterator<Item = Outgoing>,
    is_over: &AtomicBool,
) -> u64 {
    // A record that is not delivered within this time fails the flush, and so the test.
    let producer = kafka.producer(&[("enable.idempotence", "true"), ("message.timeout.ms", "120000")]);
    let mut sent = 0;
    for event in events {
        send(&producer, topic, &event, sent, Deadline::after(PATIENCE));
        sent += 1;
        if sent % chunk == 0 {
            producer.flush(2 * PATIENCE).expect("the broker comes back within the test");
            if is_over.load(Ordering::Acquire) {
                break;
            }
            // With nothing in flight, this call waits for the whole interval.
            producer.poll(INTERVAL);
        }
    }
    producer.flush(2 * PATIENCE).expect("the broker comes back within the test");
    sent as u64
}
