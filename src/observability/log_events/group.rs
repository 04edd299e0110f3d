//! Events of rebalances.

use crate::observability::log_events::log_events;

log_events! {
    target: "steward::group",
    title: "The group",

    /// The group assigned partitions to this process. They recover, then they serve.
    #[event(INFO, "partitions_assigned", "partitions were assigned")]
    #[action("none")]
    pub struct PartitionsAssigned<'a> {
        /// The new partitions, such as `0-3,7`.
        pub partitions: &'a str,
        /// Number of new partitions.
        pub count: u64,
        /// Number of partitions that this process owns, including the new ones.
        pub owned: u64,
    }

    /// The group revoked partitions, and their applied events are committed.
    #[event(INFO, "partitions_revoked", "partitions were revoked")]
    #[action("none")]
    pub struct PartitionsRevoked<'a> {
        /// The revoked partitions.
        pub partitions: &'a str,
        /// Number of revoked partitions.
        pub count: u64,
        /// Number of partitions that this process still owns.
        pub owned: u64,
        /// How long the revocation waited for work to be committed.
        pub drain_ms: u64,
    }

    /// The group took partitions away without a revocation, because this process was silent for longer than
    /// `kafka.session_timeout_ms` or did not poll. Nothing more of them is committed here; the new owner repeats the
    /// work.
    #[event(WARN, "partitions_lost", "partitions were lost")]
    #[action("look for a pause of the process (CPU limit, node) or of its network; if it repeats, raise the timeouts")]
    pub struct PartitionsLost<'a> {
        /// The lost partitions.
        pub partitions: &'a str,
        /// Number of lost partitions.
        pub count: u64,
        /// Number of partitions that this process still owns.
        pub owned: u64,
    }
}
