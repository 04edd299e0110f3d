//! Property tests that say the same on every machine: the cases are drawn from one seed, so that a change is what
//! turns them red, not luck. With `STEWARD_PROPTEST_CASES` they are drawn anew each time, as many as it says where a
//! test heeds it; a failure then prints the smallest input that shows it, to be kept as a test of its own.

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Runs a property.
pub fn runner(config: Config) -> TestRunner {
    match std::env::var_os("STEWARD_PROPTEST_CASES") {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    }
}
