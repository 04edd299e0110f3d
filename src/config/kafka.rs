//! The section `[kafka]`: who this process is, and how it reaches the brokers.
//!
//! Architecture invariant: the client library is not known here. Settings are plain values; turning them into client
//! properties is the business of whoever opens connections.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};
use validator::Validate;

/// The longest name of a topic, of a static member and thus of an instance, in bytes. KafkaConfig's own limit.
pub const MAX_NAME_BYTES: usize = 249;

/// The brokers, the group and the topics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaConfig {
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
    /// Whether missing state and DLQ topics are created.
    pub create_topics: bool,
    /// How long the start waits for the input topic to be there.
    #[validate(range(min = 0, max = 3_600_000))]
    pub topic_wait_ms: u64,
    /// A member that is silent for longer is put out of the group.
    #[validate(range(min = 1_000, max = 3_600_000))]
    pub session_timeout_ms: u64,
    /// How often the member tells the group that it lives.
    #[validate(range(min = 50, max = 1_200_000))]
    pub heartbeat_interval_ms: u64,
    /// A process that does not poll for longer leaves the group.
    #[validate(range(min = 1_000, max = 86_400_000))]
    pub max_poll_interval_ms: u64,
    /// The coordinator aborts a transaction that is open for longer. Brokers allow 900,000 unless told otherwise.
    #[validate(range(min = 1_000, max = 900_000))]
    pub transaction_timeout_ms: u64,
    /// TLS and SASL.
    pub security: SecurityConfig,
    /// Further librdkafka properties; [`crate::config::properties`] tells which client each of them is for.
    pub properties: BTreeMap<String, String>,
}

impl KafkaConfig {
    /// Names this process among its siblings: the configured name, else the pod's, else host name and process id.
    ///
    /// An empty pod name counts as none. Characters that KafkaConfig does not allow in a member's name become `-`; the host
    /// name is cut where the whole would exceed [`MAX_NAME_BYTES`], the process id never is.
    #[must_use]
    pub fn instance(&self, pod_name: Option<&str>, host_name: &str, process_id: u32) -> String {
        let given = self.instance_name.as_deref().or(pod_name.filter(|name| !name.is_empty()));
        match given {
            Some(name) => legal(name, MAX_NAME_BYTES),
            None => {
                let suffix = format!("-{process_id}");
                legal(host_name, MAX_NAME_BYTES - suffix.len()) + &suffix
            }
        }
    }

    /// The transactional id of the process with this instance name: `{group_id}-{instance}`.
    #[must_use]
    pub fn transactional_id(&self, instance: &str) -> String {
        format!("{}-{instance}", self.group_id)
    }
}

/// Whether KafkaConfig takes this as the name of a topic or of a static member.
pub(super) fn is_legal_name(name: &str) -> bool {
    let legal_bytes = name.bytes().all(is_legal_byte);
    (1..=MAX_NAME_BYTES).contains(&name.len()) && legal_bytes && name != "." && name != ".."
}

fn is_legal_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

fn legal(name: &str, max_bytes: usize) -> String {
    let legal = |c: char| if u8::try_from(c).is_ok_and(is_legal_byte) { c } else { '-' };
    name.chars().map(legal).take(max_bytes).collect()
}

/// TLS and SASL. A secret is given directly or, better, as a file.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecurityConfig {
    /// `plaintext`, `tls`, `sasl_plaintext` or `sasl_tls`.
    pub protocol: SecurityProtocol,
    /// `plain`, `scram-sha-256`, `scram-sha-512` or `oauthbearer`.
    pub sasl_mechanism: Option<SaslMechanism>,
    /// SASL user name.
    pub username: Option<String>,
    /// SASL password. After loading it holds the content of `password_file`, where that is given.
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
    /// Password of the client's key. After loading it holds the content of `key_password_file`, where that is given.
    pub key_password: Option<Secret>,
    /// A file that holds the password of the client's key.
    pub key_password_file: Option<PathBuf>,
}

impl fmt::Debug for SecurityConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecurityConfig").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// How the connection is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecurityProtocol {
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

impl SecurityProtocol {
    /// Whether the connection is encrypted.
    #[must_use]
    pub fn uses_tls(self) -> bool {
        match self {
            SecurityProtocol::Tls | SecurityProtocol::SaslTls => true,
            SecurityProtocol::Plaintext | SecurityProtocol::SaslPlaintext => false,
        }
    }

    /// Whether the client proves who it is with SASL.
    #[must_use]
    pub fn uses_sasl(self) -> bool {
        match self {
            SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslTls => true,
            SecurityProtocol::Plaintext | SecurityProtocol::Tls => false,
        }
    }
}

/// How the client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

/// A string that never shows itself: not in `Debug`, and not when it is serialised.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps the secret.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Secret {
        Secret(secret.into())
    }

    /// The secret itself, for the client library alone.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("[secret]")
    }
}

impl Default for KafkaConfig {
    fn default() -> KafkaConfig {
        KafkaConfig {
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
            security: SecurityConfig::default(),
            properties: BTreeMap::new(),
        }
    }
}
