//! The events of a service: which are rejected and why, the state after the others, and how that state is written.
//!
//! Everything is checked from outside, as the entity's actor does it: the input is a record and a state, the output is
//! the JSON of the next state or a rejection.

mod by_chance;
mod envelopes;
mod json;
mod rules;
mod snapshot;

use std::fmt::Display;

use serde_json::{Value, json};
use steward::entity::{Entity, Reason, Rejection, SizeLimits, apply_record};
use steward::record::{Headers, Offset, Record};
use steward::service::{Service, State};

#[apply(offline_test)]
fn a_creation_is_written_with_its_fields_in_order_and_without_white_space() {
    check(
        &[
            r#" { "pricePerHour" : 120, "tags" : [ "web" ] , "description":"Full stack","name":"Web development","id":42,
              "eventType":"ServiceCreated", "unknown":{"x":[1,2]} } "#,
        ],
        r#"{"id":42,"name":"Web development","description":"Full stack","tags":["web"],"pricePerHour":120,"version":1,"createdAt":"2026-01-31T12:00:00.000Z","updatedAt":"2026-01-31T12:00:00.000Z"}"#,
    );
}

#[apply(offline_test)]
fn a_price_that_was_not_sent_is_left_out() {
    let expected = r#"{"id":42,"name":"n","description":"d","tags":[],"version":1,"createdAt":"2026-01-31T12:00:00.000Z","updatedAt":"2026-01-31T12:00:00.000Z"}"#;
    check(&[r#"{"eventType":"ServiceCreated","id":42,"name":"n","description":"d","tags":[]}"#], expected);
    check(
        &[r#"{"eventType":"ServiceCreated","id":42,"name":"n","description":"d","tags":[],"pricePerHour":null}"#],
        expected,
    );
}

#[apply(offline_test)]
fn an_update_changes_what_it_names_and_nothing_else() {
    for (update, field, expected) in [
        (r#""name":"new""#, "name", json!("new")),
        (r#""description":"new""#, "description", json!("new")),
        (r#""tags":[]"#, "tags", json!([])),
        (r#""pricePerHour":0"#, "pricePerHour", json!(0)),
    ] {
        let before = written(&after(&[CREATED]));
        let now = written(&after(&[CREATED, &updated(update)]));
        for (name, value) in before.as_object().expect("an object") {
            match name.as_str() {
                "version" => assert_eq!(now[name], json!(2), "{update}"),
                "updatedAt" => assert_eq!(now[name], json!("2026-01-31T12:00:00.001Z"), "{update}"),
                changed if changed == field => assert_eq!(now[name], expected, "{update}"),
                _ => assert_eq!(&now[name], value, "{update} changed {name}"),
            }
        }
    }
}

#[apply(offline_test)]
fn an_update_cannot_remove_what_it_sends_as_null() {
    let nulls = updated(r#""name":null,"description":null,"tags":null,"pricePerHour":null"#);
    let now = written(&after(&[CREATED, &nulls]));
    assert_eq!(now["pricePerHour"], json!(120));
    assert_eq!(now["tags"], json!(["web"]));
    assert_eq!(now["version"], json!(2));
}

#[apply(offline_test)]
fn an_update_that_changes_nothing_is_still_applied() {
    check(
        &[CREATED, r#"{"eventType":"ServiceUpdated","id":42}"#],
        r#"{"id":42,"name":"Web development","description":"Full stack","tags":["web"],"pricePerHour":120,"version":2,"createdAt":"2026-01-31T12:00:00.000Z","updatedAt":"2026-01-31T12:00:00.001Z"}"#,
    );
}

#[apply(offline_test)]
fn a_deletion_leaves_a_tombstone() {
    assert_eq!(Service.encode(&after(&[CREATED, DELETED])), None);
    assert_eq!(after(&[CREATED, DELETED]), Service.absent());
}

#[apply(offline_test)]
fn a_service_can_be_created_again_after_its_deletion() {
    let now = written(&after(&[CREATED, UPDATED, DELETED, CREATED]));
    assert_eq!(now["version"], json!(1), "the version counts from the creation");
    assert_eq!(now["createdAt"], json!("2026-01-31T12:00:00.003Z"));
}

#[apply(offline_test)]
fn an_event_that_does_not_fit_the_state_is_rejected() {
    for (history, event, expected) in [
        (&[][..], UPDATED, Reason::NotFound),
        (&[], DELETED, Reason::NotFound),
        (&[CREATED, DELETED], UPDATED, Reason::NotFound),
        (&[CREATED, DELETED], DELETED, Reason::NotFound),
        (&[CREATED], CREATED, Reason::AlreadyExists),
        (&[CREATED, UPDATED], CREATED, Reason::AlreadyExists),
    ] {
        let rejected = decide(&after(history), b"42", event.as_bytes(), Some(NOON)).expect_err(event);
        assert_eq!(rejected.reason, expected, "{event} after {history:?}");
    }
}

#[apply(offline_test)]
fn a_rejected_event_leaves_the_state_as_it_was() {
    let state = after(&[CREATED, UPDATED]);
    let before = state.clone();
    for rejected in [CREATED, "{}", "no JSON", r#"{"eventType":"ServiceUpdated","id":42,"name":""}"#] {
        assert!(decide(&state, b"42", rejected.as_bytes(), Some(NOON)).is_err(), "{rejected}");
        assert_eq!(state, before, "{rejected}");
    }
}

#[apply(offline_test)]
fn an_event_whose_snapshot_does_not_fit_is_rejected_and_the_limit_itself_fits() {
    let apply = |state: &State, event: &str, max_snapshot_bytes| {
        let record = Record {
            offset: Offset(0),
            timestamp_ms: Some(NOON),
            key: Some(b"42"),
            value: Some(event.as_bytes()),
            headers: Headers::EMPTY,
        };
        let limits = SizeLimits { max_payload_bytes: u64::MAX, max_snapshot_bytes };
        apply_record(&Service, state, &record, limits)
    };
    let state = after(&[CREATED]);
    let grown = updated(r#""tags":["web","\u0000","a longer tag"]"#);
    let next = apply(&state, &grown, u64::MAX).expect("there is no limit");
    let bytes = Service.encode(&next).expect("it exists").len() as u64 + 2;
    assert_eq!(apply(&state, &grown, bytes), Ok(next));
    let before = state.clone();
    let rejection = apply(&state, &grown, bytes - 1).expect_err("it has a byte more");
    assert_eq!((rejection.reason, &state), (Reason::StateTooLarge, &before));
    assert!(rejection.detail.contains(&format!("{bytes} bytes")), "{}", rejection.detail);
    assert_eq!(apply(&State::Absent, CREATED, 10).expect_err("too large").reason, Reason::StateTooLarge);
    // The limit was lowered below what the service has: it can only shrink, or be deleted.
    assert_eq!(apply(&state, UPDATED, 10).expect_err("too large").reason, Reason::StateTooLarge);
    assert_eq!(apply(&state, DELETED, 10), Ok(State::Absent));
}

#[apply(offline_test)]
fn times_are_those_of_the_records_even_when_they_go_back() {
    let created = decide(&State::Absent, b"42", CREATED.as_bytes(), Some(NOON)).expect("a good event");
    let updated = decide(&created, b"42", UPDATED.as_bytes(), Some(NOON - 60_000)).expect("a good event");
    let now = written(&updated);
    assert_eq!(now["createdAt"], json!("2026-01-31T12:00:00.000Z"));
    assert_eq!(now["updatedAt"], json!("2026-01-31T11:59:00.000Z"));
}

// ----------------------------------------------------------------------------------------------------------- helpers

const CREATED: &str = r#"{"eventType":"ServiceCreated","id":42,"name":"Web development","description":"Full stack","tags":["web"],"pricePerHour":120}"#;
const UPDATED: &str = r#"{"eventType":"ServiceUpdated","id":42,"pricePerHour":200}"#;
const DELETED: &str = r#"{"eventType":"ServiceDeleted","id":42}"#;
/// A creation with many things that are easy to get wrong.
const ODD: &str = r#"{"x":{"\ud800":[1e999,-0,{"a":1,"a":[]}]},"tags":["\ud83d\ude00","","é\n"],"t\u0061gs2":"\\\"[{","id":42,"na\u006de":"\u0000 é","description":"\"\\","tags2":[],"pricePerHour":0.1e1,"eventType":"ServiceCreated"}"#;
/// 2026-01-31T12:00:00.000Z.
const NOON: i64 = 1_769_860_800_000;
const FIRST_MS: i64 = -62_167_219_200_000;
const LAST_MS: i64 = 253_402_300_799_999;
const MAX_ID: u64 = 9_007_199_254_740_991;

/// Applies a record as the entity's actor does, except that a panic is a failure of the test.
fn decide(state: &State, key: &[u8], value: &[u8], timestamp_ms: Option<i64>) -> Result<State, Rejection> {
    let record =
        Record { offset: Offset(0), timestamp_ms, key: Some(key), value: Some(value), headers: Headers::EMPTY };
    let outcome = apply_record(&Service, state, &record, SizeLimits::of_payload(u64::MAX));
    if let Err(Rejection { reason: Reason::Panicked, detail, .. }) = outcome {
        panic!("{detail}, on {}", value.escape_ascii());
    }
    outcome
}

/// The state after these events, the first at noon, each a millisecond after the one before.
fn after(events: &[&str]) -> State {
    events.iter().zip(NOON..).fold(Service.absent(), |state, (event, at)| {
        decide(&state, b"42", event.as_bytes(), Some(at)).unwrap_or_else(|rejected| panic!("{event}: {rejected:?}"))
    })
}

/// The state after these events has this JSON, and can be read back.
fn check(events: &[&str], expected: &str) {
    let state = after(events);
    let json = Service.encode(&state).expect("the service exists");
    assert_eq!(String::from_utf8(json).expect("JSON is UTF-8"), expected);
    reads_back(&state);
}

fn reads_back(state: &State) {
    let json = Service.encode(state).expect("the service exists");
    assert_eq!(Service.check(&json), Ok(()));
    let restored = Service.decode(&json).unwrap_or_else(|error| panic!("{}: {error}", json.escape_ascii()));
    assert_eq!(&restored, state);
    assert_eq!(Service.encode(&restored).as_ref(), Some(&json));
}

fn written(state: &State) -> Value {
    serde_json::from_slice(&Service.encode(state).expect("the service exists")).expect("a snapshot is JSON")
}

/// The event is rejected for this reason if the service does not exist.
#[track_caller]
fn rejects(value: &[u8], expected: Reason) {
    let head = &value[..value.len().min(300)];
    match decide(&State::Absent, b"42", value, Some(NOON)) {
        Ok(_) => panic!("{} was applied", head.escape_ascii()),
        Err(rejected) => assert_eq!(rejected.reason, expected, "{}: {}", head.escape_ascii(), rejected.detail),
    }
}

/// The event is rejected for exactly these violations.
#[track_caller]
fn violates(event: &str, expected: &[(&str, &str)]) {
    let rejected = decide(&State::Absent, b"42", event.as_bytes(), Some(NOON)).expect_err(event);
    let expected: Vec<(String, String)> =
        expected.iter().map(|(field, code)| ((*field).to_owned(), (*code).to_owned())).collect();
    assert_eq!(violations(&rejected), expected, "{event}");
}

/// The event breaks no rule on fields, whether it is applied or not.
#[track_caller]
fn keeps_the_rules(event: &str) {
    if let Err(rejected) = decide(&State::Absent, b"42", event.as_bytes(), Some(NOON)) {
        assert_eq!(rejected.reason, Reason::NotFound, "{event}: {}", rejected.detail);
    }
}

#[track_caller]
fn violations(rejected: &Rejection) -> Vec<(String, String)> {
    assert_eq!(rejected.reason, Reason::InvalidEvent, "{}", rejected.detail);
    let entries: Vec<Value> = serde_json::from_str(&rejected.detail).expect("the detail is a JSON array");
    let text = |entry: &Value, member: &str| entry[member].as_str().expect("a string").to_owned();
    entries.iter().map(|entry| (text(entry, "field"), text(entry, "code"))).collect()
}

/// A valid creation without `field`, or with `json` as its value. The field may be an unknown one.
fn without(field: &str, json: Option<&str>) -> String {
    let mut members: Vec<String> = [
        ("eventType", r#""ServiceCreated""#),
        ("id", "42"),
        ("name", r#""Web development""#),
        ("description", r#""Full stack""#),
        ("tags", r#"["web"]"#),
        ("pricePerHour", "120"),
    ]
    .into_iter()
    .filter(|(name, _)| *name != field)
    .map(|(name, json)| member(name, json))
    .collect();
    members.extend(json.map(|json| member(field, json)));
    format!("{{{}}}", members.join(","))
}

fn member(name: &str, json: impl Display) -> String {
    format!(r#""{name}":{json}"#)
}

fn updated(members: &str) -> String {
    joined("ServiceUpdated", &format!(r#""id":42,{members}"#))
}

fn joined(event_type: &str, members: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    format!(r#"{{"eventType":"{event_type}"{comma}{members}}}"#)
}

fn with_member(member: &[u8], event: &str) -> Vec<u8> {
    [b"{", member, b",", &event.as_bytes()[1..]].concat()
}

fn with_member_last(member: &[u8], event: &str) -> Vec<u8> {
    [&event.as_bytes()[..event.len() - 1], b",", member, b"}"].concat()
}

fn published_price(sent: &str) -> String {
    let state = decide(&State::Absent, b"42", without("pricePerHour", Some(sent)).as_bytes(), Some(NOON)).expect(sent);
    let json = String::from_utf8(Service.encode(&state).expect("the service exists")).expect("JSON is UTF-8");
    let (_, from_price) = json.split_once(r#""pricePerHour":"#).expect("a price was sent");
    from_price.split_once(',').expect("the version follows").0.to_owned()
}
