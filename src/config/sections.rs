//! Owns every section but `[kafka]`: its keys with type, default, range, unit and documentation.
//!
//! The doc comment of a field is also the comment in `config.toml`, the description in the chart's schema and the row in
//! `docs/configuration.md`: plain sentences with backticks, no links, no ` = `.

use std::path::PathBuf;

use crate::config::declaration::{config_section, config_words};
use crate::config::kafka::Secret;

config_section! {
    /// Bounds of memory and of unfinished work.
    #[section("limits")]
    #[derive(Debug)]
    pub struct LimitsConfig {
        /// Largest value of a record. A larger one is rejected without being parsed (`payload_too_large`); a value of
        /// exactly this size is allowed.
        #[key(number(1..=104_857_600, "bytes"), also = "below `max_in_flight_bytes`")]
        pub max_payload_bytes: u64 = 262_144,
        /// Bytes read but not yet committed, the client's prefetch included, all partitions together. Reading pauses
        /// above this limit, so that slow brokers slow down the reading and do not fill the memory.
        // A batch lies within this limit and has to stay below 4 GiB, which the maximum ensures.
        #[key(number(1_024..=2_147_483_648, "bytes"))]
        pub max_in_flight_bytes: u64 = 50_331_648,
        /// Records in one batch. It bounds the work that is handed to the entities at a time.
        #[key(number(1..=1_000_000, "records"))]
        pub max_batch_records: usize = 65_536,
        /// Bytes in one transaction. It keeps a transaction well below its timeout. If not set:
        /// `max_in_flight_bytes`, if that is below the default.
        #[key(number(1_024..=2_147_483_648, "bytes"), also = "at most `max_in_flight_bytes`")]
        pub max_transaction_bytes: u64 = 33_554_432,
        /// Snapshots of passivated entities in memory, all partitions together. A restore that would exceed the limit
        /// ends the process and logs how many processes the state needs.
        #[key(number(1..=1_099_511_627_776, "bytes"))]
        pub max_state_bytes: u64 = 1_073_741_824,
        /// Time without an event after which an entity is passivated: its actor ends, its snapshot stays in memory.
        #[key(number(1..=604_800_000, "ms"))]
        pub entity_idle_ms: u64 = 30_000,
        /// Entities that have an actor at the same time, about 1.3 KB of memory each.
        #[key(number(1..=100_000_000, "entities"))]
        pub max_active_entities: usize = 200_000,
    }
}

config_section! {
    /// Transactions.
    #[section("commit")]
    #[derive(Debug)]
    pub struct CommitConfig {
        /// Shortest time from the begin of a transaction to the begin of the next one. Each transaction writes a marker
        /// into every partition that it touches, so a longer interval means fewer markers and less work for the brokers,
        /// and outcomes that are visible later. It is cut short when as much waits as a transaction may carry, and by a
        /// revocation.
        #[key(number(0..=10_000, "ms"))]
        pub min_interval_ms: u64 = 0,
    }
}

config_section! {
    /// What happens before a partition is served.
    #[section("recovery")]
    #[derive(Debug)]
    pub struct RecoveryConfig {
        /// Recovery verifies at least this many offsets before the start position, to find lost writes. If not set:
        /// `verify_max_records`, if that is above 0 and below the default.
        #[key(number(0..=1_000_000_000, "records"), also = "at most `verify_max_records` unless that is 0")]
        pub look_back_records: u64 = 10_000,
        /// Longest range of a partition that recovery verifies. A longer range is not verified, and a warning is
        /// logged. 0 verifies nothing and trusts the committed offsets, which is how to skip events on purpose.
        #[key(number(0..=1_000_000_000_000, "records"))]
        pub verify_max_records: u64 = 1_000_000,
        /// What to do about events that retention deleted before they were read. Either way, an error is logged with
        /// their number; then the process continues at the start of the log (`continue`), or ends (`stop`).
        #[key(word(OnExpired))]
        pub on_expired: OnExpired = OnExpired::Continue,
        /// Whether recovery accepts snapshots that another group wrote. Only for moving to a new group while the old one
        /// is stopped: two groups on one state topic do not fence each other, and overwrite each other's snapshots.
        #[key(flag)]
        pub adopt_group: bool = false,
        /// Partitions that recover at the same time. It bounds buffers and connections.
        #[key(number(1..=1_024, "partitions"))]
        pub max_parallel_partitions: usize = 4,
    }
}

config_words! {
    /// What to do about events that retention deleted before they were read.
    pub enum OnExpired {
        Continue = "continue",
        Stop = "stop",
    }
}

config_section! {
    /// Preflight checks of the topics at the start.
    #[section("guards")]
    #[derive(Debug)]
    pub struct GuardsConfig {
        /// What to do about a check of the topics that the permissions do not allow: refuse to start and name the
        /// missing ACL (`refuse`), or log a warning (`allow`).
        #[key(word(Unchecked))]
        pub unchecked: Unchecked = Unchecked::Refuse,
        /// The smallest `delete.retention.ms` of the state topic, which is demanded of it and which it is created with.
        /// By default it follows from the input: its `retention.ms` and `segment.ms`, or one day if it keeps its events
        /// indefinitely. Lower it only if the platform caps the setting, for example at 60,566,400,000.
        #[key(number(1..=31_536_000_000_000, "ms"), example = "60566400000")]
        pub tombstone_retention_ms: Option<u64> = None,
    }
}

