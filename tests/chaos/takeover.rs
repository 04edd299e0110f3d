//! How long partitions are silent when their owner changes, measured as a `read_committed` reader of the state topic
//! feels it: 3 processes, 12 partitions, a steady load. Each test prints its figures, and fails only on what no busy
//! machine explains; `docs/guarantees.md` quotes them.
//!
//! `STEWARD_TAKEOVERS=n`: so many rounds of each kind, 1 by default.

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
/// Every 20 ms: 5 for each partition.
const CHUNK: usize = 60;
const SESSION: Duration = Duration::from_secs(6);
/// Longer than the session, so that it is seen to be waited for.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// After the timeout of a transaction the tests' coordinator looks once a second.
const CLEAN_UP: Duration = Duration::from_secs(1);
/// What the group and the client need besides, as promised.
const ROUND: Duration = Duration::from_secs(2);
/// On top of what is promised, for a machine with two cores that is busy with other things.
const BUSY_MACHINE: Duration = Duration::from_secs(8);

fn rounds() -> u64 {
    setting("STEWARD_TAKEOVERS").unwrap_or(1)
}

#[apply(lone_broker_test)]
fn who_joins_and_who_leaves_silences_few_and_not_for_long() {
    let mut scene = Scene::new("joins and leaves", |setup| setup);
    for round in 0..rounds() {
        let change = scene.begins();
        scene.starts(&format!("guest-{round}"));
        scene.settles(&change);

        // Each place in turn, so that old and new ones go.
        let leaver = usize::try_from(round).expect("a few") % scene.members.len();
        let change = scene.begins();
        scene.members[leaver].sigterm();
        let mut gone = scene.members.remove(leaver);
        scene.settles(&change);
        assert_eq!(gone.wait_exit(PATIENCE), 0, "{}", gone.tail());
        gone.assert_no_errors_but(&[]);
    }
    scene.ends_within(ROUND);
}

#[apply(lone_broker_test)]
fn the_partitions_of_a_killed_process_serve_again_after_its_session() {
    let mut scene = Scene::new("kill", |setup| setup);
    for round in 0..rounds() {
        let change = scene.begins();
        scene.freezes_the_first(Transaction::None);
        scene.members.remove(0).kill9();
        scene.starts(&format!("heir-{round}"));
        scene.settles(&change);
    }
    scene.ends_within(SESSION + ROUND);
}

#[apply(lone_broker_test)]
fn those_of_a_process_killed_in_a_transaction_serve_again_after_that() {
    let mut scene = Scene::new("kill in a transaction", |setup| setup);
    for round in 0..rounds() {
        let change = scene.begins();
        scene.freezes_the_first(Transaction::Open);
        scene.members.remove(0).kill9();
        scene.starts(&format!("heir-{round}"));
        scene.settles(&change);
    }
    let blocked = scene.members.iter().flat_map(|member| member.events("recovery_blocked")).count();
    assert!(blocked > 0, "nobody said that it waited for the transaction");
    scene.ends_within(TRANSACTION_TIMEOUT + CLEAN_UP + ROUND);
}

#[apply(lone_broker_test)]
fn a_killed_process_that_comes_back_by_its_name_waits_for_no_transaction() {
    let mut scene = Scene::new("kill in a transaction, back by its name", |setup| setup);
    for _ in 0..rounds() {
        let change = scene.begins();
        scene.freezes_the_first(Transaction::Open);
        scene.first_is_killed_and_comes_back();
        scene.settles(&change);
    }
    scene.ends_within(SESSION + ROUND);
}

#[apply(lone_broker_test)]
fn a_static_member_that_comes_back_within_its_session_moves_nothing() {
    // So long that nobody who waited for it would be taken for one who did not.
    const LONG_SESSION_MS: i64 = 40_000;
    let mut scene = Scene::new("static member, back within its session", |setup| {
        setup.set("kafka.static_membership", true).set("kafka.session_timeout_ms", LONG_SESSION_MS)
    });
    for _ in 0..rounds() {
        let others: usize = scene.members[1..].iter().map(told_of_the_group).sum();
        let change = scene.begins();
        scene.first_is_killed_and_comes_back();
        let moved = scene.settles(&change);
        let others_now: usize = scene.members[1..].iter().map(told_of_the_group).sum();
        assert_eq!(others, others_now, "the others were told of a rebalance");
        assert_eq!(moved.len(), usize::try_from(PARTITIONS).expect("a few") / PROCESSES, "{moved:?} had a new owner");
    }
    scene.ends_within(ROUND);
}

