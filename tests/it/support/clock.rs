//! The real clock, as the port of the code under test. Tests with a real broker run in real time.

use std::time::Instant;

use steward::ports::Clock;

use super::wait;

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
