//! A transaction commits snapshots, DLQ records and offsets together, and its outcome is never a guess.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rdkafka::consumer::{BaseConsumer, Consumer as _, DefaultConsumerContext};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use steward::config::Config;
use steward::engine::commit::transaction::{
    CommitOutcome, CommittedOffset, OffsetRange, RefusedRecord, ResetOutcome, TransactionContent,
};
use steward::engine::dead_owners::FencedBy;
use steward::engine::foreign_members::MemberIds;
use steward::engine::offset_metadata::OffsetMetadata;
use steward::engine::outcome::{Degradation, EntitySnapshot, OutputRecord};
use steward::engine::ownership::Ownership;
use steward::engine::topic_watch::TopicIds;
use steward::entity::{Reason, Rejection};
use steward::kafka::client::settings::{self, Isolation, ProducerIdentity};
use steward::kafka::consumer::membership::{GroupView, Membership, membership_of};
use steward::kafka::transactions::commit_thread::{
    CommitClients, CommitGates, CommitPhase, CommitSettings, CommitThread, MAX_ABANDONED, abandoned_outcome,
};
use steward::kafka::transactions::topic_looks::TopicLooks;
use steward::kafka::transactions::transaction::WAIT_FOR_OFFSETS;
use steward::ports::{Clock, Transactions};
use steward::record::{Batch, Epoch, Header, Offset, Partition, Position, TraceContext};

use crate::support::clock::SystemClock;
use crate::support::kafka::{Kafka, Stored};
use crate::support::member::Member;
use crate::support::names::{Names, unique};
use crate::support::wait::{PATIENCE, wait_until};

mod harness;
mod topic_looks;

use harness::{Pod, commit, headers, reset};

const P0: Partition = Partition(0);

// Tests with a real broker run alone: on a busy machine, responses are late, and a late response counts as none.

#[apply(lone_broker_test)]
fn a_commit_shows_state_dlq_records_and_offsets_at_once() {
    let pod = Pod::join(1);
    let trace = TraceContext { traceparent: Some(Box::from(&b"00-aa"[..])), tracestate: Some(Box::from(&b"\xff"[..])) };
    let live = pod.traced_snapshot("42", 6, trace);
    let deleted = pod.snapshot("43", None, 5);
    let batch = pod.batch(7, Some(b""), Some(b"not json"), &[("a", Some(b"1")), ("a", None), ("b", Some(b""))]);
    let rejected = OutputRecord::rejected(&batch, 0, Rejection::new(Reason::MissingKey, "no key"));
    let nothing = pod.batch(8, None, None, &[]);
    let nothing = OutputRecord::rejected(&nothing, 0, Rejection::new(Reason::MissingKey, "no key"));

    let before = SystemClock.unix_ms();
    let outcome = pod.commit(pod.content(1, vec![live, deleted, rejected, nothing], 9));

    assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
    let state = pod.kafka.read_committed(&pod.names.state);
    let expected = headers(&[
        ("steward-source-partition", "0"),
        ("steward-source-offset", "6"),
        ("steward-group", &pod.names.group),
        ("traceparent", "00-aa"),
    ]);
    assert_eq!(state[0].headers[..4], expected);
    assert_eq!(state[0].headers[4..], [("tracestate".to_owned(), Some(vec![0xff]))]);
    assert_eq!((state[0].key.as_deref(), state[0].value.as_deref()), (Some(&b"42"[..]), Some(&b"{}"[..])));
    assert_eq!((state[1].key.as_deref(), state[1].value.as_deref()), (Some(&b"43"[..]), None));
    assert_eq!(state[1].headers.len(), 3);
    let dlq = pod.kafka.read_committed(&pod.names.dlq);
    let mut expected =
        vec![("a".to_owned(), Some(b"1".to_vec())), ("a".to_owned(), None), ("b".to_owned(), Some(Vec::new()))];
    expected.extend(headers(&[
        ("steward-reason", "missing_key"),
        ("steward-detail", "no key"),
        ("steward-source-topic", &pod.names.input),
        ("steward-source-partition", "0"),
        ("steward-source-offset", "7"),
        ("steward-source-timestamp", "1700000000000"),
        ("steward-group", &pod.names.group),
    ]));
    assert_eq!(dlq[0].headers, expected);
    assert_eq!((dlq[0].key.as_deref(), dlq[0].value.as_deref()), (Some(&b""[..]), Some(&b"not json"[..])));
    assert_eq!((dlq[1].key.as_deref(), dlq[1].value.as_deref()), (None, None));
    let stamped = dlq[0].timestamp_ms.expect("stamped when produced");
    assert!((before..before + 60_000).contains(&stamped), "{stamped} is not within a minute of {before}");
    assert_eq!(
        pod.reset_producer(),
        [(P0, Some(CommittedOffset { position: Position(9), metadata: "run/1".to_owned() }))]
    );
}

