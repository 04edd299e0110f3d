//! `steward produce`: sends reproducible events to a topic, some of them invalid on purpose.
//!
//! The client's queue bounds the memory. If the queue is full, the generator waits. The summary at the end counts the
//! records that the broker has acknowledged, also after Ctrl-C or a failure.

mod summary;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::ProgressBar;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::app::SystemClock;
use crate::exit_code::ExitCode;
use crate::kafka::admin::access::AccessFailure;
use crate::kafka::client::settings::Compression;
use crate::kafka::plain_producer::{PlainProducer, PlainRecord, SendResult};
use crate::ports::Clock as _;
use crate::record::Partition;
use crate::testing::workload::{GeneratedEvent, InvalidKind, OddKind, UnknownKind, Workload};
use crate::tools::failure::CommandFailure;
use crate::tools::options::{ConfigFile, Override};
use crate::tools::output::OutputFormatFlag;
use crate::tools::produce::summary::ProduceSummary;
use crate::tools::{note, output};

/// Longest single wait for the broker.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// Number of events between two polls.
const POLL_EVERY: u64 = 256;

/// Send generated events to the input topic, some of them invalid on purpose
///
/// Most events create, update and delete services, as real producers do. Others break the contract, in every possible
/// way, or are unusual but valid. The generator tracks which services exist, so a valid event is valid if the topic
/// holds no other events. The same flags with the same --start-timestamp-ms give the same records in the same
/// partitions, byte for byte.
///
/// Each id stays in one partition (Kafka's own murmur2). Events without a key are spread evenly. Ctrl-C ends the command
/// with the summary so far; a second one ends it immediately.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  steward produce --config config.toml
  steward produce --bootstrap-servers localhost:9092 --topic services --events 1000 --rate 100
  steward produce --invalid-share 0.5 --invalid too-large=1 --invalid name-blank=3
  steward produce --list-kinds

