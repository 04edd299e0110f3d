//! The reference model: the rules of the contract, case by case. `checker` has the tests of the checker.

mod checker;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::Config;
use steward::entity::Reason;
use steward::testing::reference::{Model, ModelVerdict, number_text};

const NEW_YEAR_MS: i64 = 1_767_225_600_000;
const CREATED: &str = r#"{"eventType":"ServiceCreated","id":42,"name":"Web","description":"Full stack","tags":["web"],"pricePerHour":120}"#;
const CREATED_STATE: &str = r#"{"id":42,"name":"Web","description":"Full stack","tags":["web"],"pricePerHour":120,"version":1,"createdAt":"2026-01-01T00:00:00.000Z","updatedAt":"2026-01-01T00:00:00.000Z"}"#;
const DELETED: &str = r#"{"eventType":"ServiceDeleted","id":42}"#;

#[apply(offline_test)]
fn a_created_service_has_its_fields_in_the_order_of_the_contract() {
    assert_eq!(Sequence::new().send(CREATED), applied(CREATED_STATE));
    let bare = r#"{"tags":[],"description":" d ","name":" n ","id":42,"eventType":"ServiceCreated"}"#;
    let state = r#"{"id":42,"name":" n ","description":" d ","tags":[],"version":1,"createdAt":"2026-01-01T00:00:00.000Z","updatedAt":"2026-01-01T00:00:00.000Z"}"#;
    assert_eq!(Sequence::new().send(bare), applied(state));
}

