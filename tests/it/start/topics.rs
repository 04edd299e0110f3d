//! Missing topics: steward waits for them, creates them, or refuses the start with the command that creates them.

use serde_json::Value;

use super::{LIMIT, topics_refused};
use crate::support::broker::Broker;
use crate::support::kafka::{ANY_TIMESTAMP, Kafka};
use crate::support::ledger::Ledger;
use crate::support::names::Names;
use crate::support::process::Setup;
use crate::support::world::{MAX_PAYLOAD_BYTES, World, created, malformed};

#[apply(broker_test)]
fn missing_outputs_are_created_to_fit_the_input() {
    let mut world = World::without_topics(MAX_PAYLOAD_BYTES);
    world.kafka.create_topic(&world.names.input, 3, &[&ANY_TIMESTAMP[..], &[("max.message.bytes", "500000")]].concat());
    world.produce(&[created(1), malformed(2)]);

    let steward = world.process_input();

    let (state, dlq) = (&world.names.state, &world.names.dlq);
    let created: Vec<_> = steward.events("topic_created").iter().map(|line| line["topic"].clone()).collect();
    assert_eq!(created, [state.as_str(), dlq.as_str()]);
    assert_eq!([state, dlq].map(|topic| world.kafka.partition_count(topic)), [Some(3), Some(3)]);
    assert_settings(
        &world,
        state,
        &[
            ("cleanup.policy", "compact"),
            ("delete.retention.ms", "86400000"),
            ("min.insync.replicas", "1"),
            ("unclean.leader.election.enable", "false"),
            ("max.message.bytes", "565536"),
            ("segment.bytes", "8388608"),
            ("segment.ms", "3600000"),
            ("min.cleanable.dirty.ratio", "0.3"),
            ("max.compaction.lag.ms", "21600000"),
        ],
    );
    assert_settings(
        &world,
        dlq,
        &[
            ("cleanup.policy", "delete"),
            ("retention.ms", "-1"),
            ("min.insync.replicas", "1"),
            ("unclean.leader.election.enable", "false"),
            ("max.message.bytes", "565536"),
        ],
    );
    world.assert_exact();
    assert!(world.process_input().events("topic_created").is_empty(), "the topics exist already");
}

#[apply(broker_test)]
fn outputs_of_an_input_with_a_retention_keep_tombstones_longer_than_it() {
    let mut world = World::without_topics(MAX_PAYLOAD_BYTES);
    world.kafka.create_topic(&world.names.input, 1, &[("retention.ms", "3600000"), ("segment.ms", "600000")]);
    world.produce(&[created(1)]);

    world.process_input();

    assert_settings(&world, &world.names.state, &[("delete.retention.ms", "4200000")]);
    world.assert_exact();
}

#[apply(broker_test)]
fn if_nothing_may_be_created_the_refusal_prints_the_commands() {
    let world = World::new(2);
    let setup = world.setup().set("kafka.create_topics", false);

    let error = topics_refused(&setup);

    let (address, state, dlq) = (world.kafka.address(), &world.names.state, &world.names.dlq);
    let create = |topic: &str, settings: &str| {
        format!(
            "kafka-topics.sh --bootstrap-server {address} --create --topic {topic} --partitions 2 --replication-factor 1 {settings}"
        )
    };
    let state_command = create(
        state,
        "--config cleanup.policy=compact --config delete.retention.ms=86400000 --config max.message.bytes=1114124 --config segment.bytes=8388608 --config segment.ms=3600000 --config min.cleanable.dirty.ratio=0.3 --config max.compaction.lag.ms=21600000",
    );
    let dlq_command =
        create(dlq, "--config cleanup.policy=delete --config retention.ms=-1 --config max.message.bytes=1114124");
    assert!(error.contains(&state_command), "`{state_command}` is not in: {error}");
    assert!(error.contains(&dlq_command), "`{dlq_command}` is not in: {error}");
    assert_eq!([state, dlq].map(|topic| world.kafka.partition_count(topic)), [None, None]);
}

