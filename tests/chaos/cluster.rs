//! Two processes on a cluster of three brokers, which are restarted, killed and frozen one at a time, while events flow.
//!
//! The yardstick runs beside them in the same run: a plain idempotent producer, and a reader, on a topic of their own.
//! Its longest silence is what the cluster itself costs. The silence of steward is the longest time between two outputs
//! of a partition that a `read_committed` reader of the state topic sees, while each partition has ten events a second.
//!
//! `cargo test --test chaos -- cluster` runs mixed faults of a seed, and needs Java.
//!
//! - `STEWARD_CHAOS_SEED`, `STEWARD_CHAOS_SEEDS`, `STEWARD_CHAOS_SECONDS`: as for the other schedules.
//! - `STEWARD_CHAOS_FAULT=name`: only this fault, one after the other, in calm conditions; `faults` has the names.
//! - `STEWARD_CHAOS_TIMES=n`: the number of times, 5 by default.
//! - `STEWARD_CHAOS_SESSION_S=s`: the session timeout of the processes, with this fault.
//!
//! Each run prints its table, and writes it with the logs of all processes to `target/tmp/chaos-cluster-*`. A run fails if
//! the outcome is not exact, a process ends by itself, a write was repaired, or a line has the level ERROR. The limits
//! for silences apply only to a single fault, which should have the machine for itself.

mod faults;
mod load;
mod report;
mod stewards;

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use self::faults::{BrokerFault, Fault, SHORT_SESSION, StewardFault, TopicFault, Victim};
use self::load::{PARTITIONS, SteadyLoad};
use self::report::{Occurrence, Report};
use self::stewards::{Membership, Moment, Stewards, Successor, instance_name};
use crate::setting;
use crate::silence::Watch;
use crate::support::broker::{Cluster, NODES, Need, NodeId, trial};
use crate::support::kafka::{ANY_TIMESTAMP, Kafka};
use crate::support::ledger::Ledger;
use crate::support::names::Names;
use crate::support::wait::{Deadline, now, unix_ms};

/// The default seed.
const SEED: u64 = 68;
/// The duration of the mixed faults in a normal test run.
const SECONDS: u64 = 30;
/// A killed broker is away for longer than its session with the controller, 9 s by default.
const AWAY: Duration = Duration::from_secs(15);
const FROZEN: Duration = Duration::from_secs(10);
/// Time after a fault in which late effects count as its own.
const CALM: Duration = Duration::from_secs(4);
/// No fault silences a partition for longer, whatever else the machine does.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// The faults of brokers in a run of mixed faults.
const BROKER_FAULTS: [BrokerFault; 5] = [
    BrokerFault::Rolling,
    BrokerFault::Kill(Victim::Any),
    BrokerFault::Kill(Victim::GroupCoordinator),
    BrokerFault::Kill(Victim::TransactionCoordinator),
    BrokerFault::Freeze,
];

/// Returns the test of the fault that the environment names, or one test for each seed.
pub fn trials() -> Vec<Trial> {
    if let Ok(name) = std::env::var("STEWARD_CHAOS_FAULT") {
        let (fault, times) = (Fault::named(&name), setting("STEWARD_CHAOS_TIMES").unwrap_or(5));
        return vec![trial(format!("cluster::{name}_{times}_times"), Need::Cluster, move || repeat(fault, times))];
    }
    let length = Duration::from_secs(setting("STEWARD_CHAOS_SECONDS").unwrap_or(SECONDS));
    let first = setting("STEWARD_CHAOS_SEED").unwrap_or(SEED);
    let seeds = first..first + setting("STEWARD_CHAOS_SEEDS").unwrap_or(1);
    let test = |seed| {
        let name = format!("cluster::whatever_breaks_each_event_counts_once_with_seed_{seed}");
        trial(name, Need::Cluster, move || mix(seed, length))
    };
    seeds.map(test).collect()
}

/// Runs one fault several times, and judges its silences.
fn repeat(fault: Fault, times: u64) {
    let session = setting("STEWARD_CHAOS_SESSION_S").map_or_else(|| fault.session(), Duration::from_secs);
    let mut drill = Drill::start(fault.name(), 1, fault.membership(), session, fault.topics());
    for time in 0..times {
        drill.cluster.elect_preferred_leaders();
        drill.pause(CALM);
        let at = now();
        match fault {
            Fault::Broker(fault) => drill.scene.break_broker(&mut drill.cluster, fault, time),
            Fault::Steward(fault) => break_steward(&mut drill.stewards, fault),
        }
        drill.stewards.wait_until_all_serve();
        drill.scene.wait_until_serving();
        drill.pause(CALM);
        let occurrence = drill.scene.occurrence(fault, at);
        drill.report.occurrences.push(occurrence);
    }
    let slowest_restore = drill.finish();
    if fault.topics() == Some(TopicFault::StateNotInSync) {
        drill.assert_missing_replicas_named();
    }
    for occurrence in &drill.report.occurrences {
        let limit = fault.limit(occurrence.yardstick, session, slowest_restore);
        assert!(occurrence.steward <= limit, "silent for {:?}, at most {limit:?}", occurrence.steward);
    }
}

