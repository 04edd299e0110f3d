//! The settings of every Kafka client, and where what a client says by itself goes.
//!
//! Three layers, the later ones win: what can be tuned, then `[kafka.properties]`, then what a promise rests on. A
//! property of the last kind in `[kafka.properties]` is an error, so that nobody believes to have changed it. The others
//! reach only the clients that they are for: the library warns about a consumer's property in a producer, each time.
//!
//! Architecture invariant: no log line is written here; [`ClientEvents`] hears of everything.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, ProducerContext};
use serde::Deserialize;

use crate::config::properties::{self, Scope};
use crate::config::{Config, Protocol, SaslMechanism, Secret, Security};
use crate::record::{Partition, Position};

/// Why a client's settings could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// `[kafka.properties]` names a property that a promise rests on.
    #[error(
        "kafka.properties must not set `{property}`: steward sets it itself, its promises rest on it; remove the line"
    )]
    Reserved {
        /// The property.
        property: String,
    },
    /// `[kafka.properties]` gives a property a value that the client library does not take.
    #[error("kafka.properties.{property} cannot be used: {problem}; correct it, or remove the line")]
    BadValue {
        /// The property.
        property: String,
        /// What the library says.
        problem: String,
    },
    /// Each setting is possible, and yet no client can be built of all of them.
    #[error("the client library refuses the settings: {problem}; correct [kafka.properties] or [kafka.security]")]
    Unusable {
        /// What the library says.
        problem: String,
    },
    /// A file that holds a secret cannot be read.
    #[error("cannot read {what} from {path}: {source}; check that the file is there and readable", path = path.display())]
    Unreadable {
        /// Which secret.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The build has no TLS.
    #[error(
        "{what} needs a build with the feature `tls`; use such a build, or kafka.security.protocol = \"plaintext\""
    )]
    NeedsTls {
        /// What was asked for.
        what: &'static str,
    },
    /// OAUTHBEARER without a source of tokens.
    #[error("sasl_mechanism is oauthbearer, but no token can be had; set kafka.security.oauth_token_file")]
    NoToken,
}

/// How often a client tells what it holds, in milliseconds.
const STATISTICS_INTERVAL_MS: u64 = 1_000;

/// Properties that `[kafka.properties]` may not name, because a promise or another setting rests on them.
const RESERVED: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.poll.interval.ms",
    "message.max.bytes",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "queued.max.messages.kbytes",
    "retry.backoff.ms",
    "session.timeout.ms",
    "statistics.interval.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

/// Bytes that the consumer may have read ahead, part of `limits.max_in_flight_bytes`: a quarter, at least 1 MiB.
#[must_use]
pub fn prefetch_bytes(config: &Config) -> u64 {
    (config.limits.max_in_flight_bytes / 4).max(1 << 20)
}

/// What the client library builds: a property for one kind only makes the other warn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    /// A consumer, a member of the group or not.
    Consumer,
    /// A producer, with transactions or without.
    Producer,
    /// Either, for questions: it neither reads nor writes.
    Admin,
}

impl ClientKind {
    fn is_meant_by(self, scope: Scope) -> bool {
        match (self, scope) {
            (_, Scope::Both) | (ClientKind::Consumer, Scope::Consumer) | (ClientKind::Producer, Scope::Producer) => {
                true
            }
            (ClientKind::Consumer | ClientKind::Admin, Scope::Producer)
            | (ClientKind::Producer | ClientKind::Admin, Scope::Consumer) => false,
        }
    }
}

/// Finds out whether the client library takes the settings of every client, without connecting to anything: a value
/// that it does not know, certificates that it cannot read.
///
/// # Errors
/// See [`SettingsError`].
pub fn try_out(config: &Config, instance: &str) -> Result<(), SettingsError> {
    let unusable = |error: KafkaError| SettingsError::Unusable { problem: error.to_string() };
    for mut settings in [admin(config)?, reader_committed(config)?, consumer(config, instance)?] {
        build_unconnected::<BaseConsumer<Silent>>(&mut settings).map_err(unusable)?;
    }
    build_unconnected::<BaseProducer<Silent>>(&mut producer(config, instance)?).map_err(unusable)
}

fn build_unconnected<C: FromClientConfigAndContext<Silent>>(settings: &mut ClientConfig) -> Result<(), KafkaError> {
    settings.remove("bootstrap.servers").create_with_context::<Silent, C>(Silent).map(drop)
}

/// For a client that is built only to see whether it can be: what it says, the real one says again.
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