With --json the summary is one object: topic, seed, start_timestamp_ms, interrupted (true after Ctrl-C), elapsed_ms, \
sent, refused (count by Kafka's code), kinds (count by kind; created, updated, deleted, and those of --list-kinds), \
expected: { applied, rejected (count by reason) }.

Next: `steward state list` shows the resulting services. The DLQ topic holds the rejected events, with the reason in \
the header steward-reason.")]
pub(crate) struct ProduceArguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Kafka brokers as host:port, separated by commas; wins over the configuration
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_servers: Option<String>,
    /// The topic to write to; wins over the configuration's kafka.topic
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    #[command(flatten)]
    workload: WorkloadArguments,
    /// Events per second, at most; without it, as fast as the broker takes them
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Compression of the batches: without it, as in [kafka.properties], else lz4
    #[arg(long, value_name = "CODEC", value_parser = codec_parser())]
    compression: Option<Compression>,
    /// Longest wait for a broker that does not respond, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    timeout_ms: u64,
    #[command(flatten)]
    form: OutputFormatFlag,
    /// Print the kinds of invalid and odd events with their weights, and send nothing
    #[arg(long)]
    list_kinds: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Generated events")]
struct WorkloadArguments {
    /// Seed of the random events: the same number gives the same events
    #[arg(long, value_name = "NUMBER", default_value_t = Workload::default().seed)]
    seed: u64,
    /// Number of events
    #[arg(long, value_name = "COUNT", default_value_t = Workload::default().events)]
    events: u64,
    /// Number of ids, at most
    #[arg(long, value_name = "COUNT", default_value_t = Workload::default().keys)]
    keys: u32,
    /// The smallest id
    #[arg(long, value_name = "ID", default_value_t = Workload::default().first_id)]
    first_id: u64,
    /// Exponent of the ids' frequency: with 0 all are equally frequent, 1 is common, 10 is the maximum
    #[arg(long, value_name = "EXPONENT", default_value_t = Workload::default().zipf_exponent)]
    zipf: f64,
    /// Share of creations among the valid events, in proportion to the other two
    #[arg(long, value_name = "SHARE", default_value_t = Workload::default().creates)]
    creates: f64,
    /// Share of updates among the valid events, in proportion to the other two
    #[arg(long, value_name = "SHARE", default_value_t = Workload::default().updates)]
    updates: f64,
    /// Share of deletions among the valid events, in proportion to the other two
    #[arg(long, value_name = "SHARE", default_value_t = Workload::default().deletes)]
    deletes: f64,
    /// Share of events that break the contract, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = Workload::default().invalid_share)]
    invalid_share: f64,
    /// Draw only the listed kinds of invalid events, in proportion to their weights; may be repeated
    #[arg(long, value_name = "KIND=WEIGHT", value_parser = weighted::<InvalidKind>)]
    invalid: Vec<(InvalidKind, u32)>,
    /// Share of events that are unusual but valid, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = Workload::default().odd_share)]
    odd_share: f64,
    /// Draw only the listed kinds of odd events, in proportion to their weights; may be repeated
    #[arg(long, value_name = "KIND=WEIGHT", value_parser = weighted::<OddKind>)]
    odd: Vec<(OddKind, u32)>,
    /// Share of events with a traceparent header, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = Workload::default().traced_share)]
    traced_share: f64,
    /// The payload limit that some events reach or exceed, in bytes: without it, the configuration's
    #[arg(long, value_name = "BYTES")]
    max_payload_bytes: Option<u64>,
    /// Timestamp of the first event, in milliseconds since 1970: without it, the last event has about the current time
    #[arg(long, value_name = "MS")]
    start_timestamp_ms: Option<i64>,
    /// Average difference between the timestamps of two events, in milliseconds
    // Not 10, the default of a workload: brokers refuse events an hour ahead, and delete events older than the
    // retention.
    #[arg(long, value_name = "MS", default_value_t = 1)]
    interval_ms: u64,
}

const CODECS: [(&str, Compression); 5] = [
    ("none", Compression::None),
    ("gzip", Compression::Gzip),
    ("snappy", Compression::Snappy),
    ("lz4", Compression::Lz4),
    ("zstd", Compression::Zstd),
];

fn codec_parser() -> impl TypedValueParser<Value = Compression> {
    PossibleValuesParser::new(CODECS.map(|(name, _)| name)).map(|given| {
        let found = CODECS.into_iter().find(|(name, _)| *name == given);
        found.expect("clap accepts only the names that it was given").1
    })
}

/// Parses `kind=weight`.
fn weighted<K: std::str::FromStr<Err = UnknownKind>>(text: &str) -> Result<(K, u32), String> {
    let (kind, weight) = text.split_once('=').ok_or("write KIND=WEIGHT, such as too-large=1")?;
    let kind = kind.parse().map_err(|error: UnknownKind| error.to_string())?;
    let weight = weight.parse().map_err(|_| format!("the weight is a whole number of at least 0, not {weight}"))?;
    Ok((kind, weight))
}

impl WorkloadArguments {
    fn workload(&self, configured_payload_bytes: u64, now_unix_ms: i64) -> Workload {
        let defaults = Workload::default();
        let length_ms = self.events.saturating_mul(self.interval_ms);
        let start_timestamp_ms =
            self.start_timestamp_ms.unwrap_or_else(|| now_unix_ms.saturating_sub_unsigned(length_ms).max(1));
        Workload {
            seed: self.seed,
            events: self.events,
            keys: self.keys,
            first_id: self.first_id,
            zipf_exponent: self.zipf,
            creates: self.creates,
            updates: self.updates,
            deletes: self.deletes,
            invalid_share: self.invalid_share,
            invalid_weights: if self.invalid.is_empty() { defaults.invalid_weights } else { self.invalid.clone() },
            odd_share: self.odd_share,
            odd_weights: if self.odd.is_empty() { defaults.odd_weights } else { self.odd.clone() },
            traced_share: self.traced_share,
            max_payload_bytes: self.max_payload_bytes.unwrap_or(configured_payload_bytes),
            start_timestamp_ms,
            interval_ms: self.interval_ms,
        }
    }
}

pub(crate) fn run(arguments: &ProduceArguments) -> Result<ExitCode, CommandFailure> {
    if arguments.list_kinds {
        summary::list_kinds(arguments.form.form())?;
        return Ok(ExitCode::Done);
    }
    let servers = Override::servers(arguments.bootstrap_servers.as_deref());
    let topic = Override { flag: "--topic", key: "kafka.topic", value: arguments.topic.as_deref() };
    let config = arguments.config.load(&[servers, topic])?.config;
    let workload = arguments.workload.workload(config.limits.max_payload_bytes, SystemClock.unix_ms());
    workload.validate()?;

    let limit = Duration::from_millis(arguments.timeout_ms);
    let producer = PlainProducer::connect(&config, arguments.compression, summary::TAGS, limit, &SystemClock)?;
    // Before this line Ctrl-C ends the process immediately, because there is nothing to report yet.
    let interrupted = handle_signals()?;
    let began = SystemClock.now();
    let bar = output::bar(workload.events, "events");
    let mut sender = EventSender {
        producer: &producer,
        interrupted: &interrupted,
        bar: &bar,
        limit,
        settled: 0,
        progress_at: began,
    };
    let ended = sender.send_all(&workload, arguments.rate, began);
    bar.finish_and_clear();

    let summary = ProduceSummary {
        topic: &config.kafka.topic,
        workload: &workload,
        delivered: producer.delivered(),
        refused: producer.refused_records(),
        elapsed: SystemClock.now() - began,
        interrupted: interrupted.load(Ordering::Relaxed),
    };
    if let Err(failure) = ended {
        // The failure sets the exit code, also if the summary cannot be written.
        if let Err(unwritten) = summary.print(arguments.form.form()) {
            unwritten.report();
        }
        return Err(failure);
    }
    summary.print(arguments.form.form())?;
    if summary.interrupted {
        note("interrupted: these are the events sent so far");
    }
    summary.exit_code()
}

/// Returns a flag that the first SIGINT or SIGTERM sets. A second signal ends the process immediately.
pub(crate) fn handle_signals() -> Result<Arc<AtomicBool>, CommandFailure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let at_once = i32::from(ExitCode::SecondSignal.code());
        // In this order, so that the second signal finds the flag that the first one set.
        signal_hook::flag::register_conditional_shutdown(signal, at_once, Arc::clone(&interrupted))
            .map_err(CommandFailure::Signals)?;
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).map_err(CommandFailure::Signals)?;
    }
    Ok(interrupted)
}