/// Runs faults of brokers and faults of processes at the same time, as the seed determines.
fn mix(seed: u64, length: Duration) {
    let membership = if seed % 2 == 1 { Membership::Static } else { Membership::Dynamic };
    let mut drill = Drill::start(&seed.to_string(), seed, membership, SHORT_SESSION, None);
    let end = Deadline::after(length);
    let Drill { scene, cluster, stewards, report, .. } = &mut drill;
    let scene = &*scene;
    let (of_brokers, of_stewards) = std::thread::scope(|scope| {
        let brokers = scope.spawn(|| {
            let mut occurrences = Vec::new();
            for (time, fault) in (0..).zip(broker_faults(seed).iter().cycle()) {
                if end.passed() {
                    break;
                }
                let at = now();
                scene.break_broker(cluster, *fault, time);
                scene.wait_until_serving();
                occurrences.push(scene.occurrence(Fault::Broker(*fault), at));
            }
            occurrences
        });
        let mut random = ChaCha8Rng::seed_from_u64(!seed);
        let mut occurrences = Vec::new();
        while !end.passed() {
            pause(Duration::from_millis(random.random_range(2_000..8_000)));
            let possible = [StewardFault::Kill(Moment::Any), StewardFault::Restart(membership)];
            let fault = *possible.choose(&mut random).expect("the list is not empty");
            stewards.assert_running();
            let at = now();
            break_steward(stewards, fault);
            stewards.wait_until_all_serve();
            scene.wait_until_serving();
            occurrences.push(scene.occurrence(Fault::Steward(fault), at));
        }
        (brokers.join(), occurrences)
    });
    report.occurrences.extend(of_brokers.expect("the thread has printed its panic"));
    report.occurrences.extend(of_stewards);
    drill.finish();
    let longest = drill.report.longest();
    assert!(longest <= LONGEST_SILENCE, "silent for {longest:?}, at most {LONGEST_SILENCE:?}");
}

fn broker_faults(seed: u64) -> [BrokerFault; 5] {
    let mut faults = BROKER_FAULTS;
    faults.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    faults
}

/// So the normal test run has both in a short time, and the failover that they cause.
#[apply(offline_test)]
fn the_default_seed_freezes_a_broker_and_then_restarts_all() {
    let wanted = [BrokerFault::Freeze, BrokerFault::Rolling];
    assert_eq!(broker_faults(SEED)[..2], wanted, "{:?}", (0..).find(|seed| broker_faults(*seed)[..2] == wanted));
}

fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn break_steward(stewards: &mut Stewards, fault: StewardFault) {
    match fault {
        StewardFault::Kill(moment) => stewards.kill_and_replace(moment, Successor::Fresh),
        StewardFault::Restart(_) => stewards.kill_and_replace(Moment::Any, Successor::Same),
    }
}

// ------------------------------------------------------------------------------------------------------------- scene

/// What both kinds of faults need.
struct Scene {
    kafka: Kafka,
    names: Names,
    outputs: Watch,
    yardstick: Watch,
}

impl Scene {
    /// Breaks a broker, and repairs it. `time` is the number of earlier faults, so that each broker has its turn.
    fn break_broker(&self, cluster: &mut Cluster, fault: BrokerFault, time: u64) {
        let turn = NODES[usize::try_from(time % 3).expect("below 3")];
        match fault {
            BrokerFault::Rolling => {
                for node in NODES {
                    cluster.stop(node);
                    cluster.start(node);
                }
            }
            BrokerFault::Kill(victim) => {
                let node = self.find(cluster, victim).unwrap_or(turn);
                cluster.node(node).kill();
                pause(AWAY);
                cluster.start(node);
            }
            BrokerFault::Freeze => {
                cluster.node(turn).pause();
                pause(FROZEN);
                cluster.node(turn).resume();
                cluster.wait_until_in_sync();
            }
            BrokerFault::Topic(fault) => {
                cluster.stop(TopicFault::NODE);
                pause(fault.outage());
                cluster.start(TopicFault::NODE);
            }
        }
    }

    /// Returns the broker with this role; `None` if any will do.
    fn find(&self, cluster: &Cluster, victim: Victim) -> Option<NodeId> {
        match victim {
            Victim::Any => None,
            Victim::GroupCoordinator => Some(cluster.group_coordinator(&self.names.group)),
            Victim::TransactionCoordinator => {
                Some(cluster.transaction_coordinator(&format!("{}-{}", self.names.group, instance_name(0))))
            }
        }
    }

