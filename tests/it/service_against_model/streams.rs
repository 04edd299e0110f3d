//! Generates records: valid ones, ones that break a rule or two, and arbitrary bytes.
//!
//! Every choice lists the simplest case first, because a failing stream shrinks to it.

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A record as it was sent.
#[derive(Clone)]
pub struct Sent {
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub timestamp_ms: Option<i64>,
}

impl Sent {
    /// A record with an ordinary key and timestamp.
    pub fn event(key: &str, value: &str) -> Sent {
        let (key, value) = (Some(key.as_bytes().to_vec()), Some(value.as_bytes().to_vec()));
        Sent { partition: 0, key, value, timestamp_ms: Some(NOON) }
    }
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| bytes.escape_ascii().to_string());
        let (key, value) = (text(&self.key), text(&self.value));
        write!(f, "partition {}, key {key:?}, value {value:?}, at {:?}", self.partition, self.timestamp_ms)
    }
}

const NOON: i64 = 1_769_860_800_000;
/// The first and the last millisecond of the years 0 to 9999.
const FIRST_MS: i64 = -62_167_219_200_000;
const LAST_MS: i64 = 253_402_300_799_999;

/// An event of one of a few entities, usually valid.
pub fn event() -> impl Strategy<Value = Sent> {
    let value = prop_oneof![
        40 => Just(None),
        1 => Just(Some(None)),
        1 => Just(Some(Some(Vec::new()))),
    ];
    (0..2_i32, id(), members(), key(), value, timestamp()).prop_map(
        |(partition, id, members, key, value, timestamp_ms)| {
            let (key, text) = (key.of(&id), members.written(&id));
            Sent { partition, key, value: value.unwrap_or(Some(text.into_bytes())), timestamp_ms }
        },
    )
}

/// An event in which some bytes are replaced by others.
pub fn damaged_event() -> impl Strategy<Value = Sent> {
    let inserted = prop_oneof![token(), vec(any::<u8>(), 0..3)];
    let damages = vec((any::<Index>(), 0..4_usize, inserted), 0..3);
    (event(), damages).prop_map(|(mut sent, damages)| {
        if let Some(value) = &mut sent.value {
            for (at, removed, inserted) in damages {
                let at = at.index(value.len() + 1);
                let end = (at + removed).min(value.len());
                value.splice(at..end, inserted);
            }
        }
        sent
    })
}

/// Arbitrary bytes, or tokens of JSON in any order.
pub fn bytes() -> impl Strategy<Value = Sent> {
    let soup = || vec(token(), 0..40).prop_map(|tokens| tokens.concat());
    let value = prop_oneof![
        soup().prop_map(|soup| [b"{", &soup[..], b"}"].concat()),
        soup(),
        vec(any::<u8>(), 0..200),
        any::<String>().prop_map(String::into_bytes),
    ];
    let key = prop_oneof![Just(b"42".to_vec()), vec(any::<u8>(), 0..4)];
    (value, prop::option::weighted(0.95, key), timestamp()).prop_map(|(value, key, timestamp_ms)| Sent {
        partition: 0,
        key,
        value: Some(value),
        timestamp_ms,
    })
}

// ------------------------------------------------------------------------------------------------------------ parts

fn timestamp() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![
        20 => Just(Some(NOON)),
        5 => (FIRST_MS..=LAST_MS).prop_map(Some),
        2 => select(&[0, 1, -1, 999, FIRST_MS, LAST_MS, FIRST_MS - 1, LAST_MS + 1, i64::MIN, i64::MAX][..]).prop_map(Some),
        1 => any::<i64>().prop_map(Some),
        1 => Just(None),
    ]
}

/// The text of an id: usually of one of a few entities, so that each gets several events.
fn id() -> impl Strategy<Value = String> {
    prop_oneof![
        30 => (1..4_u64).prop_map(|id| id.to_string()),
        2 => select(&["0", "9007199254740991", "9007199254740992", "18446744073709551616"][..]).prop_map(str::to_owned),
        1 => "[0-9]{1,25}",
        2 => number(),
        2 => select(&["\"1\"", "null", "true", "[1]", "{}", "-1", "1.0", "1e0", "-0", "01"][..]).prop_map(str::to_owned),
    ]
}

