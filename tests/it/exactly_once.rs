//! The first guarantee, on a real Kafka: each event counts once, at whatever moment the process is killed.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use steward::testing::workload::{InvalidKind, Workload};

use crate::support::kafka::{Kafka, Outgoing};
use crate::support::ledger::{assert_exact, outgoing, wait_until_committed};
use crate::support::names::Names;
use crate::support::process::{Setup, Steward};
use crate::support::wait::{Deadline, PATIENCE, wait_until};

const PARTITIONS: i32 = 6;
const EVENTS: usize = 200_000;
const KEYS: u32 = 5_000;
const KILLS: usize = 24;
const SECOND: Duration = Duration::from_secs(1);

/// 200,000 events over 5,000 keys, 5 % of them invalid in every way, while the process is killed at moments that the
/// seed decides: while it starts, restores, processes or commits. `STEWARD_KILL_SEED` plays another schedule.
#[apply(broker_test)]
fn a_process_killed_again_and_again_counts_each_event_once() {
    let seed = std::env::var("STEWARD_KILL_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_124);
    println!("the schedule of seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let kafka = Kafka::shared();
    let names = Names::new();
    kafka.create_input(&names, PARTITIONS);
    let events = events(seed);
    let setup = Setup::new(&kafka, &names)
        .instance("killed")
        .set("kafka.static_membership", true)
        .set("recovery.look_back_records", 2_000)
        .set("log.stats_interval_ms", 1_000);

    let (mut worked, mut interrupted) = (0, 0);
    for portion in events.chunks(EVENTS.div_ceil(KILLS)) {
        kafka.produce(&names.input, portion);
        let before = committed(&kafka, &names);
        let mut process = setup.start();
        wait_for_the_moment(&mut random, &mut process, || committed(&kafka, &names) > before);
        process.kill9();
        process.assert_no_errors_but(&[]);
        let after = committed(&kafka, &names);
        worked += usize::from(after > before);
        interrupted += usize::from(after < end(&kafka, &names));
    }
    println!("{KILLS} kills: {worked} processes had committed something, {interrupted} left something undone");
    assert!(worked >= KILLS / 4, "only {worked} of {KILLS} killed processes had begun to process events");
    assert!(interrupted >= KILLS / 4, "only {interrupted} of {KILLS} kills interrupted any work");
    let mut last = setup.start();
    wait_until_committed(&kafka, &names, 120 * SECOND);
    last.stop();
    last.assert_no_errors_but(&[]);

    assert_exact(&kafka, &names);
}

fn committed(kafka: &Kafka, names: &Names) -> i64 {
    kafka.committed(&names.group, &names.input).into_iter().flatten().sum()
}

fn end(kafka: &Kafka, names: &Names) -> i64 {
    kafka.ends(&names.input).iter().map(|ends| ends.high).sum()
}

fn events(seed: u64) -> Vec<Outgoing> {
    let mut workload = Workload {
        seed,
        events: EVENTS as u64,
        keys: KEYS,
        invalid_share: 0.05,
        odd_share: 0.03,
        ..Workload::default()
    };
    for (kind, weight) in &mut workload.invalid_weights {
        // Only topics that let odd timestamps in can hold these, so that they are not drawn by default.
        if *kind == InvalidKind::TimestampTooLate {
            *weight = 10;
        }
    }
    let events = workload.generate().expect("the workload makes sense");
    events.map(|event| outgoing(event, PARTITIONS)).collect()
}

/// A third of the kills hit the start, a third the time around the end of the recoveries, the rest the work, which has
/// begun when something more is committed.
fn wait_for_the_moment(random: &mut ChaCha8Rng, process: &mut Steward, works: impl FnMut() -> bool) {
    let after = match random.random_range(0..3) {
        0 => Duration::from_millis(random.random_range(50..1_500)),
        1 => {
            process.wait_for_event("recovery_started", 60 * SECOND);
            Duration::from_millis(random.random_range(0..600))
        }
        _ => {
            for _ in 0..PARTITIONS {
                process.wait_for_event("recovery_finished", 60 * SECOND);
            }
            wait_until("the process has committed something", PATIENCE, works);
            Duration::from_millis(random.random_range(0..1_500))
        }
    };
    // The moment is the point, not a condition that would come about by waiting.
    let moment = Deadline::after(after);
    while !moment.passed() {
        std::thread::sleep(moment.left());
    }
}
