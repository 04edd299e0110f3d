//! Owns the rules that an event has to keep, and the types that prove that it does.
//!
//! The raw types hold fields as they were sent, and carry the rules as attributes of `validator`. A [`ServiceEvent`] can
//! only be made from them, so no value is checked twice. A field of the wrong type is recorded when it is read, and is
//! absent from then on. All violations are collected, not only the first.
//!
//! Architecture invariant: no rule depends on the state; `apply` checks what does.

use std::borrow::Cow;
use std::sync::Arc;

use validator::{Validate, ValidationError};

use crate::entity::{Reason, Rejection};
use crate::json::{Envelope, Field, FieldReader, FieldTable, JsonDocument, JsonValue, RecordTime, Subject, Violations};
use crate::service::quoted;

/// The fields that some event has, in the order of the contract.
const FIELDS: FieldTable<6> = FieldTable::new(["eventType", "id", "name", "description", "tags", "pricePerHour"]);
const EVENT_TYPE: Field = FIELDS.field("eventType");
const ID: Field = FIELDS.field("id");
const NAME: Field = FIELDS.field("name");
const DESCRIPTION: Field = FIELDS.field("description");
const TAGS: Field = FIELDS.field("tags");
const PRICE_PER_HOUR: Field = FIELDS.field("pricePerHour");

/// The members of the raw types that have rules.
pub(super) const MEMBERS: &[(&str, Subject)] = &[
    ("id", Subject::Field(ID)),
    ("name", Subject::Field(NAME)),
    ("description", Subject::Field(DESCRIPTION)),
    ("tags", Subject::Field(TAGS)),
    ("price_per_hour", Subject::Field(PRICE_PER_HOUR)),
    ("timestamp", Subject::Timestamp),
];

/// 2^53 - 1, the largest integer that every JSON reader keeps exactly.
const MAX_ID: u64 = 9_007_199_254_740_991;

/// The detail quotes up to this many characters of an unknown `eventType`.
const QUOTED_CHARACTERS: usize = 48;

/// The values of a service, without id and history. Every value keeps the rules.
///
/// Clones are cheap: values that an update leaves unchanged are shared with the previous state.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Details {
    name: Arc<str>,
    description: Arc<str>,
    tags: Arc<[Box<str>]>,
    price_per_hour: Option<f64>,
}

/// The values that an update changes; `None` leaves a value as it is.
#[derive(Debug)]
pub(super) struct Changes {
    name: Option<Arc<str>>,
    description: Option<Arc<str>>,
    tags: Option<Arc<[Box<str>]>>,
    price_per_hour: Option<f64>,
}

/// An event that keeps every rule which does not depend on the state.
#[derive(Debug)]
pub(super) struct ServiceEvent {
    id: u64,
    at: RecordTime,
    kind: EventBody,
}

#[derive(Debug)]
pub(super) enum EventBody {
    Created(Details),
    Updated(Changes),
    Deleted,
}

impl Details {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn description(&self) -> &str {
        &self.description
    }

    pub(super) fn tags(&self) -> &[Box<str>] {
        &self.tags
    }

    /// Finite and not negative; -0 is possible, and equal to 0.
    pub(super) fn price_per_hour(&self) -> Option<f64> {
        self.price_per_hour
    }

    pub(super) fn with(&self, changes: Changes) -> Details {
        Details {
            name: changes.name.unwrap_or_else(|| Arc::clone(&self.name)),
            description: changes.description.unwrap_or_else(|| Arc::clone(&self.description)),
            tags: changes.tags.unwrap_or_else(|| Arc::clone(&self.tags)),
            price_per_hour: changes.price_per_hour.or(self.price_per_hour),
        }
    }
}

impl ServiceEvent {
    /// Returns the id of the service, at most 2^53 - 1.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn into_parts(self) -> (u64, RecordTime, EventBody) {
        (self.id, self.at, self.kind)
    }
}

