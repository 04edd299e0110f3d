//! A client with the operations that tests need: create topics, produce, read a whole topic, read and set offsets of a
//! group, truncate a log.
//!
//! [`Kafka::read_committed`] returns what an external reader of our topics sees, from the beginning to the high
//! watermark. The high watermark does not depend on transactions, so an open transaction makes the reader wait instead
//! of ending early.

mod records;

use records::Isolation;
pub use records::*;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt as _;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::broker;
use super::names::{Names, unique};
use super::wait::{Deadline, PATIENCE, wait_for, wait_for_success, wait_until};

/// The broker's default: 1 with one broker, 3 with a cluster.
const DEFAULT_REPLICATION: i32 = -1;

/// Topic settings that accept every timestamp and keep old records. With a retention, a record of the year 1970 would be
/// deleted within seconds.
pub const ANY_TIMESTAMP: [(&str, &str); 3] = [
    ("message.timestamp.before.max.ms", "9223372036854775807"),
    ("message.timestamp.after.max.ms", "9223372036854775807"),
    ("retention.ms", "-1"),
];

// ----------------------------------------------------------------------------------------------------------- Kafka

pub struct Kafka {
    address: String,
    admin: AdminClient<DefaultClientContext>,
}

impl Kafka {
    /// Makes a client of the shared broker.
    pub fn shared() -> Kafka {
        Kafka::at(&broker::shared_address())
    }

    /// Makes a client of the broker at this address.
    pub fn at(address: &str) -> Kafka {
        let admin = client_config(address).create().expect("the settings are constants");
        Kafka { address: address.to_owned(), admin }
    }

    /// Returns `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the librdkafka client, for calls that rdkafka does not expose. It is valid as long as this client.
    pub fn native(&self) -> *mut rdkafka_sys::rd_kafka_t {
        self.admin.inner().native_ptr()
    }

    /// Returns the basic settings of a client.
    pub fn client_config(&self) -> ClientConfig {
        client_config(&self.address)
    }

    // ------------------------------------------------------------------------------------------------------ topics

    /// Creates the input topic of a test, which accepts records with any timestamp.
    pub fn create_input(&self, names: &Names, partitions: i32) {
        self.create_topic(&names.input, partitions, &ANY_TIMESTAMP);
    }

