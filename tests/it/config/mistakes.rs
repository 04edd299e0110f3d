//! Every mistake is reported with its key, the allowed values and what to do, and all mistakes at once.

use std::path::Path;

use proptest::prelude::*;
use steward::config::{Config, ConfigError, Tls, ValueOrigin, keys};

use super::{parse, parse_with};

/// Text, key, and words of the message: what is wrong, and what to do.
const MISTAKES: &[(&str, &str, &[&str])] = &[
    ("[kafka]\ntopci = 'a'", "kafka.topci", &["no such key", "did you mean kafka.topic"]),
    ("[kafka]\nsession_timeout = 1", "kafka.session_timeout", &["did you mean kafka.session_timeout_ms"]),
    ("[limits]\nsession_timeout_ms = 1", "limits.session_timeout_ms", &["did you mean kafka.session_timeout_ms"]),
    ("[limit]\nmax_payload_bytes = 1", "limit", &["did you mean limits"]),
    ("[whatever_is_this]\na = 1", "whatever_is_this", &["no such key", "remove it"]),
    ("kafka = 3", "kafka", &["is a section", "kafka.bootstrap_servers"]),
    (
        "[limits]\nmax_payload_bytes = 0",
        "limits.max_payload_bytes",
        &["= 0", "from 1 to 104857600", "1 is the nearest"],
    ),
    ("[limits]\nmax_payload_bytes = 104857601", "limits.max_payload_bytes", &["104857600 is the nearest"]),
    ("[limits]\nmax_payload_bytes = -1", "limits.max_payload_bytes", &["= -1", "whole number from 1 to 104857600"]),
    ("[limits]\nmax_payload_bytes = '256KiB'", "limits.max_payload_bytes", &["whole number", "without a unit"]),
    ("[limits]\nmax_payload_bytes = 1.5", "limits.max_payload_bytes", &["whole number"]),
    ("[limits]\nmax_payload_bytes = 99999999999999999999999", "limits.max_payload_bytes", &["from 1 to 104857600"]),
    (
        "[limits]\nmax_payload_bytes = 1024\nmax_in_flight_bytes = 1024",
        "limits.max_payload_bytes",
        &["below limits.max_in_flight_bytes (1024)", "raise limits.max_in_flight_bytes"],
    ),
    (
        "[limits]\nmax_transaction_bytes = 134217729",
        "limits.max_transaction_bytes",
        &["at most limits.max_in_flight_bytes", "50331648 or less"],
    ),
    ("[limits]\nmax_in_flight_bytes = 4294967296", "limits.max_in_flight_bytes", &["from 1024 to 2147483648"]),
    ("[limits]\nmax_batch_records = 0", "limits.max_batch_records", &["from 1 to 1000000"]),
    ("[limits]\nmax_active_entities = true", "limits.max_active_entities", &["whole number", "write digits"]),
    ("[kafka]\nsession_timeout_ms = 999", "kafka.session_timeout_ms", &["from 1000 to 3600000"]),
    (
        "[kafka]\nheartbeat_interval_ms = 3334",
        "kafka.heartbeat_interval_ms",
        &["below a third of kafka.session_timeout_ms (10000)", "3333 or less"],
    ),
    (
        "[kafka]\nsession_timeout_ms = 6000\nmax_poll_interval_ms = 6000",
        "kafka.session_timeout_ms",
        &["below kafka.max_poll_interval_ms (6000)", "raise"],
    ),
    ("[kafka]\ntransaction_timeout_ms = 900001", "kafka.transaction_timeout_ms", &["from 1000 to 900000"]),
    ("[kafka]\ntransaction_timeout_ms = 999", "kafka.transaction_timeout_ms", &["from 1000 to 900000"]),
    (
        "[health]\nstall_timeout_ms = 10000",
        "health.stall_timeout_ms",
        &["above kafka.session_timeout_ms (10000)", "10001 or more"],
    ),
    (
        "[health]\njoin_timeout_ms = 60000",
        "health.join_timeout_ms",
        &["above kafka.max_poll_interval_ms (60000)", "60001 or more"],
    ),
    (
        "[shutdown]\ndrain_timeout_ms = 400",
        "shutdown.drain_timeout_ms",
        &["above shutdown.revoke_drain_ms (400)", "401 or more"],
    ),
    (
        "[shutdown]\nrevoke_drain_ms = 60000\ndrain_timeout_ms = 70000",
        "shutdown.revoke_drain_ms",
        &["below kafka.max_poll_interval_ms", "59999 or less"],
    ),
    (
        "[recovery]\nlook_back_records = 5\nverify_max_records = 4",
        "recovery.look_back_records",
        &["at most recovery.verify_max_records (4)", "verify_max_records = 0"],
    ),
    ("[recovery]\non_expired = 'skip'", "recovery.on_expired", &["\"continue\", \"stop\"", "choose one"]),
    ("[recovery]\non_expired = 'Stop'", "recovery.on_expired", &["did you mean \"stop\""]),
    ("[recovery]\nadopt_group = 'yes'", "recovery.adopt_group", &["true or false", "without quotes"]),
    ("[guards]\nunchecked = 'alow'", "guards.unchecked", &["\"refuse\", \"allow\"", "did you mean \"allow\""]),
    ("[log]\nformat = 'xml'", "log.format", &["\"auto\", \"json\", \"text\""]),
    ("[log]\nlevel = 'verbose'", "log.level", &["error, warn, info, debug or trace", "info,librdkafka=debug"]),
    ("[log]\nlevel = 'info,librdkafka=loud'", "log.level", &["filter of target=level"]),
    ("[log]\nlevel = 'info,warn'", "log.level", &["filter of target=level"]),
    ("[log]\nlevel = 'off'", "log.level", &["error, warn, info, debug or trace"]),
    ("[log]\nkeys = 'hidden'", "log.keys", &["\"plain\", \"hashed\", \"omitted\""]),
    ("[log]\nkeys = 'hashed'", "log.key_hash_secret_file", &["is needed by log.keys", "16 random characters"]),
    (
        "[log]\nkey_hash_secret_file = '/x'",
        "log.key_hash_secret_file",
        &["has no meaning with log.keys = \"plain\"", "log.keys = \"hashed\""],
    ),
    ("[log]\nlevel = 3", "log.level", &["must be text", "double quotes"]),
    ("[kafka]\ntopic = ''", "kafka.topic", &["must not be empty", "remove the line"]),
    ("[kafka]\ntopic = 'a b'", "kafka.topic", &["\"a b\"", "1 to 249 characters", "Kafka allows"]),
    ("[kafka]\ntopic = '..'", "kafka.topic", &["neither . nor .."]),
    ("[kafka]\nstate_topic = 'services'", "kafka.state_topic", &["differ from kafka.topic", "its own topic"]),
    ("[kafka]\ndlq_topic = 'services.state'", "kafka.dlq_topic", &["differ from kafka.state_topic"]),
    ("[kafka]\ndlq_topic = 'services_state'", "kafka.dlq_topic", &["only in . and _", "another name"]),
    ("[kafka]\ngroup_id = ''", "kafka.group_id", &["must not be empty"]),
    ("[kafka]\ngroup_id = ' steward'", "kafka.group_id", &["white space", "another group"]),
    ("[kafka]\ninstance_name = 'pod/1'", "kafka.instance_name", &["1 to 249 characters"]),
    (
        "[kafka]\nstatic_membership = true",
        "kafka.static_membership",
        &["stays the same", "kafka.instance_name", "POD_NAME"],
    ),
    ("[kafka]\nbootstrap_servers = 'localhost'", "kafka.bootstrap_servers", &["without a port", "localhost:9092"]),
    ("[kafka]\nbootstrap_servers = 'a:1,b:65536'", "kafka.bootstrap_servers", &["1 to 65535"]),
    ("[kafka]\nbootstrap_servers = 'a:0'", "kafka.bootstrap_servers", &["1 to 65535"]),
    ("[kafka]\nbootstrap_servers = 'a:1,,b:2'", "kafka.bootstrap_servers", &["empty entry", "commas"]),
    ("[kafka]\nbootstrap_servers = 'SSL://a:1'", "kafka.bootstrap_servers", &["scheme", "kafka.security.protocol"]),
    ("[kafka]\nbootstrap_servers = '::1:9092'", "kafka.bootstrap_servers", &["IPv6", "brackets"]),
    ("[kafka]\ntopic = \"a\\u0000\"", "kafka.topic", &["control characters", "remove them"]),
    ("[health]\nfile = ''", "health.file", &["must not be empty"]),
    (
        "[kafka.security]\nprotocol = 'https'",
        "kafka.security.protocol",
        &["\"plaintext\", \"ssl\", \"sasl_plaintext\", \"sasl_ssl\"", "choose one"],
    ),
    ("[kafka.security]\nprotocol = 'tls'", "kafka.security.protocol", &["did you mean \"ssl\""]),
    ("[kafka.security]\nprotocol = 'sasl_tls'", "kafka.security.protocol", &["did you mean \"sasl_ssl\""]),
    ("[kafka.security]\nprotocol = 'SASL_SSL'", "kafka.security.protocol", &["did you mean \"sasl_ssl\""]),
    (
        "[kafka.security]\nprotocol = 'sasl_ssl'",
        "kafka.security.sasl_mechanism",
        &["not set", "is needed by", "scram-sha-512"],
    ),
    (
        "[kafka.security]\nsasl_mechanism = 'plain'",
        "kafka.security.sasl_mechanism",
        &["no meaning", "set the protocol to sasl_ssl"],
    ),
    ("[kafka.security]\nsasl_mechanism = 'PLAIN'", "kafka.security.sasl_mechanism", &["did you mean \"plain\""]),
    ("[kafka.security]\npassword = 'hunter22'", "kafka.security.password", &["no meaning", "or remove it"]),
    (
        "[kafka.security]\nprotocol = 'ssl'\nca_file = '-----BEGIN CERTIFICATE-----'",
        "kafka.security.ca_file",
        &["must be the path of a file", "write it to a file"],
    ),
    ("[kafka.security]\npassword = 4711", "kafka.security.password", &["must be text", "double quotes"]),
    ("[kafka.security]\nca_file = '/ca'", "kafka.security.ca_file", &["no meaning", "ssl or sasl_ssl"]),
    (
        "[kafka.security]\nprotocol = 'ssl'\nkey_file = '/key'",
        "kafka.security.certificate_file",
        &["not set", "needed by kafka.security.key_file", "set both, or neither"],
    ),
    (
        "[kafka.security]\nprotocol = 'ssl'\ncertificate_file = '/crt'",
        "kafka.security.key_file",
        &["needed by kafka.security.certificate_file"],
    ),
    (
        "[kafka.security]\nprotocol = 'ssl'\nkey_password = 'x'",
        "kafka.security.key_password",
        &["belongs to kafka.security.key_file", "set kafka.security.key_file"],
    ),
    (
        "[kafka.security]\nprotocol = 'sasl_ssl'\nsasl_mechanism = 'plain'\npassword = 'x'",
        "kafka.security.username",
        &["needed", "set it"],
    ),
    (
        "[kafka.security]\nprotocol = 'sasl_ssl'\nsasl_mechanism = 'plain'\nusername = 'x'",
        "kafka.security.password_file",
        &["needed", "a file that holds the password"],
    ),
    (
        "[kafka.security]\nprotocol = 'sasl_ssl'\nsasl_mechanism = 'plain'\nusername = 'x'\npassword = 'x'\npassword_file = '/x'",
        "kafka.security.password",
        &["exclude each other", "remove one"],
    ),
    (
        "[kafka.security]\nprotocol = 'sasl_ssl'\nsasl_mechanism = 'plain'\nusername = 'x'\npassword = 'x'\noauth_token_file = '/x'",
        "kafka.security.oauth_token_file",
        &["no meaning", "oauthbearer"],
    ),
    (
        "[kafka.security]\nprotocol = 'sasl_ssl'\nsasl_mechanism = 'plain'\nusername = 'x'\npassword = 'x'\noauth_principal = 'x'",
        "kafka.security.oauth_principal",
        &["no meaning", "oauthbearer"],
    ),
    (
        "[kafka.security]\nprotocol = 'sasl_ssl'\nsasl_mechanism = 'oauthbearer'\noauth_token_file = '/x'\noauth_extensions = 'lkc-1'",
        "kafka.security.oauth_extensions",
        &["without =", "logicalCluster=lkc-1"],
    ),
    (
        "[kafka.security]\nprotocol = 'sasl_ssl'\nsasl_mechanism = 'oauthbearer'\noauth_token_file = '/x'\noauth_extensions = 'pool-id=1'",
        "kafka.security.oauth_extensions",
        &["letters"],
    ),
    (
        "[kafka.security]\nprotocol = 'sasl_ssl'\nsasl_mechanism = 'oauthbearer'\noauth_token_file = '/x'\noauth_extensions = { auth = 'x' }",
        "kafka.security.oauth_extensions",
        &["the token itself", "remove"],
    ),
    (
        "[kafka.security]\nprotocol = 'sasl_ssl'\nsasl_mechanism = 'oauthbearer'\noauth_token_file = '/x'\noauth_extensions = 'a=ä'",
        "kafka.security.oauth_extensions",
        &["ASCII"],
    ),
    (
        "[kafka.security]\nprotocol = 'sasl_ssl'\nsasl_mechanism = 'oauthbearer'\noauth_token_file = '/x'\noauth_extensions = 'a=1,a=2'",
        "kafka.security.oauth_extensions",
        &["twice"],
    ),
    (
        "[kafka.security]\nprotocol = 'sasl_ssl'\nsasl_mechanism = 'oauthbearer'\noauth_token_file = '/x'\noauth_extensions = { a = 1 }",
        "kafka.security.oauth_extensions",
        &["table of texts"],
    ),
    (
        "[kafka.security]\nprotocol = 'sasl_ssl'\nsasl_mechanism = 'plain'\nusername = 'x'\npassword = 'x'\noauth_extensions = 'a=1'",
        "kafka.security.oauth_extensions",
        &["no meaning", "oauthbearer"],
    ),
    (
        "[kafka.security]\noauth_token_lifetime_ms = 60000",
        "kafka.security.oauth_token_lifetime_ms",
        &["no meaning", "sasl_ssl"],
    ),
    (
        "[kafka.security]\nprotocol = 'sasl_ssl'\nsasl_mechanism = 'oauthbearer'",
        "kafka.security.oauth_token_file",
        &["needed", "name the file"],
    ),
    (
        "[kafka.security]\nprotocol = 'sasl_ssl'\nsasl_mechanism = 'oauthbearer'\noauth_token_file = '/x'\nusername = 'x'",
        "kafka.security.username",
        &["no meaning", "remove it"],
    ),
    (
        "[kafka.properties]\n'fetch.wait.max' = 1",
        "kafka.properties.fetch.wait.max",
        &["no such property", "did you mean kafka.properties.fetch.wait.max.ms"],
    ),
    ("[kafka.properties]\n'zzz' = 1", "kafka.properties.zzz", &["no such property", "docs/configuration.md"]),
    (
        "[kafka.properties]\n'linger.ms' = 1.5",
        "kafka.properties.linger.ms",
        &["a whole number", "librdkafka's documentation"],
    ),
    (
        "[kafka.properties]\n'linger.ms' = 1\nlinger.ms = 2",
        "kafka.properties.linger.ms",
        &["given twice", "remove one"],
    ),
    ("'kafka.topic' = 'a'\n[kafka]\ntopic = 'b'", "kafka.topic", &["given twice, in line", "remove one"]),
    ("[kafka.properties]\n'group.id' = 'x'", "kafka.properties.group.id", &["key of its own", "set kafka.group_id"]),
];

