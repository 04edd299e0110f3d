//! The consumer, against a real Kafka: the events it sends, their order, and what it never does.

mod interrupted;
mod member;

use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::message::{Header as ClientHeader, OwnedHeaders};
use steward::config::{Config, OnExpired};
use steward::kafka::consumer::poll_phase::PollPhase;
use steward::ports::{ConsumerFailure, InputConsumer};
use steward::record::{Partition, Position};

use self::member::{Member, Refused, Seen, Setup, Topic, now};

#[apply(broker_test)]
fn a_started_partition_delivers_its_records_unchanged() {
    let topic = Topic::with_partitions(1);
    let headers = OwnedHeaders::new()
        .insert(ClientHeader { key: "traceparent", value: Some("00-aa") })
        .insert(ClientHeader { key: "null", value: None::<&str> })
        .insert(ClientHeader { key: "traceparent", value: Some("") });
    topic.produce_all(vec![
        topic.record(0).key("42").payload("{}").timestamp(1_700_000_000_123).headers(headers),
        topic.record(0).payload("no key"),
        topic.record(0).key("no value"),
        topic.record(0).key("").payload(""),
    ]);
    let member = Member::join(&topic);
    let owned = member.assigned();
    member.start(&owned, 0);

    let records = member.records(4);

    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(records.iter().all(|record| record.partition == Partition(0) && record.epoch == owned[0].1));
    assert_eq!(records[0].timestamp_ms, Some(1_700_000_000_123));
    assert_eq!(records[0].key.as_deref(), Some(b"42".as_slice()));
    let found: Vec<(&str, Option<&[u8]>)> =
        records[0].headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
    let expected: [(&str, Option<&[u8]>); 3] =
        [("traceparent", Some(b"00-aa")), ("null", None), ("traceparent", Some(b""))];
    assert_eq!(found, expected);
    assert_eq!((records[1].key.as_deref(), records[1].value.as_deref()), (None, Some(b"no key".as_slice())));
    assert_eq!((records[2].key.as_deref(), records[2].value.as_deref()), (Some(b"no value".as_slice()), None));
    assert_eq!((records[3].key.as_deref(), records[3].value.as_deref()), (Some(b"".as_slice()), Some(b"".as_slice())));
    assert!(records[3].headers.is_empty());
}

/// The number of records to take follows from the size of those before. A batch is never split later, and a transaction
/// has to carry it within its timeout.
#[apply(broker_test)]
fn large_records_after_a_small_one_do_not_become_one_batch() {
    const LARGE: usize = 250_000;
    const ROUND_BYTES: u64 = 65_536;
    let topic = Topic::with_partitions(1);
    let large = "x".repeat(LARGE);
    let records = std::iter::once("small").chain(std::iter::repeat_n(large.as_str(), 12));
    topic.produce_all(records.map(|value| topic.record(0).payload(value)).collect());
    let member = Member::join_with(&topic, |setup| setup.config.limits.max_in_flight_bytes = 6 * ROUND_BYTES);
    member.start(&member.assigned(), 0);

    assert_eq!(member.records(13).len(), 13);
    let largest = member.sink.lock().largest_batch_bytes;
    assert!(largest <= 2 * ROUND_BYTES + LARGE as u64, "a batch of {largest} bytes");
}

#[apply(broker_test)]
fn a_header_name_that_is_not_utf8_keeps_its_valid_part() {
    let topic = Topic::with_partitions(1);
    topic.produce_with_header_name(c"x\xffy");
    let member = Member::join(&topic);
    member.start(&member.assigned(), 0);
    assert_eq!(member.records(1)[0].headers, [("x\u{fffd}y".to_owned(), Some(b"1".to_vec()))]);
}

#[apply(broker_test)]
fn nothing_is_read_before_the_start() {
    let topic = Topic::with_partitions(2);
    topic.fill(0, 100);
    topic.fill(1, 100);
    let member = Member::join(&topic);
    let owned = member.assigned();

    member.start(&owned[1..], 0);
    member.records(100);

    assert!(member.seen().iter().all(|seen| seen.partition != Partition(0)), "partition 0 was not started");
    assert_eq!(member.position_of(Partition(0)), 0);
}

#[apply(broker_test)]
fn a_start_begins_at_its_position() {
    let topic = Topic::with_partitions(1);
    topic.fill(0, 1_000);
    let member = Member::join(&topic);

    member.start(&member.assigned(), 700);

    let records = member.records(300);
    assert_eq!(records[0].offset, 700);
    assert_eq!(records[299].offset, 999);
}

