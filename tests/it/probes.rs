//! The probes when the real program has a problem: `live` fails only if a restart helps, `ready` fails if the process
//! does not serve. The rules of the heartbeat are tested in `cli`, a fenced process in `start`, and a process that left
//! its group in `faults`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rdkafka::producer::Producer as _;
use steward::exit_code::ExitCode;
use steward::observability::heartbeat::{Heartbeat, ProbeResult};

use crate::cli::{steward, writer};
use crate::faults::hanging::{open_transaction, with_state};
use crate::faults::number;
use crate::support::frozen::FrozenThread;
use crate::support::kafka::{Kafka, Outgoing};
use crate::support::ledger::Ledger;
use crate::support::load::events;
use crate::support::names::Names;
use crate::support::process::{Setup, Steward};
use crate::support::wait::{PATIENCE, wait_until};

const HEALTHY: i32 = 0;
/// The exit code of a probe that fails.
const UNHEALTHY: i32 = 15;
/// The shortest session timeout that the broker allows. The watchdog's limit is slightly longer.
const SESSION_MS: i64 = 6_000;
const STALL_MS: i64 = 7_000;

#[apply(broker_test)]
fn a_poll_loop_that_hangs_ends_the_process_and_is_named() {
    let (kafka, names, mut process) = serving();
    let frozen = FrozenThread::of(process.pid(), "consumer");

    let stalled = wait_for_stall(&mut process);
    assert_eq!(stalled["phase"], "poll", "{stalled}");
    drop(frozen);

    assert_next_process_is_exact(&kafka, &names);
}

#[apply(broker_test)]
fn a_commit_that_hangs_ends_the_process_and_is_named() {
    let (kafka, names, mut process) = serving();
    let frozen = FrozenThread::of(process.pid(), "commit");
    // The member still sends heartbeats to the group, but its work makes no progress.
    kafka.produce(&names.input, &events(2, 500, 50).collect::<Vec<Outgoing>>());

    let stalled = wait_for_stall(&mut process);
    assert_eq!(stalled["phase"], "commit", "{stalled}");
    assert!(stalled["partition"].is_u64() && stalled["offset"].is_u64(), "{stalled}");
    drop(frozen);

    assert_next_process_is_exact(&kafka, &names);
}

#[apply(broker_test)]
fn a_suspended_process_is_neither_live_nor_ready_until_it_continues() {
    let (_kafka, _names, mut process) = serving();
    assert_eq!(process.health("live", &[]).code, HEALTHY);
    assert_eq!(process.health("ready", &[]).code, HEALTHY);

    process.sigstop();
    let strict = ["--max-age-ms", "2000"];
    for which in ["live", "ready"] {
        wait_until(&format!("{which} fails"), PATIENCE, || process.health(which, &strict).code == UNHEALTHY);
        let line = process.health(which, &strict).line;
        assert!(line.starts_with(&format!("not {which}: ")) && line.contains("ms old"), "{line}");
    }
    process.sigcont();

    for which in ["live", "ready"] {
        wait_until(&format!("{which} passes"), PATIENCE, || process.health(which, &strict).code == HEALTHY);
    }
    process.stop();
    process.assert_no_errors_but(&[]);
}

/// The probe reads a new heartbeat each time, so a long restore does not lead to a restart.
#[apply(broker_test)]
fn a_restore_that_is_blocked_for_long_is_live_and_not_ready() {
    let (kafka, names, setup) = with_state();
    let open = open_transaction(&kafka, &names, 0);
    let mut process = setup.set("health.ready_settle_ms", 100).start();
    process.wait_for_event("recovery_blocked", PATIENCE);

    let mut beats = BTreeSet::new();
    wait_until("several heartbeats", PATIENCE, || {
        let (live, ready) = (process.health("live", &[]), process.health("ready", &[]));
        assert_eq!(live.code, HEALTHY, "{}", live.line);
        assert_eq!(ready.code, UNHEALTHY, "{}", ready.line);
        assert!(ready.line.starts_with("not ready: recovering"), "{}", ready.line);
        beats.extend(Heartbeat::read(&process.heartbeat_file()).map(|beat| beat.written_unix_ms));
        beats.len() >= 8
    });
    open.abort_transaction(PATIENCE).expect("an open transaction can be aborted");

    wait_until("ready", PATIENCE, || process.is_ready());
    process.stop();
    process.assert_no_errors_but(&[]);
}

#[apply(broker_test)]
fn a_heartbeat_that_cannot_be_written_is_logged_and_no_probe_passes() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 1);
    let nowhere = "/nowhere/that/exists/health";
    let mut process = Setup::new(&kafka, &names).env("STEWARD__HEALTH__FILE", nowhere).start();
    let logged = process.wait_for_event("heartbeat_unwritable", PATIENCE);
    assert!(logged["problem"].as_str().is_some_and(|problem| problem.contains(nowhere)), "{logged}");

    for which in ["live", "ready"] {
        let probe = steward(["health", which, "--file", nowhere]);
        assert_eq!(probe.code, UNHEALTHY, "{probe:?}");
        assert!(probe.stdout.contains("no heartbeat file"), "{probe:?}");
    }

    process.wait_for_event("became_ready", PATIENCE);
    assert_eq!(process.events("heartbeat_unwritable").len(), 1, "the event is logged once, not each second");
    process.stop();
}

