//! How soon a process serves after a sustained load: how much of the state topic the cleaner has left to read.
//!
//! The same load runs twice, first with Kafka's default segments, then with those that steward creates. After it the
//! process is started again, and the time until each partition serves is measured, beside the records and bytes that
//! the state topic still has. Few live snapshots and a long history: that is what a restore must not read.
//!
//! The last load is many transactions over one service. The broker keeps the marker of each for `delete.retention.ms`,
//! also when the snapshots have been compacted, and a restore reads the markers.

use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::Producer as _;
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;

use crate::backlog::{Backlog, EventSink, creation, update};
use crate::broker::BenchBroker;
use crate::committed::CommittedOffsets;
use crate::numbers::{mib, thousands};
use crate::options::Options;
use crate::support::kafka::{Kafka, Outgoing, send};
use crate::support::names::{Names, unique};
use crate::support::process::Setup;
use crate::support::wait::{Deadline, now};

const LIMIT: Duration = Duration::from_secs(120);

/// Producers of the many transactions. One alone waits 20 ms after each, because the client repeats a request that is
/// refused while the broker still writes the markers of the last transaction.
const PRODUCERS: u64 = 32;

/// Pause between two polls for a delivery.
const DELIVERY_POLL: Duration = Duration::from_micros(500);

/// The figures of one kind of state topic.
#[derive(Debug, Clone, Serialize)]
pub struct Sustained {
    load: String,
    segments: &'static str,
    entities: u64,
    /// What a restore reads.
    records: u64,
    /// Keys and values of these records.
    bytes: u64,
    /// From the start of the process until the group has assigned the partitions.
    assigned_s: f64,
    /// From the start of the process until each partition serves, in the order in which they do.
    serves_s: Vec<f64>,
}

/// Measures, and prints the table.
pub fn measure(options: &Options, broker: &BenchBroker) -> Vec<Sustained> {
    // Any setting that steward demands of an existing topic, and Kafka's defaults for the rest.
    let defaults =
        [("cleanup.policy", "compact"), ("delete.retention.ms", "86400000"), ("segment.bytes", "1073741824")];
    let both = [("Kafka's default", Some(&defaults[..])), ("as steward creates them", None)];
    let wanted = both.into_iter().filter(|(_, settings)| !options.own_segments || settings.is_none());
    let mut all: Vec<Sustained> =
        wanted.map(|(segments, settings)| after_load(options, &broker.kafka, segments, settings)).collect();
    if options.transactions() > 0 {
        all.push(after_transactions(options, &broker.kafka));
    }
    let seconds = |seconds: Option<&f64>| seconds.map(|seconds| format!("{seconds:.2} s")).unwrap_or_default();
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "load",
        "segments",
        "entities",
        "records left",
        "bytes left",
        "assigned after",
        "the first serves",
        "the last serves",
    ]);
    for one in &all {
        table.add_row([
            one.load.clone(),
            one.segments.to_owned(),
            thousands(one.entities as f64),
            thousands(one.records as f64),
            mib(one.bytes as f64),
            seconds(Some(&one.assigned_s)),
            seconds(one.serves_s.first()),
            seconds(one.serves_s.last()),
        ]);
    }
    println!("restore after a sustained load, from the start of the process\n{table}");
    all
}

fn after_load(
    options: &Options,
    kafka: &Kafka,
    segments: &'static str,
    state_settings: Option<&[(&str, &str)]>,
) -> Sustained {
    let (rate, load_s) = (options.rates.first().copied().unwrap_or(5_000), options.sustained_seconds());
    let names = Names::new();
    kafka.create_topic(&names.input, options.partitions, &[("retention.ms", "-1")]);
    if let Some(settings) = state_settings {
        kafka.create_topic(&names.state, options.partitions, settings);
    }
    eprintln!("sustained: {rate} events/s for {load_s} s, segments: {segments}");
    let mut steward = Setup::new(kafka, &names).start();
    steward.wait_for_event("partitions_assigned", LIMIT);
    let mut sink = EventSink::to(kafka, &names.input);
    for id in 0..u64::from(options.keys) {
        sink.send(&creation(id));
    }
    let start = now();
    for number in 0..rate * load_s {
        let due = start + Duration::from_nanos(number * 1_000_000_000 / rate);
        while now() < due {
            sink.serve(due.saturating_duration_since(now()));
        }
        sink.send(&update(number % u64::from(options.keys), number));
    }
    sink.finish();
    let backlog = Backlog::of(kafka, names.input.clone(), options.partitions);
    CommittedOffsets::of(kafka, &names.group, &backlog).wait_until_complete();
    steward.stop();

    let load = format!("{} events/s for {load_s} s", thousands(rate as f64));
    restored(options.partitions, kafka, &names, load, segments)
}