/// How often a process heard of a change of the group that touched it.
fn told_of_the_group(process: &Steward) -> usize {
    ["partitions_assigned", "partitions_revoked", "partitions_lost"].map(|name| process.events(name).len()).iter().sum()
}

// ------------------------------------------------------------------------------------------------------------- scene

/// What the first member is in the middle of when it is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transaction {
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
    /// Silences of partitions that got a new owner, and of those that kept theirs.
    moved: Durations,
    kept: Durations,
    restores: Durations,
}

/// What was before a change.
struct Change {
    began: Instant,
    owners: BTreeMap<i32, u32>,
    /// How many recoveries each process had finished.
    recovered: BTreeMap<u32, usize>,
}

impl Scene {
    /// Three processes that share the partitions, under load.
    fn new(name: &'static str, change: impl FnOnce(Setup) -> Setup) -> Scene {
        let (kafka, names) = (Kafka::shared(), Names::new());
        kafka.create_input(&names, PARTITIONS);
        let workload = Workload { seed: 4, events: 5_000_000, keys: KEYS, ..Workload::default() };
        let mut events = events_of(&workload);
        // So that all keys live, and no partition is silent for want of an update that counts.
        kafka.produce(&names.input, &events.by_ref().take(BACKLOG).collect::<Vec<_>>());
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).expect("seconds");
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
        watch.until_all_spoke_after(now());
        let [moved, kept, restores] = [Durations::default(), Durations::default(), Durations::default()];
        Scene { name, kafka, names, setup, members, load, watch, moved, kept, restores }
    }

    fn starts(&mut self, instance: &str) {
        self.members.push(self.setup.clone().instance(instance).start());
    }

    fn first_is_killed_and_comes_back(&mut self) {
        self.members[0].kill9();
        self.members[0] = self.setup.clone().instance("member-0").start();
    }

    fn begins(&self) -> Change {
        let recovered = |member: &Steward| (member.pid(), member.events("recovery_finished").len());
        Change {
            began: now(),
            owners: shares(&self.members).expect("it had settled"),
            recovered: self.members.iter().map(recovered).collect(),
        }
    }

    /// Waits until the members share everything evenly again; notes the silences meanwhile, and returns which
    /// partitions have a new owner.
    fn settles(&mut self, before: &Change) -> BTreeSet<i32> {
        wait_until("the processes share the partitions again", PATIENCE, || {
            for member in &mut self.members {
                assert!(member.is_running(), "it ended; {}", member.tail());
            }
            shares(&self.members).is_some_and(|owners| owners != before.owners)
        });
        let settled = now();
        self.watch.until_all_spoke_after(settled);
        let owners = shares(&self.members).expect("nothing happens meanwhile");
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

    /// Stops the first member at a moment when a transaction of its is open, or none.
    fn freezes_the_first(&mut self, wanted: Transaction) {
        let member = &self.members[0];
        let its = member.serving();
        wait_until("the process stops where it should", PATIENCE, || {
            member.sigstop();
            // Requests that are on their way have arrived by then, and the others' transactions come and go.
            let settled = Deadline::after(Duration::from_millis(300));
            loop {
                let open = self.kafka.with_open_transactions(&self.names.state);
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

    /// Judges what came out, and how long it took.
    fn ends_within(self, promised: Duration) {
        self.load.stop();
        Ledger::of(&self.kafka, &self.names).assert_exact();
        for mut member in self.members {
            member.stop();
            member.assert_no_errors_but(&[]);
        }
        println!("{}: silence of partitions that moved: {}", self.name, self.moved);
        println!("{}: silence of partitions that stayed: {}", self.name, self.kept);
        println!("{}: restores of a partition: {}", self.name, self.restores);
        assert!(self.moved.len() > 0, "nothing moved, so that nothing is shown");
        let limit = promised + self.restores.max() + BUSY_MACHINE;
        assert!(self.moved.max() <= limit, "silent for {:?}, at most {limit:?}", self.moved.max());
        assert!(self.kept.max() <= limit, "a kept one was silent for {:?}, at most {limit:?}", self.kept.max());
    }
}

/// Who serves which partition, once each has one owner and nobody has more than one above another's.
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
    (owners.len() == usize::try_from(PARTITIONS).expect("a few") && most - least <= 1).then_some(owners)
}
