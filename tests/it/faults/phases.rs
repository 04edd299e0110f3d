//! Provokes a stall in each phase that the watchdog distinguishes, and checks each field of its event.
//!
//! For `fetch`, `restore` and `rebalance` (and `commit`, in `stalls`) the brokers cause the stall of a real process.
//! `route` and `apply` need code that does not return, which the shipped program does not have. There the same pipeline
//! and the same watchdog run in this process, on a real Kafka, with an entity that hangs on request.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::producer::Producer as _;
use serde_json::Value;
use steward::app::client_events::ClientLog;
use steward::app::monitor::Monitor;
use steward::app::pipeline::{Pipeline, PipelineParts, unwrapped};
use steward::app::{StopCause, SystemClock};
use steward::config::Config;
use steward::entity::{CorruptSnapshot, Entity, RawEvent, Rejection};
use steward::exit_code::ExitCode;
use steward::kafka::admin::topics::Topics;
use steward::observability::heartbeat::HeartbeatFile;

use super::hanging::{open_transaction, with_state};
use super::stalls::{STALL_MS, with_short_stall_limit};
use crate::cli::writer;
use crate::faults::number;
use crate::support::capture::{Capture, Line};
use crate::support::kafka::{ANY_TIMESTAMP, Kafka, Outgoing, record};
use crate::support::load::{Load, events};
use crate::support::names::Names;
use crate::support::process::{Setup, Steward};
use crate::support::proxy::{Api, ClientSees, ProxiedBroker};
use crate::support::wait::{PATIENCE, wait_for, wait_until};

/// One connection is silent, and that of the coordinator is not: a broker that one pod cannot reach. The lag is 0,
/// because nothing reports the events that the partition has.
#[apply(own_broker_test)]
fn fetch_a_broker_that_sends_nothing_ends_the_process_although_nothing_is_known_to_wait() {
    let broker = ProxiedBroker::start();
    let (direct, names) = (broker.direct(), Names::new());
    direct.create_input(&names, 1);
    let mut steward = with_short_stall_limit(Setup::new(&broker.through(), &names))
        .set("health.ready_settle_ms", 0)
        .set("log.stats_interval_ms", 1_000)
        .start();
    steward.wait_for_event("became_ready", PATIENCE);

    broker.proxy.hold(Api::FETCH, ClientSees::Silence).wait();
    direct.produce(&names.input, &events(1, 100, 100).collect::<Vec<Outgoing>>());

    let stalled = expects_stall(&mut steward, "fetch");
    let waiting_for = stalled["waiting_for"].as_str().unwrap_or_default();
    assert!(waiting_for.starts_with("any response of the broker that the partition is fetched from"), "{stalled}");
    assert_eq!(number(&stalled, "partition"), 0, "{stalled}");
    assert_eq!((stalled.get("offset"), stalled.get("key")), (None, None), "none of its records is read: {stalled}");
    let stats = steward.events("stats");
    let last = stats.last().expect("the last stats are logged at the end");
    assert_eq!((number(last, "lag_total"), number(last, "partitions_serving")), (0, 1), "{last}");
    assert!(number(last, "fetch_age_max_ms") >= STALL_MS.unsigned_abs() - 1_000, "{last}");
    assert!(last["fetch_age_ms"].as_str().is_some_and(|ages| ages.starts_with("0:")), "{last}");
}

/// Outside of the group nothing is owned, so no partition can stall.
#[apply(own_broker_test)]
fn rebalance_a_group_that_does_not_admit_the_process_ends_it() {
    let broker = ProxiedBroker::start();
    let (direct, names) = (broker.direct(), Names::new());
    direct.create_input(&names, 1);
    let held = broker.proxy.hold(Api::JOIN_GROUP, ClientSees::Silence);
    let setup = with_short_stall_limit(Setup::new(&broker.through(), &names))
        .set("kafka.max_poll_interval_ms", 7_500)
        .set("health.join_timeout_ms", JOIN_MS);

    let mut steward = setup.start();
    held.wait();

    let stalled = expects_stall_within(&mut steward, "rebalance", JOIN_MS);
    let waiting_for = stalled["waiting_for"].as_str().unwrap_or_default();
    assert!(waiting_for.starts_with("the process to become a member of its group: the consumer has "), "{stalled}");
    for absent in ["partition", "offset", "key"] {
        assert_eq!(stalled.get(absent), None, "nothing is owned: {stalled}");
    }
    assert!(steward.events("partitions_assigned").is_empty());
}