/// One service, and its snapshot written again and again, each time in a transaction of its own.
fn after_transactions(options: &Options, kafka: &Kafka) -> Sustained {
    let names = Names::new();
    kafka.create_topic(&names.input, 1, &[("retention.ms", "-1")]);
    let mut sink = EventSink::to(kafka, &names.input);
    sink.send(&creation(1));
    sink.finish();
    let mut steward = Setup::new(kafka, &names).start();
    let backlog = Backlog::of(kafka, names.input.clone(), 1);
    CommittedOffsets::of(kafka, &names.group, &backlog).wait_until_complete();
    steward.stop();
    let snapshot = kafka.read_committed(&names.state).pop().expect("the service has a snapshot").outgoing();
    let transactions = options.transactions();
    eprintln!("sustained: {transactions} transactions");
    std::thread::scope(|scope| {
        for number in 0..PRODUCERS {
            let share = transactions / PRODUCERS + u64::from(number < transactions % PRODUCERS);
            let (state, snapshot) = (&names.state, &snapshot);
            scope.spawn(move || write_snapshots(kafka, state, snapshot, number, share));
        }
    });
    let load = format!("{} transactions", thousands(transactions as f64));
    restored(1, kafka, &names, load, "as steward creates them")
}

/// Writes the snapshot again and again, each time in a transaction of its own.
fn write_snapshots(kafka: &Kafka, state: &str, snapshot: &Outgoing, number: u64, transactions: u64) {
    let producer = kafka.transactional_producer(&unique(&format!("bench-transactions-{number}")));
    for _ in 0..transactions {
        producer.begin_transaction().expect("the last one has ended");
        send(&producer, state, snapshot, 0, Deadline::after(LIMIT));
        // A commit with records in the queue takes 100 ms, and a poll with a limit below 2 ms reads the clock all the time.
        while producer.in_flight_count() > 0 {
            producer.poll(Duration::ZERO);
            std::thread::sleep(DELIVERY_POLL);
        }
        producer.commit_transaction(LIMIT).expect("no other producer has this id");
    }
}

/// Starts a process on the state, and deletes the topics afterwards.
fn restored(partitions: i32, kafka: &Kafka, names: &Names, load: String, segments: &'static str) -> Sustained {
    let started = now();
    let mut restarted = Setup::new(kafka, names).start();
    let after_start = || now().saturating_duration_since(started).as_secs_f64();
    restarted.wait_for_event("partitions_assigned", LIMIT);
    let assigned_s = after_start();
    let serves = (0..partitions).map(|_| {
        restarted.wait_for_event("recovery_finished", LIMIT);
        after_start()
    });
    let serves_s = serves.collect();
    let finished = restarted.events("recovery_finished");
    let entities = finished.iter().filter_map(|event| event["entities"].as_u64()).sum();
    let (records, bytes) = left(kafka, &names.state, partitions);
    restarted.stop();
    for topic in [&names.input, &names.state, &names.dlq] {
        kafka.delete_topic(topic);
    }
    let sustained = Sustained { load, segments, entities, records, bytes, assigned_s, serves_s };
    // The next load takes minutes.
    eprintln!("{sustained:?}");
    sustained
}

/// Returns the number of records that a reader of the whole topic gets, and the bytes of their keys and values.
fn left(kafka: &Kafka, topic: &str, partitions: i32) -> (u64, u64) {
    let consumer: BaseConsumer = kafka
        .client_config()
        .set("group.id", "bench-reader")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()
        .expect("the settings are constants");
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("a valid offset");
    }
    consumer.assign(&list).expect("the partitions exist");
    let (mut records, mut bytes, mut ended) = (0, 0, 0);
    let deadline = Deadline::after(LIMIT);
    while ended < partitions && !deadline.passed() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                records += 1;
                bytes += (message.key_len() + message.payload_len()) as u64;
            }
            // The end of a partition.
            Some(Err(_)) => ended += 1,
            None => {}
        }
    }
    (records, bytes)
}