/// What all clients of a kind have in common.
///
/// # Errors
/// See [`SettingsError`].
pub fn common(config: &Config, kind: ClientKind) -> Result<ClientConfig, SettingsError> {
    let kafka = &config.kafka;
    let mut settings = ClientConfig::new();
    // The wrapper would ask the `log` crate, which nobody uses here, and then keep everything below an error to itself.
    let debug = kafka.properties.contains_key("debug");
    settings.set_log_level(if debug { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
    settings
        .set("client.id", "steward")
        .set("log.connection.close", "false")
        .set("socket.keepalive.enable", "true")
        .set("socket.nagle.disable", "true")
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "2000");
    secure(&mut settings, &kafka.security, &kafka.properties)?;
    for (property, value) in &kafka.properties {
        if RESERVED.contains(&property.as_str()) {
            return Err(SettingsError::Reserved { property: property.clone() });
        }
        check_value(property, value)?;
        // What is not known as a property was refused with the configuration; it would be told by the check as well.
        if properties::scope(property).is_some_and(|scope| kind.is_meant_by(scope)) {
            settings.set(property, value);
        }
    }
    settings.set("bootstrap.servers", &kafka.bootstrap_servers).set("allow.auto.create.topics", "false");
    Ok(settings)
}

/// Asks the library about this property alone, so that its answer is about nothing else.
fn check_value(property: &str, value: &str) -> Result<(), SettingsError> {
    let alone = ClientConfig::new().set(property, value).create_native_config().map(drop);
    alone.map_err(|error| {
        let problem = if let KafkaError::ClientConfig(_, problem, _, _) = error { problem } else { error.to_string() };
        SettingsError::BadValue { property: property.to_owned(), problem }
    })
}

/// The member of the group. `instance` names the process among its siblings.
///
/// # Errors
/// See [`SettingsError`].
pub fn consumer(config: &Config, instance: &str) -> Result<ClientConfig, SettingsError> {
    let kafka = &config.kafka;
    let mut settings = reading(config, prefetch_bytes(config), "read_committed")?;
    set_default(&mut settings, config, "client.id", instance);
    settings
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", kafka.session_timeout_ms.to_string())
        .set("heartbeat.interval.ms", kafka.heartbeat_interval_ms.to_string())
        .set("max.poll.interval.ms", kafka.max_poll_interval_ms.max(kafka.session_timeout_ms).to_string())
        .set("statistics.interval.ms", STATISTICS_INTERVAL_MS.to_string());
    if kafka.static_membership {
        settings.set("group.instance.id", instance);
    }
    Ok(settings)
}

/// Reads committed records of single partitions, and asks for committed offsets once no transaction is open on them.
/// It names the group, but never joins it.
///
/// # Errors
/// See [`SettingsError`].
pub fn reader_committed(config: &Config) -> Result<ClientConfig, SettingsError> {
    reading_alone(config, "read_committed")
}

/// As [`reader_committed`], but sees what is not yet committed: for the true end of a log.
///
/// # Errors
/// See [`SettingsError`].
pub fn reader_uncommitted(config: &Config) -> Result<ClientConfig, SettingsError> {
    reading_alone(config, "read_uncommitted")
}

/// The producer of one transactional id.
///
/// # Errors
/// See [`SettingsError`].
pub fn producer(config: &Config, transactional_id: &str) -> Result<ClientConfig, SettingsError> {
    let mut settings = common(config, ClientKind::Producer)?;
    // One transaction's content and half as much again for headers and framing: it is staged as a whole.
    let staged_bytes = config.limits.max_transaction_bytes.saturating_add(config.limits.max_transaction_bytes / 2);
    let kbytes = (staged_bytes / 1024).clamp(65_536, 2_097_151);
    set_default(&mut settings, config, "linger.ms", "0");
    set_default(&mut settings, config, "compression.type", "lz4");
    set_default(&mut settings, config, "queue.buffering.max.messages", "1000000");
    set_default(&mut settings, config, "queue.buffering.max.kbytes", &kbytes.to_string());
    set_default(&mut settings, config, "batch.size", "1000000");
    set_default(&mut settings, config, "client.id", transactional_id);
    settings
        .set("transactional.id", transactional_id)
        .set("transaction.timeout.ms", config.kafka.transaction_timeout_ms.to_string())
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // A resend waits at least 0.8 of this: an answer that came sooner proves that the request went out once.
        .set("retry.backoff.ms", "500")
        // It counts bytes before compression; the broker's own limit is the one that judges a record.
        .set("message.max.bytes", "1000000000");
    Ok(settings)
}

/// Topics, configurations, permissions.
///
/// # Errors
/// See [`SettingsError`].
pub fn admin(config: &Config) -> Result<ClientConfig, SettingsError> {
    common(config, ClientKind::Admin)
}

/// All partitions that recover at the same time read ahead as much as the consumer does, together.
fn reader_prefetch_bytes(config: &Config) -> u64 {
    (prefetch_bytes(config) / config.recovery.max_parallel_partitions.max(1) as u64).max(1 << 20)
}

fn reading_alone(config: &Config, isolation: &str) -> Result<ClientConfig, SettingsError> {
    let mut settings = reading(config, reader_prefetch_bytes(config), isolation)?;
    // Each read begins behind the fetch that waits at the end of the one before, and a handover is four of them.
    set_default(&mut settings, config, "fetch.wait.max.ms", "20");
    Ok(settings)
}

fn reading(config: &Config, prefetch_bytes: u64, isolation: &str) -> Result<ClientConfig, SettingsError> {
    let mut settings = common(config, ClientKind::Consumer)?;
    // What a single answer may hold counts as read ahead, too; 50 MiB is the library's own limit.
    let answer_bytes = prefetch_bytes.clamp(1 << 20, 50 << 20);
    set_default(&mut settings, config, "queued.min.messages", "100000");
    // The pause after the read-ahead was full: the library's 1,000 ms starves a fast reader.
    set_default(&mut settings, config, "fetch.queue.backoff.ms", "10");
    set_default(&mut settings, config, "fetch.error.backoff.ms", "200");
    // A partition that starts beside idle ones waits for the fetch that is under way.
    set_default(&mut settings, config, "fetch.wait.max.ms", "100");
    set_default(&mut settings, config, "fetch.min.bytes", "1");
    set_default(&mut settings, config, "fetch.message.max.bytes", "1048576");
    set_default(&mut settings, config, "fetch.max.bytes", &answer_bytes.to_string());
    // A record batch larger than the limits above is sent nevertheless, alone; it has to be accepted.
    set_default(&mut settings, config, "receive.message.max.bytes", "1000000000");
    set_default(&mut settings, config, "check.crcs", "true");
    settings
        .set("group.id", &config.kafka.group_id)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", isolation)
        .set("queued.max.messages.kbytes", (prefetch_bytes / 1024).min(2_097_151).to_string());
    Ok(settings)
}

/// Properties that the library knows by two names: set by both, it is chance which value counts.
const SYNONYMS: &[[&str; 2]] = &[
    ["compression.codec", "compression.type"],
    ["fetch.message.max.bytes", "max.partition.fetch.bytes"],
    ["linger.ms", "queue.buffering.max.ms"],
];

fn set_default(settings: &mut ClientConfig, config: &Config, property: &str, value: &str) {
    let given = |name: &str| config.kafka.properties.contains_key(name);
    let names = SYNONYMS.iter().find(|names| names.contains(&property));
    if !given(property) && !names.is_some_and(|names| names.iter().any(|name| given(name))) {
        settings.set(property, value);
    }
}

// ---------------------------------------------------------------------------------------------------------- security

fn secure(
    settings: &mut ClientConfig,
    security: &Security,
    properties: &std::collections::BTreeMap<String, String>,
) -> Result<(), SettingsError> {
    let protocol = match security.protocol {
        Protocol::Plaintext => "plaintext",
        Protocol::Tls => "ssl",
        Protocol::SaslPlaintext => "sasl_plaintext",
        Protocol::SaslTls => "sasl_ssl",
    };
    let (tls, sasl) = match security.protocol {
        Protocol::Plaintext => (Used::No, Used::No),
        Protocol::Tls => (Used::Yes, Used::No),
        Protocol::SaslPlaintext => (Used::No, Used::Yes),
        Protocol::SaslTls => (Used::Yes, Used::Yes),
    };
    settings.set("security.protocol", protocol);
    if tls == Used::Yes {
        needs_tls("TLS")?;
        secure_tls(settings, security)?;
    }
    if sasl == Used::Yes {
        secure_sasl(settings, security, properties)?;
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Used {
    No,
    Yes,
}

fn secure_tls(settings: &mut ClientConfig, security: &Security) -> Result<(), SettingsError> {
    for (property, file) in [
        ("ssl.ca.location", &security.ca_file),
        ("ssl.certificate.location", &security.certificate_file),
        ("ssl.key.location", &security.key_file),
    ] {
        if let Some(file) = file {
            settings.set(property, file.to_string_lossy());
        }
    }
    let password = secret("the password of the client's key", &security.key_password, &security.key_password_file)?;
    if let Some(password) = password {
        settings.set("ssl.key.password", password);
    }
    Ok(())
}

fn secure_sasl(
    settings: &mut ClientConfig,
    security: &Security,
    properties: &std::collections::BTreeMap<String, String>,
) -> Result<(), SettingsError> {
    let mechanism = match security.sasl_mechanism {
        None => return Ok(()),
        Some(SaslMechanism::Plain) => "PLAIN",
        Some(SaslMechanism::ScramSha256) => {
            needs_tls("SASL SCRAM")?;
            "SCRAM-SHA-256"
        }
        Some(SaslMechanism::ScramSha512) => {
            needs_tls("SASL SCRAM")?;
            "SCRAM-SHA-512"
        }
        Some(SaslMechanism::Oauthbearer) => {
            needs_tls("SASL OAUTHBEARER")?;
            if security.oauth_token_file.is_none() && !properties.contains_key("sasl.oauthbearer.method") {
                return Err(SettingsError::NoToken);
            }
            "OAUTHBEARER"
        }
    };
    settings.set("sasl.mechanisms", mechanism);
    if let Some(username) = &security.username {
        settings.set("sasl.username", username);
    }
    if let Some(password) = secret("the SASL password", &security.password, &security.password_file)? {
        settings.set("sasl.password", password);
    }
    Ok(())
}

fn needs_tls(what: &'static str) -> Result<(), SettingsError> {
    if cfg!(feature = "tls") { Ok(()) } else { Err(SettingsError::NeedsTls { what }) }
}

/// The secret itself, else what the file holds, without the line's end that editors leave behind.
fn secret(what: &'static str, given: &Option<Secret>, file: &Option<PathBuf>) -> Result<Option<String>, SettingsError> {
    if let Some(given) = given {
        return Ok(Some(given.reveal().to_owned()));
    }
    let Some(path) = file else { return Ok(None) };
    let held = std::fs::read_to_string(path).map_err(|source| SettingsError::Unreadable {
        what,
        path: path.clone(),
        source,
    })?;
    Ok(Some(held.trim_end_matches(['\r', '\n']).to_owned()))
}

// -------------------------------------------------------------------------------------------- what clients have to say

/// Which of the process's clients speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientRole {
    /// The member of the group.
    Consumer,
    /// A reader of single partitions, while they recover.
    Reader,
    /// The transactional producer.
    Producer,
    /// Topics and configurations.
    Admin,
}

impl ClientRole {
    /// The name in log lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ClientRole::Consumer => "consumer",
            ClientRole::Reader => "reader",
            ClientRole::Producer => "producer",
            ClientRole::Admin => "admin",
        }
    }
}

