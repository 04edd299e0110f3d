//! Records through the actors, without a Kafka: the benchmark is the source, recoveries find nothing, and every
//! transaction takes effect at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use actix::System;
use criterion::{Criterion, Throughput};
use rustc_hash::{FxHashMap, FxHashSet};
use steward::app::SystemClock;
use steward::engine::budget::Budget;
use steward::engine::commit::transaction::{CommitOutcome, ResetOutcome, TransactionContent};
use steward::engine::offset_metadata::OffsetMetadata;
use steward::engine::outcome::Outcomes;
use steward::engine::ownership::Ownership;
use steward::engine::recovery::Recovered;
use steward::engine::topic_watch::TopicIds;
use steward::entity::SizeLimits;
use steward::observability::log_events::KeyPolicy;
use steward::ports::{
    Clock as _, CommitReply, ConsumerEvent, ConsumerSink as _, InputConsumer, Recoveries, RecoveryReply, ResetReply,
    Transactions,
};
use steward::record::{Batch, Epoch, Header, Offset, Partition, Position};
use steward::runtime::assemble::{Ports, RuntimeSettings, assemble};
use steward::runtime::ingest::IngestSink;
use steward::runtime::{MemoryLimits, Shared};
use steward::service::Service;
use steward::testing::workload::{GeneratedEvent, Workload};

/// A limit that is never reached.
const UNLIMITED: u64 = 1 << 31;
const BATCH_RECORDS: usize = 2_048;
const PARTITION: Partition = Partition(0);

/// One thread runs everything, so that the figure is processor time. Every key is an actor already.
pub fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("actors");
    group.throughput(Throughput::Elements(BATCH_RECORDS as u64)).sample_size(20);
    for (name, zipf_exponent) in [("uniform", 0.0), ("zipf", 1.1)] {
        let mut pipeline: Option<Running> = None;
        group.bench_function(name, |bencher| {
            let pipeline = pipeline.get_or_insert_with(|| Running::start(zipf_exponent));
            bencher.iter_custom(|rounds| (0..rounds).map(|_| pipeline.one_batch()).sum());
        });
    }
    group.finish();
}

/// The running actors, and the events that they get.
struct Running {
    system: actix::SystemRunner,
    sink: IngestSink<Service>,
    committed: Arc<AtomicU64>,
    events: Vec<GeneratedEvent>,
    epoch: Epoch,
    next: u64,
}

impl Running {
    fn start(zipf_exponent: f64) -> Running {
        // As many keys as the drain has in each of its twelve partitions.
        let workload = Workload { events: 200_000, keys: 8_192, zipf_exponent, ..Workload::default() };
        let without_huge = |event: &GeneratedEvent| event.value.as_ref().is_none_or(|value| value.len() < 10_000);
        let events = workload.generate().expect("the workload is valid").filter(without_huge).collect();
        let system = System::new();
        let ownership = Arc::new(Ownership::new());
        let epoch = ownership.mint(PARTITION);
        let committed = Arc::new(AtomicU64::new(0));
        let started = Arc::new(AtomicBool::new(false));
        let source = Source(Arc::clone(&started));
        let sink = system.block_on(start_actors(Arc::clone(&ownership), source, Arc::clone(&committed)));
        let mut running = Running { system, sink, committed, events, epoch, next: 0 };
        assert!(
            running.sink.offer(ConsumerEvent::Assigned(vec![(PARTITION, epoch)])).is_ok(),
            "an empty mailbox has room"
        );
        running.system.block_on(async {
            while !started.load(Ordering::Acquire) {
                tokio::task::yield_now().await;
            }
        });
        // The first pass over all events spawns an actor for every key.
        for _ in 0..running.events.len() / BATCH_RECORDS {
            let (batch, end) = running.next_batch();
            running.process(batch, end);
        }
        running
    }