#[derive(Debug, Clone)]
enum KeyOf {
    Id,
    Other(Option<Vec<u8>>),
}

impl KeyOf {
    fn of(self, id: &str) -> Option<Vec<u8>> {
        match self {
            KeyOf::Id => Some(id.as_bytes().to_vec()),
            KeyOf::Other(key) => key,
        }
    }
}

fn key() -> impl Strategy<Value = KeyOf> {
    let odd = [None, Some(&b""[..]), Some(b"1"), Some(b"01"), Some(b" 1"), Some(b"1\n"), Some(b"+1"), Some(b"\xff")];
    prop_oneof![
        30 => Just(KeyOf::Id),
        2 => select(odd.to_vec()).prop_map(|key| KeyOf::Other(key.map(<[u8]>::to_vec))),
    ]
}

/// The members of an event, apart from its id.
#[derive(Debug, Clone)]
struct Members {
    event_type: String,
    fields: Vec<(&'static str, Option<String>)>,
    further: Vec<(String, String)>,
    order: usize,
    space: &'static str,
}

impl Members {
    fn written(&self, id: &str) -> String {
        let mut members =
            vec![("\"eventType\"".to_owned(), self.event_type.clone()), ("\"id\"".to_owned(), id.to_owned())];
        for (name, value) in &self.fields {
            members.extend(value.clone().map(|value| (format!("\"{name}\""), value)));
        }
        members.extend(self.further.iter().cloned());
        let turn = self.order % members.len();
        members.rotate_left(turn);
        let space = self.space;
        let members: Vec<String> =
            members.iter().map(|(name, value)| format!("{space}{name}{space}:{space}{value}{space}")).collect();
        format!("{space}{{{}}}{space}", members.join(","))
    }
}

fn members() -> impl Strategy<Value = Members> {
    let event_type = prop_oneof![
        12 => select(&["\"ServiceCreated\"", "\"ServiceUpdated\"", "\"ServiceDeleted\""][..]).prop_map(str::to_owned),
        1 => select(&ODD_TYPES[..]).prop_map(str::to_owned),
    ];
    let fields = (
        field(80, text(&[0, 1, 2, 63, 64, 65])),
        field(80, text(&[0, 1, 2, 254, 255, 256])),
        field(80, tags()),
        field(60, prop_oneof![(0..1_000_u32).prop_map(|price| price.to_string()), number()]),
    );
    let fields = fields.prop_map(|(name, description, tags, price)| {
        vec![("name", name), ("description", description), ("tags", tags), ("pricePerHour", price)]
    });
    let further = prop_oneof![8 => Just(Vec::new()), 1 => vec((name(), anything()), 1..3)];
    let space = prop_oneof![8 => Just(""), 1 => select(&[" ", "\t\n\r ", "\u{a0}", "\u{feff}", "\u{b}"][..])];
    (event_type, fields, further, 0..8_usize, space).prop_map(|(event_type, fields, further, order, space)| Members {
        event_type,
        fields,
        further,
        order,
        space,
    })
}

/// Usually `value`, else absent, null, or anything.
fn field(good: u32, value: impl Strategy<Value = String>) -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        good => value.prop_map(Some),
        4 => Just(None),
        2 => Just(Some("null".to_owned())),
        4 => anything().prop_map(Some),
    ]
}

const ODD_TYPES: [&str; 10] = [
    "\"Service\\u0043reated\"",
    "\"serviceCreated\"",
    "\"ServiceCreated \"",
    "\"\"",
    "null",
    "1",
    "1e400",
    "[\"ServiceCreated\"]",
    "\"\\ud800\"",
    "{}",
];

/// A name of a member, known or not, plain or escaped.
fn name() -> impl Strategy<Value = String> {
    let names = [
        "x",
        "name",
        "id",
        "tags",
        "eventType",
        "description",
        "pricePerHour",
        "Name",
        "n\\u0061me",
        "\\u0069d",
        "",
        "\\ud83d",
        "version",
        "event\\u0054ype",
    ];
    select(names.to_vec()).prop_map(|name| format!("\"{name}\""))
}