#[apply(lone_broker_test)]
fn an_epoch_that_ends_after_the_metadata_was_taken_commits_nothing() {
    let ownership = Arc::new(Ownership::new());
    let epoch = ownership.mint(P0);
    let ended = Arc::clone(&ownership);
    // The membership is read before the transaction, and again between the records and the offsets.
    let pod = Pod::with_view(1, Arc::clone(&ownership), epoch, move |member| {
        let reads = AtomicUsize::new(0);
        Arc::new(move || {
            let membership = membership_of(&member);
            if reads.fetch_add(1, Ordering::Relaxed) == 1 {
                ended.end(P0);
            }
            membership
        })
    });

    let outcome = pod.commit(pod.content(1, vec![pod.snapshot("42", Some("{}"), 0)], 1));

    assert!(matches!(&outcome, CommitOutcome::Stale(partitions) if *partitions == [P0]), "{outcome:?}");
    assert_eq!(pod.kafka.read_committed(&pod.names.state), [] as [Stored; 0]);
    assert_eq!(pod.reset_producer(), [(P0, None)]);
}

#[apply(lone_broker_test)]
fn content_of_an_ended_epoch_opens_no_transaction() {
    let pod = Pod::join(1);
    pod.ownership.end(P0);
    let outcome = pod.commit(pod.content(1, vec![pod.snapshot("42", Some("{}"), 0)], 1));
    assert!(matches!(&outcome, CommitOutcome::Stale(partitions) if *partitions == [P0]), "{outcome:?}");
    assert_eq!(pod.kafka.read_committed(&pod.names.state), [] as [Stored; 0]);
}

#[apply(lone_broker_test)]
fn a_consumer_that_never_joined_commits_nothing() {
    let ownership = Arc::new(Ownership::new());
    let epoch = ownership.mint(P0);
    let pod = Pod::with_view(1, ownership, epoch, |_| {
        let stranger: BaseConsumer =
            Kafka::shared().client_config().set("group.id", unique("stranger")).create().expect("valid");
        Arc::new(move || membership_of(&stranger))
    });
    let outcome = pod.commit(pod.content(1, vec![pod.snapshot("42", Some("{}"), 0)], 1));
    assert!(
        matches!(&outcome, CommitOutcome::StaleGeneration { cause } if cause.contains("not joined")),
        "{outcome:?}"
    );
    assert_eq!(pod.kafka.read_committed(&pod.names.state), [] as [Stored; 0]);
    assert_eq!(pod.reset_producer(), [(P0, None)]);
}

#[apply(lone_broker_test)]
fn an_old_generation_commits_nothing() {
    let ownership = Arc::new(Ownership::new());
    let epoch = ownership.mint(P0);
    let (keep, kept) = mpsc::channel();
    let pod = Pod::with_view(2, ownership, epoch, move |member| {
        let reads = AtomicUsize::new(0);
        let old = std::sync::Mutex::new(Some(membership_of(&member)));
        keep.send(Arc::clone(&member)).expect("the test waits");
        Arc::new(move || match reads.fetch_add(1, Ordering::Relaxed) {
            1 => old.lock().expect("unpoisoned").take().expect("taken once"),
            _ => membership_of(&member),
        })
    });
    let _member = kept.recv().expect("sent");
    let _second = Member::joins(&pod.kafka, &pod.names.group, &pod.names.input);

    let outcome = pod.commit(pod.content(1, vec![pod.snapshot("42", Some("{}"), 0)], 1));

    assert!(matches!(&outcome, CommitOutcome::StaleGeneration { .. }), "{outcome:?}");
    assert_eq!(pod.kafka.read_committed(&pod.names.state), [] as [Stored; 0]);
    let again = pod.commit(pod.content(2, vec![pod.snapshot("42", Some("{}"), 0)], 1));
    assert!(matches!(again, CommitOutcome::Committed { .. }), "{again:?}");
}

