//! Events of the Kafka client's own error callback and log.

use crate::observability::log_events::{field_values, log_events};

field_values! {
    /// A client of this process.
    pub enum ClientRole {
        /// The member of the group.
        Consumer = "consumer",
        /// Reads single partitions during recovery.
        Reader = "reader",
        /// The transactional producer.
        Producer = "producer",
        /// Reads and creates topics and their configurations.
        Admin = "admin",
    }
}

log_events! {
    target: "librdkafka",
    title: "The Kafka client",

    /// The client reported an error that it handles itself, such as an unreachable broker. Only the first one of its
    /// code is logged; the following ones are counted by `kafka_client_errors`.
    #[event(WARN, "kafka_client_error", "the Kafka client reports an error")]
    #[action("none if it passes; else look at the brokers and the network")]
    pub struct KafkaClientError<'a> {
        /// The client's code, such as `AllBrokersDown`.
        pub code: &'a str,
        /// The client's message.
        pub detail: &'a str,
        /// The client that reported it.
        pub client: ClientRole,
    }

    /// The client reported the same error again.
    #[event(WARN, "kafka_client_errors", "the Kafka client reports more errors")]
    #[action("as for `kafka_client_error`")]
    pub struct KafkaClientErrors<'a> {
        /// The client's code; `various` for the codes for which no separate count is kept.
        pub code: &'a str,
        /// Number of errors in the window.
        pub count: u64,
        /// Length of the window.
        pub window_ms: u64,
        /// Message of the last error.
        pub last_detail: &'a str,
    }

    /// A line of the client's own log, of level warning or worse.
    #[event(WARN, "kafka_client_warning", "the Kafka client warns")]
    #[action("as for `kafka_client_error`")]
    pub struct KafkaClientWarning<'a> {
        /// The part of the client that logs, as the client names it.
        pub facility: &'a str,
        /// The client's message.
        pub detail: &'a str,
        /// The client that logs it.
        pub client: ClientRole,
    }

    /// The brokers delay the responses to a client, because it exceeds a quota. Nothing fails, and the process
    /// continues as fast as the quota permits: transactions become smaller, reading pauses, the lag grows. Logged at
    /// most every 30 s.
    #[event(WARN, "client_throttled", "the brokers delay this client because of a quota")]
    #[action("raise the quota, or add pods with users or client ids of their own; `kafka-configs --describe` with `--entity-type clients` or `users` shows it")]
    pub struct ClientThrottled<'a> {
        /// The client that is delayed.
        pub client: ClientRole,
        /// The broker of the longest delay.
        pub broker: &'a str,
        /// The longest delay since the last line, the broker's `throttle_time_ms`.
        pub throttle_time_ms: u64,
    }

    /// Any other line of the client's own log. `log.level = "info,librdkafka=debug"` shows them, and
    /// `kafka.properties.debug` makes the client write more of them.
    #[event(DEBUG, "kafka_client_log", "a line of the Kafka client's log")]
    #[action("none")]
    pub struct KafkaClientLog<'a> {
        /// The part of the client that logs, as the client names it.
        pub facility: &'a str,
        /// The client's message.
        pub detail: &'a str,
        /// The client that logs it.
        pub client: ClientRole,
    }
}
