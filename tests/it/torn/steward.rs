//! steward in the schedules that tear the transactions of a plain loop, judged by the reference model.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use steward::exit_code::ExitCode;
use steward::testing::reference::check::{Difference, Fault};

use super::{DONE, FENCED};
use crate::support::kafka::{Kafka, Outgoing, record};
use crate::support::ledger::Ledger;
use crate::support::names::Names;
use crate::support::process::{Setup, Steward};
use crate::support::proxy::{Api, Caught, ClientSees, ProxiedBroker};
use crate::support::wait::{Deadline, PATIENCE, wait_until};
use crate::support::world::{created, malformed, priced};

/// `kafka.transaction_timeout_ms`.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(3);

/// With it the coordinator aborts nothing while a test runs: the moment is the test's.
const PATIENT_COORDINATOR: [(&str, &str); 1] =
    [("transaction.abort.timed.out.transaction.cleanup.interval.ms", "600000")];

#[apply(own_broker_test)]
fn a_delayed_commit_reaches_nothing_of_the_next_transaction() {
    let mut scene = Scene::with(&[]);

    // Before the renewal.
    let delayed = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Close);
    let renewal = scene.broker.proxy.hold(Api::INIT_PRODUCER_ID, ClientSees::Silence);
    scene.sends_events();
    renewal.wait();
    assert_eq!(delayed.release(), DONE, "its second copy has ended the same transaction");
    assert_eq!(renewal.release(), DONE);
    scene.expects("committed");

    // Right after the reset.
    let delayed = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Close);
    scene.sends_events();
    scene.expects("committed");
    assert_eq!(delayed.release(), FENCED);

    // While the next transaction is open, complete except for its end.
    let delayed = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Close);
    scene.sends_events();
    scene.expects("committed");
    let next = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    scene.sends_events();
    next.wait();
    assert_eq!(delayed.release(), FENCED);
    assert_eq!(next.release(), DONE);

    scene.ends_well();
}

#[apply(own_broker_test)]
fn a_commit_that_never_arrived_is_found_out_and_its_late_copy_is_refused() {
    let mut scene = Scene::with(&PATIENT_COORDINATOR);

    // The late copy comes just before the new producer registers: it counts.
    let delayed = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Close);
    let repeated = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    let renewal = scene.broker.proxy.hold(Api::INIT_PRODUCER_ID, ClientSees::Silence);
    scene.sends_events();
    repeated.wait();
    renewal.wait();
    assert_eq!(delayed.release(), DONE, "the transaction is still open");
    // The coordinator may ask to come again, for it still writes the markers.
    renewal.release();
    scene.expects("committed");

    // The late copies come right after, while the same content is under way again.
    let delayed = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Close);
    let repeated = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    let again = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    scene.sends_events();
    repeated.wait();
    scene.expects("not_committed");
    again.wait();
    assert_eq!(delayed.release(), FENCED);
    assert_eq!(repeated.release(), FENCED);
    assert_eq!(again.release(), DONE);

    scene.ends_well();
}

#[apply(own_broker_test)]
fn a_connection_that_breaks_around_a_commit_costs_one_renewal() {
    let mut scene = Scene::with(&PATIENT_COORDINATOR);

    let answered = scene.broker.proxy.drop_answer(Api::END_TXN);
    scene.sends_events();
    assert_eq!(answered.answer(), DONE, "it took effect, and nobody was told");
    scene.expects("committed");

    // The library sends it again.
    let lost = scene.broker.proxy.drop_request(Api::END_TXN);
    scene.sends_events();
    lost.wait();
    scene.expects("committed");

    // The library sends it again, and never hears of that.
    let lost = scene.broker.proxy.drop_request(Api::END_TXN);
    let unheard = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    scene.sends_events();
    lost.wait();
    unheard.wait();
    scene.expects("not_committed");

    scene.ends_well();
}

#[apply(own_broker_test)]
fn a_slow_commit_is_followed_by_a_fresh_producer() {
    let mut scene = Scene::with(&[]);
    let producers = scene.broker.proxy.requests(Api::INIT_PRODUCER_ID);

    let slow = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    scene.sends_events();
    slow.wait();
    let long_enough = Deadline::after(Duration::from_millis(450));
    wait_until("the answer is late", PATIENCE, || long_enough.passed());
    assert_eq!(slow.release(), DONE);
    scene.expects("committed");

    // The library repeats the request while the broker still writes the markers.
    assert!(scene.broker.proxy.requests(Api::INIT_PRODUCER_ID) > producers);
    scene.ends_well();
}