#[apply(broker_test)]
fn an_input_that_comes_late_is_waited_for() {
    let mut world = World::without_topics(MAX_PAYLOAD_BYTES);
    let mut steward = world.setup().start();
    let awaited = steward.wait_for_event("topic_awaited", LIMIT);
    assert_eq!(awaited["topic"], world.names.input.as_str());

    world.kafka.create_input(&world.names, 1);
    world.produce(&[created(1), malformed(1)]);
    world.settle(&mut steward);
    steward.stop();

    world.assert_exact();
}

#[apply(broker_test)]
fn an_input_that_stays_missing_ends_the_wait_with_a_remedy() {
    let world = World::without_topics(MAX_PAYLOAD_BYTES);

    let error = topics_refused(&world.setup().set("kafka.topic_wait_ms", 500));

    for part in [&world.names.input, "create it", "correct kafka.topic"] {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    assert_eq!(world.kafka.partition_count(&world.names.input), None, "steward never creates its input");
}

#[apply(broker_test)]
fn an_existing_state_topic_with_costly_settings_is_taken_and_the_commands_are_logged() {
    let mut world = World::new(1);
    // Kafka's default segments, and the bound that releases before this one demanded.
    let settings = [("cleanup.policy", "compact"), ("delete.retention.ms", "9223372036854775807")];
    world.kafka.create_topic(&world.names.state, 1, &settings);
    world.produce(&[created(1)]);

    let mut steward = world.process_input();

    let first = steward.wait_for_event("topic_setting_advised", LIMIT);
    assert_eq!(first["topic"], world.names.state.as_str());
    let advised: Vec<_> = steward.events("topic_setting_advised").iter().map(|line| line["setting"].clone()).collect();
    assert_eq!(advised, ["delete.retention.ms", "segment.bytes"]);
    assert!(
        first["command"].as_str().is_some_and(|command| command.ends_with("delete.retention.ms=86400000")),
        "{first}"
    );
    world.assert_exact();
}

#[apply(own_broker_test)]
fn settings_that_the_broker_refuses_are_left_out_of_a_new_topic() {
    // The broker refuses a largest lag below its smallest one.
    let broker = Broker::with(&[("log.cleaner.min.compaction.lag.ms", "43200000")]);
    let (kafka, names) = (broker.kafka(), Names::new());

    let left_out = left_out_of_the_state_topic(&kafka, &names);

    let settings = left_out["settings"].as_str().unwrap_or_default();
    assert!(settings.contains("segment.bytes") && settings.contains("max.compaction.lag.ms"), "{left_out}");
    for (name, value) in [("cleanup.policy", "compact"), ("delete.retention.ms", "86400000")] {
        assert_eq!(kafka.topic_setting(&names.state, name), value);
    }
}

/// As platforms have them: some settings may not be chosen.
#[apply(own_broker_test)]
fn settings_that_a_policy_forbids_are_left_out_of_a_new_topic() {
    let forbids = r#"
        boolean ofKafka = topic.topic().startsWith("__");
        if (!ofKafka && topic.configs().containsKey("segment.bytes")) throw new PolicyViolationException("not allowed");
    "#;
    let Some(broker) = Broker::with_topic_policy(forbids) else { return };
    let (kafka, names) = (broker.kafka(), Names::new());

    let left_out = left_out_of_the_state_topic(&kafka, &names);

    assert!(left_out["cause"].as_str().is_some_and(|cause| cause.contains("Policy")), "{left_out}");
    assert_eq!(kafka.topic_setting(&names.state, "cleanup.policy"), "compact");
}

/// Starts a process, which creates the state topic and applies an event, and stops it. Returns the log line about the
/// settings that it left out.
fn left_out_of_the_state_topic(kafka: &Kafka, names: &Names) -> Value {
    kafka.create_input(names, 1);
    kafka.produce(&names.input, &[created(1)]);
    let mut steward = Setup::new(kafka, names).start();
    let left_out = steward.wait_for_event("topic_settings_left_out", LIMIT);
    assert_eq!(left_out["topic"], names.state.as_str(), "{left_out}");
    Ledger::of(kafka, names).assert_exact();
    steward.stop();
    steward.assert_no_errors_but(&[]);
    left_out
}

fn assert_settings(world: &World, topic: &str, settings: &[(&str, &str)]) {
    for (name, value) in settings {
        assert_eq!(&world.kafka.topic_setting(topic, name), value, "{name} of {topic}");
    }
}
