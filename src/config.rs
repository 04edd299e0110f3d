//! Every knob: its unit, its default and its limits, parsed once at the start.
//!
//! Inside the process a `Config` is trusted: it can only be had by parsing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// Everything that can be configured.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The brokers, the group and the topics.
    pub kafka: Kafka,
    /// Bounds of memory and of work under way.
    pub limits: Limits,
    /// What happens before a partition serves.
    pub recovery: Recovery,
    /// Checks of the topics at the start.
    pub guards: Guards,
    /// How the process ends.
    pub shutdown: Shutdown,
    /// Heartbeat file and watchdog.
    pub health: Health,
    /// Log lines.
    pub log: Log,
    /// Threads.
    pub runtime: Runtime,
}

/// The brokers, the group and the topics.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kafka {
    /// Comma-separated `host:port`.
    pub bootstrap_servers: String,
    /// The consumer group.
    pub group_id: String,
    /// This process among its siblings: configuration, else `POD_NAME`, else host name and process id.
    pub instance_name: Option<String>,
    /// Whether the instance name is also the group's static member id.
    pub static_membership: bool,
    /// Events.
    pub topic: String,
    /// Snapshots.
    pub state_topic: String,
    /// Events that were not applied.
    pub dlq_topic: String,
    /// Whether missing state and dead letter topics are created.
    pub create_topics: bool,
    /// How long the start waits for the input topic to be there.
    pub topic_wait_ms: u64,
    /// A member that is silent for longer is put out of the group.
    pub session_timeout_ms: u64,
    /// How often the member tells the group that it lives.
    pub heartbeat_interval_ms: u64,
    /// A process that does not poll for longer leaves the group.
    pub max_poll_interval_ms: u64,
    /// The coordinator aborts a transaction that is open for longer.
    pub transaction_timeout_ms: u64,
    /// TLS and SASL.
    pub security: Security,
    /// Further librdkafka properties.
    pub properties: BTreeMap<String, String>,
}

/// TLS and SASL. A secret is given directly or, better, as a file.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Security {
    /// `plaintext`, `tls`, `sasl_plaintext` or `sasl_tls`.
    pub protocol: Protocol,
    /// `plain`, `scram-sha-256`, `scram-sha-512` or `oauthbearer`.
    pub sasl_mechanism: Option<SaslMechanism>,
    /// SASL user name.
    pub username: Option<String>,
    /// SASL password.
    pub password: Option<Secret>,
    /// A file that holds the SASL password.
    pub password_file: Option<PathBuf>,
    /// A file that holds the OAUTHBEARER token (a JWT), read again whenever a new one is due.
    pub oauth_token_file: Option<PathBuf>,
    /// PEM file with the authorities that brokers' certificates are checked against.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate.
    pub certificate_file: Option<PathBuf>,
    /// PEM file with the client's key.
    pub key_file: Option<PathBuf>,
    /// Password of the client's key.
    pub key_password: Option<Secret>,
    /// A file that holds the password of the client's key.
    pub key_password_file: Option<PathBuf>,
}

/// How the connection is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Neither.
    #[default]
    Plaintext,
    /// TLS.
    Tls,
    /// SASL over plain text.
    SaslPlaintext,
    /// SASL over TLS.
    SaslTls,
}

/// How the client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SaslMechanism {
    /// PLAIN.
    Plain,
    /// SCRAM-SHA-256.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// SCRAM-SHA-512.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
    /// OAUTHBEARER.
    Oauthbearer,
}

/// A string that never shows itself.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, for the client library alone.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Security").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// Bounds of memory and of work under way.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// A larger value is refused to the dead letter topic.
    pub max_payload_bytes: u64,
    /// Read but not yet committed, the client's prefetch included, all partitions together.
    pub max_in_flight_bytes: u64,
    /// Records in one batch at the most.
    pub max_batch_records: usize,
    /// What one transaction carries at the most.
    pub max_transaction_bytes: u64,
    /// Entities at rest, all partitions together.
    pub max_state_bytes: u64,
    /// An entity without events for longer goes to rest.
    pub entity_idle_ms: u64,
    /// Entities that are actors at the same time.
    pub max_active_entities: usize,
}

