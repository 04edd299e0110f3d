//! The workload generator: each event has the outcome of its kind, and a seed always gives the same bytes.

use std::collections::BTreeMap;

use steward::entity::Reason;
use steward::testing::reference::{Model, ModelVerdict};
use steward::testing::workload::{EventKind, GeneratedEvent, InvalidKind, OddKind, Workload, WorkloadError};

#[apply(offline_test)]
fn every_event_has_the_outcome_of_its_kind() {
    let workload = Workload { events: 20_000, keys: 500, invalid_share: 0.3, odd_share: 0.2, ..everything() };
    assert_outcome_of_kind(&workload);
}

#[apply(offline_test)]
fn events_of_a_single_key_have_the_outcome_of_their_kind() {
    let workload = Workload { events: 3_000, keys: 1, deletes: 1.0, creates: 1.0, updates: 1.0, ..everything() };
    assert_outcome_of_kind(&workload);
}

#[apply(offline_test)]
fn every_kind_occurs_in_a_long_stream() {
    let workload = Workload { events: 20_000, keys: 300, invalid_share: 0.4, odd_share: 0.2, ..everything() };
    let counts = counts(&events(&workload));
    let expected =
        InvalidKind::ALL.into_iter().map(EventKind::Invalid).chain(OddKind::ALL.into_iter().map(EventKind::Odd));
    for kind in expected.chain([EventKind::Created, EventKind::Updated, EventKind::Deleted]) {
        assert!(counts.contains_key(&kind), "{kind:?} never occurred");
    }
}

/// The hashes of two workloads. A change of the generator changes the meaning of every recorded seed, so the changelog
/// has to mention it.
#[apply(offline_test)]
fn the_bytes_of_a_seed_never_change() {
    let zipf = Workload { events: 5_000, keys: 1_000, zipf_exponent: 1.1, ..everything() };
    let uniform = Workload { events: 5_000, keys: 1_000, seed: 42, ..Workload::default() };
    assert_eq!(
        [hash(&events(&zipf)), hash(&events(&uniform))],
        [8_270_197_587_305_074_856, 16_689_550_056_206_614_235]
    );
}

#[apply(offline_test)]
fn another_seed_gives_another_stream() {
    let first = Workload { events: 100, ..Workload::default() };
    let second = Workload { seed: 2, ..first.clone() };
    assert_ne!(events(&first), events(&second));
}

#[apply(offline_test)]
fn valid_events_come_in_the_configured_shares() {
    let workload = Workload { events: 40_000, keys: 5_000, invalid_share: 0.0, odd_share: 0.0, ..Workload::default() };
    let counts = counts(&events(&workload));
    let share = |kind| *counts.get(&kind).unwrap_or(&0) as f64 / 40_000.0;
    assert_close("updates", share(EventKind::Updated), 0.90, 0.01);
    assert_close("creates", share(EventKind::Created), 0.07, 0.01);
    assert_close("deletes", share(EventKind::Deleted), 0.03, 0.01);
}

#[apply(offline_test)]
fn invalid_events_come_in_the_configured_share() {
    let events = events(&Workload { events: 40_000, invalid_share: 0.05, ..Workload::default() });
    let invalid = events.iter().filter(|event| event.kind.reason().is_some()).count();
    assert_close("invalid events", invalid as f64 / 40_000.0, 0.05, 0.005);
}

#[apply(offline_test)]
fn popular_keys_get_most_of_the_events() {
    assert!(share_of_the_ten_most_frequent(1.2) > 0.4);
}

#[apply(offline_test)]
fn without_an_exponent_all_keys_are_equally_frequent() {
    assert!(share_of_the_ten_most_frequent(0.0) < 0.05);
}

