//! The only member of a group: has all partitions, and takes records in bulk.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use steward::config::Config;
use steward::kafka::client::forwarded_queue::{ForwardedQueue, Incoming, MAX_TAKEN, Taken};
use steward::kafka::client::settings;
use steward::record::{Partition, Position};

use crate::contender::{ASSIGNED, FIRST_EVENT, Task};

/// Longest wait for records.
const WAIT: Duration = Duration::from_millis(5);

pub struct Member {
    consumer: Arc<BaseConsumer<Assignments>>,
    queue: ForwardedQueue<Assignments>,
    topic: String,
    next: Vec<Position>,
    read: i64,
}

/// Keeps the partitions that the group assigns: their queues must be forwarded before the consumer assigns them.
#[derive(Default)]
pub struct Assignments(Mutex<Option<TopicPartitionList>>);

impl ClientContext for Assignments {}

impl ConsumerContext for Assignments {
    fn rebalance(&self, consumer: &BaseConsumer<Assignments>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(list.clone());
        } else {
            // The group has one member, so the consumer is closing, and its drop waits for this call.
            consumer.incremental_unassign(list).expect("what was assigned");
        }
    }
}

/// Default settings, with the group and the topics of the task.
pub fn config_of(task: &Task) -> Config {
    let mut config = Config::default();
    config.kafka.bootstrap_servers.clone_from(&task.brokers);
    config.kafka.group_id.clone_from(&task.group);
    config.kafka.topic.clone_from(&task.input);
    config.kafka.state_topic.clone_from(&task.state);
    config.kafka.dlq_topic.clone_from(&task.dlq);
    config
}

impl Member {
    /// Joins the group, and returns when all partitions are assigned, at their beginnings.
    pub fn join(task: &Task) -> Member {
        let mut settings = settings::group_member(&config_of(task), "loop");
        settings
            // As much read-ahead as helps (found by measurement), in responses as large as steward's. Records that are
            // read further ahead have left the processor's cache when they are taken.
            .set("queued.min.messages", "1000000")
            .set("queued.max.messages.kbytes", "32768")
            .set("check.crcs", "false")
            .set("statistics.interval.ms", "0");
        let consumer = settings.create_with_context(Assignments::default());
        let consumer: Arc<BaseConsumer<Assignments>> = Arc::new(consumer.expect("the library accepts the settings"));
        let queue = ForwardedQueue::new(Arc::clone(&consumer));
        consumer.subscribe(&[&task.input]).expect("a topic's name");
        let mut member = Member { consumer, queue, topic: task.input.clone(), next: Vec::new(), read: 0 };
        member.wait_for_partitions();
        member
    }

    fn wait_for_partitions(&mut self) {
        let mut assigned = loop {
            self.poll(Duration::from_millis(10));
            if let Some(list) = self.consumer.context().0.lock().unwrap_or_else(PoisonError::into_inner).take() {
                break list;
            }
        };
        println!("{ASSIGNED}");
        for element in assigned.elements() {
            self.queue.forward(&self.topic, Partition(element.partition()));
        }
        self.next = vec![Position(0); assigned.count()];
        assigned.set_all_offsets(Offset::Beginning).expect("a logical offset is one");
        self.consumer.incremental_assign(&assigned).expect("what the group has assigned");
    }

    /// Polls the consumer, which keeps its membership alive.
    fn poll(&self, wait: Duration) {
        match self.consumer.poll(wait) {
            None => {}
            Some(Ok(stray)) => panic!("{stray:?} arrived in the consumer's own queue"),
            Some(Err(error)) => panic!("consume: {error}"),
        }
    }

    /// Takes the records that have been fetched, or waits briefly for the first.
    pub fn take(&mut self, mut visit: impl FnMut(Partition, &Incoming<'_>)) {
        self.poll(Duration::ZERO);
        let before = self.read;
        let (next, read) = (&mut self.next, &mut self.read);
        let mut each = |taken: Taken<'_>| match taken {
            Taken::Record(partition, incoming) => {
                visit(partition, &incoming);
                let index = usize::try_from(partition.0).expect("partitions are counted from 0");
                next[index] = incoming.offset().next();
                *read += 1;
            }
            Taken::Failed { reason, .. } => panic!("consume: {reason}"),
        };
        if self.queue.take_ready(MAX_TAKEN, &mut each) == 0 {
            self.queue.wait(WAIT, &mut each);
        }
        if before == 0 && self.read > 0 {
            println!("{FIRST_EVENT}");
        }
    }

    /// The number of records taken.
    pub fn read(&self) -> i64 {
        self.read
    }

    /// The consumer, for the group's metadata.
    pub fn consumer(&self) -> &BaseConsumer<Assignments> {
        &self.consumer
    }

    /// The position of each partition: the next record to take.
    pub fn positions(&self) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(self.next.len());
        for (partition, position) in (0..).zip(&self.next) {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(position.0))?;
        }
        Ok(list)
    }
}
