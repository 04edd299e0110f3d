//! A transaction that another producer leaves open on the state topic blocks recovery.

use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::producer::Producer as _;
use rdkafka::{Offset, TopicPartitionList};
use steward::exit_code::ExitCode;

use crate::faults::number;
use crate::support::kafka::{Kafka, Outgoing, Producer, record, send};
use crate::support::ledger::Ledger;
use crate::support::load::events;
use crate::support::member::Member;
use crate::support::names::{Names, unique};
use crate::support::process::{Setup, Steward};
use crate::support::wait::{Deadline, PATIENCE};

/// Added to the transaction timeout.
const MARGIN_MS: u64 = 15_000;

#[apply(broker_test)]
fn a_recovery_blocked_by_an_open_transaction_reports_it_and_continues_after_it() {
    let (kafka, names, setup) = with_state();
    let open = open_transaction(&kafka, &names, 0);
    let mut steward = setup.start();

    let blocked = steward.wait_for_event("recovery_blocked", PATIENCE);
    assert_eq!(blocked["topic"], names.state.as_str(), "{blocked}");
    assert_eq!(number(&blocked, "partition"), 0, "{blocked}");
    assert!(number(&blocked, "waited_ms") >= 2_000, "{blocked}");
    assert_eq!(number(&blocked, "limit_ms"), 10_000 + MARGIN_MS, "{blocked}");
    assert!(blocked["position"].as_u64() < blocked["until"].as_u64(), "{blocked}");
    // The other partition serves: the blocked one does not delay it.
    steward.wait_for_event_where("recovery_finished", PATIENCE, |event| number(event, "partition") == 1);
    let further: Vec<Outgoing> = events(2, 500, 50).collect();
    kafka.produce(&names.input, &further);
    steward.wait_for_event_where("stats", PATIENCE, |stats| number(stats, "applied_total") > 0);
    assert!(recovered(&steward, 0).is_none(), "partition 0 serves before its state is read; {}", steward.tail());

    open.abort_transaction(PATIENCE).expect("an open transaction can be aborted");

    steward.wait_for_event_where("recovery_finished", PATIENCE, |event| number(event, "partition") == 0);
    Ledger::of(&kafka, &names).assert_exact();
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

/// The offsets of a transaction are held back until its end is written to all partitions.
#[apply(broker_test)]
fn a_recovery_whose_committed_offset_is_held_back_by_an_open_transaction_reports_it() {
    let (kafka, names, setup) = with_state();
    let open = hold_offset_back(&kafka, &names);

    let mut steward = setup.start();
    let blocked = steward.wait_for_event_where("recovery_blocked", PATIENCE, |line| number(line, "partition") == 1);
    assert_eq!(blocked["topic"], names.input.as_str(), "{blocked}");
    assert!(number(&blocked, "waited_ms") >= 2_000, "{blocked}");
    assert_eq!(number(&blocked, "limit_ms"), 10_000 + MARGIN_MS, "{blocked}");
    assert_eq!((blocked.get("position"), blocked.get("until")), (None, None), "{blocked}");

    open.abort_transaction(PATIENCE).expect("an open transaction can be aborted");

    Ledger::of(&kafka, &names).assert_exact();
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

#[apply(broker_test)]
fn an_offset_held_back_for_longer_than_its_limit_ends_the_process_and_names_the_cause() {
    let (kafka, names, setup) = with_state();
    let _open = hold_offset_back(&kafka, &names);
    let mut steward = setup.set("kafka.transaction_timeout_ms", 1_000).start();

    let code = steward.wait_exit(PATIENCE);
    assert_eq!(code, i32::from(ExitCode::HangingTransaction.code()), "{}", steward.tail());
    let failed = steward.wait_for_event("process_failed", PATIENCE);
    let error = failed["error"].as_str().unwrap_or_default();
    for part in [&names.input, "partition 1", "committed offset", "held back", "find-hanging"] {
        assert!(error.contains(part), "no {part} in {error}");
    }
    steward.assert_no_errors_but(&["process_failed"]);
}

#[apply(broker_test)]
fn a_transaction_open_for_longer_than_its_limit_ends_the_process() {
    let (kafka, names, setup) = with_state();
    let _open = open_transaction(&kafka, &names, 0);
    let mut steward = setup.set("kafka.transaction_timeout_ms", 1_000).start();

    let blocked = steward.wait_for_event("recovery_blocked", PATIENCE);
    let limit_ms = number(&blocked, "limit_ms");
    assert_eq!(limit_ms, 1_000 + MARGIN_MS);

    let code = steward.wait_exit(PATIENCE);
    assert_eq!(code, i32::from(ExitCode::HangingTransaction.code()), "{}", steward.tail());
    let waited_ms = steward.events("recovery_blocked").iter().map(|line| number(line, "waited_ms")).max();
    assert!(waited_ms.is_some_and(|waited| waited > limit_ms / 2 && waited <= limit_ms + 1_000), "{waited_ms:?}");
    let failed = steward.wait_for_event("process_failed", PATIENCE);
    let error = failed["error"].as_str().unwrap_or_default();
    assert!(error.contains("find-hanging"), "no remedy in {error}");
    assert!(error.contains("partition 0"), "{error}");
    steward.assert_no_errors_but(&["process_failed"]);
}

// ----------------------------------------------------------------------------------------------------------- helpers

/// Two partitions with state and without an owner.
pub fn with_state() -> (Kafka, Names, Setup) {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 2);
    kafka.produce(&names.input, &events(1, 500, 50).collect::<Vec<_>>());
    let setup = Setup::new(&kafka, &names).set("log.stats_interval_ms", 200);
    let mut first = setup.start();
    Ledger::of(&kafka, &names).assert_exact();
    first.stop();
    (kafka, names, setup)
}

/// A record in an open transaction with a timeout of 15 minutes.
pub fn open_transaction(kafka: &Kafka, names: &Names, partition: i32) -> Producer {
    let producer = kafka.transactional_producer_within(&unique("hanging"), Duration::from_secs(900));
    producer.begin_transaction().expect("a new producer can begin");
    send(&producer, &names.state, &record("1", "{}").to(partition), 0, Deadline::after(PATIENCE));
    producer.flush(PATIENCE).expect("the broker takes it");
    producer
}

/// A transaction with an offset of partition 1, open for 15 minutes.
fn hold_offset_back(kafka: &Kafka, names: &Names) -> Producer {
    let open = kafka.transactional_producer_within(&unique("hanging"), Duration::from_secs(900));
    open.begin_transaction().expect("a new producer can begin");
    let member = Member::joins(kafka, &names.group, &names.input);
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&names.input, 1, Offset::Offset(1)).expect("a valid offset");
    let metadata = member.consumer.group_metadata().expect("it has joined");
    open.send_offsets_to_transaction(&offsets, &metadata, PATIENCE).expect("the member is of the present generation");
    open
}

fn recovered(steward: &Steward, partition: u64) -> Option<serde_json::Value> {
    steward.events("recovery_finished").into_iter().find(|event| number(event, "partition") == partition)
}