#[apply(lone_broker_test)]
fn a_start_within_the_assignment_is_not_too_early() {
    let topic = Topic::with_partitions(12);
    for partition in 0..12 {
        topic.fill(partition, 20);
    }
    let took = (0..3).map(|_| {
        let began = now();
        let member = Member::join_with(&topic, |setup| setup.start_at_once = Some(Position(5)));
        let records = member.records(12 * 15);
        let took = began.elapsed();
        assert!(records.iter().all(|record| record.offset >= 5), "{records:?}");
        member.leave();
        took
    });
    let fastest = took.min().expect("there were three");
    assert!(
        fastest < Duration::from_millis(900),
        "join, start and read took {fastest:?}, so the client's thread slept"
    );
}

#[apply(broker_test)]
fn a_held_partition_is_read_again_under_its_newer_epoch() {
    let topic = Topic::with_partitions(1);
    topic.fill(0, 50);
    let member = Member::join(&topic);
    let owned = member.assigned();
    member.start(&owned, 0);
    member.records(50);

    let new_epoch = member.ownership.invalidate(Partition(0), owned[0].1).expect("the epoch is current");
    member.source().hold(Partition(0));
    topic.fill(0, 10);
    member.source().start(Partition(0), new_epoch, Position(30));

    let again: Vec<Seen> = member.records(50 + 30).split_off(50);
    assert_eq!((again[0].offset, again[0].epoch), (30, new_epoch));
    assert_eq!((again[29].offset, again[29].epoch), (59, new_epoch));
}

#[apply(broker_test)]
fn a_start_under_an_older_epoch_is_ignored() {
    let topic = Topic::with_partitions(1);
    topic.fill(0, 10);
    let member = Member::join(&topic);
    let owned = member.assigned();
    let new_epoch = member.ownership.invalidate(Partition(0), owned[0].1).expect("the epoch is current");

    member.source().start(Partition(0), owned[0].1, Position(0));
    member.source().start(Partition(0), new_epoch, Position(5));

    let records = member.records(5);
    assert!(records.iter().all(|record| record.epoch == new_epoch && record.offset >= 5), "{records:?}");
}

#[apply(lone_broker_test)]
fn a_full_sink_stops_reading_but_keeps_the_membership() {
    let topic = Topic::with_partitions(2);
    for partition in 0..2 {
        topic.fill_with(partition, 3_000, &"x".repeat(4_000));
    }
    let config = |config: &mut Config| config.limits.max_in_flight_bytes = 8 << 20;
    let first = Member::join_with(&topic, |setup| config(&mut setup.config));
    let owned = first.assigned();
    first.refuse(Refused::AfterTheFirst);
    first.start(&owned, 0);
    first.wait("a batch is returned", |_| first.sink.refusals.load(Ordering::SeqCst) > 0);
    let held = first.seen().len();

    let phase = first.phase();
    first.wait("the poll thread continues to loop", |_| phase.read().last_turn > now() - Duration::from_millis(500));
    assert_eq!(phase.read().phase, PollPhase::Offering);
    let deadline = now() + Duration::from_secs(3);
    first.wait("three seconds pass, in which statistics arrive", |_| now() > deadline);
    assert_eq!(first.seen().len(), held, "the sink accepted a batch in the meantime");
    let prefetched = first.events.statistics.lock().expect("not poisoned").prefetched_bytes;
    // The limit of the read-ahead is 2 MiB. A response that was in flight may contain as much again.
    assert!(prefetched > 0 && prefetched <= 6 << 20, "read ahead: {prefetched} bytes");

    let second = Member::join_with(&topic, |setup| config(&mut setup.config));
    first.wait("the full sink receives the revocation", |events| events.iter().any(|event| event == "revoked 1"));
    first.drain();
    assert_eq!(second.assigned_some().len(), 1);
    assert!(!first.log().iter().any(|event| event.starts_with("lost")), "{:?}", first.log());

    first.refuse(Refused::Nothing);
    let kept = first.kept_partition();
    let records: Vec<Seen> =
        first.records_of(kept, 3_000).into_iter().filter(|record| record.partition == kept).collect();
    assert!(records.iter().enumerate().all(|(index, record)| record.offset == index as i64), "a gap or a repetition");
}