/// The batches behind it wait in the mailbox, and none of them is open yet.
#[apply(broker_test)]
fn route_a_hanging_ingest_actor_is_found_by_the_batches_in_its_mailbox() {
    let service = InProcess::start(1);
    service.produce(&[record("before", "1").to(0)]);
    service.waits_until_committed(&[1]);

    service.entity.absent_hangs.store(true, Ordering::SeqCst);
    // The ingest actor itself rejects a record without a key, and for that asks for the absent state.
    service.produce(&[record("first", "2").to(0), record("", "3").to(0).without_key()]);
    let line = service.watch_until_stall(&[]);

    assert_eq!((line.text("phase").as_str(), line.integer("partition"), line.integer("offset")), ("route", 0, 1));
    assert_eq!(line.text("key"), "first");
    let waiting_for = line.text("waiting_for");
    assert!(waiting_for.starts_with("the ingest actor, which has not run for "), "{waiting_for}");
    assert!(waiting_for.ends_with("; 1 batches in its mailbox"), "{waiting_for}");
    service.ends(&[3]);
}

/// The other keys of the same batch, and another partition, are done.
#[apply(broker_test)]
fn apply_a_hanging_entity_is_named_although_the_others_go_on() {
    let service = InProcess::start(2);
    service.produce(&[record("busy", "1").to(1)]);
    service.waits_until_committed(&[0, 1]);

    service.produce(&[record("idle", "1").to(0), record("stuck/1", HANG).to(0), record("idle", "2").to(0)]);
    service.entity.hangs_now();
    let line = service.watch_until_stall(&[record("busy", "2").to(1)]);

    assert_eq!((line.text("phase").as_str(), line.integer("partition"), line.integer("offset")), ("apply", 0, 1));
    assert_eq!(line.text("key"), "stuck%2F1");
    assert!(line.text("waiting_for").starts_with("an entity that has been processing this event for "), "{line:?}");
    let committed = service.kafka.committed(&service.names.group, &service.names.input);
    assert!(committed[1].is_some_and(|position| position > 5), "the other partition did not go on: {committed:?}");
    assert!(committed[0].is_none_or(|position| position == 0), "{committed:?}");
    let busy = committed[1].unwrap_or_default();
    service.ends(&[3, busy]);
}

/// The limit for a hanging transaction is longer here than the watchdog's.
#[apply(broker_test)]
fn restore_a_partition_that_cannot_be_restored_ends_the_process_although_others_serve() {
    let (kafka, names, setup) = with_state();
    let open = open_transaction(&kafka, &names, 0);
    let load = Load::on(&kafka, &names.input, 2, 50);

    let mut steward = with_short_stall_limit(setup).start();
    let stalled = expects_stall(&mut steward, "restore");

    let waiting_for = stalled["waiting_for"].as_str().unwrap_or_default();
    assert!(waiting_for.starts_with("records of the state topic: at position "), "{stalled}");
    assert_eq!(number(&stalled, "partition"), 0, "{stalled}");
    assert_eq!((stalled.get("offset"), stalled.get("key")), (None, None), "no event is at its head: {stalled}");
    let applied: BTreeSet<u64> = steward.events("stats").iter().map(|stats| number(stats, "applied_total")).collect();
    assert!(applied.len() > 2, "the other partition did not go on: {applied:?}; {}", steward.tail());
    load.stop();
    open.abort_transaction(PATIENCE).expect("an open transaction can be aborted");
}

// ------------------------------------------------------------------------------------------- end of the real process

const JOIN_MS: i64 = 8_000;

fn expects_stall(steward: &mut Steward, phase: &str) -> Value {
    expects_stall_within(steward, phase, STALL_MS)
}

