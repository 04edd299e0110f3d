//! The settings of the Kafka clients, and what their contexts make of what a client says. No broker.

use std::sync::{Arc, Mutex};

use rdkafka::ClientContext;
use steward::config::{Config, SaslMechanism, SecurityProtocol};
use steward::kafka::client::context::{
    ClientEvents, ClientLogLevel, ClientRole, ConsumerStatistics, PartitionStatistics, ReportingContext,
};
use steward::kafka::client::settings::{
    SettingsError, {self},
};
use steward::record::{Partition, Position};

#[apply(offline_test)]
fn every_client_accepts_its_settings() {
    let mut config = Config::default();
    config.kafka.static_membership = true;
    for settings in [
        settings::consumer(&config, "pod-1"),
        settings::reader_committed(&config),
        settings::reader_uncommitted(&config),
        settings::producer(&config, "group-pod-1"),
        settings::admin(&config),
    ] {
        let settings = settings.expect("the defaults are valid");
        settings.create_native_config().expect("librdkafka knows every property and takes every value");
    }
    let consumer = settings::consumer(&config, "pod-1").expect("valid");
    consumer.create::<rdkafka::consumer::BaseConsumer>().expect("the settings fit together");
    let producer = settings::producer(&config, "group-pod-1").expect("valid");
    producer.create::<rdkafka::producer::BaseProducer>().expect("the settings fit together");
}

#[apply(offline_test)]
fn a_property_that_a_promise_rests_on_cannot_be_changed() {
    let mut config = Config::default();
    config.kafka.properties.insert("enable.auto.commit".to_owned(), "true".to_owned());
    let refused = settings::consumer(&config, "pod-1").expect_err("it is reserved");
    assert!(
        matches!(refused, SettingsError::Reserved { ref property } if property == "enable.auto.commit"),
        "{refused}"
    );
}

#[apply(offline_test)]
fn any_other_property_wins_over_the_default() {
    let mut config = Config::default();
    config.kafka.properties.insert("fetch.wait.max.ms".to_owned(), "50".to_owned());
    config.kafka.properties.insert("reconnect.backoff.ms".to_owned(), "7".to_owned());
    let settings = settings::consumer(&config, "pod-1").expect("valid");
    assert_eq!(settings.get("fetch.wait.max.ms"), Some("50"));
    assert_eq!(settings.get("reconnect.backoff.ms"), Some("7"));
}

#[apply(offline_test)]
fn a_password_is_read_from_its_file_without_the_line_end() {
    let file = holding("geheim \n");
    let mut config = Config::default();
    config.kafka.security.protocol = SecurityProtocol::SaslPlaintext;
    config.kafka.security.sasl_mechanism = Some(SaslMechanism::Plain);
    config.kafka.security.username = Some("steward".to_owned());
    config.kafka.security.password_file = Some(file.path().to_owned());
    let settings = settings::admin(&config).expect("valid");
    assert_eq!(settings.get("sasl.password"), Some("geheim "));
    assert_eq!(settings.get("sasl.username"), Some("steward"));
}

#[apply(offline_test)]
fn a_missing_password_file_is_named() {
    let mut config = Config::default();
    config.kafka.security.protocol = SecurityProtocol::SaslPlaintext;
    config.kafka.security.sasl_mechanism = Some(SaslMechanism::Plain);
    config.kafka.security.password_file = Some("/nowhere/password".into());
    let error = settings::admin(&config).expect_err("it is not there").to_string();
    assert!(error.contains("the SASL password") && error.contains("/nowhere/password"), "{error}");
}

#[apply(offline_test)]
fn what_needs_tls_says_so_in_a_build_without() {
    let mut config = Config::default();
    config.kafka.security.protocol = SecurityProtocol::Tls;
    let settings = settings::admin(&config);
    if cfg!(feature = "tls") {
        settings.expect("valid").create_native_config().expect("librdkafka has TLS");
    } else {
        assert!(matches!(settings, Err(SettingsError::NeedsTls { .. })));
    }
}

