//! Every knob: its unit, its default and its limits, parsed once at the start.
//!
//! A TOML file gives values, `STEWARD__SECTION__KEY` variables override them, and what neither gives has a default.
//! [`Effective::parse`] is the whole of it over text and variables; [`Effective::load`] adds the reading of files.
//! Both report every mistake they can find at once, each with its key, what was found, where, and what to do.
//!
//! In reading order: the sections (here and in `kafka`), `keys` (the flat list of all keys), `load` (text and
//! variables to values), `rules` (what fits together), `properties` (what may be passed on to librdkafka), `error`.
//!
//! Architecture invariant: whoever gets a [`Config`] from here need not check it again.
//! Architecture invariant: a secret is never rendered; an error shows what it found, except for a secret's value and
//! for values under keys that nobody knows (a secret under a misspelt key is still a secret).
//! Architecture invariant: KafkaConfig's client and the logger are not known here.

mod describe;
mod error;
mod files;
mod kafka;
pub mod keys;
mod load;
pub mod log_level;
pub mod properties;
mod rules;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use validator::Validate;

pub use crate::config::error::{ConfigError, Mistake, ValueOrigin};
pub use crate::config::kafka::{KafkaConfig, MAX_NAME_BYTES, SaslMechanism, Secret, SecurityConfig, SecurityProtocol};
pub use crate::config::load::{ConfigDocument, Effective, Tls, environment};

/// Everything that can be configured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The brokers, the group and the topics.
    #[validate(nested)]
    pub kafka: KafkaConfig,
    /// Bounds of memory and of work under way.
    #[validate(nested)]
    pub limits: LimitsConfig,
    /// What happens before a partition serves.
    #[validate(nested)]
    pub recovery: RecoveryConfig,
    /// Checks of the topics at the start.
    pub guards: GuardsConfig,
    /// How the process ends.
    #[validate(nested)]
    pub shutdown: ShutdownConfig,
    /// Heartbeat file and watchdog.
    #[validate(nested)]
    pub health: HealthConfig,
    /// LogConfig lines.
    #[validate(nested)]
    pub log: LogConfig,
    /// Threads.
    #[validate(nested)]
    pub runtime: RuntimeConfig,
}

/// Bounds of memory and of work under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// A larger value is refused to the DLQ topic.
    #[validate(range(min = 1, max = 104_857_600))]
    pub max_payload_bytes: u64,
    /// Read but not yet committed, the client's prefetch included, all partitions together. A batch lies within it, and
    /// has to stay below 4 GiB.
    #[validate(range(min = 1_024, max = 2_147_483_648_u64))]
    pub max_in_flight_bytes: u64,
    /// Records in one batch at most.
    #[validate(range(min = 1, max = 1_000_000))]
    pub max_batch_records: usize,
    /// What one transaction carries at most.
    #[validate(range(min = 1_024, max = 2_147_483_648_u64))]
    pub max_transaction_bytes: u64,
    /// Entities passivated, all partitions together.
    #[validate(range(min = 1, max = 1_099_511_627_776_u64))]
    pub max_state_bytes: u64,
    /// An entity without events for longer goes to rest.
    #[validate(range(min = 1, max = 604_800_000))]
    pub entity_idle_ms: u64,
    /// Entities that are actors at the same time.
    #[validate(range(min = 1, max = 100_000_000))]
    pub max_active_entities: usize,
}

/// What happens before a partition serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct RecoveryConfig {
    /// At least this many offsets before the start are replayed silently.
    #[validate(range(min = 0, max = 1_000_000_000))]
    pub look_back_records: u64,
    /// A longer stretch is not verified; 0 trusts the committed offsets.
    #[validate(range(min = 0, max = 1_000_000_000_000_u64))]
    pub verify_max_records: u64,
    /// What to do about events that retention deleted unread.
    pub on_expired: OnExpired,
    /// Whether snapshots of another group are taken over.
    pub adopt_group: bool,
    /// Partitions that recover at the same time.
    #[validate(range(min = 1, max = 1_024))]
    pub max_parallel_partitions: usize,
}

