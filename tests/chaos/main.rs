//! Runs several real processes in one group, with a broker of their own, under random failures. Processes are killed,
//! frozen, stopped and restarted, and the broker crashes and freezes, while events flow. At the end everything settles,
//! and the whole history is compared with the reference model.
//!
//! A seed determines the schedule ([`schedule`]), the number of partitions, and whether the processes have default
//! limits (even seeds) or tight ones (odd seeds). The operating system determines the rest. A failure prints the seed
//! and a journal, and keeps the logs of all processes in a folder. The same seed gives the same schedule.
//!
//! - `STEWARD_CHAOS_SEED=n`: this seed, or the first of several.
//! - `STEWARD_CHAOS_SEEDS=n`: the number of consecutive seeds, one by default.
//! - `STEWARD_CHAOS_FOUND=1`: also the seeds that have found bugs.
//! - `STEWARD_CHAOS_SECONDS=s`: the duration of the failures, 40 s by default.
//!
//! [`cluster`] does the same on three brokers, and compares the silences of partitions with those of a plain producer.
//! Its variables are in its own page.
//!
//! This is a separate test binary because it needs the whole machine.

#![expect(unsafe_code, reason = "signals, ptrace and ACLs have no safe interface")]

#[macro_use(apply)]
extern crate macro_rules_attribute;

#[allow(dead_code, reason = "the support of the other test binary, which this one uses in part")]
#[macro_use]
#[path = "../it/support/mod.rs"]
mod support;

mod cluster;
mod drill;
mod schedule;
mod silence;
mod takeover;

use std::time::Duration;

use support::broker::{Need, trial};

/// The default seed. Its schedule has every kind of failure, as every schedule does.
const SEED: u64 = 20_261_124;
const SECONDS: u64 = 40;
/// Seeds that have found bugs. Each bug has a deterministic test: a call of the client that does not return (105, 205),
/// a drain that the group refuses (100), a late copy of a registration (302; of an earlier producer's: the default
/// seed), a false alarm of a process that has lost its partition (413).
const FOUND: [u64; 5] = [100, 105, 205, 302, 413];

fn main() {
    let mut arguments = libtest_mimic::Arguments::from_args();
    // One seed at a time.
    arguments.test_threads.get_or_insert(1);
    let first = setting("STEWARD_CHAOS_SEED").unwrap_or(SEED);
    let seeds = setting("STEWARD_CHAOS_SEEDS").unwrap_or(1);
    let length = Duration::from_secs(setting("STEWARD_CHAOS_SECONDS").unwrap_or(SECONDS));
    let mut trials = support::registry::tests();
    let found = if setting("STEWARD_CHAOS_FOUND").unwrap_or(0) == 0 { &[][..] } else { &FOUND[..] };
    trials.extend((first..first + seeds).chain(found.iter().copied()).map(|seed| {
        let name = format!("chaos::whatever_breaks_each_event_counts_once_with_seed_{seed}");
        trial(name, Need::Own, move || drill::run(seed, length))
    }));
    trials.extend(cluster::trials());
    let conclusion = libtest_mimic::run(&arguments, trials);
    support::broker::end_shared();
    conclusion.exit();
}

/// Reads a number from the environment; `None` if the variable is not set.
///
/// # Panics
/// If the value is not a number, so that a typo does not run another seed.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}
