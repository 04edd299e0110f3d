//! Events that keep coming while something happens, and backlogs that lie there before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::producer::Producer as _;
use steward::testing::workload::Workload;

use super::kafka::{Kafka, Outgoing, send};
use super::ledger::outgoing;
use super::wait::{Deadline, PATIENCE};

/// Events that are sent before their arrival is waited for.
const CHUNK: usize = 50;
/// The time between two chunks: some 2,000 events a second, so that a test is not about throughput.
const PACE: Duration = Duration::from_millis(20);
/// A load that nobody stops ends by itself.
const MAX_EVENTS: u64 = 2_000_000;

/// So many events of a seed, on so many keys, some of them wrong on purpose.
pub fn events(seed: u64, events: u64, keys: u32) -> impl Iterator<Item = Outgoing> {
    events_of(&Workload { seed, events, keys, invalid_share: 0.02, odd_share: 0.02, ..Workload::default() })
}

/// The events of a workload, each into the partition that its key decides.
pub fn events_of(workload: &Workload) -> impl Iterator<Item = Outgoing> + use<> {
    workload
        .generate()
        .expect("the workload makes sense")
        .map(|event| Outgoing { partition: None, ..outgoing(event, 1) })
}

/// Events come in steadily until it is stopped, also while the broker is away.
pub struct Load {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Load {
    /// Starts, with the events of `seed` on `keys` keys.
    pub fn on(kafka: &Kafka, topic: &str, seed: u64, keys: u32) -> Load {
        Load::of(kafka, topic, CHUNK, events(seed, MAX_EVENTS, keys))
    }

    /// Starts, with these events, so many at a time, and ends by itself behind the last of them.
    pub fn of(
        kafka: &Kafka,
        topic: &str,
        chunk: usize,
        events: impl Iterator<Item = Outgoing> + Send + 'static,
    ) -> Load {
        let (address, topic) = (kafka.address().to_owned(), topic.to_owned());
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || pour(&Kafka::at(&address), &topic, chunk, events, &over));
        Load { is_over, thread: Some(thread) }
    }

    /// Ends it, and returns how many events went in; all of them have arrived.
    pub fn stop(mut self) -> u64 {
        self.is_over.store(true, Ordering::Release);
        let thread = self.thread.take().expect("taken here and by drop alone");
        thread.join().expect("the load does not panic")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // The test has failed already; how its load ended does not matter.
            let _ = thread.join();
        }
    }
}

fn pour(kafka: &Kafka, topic: &str, chunk: usize, events: impl Iterator<Item = Outgoing>, is_over: &AtomicBool) -> u64 {
    // A record that could not be delivered for that long fails the flush, and so the test.
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
            // With nothing in flight this waits for the whole of it.
            producer.poll(PACE);
        }
    }
    producer.flush(2 * PATIENCE).expect("the broker comes back within the test");
    sent as u64
}