#[apply(offline_test)]
fn creations_have_a_realistic_size() {
    let events = events(&Workload { events: 20_000, creates: 1.0, updates: 0.0, ..Workload::default() });
    let sizes: Vec<usize> = events
        .iter()
        .filter(|event| event.kind == EventKind::Created)
        .map(|event| event.value.as_ref().map_or(0, Vec::len))
        .collect();
    let mean = sizes.iter().sum::<usize>() as f64 / sizes.len() as f64;
    assert!((170.0..=220.0).contains(&mean), "creations have {mean} bytes on average");
}

#[apply(offline_test)]
fn timestamps_rise_from_the_configured_start() {
    let workload = Workload { events: 1_000, start_timestamp_ms: 5_000, interval_ms: 10, ..Workload::default() };
    let times: Vec<i64> = events(&workload).iter().map(|event| event.timestamp_ms).collect();
    assert_eq!(times[0], 5_000);
    assert!(times.is_sorted());
    assert_close("the mean interval", (times[999] - 5_000) as f64 / 999.0, 10.0, 1.0);
}

#[apply(offline_test)]
fn the_largest_payload_is_exactly_the_limit() {
    let length = |kind: EventKind, limit: u64| {
        let workload = Workload { events: 4_000, keys: 50, max_payload_bytes: limit, odd_share: 0.5, ..everything() };
        let event = events(&workload).into_iter().find(|event| event.kind == kind).expect("it occurs in 4,000 events");
        event.value.map_or(0, |value| value.len() as u64)
    };
    assert_eq!(length(EventKind::Odd(OddKind::LargestPayload), 1024), 1024);
    assert_eq!(length(EventKind::Invalid(InvalidKind::TooLarge), 1024), 1025);
}

#[apply(offline_test)]
fn kinds_are_parsed_from_their_names() {
    for kind in InvalidKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    for kind in OddKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    assert_eq!(InvalidKind::ByteOrderMark.name(), "byte-order-mark");
    let error = "nonsense".parse::<InvalidKind>().expect_err("there is no such kind").to_string();
    assert!(error.contains("nonsense") && error.contains("missing-key, empty-key"), "{error}");
}

#[apply(offline_test)]
fn the_kinds_cover_every_reason_that_an_event_alone_can_have() {
    let covered: Vec<Reason> = InvalidKind::ALL.map(InvalidKind::reason).into();
    for reason in Reason::ALL {
        // It takes a bug for the one, and a small state topic for the other.
        let depends_on_more = matches!(reason, Reason::Panicked | Reason::StateTooLarge);
        assert_eq!(covered.contains(&reason), !depends_on_more, "{reason:?}");
    }
}

#[apply(offline_test)]
fn wrong_parameters_are_refused_with_a_remedy() {
    let refused = |change: fn(&mut Workload)| {
        let mut workload = Workload::default();
        change(&mut workload);
        workload.generate().expect_err("it must be refused")
    };
    assert_eq!(refused(|it| it.keys = 0), WorkloadError::Keys(0));
    assert_eq!(refused(|it| it.zipf_exponent = -1.0), WorkloadError::ZipfExponent(-1.0));
    assert!(matches!(refused(|it| it.zipf_exponent = f64::NAN), WorkloadError::ZipfExponent(_)));
    assert_eq!(refused(|it| it.updates = -0.5), WorkloadError::Share { name: "updates", value: -0.5 });
    assert_eq!(refused(|it| (it.creates, it.updates, it.deletes) = (0.0, 0.0, 0.0)), WorkloadError::NoShares);
    assert_eq!(refused(|it| (it.invalid_share, it.odd_share) = (0.75, 0.5)), WorkloadError::TooManySpecial(1.25));
    assert_eq!(refused(|it| it.invalid_weights.clear()), WorkloadError::NoWeights("invalid"));
    assert_eq!(refused(|it| it.odd_weights.clear()), WorkloadError::NoWeights("odd"));
    assert_eq!(refused(|it| it.traced_share = 1.5), WorkloadError::TracedShare(1.5));
    assert_eq!(refused(|it| it.max_payload_bytes = 10), WorkloadError::MaxPayloadBytes(10));
    assert!(matches!(refused(|it| it.first_id = u64::MAX), WorkloadError::FirstId { .. }));
    assert!(matches!(refused(|it| it.start_timestamp_ms = -1), WorkloadError::Timestamps { .. }));
    assert!(matches!(refused(|it| it.interval_ms = u64::MAX), WorkloadError::Timestamps { .. }));
    let text = refused(|it| it.invalid_weights.clear()).to_string();
    assert_eq!(
        text,
        "invalid events have a share, but no kind of them has a weight; give one a weight or set the share to 0"
    );
}

