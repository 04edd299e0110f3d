//! The settings of every Kafka client: one function per role.
//!
//! | role | function |
//! |---|---|
//! | member of the consumer group | [`group_member`] |
//! | producer of transactions: commit thread, `dlq replay` | [`transactional_producer`] |
//! | reader of partitions, outside of the group: recovery and commands | [`reader`] |
//! | topics and their configuration | [`admin`] |
//! | producer of `steward produce` | [`plain_producer`] |
//! | producer beside the embedded broker of `steward demo` | `embedded_producer` |
//!
//! Settings have three layers, and a later one wins: defaults that can be tuned; `[kafka.properties]`; properties that a
//! guarantee rests on. The configuration refuses a property of the last layer, so no operator believes to have changed
//! it. The other properties reach only the clients that they are for: the library warns about a consumer's property in
//! a producer, each time.
//!
//! The configuration is checked when it is loaded. Only librdkafka knows which values it takes, so [`check`] asks it
//! once, at the start. A later failure to build a client becomes `SettingsError::of`.
//!
//! Architecture invariant: no other file of the crate names a librdkafka property.
//! `kafka_client::only_the_client_settings_name_a_property` holds this.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, ProducerContext};
use rdkafka::util::get_rdkafka_version;

use crate::config::properties::{self, PropertyScope};
use crate::config::{Config, SaslMechanism, SecurityConfig, SecurityProtocol, Tls};
use crate::engine::foreign_members::{MEMBER_MARK, MemberIds};

/// Wait of a transactional producer before it repeats a request. The library takes 0.8 to 1.2 of it, so a call that
/// returned within 0.8 of it has sent its request once. The safety of transactions rests on that.
pub const RETRY_BACKOFF: Duration = Duration::from_millis(500);

/// How often a group member reports what it holds, and a producer whether brokers delay it.
const STATISTICS_INTERVAL_MS: &str = "1000";

/// How often a reader reports what the brokers sent: several times within the shortest limit of a command.
const READER_STATISTICS_INTERVAL_MS: &str = "250";

/// Limit of compressed bytes in one response to a fetch, or half of the prefetch if that is less. A response may be of
/// one partition, and then becomes one batch: the more records it has, the more of them share a key. What is fetched
/// beyond this has left the processor's cache when it is taken.
const FETCH_BYTES: u64 = 3 << 20;

/// A record's size limit of the client, which counts bytes before compression. It is far above the broker's own limit,
/// so that the broker alone decides.
const RECORD_BYTES: &str = "1000000000";

/// The library's default. A record batch above the topic's limit is refused as a whole, so it is lowered to that limit.
const BATCH_BYTES: u64 = 1_000_000;

/// What the estimate of a record's size may be below the size that the library counts.
const QUEUE_HEADROOM_BYTES: u64 = 1 << 20;

/// Greatest number of KiB that the library takes for a queue.
const MAX_QUEUE_KIB: u64 = 2_097_151;

/// Properties that the library knows by two names. If both are set, it is chance which value counts.
const SYNONYMS: &[[&str; 2]] = &[
    ["compression.codec", "compression.type"],
    ["fetch.message.max.bytes", "max.partition.fetch.bytes"],
    ["linger.ms", "queue.buffering.max.ms"],
];

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("kafka.properties.{property} cannot be used: {problem}; correct it, or remove the line")]
    BadValue { property: String, problem: String },
    /// Each value is possible, and yet the library builds no client from all of them.
    #[error("the client library refuses the settings: {problem}; correct [kafka.properties] or [kafka.security]")]
    Unusable { problem: String },
}

