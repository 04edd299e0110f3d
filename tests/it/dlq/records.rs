//! DLQ records, receipts and decisions, without a broker.

use std::borrow::Cow;

use steward::entity::Reason;
use steward::record::{Offset, Partition};
use steward::service::Service;
use steward::tools::dlq::{
    DlqLocation, DlqRecord, InputLog, Obstacle, Outlook, Overtaken, ReplayDecision, ReplayReceipt, ReplayReceipts,
    Truncation, decide, outlook,
};

type Headers<'a> = Vec<(Cow<'a, str>, Option<&'a [u8]>)>;

#[apply(offline_test)]
fn an_event_keeps_its_own_headers_except_those_of_steward() {
    let own: &[(&str, &str)] = &[("trace", "1"), ("steward-reason", "mine"), ("steward-replayed-from", "dlq-0@3")];
    let dlq_record = dlq_record(own, &[], Some(b"{}"));

    let names: Vec<&str> = dlq_record.own_headers().map(|(name, _)| name).collect();
    assert_eq!(names, ["trace", "steward-reason", "steward-replayed-from"]);
    assert_eq!(dlq_record.reason(), Some(Reason::NotFound), "the last header with this name counts");
    let replay = dlq_record.replay("dlq").expect("the record has all headers");
    let headers: Vec<(&str, &[u8])> =
        replay.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref().expect("not null"))).collect();
    assert_eq!(headers, [("trace", &b"1"[..]), ("steward-replayed-from", b"dlq-2@7")]);
    assert_eq!((replay.partition, replay.key.as_deref()), (Partition(2), Some(&b"42"[..])));
}

#[apply(offline_test)]
fn a_foreign_record_is_read_without_a_panic() {
    let hostile: [Headers<'_>; 4] = [
        vec![],
        vec![("steward-reason".into(), None)],
        vec![("steward-reason".into(), Some(&[0xff])), ("steward-source-offset".into(), Some(b"-1"))],
        vec![("steward-source-partition".into(), Some(b"99999999999999999999"))],
    ];
    for headers in hostile {
        let dlq_record = DlqRecord::new(PLACE, None, None, None, headers);
        assert_eq!((dlq_record.reason(), dlq_record.source(), dlq_record.replay("dlq")), (None, None, None));
        assert_eq!(
            decide(&dlq_record, &input(), &ReplayReceipts::default()),
            ReplayDecision::Kept(Obstacle::Unreadable)
        );
        assert_eq!(outlook(&Service, &dlq_record, 0, 100), Outlook::RefusedAgain);
    }
}

#[apply(offline_test)]
fn obstacles_to_a_replay_are_distinguished() {
    let nothing = ReplayReceipts::default();
    let whole = dlq_record(&[], &[], Some(b"{}"));
    assert_eq!(decide(&whole, &input(), &nothing), ReplayDecision::Replay(Reason::NotFound));
    let truncated = dlq_record(&[], &[("steward-truncated", "true"), ("steward-truncated-length", "5")], None);
    assert_eq!(decide(&truncated, &input(), &nothing), ReplayDecision::Kept(Obstacle::Truncated));
    let lacks_value = Truncation { value_bytes: Some(5), headers: None, key_bytes: None, key_sha256: None };
    assert_eq!((truncated.truncation(), whole.truncation()), (Some(lacks_value), None));
    let cut_key = [
        ("steward-truncated", "true"),
        ("steward-truncated-headers", "3"),
        ("steward-truncated-key-length", "900"),
        ("steward-truncated-key-sha256", "ab"),
    ];
    let cut_key = dlq_record(&[], &cut_key, None);
    assert_eq!(decide(&cut_key, &input(), &nothing), ReplayDecision::Kept(Obstacle::Truncated), "its value was null");
    let lacks_key = Truncation { value_bytes: None, headers: Some(3), key_bytes: Some(900), key_sha256: Some("ab") };
    assert_eq!(cut_key.truncation(), Some(lacks_key));
    let newer = dlq_record(&[], &[("steward-reason", "too_sad")], Some(b"{}"));
    assert_eq!(decide(&newer, &input(), &nothing), ReplayDecision::Kept(Obstacle::Unreadable));
    let smaller = InputLog { partitions: 2, ..input() };
    assert_eq!(decide(&whole, &smaller, &nothing), ReplayDecision::Kept(Obstacle::FromElsewhere));
    let of_another_group = InputLog { group: "another".into(), ..input() };
    assert_eq!(decide(&whole, &of_another_group, &nothing), ReplayDecision::Kept(Obstacle::FromElsewhere));
    let elsewhere = InputLog { topic: "others".into(), ..input() };
    assert_eq!(decide(&whole, &elsewhere, &nothing), ReplayDecision::Kept(Obstacle::FromElsewhere));

    let mut replayed = ReplayReceipts::default();
    replayed.add(whole.receipt().expect("the record has source headers"));
    assert_eq!(decide(&whole, &input(), &replayed), ReplayDecision::Replayed);
}

