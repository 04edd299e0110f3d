//! Runs the pipeline of `steward run` on a cluster inside this process, with a workload that contains invalid events,
//! and compares the topics with the reference model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::app::client_events::ClientLog;
use crate::app::pipeline::{Pipeline, PipelineParts};
use crate::app::{StopCause, SystemClock};
use crate::config::Config;
use crate::engine::commit::transaction::{CommittedOffset, ResetOutcome, TransactionContent};
use crate::engine::offset_metadata::OffsetMetadata;
use crate::engine::ownership::Ownership;
use crate::engine::partition::PartitionState;
use crate::engine::recovery::driver::PartitionReader;
use crate::entity::Reason;
use crate::kafka::admin::topics::Topics;
use crate::kafka::client::context::{ClientEvents, ClientRole, ReportingContext};
use crate::kafka::client::settings::ReaderClientSettings;
use crate::kafka::embedded::EmbeddedCluster;
use crate::kafka::plain_producer::PlainRecord;
use crate::kafka::reader::partition_reader::{KafkaPartitionReader, ReaderSettings};
use crate::kafka::reader::watermark_read::ReaderClients;
use crate::kafka::transactions::commit_thread::CommitThread;
use crate::ports::{Clock, CommitReply, ResetReply, Transactions};
use crate::record::{Partition, Topic, header};
use crate::service::Service;
use crate::testing::reference::check::{Expectation, SeenRecords, check};
use crate::testing::reference::{Model, TopicRecord};
use crate::testing::workload::{GeneratedEvent, InvalidKind, Workload};

const PARTITIONS: i32 = 4;
const INSTANCE: &str = "demo";
/// The events are produced in this many portions, to show progress.
const PORTIONS: usize = 60;
/// Wait between two portions, and between two checks of a condition.
const INTERVAL: Duration = Duration::from_millis(50);
/// Limit of each wait.
const LIMIT: Duration = Duration::from_secs(300);

#[derive(Debug, clap::Args)]
pub struct DemoPlan {
    /// Seed of the random events: the same number gives the same events
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// Number of events
    #[arg(long, value_name = "COUNT", default_value_t = 6_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub events: u64,
    /// Number of services, at most
    #[arg(long, value_name = "COUNT", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub keys: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DemoStep {
    /// The cluster runs, and the pipeline joins its group.
    Joining { partitions: i32 },
    /// All partitions serve; the first events are about to be produced.
    Serving,
    Progress {
        produced: u64,
        /// Events whose outcome is committed.
        settled: u64,
    },
    /// The first event that was rejected for this reason.
    Rejected { reason: &'static str, partition: i32, offset: i64, detail: String },
}

/// What the topics contain, compared with the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Events applied: expected, found.
    pub applied: (u64, u64),
    /// Events rejected, for each reason that occurs, in the order of the rules: expected, found.
    pub rejected: Vec<(&'static str, u64, u64)>,
    /// Entities that exist at the end: expected, found.
    pub entities: (u64, u64),
    /// A sentence for each difference.
    pub differences: Vec<String>,
    /// From the first event to the last outcome.
    pub took: Duration,
}

impl Comparison {
    pub fn is_exact(&self) -> bool {
        self.rejected.iter().all(|(_, expected, found)| expected == found)
            && self.applied.0 == self.applied.1
            && self.entities.0 == self.entities.1
            && self.differences.is_empty()
    }
}

/// Runs the demo to its end.
///
/// # Errors
/// Why the demo could not be finished, and what to do.
pub fn run(plan: &DemoPlan, show: &mut dyn FnMut(DemoStep)) -> Result<Comparison, String> {
    let demo = DemoRun::start(plan)?;
    show(DemoStep::Joining { partitions: PARTITIONS });
    demo.wait("the partitions to serve", || demo.serving() == PARTITIONS as usize)?;
    show(DemoStep::Serving);
    let began = demo.clock.now();
    let mut shown = BTreeSet::new();
    let mut produced = 0;
    for portion in demo.events.chunks(demo.events.len().div_ceil(PORTIONS).max(1)) {
        demo.produce(portion)?;
        produced += portion.len() as u64;
        demo.pause()?;
        show(DemoStep::Progress { produced, settled: demo.settled() });
        demo.show_rejections(&mut shown, show)?;
    }
    demo.wait("the events to be settled", || {
        show(DemoStep::Progress { produced, settled: demo.settled() });
        demo.settled() >= produced
    })?;
    let took = demo.clock.now().saturating_duration_since(began);
    demo.show_rejections(&mut shown, show)?;
    demo.compare(took)
}

struct DemoRun {
    clock: SystemClock,
    config: Config,
    cluster: EmbeddedCluster,
    events: Vec<GeneratedEvent>,
    pipeline: Pipeline,
    client_log: Arc<ClientLog>,
    stopped: Arc<Mutex<Option<StopCause>>>,
}

impl DemoRun {
    fn start(plan: &DemoPlan) -> Result<DemoRun, String> {
        let clock = SystemClock;
        let mut workload = Workload {
            seed: plan.seed,
            events: plan.events,
            keys: plan.keys,
            invalid_share: 0.12,
            odd_share: 0.05,
            start_timestamp_ms: clock.unix_ms(),
            interval_ms: 1,
            ..Workload::default()
        };
        // Rare by default, because it is large. The demo shows each reason.
        for (kind, weight) in &mut workload.invalid_weights {
            if *kind == InvalidKind::TooLarge {
                *weight = 10;
            }
        }
        let events = workload.generate().map_err(|error| error.to_string())?.collect();
        let cluster = EmbeddedCluster::start()?;
        let config = config(&cluster);
        for topic in [&config.kafka.topic, &config.kafka.state_topic, &config.kafka.dlq_topic] {
            cluster.create_topic(topic, PARTITIONS)?;
        }
        let client_log = Arc::new(ClientLog::new(clock));
        let stopped = Arc::new(Mutex::new(None));
        let stop_cause = Arc::clone(&stopped);
        let topics = Topics { partitions: PARTITIONS, replication: 1, ..Topics::default() };
        let pipeline = Pipeline::start(PipelineParts {
            config: &config,
            instance: INSTANCE,
            topics,
            entity: Arc::new(Service),
            clock: Arc::new(clock),
            client_log: Arc::clone(&client_log),
            stop: Arc::new(move |stop| {
                stop_cause.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(stop);
            }),
            wrap: |transactions, offset_metadata| {
                Box::new(RememberedOffsets { transactions, offset_metadata, last: Mutex::default() })
            },
        })
        .map_err(|error| error.to_string())?;
        Ok(DemoRun { clock, config, cluster, events, pipeline, client_log, stopped })
    }

