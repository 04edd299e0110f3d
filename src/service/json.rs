//! Owns what of a value is JSON and which of its members are known, before anyone asks what they mean.
//!
//! Which fields are known is decided by `eventType`, which may stand last. So one pass checks the grammar of the whole
//! and keeps each field that may turn out to be known as raw text ([`JsonDocument`]); what the event's type makes known is
//! then read again, strictly ([`JsonDocument::value`]). Fields that stay unknown may hold whatever the grammar allows:
//! names that stand twice, surrogates without a partner, numbers that no float can hold.
//!
//! Non-obvious: `serde_json` skips a raw value without recursion and without a limit of depth, which is why the depth
//! is checked beforehand; that check bounds the recursion of the strict reading too. It reads names as byte strings
//! leniently, control characters included, which is why names are taken as raw values here.
//!
//! Architecture invariant: details name fields and positions, and quote nothing.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::entity::{Reason, Rejection};

/// Levels of objects and arrays, the outermost object being the first.
const MAX_DEPTH: usize = 127;

/// The fields that some event knows, in the order of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    EventType,
    Id,
    Name,
    Description,
    Tags,
    PricePerHour,
}

impl Field {
    const ALL: [Field; 6] =
        [Field::EventType, Field::Id, Field::Name, Field::Description, Field::Tags, Field::PricePerHour];

    /// As it stands in the JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            Field::EventType => "eventType",
            Field::Id => "id",
            Field::Name => "name",
            Field::Description => "description",
            Field::Tags => "tags",
            Field::PricePerHour => "pricePerHour",
        }
    }

    /// The field with this name, quotes and all. An escape that is no scalar value stands in no known name.
    fn named(quoted: &RawValue) -> Option<Field> {
        let quoted = quoted.get();
        let unescaped;
        let name = if quoted.contains('\\') {
            unescaped = serde_json::from_str::<String>(quoted).ok()?;
            unescaped.as_str()
        } else {
            quoted.strip_prefix('"')?.strip_suffix('"')?
        };
        Field::ALL.into_iter().find(|field| field.name() == name)
    }
}

/// How often a field stands in the document, and its raw text.
#[derive(Debug, Clone, Copy, Default)]
enum FieldSlot<'a> {
    #[default]
    Absent,
    Once(&'a str),
    Twice,
}

/// One JSON object, its grammar checked, its fields unread.
#[derive(Debug, Default)]
pub(super) struct JsonDocument<'a> {
    slots: [FieldSlot<'a>; Field::ALL.len()],
}

impl<'a> JsonDocument<'a> {
    /// Checks the whole value.
    ///
    /// # Errors
    /// `malformed_json`, unless it is exactly one object in UTF-8, at most [`MAX_DEPTH`] levels deep.
    pub(super) fn read(value: &'a [u8]) -> Result<JsonDocument<'a>, Rejection> {
        let text = std::str::from_utf8(value).map_err(|error| {
            malformed(format!("the value is not UTF-8: see the byte at index {}", error.valid_up_to()))
        })?;
        if text.starts_with('\u{feff}') {
            return Err(malformed("the value starts with a byte-order mark; send the JSON without it"));
        }
        if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
            return Err(malformed("the value is not a JSON object; send one, such as {\"eventType\":...}"));
        }
        if is_too_deep(value) {
            return Err(malformed(format!("the value is nested more than {MAX_DEPTH} levels deep; flatten it")));
        }
        serde_json::from_str(text).map_err(|error| malformed(format!("the value is not one JSON object: {error}")))
    }

    /// Reads a field that the event's type makes known: its raw text and its value, `None` where it is absent or null.
    ///
    /// # Errors
    /// `malformed_json`, when it stands twice, or when it holds, however deep, a name twice, an escape that is no
    /// scalar value, or a number beyond a 64-bit float.
    pub(super) fn value(&self, field: Field) -> Result<Option<(&'a str, JsonValue<'a>)>, Rejection> {
        let raw = match self.slots[field as usize] {
            FieldSlot::Absent => return Ok(None),
            FieldSlot::Once(raw) => raw,
            FieldSlot::Twice => {
                return Err(malformed(format!("the field {} stands twice; send it once", field.name())));
            }
        };
        // The grammar is checked: a string without a backslash is what stands between its quotes.
        if let Some(text) = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'))
            && !text.contains('\\')
        {
            return Ok(Some((raw, JsonValue::Text(Cow::Borrowed(text)))));
        }
        match serde_json::from_str(raw) {
            Ok(JsonValue::Null) => Ok(None),
            Ok(value) => Ok(Some((raw, value))),
            Err(error) => {
                Err(malformed(format!("the field {}: {error}, counted from where its value starts", field.name())))
            }
        }
    }
}

fn malformed(detail: impl Into<String>) -> Rejection {
    Rejection::new(Reason::MalformedJson, detail)
}

/// Whether there are more than [`MAX_DEPTH`] levels, in any place. Exact for JSON; what is none is refused anyway.
fn is_too_deep(value: &[u8]) -> bool {
    // What opens few brackets is not deep; that spares nearly every event the walk.
    if opening_brackets(value) <= MAX_DEPTH {
        return false;
    }
    let mut depth = 0_usize;
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// How many there are, in strings too. Counted in bytes, a chunk at a time, which the compiler makes vectors of.
fn opening_brackets(value: &[u8]) -> usize {
    const CHUNK: usize = u8::MAX as usize;
    let in_chunk = |chunk: &[u8]| chunk.iter().map(|byte| u8::from(matches!(byte, b'{' | b'['))).sum::<u8>();
    value.chunks(CHUNK).map(|chunk| usize::from(in_chunk(chunk))).sum()
}

/// Moves behind the quote that closes the string.
fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => _ = bytes.next(),
            _ => {}
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for JsonDocument<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<JsonDocument<'a>, D::Error> {
        deserializer.deserialize_map(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = JsonDocument<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonDocument<'de>, A::Error> {
        let mut document = JsonDocument::default();
        while let Some(name) = map.next_key::<&RawValue>()? {
            let Some(field) = Field::named(name) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let raw = map.next_value::<&RawValue>()?.get();
            let slot = &mut document.slots[field as usize];
            *slot = match slot {
                FieldSlot::Absent => FieldSlot::Once(raw),
                FieldSlot::Once(_) | FieldSlot::Twice => FieldSlot::Twice,
            };
        }
        Ok(document)
    }
}

/// What a known field holds, as far as some rule asks for it.
#[derive(Debug)]
pub(super) enum JsonValue<'a> {
    Null,
    Number(f64),
    Text(Cow<'a, str>),
    /// An array of nothing but strings.
    Texts(Vec<Cow<'a, str>>),
    /// An array with something else in it, an object, true or false: no field wants one.
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for JsonValue<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<JsonValue<'a>, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = JsonValue<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Other)
    }

    fn visit_u64<E>(self, number: u64) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Number(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<JsonValue<'de>, A::Error> {
        let mut texts = Vec::new();
        while let Some(element) = elements.next_element()? {
            let JsonValue::Text(text) = element else {
                // The rest is still read, because it has to be well-formed.
                while elements.next_element::<JsonValue<'_>>()?.is_some() {}
                return Ok(JsonValue::Other);
            };
            texts.push(text);
        }
        Ok(JsonValue::Texts(texts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<JsonValue<'de>, A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if !names.insert(name) {
                return Err(A::Error::custom("a name stands twice in an object"));
            }
            members.next_value::<JsonValue<'_>>()?;
        }
        Ok(JsonValue::Other)
    }
}