/// What happens before a partition serves.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recovery {
    /// At least this many offsets before the start are replayed silently.
    pub look_back_records: u64,
    /// A longer stretch is not verified; 0 trusts the committed offsets.
    pub verify_max_records: u64,
    /// What to do about events that retention deleted unread.
    pub on_expired: OnExpired,
    /// Whether snapshots of another group are taken over.
    pub adopt_group: bool,
    /// Partitions that recover at the same time.
    pub max_parallel_partitions: usize,
}

/// What to do about events that retention deleted before they were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExpired {
    /// Log an error with the count, go on from the log's start.
    #[default]
    Continue,
    /// Log the error and exit.
    Stop,
}

/// Checks of the topics at the start.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guards {
    /// What to do about a check that permissions do not allow.
    pub unchecked: Unchecked,
}

/// What to do about a check that permissions do not allow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unchecked {
    /// Refuse to start, naming the ACL.
    #[default]
    Refuse,
    /// Warn.
    Allow,
}

/// How the process ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shutdown {
    /// From the signal to the exit at the most.
    pub drain_timeout_ms: u64,
    /// How long a revocation may wait for what is applied to be committed.
    pub revoke_drain_ms: u64,
}

/// Heartbeat file and watchdog.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Where `steward health` looks.
    pub file: PathBuf,
    /// How old and settled an assignment has to be to count as ready.
    pub ready_settle_ms: u64,
    /// No progress for longer, while there is lag, ends the process.
    pub stall_timeout_ms: u64,
}

/// Log lines.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// JSON, text, or whichever fits standard output.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,librdkafka=debug`.
    pub level: String,
    /// How often `stats` is logged.
    pub stats_interval_ms: u64,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// JSON when standard output is not a terminal.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Threads.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Runtime {
    /// Threads that run entities; 0 is one per core.
    pub entity_threads: usize,
}

impl Default for Kafka {
    fn default() -> Kafka {
        Kafka {
            bootstrap_servers: "localhost:9092".into(),
            group_id: "steward".into(),
            instance_name: None,
            static_membership: false,
            topic: "services".into(),
            state_topic: "services.state".into(),
            dlq_topic: "services.dlq".into(),
            create_topics: true,
            topic_wait_ms: 60_000,
            session_timeout_ms: 10_000,
            heartbeat_interval_ms: 300,
            max_poll_interval_ms: 60_000,
            transaction_timeout_ms: 10_000,
            security: Security::default(),
            properties: BTreeMap::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_payload_bytes: 262_144,
            max_in_flight_bytes: 134_217_728,
            max_batch_records: 32_768,
            max_transaction_bytes: 33_554_432,
            max_state_bytes: 1_073_741_824,
            entity_idle_ms: 30_000,
            max_active_entities: 200_000,
        }
    }
}

impl Default for Recovery {
    fn default() -> Recovery {
        Recovery {
            look_back_records: 10_000,
            verify_max_records: 1_000_000,
            on_expired: OnExpired::Continue,
            adopt_group: false,
            max_parallel_partitions: 4,
        }
    }
}

impl Default for Shutdown {
    fn default() -> Shutdown {
        Shutdown { drain_timeout_ms: 25_000, revoke_drain_ms: 400 }
    }
}

impl Default for Health {
    fn default() -> Health {
        Health { file: "/tmp/steward.health".into(), ready_settle_ms: 5_000, stall_timeout_ms: 30_000 }
    }
}

impl Default for Log {
    fn default() -> Log {
        Log { format: LogFormat::Auto, level: "info".into(), stats_interval_ms: 10_000 }
    }
}
