//! Ranges and formats of single values, and conditions between keys.
//!
//! A condition between keys is not checked if the value of one of its keys is wrong: each mistake is reported once.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::kafka::is_legal_name;
use crate::config::keys::{TextFormat, ValueKind};
use crate::config::log_level::LogLevel;
use crate::config::value::{WrongValue, shown};
use crate::config::{
    Config, Effective, LogKeys, Mistake, Origins, SaslMechanism, SecurityConfig, Tls, ValueOrigin, keys,
};

/// The remedy if the build lacks TLS.
pub(super) const BUILD_WITH_TLS: &str =
    "build it with `cargo build --release --features tls`, or use an image that was built so";

/// Keys that have a meaning only with `oauthbearer`.
const OAUTH_KEYS: [&str; 4] = ["oauth_token_file", "oauth_principal", "oauth_token_lifetime_ms", "oauth_extensions"];

/// A restore waits for an open transaction of a crashed owner: the transaction's timeout, and up to 10 s until the
/// coordinator checks for expired transactions. Rounded up.
const STALL_MARGIN_MS: u64 = 20_000;

/// Adapts defaults to the values that are given, so that one number can be changed alone.
pub(super) fn adapt_defaults(effective: &mut Effective) {
    let Effective { config, origins, .. } = effective;
    let kafka = &mut config.kafka;
    let session = kafka.session_timeout_ms;
    if session >= kafka.max_poll_interval_ms {
        follow(origins, "kafka.max_poll_interval_ms", "kafka.session_timeout_ms", || {
            kafka.max_poll_interval_ms = session.saturating_mul(2).min(86_400_000);
        });
    }
    if kafka.max_poll_interval_ms >= config.health.join_timeout_ms {
        follow(origins, "health.join_timeout_ms", "kafka.max_poll_interval_ms", || {
            config.health.join_timeout_ms = kafka.max_poll_interval_ms.saturating_mul(2);
        });
    }
    let stall_ms = &mut config.health.stall_timeout_ms;
    for (waited_for, key) in
        [(session, "kafka.session_timeout_ms"), (kafka.transaction_timeout_ms, "kafka.transaction_timeout_ms")]
    {
        let needed = waited_for.saturating_add(STALL_MARGIN_MS);
        if needed > *stall_ms {
            follow(origins, "health.stall_timeout_ms", key, || *stall_ms = needed);
        }
    }
    let limits = &mut config.limits;
    if limits.max_transaction_bytes > limits.max_in_flight_bytes {
        follow(origins, "limits.max_transaction_bytes", "limits.max_in_flight_bytes", || {
            limits.max_transaction_bytes = limits.max_in_flight_bytes;
        });
    }
    let recovery = &mut config.recovery;
    if recovery.verify_max_records > 0 && recovery.look_back_records > recovery.verify_max_records {
        follow(origins, "recovery.look_back_records", "recovery.verify_max_records", || {
            recovery.look_back_records = recovery.verify_max_records;
        });
    }
}

fn follow(origins: &mut Origins, path: &str, leader: &'static str, change: impl FnOnce()) {
    let given = origins.get(path).is_some_and(ValueOrigin::is_given);
    if !given && origins.contains_key(leader) {
        change();
        origins.insert(path.to_owned(), ValueOrigin::Follows(leader));
    }
}

/// All mistakes, except those that were found while reading; `bad` holds the keys of those.
pub(super) fn check(effective: &Effective, tls: Tls, pod_name: Option<&str>, bad: &BTreeSet<String>) -> Vec<Mistake> {
    let mut rules = Rules { effective, values: effective.values(), bad: bad.clone(), mistakes: Vec::new() };
    rules.single_values();
    rules.topics();
    rules.member(pod_name);
    rules.log_keys();
    rules.times();
    rules.sizes();
    rules.security(tls);
    rules.mistakes
}

struct Rules<'a> {
    effective: &'a Effective,
    values: BTreeMap<String, toml::Value>,
    bad: BTreeSet<String>,
    mistakes: Vec<Mistake>,
}