/// How serious a client's own log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientLogLevel {
    /// Something failed.
    Error,
    /// Someone may want to look.
    Warn,
    /// The life cycle.
    Info,
    /// Only with librdkafka's `debug` property.
    Debug,
}

/// Hears what clients say by themselves. Called on whatever thread polls the client; must not block.
pub trait ClientEvents: Send + Sync {
    /// The client met an error; most of them it repairs by itself. `code` is the name of Kafka's or librdkafka's code.
    fn error(&self, role: ClientRole, code: &str, reason: &str);
    /// A log line of librdkafka. `facility` is its short name for what the line is about.
    fn log(&self, role: ClientRole, level: ClientLogLevel, facility: &str, message: &str);
    /// What the consumer holds, once a second.
    fn statistics(&self, statistics: ConsumerStatistics);
}

/// What the consumer holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerStatistics {
    /// Keys, values and framing read ahead but not yet taken, all partitions together.
    pub prefetched_bytes: u64,
    /// The partitions that are assigned.
    pub partitions: Vec<PartitionStatistics>,
}

/// Where a partition's log ends and where the consumer stands, as far as the client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionStatistics {
    /// The partition of the input.
    pub partition: Partition,
    /// Behind the last record that no open transaction holds back.
    pub last_stable: Option<Position>,
    /// Behind the last record.
    pub high_watermark: Option<Position>,
    /// The next record that the client hands out.
    pub position: Option<Position>,
}

