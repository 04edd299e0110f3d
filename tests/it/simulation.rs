//! The whole pipeline on one thread, from a seed: the real actors and state machines over the fake, with a paused clock.
//! Between any two steps a pod may crash, freeze, lose a partition, hand one over, or get no response to a request. At the
//! end every `read_committed` reader must see what the reference model expects, each event once, and within a bounded
//! time.
//!
//! Each seed draws the size of its run and the weights of its faults (`scenario`). `STEWARD_SIMULATION_SEED=N` runs one
//! seed and prints its history; `STEWARD_SIMULATION_SEEDS=N` runs the first N.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::{Addr, Arbiter, ArbiterHandle, System};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use steward::app::SystemClock;
use steward::engine::budget::Budget;
use steward::engine::commit::{STALE_GENERATIONS_ALLOWED, StopReason};
use steward::engine::dead_owners::DeadOwners;
use steward::engine::foreign_members::MemberIds;
use steward::engine::offset_metadata::{NewestState, PositionFacts, instance_of};
use steward::engine::ownership::Ownership;
use steward::engine::recovery::RecoverySettings;
use steward::entity::{CorruptSnapshot, Entity, RawEvent, Reason, Rejection, Remedies, SizeLimits};
use steward::observability::log_events::{
    DrainCutShort, KeyPolicy, LogEvent as _, LostWriteRepaired, StaleOutcomesDropped,
};
use steward::ports::{Clock, Drained};
use steward::record::{Epoch, Offset, Partition, Position, Topic, header};
use steward::runtime::assemble::{Actors, Ports, RuntimeSettings, assemble};
use steward::runtime::ingest::{IngestActor, StopIngest};
use steward::runtime::{MemoryLimits, Shared, StopCause};
use steward::service::Service;
use steward::testing::memory::{Fate, InjectedOutcome, MemoryKafka, MemoryPod, MemoryRecord, Progress, StoredRecord};
use steward::testing::reference::check::{Difference, Expectation, Fault, SeenRecords, check};
use steward::testing::reference::{Model, TopicRecord};
use steward::testing::workload::{GeneratedEvent, Workload};
use tracing::Level;

use crate::support::capture::{Capture, Line};
use crate::support::paused::{PausedClock, on_one_thread, tick_every};
use crate::support::wait::Deadline;

mod calm;
mod group;
mod large_repair;
mod planted;
mod same_scenario;
mod scenario;
mod seeds;
mod slow_broker;
mod world;

use scenario::{Fates, Scenario};
use world::{Pod, World, settle};

const TOPIC: &str = "services";
const GROUP: &str = "steward";
const MAX_PAYLOAD_BYTES: u64 = 262_144;
/// Some of the snapshots would have more, so that their events are rejected.
const MAX_SNAPSHOT_BYTES: u64 = 300;
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The most steps with faults.
const MOST_STEPS: usize = 3_000;

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
    let run = Run::play(7, &Scenario::quiet());
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
        pod.memory.expel();
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
    let (release, gate) = std::sync::mpsc::channel::<()>();
    System::new().block_on(async move {
        let arbiter = Arbiter::new();
        // Busy until it is released, or until the sender is dropped.
        arbiter.spawn_fn(move || {
            let _ = gate.recv();
        });
        let pod = Pod::start(&kafka, "pod".into(), &Scenario::stormy(), Arc::new(SystemClock), vec![arbiter.handle()]);
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
        assert!(pod.stops.lock().expect("no thread panics while it holds this").is_empty());
    });
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
    violations: Vec<String>,
    scenario: Scenario,
    log: Vec<Line>,
}

impl Run {
    fn play(seed: u64, scenario: &Scenario) -> Run {
        let scenario = scenario.clone();
        let capture = Capture::here();
        // `failure` decides which ones fail the run.
        capture.permit_errors();
        let capture = &capture;
        on_one_thread(move |clock| async move {
            let mut world = World::new(seed, scenario, clock);
            world.storm().await;
            if let Err(stuck) = world.settles().await {
                world.violations.push(stuck);
            }
            // The actors end with the system, whose time is not paused any more.
            Run { log: capture.all(), ..world.result() }
        })
    }

    fn assert_exact(&self, seed: u64) {
        if let Some(failure) = self.failure() {
            panic!("seed {seed}: {failure}\n{:?}\n{}", self.scenario, self.tail());
        }
    }

    /// What the contract does not permit, if there is something.
    fn failure(&self) -> Option<String> {
        if !self.stops.is_empty() {
            return Some(format!("a pod stopped: {:?}", self.stops));
        }
        let expected = Expectation { topic: TOPIC.into(), group: GROUP.into() };
        let differences = check(&self.model, &expected, &self.seen);
        let differences = differences.iter().filter(|difference| !self.is_permitted(difference));
        let is_expected = |line: &&Line| self.scenario.is_damaged() && line.name == LostWriteRepaired::NAME;
        let errors = self.log.iter().filter(|line| line.level == Level::ERROR && !is_expected(line));
        let errors = errors.map(|line| format!("logged {} {:?}", line.name, line.fields));
        let listed: Vec<String> =
            self.violations.iter().cloned().chain(differences.map(ToString::to_string)).chain(errors).collect();
        (!listed.is_empty()).then(|| listed.into_iter().take(10).collect::<Vec<_>>().join("\n"))
    }

    /// A repair publishes rejections later than others, and no tombstone of an entity that the state does not have.
    fn is_permitted(&self, difference: &Difference) -> bool {
        let key = difference.key.as_deref().unwrap_or_default();
        let newest = self.model.newest_of(difference.partition, key);
        let is_deleted = newest.is_some_and(|newest| newest.value.is_none());
        let is_late = difference.fault == Fault::DlqRecordOutOfOrder;
        let lacks_tombstone = is_deleted && [Fault::StateMissing, Fault::StateHeader].contains(&difference.fault);
        self.scenario.is_damaged() && (is_late || lacks_tombstone)
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
    const REMEDIES: Remedies = Service::REMEDIES;

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
