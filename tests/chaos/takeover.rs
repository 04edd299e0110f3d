//! Measures how long partitions are silent when their owner changes, as a `read_committed` reader of the state topic
//! observes it: 3 processes, 12 partitions, a steady load. Each test prints its figures, which `docs/guarantees.md`
//! quotes. It fails only if a busy machine cannot explain the silence.
//!
//! `STEWARD_TAKEOVERS=n`: the number of rounds of each kind, 1 by default.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use steward::testing::workload::Workload;

use crate::setting;
use crate::silence::{Durations, Watch};
use crate::support::kafka::Kafka;
use crate::support::ledger::{Ledger, wait_until_committed};
use crate::support::load::{Load, events_of};
use crate::support::names::Names;
use crate::support::process::{Setup, Steward};
use crate::support::wait::{Deadline, PATIENCE, now, wait_until};

const PROCESSES: usize = 3;
const PARTITIONS: i32 = 12;
const KEYS: u32 = 3_000;
/// Enough to create every key.
const BACKLOG: usize = 30_000;
/// Events per 20 ms: 5 for each partition.
const CHUNK: usize = 60;
const SESSION: Duration = Duration::from_secs(6);
/// So long that a wait for the transaction is clearly visible.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// The guaranteed limit for the group and the client.
const ROUND: Duration = Duration::from_secs(2);
/// Additional time for a busy machine with two cores.
const BUSY_MACHINE: Duration = Duration::from_secs(8);

fn rounds() -> u64 {
    setting("STEWARD_TAKEOVERS").unwrap_or(1)
}

#[apply(lone_broker_test)]
fn joins_and_leaves_silence_few_partitions_and_briefly() {
    let mut scene = Scene::new("joins and leaves", |setup| setup);
    for round in 0..rounds() {
        let change = scene.before_change();
        scene.start(&format!("guest-{round}"));
        scene.wait_until_settled(&change);

        // A different index in each round, so that old and new processes leave.
        let leaver = usize::try_from(round).expect("the number of rounds is small") % scene.members.len();
        let change = scene.before_change();
        scene.members[leaver].sigterm();
        let mut gone = scene.members.remove(leaver);
        scene.wait_until_settled(&change);
        assert_eq!(gone.wait_exit(PATIENCE), 0, "{}", gone.tail());
        gone.assert_no_errors_but(&[]);
    }
    scene.assert_silence_within(ROUND);
}

#[apply(lone_broker_test)]
fn the_partitions_of_a_killed_process_serve_again_after_its_session() {
    let mut scene = Scene::new("kill", |setup| setup);
    for round in 0..rounds() {
        let change = scene.before_change();
        freeze(&scene.members[0], &scene.kafka, &scene.names.state, Transaction::None);
        scene.members.remove(0).kill9();
        scene.start(&format!("successor-{round}"));
        scene.wait_until_settled(&change);
    }
    scene.assert_silence_within(SESSION + ROUND);
}

#[apply(lone_broker_test)]
fn the_partitions_of_a_process_killed_in_a_transaction_serve_again_after_its_session() {
    let mut scene = Scene::new("kill in a transaction", |setup| setup);
    for round in 0..rounds() {
        let change = scene.before_change();
        freeze(&scene.members[0], &scene.kafka, &scene.names.state, Transaction::Open);
        scene.members.remove(0).kill9();
        scene.start(&format!("successor-{round}"));
        scene.wait_until_settled(&change);
    }
    let ended = scene.members.iter().flat_map(|member| member.events("dead_owner_fenced")).count();
    assert!(ended > 0, "no process logged that it ended the transaction");
    scene.assert_silence_within(SESSION + ROUND);
}

#[apply(lone_broker_test)]
fn a_killed_process_that_restarts_with_its_name_waits_for_no_transaction() {
    let mut scene = Scene::new("kill in a transaction, back by its name", |setup| setup);
    for _ in 0..rounds() {
        let change = scene.before_change();
        freeze(&scene.members[0], &scene.kafka, &scene.names.state, Transaction::Open);
        scene.kill_and_restart_the_first();
        scene.wait_until_settled(&change);
    }
    scene.assert_silence_within(SESSION + ROUND);
}