#[apply(own_broker_test)]
fn delayed_offsets_reach_nothing_of_the_next_transaction() {
    let mut scene = Scene::with(&[]);

    let delayed = scene.broker.proxy.hold(Api::TXN_OFFSET_COMMIT, ClientSees::Close);
    scene.sends_events();
    scene.expects("not_committed");
    scene.settles();
    let next = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    scene.sends_events();
    next.wait();
    assert_eq!(delayed.release(), FENCED, "older offsets, under newer ones");
    assert_eq!(next.release(), DONE);
    scene.settles();

    // The request before it, which lets the group in.
    let delayed = scene.broker.proxy.hold(Api::ADD_OFFSETS_TO_TXN, ClientSees::Close);
    scene.sends_events();
    scene.expects("not_committed");
    scene.settles();
    assert_eq!(delayed.release(), FENCED);

    scene.ends_well();
}

/// This costs no new producer: the broker knows the sequence numbers of an epoch.
#[apply(own_broker_test)]
fn delayed_records_are_not_written_again() {
    let mut scene = Scene::with(&[]);

    for transactions_later in [1, 7] {
        let delayed = scene.broker.proxy.hold(Api::PRODUCE, ClientSees::Close);
        scene.sends_events();
        delayed.wait();
        scene.settles();
        for _ in 1..transactions_later {
            scene.sends_events();
            scene.settles();
        }
        let next = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
        scene.sends_events();
        next.wait();
        let before = scene.markers_and_records();
        delayed.release();
        assert_eq!(scene.markers_and_records(), before, "{transactions_later} transactions later");
        assert_eq!(next.release(), DONE);
        scene.settles();
    }

    scene.ends_well();
}

/// The input takes the event because zstd halves it; its DLQ record does not fit into the topic, so that its transaction is aborted, and sent again without the value.
#[apply(own_broker_test)]
fn a_delayed_abort_reaches_nothing_of_the_next_transaction() {
    let mut scene = Scene::with(&[]);

    let delayed = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Close);
    let repeated = scene.broker.proxy.let_pass(Api::END_TXN);
    let next = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    scene.direct.produce_with(&[("compression.type", "zstd")], &scene.names.input, &[unwieldy().to(0)]);
    assert_eq!(repeated.answer(), DONE);
    next.wait();
    assert_eq!(delayed.release(), FENCED);
    assert_eq!(next.release(), DONE);
    scene.process.wait_for_event("record_truncated", PATIENCE);
    scene.sends_events();
    scene.settles();

    let differences = Ledger::of(&scene.direct, &scene.names).differences();
    let is_of_the_truncation =
        |difference: &&Difference| matches!(difference.fault, Fault::DlqRecordValue | Fault::DlqRecordHeader);
    let others: Vec<_> = differences.iter().filter(|difference| !is_of_the_truncation(difference)).collect();
    assert!(others.is_empty(), "{others:?}");
    scene.process.stop();
    scene.process.assert_no_errors_but(&[]);
}

#[apply(own_broker_test)]
fn a_delayed_opening_of_a_transaction_is_no_other_process() {
    let mut scene = Scene::with(&[]);

    let delayed = scene.broker.proxy.hold(Api::ADD_PARTITIONS_TO_TXN, ClientSees::Close);
    scene.sends_events();
    scene.settles();

    // The coordinator opens a transaction that nobody ends, times it out, and so fences the producer.
    let before = scene.markers_and_records();
    assert_eq!(delayed.release(), DONE);
    wait_until("the coordinator has ended what the late request opened", PATIENCE, || {
        scene.markers_and_records() > before
    });
    let producers = scene.broker.proxy.requests(Api::INIT_PRODUCER_ID);
    scene.sends_events();
    scene.settles();

    scene.process.wait_for_event("transaction_aborted", PATIENCE);
    let renewed = scene.process.wait_for_event("producer_reset", PATIENCE);
    assert_eq!(renewed["verdict"], "not_committed", "{}", scene.process.tail());
    assert!(scene.broker.proxy.requests(Api::INIT_PRODUCER_ID) > producers);
    scene.ends_well();
}

#[apply(own_broker_test)]
fn a_delayed_registration_of_its_own_is_no_other_process() {
    a_delayed_registration_is_no_other_process(1);
}

/// The producer whose request is late has a successor by then, which registered at the first attempt.
#[apply(own_broker_test)]
fn a_delayed_registration_of_a_predecessor_is_no_other_process() {
    a_delayed_registration_is_no_other_process(2);
}

