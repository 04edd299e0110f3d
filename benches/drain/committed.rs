//! Reads the committed offsets of a group, with one client that never joins the group.

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::backlog::Backlog;
use crate::support::kafka::Kafka;
use crate::support::wait::{Deadline, now};

/// Longest time that the drain of a backlog may take.
const LIMIT: Duration = Duration::from_secs(600);
/// Time between two requests for the committed offsets.
const INTERVAL: Duration = Duration::from_millis(20);

/// The committed offsets of one group in one backlog.
pub struct CommittedOffsets {
    consumer: BaseConsumer,
    partitions: TopicPartitionList,
    ends: Vec<i64>,
}

impl CommittedOffsets {
    pub fn of(kafka: &Kafka, group: &str, backlog: &Backlog) -> CommittedOffsets {
        let mut settings = kafka.client_config();
        settings.set("group.id", group).set("enable.auto.commit", "false");
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_range(&backlog.topic, 0, backlog.partitions - 1);
        let consumer = settings.create().expect("the settings are constants");
        CommittedOffsets { consumer, partitions, ends: backlog.ends.clone() }
    }

    /// Fetches the offset of each partition; 0 also if the broker does not answer.
    pub fn fetch(&self) -> Vec<i64> {
        let response = self.consumer.committed_offsets(self.partitions.clone(), Duration::from_secs(5));
        let mut offsets = vec![0; self.ends.len()];
        for element in response.iter().flat_map(TopicPartitionList::elements) {
            let partition = usize::try_from(element.partition()).expect("a partition of the request");
            offsets[partition] = element.offset().to_raw().unwrap_or(0).max(0);
        }
        offsets
    }

    /// Waits until the whole backlog is committed. Returns the time at which each partition was complete.
    pub fn wait_until_complete(&self) -> Vec<Instant> {
        let deadline = Deadline::after(LIMIT);
        let mut completed = vec![None; self.ends.len()];
        loop {
            let committed = self.fetch();
            for ((completed, end), committed) in completed.iter_mut().zip(&self.ends).zip(&committed) {
                if committed >= end {
                    completed.get_or_insert_with(now);
                }
            }
            if let Some(completed) = completed.iter().copied().collect() {
                return completed;
            }
            assert!(!deadline.passed(), "{committed:?} of {:?} within {LIMIT:?}", self.ends);
            std::thread::sleep(INTERVAL);
        }
    }
}
