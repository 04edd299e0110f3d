//! Owns the rules that an event has to keep, and the types that prove it did.
//!
//! The raw types hold fields as they were sent, and carry the rules as attributes of `validator`. [`ServiceEvent`] can only be
//! had from them, so nobody checks a name twice. A field of the wrong type is noted while it is read, and counts as
//! absent from then on. All violations are collected, not the first alone.
//!
//! Architecture invariant: no rule looks at the state; what needs the state is `apply`'s.

use std::borrow::Cow;
use std::sync::Arc;

use validator::{Validate, ValidationError, ValidationErrors};

use crate::entity::{Reason, Rejection};
use crate::service::json::{Field, JsonDocument, JsonValue};
use crate::service::quoted;
use crate::service::record_time::RecordTime;
use crate::service::violation::Violations;

/// 2^53 - 1, the largest integer that every JSON reader keeps exactly.
const MAX_ID: u64 = 9_007_199_254_740_991;

/// How much of an unknown `eventType` the detail quotes.
const QUOTED_CHARACTERS: usize = 48;

/// What a service is, apart from its id and its history. Every value keeps the rules.
///
/// Clones are cheap: what an update leaves unchanged is shared with the predecessor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Details {
    name: Arc<str>,
    description: Arc<str>,
    tags: Arc<[Box<str>]>,
    price_per_hour: Option<f64>,
}

/// What changes; `None` stays as it is.
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

/// What happened.
#[derive(Debug)]
pub(super) enum EventBody {
    /// The service begins.
    Created(Details),
    /// Some of it changes.
    Updated(Changes),
    /// It ends.
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

    /// The same, less what changes.
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
    /// Which service it is about, at most 2^53 - 1.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Id, time and what happened.
    pub(super) fn into_parts(self) -> (u64, RecordTime, EventBody) {
        (self.id, self.at, self.kind)
    }
}

/// Reads an event and checks it against every rule that does not depend on the state.
///
/// # Errors
/// `malformed_json`, `unknown_event_type` or `invalid_event`, whichever comes first in this order.
pub(super) fn decode(value: &[u8], timestamp_ms: Option<i64>) -> Result<ServiceEvent, Rejection> {
    let document = JsonDocument::read(value)?;
    let event_type = document.value(Field::EventType)?.map(|(_, value)| value);
    let mut reader = FieldReader { document: &document, violations: Violations::default() };
    match event_type {
        Some(JsonValue::Text(name)) => match &*name {
            "ServiceCreated" => {
                let raw = RawCreated {
                    id: reader.id()?,
                    name: reader.text(Field::Name)?,
                    description: reader.text(Field::Description)?,
                    tags: reader.texts(Field::Tags)?,
                    price_per_hour: reader.number(Field::PricePerHour)?,
                    timestamp: timestamp_ms,
                };
                raw.check(reader.violations)
            }
            "ServiceUpdated" => {
                let raw = RawUpdated {
                    id: reader.id()?,
                    name: reader.text(Field::Name)?,
                    description: reader.text(Field::Description)?,
                    tags: reader.texts(Field::Tags)?,
                    price_per_hour: reader.number(Field::PricePerHour)?,
                    timestamp: timestamp_ms,
                };
                raw.check(reader.violations)
            }
            "ServiceDeleted" => RawDeleted { id: reader.id()?, timestamp: timestamp_ms }.check(reader.violations),
            unknown => Err(unknown_event_type(&format!("eventType {} is unknown", quoted(unknown, QUOTED_CHARACTERS)))),
        },
        Some(JsonValue::Null | JsonValue::Number(_) | JsonValue::Texts(_) | JsonValue::Other) => {
            Err(unknown_event_type("eventType is not a string"))
        }
        None => Err(unknown_event_type("eventType is absent or null")),
    }
}

fn unknown_event_type(problem: &str) -> Rejection {
    let detail = format!("{problem}; send ServiceCreated, ServiceUpdated or ServiceDeleted, spelt exactly so");
    Rejection::new(Reason::UnknownEventType, detail)
}

/// Reads known fields, and notes those of the wrong type.
struct FieldReader<'d, 'a> {
    document: &'d JsonDocument<'a>,
    violations: Violations,
}

impl<'a> FieldReader<'_, 'a> {
    /// Digits that no `u64` can hold are `u64::MAX`, which is out of range as well.
    fn id(&mut self) -> Result<Option<u64>, Rejection> {
        match self.document.value(Field::Id)? {
            None => Ok(None),
            Some((raw, JsonValue::Number(_))) if raw.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(Some(raw.parse().unwrap_or(u64::MAX)))
            }
            Some(_) => {
                self.violations.mistyped(Field::Id, "send digits only, without quotes, sign, fraction or exponent");
                Ok(None)
            }
        }
    }

    fn text(&mut self, field: Field) -> Result<Option<Cow<'a, str>>, Rejection> {
        match self.document.value(field)? {
            None => Ok(None),
            Some((_, JsonValue::Text(text))) => Ok(Some(text)),
            Some(_) => {
                self.violations.mistyped(field, "send a string");
                Ok(None)
            }
        }
    }

    fn texts(&mut self, field: Field) -> Result<Option<Vec<Cow<'a, str>>>, Rejection> {
        match self.document.value(field)? {
            None => Ok(None),
            Some((_, JsonValue::Texts(texts))) => Ok(Some(texts)),
            Some(_) => {
                self.violations.mistyped(field, "send an array of strings, without null among them; it may be empty");
                Ok(None)
            }
        }
    }

    fn number(&mut self, field: Field) -> Result<Option<f64>, Rejection> {
        match self.document.value(field)? {
            None => Ok(None),
            Some((_, JsonValue::Number(number))) => Ok(Some(number)),
            Some(_) => {
                self.violations.mistyped(field, "send a number, without quotes");
                Ok(None)
            }
        }
    }
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

/// `ServiceUpdated` as it was sent.
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

/// `ServiceDeleted` as it was sent.
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
    /// The event, if neither reading nor the rules found a violation.
    ///
    /// # Errors
    /// `invalid_event`, with all violations.
    pub(super) fn check(self, violations: Violations) -> Result<ServiceEvent, Rejection> {
        settle(self.validate(), violations)?;
        Ok(self.accept())
    }

    /// The event, where [`validate`](Validate::validate) found nothing.
    ///
    /// # Panics
    /// Where a required field is absent.
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
        settle(self.validate(), violations)?;
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
        settle(self.validate(), violations)?;
        Ok(ServiceEvent { id: kept(self.id), at: checked_time(self.timestamp), kind: EventBody::Deleted })
    }
}

/// All violations as one rejection.
///
/// # Errors
/// `invalid_event`, where there is any.
pub(super) fn settle(found: Result<(), ValidationErrors>, mut violations: Violations) -> Result<(), Rejection> {
    if let Err(found) = found {
        violations.add(found);
    }
    violations.into_result()
}

fn kept<T>(required: Option<T>) -> T {
    required.expect("a required field is there once the rules are kept")
}

fn checked_time(timestamp: Option<i64>) -> RecordTime {
    timestamp.and_then(RecordTime::from_ms).expect("the timestamp is in range once the rules are kept")
}

fn owned(tags: Vec<Cow<'_, str>>) -> Arc<[Box<str>]> {
    tags.into_iter().map(|tag| Box::from(&*tag)).collect()
}