impl Rules<'_> {
    fn single_values(&mut self) {
        for key in keys::all() {
            // A default that was adapted to a wrong number is not the mistake.
            if !self.effective.origin(key.path).is_given() {
                continue;
            }
            let Some(value) = self.values.get(key.path) else { continue };
            let wrong = match key.kind {
                ValueKind::Number { min, max, .. } => {
                    value.as_integer().and_then(|number| range_problem(number, min, max))
                }
                ValueKind::Text(format) => value.as_str().and_then(|text| text_problem(format, text)),
                ValueKind::Flag | ValueKind::File(_) | ValueKind::Word(_) | ValueKind::Secret => None,
            };
            if let Some((problem, remedy)) = wrong {
                self.mistake(key.path, problem, remedy);
            }
        }
    }

    fn topics(&mut self) {
        let kafka = &self.effective.config.kafka;
        let topics = [
            ("kafka.topic", &kafka.topic),
            ("kafka.state_topic", &kafka.state_topic),
            ("kafka.dlq_topic", &kafka.dlq_topic),
        ];
        for (later, (path, topic)) in topics.iter().enumerate() {
            for (other_path, other) in &topics[..later] {
                if !self.all_right(&[path, other_path]) {
                    continue;
                }
                if topic == other {
                    let problem = format!("must differ from {other_path}");
                    self.mistake(path, problem, "give each of the three its own topic");
                } else if topic.replace('.', "_") == other.replace('.', "_") {
                    let problem = format!("differs from {other_path} only in . and _, which brokers refuse");
                    self.mistake(path, problem, "give it another name");
                }
            }
        }
    }

    fn member(&mut self, pod_name: Option<&str>) {
        let kafka = &self.effective.config.kafka;
        if kafka.group_id.trim() != kafka.group_id {
            let problem = "must not begin or end with white space";
            self.mistake("kafka.group_id", problem, "remove it; for the broker it is another group");
        }
        let is_named = kafka.instance_name.is_some() || pod_name.is_some_and(|name| !name.is_empty());
        self.require(
            is_named || !kafka.static_membership,
            &["kafka.static_membership", "kafka.instance_name"],
            "needs a name that stays the same over a restart",
            "set kafka.instance_name or the variable POD_NAME, to another value in each process",
        );
    }

    fn log_keys(&mut self) {
        let (keys, file) = ("log.keys", "log.key_hash_secret_file");
        if !self.all_right(&[keys]) {
            return;
        }
        match (self.effective.config.log.keys, self.is_given(file)) {
            (LogKeys::Hashed, false) => {
                let remedy = "set it to a file with at least 16 random characters, the same for every process";
                self.mistake(file, "is needed by log.keys = \"hashed\"", remedy);
            }
            (LogKeys::Plain | LogKeys::Omitted, true) => {
                let problem = format!("has no meaning with log.keys = {}", self.shown(keys));
                self.mistake(file, problem, "set log.keys = \"hashed\", or remove it");
            }
            (LogKeys::Hashed, true) | (LogKeys::Plain | LogKeys::Omitted, false) => {}
        }
    }

    fn times(&mut self) {
        let Config { kafka, shutdown, health, .. } = &self.effective.config;
        let (session, heartbeat) = (kafka.session_timeout_ms, kafka.heartbeat_interval_ms);
        let max_poll = kafka.max_poll_interval_ms;
        self.require(
            heartbeat.saturating_mul(3) < session,
                &["kafka.heartbeat_interval_ms", "kafka.session_timeout_ms"],
                format!("must be below a third of kafka.session_timeout_ms ({session}), or a lost heartbeat loses the membership"),
                format!("set it to {} or less", session.saturating_sub(1) / 3),
        );
        self.require(
            session < max_poll,
            &["kafka.session_timeout_ms", "kafka.max_poll_interval_ms"],
            format!("must be below kafka.max_poll_interval_ms ({max_poll})"),
            format!("lower it, or raise kafka.max_poll_interval_ms above {session}"),
        );
        self.require(
            shutdown.revoke_drain_ms < max_poll,
            &["shutdown.revoke_drain_ms", "kafka.max_poll_interval_ms"],
            format!("must be below kafka.max_poll_interval_ms ({max_poll}), or a revocation costs the membership"),
            format!("set it to {} or less; the other members wait meanwhile", max_poll.saturating_sub(1)),
        );
        self.require(
            shutdown.drain_timeout_ms > shutdown.revoke_drain_ms,
            &["shutdown.drain_timeout_ms", "shutdown.revoke_drain_ms"],
            format!("must be above shutdown.revoke_drain_ms ({}), which is a part of it", shutdown.revoke_drain_ms),
            format!("set it to {} or more", shutdown.revoke_drain_ms.saturating_add(1)),
        );
        self.require(
            health.stall_timeout_ms > session,
            &["health.stall_timeout_ms", "kafka.session_timeout_ms"],
            format!("must be above kafka.session_timeout_ms ({session}), or an ordinary rebalance looks like a stall"),
            format!("set it to {} or more, or remove it", session.saturating_add(1)),
        );
        self.require(
            health.join_timeout_ms > max_poll,
            &["health.join_timeout_ms", "kafka.max_poll_interval_ms"],
            format!(
                "must be above kafka.max_poll_interval_ms ({max_poll}): the group waits as long for its slowest member"
            ),
            format!("set it to {} or more, or remove it", max_poll.saturating_add(1)),
        );
    }

    fn sizes(&mut self) {
        let Config { limits, recovery, .. } = &self.effective.config;
        let in_flight = limits.max_in_flight_bytes;
        self.require(
            limits.max_payload_bytes < in_flight,
            &["limits.max_payload_bytes", "limits.max_in_flight_bytes"],
            format!("must be below limits.max_in_flight_bytes ({in_flight}), or such a value would never be read"),
            "lower it, or raise limits.max_in_flight_bytes",
        );
        self.require(
            limits.max_transaction_bytes <= in_flight,
            &["limits.max_transaction_bytes", "limits.max_in_flight_bytes"],
            format!("must be at most limits.max_in_flight_bytes ({in_flight}), which it is a part of"),
            format!("set it to {in_flight} or less, or remove it"),
        );
        let verify_max = recovery.verify_max_records;
        self.require(
            verify_max == 0 || recovery.look_back_records <= verify_max,
            &["recovery.look_back_records", "recovery.verify_max_records"],
            format!("must be at most recovery.verify_max_records ({verify_max}), or no range is ever verified"),
            format!("set it to {verify_max} or less; to verify nothing, set recovery.verify_max_records = 0"),
        );
    }

    fn security(&mut self, tls: Tls) {
        let security = &self.effective.config.kafka.security;
        self.exclusive("kafka.security.password", "kafka.security.password_file");
        self.exclusive("kafka.security.key_password", "kafka.security.key_password_file");
        if !self.all_right(&["kafka.security.protocol"]) {
            return;
        }
        if security.protocol.uses_tls() && tls == Tls::Absent {
            let problem = "needs TLS, which this build does not have";
            self.mistake("kafka.security.protocol", problem, BUILD_WITH_TLS);
        }
        self.tls_files(security);
        if !self.all_right(&["kafka.security.sasl_mechanism"]) {
            return;
        }
        match (security.protocol.uses_sasl(), security.sasl_mechanism) {
            (true, Some(mechanism)) => self.credentials(mechanism, tls),
            (true, None) => {
                let problem =
                    format!("is needed by kafka.security.protocol = {}", self.shown("kafka.security.protocol"));
                let remedy = "set it to plain, scram-sha-256, scram-sha-512 or oauthbearer";
                self.mistake("kafka.security.sasl_mechanism", problem, remedy);
            }
            (false, _) => {
                let of_tokens = OAUTH_KEYS;
                for path in ["sasl_mechanism", "username", "password", "password_file"].into_iter().chain(of_tokens) {
                    self.unused(path, "sasl_ssl (or sasl_plaintext)");
                }
            }
        }
    }

    fn tls_files(&mut self, security: &SecurityConfig) {
        if !security.protocol.uses_tls() {
            for path in ["ca_file", "certificate_file", "key_file", "key_password", "key_password_file"] {
                self.unused(path, "ssl or sasl_ssl");
            }
            return;
        }
        let (certificate, key) = ("kafka.security.certificate_file", "kafka.security.key_file");
        for (given, missing) in [(certificate, key), (key, certificate)] {
            if self.is_given(given) && !self.is_given(missing) {
                self.mistake(missing, format!("is needed by {given}"), "set both, or neither");
            }
        }
        for path in ["kafka.security.key_password", "kafka.security.key_password_file"] {
            if self.is_given(path) && !self.is_given(key) && !self.is_given(certificate) {
                self.mistake(path, format!("belongs to {key}, which is not set"), format!("set {key}, or remove it"));
            }
        }
    }

    fn credentials(&mut self, mechanism: SaslMechanism, tls: Tls) {
        let name = self.shown("kafka.security.sasl_mechanism");
        let needs_tls = match mechanism {
            SaslMechanism::Plain => false,
            SaslMechanism::ScramSha256 | SaslMechanism::ScramSha512 | SaslMechanism::Oauthbearer => true,
        };
        if needs_tls && tls == Tls::Absent {
            let problem = "needs the cryptography that comes with TLS, which this build does not have";
            self.mistake("kafka.security.sasl_mechanism", problem, BUILD_WITH_TLS);
        }
        let (username, password, password_file, token_file) = (
            "kafka.security.username",
            "kafka.security.password",
            "kafka.security.password_file",
            "kafka.security.oauth_token_file",
        );
        let problem = format!("is needed by kafka.security.sasl_mechanism = {name}");
        let unused = format!("has no meaning with kafka.security.sasl_mechanism = {name}");
        match mechanism {
            SaslMechanism::Oauthbearer => {
                if !self.is_given(token_file) {
                    self.mistake(token_file, problem, "name the file that the token is written to");
                }
                for path in [username, password, password_file] {
                    if self.is_given(path) {
                        self.mistake(path, unused.clone(), "remove it; the token identifies the client");
                    }
                }
            }
            SaslMechanism::Plain | SaslMechanism::ScramSha256 | SaslMechanism::ScramSha512 => {
                if !self.is_given(username) {
                    self.mistake(username, problem.clone(), "set it");
                }
                if !self.is_given(password) && !self.is_given(password_file) {
                    let remedy = format!("set it to a file that holds the password, or set {password}");
                    self.mistake(password_file, problem, remedy);
                }
                for path in OAUTH_KEYS.map(|key| format!("kafka.security.{key}")) {
                    if self.is_given(&path) {
                        let remedy = "remove it, or set kafka.security.sasl_mechanism = \"oauthbearer\"";
                        self.mistake(&path, unused.clone(), remedy);
                    }
                }
            }
        }
    }

    fn exclusive(&mut self, secret: &str, file: &str) {
        if self.is_given(secret) && self.is_given(file) {
            let problem = format!("and {file} exclude each other");
            self.mistake(secret, problem, format!("remove one of them, best {secret}"));
        }
    }

    fn unused(&mut self, name: &str, protocol: &str) {
        let path = format!("kafka.security.{name}");
        if self.is_given(&path) {
            let current = self.shown("kafka.security.protocol");
            let problem = format!("has no meaning with kafka.security.protocol = {current}");
            self.mistake(&path, problem, format!("set the protocol to {protocol}, or remove it"));
        }
    }

    /// Returns whether the key has a value in the file or in a variable, even if the value is wrong.
    fn is_given(&self, path: &str) -> bool {
        self.bad.contains(path) || self.effective.origin(path).is_given()
    }

    fn all_right(&self, paths: &[&str]) -> bool {
        !paths.iter().any(|path| self.bad.contains(*path))
    }

    fn shown(&self, path: &str) -> String {
        self.values.get(path).map(ToString::to_string).unwrap_or_default()
    }

    /// If the condition does not hold, reports a mistake of the first of these keys, unless one of them is wrong by
    /// itself.
    fn require(&mut self, holds: bool, paths: &[&str], problem: impl Into<String>, remedy: impl Into<String>) {
        if !holds && self.all_right(paths) {
            self.mistake(paths[0], problem, remedy);
        }
    }

    fn mistake(&mut self, path: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        if !self.all_right(&[path]) {
            return;
        }
        self.bad.insert(path.to_owned());
        let key = keys::find(path);
        let found = key.zip(self.values.get(path)).and_then(|(key, value)| shown(key, &value.to_string()));
        let origin = self.effective.origin(path);
        let (problem, remedy) = (problem.into(), remedy.into());
        self.mistakes.push(Mistake { key: path.to_owned(), found, origin, problem, remedy });
    }
}

