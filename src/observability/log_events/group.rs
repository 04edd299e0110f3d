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

    /// The group has given the static membership of this process to another member. That is a delayed request of this
    /// process, after its connection to the group's coordinator broke or the coordinator stood still; or another process
    /// with the same instance name. The partitions are lost, and this process joins again with a new client. If it is
    /// replaced more often, it ends (`duplicate_instance`).
    #[event(WARN, "static_member_replaced", "the group has given the membership of this process to another member")]
    #[action("none if it passes; if the process ends, give each process its own `kafka.instance_name`")]
    pub struct StaticMemberReplaced<'a> {
        /// Instance name of this process.
        pub instance: &'a str,
    }

    /// The group has a member that is not steward: its client id is not that of steward's members. The group gives it
    /// partitions, whose events are not applied meanwhile, and it may commit their offsets. Named once for each client
    /// id and host, as long as it stays a member.
    #[event(WARN, "foreign_member", "a member of the group is not steward")]
    #[action("stop that program, or give it a group of its own; only steward may use `kafka.group_id`")]
    pub struct ForeignMember<'a> {
        /// The group.
        pub group: &'a str,
        /// Client id of the member.
        pub client_id: &'a str,
        /// Host of the member.
        pub host: &'a str,
        /// Its partitions of the input, such as `0-3,7`.
        pub partitions: &'a str,
    }
}