#[apply(offline_test)]
fn every_mistake_names_the_key_and_the_remedy() {
    assert!(MISTAKES.len() >= 40);
    for (text, key, words) in MISTAKES {
        let error = parse(text).expect_err(text);
        let [mistake] = error.mistakes() else { panic!("{text}\nhas one mistake, not these: {error}") };
        assert_eq!(mistake.key, *key, "{text}");
        let line = mistake.to_string();
        for word in *words {
            assert!(line.contains(word), "{text}\nshould be reported with {word:?}, not with\n{line}");
        }
        assert!(error.to_string().contains(&line), "the whole error holds each line");
    }
}

#[apply(offline_test)]
fn all_mistakes_are_reported_at_once_in_the_order_of_the_keys() {
    let text = "[runtime]\nentity_threads = 'all'\n[nonsense]\n[limits]\nmax_batch_records = 0\n[kafka]\ntopic = '.'\n";
    let variables = [("STEWARD__KAFKA__STATIC_MEMBERSHIP", "maybe"), ("STEWARD__LIMITS__MAX_STATE_BYTES", "0")];
    let error = parse_with(text, variables, Tls::Absent).expect_err("five mistakes");
    let message: Vec<&str> = error.mistakes().iter().map(|mistake| mistake.key.as_str()).collect();
    let expected = [
        "kafka.static_membership",
        "kafka.topic",
        "limits.max_batch_records",
        "limits.max_state_bytes",
        "runtime.entity_threads",
        "nonsense",
    ];
    assert_eq!(message, expected);
    assert!(error.to_string().starts_with("6 mistakes in the configuration:\n  kafka.static_membership = maybe"));
}

