//! Records that are larger than their compressed size, or larger than the next topic accepts.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use steward::entity::Reason;
use steward::testing::reference::Model;
use steward::testing::reference::check::Fault;

use crate::faults::number;
use crate::support::kafka::{ANY_TIMESTAMP, Kafka, Outgoing, Stored, record};
use crate::support::ledger::{Ledger, MAX_PAYLOAD_BYTES};
use crate::support::names::Names;
use crate::support::process::Setup;
use crate::support::wait::PATIENCE;

#[apply(broker_test)]
fn an_event_that_is_small_only_while_compressed_costs_one_dlq_record() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 1);
    kafka.produce(&names.input, &[created(1)]);
    for (codec, key) in [("lz4", "1"), ("zstd", "2")] {
        kafka.produce_with(&[("compression.type", codec)], &names.input, &[record(key, blanks(10_000_000))]);
    }
    kafka.produce(&names.input, &[updated(1)]);
    let mut steward = Setup::new(&kafka, &names).start();

    let ledger = Ledger::of(&kafka, &names).assert_exact();
    let dlq_records = &ledger.seen.dlq_records;
    assert_eq!(dlq_records.len(), 2, "one for each");
    for record in dlq_records {
        assert_eq!(record.last_header("steward-reason"), Some(Some(&b"payload_too_large"[..])));
        assert_eq!(record.value.as_ref().map(Vec::len), Some(10_000_000), "whole");
    }
    assert_eq!(ledger.model.state()[&(0, b"1".to_vec())].newest_offset, 3, "its partition went on");
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

/// The input accepts it because zstd halves it. DLQ records are written with lz4, which does not make it smaller.
#[apply(broker_test)]
fn a_dlq_record_that_is_too_large_is_written_without_its_value() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 1);
    let large = digits(1_700_000);
    kafka.produce(&names.input, &[created(1), updated(2)]);
    let large_one = [record("1", &large).header("mine", "kept"), record("3", &large)];
    kafka.produce_with(&[("compression.type", "zstd"), ("batch.size", "1000")], &names.input, &large_one);
    kafka.produce(&names.input, &[updated(1), updated(3)]);
    let mut steward = Setup::new(&kafka, &names).start();

    let ledger = Ledger::of(&kafka, &names);
    let dlq_records = &ledger.seen.dlq_records;
    let offsets: Vec<_> = dlq_records.iter().map(|record| record.last_header("steward-source-offset")).collect();
    assert_eq!(offsets, ["1", "2", "3", "5"].map(|offset| Some(Some(offset.as_bytes()))), "each once, in order");
    for record in &dlq_records[1..3] {
        assert_eq!(record.value, None);
        for (name, value) in [
            ("steward-reason", Reason::PayloadTooLarge.code()),
            ("steward-truncated", "true"),
            ("steward-truncated-length", "1700000"),
        ] {
            assert_eq!(record.last_header(name), Some(Some(value.as_bytes())), "{name}");
        }
    }
    assert_eq!(dlq_records[1].headers[0], ("mine".to_owned(), Some(b"kept".to_vec())), "the event's headers stay");
    // Nothing else differs, in particular not the events around them.
    for difference in ledger.differences() {
        let is_about_one_of_them = matches!(difference.offset, Some(2 | 3));
        let is_of_the_truncation = matches!(difference.fault, Fault::DlqRecordValue | Fault::DlqRecordHeader);
        assert!(is_about_one_of_them && is_of_the_truncation, "{difference}");
    }
    let truncated = steward.wait_for_event("record_truncated", PATIENCE);
    assert_eq!((number(&truncated, "partition"), number(&truncated, "offset")), (0, 2));
    assert_eq!(number(&truncated, "bytes"), 1_700_000);
    steward.stop();
    let counted = steward.wait_for_event("records_truncated", PATIENCE);
    assert_eq!((number(&counted, "count"), number(&counted, "last_offset")), (1, 3), "each is counted once");
    assert_eq!(steward.events("record_truncated").len(), 1, "only the first is logged");
    steward.assert_no_errors_but(&[]);
    assert_eq!(kafka.read_committed(&names.dlq).iter().filter(|record| is_truncated(record)).count(), 2);
}

