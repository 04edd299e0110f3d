//! Outputs that lack records: copies made by the test, to which the service is pointed.

use steward::exit_code::ExitCode;

use super::{LIMIT, numbers};
use crate::support::broker::Broker;
use crate::support::kafka::Stored;
use crate::support::ledger::Ledger;
use crate::support::names::{Names, unique};
use crate::support::process::Setup;
use crate::support::world::{World, created, deleted, malformed, priced};

#[apply(broker_test)]
fn lost_writes_are_repaired_at_the_next_start() {
    let mut world = World::new(2);
    world.produce(&[created(1).to(0), created(2).to(0), created(3).to(1), malformed(3).to(1)]);
    world.process_input();
    world.produce(&[priced(1, 5).to(0), deleted(2).to(0), priced(2, 1).to(0), created(4).to(0), priced(3, 5).to(1)]);
    world.process_input();
    world.assert_exact();

    // What the second run published of 1, 2 and 4, and the DLQ record of the event at offset 4.
    let is_lost = |stored: &Stored| stored.partition == 0 && source_offset(stored) >= 2;
    point_at_copies(&mut world, |stored| !is_lost(stored), |stored| !is_lost(stored));
    let steward = world.process_input_with(&world.setup());

    world.assert_exact();
    let repaired = steward.events("lost_write_repaired");
    let [repaired] = repaired.as_slice() else { panic!("one partition lacks writes: {repaired:?}") };
    assert_eq!(repaired["level"], "ERROR");
    assert_eq!(numbers(repaired, ["partition", "entities", "events", "rejections"]), [0, 3, 3, 1]);
    steward.assert_no_errors_but(&["lost_write_repaired"]);

    let before = world.outputs();
    world.process_input();
    assert_eq!(world.outputs(), before, "what is repaired stays repaired");
}

#[apply(broker_test)]
fn deleted_ids_do_not_come_back_when_their_tombstones_are_gone() {
    let mut world = World::new(1);
    world.produce(&[created(1), priced(1, 5), created(2), deleted(2), created(3), malformed(3)]);
    world.process_input();
    world.produce(&[deleted(3), priced(1, 6)]);
    world.process_input();

    point_at_copies(&mut world, |stored| !["2", "3"].contains(&stored.key_text().as_str()), |_| true);
    world.set_offsets(0);
    let before = world.outputs();
    let steward = world.process_input();

    assert_eq!(numbers(&steward.events("recovery_finished")[0], ["verified", "start"]), [8, 8]);
    assert_eq!(world.outputs(), before, "not a record more");

    // They are absent, not just invisible.
    world.produce(&[priced(2, 1), created(3)]);
    world.process_input();
    world.assert_exact_except(&["2"]);
    assert_eq!(world.state_of("2"), None);
}

#[apply(broker_test)]
fn lost_output_topics_are_refused_and_written_again_on_demand() {
    let mut world = World::new(1);
    world.produce(&[created(1), malformed(1), priced(1, 5), created(2), deleted(2), created(3)]);
    world.process_input();

    point_at_copies(&mut world, |_| false, |_| false);
    let mut refused = world.setup().start();
    assert_eq!(refused.wait_exit(LIMIT), i32::from(ExitCode::TopicsRefused.code()));
    let error = refused.errors().iter().map(ToString::to_string).collect::<String>();
    for named in [&world.names.state, "the event at offset 5, and it is empty", "kafka.state_topic", "--reset-offsets"]
    {
        assert!(error.contains(named), "{named} is not named in {error}");
    }
    assert_eq!(world.outputs(), [vec![], vec![]], "nothing is written before it is allowed");
    // As the command that the refusal names.
    world.set_offsets(6);
    let steward = world.process_input_with(&world.setup());

    world.assert_exact();
    assert_eq!(numbers(&steward.events("lost_write_repaired")[0], ["entities", "rejections"]), [3, 1]);
}

/// The topic and its id are the same, only the disk with one of its partitions is gone.
#[apply(own_broker_test)]
fn a_lost_partition_of_the_state_topic_is_refused_and_written_again_on_demand() {
    let mut broker = Broker::own();
    let (kafka, names) = (broker.kafka(), Names::new());
    kafka.create_input(&names, 2);
    let events: Vec<_> = (1..=6).map(|id| created(id).to(i32::try_from(id % 2).expect("0 or 1"))).collect();
    kafka.produce(&names.input, &events);
    let setup = Setup::new(&kafka, &names);
    let mut first = setup.start();
    Ledger::of(&kafka, &names).assert_exact();
    first.stop();
    if !broker.lose_partition(&names.state, 1) {
        return;
    }

    let mut refused = setup.start();

    assert_eq!(refused.wait_exit(LIMIT), i32::from(ExitCode::TopicsRefused.code()), "{}", refused.tail());
    let error = refused.errors().iter().map(ToString::to_string).collect::<String>();
    for named in ["partition 1", &names.state, "the event at offset 2, and it is empty", "--reset-offsets"] {
        assert!(error.contains(named), "{named} is not named in {error}");
    }
    // As the command that the refusal names.
    kafka.commit(&names.group, &names.input, &[(0, 3), (1, 3)]);
    let mut steward = setup.start();
    let repaired = steward.wait_for_event("lost_write_repaired", LIMIT);
    assert_eq!(numbers(&repaired, ["partition", "entities", "events"]), [1, 3, 3]);
    Ledger::of(&kafka, &names).assert_exact();
    steward.stop();
    steward.assert_no_errors_but(&["lost_write_repaired"]);
}

/// From here on the service's outputs are copies of what it wrote, without those records that are not kept.
fn point_at_copies(world: &mut World, keep_state: impl Fn(&Stored) -> bool, keep_dlq: impl Fn(&Stored) -> bool) {
    let (state, dlq) = (unique("copy.state"), unique("copy.dlq"));
    let partitions = world.kafka.partitions_of(&world.names.input);
    let forever = i64::MAX.to_string();
    let large = (1_048_588 + 65_536).to_string();
    let state_settings = [("cleanup.policy", "compact"), ("delete.retention.ms", &forever)];
    world.kafka.create_topic(&state, partitions, &state_settings);
    world.kafka.create_topic(&dlq, partitions, &[("retention.ms", "-1"), ("max.message.bytes", &large)]);
    world.kafka.copy_topic_where(&world.names.state, &state, keep_state);
    world.kafka.copy_topic_where(&world.names.dlq, &dlq, keep_dlq);
    (world.names.state, world.names.dlq) = (state, dlq);
}

fn source_offset(stored: &Stored) -> i64 {
    let offset = stored.last_header("steward-source-offset").expect("steward wrote it");
    offset.parse().expect("decimal digits")
}
