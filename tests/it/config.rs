//! The configuration: which value wins, which defaults adapt, and that secrets stay secret. `mistakes` tests the errors,
//! `librdkafka` what is passed on to librdkafka, `page` that `config.toml` and the documentation are correct.

mod librdkafka;
mod mistakes;
mod page;

use std::path::Path;

use proptest::prelude::*;
use steward::config::keys::{TextFormat, ValueKind};
use steward::config::{
    Config, ConfigDocument, ConfigError, Effective, SaslMechanism, Tls, ValueOrigin, keys, oauth_extensions,
};

// ------------------------------------------------------------------------------------------------------- defaults

#[apply(offline_test)]
fn without_a_file_everything_has_its_default() {
    assert_eq!(Config::load(None, []).expect("defaults are allowed"), Config::default());
}

// ------------------------------------------------------------------------------------------------------ variables

#[apply(offline_test)]
fn variables_override_the_file_and_are_read_as_the_kind_of_the_key() {
    let text = "[kafka]\ngroup_id = 'file'\ntopic = 'file'\n[limits]\nmax_payload_bytes = 1\n";
    let variables = [
        ("STEWARD__KAFKA__GROUP_ID", "42"),
        ("STEWARD__LIMITS__MAX_PAYLOAD_BYTES", "65_536"),
        ("STEWARD__KAFKA__CREATE_TOPICS", "false"),
        ("STEWARD__KAFKA__SECURITY__PROTOCOL", "sasl_plaintext"),
        ("STEWARD__KAFKA__SECURITY__SASL_MECHANISM", "plain"),
        ("STEWARD__KAFKA__SECURITY__USERNAME", "true"),
        ("STEWARD__KAFKA__SECURITY__PASSWORD", "12"),
    ];
    let config = parse_with(text, variables, Tls::Absent).expect("allowed").config;
    assert_eq!(config.kafka.group_id, "42");
    assert_eq!(config.kafka.topic, "file");
    assert_eq!(config.limits.max_payload_bytes, 65_536);
    assert!(!config.kafka.create_topics);
    assert_eq!(config.kafka.security.sasl_mechanism, Some(SaslMechanism::Plain));
    assert_eq!(config.kafka.security.username.as_deref(), Some("true"));
    assert_eq!(config.kafka.security.password.expect("given").reveal(), "12");
}

#[apply(offline_test)]
fn every_key_can_be_given_as_a_variable() {
    for key in keys::all() {
        let value = match key.kind {
            ValueKind::Number { .. } => match default_of(key.path) {
                Some(default) => default.to_string(),
                None => key.example.expect("a number without a default has an example").to_owned(),
            },
            ValueKind::Flag => "false".to_owned(),
            ValueKind::Text(TextFormat::LogLevel) => "debug".to_owned(),
            ValueKind::Text(TextFormat::Servers) => "a:1".to_owned(),
            ValueKind::Text(TextFormat::Extensions) => "name=value".to_owned(),
            ValueKind::Text(TextFormat::Free | TextFormat::Name) | ValueKind::File(_) | ValueKind::Secret => {
                "some-text".to_owned()
            }
            ValueKind::Word(words) => words[words.len() - 1].to_owned(),
        };
        let name = keys::variable(key.path);
        match parse_with("", [(name.as_str(), value.as_str())], Tls::BuiltIn) {
            Ok(effective) => assert_eq!(effective.origin(key.path), ValueOrigin::Variable(name)),
            // Some keys need others, such as a secret and its user. Their mistake is not the name and not the kind.
            Err(error) => {
                let message = error.to_string();
                let may_need_another =
                    key.path.starts_with("kafka.security.") || key.path == "log.key_hash_secret_file";
                assert!(
                    may_need_another && (message.contains("needed") || message.contains("no meaning")),
                    "{message}"
                );
            }
        }
    }
}

#[apply(offline_test)]
fn line_ends_and_a_byte_order_mark_of_windows_are_accepted() {
    let text = "\u{feff}[kafka]\r\ntopic = 'a'\r\n";
    assert_eq!(parse(text).expect("allowed").config.kafka.topic, "a");
}

