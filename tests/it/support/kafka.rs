//! Speaks to Kafka in the sentences that tests need: create, produce, read all of it, look at a group, cut a log.
//!
//! Reading judges from outside: [`Kafka::read_committed`] is what a reader of our topics sees, from the beginning to
//! an end that was taken without regard to transactions, so that an open one makes it wait instead of ending early.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt as _;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
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

/// Lets every timestamp in, and keeps what it stamped long ago: with a retention, a record of the year 1970 would be
/// deleted within seconds.
pub const ANY_TIMESTAMP: [(&str, &str); 3] = [
    ("message.timestamp.before.max.ms", "9223372036854775807"),
    ("message.timestamp.after.max.ms", "9223372036854775807"),
    ("retention.ms", "-1"),
];

// --------------------------------------------------------------------------------------------------------- records

/// A record to be produced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Into which partition; the key decides where it is `None`.
    pub partition: Option<i32>,
    /// The key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is null.
    pub value: Option<Vec<u8>>,
    /// Names and values, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970; the present where it is `None`.
    pub timestamp_ms: Option<i64>,
}

/// A record with this key and value.
pub fn record(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Outgoing {
    Outgoing { key: Some(key.as_ref().to_vec()), value: Some(value.as_ref().to_vec()), ..Outgoing::default() }
}

/// A record with this key and a null value.
pub fn tombstone(key: impl AsRef<[u8]>) -> Outgoing {
    Outgoing { key: Some(key.as_ref().to_vec()), ..Outgoing::default() }
}

impl Outgoing {
    /// Into this partition; the key decides otherwise.
    pub fn to(mut self, partition: i32) -> Outgoing {
        self.partition = Some(partition);
        self
    }

    /// Stamped with this time instead of the present one, in milliseconds since 1970.
    ///
    /// # Panics
    /// For 0, which the client library takes for "now".
    pub fn at(mut self, timestamp_ms: i64) -> Outgoing {
        assert_ne!(timestamp_ms, 0, "librdkafka replaces a timestamp of 0 by the present time");
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Outgoing {
        self.headers.push((name.to_owned(), Some(value.as_ref().to_vec())));
        self
    }

    /// With one more header, whose value is null.
    pub fn null_header(mut self, name: &str) -> Outgoing {
        self.headers.push((name.to_owned(), None));
        self
    }

    /// With a null key.
    pub fn without_key(mut self) -> Outgoing {
        self.key = None;
        self
    }
}

/// A record as it stands in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Milliseconds since 1970; `None` where the record has none.
    pub timestamp_ms: Option<i64>,
    /// The key; `None` where it is null.
    pub key: Option<Vec<u8>>,
    /// The value; `None` where it is null.
    pub value: Option<Vec<u8>>,
    /// Names and values, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Stored {
    /// The key as text, empty where it is null.
    pub fn key_text(&self) -> String {
        String::from_utf8_lossy(self.key.as_deref().unwrap_or_default()).into_owned()
    }

    /// The value as text; `None` where it is null.
    pub fn value_text(&self) -> Option<String> {
        self.value.as_deref().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// The value as JSON.
    pub fn json(&self) -> serde_json::Value {
        let value = self.value.as_deref().expect("a value that is not null");
        serde_json::from_slice(value).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(value)))
    }

    /// The last header of this name, as text. `None` where there is none.
    pub fn last_header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().rev().find(|(found, _)| found == name)?;
        Some(String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned())
    }

    /// Names of all headers, in order.
    pub fn header_names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The same record, to be produced again.
    pub fn outgoing(&self) -> Outgoing {
        Outgoing {
            partition: Some(self.partition),
            key: self.key.clone(),
            value: self.value.clone(),
            headers: self.headers.clone(),
            timestamp_ms: self.timestamp_ms,
        }
    }

    fn from(message: &BorrowedMessage<'_>) -> Stored {
        let headers = message.headers().map(|headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        Stored {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        }
    }
}

/// Where a produced record ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// The first offset that is there, and the one behind the last, without regard to transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The log's start.
    pub low: i64,
    /// The high watermark.
    pub high: i64,
}

/// Which records a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Isolation {
    Committed,
    Uncommitted,
}

impl Isolation {
    fn name(self) -> &'static str {
        match self {
            Isolation::Committed => "read_committed",
            Isolation::Uncommitted => "read_uncommitted",
        }
    }
}

// ----------------------------------------------------------------------------------------------------------- Kafka

/// One Kafka, as a test speaks to it.
pub struct Kafka {
    address: String,
    admin: AdminClient<DefaultClientContext>,
}

