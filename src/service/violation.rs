//! Owns the list that stands in the detail of `invalid_event`: one entry per broken rule, in a fixed order.
//!
//! Messages are written here and beside the rules, never taken from the event: nothing of the input gets out.

use std::borrow::Cow;

use serde::Serialize;
use validator::{ValidationErrors, ValidationErrorsKind};

use crate::entity::{Reason, Rejection};
use crate::service::json::Field;

/// Which kind of rule a field broke. The list is closed and part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Code {
    Required,
    Type,
    Length,
    Blank,
    Range,
    Timestamp,
}

impl Code {
    const ALL: [Code; 6] = [Code::Required, Code::Type, Code::Length, Code::Blank, Code::Range, Code::Timestamp];

    fn name(self) -> &'static str {
        match self {
            Code::Required => "required",
            Code::Type => "type",
            Code::Length => "length",
            Code::Blank => "blank",
            Code::Range => "range",
            Code::Timestamp => "timestamp",
        }
    }
}

/// What a violation is about: a field of the event, or the record's timestamp, which stands last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Field(Field),
    Timestamp,
}

impl Subject {
    /// Each subject of a rule, and the name of the raw types' member that stands for it.
    const ALL: [(Subject, &'static str); 6] = [
        (Subject::Field(Field::Id), "id"),
        (Subject::Field(Field::Name), "name"),
        (Subject::Field(Field::Description), "description"),
        (Subject::Field(Field::Tags), "tags"),
        (Subject::Field(Field::PricePerHour), "price_per_hour"),
        (Subject::Timestamp, "timestamp"),
    ];

    fn name(self) -> &'static str {
        match self {
            Subject::Field(field) => field.name(),
            Subject::Timestamp => "timestamp",
        }
    }
}

struct Violation {
    subject: Subject,
    code: Code,
    message: Cow<'static, str>,
}

/// One entry as it is written.
#[derive(Serialize)]
struct DetailEntry<'a> {
    field: &'static str,
    code: &'static str,
    message: &'a str,
}

/// The broken rules of one event.
#[derive(Default)]
pub(super) struct Violations(Vec<Violation>);

impl Violations {
    /// The field is there, but of another type. It was read as absent, for which it must not be blamed as well.
    pub(super) fn mistyped(&mut self, field: Field, remedy: &'static str) {
        self.0.push(Violation { subject: Subject::Field(field), code: Code::Type, message: remedy.into() });
    }

    /// Adds what the rules of a raw type found.
    pub(super) fn add(&mut self, found: ValidationErrors) {
        for (member, kind) in found.into_errors() {
            let (subject, _) = Subject::ALL
                .into_iter()
                .find(|(_, name)| *name == member)
                .expect("every member of a raw type that has rules is in the list");
            let ValidationErrorsKind::Field(errors) = kind else {
                unreachable!("raw types are flat");
            };
            if self.0.iter().any(|violation| violation.subject == subject && violation.code == Code::Type) {
                continue;
            }
            for error in errors {
                let code = Code::ALL
                    .into_iter()
                    .find(|code| code.name() == error.code)
                    .expect("every rule of a raw type has a code of the list");
                self.0.push(Violation { subject, code, message: error.message.unwrap_or_default() });
            }
        }
    }

    /// Nothing, or the rejection whose detail is the list.
    ///
    /// # Errors
    /// `invalid_event`, when there is a violation.
    pub(super) fn into_result(mut self) -> Result<(), Rejection> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort_by_key(|violation| (violation.subject, violation.code));
        let entries: Vec<DetailEntry<'_>> = self
            .0
            .iter()
            .map(|violation| DetailEntry {
                field: violation.subject.name(),
                code: violation.code.name(),
                message: &violation.message,
            })
            .collect();
        let detail = serde_json::to_string(&entries).expect("three strings per entry can always be written");
        Err(Rejection::new(Reason::InvalidEvent, detail))
    }
}