fn range_problem(number: i64, min: u64, max: u64) -> Option<WrongValue> {
    let nearest = match u64::try_from(number) {
        Ok(number) if number > max => max,
        Ok(number) if number >= min => return None,
        Ok(_) | Err(_) => min,
    };
    Some((format!("must be from {min} to {max}"), format!("{nearest} is the nearest that is allowed")))
}

fn text_problem(format: TextFormat, text: &str) -> Option<WrongValue> {
    let (problem, remedy) = match format {
        TextFormat::Free => return None,
        TextFormat::Name if is_legal_name(text) => return None,
        TextFormat::Name => (
            "must be 1 to 249 characters out of a-z, A-Z, 0-9, . _ and -, and neither . nor ..",
            "choose a name that Kafka allows",
        ),
        TextFormat::Servers => text.split(',').find_map(|server| server_problem(server.trim()))?,
        TextFormat::Extensions => extensions_problem(text)?,
        TextFormat::LogLevel if LogLevel::parse(text).is_ok() => return None,
        TextFormat::LogLevel => (
            "must be error, warn, info, debug or trace, or a comma-separated filter of target=level",
            "write for example \"info\", or \"info,librdkafka=debug\"",
        ),
    };
    Some((problem.into(), remedy.into()))
}

/// The syntax of RFC 7628, section 3.1. The client would refuse other names and values when it gets a token.
fn extensions_problem(text: &str) -> Option<(&'static str, &'static str)> {
    let remedy = "write for example \"logicalCluster=lkc-1,identityPoolId=pool-1\"";
    let mut names = BTreeSet::new();
    for pair in text.split(',') {
        let Some((name, value)) = pair.split_once('=') else { return Some(("has an entry without =", remedy)) };
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Some(("has a name with other characters than letters", remedy));
        }
        if name == "auth" {
            return Some(("has the name auth, under which the token itself is sent", "remove that entry"));
        }
        if !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            return Some(("has a value with other characters than ASCII", remedy));
        }
        if !names.insert(name) {
            return Some(("has a name twice", "remove one of them"));
        }
    }
    None
}

fn server_problem(server: &str) -> Option<(&'static str, &'static str)> {
    if server.is_empty() {
        return Some(("has an empty entry", "write host:port, separated by commas"));
    }
    if server.contains("://") {
        return Some(("must not have a scheme", "write host:port, and set kafka.security.protocol"));
    }
    if server.contains('@') {
        return Some((
            "must not hold a user name",
            "write host:port, and set kafka.security.username and password_file",
        ));
    }
    let Some((host, port)) = server.rsplit_once(':') else {
        return Some(("has an entry without a port", "write host:port, for example localhost:9092"));
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Some(("has a port that is no number from 1 to 65535", "write host:port, for example localhost:9092"));
    }
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let legal_host = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || matches!(c, ':' | '/' | '[' | ']')),
    };
    if !legal_host {
        return Some(("has an entry that is no host and port", "write host:port; an IPv6 address needs brackets"));
    }
    None
}
