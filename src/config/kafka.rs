//! Owns the sections `[kafka]` and `[kafka.security]`: the identity of this process, and its connection to the brokers.
//!
//! Absent on purpose: the client library. Settings are plain values here; `kafka::client` turns them into client
//! properties.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

use crate::config::declaration::{config_section, config_words};

/// Longest name of a topic or a static member, and so of an instance, in bytes. Kafka's own limit.
pub const MAX_NAME_BYTES: usize = 249;

config_section! {
    /// The brokers, the consumer group and the topics.
    #[section("kafka")]
    #[derive(Debug)]
    pub struct KafkaConfig {
        /// Addresses of brokers. One broker that responds is enough; with two, one can be down at the start.
        #[key(text(Servers))]
        pub bootstrap_servers: String = "localhost:9092".into(),
        /// The consumer group. Its processes share the partitions, and the state belongs to the group.
        #[key(text(Free), also = "no white space at the ends")]
        pub group_id: String = "steward".into(),
        /// Name of this process within its group: the same after a restart, different in each process. If not set: the
        /// variable `POD_NAME`, else host name and process id, with a random suffix if the process id is 1, as in a
        /// container. `{group_id}-{instance name}` is the transactional id, so that a newer process of the same name
        /// fences an older one.
        #[key(text(Name), example = "\"steward-0\"")]
        pub instance_name: Option<String> = None,
        /// Whether the instance name is also the static member id (`group.instance.id`). A restart within the session
        /// timeout then causes no rebalance. But a static member does not leave the group when it stops: scaling in
        /// waits until the session expires. Needs `kafka.instance_name` or `POD_NAME`.
        #[key(flag)]
        pub static_membership: bool = false,
        /// Input topic with the events. It has to exist.
        #[key(text(Name), also = "different from the other topics")]
        pub topic: String = "services".into(),
        /// State topic with the snapshots.
        #[key(text(Name), also = "different from the other topics")]
        pub state_topic: String = "services.state".into(),
        /// DLQ topic with the rejected events.
        #[key(text(Name), also = "different from the other topics")]
        pub dlq_topic: String = "services.dlq".into(),
        /// Whether the start creates a missing state or DLQ topic, with as many partitions and replicas as the input
        /// topic.
        #[key(flag)]
        pub create_topics: bool = true,
        /// Longest time that the start waits for the input topic to exist.
        #[key(number(0..=3_600_000, "ms"))]
        pub topic_wait_ms: u64 = 60_000,
        /// Time without a heartbeat after which the group gives the partitions of this process to other members: how
        /// long a crash goes unnoticed. Brokers accept 6000 to 1800000 unless `group.min.session.timeout.ms` and
        /// `group.max.session.timeout.ms` allow more.
        #[key(number(1_000..=3_600_000, "ms"), also = "below `max_poll_interval_ms`")]
        pub session_timeout_ms: u64 = 10_000,
        /// Time between two heartbeats to the group. The response to a heartbeat also announces a rebalance, so a short
        /// interval makes a handover quick.
        #[key(number(50..=1_200_000, "ms"), also = "below a third of `session_timeout_ms`")]
        pub heartbeat_interval_ms: u64 = 300,
        /// Time without a poll after which this process leaves the group. It protects the group from a process that
        /// hangs. If not set: twice the session timeout, if the session timeout is 60000 or more.
        #[key(number(1_000..=86_400_000, "ms"), also = "above `session_timeout_ms`")]
        pub max_poll_interval_ms: u64 = 60_000,
        /// Time after which the brokers abort an open transaction. The next owner of a crashed process's partitions ends
        /// that process's transaction. If it does not know the process, it waits that long, and up to 10 s more. Brokers
        /// accept at most 900000 by default.
        #[key(number(1_000..=900_000, "ms"))]
        pub transaction_timeout_ms: u64 = 10_000,
        #[not_a_key]
        pub security: SecurityConfig,
        #[not_a_key]
        /// Further librdkafka properties; [`crate::config::properties`] lists the client that each of them is for.
        pub properties: BTreeMap<String, String>,
    }
}

impl KafkaConfig {
    /// Returns the name of this process within its group: the configured name, else the pod's, else host name and
    /// process id.
    ///
    /// An empty pod name counts as none. In a container the process id is 1, and containers can share a host name: then
    /// `random` makes the name unique. Characters that Kafka does not allow in a member's name become `-`. The host name
    /// is cut if the result would exceed [`MAX_NAME_BYTES`]; what follows it is never cut.
    pub fn instance(&self, pod_name: Option<&str>, host_name: &str, process_id: u32, random: u32) -> String {
        let given = self.instance_name.as_deref().or(pod_name.filter(|name| !name.is_empty()));
        match given {
            Some(name) => legal(name, MAX_NAME_BYTES),
            None => {
                let suffix = match process_id {
                    1 => format!("-1-{random:08x}"),
                    _ => format!("-{process_id}"),
                };
                legal(host_name, MAX_NAME_BYTES - suffix.len()) + &suffix
            }
        }
    }

    pub fn transactional_id(&self, instance: &str) -> String {
        format!("{}-{instance}", self.group_id)
    }
}

/// Returns whether Kafka allows this as the name of a topic or a static member.
pub(super) fn is_legal_name(name: &str) -> bool {
    let legal_bytes = name.bytes().all(is_legal_byte);
    (1..=MAX_NAME_BYTES).contains(&name.len()) && legal_bytes && name != "." && name != ".."
}

