//! The behaviour of a real Kafka and of the test helpers that the other tests assume.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::Producer as _;

use crate::support::broker::Broker;
use crate::support::kafka::{ANY_TIMESTAMP, Ends, Kafka, Outgoing, Place, Producer, Stored, record, send, tombstone};
use crate::support::names::{Names, unique};
use crate::support::wait::{Deadline, PATIENCE, unix_ms, wait_until};

#[apply(broker_test)]
fn a_produced_record_is_read_back_unchanged() {
    let (kafka, topic) = (Kafka::shared(), unique("whole"));
    kafka.create_topic(&topic, 2, &ANY_TIMESTAMP);

    let places = kafka.produce(
        &topic,
        &[
            record("42", r#"{"a":1}"#).to(1).at(1_700_000_000_123).header("h", "1").null_header("h").header("", ""),
            record("", "").to(1).at(1),
            tombstone("42").without_key().to(0),
        ],
    );

    assert_eq!(places, [(1, 0), (1, 1), (0, 0)].map(|(partition, offset)| Place { partition, offset }));
    let [nothing, whole, empty] = &kafka.read_committed(&topic)[..] else { panic!("not three records") };
    assert_eq!((&nothing.key, &nothing.value), (&None, &None));
    assert_eq!(
        (empty.key.as_deref(), empty.value.as_deref(), empty.timestamp_ms),
        (Some(&[][..]), Some(&[][..]), Some(1))
    );
    assert_eq!(
        (whole.key_text(), whole.json(), whole.timestamp_ms),
        ("42".into(), serde_json::json!({"a": 1}), Some(1_700_000_000_123))
    );
    let headers = [("h", Some(b"1".to_vec())), ("h", None), ("", Some(Vec::new()))];
    assert_eq!(whole.headers, headers.map(|(name, value)| (name.to_owned(), value)));
}

#[apply(broker_test)]
fn a_committed_transaction_is_seen_and_an_aborted_one_is_not() {
    let (kafka, topic) = (Kafka::shared(), unique("transactions"));
    kafka.create_topic(&topic, 1, &[]);
    let producer = kafka.transactional_producer(&unique("id"));

    in_transaction(&producer, &topic, "seen").commit_transaction(PATIENCE).expect("commit");
    in_transaction(&producer, &topic, "unseen").abort_transaction(PATIENCE).expect("abort");

    let values = |records: Vec<Stored>| records.iter().filter_map(Stored::value_text).collect::<Vec<_>>();
    assert_eq!(values(kafka.read_committed(&topic)), ["seen"], "the reader reached the end after the markers");
    assert_eq!(values(kafka.read_uncommitted(&topic)), ["seen", "unseen"]);
    assert_eq!(kafka.ends(&topic), [Ends { low: 0, high: 4 }], "two records, two markers");
}

/// Kafka stores any 64-bit timestamp. `-1` means "no timestamp".
#[apply(broker_test)]
fn unusual_timestamps_are_accepted() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 1);
    let year_10000 = 253_402_300_800_000;
    let unusual = [-2, -1, i64::MIN, year_10000 - 1, year_10000, i64::MAX];

    for timestamp in unusual {
        kafka.try_produce(&names.input, &record("1", "x").at(timestamp)).expect("accepted");
    }

    let stored: Vec<_> = kafka.read_committed(&names.input).iter().map(|record| record.timestamp_ms).collect();
    assert_eq!(stored, unusual.map(|timestamp| (timestamp != -1).then_some(timestamp)));
}

#[apply(broker_test)]
fn by_default_past_timestamps_are_accepted_and_future_ones_are_not() {
    let (kafka, topic) = (Kafka::shared(), unique("strict"));
    kafka.create_topic(&topic, 1, &[("retention.ms", "-1")]);
    let try_at = |timestamp| kafka.try_produce(&topic, &record("1", "x").at(timestamp)).map(|place| place.offset);

    assert_eq!(try_at(-1), Ok(0));
    assert_eq!(try_at(-2), Ok(1));
    assert_eq!(try_at(unix_ms() + 7_200_000), Err(RDKafkaErrorCode::InvalidTimestamp));
}

