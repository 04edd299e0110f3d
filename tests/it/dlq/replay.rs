//! `steward dlq replay` sends each event to the input once and unchanged, and reports the events that it cannot send. A
//! dry run writes nothing.

use std::collections::BTreeMap;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::scene::{Scene, lines, one};
use crate::support::kafka::{Outgoing, Place, record, tombstone};
use crate::support::names::unique;
use crate::support::wait::{PATIENCE, unix_ms, wait_until};
use crate::support::world::{World, created, deleted, malformed, priced};

/// `limits.max_payload_bytes`.
const MAX_PAYLOAD_BYTES: u64 = 2_000;

#[apply(lone_broker_test)]
fn ten_thousand_rejected_events_are_replayed_after_their_cause_was_corrected_each_applied_once() {
    let mut world = World::with_payload_limit(3, MAX_PAYLOAD_BYTES);
    let setup =
        world.setup().set("limits.max_payload_bytes", i64::try_from(MAX_PAYLOAD_BYTES).expect("a small number"));
    let scene = Scene::of(crate::support::kafka::Kafka::shared(), world.names.clone());
    world.produce(&rejected_events());
    let mut steward = setup.start();
    world.settle(&mut steward);
    let counts = BTreeMap::from([
        ("already_exists", 1_000),
        ("invalid_event", 500),
        ("key_id_mismatch", 300),
        ("malformed_json", 500),
        ("missing_key", 300),
        ("not_found", 6_000),
        ("null_payload", 500),
        ("payload_too_large", 400),
        ("unknown_event_type", 500),
    ]);
    let listed = lines(&scene.dlq(&["list", "--json"]).ok());
    let mut found: BTreeMap<&str, i32> = BTreeMap::new();
    for line in &listed {
        *found.entry(line["reason"].as_str().expect("a code")).or_default() += 1;
    }
    assert_eq!((found, listed.len()), (counts, 10_000));

    // The causes of two reasons are corrected.
    world.produce(&(1..=6_000).map(created).collect::<Vec<_>>());
    world.produce(&(100_001..=101_000).map(deleted).collect::<Vec<_>>());
    world.settle(&mut steward);

    let limit = [("STEWARD__LIMITS__MAX_PAYLOAD_BYTES", "2000")];
    let plan = one(&scene.start_with(&limit, &["replay", "--json"]).end().ok());
    assert_eq!((&plan["planned"], &plan["executed"]), (&10_000.into(), &false.into()));
    assert_eq!(plan["reasons"]["not_found"], serde_json::json!({"replay": 6_000, "refused_again": 0}));
    assert_eq!(plan["reasons"]["payload_too_large"], serde_json::json!({"replay": 400, "refused_again": 400}));
    assert_eq!(plan["overwrites"], 7_000, "the corrected events are older than the newest events of their services");

    let corrected = ["--reason", "not_found", "--reason", "already_exists"];
    let first = scene.replay(&corrected);
    assert_eq!((&first["replayed"], &first["executed"]), (&7_000.into(), &true.into()));
    let second = scene.replay(&corrected);
    assert_eq!((&second["replayed"], &second["replayed_before"]), (&0.into(), &7_000.into()));
    assert_eq!(second["executed"], true);
    assert_eq!(process_replayed(&mut world, &scene, 0), 7_000);
    world.settle(&mut steward);
    world.assert_exact();
    let state = world.state_of("4711").expect("the service exists");
    assert!(state.contains(r#""version":2"#) && state.contains(r#""pricePerHour":7"#), "{state}");

    // The rest is rejected again. The new DLQ records can be replayed, the old ones cannot.
    assert_eq!(scene.replay(&[])["replayed"], 3_000);
    assert_eq!(process_replayed(&mut world, &scene, 7_000), 3_000);
    world.settle(&mut steward);
    world.assert_exact();
    scene.assert_each_once(10_000);
    let plan = scene.plan(&[]);
    assert_eq!((&plan["planned"], &plan["replayed_before"]), (&3_000.into(), &10_000.into()));
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

/// 10,000 events that are rejected, for each reason except a panic, and 1,000 events that are applied.
fn rejected_events() -> Vec<Outgoing> {
    let text = |id: u64, value: String| record(id.to_string(), value);
    let events = (1..=6_000).map(|id| priced(id, 7));
    let events = events.chain((100_001..=101_000).flat_map(|id| [created(id), created(id)]));
    let events = events.chain(
        (200_001..=200_500).map(|id| text(id, format!(r#"{{"eventType":"ServiceUpdated","id":{id},"name":""}}"#))),
    );
    let events = events.chain((200_501..=200_800).map(|id| Outgoing { key: Some(b"1".to_vec()), ..priced(id, 7) }));
    let events = events.chain((201_001..=201_500).map(malformed));
    let events = events.chain((202_001..=202_300).map(|id| priced(id, 7).without_key().to(1)));
    let events = events.chain((203_001..=203_500).map(|id| tombstone(id.to_string())));
    let events = events.chain((204_001..=204_400).map(|id| text(id, "x".repeat(2_001))));
    let events =
        events.chain((205_001..=205_500).map(|id| text(id, format!(r#"{{"eventType":"ServiceMoved","id":{id}}}"#))));
    events.collect()
}

/// Processes the replayed events after the first `before` with the model, and returns their number.
fn process_replayed(world: &mut World, scene: &Scene, before: usize) -> usize {
    let mut replayed = scene.replayed();
    replayed.sort_by_key(|stored| (stored.timestamp_ms, stored.partition, stored.offset));
    let places: Vec<Place> =
        replayed[before..].iter().map(|stored| Place { partition: stored.partition, offset: stored.offset }).collect();
    world.process(&places);
    places.len()
}

#[apply(broker_test)]
fn a_replayed_event_is_unchanged() {
    let scene = Scene::new(2);
    let event = record([0xff, 0], [0xfe]).to(1).at(1_000).header("trace", "a").null_header("n").header("trace", "b");
    let replayed_before = event.clone().header("steward-replayed-from", "older-0@1");
    let nothing = Outgoing { key: None, value: None, ..record("", "") }.to(1);
    let dlq_records = [replayed_before, nothing].map(|event| scene.dlq_record("malformed_json", event, 3));
    scene.kafka.produce(&scene.names.dlq, &dlq_records);
    let began_ms = unix_ms();

    scene.replay(&[]);

    let [first, second] = <[_; 2]>::try_from(scene.kafka.read_committed(&scene.names.input)).expect("two");
    assert_eq!((first.partition, &first.key, &first.value), (1, &event.key, &event.value));
    let from = |offset: i64| {
        let from = format!("{}-1@{offset}", scene.names.dlq).into_bytes();
        ("steward-replayed-from".to_owned(), Some(from))
    };
    assert_eq!(first.headers, [event.headers, vec![from(0)]].concat());
    assert!(
        first.timestamp_ms.expect("stamped") >= began_ms,
        "the replayed event has a new timestamp, otherwise it would expire at once"
    );
    assert_eq!((second.partition, second.key, second.value, second.headers), (1, None, None, vec![from(1)]));
}

#[apply(broker_test)]
fn a_dry_run_writes_nothing() {
    let scene = Scene::new(2);
    scene.kafka.produce(&scene.names.dlq, &dlq_records(&scene, 50));

    let ran = scene.dlq(&["replay"]);
    assert!(ran.stderr.contains("nothing was sent: --execute sends them"), "{}", ran.stderr);
    let table = ran.ok();
    assert!(table.contains("not_found") && table.contains("50 DLQ records would be sent"), "{table}");

    assert_eq!(scene.kafka.ends(&scene.names.input).iter().map(|ends| ends.high).sum::<i64>(), 0);
    assert_eq!(scene.kafka.partition_count(&scene.receipts_topic()), None, "a dry run creates no topic");
    assert_eq!(scene.kafka.ends(&scene.names.dlq).iter().map(|ends| ends.high).sum::<i64>(), 50);
}

#[apply(broker_test)]
fn dlq_records_that_cannot_be_replayed_are_counted_and_named() {
    let scene = Scene::new(1);
    let truncated = scene.dlq_record("malformed_json", Outgoing { value: None, ..record("1", "") }, 0);
    let truncated = truncated.header("steward-truncated", "true").header("steward-truncated-length", "9000");
    let elsewhere = scene.dlq_record("not_found", record("2", "{}"), 1).header("steward-source-topic", "others");
    let foreign = record("3", "anything");
    let hopeless = scene.dlq_record("null_payload", tombstone("4"), 3);
    let replayable = scene.dlq_record("not_found", priced(5, 1), 4);
    let snapshot = record("5", "{}").header("steward-source-offset", "9").to(0);
    scene.kafka.produce(&scene.names.state, &[snapshot]);
    scene.kafka.produce(&scene.names.dlq, &[truncated, elsewhere, foreign, hopeless, replayable]);

    let plan = scene.plan(&[]);
    assert_eq!((&plan["truncated"], &plan["from_elsewhere"], &plan["unreadable"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!((&plan["planned"], &plan["reasons"]["null_payload"]["refused_again"]), (&2.into(), &1.into()));
    let ran = scene.dlq(&["replay", "--execute"]);
    for expected in [
        "1 cannot be sent, they were too large for the DLQ topic and are not complete (the events are in the input at their source offsets): 0/0",
        "has: 0/1",
        "writes: 0/2",
        "warning: 1 of 2 break a rule in every state of their service",
        "warning: 1 of 2 are older than the newest event of their service; an old update that is sent now overwrites newer",
    ] {
        assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
    }
    assert!(ran.ok().contains("2 of 2 DLQ records sent"));
    scene.assert_each_once(2);
}

#[apply(broker_test)]
fn only_selected_dlq_records_are_replayed() {
    let scene = Scene::new(2);
    let mut all = dlq_records(&scene, 20);
    all.push(scene.dlq_record("panicked", priced(99, 1).to(1), 1));
    scene.kafka.produce(&scene.names.dlq, &all);

    assert_eq!(scene.replay(&["--reason", "panicked"])["replayed"], 1);
    assert_eq!(scene.replay(&["--partition", "0", "--offset", "3"])["replayed"], 1);
    assert_eq!(scene.replay(&["--key", "5"])["replayed"], 1);
    let limited = scene.replay(&["--limit", "4"]);
    assert_eq!((&limited["replayed"], &limited["planned"]), (&4.into(), &4.into()));
    scene.assert_each_once(7);
    let replayed = |value: Value| value["replayed"] == true;
    assert_eq!(
        lines(&scene.dlq(&["list", "--json"]).ok()).into_iter().filter(|line| replayed(line.clone())).count(),
        7
    );
    assert_eq!(scene.replay(&[])["replayed"], 14);
    scene.assert_each_once(21);
}

#[apply(broker_test)]
fn the_rate_is_not_exceeded() {
    let scene = Scene::new(1);
    scene.kafka.produce(&scene.names.dlq, &dlq_records(&scene, 30));
    let ran = scene.dlq(&["replay", "--execute", "--rate", "20", "--json"]);
    let took_ms = one(&ran.ok())["elapsed_ms"].as_u64().expect("ms");
    assert!(took_ms >= 1_250, "the sixth batch of five is due after 25 events: {took_ms} ms");
}

#[apply(broker_test)]
fn an_interrupted_replay_reports_what_it_has_sent_and_can_be_finished() {
    let scene = Scene::new(1);
    scene.kafka.produce(&scene.names.dlq, &dlq_records(&scene, 500));
    let running = scene.start(&["replay", "--execute", "--rate", "100", "--json"]);
    wait_until("some events are sent", PATIENCE, || scene.replayed().len() >= 50);
    running.interrupt();
    let ran = running.end();

    assert!(ran.stderr.contains("interrupted"), "{}", ran.stderr);
    let outcome = one(&ran.ok());
    let sent = scene.replayed().len();
    assert_eq!((&outcome["interrupted"], &outcome["replayed"]), (&true.into(), &sent.into()));
    assert!(sent < 500, "{sent}");
    assert_eq!(scene.replay(&[])["replayed"], 500 - sent);
    scene.assert_each_once(500);
}

#[apply(broker_test)]
fn an_event_that_the_input_refuses_is_named_and_the_others_are_sent() {
    let scene = Scene::on(crate::support::kafka::Kafka::shared(), 1, &[("max.message.bytes", "2000")]);
    let mut chance = ChaCha8Rng::seed_from_u64(7);
    let mut noise = |length: usize| (0..length).map(|_| chance.random()).collect::<Vec<u8>>();
    let mut events: Vec<Outgoing> = (0..10).map(|key| record(key.to_string(), noise(400))).collect();
    events.insert(4, record("large", noise(3_000)));
    let dlq_records: Vec<Outgoing> =
        (0..).zip(events).map(|(offset, event)| scene.dlq_record("malformed_json", event, offset)).collect();
    scene.kafka.produce(&scene.names.dlq, &dlq_records);

    let ran = scene.dlq(&["replay", "--execute", "--json"]);
    assert_eq!(ran.code, 10, "{}", ran.stderr);
    assert!(ran.stderr.contains("the DLQ record 0/4 was not sent"), "{}", ran.stderr);
    let outcome = one(&ran.stdout);
    assert_eq!((&outcome["replayed"], &outcome["refused_by_broker"]), (&10.into(), &1.into()));
    scene.assert_each_once(10);
}

#[apply(broker_test)]
fn receipts_of_an_older_topic_are_ignored() {
    let scene = Scene::new(1);
    scene.kafka.produce(&scene.names.dlq, &dlq_records(&scene, 3));
    assert_eq!(scene.replay(&[])["replayed"], 3);
    scene.kafka.delete_topic(&scene.names.dlq);
    scene.kafka.create_topic(&scene.names.dlq, 1, &crate::support::kafka::ANY_TIMESTAMP);
    scene.kafka.produce(&scene.names.dlq, &dlq_records(&scene, 2));

    assert_eq!(scene.replay(&[])["replayed"], 2, "the old topic had receipts for the same offsets");
    assert_eq!(scene.replay(&[])["replayed"], 0);
}

#[apply(broker_test)]
fn a_receipts_topic_that_loses_receipts_is_refused() {
    let scene = Scene::new(2);
    scene.kafka.produce(&scene.names.dlq, &dlq_records(&scene, 3));
    scene.kafka.create_topic(&scene.receipts_topic(), 2, &[("cleanup.policy", "delete")]);
    let ran = scene.dlq(&["replay", "--execute"]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(ran.stderr.contains("cleanup.policy=compact"), "{}", ran.stderr);

    let narrow = Scene::new(2);
    narrow.kafka.produce(&narrow.names.dlq, &dlq_records(&narrow, 3));
    narrow.kafka.create_topic(&narrow.receipts_topic(), 1, &[("cleanup.policy", "compact")]);
    let ran = narrow.dlq(&["replay", "--execute"]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(ran.stderr.contains("--partitions 2"), "{}", ran.stderr);
    for scene in [scene, narrow] {
        assert!(scene.replayed().is_empty());
    }
}

#[apply(broker_test)]
fn a_receipts_topic_with_a_foreign_record_is_refused() {
    let scene = Scene::new(1);
    scene.kafka.produce(&scene.names.dlq, &dlq_records(&scene, 3));
    scene.kafka.create_topic(&scene.receipts_topic(), 1, &[("cleanup.policy", "compact")]);
    scene.kafka.produce(&scene.receipts_topic(), &[record(unique("key"), "value")]);
    let ran = scene.dlq(&["replay", "--execute"]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(ran.stderr.contains("partition 0 offset 0: it is no receipt of a replay"), "{}", ran.stderr);
    assert!(scene.replayed().is_empty());
}

/// DLQ records for updates of services that do not exist, spread over all partitions.
pub fn dlq_records(scene: &Scene, count: i64) -> Vec<Outgoing> {
    let partitions = scene.kafka.partition_count(&scene.names.dlq).expect("the DLQ topic exists");
    let dlq_record = |number: i64| {
        let partition = i32::try_from(number).expect("a small number") % partitions;
        scene.dlq_record("not_found", priced(u64::try_from(number).expect("not negative"), 1).to(partition), number)
    };
    (0..count).map(dlq_record).collect()
}