/// Returns name and value of each SASL extension: `name=value`, separated by commas.
pub fn oauth_extensions(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(name, value)| (name.trim(), value.trim()))
}

fn is_legal_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

fn legal(name: &str, max_bytes: usize) -> String {
    let legal = |c: char| if u8::try_from(c).is_ok_and(is_legal_byte) { c } else { '-' };
    name.chars().map(legal).take(max_bytes).collect()
}

config_section! {
    /// TLS and SASL. Secrets are safer in files than in this file or in variables.
    #[section("kafka.security")]
    pub struct SecurityConfig {
        /// How the connection to the brokers is protected; the names are Kafka's own. `ssl` and `sasl_ssl` use TLS and
        /// need a build with the feature `tls`.
        #[key(word(SecurityProtocol))]
        pub protocol: SecurityProtocol = SecurityProtocol::Plaintext,
        /// How this process authenticates with SASL, for `sasl_plaintext` and `sasl_ssl`. All but `plain` need a build
        /// with the feature `tls`.
        #[key(word(SaslMechanism), example = "\"scram-sha-512\"")]
        pub sasl_mechanism: Option<SaslMechanism> = None,
        /// User name, for `plain`, `scram-sha-256` and `scram-sha-512`.
        #[key(text(Free), example = "\"steward\"")]
        pub username: Option<String> = None,
        // After loading, the content of `password_file`, if that is given.
        /// Password, for `plain`, `scram-sha-256` and `scram-sha-512`. Use `password_file` if possible.
        #[key(secret, also = "not together with `password_file`", example = "\"better in a file\"")]
        pub password: Option<Secret> = None,
        /// File that holds the password. A line break at its end does not count.
        #[key(file(Secret), example = "\"/etc/steward/password\"")]
        pub password_file: Option<PathBuf> = None,
        /// File that holds the token for `oauthbearer`, a JWT unless the two keys below are set. It is read again
        /// whenever the token is about to expire.
        #[key(file(Secret), example = "\"/var/run/secrets/kafka/token\"")]
        pub oauth_token_file: Option<PathBuf> = None,
        /// Name of the principal, for a token that does not contain it (`sub` of a JWT). It is only for the client's own
        /// messages: the broker reads the token.
        #[key(text(Free), also = "with `oauth_token_file`", example = "\"steward\"")]
        pub oauth_principal: Option<String> = None,
        /// How long a token is valid after its file was written, for a token that does not contain it (`exp` of a JWT).
        /// The file is read again when four fifths of that time have passed.
        #[key(number(10_000..=3_155_760_000_000, "ms"), also = "with `oauth_token_file`", example = "3600000")]
        pub oauth_token_lifetime_ms: Option<u64> = None,
        /// SASL extensions that are sent with the token, as managed services require. They are no secrets. A file may hold
        /// a table of names and values instead.
        #[key(text(Extensions), also = "with `oauth_token_file`", example = "\"logicalCluster=lkc-1,identityPoolId=pool-1\"")]
        pub oauth_extensions: Option<String> = None,
        /// Certificates of the authorities that the brokers' certificates are checked against. If not set: those of the
        /// system.
        #[key(file(Pem), example = "\"/etc/steward/ca.pem\"")]
        pub ca_file: Option<PathBuf> = None,
        /// Certificate of this client, if the brokers require one.
        #[key(file(Pem), also = "with `key_file`", example = "\"/etc/steward/client.pem\"")]
        pub certificate_file: Option<PathBuf> = None,
        /// Private key of this client.
        #[key(file(Pem), also = "with `certificate_file`", example = "\"/etc/steward/client.key\"")]
        pub key_file: Option<PathBuf> = None,
        // After loading, the content of `key_password_file`, if that is given.
        /// Password of the private key. Use `key_password_file` if possible.
        #[key(secret, also = "not together with `key_password_file`", example = "\"better in a file\"")]
        pub key_password: Option<Secret> = None,
        /// File that holds the password of the private key.
        #[key(file(Secret), example = "\"/etc/steward/client.key.password\"")]
        pub key_password_file: Option<PathBuf> = None,
        /// When one of the files above changes, except the token, the process stops cleanly with exit code 16, to be
        /// started again with the new content. It waits for a random time up to this before, so that not all processes
        /// of a group stop at once.
        #[key(number(0..=86_400_000, "ms"))]
        pub reload_spread_ms: u64 = 300_000,
    }
}

impl fmt::Debug for SecurityConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecurityConfig").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

config_words! {
    /// How the connection to the brokers is protected.
    pub enum SecurityProtocol {
        Plaintext = "plaintext",
        Ssl = "ssl",
        SaslPlaintext = "sasl_plaintext",
        SaslSsl = "sasl_ssl",
    }
}

impl SecurityProtocol {
    pub fn uses_tls(self) -> bool {
        matches!(self, SecurityProtocol::Ssl | SecurityProtocol::SaslSsl)
    }

    pub fn uses_sasl(self) -> bool {
        matches!(self, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl)
    }
}

config_words! {
    /// How the client authenticates with SASL.
    pub enum SaslMechanism {
        Plain = "plain",
        ScramSha256 = "scram-sha-256",
        ScramSha512 = "scram-sha-512",
        Oauthbearer = "oauthbearer",
    }
}

/// A string that neither `Debug` nor serialisation shows.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(secret: impl Into<String>) -> Secret {
        Secret(secret.into())
    }

    /// Returns the secret itself, only for the client library.
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
