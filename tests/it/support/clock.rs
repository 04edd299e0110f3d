//! The machine's clock as the port that the code under test asks: tests against a real broker live in real time.

use std::time::Instant;

use steward::ports::Clock;

use super::wait;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        wait::now()
    }

    fn unix_ms(&self) -> i64 {
        wait::unix_ms()
    }

    fn coarse_ms(&self) -> u64 {
        wait::unix_ms().unsigned_abs()
    }
}
