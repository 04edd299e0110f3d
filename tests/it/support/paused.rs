//! One thread, and time that passes only when nobody has anything left to do.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use steward::ports::Clock;

/// 2026-01-31T12:00:00Z.
const START_UNIX_MS: i64 = 1_769_860_800_000;

/// The paused time of the runtime, as a clock.
#[derive(Debug)]
pub struct PausedClock {
    start: tokio::time::Instant,
}

impl Clock for PausedClock {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn unix_ms(&self) -> i64 {
        let passed = tokio::time::Instant::now().duration_since(self.start).as_millis();
        START_UNIX_MS + i64::try_from(passed).expect("a test does not last for ages")
    }
}

/// Runs the scenario in an actor system of its own, on this thread, with time paused.
pub fn on_one_thread<T, F>(scenario: impl FnOnce(Arc<PausedClock>) -> F) -> T
where
    F: Future<Output = T>,
{
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime on one thread needs nothing that could be missing")
    };
    actix::System::with_tokio_rt(runtime)
        .block_on(async { scenario(Arc::new(PausedClock { start: tokio::time::Instant::now() })).await })
}
