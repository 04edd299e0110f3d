//! Runs a scenario on one thread, with time that advances only when all tasks are idle.

use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use steward::ports::Clock;

/// 2026-01-31T12:00:00Z.
const START_UNIX_MS: i64 = 1_769_860_800_000;

/// The paused time of the tokio runtime, as a clock.
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
        START_UNIX_MS + i64::try_from(passed).expect("the time of a test fits into 64 bits")
    }

    fn coarse_ms(&self) -> u64 {
        let reads = READS.replace(READS.get() + 1) + 1;
        let ticks = reads.checked_div(TICK_EVERY.get()).unwrap_or(0);
        self.unix_ms().unsigned_abs() + WORKED_MS.get() + ticks
    }
}

thread_local! {
    static WORKED_MS: Cell<u64> = const { Cell::new(0) };
    static TICK_EVERY: Cell<u64> = const { Cell::new(0) };
    static READS: Cell<u64> = const { Cell::new(0) };
}

/// Advances the coarse clock by `ms`, as if the caller had used the thread for that time.
pub fn work(ms: u64) {
    WORKED_MS.set(WORKED_MS.get() + ms);
}

/// Makes the coarse clock tick at every `reads` reads. With 0, the initial value, only [`work`] advances it.
pub fn tick_every(reads: u64) {
    READS.set(0);
    TICK_EVERY.set(reads);
}

/// Runs the scenario in an actor system of its own, on this thread, with time paused.
pub fn on_one_thread<T, F>(scenario: impl FnOnce(Arc<PausedClock>) -> F) -> T
where
    F: Future<Output = T>,
{
    // The thread may have run another scenario before.
    WORKED_MS.set(0);
    tick_every(0);
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime on one thread can always be built")
    };
    actix::System::with_tokio_rt(runtime)
        .block_on(async { scenario(Arc::new(PausedClock { start: tokio::time::Instant::now() })).await })
}
