//! Partitions that move from one process to another: cleanly, by force, again and again. Each test checks the whole
//! outcome, as a `read_committed` reader sees it, and by the log that the intended handover took place.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rdkafka::producer::Producer as _;
use serde_json::Value;

use crate::faults::hanging::{open_transaction, with_state};
use crate::faults::number;
use crate::support::kafka::{Kafka, Outgoing};
use crate::support::ledger::Ledger;
use crate::support::load::{Load, events};
use crate::support::names::Names;
use crate::support::process::{Setup, Steward, partitions, wait_for_log};
use crate::support::wait::{Deadline, PATIENCE, wait_for, wait_until};

const PARTITIONS: usize = 6;
const KEYS: u32 = 500;
const SESSION_MS: u64 = 6_000;
/// A transaction timeout. The broker permits up to 15 minutes.
const LONGER_THAN_A_TEST: Duration = Duration::from_secs(600);

#[apply(lone_broker_test)]
fn a_joining_process_takes_its_share_and_the_kept_partitions_go_on() {
    let group = Group::new();
    let mut stays = group.serves("stays");
    let load = group.load();
    applies_more(&mut stays);

    let mut joins = group.setup.clone().instance("joins").start();
    wait_until("the new one serves its share", PATIENCE, || joins.serving().len() == PARTITIONS / 2);
    applies_more(&mut joins);
    load.stop();
    Ledger::of(&group.kafka, &group.names).assert_exact();

    let moved: BTreeSet<i32> = stays.events("partitions_revoked").iter().flat_map(partitions).collect();
    assert_eq!(moved, joins.serving(), "only the partitions of the new process have left");
    assert_eq!(stays.events("recovery_started").len(), PARTITIONS, "a kept partition was restored again");
    let ended = joins.events("recovery_finished").iter().map(time).max().expect("it serves");
    // By the order of the lines: the last commit before the revocation can have the same timestamp.
    let committed: BTreeSet<i32> = wait_for_log(&stays, "a revocation", PATIENCE, |lines| {
        let revoked = lines.iter().position(|line| line["event"] == "partitions_revoked")?;
        let commits = lines[revoked..].iter().filter(|line| line["event"] == "transaction_committed");
        let in_time = commits.filter(|line| number(line, "events") > 0 && time(line) <= ended);
        Some(in_time.flat_map(partitions).collect())
    });
    let kept: BTreeSet<i32> = all_partitions().difference(&moved).copied().collect();
    assert_eq!(committed, kept, "what was committed from the revocation to {ended}; {}", stays.tail());
    stop_all([stays, joins]);
}

#[apply(broker_test)]
fn a_zombie_that_wakes_up_notices_and_none_of_its_work_is_visible() {
    let transaction_timeout = Duration::from_secs(6);
    let group = Group::with_transaction_timeout(transaction_timeout);
    let mut zombie = group.serves("zombie");
    let load = group.load();
    applies_more(&mut zombie);

    group.freeze_inside_a_transaction(&zombie);
    let silence = Deadline::after(Duration::from_millis(SESSION_MS) + transaction_timeout + Duration::from_secs(2));
    let mut heir = group.setup.clone().instance("heir").start();
    wait_until("others have taken over", PATIENCE, || heir.serving() == all_partitions());
    applies_more(&mut heir);
    wait_until("the zombie was away for long enough", PATIENCE, || silence.passed());

    zombie.sigcont();

    let lost = zombie.wait_for_event("partitions_lost", PATIENCE);
    assert_eq!(partitions(&lost), all_partitions(), "{lost}");
    wait_until("it is back as an ordinary member", PATIENCE, || {
        assert!(zombie.is_running(), "it ended; {}", zombie.tail());
        zombie.serving().len() == PARTITIONS / 2
    });
    load.stop();
    Ledger::of(&group.kafka, &group.names).assert_exact();
    stop_all([zombie, heir]);
}