#[apply(broker_test)]
fn a_revocation_waits_until_it_is_drained_and_the_kept_partition_goes_on() {
    let topic = Topic::with_partitions(2);
    topic.fill(0, 100);
    topic.fill(1, 100);
    let first = Member::join_with(&topic, |setup| setup.config.shutdown.revoke_drain_ms = 15_000);
    let owned = first.assigned();
    first.start(&owned, 0);
    first.records(200);

    let second = Member::join(&topic);
    first.wait("a revocation", |events| events.iter().any(|event| event == "revoked 1"));
    let revoked = first.revoked_partition();
    assert!(first.ownership.current(revoked).is_some(), "applied events may still be committed");
    assert_eq!(first.phase().read().phase, PollPhase::Revoking);
    first.drain();
    first.wait("the end of the revocation", |events| events.iter().any(|event| event == "gone 1"));
    assert_eq!(first.ownership.current(revoked), None);

    let handed_over = second.assigned_some();
    assert_eq!(handed_over.iter().map(|(partition, _)| *partition).collect::<Vec<_>>(), [revoked]);
    second.start(&handed_over, 100);
    let kept = first.kept_partition();
    topic.fill(kept.0, 10);
    topic.fill(revoked.0, 10);
    assert_eq!(second.records(10)[0].offset, 100);
    let last = first.records_of(kept, 110).pop().expect("there are 110");
    assert_eq!((last.partition, last.offset), (kept, 109));
    assert_eq!(
        first.ownership.current(kept),
        owned.iter().find(|(partition, _)| *partition == kept).map(|(_, epoch)| *epoch)
    );
}

#[apply(lone_broker_test)]
fn a_revocation_that_is_not_drained_ends_at_its_deadline() {
    let topic = Topic::with_partitions(2);
    let first = Member::join_with(&topic, |setup| setup.config.shutdown.revoke_drain_ms = 300);
    first.assigned();
    let second = Member::join(&topic);

    first.wait("the end of the revocation", |events| events.iter().any(|event| event == "gone 1"));

    let (deadline, gone) = (first.revoked_deadline(), first.sink.gone_at());
    assert!(gone >= deadline, "the revocation ended before its deadline");
    assert!(gone < deadline + Duration::from_secs(2), "the revocation ended too late, by {:?}", gone - deadline);
    assert_eq!(second.assigned_some().len(), 1);
}

#[apply(broker_test)]
fn a_member_without_partitions_receives_an_empty_assignment() {
    let topic = Topic::with_partitions(1);
    let first = Member::join(&topic);
    first.assigned();
    let second = Member::join(&topic);
    second.wait("an empty assignment", |events| events.iter().any(|event| event == "assigned 0"));
}

#[apply(lone_broker_test)]
fn leaving_commits_applied_events_and_hands_over_at_once() {
    let topic = Topic::with_partitions(2);
    topic.fill(0, 10);
    topic.fill(1, 10);
    let first = Member::join_with(&topic, |setup| setup.config.kafka.session_timeout_ms = 60_000);
    let owned = first.assigned();
    first.start(&owned, 0);
    first.records(20);

    let began = now();
    first.source().leave();
    first.wait("the revocation", |events| events.iter().any(|event| event == "revoked 2"));
    topic.commit_in_a_transaction(&first, &[(0, 10), (1, 7)]);
    first.drain();
    first.wait("the end of the revocation", |events| events.iter().any(|event| event == "gone 2"));
    first.wait_for_end();

    let second = Member::join(&topic);
    assert_eq!(second.assigned().len(), 2, "the second member does not wait for the first member's session");
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!(topic.committed(), [Some(10), Some(7)]);
}

#[apply(broker_test)]
fn leaving_without_partitions_ends_the_thread() {
    let topic = Topic::with_partitions(1);
    let never_joined = Member::join(&topic);
    never_joined.source().leave();
    never_joined.wait_for_end();
}

#[apply(broker_test)]
fn events_that_retention_deleted_unread_are_reported_and_skipped() {
    let topic = Topic::with_partitions(1);
    topic.fill(0, 100);
    topic.delete_records_before(0, 40);
    let member = Member::join(&topic);
    let owned = member.assigned();
    member.start(&owned, 10);

    let records = member.records(60);

    assert!(member.log().contains(&"expired 0: 10 to 40".to_owned()), "{:?}", member.log());
    assert_eq!((records[0].offset, records[59].offset), (40, 99));
    assert!(records.iter().all(|record| record.epoch == owned[0].1));
}

#[apply(broker_test)]
fn the_position_in_a_log_that_retention_emptied_is_its_end() {
    let topic = Topic::with_partitions(1);
    topic.fill(0, 100);
    topic.delete_records_before(0, 100);
    let member = Member::join(&topic);

    member.start(&member.assigned(), 10);

    member.wait("the position at the log's end", |events| events.iter().any(|event| event == "position 0: 100"));
    let after_assignment: Vec<String> = member.log().split_off(1);
    assert_eq!(after_assignment, ["expired 0: 10 to 100", "position 0: 100"]);
    topic.fill(0, 1);
    assert_eq!(member.records(1)[0].offset, 100);
}

