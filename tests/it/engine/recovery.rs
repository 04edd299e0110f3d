//! The recovery of a partition from topics made by hand: the real loop with the in-memory fake.

use std::sync::{Arc, Mutex};

use steward::engine::budget::Budget;
use steward::engine::commit::transaction::CommittedOffset;
use steward::engine::outcome::Output;
use steward::engine::ownership::Ownership;
use steward::engine::recovery::driver::{ReadFailure, RecoveryFailure};
use steward::engine::recovery::{
    PASSIVATED_OVERHEAD_BYTES, Recovered, RecoveryFinding, RecoveryRefusal, RecoverySettings, Repaired, StoredEntity,
};
use steward::entity::{Reason, SizeLimits};
use steward::ports::Recoveries;
use steward::record::{Offset, Position, Topic, header};
use steward::service::Service;
use steward::testing::memory::{MemoryKafka, MemoryPod, MemoryRecord};
use steward::testing::reference::Model;

use super::P0;

mod harness;

pub(super) use harness::{World, created, deleted_event, head, updated};
use harness::{repaired, skipped};

const GROUP: &str = "steward";
const TOPIC: &str = "services";
const STATE_TOPIC: &str = "services.state";
const AT: i64 = 1_769_860_800_000;

#[apply(offline_test)]
fn an_empty_partition_starts_at_its_beginning() {
    let recovered = World::new().recovers();
    assert_eq!((recovered.committed, recovered.start), (None, Position(0)));
    assert_eq!((recovered.entities.len(), recovered.lease.bytes(), recovered.findings), (0, 0, vec![]));
}

#[apply(offline_test)]
fn intact_state_is_taken_over_unchanged() {
    let world = World::new();
    world.events(&[created(1), created(2), updated(1), updated(9)]);
    world.publishes(&["1", "2"]);
    world.dlq_record(3);
    world.commits(4);
    let recovered = world.recovers();
    assert_eq!((recovered.committed, recovered.start), (Some(Position(4)), Position(4)));
    assert_eq!(world.entities(&recovered), world.model_entities());
    assert!(recovered.repairs.has_no_records());
    assert_eq!((recovered.verified, recovered.skipped, recovered.findings), (4, 4, vec![]));
}

#[apply(offline_test)]
fn state_that_steward_did_not_write_is_refused() {
    let good = || vec![head(header::STATE_PARTITION, "0"), head(header::STATE_OFFSET, "0"), head(header::GROUP, GROUP)];
    let without = |name: &str| good().into_iter().filter(|(of, _)| of != name).collect::<Vec<_>>();
    let with = |name: &str, value: &str| {
        let mut headers = good();
        headers.push(head(name, value));
        headers
    };
    let table = [
        (None, Some("{}"), good(), "no key"),
        (Some("1"), Some("{}"), without(header::STATE_OFFSET), "lacks the header steward-source-offset"),
        (Some("1"), Some("{}"), with(header::STATE_OFFSET, "x"), "lacks the header steward-source-offset"),
        (Some("1"), Some("{}"), without(header::STATE_PARTITION), "another input partition"),
        (Some("1"), Some("{}"), with(header::STATE_PARTITION, "1"), "another input partition"),
        (Some("1"), Some("{}"), good(), ""),
        (Some("1"), Some("not json"), good(), ""),
    ];
    for (key, value, headers, why) in table {
        let world = World::new();
        world.events(&[created(1)]);
        let value = value.map(|value| value.as_bytes().to_vec());
        let key = key.map(|key| key.as_bytes().to_vec());
        world.kafka.append(Topic::State, P0, MemoryRecord { timestamp_ms: Some(AT), key, value, headers });
        match world.tries() {
            Err(RecoveryFailure::Refused(RecoveryRefusal::ForeignState { offset: Offset(0), why: found, .. })) => {
                assert!(found.contains(why), "{found} does not contain {why}");
            }
            other => panic!("{why}: {other:?}"),
        }
    }
}

#[apply(offline_test)]
fn another_groups_state_is_refused_or_adopted() {
    let mut world = World::new();
    world.events(&[created(1)]);
    world.publishes(&["1"]);
    world.settings.group = "heir".into();
    let refused = world.refused();
    assert_eq!(refused, RecoveryRefusal::OtherGroup { partition: P0, found: GROUP.into(), own: "heir".into() });
    world.settings.adopt_group = true;
    let recovered = world.recovers();
    assert_eq!(world.entities(&recovered), world.model_entities());
    let missing = RecoveryFinding::CommittedMissing { position: Position(1) };
    assert_eq!(recovered.findings, [missing, RecoveryFinding::Adopted { group: GROUP.into() }]);
}

