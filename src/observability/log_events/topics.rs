//! Topics at the start, and the guards that look at them.

use crate::observability::log_events::log_events;

log_events! {
    target: "steward::topics",
    title: "Topics and guards",

    /// The input topic is not there, or its brokers cannot be reached, and the start waits for it.
    #[event(WARN, "topic_awaited", "the input topic is awaited")]
    #[action("create the topic, or correct `kafka.topic` or `kafka.bootstrap_servers`; the process ends at `limit_ms`")]
    pub struct TopicAwaited<'a> {
        /// The topic.
        pub topic: &'a str,
        /// What the brokers answered.
        pub cause: &'a str,
        /// Time waited so far.
        pub waited_ms: u64,
        /// `kafka.topic_wait_ms`.
        pub limit_ms: u64,
    }

    /// A state or DLQ topic was missing and has been created.
    #[event(INFO, "topic_created", "a topic was created")]
    #[action("none; where topics are managed elsewhere, set `kafka.create_topics = false`")]
    pub struct TopicCreated<'a> {
        /// The topic.
        pub topic: &'a str,
        /// Partitions.
        pub partitions: i32,
        /// Replicas of each partition.
        pub replication: i32,
    }

    /// A guard could not look, because a permission is missing, and `guards.unchecked` allows that.
    #[event(WARN, "preflight_unchecked", "a guard could not look at a topic")]
    #[action("grant the ACL that `acl` names")]
    pub struct PreflightUnchecked<'a> {
        /// Name of the guard.
        pub guard: &'a str,
        /// The topic.
        pub topic: &'a str,
        /// The ACL that is missing.
        pub acl: &'a str,
    }

    /// A guard found a topic on which the promises would not hold. The process ends.
    #[event(ERROR, "preflight_refused", "a guard refused a topic")]
    #[action("do what `remedy` says")]
    pub struct PreflightRefused<'a> {
        /// The guard's name.
        pub guard: &'a str,
        /// What is wrong, then what to do.
        pub problem: &'a str,
    }

    /// The three topics are there, and every guard that could look has passed.
    #[event(INFO, "topics_checked", "the topics passed the guards")]
    #[action("none")]
    pub struct TopicsChecked {
        /// Partitions of the input topic.
        pub partitions: i32,
        /// How long it took.
        pub took_ms: u64,
    }
}