    fn serving(&self) -> usize {
        self.pipeline.shared().status.snapshot(self.clock.now()).in_state(PartitionState::Serving).count()
    }

    fn settled(&self) -> u64 {
        let totals = self.pipeline.shared().stats.totals();
        totals.applied + totals.rejected.iter().sum::<u64>() + totals.skipped
    }

    fn produce(&self, events: &[GeneratedEvent]) -> Result<(), String> {
        let records = events.iter().map(|event| PlainRecord {
            partition: Some(partition_of(event.key.as_deref())),
            key: event.key.as_deref(),
            value: event.value.as_deref(),
            timestamp_ms: event.timestamp_ms,
            headers: &event.headers,
        });
        self.cluster.produce(&self.config.kafka.topic, records)
    }

    fn pause(&self) -> Result<(), String> {
        std::thread::sleep(INTERVAL);
        match self.stopped.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(stop) => Err(format!("the pipeline stopped: {stop:?}; please report this with the seed")),
            None => Ok(()),
        }
    }

    fn wait(&self, what: &str, mut done: impl FnMut() -> bool) -> Result<(), String> {
        let deadline = self.clock.now() + LIMIT;
        while !done() {
            if self.clock.now() >= deadline {
                return Err(format!("waited {} s for {what}; please report this with the seed", LIMIT.as_secs()));
            }
            self.pause()?;
        }
        Ok(())
    }

    /// Shows the first DLQ record of each reason.
    fn show_rejections(&self, shown: &mut BTreeSet<String>, show: &mut dyn FnMut(DemoStep)) -> Result<(), String> {
        let totals = self.pipeline.shared().stats.totals();
        let seen = Reason::ALL.iter().zip(totals.rejected).filter(|(_, count)| *count > 0);
        if seen.map(|(reason, _)| reason.code()).all(|code| shown.contains(code)) {
            return Ok(());
        }
        for record in self.read(Topic::Dlq)? {
            let text =
                |name| record.last_header(name).flatten().map(|value| String::from_utf8_lossy(value).into_owned());
            let Some(code) = text(header::REASON) else { continue };
            let Some(reason) = Reason::ALL.iter().map(|reason| reason.code()).find(|known| *known == code) else {
                continue;
            };
            if shown.insert(code) {
                let offset = text(header::SOURCE_OFFSET).and_then(|digits| digits.parse().ok()).unwrap_or(-1);
                let detail = text(header::DETAIL).unwrap_or_default();
                show(DemoStep::Rejected { reason, partition: record.partition, offset, detail });
            }
        }
        Ok(())
    }

