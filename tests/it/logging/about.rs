//! Keys and trace ids in a log line.

use proptest::prelude::*;
use steward::observability::log_events::{KeyPolicy, MAX_KEY_BYTES, Trace};

use crate::telemetry::property;

fn plain(key: &[u8]) -> String {
    KeyPolicy::Plain.show(key).expect("a plain key is shown").to_string()
}

#[apply(offline_test)]
fn a_plain_key_is_escaped_and_bounded() {
    assert_eq!(plain(b"42"), "42");
    assert_eq!(plain(b""), "");
    assert_eq!(plain(b"a-b_c.d~E"), "a-b_c.d~E");
    assert_eq!(plain(b"#1, 50%:\"\n\xff"), "%231%2C%2050%25%3A%22%0A%FF");
    assert_eq!(plain("ä".as_bytes()), "%C3%A4");
    assert_eq!(plain(&[b'7'; MAX_KEY_BYTES]), "7".repeat(MAX_KEY_BYTES));
    assert_eq!(plain(&[b'7'; MAX_KEY_BYTES + 1]), format!("{}…", "7".repeat(MAX_KEY_BYTES)));
    assert_eq!(plain(&[b' '; 1_000_000]), format!("{}…", "%20".repeat(MAX_KEY_BYTES / 3)), "cut between escapes");
}

#[apply(offline_test)]
fn no_key_contains_a_list_separator() {
    property(&prop::collection::vec(any::<u8>(), 0..200), |key| {
        for policy in [KeyPolicy::Plain, KeyPolicy::hashed(b"0123456789abcdef")] {
            let shown = policy.show(&key).expect("it is shown").to_string();
            prop_assert!(shown.len() <= MAX_KEY_BYTES + '…'.len_utf8());
            let is_harmless = |char: char| char.is_ascii_alphanumeric() || "-_.~%#…".contains(char);
            prop_assert!(shown.chars().all(is_harmless), "{}", shown);
        }
        prop_assert!(!plain(&key).starts_with('#'), "a plain key looks like a hashed one");
        Ok(())
    });
}

/// The expected value is the first 16 digits of `printf %s 42 | openssl dgst -sha256 -hmac 0123456789abcdef`.
#[apply(offline_test)]
fn a_hashed_key_equals_the_hash_of_openssl() {
    let show = |secret: &[u8], key: &[u8]| KeyPolicy::hashed(secret).show(key).expect("it is shown").to_string();
    assert_eq!(show(b"0123456789abcdef", b"42"), "#8d24a2a526d5f556");
    assert_ne!(show(b"0123456789abcdef", b"43"), "#8d24a2a526d5f556", "another key");
    assert_ne!(show(b"0123456789abcdeF", b"42"), "#8d24a2a526d5f556", "another secret");
}

#[apply(offline_test)]
fn an_omitted_key_is_none() {
    assert_eq!(KeyPolicy::Omitted.show(b"42"), None);
}

#[apply(offline_test)]
fn a_policy_does_not_show_its_secret() {
    assert_eq!(format!("{:?}", KeyPolicy::hashed(b"0123456789abcdef")), "Hashed");
}

const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

#[apply(offline_test)]
fn a_trace_is_parsed_as_the_standard_requires() {
    let read = |text: String| {
        let trace = Trace::parse(text.as_bytes()).map(|trace| (trace.trace_id, trace.span_id, trace.trace_flags));
        trace.map(|(trace_id, span_id, flags)| (trace_id.to_owned(), span_id.to_owned(), flags.to_owned()))
    };
    let expected = |flags: &str| Some((ID.to_owned(), SPAN.to_owned(), flags.to_owned()));
    assert_eq!(read(format!("00-{ID}-{SPAN}-01")), expected("01"));
    assert_eq!(read(format!("00-{ID}-{SPAN}-00")), expected("00"));
    assert_eq!(read(format!("00-{ID}-{SPAN}-ff")), expected("ff"), "flags that are not known yet");
    assert_eq!(read(format!("cc-{ID}-{SPAN}-01")), expected("01"), "a later version");
    assert_eq!(read(format!("cc-{ID}-{SPAN}-01-what-the-future-brings")), expected("01"));
}

#[apply(offline_test)]
fn a_malformed_trace_is_left_out() {
    let zeros = |digits: usize| "0".repeat(digits);
    let malformed = [
        String::new(),
        "00-aa".to_owned(),
        format!("00-{ID}-{SPAN}"),
        format!("00-{ID}-{SPAN}-"),
        format!("00-{ID}-{SPAN}-1"),
        format!("00-{ID}-{SPAN}-001"),
        format!("00-{ID}-{SPAN}-01-more"),
        format!("00-{ID}-{SPAN}-01-"),
        format!("00-{ID}-{SPAN}-01 "),
        format!(" 00-{ID}-{SPAN}-01"),
        format!("ff-{ID}-{SPAN}-01"),
        format!("0-{ID}-{SPAN}-01"),
        format!("cc-{ID}-{SPAN}-01.more"),
        format!("00-{}-{SPAN}-01", ID.to_uppercase()),
        format!("00-{ID}-{}-01", SPAN.to_uppercase()),
        format!("00-{ID}-{SPAN}-0A"),
        format!("00-{ID}0-{SPAN}-01"),
        format!("00-{}-{SPAN}-01", &ID[1..]),
        format!("00-{ID}-{}-01", &SPAN[1..]),
        format!("00-{}-{SPAN}-01", zeros(32)),
        format!("00-{ID}-{}-01", zeros(16)),
        format!("00-{}g-{SPAN}-01", &ID[1..]),
        format!("00_{ID}_{SPAN}_01"),
    ];
    for text in malformed {
        assert_eq!(Trace::parse(text.as_bytes()), None, "{text:?}");
    }
    assert_eq!(Trace::parse(b"00-\xff\xfe-01"), None, "no text at all");
}