    /// Repeats the events indefinitely. In later passes creations are rejected, which costs about the same.
    fn next_batch(&mut self) -> (Batch, u64) {
        let position = |next: u64| i64::try_from(next).expect("a measurement ends before that");
        let mut batch = Batch::new(PARTITION, self.epoch, Position(position(self.next)));
        for _ in 0..BATCH_RECORDS {
            let count = self.events.len() as u64;
            let event = &self.events[usize::try_from(self.next % count).expect("less than a length")];
            let headers = event.headers.iter().map(|(name, value)| Header { name, value: Some(value) });
            let (key, value) = (event.key.as_deref(), event.value.as_deref());
            batch.push(Offset(position(self.next)), Some(event.timestamp_ms), key, value, headers);
            self.next += 1;
        }
        (batch, self.next)
    }

    /// Measures the next batch in the actors, without the construction of the batch.
    fn one_batch(&mut self) -> Duration {
        let (batch, end) = self.next_batch();
        let began = SystemClock.now();
        self.process(batch, end);
        SystemClock.now() - began
    }

    fn process(&mut self, batch: Batch, end: u64) {
        let offered = self.sink.offer(ConsumerEvent::Batch(batch));
        assert!(offered.is_ok(), "no other batch is in flight");
        let committed = Arc::clone(&self.committed);
        self.system.block_on(async move {
            while committed.load(Ordering::Relaxed) < end {
                tokio::task::yield_now().await;
            }
        });
    }
}

async fn start_actors(ownership: Arc<Ownership>, source: Source, committed: Arc<AtomicU64>) -> IngestSink<Service> {
    let limits = MemoryLimits { in_flight_bytes: UNLIMITED, state_bytes: UNLIMITED };
    let shared = Shared::new(Arc::new(SystemClock), limits, KeyPolicy::Plain, Arc::new(|cause| panic!("{cause:?}")));
    let ports = Ports {
        consumer: Box::new(source),
        recoveries: Box::new(Empty(Arc::clone(&shared.state_memory))),
        transactions: Box::new(AtOnce(committed)),
        ownership,
    };
    let settings = RuntimeSettings {
        size_limits: SizeLimits::of_payload(262_144),
        max_transaction_bytes: UNLIMITED,
        max_dlq_record_bytes: u64::MAX,
        transaction_timeout: Duration::from_secs(10),
        min_commit_interval: Duration::ZERO,
        linger_per_partition: Duration::ZERO,
        offset_metadata: OffsetMetadata::new("bench", TopicIds::default()),
        entity_idle: Duration::from_secs(3_600),
        max_active_entities: usize::MAX,
        stop_on_expired: true,
        entity_threads: Vec::new(),
    };
    assemble(ports, Arc::new(Service), settings, &shared).sink
}

/// Whether the partition was started: records before that are dropped.
struct Source(Arc<AtomicBool>);

impl InputConsumer for Source {
    fn start(&self, _: Partition, _: Epoch, _: Position) {
        self.0.store(true, Ordering::Release);
    }
    fn hold(&self, _: Partition) {}
    fn leave(&self) {}
}

/// Recovers every partition as empty.
struct Empty(Arc<Budget>);

impl Recoveries for Empty {
    fn begin(&self, partition: Partition, epoch: Epoch, reply: RecoveryReply) {
        reply(Ok(Recovered {
            partition,
            epoch,
            entities: FxHashMap::default(),
            lease: self.0.hold(0),
            committed: None,
            start: Position(0),
            newest_state: None,
            rejected: FxHashSet::default(),
            repairs: Outcomes::default(),
            repaired: None,
            findings: Vec::new(),
            verified: 0,
            skipped: 0,
        }));
    }
}

/// Every transaction takes effect at once.
struct AtOnce(Arc<AtomicU64>);

impl Transactions for AtOnce {
    fn commit(&self, content: Arc<TransactionContent>, reply: CommitReply) {
        let end = content.offset_ranges.iter().map(|range| range.end.0).max().unwrap_or(0);
        self.0.store(end.unsigned_abs(), Ordering::Relaxed);
        reply(CommitOutcome::Committed { took: Duration::ZERO });
    }

    fn reset_producer(&self, partitions: Vec<Partition>, reply: ResetReply) {
        reply(ResetOutcome::Ready(partitions.into_iter().map(|partition| (partition, None)).collect()));
    }
}