/// The request of the first of so many renewals is late, and repeated by the library.
fn a_delayed_registration_is_no_other_process(renewals: usize) {
    let mut scene = Scene::with(&[]);

    let delayed = scene.broker.proxy.hold(Api::INIT_PRODUCER_ID, ClientSees::Close);
    for _ in 0..renewals {
        let unheard = scene.broker.proxy.drop_answer(Api::END_TXN);
        scene.sends_events();
        assert_eq!(unheard.answer(), DONE, "it took effect, and nobody was told");
        scene.expects("committed");
        scene.settles();
    }

    // It raises the epoch behind the producer's back.
    let producers = scene.broker.proxy.requests(Api::INIT_PRODUCER_ID);
    assert_eq!(delayed.release(), DONE);
    scene.sends_events();
    scene.settles();

    assert!(scene.broker.proxy.requests(Api::INIT_PRODUCER_ID) > producers, "nothing fenced the producer");
    scene.ends_well();
}

/// The library looks for the group's coordinator for as long as it takes, whatever limit it was given.
#[apply(own_broker_test)]
fn offsets_that_the_client_never_gives_up_cost_one_producer() {
    let (mut scene, late) = Scene::that_hangs_in_the_client(LONG_TRANSACTION_TIMEOUT);

    let abandoned = scene.process.wait_for_event("producer_abandoned", PATIENCE);
    assert_eq!(abandoned["step"], "sending_offsets", "{abandoned}");
    assert_eq!(abandoned["outstanding"], 1, "{abandoned}");
    let limit_ms = u64::try_from(LONG_TRANSACTION_TIMEOUT.as_millis()).expect("seconds");
    let waited_ms = abandoned["waited_ms"].as_u64().unwrap_or_default();
    assert!((limit_ms..limit_ms + 15_000).contains(&waited_ms), "{abandoned}");
    scene.expects("not_committed");
    scene.settles();

    // While the next transaction is open, complete except for its end, the offsets of the abandoned call arrive:
    // older ones.
    let next = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    scene.sends_events();
    next.wait();
    let ends = scene.broker.proxy.requests(Api::END_TXN);
    assert_eq!(late.release(), FENCED);
    // It goes no further, and gives back what it held.
    wait_until("its thread has ended", PATIENCE, || threads_named(scene.process.pid(), "steward-produce") == 1);
    assert_eq!(scene.broker.proxy.requests(Api::END_TXN), ends);
    assert_eq!(next.release(), DONE);
    scene.settles();
    scene.ends_well();
}

/// What became of the transaction in doubt is told by the committed positions. Another program that commits for the
/// same group, as one that was left running by mistake would, takes that away.
#[apply(own_broker_test)]
fn positions_that_somebody_else_moved_meanwhile_make_their_partition_recover() {
    let mut scene = Scene::with(&PATIENT_COORDINATOR);

    let lost = scene.broker.proxy.drop_request(Api::END_TXN);
    let unheard = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    let renewal = scene.broker.proxy.hold(Api::INIT_PRODUCER_ID, ClientSees::Silence);
    scene.sends_events();
    lost.wait();
    unheard.wait();
    renewal.wait();
    scene.direct.commit_in_transaction(&scene.names.group, &scene.names.input, &[(0, 1), (1, 1)]);
    renewal.release();
    scene.expects("unknown");

    // One of them may not have been in the transaction.
    let invalidated = scene.process.wait_for_event("partition_invalidated", PATIENCE);
    assert_eq!(invalidated["cause"], "it is unknown which work was committed", "{invalidated}");
    let skipped = |line: &Value| line["partition"] == invalidated["partition"];
    scene.process.wait_for_event_where("events_skipped", PATIENCE, skipped);
    scene.ends_well();
}

#[apply(own_broker_test)]
fn a_drain_that_meets_a_call_which_never_returns_ends_in_good_order() {
    let (mut scene, late) = Scene::that_hangs_in_the_client(TRANSACTION_TIMEOUT);

    scene.process.sigterm();
    let code = scene.process.wait_exit(DRAIN_TIMEOUT);
    assert_eq!(code, i32::from(ExitCode::Done.code()), "{}", scene.process.tail());

    scene.process.wait_for_event("producer_abandoned", PATIENCE);
    assert_eq!(late.release(), FENCED, "what comes after the end of the process reaches nothing either");
    Ledger::of(&scene.direct, &scene.names).assert_exact();
    scene.process.assert_no_errors_but(&[]);
}

// ----------------------------------------------------------------------------------------------------------- helpers

/// The default of `kafka.transaction_timeout_ms`: long enough for the test to act while the client waits for an answer.
const LONG_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// The default of `shutdown.drain_timeout_ms`.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// How many threads of a process have a name, of which Linux keeps fifteen characters.
fn threads_named(pid: u32, name: &str) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    let is_named = |thread: std::io::Result<std::fs::DirEntry>| {
        // A thread may end meanwhile.
        let name_of = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("comm")).ok();
        thread.ok().and_then(name_of).is_some_and(|found| found.trim_end() == name)
    };
    threads.map(is_named).filter(|is_named| *is_named).count()
}

