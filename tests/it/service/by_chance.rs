//! Property tests: what must hold for any input, on random cases.

use proptest::prelude::*;
use proptest::test_runner::Config;
use serde_json::{Value, json};
use steward::entity::{Entity, MAX_DETAIL_BYTES, Reason};
use steward::service::{Service, State};
use time::OffsetDateTime;
use time::macros::format_description;

use super::*;

#[apply(offline_test)]
fn no_bytes_panic_and_each_have_one_outcome() {
    let token = prop::sample::select(&TOKENS[..]).prop_map(|token: &str| token.as_bytes().to_vec());
    let soup = prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat());
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    let object = soup.clone().prop_map(|soup| [b"{", &soup[..], b"}"].concat());
    holds(prop_oneof![bytes, soup, object], |value| has_one_outcome(&value));
}

#[apply(offline_test)]
fn no_damage_to_an_event_panics_or_gets_past_the_grammar() {
    let event = prop::sample::select(&[CREATED, UPDATED, DELETED, ODD][..]);
    holds((event, damage()), |(event, damage)| {
        let value = damaged(event.as_bytes(), &damage);
        has_one_outcome(&value)?;
        let grammatical = std::str::from_utf8(&value).is_ok()
            && value.iter().find(|byte| !b" \t\n\r".contains(byte)) == Some(&b'{')
            && serde_json::from_slice::<serde::de::IgnoredAny>(&value).is_ok();
        let reason = decide(&State::Absent, b"42", &value, Some(NOON)).err().map(|rejection| rejection.reason);
        // The values are too small to be too deep. A known field can be malformed although the grammar allows it.
        prop_assert!(grammatical || reason == Some(Reason::MalformedJson), "{:?}", reason);
        Ok(())
    });
}

#[apply(offline_test)]
fn any_history_reads_back_as_it_was_written() {
    let text = |longest: usize| {
        prop::collection::vec(any::<char>(), 1..=longest)
            .prop_map(String::from_iter)
            .prop_filter("blank", |text| !text.chars().all(char::is_whitespace))
    };
    let change = (
        prop::option::of(text(64)),
        prop::option::of(text(255)),
        prop::option::of(prop::collection::vec(any::<String>(), 0..4)),
        prop::option::of(any_price()),
        FIRST_MS..=LAST_MS,
    );
    holds((0..=MAX_ID, prop::collection::vec(change, 1..4)), |(id, changes)| {
        let key = id.to_string();
        let mut state = Service.absent();
        let mut expected = json!({"id": id, "name": "n", "description": "d", "tags": []});
        for (index, (name, description, tags, price, at)) in changes.into_iter().enumerate() {
            let mut event = match index {
                0 => json!({"eventType": "ServiceCreated", "id": id, "name": "n", "description": "d", "tags": []}),
                _ => json!({"eventType": "ServiceUpdated", "id": id}),
            };
            for (field, value) in [
                ("name", name.map(Value::from)),
                ("description", description.map(Value::from)),
                ("tags", tags.map(Value::from)),
                ("pricePerHour", price.map(Value::from)),
            ] {
                if let Some(value) = value {
                    event[field] = value.clone();
                    expected[field] = value;
                }
            }
            state = decide(&state, key.as_bytes(), event.to_string().as_bytes(), Some(at))
                .map_err(|rejection| TestCaseError::fail(format!("{event}: {rejection:?}")))?;
            expected["version"] = json!(index + 1);
            reads_back(&state);
            let encoded = Service.encode(&state).map_or(0, |json| json.len() as u64);
            prop_assert!(Service.max_encoded_bytes(&state).is_some_and(|bound| encoded <= bound), "{encoded} bytes");
            let mut written = written(&state);
            prop_assert_eq!(Service.newest_event_ms(&state), Some(at));
            for time in ["createdAt", "updatedAt"] {
                prop_assert_eq!(written.as_object_mut().and_then(|members| members.remove(time)).is_some(), true);
            }
            let (price, expected_price) = (written["pricePerHour"].take(), expected["pricePerHour"].clone());
            prop_assert_eq!(price.as_f64(), expected_price.as_f64());
            expected["pricePerHour"] = Value::Null;
            prop_assert_eq!(&written, &expected);
            expected["pricePerHour"] = expected_price;
        }
        Ok(())
    });
}

#[apply(offline_test)]
fn any_damage_to_a_snapshot_is_detected() {
    let snapshots = [&[CREATED][..], &[ODD], &[CREATED, UPDATED]].map(|history| Service.encode(&after(history)));
    holds((0..snapshots.len(), damage()), |(which, damage)| {
        let bytes = damaged(snapshots[which].as_ref().expect("the service exists"), &damage);
        let decoded = Service.decode(&bytes);
        prop_assert_eq!(Service.check(&bytes), decoded.clone().map(drop), "a restore accepts what decoding accepts");
        if let Ok(state) = decoded {
            let again = Service.encode(&state);
            prop_assert_eq!(again.as_deref(), Some(&bytes[..]), "what is read is written again");
        }
        Ok(())
    });
}

#[apply(offline_test)]
fn any_price_reads_back_the_same() {
    holds((any_price(), 0..3), |(price, spelling)| {
        let sent = match spelling {
            0 => format!("{price}"),
            1 => format!("{price:e}"),
            _ => format!("{price:.400}"),
        };
        let published = published_price(&sent);
        let read: f64 = published.parse().expect("a number");
        prop_assert_eq!(read.to_bits(), price.to_bits(), "{} -> {}", sent, published);
        let by_serde_json = serde_json::to_string(&price).expect("finite");
        prop_assert_eq!(&published, by_serde_json.strip_suffix(".0").unwrap_or(&by_serde_json));
        Ok(())
    });
}