#[apply(lone_broker_test)]
fn a_newer_producer_with_the_same_name_fences_the_older() {
    let pod = Pod::join(1);
    let newer_thread = pod.thread(pod.view());
    assert!(matches!(reset(&newer_thread), ResetOutcome::Ready(_)));

    let outcome = pod.commit(pod.content(1, vec![pod.snapshot("42", Some("old"), 0)], 1));

    assert!(matches!(outcome, CommitOutcome::Fenced { by: FencedBy::AnotherProcess, .. }), "{outcome:?}");
    let newer = commit(&newer_thread, pod.content(1, vec![pod.snapshot("42", Some("new"), 0)], 1));
    assert!(matches!(newer, CommitOutcome::Committed { .. }), "{newer:?}");
    let values: Vec<_> = pod.kafka.read_committed(&pod.names.state).into_iter().map(|stored| stored.value).collect();
    assert_eq!(values, [Some(b"new".to_vec())]);
}

#[apply(lone_broker_test)]
fn a_timed_out_transaction_is_distinguished_from_one_that_another_process_fenced() {
    let ownership = Arc::new(Ownership::new());
    let epoch = ownership.mint(P0);
    let names = Names::new();
    let open = names.state.clone();
    let pod = Pod::build(1, ownership, epoch, names, Duration::from_secs(1), move |member| {
        let reads = AtomicUsize::new(0);
        Arc::new(move || {
            if reads.fetch_add(1, Ordering::Relaxed) == 1 {
                // Returns once the coordinator has ended the transaction.
                Kafka::shared().read_committed(&open);
            }
            membership_of(&member)
        })
    });
    let outcome = pod.commit(pod.content(1, vec![pod.snapshot("42", Some("{}"), 0)], 1));
    assert!(matches!(outcome, CommitOutcome::Fenced { by: FencedBy::Timeout, .. }), "{outcome:?}");
    assert_eq!(pod.reset_producer(), [(P0, None)]);
}

