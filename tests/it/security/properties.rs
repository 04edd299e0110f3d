//! `[kafka.properties]`: each property reaches the clients of its scope, and a value that the library refuses is
//! reported.

use rdkafka::config::ClientConfig;
use steward::config::Config;
use steward::config::properties::{PASSED, PropertyScope};
use steward::kafka::client::settings::{self, Isolation, ProducerIdentity, SettingsError};

use crate::cli::{folder, steward};

#[apply(offline_test)]
fn each_property_reaches_only_the_clients_that_it_is_for() {
    // The values differ from every default.
    for (scope, property, value) in [
        (PropertyScope::Both, "socket.timeout.ms", "12345"),
        (PropertyScope::Both, "client.id", "custom"),
        (PropertyScope::Consumer, "fetch.wait.max.ms", "123"),
        (PropertyScope::Consumer, "coordinator.query.interval.ms", "12345"),
        (PropertyScope::Producer, "linger.ms", "7"),
        (PropertyScope::Producer, "compression.level", "3"),
    ] {
        let config = with(property, value);
        let reached = clients(&config).map(|(name, settings)| (name, settings.get(property) == Some(value)));
        let expected = [
            ("member", scope != PropertyScope::Producer),
            ("committed", scope != PropertyScope::Producer),
            ("uncommitted", scope != PropertyScope::Producer),
            ("producer", scope != PropertyScope::Consumer),
            ("admin", scope == PropertyScope::Both),
        ];
        assert_eq!(reached, expected, "{property}");
    }
    let scopes: Vec<PropertyScope> = PASSED.iter().map(|(scope, _)| *scope).collect();
    assert_eq!(
        scopes,
        [PropertyScope::Both, PropertyScope::Consumer, PropertyScope::Producer],
        "the table above covers each scope"
    );
}

#[apply(offline_test)]
fn a_given_name_replaces_the_default_of_its_alias() {
    for (given, other, value) in [
        ("compression.codec", "compression.type", "gzip"),
        ("queue.buffering.max.ms", "linger.ms", "7"),
        ("max.partition.fetch.bytes", "fetch.message.max.bytes", "54321"),
    ] {
        let config = with(given, value);
        let [member, _, _, producer, _] = clients(&config).map(|(_, settings)| settings);
        let settings = if member.get(given).is_some() { member } else { producer };
        assert_eq!((settings.get(given), settings.get(other)), (Some(value), None));
    }
}

#[apply(offline_test)]
fn a_bad_value_is_named_with_its_property() {
    for (property, value) in
        [("fetch.wait.max.ms", "soon"), ("linger.ms", "-5"), ("debug", "everything"), ("client.dns.lookup", "never")]
    {
        let error = settings::check(&with(property, value), "pod-1").expect_err(property);
        assert!(matches!(&error, SettingsError::BadValue { property: named, .. } if named == property), "{error}");
        let message = error.to_string();
        assert!(message.starts_with(&format!("kafka.properties.{property} cannot be used: ")), "{message}");
    }
}

#[apply(offline_test)]
fn settings_that_do_not_fit_together_are_found_before_a_client_connects() {
    settings::check(&Config::default(), "pod-1").expect("the defaults fit together");
    let error = settings::check(&with("receive.message.max.bytes", "1000"), "pod-1").expect_err("below a fetch");
    assert!(
        matches!(&error, SettingsError::Unusable { .. }) && error.to_string().contains("fetch.max.bytes"),
        "{error}"
    );
}

#[apply(offline_test)]
fn a_bad_value_ends_run_and_check_with_3() {
    let folder = folder();
    let config = folder.write("config.toml", "[kafka.properties]\n\"linger.ms\" = \"soon\"\n");
    let check = steward(["config", "check", "--config", &config]);
    assert_eq!(check.code, 3, "{check:?}");
    assert!(check.stderr.contains("kafka.properties.linger.ms") && check.stdout.is_empty(), "{check:?}");
    let run = steward(["run", "--config", &config]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.stdout.contains("kafka.properties.linger.ms"), "{run:?}");
}

// ----------------------------------------------------------------------------------------------------------- helpers

fn with(property: &str, value: &str) -> Config {
    let mut config = Config::default();
    config.kafka.properties.insert(property.to_owned(), value.to_owned());
    config
}

fn clients(config: &Config) -> [(&'static str, ClientConfig); 5] {
    let identity = ProducerIdentity { transactional_id: "group-pod-1", client_id: "group-pod-1" };
    [
        ("member", settings::group_member(config, "pod-1")),
        ("committed", settings::reader(config, Isolation::Committed)),
        ("uncommitted", settings::reader(config, Isolation::Uncommitted)),
        ("producer", settings::transactional_producer(config, identity, None)),
        ("admin", settings::admin(config)),
    ]
}