#[apply(offline_test)]
fn an_input_that_was_created_again_is_refused() {
    let refuses_with = |world: &World, what: &str| {
        let refusal = world.refused();
        let RecoveryRefusal::Recreated { why, .. } = &refusal else { panic!("{what}: {refusal:?}") };
        assert!(why.contains(what), "{why} does not contain {what}");
    };
    let shorter = World::new();
    shorter.events(&[created(1), created(2)]);
    shorter.publishes(&["1", "2"]);
    let again = shorter.with_another_input();
    again.events(&[created(1)]);
    refuses_with(&again, "it ends at 1, but the state contains the event at offset 1");

    let again = shorter.with_another_input();
    again.events(&[created(2), created(1)]);
    refuses_with(&again, "another key");

    let again = shorter.with_another_input();
    again.events(&[created(1)]);
    again.event_at(created(2), AT + 77);
    refuses_with(&again, "another timestamp");

    let again = shorter.with_another_input();
    again.events(&[created(1)]);
    again.kafka.append_marker(Topic::Input, P0);
    refuses_with(&again, "is not there");

    let deleted = World::new();
    deleted.events(&[created(1), deleted_event(1)]);
    deleted.publishes(&["1"]);
    let again = deleted.with_another_input();
    again.events(&[created(1)]);
    again.event_at(deleted_event(1), AT + 99);
    assert!(again.tries().is_ok(), "of a tombstone only the key can be compared");

    let rejected = World::new();
    rejected.events(&[updated(1), updated(1)]);
    rejected.dlq_record(1);
    let again = rejected.with_another_input();
    again.events(&[created(1)]);
    refuses_with(&again, "it ends at 1, but the DLQ records contain the event at offset 1");
}

#[apply(offline_test)]
fn an_input_whose_newest_record_expired_is_not_compared() {
    let world = World::new();
    world.events(&[created(1)]);
    world.publishes(&["1"]);
    world.commits(1);
    world.kafka.delete_before(Topic::Input, P0, Position(1));
    let recovered = world.recovers();
    assert_eq!((recovered.start, &recovered.findings), (Position(1), &vec![]));
    assert_eq!(world.entities(&recovered), world.model_entities());
}

#[apply(offline_test)]
fn a_lost_snapshot_is_repaired() {
    let world = World::new();
    world.events(&[created(1), created(2)]);
    world.publishes(&["1", "2"]);
    world.event_with(
        updated(1),
        vec![head("traceparent", "old"), head("traceparent", "00-aa"), head("tracestate", "s")],
    );
    // A delayed abort took the snapshot back, and the offsets were committed by the next transaction.
    world.commits(3);
    let recovered = world.recovers();
    assert_eq!(recovered.start, Position(3));
    assert_eq!(world.entities(&recovered), world.model_entities(), "the entities that serve are the repaired ones");
    let [snapshot] = &recovered.repairs.records[Output::State][..] else { panic!("{:?}", recovered.repairs) };
    assert_eq!((snapshot.key(), snapshot.source, snapshot.partition), (Some(&b"1"[..]), Offset(2), P0));
    assert_eq!(snapshot.value(), world.model_value("1").as_deref());
    let trace = snapshot.trace().expect("the event has one");
    assert_eq!(trace.traceparent.as_deref(), Some(&b"00-aa"[..]));
    assert_eq!((recovered.repaired, recovered.findings.len()), (repaired(1, 1, 0, 0, 3), 0));
}

#[apply(offline_test)]
fn a_lost_deletion_is_repaired() {
    let world = World::new();
    world.events(&[created(1), created(2)]);
    world.publishes(&["1", "2"]);
    world.events(&[deleted_event(1)]);
    world.commits(3);
    let recovered = world.recovers();
    let [tombstone] = &recovered.repairs.records[Output::State][..] else { panic!("{:?}", recovered.repairs) };
    assert_eq!((tombstone.key(), tombstone.value(), tombstone.source), (Some(&b"1"[..]), None, Offset(2)));
    assert_eq!(world.entities(&recovered), [("2".to_owned(), 1)], "nothing before the start can come any more");
}

/// Otherwise the next verification, which may begin between the two events, would reject the deletion.
#[apply(offline_test)]
fn an_entity_that_was_created_and_deleted_gets_its_tombstone() {
    let world = World::new();
    world.events(&[created(1), updated(1), deleted_event(1)]);
    world.commits(3);
    let recovered = world.recovers();
    let [tombstone] = &recovered.repairs.records[Output::State][..] else { panic!("{:?}", recovered.repairs) };
    assert_eq!((tombstone.value(), tombstone.source), (None, Offset(2)));
    assert_eq!(recovered.findings, []);
}

