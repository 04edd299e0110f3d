//! Runs many seeds, one seed, or those that once failed.

use super::*;

/// Seeds that once failed, one a line, each with the reason.
const FAILED_ONCE: &str = include_str!("failed_once.txt");
/// How many seeds run by default.
const SEEDS: u64 = 100;

#[apply(offline_test)]
fn every_event_counts_once_whatever_happens_between_two_steps() {
    if let Some(seed) = variable("STEWARD_SIMULATION_SEED") {
        let run = Run::play(seed, &Scenario::drawn(seed));
        println!("seed {seed}: {:#?}\n{}", run.scenario, run.steps.join("\n"));
        return run.assert_exact(seed);
    }
    for seed in 1..=variable("STEWARD_SIMULATION_SEEDS").unwrap_or(SEEDS) {
        Run::play(seed, &Scenario::drawn(seed)).assert_exact(seed);
    }
}

#[apply(offline_test)]
fn seeds_that_once_failed_pass() {
    for line in FAILED_ONCE.lines().filter(|line| !line.starts_with('#')) {
        let (seed, reason) = line.split_once(' ').expect("each line is a seed and the reason of its failure");
        let seed = seed.parse().expect("a seed is a number");
        let run = Run::play(seed, &Scenario::drawn(seed));
        assert_eq!(run.failure(), None, "seed {seed} fails again; it once failed because {reason}");
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
