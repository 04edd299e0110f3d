//! The service entity against the independent reference model. Two implementations that share no code process the same
//! stream of records, and must agree on verdict, violations and bytes of each record.
//!
//! Generated streams shrink: fewer records first, then simpler ones. A stream on which they once disagreed stays as a
//! test case.

mod streams;

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::Config;
use serde_json::Value;
use steward::entity::{Entity, MAX_DETAIL_BYTES, Reason, SizeLimits, apply_record};
use steward::record::{Headers, Offset, Record};
use steward::service::{Service, State};
use steward::testing::reference::{Model, ModelVerdict};

use streams::Sent;

/// Small, so that records reach it and exceed it.
const MAX_PAYLOAD_BYTES: u64 = 1_600;
const LIMITS: SizeLimits = SizeLimits { max_payload_bytes: MAX_PAYLOAD_BYTES, max_snapshot_bytes: 350 };

#[apply(offline_test)]
fn both_agree_on_valid_and_almost_valid_events() {
    holds(prop::collection::vec(streams::event(), 1..30), |stream| agree(&stream));
}

#[apply(offline_test)]
fn both_agree_on_damaged_events() {
    holds(prop::collection::vec(streams::damaged_event(), 1..30), |stream| agree(&stream));
}

#[apply(offline_test)]
fn both_agree_on_arbitrary_bytes() {
    holds(prop::collection::vec(streams::bytes(), 1..30), |stream| agree(&stream));
}

