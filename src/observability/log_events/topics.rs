//! Events of the topics at start, and of the preflight checks.

use crate::observability::log_events::{field_values, log_events};

field_values! {
    /// A check of the topics before the start.
    pub enum PreflightCheck {
        /// The brokers can be reached.
        BrokersReachable = "brokers_reachable",
        /// The input topic exists.
        InputExists = "input_exists",
        /// The state topic and the DLQ topic exist.
        OutputsExist = "outputs_exist",
        /// The input topic is not compacted.
        InputNotCompacted = "input_not_compacted",
        /// The state topic is compacted.
        StateCompacted = "state_compacted",
        /// The DLQ topic is not compacted.
        DlqNotCompacted = "dlq_not_compacted",
        /// The partition counts of the three topics fit.
        PartitionCounts = "partition_counts",
        /// The state topic keeps tombstones for long enough.
        TombstoneRetention = "tombstone_retention",
        /// The state topic and the DLQ topic take records that are large enough.
        RecordSize = "record_size",
        /// The configurations of the topics may be read.
        ConfigurationReadable = "configuration_readable",
        /// The input is the topic that the state was made from.
        InputIdentity = "input_identity",
        /// The snapshots in the state topic are this group's.
        StateOwner = "state_owner",
        /// The state topic has what the committed positions say that it contained.
        StateComplete = "state_complete",
        /// The brokers answer the requests of the other checks.
        BrokerAnswers = "broker_answers",
    }
}

log_events! {
    target: "steward::topics",
    title: "Topics and preflight checks",

    /// The input topic does not exist, or its brokers cannot be reached. The start waits for it.
    #[event(WARN, "topic_awaited", "the input topic is awaited")]
    #[action("create the topic, or correct `kafka.topic` or `kafka.bootstrap_servers`; the process ends at `limit_ms`")]
    pub struct TopicAwaited<'a> {
        /// The topic.
        pub topic: &'a str,
        /// Response of the brokers.
        pub cause: &'a str,
        /// Time waited so far.
        pub waited_ms: u64,
        /// `kafka.topic_wait_ms`.
        pub limit_ms: u64,
    }

    /// A state or DLQ topic was missing and has been created.
    #[event(INFO, "topic_created", "a topic was created")]
    #[action("none; if topics are managed elsewhere, set `kafka.create_topics = false`")]
    pub struct TopicCreated<'a> {
        /// The topic.
        pub topic: &'a str,
        /// Number of partitions.
        pub partitions: i32,
        /// Number of replicas of each partition.
        pub replication: i32,
    }

    /// A preflight check could not run, because a permission is missing or the broker does not report a setting, and
    /// `guards.unchecked` allows that.
    #[event(WARN, "preflight_unchecked", "a preflight check could not look at a topic")]
    #[action("grant the ACL that `acl` names; check `settings` by other means, against docs/operating.md")]
    pub struct PreflightUnchecked<'a> {
        /// The check; here always `configuration_readable`.
        pub check: PreflightCheck,
        /// The topic.
        pub topic: &'a str,
        /// The command that grants the missing ACL.
        pub acl: Option<&'a str>,
        /// The settings that the broker does not report.
        pub settings: Option<&'a str>,
    }

    /// The state topic has a setting with which the guarantees hold, but which costs time or rejects events.
    #[event(WARN, "topic_setting_advised", "a setting of a topic should be changed")]
    #[action("run `command`; it needs no restart")]
    pub struct TopicSettingAdvised<'a> {
        /// The topic.
        pub topic: &'a str,
        /// The setting.
        pub setting: &'a str,
        /// Its value.
        pub found: i64,
        /// What it costs.
        pub why: &'a str,
        /// The command that changes it.
        pub command: &'a str,
    }

    /// The brokers refused settings of a new topic that the guarantees do not need, and created it without them.
    #[event(WARN, "topic_settings_left_out", "a topic was created without some settings")]
    #[action("check that the platform's values of `settings` are as good as those in docs/operating.md")]
    pub struct TopicSettingsLeftOut<'a> {
        /// The topic.
        pub topic: &'a str,
        /// The settings.
        pub settings: &'a str,
        /// The broker's answer.
        pub cause: &'a str,
    }

    /// A preflight check found a topic with which the guarantees would not hold. The process ends.
    #[event(ERROR, "preflight_refused", "a preflight check refused a topic")]
    #[action("do what `problem` says")]
    pub struct PreflightRefused<'a> {
        /// The check.
        pub check: PreflightCheck,
        /// What is wrong, then what to do.
        pub problem: &'a str,
    }

    /// While the process ran, a topic was deleted, created again, or got other partitions. The process ends.
    #[event(ERROR, "topic_changed", "a topic is not the one of the start any more")]
    #[action("do what `problem` says")]
    pub struct TopicChanged<'a> {
        /// The topic.
        pub topic: &'a str,
        /// What has changed, then what to do.
        pub problem: &'a str,
    }

    /// The three topics exist, and every preflight check that could run has passed.
    #[event(INFO, "topics_checked", "the topics passed the preflight checks")]
    #[action("none")]
    pub struct TopicsChecked {
        /// Partitions of the input topic.
        pub partitions: i32,
        /// How long it took.
        pub took_ms: u64,
    }
}
