//! The watchdog: work without progress ends the process, and having no work never does.

use std::time::Duration;

use rdkafka::producer::Producer as _;
use serde_json::Value;
use steward::exit_code::ExitCode;
use steward::observability::heartbeat::Heartbeat;

use crate::faults::{busy_on, number, small};
use crate::support::broker::Broker;
use crate::support::kafka::{Kafka, Outgoing, send};
use crate::support::ledger::Ledger;
use crate::support::load::events;
use crate::support::names::{Names, unique};
use crate::support::process::{Setup, Steward, wait_for_log};
use crate::support::wait::{Deadline, PATIENCE, wait_until};

/// The minimum that the broker allows, and a watchdog limit just above it.
pub const SESSION_MS: i64 = 6_000;
pub const STALL_MS: i64 = 7_000;

#[apply(own_broker_test)]
fn work_without_progress_ends_the_process_and_the_log_names_it() {
    let mut broker = Broker::own();
    let (kafka, names) = (broker.kafka(), Names::new());
    // Of several partitions, one may have nothing in flight but its first position, which is no event to name.
    let mut steward = busy_on(1, &kafka, &names, with_short_stall_limit(small(&kafka, &names)));

    broker.pause();
    let code = steward.wait_exit(PATIENCE);
    assert_eq!(code, i32::from(ExitCode::Stalled.code()), "{}", steward.tail());

    assert!(!steward.heartbeat_file().exists(), "the heartbeat outlives its process");
    let stalled = steward.wait_for_event("progress_stalled", PATIENCE);
    assert_eq!(stalled["phase"], "commit", "{stalled}");
    assert!(stalled["waiting_for"].as_str().is_some_and(|what| !what.is_empty()), "{stalled}");
    assert!(number(&stalled, "partition") == 0 && stalled["offset"].as_u64().is_some(), "{stalled}");
    assert!(stalled["key"].as_str().is_some_and(|key| !key.is_empty()), "{stalled}");
    let limit_ms = u64::try_from(STALL_MS).expect("positive");
    assert_eq!(number(&stalled, "limit_ms"), limit_ms);
    assert!((limit_ms..limit_ms + 5_000).contains(&number(&stalled, "stalled_ms")), "{stalled}");
    let failed = steward.wait_for_event("process_failed", PATIENCE);
    assert_eq!(failed["exit_name"], "stalled");
    steward.assert_no_errors_but(&["progress_stalled", "process_failed"]);

    broker.resume();
    let mut next = small(&kafka, &names).start();
    Ledger::of(&kafka, &names).assert_exact();
    next.stop();
    next.assert_no_errors_but(&[]);
}

#[apply(broker_test)]
fn an_idle_topic_is_no_stall() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 2);
    kafka.produce(&names.input, &events(1, 50, 10).collect::<Vec<Outgoing>>());
    let mut steward = with_short_stall_limit(Setup::new(&kafka, &names)).set("log.stats_interval_ms", 1_000).start();
    Ledger::of(&kafka, &names).assert_exact();

    is_idle_for_longer_than_the_limit(&steward);
    kafka.produce(&names.input, &events(2, 50, 10).collect::<Vec<Outgoing>>());

    Ledger::of(&kafka, &names).assert_exact();
    assert_eq!(steward.events("progress_stalled"), Vec::<serde_json::Value>::new());
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

#[apply(broker_test)]
fn records_held_back_by_an_open_transaction_of_a_producer_are_reported_and_no_stall() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 1);
    kafka.produce(&names.input, &events(1, 50, 10).collect::<Vec<Outgoing>>());
    let setup = with_short_stall_limit(Setup::new(&kafka, &names)).set("health.open_transaction_ms", 3_000);
    let mut steward = setup.set("log.stats_interval_ms", 1_000).start();
    Ledger::of(&kafka, &names).assert_exact();

    let producer = kafka.transactional_producer_within(&unique("slow"), Duration::from_secs(900));
    producer.begin_transaction().expect("a new producer can begin");
    for (index, event) in events(2, 50, 10).enumerate() {
        send(&producer, &names.input, &event.to(0), index, Deadline::after(PATIENCE));
    }
    producer.flush(PATIENCE).expect("the broker takes it");
    assert_eq!(kafka.with_open_transactions(&names.input), [0]);
    is_idle_for_longer_than_the_limit(&steward);
    let held = steward.wait_for_event_where("stats", PATIENCE, |stats| number(stats, "lag_total") > 0);
    assert_eq!((number(&held, "lag_total"), held["behind_open_transaction"].as_str()), (50, Some("0:50")), "{held}");
    let warned = steward.wait_for_event("input_transaction_open", PATIENCE);
    assert_eq!((number(&warned, "partition"), number(&warned, "held_back")), (0, 50), "{warned}");
    assert_eq!(number(&warned, "last_stable"), 50, "{warned}");
    assert!((3_000..7_000).contains(&number(&warned, "open_ms")), "{warned}");
    let find = warned["find"].as_str().unwrap_or_default();
    assert!(find.contains("describe-producers --topic ") && find.contains("find-hanging"), "{find}");
    assert_eq!(steward.events("input_transaction_open").len(), 1, "{}", steward.tail());

    producer.commit_transaction(PATIENCE).expect("the broker commits it");
    Ledger::of(&kafka, &names).assert_exact();
    steward.wait_for_event_where("stats", PATIENCE, |stats| number(stats, "behind_open_transaction_total") == 0);
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

