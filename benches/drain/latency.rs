//! Time from producing an event until a `read_committed` reader sees its snapshot, at steady rates.
//!
//! The events update the keys in turn, so that a transaction hardly ever has two events of a key. Each event then has a
//! snapshot of its own, and none is missing from the figures because a later event replaced it. Each event has its
//! number as its price. Producer and reader are two threads of this process, so they share one clock.
//!
//! None of these events is rejected. A transaction with a `not_found` needs a look at the topics; `--not-found-in` has
//! such transactions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use hdrhistogram::Histogram;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use serde::Serialize;

use crate::backlog::{Backlog, EventSink, creation, update};
use crate::broker::BenchBroker;
use crate::committed::CommittedOffsets;
use crate::contender::Contender;
use crate::numbers::thousands;
use crate::options::{Options, Shape};
use crate::processes::drain;
use crate::support::kafka::Kafka;
use crate::support::names::Names;
use crate::support::process::Setup;
use crate::support::wait::{Deadline, now};

const LIMIT: Duration = Duration::from_secs(120);
/// Beginning of each rate, left out of the figures.
const WARM_UP: Duration = Duration::from_secs(2);

/// The figures of one rate.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Rate {
    wanted_per_s: u64,
    /// The rate that the producer reached.
    sent_per_s: f64,
    events: u64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    most_ms: f64,
}

/// Measures, and prints the table.
pub fn measure(options: &Options, broker: &BenchBroker) -> Vec<Rate> {
    let wanted = match &options.rates[..] {
        [] => vec![100, 1_000, 10_000, half_of_the_maximum(options, broker)],
        named => named.to_vec(),
    };
    // A broker that has just started still compiles the code that it runs for each transaction.
    for _ in 0..2 {
        at_rate(options, &broker.kafka, 2_000);
    }
    let rates: Vec<Rate> = wanted.into_iter().map(|rate| at_rate(options, &broker.kafka, rate)).collect();
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["events/s", "sent/s", "events", "p50", "p99", "p99.9", "most"]);
    for rate in &rates {
        let ms = |ms: f64| format!("{ms:.1} ms");
        table.add_row([
            thousands(rate.wanted_per_s as f64),
            thousands(rate.sent_per_s),
            thousands(rate.events as f64),
            ms(rate.p50_ms),
            ms(rate.p99_ms),
            ms(rate.p999_ms),
            ms(rate.most_ms),
        ]);
    }
    println!("latency, from produce to visible\n{table}");
    rates
}

/// Half of the rate of a drain, during which nothing is produced.
fn half_of_the_maximum(options: &Options, broker: &BenchBroker) -> u64 {
    let backlog = Backlog::prepare(&broker.kafka, options, Shape::Uniform);
    let names = Names { input: backlog.topic.clone(), ..Names::new() };
    let run = drain(Contender::Steward, broker, &backlog, &names);
    for topic in [&backlog.topic, &names.state, &names.dlq] {
        broker.kafka.delete_topic(topic);
    }
    (run.events_per_s / 2.0) as u64
}

