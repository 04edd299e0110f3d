//! Partitions that go from one process to another: cleanly, by force, again and again. What is judged is always
//! the whole outcome, as a `read_committed` reader sees it; the log tells that the handover was the one that was meant.

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

#[apply(lone_broker_test)]
fn a_process_that_joins_takes_what_must_move_and_the_rest_goes_on() {
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
    assert_eq!(moved, joins.serving(), "only what the new one serves has left");
    assert_eq!(stays.events("recovery_started").len(), PARTITIONS, "a kept partition was restored again");
    let ended = joins.events("recovery_finished").iter().map(time).max().expect("it serves");
    // By the order of the lines: the last commit before the revocation can be of the same millisecond.
    let meanwhile: BTreeSet<i32> = wait_for_log(&stays, "a revocation", PATIENCE, |lines| {
        let revoked = lines.iter().position(|line| line["event"] == "partitions_revoked")?;
        let commits = lines[revoked..].iter().filter(|line| line["event"] == "transaction_committed");
        let in_time = commits.filter(|line| number(line, "events") > 0 && time(line) <= ended);
        Some(in_time.flat_map(partitions).collect())
    });
    let kept: BTreeSet<i32> = all_partitions().difference(&moved).copied().collect();
    assert_eq!(meanwhile, kept, "what was committed from the revocation to {ended}; {}", stays.tail());
    end_well([stays, joins]);
}

#[apply(broker_test)]
fn a_zombie_that_wakes_up_notices_and_none_of_its_work_is_seen() {
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
    end_well([zombie, heir]);
}

/// It did not stall, it was not there: the time in which nobody ran is no time in which nothing moved.
#[apply(broker_test)]
fn a_process_that_stood_still_for_longer_than_the_watchdog_waits_goes_on() {
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
    end_well([sleeper]);
}

#[apply(broker_test)]
fn an_owner_killed_inside_a_transaction_is_succeeded_once_that_has_timed_out() {
    let group = Group::with_transaction_timeout(Duration::from_secs(20));
    let mut owner = group.serves("owner");
    let load = group.load();
    applies_more(&mut owner);

    let open = group.freeze_inside_a_transaction(&owner);
    owner.kill9();
    let mut heir = group.setup.clone().instance("heir").start();

    let blocked = heir.wait_for_event("recovery_blocked", PATIENCE);
    let partition = i32::try_from(number(&blocked, "partition")).expect("the number of a partition");
    assert!(open.contains(&partition), "partitions {open:?} were open: {blocked}");
    wait_until("it goes on once the transaction is aborted", PATIENCE, || heir.serving() == all_partitions());
    applies_more(&mut heir);
    load.stop();
    Ledger::of(&group.kafka, &group.names).assert_exact();
    owner.assert_no_errors_but(&[]);
    end_well([heir]);
}

/// Each guest is two rebalances. `STEWARD_GUESTS=50` makes a hundred of them.
#[apply(broker_test)]
fn joins_and_leaves_in_a_row_change_nothing_and_leave_nothing_behind() {
    let count = std::env::var("STEWARD_GUESTS").map_or(10, |text| text.parse().expect("STEWARD_GUESTS is a number"));
    let mut random = ChaCha8Rng::seed_from_u64(20);
    let group = Group::new();
    let mut stays = group.serves("stays");
    let load = group.load();
    applies_more(&mut stays);

    // Whatever is made once, when the first partition comes back, is there after these.
    let first = count / 4 + 1;
    let mut helped = guests_come_and_go(&group, &mut random, 0..first);
    let before = Footprint::once_it_has_everything(&mut stays);
    helped += guests_come_and_go(&group, &mut random, first..count);
    let after = Footprint::once_it_has_everything(&mut stays);
    load.stop();
    Ledger::of(&group.kafka, &group.names).assert_exact();

    println!("{helped} of {count} guests served; {before:?} and then {after:?}");
    assert!(helped >= count / 4, "only {helped} of {count} guests came to serve anything");
    assert!(after.threads <= before.threads + 1, "threads are left over: {before:?}, then {after:?}");
    assert!(after.rss_bytes < before.rss_bytes + (8 << 20), "it has grown: {before:?}, then {after:?}");
    end_well([stays]);
}