/// Sends events, and fails if the broker acknowledges none for too long.
struct EventSender<'a> {
    producer: &'a PlainProducer,
    interrupted: &'a AtomicBool,
    bar: &'a ProgressBar,
    /// Longest time without an acknowledged record.
    limit: Duration,
    /// Records that were acknowledged or refused at the last poll.
    settled: u64,
    /// When that number last rose, or no record was in flight.
    progress_at: Instant,
}

impl EventSender<'_> {
    /// Sends all events, and waits until the broker has acknowledged them.
    fn send_all(&mut self, workload: &Workload, rate: Option<u64>, began: Instant) -> Result<(), CommandFailure> {
        let mut without_key = self.producer.partitions().iter().copied().cycle();
        for (number, event) in (0_u64..).zip(workload.generate()?) {
            if let Some(rate) = rate {
                self.wait_until(began + due(number, rate))?;
            }
            if number % POLL_EVERY == 0 {
                self.poll(Duration::ZERO)?;
            }
            // Null keys get a partition here, because the client would choose one at random.
            let partition = if event.key.is_none() { without_key.next() } else { None };
            self.send(&event, partition)?;
            if self.is_interrupted() {
                break;
            }
        }
        while self.producer.in_flight() > 0 {
            self.poll(POLL_WAIT)?;
        }
        self.poll(Duration::ZERO)?;
        Ok(())
    }

    fn send(&mut self, event: &GeneratedEvent, partition: Option<Partition>) -> Result<(), CommandFailure> {
        let record = PlainRecord {
            partition,
            key: event.key.as_deref(),
            value: event.value.as_deref(),
            timestamp_ms: event.timestamp_ms,
            headers: &event.headers,
        };
        while self.producer.send(record, summary::tag(event.kind))? == SendResult::Full {
            self.poll(POLL_WAIT)?;
            if self.is_interrupted() {
                break;
            }
        }
        Ok(())
    }

    fn wait_until(&mut self, due: Instant) -> Result<(), CommandFailure> {
        loop {
            let left = due.saturating_duration_since(SystemClock.now());
            if left.is_zero() || self.is_interrupted() {
                return Ok(());
            }
            self.poll(left.min(POLL_WAIT))?;
        }
    }

    /// Serves the client's callbacks for at most `wait`, and checks the progress since the last poll.
    fn poll(&mut self, wait: Duration) -> Result<(), AccessFailure> {
        self.producer.poll(wait);
        self.producer.check()?;
        let now = SystemClock.now();
        let settled = self.producer.settled();
        if settled > self.settled || self.producer.in_flight() == 0 {
            self.settled = settled;
            self.progress_at = now;
            self.bar.set_position(settled);
        } else if now - self.progress_at >= self.limit {
            return Err(self.producer.give_up(self.limit));
        }
        Ok(())
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

/// Returns when event `number`, counted from 0, is due.
pub(crate) fn due(number: u64, rate: u64) -> Duration {
    let nanos = u128::from(number) * 1_000_000_000 / u128::from(rate);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