impl SettingsError {
    /// Names the property at fault if it is one of `[kafka.properties]`.
    pub(crate) fn of(error: &KafkaError, config: &Config) -> SettingsError {
        if let KafkaError::ClientConfig(_, problem, property, _) = error
            && config.kafka.properties.contains_key(property)
        {
            return SettingsError::BadValue { property: property.clone(), problem: problem.clone() };
        }
        SettingsError::Unusable { problem: error.to_string() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Records of committed transactions. Committed offsets are returned once no transaction is open on them.
    Committed,
    /// All records, so that the end of the log is its high watermark.
    Uncommitted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    fn value(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct ProducerIdentity<'a> {
    pub transactional_id: &'a str,
    /// Default of `client.id`.
    pub client_id: &'a str,
}

/// The settings of the two consumers that read a partition to its high watermark.
#[derive(Clone)]
pub struct ReaderClientSettings {
    pub(crate) committed: ClientConfig,
    pub(crate) uncommitted: ClientConfig,
    /// The group whose committed offsets are fetched.
    pub(crate) group_id: String,
    brokers: Arc<KnownBrokers>,
}

/// Addresses of brokers that the readers of a process have met. A new client tries them beside the configured ones, of
/// which there may be only one, and that one may be away.
#[derive(Default)]
struct KnownBrokers(Mutex<BTreeSet<String>>);

impl ReaderClientSettings {
    pub fn new(config: &Config) -> ReaderClientSettings {
        let mut reading = reader(config, Isolation::Committed);
        reading.set("statistics.interval.ms", READER_STATISTICS_INTERVAL_MS);
        ReaderClientSettings {
            committed: reading,
            uncommitted: reader(config, Isolation::Uncommitted),
            group_id: config.kafka.group_id.clone(),
            brokers: Arc::default(),
        }
    }

    /// Stores the addresses of all brokers of the cluster, as `host:port`.
    pub(crate) fn set_known_brokers(&self, addresses: BTreeSet<String>) {
        if !addresses.is_empty() {
            *self.brokers.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
        }
    }

    /// Returns these settings with the brokers that are known beside the configured ones.
    pub(crate) fn with_known_brokers(&self, settings: &ClientConfig) -> ClientConfig {
        const SERVERS: &str = "bootstrap.servers";
        let mut settings = settings.clone();
        let known = self.brokers.0.lock().unwrap_or_else(PoisonError::into_inner);
        let configured = settings.get(SERVERS).unwrap_or_default().to_owned();
        let servers: Vec<&str> = std::iter::once(configured.as_str()).chain(known.iter().map(String::as_str)).collect();
        settings.set(SERVERS, servers.join(","));
        settings
    }
}

// ------------------------------------------------------------------------------------------------------------- roles

/// Returns the settings of the member of the consumer group. `instance` is the name of this process within the group.
pub fn group_member(config: &Config, instance: &str) -> ClientConfig {
    let kafka = &config.kafka;
    let mut settings = consumer(config, prefetch_bytes(config), Isolation::Committed);
    set_default(&mut settings, config, "client.id", &format!("{MEMBER_MARK}{instance}"));
    settings
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", kafka.session_timeout_ms.to_string())
        .set("heartbeat.interval.ms", kafka.heartbeat_interval_ms.to_string())
        .set("max.poll.interval.ms", kafka.max_poll_interval_ms.to_string())
        .set("statistics.interval.ms", STATISTICS_INTERVAL_MS);
    if kafka.static_membership {
        settings.set("group.instance.id", instance);
    }
    settings
}

/// Returns the settings of the producer of one transactional id. `max_batch_bytes` is the smaller `max.message.bytes`
/// of its topics, if known.
pub fn transactional_producer(
    config: &Config,
    identity: ProducerIdentity<'_>,
    max_batch_bytes: Option<u64>,
) -> ClientConfig {
    let mut settings = common(config, ClientKind::Producer);
    let timeout_ms = config.kafka.transaction_timeout_ms.to_string();
    set_default(&mut settings, config, "client.id", identity.client_id);
    set_default(&mut settings, config, "linger.ms", "0");
    set_default(&mut settings, config, "compression.type", "lz4");
    set_default(&mut settings, config, "batch.size", &BATCH_BYTES.to_string());
    settings
        .set("transactional.id", identity.transactional_id)
        .set("transaction.timeout.ms", &timeout_ms)
        .set("message.timeout.ms", &timeout_ms)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("retry.backoff.ms", RETRY_BACKOFF.as_millis().to_string())
        .set("message.max.bytes", RECORD_BYTES)
        .set("queue.buffering.max.messages", "1000000")
        .set("queue.buffering.max.kbytes", produce_queue_kib(config).to_string())
        .set("delivery.report.only.error", "true")
        .set("statistics.interval.ms", STATISTICS_INTERVAL_MS);
    if let Some(bytes) = max_batch_bytes {
        settings.set("batch.size", bytes.min(BATCH_BYTES).to_string());
    }
    settings
}

/// Returns settings of the same producer, which also logs each response that makes it send records again. It is for a
/// producer that replaces one whose records were not delivered: the library reports the cause in no other way.
pub(crate) fn with_refusals_logged(settings: &ClientConfig) -> ClientConfig {
    let mut settings = settings.clone();
    if settings.get("debug").is_none() {
        settings.set("debug", "msg").set_log_level(RDKafkaLogLevel::Debug);
    }
    settings
}

/// Reads single partitions and fetches committed offsets. The client names the group, and never joins it.
pub fn reader(config: &Config, isolation: Isolation) -> ClientConfig {
    // All partitions that recover at one time read ahead as much as the group member does.
    let share = prefetch_bytes(config) / config.recovery.max_parallel_partitions as u64;
    let mut settings = consumer(config, share.max(1 << 20), isolation);
    // Each read begins after the fetch that waits at the end of the read before, and a handover has four reads.
    set_default(&mut settings, config, "fetch.wait.max.ms", "20");
    settings
}

pub fn admin(config: &Config) -> ClientConfig {
    common(config, ClientKind::Admin)
}

/// A producer without transactions that writes each record once, in order. Without `compression`, `[kafka.properties]`
/// decides, then lz4.
pub fn plain_producer(config: &Config, compression: Option<Compression>) -> ClientConfig {
    let mut settings = common(config, ClientKind::Producer);
    match compression {
        Some(compression) => {
            settings.remove("compression.codec").set("compression.type", compression.value());
        }
        None => set_default(&mut settings, config, "compression.type", Compression::Lz4.value()),
    }
    settings
        .set("client.id", "steward-produce")
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // The caller limits the wait. A record that the client drops would leave a gap in its key's history.
        .set("message.timeout.ms", "0")
        .set("partitioner", "murmur2_random")
        .set("message.max.bytes", RECORD_BYTES)
        .set("linger.ms", "5")
        .set("queue.buffering.max.messages", "100000")
        // A single record may be larger.
        .set("queue.buffering.max.kbytes", "65536");
    settings
}

/// The size of the queue in which a transaction is staged as a whole: its content, and half as much again for headers
/// and framing. It also bounds a single record, so that it has room for the largest snapshot: one event's payload, and
/// what the entity had before.
fn produce_queue_kib(config: &Config) -> u64 {
    let limits = &config.limits;
    let staged_bytes = limits.max_transaction_bytes.saturating_add(limits.max_transaction_bytes / 2);
    let largest_snapshot_bytes = limits.max_payload_bytes.saturating_mul(2);
    (staged_bytes.max(largest_snapshot_bytes) / 1024).clamp(65_536, MAX_QUEUE_KIB)
}

/// Returns the largest record, in bytes before compression, that the queue of a transactional producer takes.
pub fn max_record_bytes(config: &Config) -> u64 {
    produce_queue_kib(config) * 1024 - QUEUE_HEADROOM_BYTES
}

pub(crate) fn embedded_producer(bootstrap_servers: &str) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", bootstrap_servers).set("message.max.bytes", "100000000").set("linger.ms", "0");
    settings
}

/// Bytes that the group member may read ahead, a part of `limits.max_in_flight_bytes`: an eighth, and at least 1 MiB.
/// The library counts only keys and values, and takes some 240 bytes more for each record.
pub fn prefetch_bytes(config: &Config) -> u64 {
    (config.limits.max_in_flight_bytes / 8).max(1 << 20)
}

/// Returns how the client ids of the group's members look if they have this configuration.
pub(crate) fn member_ids(config: &Config) -> MemberIds {
    config.kafka.properties.get("client.id").map_or(MemberIds::Marked, |id| MemberIds::Configured(id.clone()))
}

// ------------------------------------------------------------------------------------------------------------- check

/// Asks the client library whether it takes the settings of every client. Connects to nothing.
///
/// # Errors
/// A value that the library does not know, a certificate that it cannot read, or values that do not fit together.
pub fn check(config: &Config, instance: &str) -> Result<(), SettingsError> {
    for (property, value) in &config.kafka.properties {
        // Alone, so that the answer is about nothing else.
        let alone = ClientConfig::new().set(property, value).create_native_config().map(drop);
        alone.map_err(|error| SettingsError::of(&error, config))?;
    }
    let refused = |error: KafkaError| SettingsError::of(&error, config);
    for mut settings in [admin(config), reader(config, Isolation::Committed), group_member(config, instance)] {
        build_unconnected::<BaseConsumer<Silent>>(&mut settings).map_err(refused)?;
    }
    let identity = ProducerIdentity { transactional_id: instance, client_id: instance };
    build_unconnected::<BaseProducer<Silent>>(&mut transactional_producer(config, identity, None)).map_err(refused)
}

fn build_unconnected<C: FromClientConfigAndContext<Silent>>(settings: &mut ClientConfig) -> Result<(), KafkaError> {
    settings.remove("bootstrap.servers").create_with_context::<Silent, C>(Silent).map(drop)
}

/// The context of a client that is built for [`check`] alone. The real client repeats its messages.
struct Silent;

impl ClientContext for Silent {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Silent {}

impl ProducerContext for Silent {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    pub version: String,
    /// Whether it has TLS, SASL SCRAM and SASL OAUTHBEARER.
    pub tls: Tls,
}

pub fn library() -> Library {
    let (_, version) = get_rdkafka_version();
    // The library that was linked, not the features that the build asked for.
    let features = ClientConfig::new().create_native_config().and_then(|native| native.get("builtin.features"));
    let has_tls = features.is_ok_and(|features| features.split(',').any(|feature| feature.trim() == "ssl"));
    Library { version, tls: if has_tls { Tls::BuiltIn } else { Tls::Absent } }
}

// ------------------------------------------------------------------------------------------------------ shared layers

/// A property that is for one kind only makes the library warn in a client of the other kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientKind {
    Consumer,
    Producer,
    /// Neither reads nor writes.
    Admin,
}

impl ClientKind {
    fn takes(self, scope: PropertyScope) -> bool {
        match scope {
            PropertyScope::Both => true,
            PropertyScope::Consumer => self == ClientKind::Consumer,
            PropertyScope::Producer => self == ClientKind::Producer,
        }
    }
}

fn common(config: &Config, kind: ClientKind) -> ClientConfig {
    let kafka = &config.kafka;
    let mut settings = ClientConfig::new();
    // By default the wrapper asks the `log` crate for the level, which this process does not set up, and then drops
    // everything below an error.
    let debug = kafka.properties.contains_key("debug");
    settings.set_log_level(if debug { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
    settings
        .set("client.id", "steward")
        .set("log.connection.close", "false")
        .set("socket.keepalive.enable", "true")
        .set("socket.nagle.disable", "true")
        // A new client connects to the broker that it was given, and to the broker that it needs only after half of
        // this, 11 ms at least. After a failure the wait doubles each time.
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "2000");
    secure(&mut settings, &kafka.security);
    for (property, value) in &kafka.properties {
        if properties::scope(property).is_some_and(|scope| kind.takes(scope)) {
            settings.set(property, value);
        }
    }
    settings.set("bootstrap.servers", &kafka.bootstrap_servers).set("allow.auto.create.topics", "false");
    settings
}

fn consumer(config: &Config, prefetch_bytes: u64, isolation: Isolation) -> ClientConfig {
    let mut settings = common(config, ClientKind::Consumer);
    // A single response is read ahead as well, and still compressed: it grows to some four times its size.
    let fetch_bytes = FETCH_BYTES.min(prefetch_bytes / 2).max(1 << 20);
    set_default(&mut settings, config, "queued.min.messages", "100000");
    // The pause after the read-ahead was full: the library's 1,000 ms starves a fast reader.
    set_default(&mut settings, config, "fetch.queue.backoff.ms", "10");
    set_default(&mut settings, config, "fetch.error.backoff.ms", "200");
    // A partition that starts beside idle ones waits for the fetch that is in progress.
    set_default(&mut settings, config, "fetch.wait.max.ms", "100");
    set_default(&mut settings, config, "fetch.min.bytes", "1");
    for property in ["fetch.message.max.bytes", "fetch.max.bytes"] {
        set_default(&mut settings, config, property, &fetch_bytes.to_string());
    }
    // The broker sends a record batch above the limits of a fetch nevertheless, alone, and the client has to accept it.
    set_default(&mut settings, config, "receive.message.max.bytes", "1000000000");
    set_default(&mut settings, config, "check.crcs", "true");
    settings
        .set("group.id", &config.kafka.group_id)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "false")
        .set("auto.offset.reset", "error")
        .set(
            "isolation.level",
            match isolation {
                Isolation::Committed => "read_committed",
                Isolation::Uncommitted => "read_uncommitted",
            },
        )
        .set("queued.max.messages.kbytes", (prefetch_bytes / 1024).min(MAX_QUEUE_KIB).to_string());
    settings
}

fn set_default(settings: &mut ClientConfig, config: &Config, property: &str, value: &str) {
    let is_given = |name: &str| config.kafka.properties.contains_key(name);
    let names = SYNONYMS.iter().find(|names| names.contains(&property));
    if !is_given(property) && !names.is_some_and(|names| names.iter().any(|name| is_given(name))) {
        settings.set(property, value);
    }
}

fn secure(settings: &mut ClientConfig, security: &SecurityConfig) {
    let protocol = match security.protocol {
        SecurityProtocol::Plaintext => "plaintext",
        SecurityProtocol::Ssl => "ssl",
        SecurityProtocol::SaslPlaintext => "sasl_plaintext",
        SecurityProtocol::SaslSsl => "sasl_ssl",
    };
    settings.set("security.protocol", protocol);
    if security.protocol.uses_tls() {
        for (property, file) in [
            ("ssl.ca.location", &security.ca_file),
            ("ssl.certificate.location", &security.certificate_file),
            ("ssl.key.location", &security.key_file),
        ] {
            if let Some(file) = file {
                settings.set(property, file.to_string_lossy());
            }
        }
        if let Some(password) = &security.key_password {
            settings.set("ssl.key.password", password.reveal());
        }
    }
    if !security.protocol.uses_sasl() {
        return;
    }
    let Some(mechanism) = security.sasl_mechanism else { return };
    settings.set(
        "sasl.mechanisms",
        match mechanism {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
            SaslMechanism::Oauthbearer => "OAUTHBEARER",
        },
    );
    if mechanism == SaslMechanism::Oauthbearer {
        // `serve_token` takes the client's requests for tokens from this queue, and they bring the extensions along.
        settings.set("enable_sasl_queue", "true");
        if let Some(extensions) = &security.oauth_extensions {
            settings.set("sasl.oauthbearer.config", extensions);
        }
    }
    if let Some(username) = &security.username {
        settings.set("sasl.username", username);
    }
    if let Some(password) = &security.password {
        settings.set("sasl.password", password.reveal());
    }
}
