//! The contract for entity authors, over which the runtime is generic: [`Entity`].
//!
//! [`apply_record`] is the only way to apply an event, for the entity's actor and for recovery's verification alike. It
//! takes the state by reference, and returns the next state or a [`Rejection`]. So an event that is rejected, or on
//! which the entity's code panics, leaves the state unchanged.
//!
//! Architecture invariant: synchronous, without clock, I/O or actors; the same input gives the same bytes.

#![warn(missing_docs)]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::record::{Headers, Record};

/// Longest `steward-detail`, in bytes.
pub const MAX_DETAIL_BYTES: usize = 4096;

/// A kind of entity: how its events are applied, and how its state is encoded. `Service` ships; tests have others.
pub trait Entity: Send + Sync + 'static {
    /// The state of one entity; one of its values means that the entity does not exist.
    type State: Send + Unpin + 'static;

    /// How a producer corrects what is checked before [`apply`](Entity::apply).
    const REMEDIES: Remedies = Remedies::OF_ANY_ENTITY;

    /// The state of an entity that was never created, or that was deleted.
    fn absent(&self) -> Self::State;

    /// Decodes, validates and applies one event.
    ///
    /// # Errors
    /// The first rule that the event breaks; the state is untouched.
    fn apply(&self, state: &Self::State, event: RawEvent<'_>) -> Result<Self::State, Rejection>;

    /// Returns the value for the state topic; `None`, a tombstone, for an absent entity.
    fn encode(&self, state: &Self::State) -> Option<Vec<u8>>;

    /// Returns an upper bound of the length of what [`encode`](Entity::encode) returns, in bytes. It is asked after each
    /// event, so that it has to be cheap. `None` has the state encoded after each event, and not only after the last
    /// event of a batch.
    fn max_encoded_bytes(&self, _state: &Self::State) -> Option<u64> {
        None
    }

    /// Decodes what [`encode`](Entity::encode) returned.
    ///
    /// # Errors
    /// Steward cannot have written these bytes.
    fn decode(&self, snapshot: &[u8]) -> Result<Self::State, CorruptSnapshot>;

    /// Checks that [`decode`](Entity::decode) accepts these bytes. A restore calls this for every snapshot, and most
    /// entities stay passivated for long. Override it if a check is faster than to decode and drop the state.
    ///
    /// # Errors
    /// The same as [`decode`](Entity::decode).
    fn check(&self, snapshot: &[u8]) -> Result<(), CorruptSnapshot> {
        self.decode(snapshot).map(drop)
    }

    /// Returns the time of the newest event in milliseconds since 1970; `None` if the state does not contain it.
    fn newest_event_ms(&self, state: &Self::State) -> Option<i64>;
}

/// The ends of the details of rules that are checked before the entity sees the event, for a person.
#[derive(Debug, Clone, Copy)]
pub struct Remedies {
    /// The record has no key.
    pub missing_key: &'static str,
    /// The value is null.
    pub null_payload: &'static str,
}

impl Remedies {
    /// Says nothing about the events of a kind of entity.
    pub const OF_ANY_ENTITY: Remedies = Remedies {
        missing_key: "send the key of the entity",
        null_payload: "to delete an entity send the event for it",
    };
}

/// What a record may have at most, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeLimits {
    /// An event's value: `limits.max_payload_bytes`.
    pub max_payload_bytes: u64,
    /// Key and value of a snapshot, before compression: what the state topic takes in any case. So whether an event is
    /// accepted does not depend on how well its snapshot compresses.
    pub max_snapshot_bytes: u64,
}

impl SizeLimits {
    /// Limits the value of an event, and no snapshot.
    #[must_use]
    pub const fn of_payload(max_payload_bytes: u64) -> SizeLimits {
        SizeLimits { max_payload_bytes, max_snapshot_bytes: u64::MAX }
    }
}

/// An event with a key and a value: [`apply_record`] has checked that both exist.
#[derive(Debug, Clone, Copy)]
pub struct RawEvent<'a> {
    /// The key's bytes, at least one.
    pub key: &'a [u8],
    /// The value's bytes, possibly none.
    pub value: &'a [u8],
    /// The record's timestamp in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

/// The rule that a rejected event broke, as a stable code. The list is closed and part of the contract:
/// `docs/dlq-reasons.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The key is null or has no bytes.
    MissingKey,
    /// The value is null.
    NullPayload,
    /// The value exceeds `limits.max_payload_bytes`.
    PayloadTooLarge,
    /// The value is not exactly one JSON object, or a known field breaks JSON's rules.
    MalformedJson,
    /// `eventType` is none of the three.
    UnknownEventType,
    /// A rule on a field is broken.
    InvalidEvent,
    /// The key is not the id.
    KeyIdMismatch,
    /// A creation of an entity that exists.
    AlreadyExists,
    /// An update or a deletion of an entity that does not exist.
    NotFound,
    /// The snapshot after the event does not fit into the state topic.
    StateTooLarge,
    /// The entity's code panicked on the event.
    Panicked,
}

impl Reason {
    /// Every reason, in the order in which the rules are checked.
    pub const ALL: [Reason; 11] = [
        Reason::MissingKey,
        Reason::NullPayload,
        Reason::PayloadTooLarge,
        Reason::MalformedJson,
        Reason::UnknownEventType,
        Reason::InvalidEvent,
        Reason::KeyIdMismatch,
        Reason::AlreadyExists,
        Reason::NotFound,
        Reason::StateTooLarge,
        Reason::Panicked,
    ];

