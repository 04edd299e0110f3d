//! The whole pipeline on one thread, from a seed: the real actors and state machines over the fake, with a paused clock.
//! Between any two steps a pod may crash, lose a partition, hand one over, or get no response to its transaction. At the
//! end every `read_committed` reader must see what the reference model expects, each event once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::{Addr, Arbiter, ArbiterHandle, System};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use steward::app::SystemClock;
use steward::engine::budget::Budget;
use steward::engine::commit::STALE_GENERATIONS_ALLOWED;
use steward::engine::offset_metadata::{NewestState, PositionFacts};
use steward::engine::ownership::Ownership;
use steward::engine::recovery::{RecoverySettings, Topic};
use steward::entity::{CorruptSnapshot, Entity, RawEvent, Reason, Rejection, SizeLimits};
use steward::observability::log_events::{DrainCutShort, KeyPolicy, LogEvent as _, StaleOutcomesDropped};
use steward::ports::{Clock, Drained};
use steward::record::{Offset, Partition, header};
use steward::runtime::assemble::{Actors, Ports, RuntimeSettings, assemble};
use steward::runtime::ingest::{IngestActor, StopIngest};
use steward::runtime::{MemoryLimits, Shared, StopCause};
use steward::service::Service;
use steward::testing::memory::{InjectedOutcome, MemoryKafka, MemoryPod, MemoryRecord, StoredRecord};
use steward::testing::reference::check::{Expectation, SeenRecords, check};
use steward::testing::reference::{Model, TopicRecord};
use steward::testing::workload::{GeneratedEvent, Workload};

use crate::support::capture::{Capture, Line};
use crate::support::paused::{PausedClock, on_one_thread, tick_every};
use crate::support::wait::Deadline;

mod same_scenario;
mod slow_broker;

const TOPIC: &str = "services";
const GROUP: &str = "steward";
const MAX_PAYLOAD_BYTES: u64 = 262_144;
/// Some of the snapshots would have more, so that their events are rejected.
const MAX_SNAPSHOT_BYTES: u64 = 300;
const LIMITS: SizeLimits = SizeLimits { max_payload_bytes: MAX_PAYLOAD_BYTES, max_snapshot_bytes: MAX_SNAPSHOT_BYTES };
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

#[apply(offline_test)]
fn every_event_counts_once_whatever_happens_between_two_steps() {
    for seed in 1..=seeds() {
        let run = Run::play(seed, &Scenario::stormy());
        run.assert_exact(seed);
    }
}

#[apply(offline_test)]
fn the_same_seed_gives_the_same_run() {
    let first = Run::play(42, &Scenario::stormy());
    let second = Run::play(42, &Scenario::stormy());
    assert_eq!(first.steps, second.steps, "seed 42 took other steps the second time");
    assert!(first.log.len() > 100, "the run logged too little to be compared: {} lines", first.log.len());
    let differs = first.log.iter().zip(&second.log).find(|(first, second)| first != second);
    assert_eq!(differs, None, "seed 42 logged something else the second time");
    assert_eq!(first.log.len(), second.log.len(), "seed 42 logged more or less the second time");
    assert_eq!(first.seen.state, second.seen.state, "seed 42 wrote another state the second time");
    assert_eq!(first.seen.dlq_records, second.seen.dlq_records, "seed 42 rejected something else the second time");
    first.assert_exact(42);
}

#[apply(offline_test)]
fn a_quiet_run_commits_everything() {
    let run = Run::play(7, &Scenario { crashes: 0, hand_overs: 0, losses: 0, doubts: 0, ..Scenario::stormy() });
    run.assert_exact(7);
    assert!(run.seen.state.len() > 20, "too short for a meaningful test: {} snapshots", run.seen.state.len());
    let too_large = run.model.rejections().iter().filter(|rejected| rejected.reason == Reason::StateTooLarge).count();
    assert!((3..run.seen.state.len()).contains(&too_large), "the limit rejects {too_large} events");
}

#[apply(offline_test)]
fn the_actors_of_a_lost_partition_end() {
    let held = on_one_thread(|clock| async move {
        let mut world = World::new(5, Scenario { pods: 1, partitions: 1, ..Scenario::stormy() }, clock);
        world.produce_many(200);
        world.calm().await;
        let entity = Arc::clone(&world.pods[0].entity);
        let serving = entity.states();
        world.pods[0].memory.lose(&[Partition(0)]);
        settle().await;
        (serving, entity.states())
    });
    assert!(held.0 > 5, "too few actors for a meaningful test: {held:?}");
    assert_eq!(held.1, 0, "actors outlive their partition: {held:?}");
}

