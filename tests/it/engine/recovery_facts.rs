//! What a recovery concludes from the committed position and from the DLQ: whether state is missing, which events have
//! expired, and which records are another group's.

use steward::engine::commit::transaction::CommittedOffset;
use steward::engine::offset_metadata::NewestState;
use steward::engine::outcome::{Outcomes, Output};
use steward::engine::recovery::{Recovered, RecoveryFinding, RecoveryRefusal};
use steward::record::{Offset, Position, Topic, TopicId, header};
use steward::testing::memory::MemoryRecord;

use super::P0;
use super::recovery::{World, created, deleted_event, head, updated};

const INPUT_ID: &str = "input=AQEBAQEBAQEBAQEBAQEBAQ";
const STATE_ID: &str = "state-topic=AgICAgICAgICAgICAgICAg";

/// A world with three entities, all published, and a position that says so.
fn intact() -> World {
    let world = World::new();
    world.events(&[created(1), created(2), created(3)]);
    world.publishes(&["1", "2", "3"]);
    world.steward_commits(3, &format!(" state=2 {INPUT_ID} {STATE_ID}"));
    world
}

fn lost(world: &World) -> (NewestState, Option<Offset>, Option<(TopicId, TopicId)>) {
    let refusal = world.refused();
    let RecoveryRefusal::StateLost(lost) = &refusal else { panic!("refused for another reason: {refusal:?}") };
    (lost.expected, lost.found, lost.topic_ids)
}

fn value(offset: i64) -> NewestState {
    NewestState { offset: Offset(offset), is_tombstone: false }
}

#[apply(offline_test)]
fn a_state_that_contains_what_the_position_says_is_taken_over() {
    let recovered = intact().recovers();
    assert_eq!((recovered.newest_state, recovered.findings), (Some(value(2)), vec![]));
}

#[apply(offline_test)]
fn a_state_partition_that_was_lost_is_refused_although_the_input_has_everything() {
    let world = intact();
    world.kafka.lose(Topic::State, P0);
    assert_eq!(lost(&world), (value(2), None, None));
    let text = world.refused().to_string();
    for named in [
        "services.state",
        "partition 0",
        "the event at offset 2, and it is empty",
        "kafka-consumer-groups.sh --bootstrap-server <brokers> --group steward --topic services:0 --reset-offsets --to-current --execute",
    ] {
        assert!(text.contains(named), "{named} is not in {text}");
    }
}

#[apply(offline_test)]
fn a_state_topic_that_was_created_again_is_refused() {
    let mut world = intact();
    world.kafka.create_again(Topic::State);
    world.settings.topic_ids = world.kafka.topic_ids();
    let (expected, found, ids) = lost(&world);
    let ids = ids.map(|(was, is)| (was.to_string(), is.to_string()));
    assert_eq!((expected, found), (value(2), None));
    assert_eq!(ids, Some(("AgICAgICAgICAgICAgICAg".to_owned(), "DAwMDAwMDAwMDAwMDAwMDA".to_owned())));
    let text = world.refused().to_string();
    for named in ["kafka.state_topic", "AgICAgICAgICAgICAgICAg", "DAwMDAwMDAwMDAwMDAwMDA", "--topic services --reset"] {
        assert!(text.contains(named), "{named} is not in {text}");
    }
}

#[apply(offline_test)]
fn an_older_copy_of_the_state_under_another_name_is_completed_or_refused() {
    let mut world = World::new();
    world.events(&[created(1), created(2), deleted_event(2)]);
    world.publishes(&["1"]);
    // The newest event is a deletion, which compaction could have removed from the topic of the position.
    world.steward_commits(3, &format!(" tombstone=2 {INPUT_ID} {STATE_ID}"));
    assert_eq!(world.recovers().newest_state, Some(NewestState { offset: Offset(2), is_tombstone: true }));
    world.settings.topic_ids.state = TopicId::from_bytes([9; 16]);
    assert_eq!(world.recovers().newest_state, Some(value(0)), "the input has what it lacks");
    world.kafka.delete_before(Topic::Input, P0, Position(2));
    assert!(lost(&world).2.is_some());
}