#[apply(offline_test)]
fn an_update_changes_what_it_names_and_counts_a_version() {
    let mut sequence = Sequence::new();
    sequence.send(CREATED);
    sequence.at_ms = NEW_YEAR_MS + 86_400_000 * 59 + 1;
    let state = |changed: &str, version: u32| {
        applied(&format!(
            r#"{{"id":42,{changed},"version":{version},"createdAt":"2026-01-01T00:00:00.000Z","updatedAt":"2026-03-01T00:00:00.001Z"}}"#
        ))
    };
    let price = sequence.send(r#"{"eventType":"ServiceUpdated","id":42,"pricePerHour":99.50}"#);
    assert_eq!(price, state(r#""name":"Web","description":"Full stack","tags":["web"],"pricePerHour":99.5"#, 2));
    let nothing =
        sequence.send(r#"{"eventType":"ServiceUpdated","id":42,"name":null,"tags":null,"pricePerHour":null}"#);
    assert_eq!(nothing, state(r#""name":"Web","description":"Full stack","tags":["web"],"pricePerHour":99.5"#, 3));
    let rest =
        sequence.send(r#"{"eventType":"ServiceUpdated","id":42,"name":"A","description":"B","tags":["c","c",""]}"#);
    assert_eq!(rest, state(r#""name":"A","description":"B","tags":["c","c",""],"pricePerHour":99.5"#, 4));
}

#[apply(offline_test)]
fn a_service_can_be_created_again_after_its_deletion() {
    let mut sequence = Sequence::new();
    let verdicts = [CREATED, DELETED, CREATED].map(|event| sequence.send(event));
    assert_eq!(verdicts, [applied(CREATED_STATE), ModelVerdict::Applied(None), applied(CREATED_STATE)]);
    assert_eq!(sequence.model.state()[&(0, b"42".to_vec())].newest_offset, 2);
    assert!(tombstones(&sequence.model).is_empty());
    sequence.send(DELETED);
    assert!(sequence.model.state().is_empty());
    assert_eq!(tombstones(&sequence.model)[&(0, b"42".to_vec())], 3);
}

/// The offsets of the deletions of entities that were not created again, by partition and key.
fn tombstones(model: &Model) -> BTreeMap<(i32, Vec<u8>), i64> {
    let deleted = model.newest().filter(|(_, newest)| newest.value.is_none());
    deleted.map(|(key, newest)| (key.clone(), newest.newest_offset)).collect()
}

#[apply(offline_test)]
fn the_same_key_in_another_partition_is_another_entity() {
    let mut model = Model::new(1000);
    for partition in [0, 1] {
        let verdict = model.process(partition, 7, Some(b"42"), Some(CREATED.as_bytes()), Some(NEW_YEAR_MS));
        assert_eq!(verdict, applied(CREATED_STATE));
    }
    assert_eq!(model.state().len(), 2);
}

#[apply(offline_test)]
fn a_rejected_event_leaves_the_entity_as_it_was() {
    let mut sequence = Sequence::new();
    sequence.send(CREATED);
    assert_eq!(sequence.send(CREATED), rejected(Reason::AlreadyExists));
    assert_eq!(sequence.send(r#"{"eventType":"ServiceUpdated","id":42,"name":""}"#), invalid(&[("name", "length")]));
    assert_eq!(sequence.model.state()[&(0, b"42".to_vec())].value, CREATED_STATE.as_bytes());
    let reasons: Vec<_> = sequence.model.rejections().iter().map(|it| (it.record.offset, it.reason)).collect();
    assert_eq!(reasons, [(1, Reason::AlreadyExists), (2, Reason::InvalidEvent)]);
}

#[apply(offline_test)]
fn the_first_broken_rule_gives_the_reason() {
    let mut model = Model::new(200);
    let mut offset = 0;
    let mut reason_of = |key: Option<&str>, value: Option<&str>| {
        offset += 1;
        let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
        match model.process(0, offset, key, value, None) {
            ModelVerdict::Applied(_) => None,
            ModelVerdict::Rejected { reason, .. } => Some(reason),
        }
    };
    let long = "x".repeat(201);
    assert_eq!(reason_of(None, None), Some(Reason::MissingKey));
    assert_eq!(reason_of(Some(""), Some(&long)), Some(Reason::MissingKey));
    assert_eq!(reason_of(Some("1"), None), Some(Reason::NullPayload));
    assert_eq!(reason_of(Some("1"), Some(&long)), Some(Reason::PayloadTooLarge));
    assert_eq!(reason_of(Some("1"), Some(&long[1..])), Some(Reason::MalformedJson));
    assert_eq!(reason_of(Some("1"), Some("")), Some(Reason::MalformedJson));
    assert_eq!(reason_of(Some("1"), Some(r#"{"eventType":"Other","id":"x"}"#)), Some(Reason::UnknownEventType));
    // Without a timestamp no event is valid, whatever its key.
    assert_eq!(reason_of(Some("1"), Some(DELETED)), Some(Reason::InvalidEvent));
    let mut sequence = Sequence::new();
    assert_eq!(sequence.send_with_key("042", DELETED), rejected(Reason::KeyIdMismatch));
    assert_eq!(sequence.send_with_key("43", DELETED), rejected(Reason::KeyIdMismatch));
    assert_eq!(sequence.send(DELETED), rejected(Reason::NotFound));
    assert_eq!(sequence.send(r#"{"eventType":"ServiceUpdated","id":42}"#), rejected(Reason::NotFound));
}

#[apply(offline_test)]
fn json_is_parsed_strictly() {
    let malformed = [
        "",
        " ",
        "null",
        "[]",
        r#""text""#,
        "{",
        "}",
        "{}{}",
        "{} x",
        "{,}",
        r#"{"a":1,}"#,
        r#"{"a" 1}"#,
        "{a:1}",
        r#"{'a':1}"#,
        r#"{"a":01}"#,
        r#"{"a":+1}"#,
        r#"{"a":.5}"#,
        r#"{"a":1.}"#,
        r#"{"a":1e}"#,
        r#"{"a":-}"#,
        r#"{"a":NaN}"#,
        r#"{"a":tru}"#,
        r#"{"a":True}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":[1 2]}"#,
        r#"{"a":"\x"}"#,
        r#"{"a":"\u12"}"#,
        r#"{"a":"\u+123"}"#,
        r#"{"a":"\ud800\u12"}"#,
        "{\"a\":\"\u{1}\"}",
        "{\"a\":\"\n\"}",
        "\u{feff}{}",
        "{}\u{0}",
        "{}\u{a0}",
        "{\"a\":1}/* */",
        r#"{"a":1}}"#,
        r#"{"a":"}"#,
        "{\"a\u{7}\":1}",
    ];
    for value in malformed {
        assert_eq!(Sequence::new().send(value), rejected(Reason::MalformedJson), "{value}");
    }
    for bytes in [b"{\"a\":\"\xff\"}".as_slice(), b"{\"a\":\"\xed\xa0\x80\"}", b"{\"\xc0\x80\":1}"] {
        let verdict = Model::new(1000).process(0, 0, Some(b"42"), Some(bytes), Some(0));
        assert_eq!(verdict, rejected(Reason::MalformedJson), "{}", bytes.escape_ascii());
    }
    let object = [
        "{}",
        " \t\r\n{ } \n",
        r#"{"a":-0.0e+00}"#,
        r#"{"a":[true,false,null,{"":{}}]}"#,
        r#"{"a":"\u0000\/\b"}"#,
        "{\"a\":\"\u{7f}\u{2028}\"}",
    ];
    for value in object {
        assert_eq!(Sequence::new().send(value), rejected(Reason::UnknownEventType), "{value}");
    }
}

#[apply(offline_test)]
fn malformed_known_fields_are_malformed_json() {
    let members = [
        r#""name":"\ud800""#,
        r#""name":"\udc00\ud800""#,
        r#""name":"\ud83dx""#,
        r#""name":"\ud800\ud800""#,
        r#""name":["\ud800"]"#,
        r#""tags":[{"\udfff":1}]"#,
        r#""description":{"a":[[1e999]]}"#,
        r#""name":{"a":1,"a":2}"#,
        r#""pricePerHour":1e999"#,
        r#""pricePerHour":-1e309"#,
        r#""pricePerHour":1.7976931348623159e308"#,
        r#""tags":[],"tags":[]"#,
        r#""n\u0061me":"a","name":"a""#,
        r#""id":42"#,
        r#""\u0069d":null"#,
        r#""eventType":null"#,
    ];
    for member in members {
        let value = format!(r#"{{"eventType":"ServiceUpdated","id":42,{member}}}"#);
        assert_eq!(Sequence::new().send(&value), rejected(Reason::MalformedJson), "{value}");
    }
    let many_digits = format!(r#"{{"eventType":"ServiceDeleted","id":{}}}"#, "1".repeat(400));
    assert_eq!(Sequence::new().send(&many_digits), rejected(Reason::MalformedJson));
    // `eventType` is a known field, whatever its value.
    for value in [r#"{"eventType":"\ud800"}"#, r#"{"eventType":1e999}"#, r#"{"eventType":"a","eventType":"b"}"#] {
        assert_eq!(Sequence::new().send(value), rejected(Reason::MalformedJson), "{value}");
    }
}

#[apply(offline_test)]
fn unknown_fields_may_hold_anything() {
    let members = [
        r#""note":1e999"#,
        r#""note":"\ud800""#,
        r#""note":1,"note":2"#,
        r#""\ud800":1,"\ud800":2"#,
        r#""Name":7"#,
        r#""name\ud800":7"#,
        r#""version":"x""#,
    ];
    for member in members {
        let value = format!(r#"{{"eventType":"ServiceUpdated","id":42,{member}}}"#);
        assert_eq!(Sequence::new().send(&value), rejected(Reason::NotFound), "{value}");
    }
    let deletion = r#"{"eventType":"ServiceDeleted","id":42,"name":1e999,"name":"\ud800","pricePerHour":-1}"#;
    assert_eq!(Sequence::new().send(deletion), rejected(Reason::NotFound));
    let other = r#"{"eventType":"Other","id":1e999,"id":2,"name":"\ud800"}"#;
    assert_eq!(Sequence::new().send(other), rejected(Reason::UnknownEventType));
}

#[apply(offline_test)]
fn depth_counts_every_level_up_to_127() {
    let nested = |levels: usize, open: &str, close: &str| {
        let value = open.repeat(levels - 1) + "[]" + &close.repeat(levels - 1);
        format!(r#"{{"eventType":"ServiceDeleted","id":42,"x":{value}}}"#)
    };
    assert_eq!(Sequence::new().send(&nested(126, "[", "]")), rejected(Reason::NotFound));
    assert_eq!(Sequence::new().send(&nested(127, "[", "]")), rejected(Reason::MalformedJson));
    assert_eq!(Sequence::new().send(&nested(126, r#"{"a":"#, "}")), rejected(Reason::NotFound));
    assert_eq!(Sequence::new().send(&nested(127, r#"{"a":"#, "}")), rejected(Reason::MalformedJson));
    assert_eq!(Sequence::new().send(&nested(100_000, "[", "]")), rejected(Reason::MalformedJson));
}

#[apply(offline_test)]
fn only_three_types_of_event_are_known() {
    for value in ["null", "1", "true", "[]", "{}", r#""""#, r#""servicecreated""#, r#""ServiceCreated ""#] {
        let value = format!(r#"{{"eventType":{value},"id":42}}"#);
        assert_eq!(Sequence::new().send(&value), rejected(Reason::UnknownEventType), "{value}");
    }
    let escaped = r#"{"\u0065ventType":"\u0053erviceDeleted","\u0069d":42}"#;
    assert_eq!(Sequence::new().send(escaped), rejected(Reason::NotFound));
}

#[apply(offline_test)]
fn each_violation_is_listed_with_its_code() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("id", "42.0", &["type"]),
        ("id", "42e0", &["type"]),
        ("id", "-0", &["type"]),
        ("id", "-1", &["type"]),
        ("id", r#""42""#, &["type"]),
        ("id", "[42]", &["type"]),
        ("id", "true", &["type"]),
        ("id", "null", &["required"]),
        ("id", "9007199254740992", &["range"]),
        ("id", "18446744073709551616", &["range"]),
        ("name", r#""""#, &["length"]),
        ("name", r#"" ""#, &["blank"]),
        ("name", "\"\u{3000}\u{85}\"", &["blank"]),
        ("name", "\"\u{200b}\"", &[]),
        ("name", "7", &["type"]),
        ("name", "{}", &["type"]),
        ("description", r#""""#, &["length"]),
        ("description", r#""\t\n""#, &["blank"]),
        ("description", "false", &["type"]),
        ("tags", "[]", &[]),
        ("tags", r#"["",""]"#, &[]),
        ("tags", r#"["a",1]"#, &["type"]),
        ("tags", "[null]", &["type"]),
        ("tags", "{}", &["type"]),
        ("tags", r#""a""#, &["type"]),
        ("pricePerHour", "-0.0", &[]),
        ("pricePerHour", "0", &[]),
        ("pricePerHour", "-1e-400", &[]),
        ("pricePerHour", "-5e-324", &["range"]),
        ("pricePerHour", "1.7976931348623157e308", &[]),
        ("pricePerHour", r#""1""#, &["type"]),
        ("pricePerHour", "[]", &["type"]),
        ("pricePerHour", "true", &["type"]),
    ];
    for (field, value, codes) in cases {
        let expected: Vec<_> = codes.iter().map(|code| (*field, *code)).collect();
        assert_eq!(violations_of(field, value), expected, "{field}: {value}");
    }
    let times = |text: &str, times: usize| format!("\"{}\"", text.repeat(times));
    assert_eq!(violations_of("name", &times("\u{1f6e0}", 64)), []);
    assert_eq!(violations_of("name", &times("\u{1f6e0}", 65)), [("name", "length")]);
    assert_eq!(violations_of("name", &times(" ", 70)), [("name", "length"), ("name", "blank")]);
    assert_eq!(violations_of("description", &times("é", 255)), []);
    assert_eq!(violations_of("description", &times("é", 256)), [("description", "length")]);
    let largest = r#"{"eventType":"ServiceDeleted","id":9007199254740991}"#;
    assert_eq!(Sequence::new().send_with_key("9007199254740991", largest), rejected(Reason::NotFound));
}

#[apply(offline_test)]
fn violations_come_in_the_order_of_the_fields() {
    let mut sequence = Sequence::new();
    sequence.timestamp = false;
    let all = [("id", "required"), ("name", "required"), ("description", "required"), ("tags", "required")];
    let bare = sequence.send(r#"{"pricePerHour":null,"eventType":"ServiceCreated"}"#);
    assert_eq!(bare, invalid(&[all.as_slice(), &[("timestamp", "timestamp")]].concat()));
    let wrong =
        sequence.send(r#"{"pricePerHour":-1,"tags":1,"description":1,"name":1,"id":1.0,"eventType":"ServiceCreated"}"#);
    let wrong_types = [("id", "type"), ("name", "type"), ("description", "type"), ("tags", "type")];
    let rest = [("pricePerHour", "range"), ("timestamp", "timestamp")];
    assert_eq!(wrong, invalid(&[wrong_types.as_slice(), &rest].concat()));
    assert_eq!(sequence.send(DELETED), invalid(&[("timestamp", "timestamp")]));
}

#[apply(offline_test)]
fn timestamps_lie_within_the_years_0_to_9999() {
    let created_at = |at_ms: i64| {
        let mut sequence = Sequence::new();
        sequence.at_ms = at_ms;
        match sequence.send(CREATED) {
            ModelVerdict::Applied(Some(value)) => {
                let value = String::from_utf8(value).expect("it is JSON");
                value.split(r#""createdAt":""#).nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned)
            }
            ModelVerdict::Applied(None) | ModelVerdict::Rejected { .. } => None,
        }
    };
    let cases = [
        (-62_167_219_200_001, None),
        (-62_167_219_200_000, Some("0000-01-01T00:00:00.000Z")),
        (-62_162_121_600_000, Some("0000-02-29T00:00:00.000Z")),
        (-1, Some("1969-12-31T23:59:59.999Z")),
        (0, Some("1970-01-01T00:00:00.000Z")),
        (951_782_400_000, Some("2000-02-29T00:00:00.000Z")),
        (4_107_542_400_000, Some("2100-03-01T00:00:00.000Z")),
        (253_402_300_799_999, Some("9999-12-31T23:59:59.999Z")),
        (253_402_300_800_000, None),
    ];
    for (at_ms, expected) in cases {
        assert_eq!(created_at(at_ms).as_deref(), expected, "{at_ms}");
    }
}

#[apply(offline_test)]
fn prices_are_written_in_their_shortest_form() {
    let cases = [
        ("120", "120"),
        ("120.0", "120"),
        ("1.2E2", "120"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("0.50", "0.5"),
        ("99.95", "99.95"),
        ("1000000000000000", "1000000000000000"),
        ("10000000000000000", "1e+16"),
        ("123456789012345678", "1.2345678901234568e+17"),
        ("0.00001", "0.00001"),
        ("0.000001", "1e-6"),
        ("1e300", "1e+300"),
        ("5e-324", "5e-324"),
        ("0.1000000000000000055511151231257827", "0.1"),
        ("873383816278703.25", "873383816278703.2"),
        ("9007199254740993", "9007199254740992"),
    ];
    for (written, expected) in cases {
        let created = CREATED.replace(":120", &format!(":{written}"));
        let state = CREATED_STATE.replace(":120", &format!(":{expected}"));
        assert_eq!(Sequence::new().send(&created), applied(&state), "{written}");
    }
}

#[apply(offline_test)]
fn strings_escape_only_what_they_must() {
    let created = CREATED.replace(r#""Web""#, r#""\u0041\/\"\\\b\f\n\r\t\u0000\u001F\u007f\u00e9\ud83d\ude00\u2028""#);
    let name = "\"A/\\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f\u{7f}é\u{1f600}\u{2028}\"";
    assert_eq!(Sequence::new().send(&created), applied(&CREATED_STATE.replace(r#""Web""#, name)));
}

/// The model has a JSON parser of its own on purpose. serde_json, a third one, confirms what is JSON.
#[apply(offline_test)]
fn the_json_parser_agrees_with_another_one() {
    let documents = [
        r#"{"a":[1,-2.5e+3,0,"x\u00e9\ud83d\ude00\n",true,false,null,{}],"b":{"c":"d"}}"#,
        " {\t\"k\" : [ ] , \"\\u0041\":\r\n-0.0e-1 } ",
    ];
    let strategy =
        (0..documents.len(), any::<prop::sample::Index>(), 0..3_u8, "[\\[\\]{}\",:0-9eE+.u\\\\ tnr\u{1}é-]{1,2}");
    let config = Config { cases: 4_000, failure_persistence: None, ..Config::default() };
    let outcome = crate::support::chance::runner(config).run(&strategy, |(document, place, how, text)| {
        let mut bytes = documents[document].as_bytes().to_vec();
        let at = place.index(bytes.len());
        match how {
            0 => drop(bytes.splice(at..at, text.bytes())),
            1 => drop(bytes.splice(at..at + 1, text.bytes())),
            _ => drop(bytes.remove(at)),
        }
        let is_object = serde_json::from_slice::<&serde_json::value::RawValue>(&bytes)
            .is_ok_and(|raw| raw.get().trim_start().starts_with('{'));
        let expected = if is_object { Reason::UnknownEventType } else { Reason::MalformedJson };
        let verdict = Model::new(1000).process(0, 0, Some(b"1"), Some(&bytes), Some(0));
        prop_assert_eq!(verdict, rejected(expected), "{}", bytes.escape_ascii());
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[apply(offline_test)]
fn the_text_of_a_float_agrees_with_another_implementation() {
    let config = Config { cases: 20_000, failure_persistence: None, ..Config::default() };
    let strategy = prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (0_u64..1 << 60).prop_map(|cents| cents as f64 / 100.0),
        (-30_i32..30, 1_u32..1000).prop_map(|(exponent, digits)| f64::from(digits) * 10_f64.powi(exponent)),
    ];
    let outcome = crate::support::chance::runner(config).run(&strategy, |number| {
        let number = number.abs();
        prop_assume!(number.is_finite());
        let written = serde_json::to_string(&number).expect("a finite float is JSON");
        prop_assert_eq!(number_text(number), written.strip_suffix(".0").unwrap_or(&written));
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[apply(offline_test)]
fn offsets_that_do_not_rise_are_refused() {
    let refused = std::panic::catch_unwind(|| {
        let mut model = Model::new(1000);
        model.process(0, 5, None, None, None);
        model.process(1, 5, None, None, None);
        model.process(0, 5, None, None, None);
    });
    assert!(refused.is_err());
}

/// Events of service 42 in partition 0, at consecutive offsets.
struct Sequence {
    model: Model,
    offset: i64,
    at_ms: i64,
    timestamp: bool,
}

impl Sequence {
    fn new() -> Sequence {
        Sequence { model: Model::new(262_144), offset: 0, at_ms: NEW_YEAR_MS, timestamp: true }
    }

    fn send(&mut self, value: &str) -> ModelVerdict {
        self.send_with_key("42", value)
    }

    fn send_with_key(&mut self, key: &str, value: &str) -> ModelVerdict {
        let at_ms = self.timestamp.then_some(self.at_ms);
        let verdict = self.model.process(0, self.offset, Some(key.as_bytes()), Some(value.as_bytes()), at_ms);
        self.offset += 1;
        verdict
    }
}

fn applied(value: &str) -> ModelVerdict {
    ModelVerdict::Applied(Some(value.as_bytes().to_vec()))
}

fn rejected(reason: Reason) -> ModelVerdict {
    ModelVerdict::Rejected { reason, violations: Vec::new() }
}

fn invalid(violations: &[(&'static str, &'static str)]) -> ModelVerdict {
    let violations =
        violations.iter().map(|&(field, code)| steward::testing::reference::ModelViolation { field, code }).collect();
    ModelVerdict::Rejected { reason: Reason::InvalidEvent, violations }
}

/// Returns the violations of a creation in which only this member differs from a valid one.
fn violations_of(field: &str, value: &str) -> Vec<(&'static str, &'static str)> {
    let members = [("id", "42"), ("name", r#""n""#), ("description", r#""d""#), ("tags", "[]"), ("pricePerHour", "1")];
    let members = members.map(|(name, usual)| format!(r#""{name}":{}"#, if name == field { value } else { usual }));
    match Sequence::new().send(&format!(r#"{{"eventType":"ServiceCreated",{}}}"#, members.join(","))) {
        ModelVerdict::Applied(_) => Vec::new(),
        ModelVerdict::Rejected { reason, violations } => {
            assert_eq!(reason, Reason::InvalidEvent, "{field}: {value}");
            violations.iter().map(|broken| (broken.field, broken.code)).collect()
        }
    }
}
