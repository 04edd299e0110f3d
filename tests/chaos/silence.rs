//! When the outputs of each partition became visible to a `read_committed` reader, and for how long they did not: what
//! the users of the state topic feel of a rebalance.
//!
//! Needs a load that gives every partition something to do many times a second: a partition without input is silent, too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};

use crate::support::kafka::Kafka;
use crate::support::wait::{PATIENCE, now, wait_until};

/// A reader of a topic's end. Dropped, it stops reading.
pub struct Watch {
    arrivals: Arc<Mutex<Vec<Vec<Instant>>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Reads what comes from now on.
    pub fn on(kafka: &Kafka, topic: &str) -> Watch {
        let ends = kafka.ends(topic);
        let mut assignment = TopicPartitionList::new();
        for (partition, end) in (0_i32..).zip(&ends) {
            assignment.add_partition_offset(topic, partition, Offset::Offset(end.high)).expect("a valid offset");
        }
        let mut config = kafka.client_config();
        config
            .set("group.id", "steward-tests-watch")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "5")
            .set("fetch.queue.backoff.ms", "5");
        let reader: BaseConsumer = config.create().expect("the settings are constants");
        reader.assign(&assignment).expect("partitions that were there a moment ago");

        let arrivals = Arc::new(Mutex::new(vec![Vec::new(); ends.len()]));
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (arrivals, is_over) = (Arc::clone(&arrivals), Arc::clone(&is_over));
            move || {
                while !is_over.load(Ordering::Acquire) {
                    // An error passes, or shows as a silence.
                    let Some(Ok(message)) = reader.poll(Duration::from_millis(50)) else { continue };
                    let partition = usize::try_from(message.partition()).expect("of a record that was read");
                    lock(&arrivals)[partition].push(now());
                }
            }
        });
        Watch { arrivals, is_over, thread: Some(thread) }
    }

    /// Waits until every partition has shown something that came later than this.
    pub fn until_all_spoke_after(&self, moment: Instant) {
        wait_until("every partition shows outputs again", PATIENCE, || {
            lock(&self.arrivals).iter().all(|arrivals| arrivals.last().is_some_and(|last| *last > moment))
        });
    }

    /// The longest time between two outputs of a partition that follow each other, and of which the later one came
    /// after `from`, the earlier one before `until`.
    pub fn longest_silence(&self, partition: i32, from: Instant, until: Instant) -> Duration {
        let partition = usize::try_from(partition).expect("partitions count from 0");
        let arrivals = lock(&self.arrivals);
        let touching = arrivals[partition].windows(2).filter(|pair| pair[1] > from && pair[0] < until);
        let longest = touching.map(|pair| pair[1].saturating_duration_since(pair[0])).max();
        longest.unwrap_or_else(|| panic!("partition {partition} showed nothing at all"))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic of the reader has been printed, and shows as a silence.
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Pushing cannot leave a list half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Middle and worst of several durations.
#[derive(Debug, Default)]
pub struct Durations(Vec<Duration>);

impl Durations {
    /// Adds one.
    pub fn push(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The middle one; zero without any.
    pub fn median(&self) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    /// The worst one; zero without any.
    pub fn max(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Durations {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (median, max) = (self.median().as_millis(), self.max().as_millis());
        write!(formatter, "median {median} ms, maximum {max} ms, of {}", self.len())
    }
}
