//! The commands that use Kafka: what they write to the topics, and what they print.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::producer::Producer as _;
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use steward::app::SystemClock;
use steward::config::Config;
use steward::kafka::plain_producer::{PlainProducer, PlainRecord, SendResult};

use crate::cli::{Ran, Running, command, steward};
use crate::support::broker::Broker;
use crate::support::kafka::{ANY_TIMESTAMP, Kafka, Outgoing, record, send, tombstone};
use crate::support::names::unique;
use crate::support::wait::{Deadline, PATIENCE, now, wait_until};

// ---------------------------------------------------------------------------------------------------------- produce

/// Waits as `--rate` does between two events, on this thread, because processor time is measured per thread.
#[apply(broker_test)]
fn a_wait_for_the_next_event_uses_no_processor_time() {
    let kafka = Kafka::shared();
    let mut config = Config::default();
    config.kafka.bootstrap_servers = kafka.address().to_owned();
    config.kafka.topic = topic(&kafka, 1);
    let producer = PlainProducer::connect(&config, None, 1, PATIENCE, &SystemClock).expect("the broker answers");
    let processor_time = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("it only rises");

    let (began, worked) = (now(), processor_time());
    for wait_us in (0..2_000).map(|number| 100 + number % 3_000) {
        producer.poll(Duration::from_micros(wait_us));
    }

    let (lasted, worked) = (now().saturating_duration_since(began), processor_time() - worked);
    // A busy loop would use all of the time. A busy machine lowers the share, and never raises it.
    assert!(worked < lasted / 4, "{worked:?} of work in {lasted:?} of waiting");
}

/// If a call served the callbacks of one request only, and then slept for a millisecond, the queue would fill. The
/// fuller the queue, the smaller the requests, and the slower the queue drains.
#[apply(broker_test)]
fn one_poll_serves_the_callbacks_of_all_delivered_records() {
    const RECORDS: u64 = 500;
    let kafka = Kafka::shared();
    let mut config = Config::default();
    config.kafka.bootstrap_servers = kafka.address().to_owned();
    config.kafka.topic = topic(&kafka, 1);
    // A request for each record.
    config.kafka.properties.insert("batch.num.messages".to_owned(), "1".to_owned());
    let producer = PlainProducer::connect(&config, None, 1, PATIENCE, &SystemClock).expect("the broker answers");
    for number in 0..RECORDS {
        let key = number.to_string();
        let record = PlainRecord {
            partition: None,
            key: Some(key.as_bytes()),
            value: Some(b"value"),
            timestamp_ms: 1,
            headers: &[],
        };
        assert_eq!(producer.send(record, 0).expect("the client takes it"), SendResult::Queued);
    }
    wait_until("the broker has them", PATIENCE, || kafka.ends(&config.kafka.topic)[0].high == RECORDS as i64);

    let mut polls = 0;
    // The last responses may not have reached the client yet.
    while producer.delivered()[0] < RECORDS && polls < RECORDS / 5 {
        producer.poll(Duration::from_millis(1));
        polls += 1;
    }

    assert_eq!(producer.delivered()[0], RECORDS, "after {polls} polls");
}

#[apply(broker_test)]
fn the_same_seed_gives_the_same_bytes_in_the_same_partitions() {
    let kafka = Kafka::shared();
    let [one, two, other] = [(); 3].map(|()| topic(&kafka, 3));
    let start = ["--start-timestamp-ms", "1700000000000", "--invalid-share", "0.3", "--odd-share", "0.3"];

    for (topic, seed) in [(&one, "7"), (&two, "7"), (&other, "8")] {
        produce(&kafka, topic, ["--events", "800", "--keys", "40", "--seed", seed].iter().chain(&start)).ok();
    }

    let records = kafka.read_committed(&one);
    assert_eq!(records.len(), 800);
    assert_eq!(records, kafka.read_committed(&two));
    assert_ne!(records, kafka.read_committed(&other));
}

#[apply(broker_test)]
fn each_id_stays_in_one_partition_and_null_keys_are_spread() {
    let kafka = Kafka::shared();
    let topic = topic(&kafka, 3);
    let kinds = ["--invalid-share", "0.2", "--invalid", "missing-key=1"];
    produce(&kafka, &topic, ["--events", "600", "--keys", "50"].iter().chain(&kinds)).ok();

    let mut partitions: BTreeMap<Option<Vec<u8>>, Vec<i32>> = BTreeMap::new();
    for record in kafka.read_committed(&topic) {
        let of_key = partitions.entry(record.key).or_default();
        if !of_key.contains(&record.partition) {
            of_key.push(record.partition);
        }
    }
    assert_eq!(partitions.remove(&None).map(|spread| spread.len()), Some(3));
    assert!(partitions.len() > 20, "{} keys", partitions.len());
    assert!(partitions.values().all(|of_key| of_key.len() == 1), "{partitions:?}");
}