#[apply(broker_test)]
fn a_value_that_compresses_well_passes_a_small_limit() {
    let (kafka, topic) = (Kafka::shared(), unique("compressed"));
    kafka.create_topic(&topic, 1, &[("max.message.bytes", "65536")]);
    let large = record("1", vec![b' '; 10_000_000]);

    assert_eq!(kafka.try_produce(&topic, &large), Err(RDKafkaErrorCode::MessageSizeTooLarge));
    kafka.produce_with(&[("compression.type", "zstd")], &topic, std::slice::from_ref(&large));

    let stored = kafka.read_committed(&topic);
    assert_eq!(stored.iter().map(|record| record.value.as_ref().map(Vec::len)).collect::<Vec<_>>(), [Some(10_000_000)]);
}

#[apply(broker_test)]
fn a_group_s_offsets_can_be_set_and_read() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 3);

    assert_eq!(kafka.committed(&names.group, &names.input), [None, None, None]);
    kafka.commit(&names.group, &names.input, &[(0, 7), (2, 0)]);
    assert_eq!(kafka.committed(&names.group, &names.input), [Some(7), None, Some(0)]);
    kafka.commit(&names.group, &names.input, &[(0, 3)]);
    assert_eq!(kafka.committed(&names.group, &names.input), [Some(3), None, Some(0)]);
}

#[apply(broker_test)]
fn a_log_starts_later_after_records_are_deleted() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 1);
    kafka.produce(&names.input, &numbered(5));

    kafka.delete_records(&names.input, 0, 3);

    assert_eq!(kafka.ends(&names.input), [Ends { low: 3, high: 5 }]);
    assert_eq!(kafka.read_committed(&names.input).iter().map(|record| record.offset).collect::<Vec<_>>(), [3, 4]);
}

#[apply(broker_test)]
fn a_topic_can_be_copied() {
    let (kafka, from, to) = (Kafka::shared(), unique("from"), unique("to"));
    for topic in [&from, &to] {
        kafka.create_topic(topic, 2, &ANY_TIMESTAMP);
    }
    kafka.produce(&from, &[record("1", "one").at(5).header("a", "b").to(1), tombstone("2").at(6).to(0)]);

    kafka.copy_topic(&from, &to);

    assert_eq!(kafka.read_committed(&to), kafka.read_committed(&from));
}

#[apply(own_broker_test)]
fn a_broker_keeps_its_records_through_a_crash() {
    let mut broker = Broker::own();
    let (kafka, topic) = (broker.kafka(), unique("kept"));
    kafka.create_topic(&topic, 1, &[]);
    kafka.produce(&topic, &numbered(3));

    broker.restart();
    kafka.produce(&topic, &numbered(2));
    broker.stop(Duration::from_secs(20));
    broker.start();

    assert_eq!(kafka.read_committed(&topic).len(), 5);
}

#[apply(own_broker_test)]
fn a_paused_broker_answers_later() {
    let mut broker = Broker::with(&[("message.max.bytes", "123456")]);
    let (kafka, topic) = (broker.kafka(), unique("paused"));
    kafka.create_topic(&topic, 1, &[]);
    assert_eq!(kafka.topic_setting(&topic, "max.message.bytes"), "123456", "the broker has its own setting");

    broker.pause();
    assert_eq!(kafka.partition_count_within(&topic, Duration::from_millis(300)), None, "the paused broker answered");
    broker.resume();

    wait_until("the broker answers", PATIENCE, || kafka.partition_count(&topic) == Some(1));
}

fn in_transaction<'p>(producer: &'p Producer, topic: &str, value: &str) -> &'p Producer {
    producer.begin_transaction().expect("begin");
    send(producer, topic, &record("1", value), 0, Deadline::after(PATIENCE));
    producer.flush(PATIENCE).expect("flush");
    producer
}

fn numbered(count: usize) -> Vec<Outgoing> {
    (0..count).map(|number| record("1", number.to_string())).collect()
}