/// What to do about events that retention deleted before they were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExpired {
    /// LogConfig an error with the count, go on from the log's start.
    #[default]
    Continue,
    /// LogConfig the error and exit.
    Stop,
}

/// Checks of the topics at the start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardsConfig {
    /// What to do about a check that permissions do not allow.
    pub unchecked: Unchecked,
}

/// What to do about a check that permissions do not allow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unchecked {
    /// Refuse to start, naming the ACL.
    #[default]
    Refuse,
    /// Warn.
    Allow,
}

/// How the process ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownConfig {
    /// From the signal to the exit at most.
    #[validate(range(min = 1, max = 3_600_000))]
    pub drain_timeout_ms: u64,
    /// How long a revocation may wait for what is applied to be committed.
    #[validate(range(min = 0, max = 60_000))]
    pub revoke_drain_ms: u64,
}

/// Heartbeat file and watchdog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// Where `steward health` looks.
    pub file: PathBuf,
    /// How old and settled an assignment has to be to count as ready.
    #[validate(range(min = 0, max = 600_000))]
    pub ready_settle_ms: u64,
    /// A partition that has something to do and does not move for longer ends the process.
    #[validate(range(min = 1_000, max = 7_200_000))]
    pub stall_timeout_ms: u64,
    /// No membership in the group for longer ends the process.
    #[validate(range(min = 1_000, max = 172_800_000))]
    pub join_timeout_ms: u64,
}

/// LogConfig lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// JSON, text, or whichever fits standard output.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,librdkafka=debug`.
    pub level: String,
    /// How often `stats` is logged.
    #[validate(range(min = 100, max = 3_600_000))]
    pub stats_interval_ms: u64,
    /// How keys of records stand in lines.
    pub keys: LogKeys,
    /// Where the secret is that keys are hashed with.
    pub key_hash_secret_file: Option<PathBuf>,
    /// After loading it holds the content of `key_hash_secret_file`.
    #[serde(skip)]
    pub key_hash_secret: Option<Secret>,
}

/// How keys of records stand in log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogKeys {
    /// As they are.
    #[default]
    Plain,
    /// As a hash with a secret: the same key gives the same hash, and nobody without the secret can find the key.
    Hashed,
    /// Not at all.
    Omitted,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeConfig {
    /// Threads that run entities; 0 is two per core.
    #[validate(range(min = 0, max = 1_024))]
    pub entity_threads: usize,
}

impl Config {
    /// Reads the file (none: defaults alone), lets the variables override it, and checks the whole, the files that it
    /// names included.
    ///
    /// # Errors
    /// The file cannot be read, or all mistakes that were found.
    pub fn load(path: Option<&Path>, env: impl IntoIterator<Item = (String, String)>) -> Result<Config, ConfigError> {
        Effective::load(path, env).map(|effective| effective.config)
    }
}

impl Default for LimitsConfig {
    fn default() -> LimitsConfig {
        LimitsConfig {
            max_payload_bytes: 262_144,
            max_in_flight_bytes: 50_331_648,
            max_batch_records: 65_536,
            max_transaction_bytes: 33_554_432,
            max_state_bytes: 1_073_741_824,
            entity_idle_ms: 30_000,
            max_active_entities: 200_000,
        }
    }
}

impl Default for RecoveryConfig {
    fn default() -> RecoveryConfig {
        RecoveryConfig {
            look_back_records: 10_000,
            verify_max_records: 1_000_000,
            on_expired: OnExpired::Continue,
            adopt_group: false,
            max_parallel_partitions: 4,
        }
    }
}

impl Default for ShutdownConfig {
    fn default() -> ShutdownConfig {
        ShutdownConfig { drain_timeout_ms: 25_000, revoke_drain_ms: 400 }
    }
}

impl Default for HealthConfig {
    fn default() -> HealthConfig {
        HealthConfig {
            file: "/tmp/steward.health".into(),
            ready_settle_ms: 5_000,
            stall_timeout_ms: 30_000,
            join_timeout_ms: 300_000,
        }
    }
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            format: LogFormat::Auto,
            level: "info".into(),
            stats_interval_ms: 10_000,
            keys: LogKeys::Plain,
            key_hash_secret_file: None,
            key_hash_secret: None,
        }
    }
}