#[apply(offline_test)]
fn extensions_of_a_token_are_a_table_or_a_text() {
    let with = |extensions: &str| {
        let text = format!(
            "[kafka.security]\nprotocol = 'sasl_ssl'\nsasl_mechanism = 'oauthbearer'\noauth_token_file = '/x'\n{extensions}"
        );
        let config = parse(&text).expect("allowed").config;
        let extensions = config.kafka.security.oauth_extensions.expect("given");
        oauth_extensions(&extensions).map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
    };
    let both = ["identityPoolId: pool=2", "logicalCluster: lkc-1"];
    assert_eq!(with("oauth_extensions = 'identityPoolId=pool=2, logicalCluster=lkc-1'"), both);
    assert_eq!(with("oauth_extensions = { identityPoolId = 'pool=2', logicalCluster = 'lkc-1' }"), both);
    assert_eq!(with("[kafka.security.oauth_extensions]\nidentityPoolId = 'pool=2'\nlogicalCluster = 'lkc-1'"), both);
}

#[apply(offline_test)]
fn every_file_of_the_credentials_is_watched_but_the_token() {
    let text = "[kafka.security]\nprotocol = 'ssl'\nca_file = '/ca'\ncertificate_file = '/c'\nkey_file = '/k'\n\
                key_password_file = '/p'\n[kafka.properties]\n'ssl.crl.location' = '/crl'\n";
    let watched = parse(text).expect("allowed").credential_files();
    let watched: Vec<String> = watched.iter().map(|file| format!("{} {}", file.key, file.path.display())).collect();
    let expected = [
        "kafka.security.ca_file /ca",
        "kafka.security.certificate_file /c",
        "kafka.security.key_file /k",
        "kafka.security.key_password_file /p",
        "kafka.properties.ssl.crl.location /crl",
    ];
    assert_eq!(watched, expected);
    let text = "[kafka.security]\nprotocol = 'sasl_ssl'\nsasl_mechanism = 'oauthbearer'\noauth_token_file = '/t'\n";
    assert_eq!(parse(text).expect("allowed").credential_files(), []);
}

#[apply(offline_test)]
fn variables_with_one_underscore_are_not_keys() {
    let variables =
        [("STEWARD_CONFIG", "x"), ("STEWARD_TEST_KAFKA", "x"), ("STEWARD_REQUIRE_KAFKA", "1"), ("STEWARDSHIP__A", "x")];
    assert_eq!(parse_with("", variables, Tls::Absent).expect("allowed").config, Config::default());
}

#[apply(offline_test)]
fn a_wrong_variable_is_refused_by_its_name() {
    check_variable("STEWARD__KAFKA__TOPCI", "a", "kafka.topci", "did you mean STEWARD__KAFKA__TOPIC");
    check_variable("STEWARD__KAFKA", "a", "kafka", "STEWARD__KAFKA__BOOTSTRAP_SERVERS");
    check_variable("STEWARD__NOBODY_KNOWS_THIS_ONE", "a", "nobody_knows_this_one", "unset it");
    check_variable("STEWARD__KAFKA__TOPIC", "", "kafka.topic", "unset the variable");
    check_variable("STEWARD__KAFKA__CREATE_TOPICS", "TRUE", "kafka.create_topics", "lower case");
    check_variable("STEWARD__LIMITS__MAX_PAYLOAD_BYTES", "1e3", "limits.max_payload_bytes", "write digits");
    check_variable("STEWARD__KAFKA__SECURITY__PASSWORD", "x\n", "kafka.security.password", "trailing line break");
    check_variable("STEWARD__KAFKA__PROPERTIES__GROUP_ID", "x", "kafka.properties.group.id", "set kafka.group_id");

    let twice = [("STEWARD__KAFKA__TOPIC", "a"), ("STEWARD__kafka__topic", "b")];
    let error = parse_with("", twice, Tls::Absent).expect_err("which of the two?");
    assert!(error.to_string().contains("given twice, by STEWARD__KAFKA__TOPIC as well"), "{error}");
}

fn check_variable(name: &str, value: &str, key: &str, remedy: &str) {
    let error = parse_with("", [(name, value)], Tls::Absent).expect_err(name);
    let [mistake] = error.mistakes() else { panic!("{name} is one mistake, not these: {error}") };
    assert_eq!((mistake.key.as_str(), &mistake.origin), (key, &ValueOrigin::Variable(name.to_owned())));
    assert!(mistake.remedy.contains(remedy), "{name}: {mistake}");
}

// --------------------------------------------------------------------------------------------------- adapted defaults