#[apply(broker_test)]
fn nothing_is_read_after_expired_events_that_stop_the_process() {
    let topic = Topic::with_partitions(1);
    topic.fill(0, 100);
    topic.delete_records_before(0, 40);
    let member = Member::join_with(&topic, |setup| setup.config.recovery.on_expired = OnExpired::Stop);

    member.start(&member.assigned(), 10);

    member.wait("the report of expired events", |events| events.iter().any(|event| event == "expired 0: 10 to 40"));
    let (expired_at, phase) = (now(), member.phase());
    member.wait("the poll thread continues to loop", |_| {
        phase.read().last_turn > expired_at + Duration::from_millis(1_500)
    });
    assert_eq!(member.log(), ["assigned 1", "expired 0: 10 to 40"]);
}

#[apply(broker_test)]
fn a_partition_whose_position_expired_can_be_started_at_another() {
    let topic = Topic::with_partitions(2);
    topic.fill(0, 100);
    topic.fill(1, 200);
    topic.delete_records_before(0, 40);
    let member = Member::join_with(&topic, |setup| setup.config.limits.max_batch_records = 10);
    let owned = member.assigned();
    member.refuse(Refused::AfterTheFirst);
    let (expired, other) = if owned[0].0 == Partition(0) { (owned[0], owned[1]) } else { (owned[1], owned[0]) };
    member.start(&[other], 0);
    member.wait("a batch is returned", |_| member.sink.refusals.load(Ordering::SeqCst) > 0);

    // The client finds that position 10 has expired, while the sink accepts nothing.
    member.start(&[expired], 10);
    member.wait("the client dropped the partition", |_| {
        let statistics = member.events.statistics.lock().expect("not poisoned");
        statistics.partitions.len() == 1
    });
    let new_epoch = member.ownership.invalidate(Partition(0), expired.1).expect("the epoch is current");
    member.source().hold(Partition(0));
    member.source().start(Partition(0), new_epoch, Position(50));
    member.refuse(Refused::Nothing);

    let records = member.records_of(Partition(0), 50);
    assert_eq!((records[0].offset, records[0].epoch, records[49].offset), (50, new_epoch, 99));
}

#[apply(broker_test)]
fn a_log_that_ends_before_the_position_stops_the_process() {
    let topic = Topic::with_partitions(1);
    topic.fill(0, 10);
    let member = Member::join(&topic);
    member.start(&member.assigned(), 500);
    let failure = member.failure();
    assert!(
        matches!(&failure, ConsumerFailure::Recreated { first: Position(500), end: Position(10), .. }),
        "{failure:?}"
    );
}

#[apply(broker_test)]
fn an_idle_position_is_past_the_transaction_marker() {
    let topic = Topic::with_partitions(1);
    topic.fill_in_a_transaction(0, 5);
    let member = Member::join(&topic);
    member.start(&member.assigned(), 0);
    member.records(5);
    member.wait("the position after the marker", |events| events.iter().any(|event| event == "position 0: 6"));
}

#[apply(broker_test)]
fn a_topic_with_more_partitions_than_at_the_start_stops_the_process() {
    let topic = Topic::with_partitions(3);
    let member = Member::join_with(&topic, |setup| setup.partition_count = 2);
    let failure = member.failure();
    assert!(matches!(failure, ConsumerFailure::PartitionsChanged { expected: 2, found: 3, .. }), "{failure}");
}

#[apply(broker_test)]
fn of_two_holders_of_an_instance_name_one_fails() {
    let topic = Topic::with_partitions(1);
    let same = |setup: &mut Setup| {
        setup.config.kafka.static_membership = true;
        setup.instance = "the-same".to_owned();
    };
    let first = Member::join_with(&topic, same);
    first.assigned();
    let second = Member::join_with(&topic, same);
    let failure = |member: &Member| member.sink.lock().failure.clone();
    first.wait("the failure of one", |_| failure(&first).or(failure(&second)).is_some());
    assert_eq!(failure(&first).or(failure(&second)), Some(ConsumerFailure::InstanceReplaced("the-same".to_owned())));
}

#[apply(lone_broker_test)]
fn a_member_that_stops_polling_loses_its_partitions() {
    let topic = Topic::with_partitions(1);
    let member = Member::join_with(&topic, |setup| {
        setup.config.kafka.session_timeout_ms = 6_000;
        setup.config.kafka.max_poll_interval_ms = 6_000;
    });
    let owned = member.assigned();
    topic.fill(0, 1);
    member.sink.blocked.store(true, Ordering::SeqCst);
    member.start(&owned, 0);
    let phase = member.phase();
    member.wait("the thread to stop for longer than the poll interval", |_| {
        now() > phase.read().last_turn + Duration::from_millis(7_500)
    });
    member.sink.blocked.store(false, Ordering::SeqCst);
    member.wait("the loss", |events| events.iter().any(|event| event == "lost 1"));
    assert!(!member.ownership.is_current(Partition(0), owned[0].1));
    member.wait("a new assignment", |events| events.iter().filter(|event| *event == "assigned 1").count() == 2);
}
