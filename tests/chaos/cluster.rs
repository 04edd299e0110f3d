//! Two processes on a cluster of three brokers, which are restarted, killed and frozen one at a time, while events flow.
//!
//! The yardstick runs beside them in the same run: a plain idempotent producer, and a reader, on a topic of their own.
//! Its longest silence is what the cluster itself costs. The silence of steward is the longest time between two outputs
//! of a partition that a `read_committed` reader of the state topic sees, while each partition has ten events a second.
//!
//! `cargo test --test chaos -- cluster` runs mixed faults of a seed, and needs Java.
//!
//! - `STEWARD_CHAOS_SEED`, `STEWARD_CHAOS_SEEDS`, `STEWARD_CHAOS_SECONDS`: as for the other schedules.
//! - `STEWARD_CHAOS_FAULT=name`: only this fault, one after the other, in calm conditions; see [`Fault::name`].
//! - `STEWARD_CHAOS_TIMES=n`: the number of times, 5 by default.
//!
//! Each run prints its table, and writes it with the logs of all processes to `target/tmp/chaos-cluster-*`. A run fails if
//! the outcome is not exact, a process ends by itself, a write was repaired, or a line has the level ERROR. The limits
//! for silences apply only to a single fault, which has the machine for itself.

mod load;
mod report;
mod stewards;

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use self::load::{PARTITIONS, SteadyLoad};
use self::report::{Occurrence, Report};
use self::stewards::{Membership, Moment, SESSION, Stewards, Successor, instance_name};
use crate::setting;
use crate::silence::Watch;
use crate::support::broker::{Cluster, NODES, Need, NodeId, trial};
use crate::support::kafka::Kafka;
use crate::support::ledger::Ledger;
use crate::support::names::Names;
use crate::support::wait::{Deadline, now, unix_ms};

/// The duration of the mixed faults in a normal test run.
const SECONDS: u64 = 40;
/// A killed broker is away for longer than its session with the controller, 9 s by default.
const AWAY: Duration = Duration::from_secs(15);
const FROZEN: Duration = Duration::from_secs(10);
/// Time after a fault in which late effects count as its own.
const CALM: Duration = Duration::from_secs(4);
/// No fault silences a partition for longer, whatever else the machine does.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);
/// Additional time for a busy machine with two cores.
const BUSY_MACHINE: Duration = Duration::from_secs(8);

/// What happens to a broker or a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Stops each broker cleanly and starts it again, one after the other.
    Rolling,
    KillBroker,
    KillGroupCoordinator,
    KillTransactionCoordinator,
    FreezeBroker,
    /// Kills a process. Another one starts at once, with another name.
    KillSteward,
    KillStewardInTransaction,
    /// Kills a process, and starts it again at once, with its name.
    RestartSteward,
    RestartStaticSteward,
}

const BROKER_FAULTS: [Fault; 5] = [
    Fault::Rolling,
    Fault::KillBroker,
    Fault::KillGroupCoordinator,
    Fault::KillTransactionCoordinator,
    Fault::FreezeBroker,
];
const STEWARD_FAULTS: [Fault; 4] =
    [Fault::KillSteward, Fault::KillStewardInTransaction, Fault::RestartSteward, Fault::RestartStaticSteward];

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Fault::Rolling => "rolling",
            Fault::KillBroker => "kill-broker",
            Fault::KillGroupCoordinator => "kill-group-coordinator",
            Fault::KillTransactionCoordinator => "kill-transaction-coordinator",
            Fault::FreezeBroker => "freeze-broker",
            Fault::KillSteward => "kill-steward",
            Fault::KillStewardInTransaction => "kill-steward-in-transaction",
            Fault::RestartSteward => "restart-steward",
            Fault::RestartStaticSteward => "restart-static-steward",
        }
    }

    fn named(name: &str) -> Fault {
        let all = BROKER_FAULTS.iter().chain(&STEWARD_FAULTS);
        let found = all.clone().find(|fault| fault.name() == name).copied();
        found.unwrap_or_else(|| {
            panic!("no fault {name}; there are {:?}", all.map(|fault| fault.name()).collect::<Vec<_>>())
        })
    }

    /// Returns the greatest silence that the guarantees allow, without the restore.
    fn limit(self, yardstick: Duration) -> Duration {
        match self {
            Fault::Rolling => yardstick + Duration::from_secs(2),
            Fault::KillBroker
            | Fault::KillGroupCoordinator
            | Fault::KillTransactionCoordinator
            | Fault::FreezeBroker => yardstick + Duration::from_secs(3),
            Fault::KillSteward | Fault::KillStewardInTransaction | Fault::RestartSteward => {
                SESSION + Duration::from_secs(2)
            }
            Fault::RestartStaticSteward => Duration::from_secs(2),
        }
    }
}