#[apply(offline_test)]
fn defaults_adapt_to_the_values_that_are_given() {
    let slow = parse("[kafka]\nsession_timeout_ms = 120000\ntransaction_timeout_ms = 900000\n").expect("allowed");
    assert_eq!(slow.config.kafka.max_poll_interval_ms, 240_000);
    assert_eq!(slow.origin("kafka.max_poll_interval_ms"), ValueOrigin::Follows("kafka.session_timeout_ms"));
    assert_eq!(slow.config.health.stall_timeout_ms, 920_000);
    assert_eq!(slow.origin("health.stall_timeout_ms"), ValueOrigin::Follows("kafka.transaction_timeout_ms"));

    let patient = parse("[kafka]\nmax_poll_interval_ms = 86400000\n").expect("allowed");
    assert_eq!(patient.config.health.join_timeout_ms, 172_800_000);
    assert_eq!(patient.origin("health.join_timeout_ms"), ValueOrigin::Follows("kafka.max_poll_interval_ms"));
    assert_eq!(slow.config.health.join_timeout_ms, 300_000);

    let small =
        parse("[limits]\nmax_in_flight_bytes = 1048576\n[recovery]\nverify_max_records = 10\n").expect("allowed");
    assert_eq!(small.config.limits.max_transaction_bytes, 1_048_576);
    assert_eq!(small.config.recovery.look_back_records, 10);

    let trusting = parse("[recovery]\nverify_max_records = 0\n").expect("allowed");
    assert_eq!(trusting.config.recovery.look_back_records, 10_000);
}

#[apply(offline_test)]
fn a_value_that_is_given_is_never_changed() {
    let text = "[kafka]\nsession_timeout_ms = 40000\n[health]\nstall_timeout_ms = 30000\n";
    let error = parse(text).expect_err("30 s are too short for a session of 40 s");
    assert_eq!(error.mistakes()[0].key, "health.stall_timeout_ms");
    let short = parse("[kafka]\nsession_timeout_ms = 6000\n[health]\nstall_timeout_ms = 7000\n").expect("allowed");
    assert_eq!(short.config.health.stall_timeout_ms, 7_000);
}

// ------------------------------------------------------------------------------------------- security and secrets

#[apply(offline_test)]
fn tls_scram_and_oauthbearer_need_a_build_with_tls() {
    let plain =
        "[kafka.security]\nprotocol = 'sasl_plaintext'\nsasl_mechanism = 'plain'\nusername = 'a'\npassword = 'b'\n";
    parse_with(plain, [], Tls::Absent).expect("PLAIN over plain text needs no TLS");

    let scram = plain.replace("'plain'", "'scram-sha-256'");
    let tls = plain.replace("sasl_plaintext", "sasl_ssl");
    let oauth =
        "[kafka.security]\nprotocol = 'sasl_plaintext'\nsasl_mechanism = 'oauthbearer'\noauth_token_file = '/t'\n";
    let ciphers = "[kafka.properties]\n'ssl.cipher.suites' = 'x'\n";
    for (text, key) in [
        (scram.as_str(), "kafka.security.sasl_mechanism"),
        (&tls, "kafka.security.protocol"),
        (oauth, "kafka.security.sasl_mechanism"),
        (ciphers, "kafka.properties.ssl.cipher.suites"),
    ] {
        parse_with(text, [], Tls::BuiltIn).expect("allowed if TLS is built in");
        let error = parse_with(text, [], Tls::Absent).expect_err("TLS is not built in");
        let [mistake] = error.mistakes() else { panic!("one mistake, not these: {error}") };
        assert_eq!(mistake.key, key);
        assert!(mistake.problem.contains("this build does not have"), "{mistake}");
        assert!(mistake.remedy.contains("cargo build --release --features tls"), "{mistake}");
    }
}

#[apply(offline_test)]
fn secrets_are_read_from_files_without_the_trailing_line_break() {
    let folder = tempfile::tempdir().expect("a directory");
    let config = folder.path().join("config.toml");
    let password = folder.path().join("password");
    std::fs::write(&password, "hunter 22\r\n").expect("written");
    let head = "[kafka.security]\nprotocol = 'sasl_plaintext'\nsasl_mechanism = 'plain'\nusername = 'a'\n";
    std::fs::write(&config, format!("{head}password_file = '{}'\n", password.display())).expect("written");

    let effective = Effective::load(Some(&config), []).expect("allowed");
    let security = &effective.config.kafka.security;
    assert_eq!(security.password.as_ref().expect("read from the file").reveal(), "hunter 22");
    assert_eq!(security.password_file.as_deref(), Some(password.as_path()));
    assert!(effective.describe().contains("# password is not set"), "{}", effective.describe());
}

