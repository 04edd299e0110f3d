//! Brokers that cannot write to a topic, because too few replicas of it are in sync: on a cluster, whose coordinator
//! cannot end a transaction either.

use std::time::Duration;

use crate::faults::number;
use crate::support::broker::{Cluster, NodeId};
use crate::support::kafka::Outgoing;
use crate::support::ledger::{Ledger, wait_until_committed};
use crate::support::load::events;
use crate::support::names::Names;
use crate::support::process::Setup;
use crate::support::wait::PATIENCE;

/// Longer than a registration, whose failure shows that the brokers still refuse.
const STALL: Duration = Duration::from_secs(15);
const STOPPED: NodeId = 3;

#[apply(cluster_test)]
fn a_topic_below_its_minimum_of_replicas_is_named_and_waited_for_without_a_restart() {
    let mut cluster = Cluster::own();
    let (kafka, names) = (cluster.kafka(), Names::new());
    kafka.create_input(&names, 1);
    // Two replicas, both of which have to be in sync.
    let configs = [("cleanup.policy", "compact"), ("delete.retention.ms", "315360000000")];
    kafka.create_topic_on(&names.state, &[&[1, STOPPED]], &configs);
    let mut steward = Setup::new(&kafka, &names)
        .set("kafka.session_timeout_ms", 6_000)
        .set("kafka.transaction_timeout_ms", 2_000)
        .set("health.stall_timeout_ms", i64::try_from(STALL.as_millis()).expect("small"))
        .start();
    kafka.produce(&names.input, &events(1, 200, 10).collect::<Vec<Outgoing>>());
    wait_until_committed(&kafka, &names, PATIENCE);

    cluster.stop(STOPPED);
    kafka.produce(&names.input, &events(2, 200, 10).collect::<Vec<Outgoing>>());
    let named = steward.wait_for_event("records_not_accepted", PATIENCE);
    assert_eq!((&named["topic"], &named["code"]), (&names.state.as_str().into(), &"NOT_ENOUGH_REPLICAS".into()));
    // Longer than the limit for a stall.
    steward.wait_for_event_where("producer_reset_failed", PATIENCE, |line| number(line, "attempt") >= 2);
    assert!(steward.is_running(), "{}", steward.tail());

    cluster.start(STOPPED);
    wait_until_committed(&kafka, &names, PATIENCE);
    steward.stop();
    steward.assert_no_errors_but(&[]);
    Ledger::of(&kafka, &names).assert_exact();
}