/// Returns the test of the fault that the environment names, or one test for each seed.
pub fn trials(first_seed: u64, seeds: u64) -> Vec<Trial> {
    if let Ok(name) = std::env::var("STEWARD_CHAOS_FAULT") {
        let (fault, times) = (Fault::named(&name), setting("STEWARD_CHAOS_TIMES").unwrap_or(5));
        return vec![trial(format!("cluster::{name}_{times}_times"), Need::Cluster, move || repeat(fault, times))];
    }
    let length = Duration::from_secs(setting("STEWARD_CHAOS_SECONDS").unwrap_or(SECONDS));
    let seeds = first_seed..first_seed + seeds;
    let test = |seed| {
        let name = format!("cluster::whatever_breaks_each_event_counts_once_with_seed_{seed}");
        trial(name, Need::Cluster, move || mix(seed, length))
    };
    seeds.map(test).collect()
}

/// Runs one fault several times, and judges its silences.
fn repeat(fault: Fault, times: u64) {
    let membership = if fault == Fault::RestartStaticSteward { Membership::Static } else { Membership::Dynamic };
    let mut drill = Drill::start(fault.name(), 1, membership);
    for time in 0..times {
        drill.cluster.elect_preferred_leaders();
        drill.pause(CALM);
        let at = now();
        if BROKER_FAULTS.contains(&fault) {
            drill.scene.break_broker(&mut drill.cluster, fault, time);
        } else {
            break_steward(&mut drill.stewards, fault);
        }
        drill.stewards.wait_until_all_serve();
        drill.scene.wait_until_serving();
        drill.pause(CALM);
        let occurrence = drill.scene.occurrence(fault, at);
        drill.report.occurrences.push(occurrence);
    }
    let slowest_restore = drill.finish();
    for occurrence in &drill.report.occurrences {
        let limit = fault.limit(occurrence.yardstick) + slowest_restore + BUSY_MACHINE;
        assert!(occurrence.steward <= limit, "silent for {:?}, at most {limit:?}", occurrence.steward);
    }
}

/// Runs faults of brokers and faults of processes at the same time, as the seed determines.
fn mix(seed: u64, length: Duration) {
    let membership = if seed % 2 == 1 { Membership::Static } else { Membership::Dynamic };
    let mut drill = Drill::start(&seed.to_string(), seed, membership);
    let end = Deadline::after(length);
    let Drill { scene, cluster, stewards, report, .. } = &mut drill;
    let scene = &*scene;
    let (of_brokers, of_stewards) = std::thread::scope(|scope| {
        let brokers = scope.spawn(|| {
            let mut faults = BROKER_FAULTS;
            faults.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
            let mut occurrences = Vec::new();
            for (time, fault) in (0..).zip(faults.iter().cycle()) {
                if end.passed() {
                    break;
                }
                let at = now();
                scene.break_broker(cluster, *fault, time);
                scene.wait_until_serving();
                occurrences.push(scene.occurrence(*fault, at));
            }
            occurrences
        });
        let mut random = ChaCha8Rng::seed_from_u64(!seed);
        let mut occurrences = Vec::new();
        while !end.passed() {
            pause(Duration::from_millis(random.random_range(2_000..8_000)));
            let possible = [Fault::KillSteward, Fault::RestartSteward];
            let fault = *possible.choose(&mut random).expect("the list is not empty");
            stewards.assert_running();
            let at = now();
            break_steward(stewards, fault);
            stewards.wait_until_all_serve();
            scene.wait_until_serving();
            occurrences.push(scene.occurrence(fault, at));
        }
        (brokers.join(), occurrences)
    });
    report.occurrences.extend(of_brokers.expect("the thread has printed its panic"));
    report.occurrences.extend(of_stewards);
    drill.finish();
}

fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn break_steward(stewards: &mut Stewards, fault: Fault) {
    match fault {
        Fault::KillSteward => stewards.kill_and_replace(Moment::Any, Successor::Fresh),
        Fault::KillStewardInTransaction => stewards.kill_and_replace(Moment::InTransaction, Successor::Fresh),
        Fault::RestartSteward | Fault::RestartStaticSteward => {
            stewards.kill_and_replace(Moment::Any, Successor::Same);
        }
        Fault::Rolling
        | Fault::KillBroker
        | Fault::KillGroupCoordinator
        | Fault::KillTransactionCoordinator
        | Fault::FreezeBroker => unreachable!("a fault of a broker"),
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
    fn break_broker(&self, cluster: &mut Cluster, fault: Fault, time: u64) {
        let turn = NODES[usize::try_from(time % 3).expect("below 3")];
        match fault {
            Fault::Rolling => {
                for node in NODES {
                    cluster.stop(node);
                    cluster.start(node);
                }
            }
            Fault::KillBroker => kill(cluster, turn),
            Fault::KillGroupCoordinator => {
                let node = cluster.group_coordinator(&self.names.group);
                kill(cluster, node);
            }
            Fault::KillTransactionCoordinator => {
                let transactional_id = format!("{}-{}", self.names.group, instance_name(0));
                let node = cluster.transaction_coordinator(&transactional_id);
                kill(cluster, node);
            }
            Fault::FreezeBroker => {
                cluster.node(turn).pause();
                pause(FROZEN);
                cluster.node(turn).resume();
                cluster.wait_until_in_sync();
            }
            Fault::KillSteward
            | Fault::KillStewardInTransaction
            | Fault::RestartSteward
            | Fault::RestartStaticSteward => unreachable!("a fault of a process"),
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

fn kill(cluster: &mut Cluster, node: NodeId) {
    cluster.node(node).kill();
    pause(AWAY);
    cluster.start(node);
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
    fn start(name: &str, seed: u64, membership: Membership) -> Drill {
        let cluster = Cluster::own();
        let (kafka, names) = (cluster.kafka(), Names::new());
        kafka.create_input(&names, PARTITIONS);
        let yardstick_topic = format!("{}.yardstick", names.input);
        kafka.create_topic(&yardstick_topic, PARTITIONS, &[]);
        let stewards = Stewards::start(cluster.kafka(), &names, membership);
        let loads =
            [SteadyLoad::of_events(&kafka, &names.input, seed), SteadyLoad::of_records(&kafka, &yardstick_topic)];
        let (outputs, yardstick) = (Watch::on(&kafka, &names.state), Watch::on(&kafka, &yardstick_topic));
        let scene = Scene { kafka, names, outputs, yardstick };
        scene.wait_until_serving();
        Drill { stewards, loads: Some(loads), scene, report: Report::new(name), cluster }
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
        let longest = self.report.longest();
        assert!(longest <= LONGEST_SILENCE, "silent for {longest:?}, at most {LONGEST_SILENCE:?}");
        slowest
    }
}

impl Drop for Drill {
    fn drop(&mut self) {
        if let Err(error) = self.stewards.keep_logs(&self.report.folder()) {
            eprintln!("the logs are lost: {error}");
        }
    }
}
