//! Standard output that is not read: the process works, its probe passes, and it ends as usual. The unit tests of the
//! writer are in `writer`.

use std::time::Duration;

use serde_json::Value;

use crate::support::kafka::Kafka;
use crate::support::ledger::{Ledger, wait_until_committed};
use crate::support::load::events;
use crate::support::names::Names;
use crate::support::process::{Setup, Steward};
use crate::support::wait::{PATIENCE, wait_until};

/// Far below `shutdown.drain_timeout_ms`.
const AT_ONCE: Duration = Duration::from_secs(5);

#[apply(offline_test)]
fn a_process_whose_log_is_not_read_ends_on_a_signal() {
    let mut steward = chatty(Setup::new(&Kafka::at("127.0.0.1:1"), &Names::new())).start();
    steward.wait_for_event("topic_awaited", PATIENCE);
    steward.pause_reading();
    wait_until("lines are not read", PATIENCE, || steward.unread_bytes() > 0);

    steward.sigterm();

    // The reader goes on when the process has ended, and finds whole lines.
    assert_eq!(steward.wait_exit(AT_ONCE), 0, "{}", steward.tail());
    steward.assert_no_errors_but(&[]);
}

#[apply(offline_test)]
fn a_start_that_fails_ends_although_its_line_is_not_read() {
    let setup = Setup::new(&Kafka::at("127.0.0.1:1"), &Names::new()).with_full_output();
    let wrong_value = setup.clone().set("log.level", "deafening");
    let no_topic = setup.set("kafka.topic_wait_ms", 0);
    for (setup, code) in [(wrong_value, 3), (no_topic, 5)] {
        let mut steward = setup.start();
        assert_eq!(steward.wait_exit(PATIENCE), code, "{}", steward.tail());
    }
}

#[apply(offline_test)]
fn a_non_blocking_output_gets_whole_lines() {
    let setup = chatty(Setup::new(&Kafka::at("127.0.0.1:1"), &Names::new())).with_non_blocking_output();
    let mut steward = setup.start();
    for round in 0..5 {
        steward.pause_reading();
        wait_until("lines are not read", PATIENCE, || steward.unread_bytes() > 0);
        steward.resume_reading();
        wait_until(&format!("lines are read in round {round}"), PATIENCE, || steward.unread_bytes() == 0);
    }
    steward.stop();
    assert_whole_lines(&steward);
}

#[apply(broker_test)]
fn a_log_that_is_not_read_stops_no_work_and_the_dropped_lines_are_counted() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 2);
    let setup = chatty(Setup::new(&kafka, &names)).set("log.max_queued_bytes", 65_536);
    let mut steward = setup.set("health.ready_settle_ms", 100).start();
    kafka.produce(&names.input, &events(1, 20, 5).collect::<Vec<_>>());
    wait_until("ready", PATIENCE, || steward.is_ready());

    steward.pause_reading();
    kafka.produce(&names.input, &events(2, 5_000, 100).collect::<Vec<_>>());
    wait_until_committed(&kafka, &names, PATIENCE);
    let live = steward.health("live", &["--max-age-ms", "3000"]);
    assert_eq!(live.code, 0, "{}", live.line);
    assert!(steward.is_running());

    steward.resume_reading();
    let gap = steward.wait_for_event("log_lines_dropped", PATIENCE);
    assert!(gap["dropped_lines"].as_u64().is_some_and(|lines| lines > 0), "{gap}");
    assert_eq!(gap["level"], "WARN");
    steward.stop();
    Ledger::of(&kafka, &names).assert_exact();
    assert_whole_lines(&steward);
    steward.assert_no_errors_but(&[]);
}

// ----------------------------------------------------------------------------------------------------------- helpers

/// Writes many lines even without a broker.
fn chatty(setup: Setup) -> Setup {
    setup.set("log.level", "trace").set("kafka.properties", toml::toml! { debug = "all" })
}

#[track_caller]
fn assert_whole_lines(steward: &Steward) {
    let output = steward.output();
    let cut: Vec<&str> =
        output.lines().filter(|line| !serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object())).collect();
    assert!(cut.is_empty(), "not JSON objects: {cut:#?}");
}
