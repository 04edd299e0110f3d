//! The settings of the Kafka clients, and the reports of their contexts. No broker.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use steward::config::{
    Config, ConfigDocument, ConfigError, Effective, SecurityConfig, SecurityProtocol, Tls, properties,
};
use steward::kafka::client::context::{
    ClientError, ClientEvents, ClientLogLevel, ClientRole, ConsumerStatistics, PartitionStatistics, ReportingContext,
    Throttle,
};
use steward::kafka::client::settings::{self, Isolation, ProducerIdentity};
use steward::kafka::client::unsubscribed;
use steward::kafka::transactions::transaction::RESENT_AFTER;
use steward::record::{Partition, Position};

use crate::support::wait::unix_ms;

const IDENTITY: ProducerIdentity<'_> = ProducerIdentity { transactional_id: "group-pod-1", client_id: "group-pod-1" };

#[apply(offline_test)]
fn every_client_accepts_its_settings() {
    let mut config = Config::default();
    config.kafka.static_membership = true;
    for settings in [
        settings::group_member(&config, "pod-1"),
        settings::reader(&config, Isolation::Committed),
        settings::reader(&config, Isolation::Uncommitted),
        settings::transactional_producer(&config, IDENTITY, Some(1_048_588)),
        settings::plain_producer(&config, None),
        settings::admin(&config),
    ] {
        settings.create_native_config().expect("librdkafka knows every property and takes every value");
    }
    let member = settings::group_member(&config, "pod-1");
    member.create::<rdkafka::consumer::BaseConsumer>().expect("the settings fit together");
    let producer = settings::transactional_producer(&config, IDENTITY, None);
    producer.create::<rdkafka::producer::BaseProducer>().expect("the settings fit together");
}

#[apply(offline_test)]
fn a_property_that_a_guarantee_rests_on_cannot_be_changed() {
    let text = "[kafka.properties]\n\"enable.auto.commit\" = true\n";
    let refused = Effective::parse(Some(ConfigDocument { name: "x.toml", text }), [], Tls::Absent);
    let refused = refused.expect_err("it is reserved").to_string();
    assert!(refused.contains("kafka.properties.enable.auto.commit"), "{refused}");

    let mut config = Config::default();
    config.kafka.properties.insert("enable.auto.commit".to_owned(), "true".to_owned());
    assert_eq!(settings::group_member(&config, "pod-1").get("enable.auto.commit"), Some("false"));
}

#[apply(offline_test)]
fn a_transactional_producer_waits_as_long_before_a_repeated_request_as_its_driver_assumes() {
    let settings = settings::transactional_producer(&Config::default(), IDENTITY, None);
    assert_eq!(settings.get("retry.backoff.ms"), Some("500"));
    assert_eq!(RESENT_AFTER, Duration::from_millis(400), "0.8 of it, which is the library's jitter");
}

#[apply(offline_test)]
fn a_batch_is_never_larger_than_its_topic_takes() {
    let batch_size = |limit| {
        let settings = settings::transactional_producer(&Config::default(), IDENTITY, limit);
        settings.get("batch.size").map(str::to_owned)
    };
    assert_eq!(batch_size(None).as_deref(), Some("1000000"));
    assert_eq!(batch_size(Some(65_536)).as_deref(), Some("65536"));
    assert_eq!(batch_size(Some(10_000_000)).as_deref(), Some("1000000"));
}

