//! Owns the decision on each librdkafka property in `[kafka.properties]`: passed on to which client, or refused and why.
//!
//! Every property that librdkafka documents has a decision. A test reads the library's own list, so that an upgrade
//! cannot add one unnoticed. librdkafka checks the values when the clients are built.
//!
//! Architecture invariant: no property that is passed on can break a guarantee of the service.

/// The clients that a property is for. Other clients would only warn about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropertyScope {
    Consumer,
    Producer,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropertyVerdict {
    Passed(PropertyScope),
    Refused(PropertyRefusal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PropertyRefusal {
    /// What would break, or what sets it.
    pub reason: &'static str,
    pub remedy: &'static str,
}

/// Returns the decision on the property with this name; `None` if librdkafka has no such property.
pub fn verdict(name: &str) -> Option<PropertyVerdict> {
    let passed =
        PASSED.iter().find(|(_, names)| names.contains(&name)).map(|(scope, _)| PropertyVerdict::Passed(*scope));
    let listed = || REFUSED.iter().find(|(_, names)| names.contains(&name)).map(|(refusal, _)| *refusal);
    passed.or_else(|| listed().or_else(|| family(name)).map(PropertyVerdict::Refused))
}

/// The clients that this property is for; `None` if it is not passed on.
pub fn scope(name: &str) -> Option<PropertyScope> {
    match verdict(name)? {
        PropertyVerdict::Passed(scope) => Some(scope),
        PropertyVerdict::Refused(_) => None,
    }
}

pub fn passed() -> impl Iterator<Item = &'static str> {
    PASSED.iter().flat_map(|(_, names)| names.iter().copied())
}

pub fn needs_tls(name: &str) -> bool {
    name.starts_with("ssl.")
}

/// The property that names the list of revoked certificates.
pub(super) const REVOKED_CERTIFICATES: &str = "ssl.crl.location";

/// The properties that are passed on, by the clients that they are for.
pub const PASSED: &[(PropertyScope, &[&str])] = &[
    (
        PropertyScope::Both,
        &[
            "api.version.request.timeout.ms",
            "broker.address.family",
            "broker.address.ttl",
            "client.dns.lookup",
            "client.id",
            "client.rack",
            "connections.max.idle.ms",
            "debug",
            "enable.metrics.push",
            "log.connection.close",
            "message.copy.max.bytes",
            "metadata.max.age.ms",
            "metadata.recovery.rebootstrap.trigger.ms",
            "metadata.recovery.strategy",
            "receive.message.max.bytes",
            "reconnect.backoff.max.ms",
            "reconnect.backoff.ms",
            "socket.connection.setup.timeout.ms",
            "socket.keepalive.enable",
            "socket.max.fails",
            "socket.nagle.disable",
            "socket.receive.buffer.bytes",
            "socket.send.buffer.bytes",
            "socket.timeout.ms",
            "ssl.cipher.suites",
            REVOKED_CERTIFICATES,
            "ssl.curves.list",
            "ssl.endpoint.identification.algorithm",
            "ssl.sigalgs.list",
            "topic.metadata.propagation.max.ms",
            "topic.metadata.refresh.fast.interval.ms",
            "topic.metadata.refresh.interval.ms",
            "topic.metadata.refresh.sparse",
        ],
    ),
    (
        PropertyScope::Consumer,
        &[
            "check.crcs",
            "coordinator.query.interval.ms",
            "fetch.error.backoff.ms",
            "fetch.max.bytes",
            "fetch.message.max.bytes",
            "fetch.min.bytes",
            "fetch.queue.backoff.ms",
            "fetch.wait.max.ms",
            "max.partition.fetch.bytes",
            "queued.min.messages",
        ],
    ),
    (
        PropertyScope::Producer,
        &[
            "batch.num.messages",
            "batch.size",
            "compression.codec",
            "compression.level",
            "compression.type",
            "linger.ms",
            "queue.buffering.backpressure.threshold",
            "queue.buffering.max.ms",
            "request.timeout.ms",
        ],
    ),
];

/// The properties that are refused by name, by reason. `family` refuses further ones.
pub const REFUSED: &[(PropertyRefusal, &[&str])] = &[
    (
        because("offsets are committed with the state, in one transaction, and nowhere else"),
        &[
            "auto.commit.enable",
            "auto.commit.interval.ms",
            "enable.auto.commit",
            "enable.auto.offset.store",
            "offset.store.method",
            "offset.store.path",
            "offset.store.sync.interval.ms",
        ],
    ),
    (
        refused(
            "a position that retention deleted must never be skipped silently",
            "choose with recovery.on_expired what to do about events that expired unread",
        ),
        &["auto.offset.reset"],
    ),
    (because("records of an aborted transaction must never be read"), &["isolation.level"]),
    (
        refused(
            "it is made of the group and the instance name, so that a newer process fences an older one",
            "set kafka.group_id or kafka.instance_name",
        ),
        &["transactional.id"],
    ),
    (
        because("without it a retry could write a record twice, out of order, or not at all"),
        &[
            "acks",
            "enable.gapless.guarantee",
            "enable.idempotence",
            "max.in.flight",
            "max.in.flight.requests.per.connection",
            "message.send.max.retries",
            "queuing.strategy",
            "request.required.acks",
            "retries",
        ],
    ),
    (
        refused("a record must not time out before its transaction", "set kafka.transaction_timeout_ms"),
        &["delivery.timeout.ms", "message.timeout.ms", "transaction.timeout.ms"],
    ),
    (
        because(
            "the time that a retry waits (500 ms) shows whether a request of a transaction was sent twice; a shorter wait would hide it",
        ),
        &["retry.backoff.max.ms", "retry.backoff.ms"],
    ),
    (own_key("set kafka.group_id"), &["group.id"]),
    (
        refused("it has keys of its own", "set kafka.static_membership, and kafka.instance_name to name the member"),
        &["group.instance.id"],
    ),
    (own_key("set kafka.bootstrap_servers"), &["bootstrap.servers", "metadata.broker.list"]),
    (
        because("a handover without loss needs cooperative-sticky assignment in a classic group"),
        &["group.protocol", "group.protocol.type", "group.remote.assignor", "partition.assignment.strategy"],
    ),
    (own_key("set kafka.session_timeout_ms"), &["session.timeout.ms"]),
    (own_key("set kafka.heartbeat_interval_ms"), &["heartbeat.interval.ms"]),
    (own_key("set kafka.max_poll_interval_ms"), &["max.poll.interval.ms"]),
    (
        refused("what the client reads ahead is part of the memory budget", "set limits.max_in_flight_bytes"),
        &["queued.max.messages.kbytes"],
    ),
    (
        refused(
            "the producer's queue is sized so that one transaction fits into it",
            "set limits.max_transaction_bytes",
        ),
        &["queue.buffering.max.kbytes", "queue.buffering.max.messages"],
    ),
    (
        refused(
            "the client counts uncompressed bytes and would refuse records that the broker accepts; max.message.bytes of the topic is the limit",
            "set limits.max_payload_bytes, or max.message.bytes of the topic",
        ),
        &["message.max.bytes"],
    ),
    (
        because("each record goes to the partition that its event came from"),
        &["msg_order_cmp", "partitioner", "partitioner_cb", "sticky.partitioning.linger.ms"],
    ),
    (
        because("steward chooses the delivery reports and events that it needs"),
        &[
            "consume.callback.max.messages",
            "delivery.report.only.error",
            "enable.partition.eof",
            "enabled_events",
            "produce.offset.report",
            "statistics.interval.ms",
        ],
    ),
    (
        refused(
            "a broker would create a missing topic with any number of partitions, and without compaction",
            "set kafka.create_topics",
        ),
        &["allow.auto.create.topics"],
    ),
    (
        because("partitions of a topic that the client does not see would silently not be processed"),
        &["topic.blacklist"],
    ),
    (
        because("transactions need the protocol versions that the brokers really support"),
        &["api.version.fallback.ms", "api.version.request", "broker.version.fallback"],
    ),
    (own_key("set log.level, for example to info,librdkafka=debug"), &["log_level"]),
    (because("log lines of the client are part of the log of steward"), &["log.queue", "log.thread.name"]),
    (
        because("it would load code into the process"),
        &["plugin.library.paths", "ssl.engine.id", "ssl.engine.location", "ssl.providers"],
    ),
    (
        because("it can only be set by code"),
        &[
            "default_topic_conf",
            "interceptors",
            "opaque",
            "ssl_ca",
            "ssl_certificate",
            "ssl_engine_callback_data",
            "ssl_key",
        ],
    ),
    (
        because("it has no effect here"),
        &[
            "builtin.features",
            "enable.random.seed",
            "internal.termination.signal",
            "reconnect.backoff.jitter.ms",
            "socket.blocking.max.ms",
            "ssl.ca.certificate.stores",
            "topic.metadata.refresh.fast.cnt",
        ],
    ),
    (own_key("set kafka.security.protocol"), &["security.protocol"]),
    (own_key("set kafka.security.sasl_mechanism"), &["sasl.mechanism", "sasl.mechanisms"]),
    (own_key("set kafka.security.username"), &["sasl.username"]),
    (secret_key("set kafka.security.password_file"), &["sasl.password"]),
    (own_key("set kafka.security.ca_file"), &["ssl.ca.location", "ssl.ca.pem"]),
    (own_key("set kafka.security.certificate_file"), &["ssl.certificate.location", "ssl.certificate.pem"]),
    (secret_key("set kafka.security.key_file"), &["ssl.key.location", "ssl.key.pem"]),
    (secret_key("set kafka.security.key_password_file"), &["ssl.key.password"]),
    (
        refused(
            "certificates and keys are PEM files",
            "set kafka.security.certificate_file and kafka.security.key_file",
        ),
        &["ssl.keystore.location", "ssl.keystore.password"],
    ),
    (
        refused(
            "without it anyone could impersonate the broker, and would receive the password",
            "name the authority of the brokers' certificates with kafka.security.ca_file",
        ),
        &["enable.ssl.certificate.verification"],
    ),
    (
        refused(
            "anyone can make an unsigned token",
            "set kafka.security.oauth_token_file to a file that a signed one is written to",
        ),
        &["enable.sasl.oauthbearer.unsecure.jwt"],
    ),
    (TOKENS, &["https.ca.location", "https.ca.pem"]),
];

const fn refused(reason: &'static str, remedy: &'static str) -> PropertyRefusal {
    PropertyRefusal { reason, remedy }
}

const fn because(reason: &'static str) -> PropertyRefusal {
    refused(reason, "remove it")
}

const fn own_key(remedy: &'static str) -> PropertyRefusal {
    refused("it has a key of its own", remedy)
}

const fn secret_key(remedy: &'static str) -> PropertyRefusal {
    refused("secrets have keys of their own", remedy)
}

const TOKENS: PropertyRefusal =
    refused("tokens are read from a file; the client itself fetches none", "set kafka.security.oauth_token_file");

/// Refuses by prefix or suffix, so that properties added to these families later are refused as well.
fn family(name: &str) -> Option<PropertyRefusal> {
    if name.starts_with("sasl.oauthbearer.") {
        Some(TOKENS)
    } else if name.starts_with("sasl.") {
        Some(refused(
            "SASL has keys of its own, and Kerberos is not built in",
            "set kafka.security.sasl_mechanism to plain, scram-sha-256, scram-sha-512 or oauthbearer",
        ))
    } else if name.starts_with("test.") || name.starts_with("ut_") {
        Some(because("it would replace the brokers with simulated ones"))
    } else if name.ends_with("_cb") {
        Some(because("it can only be set by code"))
    } else {
        None
    }
}
