//! The log level of the running program follows its file, with and without SIGHUP, and no other setting does.

use std::path::{Path, PathBuf};

use serde_json::Value;
use steward::config::log_level::{LogLevel, Verbosity, level_in};

use crate::support::kafka::Kafka;
use crate::support::ledger::wait_until_committed;
use crate::support::load::events;
use crate::support::names::Names;
use crate::support::process::Setup;
use crate::support::wait::{PATIENCE, wait_until};

#[apply(offline_test)]
fn the_level_is_read_from_a_file_with_any_other_content() {
    assert_eq!(level_in("[log]\nlevel = 'debug'"), Ok("debug".to_owned()));
    assert_eq!(
        level_in("[kafka]\nno_such_key = 3\n[log]\nlevel = 'warn,a::b=trace'"),
        Ok("warn,a::b=trace".to_owned())
    );
    for default in ["", "[log]", "[kafka]\ntopic = 'x'"] {
        assert_eq!(level_in(default), Ok("info".to_owned()), "{default}");
    }
}

#[apply(offline_test)]
fn a_file_without_a_valid_level_is_refused_and_not_quoted() {
    let check = |text: &str, message: &str| {
        let problem = level_in(text).expect_err(text);
        assert!(problem.contains(message) && !problem.contains("geheim"), "{text}: {problem}");
    };
    check("password = \"geheim", "not TOML");
    check("log = 'geheim'", "[log] is no section");
    check("[log]\nlevel = 3", "double quotes");
    check("[log]\nlevel = 'loud'", "\"loud\" is neither a level nor target=level");
    check("[log]\nlevel = 'info,warn'", "\"warn\"");
}

#[apply(offline_test)]
fn single_targets_may_be_silent_and_all_of_them_may_not() {
    let quiet = LogLevel::parse("info,librdkafka=off").expect("a valid level");
    assert_eq!(quiet.targets, [("librdkafka".to_owned(), Verbosity::Off)]);
    assert!(LogLevel::parse("off").is_err());
}

#[apply(broker_test)]
fn the_level_follows_the_file_with_and_without_a_signal_and_nothing_else_does() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 1);
    let mut steward = Setup::new(&kafka, &names).set("log.level", "info").start();
    let file = steward.config_file();
    let work = |seed: u64| {
        kafka.produce(&names.input, &events(seed, 20, 5).collect::<Vec<_>>());
        wait_until_committed(&kafka, &names, PATIENCE);
    };
    work(1);
    assert_eq!(steward.events("transaction_committed"), [Value::Null; 0], "decisions are not logged by default");

    // Like an update of a ConfigMap: the path leads to another file, in one atomic step.
    let debug = "info,steward::commit=debug";
    swap(&file, &with_level(&file, debug).replace(&names.group, "another-group"));
    let changed = steward.wait_for_event("log_level_changed", PATIENCE);
    assert_eq!((&changed["old"], &changed["new"]), (&"info".into(), &debug.into()), "{changed}");
    assert_eq!(changed["trigger"], "file");
    work(2);
    steward.wait_for_event("transaction_committed", PATIENCE);

    swap(&file, &with_level(&file, "deafening"));
    steward.sighup();
    let refused = steward.wait_for_event("log_level_refused", PATIENCE);
    assert_eq!((&refused["kept"], &refused["trigger"]), (&debug.into(), &"sighup".into()), "{refused}");
    assert!(refused["problem"].as_str().is_some_and(|problem| problem.contains("\"deafening\"")), "{refused}");

    swap(&file, &with_level(&file, "warn"));
    steward.sighup();
    let changed = steward.wait_for_event("log_level_changed", PATIENCE);
    assert_eq!((&changed["old"], &changed["new"]), (&debug.into(), &"warn".into()), "{changed}");
    let before = steward.events("transaction_committed").len();
    work(3);
    assert_eq!(steward.events("transaction_committed").len(), before, "the event is below the level");

    // A change that the old level would hide is logged under the new one.
    swap(&file, &with_level(&file, "info"));
    steward.sighup();
    let changed = steward.wait_for_event("log_level_changed", PATIENCE);
    assert_eq!((&changed["old"], &changed["new"]), (&"warn".into(), &"info".into()), "{changed}");
    steward.sighup();
    assert_eq!(steward.wait_for_event("log_level_unchanged", PATIENCE)["kept"], "info");

    assert_eq!(steward.events("log_level_refused").len(), 1, "each refusal is logged once");
    steward.stop();
    assert_eq!(kafka.committed("another-group", &names.input), [None], "no other setting of the file takes effect");
    steward.assert_no_errors_but(&[]);
}

/// The process waits for a broker, so the test needs none.
#[apply(offline_test)]
fn a_process_that_waits_for_its_brokers_handles_sighup() {
    let mut steward = nowhere().start();
    steward.wait_for_event("topic_awaited", PATIENCE);

    swap(&steward.config_file(), &with_level(&steward.config_file(), "debug"));
    steward.sighup();

    assert_eq!(steward.wait_for_event("log_level_changed", PATIENCE)["new"], "debug");
    steward.stop();
}

#[apply(offline_test)]
fn a_level_in_a_variable_is_not_changed_by_the_file() {
    let mut steward = nowhere().env("STEWARD__LOG__LEVEL", "info").start();
    steward.wait_for_event("topic_awaited", PATIENCE);

    swap(&steward.config_file(), &with_level(&steward.config_file(), "debug"));
    steward.sighup();

    let refused = steward.wait_for_event("log_level_refused", PATIENCE);
    assert!(refused["problem"].as_str().is_some_and(|message| message.contains("STEWARD__LOG__LEVEL")), "{refused}");
    steward.stop();
    assert_eq!(steward.events("log_level_changed"), [Value::Null; 0]);
}

// ----------------------------------------------------------------------------------------------------------- helpers

/// A process whose brokers do not exist.
fn nowhere() -> Setup {
    Setup::new(&Kafka::at("127.0.0.1:1"), &Names::new()).set("log.level", "info")
}

/// The text of the file with another `log.level`.
fn with_level(file: &Path, level: &str) -> String {
    let text = std::fs::read_to_string(file).expect("the configuration of the process");
    let mut table: toml::Table = text.parse().expect("it is TOML");
    table["log"]["level"] = level.into();
    table.to_string()
}

/// Replaces the path by a link to a new file with this text, in one atomic step.
fn swap(path: &Path, text: &str) {
    let new = beside(path, "new");
    let link = beside(path, "link");
    std::fs::write(&new, text).expect("a folder of the test");
    std::os::unix::fs::symlink(&new, &link).expect("a folder of the test");
    std::fs::rename(&link, path).expect("a folder of the test");
    wait_until("the path leads to the new file", PATIENCE, || {
        std::fs::read_to_string(path).is_ok_and(|read| read == text)
    });
}

/// An unused path beside this one.
fn beside(path: &Path, name: &str) -> PathBuf {
    path.with_file_name(crate::support::names::unique(name))
}