/// Processes that join and leave at random moments, three at a time at most; returns how many came to serve anything.
fn guests_come_and_go(group: &Group, random: &mut ChaCha8Rng, numbers: Range<usize>) -> usize {
    let mut to_come = numbers;
    let mut guests: Vec<Steward> = Vec::new();
    let mut leaving: Vec<Steward> = Vec::new();
    while !(to_come.is_empty() && guests.is_empty()) {
        let is_full = guests.len() == 3;
        if !guests.is_empty() && (to_come.is_empty() || is_full || random.random_range(0..2) == 0) {
            let mut guest = guests.remove(random.random_range(0..guests.len()));
            // Half of them leave while they serve, the others at whatever moment it is.
            if random.random_range(0..2) == 0 {
                guest.wait_for_event("recovery_finished", PATIENCE);
            }
            guest.sigterm();
            leaving.push(guest);
        } else {
            let number = to_come.next().expect("one is to come");
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
fn a_partition_that_leaves_before_it_is_restored_comes_straight_back() {
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
        assert!(process.events("recovery_finished").is_empty(), "it was restored meanwhile; {}", process.tail());
    }

    for producer in &open {
        producer.abort_transaction(PATIENCE).expect("an open transaction can be aborted");
    }

    let further: Vec<Outgoing> = events(2, 500, 50).collect();
    kafka.produce(&names.input, &further);
    Ledger::of(&kafka, &names).assert_exact();
    assert_eq!(code, 0, "{}", guest.tail());
    assert_eq!(stays.events("recovery_started").len(), 3, "{}", stays.tail());
    assert_eq!(stays.events("recovery_finished").len(), 2, "the recovery that was broken off has ended, too");
    guest.assert_no_errors_but(&[]);
    end_well([stays]);
}

// ----------------------------------------------------------------------------------------------------------- helpers

/// Topics with some state, and how its processes are started.
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

    /// Stops the owner of everything at a moment when a transaction of its is open, and its end is not on the way;
    /// returns the partitions of the state that it is open in.
    fn freeze_inside_a_transaction(&self, owner: &Steward) -> Vec<i32> {
        wait_for("the process stops inside a transaction", PATIENCE, || {
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

/// What a process takes of its machine.
#[derive(Debug, Clone, Copy)]
struct Footprint {
    threads: u64,
    rss_bytes: u64,
}

impl Footprint {
    /// The lowest of a few looks, because a restore that has just ended has not given everything back.
    fn once_it_has_everything(process: &mut Steward) -> Footprint {
        const LOOKS: usize = 5;
        wait_until("everything is back", PATIENCE, || process.serving() == all_partitions());
        applies_more(process);
        let known = process.events("stats").len();
        wait_until("a few more stats", PATIENCE, || process.events("stats").len() >= known + LOOKS);
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).expect("Linux, and it runs");
        let threads = status.lines().find_map(|line| line.strip_prefix("Threads:")).expect("Linux tells it");
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

/// When a line was written: RFC 3339 in UTC with milliseconds, so that text compares as time does.
fn time(line: &Value) -> String {
    line["timestamp"].as_str().expect("every line has one").to_owned()
}

/// Waits until it has applied something that it had not applied before.
fn applies_more(process: &mut Steward) {
    let applied = process.events("stats").last().map_or(0, |line| number(line, "applied_total"));
    wait_until("more is applied", PATIENCE, || {
        assert!(process.is_running(), "it ended; {}", process.tail());
        process.events("stats").last().is_some_and(|line| number(line, "applied_total") > applied + 100)
    });
}

/// Lets time pass that is the point of the test, not a condition that would come about.
fn pass(time: Duration) {
    let moment = Deadline::after(time);
    while !moment.passed() {
        std::thread::sleep(moment.left());
    }
}

fn end_well<const N: usize>(processes: [Steward; N]) {
    for mut process in processes {
        process.stop();
        process.assert_no_errors_but(&[]);
    }
}
