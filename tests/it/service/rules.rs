//! The rules on fields, on the key, and on the detail of a rejection.

use serde_json::{Value, json};
use steward::entity::{MAX_DETAIL_BYTES, Reason};
use steward::service::State;

use super::*;

#[apply(offline_test)]
fn required_fields_are_required_on_creation_only() {
    for field in ["id", "name", "description", "tags"] {
        violates(&without(field, None), &[(field, "required")]);
        violates(&without(field, Some("null")), &[(field, "required")]);
    }
    for id in ["", r#""id":null"#] {
        violates(&joined("ServiceUpdated", id), &[("id", "required")]);
        violates(&joined("ServiceDeleted", id), &[("id", "required")]);
    }
    violates(
        r#"{"eventType":"ServiceCreated"}"#,
        &[("id", "required"), ("name", "required"), ("description", "required"), ("tags", "required")],
    );
}

#[apply(offline_test)]
fn an_id_is_digits_of_at_most_2_to_the_53_less_1() {
    for id in ["0", "7", "42", "9007199254740991"] {
        let value = without("id", Some(id));
        let state = decide(&State::Absent, id.as_bytes(), value.as_bytes(), Some(NOON)).expect(id);
        let json = String::from_utf8(Service.encode(&state).expect("the service exists")).expect("JSON is UTF-8");
        assert!(json.starts_with(&format!(r#"{{"id":{id},"#)), "{json}");
    }
    for id in ["9007199254740992", "18446744073709551615", "18446744073709551616", "100000000000000000000000000000"] {
        violates(&without("id", Some(id)), &[("id", "range")]);
        violates(&joined("ServiceUpdated", &format!(r#""id":{id}"#)), &[("id", "range")]);
        violates(&joined("ServiceDeleted", &format!(r#""id":{id}"#)), &[("id", "range")]);
    }
    for id in [
        "42.0",
        "42e0",
        "4.2e1",
        "-0",
        "-1",
        "-9007199254740992",
        r#""42""#,
        "true",
        "false",
        "[]",
        "[42]",
        "{}",
        r#""""#,
    ] {
        violates(&without("id", Some(id)), &[("id", "type")]);
        violates(&joined("ServiceUpdated", &format!(r#""id":{id}"#)), &[("id", "type")]);
        violates(&joined("ServiceDeleted", &format!(r#""id":{id}"#)), &[("id", "type")]);
    }
}

#[apply(offline_test)]
fn texts_have_a_length_in_characters_and_are_not_blank() {
    for (field, longest) in [("name", 64), ("description", 255)] {
        for event in [
            |field: &str, json: &str| without(field, Some(json)),
            |field: &str, json: &str| joined("ServiceUpdated", &format!(r#""id":42,"{field}":{json}"#)),
        ] {
            for good in [
                "a".to_owned(),
                "é".repeat(longest),
                "\u{1f600}".repeat(longest),
                " a ".to_owned(),
                "\u{200b}".to_owned(),
            ] {
                keeps_the_rules(&event(field, &json!(good).to_string()));
            }
            keeps_the_rules(&event(field, &format!(r#""{}""#, r"\ud83d\ude00".repeat(longest))));
            keeps_the_rules(&event(field, r#""\u0000""#));
            for (bad, code) in [
                (String::new(), "length"),
                ("a".repeat(longest + 1), "length"),
                ("e\u{301}".repeat(longest), "length"),
                (" ".to_owned(), "blank"),
                ("\t\n\u{b}\u{c}\r".to_owned(), "blank"),
                ("\u{85}\u{a0}\u{1680}\u{2003}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}".to_owned(), "blank"),
                (" ".repeat(longest), "blank"),
            ] {
                violates(&event(field, &json!(bad).to_string()), &[(field, code)]);
            }
            for bad in ["1", "0.5", "true", "[]", r#"["a"]"#, "{}"] {
                violates(&event(field, bad), &[(field, "type")]);
            }
        }
    }
}

#[apply(offline_test)]
fn a_blank_text_that_is_too_long_breaks_both_rules() {
    let spaces = json!(" ".repeat(70)).to_string();
    violates(&without("name", Some(&spaces)), &[("name", "length"), ("name", "blank")]);
    keeps_the_rules(&without("description", Some(&json!(format!("{}x", " ".repeat(254))).to_string())));
}

#[apply(offline_test)]
fn tags_are_strings_in_their_order_with_repetition() {
    let state = decide(&State::Absent, b"42", without("tags", Some(r#"["b","a","b",""," "]"#)).as_bytes(), Some(NOON));
    assert_eq!(written(&state.expect("good tags"))["tags"], json!(["b", "a", "b", "", " "]));
    for bad in [
        r#""web""#,
        "1",
        "true",
        "{}",
        "[1]",
        "[null]",
        r#"["a",null]"#,
        r#"[null,"a"]"#,
        r#"["a",["b"]]"#,
        r#"["a",{}]"#,
    ] {
        violates(&without("tags", Some(bad)), &[("tags", "type")]);
        violates(&joined("ServiceUpdated", &format!(r#""id":42,"tags":{bad}"#)), &[("tags", "type")]);
    }
}

#[apply(offline_test)]
fn a_price_is_a_number_of_0_or_more() {
    for bad in [r#""1""#, "true", "[]", "[1]", "{}"] {
        violates(&without("pricePerHour", Some(bad)), &[("pricePerHour", "type")]);
    }
    for bad in ["-1", "-0.1", "-5e-324", "-1e308", "-18446744073709551616"] {
        violates(&without("pricePerHour", Some(bad)), &[("pricePerHour", "range")]);
        violates(&joined("ServiceUpdated", &format!(r#""id":42,"pricePerHour":{bad}"#)), &[("pricePerHour", "range")]);
    }
}

#[apply(offline_test)]
fn a_timestamp_lies_in_the_years_0_to_9999() {
    let live = after(&[CREATED]);
    for (state, event) in [(&State::Absent, CREATED), (&live, UPDATED), (&live, DELETED)] {
        for good in [FIRST_MS, -1, 0, LAST_MS] {
            assert!(decide(state, b"42", event.as_bytes(), Some(good)).is_ok(), "{event} at {good}");
        }
        for bad in [None, Some(FIRST_MS - 1), Some(LAST_MS + 1), Some(i64::MIN), Some(i64::MAX)] {
            let rejected = decide(state, b"42", event.as_bytes(), bad).expect_err(event);
            assert_eq!(violations(&rejected), [("timestamp".to_owned(), "timestamp".to_owned())], "{event} at {bad:?}");
        }
    }
}

#[apply(offline_test)]
fn all_violations_are_listed_in_a_fixed_order() {
    let long_blank = " ".repeat(300);
    let value = format!(
        r#"{{"pricePerHour":-1,"tags":{{}},"description":"{long_blank}","name":"{long_blank}","id":-1,"eventType":"ServiceCreated"}}"#
    );
    let rejected = decide(&State::Absent, b"42", value.as_bytes(), None).expect_err("it breaks every rule");
    let expected = [
        ("id", "type"),
        ("name", "length"),
        ("name", "blank"),
        ("description", "length"),
        ("description", "blank"),
        ("tags", "type"),
        ("pricePerHour", "range"),
        ("timestamp", "timestamp"),
    ];
    assert_eq!(violations(&rejected), expected.map(|(field, code)| (field.to_owned(), code.to_owned())));
}

#[apply(offline_test)]
fn the_longest_list_of_violations_is_whole_json() {
    for event_type in ["ServiceCreated", "ServiceUpdated"] {
        let blank = " ".repeat(100_000);
        let value = format!(
            r#"{{"eventType":"{event_type}","id":9007199254740992,"name":"{blank}","description":"{blank}","tags":7,"pricePerHour":-1}}"#
        );
        let rejected =
            decide(&State::Absent, b"42", value.as_bytes(), Some(i64::MAX)).expect_err("it breaks every rule");
        assert_eq!(violations(&rejected).len(), 8);
        assert!(rejected.detail.len() < MAX_DETAIL_BYTES, "{} bytes", rejected.detail.len());
        let entries: Vec<Value> = serde_json::from_str(&rejected.detail).expect("an array");
        for entry in entries {
            let members: Vec<&String> = entry.as_object().expect("an object").keys().collect();
            assert_eq!(members, ["code", "field", "message"], "in any order");
            assert!(
                entry["message"].as_str().is_some_and(|message| message.len() > 10),
                "{entry} has no useful message"
            );
        }
    }
}

#[apply(offline_test)]
fn the_key_is_the_shortest_form_of_the_id() {
    let keys: [&[u8]; 10] = [b"43", b"042", b"42 ", b" 42", b"+42", b"42.0", b"\"42\"", b"4", b"\xff", b"42\0"];
    for key in keys {
        let rejected = decide(&State::Absent, key, CREATED.as_bytes(), Some(NOON)).expect_err("another key");
        assert_eq!(rejected.reason, Reason::KeyIdMismatch, "{}", key.escape_ascii());
        assert!(rejected.detail.contains("send 42"), "{}", rejected.detail);
    }
}

#[apply(offline_test)]
fn the_first_broken_rule_gives_the_reason() {
    let live = after(&[CREATED]);
    for (value, timestamp, key, expected) in [
        (r#"{"eventType":"Nonsense","id":42,"name":"""#, None, "43", Reason::MalformedJson),
        (r#"{"eventType":"ServiceCreated","id":"x","id":1,"name":""}"#, None, "43", Reason::MalformedJson),
        (r#"{"eventType":"Nonsense","id":-42,"name":""}"#, None, "43", Reason::UnknownEventType),
        (r#"{"eventType":"ServiceCreated","id":42,"name":""}"#, None, "43", Reason::InvalidEvent),
        (CREATED, None, "43", Reason::InvalidEvent),
        (CREATED, Some(NOON), "43", Reason::KeyIdMismatch),
        (CREATED, Some(NOON), "42", Reason::AlreadyExists),
    ] {
        let rejected = decide(&live, key.as_bytes(), value.as_bytes(), timestamp).expect_err(value);
        assert_eq!(rejected.reason, expected, "{value}");
    }
}

#[apply(offline_test)]
fn a_detail_never_holds_more_than_64_characters_of_the_input() {
    let flood = "§".repeat(5_000);
    for value in [
        flood.clone(),
        format!(r#""{flood}""#),
        format!(r#"{{"{flood}":{flood}}}"#),
        format!(r#"{{"eventType":"{flood}"}}"#),
        format!(r#"{{"eventType":["{flood}"]}}"#),
        format!(r#"{{"eventType":"{flood}","eventType":1}}"#),
        format!(r#"{{"eventType":"{flood}\ud800"}}"#),
        without("id", Some(&format!(r#""{flood}""#))),
        without("name", Some(&format!(r#""{flood}""#))),
        without("name", Some(&format!(r#"{{"{flood}":1,"{flood}":2}}"#))),
        without("tags", Some(&format!(r#"["{flood}",1]"#))),
        without("pricePerHour", Some(&format!(r#""{flood}""#))),
        CREATED.to_owned(),
    ] {
        let rejected = decide(&State::Absent, flood.as_bytes(), value.as_bytes(), Some(NOON)).expect_err(&value);
        assert!(rejected.detail.chars().filter(|character| *character == '§').count() <= 64, "{}", rejected.detail);
        assert!(rejected.detail.len() <= MAX_DETAIL_BYTES);
    }
    // The detail holds both the key and the id, 64 characters in total.
    let rejected =
        decide(&State::Absent, flood.as_bytes(), without("id", Some("9007199254740991")).as_bytes(), Some(NOON));
    let detail = rejected.expect_err("another key").detail;
    assert!(detail.chars().filter(|character| *character == '§').count() + 16 <= 64, "{detail}");
}