    /// Waits until every partition has outputs again, and so has the yardstick.
    fn wait_until_serving(&self) {
        let moment = now();
        self.outputs.wait_for_outputs_after(moment);
        self.yardstick.wait_for_outputs_after(moment);
    }

    /// Measures the silences from `from` until now.
    fn occurrence(&self, fault: Fault, from: Instant) -> Occurrence {
        let until = now();
        let (partition, steward) = self.outputs.most_silent(from, until);
        let (_, yardstick) = self.yardstick.most_silent(from, until);
        let took = until - from;
        let at_ms = unix_ms() - i64::try_from(took.as_millis()).expect("the fault has just ended");
        Occurrence { fault: fault.name(), at_ms, took, partition, steward, yardstick }
    }
}

// ------------------------------------------------------------------------------------------------------------- drill

/// A cluster, the processes, and both loads. Its order is that of the end: the processes first, the cluster last.
struct Drill {
    stewards: Stewards,
    loads: Option<[SteadyLoad; 2]>,
    scene: Scene,
    report: Report,
    cluster: Cluster,
}

impl Drill {
    fn start(name: &str, seed: u64, membership: Membership, session: Duration, topics: Option<TopicFault>) -> Drill {
        let cluster = Cluster::own();
        let (kafka, names) = (cluster.kafka(), Names::new());
        create_topics(&kafka, &names, topics);
        let yardstick_topic = format!("{}.yardstick", names.input);
        kafka.create_topic(&yardstick_topic, PARTITIONS, &[]);
        let stewards = Stewards::start(cluster.kafka(), &names, membership, session);
        let loads =
            [SteadyLoad::of_events(&kafka, &names.input, seed), SteadyLoad::of_records(&kafka, &yardstick_topic)];
        let (outputs, yardstick) = (Watch::on(&kafka, &names.state), Watch::on(&kafka, &yardstick_topic));
        let scene = Scene { kafka, names, outputs, yardstick };
        scene.wait_until_serving();
        Drill { stewards, loads: Some(loads), scene, report: Report::new(name), cluster }
    }

    fn assert_missing_replicas_named(&self) {
        let named = self.stewards.events("records_not_accepted");
        let is_cause = |line: &Value| line["topic"] == *self.scene.names.state && line["code"] == "NOT_ENOUGH_REPLICAS";
        assert!(named.iter().any(is_cause), "no line names NOT_ENOUGH_REPLICAS and the topic: {named:#?}");
    }

    fn pause(&mut self, time: Duration) {
        pause(time);
        self.stewards.assert_running();
    }

    /// Checks the outcome. Returns the time of the slowest recovery of a partition.
    fn finish(&mut self) -> Duration {
        let loads = self.loads.take().expect("only this function takes them");
        let [events, _] = loads.map(SteadyLoad::stop);
        let ledger = Ledger::of(&self.scene.kafka, &self.scene.names);
        self.stewards.stop();
        self.report.note(format!("{events} events"));
        for event in ["recovery_finished", "producer_abandoned", "partitions_lost", "transaction_committed"] {
            self.report.note(format!("{} {event}", self.stewards.count(event)));
        }
        let slowest = self.stewards.recoveries().into_iter().max().unwrap_or_default();
        self.report.note(format!("the slowest recovery of a partition took {:.1} s", slowest.as_secs_f64()));
        self.stewards.assert_clean();
        assert!(ledger.assert_exact().events() > 0, "nothing was produced");
        slowest
    }
}

/// Creates the input, and the topics that a fault needs. steward creates the others, with three replicas.
fn create_topics(kafka: &Kafka, names: &Names, fault: Option<TopicFault>) {
    // Kafka wants the same number of replicas for each partition.
    const SINGLE: [&[NodeId]; 6] = [&[TopicFault::NODE], &[1], &[2], &[1], &[2], &[1]];
    const TWO: [&[NodeId]; 6] = [&[1, 3], &[2, 3], &[1, 2], &[1, 3], &[2, 3], &[1, 2]];
    const OF_STATE: [(&str, &str); 2] = [("cleanup.policy", "compact"), ("delete.retention.ms", "315360000000")];
    if fault == Some(TopicFault::InputWithoutLeader) {
        kafka.create_topic_on(&names.input, &SINGLE, &ANY_TIMESTAMP);
    } else {
        kafka.create_input(names, PARTITIONS);
    }
    match fault {
        Some(TopicFault::StateWithoutLeader) => kafka.create_topic_on(&names.state, &SINGLE, &OF_STATE),
        Some(TopicFault::StateNotInSync) => kafka.create_topic_on(&names.state, &TWO, &OF_STATE),
        Some(TopicFault::InputWithoutLeader) | None => {}
    }
}

impl Drop for Drill {
    fn drop(&mut self) {
        if let Err(error) = self.stewards.keep_logs(&self.report.folder()) {
            eprintln!("the logs are lost: {error}");
        }
    }
}