/// The group has given the partition to another member, and the pod has no notice of it.
#[apply(offline_test)]
fn a_stopping_pod_drops_work_that_the_group_keeps_refusing() {
    let capture = Capture::here();
    on_one_thread(|clock| async move {
        let mut world = World::new(5, Scenario { pods: 1, partitions: 1, ..Scenario::stormy() }, clock);
        world.produce_many(100);
        world.calm().await;
        world.produce_many(20);
        let pod = &world.pods[0];
        pod.memory.expel(&[Partition(0)]);
        assert_eq!(pod.memory.poll(Partition(0), 20), 20);
        settle().await;
        pod.ingest.try_send(StopIngest).expect("its mailbox has room");
        let mut refusals = 0;
        while pod.memory.end_pending(InjectedOutcome::Commits) {
            refusals += 1;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        assert_eq!(refusals, STALE_GENERATIONS_ALLOWED);
    });
    let cut_short = capture.wait_for(DrainCutShort::NAME);
    assert_eq!((cut_short.integer("attempts"), cut_short.integer("events")), (STALE_GENERATIONS_ALLOWED.into(), 20));
    assert_eq!(capture.wait_for(StaleOutcomesDropped::NAME).integer("events"), 20);
}

/// Until its actor has started, a mailbox has actix's small default capacity, and an arbiter can be busy for long.
#[apply(offline_test)]
fn an_entity_whose_thread_is_busy_gets_all_messages_sent_before_its_start() {
    const EVENTS: usize = 60;
    let kafka = MemoryKafka::new(1, TOPIC, GROUP);
    let stops = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&stops);
    let (release, gate) = std::sync::mpsc::channel::<()>();
    System::new().block_on(async move {
        let arbiter = Arbiter::new();
        // Busy until it is released, or until the sender is dropped.
        arbiter.spawn_fn(move || {
            let _ = gate.recv();
        });
        let pod = Pod::start(&kafka, "pod".into(), Arc::new(SystemClock), recorded, vec![arbiter.handle()]);
        let partition = Partition(0);
        pod.memory.assign(&[partition]);
        let settle = || tokio::time::sleep(Duration::from_millis(1));
        while pod.memory.started().is_empty() {
            settle().await;
            pod.run_recovery();
        }
        for number in 0..EVENTS {
            let value = match number {
                0 => r#"{"eventType":"ServiceCreated","id":1,"name":"a","description":"b","tags":[]}"#.to_owned(),
                _ => format!(r#"{{"eventType":"ServiceUpdated","id":1,"pricePerHour":{number}}}"#),
            };
            let record = MemoryRecord {
                timestamp_ms: Some(1_769_860_800_000),
                key: Some(b"1".to_vec()),
                value: Some(value.into_bytes()),
                headers: Vec::new(),
            };
            kafka.append(Topic::Input, partition, record);
            assert_eq!(pod.memory.poll(partition, 1), 1, "the pod reads one record a batch");
            settle().await;
        }
        release.send(()).expect("the arbiter waits");
        let deadline = Deadline::after(Duration::from_secs(30));
        while kafka.committed(partition).is_none_or(|committed| committed.position.0 < EVENTS as i64) {
            assert!(!deadline.passed(), "the events were not committed");
            pod.memory.end_pending(InjectedOutcome::Commits);
            settle().await;
        }
        let newest = kafka.records(Topic::State, partition).pop().expect("a snapshot");
        let value = String::from_utf8(newest.value.expect("a live entity")).expect("JSON");
        assert!(value.contains(&format!(r#""pricePerHour":{},"version":{EVENTS}"#, EVENTS - 1)), "{value}");
    });
    assert!(stops.lock().expect("no thread panics while it holds this").is_empty());
}

/// The number of seeds. `STEWARD_SIMULATION_SEEDS` overrides it.
fn seeds() -> u64 {
    std::env::var("STEWARD_SIMULATION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

/// Size of a run, and the weights of its faults.
#[derive(Debug, Clone)]
pub struct Scenario {
    events: u64,
    keys: u32,
    partitions: usize,
    pods: usize,
    crashes: u32,
    hand_overs: u32,
    losses: u32,
    doubts: u32,
    /// The size of the events that are as large as, or larger than, the generator takes for the limit.
    largest_bytes: u64,
}

impl Scenario {
    pub fn stormy() -> Scenario {
        Scenario {
            events: 600,
            keys: 12,
            partitions: 4,
            pods: 3,
            crashes: 2,
            hand_overs: 4,
            losses: 2,
            doubts: 10,
            largest_bytes: MAX_PAYLOAD_BYTES,
        }
    }
}

fn workload_of(seed: u64, events: u64) -> Workload {
    Workload { seed, events, keys: 12, invalid_share: 0.1, odd_share: 0.1, ..Workload::default() }
}

/// The result of a run.
struct Run {
    model: Model,
    seen: SeenRecords,
    steps: Vec<String>,
    stops: Vec<StopCause>,
    log: Vec<Line>,
}

impl Run {
    fn play(seed: u64, scenario: &Scenario) -> Run {
        let scenario = scenario.clone();
        // An ERROR in the log fails the run: no fault of the driver may break a guarantee.
        let capture = Capture::here();
        let run = on_one_thread(move |clock| async move {
            let mut world = World::new(seed, scenario, clock);
            world.storm().await;
            world.calm().await;
            world.result()
        });
        Run { log: capture.all(), ..run }
    }

    fn assert_exact(&self, seed: u64) {
        assert!(self.stops.is_empty(), "seed {seed}: a pod stopped: {:?}\n{}", self.stops, self.tail());
        let expected = Expectation { topic: TOPIC.into(), group: GROUP.into() };
        let differences = check(&self.model, &expected, &self.seen);
        let listed: Vec<String> = differences.iter().take(10).map(ToString::to_string).collect();
        assert!(differences.is_empty(), "seed {seed}: {}\n{}", listed.join("\n"), self.tail());
    }

    fn tail(&self) -> String {
        self.steps.iter().rev().take(60).rev().cloned().collect::<Vec<_>>().join("\n")
    }
}

/// The service entity. Counts its states in memory: each actor has one.
#[derive(Default)]
struct Counted {
    count: Arc<()>,
}

struct Held {
    state: <Service as Entity>::State,
    _counted: Arc<()>,
}

impl Counted {
    fn states(&self) -> usize {
        Arc::strong_count(&self.count) - 1
    }

    fn hold(&self, state: <Service as Entity>::State) -> Held {
        Held { state, _counted: Arc::clone(&self.count) }
    }
}

impl Entity for Counted {
    type State = Held;

    fn absent(&self) -> Held {
        self.hold(Service.absent())
    }

    fn apply(&self, state: &Held, event: RawEvent<'_>) -> Result<Held, Rejection> {
        Service.apply(&state.state, event).map(|next| self.hold(next))
    }

    fn encode(&self, state: &Held) -> Option<Vec<u8>> {
        Service.encode(&state.state)
    }

    fn decode(&self, snapshot: &[u8]) -> Result<Held, CorruptSnapshot> {
        Service.decode(snapshot).map(|state| self.hold(state))
    }

    fn newest_event_ms(&self, state: &Held) -> Option<i64> {
        Service.newest_event_ms(&state.state)
    }
}

struct Pod {
    memory: MemoryPod,
    ingest: Addr<IngestActor<Counted>>,
    entity: Arc<Counted>,
    state_memory: Arc<Budget>,
    owned: Vec<Partition>,
    /// The transactional id, which a new pod of the same name takes over.
    name: String,
}

impl Pod {
    /// Starts the real actors over the fake. Without entity threads, entities run on the current thread.
    fn start(
        kafka: &MemoryKafka,
        name: String,
        clock: Arc<dyn Clock>,
        stops: Arc<Mutex<Vec<StopCause>>>,
        entity_threads: Vec<ArbiterHandle>,
    ) -> Pod {
        let entity = Arc::new(Counted::default());
        let limits = MemoryLimits { in_flight_bytes: 1 << 20, state_bytes: 1 << 20 };
        let stop = Arc::new(move |cause| stops.lock().expect("no thread panics while it holds this").push(cause));
        let shared = Shared::new(clock, limits, KeyPolicy::Plain, stop);
        let ownership = Arc::new(Ownership::new());
        let memory = MemoryPod::new(kafka, &name, Arc::clone(&ownership));
        let ports = Ports {
            consumer: Box::new(memory.clone()),
            recoveries: Box::new(memory.clone()),
            transactions: Box::new(memory.clone()),
            ownership,
        };
        let settings = RuntimeSettings {
            size_limits: LIMITS,
            max_transaction_bytes: 20_000,
            max_dlq_record_bytes: u64::MAX,
            transaction_timeout: TRANSACTION_TIMEOUT,
            min_commit_interval: Duration::ZERO,
            linger_per_partition: Duration::from_millis(3),
            offset_metadata: memory.offset_metadata(),
            entity_idle: Duration::from_secs(5),
            max_active_entities: 1_000,
            stop_on_expired: false,
            entity_threads,
        };
        let Actors { ingest, sink, .. } = assemble(ports, Arc::clone(&entity), settings, &shared);
        memory.listen(Box::new(sink));
        Pod { memory, ingest, entity, state_memory: shared.state_memory, owned: Vec::new(), name }
    }

    fn run_recovery(&self) -> bool {
        let settings = RecoverySettings {
            topic: TOPIC.into(),
            state_topic: "services.state".into(),
            group: GROUP.into(),
            topic_ids: self.memory.topic_ids(),
            tombstones_outlive_events: true,
            look_back_records: 15,
            verify_max_records: 1_000_000,
            adopt_group: false,
            stop_on_expired: false,
            size_limits: LIMITS,
        };
        self.memory.run_recovery(&self.entity, &settings, &self.state_memory)
    }
}

struct World {
    scenario: Scenario,
    random: ChaCha8Rng,
    clock: Arc<PausedClock>,
    kafka: MemoryKafka,
    events: Vec<GeneratedEvent>,
    next_event: usize,
    model: Model,
    pods: Vec<Pod>,
    stops: Arc<Mutex<Vec<StopCause>>>,
    steps: Vec<String>,
}

impl World {
    fn new(seed: u64, scenario: Scenario, clock: Arc<PausedClock>) -> World {
        let workload = Workload {
            seed,
            events: scenario.events,
            keys: scenario.keys,
            invalid_share: 0.1,
            odd_share: 0.1,
            max_payload_bytes: scenario.largest_bytes,
            ..Workload::default()
        };
        // Depending on the seed, a message takes one turn or several.
        tick_every([0, 1, 2, 5][usize::try_from(seed % 4).expect("small")]);
        let kafka = MemoryKafka::new(scenario.partitions, TOPIC, GROUP);
        let stops = Arc::new(Mutex::new(Vec::new()));
        let mut world = World {
            random: ChaCha8Rng::seed_from_u64(seed),
            clock,
            kafka,
            events: workload.generate().expect("the workload makes sense").collect(),
            next_event: 0,
            model: Model::keeping_history(MAX_PAYLOAD_BYTES).with_snapshot_limit(MAX_SNAPSHOT_BYTES),
            pods: Vec::new(),
            stops,
            steps: Vec::new(),
            scenario,
        };
        for index in 0..world.scenario.pods {
            let pod = world.start_pod(format!("pod-{index}"));
            world.pods.push(pod);
        }
        world
    }

    fn start_pod(&self, name: String) -> Pod {
        Pod::start(&self.kafka, name, Arc::clone(&self.clock) as Arc<dyn Clock>, Arc::clone(&self.stops), Vec::new())
    }

    // ------------------------------------------------------------------------------------------------------ steps

    async fn storm(&mut self) {
        while self.next_event < self.events.len() {
            self.step().await;
        }
        for _ in 0..40 {
            self.step().await;
        }
    }

    /// What each committed position says is what the topics have.
    fn assert_positions_know_their_state(&self) {
        for index in 0..self.scenario.partitions {
            let partition = Partition(i32::try_from(index).expect("a few partitions"));
            let Some(committed) = self.kafka.committed(partition) else { continue };
            let facts = PositionFacts::parse(&committed.metadata).expect("steward has committed it");
            let snapshots = self.kafka.records(Topic::State, partition).into_iter().map(|record| {
                let value = |name: &str| record.headers.iter().rev().find(|(found, _)| found == name)?.1.clone();
                let offset = String::from_utf8(value(header::STATE_OFFSET).expect("it has one")).expect("digits");
                let offset = Offset(offset.parse().expect("a number"));
                NewestState { offset, is_tombstone: record.value.is_none() }
            });
            let expected = PositionFacts { newest_state: snapshots.max(), topics: self.kafka.topic_ids() };
            assert_eq!(facts, expected, "partition {partition}: {}", committed.metadata);
        }
    }

    async fn step(&mut self) {
        let Scenario { crashes, hand_overs, losses, .. } = self.scenario;
        let choices = [30, 30, 20, 30, crashes, hand_overs, losses, 4];
        match self.draw(&choices) {
            0 => self.produce(),
            1 => self.poll(),
            2 => self.recover(),
            3 => self.end_transaction(),
            4 => self.crash(),
            5 => self.hand_over().await,
            6 => self.lose().await,
            _ => self.pass_time().await,
        }
        self.assign_unowned();
        settle().await;
    }

    fn draw(&mut self, weights: &[u32]) -> usize {
        let mut left = self.random.random_range(0..weights.iter().sum::<u32>());
        for (index, weight) in weights.iter().enumerate() {
            if left < *weight {
                return index;
            }
            left -= weight;
        }
        unreachable!("the number is less than the sum of the weights")
    }

    fn note(&mut self, step: impl Into<String>) {
        self.steps.push(step.into());
    }

    fn produce(&mut self) {
        let many = self.random.random_range(1..20);
        self.produce_many(many);
    }

    fn produce_many(&mut self, many: usize) {
        let many = many.min(self.events.len() - self.next_event);
        self.note(format!("produce {many}"));
        for _ in 0..many {
            let event = self.events[self.next_event].clone();
            self.next_event += 1;
            let partition = partition_of(event.key.as_deref(), self.scenario.partitions);
            let headers = event.headers.into_iter().map(|(name, value)| (name, Some(value))).collect();
            let timestamp_ms = (event.timestamp_ms != -1).then_some(event.timestamp_ms);
            let record = MemoryRecord { timestamp_ms, key: event.key, value: event.value, headers };
            let offset = self.kafka.append(Topic::Input, partition, record.clone());
            self.model.process_record(&topic_record(
                partition,
                &StoredRecord {
                    offset,
                    timestamp_ms: record.timestamp_ms,
                    key: record.key,
                    value: record.value,
                    headers: record.headers,
                },
            ));
        }
    }

    fn any_pod(&mut self) -> usize {
        self.random.random_range(0..self.pods.len())
    }

    fn poll(&mut self) {
        let pod = self.any_pod();
        for partition in self.pods[pod].memory.started() {
            let most = self.random.random_range(1..30);
            let records = self.pods[pod].memory.poll(partition, most);
            self.note(format!("pod {pod} reads {records} of {partition}"));
        }
    }

    fn recover(&mut self) {
        let pod = self.any_pod();
        let ran = self.run_recovery(pod);
        self.note(format!("pod {pod} recovers: {ran}"));
    }

    fn run_recovery(&self, pod: usize) -> bool {
        self.pods[pod].run_recovery()
    }

    fn end_transaction(&mut self) {
        let pod = self.any_pod();
        let doubts = self.scenario.doubts;
        let outcome = match self.draw(&[60, doubts, doubts, doubts, doubts]) {
            0 => InjectedOutcome::Commits,
            1 => InjectedOutcome::Aborts,
            2 => InjectedOutcome::CommitsUnanswered,
            3 => InjectedOutcome::TimesOut,
            _ => InjectedOutcome::AbortsUnanswered,
        };
        let ended = self.pods[pod].memory.end_pending(outcome);
        self.note(format!("pod {pod} ends its transaction {outcome:?}: {ended}"));
    }

    fn crash(&mut self) {
        let index = self.any_pod();
        self.note(format!("pod {index} dies"));
        self.assert_positions_know_their_state();
        let owned = std::mem::take(&mut self.pods[index].owned);
        self.pods[index].memory.expel(&owned);
        self.pods[index].memory.die();
        let name = self.pods[index].name.clone();
        self.pods[index] = self.start_pod(name);
    }

    async fn hand_over(&mut self) {
        let Some((pod, partition)) = self.any_owned() else { return };
        self.note(format!("pod {pod} hands over {partition}"));
        let memory = self.pods[pod].memory.clone();
        let drained = Arc::new(Mutex::new(false));
        let is_called = Arc::clone(&drained);
        let call = Drained::new(move || *is_called.lock().expect("no thread panics while it holds this") = true);
        memory.revoke(&[partition], self.now() + Duration::from_millis(400), call);
        settle().await;
        // The in-flight transaction may end, or not, before the partition is given up.
        for _ in 0..self.random.random_range(0..3) {
            let is_drained = *drained.lock().expect("no thread panics while it holds this");
            if !is_drained {
                memory.end_pending(InjectedOutcome::Commits);
                settle().await;
            }
        }
        memory.give_up(&[partition]);
        self.pods[pod].owned.retain(|owned| *owned != partition);
    }

    async fn lose(&mut self) {
        let Some((pod, partition)) = self.any_owned() else { return };
        self.note(format!("pod {pod} loses {partition}"));
        let memory = self.pods[pod].memory.clone();
        memory.expel(&[partition]);
        settle().await;
        // The pod has no notice of the loss yet, and goes on.
        for _ in 0..self.random.random_range(0..3) {
            memory.poll(partition, 5);
            memory.end_pending(InjectedOutcome::Commits);
            settle().await;
        }
        memory.lose(&[partition]);
        self.pods[pod].owned.retain(|owned| *owned != partition);
    }

    async fn pass_time(&mut self) {
        let seconds = self.random.random_range(1..8);
        self.note(format!("{seconds} s pass"));
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    fn any_owned(&mut self) -> Option<(usize, Partition)> {
        let owned: Vec<(usize, Partition)> = self
            .pods
            .iter()
            .enumerate()
            .flat_map(|(pod, of)| of.owned.iter().map(move |partition| (pod, *partition)))
            .collect();
        if owned.is_empty() {
            return None;
        }
        Some(owned[self.random.random_range(0..owned.len())])
    }

    /// The group assigns each partition without an owner to a pod.
    fn assign_unowned(&mut self) {
        for index in 0..self.scenario.partitions {
            let partition = Partition(i32::try_from(index).expect("a few partitions"));
            if self.pods.iter().all(|pod| !pod.owned.contains(&partition)) {
                let pod = self.any_pod();
                self.note(format!("pod {pod} gets {partition}"));
                self.pods[pod].owned.push(partition);
                self.pods[pod].memory.assign(&[partition]);
            }
        }
    }

    /// Runs without faults until everything is committed.
    async fn calm(&mut self) {
        for _ in 0..2_000 {
            self.assign_unowned();
            let mut is_busy = false;
            for pod in 0..self.pods.len() {
                is_busy |= self.run_recovery(pod);
                settle().await;
                is_busy |= self.pods[pod].memory.end_pending(InjectedOutcome::Commits);
                for partition in self.pods[pod].memory.started() {
                    is_busy |= self.pods[pod].memory.poll(partition, 50) > 0;
                }
                settle().await;
            }
            if !is_busy && self.is_committed() {
                return;
            }
            if !is_busy {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        panic!(
            "the run does not settle:\n{}",
            self.steps.iter().rev().take(40).cloned().collect::<Vec<_>>().join("\n")
        );
    }

    fn is_committed(&self) -> bool {
        (0..self.scenario.partitions).all(|index| {
            let partition = Partition(i32::try_from(index).expect("a few partitions"));
            let end = self.kafka.bounds(Topic::Input, partition).high;
            end.0 == 0 || self.kafka.committed(partition).is_some_and(|committed| committed.position >= end)
        })
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn result(self) -> Run {
        self.assert_positions_know_their_state();
        let mut seen = SeenRecords::default();
        let (mut committed, mut ends) = (BTreeMap::new(), BTreeMap::new());
        for index in 0..self.scenario.partitions {
            let partition = Partition(i32::try_from(index).expect("a few partitions"));
            let all = |topic| self.kafka.records(topic, partition);
            seen.state.extend(all(Topic::State).iter().map(|record| topic_record(partition, record)));
            seen.dlq_records.extend(all(Topic::Dlq).iter().map(|record| topic_record(partition, record)));
            ends.insert(partition.0, self.kafka.bounds(Topic::Input, partition).high.0);
            if let Some(found) = self.kafka.committed(partition) {
                committed.insert(partition.0, found.position.0);
            }
        }
        (seen.committed, seen.ends) = (committed, ends);
        let stops = self.stops.lock().expect("no thread panics while it holds this").clone();
        Run { model: self.model, seen, steps: self.steps, stops, log: Vec::new() }
    }
}

/// Lets every actor process its mailbox. Paused time moves only when no task has anything left to do.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn partition_of(key: Option<&[u8]>, partitions: usize) -> Partition {
    let sum: usize = key.unwrap_or_default().iter().map(|byte| usize::from(*byte)).sum();
    Partition(i32::try_from(sum % partitions).expect("a few partitions"))
}

fn topic_record(partition: Partition, record: &StoredRecord) -> TopicRecord {
    TopicRecord {
        partition: partition.0,
        offset: record.offset.0,
        timestamp_ms: record.timestamp_ms,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
    }
}