#[apply(lone_broker_test)]
fn a_static_member_that_restarts_within_its_session_moves_no_partition() {
    // So long that a wait for the session is clearly visible.
    const LONG_SESSION_MS: i64 = 40_000;
    let mut scene = Scene::new("static member, back within its session", |setup| {
        setup.set("kafka.static_membership", true).set("kafka.session_timeout_ms", LONG_SESSION_MS)
    });
    for _ in 0..rounds() {
        let others: usize = scene.members[1..].iter().map(rebalance_events).sum();
        let change = scene.before_change();
        scene.kill_and_restart_the_first();
        let moved = scene.wait_until_settled(&change);
        let others_now: usize = scene.members[1..].iter().map(rebalance_events).sum();
        assert_eq!(others, others_now, "the other processes logged a rebalance");
        assert_eq!(
            moved.len(),
            usize::try_from(PARTITIONS).expect("the number is small") / PROCESSES,
            "{moved:?} had a new owner"
        );
    }
    scene.assert_silence_within(ROUND);
}

/// Returns the number of logged rebalances that changed the partitions of a process.
fn rebalance_events(process: &Steward) -> usize {
    ["partitions_assigned", "partitions_revoked", "partitions_lost"].map(|name| process.events(name).len()).iter().sum()
}

// ------------------------------------------------------------------------------------------------------------- scene

/// The state of a process's transaction when it is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transaction {
    None,
    Open,
}

struct Scene {
    name: &'static str,
    kafka: Kafka,
    names: Names,
    setup: Setup,
    members: Vec<Steward>,
    load: Load,
    watch: Watch,
    /// Silences of partitions with a new owner.
    moved: Durations,
    /// Silences of partitions that kept their owner.
    kept: Durations,
    restores: Durations,
}

/// The state before a change of the group.
struct Change {
    began: Instant,
    owners: BTreeMap<i32, u32>,
    /// Number of finished recoveries of each process.
    recovered: BTreeMap<u32, usize>,
}

