//! Measures when outputs of each partition became visible to a `read_committed` reader, and the longest gaps: the
//! effect of a rebalance on the users of the state topic.
//!
//! The load must produce events for every partition many times per second. A partition without input is silent, too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};

use crate::support::kafka::Kafka;
use crate::support::wait::{PATIENCE, now, wait_until};

/// Reads new records of a topic until it is dropped.
pub struct Watch {
    arrivals: Arc<Mutex<Vec<Vec<Instant>>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts reading at the end of the topic.
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
        reader.assign(&assignment).expect("the partitions exist");

        let arrivals = Arc::new(Mutex::new(vec![Vec::new(); ends.len()]));
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (arrivals, is_over) = (Arc::clone(&arrivals), Arc::clone(&is_over));
            move || {
                while !is_over.load(Ordering::Acquire) {
                    // A transient error has no effect; another one is measured as silence.
                    let Some(Ok(message)) = reader.poll(Duration::from_millis(50)) else { continue };
                    let partition = usize::try_from(message.partition()).expect("partitions count from 0");
                    lock(&arrivals)[partition].push(now());
                }
            }
        });
        Watch { arrivals, is_over, thread: Some(thread) }
    }

    /// Waits until every partition has an output after `moment`.
    pub fn wait_for_outputs_after(&self, moment: Instant) {
        wait_until("every partition has outputs again", PATIENCE, || {
            lock(&self.arrivals).iter().all(|arrivals| arrivals.last().is_some_and(|last| *last > moment))
        });
    }

    /// Returns the partition with the longest silence, and this silence.
    pub fn most_silent(&self, from: Instant, until: Instant) -> (i32, Duration) {
        let partitions = i32::try_from(lock(&self.arrivals).len()).expect("a test's number of partitions");
        let silences = (0..partitions).map(|partition| (partition, self.longest_silence(partition, from, until)));
        silences.max_by_key(|(_, silence)| *silence).expect("the topic has partitions")
    }

    /// Returns the longest time between two consecutive outputs of a partition. The later one came after `from`, the
    /// earlier one before `until`.
    pub fn longest_silence(&self, partition: i32, from: Instant, until: Instant) -> Duration {
        let partition = usize::try_from(partition).expect("partitions count from 0");
        let arrivals = lock(&self.arrivals);
        let touching = arrivals[partition].windows(2).filter(|pair| pair[1] > from && pair[0] < until);
        let longest = touching.map(|pair| pair[1].saturating_duration_since(pair[0])).max();
        longest.unwrap_or_else(|| panic!("partition {partition} had no outputs"))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic of the reader has been printed, and is measured as silence.
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A poisoned lock is valid, because a push leaves no partial change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Durations, with their median and maximum.
#[derive(Debug, Default)]
pub struct Durations(Vec<Duration>);

impl Durations {
    pub fn push(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the median; zero if there are no durations.
    pub fn median(&self) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    /// Returns the maximum; zero if there are no durations.
    pub fn max(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }
}

impl FromIterator<Duration> for Durations {
    fn from_iter<I: IntoIterator<Item = Duration>>(durations: I) -> Durations {
        Durations(durations.into_iter().collect())
    }
}

impl std::fmt::Display for Durations {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (median, max) = (self.median().as_millis(), self.max().as_millis());
        write!(formatter, "median {median} ms, maximum {max} ms, of {}", self.len())
    }
}