    /// Returns all records of a topic, as a `read_committed` reader sees them.
    fn read(&self, topic: Topic) -> Result<Vec<TopicRecord>, String> {
        let settings = ReaderClientSettings::new(&self.config);
        let events = Arc::clone(&self.client_log) as Arc<dyn ClientEvents>;
        let context = ReportingContext::new(&self.config, ClientRole::Reader, events);
        let mut clients = ReaderClients::new(&settings, &context).map_err(|error| error.to_string())?;
        let kafka = &self.config.kafka;
        let names = ReaderSettings {
            input: kafka.topic.clone(),
            state: kafka.state_topic.clone(),
            dlq: kafka.dlq_topic.clone(),
            stall_limit: Duration::from_secs(30),
        };
        let ownership = Arc::new(Ownership::new());
        let mut records = Vec::new();
        for number in 0..PARTITIONS {
            let partition = Partition(number);
            let owned = (partition, ownership.mint(partition));
            let mut ignore_progress = |_| {};
            let clock = Arc::new(self.clock);
            let mut reader = KafkaPartitionReader::new(
                &mut clients,
                &names,
                owned,
                Arc::clone(&ownership),
                clock,
                &mut ignore_progress,
            );
            let bounds = reader.bounds(topic).map_err(|error| error.to_string())?;
            reader
                .read(topic, bounds.low, bounds.high, &mut |record| {
                    let headers = record.headers.iter();
                    records.push(TopicRecord {
                        partition: number,
                        offset: record.offset.0,
                        timestamp_ms: record.timestamp_ms,
                        key: record.key.map(<[u8]>::to_vec),
                        value: record.value.map(<[u8]>::to_vec),
                        headers: headers.map(|of| (of.name.to_owned(), of.value.map(<[u8]>::to_vec))).collect(),
                    });
                })
                .map_err(|error| error.to_string())?;
        }
        Ok(records)
    }

    fn compare(&self, took: Duration) -> Result<Comparison, String> {
        let mut model = Model::keeping_history(self.config.limits.max_payload_bytes);
        let mut applied = 0;
        let mut expected: BTreeMap<Reason, u64> = BTreeMap::new();
        let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
        for record in self.read(Topic::Input)? {
            ends.insert(record.partition, record.offset + 1);
            match model.process_record(&record).reason() {
                Some(reason) => *expected.entry(reason).or_default() += 1,
                None => applied += 1,
            }
        }
        let dlq_records = self.read(Topic::Dlq)?;
        let count = |reason: Reason| {
            let has_reason =
                |record: &&TopicRecord| record.last_header(header::REASON).flatten() == Some(reason.code().as_bytes());
            dlq_records.iter().filter(has_reason).count() as u64
        };
        let rejected: Vec<(&'static str, u64, u64)> = Reason::ALL
            .iter()
            .map(|reason| (reason.code(), expected.get(reason).copied().unwrap_or(0), count(*reason)))
            .filter(|(_, expected, found)| expected + found > 0)
            .collect();
        let state = self.read(Topic::State)?;
        let mut live: BTreeMap<(i32, &[u8]), bool> = BTreeMap::new();
        for record in &state {
            live.insert((record.partition, record.key.as_deref().unwrap_or_default()), record.value.is_some());
        }
        let entities = (model.state().len() as u64, live.values().filter(|is_live| **is_live).count() as u64);
        // The embedded cluster does not store offsets that are sent in transactions, so there is nothing to compare.
        let seen = SeenRecords { committed: ends.clone(), ends, dlq_records, state };
        let kafka = &self.config.kafka;
        let expectation = Expectation { topic: kafka.topic.clone(), group: kafka.group_id.clone() };
        let differences = check(&model, &expectation, &seen).iter().map(ToString::to_string).collect();
        let applied = (applied, self.pipeline.shared().stats.totals().applied);
        Ok(Comparison { applied, rejected, entities, differences, took })
    }
}

fn config(cluster: &EmbeddedCluster) -> Config {
    let mut config = Config::default();
    config.kafka.bootstrap_servers = cluster.bootstrap_servers();
    // The embedded cluster waits for most of a session in each round of a rebalance.
    config.kafka.session_timeout_ms = 6_000;
    config
}

fn partition_of(key: Option<&[u8]>) -> Partition {
    let sum: i32 = key.unwrap_or_default().iter().map(|byte| i32::from(*byte)).sum();
    Partition(sum % PARTITIONS)
}

/// Transactions on the embedded cluster, which shows records before their commit and does not store the offsets. The
/// last content that was sent therefore counts as committed, and the committed positions are taken from it.
struct RememberedOffsets {
    transactions: CommitThread,
    offset_metadata: OffsetMetadata,
    last: Mutex<Option<Arc<TransactionContent>>>,
}

impl Transactions for RememberedOffsets {
    fn commit(&self, content: Arc<TransactionContent>, reply: CommitReply) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&content));
        self.transactions.commit(content, reply);
    }

    fn reset_producer(&self, partitions: Vec<Partition>, reply: ResetReply) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let offset_metadata = self.offset_metadata.clone();
        let remember = move |outcome| {
            let outcome = match (outcome, last) {
                (ResetOutcome::Ready(committed), Some(content)) => {
                    let remembered = |partition: Partition| {
                        let range = content.offset_ranges.iter().find(|range| range.partition == partition)?;
                        let metadata = offset_metadata.of(content.number, range.newest_state);
                        Some(CommittedOffset { position: range.end, metadata })
                    };
                    let committed = committed.into_iter();
                    ResetOutcome::Ready(committed.map(|(of, found)| (of, remembered(of).or(found))).collect())
                }
                (outcome, _) => outcome,
            };
            reply(outcome);
        };
        self.transactions.reset_producer(partitions, Box::new(remember));
    }
}