/// An event that is too large for the DLQ records, where nothing shortens it.
fn unwieldy() -> Outgoing {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    record("1", (0..1_700_000).map(|_| b'0' + random.random_range(0..10_u8)).collect::<Vec<u8>>())
}

/// A steward that reaches its broker only through the proxy, at work.
struct Scene {
    broker: ProxiedBroker,
    direct: Kafka,
    names: Names,
    process: Steward,
    /// Makes each round's events new ones.
    round: u64,
}

impl Scene {
    fn with(properties: &[(&str, &str)]) -> Scene {
        Scene::within(TRANSACTION_TIMEOUT, properties)
    }

    fn within(transaction_timeout: Duration, properties: &[(&str, &str)]) -> Scene {
        let broker = ProxiedBroker::with(properties);
        let (direct, names) = (broker.direct(), Names::new());
        direct.create_input(&names, 2);
        let timeout_ms = i64::try_from(transaction_timeout.as_millis()).expect("seconds");
        let process = Setup::new(&broker.through(), &names)
            .instance("torn")
            .set("kafka.transaction_timeout_ms", timeout_ms)
            .start();
        let mut scene = Scene { broker, direct, names, process, round: 0 };
        scene.sends_events();
        scene.settles();
        scene
    }

    /// Old keys change, a new one comes, and one event is rejected, in both partitions.
    fn sends_events(&mut self) {
        // A busy machine answers late by itself; what came of that before is not this round's.
        for name in ["transaction_in_doubt", "producer_reset"] {
            self.process.skip_events(name);
        }
        self.round += 1;
        let round = self.round;
        let events: Vec<_> = (0..2)
            .flat_map(|partition| {
                let id = move |key: u64| 2 * key + u64::from(partition == 1);
                let changes = (1..round).map(move |key| priced(id(key), round));
                let new = [created(id(round)), priced(id(round), 1), malformed(id(round))];
                changes.chain(new).map(move |event| event.to(partition))
            })
            .collect();
        self.direct.produce(&self.names.input, &events);
    }

    /// All that was sent is committed.
    fn settles(&mut self) {
        let ends: Vec<Option<i64>> = self.direct.ends(&self.names.input).iter().map(|ends| Some(ends.high)).collect();
        wait_until(&format!("the input is committed up to {ends:?}"), PATIENCE, || {
            assert!(self.process.is_running(), "it ended; {}", self.process.tail());
            self.direct.committed(&self.names.group, &self.names.input) == ends
        });
    }

    /// The client sends offsets, whose connection breaks; asks for the coordinator, and hears nothing for as long as a
    /// request may take; then it sends them again, and that is the request which comes back.
    fn that_hangs_in_the_client(transaction_timeout: Duration) -> (Scene, Caught) {
        for _ in 0..5 {
            let mut scene = Scene::within(transaction_timeout, &PATIENT_COORDINATOR);
            let offsets = scene.broker.proxy.drop_request(Api::TXN_OFFSET_COMMIT);
            let question = scene.broker.proxy.hold(Api::FIND_COORDINATOR, ClientSees::Silence);
            let again = scene.broker.proxy.hold(Api::TXN_OFFSET_COMMIT, ClientSees::Silence);
            scene.sends_events();
            offsets.wait();
            question.wait();
            // Some client or other asks for a coordinator now and then, and may have been the one that was caught.
            if offsets.came_before(&question) {
                return (scene, again);
            }
        }
        panic!("five times somebody else asked for a coordinator before");
    }

    /// A transaction went unanswered, and a fresh producer found out what became of it. On a busy machine another one
    /// may be late by itself before that; a wrong verdict about this one brings no right one later.
    fn expects(&mut self, verdict: &str) {
        self.process.wait_for_event("transaction_in_doubt", PATIENCE);
        self.process.wait_for_event_where("producer_reset", PATIENCE, |renewed| renewed["verdict"] == verdict);
    }

    /// What the logs of the state topic hold, markers of ends included.
    fn markers_and_records(&self) -> i64 {
        self.direct.ends(&self.names.state).iter().map(|ends| ends.high).sum()
    }

    /// A last round passes, and nothing was lost or doubled in any.
    fn ends_well(mut self) {
        self.sends_events();
        self.settles();
        Ledger::of(&self.direct, &self.names).assert_exact();
        self.process.stop();
        self.process.assert_no_errors_but(&[]);
    }
}
