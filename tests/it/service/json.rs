//! The grammar of a value, and which of its fields are known.

use steward::entity::Reason;
use steward::service::State;

use super::*;

#[apply(offline_test)]
fn what_is_not_one_json_object_in_utf_8_is_malformed() {
    let no_objects: [&[u8]; 14] =
        [b"", b" ", b"null", b"42", b"\"{}\"", b"[]", b"[{}]", b"{", b"}", b"{}{}", b"{} x", b"{}\0", b"\0{}", b"{},"];
    for value in no_objects {
        rejects(value, Reason::MalformedJson);
    }
    rejects(&CREATED.as_bytes()[..CREATED.len() - 1], Reason::MalformedJson);
    rejects(format!("\u{feff}{CREATED}").as_bytes(), Reason::MalformedJson);
    rejects(format!("{CREATED}\u{feff}").as_bytes(), Reason::MalformedJson);
    rejects(format!(" \u{feff}{CREATED}").as_bytes(), Reason::MalformedJson);
    rejects(format!("\u{a0}{CREATED}").as_bytes(), Reason::MalformedJson);
    rejects(format!("\u{c}{CREATED}").as_bytes(), Reason::MalformedJson);
    rejects(&CREATED.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>(), Reason::MalformedJson);

    let bad_members: [&[u8]; 46] = [
        b"\"x\":\"\xff\"",
        b"\"x\":\"\xc0\x80\"",
        b"\"x\":\"\xed\xa0\x80\"",
        b"\"x\":\"\xf4\x90\x80\x80\"",
        b"\"x\xff\":1",
        b"\"x\":{\"\xff\":1}",
        b"\"x\":\"a\nb\"",
        b"\"x\":\"a\tb\"",
        b"\"x\":\"a\0b\"",
        b"\"x\":\"a\x1fb\"",
        b"\"x\":{\"a\x1fb\":1}",
        b"\"x\":[\"\x01\"]",
        b"\"a\nb\":1",
        b"\"a\tb\":1",
        b"\"a\0b\":1",
        b"\"a\x1fb\":1",
        b"\"\\u0041\x1f\":1",
        b"\"x\":\"\\u12\"",
        b"\"x\":\"\\u12g4\"",
        b"\"x\":\"\\x41\"",
        b"\"x\":\"\\",
        b"\"\\u12g4\":1",
        b"\"\\x41\":1",
        b"\"x\":01",
        b"\"x\":-",
        b"\"x\":-01",
        b"\"x\":+1",
        b"\"x\":.5",
        b"\"x\":1.",
        b"\"x\":1e",
        b"\"x\":1e+",
        b"\"x\":0x1",
        b"\"x\":NaN",
        b"\"x\":Infinity",
        b"\"x\":-Infinity",
        b"\"x\":nul",
        b"\"x\":True",
        b"\"x\":'a'",
        b"x:1",
        b"1:1",
        b"\"x\"",
        b"\"x\":",
        b"\"x\":1,",
        b"\"x\":[1,]",
        b"\"x\":[1}",
        b"\"x\":1 /* c */",
    ];
    for member in bad_members {
        for value in [with_member(member, CREATED), with_member_last(member, CREATED)] {
            rejects(&value, Reason::MalformedJson);
        }
    }
}

