//! Runs steward under the schedules that tear the transactions of a plain loop, and compares its output with the
//! reference model.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use steward::exit_code::ExitCode;
use steward::kafka::transactions::transaction::WAIT_FOR_OFFSETS;
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

/// Keeps the coordinator from aborting a transaction by its timeout while a test runs.
const PATIENT_COORDINATOR: [(&str, &str); 1] =
    [("transaction.abort.timed.out.transaction.cleanup.interval.ms", "600000")];

#[apply(own_broker_test)]
fn a_delayed_commit_does_not_affect_the_next_transaction() {
    let mut scene = Scene::with(&[]);

    // Before the producer reset.
    let delayed = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Close);
    let registration = scene.broker.proxy.hold(Api::INIT_PRODUCER_ID, ClientSees::Silence);
    scene.send_events();
    registration.wait();
    assert_eq!(delayed.release(), DONE, "the second copy has already ended the transaction");
    assert_eq!(registration.release(), DONE);
    scene.wait_for_verdict("committed");

    // Right after the reset.
    let delayed = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Close);
    scene.send_events();
    scene.wait_for_verdict("committed");
    assert_eq!(delayed.release(), FENCED);

    // While the next transaction is open, complete except for its end.
    let delayed = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Close);
    scene.send_events();
    scene.wait_for_verdict("committed");
    let next = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    scene.send_events();
    next.wait();
    assert_eq!(delayed.release(), FENCED);
    assert_eq!(next.release(), DONE);

    scene.finish_exactly();
}

#[apply(own_broker_test)]
fn a_commit_that_never_arrived_is_detected_and_its_late_copy_is_refused() {
    let mut scene = Scene::with(&PATIENT_COORDINATOR);

    // The late copy arrives just before the new producer registers, so it takes effect.
    let delayed = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Close);
    let repeated = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    let registration = scene.broker.proxy.hold(Api::INIT_PRODUCER_ID, ClientSees::Silence);
    scene.send_events();
    repeated.wait();
    registration.wait();
    assert_eq!(delayed.release(), DONE, "the transaction is still open");
    // The coordinator may answer that the client has to retry, because it still writes the markers.
    registration.release();
    scene.wait_for_verdict("committed");

    // The late copies arrive just after the registration, while the same content is being sent again.
    let delayed = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Close);
    let repeated = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    let again = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    scene.send_events();
    repeated.wait();
    scene.wait_for_verdict("not_committed");
    again.wait();
    assert_eq!(delayed.release(), FENCED);
    assert_eq!(repeated.release(), FENCED);
    assert_eq!(again.release(), DONE);

    scene.finish_exactly();
}

#[apply(own_broker_test)]
fn a_connection_that_breaks_around_a_commit_costs_one_producer_reset() {
    let mut scene = Scene::with(&PATIENT_COORDINATOR);

    let answered = scene.broker.proxy.drop_answer(Api::END_TXN);
    scene.send_events();
    assert_eq!(answered.answer(), DONE, "the commit took effect, and its response was lost");
    scene.wait_for_verdict("committed");

    // The library sends it again.
    let lost = scene.broker.proxy.drop_request(Api::END_TXN);
    scene.send_events();
    lost.wait();
    scene.wait_for_verdict("committed");

    // The library sends it again, and receives no response to that either.
    let lost = scene.broker.proxy.drop_request(Api::END_TXN);
    let unanswered = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    scene.send_events();
    lost.wait();
    unanswered.wait();
    scene.wait_for_verdict("not_committed");

    scene.finish_exactly();
}

#[apply(own_broker_test)]
fn a_slow_commit_is_followed_by_a_fresh_producer() {
    let mut scene = Scene::with(&[]);
    let producers = scene.broker.proxy.requests(Api::INIT_PRODUCER_ID);

    let slow = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    scene.send_events();
    slow.wait();
    let long_enough = Deadline::after(Duration::from_millis(450));
    wait_until("the response is late", PATIENCE, || long_enough.passed());
    assert_eq!(slow.release(), DONE);
    scene.wait_for_verdict("committed");

    // The library repeats the request while the broker still writes the markers.
    assert!(scene.broker.proxy.requests(Api::INIT_PRODUCER_ID) > producers);
    scene.finish_exactly();
}

#[apply(own_broker_test)]
fn delayed_offsets_do_not_affect_the_next_transaction() {
    let mut scene = Scene::with(&[]);

    let delayed = scene.broker.proxy.hold(Api::TXN_OFFSET_COMMIT, ClientSees::Close);
    scene.send_events();
    scene.wait_for_verdict("not_committed");
    scene.wait_until_committed();
    let next = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    scene.send_events();
    next.wait();
    assert_eq!(delayed.release(), FENCED, "the delayed offsets are older than the committed ones");
    assert_eq!(next.release(), DONE);
    scene.wait_until_committed();

    // Delays the request that adds the group to the transaction, which precedes the offsets.
    let delayed = scene.broker.proxy.hold(Api::ADD_OFFSETS_TO_TXN, ClientSees::Close);
    scene.send_events();
    scene.wait_for_verdict("not_committed");
    scene.wait_until_committed();
    assert_eq!(delayed.release(), FENCED);

    scene.finish_exactly();
}

