//! Parses one value: whether it is JSON, which event it holds, and which rules it breaks.

use crate::entity::Reason;
use crate::testing::reference::json::{self, ModelJson, Text};
use crate::testing::reference::text::{EARLIEST_MS, LATEST_MS};

/// The greatest id, 2^53 - 1.
const MAX_ID: u64 = 9_007_199_254_740_991;
const MAX_NAME_CHARACTERS: usize = 64;
const MAX_DESCRIPTION_CHARACTERS: usize = 255;

/// A rule that an event breaks, as `steward-detail` of `invalid_event` lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelViolation {
    /// The name of the field; `timestamp` is the timestamp of the record.
    pub field: &'static str,
    /// `required`, `type`, `length`, `blank`, `range` or `timestamp`.
    pub code: &'static str,
}

/// Why a value is rejected, whatever the state of its entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModelRejection {
    pub(super) reason: Reason,
    /// Empty except for `invalid_event`.
    pub(super) violations: Vec<ModelViolation>,
}

/// An event whose fields break no rule.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ModelEvent {
    pub(super) id: u64,
    pub(super) at_ms: i64,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    Created { name: String, description: String, tags: Vec<String>, price: Option<f64> },
    Updated { name: Option<String>, description: Option<String>, tags: Option<Vec<String>>, price: Option<f64> },
    Deleted,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EventType {
    Created,
    Updated,
    Deleted,
}

impl EventType {
    fn known_fields(self) -> &'static [&'static str] {
        match self {
            EventType::Created | EventType::Updated => {
                &["eventType", "id", "name", "description", "tags", "pricePerHour"]
            }
            EventType::Deleted => &["eventType", "id"],
        }
    }
}

/// Checks every rule that needs neither the key nor the entity.
pub(super) fn parse_value(value: &[u8], timestamp_ms: Option<i64>) -> Result<ModelEvent, ModelRejection> {
    let Ok(ModelJson::Object(fields)) = json::read(value) else { return Err(because(Reason::MalformedJson)) };

    let event_type = match known(&fields, "eventType")? {
        Some(ModelJson::Text(text)) if text.is("ServiceCreated") => EventType::Created,
        Some(ModelJson::Text(text)) if text.is("ServiceUpdated") => EventType::Updated,
        Some(ModelJson::Text(text)) if text.is("ServiceDeleted") => EventType::Deleted,
        _ => return Err(because(Reason::UnknownEventType)),
    };
    for name in event_type.known_fields() {
        known(&fields, name)?;
    }

    let mut broken = ModelViolations(Vec::new());
    let id = broken.id(known(&fields, "id")?);
    let event = match event_type {
        EventType::Deleted => Some(What::Deleted),
        EventType::Created => {
            let name = known(&fields, "name")?;
            let description = known(&fields, "description")?;
            let tags = known(&fields, "tags")?;
            let name = broken.required("name", name).and_then(|it| broken.text("name", it, MAX_NAME_CHARACTERS));
            let description = broken
                .required("description", description)
                .and_then(|it| broken.text("description", it, MAX_DESCRIPTION_CHARACTERS));
            let tags = broken.required("tags", tags).and_then(|it| broken.tags(it));
            let price = known(&fields, "pricePerHour")?.and_then(|it| broken.price(it));
            match (name, description, tags) {
                (Some(name), Some(description), Some(tags)) => Some(What::Created { name, description, tags, price }),
                _ => None,
            }
        }
        EventType::Updated => {
            let name = known(&fields, "name")?.and_then(|it| broken.text("name", it, MAX_NAME_CHARACTERS));
            let description = known(&fields, "description")?
                .and_then(|it| broken.text("description", it, MAX_DESCRIPTION_CHARACTERS));
            let tags = known(&fields, "tags")?.and_then(|it| broken.tags(it));
            let price = known(&fields, "pricePerHour")?.and_then(|it| broken.price(it));
            Some(What::Updated { name, description, tags, price })
        }
    };
    let at_ms = timestamp_ms.filter(|at| (EARLIEST_MS..=LATEST_MS).contains(at));
    if at_ms.is_none() {
        broken.add("timestamp", "timestamp");
    }
    match (broken.0.is_empty(), id, at_ms, event) {
        (true, Some(id), Some(at_ms), Some(what)) => Ok(ModelEvent { id, at_ms, what }),
        _ => Err(ModelRejection { reason: Reason::InvalidEvent, violations: broken.0 }),
    }
}

pub(super) fn because(reason: Reason) -> ModelRejection {
    ModelRejection { reason, violations: Vec::new() }
}

/// Returns the value of a known field. Null counts as absent.
fn known<'a>(fields: &'a [(Text, ModelJson)], name: &str) -> Result<Option<&'a ModelJson>, ModelRejection> {
    let found: Vec<&ModelJson> = fields.iter().filter(|(field, _)| field.is(name)).map(|(_, value)| value).collect();
    if found.len() > 1 || found.iter().any(|value| value.is_meaningless()) {
        return Err(because(Reason::MalformedJson));
    }
    Ok(found.first().copied().filter(|value| **value != ModelJson::Null))
}

struct ModelViolations(Vec<ModelViolation>);

impl ModelViolations {
    fn add(&mut self, field: &'static str, code: &'static str) {
        self.0.push(ModelViolation { field, code });
    }

    /// Adds the violation of a field that has no value of its type.
    fn mistyped<T>(&mut self, field: &'static str) -> Option<T> {
        self.add(field, "type");
        None
    }

    fn required<'a>(&mut self, field: &'static str, value: Option<&'a ModelJson>) -> Option<&'a ModelJson> {
        if value.is_none() {
            self.add(field, "required");
        }
        value
    }

    fn id(&mut self, value: Option<&ModelJson>) -> Option<u64> {
        let value = self.required("id", value)?;
        let ModelJson::Number(digits) = value else { return self.mistyped("id") };
        if !digits.chars().all(|character| character.is_ascii_digit()) {
            return self.mistyped("id");
        }
        let id = digits.parse().ok().filter(|id| *id <= MAX_ID);
        if id.is_none() {
            self.add("id", "range");
        }
        id
    }

    fn text(&mut self, field: &'static str, value: &ModelJson, max_characters: usize) -> Option<String> {
        let ModelJson::Text(Text::Whole(text)) = value else { return self.mistyped(field) };
        let characters = text.chars().count();
        if characters < 1 || characters > max_characters {
            self.add(field, "length");
        }
        if characters > 0 && text.chars().all(char::is_whitespace) {
            self.add(field, "blank");
        }
        Some(text.clone())
    }

    fn tags(&mut self, value: &ModelJson) -> Option<Vec<String>> {
        let mut tags = Vec::new();
        let ModelJson::Array(items) = value else { return self.mistyped("tags") };
        for item in items {
            let ModelJson::Text(Text::Whole(tag)) = item else { return self.mistyped("tags") };
            tags.push(tag.clone());
        }
        Some(tags)
    }

    fn price(&mut self, value: &ModelJson) -> Option<f64> {
        let ModelJson::Number(number) = value else { return self.mistyped("pricePerHour") };
        let price = json::as_float(number);
        if price < 0.0 {
            self.add("pricePerHour", "range");
        }
        Some(price)
    }
}