/// Equal weights and small payloads, so that every kind occurs within a short stream.
fn everything() -> Workload {
    Workload {
        invalid_share: 0.3,
        odd_share: 0.2,
        invalid_weights: InvalidKind::ALL.map(|kind| (kind, 1)).into(),
        odd_weights: OddKind::ALL.map(|kind| (kind, 1)).into(),
        max_payload_bytes: 4096,
        ..Workload::default()
    }
}

fn events(workload: &Workload) -> Vec<GeneratedEvent> {
    workload.generate().expect("the parameters make sense").collect()
}

fn assert_outcome_of_kind(workload: &Workload) {
    let mut model = Model::new(workload.max_payload_bytes);
    for (offset, event) in (0..).zip(workload.generate().expect("the parameters make sense")) {
        let verdict = model.process(0, offset, event.key.as_deref(), event.value.as_deref(), Some(event.timestamp_ms));
        let (reason, violations) = match verdict {
            ModelVerdict::Applied(_) => (None, Vec::new()),
            ModelVerdict::Rejected { reason, violations } => (Some(reason), violations),
        };
        let violations: Vec<_> = violations.iter().map(|broken| (broken.field, broken.code)).collect();
        let meant: &[_] = match event.kind {
            EventKind::Invalid(kind) => kind.violations(),
            EventKind::Created | EventKind::Updated | EventKind::Deleted | EventKind::Odd(_) => &[],
        };
        let value = String::from_utf8_lossy(event.value.as_deref().unwrap_or_default()).into_owned();
        assert_eq!(
            (reason, violations.as_slice()),
            (event.kind.reason(), meant),
            "{:?} at {offset}: {value}",
            event.kind
        );
    }
}

fn counts(events: &[GeneratedEvent]) -> BTreeMap<EventKind, usize> {
    let mut counts = BTreeMap::new();
    for event in events {
        *counts.entry(event.kind).or_default() += 1;
    }
    counts
}

fn share_of_the_ten_most_frequent(zipf_exponent: f64) -> f64 {
    let workload = Workload { events: 30_000, keys: 2_000, zipf_exponent, invalid_share: 0.0, ..Workload::default() };
    let mut counts: BTreeMap<Option<Vec<u8>>, usize> = BTreeMap::new();
    for event in events(&workload) {
        *counts.entry(event.key).or_default() += 1;
    }
    let mut counts: Vec<usize> = counts.into_values().collect();
    counts.sort_unstable();
    counts.iter().rev().take(10).sum::<usize>() as f64 / 30_000.0
}

fn assert_close(what: &str, found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{what}: expected {expected}, found {found}");
}

/// FNV-1a over all produced bytes, each part with its length.
fn hash(events: &[GeneratedEvent]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |part: Option<&[u8]>| {
        let length = part.map_or(-1, |bytes| bytes.len() as i64).to_le_bytes();
        for byte in length.iter().chain(part.unwrap_or_default()) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    };
    for event in events {
        add(event.key.as_deref());
        add(event.value.as_deref());
        add(Some(&event.timestamp_ms.to_le_bytes()));
        for (name, value) in &event.headers {
            add(Some(name.as_bytes()));
            add(Some(value));
        }
    }
    hash
}
