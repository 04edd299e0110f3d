//! How a process ends on a signal, in any state: within its limit, with its outcomes committed, and with its partitions
//! handed over at once. And how it ends if it cannot start.

use std::time::{Duration, Instant};

use serde_json::Value;
use steward::exit_code::ExitCode;

use crate::faults::{busy_with, hanging, number, small};
use crate::support::broker::Broker;
use crate::support::kafka::{Kafka, Outgoing};
use crate::support::ledger::Ledger;
use crate::support::load::{Load, events};
use crate::support::names::Names;
use crate::support::process::{Setup, Steward, all_log};
use crate::support::wait::{PATIENCE, now};

/// An exit that waits for nothing. Generous, because the machine may be busy.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Limit of a handover: far below the session timeout that an unannounced end would take.
const HAND_OVER: Duration = Duration::from_secs(2);
const LONG_SESSION_MS: i64 = 30_000;

// --------------------------------------------------------------------------------------------------- before serving

#[apply(offline_test)]
fn without_a_broker_the_start_fails_and_names_what_to_check() {
    // No process listens on port 1 of this machine.
    let (kafka, names) = (Kafka::at("127.0.0.1:1"), Names::new());
    let mut steward = Setup::new(&kafka, &names).set("kafka.topic_wait_ms", 0).start();

    assert_exit(&mut steward, ExitCode::KafkaUnavailable, PATIENCE);
    let failed = steward.wait_for_event("process_failed", PATIENCE);
    let error = failed["error"].as_str().unwrap_or_default();
    assert!(error.contains("127.0.0.1:1"), "does not name the address: {error}");
    assert!(error.contains("kafka.bootstrap_servers") || error.contains("check"), "no remedy: {error}");
    steward.assert_no_errors_but(&["preflight_refused", "process_failed"]);
}

/// As `steward run | cat` whose terminal is closed. A process that went on would be invisible. Without a controlling
/// terminal SIGHUP reloads the log level (logging::levels).
#[apply(offline_test)]
fn a_terminal_that_hangs_up_ends_the_process() {
    let (kafka, names) = (Kafka::at("127.0.0.1:1"), Names::new());
    let mut steward = Setup::new(&kafka, &names).on_terminal().start();
    steward.wait_for_event("topic_awaited", PATIENCE);

    steward.hang_up();

    assert_exit(&mut steward, ExitCode::Done, AT_ONCE);
    assert_eq!(steward.wait_for_event("process_stopping", PATIENCE)["cause"], "sighup");
    assert_eq!(steward.events("log_level_unchanged"), [Value::Null; 0]);
    steward.assert_no_errors_but(&[]);
}

#[apply(offline_test)]
fn a_process_under_nohup_outlives_its_terminal_and_reloads_its_level_on_sighup() {
    let (kafka, names) = (Kafka::at("127.0.0.1:1"), Names::new());
    let mut steward = Setup::new(&kafka, &names).on_terminal_with_nohup().start();
    steward.wait_for_event("topic_awaited", PATIENCE);

    steward.hang_up();
    steward.sighup();

    steward.wait_for_event("log_level_unchanged", PATIENCE);
    assert_eq!(steward.events("process_stopping"), [Value::Null; 0]);
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

#[apply(broker_test)]
fn sigterm_while_waiting_for_the_input_topic_ends_the_wait() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    let mut steward = Setup::new(&kafka, &names).start();

    let awaited = steward.wait_for_event("topic_awaited", PATIENCE);
    assert_eq!(awaited["topic"], names.input.as_str());
    steward.sigterm();
    assert_exit(&mut steward, ExitCode::Done, AT_ONCE);
    steward.assert_no_errors_but(&[]);
    assert_eq!(kafka.partition_count(&names.state), None, "nothing is created without the input topic");
}

