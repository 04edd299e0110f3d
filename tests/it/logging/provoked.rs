//! Log events that no other test causes, in the real program.

use serde_json::Value;
use steward::exit_code::ExitCode;

use crate::faults::{busy_with, number, small};
use crate::support::broker::Broker;
use crate::support::kafka::{ANY_TIMESTAMP, Kafka, record};
use crate::support::ledger::{Ledger, wait_until_committed};
use crate::support::load::events;
use crate::support::names::Names;
use crate::support::process::{Setup, Steward};
use crate::support::wait::PATIENCE;
use crate::support::world::{created, created_with_description};

#[apply(offline_test)]
fn client_errors_about_absent_brokers_are_logged_once_and_counted() {
    let mut process = Setup::new(&Kafka::at("127.0.0.1:1"), &Names::new())
        .set("log.level", "info,librdkafka=debug")
        .set("kafka.topic_wait_ms", 3_000)
        .set("kafka.properties", toml::toml! { debug = "broker" })
        .start();
    let code = process.wait_exit(PATIENCE);

    assert_eq!(code, i32::from(ExitCode::KafkaUnavailable.code()), "{}", process.tail());
    let error = process.wait_for_event("kafka_client_error", PATIENCE);
    assert!(error["detail"].as_str().is_some_and(|message| message.contains("127.0.0.1:1")), "{error}");
    process.wait_for_event("kafka_client_warning", PATIENCE);
    process.wait_for_event("kafka_client_log", PATIENCE);
    let counted = process.wait_for_event("kafka_client_errors", PATIENCE);
    assert!(number(&counted, "count") > 0, "{counted}");
    let codes: Vec<Value> = process.events("kafka_client_error").iter().map(|line| line["code"].clone()).collect();
    let mut logged_once = codes.clone();
    logged_once.dedup();
    assert_eq!(codes, logged_once, "each kind is logged once");
    process.assert_no_errors_but(&["preflight_refused", "process_failed"]);
}

#[apply(broker_test)]
fn the_start_logs_the_topics_it_found() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 3);
    let mut process = Setup::new(&kafka, &names).start();
    let checked = process.wait_for_event("topics_checked", PATIENCE);
    assert_eq!(number(&checked, "partitions"), 3);
    process.stop();
}

#[apply(broker_test)]
fn a_foreign_record_in_the_dlq_topic_is_logged() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 1);
    let setup = Setup::new(&kafka, &names);
    kafka.produce(&names.input, &events(1, 50, 10).collect::<Vec<_>>());
    let mut first = setup.start();
    wait_until_committed(&kafka, &names, PATIENCE);
    first.stop();

    kafka.produce(&names.dlq, &[record("1", "not ours")]);
    let mut second = setup.start();
    let logged = second.wait_for_event("dlq_record_unreadable", PATIENCE);
    assert_eq!((number(&logged, "partition"), number(&logged, "count")), (0, 1), "{logged}");
    second.stop();
    second.assert_no_errors_but(&[]);
}

#[apply(broker_test)]
fn clocks_that_differ_by_more_than_the_topic_allows_are_named() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 1);
    // Records that wait in the client are older than the topic allows: as if this machine's clock were behind.
    let state = [("cleanup.policy", "compact"), ("message.timestamp.before.max.ms", "250")];
    kafka.create_topic(&names.state, 1, &state);
    kafka.produce(&names.input, &[created(1)]);

    let properties = toml::toml! { "linger.ms" = "600" };
    let mut process = Setup::new(&kafka, &names).set("kafka.properties", properties).start();
    let code = process.wait_exit(PATIENCE);

    assert_eq!(code, i32::from(ExitCode::WriteRefused.code()), "{}", process.tail());
    let failed = process.wait_for_event("process_failed", PATIENCE);
    let error = failed["error"].as_str().unwrap_or_default();
    for part in
        ["the clocks of this machine and of the brokers differ", &names.state, "message.timestamp.before.max.ms"]
    {
        assert!(error.contains(part), "no {part} in {error}");
    }
    assert!(!error.contains("permission"), "{error}");
    process.assert_no_errors_but(&["transaction_refused", "process_failed"]);
}

#[apply(broker_test)]
fn a_snapshot_that_the_broker_refuses_ends_the_process_and_names_the_record() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    let mut process = started_before_the_limit(&kafka, &names, "470");
    // No two parts are alike, so that compression does not make the snapshot fit.
    let description: String = (0..85_u32).map(|number| format!("{:03}", number * 7_919 % 997)).collect();
    kafka.produce(&names.input, &[created_with_description(1, &description)]);

    let code = process.wait_exit(PATIENCE);

    assert_eq!(code, i32::from(ExitCode::WriteRefused.code()), "{}", process.tail());
    let refused = process.wait_for_event("transaction_refused", PATIENCE);
    assert_eq!((&refused["partition"], &refused["offset"]), (&0.into(), &0.into()), "{refused}");
    process.assert_no_errors_but(&["transaction_refused", "process_failed"]);
}

#[apply(broker_test)]
fn a_snapshot_that_is_too_large_only_because_of_its_trace_context_is_written_without_it() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    let mut process = started_before_the_limit(&kafka, &names, "660");
    let tracestate: String = (0..130_u32).map(|number| format!("{:03}", number * 7_919 % 997)).collect();
    let event = created(1).header("tracestate", &tracestate);
    kafka.produce(&names.input, &[event]);

    let logged = process.wait_for_event("trace_context_dropped", PATIENCE);
    assert_eq!((number(&logged, "partition"), number(&logged, "offset")), (0, 0), "{logged}");
    assert_eq!(number(&logged, "bytes"), tracestate.len() as u64, "{logged}");
    wait_until_committed(&kafka, &names, PATIENCE);
    let state = kafka.read_committed(&names.state);
    assert_eq!((state.len(), state[0].last_header("tracestate")), (1, None));
    process.stop();
    process.assert_no_errors_but(&[]);
}

/// A process that knows another limit of the state topic than the one in force, which a snapshot exceeds.
fn started_before_the_limit(kafka: &Kafka, names: &Names, max_message_bytes: &str) -> Steward {
    kafka.create_topic(&names.input, 1, &ANY_TIMESTAMP);
    let settings = [("cleanup.policy", "compact"), ("delete.retention.ms", "86400000")];
    kafka.create_topic(&names.state, 1, &settings);
    let mut process = Setup::new(kafka, names).start();
    process.wait_for_event("recovery_finished", PATIENCE);
    kafka.alter_topic(&names.state, &[&settings[..], &[("max.message.bytes", max_message_bytes)]].concat());
    process
}

/// The broker is suspended for longer than the limits of a transaction and of a producer reset.
#[apply(own_broker_test)]
fn a_producer_that_cannot_be_built_is_logged_and_costs_no_event() {
    let mut broker = Broker::own();
    let (kafka, names) = (broker.kafka(), Names::new());
    let setup = small(&kafka, &names).set("kafka.transaction_timeout_ms", 1_000);
    let mut process = busy_with(&kafka, &names, setup.set("health.stall_timeout_ms", 300_000));

    broker.pause();
    process.wait_for_event("producer_reset_failed", PATIENCE * 2);
    broker.resume();

    Ledger::of(&kafka, &names).assert_exact();
    process.stop();
    process.assert_no_errors_but(&[]);
}