/// Time in which the process did not run does not count as time without progress.
#[apply(broker_test)]
fn a_process_suspended_for_longer_than_the_watchdog_limit_goes_on() {
    const STALL_MS: u64 = 7_000;
    let group = Group::with_transaction_timeout(Duration::from_secs(6));
    let setup = group.setup.clone().set("health.stall_timeout_ms", i64::try_from(STALL_MS).expect("seconds"));
    let mut sleeper = setup.instance("sleeper").start();
    wait_until("it serves everything", PATIENCE, || sleeper.serving() == all_partitions());
    let load = group.load();
    applies_more(&mut sleeper);

    group.freeze_inside_a_transaction(&sleeper);
    pass(Duration::from_millis(STALL_MS + 2_000));
    sleeper.sigcont();

    applies_more(&mut sleeper);
    load.stop();
    Ledger::of(&group.kafka, &group.names).assert_exact();
    assert_eq!(sleeper.events("progress_stalled"), Vec::<Value>::new());
    stop_all([sleeper]);
}

/// The coordinator would end the transaction long after the test.
#[apply(broker_test)]
fn after_an_owner_is_killed_inside_a_transaction_its_heir_ends_that_transaction_and_serves() {
    let group = Group::with_transaction_timeout(LONGER_THAN_A_TEST);
    let mut owner = group.serves("owner");
    let load = group.load();
    applies_more(&mut owner);

    let open = group.freeze_inside_a_transaction(&owner);
    owner.kill9();
    let mut heir = group.setup.clone().instance("heir").start();

    let fenced = heir.wait_for_event("dead_owner_fenced", PATIENCE);
    let partition = i32::try_from(number(&fenced, "partition")).expect("the number of a partition");
    assert!(open.contains(&partition), "partitions {open:?} were open: {fenced}");
    assert_eq!(fenced["instance"], "owner", "{fenced}");
    assert_eq!(fenced["transactional_id"], format!("{}-owner", group.names.group), "{fenced}");
    wait_until("it serves", PATIENCE, || heir.serving() == all_partitions());
    assert_eq!(heir.events("dead_owner_fenced").len(), 1, "once for all partitions; {}", heir.tail());
    applies_more(&mut heir);
    load.stop();
    Ledger::of(&group.kafka, &group.names).assert_exact();
    owner.assert_no_errors_but(&[]);
    stop_all([heir]);
}

/// An heir takes the owner for dead, ends its transaction, and serves its partitions.
#[apply(broker_test)]
fn an_owner_that_wakes_up_after_its_transaction_was_ended_rejoins() {
    let group = Group::with_transaction_timeout(LONGER_THAN_A_TEST);
    let mut sleeper = group.serves("sleeper");
    let load = group.load();
    applies_more(&mut sleeper);

    group.freeze_inside_a_transaction(&sleeper);
    let mut heir = group.setup.clone().instance("heir").start();
    heir.wait_for_event("dead_owner_fenced", PATIENCE);
    wait_until("the heir serves", PATIENCE, || heir.serving() == all_partitions());
    applies_more(&mut heir);

    sleeper.sigcont();

    // A call that waited longer than usual is in doubt, whatever its answer was.
    wait_until("it finds itself fenced", PATIENCE, || {
        !sleeper.events("taken_for_dead").is_empty() || !sleeper.events("transaction_in_doubt").is_empty()
    });
    let lost = sleeper.wait_for_event("partitions_lost", PATIENCE);
    assert_eq!(partitions(&lost), all_partitions(), "{lost}");
    wait_until("it is back as an ordinary member", PATIENCE, || {
        assert!(sleeper.is_running(), "it ended; {}", sleeper.tail());
        sleeper.serving().len() == PARTITIONS / 2
    });
    load.stop();
    Ledger::of(&group.kafka, &group.names).assert_exact();
    stop_all([sleeper, heir]);
}