    /// Creates a topic, and returns when it can be used.
    pub fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        self.create_with(name, partitions, TopicReplication::Fixed(DEFAULT_REPLICATION), configs);
    }

    /// [`Kafka::create_topic`] with a list of brokers for each partition.
    pub fn create_topic_on(&self, name: &str, replicas: &[&[i32]], configs: &[(&str, &str)]) {
        let partitions = i32::try_from(replicas.len()).expect("a test's number of partitions");
        self.create_with(name, partitions, TopicReplication::Variable(replicas), configs);
    }

    fn create_with(&self, name: &str, partitions: i32, replication: TopicReplication<'_>, configs: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, replication);
        topic.config = configs.to_vec();
        self.change(&format!("create topic {name}"), RDKafkaErrorCode::TopicAlreadyExists, || {
            self.wait(self.admin.create_topics([&topic], &options()))
        });
        wait_until(&format!("topic {name} has leaders"), PATIENCE, || self.partition_count(name) == Some(partitions));
    }

    /// Replaces all settings of a topic.
    pub fn alter_topic(&self, topic: &str, configs: &[(&str, &str)]) {
        let mut altered = AlterConfig::new(ResourceSpecifier::Topic(topic));
        for (name, value) in configs {
            altered = altered.set(name, value);
        }
        answered(&format!("alter topic {topic}"), || {
            self.wait(self.admin.alter_configs([&altered], &options()))?
                .pop()
                .expect("one resource was altered")
                .map_err(|(_, code)| KafkaError::AdminOp(code))
        });
    }

    /// Raises the number of partitions.
    pub fn add_partitions(&self, topic: &str, total: usize) {
        self.change(&format!("add partitions to {topic}"), RDKafkaErrorCode::InvalidPartitions, || {
            self.wait(self.admin.create_partitions([&NewPartitions::new(topic, total)], &options()))
        });
        let total = i32::try_from(total).expect("a test's number of partitions");
        wait_until(&format!("topic {topic} has leaders"), PATIENCE, || self.partition_count(topic) == Some(total));
    }

    /// Deletes a topic, and returns when it is gone.
    pub fn delete_topic(&self, name: &str) {
        self.change(&format!("delete topic {name}"), RDKafkaErrorCode::UnknownTopicOrPartition, || {
            self.wait(self.admin.delete_topics(&[name], &options()))
        });
        wait_until(&format!("topic {name} is gone"), PATIENCE, || self.partition_count(name).is_none());
    }

    /// Returns the number of partitions; `None` if the topic does not exist, or if a partition has no leader yet.
    pub fn partition_count(&self, topic: &str) -> Option<i32> {
        self.partition_count_within(topic, Duration::from_secs(5))
    }

    /// [`Kafka::partition_count`], also `None` if Kafka does not respond within `limit`.
    pub fn partition_count_within(&self, topic: &str, limit: Duration) -> Option<i32> {
        let metadata = self.admin.inner().fetch_metadata(Some(topic), limit).ok()?;
        let topic = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none())?;
        let has_leaders = topic.partitions().iter().all(|partition| partition.leader() >= 0);
        let count = i32::try_from(topic.partitions().len()).expect("Kafka counts partitions in 32 bits");
        (has_leaders && count > 0).then_some(count)
    }

    /// Returns a setting of a topic.
    pub fn topic_setting(&self, topic: &str, setting: &str) -> String {
        let resource = answered(&format!("settings of {topic}"), || {
            let described = self.wait(self.admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options()));
            described?.pop().expect("one resource was requested").map_err(KafkaError::AdminOp)
        });
        let value = resource.get(setting).and_then(|entry| entry.value.clone());
        value.unwrap_or_else(|| panic!("topic {topic} has no setting {setting}"))
    }

    /// Returns the offset range of each partition, in order.
    pub fn ends(&self, topic: &str) -> Vec<Ends> {
        self.ends_for(topic, Isolation::Uncommitted)
    }

    /// Returns the partitions with an open transaction.
    pub fn with_open_transactions(&self, topic: &str) -> Vec<i32> {
        // In this order, so that a transaction that begins between the two requests is not missed.
        let stable = self.ends_for(topic, Isolation::Committed);
        let ends = self.ends_for(topic, Isolation::Uncommitted);
        let is_open = |(stable, end): (&Ends, &Ends)| stable.high < end.high;
        (0..).zip(stable.iter().zip(&ends).map(is_open)).filter_map(|(at, open)| open.then_some(at)).collect()
    }

    fn ends_for(&self, topic: &str, isolation: Isolation) -> Vec<Ends> {
        let mut reader = self.reader(isolation);
        (0..self.partitions_of(topic))
            .map(|partition| {
                let what = format!("ends of {topic}/{partition}");
                let (low, high) = answered(&what, || {
                    let fetched = reader.fetch_watermarks(topic, partition, ONE_ATTEMPT);
                    if fetched.is_err() {
                        // A client caches the response of a request that it sent while no partition had a leader.
                        reader = self.reader(isolation);
                    }
                    fetched
                });
                Ends { low, high }
            })
            .collect()
    }

    /// Deletes the records before `before`, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition, Offset::Offset(before)).expect("a valid offset");
        answered(&format!("delete records of {topic}/{partition}"), || {
            let deleted = self.wait(self.admin.delete_records(&offsets, &options()))?;
            deleted.elements().iter().try_for_each(TopicPartitionListElem::error)
        });
    }

    /// Copies every committed record of `from` to `to`, which has at least as many partitions. Partition, key, value,
    /// headers and timestamp stay the same. Offsets differ if `from` has gaps.
    pub fn copy_topic(&self, from: &str, to: &str) {
        self.copy_topic_where(from, to, |_| true);
    }

    /// Copies the records that `wanted` selects, as [`Kafka::copy_topic`] does.
    pub fn copy_topic_where(&self, from: &str, to: &str, wanted: impl Fn(&Stored) -> bool) {
        let records = self.read_committed(from);
        let records: Vec<Outgoing> = records.iter().filter(|record| wanted(record)).map(Stored::outgoing).collect();
        self.produce(to, &records);
    }

    // ----------------------------------------------------------------------------------------------------- produce

    /// Produces the records in order, each once, and returns their places.
    pub fn produce(&self, topic: &str, records: &[Outgoing]) -> Vec<Place> {
        self.produce_with(&[], topic, records)
    }

    /// [`Kafka::produce`] with additional producer settings, such as `compression.type`.
    pub fn produce_with(&self, settings: &[(&str, &str)], topic: &str, records: &[Outgoing]) -> Vec<Place> {
        let producer = self.producer(&[&[("enable.idempotence", "true")], settings].concat());
        let deadline = Deadline::after(PATIENCE);
        for (index, record) in records.iter().enumerate() {
            send(&producer, topic, record, index, deadline);
        }
        producer.flush(deadline.left()).unwrap_or_else(|error| panic!("produce to {topic}: {error}"));
        let reports = producer.context().reports.lock().expect("the callback does not panic");
        (0..records.len())
            .map(|index| match reports.get(&index) {
                Some(Ok(place)) => *place,
                Some(Err(code)) => panic!("{topic} refused record {index}: {code}"),
                None => panic!("record {index} to {topic} has no delivery report"),
            })
            .collect()
    }

    /// Produces one record that the broker may refuse.
    ///
    /// # Errors
    /// Returns the error code of the broker.
    pub fn try_produce(&self, topic: &str, record: &Outgoing) -> Result<Place, RDKafkaErrorCode> {
        let producer = self.producer(&[]);
        let deadline = Deadline::after(PATIENCE);
        send(&producer, topic, record, 0, deadline);
        producer.flush(deadline.left()).unwrap_or_else(|error| panic!("produce to {topic}: {error}"));
        let reports = producer.context().reports.lock().expect("the callback does not panic");
        *reports.get(&0).expect("flushed")
    }

    /// Makes a transactional producer. Earlier producers with the id are fenced.
    pub fn transactional_producer(&self, transactional_id: &str) -> Producer {
        self.transactional_producer_within(transactional_id, Duration::from_secs(10))
    }

    /// [`Kafka::transactional_producer`] with a transaction timeout.
    pub fn transactional_producer_within(&self, transactional_id: &str, timeout: Duration) -> Producer {
        let timeout_ms = timeout.as_millis().to_string();
        let producer =
            self.producer(&[("transactional.id", transactional_id), ("transaction.timeout.ms", &timeout_ms)]);
        producer.init_transactions(PATIENCE).unwrap_or_else(|error| panic!("init {transactional_id}: {error}"));
        producer
    }

    /// Makes a producer with additional settings.
    pub fn producer(&self, settings: &[(&str, &str)]) -> Producer {
        let mut config = self.client_config();
        // The maximum of the library, which counts uncompressed bytes.
        config.set("message.max.bytes", "1000000000").set("linger.ms", "1").set("partitioner", "murmur2_random");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        config.create_with_context(Reports::default()).expect("the settings are valid")
    }

    // -------------------------------------------------------------------------------------------------------- read

    /// Returns all records that a `read_committed` reader sees, ordered by partition and offset.
    pub fn read_committed(&self, topic: &str) -> Vec<Stored> {
        self.read(topic, Isolation::Committed)
    }

    /// Returns all records, including those of open and aborted transactions.
    pub fn read_uncommitted(&self, topic: &str) -> Vec<Stored> {
        self.read(topic, Isolation::Uncommitted)
    }

    /// Reads repeatedly as a `read_committed` reader until `enough` holds, and returns the records.
    pub fn read_committed_until(&self, topic: &str, what: &str, enough: impl Fn(&[Stored]) -> bool) -> Vec<Stored> {
        wait_for(what, PATIENCE, || Some(self.read_committed(topic)).filter(|records| enough(records)))
    }

    fn read(&self, topic: &str, isolation: Isolation) -> Vec<Stored> {
        let ends = self.ends(topic);
        let reader = self.reader(isolation);
        let mut assignment = TopicPartitionList::new();
        for (partition, end) in (0_i32..).zip(&ends) {
            if end.low < end.high {
                assignment.add_partition_offset(topic, partition, Offset::Offset(end.low)).expect("a valid offset");
            }
        }
        // Without this request, the library fetches the metadata of an unknown topic only once a second.
        answered(&format!("metadata of {topic}"), || reader.fetch_metadata(Some(topic), ONE_ATTEMPT));
        reader.assign(&assignment).expect("the partitions exist");

        let mut records = Vec::new();
        let deadline = Deadline::after(PATIENCE);
        while let Some(open) = unfinished_partitions(&reader, &ends) {
            assert!(!deadline.passed(), "timed out reading {topic} to its end {ends:?}: {open}");
            match reader.poll(Duration::from_millis(20)) {
                Some(Ok(message)) => records.push(Stored::from(&message)),
                Some(Err(error)) => assert!(is_transient(&error), "read {topic}: {error}"),
                None => {}
            }
        }
        // Records that were appended after the call are not part of the result.
        records.retain(|record: &Stored| {
            let end = usize::try_from(record.partition).ok().and_then(|partition| ends.get(partition));
            end.is_some_and(|end| record.offset < end.high)
        });
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }

    fn reader(&self, isolation: Isolation) -> BaseConsumer {
        self.client_config()
            .set("group.id", "steward-tests-reader")
            .set("enable.auto.commit", "false")
            .set("isolation.level", isolation.name())
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "10")
            .set("fetch.queue.backoff.ms", "10")
            .create()
            .expect("the settings are constants")
    }

    // ------------------------------------------------------------------------------------------------------- group

    /// Returns the committed offset of each partition of the topic, in order; `None` if there is none.
    pub fn committed(&self, group: &str, topic: &str) -> Vec<Option<i64>> {
        let partitions = self.partitions_of(topic);
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(topic, 0, partitions - 1);
        let member = self.member(group);
        let answer = answered(&format!("committed offsets of {group}"), || {
            let answer = member.committed_offsets(asked.clone(), ONE_ATTEMPT)?;
            answer.elements().iter().try_for_each(TopicPartitionListElem::error)?;
            Ok(answer)
        });
        (0..partitions)
            .map(|partition| match answer.find_partition(topic, partition)?.offset() {
                Offset::Offset(offset) => Some(offset),
                Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => None,
            })
            .collect()
    }

    /// Sets the committed offsets of a group without members, as an operator would.
    pub fn commit(&self, group: &str, topic: &str, offsets: &[(i32, i64)]) {
        let list = list_of(topic, offsets);
        let member = self.member(group);
        answered(&format!("set the offsets of {group}"), || member.commit(&list, CommitMode::Sync));
    }

    /// Sets the committed offsets of a group with members, as a program outside of the group can: in a transaction.
    pub fn commit_in_transaction(&self, group: &str, topic: &str, offsets: &[(i32, i64)]) {
        let list = list_of(topic, offsets);
        let outsider = self.member(group).group_metadata().expect("the group id is set");
        let producer = self.transactional_producer(&unique("outsider"));
        producer.begin_transaction().expect("no transaction is open");
        producer
            .send_offsets_to_transaction(&list, &outsider, PATIENCE)
            .expect("the group accepts the offsets of an outsider");
        producer.commit_transaction(PATIENCE).expect("the transaction commits");
    }

    /// Deletes a group without members, and its committed offsets.
    pub fn delete_group(&self, group: &str) {
        self.change(&format!("delete group {group}"), RDKafkaErrorCode::GroupIdNotFound, || {
            self.wait(self.admin.delete_groups(&[group], &options()))
        });
    }

    fn member(&self, group: &str) -> BaseConsumer {
        let mut config = self.client_config();
        config.set("group.id", group).set("enable.auto.commit", "false");
        config.create().expect("the settings are constants")
    }

    // ------------------------------------------------------------------------------------------------------- below

    /// Waits until the topic exists, and returns its number of partitions.
    pub fn partitions_of(&self, topic: &str) -> i32 {
        wait_for(&format!("topic {topic} exists"), PATIENCE, || self.partition_count(topic))
    }

    /// Waits for a response of the admin client. A thread of the client completes the future, so polling suffices.
    fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        let mut answer = std::pin::pin!(answer);
        wait_for(&format!("{} responds", self.address), PATIENCE, || answer.as_mut().now_or_never())
    }

    /// Requests a change until Kafka confirms it. If an earlier attempt got no clear response, the code `made` also
    /// counts as a confirmation: the change was made already.
    fn change(
        &self,
        what: &str,
        made: RDKafkaErrorCode,
        request: impl Fn() -> KafkaResult<Vec<Result<String, (String, RDKafkaErrorCode)>>>,
    ) {
        let mut attempts = 0;
        answered(&format!("{what} on {}", self.address), || {
            attempts += 1;
            for result in request()? {
                match result {
                    Ok(_) => {}
                    Err((_, code)) if code == made && attempts > 1 => {}
                    Err((_, code)) => return Err(KafkaError::AdminOp(code)),
                }
            }
            Ok(())
        });
    }
}

