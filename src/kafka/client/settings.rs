//! The settings of every Kafka client.
//!
//! Three layers, the later ones win: what can be tuned, then `[kafka.properties]`, then what a promise rests on. A
//! property of the last kind in `[kafka.properties]` is an error, so that nobody believes to have changed it. The others
//! reach only the clients that they are for: the library warns about a consumer's property in a producer, each time.

use std::path::PathBuf;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, ProducerContext};

use crate::config::properties::{
    PropertyScope, PropertyVerdict, {self},
};
use crate::config::{Config, SaslMechanism, Secret, SecurityConfig, SecurityProtocol};

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

/// Compressed bytes that one answer to a fetch holds at most, half of the prefetch where that is less. It may be of one
/// partition, and becomes a batch then: the more records, the more of them share a key. More than this has left the
/// processor's cache by the time that it is taken.
const ANSWER_BYTES: u64 = 3 << 20;

/// Bytes that the consumer may have read ahead, part of `limits.max_in_flight_bytes`: an eighth, at least 1 MiB. The
/// library counts keys and values alone, and takes some 240 bytes more for each record.
#[must_use]
pub fn prefetch_bytes(config: &Config) -> u64 {
    (config.limits.max_in_flight_bytes / 8).max(1 << 20)
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
    fn is_meant_by(self, scope: PropertyScope) -> bool {
        match (self, scope) {
            (_, PropertyScope::Both)
            | (ClientKind::Consumer, PropertyScope::Consumer)
            | (ClientKind::Producer, PropertyScope::Producer) => true,
            (ClientKind::Consumer | ClientKind::Admin, PropertyScope::Producer)
            | (ClientKind::Producer | ClientKind::Admin, PropertyScope::Consumer) => false,
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
        // A new client connects to a broker that it was told of, and to the one that it needs only after half of this, 11 ms
        // at the least. After a failure the wait doubles each time.
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "2000");
    secure(&mut settings, &kafka.security)?;
    for (property, value) in &kafka.properties {
        let scope = match properties::verdict(property) {
            Some(PropertyVerdict::Refused(_)) => return Err(SettingsError::Reserved { property: property.clone() }),
            Some(PropertyVerdict::Passed(scope)) => Some(scope),
            // The configuration refuses what is no property; so does the check.
            None => None,
        };
        check_value(property, value)?;
        if scope.is_some_and(|scope| kind.is_meant_by(scope)) {
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
    // A single answer is read ahead as well, and still compressed: it grows to some four times its size.
    let answer_bytes = ANSWER_BYTES.min(prefetch_bytes / 2).max(1 << 20);
    set_default(&mut settings, config, "queued.min.messages", "100000");
    // The pause after the read-ahead was full: the library's 1,000 ms starves a fast reader.
    set_default(&mut settings, config, "fetch.queue.backoff.ms", "10");
    set_default(&mut settings, config, "fetch.error.backoff.ms", "200");
    // A partition that starts beside idle ones waits for the fetch that is under way.
    set_default(&mut settings, config, "fetch.wait.max.ms", "100");
    set_default(&mut settings, config, "fetch.min.bytes", "1");
    for property in ["fetch.message.max.bytes", "fetch.max.bytes"] {
        set_default(&mut settings, config, property, &answer_bytes.to_string());
    }
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

fn secure(settings: &mut ClientConfig, security: &SecurityConfig) -> Result<(), SettingsError> {
    let protocol = match security.protocol {
        SecurityProtocol::Plaintext => "plaintext",
        SecurityProtocol::Tls => "ssl",
        SecurityProtocol::SaslPlaintext => "sasl_plaintext",
        SecurityProtocol::SaslTls => "sasl_ssl",
    };
    let (tls, sasl) = match security.protocol {
        SecurityProtocol::Plaintext => (Used::No, Used::No),
        SecurityProtocol::Tls => (Used::Yes, Used::No),
        SecurityProtocol::SaslPlaintext => (Used::No, Used::Yes),
        SecurityProtocol::SaslTls => (Used::Yes, Used::Yes),
    };
    settings.set("security.protocol", protocol);
    if tls == Used::Yes {
        needs_tls("TLS")?;
        secure_tls(settings, security)?;
    }
    if sasl == Used::Yes {
        secure_sasl(settings, security)?;
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Used {
    No,
    Yes,
}

fn secure_tls(settings: &mut ClientConfig, security: &SecurityConfig) -> Result<(), SettingsError> {
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

fn secure_sasl(settings: &mut ClientConfig, security: &SecurityConfig) -> Result<(), SettingsError> {
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
            if security.oauth_token_file.is_none() {
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