/// Asserts the exit code, a single `progress_stalled`, and its fields that do not depend on the phase.
fn expects_stall_within(steward: &mut Steward, phase: &str, limit_ms: i64) -> Value {
    let code = steward.wait_exit(PATIENCE);
    assert_eq!(code, i32::from(ExitCode::Stalled.code()), "{}", steward.tail());
    let lines = steward.events("progress_stalled");
    let [stalled] = &lines[..] else { panic!("one line, not {lines:?}") };
    let limit_ms = limit_ms.unsigned_abs();
    assert_eq!((&stalled["level"], &stalled["phase"]), (&Value::from("ERROR"), &Value::from(phase)), "{stalled}");
    assert_eq!(number(stalled, "limit_ms"), limit_ms, "{stalled}");
    assert!((limit_ms..limit_ms + 5_000).contains(&number(stalled, "stalled_ms")), "{stalled}");
    let failed = steward.wait_for_event("process_failed", PATIENCE);
    assert_eq!(failed["exit_name"], "stalled");
    let error = failed["error"].as_str().unwrap_or_default();
    assert!(error.contains(&format!("phase {phase}")), "{failed}");
    assert!(!steward.heartbeat_file().exists(), "the heartbeat outlives its process");
    steward.assert_no_errors_but(&["progress_stalled", "process_failed"]);
    stalled.clone()
}

// -------------------------------------------------------------------------------------- the pipeline, in this process

/// A value that makes the entity hang.
const HANG: &str = "hang";
/// Short, because no session and no broker has to be waited for.
const SHORT_STALL_MS: u64 = 5_000;

/// Applies everything, until it hangs; its state is the last value.
#[derive(Default)]
struct Stuck {
    absent_hangs: AtomicBool,
    hanging: Mutex<Hanging>,
    changed: Condvar,
}

#[derive(Default)]
struct Hanging {
    hangs: usize,
    is_over: bool,
}

impl Stuck {
    fn hang(&self) {
        let mut hanging = self.hanging.lock().unwrap_or_else(PoisonError::into_inner);
        hanging.hangs += 1;
        let is_held = |hanging: &mut Hanging| !hanging.is_over;
        drop(self.changed.wait_while(hanging, is_held).unwrap_or_else(PoisonError::into_inner));
    }

    fn hangs_now(&self) {
        wait_until("it hangs", PATIENCE, || self.hanging.lock().unwrap_or_else(PoisonError::into_inner).hangs > 0);
    }

    fn lets_go(&self) {
        self.hanging.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
        self.changed.notify_all();
    }
}

impl Entity for Stuck {
    type State = String;

    fn absent(&self) -> String {
        // Only on the actors' thread: entity threads ask for it when they spawn an entity.
        if self.absent_hangs.load(Ordering::SeqCst) && std::thread::current().name() == Some("actors") {
            self.hang();
        }
        String::new()
    }

    fn apply(&self, _: &String, event: RawEvent<'_>) -> Result<String, Rejection> {
        if event.value == HANG.as_bytes() {
            self.hang();
        }
        Ok(String::from_utf8_lossy(event.value).into_owned())
    }

    fn encode(&self, state: &String) -> Option<Vec<u8>> {
        (!state.is_empty()).then(|| state.clone().into_bytes())
    }

    fn decode(&self, snapshot: &[u8]) -> Result<String, CorruptSnapshot> {
        String::from_utf8(snapshot.to_vec()).map_err(|error| CorruptSnapshot(error.to_string()))
    }

    fn newest_event_ms(&self, _: &String) -> Option<i64> {
        None
    }
}

struct InProcess {
    kafka: Kafka,
    names: Names,
    entity: Arc<Stuck>,
    config: Config,
    pipeline: Pipeline,
    stops: Arc<Mutex<Vec<StopCause>>>,
}

