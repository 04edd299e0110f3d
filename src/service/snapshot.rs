//! Owns the JSON of the state topic, which consumers read and which recovery reads back.
//!
//! [`decode`] applies the rules of a creation. Then it compares the bytes that [`encode`] would write with the bytes
//! that it read. So it accepts exactly the bytes that `encode` can have written, and no foreign or damaged record.
//! [`check`] does the same without building a state: a restore calls it for every snapshot.
//!
//! Architecture invariant: the order of the members here is the order in the topic.
//! Architecture invariant: an error names fields and positions, and never quotes the snapshot.

use std::borrow::Cow;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::error::Category;
use validator::Validate as _;

use crate::entity::CorruptSnapshot;
use crate::json::{RecordTime, Violations};
use crate::service::event::{EventBody, MEMBERS, RawCreated};
use crate::service::state::Live;

/// The largest integer that every JSON reader keeps exactly. No service lives long enough to reach it.
const MAX_VERSION: u64 = 9_007_199_254_740_991;

/// Upper bound of everything but the strings, in bytes.
const FRAME_BYTES: usize = 256;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a, Tag> {
    id: u64,
    name: &'a str,
    description: &'a str,
    tags: &'a [Tag],
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shortest")]
    price_per_hour: Option<f64>,
    version: u64,
    created_at: &'a str,
    updated_at: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Read<'a> {
    id: u64,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    description: Cow<'a, str>,
    #[serde(borrow)]
    tags: Vec<Tag<'a>>,
    price_per_hour: Option<f64>,
    version: u64,
    #[serde(borrow)]
    created_at: Cow<'a, str>,
    #[serde(borrow)]
    updated_at: Cow<'a, str>,
}

/// Borrowed if possible, which serde does not do by itself within a list.
#[derive(Deserialize)]
struct Tag<'a>(#[serde(borrow)] Cow<'a, str>);

pub(super) fn encode(live: &Live) -> Vec<u8> {
    let details = &live.details;
    let created_at = live.created_at.write();
    let updated_at = live.updated_at.write();
    let written = Written {
        id: live.id,
        name: details.name(),
        description: details.description(),
        tags: details.tags(),
        price_per_hour: details.price_per_hour(),
        version: live.version,
        created_at: ascii(&created_at),
        updated_at: ascii(&updated_at),
    };
    let tags: usize = details.tags().iter().map(|tag| tag.len() + 3).sum();
    written.into_bytes(FRAME_BYTES + details.name().len() + details.description().len() + tags)
}

/// Upper bound of the length of what [`encode`] writes. It reads only the lengths of the strings.
pub(super) fn max_bytes(live: &Live) -> u64 {
    /// A control character, which has one byte, becomes `\u0000`.
    const MAX_GROWTH: usize = 6;
    /// Quotes and comma.
    const TAG_FRAME_BYTES: usize = 3;
    let details = &live.details;
    let tags: usize = details.tags().iter().map(|tag| MAX_GROWTH * tag.len() + TAG_FRAME_BYTES).sum();
    (FRAME_BYTES + MAX_GROWTH * (details.name().len() + details.description().len()) + tags) as u64
}

impl<Tag: Serialize> Written<'_, Tag> {
    fn into_bytes(self, capacity: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(capacity);
        serde_json::to_writer(&mut bytes, &self)
            .expect("writing to a vector never fails, and strings and numbers are always valid JSON");
        bytes
    }
}

/// Reads exactly what [`encode`] writes.
///
/// # Errors
/// Where the bytes differ from those that `encode` can have written.
pub(super) fn decode(snapshot: &[u8]) -> Result<Live, CorruptSnapshot> {
    let Checked { raw, version, updated_at } = Checked::read(snapshot)?;
    let (id, created_at, kind) = raw.accept().into_parts();
    let EventBody::Created(details) = kind else { unreachable!("a raw creation becomes a creation") };
    Ok(Live { id, details, version, created_at, updated_at })
}