impl Kafka {
    /// The one that all tests share.
    pub fn shared() -> Kafka {
        Kafka::at(&broker::shared_address())
    }

    /// The one at this address.
    pub fn at(address: &str) -> Kafka {
        let admin = client_config(address).create().expect("the settings are constants");
        Kafka { address: address.to_owned(), admin }
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The client of the library itself, for what its Rust side does not offer; it lives as long as this does.
    pub fn native(&self) -> *mut rdkafka_sys::rd_kafka_t {
        self.admin.inner().native_ptr()
    }

    /// Settings of a client, to be completed.
    pub fn client_config(&self) -> ClientConfig {
        client_config(&self.address)
    }

    // ------------------------------------------------------------------------------------------------------ topics

    /// Creates the input topic of a test, into which records with any timestamp can be produced.
    pub fn create_input(&self, names: &Names, partitions: i32) {
        self.create_topic(&names.input, partitions, &ANY_TIMESTAMP);
    }

    /// Creates a topic, and returns when it can be used.
    pub fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        topic.config = configs.to_vec();
        self.change(&format!("create topic {name}"), RDKafkaErrorCode::TopicAlreadyExists, || {
            self.wait(self.admin.create_topics([&topic], &options()))
        });
        wait_until(&format!("topic {name} has leaders"), PATIENCE, || self.partition_count(name) == Some(partitions));
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

    /// How many partitions the topic has, all of them with a leader; `None` where there is no such topic (yet).
    pub fn partition_count(&self, topic: &str) -> Option<i32> {
        self.partition_count_within(topic, Duration::from_secs(5))
    }

    /// [`Kafka::partition_count`], also `None` where Kafka does not answer within `limit`.
    pub fn partition_count_within(&self, topic: &str, limit: Duration) -> Option<i32> {
        let metadata = self.admin.inner().fetch_metadata(Some(topic), limit).ok()?;
        let topic = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none())?;
        let has_leaders = topic.partitions().iter().all(|partition| partition.leader() >= 0);
        let count = i32::try_from(topic.partitions().len()).expect("Kafka counts partitions in 32 bits");
        (has_leaders && count > 0).then_some(count)
    }