#[apply(offline_test)]
fn a_lost_rejection_is_repaired_with_its_bytes() {
    let world = World::new();
    world.events(&[created(1)]);
    world.publishes(&["1"]);
    world.event_with(updated(7), vec![head("a", "1"), ("b".into(), None)]);
    world.events(&[created(1)]);
    world.dlq_record(2);
    world.commits(3);
    let recovered = world.recovers();
    let [published] = &recovered.repairs.records[Output::Dlq][..] else { panic!("{:?}", recovered.repairs) };
    let rejected = published.rejected_event().expect("it is in the DLQ");
    let record = rejected.record();
    assert_eq!(
        (rejected.rejection.reason, record.offset, record.timestamp_ms),
        (Reason::NotFound, Offset(1), Some(AT + 1))
    );
    assert_eq!((record.key, record.value), (Some(&b"7"[..]), Some(updated(7).1.as_bytes())));
    let headers: Vec<_> = record.headers.iter().map(|header| (header.name, header.value)).collect();
    assert_eq!(headers, [("a", Some(&b"1"[..])), ("b", None)]);
    assert_eq!((recovered.repaired, recovered.findings.len()), (repaired(0, 0, 1, 0, 3), 0));
}

#[apply(offline_test)]
fn verification_rejects_what_processing_rejects_for_its_size() {
    let mut world = World::new();
    let large = |id: u64, tag: &str| (id.to_string(), created(id).1.replace("[]", &format!("[\"{tag}\"]")));
    world.events(&[created(1), large(2, &"x".repeat(200)), updated(1)]);
    world.commits(3);
    world.settings.size_limits.max_snapshot_bytes = 200;
    let recovered = world.recovers();
    let [published] = &recovered.repairs.records[Output::Dlq][..] else { panic!("{:?}", recovered.repairs) };
    let rejected = published.rejected_event().expect("it is in the DLQ");
    assert_eq!((rejected.rejection.reason, published.source), (Reason::StateTooLarge, Offset(1)));
    let [snapshot] = &recovered.repairs.records[Output::State][..] else { panic!("{:?}", recovered.repairs) };
    assert_eq!((snapshot.key(), snapshot.source), (Some(&b"1"[..]), Offset(2)), "only the other one is published");
}