#[apply(offline_test)]
fn an_operator_accepts_the_loss_by_a_reset_of_the_position() {
    let world = intact();
    world.kafka.lose(Topic::State, P0);
    world.kafka.delete_before(Topic::Input, P0, Position(1));
    assert_eq!(lost(&world), (value(2), None, None));
    world.commits(3);
    let recovered = world.recovers();
    assert_eq!(recovered.findings, [RecoveryFinding::Expired { first: Position(0), until: Position(1) }]);
    assert_eq!((recovered.start, recovered.repairs.records[Output::State].len()), (Position(3), 2), "what is left");
}

#[apply(offline_test)]
fn a_lost_end_is_repaired_if_the_input_has_it_and_refused_if_not() {
    let world = World::new();
    world.events(&[created(1), created(2), updated(1), updated(7)]);
    world.state_record("1", &world.value_after(1, "1"), 0);
    world.publishes(&["2"]);
    // The snapshot of event 2 was taken back; the next transaction had only a rejection.
    world.dlq_record(3);
    world.steward_commits(4, &format!(" state=2 {INPUT_ID} {STATE_ID}"));
    world.kafka.delete_before(Topic::Input, P0, Position(2));
    assert_eq!(world.recovers().repairs.records[Output::State].len(), 1, "the range begins at M+1");
    world.kafka.delete_before(Topic::Input, P0, Position(3));
    assert_eq!(lost(&world), (value(2), Some(Offset(1)), None));

    let mut world = intact();
    world.settings.verify_max_records = 0;
    world.events(&[created(4)]);
    world.steward_commits(4, " state=3");
    assert_eq!(lost(&world), (value(3), Some(Offset(2)), None), "nothing is verified, so nothing is repaired");
}

#[apply(offline_test)]
fn a_tombstone_that_compaction_removed_is_not_missing() {
    let world = World::new();
    world.events(&[created(1), created(2), deleted_event(2), updated(2)]);
    world.publishes(&["1", "2"]);
    world.dlq_record(3);
    world.steward_commits(4, &format!(" tombstone=2 {INPUT_ID} {STATE_ID}"));
    world.kafka.compact_state(P0, |_| true);
    let recovered = world.recovers();
    assert_eq!(recovered.newest_state, Some(NewestState { offset: Offset(2), is_tombstone: true }), "it was contained");
    assert!(recovered.repairs.has_no_records(), "{:?}", recovered.repairs);
    // Its log cannot end at 0 again.
    world.kafka.lose(Topic::State, P0);
    assert!(matches!(world.refused(), RecoveryRefusal::StateLost(_)));
}

#[apply(offline_test)]
fn positions_of_older_releases_and_of_brokers_without_topic_ids_are_accepted() {
    for facts in ["", " state=2", " input=AQEBAQEBAQEBAQEBAQEBAQ"] {
        let mut world = intact();
        world.steward_commits(3, facts);
        assert_eq!(world.recovers().findings, [], "{facts}");
        world.settings.topic_ids = Default::default();
        assert_eq!(world.recovers().findings, [], "{facts}");
    }
    let world = World::new();
    world.events(&[created(1)]);
    world.steward_commits(1, "");
    assert_eq!(
        world.recovers().repairs.records[Output::State].len(),
        1,
        "an older release does not say what is missing"
    );
}

#[apply(offline_test)]
fn another_input_topic_of_the_same_name_is_refused() {
    let mut world = intact();
    world.settings.topic_ids.input = TopicId::from_bytes([9; 16]);
    let refusal = world.refused();
    assert!(matches!(refusal, RecoveryRefusal::OtherInput { .. }), "{refusal:?}");
    let text = refusal.to_string();
    for named in
        ["input topic services", "AQEBAQEBAQEBAQEBAQEBAQ", "CQkJCQkJCQkJCQkJCQkJCQ", "new group", "--topic services "]
    {
        assert!(text.contains(named), "{named} is not in {text}");
    }
    world.settings.topic_ids.input = None;
    assert_eq!(world.recovers().findings, []);
}