#[apply(offline_test)]
fn the_detail_of_a_malformed_value_names_the_problem() {
    for (value, words) in [
        ("", "not a JSON object"),
        ("[{}]", "not a JSON object"),
        ("\u{feff}{}", "byte-order mark"),
        ("{} {}", "trailing characters at line 1 column 4"),
        (r#"{"eventType":"ServiceDeleted","id":1,"id":1}"#, "the field id stands twice"),
        (r#"{"eventType":"ServiceDeleted","id":"\ud800"}"#, "the field id: "),
        (r#"{"eventType":"ServiceDeleted","id":1e400}"#, "number out of range"),
        (&"[".repeat(200).replacen('[', r#"{"a":"#, 1), "127 levels"),
    ] {
        let rejected = decide(&State::Absent, b"42", value.as_bytes(), Some(NOON)).expect_err(value);
        assert!(rejected.detail.contains(words), "{value}: {}", rejected.detail);
    }
    let not_utf_8 = decide(&State::Absent, b"42", b"{\"x\":\"\xff\"}", Some(NOON)).expect_err("not UTF-8");
    assert!(not_utf_8.detail.contains("index 6"), "{}", not_utf_8.detail);
}

#[apply(offline_test)]
fn an_unknown_field_may_hold_everything_that_the_grammar_allows() {
    for member in [
        r#""x":"\ud800""#,
        r#""x":"\udc00\ud800""#,
        r#""x":{"\ud800":["\udfff"]}"#,
        r#""\ud800":1"#,
        r#""name\ud800":1"#,
        r#""\udc00name":1"#,
        r#""x":1e99999999999"#,
        r#""x":[-1e400,123456789e400]"#,
        r#""x":1,"x":2"#,
        r#""x":{"a":1,"a":2}"#,
        r#""":1"#,
        r#""Name":7"#,
        r#""NAME":7"#,
        r#""name ":7"#,
        r#""nam\u0065\u0000":7"#,
        r#""price_per_hour":"x""#,
        r#""timestamp":"x""#,
        r#""x":"\u0000\b\f\n\r\t\/\\\"""#,
        "\"x\":\"\u{7f}\u{85}\u{2028}\u{10ffff}\"",
        r#""__proto__":null,"$serde_json::private::RawValue":"[","$serde_json::private::Number":"x""#,
    ] {
        for value in [with_member(member.as_bytes(), CREATED), with_member_last(member.as_bytes(), CREATED)] {
            let state = decide(&State::Absent, b"42", &value, Some(NOON)).unwrap_or_else(|r| panic!("{member}: {r:?}"));
            assert_eq!(state, after(&[CREATED]), "{member} is ignored");
        }
    }
    let long = "9".repeat(200_000);
    let value = with_member(format!(r#""x":{long}"#).as_bytes(), CREATED);
    assert!(decide(&State::Absent, b"42", &value, Some(NOON)).is_ok());
}

#[apply(offline_test)]
fn a_known_field_must_not_hold_a_value_without_a_meaning_in_json() {
    for field in ["id", "name", "description", "tags", "pricePerHour"] {
        for bad in [
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\ud800""#,
            r#""\ud800x""#,
            r#""\ud800\n""#,
            r#"["\ud800"]"#,
            r#"["a",1,"\ud800"]"#,
            r#"[null,[["\ud800"]]]"#,
            r#"{"a":"\ud800"}"#,
            r#"{"\ud800":1}"#,
            r#"{"a":[{"b":"\udfff"}]}"#,
            "1e400",
            "-1e400",
            "1e309",
            "1.7976931348623159e308",
            "1e99999999999",
            "[1e400]",
            "[true,1e400]",
            r#"{"a":{"b":1e400}}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"[[{"a":{},"b":{},"a":{}}]]"#,
        ] {
            rejects(without(field, Some(bad)).as_bytes(), Reason::MalformedJson);
        }
        let digits = "9".repeat(400);
        rejects(without(field, Some(&digits)).as_bytes(), Reason::MalformedJson);
        let twice = format!(r#"null,"{field}":null"#);
        rejects(without(field, Some(&twice)).as_bytes(), Reason::MalformedJson);
        let escaped = format!(r#"null,"\u00{:02x}{}":null"#, field.as_bytes()[0], &field[1..]);
        rejects(without(field, Some(&escaped)).as_bytes(), Reason::MalformedJson);
    }
    // Well-formed, but of the wrong type: another reason.
    for odd in
        [r#"{"a":1,"b":{"a":2}}"#, r#"[{"a":1},{"a":1}]"#, "-1.7976931348623157e308", "1e-400", r#""\ud83d\ude00""#]
    {
        rejects(without("id", Some(odd)).as_bytes(), Reason::InvalidEvent);
    }
}

#[apply(offline_test)]
fn on_a_deletion_all_but_event_type_and_id_are_unknown() {
    for member in [
        r#""name":"\ud800""#,
        r#""name":1,"name":2"#,
        r#""tags":[1e400]"#,
        r#""pricePerHour":-1"#,
        r#""description":"""#,
    ] {
        let value = with_member(member.as_bytes(), DELETED);
        assert_eq!(decide(&after(&[CREATED]), b"42", &value, Some(NOON)), Ok(State::Absent), "{member}");
    }
    rejects(br#"{"eventType":"ServiceDeleted","id":42,"id":42}"#, Reason::MalformedJson);
    rejects(br#"{"id":1e400,"eventType":"ServiceDeleted"}"#, Reason::MalformedJson);
}

#[apply(offline_test)]
fn other_fields_of_an_event_with_an_unknown_event_type_are_not_checked() {
    for members in [r#""id":1,"id":2"#, r#""name":"\ud800""#, r#""tags":1e400"#, r#""id":"x""#, r#""x":0"#] {
        for event_type in [r#""eventType":"ServiceRenamed""#, r#""eventType":null"#, r#""eventType":[{}]"#, r#""y":0"#]
        {
            rejects(format!("{{{members},{event_type}}}").as_bytes(), Reason::UnknownEventType);
            rejects(format!("{{{event_type},{members}}}").as_bytes(), Reason::UnknownEventType);
        }
    }
    rejects(br#"{"eventType":"ServiceRenamed","x":"a"#, Reason::MalformedJson);
}

#[apply(offline_test)]
fn event_type_itself_must_be_well_formed() {
    for members in [
        r#""eventType":"ServiceDeleted","eventType":"ServiceDeleted""#,
        r#""eventType":null,"eventType":"ServiceDeleted""#,
        r#""eventType":"x","\u0065ventType":"y""#,
        r#""eventType":"\ud800""#,
        r#""eventType":["\ud800"]"#,
        r#""eventType":{"a":{"\udc00":1}}"#,
        r#""eventType":1e400"#,
        r#""eventType":{"a":1,"a":1}"#,
    ] {
        rejects(format!(r#"{{"id":42,{members}}}"#).as_bytes(), Reason::MalformedJson);
    }
}

#[apply(offline_test)]
fn an_event_type_other_than_the_three_is_unknown() {
    rejects(b"{}", Reason::UnknownEventType);
    for event_type in [
        "null",
        "5",
        "true",
        "{}",
        "[]",
        r#"["ServiceCreated"]"#,
        r#""""#,
        r#""servicecreated""#,
        r#""ServiceCreated ""#,
        r#""ServiceCreated\u0000""#,
        r#""Created""#,
    ] {
        rejects(format!(r#"{{"eventType":{event_type},"id":42}}"#).as_bytes(), Reason::UnknownEventType);
    }
    let detail = decide(&State::Absent, b"42", br#"{"eventType":"ServiceRenamed"}"#, None).expect_err("unknown").detail;
    assert!(detail.contains("ServiceRenamed") && detail.contains("ServiceUpdated"), "{detail}");
}

#[apply(offline_test)]
fn fields_may_come_in_any_order_and_spell_their_names_with_escapes() {
    let expected = after(&[CREATED]);
    for value in [
        r#"{"tags":["web"],"pricePerHour":120,"id":42,"description":"Full stack","name":"Web development","eventType":"ServiceCreated"}"#,
        r#"{"eventTyp\u0065":"Service\u0043reated","i\u0064":42,"na\u006de":"Web\u0020development","d\u0065scription":"Full stack","\u0074ags":["w\u0065b"],"price\u0050erHour":120}"#,
    ] {
        assert_eq!(decide(&State::Absent, b"42", value.as_bytes(), Some(NOON)).as_ref(), Ok(&expected), "{value}");
    }
}

#[apply(offline_test)]
fn a_document_may_be_127_levels_deep_anywhere_and_no_deeper() {
    for place in ["x", "name", "tags", "eventType"] {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"[{"a":"#, "}]"), ("[0,", "]"), (r#"{"b":0,"a":"#, "}")]
        {
            let levels_per_turn = open.matches(['[', '{']).count() - open.matches([']', '}']).count();
            let turns = 126 / levels_per_turn;
            let at_limit = format!("{}0{}", open.repeat(turns), close.repeat(turns));
            let beyond = format!("[{at_limit}]");
            let expected = match place {
                "x" => None,
                "eventType" => Some(Reason::UnknownEventType),
                _ => Some(Reason::InvalidEvent),
            };
            let outcome = decide(&State::Absent, b"42", without(place, Some(&at_limit)).as_bytes(), Some(NOON));
            assert_eq!(outcome.err().map(|rejection| rejection.reason), expected, "127 levels of {open} in {place}");
            rejects(without(place, Some(&beyond)).as_bytes(), Reason::MalformedJson);
        }
    }
    // Deep enough to overflow the stack of recursive code, closed or not.
    rejects(
        without("x", Some(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)))).as_bytes(),
        Reason::MalformedJson,
    );
    rejects("[".repeat(250_000).as_bytes(), Reason::MalformedJson);
    rejects(r#"{"a":"#.repeat(50_000).as_bytes(), Reason::MalformedJson);
    rejects(without("name", Some(&r#"{"a":"#.repeat(50_000))).as_bytes(), Reason::MalformedJson);
}

#[apply(offline_test)]
fn brackets_in_strings_are_no_levels() {
    let brackets = "[{".repeat(500);
    for member in [
        format!(r#""x":"{brackets}""#),
        format!(r#""x":"\"{brackets}\\""#),
        format!(r#""{brackets}":1"#),
        format!(r#""x\"{brackets}":["\\","{brackets}"]"#),
        format!(r#""x":[{}0]"#, "[],{},".repeat(300)),
    ] {
        let value = with_member(member.as_bytes(), CREATED);
        assert!(decide(&State::Absent, b"42", &value, Some(NOON)).is_ok(), "{member}");
    }
}
