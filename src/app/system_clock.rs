//! Reads the time of this machine. No other code of the service does.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::ports::Clock;

#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the implementation of the port")]
    fn now(&self) -> Instant {
        Instant::now()
    }

    #[expect(clippy::disallowed_methods, reason = "the implementation of the port")]
    fn unix_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn coarse_ms(&self) -> u64 {
        // Read from memory, not from hardware. The resolution is the kernel's timer: 1 to 10 ms.
        #[cfg(target_os = "linux")]
        const COARSE: ClockId = ClockId::MonotonicCoarse;
        #[cfg(not(target_os = "linux"))]
        const COARSE: ClockId = ClockId::Monotonic;
        let Timespec { tv_sec, tv_nsec } = clock_gettime(COARSE);
        // Neither is negative, and the milliseconds fit for 292 million years.
        (tv_sec * 1_000 + tv_nsec / 1_000_000).unsigned_abs()
    }
}
