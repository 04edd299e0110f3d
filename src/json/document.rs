//! Owns the grammar of a value: exactly one JSON object, and the raw text of the fields that may be read from it.
//!
//! Which fields an event has can depend on a field that comes last, such as its type. So a first pass checks the
//! grammar of the whole object and keeps each field of the table as raw text ([`JsonDocument`]). The fields that the
//! event's type allows are then read strictly ([`JsonDocument::value`]). Other fields may hold whatever the grammar
//! allows: repeated names, surrogates without a partner, numbers that no float can hold.
//!
//! Non-obvious: `serde_json` skips a raw value without recursion and without a limit of depth. So the depth is checked
//! beforehand, which bounds the recursion of strict reading too. `serde_json` accepts control characters in names that
//! are read as byte strings, so names are read as raw values here.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::entity::{Reason, Rejection};
use crate::json::envelope::Envelope;

/// Levels of objects and arrays; the outermost object is the first.
const MAX_DEPTH: usize = 127;

/// The names of the fields that events of an entity can have. Violations are listed in this order.
#[derive(Debug, Clone, Copy)]
pub struct FieldTable<const N: usize> {
    names: [&'static str; N],
}

/// A field of a [`FieldTable`]. Fields compare by their position in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field {
    position: usize,
    name: &'static str,
}

impl<const N: usize> FieldTable<N> {
    /// A table of these names, as they are in the JSON. Error messages show the first as an example.
    #[must_use]
    pub const fn new(names: [&'static str; N]) -> FieldTable<N> {
        FieldTable { names }
    }

    /// Returns the field with this name.
    ///
    /// # Panics
    /// If the table does not contain the name: in a constant, the code does not compile.
    #[must_use]
    pub const fn field(&self, name: &'static str) -> Field {
        let mut position = 0;
        while position < N {
            if is_equal(self.names[position].as_bytes(), name.as_bytes()) {
                return Field { position, name };
            }
            position += 1;
        }
        panic!("the table has no field with this name")
    }

    /// Returns the position of the field with this name, given with its quotes. A name whose escapes are not Unicode
    /// scalar values is not in the table.
    fn position(&self, quoted: &RawValue) -> Option<usize> {
        let quoted = quoted.get();
        let unescaped;
        let name = if quoted.contains('\\') {
            unescaped = serde_json::from_str::<String>(quoted).ok()?;
            unescaped.as_str()
        } else {
            quoted.strip_prefix('"')?.strip_suffix('"')?
        };
        self.names.iter().position(|known| *known == name)
    }
}

/// `==` of slices is not available in constants.
const fn is_equal(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut index = 0;
    while index < one.len() {
        if one[index] != other[index] {
            return false;
        }
        index += 1;
    }
    true
}

impl Field {
    /// Returns the name in the JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }
}

/// How often the document contains a field, and the field's raw text.
#[derive(Debug, Clone, Copy, Default)]
enum FieldSlot<'a> {
    #[default]
    Absent,
    Once(&'a str),
    Twice,
}

/// One JSON object with `N` known fields. Its grammar is checked, its fields are not read yet.
#[derive(Debug)]
pub struct JsonDocument<'a, const N: usize> {
    slots: [FieldSlot<'a>; N],
}

impl<'a, const N: usize> JsonDocument<'a, N> {
    /// Checks the grammar of the whole value, and finds the fields of the table.
    ///
    /// # Errors
    /// `malformed_json`, unless the value is exactly one object in UTF-8, at most 127 levels deep.
    pub fn read(value: &'a [u8], fields: &FieldTable<N>) -> Result<JsonDocument<'a, N>, Rejection> {
        if let Some(envelope) = Envelope::of_prefix(value) {
            return Err(malformed(envelope.remedy()));
        }
        let text = std::str::from_utf8(value).map_err(|error| {
            malformed(format!("the value is not UTF-8: see the byte at index {}", error.valid_up_to()))
        })?;
        if text.starts_with('\u{feff}') {
            return Err(malformed("the value starts with a byte-order mark; send the JSON without it"));
        }
        if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
            let example = fields.names.first().unwrap_or(&"name");
            return Err(malformed(format!("the value is not a JSON object; send one, such as {{\"{example}\":...}}")));
        }
        if is_too_deep(value) {
            return Err(malformed(format!("the value is nested more than {MAX_DEPTH} levels deep; flatten it")));
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        DocumentSeed(fields)
            .deserialize(&mut deserializer)
            .and_then(|document| deserializer.end().map(|()| document))
            .map_err(|error| malformed(format!("the value is not one JSON object: {error}")))
    }

    /// Reads a field: its raw text and its value, or `None` if it is absent or null. The field has to be of the table
    /// that the document was read with.
    ///
    /// # Errors
    /// `malformed_json`, if the document contains the field twice, or if the field contains, at any depth, a repeated
    /// name, an escape that is not a Unicode scalar value, or a number beyond a 64-bit float.
    pub fn value(&self, field: Field) -> Result<Option<(&'a str, JsonValue<'a>)>, Rejection> {
        let raw = match self.slots[field.position] {
            FieldSlot::Absent => return Ok(None),
            FieldSlot::Once(raw) => raw,
            FieldSlot::Twice => {
                return Err(malformed(format!("the field {} stands twice; send it once", field.name())));
            }
        };
        // The grammar is checked: the value of a string without a backslash is the text between its quotes.
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

/// Returns whether there are more than [`MAX_DEPTH`] levels. Exact for JSON; a value that is not JSON is rejected
/// anyway.
fn is_too_deep(value: &[u8]) -> bool {
    // A value with few opening brackets is not deep. This is cheap, and true of nearly every event.
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

/// Returns the number of opening brackets, including those in strings. A byte counts one chunk, so that the compiler
/// uses vector instructions.
fn opening_brackets(value: &[u8]) -> usize {
    const CHUNK: usize = u8::MAX as usize;
    let in_chunk = |chunk: &[u8]| chunk.iter().map(|byte| u8::from(matches!(byte, b'{' | b'['))).sum::<u8>();
    value.chunks(CHUNK).map(|chunk| usize::from(in_chunk(chunk))).sum()
}

/// Skips to behind the closing quote.
fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => _ = bytes.next(),
            _ => {}
        }
    }
}

struct DocumentSeed<'t, const N: usize>(&'t FieldTable<N>);

impl<'de, const N: usize> DeserializeSeed<'de> for DocumentSeed<'_, N> {
    type Value = JsonDocument<'de, N>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<JsonDocument<'de, N>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for DocumentSeed<'_, N> {
    type Value = JsonDocument<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonDocument<'de, N>, A::Error> {
        let mut slots = [FieldSlot::Absent; N];
        while let Some(name) = map.next_key::<&RawValue>()? {
            let Some(position) = self.0.position(name) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let raw = map.next_value::<&RawValue>()?.get();
            let slot = &mut slots[position];
            *slot = match slot {
                FieldSlot::Absent => FieldSlot::Once(raw),
                FieldSlot::Once(_) | FieldSlot::Twice => FieldSlot::Twice,
            };
        }
        Ok(JsonDocument { slots })
    }
}

/// The value of a field, as far as rules need it.
#[derive(Debug)]
pub enum JsonValue<'a> {
    /// `null`.
    Null,
    /// A number.
    Number(f64),
    /// A string.
    Text(Cow<'a, str>),
    /// An array that contains only strings.
    Texts(Vec<Cow<'a, str>>),
    /// Any other array, an object, true or false. It is well-formed.
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
                // The rest has to be well-formed, so it is read as well.
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