/// A value of 70 MB that is some KB on the wire, and keys and headers that only the producer's codec makes small.
#[apply(broker_test)]
fn no_event_is_too_large_for_a_dlq_record() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, 1);
    kafka.produce(&names.input, &[created(1)]);
    let large = digits(1_700_000);
    let producer = [("compression.type", "zstd"), ("batch.size", "1000"), ("message.max.bytes", "100000000")];
    for event in [
        record("1", blanks(70_000_000)),
        record(large.clone(), "{}"),
        record("2", "{}").header("large", String::from_utf8(large.clone()).expect("digits")),
    ] {
        kafka.produce_with(&producer, &names.input, &[event.to(0)]);
    }
    kafka.produce(&names.input, &[updated(1)]);
    let mut steward = Setup::new(&kafka, &names).start();

    let ledger = Ledger::of(&kafka, &names);
    let [value, key, headers] = &ledger.seen.dlq_records[..] else {
        panic!("{} records", ledger.seen.dlq_records.len())
    };
    for cut in [value, key, headers] {
        assert_eq!((&cut.value, cut.last_header("steward-truncated")), (&None, Some(Some(&b"true"[..]))));
    }
    assert_eq!(value.last_header("steward-reason"), Some(Some(&b"payload_too_large"[..])));
    assert_eq!(value.last_header("steward-truncated-length"), Some(Some(&b"70000000"[..])));
    assert_eq!(key.key.as_deref(), Some(&large[..256]));
    assert_eq!(key.last_header("steward-truncated-key-length"), Some(Some(&b"1700000"[..])));
    assert_eq!(headers.last_header("steward-truncated-headers"), Some(Some(&b"1"[..])));
    assert_eq!(headers.key.as_deref(), Some(&b"2"[..]), "the key stays whole");
    assert_eq!(ledger.model.state()[&(0, b"1".to_vec())].newest_offset, 4, "the partition went on");
    let is_of_a_cut = |fault| {
        use Fault::{DlqRecordHeader, DlqRecordKey, DlqRecordOriginalHeaders, DlqRecordValue};
        matches!(fault, DlqRecordHeader | DlqRecordKey | DlqRecordOriginalHeaders | DlqRecordValue)
    };
    let others: Vec<_> = ledger.differences().into_iter().filter(|found| !is_of_a_cut(found.fault)).collect();
    assert!(others.is_empty(), "{others:?}");
    steward.stop();
    steward.assert_no_errors_but(&[]);
    for part in ["value", "headers", "key"] {
        assert!(steward.events("record_truncated").iter().any(|line| line["part"] == part), "{part}");
    }
}

/// Each event is small enough for the input, and the services that grow by them are not for the state topic.
#[apply(broker_test)]
fn an_event_whose_snapshot_does_not_fit_costs_one_dlq_record() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_topic(&names.input, 1, &[&[("max.message.bytes", "16384")][..], &ANY_TIMESTAMP].concat());
    let small = [("cleanup.policy", "compact"), ("max.message.bytes", "16384"), ("delete.retention.ms", RETENTION_MS)];
    kafka.create_topic(&names.state, 1, &small);
    let tags = String::from_utf8(digits(15_000)).expect("digits");
    let with_tags = |id: u64| {
        let json = format!(r#"{{"eventType":"ServiceUpdated","id":{id},"tags":["{tags}"]}}"#);
        record(id.to_string(), json).to(0).at(1_700_000_000_001)
    };
    kafka.produce(&names.input, &[created(1), created(2), with_tags(1), updated(2), updated(1)]);
    let mut steward = Setup::new(&kafka, &names).start();
    let model = || Model::keeping_history(MAX_PAYLOAD_BYTES).with_snapshot_limit(16_384 - 2_048);

    let ledger = Ledger::with_model(&kafka, &names, model()).assert_exact();
    let [rejected] = &ledger.seen.dlq_records[..] else { panic!("{:?}", ledger.seen.dlq_records) };
    assert_eq!(rejected.last_header("steward-reason"), Some(Some(&b"state_too_large"[..])));
    let state = ledger.model.state();
    let newest = [b"1", b"2"].map(|key| state[&(0, key.to_vec())].newest_offset);
    assert_eq!(newest, [4, 3], "the entity of the event goes on as well");
    steward.kill9();
    // The restart verifies the same events under the same limit.
    let mut steward = Setup::new(&kafka, &names).start();
    kafka.produce(&names.input, &[updated(1)]);
    Ledger::with_model(&kafka, &names, model()).assert_exact();
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

// ----------------------------------------------------------------------------------------------------------- helpers

/// Longer than the input keeps its events.
const RETENTION_MS: &str = "9223372036854775807";

fn created(id: u64) -> Outgoing {
    let json = format!(r#"{{"eventType":"ServiceCreated","id":{id},"name":"n","description":"d","tags":[]}}"#);
    record(id.to_string(), json).to(0).at(1_700_000_000_000)
}

fn updated(id: u64) -> Outgoing {
    record(id.to_string(), format!(r#"{{"eventType":"ServiceUpdated","id":{id}}}"#)).to(0).at(1_700_000_000_001)
}

/// JSON of this length that compresses to almost nothing.
fn blanks(length: usize) -> Vec<u8> {
    let head = br#"{"eventType":"ServiceDeleted","id":1"#;
    [&head[..], &vec![b' '; length - head.len() - 1], b"}"].concat()
}

/// Random digits. Half of their bits carry no information, so entropy coding halves them, and matching does nothing.
fn digits(length: usize) -> Vec<u8> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    (0..length).map(|_| b'0' + random.random_range(0..10_u8)).collect()
}

fn is_truncated(record: &Stored) -> bool {
    record.last_header("steward-truncated").as_deref() == Some("true")
}
