//! The group gives partitions and takes them.

use crate::observability::log_events::log_events;

log_events! {
    target: "steward::group",
    title: "The group",

    /// The group gave partitions to this process. They recover, then they serve.
    #[event(INFO, "partitions_assigned", "partitions were assigned")]
    #[action("none")]
    pub struct PartitionsAssigned<'a> {
        /// The new ones, such as `0-3,7`.
        pub partitions: &'a str,
        /// How many are new.
        pub count: u64,
        /// How many this process owns with them.
        pub owned: u64,
    }

    /// The group took partitions back cleanly: what was applied is committed.
    #[event(INFO, "partitions_revoked", "partitions were revoked")]
    #[action("none")]
    pub struct PartitionsRevoked<'a> {
        /// Those that went.
        pub partitions: &'a str,
        /// How many went.
        pub count: u64,
        /// How many this process still owns.
        pub owned: u64,
        /// How long the revocation waited for work to be committed.
        pub drain_ms: u64,
    }

    /// The group took partitions away before this process heard of it, because it was silent for longer than
    /// `kafka.session_timeout_ms` or did not poll. Nothing of them is committed; the new owner does it again.
    #[event(WARN, "partitions_lost", "partitions were lost")]
    #[action("look for a pause of the process (CPU limit, node) or of its network; if it repeats, raise the timeouts")]
    pub struct PartitionsLost<'a> {
        /// Those that were lost.
        pub partitions: &'a str,
        /// How many were lost.
        pub count: u64,
        /// How many this process still owns.
        pub owned: u64,
    }
}
