//! Runs property tests with the same cases on every machine.
//!
//! The cases come from one seed, so that only a change of the code can make a test fail. With `STEWARD_PROPTEST_CASES`
//! each run has new cases, in the given number if the test supports it. A failure then prints the smallest failing
//! input; make it a test of its own.

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

pub fn runner(config: Config) -> TestRunner {
    match std::env::var_os("STEWARD_PROPTEST_CASES") {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    }
}