/// The context of every client: hands on what the client says, and reads the OAUTHBEARER token.
#[derive(Clone)]
pub struct TalkingContext {
    role: ClientRole,
    events: Arc<dyn ClientEvents>,
    token_file: Option<PathBuf>,
}

impl TalkingContext {
    /// For a client in this role.
    #[must_use]
    pub fn new(config: &Config, role: ClientRole, events: Arc<dyn ClientEvents>) -> TalkingContext {
        TalkingContext { role, events, token_file: config.kafka.security.oauth_token_file.clone() }
    }

    /// Who hears of what happens.
    #[must_use]
    pub fn events(&self) -> &Arc<dyn ClientEvents> {
        &self.events
    }
}

impl ClientContext for TalkingContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let level = match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                ClientLogLevel::Error
            }
            RDKafkaLogLevel::Warning => ClientLogLevel::Warn,
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => ClientLogLevel::Info,
            RDKafkaLogLevel::Debug => ClientLogLevel::Debug,
        };
        self.events.log(self.role, level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| format!("{code:?}"));
        self.events.error(self.role, &code, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match read_statistics(statistics) {
            Ok(statistics) => self.events.statistics(statistics),
            Err(unreadable) => self.events.error(self.role, "StatisticsUnreadable", &unreadable.to_string()),
        }
    }

    fn generate_oauth_token(&self, _oauthbearer_config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        // The one boxed error of the house: the library's signature wants it, and carries it to `error` above.
        let path = self.token_file.as_deref().ok_or(TokenError::NotConfigured)?;
        Ok(read_token(path)?)
    }
}

