//! DLQ records, marks and fates, without a broker.

use std::borrow::Cow;

use steward::entity::Reason;
use steward::record::{Offset, Partition};
use steward::service::Service;
use steward::tools::dlq::{
    DlqLocation, DlqRecord, InputLog, Obstacle, Outlook, Overtaken, ReplayDecision, ReplayReceipt, ReplayReceipts,
    fate, outlook,
};

type Headers<'a> = Vec<(Cow<'a, str>, Option<&'a [u8]>)>;

#[apply(offline_test)]
fn an_event_keeps_its_own_headers_but_for_those_of_steward() {
    let own: &[(&str, &str)] = &[("trace", "1"), ("steward-reason", "mine"), ("steward-replayed-from", "dlq-0@3")];
    let letter = letter(own, &[], Some(b"{}"));

    let names: Vec<&str> = letter.own_headers().map(|(name, _)| name).collect();
    assert_eq!(names, ["trace", "steward-reason", "steward-replayed-from"]);
    assert_eq!(letter.reason(), Some(Reason::NotFound), "the last of the name");
    let replay = letter.replay("dlq").expect("it tells everything");
    let headers: Vec<(&str, &[u8])> =
        replay.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref().expect("not null"))).collect();
    assert_eq!(headers, [("trace", &b"1"[..]), ("steward-replayed-from", b"dlq-2@7")]);
    assert_eq!((replay.partition, replay.key.as_deref()), (Partition(2), Some(&b"42"[..])));
}

#[apply(offline_test)]
fn a_record_of_somebody_else_is_read_without_a_panic() {
    let hostile: [Headers<'_>; 4] = [
        vec![],
        vec![("steward-reason".into(), None)],
        vec![("steward-reason".into(), Some(&[0xff])), ("steward-source-offset".into(), Some(b"-1"))],
        vec![("steward-source-partition".into(), Some(b"99999999999999999999"))],
    ];
    for headers in hostile {
        let letter = DlqRecord::new(PLACE, None, None, None, headers);
        assert_eq!((letter.reason(), letter.source(), letter.replay("dlq")), (None, None, None));
        assert_eq!(fate(&letter, &input(), &ReplayReceipts::default()), ReplayDecision::Kept(Obstacle::Unreadable));
        assert_eq!(outlook(&Service, &letter, 0, 100), Outlook::RefusedAgain);
    }
}

#[apply(offline_test)]
fn what_cannot_be_replayed_is_told_apart() {
    let nothing = ReplayReceipts::default();
    let whole = letter(&[], &[], Some(b"{}"));
    assert_eq!(fate(&whole, &input(), &nothing), ReplayDecision::Replay(Reason::NotFound));
    let truncated = letter(&[], &[("steward-truncated", "true"), ("steward-truncated-length", "5")], None);
    assert_eq!(fate(&truncated, &input(), &nothing), ReplayDecision::Kept(Obstacle::Truncated));
    assert_eq!(truncated.truncated_bytes(), Some(5));
    let newer = letter(&[], &[("steward-reason", "too_sad")], Some(b"{}"));
    assert_eq!(fate(&newer, &input(), &nothing), ReplayDecision::Kept(Obstacle::Unreadable));
    let smaller = InputLog { partitions: 2, ..input() };
    assert_eq!(fate(&whole, &smaller, &nothing), ReplayDecision::Kept(Obstacle::FromElsewhere));
    let elsewhere = InputLog { topic: "others".into(), ..input() };
    assert_eq!(fate(&whole, &elsewhere, &nothing), ReplayDecision::Kept(Obstacle::FromElsewhere));

    let mut replayed = ReplayReceipts::default();
    replayed.add(whole.mark().expect("it tells its source"));
    assert_eq!(fate(&whole, &input(), &replayed), ReplayDecision::Replayed);
}