    /// The value of one setting of a topic.
    pub fn topic_setting(&self, topic: &str, setting: &str) -> String {
        let resource = answered(&format!("settings of {topic}"), || {
            let described = self.wait(self.admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options()));
            described?.pop().expect("one was asked for").map_err(KafkaError::AdminOp)
        });
        let value = resource.get(setting).and_then(|entry| entry.value.clone());
        value.unwrap_or_else(|| panic!("topic {topic} tells no {setting}"))
    }

    /// The ends of each partition, in order.
    pub fn ends(&self, topic: &str) -> Vec<Ends> {
        self.ends_for(topic, Isolation::Uncommitted)
    }

    /// The partitions in which a transaction is open at the moment.
    pub fn with_open_transactions(&self, topic: &str) -> Vec<i32> {
        // In this order, a transaction that begins between the two questions does not count as one that has ended.
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
                    let asked = reader.fetch_watermarks(topic, partition, ONE_TRY);
                    if asked.is_err() {
                        // A client that asked while no partition had a leader keeps the answer for its cache's age.
                        reader = self.reader(isolation);
                    }
                    asked
                });
                Ends { low, high }
            })
            .collect()
    }

    /// Deletes the records before `before`, as retention would.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition, Offset::Offset(before)).expect("a valid offset");
        answered(&format!("delete records of {topic}/{partition}"), || {
            let deleted = self.wait(self.admin.delete_records(&offsets, &options()))?;
            deleted.elements().iter().try_for_each(TopicPartitionListElem::error)
        });
    }

    /// Copies every committed record of `from` into `to`, which has at least as many partitions: the same partition,
    /// key, value, headers and timestamp, other offsets where `from` had gaps.
    pub fn copy_topic(&self, from: &str, to: &str) {
        self.copy_topic_where(from, to, |_| true);
    }

    /// [`Kafka::copy_topic`] of those records alone that are wanted.
    pub fn copy_topic_where(&self, from: &str, to: &str, wanted: impl Fn(&Stored) -> bool) {
        let records = self.read_committed(from);
        let records: Vec<Outgoing> = records.iter().filter(|record| wanted(record)).map(Stored::outgoing).collect();
        self.produce(to, &records);
    }

    // ----------------------------------------------------------------------------------------------------- produce

    /// Produces the records in this order, each once, and returns where they are when all of them are there.
    pub fn produce(&self, topic: &str, records: &[Outgoing]) -> Vec<Place> {
        self.produce_with(&[], topic, records)
    }

    /// [`Kafka::produce`] with further settings of the producer, such as `compression.type`.
    pub fn produce_with(&self, settings: &[(&str, &str)], topic: &str, records: &[Outgoing]) -> Vec<Place> {
        let producer = self.producer(&[&[("enable.idempotence", "true")], settings].concat());
        let deadline = Deadline::after(PATIENCE);
        for (index, record) in records.iter().enumerate() {
            send(&producer, topic, record, index, deadline);
        }
        producer.flush(deadline.left()).unwrap_or_else(|error| panic!("produce to {topic}: {error}"));
        let reports = producer.context().reports.lock().expect("no report panics");
        (0..records.len())
            .map(|index| match reports.get(&index) {
                Some(Ok(place)) => *place,
                Some(Err(code)) => panic!("record {index} was not taken by {topic}: {code}"),
                None => panic!("record {index} was neither taken nor refused by {topic}"),
            })
            .collect()
    }

    /// Produces one record that the broker may refuse.
    ///
    /// # Errors
    /// The broker's code.
    pub fn try_produce(&self, topic: &str, record: &Outgoing) -> Result<Place, RDKafkaErrorCode> {
        let producer = self.producer(&[]);
        let deadline = Deadline::after(PATIENCE);
        send(&producer, topic, record, 0, deadline);
        producer.flush(deadline.left()).unwrap_or_else(|error| panic!("produce to {topic}: {error}"));
        let reports = producer.context().reports.lock().expect("no report panics");
        *reports.get(&0).expect("flushed")
    }

    /// A producer that can open transactions; whoever held the id before is fenced.
    pub fn transactional_producer(&self, transactional_id: &str) -> Producer {
        self.transactional_producer_within(transactional_id, Duration::from_secs(10))
    }

    /// [`Kafka::transactional_producer`] whose transactions the broker aborts after `timeout`.
    pub fn transactional_producer_within(&self, transactional_id: &str, timeout: Duration) -> Producer {
        let timeout_ms = timeout.as_millis().to_string();
        let producer =
            self.producer(&[("transactional.id", transactional_id), ("transaction.timeout.ms", &timeout_ms)]);
        producer.init_transactions(PATIENCE).unwrap_or_else(|error| panic!("init {transactional_id}: {error}"));
        producer
    }

    /// A producer with further settings.
    pub fn producer(&self, settings: &[(&str, &str)]) -> Producer {
        let mut config = self.client_config();
        // The largest that the library allows: it counts bytes before they are compressed.
        config.set("message.max.bytes", "1000000000").set("linger.ms", "1").set("partitioner", "murmur2_random");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        config.create_with_context(Reports::default()).expect("settings that the library knows")
    }

    // -------------------------------------------------------------------------------------------------------- read

    /// All records that a `read_committed` reader sees, per partition in the order of the offsets.
    pub fn read_committed(&self, topic: &str) -> Vec<Stored> {
        self.read(topic, Isolation::Committed)
    }

    /// All records, those of open and aborted transactions included.
    pub fn read_uncommitted(&self, topic: &str) -> Vec<Stored> {
        self.read(topic, Isolation::Uncommitted)
    }

    /// Reads until `enough` says so of what a `read_committed` reader sees, and returns that.
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
        // By itself the library asks for a topic that it does not know only once a second.
        answered(&format!("metadata of {topic}"), || reader.fetch_metadata(Some(topic), ONE_TRY));
        reader.assign(&assignment).expect("partitions that were there a moment ago");

        let mut records = Vec::new();
        let deadline = Deadline::after(PATIENCE);
        while let Some(open) = short_of(&reader, &ends) {
            assert!(!deadline.passed(), "{topic} was not read to its end, which is {ends:?}: {open}");
            match reader.poll(Duration::from_millis(20)) {
                Some(Ok(message)) => records.push(Stored::from(&message)),
                Some(Err(error)) => assert!(is_passing(&error), "read {topic}: {error}"),
                None => {}
            }
        }
        // What was appended meanwhile may have been read as well; the answer is of the moment of the question.
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

    /// What the group has committed for each partition of the topic, in order; `None` where it has nothing.
    pub fn committed(&self, group: &str, topic: &str) -> Vec<Option<i64>> {
        let partitions = self.partitions_of(topic);
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(topic, 0, partitions - 1);
        let member = self.member(group);
        let answer = answered(&format!("committed offsets of {group}"), || {
            let answer = member.committed_offsets(asked.clone(), ONE_TRY)?;
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

    /// Sets what the group has committed, as an operator would; it must have no members.
    pub fn commit(&self, group: &str, topic: &str, offsets: &[(i32, i64)]) {
        let list = list_of(topic, offsets);
        let member = self.member(group);
        answered(&format!("set the offsets of {group}"), || member.commit(&list, CommitMode::Sync));
    }

    /// Sets what the group has committed while it has members, as a program without a place in it can: in a transaction.
    pub fn commit_in_transaction(&self, group: &str, topic: &str, offsets: &[(i32, i64)]) {
        let list = list_of(topic, offsets);
        let stranger = self.member(group).group_metadata().expect("a group is named");
        let producer = self.transactional_producer(&unique("stranger"));
        producer.begin_transaction().expect("none is open");
        producer.send_offsets_to_transaction(&list, &stranger, PATIENCE).expect("the group takes a stranger's offsets");
        producer.commit_transaction(PATIENCE).expect("the broker takes it");
    }

    /// Deletes a group with all that it has committed; it must have no members.
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

    /// How many partitions a topic has that is there.
    pub fn partitions_of(&self, topic: &str) -> i32 {
        wait_for(&format!("topic {topic} is there"), PATIENCE, || self.partition_count(topic))
    }

    /// The admin client answers from a thread of its own, so that it is enough to look.
    fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        let mut answer = std::pin::pin!(answer);
        wait_for(&format!("{} answers", self.address), PATIENCE, || answer.as_mut().now_or_never())
    }

    /// Asks for a change until Kafka says that it is made. Where an earlier try went without a clear answer, `made` says
    /// so as well: that the change had been made already.
    fn change(
        &self,
        what: &str,
        made: RDKafkaErrorCode,
        ask: impl Fn() -> KafkaResult<Vec<Result<String, (String, RDKafkaErrorCode)>>>,
    ) {
        let mut tries = 0;
        answered(&format!("{what} on {}", self.address), || {
            tries += 1;
            for result in ask()? {
                match result {
                    Ok(_) => {}
                    Err((_, code)) if code == made && tries > 1 => {}
                    Err((_, code)) => return Err(KafkaError::AdminOp(code)),
                }
            }
            Ok(())
        });
    }
}

fn client_config(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    // A broker that comes back is noticed at once, and its absence is the test's doing and no news.
    config.set("bootstrap.servers", address).set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "200");
    config.set("log_level", "0");
    config
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

/// What one of several tries may take: an answer that got lost on the way comes with the next one.
const ONE_TRY: Duration = Duration::from_secs(20);

fn list_of(topic: &str, offsets: &[(i32, i64)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset)).expect("a valid offset");
    }
    list
}