#[apply(offline_test)]
fn any_time_is_written_as_the_time_crate_formats_it() {
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    holds(FIRST_MS..=LAST_MS, |ms| {
        let state = decide(&State::Absent, b"42", CREATED.as_bytes(), Some(ms)).expect("a good event");
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).expect("in range");
        prop_assert_eq!(&written(&state)["createdAt"], &json!(at.format(&form).expect("a year of four digits")));
        reads_back(&state);
        Ok(())
    });
}

#[apply(offline_test)]
fn any_nesting_is_rejected_exactly_beyond_127_levels() {
    let place = prop::sample::select(&["x", "name", "tags", "id", "eventType"][..]);
    let levels = prop::collection::vec(any::<bool>(), 120..134);
    holds((place, levels, "[\\[\\]{}\\\\\"]{0,4}"), |(place, levels, text)| {
        let text = json!(text).to_string();
        let mut nested = text.clone();
        for is_object in &levels {
            nested = match is_object {
                true => format!(r#"{{"a":[{{}},{text}],{text}:{text},"b":{nested}}}"#),
                false => format!(r#"[[],{text},{nested},{{"[":0}}]"#),
            };
        }
        // Levels count from 2. Next to the innermost level are one or two more.
        let more = levels.first().map_or(0, |is_object| if *is_object { 2 } else { 1 });
        let depth = 1 + levels.len() + more;
        let rejected = decide(&State::Absent, b"42", without(place, Some(&nested)).as_bytes(), Some(NOON));
        let malformed = rejected.is_err_and(|rejection| rejection.reason == Reason::MalformedJson);
        prop_assert_eq!(malformed, depth > 127, "{} levels in {}", depth, place);
        Ok(())
    });
}

const TOKENS: [&str; 44] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    " ",
    "\\",
    "\\u",
    "\\ud800",
    "\\u0061",
    "null",
    "true",
    "1",
    "-",
    "0",
    ".5",
    "e9",
    "e400",
    "\"eventType\"",
    "\"eventType\":",
    "\"ServiceCreated\"",
    "\"ServiceUpdated\"",
    "\"ServiceDeleted\"",
    "\"eventType\":\"ServiceCreated\"",
    "\"eventType\":\"ServiceUpdated\",",
    "\"eventType\":\"ServiceDeleted\",",
    "\"id\":",
    "\"id\":42",
    "42",
    "\"name\":",
    "\"name\":\"n\"",
    "\"description\":\"d\"",
    "\"tags\":[",
    "\"tags\":[]",
    "\"pricePerHour\":",
    "\"x\":",
    "\"n\\u0061me\":",
    "\t",
    "\n",
    "\u{1}",
    "\u{feff}",
    "é",
];

/// Prices that are finite, not negative and not -0: random values, random bits, and values at which the form changes.
fn any_price() -> impl Strategy<Value = f64> {
    let by_bits = (0..f64::INFINITY.to_bits()).prop_map(f64::from_bits);
    let cents = (0..100_000_000_u64).prop_map(|cents| cents as f64 / 100.0);
    let whole = any::<u64>().prop_map(|number| number as f64);
    let powers = (-320..309).prop_map(|exponent| format!("1e{exponent}").parse().expect("a number"));
    let around = (9_999_999_999_999_000_u64..10_000_000_000_001_000).prop_map(|number| number as f64);
    prop_oneof![by_bits, cents, whole, powers, around]
}

/// One damage: its place as a share of the length, the number of bytes removed, and the bytes inserted.
type Wound = (prop::sample::Index, usize, Vec<u8>);

fn damage() -> impl Strategy<Value = Vec<Wound>> {
    let token = prop::sample::select(&TOKENS[..]).prop_map(|token: &str| token.as_bytes().to_vec());
    let bytes = prop::collection::vec(any::<u8>(), 0..3);
    prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize, prop_oneof![token, bytes]), 1..4)
}

fn damaged(bytes: &[u8], damage: &[Wound]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, gone, come) in damage {
        let at = at.index(bytes.len() + 1);
        let end = (at + gone).min(bytes.len());
        bytes.splice(at..end, come.iter().copied());
    }
    bytes
}

/// For a service that exists and for one that does not: no panic, a detail within its limits, the same outcome twice,
/// and a state that reads back.
fn has_one_outcome(value: &[u8]) -> Result<(), TestCaseError> {
    for state in [State::Absent, after(&[CREATED])] {
        let outcome = decide(&state, b"42", value, Some(NOON));
        prop_assert_eq!(&outcome, &decide(&state, b"42", value, Some(NOON)));
        match outcome {
            Ok(State::Absent) => {}
            Ok(live) => reads_back(&live),
            Err(rejected) => {
                prop_assert!(!rejected.detail.is_empty() && rejected.detail.len() <= MAX_DETAIL_BYTES);
                let is_list = serde_json::from_str::<Vec<Value>>(&rejected.detail).is_ok_and(|list| !list.is_empty());
                prop_assert_eq!(is_list, rejected.reason == Reason::InvalidEvent);
            }
        }
    }
    Ok(())
}

/// Checks a property on `STEWARD_PROPTEST_CASES` cases, 20,000 by default, and prints the smallest case that breaks it.
fn holds<S: Strategy>(strategy: S, property: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let cases = std::env::var("STEWARD_PROPTEST_CASES").map_or(20_000, |cases| cases.parse().expect("a number"));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    if let Err(broken) = crate::support::chance::runner(config).run(&strategy, property) {
        panic!("{broken}");
    }
}
