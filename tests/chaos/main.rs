//! Several real processes in one group, against their own broker, while everything breaks that can break: they are
//! killed, frozen, told to stop, started again, and come and go; the broker crashes and stands still. Events flow all
//! the while. At the end everything settles, and the whole history is judged against the reference model.
//!
//! A seed decides what happens and when ([`schedule`]), to how many partitions, and whether the processes have the usual
//! bounds (even seeds) or tight ones (odd seeds); the operating system decides the rest. A failure prints the
//! seed and what happened when, and leaves the logs of all processes in a folder. The same seed plays the same
//! schedule again.
//!
//! - `STEWARD_CHAOS_SEED=n`: this seed, or the first of several.
//! - `STEWARD_CHAOS_SEEDS=n`: so many seeds in a row, one by default.
//! - `STEWARD_CHAOS_FOUND=1`: also those that have found something.
//! - `STEWARD_CHAOS_SECONDS=s`: how long things break, 40 s by default.
//!
//! This is a test binary of its own because it takes the machine for itself.

#![expect(unsafe_code, reason = "signals, ptrace and ACLs have no safe interface")]

#[macro_use(apply)]
extern crate macro_rules_attribute;

#[allow(dead_code, reason = "the kit of the other test binary, of which this one needs a part")]
#[macro_use]
#[path = "../it/support/mod.rs"]
mod support;

mod drill;
mod schedule;
mod silence;
mod takeover;

use std::time::Duration;

use support::broker::{Need, trial};

/// Played by default. It has every kind of disturbance, as every schedule does.
const SEED: u64 = 20_261_124;
const SECONDS: u64 = 40;
/// Seeds that have found something. What it was has a test of its own that takes no luck: a call of the client that does
/// not return (105, 205), a drain that the group refuses (100), a late copy of a registration (302; of an earlier producer's:
/// the seed that is played by default), a false alarm of a process that has lost its partition (413).
const FOUND: [u64; 5] = [100, 105, 205, 302, 413];

fn main() {
    let mut arguments = libtest_mimic::Arguments::from_args();
    // One seed after the other.
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
    let conclusion = libtest_mimic::run(&arguments, trials);
    support::broker::end_shared();
    conclusion.exit();
}

/// A number from the environment; `None` where there is none.
///
/// # Panics
/// When it is not a number: a typo must not play another seed than the one that was meant.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}