config_words! {
    /// What to do about a check that the permissions do not allow.
    pub enum Unchecked {
        Refuse = "refuse",
        Allow = "allow",
    }
}

config_section! {
    /// How the process stops.
    #[section("shutdown")]
    #[derive(Debug)]
    pub struct ShutdownConfig {
        /// Longest time from SIGTERM to the exit. On Kubernetes, keep `terminationGracePeriodSeconds` above it.
        #[key(number(1..=3_600_000, "ms"), also = "above `revoke_drain_ms`")]
        pub drain_timeout_ms: u64 = 25_000,
        /// Longest time that a revocation waits for applied events to be committed. The whole assignment pauses
        /// meanwhile.
        #[key(number(0..=60_000, "ms"), also = "below `kafka.max_poll_interval_ms`")]
        pub revoke_drain_ms: u64 = 400,
    }
}

config_section! {
    /// Heartbeat file and watchdog.
    #[section("health")]
    #[derive(Debug)]
    pub struct HealthConfig {
        /// Heartbeat file that `steward health` reads. Only real progress refreshes it.
        #[key(file(Written))]
        pub file: PathBuf = "/tmp/steward.health".into(),
        /// Time that the latest assignment has to stay unchanged before the process counts as ready.
        #[key(number(0..=600_000, "ms"))]
        pub ready_settle_ms: u64 = 5_000,
        /// Time without progress of a partition that has work, after which the process ends and logs the cause. If not
        /// set: at least 20000 above the session timeout and the transaction timeout.
        #[key(number(1_000..=7_200_000, "ms"), also = "above `kafka.session_timeout_ms`")]
        pub stall_timeout_ms: u64 = 30_000,
        /// Time outside the group after which the process ends and logs the cause. It is longer than `stall_timeout_ms`
        /// for two reasons. The group waits for its slowest member as long as `kafka.max_poll_interval_ms`. After an
        /// outage of the brokers, a process that waits joins sooner than one that starts again. If not set: twice
        /// `kafka.max_poll_interval_ms`, if `kafka.max_poll_interval_ms` is 300000 or more.
        #[key(number(1_000..=172_800_000, "ms"), also = "above `kafka.max_poll_interval_ms`")]
        pub join_timeout_ms: u64 = 300_000,
        /// Time after which a warning is logged about a transaction that a producer of the input leaves open. Events
        /// behind it cannot be read until it ends.
        #[key(number(1_000..=86_400_000, "ms"))]
        pub open_transaction_ms: u64 = 60_000,
    }
}

config_section! {
    /// Lines of the log.
    #[section("log")]
    #[derive(Debug)]
    pub struct LogConfig {
        /// Format of a line. `auto` is JSON unless standard output is a terminal.
        #[key(word(LogFormat))]
        pub format: LogFormat = LogFormat::Auto,
        /// A level, or a filter such as `info,librdkafka=debug`. The only key that can be changed while the process
        /// runs.
        #[key(text(LogLevel))]
        pub level: String = "info".into(),
        /// Time between two `stats` lines.
        #[key(number(100..=3_600_000, "ms"))]
        pub stats_interval_ms: u64 = 10_000,
        /// Bytes of lines that may wait for standard output. If it is not read and more lines arrive, the oldest ones
        /// are dropped and counted. The process itself never waits for a line.
        #[key(number(65_536..=1_073_741_824, "bytes"))]
        pub max_queued_bytes: usize = 4_194_304,
        /// How a line shows the key of a record: as it is, as a hash (HMAC-SHA256 with the secret below), or not at all.
        #[key(word(LogKeys))]
        pub keys: LogKeys = LogKeys::Plain,
        /// File with the secret that keys are hashed with: random text, the same in every process. Required by `hashed`
        /// keys.
        // A shorter secret could be found by trying, and with it the keys behind their hashes.
        #[key(file(LongSecret(16)), example = "\"/etc/steward/log-key-secret\"")]
        pub key_hash_secret_file: Option<PathBuf> = None,
        #[not_a_key]
        /// After loading, the content of `key_hash_secret_file`.
        #[serde(skip)]
        pub key_hash_secret: Option<Secret>,
    }
}

config_words! {
    /// How a log line shows the key of a record.
    pub enum LogKeys {
        Plain = "plain",
        /// A hash with a secret: equal keys have equal hashes, and without the secret a hash does not reveal its key.
        Hashed = "hashed",
        Omitted = "omitted",
    }
}

config_words! {
    /// Format of log lines.
    pub enum LogFormat {
        /// JSON unless standard output is a terminal.
        Auto = "auto",
        /// One JSON object per line.
        Json = "json",
        /// For people.
        Text = "text",
    }
}

config_section! {
    /// Threads.
    #[section("runtime")]
    #[derive(Debug)]
    pub struct RuntimeConfig {
        /// Threads that run entities. 0 is two per core.
        #[key(number(0..=1_024, "threads"))]
        pub entity_threads: usize = 0,
    }
}