fn at_rate(options: &Options, kafka: &Kafka, rate: u64) -> Rate {
    let names = Names::new();
    kafka.create_topic(&names.input, options.partitions, &[]);
    let mut sink = EventSink::to(kafka, &names.input);
    for id in 0..u64::from(options.keys) {
        sink.send(&creation(id));
    }
    sink.finish();
    let backlog = Backlog::of(kafka, names.input.clone(), options.partitions);
    let mut steward = Setup::new(kafka, &names).start();
    CommittedOffsets::of(kafka, &names.group, &backlog).wait_until_complete();

    let measured = options.latency_seconds();
    let count = rate * (WARM_UP + measured).as_secs();
    let sent: Arc<Vec<AtomicU64>> = Arc::new((0..count).map(|_| AtomicU64::new(0)).collect());
    let began = now();
    let reader = Reader::at_the_end_of(kafka, &names.state, options.partitions);
    let seen = {
        let sent = Arc::clone(&sent);
        std::thread::spawn(move || reader.read(&sent, began, rate * WARM_UP.as_secs()))
    };
    let mut sink = EventSink::to(kafka, &names.input);
    let start = now();
    for number in 0..count {
        let due = start + Duration::from_nanos(number * 1_000_000_000 / rate);
        while now() < due {
            sink.serve(due.saturating_duration_since(now()));
        }
        let event = update(number % u64::from(options.keys), number);
        sent[usize::try_from(number).expect("a length")].store(nanos_since(began), Ordering::Release);
        sink.send(&event);
        if options.not_found_in.is_some_and(|events| number.is_multiple_of(events)) {
            sink.send(&update(u64::from(options.keys) + number, number));
        }
    }
    let sent_per_s = count as f64 / now().saturating_duration_since(start).as_secs_f64();
    sink.finish();
    let histogram = seen.join().expect("the reader does not panic");
    steward.stop();
    for topic in [&names.input, &names.state, &names.dlq] {
        kafka.delete_topic(topic);
    }
    let ms = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
    Rate {
        wanted_per_s: rate,
        sent_per_s,
        events: histogram.len(),
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
        p999_ms: ms(0.999),
        most_ms: histogram.max() as f64 / 1_000.0,
    }
}

fn nanos_since(began: Instant) -> u64 {
    u64::try_from(now().saturating_duration_since(began).as_nanos()).expect("a measurement is shorter than centuries")
}

/// A `read_committed` reader of the state topic.
struct Reader(BaseConsumer);

impl Reader {
    fn at_the_end_of(kafka: &Kafka, topic: &str, partitions: i32) -> Reader {
        let consumer: BaseConsumer = kafka
            .client_config()
            .set("group.id", "bench-reader")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "100")
            .create()
            .expect("the settings are constants");
        let mut list = TopicPartitionList::new();
        for (partition, ends) in (0..partitions).zip(kafka.ends(topic)) {
            list.add_partition_offset(topic, partition, Offset::Offset(ends.high)).expect("a valid offset");
        }
        consumer.fetch_metadata(Some(topic), LIMIT).expect("the broker answers");
        consumer.assign(&list).expect("the partitions exist");
        Reader(consumer)
    }

    /// Collects the microseconds from produced to seen, until the last number is seen.
    fn read(&self, sent: &[AtomicU64], began: Instant, first_counted: u64) -> Histogram<u64> {
        let mut histogram =
            Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("an hour in microseconds, three digits");
        let deadline = Deadline::after(LIMIT);
        let last = sent.len() as u64 - 1;
        let mut missing = sent.len();
        while missing > 0 && !deadline.passed() {
            let Some(message) = self.0.poll(Duration::from_millis(100)) else { continue };
            let message = message.expect("the state can be read");
            let Some(number) = message.payload().and_then(number_of) else { continue };
            let produced = sent[usize::try_from(number).expect("a length")].load(Ordering::Acquire);
            missing -= 1;
            if number >= first_counted {
                histogram.saturating_record(nanos_since(began).saturating_sub(produced) / 1_000);
            }
            if number == last {
                // Snapshots of the same transaction follow at once. Replaced ones never do.
                return self.remaining(histogram, sent, began);
            }
        }
        histogram
    }

    fn remaining(&self, mut histogram: Histogram<u64>, sent: &[AtomicU64], began: Instant) -> Histogram<u64> {
        while let Some(Ok(message)) = self.0.poll(Duration::from_millis(500)) {
            let Some(number) = message.payload().and_then(number_of) else { continue };
            let produced = sent[usize::try_from(number).expect("a length")].load(Ordering::Acquire);
            histogram.saturating_record(nanos_since(began).saturating_sub(produced) / 1_000);
        }
        histogram
    }
}

/// The price, which is the number of the event.
fn number_of(snapshot: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(snapshot).ok()?;
    let (_, rest) = text.split_once(r#""pricePerHour":"#)?;
    rest.split(',').next()?.parse().ok()
}