/// Each guest causes two rebalances. `STEWARD_GUESTS` overrides the number of guests.
#[apply(broker_test)]
fn repeated_joins_and_leaves_change_no_outcome_and_leak_nothing() {
    let count = std::env::var("STEWARD_GUESTS").map_or(10, |text| text.parse().expect("STEWARD_GUESTS is a number"));
    let mut random = ChaCha8Rng::seed_from_u64(20);
    let group = Group::new();
    let mut stays = group.serves("stays");
    let load = group.load();
    applies_more(&mut stays);

    // After these guests, everything that is allocated once exists.
    let first = count / 4 + 1;
    let mut helped = guests_come_and_go(&group, &mut random, 0..first);
    let before = Footprint::when_all_is_owned(&mut stays);
    helped += guests_come_and_go(&group, &mut random, first..count);
    let after = Footprint::when_all_is_owned(&mut stays);
    load.stop();
    Ledger::of(&group.kafka, &group.names).assert_exact();

    println!("{helped} of {count} guests served; {before:?} and then {after:?}");
    assert!(helped >= count / 4, "only {helped} of {count} guests served anything");
    assert!(after.threads <= before.threads + 1, "threads are left over: {before:?}, then {after:?}");
    assert!(after.rss_bytes < before.rss_bytes + (8 << 20), "it has grown: {before:?}, then {after:?}");
    stop_all([stays]);
}

/// Processes join and leave at random moments, at most three at a time. Returns how many of them served anything.
fn guests_come_and_go(group: &Group, random: &mut ChaCha8Rng, numbers: Range<usize>) -> usize {
    let mut remaining = numbers;
    let mut guests: Vec<Steward> = Vec::new();
    let mut leaving: Vec<Steward> = Vec::new();
    while !(remaining.is_empty() && guests.is_empty()) {
        let is_full = guests.len() == 3;
        if !guests.is_empty() && (remaining.is_empty() || is_full || random.random_range(0..2) == 0) {
            let mut guest = guests.remove(random.random_range(0..guests.len()));
            // Half of them leave while they serve, the others at any moment.
            if random.random_range(0..2) == 0 {
                guest.wait_for_event("recovery_finished", PATIENCE);
            }
            guest.sigterm();
            leaving.push(guest);
        } else {
            let number = remaining.next().expect("one is left");
            guests.push(group.setup.clone().instance(&format!("guest-{number}")).start());
        }
        pass(Duration::from_millis(random.random_range(100..1_500)));
    }
    for guest in &mut leaving {
        assert_eq!(guest.wait_exit(PATIENCE), 0, "{}", guest.tail());
        guest.assert_no_errors_but(&[]);
    }
    leaving.iter().filter(|guest| !guest.events("recovery_finished").is_empty()).count()
}

#[apply(broker_test)]
fn a_partition_revoked_before_it_is_restored_can_come_straight_back() {
    let (kafka, names, setup) = with_state();
    // Nothing can be restored while these are open.
    let open = [0, 1].map(|partition| open_transaction(&kafka, &names, partition));
    let mut stays = setup.clone().instance("stays").start();
    stays.wait_for_event_where("partitions_assigned", PATIENCE, |line| number(line, "owned") == 2);

    let mut guest = setup.instance("guest").start();
    guest.wait_for_event_where("partitions_assigned", PATIENCE, |line| number(line, "owned") == 1);
    let left = stays.wait_for_event("partitions_revoked", PATIENCE);
    guest.sigterm();
    let code = guest.wait_exit(PATIENCE);
    let back = stays.wait_for_event_where("partitions_assigned", PATIENCE, |line| number(line, "owned") == 2);
    assert_eq!(partitions(&back), partitions(&left), "the same one comes back");
    for process in [&stays, &guest] {
        assert!(process.events("recovery_finished").is_empty(), "it was restored; {}", process.tail());
    }

    for producer in &open {
        producer.abort_transaction(PATIENCE).expect("an open transaction can be aborted");
    }

    let further: Vec<Outgoing> = events(2, 500, 50).collect();
    kafka.produce(&names.input, &further);
    Ledger::of(&kafka, &names).assert_exact();
    assert_eq!(code, 0, "{}", guest.tail());
    assert_eq!(stays.events("recovery_started").len(), 3, "{}", stays.tail());
    assert_eq!(stays.events("recovery_finished").len(), 2, "the interrupted recovery has ended, too");
    guest.assert_no_errors_but(&[]);
    stop_all([stays]);
}

// ----------------------------------------------------------------------------------------------------------- helpers