#[apply(offline_test)]
fn a_mark_reads_back_and_counts_only_for_its_own_letter() {
    let mark = letter(&[], &[], None).mark().expect("it tells its source");
    let mut replayed = ReplayReceipts::default();
    replayed.take(Some(mark.key().as_bytes()), Some(mark.value().as_bytes())).expect("it is a mark");
    assert!(replayed.contains(&mark) && replayed.len() == 1);
    for other in [
        ReplayReceipt { source_offset: Offset(18), ..mark },
        ReplayReceipt { refused_ms: Some(6), ..mark },
        ReplayReceipt { refused_ms: None, ..mark },
        ReplayReceipt { source_partition: Partition(1), ..mark },
        ReplayReceipt { letter: DlqLocation { offset: Offset(8), ..mark.letter }, ..mark },
    ] {
        assert!(!replayed.contains(&other), "{other:?}");
    }
    let newer = mark.value().replacen('{', r#"{"told_by_a_newer_one":1,"#, 1);
    replayed.take(Some(mark.key().as_bytes()), Some(newer.as_bytes())).expect("it is a mark");
    assert!(replayed.contains(&mark));
    replayed.take(Some(mark.key().as_bytes()), None).expect("it takes the mark back");
    assert!(replayed.is_empty());
}

#[apply(offline_test)]
fn what_is_no_mark_is_refused() {
    let mut replayed = ReplayReceipts::default();
    let value: &[u8] = br#"{"source_partition":0,"source_offset":1,"refused_ms":null}"#;
    replayed.take(Some(b"0-1"), Some(value)).expect("it is a mark");
    for key in [None, Some(&b""[..]), Some(b"01"), Some(b"-1-1"), Some(b"0--1"), Some(b"0-x"), Some(&[0xff])] {
        assert!(replayed.take(key, Some(value)).is_err(), "{key:?}");
    }
    for value in [&b""[..], b"1", b"{}", br#"{"source_partition":0,"source_offset":"1","refused_ms":null}"#] {
        assert!(replayed.take(Some(b"0-1"), Some(value)).is_err(), "{value:?}");
    }
}

#[apply(offline_test)]
fn a_rule_on_the_event_alone_refuses_it_again() {
    let update = br#"{"eventType":"ServiceUpdated","id":42,"pricePerHour":1}"#;
    let create = br#"{"eventType":"ServiceCreated","id":42,"name":"n","description":"d","tags":[]}"#;
    for (value, expected) in [
        (Some(&update[..]), Outlook::Open),
        (Some(create), Outlook::Open),
        (Some(br#"{"eventType":"ServiceUpdated","id":43}"#), Outlook::RefusedAgain),
        (Some(b"{"), Outlook::RefusedAgain),
        (None, Outlook::RefusedAgain),
    ] {
        let letter = letter(&[], &[], value);
        assert_eq!(outlook(&Service, &letter, 1_700_000_000_000, 1_000), expected, "{value:?}");
    }
    let large = letter(&[], &[], Some(update));
    assert_eq!(outlook(&Service, &large, 1_700_000_000_000, 10), Outlook::RefusedAgain, "until the limit is raised");
}

#[apply(offline_test)]
fn letters_that_are_older_than_their_service_are_counted() {
    let mut overtaken = Overtaken::default();
    overtaken.add(&letter(&[], &[], None));
    overtaken.add(&letter(&[], &[("steward-source-offset", "20")], None));
    assert_eq!(overtaken.count(), 0, "nothing is known of the service");
    overtaken.observe(Partition(1), b"42", Offset(100));
    overtaken.observe(Partition(2), b"43", Offset(100));
    assert_eq!(overtaken.count(), 0, "others");
    overtaken.observe(Partition(2), b"42", Offset(17));
    assert_eq!(overtaken.count(), 0, "it contains what is just as old");
    overtaken.observe(Partition(2), b"42", Offset(18));
    assert_eq!(overtaken.count(), 1);
    overtaken.observe(Partition(2), b"42", Offset(21));
    assert_eq!(overtaken.count(), 2);
}

// ------------------------------------------------------------------------------------------------------------ below

const PLACE: DlqLocation = DlqLocation { partition: Partition(2), offset: Offset(7) };

fn input() -> InputLog {
    InputLog { topic: "events".into(), partitions: 3 }
}

/// At [`PLACE`], of the event at offset 17 of partition 2, with key 42; `further` headers stand behind steward's.
fn letter<'a>(own: &[(&'a str, &'a str)], further: &[(&'a str, &'a str)], value: Option<&'a [u8]>) -> DlqRecord<'a> {
    let steward = [
        ("steward-reason", "not_found"),
        ("steward-detail", "d"),
        ("steward-source-topic", "events"),
        ("steward-source-partition", "2"),
        ("steward-source-offset", "17"),
        ("steward-source-timestamp", "-1"),
    ];
    let headers = own.iter().chain(&steward).chain(further);
    let headers = headers.map(|(name, value)| (Cow::Borrowed(*name), Some(value.as_bytes()))).collect();
    DlqRecord::new(PLACE, Some(5), Some(b"42"), value, headers)
}
