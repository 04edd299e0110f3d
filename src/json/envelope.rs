//! Owns the recognition of how other programs frame an event: the detail of a rejection says so.
//!
//! Only for values that were rejected: the value is read again. What it is taken for decides nothing.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// The prefix that serializers with a schema registry write: a zero byte, and the id of the schema.
const REGISTRY_PREFIX_BYTES: usize = 5;

/// How a value is framed that should be the event itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envelope {
    /// A zero byte and the id of a schema come first.
    SchemaRegistry,
    /// `{"schema":...,"payload":...}` of Kafka Connect's JSON converter.
    ConnectSchema,
    /// A change event of Debezium, with a schema or without.
    Debezium,
    /// A CloudEvent in structured mode.
    CloudEvent,
}

impl Envelope {
    /// Recognises the prefix of a schema registry. No JSON begins with it.
    #[must_use]
    pub fn of_prefix(value: &[u8]) -> Option<Envelope> {
        let is_prefixed = value.len() >= REGISTRY_PREFIX_BYTES && value[0] == 0;
        is_prefixed.then_some(Envelope::SchemaRegistry)
    }

    /// Recognises the envelope of a JSON object by the names of its members.
    #[must_use]
    pub fn of_object(value: &[u8]) -> Option<Envelope> {
        let Members { payload, own } = serde_json::from_slice(value).ok()?;
        if own.is_change() || own.has_schema && payload.is_some_and(|payload| payload.is_change()) {
            return Some(Envelope::Debezium);
        }
        if own.has_schema && payload.is_some() {
            return Some(Envelope::ConnectSchema);
        }
        own.has_specversion.then_some(Envelope::CloudEvent)
    }

    /// What the value looks like, and what to do, for the detail of a rejection.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Envelope::SchemaRegistry => {
                "the value begins with a zero byte and 4 more, as serializers with a schema registry write them (Avro, Protobuf, JSON Schema); send plain JSON without this prefix"
            }
            Envelope::ConnectSchema => {
                "the value looks like JSON with a schema of Kafka Connect; send its payload alone, with value.converter.schemas.enable=false"
            }
            Envelope::Debezium => {
                "the value looks like a change event of Debezium; send the event itself, for example by Debezium's outbox event router"
            }
            Envelope::CloudEvent => {
                "the value looks like a CloudEvent in structured mode; send its data alone, with eventType in it"
            }
        }
    }
}

/// Which of the members that identify an envelope an object has.
#[derive(Debug, Clone, Copy, Default)]
struct Own {
    has_schema: bool,
    has_specversion: bool,
    has_op: bool,
    has_before_or_after: bool,
}

impl Own {
    fn is_change(self) -> bool {
        self.has_op && self.has_before_or_after
    }
}

#[derive(Debug, Default)]
struct Members {
    own: Own,
    /// The members of `payload`, if there is one; none if it is no object.
    payload: Option<Own>,
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        deserializer.deserialize_any(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Members::default();
        while let Some(name) = map.next_key::<Name>()? {
            match name {
                Name::Payload => {
                    // Anything but an object has no members. The raw value is read again, and is part of a sound one.
                    let raw = map.next_value::<&serde_json::value::RawValue>()?;
                    members.payload =
                        Some(serde_json::from_str(raw.get()).map_or(Own::default(), |inner: Members| inner.own));
                    continue;
                }
                Name::Schema => members.own.has_schema = true,
                Name::Specversion => members.own.has_specversion = true,
                Name::Op => members.own.has_op = true,
                Name::Before | Name::After => members.own.has_before_or_after = true,
                Name::Other => {}
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(members)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    Schema,
    Payload,
    Specversion,
    Op,
    Before,
    After,
    #[serde(other)]
    Other,
}
