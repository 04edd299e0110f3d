//! The contract that the runtime is generic over: what an entity is, and how an event is judged.
//!
//! [`apply_record`] is the one door through which an event meets a state, for the entity's actor and for recovery's silent
//! replay alike. It takes the state by reference and returns the next one or a [`Rejection`], so an event that is
//! refused, or on which the entity's code panics, leaves the state as it was.
//!
//! Architecture invariant: synchronous, without clock, I/O or actors; the same input gives the same bytes.

#![warn(missing_docs)]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::record::Record;

/// Longest `steward-detail`, in bytes.
pub const MAX_DETAIL_BYTES: usize = 4096;

/// A kind of entity: how its events are judged, and how it is written down. `Service` ships, tests have others.
pub trait Entity: Send + Sync + 'static {
    /// What is known of one entity, including that it does not exist.
    type State: Send + Unpin + 'static;

    /// The state of an entity of which nothing was ever heard, or that was deleted.
    fn absent(&self) -> Self::State;

    /// Decodes, validates and applies one event.
    ///
    /// # Errors
    /// The first rule that the event breaks; the state is untouched.
    fn apply(&self, state: &Self::State, event: RawEvent<'_>) -> Result<Self::State, Rejection>;

    /// The value of the state topic; `None` for an absent entity, which is a tombstone.
    fn encode(&self, state: &Self::State) -> Option<Vec<u8>>;

    /// Reads back what [`encode`](Entity::encode) wrote.
    ///
    /// # Errors
    /// Says what is wrong with bytes that steward cannot have written.
    fn decode(&self, snapshot: &[u8]) -> Result<Self::State, CorruptSnapshot>;

    /// Whether [`decode`](Entity::decode) takes these bytes. A restore asks this of every snapshot, and most of them rest
    /// for long: worth its own way where that is quicker than to decode and throw away.
    ///
    /// # Errors
    /// Those of [`decode`](Entity::decode).
    fn check(&self, snapshot: &[u8]) -> Result<(), CorruptSnapshot> {
        self.decode(snapshot).map(drop)
    }

    /// When the newest event was, in milliseconds since 1970; `None` where the state does not tell.
    fn newest_event_ms(&self, state: &Self::State) -> Option<i64>;
}

/// An event as the entity's code sees it. Key and value are there: [`apply_record`] has seen to that.
#[derive(Debug, Clone, Copy)]
pub struct RawEvent<'a> {
    /// The key's bytes, at least one.
    pub key: &'a [u8],
    /// The value's bytes, possibly none.
    pub value: &'a [u8],
    /// The record's timestamp in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

/// Why an event was not applied. The list is closed and part of the contract: `docs/dlq-reasons.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The key is null or has no bytes.
    MissingKey,
    /// The value is null.
    NullPayload,
    /// The value exceeds `limits.max_payload_bytes`.
    PayloadTooLarge,
    /// The value is not exactly one JSON object, or a known field holds what JSON cannot mean.
    MalformedJson,
    /// `eventType` is none of the three.
    UnknownEventType,
    /// A rule on a field is broken.
    InvalidEvent,
    /// The key is not the id.
    KeyIdMismatch,
    /// Created, and it exists.
    AlreadyExists,
    /// Updated or deleted, and it does not exist.
    NotFound,
    /// The entity's code panicked on it.
    Panicked,
}

impl Reason {
    /// Every reason, in the order in which the rules are checked.
    pub const ALL: [Reason; 10] = [
        Reason::MissingKey,
        Reason::NullPayload,
        Reason::PayloadTooLarge,
        Reason::MalformedJson,
        Reason::UnknownEventType,
        Reason::InvalidEvent,
        Reason::KeyIdMismatch,
        Reason::AlreadyExists,
        Reason::NotFound,
        Reason::Panicked,
    ];

