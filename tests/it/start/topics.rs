//! Missing topics: steward waits for them, creates them, or refuses the start with the command that creates them.

use super::{LIMIT, topics_refused};
use crate::support::kafka::ANY_TIMESTAMP;
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
            ("delete.retention.ms", "9223372036854775807"),
            ("min.insync.replicas", "1"),
            ("unclean.leader.election.enable", "false"),
            ("max.message.bytes", "565536"),
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
        "--config cleanup.policy=compact --config delete.retention.ms=9223372036854775807 --config min.insync.replicas=1 --config unclean.leader.election.enable=false --config max.message.bytes=1114124",
    );
    let dlq_command = create(
        dlq,
        "--config cleanup.policy=delete --config retention.ms=-1 --config min.insync.replicas=1 --config unclean.leader.election.enable=false --config max.message.bytes=1114124",
    );
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

fn assert_settings(world: &World, topic: &str, settings: &[(&str, &str)]) {
    for (name, value) in settings {
        assert_eq!(&world.kafka.topic_setting(topic, name), value, "{name} of {topic}");
    }
}