impl Scene {
    /// Starts three processes that share the partitions, and a load.
    fn new(name: &'static str, change: impl FnOnce(Setup) -> Setup) -> Scene {
        let (kafka, names) = (Kafka::shared(), Names::new());
        kafka.create_input(&names, PARTITIONS);
        let workload = Workload { seed: 4, events: 5_000_000, keys: KEYS, ..Workload::default() };
        let mut events = events_of(&workload);
        // Creates all keys, so that no partition is silent because its updates are rejected.
        kafka.produce(&names.input, &events.by_ref().take(BACKLOG).collect::<Vec<_>>());
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).expect("milliseconds fit into 64 bits");
        let setup = Setup::new(&kafka, &names)
            .set("kafka.session_timeout_ms", millis(SESSION))
            .set("kafka.transaction_timeout_ms", millis(TRANSACTION_TIMEOUT))
            .set("log.stats_interval_ms", 100);
        let setup = change(setup);
        let members: Vec<Steward> =
            (0..PROCESSES).map(|number| setup.clone().instance(&format!("member-{number}")).start()).collect();
        wait_until("the processes share the partitions", PATIENCE, || shares(&members).is_some());
        wait_until_committed(&kafka, &names, PATIENCE);
        let load = Load::of(&kafka, &names.input, CHUNK, events);
        let watch = Watch::on(&kafka, &names.state);
        watch.wait_for_outputs_after(now());
        let [moved, kept, restores] = [Durations::default(), Durations::default(), Durations::default()];
        Scene { name, kafka, names, setup, members, load, watch, moved, kept, restores }
    }

    fn start(&mut self, instance: &str) {
        self.members.push(self.setup.clone().instance(instance).start());
    }

    fn kill_and_restart_the_first(&mut self) {
        self.members[0].kill9();
        self.members[0] = self.setup.clone().instance("member-0").start();
    }

    fn before_change(&self) -> Change {
        let recovered = |member: &Steward| (member.pid(), member.events("recovery_finished").len());
        Change {
            began: now(),
            owners: shares(&self.members).expect("the group has settled"),
            recovered: self.members.iter().map(recovered).collect(),
        }
    }

    /// Waits until the members share the partitions evenly again. Records the silences, and returns the partitions with
    /// a new owner.
    fn wait_until_settled(&mut self, before: &Change) -> BTreeSet<i32> {
        wait_until("the processes share the partitions again", PATIENCE, || {
            for member in &mut self.members {
                assert!(member.is_running(), "a process ended; {}", member.tail());
            }
            shares(&self.members).is_some_and(|owners| owners != before.owners)
        });
        let settled = now();
        self.watch.wait_for_outputs_after(settled);
        let owners = shares(&self.members).expect("the group has settled");
        let mut moved = BTreeSet::new();
        for (partition, owner) in &owners {
            let silence = self.watch.longest_silence(*partition, before.began, settled);
            if before.owners[partition] == *owner {
                self.kept.push(silence);
            } else {
                self.moved.push(silence);
                moved.insert(*partition);
            }
        }
        for member in &self.members {
            let known = before.recovered.get(&member.pid()).copied().unwrap_or(0);
            for recovery in member.events("recovery_finished").iter().skip(known) {
                self.restores.push(Duration::from_millis(recovery["took_ms"].as_u64().expect("a number")));
            }
        }
        moved
    }

    /// Checks the outcome and the silences.
    fn assert_silence_within(self, guaranteed: Duration) {
        self.load.stop();
        Ledger::of(&self.kafka, &self.names).assert_exact();
        for mut member in self.members {
            member.stop();
            member.assert_no_errors_but(&[]);
        }
        println!("{}: silence of partitions that moved: {}", self.name, self.moved);
        println!("{}: silence of partitions that stayed: {}", self.name, self.kept);
        println!("{}: restores of a partition: {}", self.name, self.restores);
        assert!(self.moved.len() > 0, "no partition moved, so the test proves nothing");
        let limit = guaranteed + self.restores.max() + BUSY_MACHINE;
        assert!(self.moved.max() <= limit, "silent for {:?}, at most {limit:?}", self.moved.max());
        assert!(self.kept.max() <= limit, "a kept partition was silent for {:?}, at most {limit:?}", self.kept.max());
    }
}

/// Freezes a process while it has an open transaction, or while it has none.
pub fn freeze(member: &Steward, kafka: &Kafka, state_topic: &str, wanted: Transaction) {
    let its = member.serving();
    wait_until("the process is frozen in the wanted state", PATIENCE, || {
        member.sigstop();
        // Within this time, requests in flight arrive, and transactions of the other processes end.
        let settled = Deadline::after(Duration::from_millis(300));
        loop {
            let open = kafka.with_open_transactions(state_topic);
            let is_open = open.iter().any(|partition| its.contains(partition));
            if is_open != (wanted == Transaction::Open) {
                member.sigcont();
                return false;
            }
            if settled.passed() {
                return true;
            }
        }
    });
}

/// Returns the owner of each partition, if each partition has one owner and the shares differ by at most one.
fn shares(members: &[Steward]) -> Option<BTreeMap<i32, u32>> {
    let mut owners = BTreeMap::new();
    let (mut least, mut most) = (usize::MAX, 0);
    for member in members {
        let serving = member.serving();
        (least, most) = (least.min(serving.len()), most.max(serving.len()));
        for partition in serving {
            if owners.insert(partition, member.pid()).is_some() {
                return None;
            }
        }
    }
    (owners.len() == usize::try_from(PARTITIONS).expect("the number is small") && most - least <= 1).then_some(owners)
}