/// Asks until there is an answer that stays: a broker that has just come back knows neither its leaders nor its
/// coordinators yet, and the first group of a broker creates the topic of the offsets.
fn answered<T>(what: &str, ask: impl FnMut() -> KafkaResult<T>) -> T {
    wait_for_success(what, PATIENCE, is_passing, ask)
}

/// The partitions whose reader has not come to the end, for a person; `None` when all have.
fn short_of(reader: &BaseConsumer, ends: &[Ends]) -> Option<String> {
    let position = reader.position().expect("an assignment");
    let open: Vec<String> = position
        .elements()
        .iter()
        .filter_map(|element| {
            let end = usize::try_from(element.partition()).ok().and_then(|partition| ends.get(partition))?;
            let has_come_to_the_end = matches!(element.offset(), Offset::Offset(offset) if offset >= end.high);
            (!has_come_to_the_end).then(|| format!("partition {} at {:?}", element.partition(), element.offset()))
        })
        .collect();
    (!open.is_empty()).then(|| open.join(", "))
}

/// Whether it goes by itself: the broker is away, is coming back, or does not yet know its topics, who leads and who
/// coordinates.
fn is_passing(error: &KafkaError) -> bool {
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

/// A producer that remembers what became of each record.
pub type Producer = BaseProducer<Reports>;

/// What became of the records, by the number given to each.
#[derive(Debug, Default)]
pub struct Reports {
    reports: std::sync::Mutex<BTreeMap<usize, Result<Place, RDKafkaErrorCode>>>,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let report = match result {
            Ok(message) => Ok(Place { partition: message.partition(), offset: message.offset() }),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
        };
        self.reports.lock().expect("no report panics").insert(index, report);
    }
}

/// Hands one record to the producer, waiting while its queue is full.
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
            Err((error, back)) => {
                let is_full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                assert!(is_full && !deadline.passed(), "produce to {topic}: {error}");
                outgoing = back;
                producer.poll(Duration::from_millis(10));
            }
        }
    }
}
