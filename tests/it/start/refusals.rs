//! Topics that break the guarantees are refused, with the problem and its remedy.

use super::topics_refused;
use crate::support::kafka::{ANY_TIMESTAMP, record};
use crate::support::world::{MAX_PAYLOAD_BYTES, World, created, malformed, priced};

#[apply(broker_test)]
fn a_foreign_record_in_the_state_topic_is_refused_by_name() {
    let mut world = World::new(2);
    world.produce(&[created(1).to(1), malformed(1).to(0)]);
    world.process_input();
    let place = world.kafka.produce(&world.names.state, &[record("7", r#"{"id":7}"#).to(1)])[0];

    let error = topics_refused(&world.setup());

    let name = format!("state topic, partition 1, offset {}", place.offset);
    assert_names(&error, &[&name, "steward-source-offset", "new state and DLQ topics"]);
}

#[apply(broker_test)]
fn a_state_topic_with_another_partition_count_is_refused() {
    let world = World::new(2);
    world.kafka.create_topic(&world.names.state, 3, &STATE);

    let error = topics_refused(&world.setup());

    assert_names(&error, &[&world.names.state, "has 3 partitions", "create new topics with 2 partitions", "replay"]);
    assert_eq!(
        world.kafka.committed(&world.names.group, &world.names.input),
        [None, None],
        "the process served events"
    );
}

#[apply(broker_test)]
fn a_state_topic_that_is_not_compacted_is_refused() {
    for settings in [&[][..], &[("cleanup.policy", "compact,delete"), STATE[1]]] {
        let world = World::new(1);
        world.kafka.create_topic(&world.names.state, 1, settings);

        let error = topics_refused(&world.setup());

        let remedy = format!(
            "kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {} --add-config cleanup.policy=compact",
            world.kafka.address(),
            world.names.state
        );
        assert_names(&error, &[&remedy]);
    }
}

#[apply(broker_test)]
fn a_state_topic_that_deletes_tombstones_too_early_is_refused() {
    let world = World::new(1);
    world.kafka.create_topic(&world.names.state, 1, &[STATE[0], ("delete.retention.ms", "86399999")]);

    let error = topics_refused(&world.setup());

    assert_names(&error, &[&world.names.state, "--add-config delete.retention.ms=86400000"]);
}

#[apply(broker_test)]
fn an_input_that_is_compacted_is_refused() {
    let world = World::without_topics(MAX_PAYLOAD_BYTES);
    world.kafka.create_topic(&world.names.input, 1, &[("cleanup.policy", "compact")]);

    let error = topics_refused(&world.setup());

    assert_names(&error, &[&world.names.input, "is compacted", "--add-config cleanup.policy=delete"]);
    assert_eq!(world.kafka.partition_count(&world.names.state), None, "nothing is created beside it");
}

#[apply(broker_test)]
fn a_dlq_that_is_compacted_is_refused() {
    let world = World::new(1);
    let settings = [("cleanup.policy", "compact"), ("max.message.bytes", "2000000")];
    world.kafka.create_topic(&world.names.dlq, 1, &settings);

    let error = topics_refused(&world.setup());

    assert_names(&error, &[&world.names.dlq, "is compacted", "--add-config cleanup.policy=delete"]);
}

#[apply(broker_test)]
fn an_input_that_was_created_again_and_is_shorter_than_the_state_is_refused() {
    let mut world = World::new(1);
    world.produce(&[created(1), priced(1, 5), priced(1, 6)]);
    world.process_input();
    let before = world.outputs();
    create_again(&world);
    world.produce_unseen(&[created(1), priced(1, 5)]);

    let error = topics_refused(&world.setup());

    let input = format!("input topic {}", world.names.input);
    assert_names(&error, &[&input, "ends at 2", "event at offset 2", "was created again", "new state and DLQ topics"]);
    assert_eq!(world.outputs(), before, "nothing is written");
}

#[apply(broker_test)]
fn an_input_that_was_created_again_and_has_another_key_there_is_refused() {
    let mut world = World::new(1);
    world.produce(&[created(1), priced(1, 5)]);
    world.process_input();
    let before = world.outputs();
    create_again(&world);
    world.produce_unseen(&[created(2), created(3), created(4)]);

    let error = topics_refused(&world.setup());

    assert_names(&error, &["the record at offset 1 has another key", "new state and DLQ topics"]);
    assert_eq!(world.outputs(), before, "nothing is written");
}

#[apply(broker_test)]
fn an_input_that_was_created_again_and_has_another_timestamp_there_is_refused() {
    let mut world = World::new(1);
    world.produce(&[created(1).at(1_000), priced(1, 5).at(2_000)]);
    world.process_input();
    let before = world.outputs();
    create_again(&world);
    world.produce_unseen(&[created(1).at(1_000), priced(1, 5).at(2_001), priced(1, 6).at(3_000)]);

    let error = topics_refused(&world.setup());

    assert_names(&error, &["the record at offset 1 has another timestamp", "new state and DLQ topics"]);
    assert_eq!(world.outputs(), before, "nothing is written");
}

/// The settings that the state topic needs if the input is kept indefinitely.
const STATE: [(&str, &str); 2] = [("cleanup.policy", "compact"), ("delete.retention.ms", "86400000")];

fn create_again(world: &World) {
    world.kafka.delete_topic(&world.names.input);
    world.kafka.create_topic(&world.names.input, 1, &ANY_TIMESTAMP);
}

fn assert_names(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}