/// Checks whether [`decode`] accepts the snapshot.
///
/// # Errors
/// Those of [`decode`].
pub(super) fn check(snapshot: &[u8]) -> Result<(), CorruptSnapshot> {
    Checked::read(snapshot).map(drop)
}

/// The content of a snapshot that [`encode`] can have written.
struct Checked<'a> {
    /// A creation with the values and the creation time of the service; it keeps all rules.
    raw: RawCreated<'a>,
    version: u64,
    updated_at: RecordTime,
}

impl<'a> Checked<'a> {
    fn read(snapshot: &'a [u8]) -> Result<Checked<'a>, CorruptSnapshot> {
        // One check covers all strings.
        let text = std::str::from_utf8(snapshot).map_err(|error| {
            corrupt(format!("it is not JSON: from the byte at index {} on it is not UTF-8", error.valid_up_to()))
        })?;
        let read: Read<'a> = serde_json::from_str(text).map_err(|error| corrupt_json(&error))?;
        let Read { id, name, description, tags, price_per_hour, version, created_at, updated_at } = read;
        if !(1..=MAX_VERSION).contains(&version) {
            return Err(corrupt(format!("version is not in the range of 1 to {MAX_VERSION}")));
        }
        let created = time(&created_at, "createdAt")?;
        let updated = time(&updated_at, "updatedAt")?;
        let raw = RawCreated {
            id: Some(id),
            name: Some(name),
            description: Some(description),
            tags: Some(tags.into_iter().map(|Tag(tag)| tag).collect()),
            price_per_hour,
            timestamp: Some(created.ms()),
        };
        Violations::new(MEMBERS).settle(raw.validate()).map_err(|rejection| {
            corrupt(format!("it breaks the rules that every service keeps: {}", rejection.detail))
        })?;
        let written = Written {
            id,
            name: raw.name.as_deref().unwrap_or_default(),
            description: raw.description.as_deref().unwrap_or_default(),
            tags: raw.tags.as_deref().unwrap_or_default(),
            price_per_hour,
            version,
            // A time is accepted only in the form in which it is written.
            created_at: &created_at,
            updated_at: &updated_at,
        };
        same_bytes(&written.into_bytes(snapshot.len()), snapshot)?;
        Ok(Checked { raw, version, updated_at: updated })
    }
}

fn same_bytes(written: &[u8], read: &[u8]) -> Result<(), CorruptSnapshot> {
    if written == read {
        return Ok(());
    }
    let same = written.iter().zip(read).take_while(|(written, read)| written == read).count();
    Err(corrupt(format!("from the byte at index {same} on it is not written as steward writes the same service")))
}

fn time(text: &str, field: &str) -> Result<RecordTime, CorruptSnapshot> {
    RecordTime::parse(text).ok_or_else(|| corrupt(format!("{field} is not a time such as 2026-01-31T12:00:00.000Z")))
}

fn ascii(time: &[u8; 24]) -> &str {
    std::str::from_utf8(time).expect("digits and separators of a time are ASCII")
}

/// The message of `serde_json` can quote the value, so the error contains only kind and place.
fn corrupt_json(error: &serde_json::Error) -> CorruptSnapshot {
    let problem = match error.classify() {
        Category::Io | Category::Syntax => "it is not JSON",
        Category::Eof => "its JSON breaks off",
        Category::Data => "a field is missing, unknown, twice there or of another type",
    };
    corrupt(format!("{problem}: line {}, column {}", error.line(), error.column()))
}

fn corrupt(problem: impl std::fmt::Display) -> CorruptSnapshot {
    CorruptSnapshot(format!("{problem}; is this the state topic, and has only steward written to it?"))
}

/// Writes a number like `serde_json`, but without the `.0` of whole numbers and without the sign of -0.
fn shortest<S: Serializer>(price: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    /// From here on `serde_json` writes an exponent, and no `.0`.
    const EXPONENT_FROM: f64 = 1e16;
    match price {
        None => serializer.serialize_none(),
        Some(whole) if whole.fract() == 0.0 && *whole < EXPONENT_FROM => serializer.serialize_u64(*whole as u64),
        Some(number) => serializer.serialize_f64(*number),
    }
}