/// The reference once counted only the names of the event itself.
#[apply(offline_test)]
fn a_repeated_name_anywhere_in_a_known_field_is_malformed() {
    let twice = r#"{"a":[],"b":{},"\u0061":0}"#;
    for (value, reason) in [
        (format!(r#"{{"eventType":"ServiceUpdated","id":1,"name":{twice}}}"#), Reason::MalformedJson),
        (format!(r#"{{"eventType":"ServiceUpdated","id":1,"tags":["x",[{{"x":{twice}}}]]}}"#), Reason::MalformedJson),
        (format!(r#"{{"eventType":{twice},"id":1}}"#), Reason::MalformedJson),
        (format!(r#"{{"eventType":"ServiceUpdated","id":1,"x":{twice}}}"#), Reason::NotFound),
        (format!(r#"{{"eventType":"ServiceDeleted","id":1,"name":{twice}}}"#), Reason::NotFound),
    ] {
        let sent = Sent::event("1", &value);
        let verdict = model().process(0, 0, sent.key.as_deref(), sent.value.as_deref(), sent.timestamp_ms);
        assert_eq!(verdict.reason(), Some(reason), "{value}");
        agree(&[sent]).unwrap_or_else(|disagreement| panic!("{disagreement}"));
    }
}

/// Agreement on streams that are rejected for a single reason would show little.
#[apply(offline_test)]
fn the_streams_reach_every_verdict() {
    use std::cell::RefCell;
    let reached: RefCell<HashMap<&str, u64>> = RefCell::default();
    let stream = prop::collection::vec(prop_oneof![streams::event(), streams::damaged_event()], 1..30);
    run(300, stream, |stream| {
        let mut model = model();
        for (offset, sent) in (0..).zip(&stream) {
            let verdict =
                model.process(sent.partition, offset, sent.key.as_deref(), sent.value.as_deref(), sent.timestamp_ms);
            let name = match &verdict {
                ModelVerdict::Applied(Some(_)) => "applied",
                ModelVerdict::Applied(None) => "deleted",
                ModelVerdict::Rejected { reason, .. } => reason.code(),
            };
            *reached.borrow_mut().entry(name).or_default() += 1;
            if let ModelVerdict::Rejected { violations, .. } = &verdict {
                for violation in violations {
                    *reached.borrow_mut().entry(violation.code).or_default() += 1;
                }
            }
        }
        Ok(())
    });
    let reached = reached.into_inner();
    let reasons = Reason::ALL.into_iter().filter(|reason| *reason != Reason::Panicked).map(Reason::code);
    let codes = ["applied", "deleted", "required", "type", "length", "blank", "range", "timestamp"];
    for name in reasons.chain(codes) {
        let times = reached.get(name).copied().unwrap_or(0);
        assert!(times >= 10, "{name} was reached {times} times: {reached:?}");
    }
}

// ------------------------------------------------------------------------------------------------------------ harness

fn model() -> Model {
    Model::new(LIMITS.max_payload_bytes).with_snapshot_limit(LIMITS.max_snapshot_bytes)
}

/// Processes the stream with both implementations.
fn agree(stream: &[Sent]) -> Result<(), TestCaseError> {
    let mut model = model();
    let mut states: HashMap<(i32, Vec<u8>), State> = HashMap::new();
    for (offset, sent) in (0..).zip(stream) {
        let (key, value) = (sent.key.as_deref(), sent.value.as_deref());
        let expected = model.process(sent.partition, offset, key, value, sent.timestamp_ms);
        let entity = (sent.partition, key.unwrap_or_default().to_vec());
        let record =
            Record { offset: Offset(offset), timestamp_ms: sent.timestamp_ms, key, value, headers: Headers::EMPTY };
        let state = states.get(&entity).unwrap_or(&State::Absent);
        let found = match apply_record(&Service, state, &record, LIMITS) {
            Ok(next) => {
                let written = Service.encode(&next);
                states.insert(entity, next);
                Outcome::Applied(written)
            }
            Err(rejection) => {
                prop_assert!(rejection.detail.len() <= MAX_DETAIL_BYTES, "{} bytes", rejection.detail.len());
                Outcome::Rejected(rejection.reason, violations_of(rejection.reason, &rejection.detail)?)
            }
        };
        prop_assert_eq!(&found, &Outcome::expected(&expected), "record {}: {:?}", offset, sent);
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Applied(Option<Vec<u8>>),
    Rejected(Reason, Vec<(String, String)>),
}

impl Outcome {
    fn expected(verdict: &ModelVerdict) -> Outcome {
        match verdict {
            ModelVerdict::Applied(value) => Outcome::Applied(value.clone()),
            ModelVerdict::Rejected { reason, violations } => {
                let mut violations: Vec<_> =
                    violations.iter().map(|of| (of.field.to_owned(), of.code.to_owned())).collect();
                violations.sort_unstable();
                Outcome::Rejected(*reason, violations)
            }
        }
    }
}

/// Parses the violations of an `invalid_event`, in alphabetical order. Each occurs once and has a message.
fn violations_of(reason: Reason, detail: &str) -> Result<Vec<(String, String)>, TestCaseError> {
    if reason != Reason::InvalidEvent {
        return Ok(Vec::new());
    }
    let listed: Vec<Value> =
        serde_json::from_str(detail).map_err(|error| TestCaseError::fail(format!("{error}: {detail}")))?;
    let mut violations = Vec::new();
    for violation in &listed {
        let text = |name: &str| violation[name].as_str().unwrap_or_default().to_owned();
        prop_assert!(!text("message").is_empty(), "{}", detail);
        prop_assert_eq!(violation.as_object().map(serde_json::Map::len), Some(3), "{}", detail);
        violations.push((text("field"), text("code")));
    }
    violations.sort_unstable();
    prop_assert!(violations.windows(2).all(|pair| pair[0] != pair[1]), "one of them occurs twice: {}", detail);
    Ok(violations)
}

/// Runs `STEWARD_PROPTEST_CASES` streams (2,000), and prints the smallest that breaks the property.
fn holds<S: Strategy>(strategy: S, property: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let cases = std::env::var("STEWARD_PROPTEST_CASES").map_or(2_000, |cases| cases.parse().expect("a number"));
    run(cases, strategy, property);
}

fn run<S: Strategy>(cases: u32, strategy: S, property: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 100_000, ..Config::default() };
    if let Err(broken) = crate::support::chance::runner(config).run(&strategy, property) {
        panic!("{broken}");
    }
}
