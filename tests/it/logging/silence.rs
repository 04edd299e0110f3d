//! No line of any level contains a payload or a secret, and lines show keys as configured. Each part of an event
//! contains a unique word, and the test searches the whole output of the process for it.

use steward::exit_code::ExitCode;
use steward::observability::log_events::KeyPolicy;

use crate::cli::steward;
use crate::support::kafka::{Kafka, Outgoing, record};
use crate::support::ledger::wait_until_committed;
use crate::support::names::Names;
use crate::support::process::{Setup, Steward};
use crate::support::wait::PATIENCE;

const VALUE: &str = "canaryinvalue";
const HEADER: &str = "canaryinheader";
const KEY: &str = "canaryinkey";
const SECRET: &str = "canaryinsecret-0123456789";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[apply(broker_test)]
fn no_level_shows_a_payload_a_header_or_a_secret() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 2);
    let all = suspicious_events();
    kafka.produce(&names.input, &all);
    let setup = Setup::new(&kafka, &names)
        .set("log.level", "trace")
        .set("log.keys", "omitted")
        .set("log.stats_interval_ms", 200)
        .set("limits.max_payload_bytes", 2_000)
        .set("kafka.properties", toml::toml! { debug = "all" });

    // The second process restores, and verifies the events that the first one applied.
    for round in 1..=2 {
        let mut process = setup.start();
        process.wait_for_event("recovery_finished", PATIENCE);
        kafka.produce(&names.input, &all[..4]);
        wait_until_committed(&kafka, &names, PATIENCE);
        process.stop();
        let output = process.output();
        assert!(output.contains("kafka_client_log"), "the client's own debug lines are missing");
        for canary in [VALUE, HEADER, KEY] {
            assert_hidden(&output, canary, &format!("round {round}"));
        }
        for reason in ["malformed_json", "unknown_event_type", "invalid_event", "payload_too_large", "key_id_mismatch"]
        {
            let is_logged = process.events("event_rejected").iter().any(|line| line["reason"] == reason);
            assert!(is_logged || round == 2, "{reason} was not provoked");
        }
    }
}

#[apply(broker_test)]
fn keys_are_plain_unless_configured_otherwise_and_a_trace_is_carried_into_the_line() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 1);
    let mut process = Setup::new(&kafka, &names).start();
    kafka
        .produce(&names.input, &[record("4 2", "{").header("traceparent", "00-nonsense").header("traceparent", TRACE)]);
    let logged = process.wait_for_event("event_rejected", PATIENCE);

    assert_eq!(logged["key"], "4%202");
    assert_eq!(
        logged["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736",
        "the last header with this name counts: {logged}"
    );
    assert_eq!((&logged["span_id"], &logged["trace_flags"]), (&"00f067aa0ba902b7".into(), &"01".into()), "{logged}");

    // Another reason, because only the first event of a reason is logged.
    kafka.produce(&names.input, &[record("42", "{}").header("traceparent", "00-nonsense")]);
    let logged = process.wait_for_event("event_rejected", PATIENCE);
    assert_eq!(logged["reason"], "unknown_event_type");
    assert!(
        logged.get("trace_id").is_none() && logged.get("span_id").is_none(),
        "an invalid trace is not logged: {logged}"
    );
    // The snapshot gets the trace context as well, byte for byte.
    let created = r#"{"eventType":"ServiceCreated","id":7,"name":"n","description":"d","tags":[]}"#;
    kafka.produce(&names.input, &[record("7", created).header("traceparent", TRACE)]);
    wait_until_committed(&kafka, &names, PATIENCE);
    let state = kafka.read_committed(&names.state);
    assert_eq!(state[0].last_header("traceparent").as_deref(), Some(TRACE));
    process.stop();
}