    /// The stable code, as it stands in `steward-reason` and in the log.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Reason::MissingKey => "missing_key",
            Reason::NullPayload => "null_payload",
            Reason::PayloadTooLarge => "payload_too_large",
            Reason::MalformedJson => "malformed_json",
            Reason::UnknownEventType => "unknown_event_type",
            Reason::InvalidEvent => "invalid_event",
            Reason::KeyIdMismatch => "key_id_mismatch",
            Reason::AlreadyExists => "already_exists",
            Reason::NotFound => "not_found",
            Reason::Panicked => "panicked",
        }
    }
}

/// The event's own fault: it goes to the DLQ topic, and the next one is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The first rule broken.
    pub reason: Reason,
    /// For a person; at most [`MAX_DETAIL_BYTES`], never more than 64 characters of the input.
    pub detail: String,
    /// Where in the code it panicked, where it did and that is known. For the log, which must not quote `detail`.
    pub location: Option<Box<str>>,
}

impl Rejection {
    /// A rejection whose detail is cut at [`MAX_DETAIL_BYTES`], between characters.
    #[must_use]
    pub fn new(reason: Reason, detail: impl Into<String>) -> Rejection {
        let mut detail = detail.into();
        if detail.len() > MAX_DETAIL_BYTES {
            detail.truncate(detail.floor_char_boundary(MAX_DETAIL_BYTES));
        }
        Rejection { reason, detail, location: None }
    }
}

/// A snapshot in the state topic that steward cannot have written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CorruptSnapshot(pub String);

thread_local! {
    static IN_ENTITY_CODE: Cell<bool> = const { Cell::new(false) };
    /// Where the panic was that is on its way to [`guarded`].
    static PANICKED_AT: Cell<Option<Box<str>>> = const { Cell::new(None) };
}

/// Takes the place of a panic, and says whether this thread is inside entity code, whose panics are caught. For the
/// panic hook alone, which has to tell them from bugs of the runtime.
#[must_use]
pub fn panicked_in_entity_code(location: &str) -> bool {
    if IN_ENTITY_CODE.get() {
        PANICKED_AT.set(Some(location.into()));
    }
    IN_ENTITY_CODE.get()
}

/// Runs entity code. A panic of it is the event's fault.
fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, Rejection> {
    IN_ENTITY_CODE.set(true);
    let ran = catch_unwind(AssertUnwindSafe(run));
    IN_ENTITY_CODE.set(false);
    ran.map_err(|panic| {
        let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        // A panic message may quote the event, of which at most 64 characters may leave.
        let said: String = said.unwrap_or("no message").chars().take(64).collect();
        let rejection = Rejection::new(Reason::Panicked, format!("the entity's code panicked: {said}"));
        Rejection { location: PANICKED_AT.take(), ..rejection }
    })
}

/// Writes a state down: the value of the state topic, `None` for a tombstone.
///
/// # Errors
/// The entity's code panicked over it.
pub fn encode_snapshot<E: Entity>(entity: &E, state: &E::State) -> Result<Option<Vec<u8>>, Rejection> {
    guarded(|| entity.encode(state))
}

/// Judges one record against the state of the entity that its key names.
///
/// # Errors
/// The first rule that the record breaks, in the order of [`Reason::ALL`].
pub fn apply_record<E: Entity>(
    entity: &E,
    state: &E::State,
    record: &Record<'_>,
    max_payload_bytes: u64,
) -> Result<E::State, Rejection> {
    let key = record.key.unwrap_or_default();
    if key.is_empty() {
        return Err(Rejection::new(
            Reason::MissingKey,
            "the record has no key; send the id in decimal digits as the key",
        ));
    }
    let Some(value) = record.value else {
        return Err(Rejection::new(
            Reason::NullPayload,
            "the value is null; to delete a service send a ServiceDeleted event",
        ));
    };
    if value.len() as u64 > max_payload_bytes {
        let detail = format!("the value has {} bytes, at most {max_payload_bytes} are allowed", value.len());
        return Err(Rejection::new(Reason::PayloadTooLarge, detail));
    }
    let event = RawEvent { key, value, timestamp_ms: record.timestamp_ms };
    guarded(|| entity.apply(state, event))?
}
