//! Waits for a condition, always with a limit. No other code of the tests sleeps or reads the clock.

use std::time::{Duration, Instant};

/// Time between two checks of a condition.
const INTERVAL: Duration = Duration::from_millis(10);

/// Limit for any single step with a local broker, on a busy machine with two cores.
pub const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// Makes a deadline `limit` from now.
    pub fn after(limit: Duration) -> Deadline {
        Deadline(now() + limit)
    }

    /// Returns the remaining time; zero once the deadline has passed.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(now())
    }

    pub fn passed(self) -> bool {
        self.left().is_zero()
    }
}

/// Reads the clock, for tests that measure a duration.
#[expect(clippy::disallowed_methods, reason = "a test with real processes runs in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Returns the current time in milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "a test with real processes runs in real time")]
pub fn unix_ms() -> i64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since_1970.expect("the clock is after 1970").as_millis())
        .expect("milliseconds since 1970 fit into 64 bits")
}

/// Waits until the condition holds; panics with `what` after `limit`.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, limit, || condition().then_some(()));
}

/// Waits until `find` returns a value; panics with `what` after `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut find: impl FnMut() -> Option<T>) -> T {
    let deadline = Deadline::after(limit);
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(!deadline.passed(), "timed out after {limit:?}: {what}");
        std::thread::sleep(INTERVAL);
    }
}

/// Retries until `attempt` succeeds; panics with `what` and the error on a permanent error, or after `limit`.
pub fn wait_for_success<T, E: std::fmt::Display>(
    what: &str,
    limit: Duration,
    is_transient: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> T {
    let deadline = Deadline::after(limit);
    loop {
        match attempt() {
            Ok(success) => return success,
            Err(error) => assert!(is_transient(&error) && !deadline.passed(), "{what}: {error}"),
        }
        std::thread::sleep(INTERVAL);
    }
}
