//! Each DLQ record is replayed once, even if replays are killed, run concurrently or get no response.

use super::replay::dlq_records;
use super::scene::Scene;
use crate::support::proxy::{Api, ClientSees, ProxiedBroker};
use crate::support::wait::{PATIENCE, wait_until};

#[apply(lone_broker_test)]
fn a_replay_that_is_killed_again_and_again_repeats_nothing() {
    let scene = Scene::new(3);
    scene.kafka.produce(&scene.names.dlq, &dlq_records(&scene, 4_000));
    // Counts uncommitted records too, so it does not wait for the open transaction.
    let written = || scene.kafka.ends(&scene.names.input).iter().map(|ends| ends.high).sum::<i64>();
    for _ in 0..4 {
        let before = written();
        let running = scene.start(&["replay", "--execute", "--rate", "300"]);
        wait_until("further events are sent", PATIENCE, || written() >= before + 100);
        drop(running);
    }
    let last = scene.replay(&[]);
    assert!(
        last["replayed"].as_u64().is_some_and(|count| count > 0),
        "a killed replay had already sent everything: {last}"
    );
    scene.assert_each_once(4_000);
}

#[apply(lone_broker_test)]
fn a_second_replay_fences_the_first() {
    let scene = Scene::new(2);
    scene.kafka.produce(&scene.names.dlq, &dlq_records(&scene, 2_000));
    let first = scene.start(&["replay", "--execute", "--rate", "100"]);
    wait_until("some events are sent", PATIENCE, || scene.replayed().len() >= 50);

    let second = scene.replay(&[]);

    let first = first.end();
    assert_eq!(first.code, 6, "{}", first.stderr);
    assert!(first.stderr.contains("another replay of"), "{}", first.stderr);
    assert!(
        first.stdout.contains("of 2000 DLQ records sent"),
        "the first replay reports the records that it sent: {}",
        first.stdout
    );
    assert!(second["replayed"].as_u64().is_some_and(|count| count > 1_000), "{second}");
    scene.assert_each_once(2_000);
}

#[apply(lone_broker_test)]
fn replays_that_begin_at_the_same_time_repeat_nothing() {
    let scene = Scene::new(2);
    scene.kafka.produce(&scene.names.dlq, &dlq_records(&scene, 3_000));
    let runs: Vec<_> = (0..3).map(|_| scene.start(&["replay", "--execute", "--rate", "1500"])).collect();
    for run in runs {
        let ran = run.end();
        assert!(ran.code == 0 || ran.code == 6, "{}: {}", ran.code, ran.stderr);
    }
    scene.replay(&[]);
    scene.assert_each_once(3_000);
}

#[apply(own_broker_test)]
fn a_commit_that_is_not_answered_is_not_repeated() {
    let broker = ProxiedBroker::start();
    let scene = Scene::on(broker.direct(), 2, &[]).through(&broker.through());
    scene.kafka.produce(&scene.names.dlq, &dlq_records(&scene, 1_000));

    // The library sends it again by itself, without a report.
    let unanswered = broker.proxy.drop_answer(Api::END_TXN);
    assert_eq!(scene.replay(&[])["replayed"], 1_000);

    assert_eq!(unanswered.answer(), Some(0), "the commit took effect");
    assert!(broker.proxy.requests(Api::INIT_PRODUCER_ID) >= 2, "a new producer sent the rest");
    scene.assert_each_once(1_000);
}

#[apply(own_broker_test)]
fn a_commit_that_never_arrived_is_sent_again() {
    let broker = ProxiedBroker::start();
    let scene = Scene::on(broker.direct(), 2, &[]).through(&broker.through());
    scene.kafka.produce(&scene.names.dlq, &dlq_records(&scene, 1_000));

    let lost = broker.proxy.drop_request(Api::END_TXN);
    let unanswered = broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    assert_eq!(scene.replay(&[])["replayed"], 1_000);

    lost.wait();
    unanswered.wait();
    scene.assert_each_once(1_000);
}

#[apply(own_broker_test)]
fn a_late_commit_does_not_affect_the_next_transaction() {
    let broker = ProxiedBroker::start();
    let scene = Scene::on(broker.direct(), 2, &[]).through(&broker.through());
    scene.kafka.produce(&scene.names.dlq, &dlq_records(&scene, 1_000));

    let late = broker.proxy.hold(Api::END_TXN, ClientSees::Close);
    let next = broker.proxy.let_pass(Api::END_TXN);
    let open = broker.proxy.hold(Api::END_TXN, ClientSees::Silence);
    let running = scene.start(&["replay", "--execute", "--rate", "100000", "--json"]);
    next.wait();
    open.wait();
    assert_ne!(late.release(), Some(0), "the next transaction is open, and has a newer producer");
    open.release();
    assert_eq!(super::scene::one(&running.end().ok())["replayed"], 1_000);
    scene.assert_each_once(1_000);
}
