//! Records that do not fit: what a DLQ record leaves out, stage by stage, and when the group commit cuts it.

use std::sync::Arc;

use steward::engine::commit::transaction::{CommitOutcome, RefusedRecord};
use steward::engine::outcome::{Degradation, KEPT_KEY_BYTES, Outcomes, OutputRecord, RecordOrigin};
use steward::entity::{MAX_DETAIL_BYTES, Reason, Rejection};
use steward::record::{Batch, Epoch, Header, Offset, Position};

use super::P0;
use super::group_commit::{Committer, committed};

const T1: Epoch = Epoch(1);

#[apply(offline_test)]
fn a_dlq_record_is_cut_in_stages_and_names_what_was_cut() {
    let key = [b'k'; 1_000];
    let mut record = rejected(Some(&key), Some(b"0123456789"), &[("a", b"1234"), ("b", b"")]);
    assert_eq!(record.degrade(), Some((Degradation::Value, 10)));
    assert_eq!(headers_after_stewards(&record), [] as [String; 0]);

    record.degradation = Some(Degradation::Value);
    assert_eq!(record.degrade(), Some((Degradation::Headers, 6)));
    assert_eq!((record.key(), record.value()), (Some(&key[..]), None));
    assert_eq!(headers_after_stewards(&record), ["steward-truncated=true", "steward-truncated-length=10"]);
    assert_eq!(headers_of(&record)[..2], ["a=1234", "b="], "the event's own stay");

    record.degradation = Some(Degradation::Headers);
    assert_eq!(record.degrade(), Some((Degradation::Key, 1_000 - KEPT_KEY_BYTES as u64)));
    let of_both = ["steward-truncated=true", "steward-truncated-length=10", "steward-truncated-headers=2"];
    assert_eq!(headers_after_stewards(&record), of_both);
    assert!(headers_of(&record)[0].starts_with("steward-reason="), "none of the event's own");
    assert_eq!(record.key(), Some(&key[..]));

    record.degradation = Some(Degradation::Key);
    assert_eq!(record.degrade(), None);
    assert_eq!(record.key(), Some(&key[..KEPT_KEY_BYTES]));
    // `head -c 1000 /dev/zero | tr '\0' k | sha256sum`
    let sha256 = "27fed049cf80e0eff71ab837c82a50327b7677ebda22305d3f353f0989488669";
    let of_the_key = ["steward-truncated-key-length=1000".to_owned(), format!("steward-truncated-key-sha256={sha256}")];
    assert_eq!(headers_after_stewards(&record)[3..], of_the_key);
}

#[apply(offline_test)]
fn a_stage_that_leaves_out_nothing_is_skipped() {
    let long_key = [b'k'; 300];
    let mut null_payload = rejected(Some(&long_key), None, &[]);
    assert_eq!(null_payload.degrade(), Some((Degradation::Key, 44)));
    null_payload.degradation = Some(Degradation::Key);
    let names: Vec<String> = headers_after_stewards(&null_payload);
    assert_eq!(names[..2], ["steward-truncated=true", "steward-truncated-headers=0"], "there was no value");
    assert_eq!(rejected(Some(b"1"), None, &[]).degrade(), None);
    assert_eq!(rejected(None, Some(b""), &[]).degrade(), None);
}

#[apply(offline_test)]
fn what_remains_of_a_cut_dlq_record_is_a_few_kib() {
    let large = vec![b'x'; 3_000_000];
    let name = String::from_utf8(large.clone()).expect("letters");
    let mut record = rejected(Some(&large), Some(&large), &[(&name, &large)]);
    assert!(record.weight_bytes() > 12_000_000);
    record.degradation = Some(Degradation::Key);
    assert!(record.weight_bytes() < 8_192, "{}", record.weight_bytes());
}

#[apply(offline_test)]
fn a_dlq_record_that_is_refused_again_and_again_is_cut_further_until_it_fits() {
    let mut committer = Committer::new();
    let repairs = Outcomes::from_iter([rejected(Some(&[b'k'; 300]), Some(b"0123456789"), &[("a", b"1234")])]);
    assert_eq!(committer.joins_with(P0, T1, None, 8, repairs), ["commit 1 0:-..8 !0.7"]);
    let refused = || CommitOutcome::Refused {
        cause: "too large".to_owned(),
        record: Some(RefusedRecord { index: 0, too_large: true }),
    };
    assert_eq!(committer.ends(refused()), ["log truncated 0/7 of 10 bytes", "commit 2 0:-..8 ~0.7"]);
    assert_eq!(committer.ends(refused()), ["log without headers 0/7 of 5 bytes", "commit 3 0:-..8 ~0.7"]);
    assert_eq!(committer.ends(refused()), ["log with a cut key 0/7 of 44 bytes", "commit 4 0:-..8 ~0.7"]);
    assert_eq!(committer.ends(committed()), ["committed 4 batches [1]"]);
}

/// The client's queue would refuse it indefinitely.
#[apply(offline_test)]
fn a_dlq_record_that_no_client_takes_is_cut_before_it_is_sent() {
    let mut committer = Committer::with_dlq_limit(5_000);
    let large = [b'v'; 4_000];
    let repairs = [
        rejected_at(6, Some(b"1"), Some(&large), &[]),
        rejected_at(8, Some(b"2"), Some(&large), &[("a", &large)]),
        rejected_at(9, Some(&[b'3'; 9_000]), Some(&large), &[("a", &large)]),
    ];
    let commands = committer.joins_with(P0, T1, None, 10, Outcomes::from_iter(repairs));
    assert_eq!(
        commands,
        [
            "log truncated 0/8 of 4000 bytes",
            "log truncated 0/9 of 4000 bytes",
            "log without headers 0/9 of 4001 bytes",
            "log with a cut key 0/9 of 8744 bytes",
            "commit 1 0:-..10 !0.6 ~0.8 ~0.9"
        ]
    );
}

// ----------------------------------------------------------------------------------------------------------- helpers

fn rejected(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, &[u8])]) -> OutputRecord {
    rejected_at(7, key, value, headers)
}

fn rejected_at(offset: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, &[u8])]) -> OutputRecord {
    let mut batch = Batch::new(P0, T1, Position(offset));
    let headers = headers.iter().map(|(name, value)| Header { name, value: Some(value) });
    batch.push(Offset(offset), Some(0), key, value, headers);
    let detail = "d".repeat(if offset == 7 { MAX_DETAIL_BYTES } else { 1 });
    OutputRecord::rejected(&Arc::new(batch), 0, Rejection::new(Reason::MalformedJson, detail))
}

fn headers_of(record: &OutputRecord) -> Vec<String> {
    let origin = RecordOrigin { group: "group", source_topic: "services" };
    record.fold_headers(&origin, Vec::new(), |mut headers, name, value| {
        headers.push(format!("{name}={}", String::from_utf8_lossy(value.unwrap_or_default())));
        headers
    })
}

/// Those after the headers that every DLQ record has.
fn headers_after_stewards(record: &OutputRecord) -> Vec<String> {
    let headers = headers_of(record);
    let first = headers.iter().position(|header| header.starts_with("steward-truncated")).unwrap_or(headers.len());
    headers[first..].to_vec()
}
