//! Brokers that take few bytes a second, or no records for now. The process goes on as fast as they permit, and says
//! why.

use std::time::Duration;

use crate::faults::number;
use crate::support::kafka::{Kafka, Outgoing};
use crate::support::ledger::{Ledger, wait_until_committed};
use crate::support::load::events;
use crate::support::names::{Names, random};
use crate::support::process::Setup;
use crate::support::proxy::{Api, CONCURRENT_TRANSACTIONS, NOT_ENOUGH_REPLICAS, ProxiedBroker};
use crate::support::quota::limit_producers;
use crate::support::wait::{PATIENCE, wait_until};
use crate::support::world::created_with_description;

const BYTES_A_SECOND: f64 = 20_000.0;
/// The broker measures a rate over the last 11 s, so that it takes as much at once.
const BURST_S: f64 = 11.0;
const EVENTS: u64 = 8_000;

#[apply(broker_test)]
fn a_producer_with_a_quota_goes_on_without_a_restart_and_the_log_names_it() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 1);
    let backlog: Vec<Outgoing> = (0..EVENTS).map(|id| created_with_description(id, &noise())).collect();
    kafka.produce(&names.input, &backlog);
    let client_id = format!("{}-a", names.group);
    limit_producers(&kafka, &client_id, Some(BYTES_A_SECOND));

    let mut steward = Setup::new(&kafka, &names).instance("a").start();
    let throttled = steward.wait_for_event_where("client_throttled", PATIENCE, |line| line["client"] == "producer");
    assert!(number(&throttled, "throttle_time_ms") > 0, "{throttled}");
    // What the broker takes at once is not the point.
    let bytes_of_event = 300.0;
    let beyond_the_burst = (1.4 * BURST_S * BYTES_A_SECOND / bytes_of_event) as i64;
    wait_until("events beyond the burst are committed", PATIENCE, || {
        assert!(steward.is_running(), "{}", steward.tail());
        kafka.committed(&names.group, &names.input)[0].is_some_and(|position| position > beyond_the_burst)
    });

    limit_producers(&kafka, &client_id, None);
    wait_until_committed(&kafka, &names, PATIENCE);
    steward.stop();
    steward.assert_no_errors_but(&[]);
    Ledger::of(&kafka, &names).assert_exact();
}

/// With one broker, too few replicas cannot be had: Kafka lowers the minimum to the number of replicas. So the responses
/// are changed on their way.
#[apply(own_broker_test)]
fn too_few_replicas_in_sync_are_named_and_waited_for_without_a_restart() {
    let broker = ProxiedBroker::start();
    let (kafka, names) = (broker.direct(), Names::new());
    kafka.create_input(&names, 1);
    let stall = Duration::from_secs(7);
    let mut steward = Setup::new(&broker.through(), &names)
        .set("kafka.session_timeout_ms", 6_000)
        .set("kafka.transaction_timeout_ms", 2_000)
        .set("health.stall_timeout_ms", i64::try_from(stall.as_millis()).expect("small"))
        .start();
    kafka.produce(&names.input, &events(1, 200, 10).collect::<Vec<Outgoing>>());
    wait_until_committed(&kafka, &names, PATIENCE);

    broker.proxy.refuse(Api::PRODUCE, Some(NOT_ENOUGH_REPLICAS));
    kafka.produce(&names.input, &events(2, 200, 10).collect::<Vec<Outgoing>>());
    let named = steward.wait_for_event("records_not_accepted", PATIENCE);
    assert_eq!(named["code"], "NOT_ENOUGH_REPLICAS", "{named}");
    assert!(named["topic"] == names.state || named["topic"] == names.dlq, "{named}");
    let aborted = steward.wait_for_event_where("transaction_aborted", PATIENCE, |line| {
        line["cause"].as_str().is_some_and(|cause| cause.contains("NOT_ENOUGH_REPLICAS"))
    });
    // Several attempts fail, for longer than the limit for a stall.
    let attempt = number(&aborted, "attempt");
    steward.wait_for_event_where("transaction_aborted", PATIENCE, |line| number(line, "attempt") >= attempt + 5);
    assert!(steward.is_running(), "{}", steward.tail());

    broker.proxy.refuse(Api::PRODUCE, None);
    wait_until_committed(&kafka, &names, PATIENCE);
    steward.stop();
    steward.assert_no_errors_but(&[]);
    assert!(broker.proxy.requests(Api::PRODUCE) > 0, "the client went another way");
    Ledger::of(&kafka, &names).assert_exact();
}

/// The coordinator cannot end a transaction while a broker that has to write its end does not respond. Another process
/// could do no better, so that a restart would help nobody.
#[apply(own_broker_test)]
fn a_coordinator_that_has_not_ended_the_last_transaction_is_waited_for_without_a_restart() {
    let broker = ProxiedBroker::start();
    let (kafka, names) = (broker.direct(), Names::new());
    kafka.create_input(&names, 1);
    let mut steward = Setup::new(&broker.through(), &names)
        .set("kafka.session_timeout_ms", 6_000)
        .set("health.stall_timeout_ms", 12_000)
        .start();
    kafka.produce(&names.input, &events(1, 200, 10).collect::<Vec<Outgoing>>());
    wait_until_committed(&kafka, &names, PATIENCE);

    broker.proxy.refuse(Api::INIT_PRODUCER_ID, Some(CONCURRENT_TRANSACTIONS));
    let in_doubt = broker.proxy.drop_request(Api::END_TXN);
    kafka.produce(&names.input, &events(2, 200, 10).collect::<Vec<Outgoing>>());
    in_doubt.wait();
    // Two attempts, of 10 s each, take longer than the limit for a stall.
    let failed = steward.wait_for_event_where("producer_reset_failed", PATIENCE, |line| number(line, "attempt") == 2);
    assert!(failed["cause"].as_str().is_some_and(|cause| cause.contains("ConcurrentTransactions")), "{failed}");
    assert!(steward.is_running(), "{}", steward.tail());

    broker.proxy.refuse(Api::INIT_PRODUCER_ID, None);
    wait_until_committed(&kafka, &names, PATIENCE);
    steward.stop();
    steward.assert_no_errors_but(&[]);
    Ledger::of(&kafka, &names).assert_exact();
}

/// A text that does not become much smaller by compression.
fn noise() -> String {
    (0..15).map(|_| format!("{:016x}", random())).collect()
}
