//! Recoveries that take long, and brokers that do not respond to one: what is logged, and that the recovery completes.

use std::time::Duration;

use serde_json::Value;

use super::stalls::{STALL_MS, with_short_stall_limit};
use crate::faults::number;
use crate::support::broker::Broker;
use crate::support::kafka::Kafka;
use crate::support::ledger::Ledger;
use crate::support::load::events;
use crate::support::names::Names;
use crate::support::process::{Setup, Steward};
use crate::support::proxy::{Api, ClientSees, ProxiedBroker};
use crate::support::wait::{Deadline, PATIENCE, wait_until};

/// A partition without an owner, whose state has one snapshot per batch.
fn with_state_in_many_batches() -> (ProxiedBroker, Kafka, Names) {
    let (broker, names) = (ProxiedBroker::start(), Names::new());
    let kafka = broker.direct();
    kafka.create_input(&names, 1);
    kafka.produce(&names.input, &events(1, 500, 50).collect::<Vec<_>>());
    let mut first = Setup::new(&kafka, &names).env("STEWARD__KAFKA__PROPERTIES__BATCH_NUM_MESSAGES", "1").start();
    Ledger::of(&kafka, &names).assert_exact();
    first.stop();
    (broker, kafka, names)
}

/// Each fetch is delayed and brings one record: the recovery makes progress all the time, and takes long.
#[apply(own_broker_test)]
fn a_long_recovery_reports_its_progress() {
    let (broker, kafka, names) = with_state_in_many_batches();
    let mut steward =
        Setup::new(&broker.through(), &names).env("STEWARD__KAFKA__PROPERTIES__FETCH_MESSAGE_MAX_BYTES", "1").start();

    let progress_line = |steward: &Steward| steward.events("recovery_progress").into_iter().next();
    let limit = Deadline::after(PATIENCE);
    let progress: Value = loop {
        if let Some(line) = progress_line(&steward) {
            break line;
        }
        assert!(!limit.passed(), "a long recovery logs no progress; {}", steward.tail());
        let fetch = broker.proxy.hold(Api::FETCH, ClientSees::Silence);
        fetch.wait();
        let slow = Deadline::after(Duration::from_millis(700));
        wait_until("the fetch has been held for a while", PATIENCE, || slow.passed());
        fetch.release();
    };

    let (position, until) = (number(&progress, "position"), number(&progress, "until"));
    assert_eq!((number(&progress, "partition"), &progress["phase"]), (0, &Value::from("state")), "{progress}");
    assert!(0 < position && position < until, "{progress}");
    assert_eq!(number(&progress, "percent"), position * 100 / until, "{progress}");
    assert!(number(&progress, "elapsed_ms") >= 5_000, "{progress}");
    assert!(steward.events("recovery_blocked").is_empty(), "it was never blocked; {}", steward.tail());

    steward.wait_for_event("recovery_finished", PATIENCE);
    kafka.produce(&names.input, &events(2, 500, 50).collect::<Vec<_>>());
    Ledger::of(&kafka, &names).assert_exact();
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

/// The broker delays its responses to a client above its quota, for longer than a transaction or the watchdog's limit,
/// and leaves the records out of them. No transaction is open.
#[apply(own_broker_test)]
fn a_recovery_that_a_quota_starves_goes_on_and_names_no_transaction() {
    let (broker, names) = (Broker::own(), Names::new());
    let kafka = broker.kafka();
    kafka.create_input(&names, 1);
    kafka.produce(&names.input, &events(1, 4_000, 4_000).collect::<Vec<_>>());
    let mut first = Setup::new(&kafka, &names).start();
    Ledger::of(&kafka, &names).assert_exact();
    first.stop();
    let default = ["--alter", "--entity-type", "clients", "--entity-default"];
    let quota = |change: &[&str]| broker.configs_tool(&[&default[..], change].concat());
    quota(&["--add-config", "consumer_byte_rate=22000"]);

    let mut steward =
        with_short_stall_limit(Setup::new(&kafka, &names)).set("kafka.transaction_timeout_ms", 1_000).start();
    let slow = steward.wait_for_event("recovery_slow", PATIENCE);
    // The state fits into the quota, and the input that is verified does not.
    assert_eq!((number(&slow, "partition"), slow["topic"].as_str()), (0, Some(names.input.as_str())), "{slow}");
    assert!(number(&slow, "waited_ms") >= 5_000 && number(&slow, "position") < number(&slow, "until"), "{slow}");
    assert!(number(&slow, "throttled_ms") > 1_000, "{slow}");
    steward.wait_for_event_where("client_throttled", PATIENCE, |line| line["client"] == "reader");
    let outlasted = Deadline::after(Duration::from_millis(STALL_MS.unsigned_abs() + 2_000));
    wait_until("the watchdog's limit is over", PATIENCE, || {
        assert!(steward.is_running(), "it ended; {}", steward.tail());
        outlasted.passed()
    });
    assert!(steward.events("recovery_finished").is_empty(), "the quota starved nothing; {}", steward.tail());
    quota(&["--delete-config", "consumer_byte_rate"]);

    steward.wait_for_event("recovery_finished", PATIENCE);
    assert!(steward.events("recovery_blocked").is_empty(), "no transaction was open; {}", steward.tail());
    Ledger::of(&kafka, &names).assert_exact();
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

#[apply(own_broker_test)]
fn a_request_without_a_response_is_repeated_on_another_connection() {
    let (broker, kafka, names) = with_state_in_many_batches();
    let unanswered = broker.proxy.hold(Api::OFFSET_FETCH, ClientSees::Silence);
    let mut steward = Setup::new(&broker.through(), &names).start();

    steward.wait_for_event("recovery_finished", PATIENCE);
    assert!(steward.events("recovery_failed").is_empty(), "{}", steward.tail());
    unanswered.release();
    Ledger::of(&kafka, &names).assert_exact();
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

/// No connection brings a response, for longer than a transaction and its coordinator may take: then a recovery gives
/// up.
#[apply(own_broker_test)]
fn a_recovery_without_a_response_fails_and_starts_again() {
    // Far more than are made within the limit.
    const CONNECTIONS: usize = 50;
    let (broker, kafka, names) = with_state_in_many_batches();
    let hold = |_| broker.proxy.hold(Api::OFFSET_FETCH, ClientSees::Silence);
    let unanswered: Vec<_> = (0..CONNECTIONS).map(hold).collect();
    let mut steward = Setup::new(&broker.through(), &names).set("kafka.transaction_timeout_ms", 1_000).start();

    let failed = steward.wait_for_event("recovery_failed", PATIENCE);
    assert_eq!((number(&failed, "partition"), number(&failed, "attempt")), (0, 1), "{failed}");
    let error = failed["error"].as_str().unwrap_or_default();
    assert!(error.contains("committed offset of partition 0"), "{error}");
    assert!(steward.events("recovery_finished").is_empty(), "it serves without its state; {}", steward.tail());
    for request in unanswered {
        request.release_or_cancel();
    }

    steward.wait_for_event("recovery_finished", PATIENCE);
    assert_eq!(steward.events("recovery_started").len(), steward.events("recovery_failed").len() + 1);
    kafka.produce(&names.input, &events(2, 500, 50).collect::<Vec<_>>());
    Ledger::of(&kafka, &names).assert_exact();
    steward.stop();
    steward.assert_no_errors_but(&[]);
}
