//! Names drawn anew for each test, so that any number of tests share a broker without meeting.

use std::hash::{BuildHasher as _, RandomState};

/// The topics and the group of one test.
#[derive(Debug, Clone)]
pub struct Names {
    /// Events.
    pub input: String,
    /// Snapshots.
    pub state: String,
    /// Events that were not applied.
    pub dlq: String,
    /// The consumer group.
    pub group: String,
}

impl Names {
    /// Names that nobody had before.
    pub fn new() -> Names {
        let input = unique("services");
        Names { state: format!("{input}.state"), dlq: format!("{input}.dlq"), group: format!("{input}-group"), input }
    }
}

/// `prefix` and something that nobody had before.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{:016x}", random())
}

/// A number that nobody had before.
pub fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