/// Two processes with one heartbeat file: the second one reports it, and takes the file over when the first one ends.
#[apply(broker_test)]
fn a_heartbeat_file_of_two_processes_is_reported_and_written_by_one_of_them() {
    let (_kafka, _names, mut first) = serving();
    let file = first.heartbeat_file().display().to_string();
    let pid_in_file = || Heartbeat::read(Path::new(&file)).map(|beat| beat.writer.pid).ok();
    assert_eq!(pid_in_file(), Some(first.pid()));

    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 1);
    let mut second = Setup::new(&kafka, &names).env("STEWARD__HEALTH__FILE", &file).start();
    let shared = second.wait_for_event("heartbeat_shared", PATIENCE);
    let problem = shared["problem"].as_str().unwrap_or_default();
    assert!(problem.contains(&format!("process {}", first.pid())) && problem.contains(&file), "{shared}");
    assert_eq!(pid_in_file(), Some(first.pid()));

    // The process that is killed does not block the file.
    first.kill9();
    wait_until("the second process writes", PATIENCE, || pid_in_file() == Some(second.pid()));
    assert_eq!(second.events("heartbeat_shared").len(), 1, "the event is logged once, not each second");
    second.stop();
    second.assert_no_errors_but(&[]);
}

/// The heartbeat from before the jump seems too old or too new. The next one, a second later, has the new time.
#[apply(offline_test)]
fn a_clock_that_jumps_costs_at_most_one_heartbeat() {
    const HOUR_MS: i64 = 3_600_000;
    const MAX_AGE: Duration = Duration::from_secs(10);
    let beat = |written_unix_ms: i64| Heartbeat {
        written_unix_ms,
        writer: writer(),
        ready: true,
        ready_cause: "serving".to_owned(),
        live: true,
        live_cause: "serving".to_owned(),
    };
    let is_healthy = |beat: &Heartbeat, now: i64| {
        [beat.check_live(now, MAX_AGE), beat.check_ready(now, MAX_AGE)]
            .iter()
            .all(|result| matches!(result, ProbeResult::Healthy(_)))
    };
    let before = 1_769_860_800_000;
    for (jump_ms, what) in [(HOUR_MS, "forward"), (-HOUR_MS, "back")] {
        let after = before + jump_ms;
        assert!(!is_healthy(&beat(before), after), "{what}: the old heartbeat is not healthy");
        assert!(is_healthy(&beat(after), after + 1_000), "{what}: the next heartbeat is healthy");
    }
    for small_ms in [9_000, -9_000] {
        assert!(is_healthy(&beat(before), before + small_ms), "a jump of {small_ms} ms fails no probe");
    }
}

// ----------------------------------------------------------------------------------------------------------- helpers

/// A process that is ready, has processed events, and has a short watchdog limit.
fn serving() -> (Kafka, Names, Steward) {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 2);
    kafka.produce(&names.input, &events(1, 500, 50).collect::<Vec<Outgoing>>());
    let mut process = Setup::new(&kafka, &names)
        .set("kafka.session_timeout_ms", SESSION_MS)
        .set("health.stall_timeout_ms", STALL_MS)
        .set("health.ready_settle_ms", 100)
        .start();
    process.wait_for_event("became_ready", PATIENCE);
    wait_until("a heartbeat that reports it", PATIENCE, || process.is_ready());
    Ledger::of(&kafka, &names).assert_exact();
    (kafka, names, process)
}

/// Waits for the watchdog to end the process. Until then `live` passes, because the watchdog logs the cause and a
/// restart by the probe would not. After the end, both probes fail.
fn wait_for_stall(process: &mut Steward) -> serde_json::Value {
    let live = process.health("live", &[]);
    assert_eq!(live.code, HEALTHY, "{}", live.line);

    let code = process.wait_exit(PATIENCE);

    assert_eq!(code, i32::from(ExitCode::Stalled.code()), "{}", process.tail());
    for which in ["live", "ready"] {
        assert_eq!(process.health(which, &[]).code, UNHEALTHY, "{which}");
    }
    process.assert_no_errors_but(&["progress_stalled", "process_failed"]);
    let stalled = process.wait_for_event("progress_stalled", PATIENCE);
    assert!(number(&stalled, "stalled_ms") >= u64::try_from(STALL_MS).expect("positive"), "{stalled}");
    stalled
}

fn assert_next_process_is_exact(kafka: &Kafka, names: &Names) {
    let mut next = Setup::new(kafka, names).start();
    kafka.produce(&names.input, &events(3, 200, 50).collect::<Vec<Outgoing>>());
    Ledger::of(kafka, names).assert_exact();
    next.stop();
    next.assert_no_errors_but(&[]);
}