fn client_config(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    // Short backoffs, so that a restarted broker is found immediately. Not logged, because tests stop brokers on
    // purpose.
    config.set("bootstrap.servers", address).set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "200");
    config.set("log_level", "0");
    config
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

/// Limit for one of several attempts. If a response is lost, the next attempt gets one.
const ONE_ATTEMPT: Duration = Duration::from_secs(20);

fn list_of(topic: &str, offsets: &[(i32, i64)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset)).expect("a valid offset");
    }
    list
}

/// Repeats a request until it has a permanent result. A restarted broker does not know its leaders and coordinators yet,
/// and the first group of a broker creates the offsets topic.
fn answered<T>(what: &str, request: impl FnMut() -> KafkaResult<T>) -> T {
    wait_for_success(what, PATIENCE, is_transient, request)
}

/// Returns the partitions that are not read to the end, for a message; `None` if there are none.
fn unfinished_partitions(reader: &BaseConsumer, ends: &[Ends]) -> Option<String> {
    let position = reader.position().expect("the reader has an assignment");
    let open: Vec<String> = position
        .elements()
        .iter()
        .filter_map(|element| {
            let end = usize::try_from(element.partition()).ok().and_then(|partition| ends.get(partition))?;
            let is_at_the_end = matches!(element.offset(), Offset::Offset(offset) if offset >= end.high);
            (!is_at_the_end).then(|| format!("partition {} at {:?}", element.partition(), element.offset()))
        })
        .collect();
    (!open.is_empty()).then(|| open.join(", "))
}