    /// Returns whether the state of the entity decides, and not the event alone.
    #[must_use]
    pub fn depends_on_state(self) -> bool {
        match self {
            Reason::AlreadyExists | Reason::NotFound | Reason::StateTooLarge => true,
            Reason::MissingKey
            | Reason::NullPayload
            | Reason::PayloadTooLarge
            | Reason::MalformedJson
            | Reason::UnknownEventType
            | Reason::InvalidEvent
            | Reason::KeyIdMismatch
            | Reason::Panicked => false,
        }
    }

    /// Returns the stable code in `steward-reason` and in the log.
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
            Reason::StateTooLarge => "state_too_large",
            Reason::Panicked => "panicked",
        }
    }
}

/// A rejected event's reason and detail. The event goes to the DLQ topic, and processing continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The first rule broken.
    pub reason: Reason,
    /// For a person: at most [`MAX_DETAIL_BYTES`], and never more than 64 characters of the input.
    pub detail: String,
    /// Where the code panicked, if it did and the location is known. For the log, which must not quote `detail`.
    pub location: Option<Box<str>>,
}

impl Rejection {
    /// Returns a rejection with the detail cut at [`MAX_DETAIL_BYTES`], between characters.
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
    /// The location of a panic that unwinds towards [`guarded`].
    static PANICKED_AT: Cell<Option<Box<str>>> = const { Cell::new(None) };
}

/// Records the location of a panic, and returns whether this thread is in entity code, whose panics are caught. Only for
/// the panic hook, which has to distinguish these panics from bugs of the runtime.
#[must_use]
pub fn panicked_in_entity_code(location: &str) -> bool {
    if IN_ENTITY_CODE.get() {
        PANICKED_AT.set(Some(location.into()));
    }
    IN_ENTITY_CODE.get()
}

/// Runs entity code, and turns a panic into a rejection.
fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, Rejection> {
    IN_ENTITY_CODE.set(true);
    let ran = catch_unwind(AssertUnwindSafe(run));
    IN_ENTITY_CODE.set(false);
    ran.map_err(|panic| {
        let message = panic.downcast_ref::<&str>().copied();
        let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        // A panic message may quote the event, and a detail contains at most 64 characters of the input.
        let message: String = message.chars().take(64).collect();
        let rejection = Rejection::new(Reason::Panicked, format!("the entity's code panicked: {message}"));
        Rejection { location: PANICKED_AT.take(), ..rejection }
    })
}

/// Encodes a state as the value for the state topic; `None` is a tombstone.
///
/// # Errors
/// The entity's code panicked.
pub fn encode_snapshot<E: Entity>(entity: &E, state: &E::State) -> Result<Option<Vec<u8>>, Rejection> {
    guarded(|| entity.encode(state))
}

/// Applies one record to the state of the entity that its key names, and returns the next state.
///
/// # Errors
/// The first rule that the record breaks, in the order of [`Reason::ALL`].
pub fn apply_record<E: Entity>(
    entity: &E,
    state: &E::State,
    record: &Record<'_>,
    limits: SizeLimits,
) -> Result<E::State, Rejection> {
    let key = record.key.unwrap_or_default();
    if key.is_empty() {
        let detail = format!("the record has no key; {}", E::REMEDIES.missing_key);
        return Err(Rejection::new(Reason::MissingKey, detail));
    }
    let Some(value) = record.value else {
        let detail = format!("the value is null; {}", E::REMEDIES.null_payload);
        return Err(Rejection::new(Reason::NullPayload, detail));
    };
    let max_payload_bytes = limits.max_payload_bytes;
    if value.len() as u64 > max_payload_bytes {
        let detail = format!("the value has {} bytes, at most {max_payload_bytes} are allowed", value.len());
        return Err(Rejection::new(Reason::PayloadTooLarge, detail));
    }
    let event = RawEvent { key, value, timestamp_ms: record.timestamp_ms };
    guarded(|| {
        let next = entity.apply(state, event)?;
        check_snapshot(entity, &next, key, limits.max_snapshot_bytes)?;
        Ok(next)
    })?
    .map_err(|rejection| with_binary_cloud_event(rejection, record.headers))
}

/// Adds to the detail of an event without a known type that its headers look like those of a CloudEvent, whose type is
/// one of them.
fn with_binary_cloud_event(rejection: Rejection, headers: Headers<'_>) -> Rejection {
    let is_cloud_event = || headers.iter().any(|header| header.name == "ce_type");
    if rejection.reason != Reason::UnknownEventType || !is_cloud_event() {
        return rejection;
    }
    let detail = format!(
        "{}; the headers look like those of a CloudEvent in binary mode: send its type in the value",
        rejection.detail
    );
    Rejection::new(rejection.reason, detail)
}

/// Checks that the state topic takes the snapshot of this state. A tombstone is always taken: an entity whose key alone
/// is too large was never created.
fn check_snapshot<E: Entity>(entity: &E, state: &E::State, key: &[u8], limit: u64) -> Result<(), Rejection> {
    let with_key = |value: u64| value.saturating_add(key.len() as u64);
    if entity.max_encoded_bytes(state).is_some_and(|value| with_key(value) <= limit) {
        return Ok(());
    }
    let Some(bytes) = entity.encode(state).map(|value| with_key(value.len() as u64)) else { return Ok(()) };
    if bytes <= limit {
        return Ok(());
    }
    let detail = format!(
        "the snapshot would have {bytes} bytes with its key, and the state topic takes {limit}; send less, or raise \
         max.message.bytes of the state topic"
    );
    Err(Rejection::new(Reason::StateTooLarge, detail))
}