/// A string of one of these lengths, of characters that are plain, white, or long in UTF-8 or UTF-16.
fn text(lengths: &'static [usize]) -> impl Strategy<Value = String> {
    let character =
        select(&['a', ' ', 'é', '\u{1f600}', '\u{3000}', '\u{85}', '\u{200b}', '\u{feff}', '"', '\\', '\u{7f}'][..]);
    prop_oneof![
        16 => "[a-z ]{1,12}".prop_map(|text| quoted(&text)),
        2 => any::<String>().prop_map(|text| quoted(&text)),
        2 => any::<String>().prop_map(|text| escaped(&text)),
        3 => (character, select(lengths), prop::bool::weighted(0.2)).prop_map(|(character, length, is_escaped)| {
            let text: String = std::iter::repeat_n(character, length).collect();
            if is_escaped { escaped(&text) } else { quoted(&text) }
        }),
    ]
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Every character as `\u` escapes.
fn escaped(text: &str) -> String {
    let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    format!("\"{units}\"")
}

fn tags() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => vec(text(&[0, 1]), 0..4).prop_map(|tags| format!("[{}]", tags.join(","))),
        1 => vec(anything(), 0..3).prop_map(|tags| format!("[{}]", tags.join(" , "))),
    ]
}

/// A number in any JSON spelling, and in some that are not JSON.
fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        select(&NUMBERS[..]).prop_map(str::to_owned),
        "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?",
        any::<u64>().prop_map(f64::from_bits).prop_map(|number| format!("{number}")),
        any::<u64>().prop_map(f64::from_bits).prop_map(|number| format!("{number:e}")),
        (0..100_000_000_u64).prop_map(|cents| format!("{}", cents as f64 / 100.0)),
        (9_999_999_999_999_000_u64..10_000_000_000_001_000).prop_map(|number| number.to_string()),
    ]
}

const NUMBERS: [&str; 22] = [
    "0",
    "-0",
    "-0.0",
    "0e0",
    "1e0",
    "120.50",
    "1e15",
    "1e16",
    "1e17",
    "1e21",
    "123456789012345680000",
    "1e-5",
    "1e-6",
    "1e-7",
    "5e-324",
    "2e-324",
    "1.7976931348623157e308",
    "1.7976931348623159e308",
    "1e400",
    "-1e400",
    "0.1",
    "-1",
];

/// Any JSON value, and some text that is not JSON.
fn anything() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        select(
            &[
                "0",
                "true",
                "false",
                "null",
                "\"\"",
                "[]",
                "{}",
                "\"\\ud800\"",
                "\"\\udc00x\"",
                "\"\\ud800\\ud800\"",
                "nul",
                "tru",
                "NaN",
                "",
                "'a'",
                "\"\u{1}\"",
                "\"\\x\"",
                "\"\\u12\""
            ][..]
        )
        .prop_map(str::to_owned),
        number(),
        text(&[0, 1]),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(","))),
            vec((name(), inner.clone()), 0..3).prop_map(|members| {
                let members: Vec<String> = members.iter().map(|(name, value)| format!("{name}:{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
            (inner, 120..130_usize).prop_map(|(inner, deep)| format!(
                "{}{inner}{}",
                "[".repeat(deep),
                "]".repeat(deep)
            )),
        ]
    })
}

/// A token of JSON or of an event.
fn token() -> impl Strategy<Value = Vec<u8>> {
    let tokens = [
        " ",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "\\u",
        "\\ud800",
        "\\udc00",
        "\\u0061",
        "null",
        "true",
        "1",
        "-",
        "0",
        ".5",
        "e9",
        "e400",
        "\"eventType\":",
        "\"ServiceCreated\"",
        "\"eventType\":\"ServiceCreated\"",
        "\"eventType\":\"ServiceUpdated\",",
        "\"eventType\":\"ServiceDeleted\",",
        "\"id\":",
        "\"id\":42",
        "\"id\":42,",
        "42",
        "\"name\":",
        "\"name\":\"n\",",
        "\"description\":\"d\",",
        "\"tags\":[],",
        "\"tags\":[",
        "\"pricePerHour\":",
        "\"x\":",
        "\"n\\u0061me\":",
        "\t",
        "\n",
        "\u{1}",
        "\u{feff}",
        "é",
        "\u{2028}",
    ];
    select(tokens.to_vec()).prop_map(|token| token.as_bytes().to_vec())
}