#[apply(offline_test)]
fn only_the_client_settings_name_a_property() {
    let names: Vec<&str> = properties::passed()
        .chain(properties::REFUSED.iter().flat_map(|(_, names)| names.iter().copied()))
        .filter(|name| name.contains('.'))
        .collect();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for file in rust_files(&source) {
        let path = file.strip_prefix(&source).expect("below it").display().to_string();
        if matches!(path.as_str(), "kafka/client/settings.rs" | "config/properties.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("it is readable");
        found.extend(
            names.iter().filter(|name| text.contains(&format!("\"{name}\""))).map(|name| (path.clone(), *name)),
        );
    }
    assert_eq!(found, [], "these belong in kafka/client/settings.rs");
}

#[apply(offline_test)]
fn any_other_property_wins_over_the_default() {
    let mut config = Config::default();
    config.kafka.properties.insert("fetch.wait.max.ms".to_owned(), "50".to_owned());
    config.kafka.properties.insert("reconnect.backoff.ms".to_owned(), "7".to_owned());
    let settings = settings::group_member(&config, "pod-1");
    assert_eq!(settings.get("fetch.wait.max.ms"), Some("50"));
    assert_eq!(settings.get("reconnect.backoff.ms"), Some("7"));
}

#[apply(offline_test)]
fn a_password_is_read_from_its_file_without_the_line_end() {
    let file = holding("geheim \n");
    let config = with_password_file(file.path()).expect("valid").config;
    let settings = settings::admin(&config);
    assert_eq!(settings.get("sasl.password"), Some("geheim "));
    assert_eq!(settings.get("sasl.username"), Some("steward"));
}

#[apply(offline_test)]
fn a_missing_password_file_is_named() {
    let error = with_password_file(Path::new("/nowhere/password")).expect_err("it is not there").to_string();
    assert!(error.contains("kafka.security.password_file") && error.contains("/nowhere/password"), "{error}");
}

#[apply(offline_test)]
fn what_needs_tls_is_refused_in_a_build_without_tls() {
    let mut config = Config::default();
    config.kafka.security.protocol = SecurityProtocol::Ssl;
    let native = settings::admin(&config).create_native_config();
    let loaded = Effective::load(None, [variable("PROTOCOL", "ssl")]);
    if cfg!(feature = "tls") {
        assert_eq!(settings::library().tls, Tls::BuiltIn);
        native.expect("librdkafka has TLS");
        loaded.expect("valid");
    } else {
        assert_eq!(settings::library().tls, Tls::Absent);
        let refused = loaded.expect_err("without TLS").to_string();
        assert!(refused.contains("kafka.security.protocol") && refused.contains("needs TLS"), "{refused}");
    }
}

#[apply(offline_test)]
fn the_read_ahead_is_an_eighth_of_the_bytes_in_flight() {
    let mut config = Config::default();
    config.limits.max_in_flight_bytes = 64 << 20;
    let settings = settings::group_member(&config, "pod-1");
    assert_eq!(settings.get("queued.max.messages.kbytes"), Some("8192"));
    config.limits.max_in_flight_bytes = 1;
    let settings = settings::group_member(&config, "pod-1");
    assert_eq!(settings.get("queued.max.messages.kbytes"), Some("1024"));
}

#[apply(offline_test)]
fn statistics_name_each_assigned_partition_once() {
    let (context, events) = context(&Config::default());
    context.stats_raw(
        br#"{"name":"x","brokers":{"a:1/bootstrap":{"nodeid":-1,"source":"configured","rxidle":-1},"a:1/3":{"nodeid":3,"source":"learned","rxidle":42000,"throttle":{"min":0,"max":250,"avg":9}},
            "GroupCoordinator":{"nodeid":-1,"source":"logical","rxidle":7000}},"topics":{"services":{"partitions":{
            "0":{"partition":0,"broker":3,"leader":3,"fetch_state":"active","fetchq_size":900,"ls_offset":10,"hi_offset":12,"app_offset":7},
            "1":{"partition":1,"broker":-1,"leader":-1,"fetch_state":"active","fetchq_size":900,"ls_offset":-1,"hi_offset":-1001,"app_offset":-1001},
            "2":{"partition":2,"broker":3,"leader":3,"fetch_state":"none","fetchq_size":900,"ls_offset":3,"hi_offset":3,"app_offset":3},
            "-1":{"partition":-1,"broker":-1,"leader":-1,"fetch_state":"none","fetchq_size":0,"ls_offset":-1,"hi_offset":-1,"app_offset":-1}}}}}"#,
    );
    let statistics = events.statistics.lock().expect("not poisoned").clone().expect("reported");
    let at = |position| Some(Position(position));
    let expected = ConsumerStatistics {
        prefetched_bytes: 900,
        knows_no_broker: false,
        since_any_response: Some(Duration::from_millis(7)),
        throttle: Some(Throttle { broker: String::new(), time_ms: 250 }),
        partitions: vec![
            PartitionStatistics {
                partition: Partition(0),
                last_stable: at(10),
                high_watermark: at(12),
                position: at(7),
                since_response: Some(Duration::from_millis(42)),
                lacks_leader: false,
            },
            PartitionStatistics {
                partition: Partition(1),
                last_stable: None,
                high_watermark: None,
                position: None,
                since_response: None,
                lacks_leader: true,
            },
        ],
    };
    assert_eq!(statistics, expected);
}

