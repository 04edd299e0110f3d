//! Entities are passivated and come back, and readiness waits until an assignment has settled.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use steward::observability::heartbeat::{Heartbeat, ProbeResult};

use crate::faults::number;
use crate::support::kafka::{Kafka, Outgoing};
use crate::support::ledger::Ledger;
use crate::support::load::events;
use crate::support::names::Names;
use crate::support::process::Setup;
use crate::support::wait::{PATIENCE, unix_ms, wait_for, wait_until};

#[apply(broker_test)]
fn entities_are_passivated_and_come_back_unchanged() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 3);
    let mut steward = Setup::new(&kafka, &names)
        .set("limits.entity_idle_ms", 300)
        .set("limits.max_active_entities", 100)
        .set("limits.max_batch_records", 500)
        .set("log.stats_interval_ms", 200)
        .start();
    let all: Vec<Outgoing> = events(1, 15_000, 3_000).collect();

    for wave in all.chunks(5_000) {
        kafka.produce(&names.input, wave);
        let ledger = Ledger::of(&kafka, &names).assert_exact();
        let live = ledger.model.state().len() as u64;
        assert!(live > 50, "too few for a meaningful test: {live}");
        let all_passivated =
            |line: &Value| number(line, "entities_active") == 0 && number(line, "entities_passivated") == live;
        let stats = steward.wait_for_event_where("stats", PATIENCE, all_passivated);
        assert!(number(&stats, "state_bytes") > 100 * live, "{stats}");
    }

    let lines = steward.events("stats");
    assert!(lines.iter().any(|line| number(line, "entities_active") > 0), "no entity was ever active");
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

#[apply(broker_test)]
fn the_heartbeat_is_ready_once_settled_and_is_removed_with_the_process() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 1);
    let settle_ms = 2_500_i64;
    let mut steward = Setup::new(&kafka, &names).set("health.ready_settle_ms", settle_ms).start();
    let file = steward.heartbeat_file();

    let assigned = steward.wait_for_event("partitions_assigned", PATIENCE);
    assert_eq!(number(&assigned, "owned"), 1);
    let first = wait_for("a heartbeat", PATIENCE, || Heartbeat::read(&file).ok());
    assert!(!first.ready && first.live, "ready before it has settled: {first:?}");
    let ready = wait_for("ready", PATIENCE, || Heartbeat::read(&file).ok().filter(|beat| beat.ready));
    let became_ready = steward.wait_for_event("became_ready", PATIENCE);
    assert!(number(&became_ready, "took_ms") >= settle_ms.unsigned_abs(), "{became_ready}");
    assert!(matches!(judged(&file), ProbeResult::Healthy(_)), "{ready:?}");
    wait_until("the next beat", PATIENCE, || {
        Heartbeat::read(&file).is_ok_and(|beat| beat.written_unix_ms > ready.written_unix_ms)
    });

    steward.stop();
    assert!(!file.exists(), "the file outlives its process");
    assert_eq!(steward.wait_for_event("became_unready", PATIENCE)["cause"], "stopping");
}

fn judged(file: &Path) -> ProbeResult {
    let beat = Heartbeat::read(file).expect("it existed a moment ago, and is replaced atomically");
    beat.check_ready(unix_ms(), Duration::from_secs(5))
}