#[apply(broker_test)]
fn a_hashed_key_is_the_same_in_every_line_and_process() {
    let (kafka, names, folder) = (Kafka::shared(), Names::new(), tempfile::tempdir().expect("a folder"));
    let secret = folder.path().join("secret");
    std::fs::write(&secret, format!("{SECRET}\n")).expect("a folder of the test");
    let secret = secret.display().to_string();
    kafka.create_input(&names, 1);
    let setup = Setup::new(&kafka, &names)
        .set("log.level", "trace")
        .set("log.keys", "hashed")
        .set("log.key_hash_secret_file", secret.as_str());
    let hash = KeyPolicy::hashed(SECRET.as_bytes()).show(KEY.as_bytes()).expect("it is shown");

    let mut processes: Vec<Steward> = Vec::new();
    for _ in 0..2 {
        let mut process = setup.start();
        kafka.produce(&names.input, &[record(KEY, "{")]);
        assert_eq!(process.wait_for_event("event_rejected", PATIENCE)["key"], hash.as_str());
        process.stop();
        processes.push(process);
    }

    let check = steward(["config", "check", "--config", &processes[0].config_file().display().to_string()]);
    assert_eq!(check.code, 0, "{check:?}");
    let outputs = processes.iter().map(Steward::output).chain([check.stdout, check.stderr]);
    for output in outputs {
        assert_hidden(&output, KEY, "a key");
        assert_hidden(&output, SECRET, "the secret");
    }
}

/// Secret files with invalid content, and a secret in the configuration itself.
#[apply(offline_test)]
fn a_secret_that_is_wrong_is_named_by_its_key_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a folder of the test");
        path.display().to_string()
    };
    let two_lines = write("two-lines", &format!("{SECRET}\n{SECRET}\n"));
    let short = write("short", &SECRET[..15]);
    let config =
        |lines: &str| write(&crate::support::names::unique("config"), &format!("[log]\nkeys = 'hashed'\n{lines}"));
    for (lines, expected) in [
        (format!("key_hash_secret_file = '{two_lines}'"), "more than one line"),
        (format!("key_hash_secret_file = '{short}'"), "fewer than 16 bytes"),
        ("key_hash_secret_file = '/nowhere'".to_owned(), "cannot be read"),
        (String::new(), "is needed by log.keys"),
        (format!("key_hash_secret = '{SECRET}'"), "key_hash_secret"),
        (format!("key_hash_secret_file = '{short}'\nlevel = \"{SECRET}"), "TOML"),
    ] {
        let config = config(&lines);
        for command in [["config", "check"].as_slice(), &["run"]] {
            let ran = steward(command.iter().copied().chain(["--config", &config]));
            assert_eq!(ran.code, i32::from(ExitCode::Config.code()), "{command:?} {lines}: {ran:?}");
            let output = format!("{}{}", ran.stdout, ran.stderr);
            assert!(output.contains(expected), "{expected} is missing in {output}");
            assert_hidden(&output, &SECRET[..15], expected);
        }
    }
}

// ----------------------------------------------------------------------------------------------------------- helpers

/// Events of most kinds, each with a canary in every part that it has.
fn suspicious_events() -> Vec<Outgoing> {
    let named = |name: &str| {
        format!(r#"{{"eventType":"ServiceCreated","id":7,"name":"{name}","description":"{VALUE}","tags":["{VALUE}"]}}"#)
    };
    let values = [
        format!("{{\"{VALUE}"),
        format!(r#"{{"eventType":"{VALUE}"}}"#),
        named(&VALUE.repeat(6)),
        format!(r#"{{"eventType":"ServiceDeleted","id":"{VALUE}"}}"#),
        named(VALUE),
        format!(r#"{{"{VALUE}":"{}"}}"#, "x".repeat(2_000)),
        format!("{{\"eventType\":\"ServiceCreated\",\"name\":\"\\ud800{VALUE}\"}}"),
    ];
    let of_a_key = values.iter().map(|value| record(KEY, value));
    let of_an_id = values.iter().map(|value| record("7", value));
    let all = of_a_key.chain(of_an_id);
    all.map(|event| event.header("traceparent", HEADER).header(HEADER, HEADER).at(1_700_000_000_000)).collect()
}

#[track_caller]
fn assert_hidden(output: &str, secret: &str, what: &str) {
    let shown = output.lines().find(|line| line.contains(secret));
    assert_eq!(shown, None, "{what}: {secret} is shown");
}