impl ConsumerContext for TalkingContext {}

/// The few fields of librdkafka's statistics that anybody looks at; the rest is not even parsed into memory.
fn read_statistics(json: &[u8]) -> Result<ConsumerStatistics, serde_json::Error> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(default)]
        topics: std::collections::BTreeMap<String, RawTopic>,
    }
    #[derive(Deserialize)]
    struct RawTopic {
        #[serde(default)]
        partitions: std::collections::BTreeMap<String, RawPartition>,
    }
    #[derive(Deserialize)]
    struct RawPartition {
        partition: i32,
        fetch_state: String,
        fetchq_size: u64,
        ls_offset: i64,
        hi_offset: i64,
        app_offset: i64,
    }
    let known = |offset: i64| (offset >= 0).then_some(Position(offset));
    let raw: Raw = serde_json::from_slice(json)?;
    let mut statistics = ConsumerStatistics::default();
    // Partition -1 is librdkafka's own shelf for what has no partition yet.
    let partitions = raw.topics.values().flat_map(|topic| topic.partitions.values()).filter(|raw| raw.partition >= 0);
    for raw in partitions.filter(|raw| raw.fetch_state != "none" && raw.fetch_state != "stopped") {
        // All partitions are forwarded into one queue, and each of them reports the size of the whole.
        statistics.prefetched_bytes = statistics.prefetched_bytes.max(raw.fetchq_size);
        statistics.partitions.push(PartitionStatistics {
            partition: Partition(raw.partition),
            last_stable: known(raw.ls_offset),
            high_watermark: known(raw.hi_offset),
            position: known(raw.app_offset),
        });
    }
    statistics.partitions.sort_by_key(|statistics| statistics.partition);
    Ok(statistics)
}

// ------------------------------------------------------------------------------------------------------------- tokens

/// Why a token file yields no token.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("the broker asks for an OAUTHBEARER token; set kafka.security.oauth_token_file")]
    NotConfigured,
    #[error("cannot read the OAUTHBEARER token from {path}: {source}", path = path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} does not hold a JWT ({why}); it needs three parts with dots between, the second with `sub` and `exp`",
        path = path.display()
    )]
    NotAToken { path: PathBuf, why: String },
}

fn read_token(path: &Path) -> Result<OAuthToken, TokenError> {
    let held =
        std::fs::read_to_string(path).map_err(|source| TokenError::Unreadable { path: path.to_owned(), source })?;
    parse_token(held.trim()).map_err(|why| TokenError::NotAToken { path: path.to_owned(), why })
}

/// Reads who a JWT is about and when it ends. Its signature is the broker's business.
///
/// # Errors
/// What is wrong with it, for a person, without any part of it.
fn parse_token(token: &str) -> Result<OAuthToken, String> {
    #[derive(Deserialize)]
    struct Claims {
        sub: String,
        exp: f64,
    }
    let mut parts = token.split('.');
    let (Some(_header), Some(payload), Some(_signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("it has not three parts".to_owned());
    };
    let payload = decode_base64url(payload).ok_or("its second part is not base64url")?;
    // serde_json's message would quote the token.
    let claims: Claims =
        serde_json::from_slice(&payload).map_err(|_| "`sub` or `exp` is missing or of another type")?;
    // A float holds every millisecond until the year 287396; `as` saturates, so nonsense is merely far away.
    let lifetime_ms = (claims.exp * 1_000.0) as i64;
    Ok(OAuthToken { token: token.to_owned(), principal_name: claims.sub, lifetime_ms })
}

/// Base64 with the alphabet of URLs, without padding or with it (RFC 4648, section 5).
fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for letter in text.bytes() {
        let six = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    // One letter alone holds less than a byte.
    (text.len() % 4 != 1).then_some(bytes)
}