#[apply(broker_test)]
fn the_summary_matches_the_content_of_the_topic() {
    let kafka = Kafka::shared();
    let topic = topic(&kafka, 2);
    let ran = produce(&kafka, &topic, ["--events", "500", "--keys", "30", "--invalid-share", "0.2", "--json"]);
    let summary: Value = serde_json::from_str(&ran.ok()).expect("one object");

    let counts = |object: &Value| -> u64 {
        object.as_object().expect("counts").values().map(|count| count.as_u64().expect("a count")).sum()
    };
    assert_eq!((&summary["topic"], &summary["sent"]), (&topic.as_str().into(), &500.into()));
    assert_eq!((&summary["interrupted"], &summary["refused"]), (&false.into(), &serde_json::json!({})));
    assert_eq!(counts(&summary["kinds"]), 500);
    let applied = summary["expected"]["applied"].as_u64().expect("a count");
    assert_eq!(applied + counts(&summary["expected"]["rejected"]), 500);
    assert_eq!(kafka.read_committed(&topic).len(), 500);
}

#[apply(broker_test)]
fn only_the_kinds_that_were_named_are_drawn() {
    let kafka = Kafka::shared();
    let topic = topic(&kafka, 1);
    let kinds = ["--invalid-share", "1", "--odd-share", "0", "--invalid", "null-payload=1", "--invalid", "not-json=2"];
    let ran = produce(&kafka, &topic, ["--events", "60"].iter().chain(&kinds));

    let table = ran.ok();
    assert!(table.contains("null-payload") && table.contains("malformed_json"), "{table}");
    assert!(!table.contains("created") && !table.contains("too-large"), "{table}");
    assert!(kafka.read_committed(&topic).iter().any(|record| record.value.is_none()));
}

#[apply(broker_test)]
fn an_interrupted_command_reports_what_it_has_sent() {
    let kafka = Kafka::shared();
    let topic = topic(&kafka, 1);
    let arguments = produce_arguments(kafka.address(), &topic, ["--events", "100000", "--rate", "50", "--json"]);
    let running = Running::spawn(&mut command(&[], &arguments));
    wait_until("some events are there", PATIENCE, || kafka.read_committed(&topic).len() > 3);

    running.interrupt();
    let ran = running.end();

    assert!(ran.stderr.contains("interrupted"), "{}", ran.stderr);
    let summary: Value = serde_json::from_str(&ran.ok()).expect("one object");
    assert_eq!(summary["interrupted"], true);
    assert_eq!(summary["sent"], kafka.read_committed(&topic).len());
}

#[apply(broker_test)]
fn a_missing_topic_is_reported_with_a_remedy() {
    let kafka = Kafka::shared();
    let missing = unique("missing");
    for ran in [produce(&kafka, &missing, NOTHING), state(&kafka, &missing, ["list"])] {
        assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("--create --topic {missing}")), "{}", ran.stderr);
    }
    let one = topic(&kafka, 1);
    let beyond = state(&kafka, &one, ["get", "1", "--partition", "1"]);
    assert_eq!(beyond.code, 2, "{}", beyond.stderr);
}

#[apply(broker_test)]
fn records_that_the_broker_refuses_are_reported() {
    let kafka = Kafka::shared();
    let topic = unique("strict");
    kafka.create_topic(&topic, 1, &[]);
    let kinds = ["--events", "20", "--invalid-share", "1", "--odd-share", "0", "--invalid", "timestamp-too-late=1"];
    let ran = produce(&kafka, &topic, kinds);

    assert_eq!(ran.code, 10, "{}", ran.stderr);
    assert!(ran.stderr.contains("the broker refused 20 records"), "{}", ran.stderr);
    assert!(ran.stdout.contains("0 events to"), "{}", ran.stdout);
}

#[apply(own_broker_test)]
fn a_lost_broker_ends_the_command_with_the_summary_so_far() {
    let mut broker = Broker::own();
    let kafka = broker.kafka();
    let topic = topic(&kafka, 1);
    let flags = ["--events", "1000000", "--rate", "100", "--timeout-ms", "2000", "--json"];
    let running = Running::spawn(&mut command(&[], produce_arguments(&broker.address(), &topic, flags)));
    wait_until("some events are there", PATIENCE, || kafka.read_committed(&topic).len() > 3);

    broker.pause();
    let ran = running.end();
    broker.resume();

    assert_eq!(ran.code, 5, "{}", ran.stderr);
    assert!(ran.stderr.contains("has not moved for 2000 ms"), "{}", ran.stderr);
    let summary: Value = serde_json::from_str(&ran.stdout).expect("one object");
    let sent = summary["sent"].as_u64().expect("a count");
    assert!(sent > 3 && sent <= kafka.read_committed(&topic).len() as u64, "{summary}");
}