/// Topics with some state, and the setup of their processes.
struct Group {
    kafka: Kafka,
    names: Names,
    setup: Setup,
}

impl Group {
    fn new() -> Group {
        Group::with_transaction_timeout(Duration::from_secs(10))
    }

    fn with_transaction_timeout(timeout: Duration) -> Group {
        let (kafka, names) = (Kafka::shared(), Names::new());
        kafka.create_input(&names, i32::try_from(PARTITIONS).expect("a few"));
        kafka.produce(&names.input, &events(1, 5_000, KEYS).collect::<Vec<_>>());
        let setup = Setup::new(&kafka, &names)
            .set("kafka.session_timeout_ms", i64::try_from(SESSION_MS).expect("seconds"))
            .set("kafka.transaction_timeout_ms", i64::try_from(timeout.as_millis()).expect("seconds"))
            .set("log.level", "info,steward::commit=debug")
            .set("log.stats_interval_ms", 200);
        Group { kafka, names, setup }
    }

    /// A process that serves every partition.
    fn serves(&self, instance: &str) -> Steward {
        let process = self.setup.clone().instance(instance).start();
        wait_until("it serves everything", PATIENCE, || process.serving() == all_partitions());
        process
    }

    fn load(&self) -> Load {
        Load::on(&self.kafka, &self.names.input, 2, KEYS)
    }

    /// Suspends the only owner while it has an open transaction whose end is not being sent. Returns the partitions of
    /// the state topic in which the transaction is open.
    fn freeze_inside_a_transaction(&self, owner: &Steward) -> Vec<i32> {
        wait_for("the process is suspended inside a transaction", PATIENCE, || {
            owner.sigstop();
            let settled = Deadline::after(Duration::from_millis(300));
            loop {
                let open = self.kafka.with_open_transactions(&self.names.state);
                if open.is_empty() {
                    owner.sigcont();
                    return None;
                }
                if settled.passed() {
                    return Some(open);
                }
            }
        })
    }
}

/// Resources of a process.
#[derive(Debug, Clone, Copy)]
struct Footprint {
    threads: u64,
    rss_bytes: u64,
}

impl Footprint {
    /// Takes the minimum of a few stats, because memory of a restore that has just ended is not returned at once.
    fn when_all_is_owned(process: &mut Steward) -> Footprint {
        const SAMPLES: usize = 5;
        wait_until("everything is back", PATIENCE, || process.serving() == all_partitions());
        applies_more(process);
        let known = process.events("stats").len();
        wait_until("a few more stats", PATIENCE, || process.events("stats").len() >= known + SAMPLES);
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).expect("Linux, and it runs");
        let threads = status.lines().find_map(|line| line.strip_prefix("Threads:")).expect("Linux has it");
        let rss_bytes = process.events("stats").iter().skip(known).map(|line| number(line, "memory_rss_bytes")).min();
        Footprint {
            threads: threads.trim().parse().expect("a number"),
            rss_bytes: rss_bytes.expect("they were waited for"),
        }
    }
}

fn all_partitions() -> BTreeSet<i32> {
    (0..).take(PARTITIONS).collect()
}

/// The timestamp of a line: RFC 3339 in UTC with milliseconds, so that it compares as text.
fn time(line: &Value) -> String {
    line["timestamp"].as_str().expect("every line has one").to_owned()
}

/// Waits until the process has applied further events.
fn applies_more(process: &mut Steward) {
    let applied = process.events("stats").last().map_or(0, |line| number(line, "applied_total"));
    wait_until("more is applied", PATIENCE, || {
        assert!(process.is_running(), "it ended; {}", process.tail());
        process.events("stats").last().is_some_and(|line| number(line, "applied_total") > applied + 100)
    });
}

/// Lets time pass. The time is what the test is about, so there is no condition to wait for.
fn pass(time: Duration) {
    let moment = Deadline::after(time);
    while !moment.passed() {
        std::thread::sleep(moment.left());
    }
}

fn stop_all<const N: usize>(processes: [Steward; N]) {
    for mut process in processes {
        process.stop();
        process.assert_no_errors_but(&[]);
    }
}
