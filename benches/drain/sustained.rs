//! How soon a process serves after a sustained load: how much of the state topic the cleaner has left to read.
//!
//! The same load runs twice, first with Kafka's default segments, then with those that steward creates. After it the
//! process is started again, and the time until the last partition serves is measured, beside the records and bytes that the
//! state topic still has. Few live snapshots and a long history: that is what a restore must not read.

use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;

use crate::backlog::{Backlog, EventSink, creation, update};
use crate::broker::BenchBroker;
use crate::committed::CommittedOffsets;
use crate::numbers::{mib, thousands};
use crate::options::Options;
use crate::restore::wait_until_all_serve;
use crate::support::kafka::Kafka;
use crate::support::names::Names;
use crate::support::process::Setup;
use crate::support::wait::{Deadline, now};

const LIMIT: Duration = Duration::from_secs(120);

/// The figures of one kind of state topic.
#[derive(Debug, Clone, Serialize)]
pub struct Sustained {
    segments: &'static str,
    events_per_s: u64,
    load_s: u64,
    entities: u64,
    /// What a restore reads.
    records: u64,
    /// Keys and values of these records.
    bytes: u64,
    /// From the assignment until the last partition serves.
    seconds: f64,
}

/// Measures, and prints the table.
pub fn measure(options: &Options, broker: &BenchBroker) -> Vec<Sustained> {
    // Any setting that steward demands of an existing topic, and Kafka's defaults for the rest.
    let defaults =
        [("cleanup.policy", "compact"), ("delete.retention.ms", "86400000"), ("segment.bytes", "1073741824")];
    let both = [("Kafka's default", Some(&defaults[..])), ("as steward creates them", None)];
    let all: Vec<Sustained> =
        both.into_iter().map(|(segments, settings)| after_load(options, &broker.kafka, segments, settings)).collect();
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "segments",
        "events/s",
        "for",
        "entities",
        "records left",
        "bytes left",
        "all serve after",
    ]);
    for one in &all {
        table.add_row([
            one.segments.to_owned(),
            thousands(one.events_per_s as f64),
            format!("{} s", one.load_s),
            thousands(one.entities as f64),
            thousands(one.records as f64),
            mib(one.bytes as f64),
            format!("{:.2} s", one.seconds),
        ]);
    }
    println!("restore after a sustained load\n{table}");
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

    let mut restarted = Setup::new(kafka, &names).start();
    restarted.wait_for_event("partitions_assigned", LIMIT);
    let assigned = now();
    let served = wait_until_all_serve(&mut restarted, options.partitions);
    let (records, bytes) = left(kafka, &names.state, options.partitions);
    restarted.stop();
    for topic in [&names.input, &names.state, &names.dlq] {
        kafka.delete_topic(topic);
    }
    let seconds = served.saturating_duration_since(assigned).as_secs_f64();
    Sustained { segments, events_per_s: rate, load_s, entities: u64::from(options.keys), records, bytes, seconds }
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