// ------------------------------------------------------------------------------------------------------------ state

const VALUE: &str = r#"{"id":42,"name":"Web \u0001 é","description":"d","tags":["a","b"],"pricePerHour":1e300,"version":2,"createdAt":"2026-01-31T12:00:00.000Z","updatedAt":"2026-01-31T12:00:01.000Z"}"#;

#[apply(broker_test)]
fn a_service_is_shown_byte_for_byte_with_its_source() {
    let kafka = Kafka::shared();
    let topic = topic(&kafka, 2);
    let older = snapshot("42", r#"{"id":42}"#, 1, 5).to(1);
    kafka.produce(&topic, &[older, snapshot("421", "{}", 1, 6).to(1), snapshot("42", VALUE, 1, 9).to(1)]);

    let shown = state(&kafka, &topic, ["get", "42", "--json"]).ok();

    let wanted = r#"{"partition":1,"offset":2,"source_partition":1,"source_offset":9,"group":"blue","value":"#;
    assert_eq!(shown, format!("{wanted}{VALUE}}}\n"));
}

#[apply(broker_test)]
fn control_characters_of_a_service_do_not_reach_the_terminal() {
    let kafka = Kafka::shared();
    let topic = topic(&kafka, 1);
    kafka.produce(&topic, &[snapshot("42", VALUE, 0, 9), record("7", "no json")]);

    for arguments in [&["get", "42"][..], &["list"]] {
        let shown = state(&kafka, &topic, arguments).ok();
        assert!(shown.contains("Web \\u{1} é") && shown.contains("1e300"), "{shown}");
    }
    let shown = state(&kafka, &topic, ["get", "42"]).ok();
    for shown_text in ["2026-01-31T12:00:01.000Z", "a, b", "partition 0, offset 9", "blue"] {
        assert!(shown.contains(shown_text), "{shown_text}: {shown}");
    }
    assert!(state(&kafka, &topic, ["get", "7"]).ok().contains("not written by steward"));
    assert!(state(&kafka, &topic, ["get", "7", "--json"]).ok().contains(r#""group":null,"value":null"#));
}

#[apply(broker_test)]
fn a_missing_or_deleted_service_ends_with_15() {
    let kafka = Kafka::shared();
    let topic = topic(&kafka, 2);
    kafka.produce(&topic, &[snapshot("42", VALUE, 0, 9).to(0), tombstone("42").to(0)]);

    let deleted = state(&kafka, &topic, ["get", "42"]);
    assert_eq!((deleted.code, deleted.stdout.as_str()), (15, ""));
    assert!(deleted.stderr.contains("service 42 was deleted") && deleted.stderr.contains("at offset 1"), "{deleted:?}");
    let absent = state(&kafka, &topic, ["get", "43"]);
    assert_eq!(absent.code, 15);
    assert!(absent.stderr.contains("there is no service 43"), "{absent:?}");
}

#[apply(broker_test)]
fn a_key_in_two_partitions_is_shown_twice() {
    let kafka = Kafka::shared();
    let topic = topic(&kafka, 3);
    kafka.produce(&topic, &[0, 2].map(|partition| snapshot("42", VALUE, partition, 9).to(partition)));

    assert_eq!(partitions_of(&state(&kafka, &topic, ["get", "42", "--json"]).ok()), [0, 2]);
    assert_eq!(partitions_of(&state(&kafka, &topic, ["list", "--json"]).ok()), [0, 2]);
    assert_eq!(partitions_of(&state(&kafka, &topic, ["get", "42", "--json", "--partition", "2"]).ok()), [2]);
    assert_eq!(state(&kafka, &topic, ["get", "42", "--partition", "1"]).code, 15);
}

#[apply(broker_test)]
fn uncommitted_records_are_not_shown() {
    let kafka = Kafka::shared();
    let topic = topic(&kafka, 1);
    let producer = kafka.transactional_producer(&unique("id"));
    for (value, is_kept) in [("{\"version\":1}", true), ("{\"version\":2}", false)] {
        producer.begin_transaction().expect("begin");
        send(&producer, &topic, &record("42", value), 0, Deadline::after(PATIENCE));
        producer.flush(PATIENCE).expect("flush");
        if is_kept { producer.commit_transaction(PATIENCE) } else { producer.abort_transaction(PATIENCE) }
            .expect("end");
    }

    let shown: Value = serde_json::from_str(&state(&kafka, &topic, ["get", "42", "--json"]).ok()).expect("one");
    assert_eq!(shown["value"]["version"], 1, "and the reader reached the end of the topic, past the markers");
}

#[apply(broker_test)]
fn the_wait_for_an_open_transaction_has_a_limit() {
    let kafka = Kafka::shared();
    let topic = topic(&kafka, 1);
    let producer = kafka.transactional_producer(&unique("id"));
    producer.begin_transaction().expect("begin");
    send(&producer, &topic, &record("42", VALUE), 0, Deadline::after(PATIENCE));
    producer.flush(PATIENCE).expect("flush");

    let ran = state(&kafka, &topic, ["list", "--timeout-ms", "1000"]);

    assert_eq!((ran.code, ran.stdout.as_str()), (5, ""));
    assert!(ran.stderr.contains("partition 0 at position 0 of 1") && ran.stderr.contains("find-hanging"), "{ran:?}");
    producer.commit_transaction(PATIENCE).expect("commit");
    assert_eq!(ids_of(&state(&kafka, &topic, ["list", "--json"]).ok()), [42]);
}

#[apply(broker_test)]
fn services_are_listed_by_id_without_the_deleted() {
    let kafka = Kafka::shared();
    let topic = topic(&kafka, 2);
    let service = |id: &str, partition| snapshot(id, &format!(r#"{{"id":{id}}}"#), partition, 1).to(partition);
    let records = [service("10", 0), service("9", 1), service("100", 1), service("2", 0), tombstone("100").to(1)];
    kafka.produce(&topic, &records);

    assert_eq!(ids_of(&state(&kafka, &topic, ["list", "--json"]).ok()), [2, 9, 10]);
    let limited = state(&kafka, &topic, ["list", "--json", "--limit", "2"]);
    assert!(limited.stderr.contains("2 of 3 services"), "{}", limited.stderr);
    assert_eq!(ids_of(&limited.ok()), [2, 9]);
    assert!(state(&kafka, &topic, ["list"]).stderr.contains("3 services"));
}

#[apply(broker_test)]
fn a_list_is_bounded() {
    let kafka = Kafka::shared();
    let topic = topic(&kafka, 1);
    let services: Vec<Outgoing> = (0..10).map(|id| snapshot(&id.to_string(), VALUE, 0, id)).collect();
    kafka.produce(&topic, &services);
    let list = |limit_bytes| {
        let reach = ["state", "list", "--bootstrap-servers", kafka.address(), "--state-topic", &topic];
        crate::cli::steward_with(&[("STEWARD__LIMITS__MAX_STATE_BYTES", limit_bytes)], reach)
    };

    let ran = list("1000");
    assert_eq!((ran.code, ran.stdout.as_str()), (9, ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("more than 1000 bytes"), "{}", ran.stderr);
    list("10000").ok();
}

// ------------------------------------------------------------------------------------------------------------ below

const NOTHING: [&str; 0] = [];

fn topic(kafka: &Kafka, partitions: i32) -> String {
    let topic = unique("commands");
    kafka.create_topic(&topic, partitions, &ANY_TIMESTAMP);
    topic
}

fn snapshot(key: &str, value: &str, partition: i32, offset: i64) -> Outgoing {
    record(key, value)
        .header("steward-source-partition", partition.to_string())
        .header("steward-source-offset", "an older header of this name")
        .header("steward-source-offset", offset.to_string())
        .header("steward-group", "blue")
}

fn produce(kafka: &Kafka, topic: &str, flags: impl IntoIterator<Item = impl AsRef<str>>) -> Ran {
    steward(produce_arguments(kafka.address(), topic, flags))
}

fn produce_arguments(address: &str, topic: &str, flags: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<String> {
    let reach = ["produce", "--bootstrap-servers", address, "--topic", topic].map(str::to_owned);
    reach.into_iter().chain(flags.into_iter().map(|flag| flag.as_ref().to_owned())).collect()
}

fn state(kafka: &Kafka, topic: &str, arguments: impl IntoIterator<Item = impl AsRef<str>>) -> Ran {
    let arguments: Vec<String> = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
    let reach = ["--bootstrap-servers", kafka.address(), "--state-topic", topic].map(str::to_owned);
    steward(std::iter::once("state".to_owned()).chain(arguments).chain(reach))
}

fn lines(shown: &str) -> Vec<Value> {
    shown.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn partitions_of(shown: &str) -> Vec<i64> {
    lines(shown).iter().map(|line| line["partition"].as_i64().expect("a number")).collect()
}

fn ids_of(shown: &str) -> Vec<u64> {
    lines(shown).iter().map(|line| line["value"]["id"].as_u64().expect("an id")).collect()
}
