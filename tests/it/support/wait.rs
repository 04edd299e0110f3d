//! Waiting for a condition, always with a limit. Nothing else in the tests sleeps or reads the clock.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// What any single step against a local broker may take on a busy machine with two cores.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A moment after which waiting is over.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// `limit` from now on.
    pub fn after(limit: Duration) -> Deadline {
        Deadline(now() + limit)
    }

    /// What is left, zero once it has passed.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(now())
    }

    /// Whether it has passed.
    pub fn passed(self) -> bool {
        self.left().is_zero()
    }
}

/// The clock, for tests that measure how long something took.
#[expect(clippy::disallowed_methods, reason = "a test against real processes lives in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since 1970, for records that are stamped now.
#[expect(clippy::disallowed_methods, reason = "a test against real processes lives in real time")]
pub fn unix_ms() -> i64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since_1970.expect("no test machine's clock stands before 1970").as_millis())
        .expect("milliseconds since 1970 fit for ages")
}

/// Looks at the condition until it holds; panics with `what` after `limit`.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, limit, || condition().then_some(()));
}

/// Looks until there is something; panics with `what` after `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Deadline::after(limit);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(!deadline.passed(), "waited {limit:?} in vain: {what}");
        std::thread::sleep(INTERVAL);
    }
}

/// Tries until it succeeds; panics with `what` and the error when that is none of those that pass, or after `limit`.
pub fn wait_for_success<T, E: std::fmt::Display>(
    what: &str,
    limit: Duration,
    passes: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> T {
    let deadline = Deadline::after(limit);
    loop {
        match attempt() {
            Ok(success) => return success,
            Err(error) => assert!(passes(&error) && !deadline.passed(), "{what}: {error}"),
        }
        std::thread::sleep(INTERVAL);
    }
}