#[apply(offline_test)]
fn files_that_are_missing_empty_or_not_pem_are_refused() {
    let folder = tempfile::tempdir().expect("a directory");
    let write = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.display().to_string()
    };
    let (empty, binary, lines) = (write("empty", b" \n"), write("binary", &[0xff]), write("lines", b"a\nb\n"));
    let (missing, directory) =
        (folder.path().join("missing").display().to_string(), folder.path().display().to_string());
    for (file, problem) in [
        (empty.as_str(), "is an empty file"),
        (&missing, "cannot be read: No such file"),
        (&directory, "cannot be read"),
        ("/dev/zero", "more than 1048576 bytes"),
        (&binary, "not UTF-8"),
        (&lines, "more than one line"),
    ] {
        let text = format!(
            "[kafka.security]\nprotocol = 'sasl_plaintext'\nsasl_mechanism = 'plain'\nusername = 'a'\npassword_file = '{file}'\n"
        );
        let path = write("config.toml", text.as_bytes());
        let error = Config::load(Some(Path::new(&path)), []).expect_err(problem);
        let [mistake] = error.mistakes() else { panic!("one mistake, not these: {error}") };
        assert_eq!(mistake.key, "kafka.security.password_file");
        assert!(mistake.problem.contains(problem) && mistake.remedy.contains("name a file"), "{mistake}");
    }

    let path = write("config.toml", format!("[kafka.security]\nprotocol = 'ssl'\nca_file = '{lines}'\n").as_bytes());
    let error = Config::load(Some(Path::new(&path)), []).expect_err("there is no certificate in it");
    assert!(error.mistakes().iter().any(|mistake| mistake.problem.contains("not PEM")), "{error}");
}

/// A secret is put in every place where one belongs or can end up by mistake, in correct and in broken configurations.
/// No output contains it.
#[apply(offline_test)]
fn no_secret_is_ever_shown() {
    let places = [
        "[kafka.security]\npassword = \"{}\"",
        "[kafka.security]\npassword = {}",
        "[kafka.security]\npassword = \"{}",
        "[kafka.security]\npassword = [\"{}\"]",
        "[kafka.security]\npassword = \"{}\\n\"",
        "[kafka.security]\npasswort = \"{}\"",
        "[kafka.security]\npassword = \"{}\"\npassword = \"{}\"",
        "[kafka.security]\nprotocol = \"ssl\"\nkey_password = \"{}\"",
        "[kafka.security]\nkey_password = {}",
        "[kafka.security]\nprotocol = \"sasl_plaintext\"\nsasl_mechanism = \"plain\"\npassword = \"{}\"",
        "[kafka.security]\nprotocol = \"sasl_plaintext\"\nsasl_mechanism = \"plain\"\nusername = \"a\"\npassword = \"{}\"",
        "[kafka.security]\nprotocol = \"ssl\"\nkey_file = \"-----BEGIN PRIVATE KEY-----{}\"",
        "[kafka.security]\nprotocol = \"sasl_ssl\"\nsasl_mechanism = \"oauthbearer\"\noauth_token_file = \"eyJ{}\"",
        "[kafka]\npassword = \"{}\"",
        "[kafka]\nbootstrap_servers = \"SASL_SSL://me:{}@broker:9092\"",
        "[kafka.properties]\n\"sasl.password\" = \"{}\"",
        "[kafka.properties]\n\"ssl.key.password\" = \"{}\"",
        "[kafka.properties]\n\"sasl.passwd\" = \"{}\"",
        "password = \"{}\"",
        "{}",
    ];
    let variables = [
        "STEWARD__KAFKA__SECURITY__PASSWORD",
        "STEWARD__KAFKA__SECURITY__PASSWORT",
        "STEWARD__KAFKA__SECURITY__KEY_PASSWORD",
        "STEWARD__KAFKA__PROPERTIES__SASL_PASSWORD",
        "STEWARD__PASSWORD",
    ];
    let cases = (0..places.len(), 0..=variables.len(), "[A-Z][a-z0-9]{12,20}", prop::bool::ANY);
    let result =
        crate::support::chance::runner(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }).run(
            &cases,
            |(place, variable, secret, broken)| {
                let rest = if broken { "\n[limits]\nmax_payload_bytes = 0\n" } else { "\n" };
                let text = places[place].replace("{}", &secret) + rest;
                let variable = variables.get(variable).map(|name| (*name, secret.as_str()));
                for tls in [Tls::BuiltIn, Tls::Absent] {
                    let shown = match parse_with(&text, variable, tls) {
                        Ok(effective) => format!("{effective:?}\n{:?}\n{}", effective.config, effective.describe()),
                        Err(error) => format!("{error}\n{error:?}"),
                    };
                    prop_assert!(!shown.contains(&secret), "{}\nresults in\n{}", text, shown);
                }
                Ok(())
            },
        );
    result.expect("no secret is shown");
}

