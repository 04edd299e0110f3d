//! Authentication on a real Kafka: each supported configuration works, a refusal names its remedy, and no output shows a
//! secret.

pub mod acls;
mod certificates;
mod credentials;
mod properties;
#[cfg(feature = "tls")]
mod tls;

use std::time::Duration;

use steward::exit_code::ExitCode;

use crate::cli::{Ran, folder, steward};
use crate::support::broker::Broker;
use crate::support::kafka::record;
use crate::support::ledger::{assert_exact, wait_until_committed};
use crate::support::load::events;
use crate::support::names::Names;
use crate::support::process::{Setup, Steward};
use crate::support::wait::PATIENCE;

const USER: &str = "steward";
/// Contains characters that are special in properties files, shells and format strings. No other part of a log contains
/// this text.
const PASSWORD: &str = "geh3im %s'{}=ü";
const WRONG_PASSWORD: &str = "f4lsch %s'{}=ü";

#[apply(own_broker_test)]
fn every_client_connects_with_a_password_from_a_file_and_no_output_shows_it() {
    let broker = sasl_broker();
    let (kafka, names, folder) = (broker.kafka(), Names::new(), folder());
    kafka.create_input(&names, 2);
    kafka.produce(&names.input, &events(11, 500, 40).collect::<Vec<_>>());
    let password_file = folder.write("password", &format!("{PASSWORD}\n"));

    let setup = plain(&broker, &names, &password_file).set("log.level", "debug").set(
        "kafka.properties",
        toml::toml! {
            debug = "security,broker,cgrp,conf"
            // One property of each scope. A client warns about a property that is not for it.
            "linger.ms" = "1"
            "fetch.wait.max.ms" = "50"
        },
    );
    let mut first = setup.start();
    wait_until_committed(&kafka, &names, PATIENCE);
    let config = first.config_file().display().to_string();
    let produced = steward(["produce", "--config", &config, "--topic", &names.input, "--events", "50", "--keys", "5"]);
    assert_eq!(produced.code, 0, "{produced:?}");
    wait_until_committed(&kafka, &names, PATIENCE);
    let listed = steward(["state", "list", "--config", &config, "--json"]);
    assert!(listed.code == 0 && listed.stdout.contains("\"version\""), "{listed:?}");
    let check = steward(["config", "check", "--config", &config]);
    assert_eq!(check.code, 0, "{check:?}");
    first.stop();
    // The second process also restores, so the readers of state, DLQ records and input authenticate as well.
    let mut second = setup.start();
    kafka.produce(&names.input, &events(12, 200, 40).collect::<Vec<_>>());
    wait_until_committed(&kafka, &names, PATIENCE);
    // The same password in another file content. Under the same rules as for SIGTERM, the process commits and leaves.
    folder.write("password", PASSWORD);
    assert_eq!(second.wait_exit(PATIENCE), i32::from(ExitCode::CredentialsChanged.code()), "{}", second.tail());
    assert_eq!(second.wait_for_event("process_stopping", PATIENCE)["cause"], "credentials_changed");

    assert_exact(&kafka, &names);
    for process in [&first, &second] {
        process.assert_no_errors_but(&[]);
        let output = process.output();
        assert!(output.contains("sasl") || output.contains("SASL"), "the library's debug lines are missing");
        assert!(!output.contains("CONFWARN"), "{}", line_with(&output, "CONFWARN"));
        assert_hidden(&output, PASSWORD);
    }
    for ran in [&produced, &listed, &check] {
        assert_hidden(&shown(ran), PASSWORD);
    }
}

#[apply(own_broker_test)]
fn a_wrong_password_ends_every_command_with_what_to_check_and_is_not_shown() {
    let broker = sasl_broker();
    let (kafka, names, folder) = (broker.kafka(), Names::new(), folder());
    kafka.create_input(&names, 2);
    kafka.produce(&names.input, &[record("1", "{}")]);
    let password_file = folder.write("password", WRONG_PASSWORD);

    let setup = plain(&broker, &names, &password_file)
        .set("log.level", "debug")
        .set("kafka.topic_wait_ms", 3_000)
        .set("kafka.properties", toml::toml! { debug = "security,broker" });
    let mut process = setup.start();
    let code = process.wait_exit(Duration::from_secs(30));

    let failed = error_of(&process);
    assert_eq!(code, 5, "{failed}");
    assert!(failed.contains("kafka.security") && failed.contains("Authentication failed"), "{failed}");
    assert_hidden(&process.output(), WRONG_PASSWORD);
    let config = process.config_file().display().to_string();
    let commands: [&[&str]; 2] =
        [&["produce", "--topic", &names.input, "--events", "5"], &["state", "get", "1", "--timeout-ms", "20000"]];
    for command in commands {
        let ran = steward(command.iter().copied().chain(["--config", &config]));
        assert_eq!(ran.code, 5, "{command:?} {ran:?}");
        assert!(ran.stderr.contains("kafka.security") && ran.stderr.contains("Authentication failed"), "{ran:?}");
        assert_hidden(&shown(&ran), WRONG_PASSWORD);
    }
}

// ----------------------------------------------------------------------------------------------------------- helpers

/// A broker with a listener without authentication for the test, and one that asks for the password.
fn sasl_broker() -> Broker {
    let jaas = jaas(&[(USER, PASSWORD)]);
    Broker::with_listeners(
        &[("SASL", "SASL_PLAINTEXT")],
        &[
            ("listener.name.sasl.sasl.enabled.mechanisms", "PLAIN"),
            ("listener.name.sasl.plain.sasl.jaas.config", &jaas),
        ],
    )
}

/// The broker's list of users.
fn jaas(users: &[(&str, &str)]) -> String {
    // Beyond ASCII, a properties file is read as Latin-1.
    let escaped = |text: &str| -> String {
        let escape = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) };
        text.chars().map(escape).collect()
    };
    let users: String =
        users.iter().map(|(user, password)| format!(" user_{user}=\"{}\"", escaped(password))).collect();
    format!("org.apache.kafka.common.security.plain.PlainLoginModule required{users};")
}

/// A setup that uses SASL PLAIN on the broker's first further listener.
fn plain(broker: &Broker, names: &Names, password_file: &str) -> Setup {
    let mut security = toml::Table::new();
    for (key, value) in [
        ("protocol", "sasl_plaintext"),
        ("sasl_mechanism", "plain"),
        ("username", USER),
        ("password_file", password_file),
    ] {
        security.insert(key.to_owned(), value.into());
    }
    security.insert("reload_spread_ms".to_owned(), 0.into());
    Setup::new(&broker.kafka(), names)
        .set("kafka.bootstrap_servers", broker.further_address(0))
        .set("kafka.security", security)
}

/// Returns the error that an ended process logged.
#[track_caller]
fn error_of(process: &Steward) -> String {
    let failed = process.events("process_failed");
    let [failed] = &failed[..] else { panic!("not one process_failed; {}", process.tail()) };
    failed["error"].as_str().expect("a text").to_owned()
}

fn shown(ran: &Ran) -> String {
    format!("{}\n{}", ran.stdout, ran.stderr)
}

/// Fails if the output contains the secret or its first word.
#[track_caller]
fn assert_hidden(output: &str, secret: &str) {
    assert!(!output.is_empty(), "the output is empty, so the check proves nothing");
    let head = secret.split(' ').next().expect("the first word");
    for part in [secret, head] {
        assert!(!output.contains(part), "the secret is shown: {}", line_with(output, part));
    }
}

fn line_with<'a>(output: &'a str, part: &str) -> &'a str {
    output.lines().find(|line| line.contains(part)).unwrap_or_default()
}