#[apply(offline_test)]
fn a_receipt_reads_back_and_counts_only_for_its_own_dlq_record() {
    let receipt = dlq_record(&[], &[], None).receipt().expect("the record has source headers");
    let mut replayed = ReplayReceipts::default();
    replayed.take(Some(receipt.key().as_bytes()), Some(receipt.value().as_bytes())).expect("it is a receipt");
    assert!(replayed.contains(&receipt) && replayed.len() == 1);
    for other in [
        ReplayReceipt { source_offset: Offset(18), ..receipt },
        ReplayReceipt { refused_ms: Some(6), ..receipt },
        ReplayReceipt { refused_ms: None, ..receipt },
        ReplayReceipt { source_partition: Partition(1), ..receipt },
        ReplayReceipt { location: DlqLocation { offset: Offset(8), ..receipt.location }, ..receipt },
    ] {
        assert!(!replayed.contains(&other), "{other:?}");
    }
    let newer = receipt.value().replacen('{', r#"{"added_by_a_newer_version":1,"#, 1);
    replayed.take(Some(receipt.key().as_bytes()), Some(newer.as_bytes())).expect("it is a receipt");
    assert!(replayed.contains(&receipt));
    replayed.take(Some(receipt.key().as_bytes()), None).expect("it removes the receipt");
    assert!(replayed.is_empty());
}

#[apply(offline_test)]
fn a_record_that_is_no_receipt_is_refused() {
    let mut replayed = ReplayReceipts::default();
    let value: &[u8] = br#"{"source_partition":0,"source_offset":1,"refused_ms":null}"#;
    replayed.take(Some(b"0-1"), Some(value)).expect("it is a receipt");
    for key in [None, Some(&b""[..]), Some(b"01"), Some(b"-1-1"), Some(b"0--1"), Some(b"0-x"), Some(&[0xff])] {
        assert!(replayed.take(key, Some(value)).is_err(), "{key:?}");
    }
    for value in [&b""[..], b"1", b"{}", br#"{"source_partition":0,"source_offset":"1","refused_ms":null}"#] {
        assert!(replayed.take(Some(b"0-1"), Some(value)).is_err(), "{value:?}");
    }
}

#[apply(offline_test)]
fn an_event_that_breaks_a_rule_by_itself_is_rejected_again() {
    let update = br#"{"eventType":"ServiceUpdated","id":42,"pricePerHour":1}"#;
    let create = br#"{"eventType":"ServiceCreated","id":42,"name":"n","description":"d","tags":[]}"#;
    for (value, expected) in [
        (Some(&update[..]), Outlook::Open),
        (Some(create), Outlook::Open),
        (Some(br#"{"eventType":"ServiceUpdated","id":43}"#), Outlook::RefusedAgain),
        (Some(b"{"), Outlook::RefusedAgain),
        (None, Outlook::RefusedAgain),
    ] {
        let dlq_record = dlq_record(&[], &[], value);
        assert_eq!(outlook(&Service, &dlq_record, 1_700_000_000_000, 1_000), expected, "{value:?}");
    }
    let large = dlq_record(&[], &[], Some(update));
    assert_eq!(outlook(&Service, &large, 1_700_000_000_000, 10), Outlook::RefusedAgain, "until the limit is raised");
}

#[apply(offline_test)]
fn events_older_than_their_service_are_counted() {
    let mut overtaken = Overtaken::default();
    overtaken.add(&dlq_record(&[], &[], None));
    overtaken.add(&dlq_record(&[], &[("steward-source-offset", "20")], None));
    assert_eq!(overtaken.count(), 0, "the service has no snapshot");
    overtaken.observe(Partition(1), b"42", Offset(100));
    overtaken.observe(Partition(2), b"43", Offset(100));
    assert_eq!(overtaken.count(), 0, "other services");
    overtaken.observe(Partition(2), b"42", Offset(17));
    assert_eq!(overtaken.count(), 0, "the newest event of the service is this one");
    overtaken.observe(Partition(2), b"42", Offset(18));
    assert_eq!(overtaken.count(), 1);
    overtaken.observe(Partition(2), b"42", Offset(21));
    assert_eq!(overtaken.count(), 2);
}

// ------------------------------------------------------------------------------------------------------------ helpers

const PLACE: DlqLocation = DlqLocation { partition: Partition(2), offset: Offset(7) };

fn input() -> InputLog {
    InputLog { topic: "events".into(), partitions: 3, group: "steward".into() }
}

/// A DLQ record at [`PLACE`] for the event at offset 17 of partition 2, with key 42. `further` headers follow those of
/// steward.
fn dlq_record<'a>(
    own: &[(&'a str, &'a str)],
    further: &[(&'a str, &'a str)],
    value: Option<&'a [u8]>,
) -> DlqRecord<'a> {
    let steward = [
        ("steward-reason", "not_found"),
        ("steward-detail", "d"),
        ("steward-source-topic", "events"),
        ("steward-source-partition", "2"),
        ("steward-source-offset", "17"),
        ("steward-source-timestamp", "-1"),
        ("steward-group", "steward"),
    ];
    let headers = own.iter().chain(&steward).chain(further);
    let headers = headers.map(|(name, value)| (Cow::Borrowed(*name), Some(value.as_bytes()))).collect();
    DlqRecord::new(PLACE, Some(5), Some(b"42"), value, headers)
}