/// Reads an event and checks it against every rule that does not depend on the state.
///
/// # Errors
/// `malformed_json`, `unknown_event_type` or `invalid_event`, whichever comes first in this order.
pub(super) fn decode(value: &[u8], timestamp_ms: Option<i64>) -> Result<ServiceEvent, Rejection> {
    let document = JsonDocument::read(value, &FIELDS)?;
    let event_type = document.value(EVENT_TYPE)?.map(|(_, value)| value);
    let mut reader = FieldReader::new(&document, MEMBERS);
    match event_type {
        Some(JsonValue::Text(name)) => match &*name {
            "ServiceCreated" => {
                let raw = RawCreated {
                    id: reader.digits(ID)?,
                    name: reader.text(NAME)?,
                    description: reader.text(DESCRIPTION)?,
                    tags: reader.texts(TAGS)?,
                    price_per_hour: reader.number(PRICE_PER_HOUR)?,
                    timestamp: timestamp_ms,
                };
                raw.check(reader.into_violations())
            }
            "ServiceUpdated" => {
                let raw = RawUpdated {
                    id: reader.digits(ID)?,
                    name: reader.text(NAME)?,
                    description: reader.text(DESCRIPTION)?,
                    tags: reader.texts(TAGS)?,
                    price_per_hour: reader.number(PRICE_PER_HOUR)?,
                    timestamp: timestamp_ms,
                };
                raw.check(reader.into_violations())
            }
            "ServiceDeleted" => {
                RawDeleted { id: reader.digits(ID)?, timestamp: timestamp_ms }.check(reader.into_violations())
            }
            unknown => Err(unknown_event_type(&format!("eventType {} is unknown", quoted(unknown, QUOTED_CHARACTERS)))),
        },
        Some(JsonValue::Null | JsonValue::Number(_) | JsonValue::Texts(_) | JsonValue::Other) => {
            Err(unknown_event_type("eventType is not a string"))
        }
        None => Err(without_event_type(value)),
    }
}

fn without_event_type(value: &[u8]) -> Rejection {
    const PROBLEM: &str = "eventType is absent or null";
    match Envelope::of_object(value) {
        Some(envelope) => Rejection::new(Reason::UnknownEventType, format!("{PROBLEM}; {}", envelope.remedy())),
        None => unknown_event_type(PROBLEM),
    }
}

fn unknown_event_type(problem: &str) -> Rejection {
    let detail = format!("{problem}; send ServiceCreated, ServiceUpdated or ServiceDeleted, spelt exactly so");
    Rejection::new(Reason::UnknownEventType, detail)
}

/// `ServiceCreated` as it was sent; a snapshot is read through the same rules.
#[derive(Debug, Validate)]
pub(super) struct RawCreated<'a> {
    #[validate(
        required(message = "send the id of the service"),
        range(max = MAX_ID, message = "send an id of at most 9007199254740991")
    )]
    pub(super) id: Option<u64>,
    #[validate(
        required(message = "send a name, it is required on creation"),
        length(min = 1, max = 64, message = "send 1 to 64 characters (Unicode scalar values)"),
        custom(function = not_blank, code = "blank", message = "send at least one character that is not white space")
    )]
    pub(super) name: Option<Cow<'a, str>>,
    #[validate(
        required(message = "send a description, it is required on creation"),
        length(min = 1, max = 255, message = "send 1 to 255 characters (Unicode scalar values)"),
        custom(function = not_blank, code = "blank", message = "send at least one character that is not white space")
    )]
    pub(super) description: Option<Cow<'a, str>>,
    #[validate(required(message = "send tags, they are required on creation; the array may be empty"))]
    pub(super) tags: Option<Vec<Cow<'a, str>>>,
    #[validate(range(min = 0.0, message = "send a price of 0 or more, or none"))]
    pub(super) price_per_hour: Option<f64>,
    #[validate(
        required(code = "timestamp", message = "give the record a timestamp"),
        range(
            min = RecordTime::MIN_MS,
            max = RecordTime::MAX_MS,
            code = "timestamp",
            message = "give the record a timestamp in the years 0 to 9999, in milliseconds since 1970"
        )
    )]
    pub(super) timestamp: Option<i64>,
}