// -------------------------------------------------------------------------------------------- what is in force

#[apply(offline_test)]
fn the_effective_configuration_shows_the_origin_of_each_value() {
    let text = "[kafka]\ntopic = 'a'\nsession_timeout_ms = 60000\n[kafka.properties]\n'linger.ms' = 1\n";
    let variables = [
        ("STEWARD__KAFKA__SECURITY__PROTOCOL", "sasl_plaintext"),
        ("STEWARD__KAFKA__SECURITY__SASL_MECHANISM", "plain"),
        ("STEWARD__KAFKA__SECURITY__USERNAME", "me"),
        ("STEWARD__KAFKA__SECURITY__PASSWORD", "hunter22"),
    ];
    let shown = parse_with(text, variables, Tls::Absent).expect("allowed").describe();
    for line in [
        "topic = \"a\" # test.toml, line 2, column 1",
        "group_id = \"steward\" # default",
        "# instance_name is not set",
        "max_poll_interval_ms = 120000 # follows kafka.session_timeout_ms",
        "password = \"[secret]\" # STEWARD__KAFKA__SECURITY__PASSWORD",
        "[kafka.properties]",
        "\"linger.ms\" = \"1\" # test.toml, line 5, column 1",
        "format = \"auto\" # default",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\nis missing in\n{shown}");
    }
    for key in keys::all() {
        let name = key.path.rsplit('.').next().expect("a path has a last part");
        assert!(shown.contains(name), "{} is missing", key.path);
    }
}

#[apply(offline_test)]
fn the_effective_configuration_can_be_loaded_again() {
    let text = "[kafka]\ngroup_id = \"a \\\"b\\\" # c\"\n[kafka.properties]\n'client.id' = \"\\\"\"\n[log]\nlevel = 'warn,a=off'\n";
    let first = parse(text).expect("allowed");
    let again = parse(&first.describe()).expect("what is in force is allowed");
    assert_eq!(first.config, again.config);
}

#[apply(offline_test)]
fn the_instance_is_named_by_configuration_then_pod_then_host_and_process() {
    const RANDOM: u32 = 0xbeef;
    let mut kafka = Config::default().kafka;
    assert_eq!(kafka.instance(Some("steward-0"), "host", 7, RANDOM), "steward-0");
    assert_eq!(kafka.instance(None, "host", 7, RANDOM), "host-7");
    assert_eq!(kafka.instance(Some(""), "host", 7, RANDOM), "host-7");
    assert_eq!(kafka.instance(None, "my host/é", 7, RANDOM), "my-host---7");
    let long = kafka.instance(None, &"h".repeat(300), 4_000_000, RANDOM);
    assert_eq!((long.len(), long.ends_with("h-4000000")), (249, true));
    assert_eq!(kafka.instance(None, "host", 1, RANDOM), "host-1-0000beef", "the first process of a container");
    assert_eq!(kafka.instance(None, &"h".repeat(300), 1, u32::MAX).len(), 249);
    assert_eq!(kafka.instance(Some("steward-0"), "host", 1, RANDOM), "steward-0");

    kafka.instance_name = Some("blue".into());
    assert_eq!(kafka.instance(Some("steward-0"), "host", 7, RANDOM), "blue");
    assert_eq!(kafka.transactional_id("blue"), "steward-blue");
}

// ------------------------------------------------------------------------------------------------------ helpers

fn parse(text: &str) -> Result<Effective, ConfigError> {
    parse_with(text, [], Tls::BuiltIn)
}

fn parse_with<'a>(
    text: &str,
    env: impl IntoIterator<Item = (&'a str, &'a str)>,
    tls: Tls,
) -> Result<Effective, ConfigError> {
    let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    Effective::parse(Some(ConfigDocument { name: "test.toml", text }), env, tls)
}

/// The default as TOML; `None` if the key has none.
fn default_of(path: &str) -> Option<toml::Value> {
    let table = toml::Table::try_from(Config::default()).expect("the defaults are TOML");
    path.split('.').try_fold(toml::Value::Table(table), |value, name| value.get(name).cloned())
}
