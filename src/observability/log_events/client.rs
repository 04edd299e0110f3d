//! What the Kafka client has to say.

use crate::observability::log_events::log_events;

log_events! {
    target: "librdkafka",
    title: "The Kafka client",

    /// The client reported an error that it handles itself, such as a broker that cannot be reached. The first of its
    /// code is written; those that follow are counted by `kafka_client_errors`.
    #[event(WARN, "kafka_client_error", "the Kafka client reports an error")]
    #[action("none if it passes; else look at the brokers and the network")]
    pub struct KafkaClientError<'a> {
        /// The client's code, such as `AllBrokersDown`.
        pub code: &'a str,
        /// What it says.
        pub detail: &'a str,
        /// `consumer`, `producer`, `reader` or `admin`.
        pub client: &'a str,
    }

    /// The client reported the same error again.
    #[event(WARN, "kafka_client_errors", "the Kafka client reports more errors")]
    #[action("as for `kafka_client_error`")]
    pub struct KafkaClientErrors<'a> {
        /// The client's code.
        pub code: &'a str,
        /// How often in the window.
        pub count: u64,
        /// Length of the window.
        pub window_ms: u64,
        /// What it said the last time.
        pub last_detail: &'a str,
    }

    /// A line of the client's own log, of its level warning or worse.
    #[event(WARN, "kafka_client_warning", "the Kafka client warns")]
    #[action("as for `kafka_client_error`")]
    pub struct KafkaClientWarning<'a> {
        /// The client's name for the part of it that speaks.
        pub facility: &'a str,
        /// What it says.
        pub detail: &'a str,
        /// `consumer`, `producer`, `reader` or `admin`.
        pub client: &'a str,
    }

    /// Any other line of the client's own log. `log.level = "info,librdkafka=debug"` shows them, and
    /// `kafka.properties.debug` makes more of them.
    #[event(DEBUG, "kafka_client_log", "the Kafka client says")]
    #[action("none")]
    pub struct KafkaClientLog<'a> {
        /// The client's name for the part of it that speaks.
        pub facility: &'a str,
        /// What it says.
        pub detail: &'a str,
        /// `consumer`, `producer`, `reader` or `admin`.
        pub client: &'a str,
    }
}
