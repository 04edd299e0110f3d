//! The watchdog: work that does not move ends the process, and nothing to do never does.

use libtest_mimic::Trial;
use steward::exit_code::ExitCode;
use steward::heartbeat::Heartbeat;

use crate::faults::{busy_with, number, small};
use crate::support::broker::Broker;
use crate::support::kafka::{Kafka, Outgoing};
use crate::support::ledger::Ledger;
use crate::support::load::events;
use crate::support::names::Names;
use crate::support::process::{Setup, wait_for_log};
use crate::support::wait::{PATIENCE, wait_until};

pub fn trials() -> Vec<Trial> {
    let mut trials = broker_trials![Own:
        work_that_does_not_move_ends_the_process_and_the_log_says_where,
        a_process_that_fell_out_of_the_group_is_not_ready_until_it_is_back,
    ];
    trials.extend(broker_trials![Shared: an_idle_topic_is_no_stall]);
    trials
}

/// The least that the broker allows, and the watchdog right behind it.
const SESSION_MS: i64 = 6_000;
const STALL_MS: i64 = 7_000;

fn work_that_does_not_move_ends_the_process_and_the_log_says_where() {
    let mut broker = Broker::own();
    let (kafka, names) = (broker.kafka(), Names::new());
    let mut steward = busy_with(&kafka, &names, vigilant(small(&kafka, &names)));

    broker.pause();
    let code = steward.wait_exit(PATIENCE);
    assert_eq!(code, i32::from(ExitCode::Stalled.code()), "{}", steward.tail());

    assert!(!steward.heartbeat_file().exists(), "the heartbeat outlives its process");
    let stalled = steward.wait_for_event("progress_stalled", PATIENCE);
    assert_eq!(stalled["phase"], "commit", "{stalled}");
    assert!(stalled["waiting_for"].as_str().is_some_and(|what| !what.is_empty()), "{stalled}");
    assert!(number(&stalled, "partition") < 3 && stalled["offset"].as_u64().is_some(), "{stalled}");
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

fn an_idle_topic_is_no_stall() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 2);
    kafka.produce(&names.input, &events(1, 50, 10).collect::<Vec<Outgoing>>());
    let mut steward = vigilant(Setup::new(&kafka, &names)).set("log.stats_interval_ms", 1_000).start();
    Ledger::of(&kafka, &names).assert_exact();

    // Its own clock says that it was idle for longer than the limit.
    let limit_ms = 2_000 + u64::try_from(STALL_MS).expect("positive");
    wait_for_log(&steward, "idle for long", PATIENCE, |lines| {
        let idle = lines.iter().rev().filter(|line| line["event"] == "stats");
        let idle = idle.take_while(|stats| number(stats, "lag_total") == 0 && number(stats, "transactions") == 0);
        (idle.map(|stats| number(stats, "interval_ms")).sum::<u64>() > limit_ms).then_some(())
    });
    kafka.produce(&names.input, &events(2, 50, 10).collect::<Vec<Outgoing>>());

    Ledger::of(&kafka, &names).assert_exact();
    assert_eq!(steward.events("progress_stalled"), Vec::<serde_json::Value>::new());
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

/// There is nothing to do, so that nothing stalls; but a process that nobody counts on must not look ready.
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
    wait_until("the heartbeat says so, too", PATIENCE, || {
        Heartbeat::read(&steward.heartbeat_file()).is_ok_and(|beat| !beat.ready && beat.live)
    });
    broker.resume();

    steward.wait_for_event("became_ready", PATIENCE);
    kafka.produce(&names.input, &events(2, 50, 10).collect::<Vec<Outgoing>>());
    Ledger::of(&kafka, &names).assert_exact();
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

fn vigilant(setup: Setup) -> Setup {
    setup.set("kafka.session_timeout_ms", SESSION_MS).set("health.stall_timeout_ms", STALL_MS)
}