#[apply(broker_test)]
fn a_missing_input_topic_ends_the_process_after_its_limit() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    let mut steward = Setup::new(&kafka, &names).set("kafka.topic_wait_ms", 1_000).start();

    assert_exit(&mut steward, ExitCode::TopicsRefused, PATIENCE);
    let refused = steward.wait_for_event("preflight_refused", PATIENCE);
    assert_eq!(refused["check"], "input_exists");
    let failed = steward.wait_for_event("process_failed", PATIENCE);
    assert!(failed["error"].as_str().is_some_and(|error| error.contains(&names.input)), "{failed}");
    let waited =
        refused["problem"].as_str().and_then(|problem| problem.split(' ').find_map(|word| word.parse::<u64>().ok()));
    assert!(waited.is_some_and(|waited_ms| waited_ms >= 1_000), "it did not wait: {refused}");
    assert!(steward.events("process_stopped").is_empty(), "that is logged at a clean end only; {}", steward.tail());
}

// ---------------------------------------------------------------------------------------------------- while serving

#[apply(lone_broker_test)]
fn sigterm_under_load_hands_the_partitions_over_at_once() {
    hands_over_at_once(Steward::sigterm, "sigterm");
}

#[apply(lone_broker_test)]
fn sigint_under_load_hands_the_partitions_over_at_once() {
    hands_over_at_once(Steward::sigint, "sigint");
}

fn hands_over_at_once(signal: fn(&Steward), name: &str) {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 4);
    kafka.produce(&names.input, &events(1, 500, 500).collect::<Vec<Outgoing>>());
    let setup = patient(Setup::new(&kafka, &names));
    let mut pods = [setup.start()];
    all_log(&mut pods, "partitions_assigned", PATIENCE);
    let [mut leaving] = pods;
    let mut staying = setup.start();
    staying.wait_for_event_where("partitions_assigned", PATIENCE, |event| number(event, "owned") == 2);
    let load = Load::on(&kafka, &names.input, 2, 500);
    leaving.wait_for_event_where("stats", PATIENCE, |stats| number(stats, "applied_total") > 1_000);

    signal(&leaving);
    assert_exit(&mut leaving, ExitCode::Done, AT_ONCE);
    let gone_at = now();
    staying.wait_for_event_where("partitions_assigned", PATIENCE, |event| number(event, "owned") == 4);
    assert_within(gone_at, HAND_OVER, "the others waited for the session timeout");
    assert_eq!(leaving.wait_for_event("process_stopping", PATIENCE)["cause"], name);
    assert_eq!(number(&leaving.wait_for_event("process_stopped", PATIENCE), "exit_code"), 0);

    load.stop();
    Ledger::of(&kafka, &names).assert_exact();
    staying.stop();
    leaving.assert_no_errors_but(&[]);
    staying.assert_no_errors_but(&[]);
}

#[apply(lone_broker_test)]
fn records_read_before_the_signal_are_committed_before_the_exit() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    let mut steward = busy_with(&kafka, &names, small(&kafka, &names));
    let load = Load::on(&kafka, &names.input, 2, 500);

    steward.sigterm();
    assert_exit(&mut steward, ExitCode::Done, AT_ONCE);
    load.stop();

    let last = steward.events("stats").pop().expect("the last stats");
    let committed: i64 = kafka.committed(&names.group, &names.input).into_iter().flatten().sum();
    let done = number(&last, "applied_total") + number(&last, "rejected_total");
    // The input has no transaction markers, so its offsets count its records.
    assert_eq!(committed.unsigned_abs(), done, "{last}");
    assert_eq!(number(&last, "events_total"), done, "something was read and not committed: {last}");
    assert_eq!(number(&last, "in_flight_bytes"), 0, "{last}");
    let all: i64 = kafka.ends(&names.input).iter().map(|ends| ends.high).sum();
    assert!(committed < all, "all was done before the signal, which shows nothing");
    assert_eq!(steward.events("stale_outcomes_dropped"), Vec::<Value>::new());
    steward.assert_no_errors_but(&[]);

    let mut next = Setup::new(&kafka, &names).start();
    Ledger::of(&kafka, &names).assert_exact();
    next.stop();
    next.assert_no_errors_but(&[]);
}

#[apply(broker_test)]
fn sigterm_while_a_restore_is_blocked_ends_it() {
    let (kafka, names, setup) = hanging::with_state();
    let open = hanging::open_transaction(&kafka, &names, 0);
    let mut steward = setup.start();
    steward.wait_for_event("recovery_blocked", PATIENCE);

    steward.sigterm();

    assert_exit(&mut steward, ExitCode::Done, AT_ONCE);
    drop(open);
    steward.assert_no_errors_but(&[]);
}