#[derive(Debug, Validate)]
struct RawUpdated<'a> {
    #[validate(
        required(message = "send the id of the service"),
        range(max = MAX_ID, message = "send an id of at most 9007199254740991")
    )]
    id: Option<u64>,
    #[validate(
        length(min = 1, max = 64, message = "send 1 to 64 characters (Unicode scalar values), or leave the name out"),
        custom(function = not_blank, code = "blank", message = "send at least one character that is not white space")
    )]
    name: Option<Cow<'a, str>>,
    #[validate(
        length(min = 1, max = 255, message = "send 1 to 255 characters (Unicode scalar values), or leave it out"),
        custom(function = not_blank, code = "blank", message = "send at least one character that is not white space")
    )]
    description: Option<Cow<'a, str>>,
    /// Any array of strings keeps the rules.
    tags: Option<Vec<Cow<'a, str>>>,
    #[validate(range(min = 0.0, message = "send a price of 0 or more, or none"))]
    price_per_hour: Option<f64>,
    #[validate(
        required(code = "timestamp", message = "give the record a timestamp"),
        range(
            min = RecordTime::MIN_MS,
            max = RecordTime::MAX_MS,
            code = "timestamp",
            message = "give the record a timestamp in the years 0 to 9999, in milliseconds since 1970"
        )
    )]
    timestamp: Option<i64>,
}

#[derive(Debug, Validate)]
struct RawDeleted {
    #[validate(
        required(message = "send the id of the service"),
        range(max = MAX_ID, message = "send an id of at most 9007199254740991")
    )]
    id: Option<u64>,
    #[validate(
        required(code = "timestamp", message = "give the record a timestamp"),
        range(
            min = RecordTime::MIN_MS,
            max = RecordTime::MAX_MS,
            code = "timestamp",
            message = "give the record a timestamp in the years 0 to 9999, in milliseconds since 1970"
        )
    )]
    timestamp: Option<i64>,
}

/// The empty string breaks the rule on length alone.
fn not_blank(text: &str) -> Result<(), ValidationError> {
    let blank = !text.is_empty() && text.chars().all(char::is_whitespace);
    if blank { Err(ValidationError::new("blank")) } else { Ok(()) }
}

impl RawCreated<'_> {
    /// Returns the event, if neither reading nor the rules found a violation.
    ///
    /// # Errors
    /// `invalid_event`, with all violations.
    fn check(self, violations: Violations) -> Result<ServiceEvent, Rejection> {
        violations.settle(self.validate())?;
        Ok(self.accept())
    }

    /// Returns the event, if [`validate`](Validate::validate) found nothing.
    ///
    /// # Panics
    /// If a required field is absent.
    pub(super) fn accept(self) -> ServiceEvent {
        let details = Details {
            name: kept(self.name).into(),
            description: kept(self.description).into(),
            tags: owned(kept(self.tags)),
            price_per_hour: self.price_per_hour,
        };
        ServiceEvent { id: kept(self.id), at: checked_time(self.timestamp), kind: EventBody::Created(details) }
    }
}

impl RawUpdated<'_> {
    fn check(self, violations: Violations) -> Result<ServiceEvent, Rejection> {
        violations.settle(self.validate())?;
        let changes = Changes {
            name: self.name.map(Arc::from),
            description: self.description.map(Arc::from),
            tags: self.tags.map(owned),
            price_per_hour: self.price_per_hour,
        };
        Ok(ServiceEvent { id: kept(self.id), at: checked_time(self.timestamp), kind: EventBody::Updated(changes) })
    }
}

impl RawDeleted {
    fn check(self, violations: Violations) -> Result<ServiceEvent, Rejection> {
        violations.settle(self.validate())?;
        Ok(ServiceEvent { id: kept(self.id), at: checked_time(self.timestamp), kind: EventBody::Deleted })
    }
}

fn kept<T>(required: Option<T>) -> T {
    required.expect("the rules are kept: a required field is present")
}

fn checked_time(timestamp: Option<i64>) -> RecordTime {
    timestamp.and_then(RecordTime::from_ms).expect("the rules are kept: the timestamp is in range")
}

fn owned(tags: Vec<Cow<'_, str>>) -> Arc<[Box<str>]> {
    tags.into_iter().map(|tag| Box::from(&*tag)).collect()
}