#[apply(offline_test)]
fn of_a_range_whose_head_has_expired_the_rest_is_applied_and_the_head_reported() {
    let mut world = World::new();
    world.settings.look_back_records = 10;
    for id in 0..200 {
        world.events(&[created(id)]);
    }
    let keys: Vec<String> = (0..100).map(|id| id.to_string()).collect();
    world.publishes(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    // Another member of the group commits past 100 events, then retention deletes 20 of them.
    world.kafka.commit(P0, CommittedOffset { position: Position(200), metadata: "stranger".into() });
    world.kafka.delete_before(Topic::Input, P0, Position(120));
    let recovered = world.recovers();
    assert_eq!(recovered.findings, [RecoveryFinding::Expired { first: Position(100), until: Position(120) }]);
    let sources: Vec<i64> = recovered.repairs.records[Output::State].iter().map(|record| record.source.0).collect();
    assert_eq!(sources, (120..200).collect::<Vec<_>>());
    assert_eq!((recovered.start, recovered.entities.len()), (Position(200), 180));

    world.settings.stop_on_expired = true;
    let (first, until) = (Position(100), Position(120));
    assert_eq!(world.refused(), RecoveryRefusal::Expired { partition: P0, first, until });
}

#[apply(offline_test)]
fn a_large_repair_commits_its_start_position_last() {
    let world = World::new();
    world.events(&[created(1), created(2), created(3), created(4)]);
    world.publishes(&["1"]);
    world.commits(4);
    let mut recovered = world.recovers();
    let positions = |parts: &[(Position, Outcomes)]| parts.iter().map(|(position, _)| position.0).collect::<Vec<_>>();
    let Recovered { start, repaired, .. } = recovered;
    assert_eq!((start, repaired.map(|repaired| repaired.from)), (Position(4), Some(Position(0))));
    let parts = recovered.take_repairs(1);
    assert_eq!(positions(&parts), [0, 0, 4]);

    // The process dies after the first part: the next one finds the rest.
    for (position, outcomes) in &parts[..1] {
        world.steward_commits(position.0, " state=1");
        for record in &outcomes.records[Output::State] {
            let key = std::str::from_utf8(record.key().expect("an entity has one")).expect("a number");
            world.state_record(key, record.value().expect("it lives"), record.source.0);
        }
    }
    let again = world.recovers();
    let sources: Vec<i64> = again.repairs.records[Output::State].iter().map(|record| record.source.0).collect();
    // Those from M+1 on are processed, not repaired.
    assert_eq!((again.start, sources), (Position(2), vec![]));
    assert_eq!(recovered.take_repairs(1).len(), 1, "there is always a part, so that the position is committed");
}

#[apply(offline_test)]
fn dlq_records_of_another_group_move_nothing() {
    let rejected_by = |world: &World, group: &str, offset: i64| {
        let headers = vec![
            head(header::GROUP, "the event's own"),
            head(header::REASON, "not_found"),
            head(header::SOURCE_TOPIC, "services"),
            head(header::SOURCE_PARTITION, "0"),
            head(header::SOURCE_OFFSET, &offset.to_string()),
            head(header::GROUP, group),
        ];
        world.kafka.append(Topic::Dlq, P0, MemoryRecord { headers, ..MemoryRecord::default() });
    };
    let world = World::new();
    world.events(&[created(1), updated(2), updated(1)]);
    rejected_by(&world, "another", 1);
    rejected_by(&world, "another", 2);
    let recovered = world.recovers();
    let ignored = RecoveryFinding::OtherGroupsDlqRecords { records: 2, group: "another".into() };
    assert_eq!((recovered.start, recovered.findings), (Position(0), vec![ignored]));
    rejected_by(&world, "steward", 1);
    assert_eq!(world.recovers().start, Position(2), "its own counts");

    // An older release wrote no group; the header is the event's.
    let world = World::new();
    world.events(&[created(1), updated(2)]);
    world.dlq_record_of(1, vec![head(header::GROUP, "the event's own")]);
    assert_eq!(world.recovers().start, Position(2));
}

#[apply(offline_test)]
fn the_dlq_records_of_a_group_that_is_taken_over_count() {
    let mut world = World::new();
    world.events(&[created(1), updated(2)]);
    world.publishes(&["1"]);
    let headers = vec![
        head(header::REASON, "not_found"),
        head(header::SOURCE_TOPIC, "services"),
        head(header::SOURCE_PARTITION, "0"),
        head(header::SOURCE_OFFSET, "1"),
        head(header::GROUP, "steward"),
    ];
    world.kafka.append(Topic::Dlq, P0, MemoryRecord { headers, ..MemoryRecord::default() });
    world.settings.group = "heir".into();
    world.settings.adopt_group = true;
    assert_eq!(world.recovers().start, Position(2));
}