/// A delayed record needs no producer reset: the broker checks the sequence numbers of an epoch.
#[apply(own_broker_test)]
fn delayed_records_are_not_written_again() {
    let mut scene = Scene::with(&[]);

    for transactions_later in [1, 7] {
        let delayed = scene.broker.proxy.hold(Api::PRODUCE, ClientSees::Close);
        scene.send_events();
        delayed.wait();
        scene.wait_until_committed();
        for _ in 1..transactions_later {
            scene.send_events();
            scene.wait_until_committed();
        }
        let next = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
        scene.send_events();
        next.wait();
        let before = scene.markers_and_records();
        delayed.release();
        assert_eq!(scene.markers_and_records(), before, "{transactions_later} transactions later");
        assert_eq!(next.release(), DONE);
        scene.wait_until_committed();
    }

    scene.finish_exactly();
}

/// The input accepts the event because zstd halves it. Its DLQ record is too large for the topic, so the transaction is
/// aborted and sent again without the value.
#[apply(own_broker_test)]
fn a_delayed_abort_does_not_affect_the_next_transaction() {
    let mut scene = Scene::with(&[]);

    let delayed = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Close);
    let repeated = scene.broker.proxy.let_pass(Api::END_TXN);
    let next = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    scene.direct.produce_with(&[("compression.type", "zstd")], &scene.names.input, &[oversized().to(0)]);
    assert_eq!(repeated.answer(), DONE);
    next.wait();
    assert_eq!(delayed.release(), FENCED);
    assert_eq!(next.release(), DONE);
    scene.process.wait_for_event("record_truncated", PATIENCE);
    scene.send_events();
    scene.wait_until_committed();

    let differences = Ledger::of(&scene.direct, &scene.names).differences();
    let is_of_the_truncation =
        |difference: &&Difference| matches!(difference.fault, Fault::DlqRecordValue | Fault::DlqRecordHeader);
    let others: Vec<_> = differences.iter().filter(|difference| !is_of_the_truncation(difference)).collect();
    assert!(others.is_empty(), "{others:?}");
    scene.process.stop();
    scene.process.assert_no_errors_but(&[]);
}

#[apply(own_broker_test)]
fn a_delayed_opening_of_a_transaction_is_not_another_process() {
    let mut scene = Scene::with(&[]);

    let delayed = scene.broker.proxy.hold(Api::ADD_PARTITIONS_TO_TXN, ClientSees::Close);
    scene.send_events();
    scene.wait_until_committed();

    // The coordinator opens a transaction that is never ended. When the transaction times out, the producer is fenced.
    let before = scene.markers_and_records();
    assert_eq!(delayed.release(), DONE);
    wait_until("the coordinator has ended the transaction that the late request opened", PATIENCE, || {
        scene.markers_and_records() > before
    });
    let producers = scene.broker.proxy.requests(Api::INIT_PRODUCER_ID);
    scene.send_events();
    scene.wait_until_committed();

    scene.process.wait_for_event("transaction_aborted", PATIENCE);
    let reset = scene.process.wait_for_event("producer_reset", PATIENCE);
    assert_eq!(reset["verdict"], "not_committed", "{}", scene.process.tail());
    assert!(scene.broker.proxy.requests(Api::INIT_PRODUCER_ID) > producers);
    scene.finish_exactly();
}

#[apply(own_broker_test)]
fn a_delayed_registration_of_its_own_is_not_another_process() {
    delayed_registration_after_resets(1);
}

/// By the time the late request arrives, a newer producer has registered at its first attempt.
#[apply(own_broker_test)]
fn a_delayed_registration_of_an_earlier_producer_is_not_another_process() {
    delayed_registration_after_resets(2);
}

/// Performs N producer resets. The registration request of the first one is late, and the library repeats it.
fn delayed_registration_after_resets(resets: usize) {
    let mut scene = Scene::with(&[]);

    let delayed = scene.broker.proxy.hold(Api::INIT_PRODUCER_ID, ClientSees::Close);
    for _ in 0..resets {
        let unanswered = scene.broker.proxy.drop_answer(Api::END_TXN);
        scene.send_events();
        assert_eq!(unanswered.answer(), DONE, "the commit took effect, and its response was lost");
        scene.wait_for_verdict("committed");
        scene.wait_until_committed();
    }

    // The late request raises the producer epoch, so the current producer is fenced.
    let producers = scene.broker.proxy.requests(Api::INIT_PRODUCER_ID);
    assert_eq!(delayed.release(), DONE);
    scene.send_events();
    scene.wait_until_committed();

    assert!(scene.broker.proxy.requests(Api::INIT_PRODUCER_ID) > producers, "nothing fenced the producer");
    scene.finish_exactly();
}