#[apply(offline_test)]
fn a_client_that_knows_no_broker_shows_it_once_a_report() {
    let (context, _) = context(&Config::default());
    let report = |broker: &str| {
        context
            .stats_raw(format!(r#"{{"brokers":{{"a":{{"nodeid":-1,"rxidle":-1,"source":"{broker}"}}}}}}"#).as_bytes());
        [context.has_lost_all_brokers(), context.has_lost_all_brokers()]
    };
    assert_eq!(report("logical"), [true, false]);
    assert_eq!(report("internal"), [true, false]);
    assert_eq!(report("configured"), [false, false]);
    assert_eq!(report("learned"), [false, false]);
}

/// With the library's `debug` the error that explains a failure is behind many log lines.
#[apply(offline_test)]
fn one_serve_passes_on_all_that_the_client_has_reported_however_much() {
    const CONNECTIONS: usize = 40;
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let mut config = Config::default();
    config.kafka.bootstrap_servers = listener.local_addr().expect("it listens").to_string();
    let properties = [("debug", "all"), ("reconnect.backoff.ms", "1"), ("reconnect.backoff.max.ms", "1")];
    config.kafka.properties.extend(properties.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let counter = Counter::default();
    let client = unsubscribed::build(&settings::admin(&config), counter.clone()).expect("the settings are valid");
    // The client makes the next connection after it has reported that it lost the one before.
    listener.incoming().take(CONNECTIONS + 1).for_each(drop);

    unsubscribed::serve(&client);

    let lost = counter.lost.load(Ordering::Relaxed);
    assert!(lost >= CONNECTIONS, "{lost}");
}

/// Counts the log lines about a connection that was lost.
#[derive(Clone, Default)]
struct Counter {
    lost: Arc<AtomicUsize>,
}

impl ClientContext for Counter {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "STATE" && message.ends_with("-> DOWN") {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Counter {}

#[apply(offline_test)]
fn statistics_report_the_longest_delay_of_a_broker() {
    for role in [ClientRole::Consumer, ClientRole::Producer, ClientRole::Reader] {
        let events = Arc::new(RecordedEvents::default());
        let context = ReportingContext::new(&Config::default(), role, Arc::clone(&events) as Arc<dyn ClientEvents>);
        context.stats_raw(
            br#"{"brokers":{"a:1/1":{"name":"a:1/1","nodeid":1,"source":"learned","rxidle":0,"throttle":{"max":0}}}}"#,
        );
        context.stats_raw(
            br#"{"brokers":{"a:1/1":{"name":"a:1/1","nodeid":1,"source":"learned","rxidle":0,"throttle":{"min":0,"max":20}},
                "b:1/2":{"name":"b:1/2","nodeid":2,"source":"learned","rxidle":0,"throttle":{"max":1300}}}}"#,
        );
        let throttle = Throttle { broker: "b:1/2".into(), time_ms: 1_300 };
        assert_eq!(*events.throttles.lock().expect("not poisoned"), [(role, throttle)]);
        let has_statistics = events.statistics.lock().expect("not poisoned").is_some();
        assert_eq!(has_statistics, role == ClientRole::Consumer, "only the group's consumer shows the lag");
    }
}

#[apply(offline_test)]
fn a_token_file_yields_its_subject_and_its_expiry() {
    // {"alg":"none"} . {"sub":"steward","exp":1700000000.5}
    let file = holding("eyJhbGciOiJub25lIn0.eyJzdWIiOiJzdGV3YXJkIiwiZXhwIjoxNzAwMDAwMDAwLjV9.c2ln\n");
    let mut config = Config::default();
    config.kafka.security.oauth_token_file = Some(file.path().to_owned());
    let token = context(&config).0.generate_oauth_token(None).expect("it is a token");
    assert_eq!(token.principal_name, "steward");
    assert_eq!(token.lifetime_ms, 1_700_000_000_500);
    assert!(token.token.ends_with("c2ln"), "without the line's end");
}

/// The time at which the file was written counts, so that a process that starts later does not overestimate it.
#[apply(offline_test)]
fn an_opaque_token_has_the_configured_principal_and_lifetime() {
    let both = |security: &mut SecurityConfig| {
        security.oauth_principal = Some("pod".to_owned());
        security.oauth_token_lifetime_ms = Some(60_000);
    };
    let (before, token, after) = (unix_ms(), token_in("opaque-token/+=\n", both).expect("a token"), unix_ms());
    assert_eq!((token.token.as_str(), token.principal_name.as_str()), ("opaque-token/+=", "pod"));
    // A file system may keep whole seconds.
    assert!((before + 58_000..=after + 60_000).contains(&token.lifetime_ms), "{} after {before}", token.lifetime_ms);
    let only_principal = |security: &mut SecurityConfig| security.oauth_principal = Some("pod".to_owned());
    let only_lifetime = |security: &mut SecurityConfig| security.oauth_token_lifetime_ms = Some(60_000);
    for lacking in [token_in("opaque", only_principal), token_in("opaque", only_lifetime)] {
        let error = lacking.err().expect("the other one is not known");
        assert!(error.contains("set kafka.security.oauth_principal and"), "{error}");
    }
    let jwt = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzdGV3YXJkIiwiZXhwIjoxNzAwMDAwMDAwLjV9.c2ln";
    let named = token_in(jwt, only_principal).expect("a token");
    assert_eq!((named.principal_name.as_str(), named.lifetime_ms), ("pod", 1_700_000_000_500), "the rest is its own");
}

fn token_in(held: &str, configure: impl FnOnce(&mut SecurityConfig)) -> Result<OAuthToken, String> {
    let file = holding(held);
    let mut config = Config::default();
    config.kafka.security.oauth_token_file = Some(file.path().to_owned());
    configure(&mut config.kafka.security);
    context(&config).0.generate_oauth_token(None).map_err(|error| error.to_string())
}

#[apply(offline_test)]
fn a_token_file_that_holds_no_token_is_an_error_that_does_not_quote_it() {
    for held in ["secret", "secret.secret", "secret.!!.secret", "secret.e30.secret", "secret.a.secret"] {
        let file = holding(held);
        let mut config = Config::default();
        config.kafka.security.oauth_token_file = Some(file.path().to_owned());
        let Err(error) = context(&config).0.generate_oauth_token(None) else { panic!("{held} is no token") };
        let error = error.to_string();
        assert!(error.contains("JWT") && !error.contains("secret"), "{error}");
    }
    for held in ["", " \n", "two secrets", "sécret"] {
        let error = token_in(held, |_| ()).err().expect("it is no token");
        assert!(error.contains("holds no token") && !error.contains("cret"), "{error}");
    }
    let Err(error) = context(&Config::default()).0.generate_oauth_token(None) else { panic!("there is no file") };
    assert!(error.to_string().contains("oauth_token_file"), "{error}");
}

// ------------------------------------------------------------------------------------------------------------- harness

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("it is readable").map(|entry| entry.expect("it is readable").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    folders.iter().flat_map(|folder| rust_files(folder)).chain(files).collect()
}

fn variable(key: &str, value: &str) -> (String, String) {
    (format!("STEWARD__KAFKA__SECURITY__{key}"), value.to_owned())
}

fn with_password_file(file: &Path) -> Result<Effective, ConfigError> {
    let file = file.display().to_string();
    let given = [("PROTOCOL", "sasl_plaintext"), ("SASL_MECHANISM", "plain"), ("USERNAME", "steward")];
    let given = given.into_iter().chain([("PASSWORD_FILE", file.as_str())]);
    Effective::load(None, given.map(|(key, value)| variable(key, value)))
}

fn holding(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("it can be written");
    file
}

fn context(config: &Config) -> (ReportingContext, Arc<RecordedEvents>) {
    let events = Arc::new(RecordedEvents::default());
    (ReportingContext::new(config, ClientRole::Consumer, Arc::clone(&events) as Arc<dyn ClientEvents>), events)
}

#[derive(Default)]
struct RecordedEvents {
    statistics: Mutex<Option<ConsumerStatistics>>,
    throttles: Mutex<Vec<(ClientRole, Throttle)>>,
}

impl ClientEvents for RecordedEvents {
    fn error(&self, _: ClientRole, error: &ClientError<'_>) {
        panic!("no error was expected: {error:?}");
    }

    fn log(&self, _: ClientRole, _: ClientLogLevel, _: &str, message: &str) {
        panic!("no log line was expected: {message}");
    }

    fn statistics(&self, statistics: ConsumerStatistics) {
        *self.statistics.lock().expect("not poisoned") = Some(statistics);
    }

    fn throttled(&self, role: ClientRole, throttle: &Throttle) {
        self.throttles.lock().expect("not poisoned").push((role, throttle.clone()));
    }
}