#[apply(broker_test)]
fn sigterm_without_partitions_ends_at_once() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 1);
    let setup = patient(Setup::new(&kafka, &names)).set("health.ready_settle_ms", 0);
    let mut owner = setup.start();
    owner.wait_for_event_where("became_ready", PATIENCE, |event| number(event, "assigned") == 1);
    let mut spare = setup.start();
    spare.wait_for_event_where("became_ready", PATIENCE, |event| number(event, "assigned") == 0);

    spare.sigterm();
    assert_exit(&mut spare, ExitCode::Done, AT_ONCE);

    kafka.produce(&names.input, &events(1, 100, 10).collect::<Vec<Outgoing>>());
    Ledger::of(&kafka, &names).assert_exact();
    owner.stop();
    owner.assert_no_errors_but(&[]);
    spare.assert_no_errors_but(&[]);
}

// ------------------------------------------------------------------------------------------ while the broker is away

#[apply(own_broker_test)]
fn a_second_signal_ends_a_drain_that_hangs() {
    let mut broker = Broker::own();
    let (kafka, names) = (broker.kafka(), Names::new());
    let mut steward = busy_with(&kafka, &names, small(&kafka, &names));
    broker.pause();

    steward.sigterm();
    let stopping = steward.wait_for_event("process_stopping", PATIENCE);
    assert_eq!(number(&stopping, "drain_timeout_ms"), 25_000);
    steward.sigterm();

    assert_exit(&mut steward, ExitCode::SecondSignal, AT_ONCE);
    assert!(!steward.heartbeat_file().exists(), "the heartbeat outlives its process");
    assert_eq!(steward.wait_for_event("second_signal", PATIENCE)["signal"], "sigterm");
    finish_elsewhere(&mut broker, &names);
}

#[apply(own_broker_test)]
fn a_drain_that_cannot_commit_ends_at_its_limit() {
    let mut broker = Broker::own();
    let (kafka, names) = (broker.kafka(), Names::new());
    let mut steward = busy_with(&kafka, &names, small(&kafka, &names).set("shutdown.drain_timeout_ms", 2_000));
    broker.pause();
    steward.wait_for_event_where("stats", PATIENCE, |stats| {
        number(stats, "in_flight_bytes") >= number(stats, "in_flight_limit_bytes")
    });

    steward.sigterm();
    let began = now();
    assert_exit(&mut steward, ExitCode::DrainTimedOut, Duration::from_secs(2) + AT_ONCE);
    assert!(began.elapsed() >= Duration::from_secs(2), "it did not wait for its limit");
    let failed = steward.wait_for_event("process_failed", PATIENCE);
    assert!(failed["error"].as_str().is_some_and(|error| error.contains("not committed")), "{failed}");
    steward.assert_no_errors_but(&["process_failed"]);
    finish_elsewhere(&mut broker, &names);
}

// ----------------------------------------------------------------------------------------------------------- helpers

/// A session so long that no partition moves because of its timeout.
fn patient(setup: Setup) -> Setup {
    setup
        .set("kafka.session_timeout_ms", LONG_SESSION_MS)
        .set("health.stall_timeout_ms", 60_000)
        .set("log.stats_interval_ms", 200)
}

#[track_caller]
fn assert_exit(steward: &mut Steward, expected: ExitCode, limit: Duration) {
    let code = steward.wait_exit(limit);
    assert_eq!(code, i32::from(expected.code()), "expected {}; {}", expected.name(), steward.tail());
}

#[track_caller]
fn assert_within(since: Instant, limit: Duration, otherwise: &str) {
    let took = now().saturating_duration_since(since);
    println!("took {took:?}, at most {limit:?}");
    assert!(took <= limit, "{otherwise}: {took:?}");
}

/// The broker comes back, and another process does the remaining work: nothing is lost or doubled.
fn finish_elsewhere(broker: &mut Broker, names: &Names) {
    broker.resume();
    let kafka = broker.kafka();
    let mut next = small(&kafka, names).start();
    Ledger::of(&kafka, names).assert_exact();
    next.stop();
    next.assert_no_errors_but(&[]);
}
