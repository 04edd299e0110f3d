//! How a service is written, and which bytes are read back.

use serde_json::json;
use steward::entity::Entity;
use steward::service::{Service, State};

use super::*;

#[apply(offline_test)]
fn a_price_is_written_in_the_shortest_form_that_reads_back_the_same() {
    for (sent, expected) in [
        ("0", "0"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("0e7", "0"),
        ("-1e-400", "0"),
        ("1e-400", "0"),
        ("200.0", "200"),
        ("2e2", "200"),
        ("120.50", "120.5"),
        ("0.1", "0.1"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("0.10000000000000000555111512312578", "0.1"),
        ("9007199254740991", "9007199254740991"),
        ("9007199254740993", "9007199254740992"),
        ("9999999999999998", "9999999999999998"),
        ("1e15", "1000000000000000"),
        ("5e-324", "5e-324"),
        ("2.2250738585072011e-308", "2.225073858507201e-308"),
    ] {
        assert_eq!(published_price(sent), expected, "{sent}");
    }
    assert_eq!(published_price(&format!("0.{}", "1".repeat(200_000))), "0.1111111111111111");
    assert_eq!(published_price(&format!("{}e-200000", "1".repeat(200_000))), "0.1111111111111111");
    // Beyond that serde_json writes an exponent and no `.0`.
    for sent in
        ["1e16", "1e21", "1e22", "1e300", "123456789012345680000", "18446744073709551615", "1.7976931348623157e308"]
    {
        let published = published_price(sent);
        let number: f64 = sent.parse().expect("a number");
        assert_eq!(published.parse::<f64>().expect("a number").to_bits(), number.to_bits(), "{sent} -> {published}");
        assert_eq!(published, serde_json::to_string(&number).expect("finite").trim_end_matches(".0"), "{sent}");
    }
}

#[apply(offline_test)]
fn strings_escape_control_characters_quotes_and_backslashes_only() {
    let value = without("name", Some(r#""\u0000\u001f\b\t\n\f\r\"\\\/\u007f\u00e9\u2028\ud83d\ude00<>&'""#));
    let state = decide(&State::Absent, b"42", value.as_bytes(), Some(NOON)).expect("a good name");
    let json = String::from_utf8(Service.encode(&state).expect("the service exists")).expect("JSON is UTF-8");
    let expected = format!(r#""name":"\u0000\u001f\b\t\n\f\r\"\\/{}<>&'","#, "\u{7f}é\u{2028}\u{1f600}");
    assert!(json.contains(&expected), "{json}");
}

#[apply(offline_test)]
fn times_are_written_with_four_digits_of_the_year_and_milliseconds() {
    for (ms, expected) in [
        (FIRST_MS, "0000-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400_007, "2000-02-29T00:00:00.007Z"),
        (LAST_MS, "9999-12-31T23:59:59.999Z"),
    ] {
        let state = decide(&State::Absent, b"42", CREATED.as_bytes(), Some(ms)).expect("a good event");
        assert_eq!(written(&state)["createdAt"], json!(expected));
        reads_back(&state);
    }
}

#[apply(offline_test)]
fn bytes_that_cannot_have_been_written_are_not_read_back() {
    let good =
        String::from_utf8(Service.encode(&after(&[CREATED])).expect("the service exists")).expect("JSON is UTF-8");
    assert!(Service.decode(good.as_bytes()).is_ok());
    for (from, to) in [
        (r#""id":42"#, r#""id":42.0"#),
        (r#""id":42"#, r#""id":"42""#),
        (r#""id":42"#, r#""id":9007199254740992"#),
        (r#""id":42,"#, ""),
        (r#""id":42"#, r#""id":42,"id":42"#),
        (r#""id":42"#, r#""id":42,"x":1"#),
        (r#""id":42"#, r#""id": 42"#),
        (r#"{"id""#, r#" {"id""#),
        (r#""Web development""#, r#""""#),
        (r#""Web development""#, r#"" ""#),
        (r#""Web development""#, "null"),
        (r#""Web development""#, r#""W\u0065b development""#),
        (r#""Web development""#, r#""\ud800""#),
        (r#"["web"]"#, "[1]"),
        (r#"["web"]"#, "null"),
        (r#""pricePerHour":120"#, r#""pricePerHour":120.0"#),
        (r#""pricePerHour":120"#, r#""pricePerHour":1.2e2"#),
        (r#""pricePerHour":120"#, r#""pricePerHour":-120"#),
        (r#""pricePerHour":120"#, r#""pricePerHour":-0"#),
        (r#""pricePerHour":120"#, r#""pricePerHour":null"#),
        (r#""version":1"#, r#""version":0"#),
        (r#""version":1"#, r#""version":9007199254740992"#),
        (r#""version":1"#, r#""version":18446744073709551616"#),
        (r#""createdAt":"2026-01-31T12:00:00.000Z""#, r#""createdAt":"2026-01-31T12:00:00Z""#),
        (r#""createdAt":"2026-01-31T12:00:00.000Z""#, r#""createdAt":"2026-02-31T12:00:00.000Z""#),
        (r#""createdAt":"2026-01-31T12:00:00.000Z""#, r#""createdAt":"+2026-01-31T12:00:00.000Z""#),
        (r#""createdAt":"2026-01-31T12:00:00.000Z""#, r#""createdAt":"2026-01-31T12:00:60.000Z""#),
        (r#""createdAt":"2026-01-31T12:00:00.000Z""#, r#""createdAt":1769860800000"#),
        (r#"00Z"}"#, r#"00Z"} "#),
        (r#"00Z"}"#, r#"00Z"}{}"#),
        (r#"00Z"}"#, r#"00Z""#),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from} is not there");
        assert!(Service.decode(bad.as_bytes()).is_err(), "{bad}");
        assert!(Service.check(bad.as_bytes()).is_err(), "{bad}");
    }
    for bad in [&b""[..], b"null", b"{}", b"[]", b"\xff"] {
        assert!(Service.decode(bad).is_err(), "{}", bad.escape_ascii());
    }
}

#[apply(offline_test)]
fn a_corrupt_snapshot_is_described_without_quoting_it() {
    let secret = "§".repeat(100);
    for (bad, words) in [
        (format!(r#"{{"{secret}":1}}"#), "unknown"),
        (format!(r#"{{"id":"{secret}"}}"#), "type"),
        (
            format!(
                r#"{{"id":42,"name":"{secret}","description":"{secret}","tags":[],"version":1,"createdAt":"2026-01-31T12:00:00.000Z","updatedAt":"2026-01-31T12:00:00.000Z"}}"#
            ),
            "64",
        ),
        (
            format!(
                r#"{{"id":42,"name":"n","description":"d","tags":[],"version":1,"createdAt":"2026-01-31T12:00:00.000Z","updatedAt":"{secret}"}}"#
            ),
            "updatedAt",
        ),
        (
            format!(
                r#"{{"id":42,"name":"n","description":"d","tags":["{secret}"],"version":1,"createdAt":"2026-01-31T12:00:00.000Z","updatedAt":"2026-01-31T12:00:00.000Z" }}"#
            ),
            "index",
        ),
    ] {
        let message = Service.decode(bad.as_bytes()).expect_err(&bad).to_string();
        assert!(message.contains(words) && !message.contains('§'), "{message}");
    }
}

#[apply(offline_test)]
fn the_newest_event_of_a_snapshot_is_its_last_update() {
    assert_eq!(Service.newest_event_ms(&State::Absent), None);
    let state = after(&[CREATED, UPDATED]);
    assert_eq!(Service.newest_event_ms(&state), Some(NOON + 1));
    let restored = Service.decode(&Service.encode(&state).expect("the service exists")).expect("it was written");
    assert_eq!(Service.newest_event_ms(&restored), Some(NOON + 1));
}