#[apply(offline_test)]
fn a_mistake_names_its_place() {
    let error = parse("[limits]\n\n  max_payload_bytes = 0 # none\n").expect_err("0 is too small");
    let place = ValueOrigin::File { name: "test.toml".into(), line: 3, column: 3 };
    assert_eq!(error.mistakes()[0].origin, place);
    assert!(error.to_string().contains("(test.toml, line 3, column 3)"), "{error}");

    let error = parse_with("", [("STEWARD__LIMITS__MAX_PAYLOAD_BYTES", "0")], Tls::Absent).expect_err("0 is too small");
    assert!(error.to_string().contains("(STEWARD__LIMITS__MAX_PAYLOAD_BYTES)"), "{error}");
}

#[apply(offline_test)]
fn a_syntax_error_is_reported_with_its_line_and_without_quoting_it() {
    let error = parse("[kafka.security]\nusername = \"me\"\npassword = hunter22\n").expect_err("text needs quotes");
    let message = error.to_string();
    assert!(message.contains("kafka.security.password (test.toml, line 3, column"), "{message}");
    assert!(message.contains("is not TOML") && message.contains("double quotes"), "{message}");
    assert!(!message.contains("hunter22"), "{message}");

    let error = parse("[kafka\n").expect_err("a bracket is missing");
    assert!(error.to_string().contains("the file (test.toml, line 1"), "{error}");
    let error = parse("[kafka]\ntopic = 'a'\ntopic = 'b'\n").expect_err("the key is there twice");
    assert!(error.to_string().contains("line 3"), "{error}");
}