#[apply(lone_broker_test)]
fn a_record_that_is_too_large_is_named_and_passes_without_its_value() {
    let pod = Pod::join(1);
    let noise: Vec<u8> = (0..10_000_000_u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    let rejection = Rejection::new(Reason::PayloadTooLarge, "too large");
    let small = OutputRecord::rejected(&pod.batch(0, Some(b"1"), Some(b"x"), &[]), 0, rejection.clone());
    let huge = OutputRecord::rejected(&pod.batch(1, Some(b"2"), Some(&noise), &[]), 0, rejection);
    let snapshot = pod.snapshot("42", Some("{}"), 2);

    let outcome = pod.commit(pod.content(1, vec![snapshot.clone(), small.clone(), huge.clone()], 3));

    let CommitOutcome::Refused { record, .. } = &outcome else { panic!("{outcome:?}") };
    assert_eq!(*record, Some(RefusedRecord { index: 2, too_large: true }));
    assert_eq!(pod.kafka.read_committed(&pod.names.state), [] as [Stored; 0]);
    assert_eq!(huge.degrade(), Some((Degradation::Value, 10_000_000)));
    let truncated = OutputRecord { degradation: Some(Degradation::Value), ..huge };
    let outcome = pod.commit(pod.content(1, vec![snapshot, small, truncated], 3));
    assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
    let dlq = pod.kafka.read_committed(&pod.names.dlq);
    assert_eq!((dlq.len(), dlq[1].value.as_deref(), dlq[1].key.as_deref()), (2, None, Some(&b"2"[..])));
    let expected = headers(&[("steward-truncated", "true"), ("steward-truncated-length", "10000000")]);
    assert_eq!(dlq[1].headers[7..], expected);
}

#[apply(lone_broker_test)]
fn a_snapshot_that_is_too_large_passes_without_its_trace_context() {
    let pod = Pod::join(1);
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let noise: Vec<u8> = (0..2_000_000).map(|_| random.random()).collect();
    let trace = TraceContext { traceparent: None, tracestate: Some(noise.into_boxed_slice()) };
    let traced = pod.traced_snapshot("42", 2, trace);
    let small = pod.snapshot("43", Some("{}"), 1);

    let outcome = pod.commit(pod.content(1, vec![small.clone(), traced.clone()], 3));

    let CommitOutcome::Refused { record, .. } = &outcome else { panic!("{outcome:?}") };
    assert_eq!(*record, Some(RefusedRecord { index: 1, too_large: true }));
    let untraced = OutputRecord { degradation: Some(Degradation::TraceContext), ..traced };
    let outcome = pod.commit(pod.content(2, vec![small, untraced], 3));
    assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
    assert_eq!(pod.kafka.read_committed(&pod.names.state).len(), 2);
}

#[apply(lone_broker_test)]
fn offsets_alone_commit_one_after_the_other() {
    let pod = Pod::join(1);
    for number in 1..=5 {
        let outcome = pod.commit(pod.content(number, vec![], i64::try_from(number).expect("small")));
        assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
    }
    assert_eq!(
        pod.reset_producer(),
        [(P0, Some(CommittedOffset { position: Position(5), metadata: "run/5".to_owned() }))]
    );
}

#[apply(lone_broker_test)]
fn before_the_first_reset_there_is_no_producer() {
    let pod = Pod::join(1);
    let fresh = pod.thread(pod.view());
    let outcome = commit(&fresh, pod.content(1, vec![], 1));
    assert!(matches!(outcome, CommitOutcome::InDoubt { .. }), "{outcome:?}");
    assert_eq!(fresh.phase().get().0, CommitPhase::Idle);
}

#[apply(lone_broker_test)]
fn a_small_transaction_takes_milliseconds() {
    let pod = Pod::join(1);
    let mut took = Vec::new();
    for number in 1..=30 {
        let outcome = pod.commit(pod.content(number, vec![pod.snapshot("42", Some("{}"), 0)], 1));
        let CommitOutcome::Committed { took: this } = outcome else { panic!("{outcome:?}") };
        took.push(this);
        // The next transaction waits while the broker writes the markers of the previous one. That wait is not measured.
        pod.kafka.read_committed(&pod.names.state);
    }
    took.sort();
    // The client's own commit waits for 100 ms if records were produced.
    assert!(took[15] < Duration::from_millis(60), "the median is {:?}", took[15]);
    println!("a small transaction: median {:?}, fastest {:?}", took[15], took[0]);
}

// ------------------------------------------------------------------------------------------------- a broker with errors
//
// The mock broker neither isolates transactions nor fences producers. These tests show how responses are classified.

#[apply(offline_test)]
fn a_commit_that_may_have_been_sent_twice_is_in_doubt() {
    let mock = Mock::new();
    assert!(matches!(mock.commit(1), CommitOutcome::Committed { .. }));
    mock.cluster.broker_round_trip_time(1, Duration::from_millis(450)).expect("the mock accepts it");
    let outcome = mock.commit(2);
    let CommitOutcome::InDoubt { cause } = &outcome else { panic!("{outcome:?}") };
    assert!(cause.contains("was abandoned"), "{cause}");
    mock.cluster.broker_round_trip_time(1, Duration::ZERO).expect("the mock accepts it");
    assert!(matches!(mock.commit(2), CommitOutcome::InDoubt { .. }), "the producer is not used again");
    assert!(matches!(reset(&mock.transactions), ResetOutcome::Ready(_)));
    assert!(matches!(mock.commit(2), CommitOutcome::Committed { .. }));
}

/// The client answers `QueueFull` for it, as if it only had to wait.
#[apply(offline_test)]
fn a_record_that_no_queue_takes_is_refused_as_too_large() {
    let mock = Mock::new();
    let mut content = mock.content(1);
    let value = Some(Arc::from(vec![b' '; 70_000_000]));
    let huge = EntitySnapshot { key: Arc::from(&b"43"[..]), value, trace: None };
    content.records.push(OutputRecord::snapshot(P0, Offset(0), huge));
    let outcome = commit(&mock.transactions, content);
    let CommitOutcome::Refused { record, .. } = &outcome else { panic!("{outcome:?}") };
    assert_eq!(*record, Some(RefusedRecord { index: 1, too_large: true }));
    assert!(matches!(mock.commit(2), CommitOutcome::Committed { .. }), "the queue is usable");
}

#[apply(offline_test)]
fn each_error_of_the_broker_has_its_outcome() {
    use RDKafkaApiKey::{AddOffsetsToTxn, EndTxn, TxnOffsetCommit};
    use RDKafkaRespErr::*;
    let table = [
        (TxnOffsetCommit, RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, "StaleGeneration"),
        (TxnOffsetCommit, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, "StaleGeneration"),
        (TxnOffsetCommit, RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID, "StaleGeneration"),
        (TxnOffsetCommit, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS, "StaleGeneration"),
        (TxnOffsetCommit, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, "Refused"),
        (TxnOffsetCommit, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, "Fenced"),
        (AddOffsetsToTxn, RD_KAFKA_RESP_ERR_PRODUCER_FENCED, "Fenced"),
        (AddOffsetsToTxn, RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, "InDoubt"),
        // After each of these, the client waits and sends again.
        (TxnOffsetCommit, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, "InDoubt"),
        (EndTxn, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS, "InDoubt"),
        (EndTxn, RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, "InDoubt"),
        (EndTxn, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING, "InDoubt"),
        (EndTxn, RD_KAFKA_RESP_ERR_PRODUCER_FENCED, "Fenced"),
        (EndTxn, RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "Refused"),
        (EndTxn, RD_KAFKA_RESP_ERR_UNKNOWN, "InDoubt"),
    ];
    let mock = Mock::new();
    for (number, (request, error, expected)) in (1..).zip(table) {
        assert!(matches!(reset(&mock.transactions), ResetOutcome::Ready(_)));
        mock.cluster.request_errors(request, &[error]);
        let outcome = format!("{:?}", mock.commit(number));
        assert!(outcome.starts_with(expected), "{request:?} answered {error:?}: {outcome}");
        assert!(matches!(reset(&mock.transactions), ResetOutcome::Ready(_)), "after {request:?} answered {error:?}");
        let again = mock.commit(number);
        assert!(matches!(again, CommitOutcome::Committed { .. }), "after {request:?} answered {error:?}: {again:?}");
    }
}

#[apply(offline_test)]
fn a_missing_permission_to_produce_is_a_refusal() {
    let mock = Mock::new();
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    mock.cluster.request_errors(RDKafkaApiKey::AddPartitionsToTxn, &[denied]);
    let outcome = mock.commit(1);
    assert!(matches!(outcome, CommitOutcome::Refused { record: None, .. }), "{outcome:?}");
    mock.cluster.request_errors(RDKafkaApiKey::Produce, &[denied]);
    let outcome = mock.commit(1);
    assert!(
        matches!(outcome, CommitOutcome::Refused { record: Some(RefusedRecord { index: 0, too_large: false }), .. }),
        "{outcome:?}"
    );
    assert!(matches!(mock.commit(1), CommitOutcome::Committed { .. }));
}

#[apply(offline_test)]
fn the_phase_shows_the_call_that_the_thread_waits_for() {
    let mock = Mock::new();
    let phase = mock.transactions.phase();
    assert_eq!(phase.get().0, CommitPhase::Idle);
    // Sending offsets takes two round trips, which must take less time than the client waits before it sends again.
    mock.cluster.broker_round_trip_time(1, Duration::from_millis(100)).expect("the mock accepts it");
    let (reply, outcome) = mpsc::channel();
    let reply = Box::new(move |outcome| reply.send(outcome).expect("the test waits"));
    mock.transactions.commit(Arc::new(mock.content(1)), reply);
    for step in [CommitPhase::Delivering, CommitPhase::SendingOffsets, CommitPhase::Committing] {
        wait_until(&format!("the phase is {step:?}"), PATIENCE, || phase.get().0 == step);
    }
    outcome.recv_timeout(PATIENCE).expect("every request is answered");
    assert_eq!(phase.get().0, CommitPhase::Idle);
}

#[apply(offline_test)]
fn without_a_broker_a_reset_fails_within_its_limit() {
    let mock = Mock::new();
    mock.cluster.broker_down(1).expect("the mock accepts it");
    let started = SystemClock.now();
    let outcome = reset(&mock.transactions);
    assert!(matches!(outcome, ResetOutcome::Failed { .. }), "{outcome:?}");
    assert!(SystemClock.now() - started < Duration::from_secs(20));
    mock.cluster.broker_up(1).expect("the mock accepts it");
    assert!(matches!(reset(&mock.transactions), ResetOutcome::Ready(_)));
}

/// If no coordinator is available, the library asks again only after the set of brokers changes.
#[apply(offline_test)]
fn a_call_that_never_returns_is_abandoned_with_its_producer() {
    let mock = Mock::new();
    let (outcome, took) = mock.commit_while_the_coordinator_is_away(1);

    assert!(matches!(&outcome, CommitOutcome::InDoubt { cause } if cause.contains("was abandoned")), "{outcome:?}");
    let allowed = WAIT_FOR_OFFSETS..Duration::from_secs(8);
    assert!(allowed.contains(&took), "not at the transaction's timeout of 10 s: {took:?}");
    assert_eq!(mock.transactions.phase().get().0, CommitPhase::Idle, "the abandoned call is no longer shown");
    assert!(matches!(mock.commit(2), CommitOutcome::InDoubt { .. }), "its producer was abandoned as well");
    assert!(matches!(reset(&mock.transactions), ResetOutcome::Ready(_)));
    let next = mock.commit(3);
    assert!(matches!(next, CommitOutcome::Committed { .. }), "{next:?}");
}

/// A coordinator that always needs longer gets longer.
#[apply(offline_test)]
fn the_wait_for_the_offsets_doubles_until_a_transaction_commits() {
    let mock = Mock::new();
    for (number, factor) in [(1, 1), (2, 1), (3, 2), (4, 4)] {
        let (outcome, took) = mock.commit_while_the_coordinator_is_away(number);
        assert!(matches!(outcome, CommitOutcome::InDoubt { .. }), "{outcome:?}");
        assert!(took >= WAIT_FOR_OFFSETS * factor, "attempt {number} was abandoned after {took:?}");
        assert!(matches!(reset(&mock.transactions), ResetOutcome::Ready(_)));
    }
    let committed = mock.commit(5);
    assert!(matches!(committed, CommitOutcome::Committed { .. }), "{committed:?}");
    let (_, took) = mock.commit_while_the_coordinator_is_away(6);
    assert!((WAIT_FOR_OFFSETS..WAIT_FOR_OFFSETS * 8).contains(&took), "the wait is short again: {took:?}");
}

#[apply(offline_test)]
fn calls_are_abandoned_until_too_many_are_outstanding() {
    for outstanding in 1..=2 * MAX_ABANDONED {
        let outcome = abandoned_outcome(CommitPhase::SendingOffsets, Duration::from_secs(12), outstanding);
        if outstanding <= MAX_ABANDONED {
            assert!(matches!(&outcome, CommitOutcome::InDoubt { cause } if cause.contains("12000 ms")), "{outcome:?}");
        } else {
            assert!(matches!(&outcome, CommitOutcome::Fatal { cause } if cause.contains("restart")), "{outcome:?}");
        }
    }
}

struct Mock {
    cluster: MockCluster<'static, DefaultProducerContext>,
    ownership: Arc<Ownership>,
    transactions: CommitThread,
}

/// The settings of the commit thread's clients.
fn clients(brokers: String, transactional_id: &str, group: &str, timeout: Duration) -> CommitClients {
    let mut config = Config::default();
    config.kafka.bootstrap_servers = brokers;
    config.kafka.group_id = group.to_owned();
    config.kafka.transaction_timeout_ms = u64::try_from(timeout.as_millis()).expect("the timeout fits into 64 bits");
    let identity = ProducerIdentity { transactional_id, client_id: transactional_id };
    CommitClients {
        producer: settings::transactional_producer(&config, identity, None),
        offset_reader: settings::reader(&config, Isolation::Committed),
    }
}

impl Mock {
    /// The group's coordinator has moved, and no broker knows where it is. Returns how long the commit took.
    fn commit_while_the_coordinator_is_away(&self, number: u64) -> (CommitOutcome, Duration) {
        let moved = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR;
        let unavailable = RDKafkaRespErr::RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE;
        self.cluster.request_errors(RDKafkaApiKey::TxnOffsetCommit, &[moved]);
        self.cluster.request_errors(RDKafkaApiKey::FindCoordinator, &[unavailable; 1_000]);
        let started = SystemClock.now();
        let outcome = self.commit(number);
        let took = SystemClock.now() - started;
        for request in [RDKafkaApiKey::TxnOffsetCommit, RDKafkaApiKey::FindCoordinator] {
            self.cluster.clear_request_errors(request);
        }
        (outcome, took)
    }

    fn new() -> Mock {
        Mock::within(Duration::from_secs(10))
    }

    fn within(timeout: Duration) -> Mock {
        Mock::start(timeout, None, || {})
    }

    /// `metadata_is_taken` is called each time the group's metadata is taken.
    fn start(
        timeout: Duration,
        topics: Option<TopicLooks>,
        metadata_is_taken: impl Fn() + Send + Sync + 'static,
    ) -> Mock {
        let cluster = MockCluster::new(1).expect("a mock broker");
        for topic in ["input", "state", "dlq"] {
            cluster.create_topic(topic, 1, 1).expect("the mock accepts it");
        }
        let settings = CommitSettings {
            topic: "input".into(),
            state_topic: "state".into(),
            dlq_topic: "dlq".into(),
            min_in_sync: [None, None],
            group_id: "group".into(),
            instance: "this".to_owned(),
            member_ids: MemberIds::Configured(String::new()),
            transaction_timeout: timeout,
        };
        let clients = clients(cluster.bootstrap_servers(), "instance", "group", timeout);
        // The mock does not check generations, so the test does not wait for a join.
        let outsider: BaseConsumer = clients.offset_reader.create().expect("valid");
        let group: GroupView = Arc::new(move || {
            metadata_is_taken();
            Membership::Member(outsider.group_metadata().expect("a consumer with a group"))
        });
        let ownership = Arc::new(Ownership::new());
        let gates = CommitGates { group, ownership: Arc::clone(&ownership), topics };
        let (context, metadata) = (DefaultConsumerContext, OffsetMetadata::new("run", TopicIds::default()));
        let transactions =
            CommitThread::start(settings, clients, context, gates, metadata, Arc::new(SystemClock)).expect("a thread");
        let mock = Mock { cluster, ownership, transactions };
        assert!(matches!(reset(&mock.transactions), ResetOutcome::Ready(_)));
        mock
    }

    fn content(&self, number: u64) -> TransactionContent {
        let key = Arc::from(&b"42"[..]);
        let snapshot = OutputRecord::snapshot(P0, Offset(0), EntitySnapshot { key, value: None, trace: None });
        let epoch = self.ownership.mint(P0);
        let range = OffsetRange { partition: P0, epoch, start: None, end: Position(1), newest_state: None };
        TransactionContent { number, records: vec![snapshot], offset_ranges: vec![range] }
    }

    fn commit(&self, number: u64) -> CommitOutcome {
        commit(&self.transactions, self.content(number))
    }
}