/// Returns whether the error is transient: the broker is unreachable or restarting, or does not know its topics, leaders
/// or coordinators yet.
fn is_transient(error: &KafkaError) -> bool {
    let code = if let KafkaError::AdminOp(code) = error { Some(*code) } else { error.rdkafka_error_code() };
    matches!(
        code,
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::NetworkException
                | RDKafkaErrorCode::BrokerNotAvailable
                | RDKafkaErrorCode::NotController
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::ReplicaNotAvailable
                | RDKafkaErrorCode::FencedLeaderEpoch
                | RDKafkaErrorCode::UnknownLeaderEpoch
                | RDKafkaErrorCode::OffsetNotAvailable
                | RDKafkaErrorCode::KafkaStorageError
                | RDKafkaErrorCode::WaitingForCoordinator
                | RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
        )
    )
}

// -------------------------------------------------------------------------------------------------------- producer

/// A producer that keeps the delivery report of each record.
pub type Producer = BaseProducer<Reports>;

/// Delivery reports by the index of the record.
#[derive(Debug, Default)]
pub struct Reports {
    reports: std::sync::Mutex<BTreeMap<usize, Result<Place, RDKafkaErrorCode>>>,
}

impl Reports {
    /// Fails unless each of the first `count` records was delivered.
    pub fn assert_delivered(&self, count: usize) {
        let reports = self.reports.lock().expect("the callback does not panic");
        let failed: Vec<_> = reports.iter().filter(|(_, report)| report.is_err()).take(3).collect();
        assert!(
            failed.is_empty() && reports.len() == count,
            "{} of {count} reports; failed: {failed:?}",
            reports.len()
        );
    }
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let report = match result {
            Ok(message) => Ok(Place { partition: message.partition(), offset: message.offset() }),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
        };
        self.reports.lock().expect("the callback does not panic").insert(index, report);
    }
}

/// Queues a record, and waits while the queue of the producer is full.
pub fn send(producer: &Producer, topic: &str, record: &Outgoing, index: usize, deadline: Deadline) {
    let mut outgoing = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, index);
    outgoing.key = record.key.as_deref();
    outgoing.payload = record.value.as_deref();
    outgoing.partition = record.partition;
    outgoing.timestamp = record.timestamp_ms;
    if !record.headers.is_empty() {
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() }));
        outgoing.headers = Some(headers);
    }
    loop {
        match producer.send(outgoing) {
            Ok(()) => return,
            Err((error, returned)) => {
                let is_full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                assert!(is_full && !deadline.passed(), "produce to {topic}: {error}");
                outgoing = returned;
                producer.poll(Duration::from_millis(10));
            }
        }
    }
}