#[apply(offline_test)]
fn a_missing_file_is_named() {
    let error = Config::load(Some(Path::new("/nowhere/steward.toml")), []).expect_err("there is no such file");
    assert!(matches!(error, ConfigError::Unreadable { .. }));
    let message = error.to_string();
    assert!(message.contains("/nowhere/steward.toml") && message.contains("--config"), "{message}");
}

/// Fragments of TOML and of keys in random order: the result is a configuration or mistakes, never a panic.
#[apply(offline_test)]
fn no_text_and_no_variable_panics_the_parser() {
    let words = keys::all().map(|key| key.path).chain(keys::section_names()).chain([
        "[",
        "]",
        "[[",
        "\n",
        "\r\n",
        " = ",
        ".",
        "..",
        "'",
        "\"",
        "\"\"\"",
        "{",
        "}",
        ",",
        "#",
        "1",
        "-9",
        "0x1F",
        "1e400",
        "inf",
        "true",
        "1979-05-27",
        "é",
        "\u{feff}",
        "\0",
        "\\u0000",
        "'a'",
        "'zzz.ms'",
        "'..'",
        "[kafka]\n",
        "topic",
        "'a:1'",
    ]);
    let words: Vec<&str> = words.collect();
    let text = prop::collection::vec(prop::sample::select(words), 0..24).prop_map(|words| words.concat());
    let known = prop::sample::select(keys::all().collect::<Vec<_>>()).prop_map(|key| keys::variable(key.path));
    let name = prop_oneof!["[A-Za-z_.=é]{0,30}", known];
    let cases = (text, name, ".{0,12}");
    let config = ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() };
    let result = crate::support::chance::runner(config).run(&cases, |(text, name, value)| {
        let prefixed = format!("STEWARD__{name}");
        for name in [&name, &prefixed] {
            for tls in [Tls::BuiltIn, Tls::Absent] {
                if let Err(error) = parse_with(&text, [(name.as_str(), value.as_str())], tls) {
                    prop_assert!(!error.mistakes().is_empty());
                }
            }
        }
        Ok(())
    });
    result.expect("every input has a result");
}