#[apply(offline_test)]
fn the_read_ahead_is_an_eighth_of_the_bytes_in_flight() {
    let mut config = Config::default();
    config.limits.max_in_flight_bytes = 64 << 20;
    let settings = settings::consumer(&config, "pod-1").expect("valid");
    assert_eq!(settings.get("queued.max.messages.kbytes"), Some("8192"));
    config.limits.max_in_flight_bytes = 1;
    let settings = settings::consumer(&config, "pod-1").expect("valid");
    assert_eq!(settings.get("queued.max.messages.kbytes"), Some("1024"));
}

#[apply(offline_test)]
fn statistics_name_each_assigned_partition_once() {
    let (context, heard) = context(&Config::default());
    context.stats_raw(
        br#"{"name":"x","topics":{"services":{"partitions":{
            "0":{"partition":0,"fetch_state":"active","fetchq_size":900,"ls_offset":10,"hi_offset":12,"app_offset":7},
            "1":{"partition":1,"fetch_state":"active","fetchq_size":900,"ls_offset":-1,"hi_offset":-1001,"app_offset":-1001},
            "2":{"partition":2,"fetch_state":"none","fetchq_size":900,"ls_offset":3,"hi_offset":3,"app_offset":3},
            "-1":{"partition":-1,"fetch_state":"none","fetchq_size":0,"ls_offset":-1,"hi_offset":-1,"app_offset":-1}}}}}"#,
    );
    let statistics = heard.statistics.lock().expect("not poisoned").clone().expect("told");
    let at = |position| Some(Position(position));
    let expected = ConsumerStatistics {
        prefetched_bytes: 900,
        partitions: vec![
            PartitionStatistics {
                partition: Partition(0),
                last_stable: at(10),
                high_watermark: at(12),
                position: at(7),
            },
            PartitionStatistics { partition: Partition(1), last_stable: None, high_watermark: None, position: None },
        ],
    };
    assert_eq!(statistics, expected);
}

#[apply(offline_test)]
fn a_token_file_yields_who_it_is_about_and_when_it_ends() {
    // {"alg":"none"} . {"sub":"steward","exp":1700000000.5}
    let file = holding("eyJhbGciOiJub25lIn0.eyJzdWIiOiJzdGV3YXJkIiwiZXhwIjoxNzAwMDAwMDAwLjV9.c2ln\n");
    let mut config = Config::default();
    config.kafka.security.oauth_token_file = Some(file.path().to_owned());
    let token = context(&config).0.generate_oauth_token(None).expect("it is a token");
    assert_eq!(token.principal_name, "steward");
    assert_eq!(token.lifetime_ms, 1_700_000_000_500);
    assert!(token.token.ends_with("c2ln"), "without the line's end");
}

#[apply(offline_test)]
fn a_token_file_that_holds_no_token_is_an_error_that_does_not_quote_it() {
    for held in ["", "secret", "secret.secret", "secret.!!.secret", "secret.e30.secret", "secret.a.secret"] {
        let file = holding(held);
        let mut config = Config::default();
        config.kafka.security.oauth_token_file = Some(file.path().to_owned());
        let Err(error) = context(&config).0.generate_oauth_token(None) else { panic!("{held} is no token") };
        let error = error.to_string();
        assert!(error.contains("JWT") && !error.contains("secret"), "{error}");
    }
    let Err(error) = context(&Config::default()).0.generate_oauth_token(None) else { panic!("there is no file") };
    assert!(error.to_string().contains("oauth_token_file"), "{error}");
}

// ------------------------------------------------------------------------------------------------------------- harness

fn holding(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("it can be written");
    file
}

fn context(config: &Config) -> (ReportingContext, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    (ReportingContext::new(config, ClientRole::Consumer, Arc::clone(&heard) as Arc<dyn ClientEvents>), heard)
}

#[derive(Default)]
struct Heard {
    statistics: Mutex<Option<ConsumerStatistics>>,
}

impl ClientEvents for Heard {
    fn error(&self, _: ClientRole, code: &str, reason: &str) {
        panic!("no error was expected: {code} {reason}");
    }

    fn log(&self, _: ClientRole, _: ClientLogLevel, _: &str, message: &str) {
        panic!("no log line was expected: {message}");
    }

    fn statistics(&self, statistics: ConsumerStatistics) {
        *self.statistics.lock().expect("not poisoned") = Some(statistics);
    }
}
