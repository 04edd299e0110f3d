//! The flat list of all keys, in the order of `config.toml`, and what kind of value each of them takes.
//!
//! Ranges stand at the fields, rules between keys in `rules`. A test holds this list, the fields, `config.toml` and
//! the documentation together.

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigKey {
    /// Such as `kafka.security.protocol`.
    pub path: &'static str,
    /// What it takes.
    pub kind: ValueKind,
}

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// A whole number of at least 0.
    Number,
    /// `true` or `false`.
    Flag,
    /// A string.
    Text,
    /// The path of a file.
    File,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A string that is never shown.
    Secret,
}

/// The table whose keys are librdkafka's, not ours.
pub const PROPERTIES: &str = "kafka.properties";

/// All keys but those of [`PROPERTIES`].
pub const KEYS: &[ConfigKey] = &[
    key("kafka.bootstrap_servers", ValueKind::Text),
    key("kafka.group_id", ValueKind::Text),
    key("kafka.instance_name", ValueKind::Text),
    key("kafka.static_membership", ValueKind::Flag),
    key("kafka.topic", ValueKind::Text),
    key("kafka.state_topic", ValueKind::Text),
    key("kafka.dlq_topic", ValueKind::Text),
    key("kafka.create_topics", ValueKind::Flag),
    key("kafka.topic_wait_ms", ValueKind::Number),
    key("kafka.session_timeout_ms", ValueKind::Number),
    key("kafka.heartbeat_interval_ms", ValueKind::Number),
    key("kafka.max_poll_interval_ms", ValueKind::Number),
    key("kafka.transaction_timeout_ms", ValueKind::Number),
    key("kafka.security.protocol", ValueKind::Word(&["plaintext", "tls", "sasl_plaintext", "sasl_tls"])),
    key("kafka.security.sasl_mechanism", ValueKind::Word(&["plain", "scram-sha-256", "scram-sha-512", "oauthbearer"])),
    key("kafka.security.username", ValueKind::Text),
    key("kafka.security.password", ValueKind::Secret),
    key("kafka.security.password_file", ValueKind::File),
    key("kafka.security.oauth_token_file", ValueKind::File),
    key("kafka.security.ca_file", ValueKind::File),
    key("kafka.security.certificate_file", ValueKind::File),
    key("kafka.security.key_file", ValueKind::File),
    key("kafka.security.key_password", ValueKind::Secret),
    key("kafka.security.key_password_file", ValueKind::File),
    key("limits.max_payload_bytes", ValueKind::Number),
    key("limits.max_in_flight_bytes", ValueKind::Number),
    key("limits.max_batch_records", ValueKind::Number),
    key("limits.max_transaction_bytes", ValueKind::Number),
    key("limits.max_state_bytes", ValueKind::Number),
    key("limits.entity_idle_ms", ValueKind::Number),
    key("limits.max_active_entities", ValueKind::Number),
    key("recovery.look_back_records", ValueKind::Number),
    key("recovery.verify_max_records", ValueKind::Number),
    key("recovery.on_expired", ValueKind::Word(&["continue", "stop"])),
    key("recovery.adopt_group", ValueKind::Flag),
    key("recovery.max_parallel_partitions", ValueKind::Number),
    key("guards.unchecked", ValueKind::Word(&["refuse", "allow"])),
    key("shutdown.drain_timeout_ms", ValueKind::Number),
    key("shutdown.revoke_drain_ms", ValueKind::Number),
    key("health.file", ValueKind::File),
    key("health.ready_settle_ms", ValueKind::Number),
    key("health.stall_timeout_ms", ValueKind::Number),
    key("health.join_timeout_ms", ValueKind::Number),
    key("log.format", ValueKind::Word(&["auto", "json", "text"])),
    key("log.level", ValueKind::Text),
    key("log.stats_interval_ms", ValueKind::Number),
    key("log.keys", ValueKind::Word(&["plain", "hashed", "omitted"])),
    key("log.key_hash_secret_file", ValueKind::File),
    key("runtime.entity_threads", ValueKind::Number),
];

const fn key(path: &'static str, kind: ValueKind) -> ConfigKey {
    ConfigKey { path, kind }
}

/// The key with this path.
#[must_use]
pub fn find(path: &str) -> Option<ConfigKey> {
    KEYS.iter().copied().find(|key| key.path == path)
}

/// Whether keys lie below this path.
#[must_use]
pub fn is_section(path: &str) -> bool {
    sections().any(|section| section == path)
}

/// The paths below which keys lie, repetitions included.
pub fn sections() -> impl Iterator<Item = &'static str> {
    let parents = KEYS.iter().filter_map(|key| key.path.rsplit_once('.')).map(|(parent, _)| parent);
    parents.chain([PROPERTIES])
}

/// The variable that overrides this key, such as `STEWARD__KAFKA__GROUP_ID`.
#[must_use]
pub fn variable(path: &str) -> String {
    match path.strip_prefix(PROPERTIES).and_then(|rest| rest.strip_prefix('.')) {
        Some(property) => format!("STEWARD__KAFKA__PROPERTIES__{}", property.to_uppercase().replace('.', "_")),
        None => format!("STEWARD__{}", path.to_uppercase().replace('.', "__")),
    }
}

/// The candidate that `word` was most likely meant to be. `None` where none is close, or `word` is far too long.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).max(1);
    if word.chars().count() > 200 {
        return None;
    }
    let measured = candidates.into_iter().map(|candidate| (distance(word, candidate), candidate));
    measured.filter(|(distance, _)| *distance <= allowed).min_by_key(|(distance, _)| *distance).map(|(_, found)| found)
}

/// How many characters have to be put in, taken out or replaced to make `from` into `to` (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, from) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, to) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}