impl InProcess {
    fn start(partitions: i32) -> InProcess {
        let (kafka, names) = (Kafka::shared(), Names::new());
        kafka.create_input(&names, partitions);
        kafka.create_topic(&names.state, partitions, &[("cleanup.policy", "compact")]);
        kafka.create_topic(&names.dlq, partitions, &ANY_TIMESTAMP);
        let mut config = Config::default();
        config.kafka.bootstrap_servers = kafka.address().to_owned();
        config.kafka.group_id.clone_from(&names.group);
        config.kafka.topic.clone_from(&names.input);
        config.kafka.state_topic.clone_from(&names.state);
        config.kafka.dlq_topic.clone_from(&names.dlq);
        config.health.stall_timeout_ms = SHORT_STALL_MS;
        config.health.file = std::env::temp_dir().join(format!("steward-health-{}", names.group));
        // Enough threads that no two keys of a test share one.
        config.runtime.entity_threads = 16;
        let topics = Topics { partitions, replication: 1, ..Topics::default() };
        let stops = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&stops);
        let stop = Arc::new(move |stop| recorded.lock().expect("no thread panics while it holds this").push(stop));
        let entity = Arc::new(Stuck::default());
        let pipeline = Pipeline::start(PipelineParts {
            config: &config,
            instance: "pod",
            topics,
            entity: Arc::clone(&entity),
            clock: Arc::new(SystemClock),
            client_log: Arc::new(ClientLog::new(SystemClock)),
            stop,
            wrap: unwrapped,
        });
        InProcess { kafka, names, entity, config, pipeline: pipeline.expect("the pipeline starts"), stops }
    }

    fn produce(&self, records: &[Outgoing]) {
        // In one batch for each partition.
        self.kafka.produce_with(&[("linger.ms", "100")], &self.names.input, records);
    }

    fn waits_until_committed(&self, positions: &[i64]) {
        wait_until("everything is committed", PATIENCE, || {
            let stops = self.stops.lock().expect("no thread panics while it holds this");
            assert!(stops.is_empty(), "the pipeline stopped: {stops:?}");
            let committed = self.kafka.committed(&self.names.group, &self.names.input);
            committed.iter().zip(positions).all(|(committed, right)| committed.unwrap_or(0) == *right)
        });
    }

    /// Runs the monitor as the control loop does, and produces `busy` meanwhile, until the watchdog finds a stall.
    /// Returns its log line.
    fn watch_until_stall(&self, busy: &[Outgoing]) -> Line {
        let log = Capture::here();
        log.announce("progress_stalled");
        let heartbeat_file = HeartbeatFile::claim(&self.config.health.file, writer());
        let mut monitor = Monitor::new(&self.config, &self.pipeline, Arc::new(SystemClock), heartbeat_file);
        let error = wait_for("the watchdog", PATIENCE, || {
            if !busy.is_empty() {
                self.kafka.produce(&self.names.input, busy);
            }
            match monitor.check() {
                ControlFlow::Break(error) => Some(error),
                ControlFlow::Continue(()) => None,
            }
        });
        monitor.finish();
        let line = log.wait_for("progress_stalled");
        assert!(error.contains(&line.text("waiting_for")), "{error}");
        let (stalled_ms, limit_ms) = (line.integer("stalled_ms").unsigned_abs(), line.integer("limit_ms"));
        assert_eq!(limit_ms.unsigned_abs(), SHORT_STALL_MS);
        assert!((SHORT_STALL_MS..SHORT_STALL_MS + 3_000).contains(&stalled_ms), "{line:?}");
        line
    }

    /// Releases the entity, and asserts that everything is then processed and committed.
    fn ends(self, positions: &[i64]) {
        self.entity.lets_go();
        let at_least = |committed: &Option<i64>, right: &i64| committed.unwrap_or(0) >= *right;
        wait_until("what hung is committed", PATIENCE, || {
            let committed = self.kafka.committed(&self.names.group, &self.names.input);
            committed.iter().zip(positions).all(|(committed, right)| at_least(committed, right))
        });
        self.pipeline.stop_ingest();
        wait_until("nothing is open", PATIENCE, || self.pipeline.is_drained());
        self.pipeline.leave_group();
        wait_until("the group is left", Duration::from_secs(30), || self.pipeline.source_has_ended());
    }
}
