//! Unique names for each test, so that any number of tests can share a broker.

use std::hash::{BuildHasher as _, RandomState};

/// The topics and the group of one test.
#[derive(Debug, Clone)]
pub struct Names {
    pub input: String,
    pub state: String,
    pub dlq: String,
    pub group: String,
}

impl Names {
    pub fn new() -> Names {
        let input = unique("services");
        Names { state: format!("{input}.state"), dlq: format!("{input}.dlq"), group: format!("{input}-group"), input }
    }
}

/// Returns a unique name with this prefix.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{:016x}", random())
}

/// Returns a random number.
pub fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