/// Markers and aborted records take offsets and hold no event. A process that starts before them reads no event at all.
#[apply(broker_test)]
fn aborted_records_after_the_last_event_are_no_stall() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 1);
    let producer = kafka.transactional_producer(&unique("aborts"));
    for index in 0..3 {
        producer.begin_transaction().expect("the last one has ended");
        send(&producer, &names.input, &events(1, 1, 1).next().expect("one").to(0), index, Deadline::after(PATIENCE));
        producer.flush(PATIENCE).expect("the broker takes it");
        producer.abort_transaction(PATIENCE).expect("an open transaction can be aborted");
    }

    let mut steward = with_short_stall_limit(Setup::new(&kafka, &names)).set("log.stats_interval_ms", 1_000).start();
    steward.wait_for_event("became_ready", PATIENCE);
    is_idle_for_longer_than_the_limit(&steward);
    assert_eq!(kafka.committed(&names.group, &names.input), [Some(6)], "three records and their markers");
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

#[apply(broker_test)]
fn a_process_without_partitions_is_no_stall() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 1);
    kafka.produce(&names.input, &events(1, 50, 10).collect::<Vec<Outgoing>>());
    let setup = with_short_stall_limit(Setup::new(&kafka, &names))
        .set("kafka.max_poll_interval_ms", STALL_MS)
        .set("health.join_timeout_ms", STALL_MS + 500)
        .set("log.stats_interval_ms", 1_000);
    let mut both = ["one", "other"].map(|name| setup.clone().instance(name).start());
    for steward in &mut both {
        steward.wait_for_event("became_ready", PATIENCE);
    }

    both.iter().for_each(is_idle_for_longer_than_the_limit);
    let serving = |steward: &Steward| steward.events("stats").pop().is_some_and(|stats| stats["serving"] != "");
    assert_eq!(both.iter().filter(|steward| serving(steward)).count(), 1, "one of them has no partition");
    for mut steward in both {
        assert!(steward.is_running(), "{}", steward.tail());
        steward.stop();
        steward.assert_no_errors_but(&[]);
    }
}

/// Without work there is no stall, but a process outside of the group must not look ready.
#[apply(own_broker_test)]
fn a_process_that_fell_out_of_the_group_is_not_ready_until_it_is_back() {
    let mut broker = Broker::own();
    let (kafka, names) = (broker.kafka(), Names::new());
    kafka.create_input(&names, 2);
    kafka.produce(&names.input, &events(1, 50, 10).collect::<Vec<Outgoing>>());
    let setup = Setup::new(&kafka, &names).set("kafka.session_timeout_ms", SESSION_MS);
    let mut steward = setup.set("health.ready_settle_ms", 500).start();
    steward.wait_for_event("became_ready", PATIENCE);
    Ledger::of(&kafka, &names).assert_exact();

    broker.pause();
    steward.wait_for_event("became_unready", PATIENCE);
    wait_until("the heartbeat is not ready", PATIENCE, || {
        Heartbeat::read(&steward.heartbeat_file()).is_ok_and(|beat| !beat.ready && beat.live)
    });
    broker.resume();

    steward.wait_for_event("became_ready", PATIENCE);
    kafka.produce(&names.input, &events(2, 50, 10).collect::<Vec<Outgoing>>());
    Ledger::of(&kafka, &names).assert_exact();
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

/// Waits until the process, by its own clock, was idle for longer than the limit.
fn is_idle_for_longer_than_the_limit(steward: &Steward) {
    let limit_ms = 2_000 + STALL_MS.unsigned_abs();
    wait_for_log(steward, "idle for long", PATIENCE, |lines| {
        assert!(!lines.iter().any(|line| line["event"] == "progress_stalled"), "it stalled; {}", steward.tail());
        let idle = lines.iter().rev().filter(|line| line["event"] == "stats");
        let is_idle = |stats: &Value| {
            let readable = number(stats, "lag_total") - number(stats, "behind_open_transaction_total");
            readable == 0 && number(stats, "transactions") == 0
        };
        let idle = idle.take_while(|stats| is_idle(stats));
        (idle.map(|stats| number(stats, "interval_ms")).sum::<u64>() > limit_ms).then_some(())
    });
}

pub fn with_short_stall_limit(setup: Setup) -> Setup {
    setup.set("kafka.session_timeout_ms", SESSION_MS).set("health.stall_timeout_ms", STALL_MS)
}