#[apply(offline_test)]
fn a_rejected_event_is_not_applied_again() {
    let world = World::new();
    // By today's rules the second event is valid; it was rejected under other rules or code.
    world.events(&[created(1), updated(1), updated(1)]);
    world.publishes(&["1"]);
    let other = World::new();
    other.events(&[created(1), updated(1), updated(1)]);
    other.state_record("1", &world.value_after(1, "1"), 0);
    other.dlq_record(1);
    other.commits(3);
    let recovered = other.recovers();
    let [snapshot] = &recovered.repairs.records[Output::State][..] else { panic!("{:?}", recovered.repairs) };
    let value = String::from_utf8_lossy(snapshot.value().expect("it lives")).into_owned();
    assert!(value.contains(r#""version":2,"#), "the rejected update was applied: {value}");
    assert_eq!((snapshot.source, recovered.skipped), (Offset(2), 2));
}

#[apply(offline_test)]
fn dlq_records_are_searched_beyond_one_window() {
    // A window is 1,000 records at least; markers make the newest one nearly empty.
    let world = World::new();
    world.events(&[updated(1)]);
    world.dlq_record(0);
    for _ in 0..2_500 {
        world.kafka.append_marker(Topic::Dlq, P0);
    }
    world.events(&[updated(2)]);
    world.dlq_record(1);
    for _ in 0..1_200 {
        world.kafka.append_marker(Topic::Dlq, P0);
    }
    world.commits(2);
    let recovered = world.recovers();
    assert!(
        recovered.repairs.records[Output::Dlq].is_empty(),
        "they are there: {:?}",
        recovered.repairs.records[Output::Dlq]
    );
    assert_eq!((recovered.start, recovered.skipped, recovered.findings), (Position(2), 2, vec![]));

    // D counts although its window is not the first that is read.
    let world = World::new();
    world.events(&[updated(1), created(2)]);
    world.dlq_record(0);
    for _ in 0..3_000 {
        world.kafka.append_marker(Topic::Dlq, P0);
    }
    assert_eq!(world.recovers().start, Position(1));
}

#[apply(offline_test)]
fn dlq_records_that_retention_cut_are_not_published_again() {
    let world = World::new();
    world.events(&[updated(1), updated(2), updated(3), updated(4)]);
    let places = [0, 1, 3].map(|offset| world.dlq_record(offset));
    world.commits(4);
    world.kafka.delete_before(Topic::Dlq, P0, Position(places[1].0));
    let missing: Vec<Offset> =
        world.recovers().repairs.records[Output::Dlq].iter().map(|record| record.source).collect();
    assert_eq!(missing, [Offset(2)], "0 may have been there, 2 was not");
    world.kafka.delete_before(Topic::Dlq, P0, Position(3));
    let recovered = world.recovers();
    assert!(
        recovered.repairs.records[Output::Dlq].is_empty(),
        "no DLQ record is left to compare with: {:?}",
        recovered.repairs
    );
}

#[apply(offline_test)]
fn dlq_records_without_stewards_headers_are_reported_and_ignored() {
    let world = World::new();
    world.events(&[updated(1), created(1)]);
    world.dlq_record(0);
    let foreign = MemoryRecord {
        key: Some(b"x".to_vec()),
        headers: vec![head(header::SOURCE_OFFSET, "?")],
        ..MemoryRecord::default()
    };
    world.kafka.append(Topic::Dlq, P0, foreign.clone());
    let newest = world.kafka.append(Topic::Dlq, P0, MemoryRecord { headers: vec![], ..foreign });
    let recovered = world.recovers();
    assert_eq!(recovered.start, Position(1));
    assert_eq!(recovered.findings, [RecoveryFinding::UnreadableDlqRecords { records: 2, offset: newest }, skipped(1)]);
}

#[apply(offline_test)]
fn dlq_records_of_another_source_are_ignored() {
    // Copied from another partition, or written by another steward: their offsets are not ours.
    for (partition, topic) in [("1", TOPIC), ("0", "orders"), ("x", TOPIC)] {
        let world = World::new();
        world.events(&[created(1), updated(1), updated(1)]);
        world.commits(1);
        let headers = vec![
            head(header::SOURCE_TOPIC, topic),
            head(header::SOURCE_PARTITION, partition),
            head(header::SOURCE_OFFSET, "2"),
        ];
        let offset = world.kafka.append(Topic::Dlq, P0, MemoryRecord { headers, ..MemoryRecord::default() });
        let recovered = world.recovers();
        assert_eq!(recovered.start, Position(1), "events were passed over for a DLQ record of {topic}/{partition}");
        assert!(recovered.findings.contains(&RecoveryFinding::UnreadableDlqRecords { records: 1, offset }));
    }
}

#[apply(offline_test)]
fn a_range_that_is_not_verified_repairs_nothing() {
    let mut world = World::new();
    world.events(&[created(1), updated(1), updated(1), updated(1)]);
    world.state_record("1", &world.value_after(1, "1"), 0);
    world.commits(4);
    world.settings.verify_max_records = 2;
    let recovered = world.recovers();
    assert!(recovered.repairs.records[Output::State].is_empty());
    let finding = RecoveryFinding::NotVerified { from: Position(1), until: Position(4) };
    assert_eq!((recovered.start, recovered.verified, recovered.findings), (Position(4), 0, vec![finding]));
    world.settings.verify_max_records = 3;
    assert_eq!(world.recovers().repairs.records[Output::State].len(), 1);
}

#[apply(offline_test)]
fn resetting_the_offsets_applies_nothing_twice() {
    let world = World::new();
    world.events(&[created(1), updated(1), updated(9), created(2)]);
    world.publishes(&["1", "2"]);
    world.dlq_record(2);
    world.commits(0);
    let recovered = world.recovers();
    assert_eq!((recovered.start, recovered.verified, recovered.skipped), (Position(4), 4, 4));
    assert!(recovered.repairs.has_no_records());
    assert_eq!(recovered.findings, [skipped(4)]);
    assert_eq!(recovered.committed, Some(Position(0)), "what the group has, for the doubt of the first transaction");
}

#[apply(offline_test)]
fn without_a_committed_position_no_skipped_events_are_reported() {
    let world = World::new();
    world.events(&[created(1), updated(1)]);
    world.publishes(&["1"]);
    let recovered = world.recovers();
    assert_eq!(recovered.findings, [RecoveryFinding::CommittedMissing { position: Position(2) }]);
    assert_eq!((recovered.verified, recovered.skipped), (2, 2), "the look-back");
}

#[apply(offline_test)]
fn tombstones_are_kept_only_while_their_events_may_come() {
    let mut world = World::new();
    world.events(&[created(1), created(2), deleted_event(1), deleted_event(2)]);
    world.publishes(&["1", "2"]);
    world.commits(3);
    assert_eq!(world.recovers().entities.len(), 0, "both are before the start");
    world.settings.verify_max_records = 0;
    let recovered = world.recovers();
    assert_eq!(recovered.start, Position(3));
    let kept: Vec<_> = recovered.entities.iter().map(|(key, passivated)| (key.to_vec(), passivated.newest)).collect();
    assert_eq!(kept, [(b"2".to_vec(), Offset(3))], "its deletion comes again, and has to be known as contained");
}

#[apply(offline_test)]
fn without_verification_rejections_ahead_of_the_start_are_kept() {
    let mut world = World::new();
    world.events(&[updated(1), updated(2), updated(3), updated(4)]);
    for offset in [0, 1, 3] {
        world.dlq_record(offset);
    }
    world.commits(1);
    world.settings.verify_max_records = 0;
    let recovered = world.recovers();
    let mut rejected: Vec<i64> = recovered.rejected.iter().map(|offset| offset.0).collect();
    rejected.sort_unstable();
    assert_eq!((recovered.start, rejected), (Position(1), vec![1, 3]));
    assert!(recovered.repairs.records[Output::Dlq].is_empty() && recovered.verified == 0);
    world.settings.verify_max_records = 1_000;
    let recovered = world.recovers();
    assert_eq!((recovered.start, recovered.rejected.len()), (Position(4), 0));
}

#[apply(offline_test)]
fn expired_events_are_refused_if_configured() {
    let mut world = World::new();
    world.events(&[created(1), created(2), created(3)]);
    world.publishes(&["1"]);
    world.commits(1);
    world.kafka.delete_before(Topic::Input, P0, Position(2));
    let recovered = world.recovers();
    assert_eq!(recovered.start, Position(2));
    assert_eq!(recovered.findings, [RecoveryFinding::Expired { first: Position(1), until: Position(2) }]);
    world.settings.stop_on_expired = true;
    assert_eq!(world.refused(), RecoveryRefusal::Expired { partition: P0, first: Position(1), until: Position(2) });
}

#[apply(offline_test)]
fn entities_above_the_limit_are_refused_even_if_each_partition_is_small() {
    let mut world = World::new();
    world.events(&[created(1), created(2)]);
    world.publishes(&["1", "2"]);
    let needed = world.recovers().lease.bytes();
    world.budget = Budget::new(needed);
    assert_eq!(world.recovers().lease.bytes(), needed, "what fits exactly, fits");
    let others = world.budget.hold(1);
    let expected = RecoveryRefusal::StateTooLarge {
        partition: P0,
        partition_bytes: needed,
        held_bytes: needed + 1,
        limit_bytes: needed,
        pods: 2,
    };
    assert_eq!(world.refused(), expected);
    drop(others);
    assert_eq!(world.budget.held_bytes(), 0, "a recovery that was refused holds nothing");

    let large = World { budget: Budget::new(100_000), ..World::new() };
    for id in 0..2_000 {
        large.events(&[created(id)]);
        large.publishes(&[&id.to_string()]);
    }
    assert!(
        matches!(large.refused(), RecoveryRefusal::StateTooLarge { held_bytes: ..200_000, .. }),
        "it is noticed while reading"
    );
}

#[apply(offline_test)]
fn the_lease_is_the_memory_of_the_entities() {
    let world = World::new();
    world.events(&[created(1), created(22), updated(1)]);
    world.publishes(&["1"]);
    world.publishes(&["1", "22"]);
    world.events(&[updated(22)]);
    let recovered = world.recovers();
    let bytes_of = |(key, passivated): (&steward::record::Key, &StoredEntity)| {
        key.len() as u64
            + passivated.snapshot.as_ref().map_or(0, |value| value.len() as u64)
            + PASSIVATED_OVERHEAD_BYTES
    };
    let expected: u64 = recovered.entities.iter().map(bytes_of).sum();
    assert_eq!((recovered.lease.bytes(), world.budget.held_bytes()), (expected, expected));
    drop(recovered);
    assert_eq!(world.budget.held_bytes(), 0);
}

#[apply(offline_test)]
fn a_recovery_ends_with_its_epoch() {
    let world = World::new();
    world.ownership.end(P0);
    assert!(matches!(world.tries(), Err(RecoveryFailure::Unread(ReadFailure::Cancelled))));
}