/// Each answer comes so late that the offsets may have been sent twice.
#[apply(own_broker_test)]
fn a_coordinator_that_is_slow_with_each_offset_commit_delays_transactions_and_prevents_none() {
    let mut scene = Scene::within(LONG_TRANSACTION_TIMEOUT, &[]);
    scene.broker.proxy.delay(Api::TXN_OFFSET_COMMIT, WAIT_FOR_OFFSETS * 3 / 2);

    for _ in 0..2 {
        scene.send_events();
        scene.wait_for_verdict("committed");
        scene.wait_until_committed();
    }

    scene.finish_exactly();
}

/// The library looks for the group's coordinator without a limit, even if the call has one.
#[apply(own_broker_test)]
fn an_offset_commit_that_never_returns_costs_one_producer() {
    let (mut scene, late) = Scene::with_hanging_call(LONG_TRANSACTION_TIMEOUT);

    let abandoned = scene.process.wait_for_event("producer_abandoned", PATIENCE);
    assert_eq!(abandoned["step"], "sending_offsets", "{abandoned}");
    assert_eq!(abandoned["outstanding"], 1, "{abandoned}");
    let waited = Duration::from_millis(abandoned["waited_ms"].as_u64().unwrap_or_default());
    assert!((WAIT_FOR_OFFSETS..LONG_TRANSACTION_TIMEOUT).contains(&waited), "{abandoned}");
    scene.wait_for_verdict("not_committed");
    scene.wait_until_committed();

    // The older offsets of the abandoned call arrive while the next transaction is open and complete except for its end.
    let next = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    scene.send_events();
    next.wait();
    assert_eq!(late.release(), FENCED);
    assert_eq!(next.release(), DONE);
    wait_until("the abandoned thread has ended", PATIENCE, || threads_named(scene.process.pid(), "producer") == 1);
    scene.wait_until_committed();
    scene.finish_exactly();
}

/// The owner serves the other partition, and its transaction holds both. The new owner of the one that has moved looks at
/// the group again and again while it waits.
#[apply(own_broker_test)]
fn the_open_transaction_of_an_owner_that_serves_other_partitions_is_waited_for() {
    let mut scene = Scene::within(LONG_TRANSACTION_TIMEOUT * 6, &PATIENT_COORDINATOR);

    let end = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    // The owner replaces a producer whose end has no answer; the registration would end the transaction.
    let registrations = [(); 2].map(|()| scene.broker.proxy.hold(Api::INIT_PRODUCER_ID, ClientSees::Silence));
    scene.send_events();
    end.wait();
    let timeout_ms = i64::try_from(LONG_TRANSACTION_TIMEOUT.as_millis() * 6).expect("seconds");
    let setup = Setup::new(&scene.direct, &scene.names).set("kafka.transaction_timeout_ms", timeout_ms);
    let mut joins = setup.instance("joins").start();
    joins.wait_for_event_where("recovery_blocked", PATIENCE, |line| line["waited_ms"].as_u64() >= Some(4_000));
    assert_eq!(scene.process.events("partitions_revoked").len(), 1, "{}", scene.process.tail());

    assert_eq!(end.release(), DONE, "nothing has ended the transaction");
    registrations[0].release();
    wait_until("it serves", PATIENCE, || joins.serving().len() == 1);
    assert_eq!(joins.events("dead_owner_fenced"), Vec::<Value>::new());
    scene.finish_exactly();
    joins.stop();
    joins.assert_no_errors_but(&[]);
}

/// The committed positions give the verdict on a transaction in doubt. If another program commits for this group, for
/// example one left running by mistake, the verdict is unknown.
#[apply(own_broker_test)]
fn positions_that_another_program_moved_invalidate_their_partition() {
    let mut scene = Scene::with(&PATIENT_COORDINATOR);

    let lost = scene.broker.proxy.drop_request(Api::END_TXN);
    let unanswered = scene.broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    let registration = scene.broker.proxy.hold(Api::INIT_PRODUCER_ID, ClientSees::Silence);
    scene.send_events();
    lost.wait();
    unanswered.wait();
    registration.wait();
    scene.direct.commit_in_transaction(&scene.names.group, &scene.names.input, &[(0, 1), (1, 1)]);
    registration.release();
    scene.wait_for_verdict("unknown");

    // A partition may have had no records in the transaction.
    let invalidated = scene.process.wait_for_event("partition_invalidated", PATIENCE);
    assert_eq!(invalidated["cause"], "it is unknown which work was committed", "{invalidated}");
    let skipped = |line: &Value| line["partition"] == invalidated["partition"];
    scene.process.wait_for_event_where("events_skipped", PATIENCE, skipped);
    scene.finish_exactly();
}

#[apply(own_broker_test)]
fn a_drain_during_a_call_that_never_returns_ends_cleanly() {
    let (mut scene, late) = Scene::with_hanging_call(TRANSACTION_TIMEOUT);

    scene.process.sigterm();
    let code = scene.process.wait_exit(DRAIN_TIMEOUT);
    assert_eq!(code, i32::from(ExitCode::Done.code()), "{}", scene.process.tail());

    scene.process.wait_for_event("producer_abandoned", PATIENCE);
    assert_eq!(late.release(), FENCED, "a request that arrives after the end of the process is refused as well");
    Ledger::of(&scene.direct, &scene.names).assert_exact();
    scene.process.assert_no_errors_but(&[]);
}

// ----------------------------------------------------------------------------------------------------------- helpers

/// The default of `kafka.transaction_timeout_ms`: long enough for the test to act while the client waits for a response.
const LONG_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// The default of `shutdown.drain_timeout_ms`.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// Counts the threads of a process with this name. Linux keeps 15 characters of a thread's name.
fn threads_named(pid: u32, name: &str) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    let is_named = |thread: std::io::Result<std::fs::DirEntry>| {
        // A thread may end during the count.
        let name_of = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("comm")).ok();
        thread.ok().and_then(name_of).is_some_and(|found| found.trim_end() == name)
    };
    threads.map(is_named).filter(|is_named| *is_named).count()
}

/// An event whose uncompressed DLQ record is too large for the topic.
fn oversized() -> Outgoing {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    record("1", (0..1_700_000).map(|_| b'0' + random.random_range(0..10_u8)).collect::<Vec<u8>>())
}

/// A running steward process that reaches its broker only through the proxy.
struct Scene {
    broker: ProxiedBroker,
    direct: Kafka,
    names: Names,
    process: Steward,
    /// Makes the events of each round different.
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
        scene.send_events();
        scene.wait_until_committed();
        scene
    }

    /// In both partitions, updates the old services, creates one and sends one malformed event.
    fn send_events(&mut self) {
        // On a busy machine, responses can be late without the proxy. Their log events belong to earlier rounds.
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

    /// Waits until the whole input is committed.
    fn wait_until_committed(&mut self) {
        let ends: Vec<Option<i64>> = self.direct.ends(&self.names.input).iter().map(|ends| Some(ends.high)).collect();
        wait_until(&format!("the input is committed up to {ends:?}"), PATIENCE, || {
            assert!(self.process.is_running(), "the process ended; {}", self.process.tail());
            self.direct.committed(&self.names.group, &self.names.input) == ends
        });
    }

    /// The client sends offsets and the connection breaks. It asks for the coordinator and gets no response until the
    /// request times out. Then it sends the offsets again. Returns that last request.
    fn with_hanging_call(transaction_timeout: Duration) -> (Scene, Caught) {
        for _ in 0..5 {
            let mut scene = Scene::within(transaction_timeout, &PATIENT_COORDINATOR);
            let offsets = scene.broker.proxy.drop_request(Api::TXN_OFFSET_COMMIT);
            let lookup = scene.broker.proxy.hold(Api::FIND_COORDINATOR, ClientSees::Silence);
            let again = scene.broker.proxy.hold(Api::TXN_OFFSET_COMMIT, ClientSees::Silence);
            scene.send_events();
            offsets.wait();
            lookup.wait();
            // Every client asks for a coordinator now and then, and the proxy may have caught such a request.
            if offsets.came_before(&lookup) {
                return (scene, again);
            }
        }
        panic!("five times, another client asked for a coordinator first");
    }

    /// Waits for a transaction in doubt and a producer reset with this verdict. On a busy machine, an earlier
    /// transaction can be in doubt as well, so other verdicts are skipped. A wrong verdict on this transaction is not
    /// corrected later.
    fn wait_for_verdict(&mut self, verdict: &str) {
        self.process.wait_for_event("transaction_in_doubt", PATIENCE);
        self.process.wait_for_event_where("producer_reset", PATIENCE, |reset| reset["verdict"] == verdict);
    }

    /// The number of records in the state topic, transaction markers included.
    fn markers_and_records(&self) -> i64 {
        self.direct.ends(&self.names.state).iter().map(|ends| ends.high).sum()
    }

    /// Runs a last round, and checks that no round lost or doubled anything.
    fn finish_exactly(mut self) {
        self.send_events();
        self.wait_until_committed();
        Ledger::of(&self.direct, &self.names).assert_exact();
        self.process.stop();
        self.process.assert_no_errors_but(&[]);
    }
}
