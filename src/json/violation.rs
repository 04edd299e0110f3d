//! Owns the detail of `invalid_event`: a list with one entry per broken rule, in a fixed order.
//!
//! Messages are constants, here and beside the rules. The list contains nothing of the input.

use std::borrow::Cow;

use serde::Serialize;
use validator::{ValidationErrors, ValidationErrorsKind};

use crate::entity::{Reason, Rejection};
use crate::json::document::Field;

/// The kind of a broken rule. The list is closed and part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ViolationCode {
    /// A required field is absent.
    Required,
    /// The field has another type.
    Type,
    /// The text is too short or too long.
    Length,
    /// The text contains only white space.
    Blank,
    /// The number is out of range.
    Range,
    /// The record has no timestamp, or one out of range.
    Timestamp,
}

impl ViolationCode {
    /// Every code, in the order in which the violations of one field are listed.
    pub const ALL: [ViolationCode; 6] = [
        ViolationCode::Required,
        ViolationCode::Type,
        ViolationCode::Length,
        ViolationCode::Blank,
        ViolationCode::Range,
        ViolationCode::Timestamp,
    ];

    /// Returns the text in the detail, and the `code` of a rule.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ViolationCode::Required => "required",
            ViolationCode::Type => "type",
            ViolationCode::Length => "length",
            ViolationCode::Blank => "blank",
            ViolationCode::Range => "range",
            ViolationCode::Timestamp => "timestamp",
        }
    }
}

/// What a violation is about: a field of the event, or the timestamp of its record, which is listed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A field of the event.
    Field(Field),
    /// The timestamp of the record.
    Timestamp,
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Subject::Field(field) => field.name(),
            Subject::Timestamp => "timestamp",
        }
    }
}

struct Violation {
    subject: Subject,
    code: ViolationCode,
    message: Cow<'static, str>,
}

impl Violation {
    fn entry(&self) -> DetailEntry<'_> {
        DetailEntry { field: self.subject.name(), code: self.code.name(), message: &self.message }
    }
}

/// The JSON of one entry.
#[derive(Serialize)]
struct DetailEntry<'a> {
    field: &'static str,
    code: &'static str,
    message: &'a str,
}

/// The broken rules of one event.
pub struct Violations {
    members: &'static [(&'static str, Subject)],
    found: Vec<Violation>,
}

impl Violations {
    /// No violations. `members` maps each member of the raw types (those that derive `Validate`) to its subject.
    #[must_use]
    pub fn new(members: &'static [(&'static str, Subject)]) -> Violations {
        Violations { members, found: Vec::new() }
    }

    /// Adds a field of the wrong type. It is read as absent, so [`settle`](Violations::settle) leaves out the rules that
    /// its absence breaks.
    pub fn mistyped(&mut self, field: Field, remedy: &'static str) {
        let (subject, code) = (Subject::Field(field), ViolationCode::Type);
        self.found.push(Violation { subject, code, message: remedy.into() });
    }

    /// Adds the broken rules of a raw type, and turns all violations into one rejection.
    ///
    /// # Errors
    /// `invalid_event` with the list as its detail, if there is a violation.
    ///
    /// # Panics
    /// If a raw type has a rule whose member is not in `members`, or whose code is not a [`ViolationCode`].
    pub fn settle(mut self, rules: Result<(), ValidationErrors>) -> Result<(), Rejection> {
        if let Err(broken) = rules {
            self.add(broken);
        }
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort_by_key(|violation| (violation.subject, violation.code));
        let entries: Vec<DetailEntry<'_>> = self.found.iter().map(Violation::entry).collect();
        let detail = serde_json::to_string(&entries).expect("three strings per entry can always be written");
        Err(Rejection::new(Reason::InvalidEvent, detail))
    }

    fn add(&mut self, broken: ValidationErrors) {
        for (member, kind) in broken.into_errors() {
            let (_, subject) = *self
                .members
                .iter()
                .find(|(name, _)| *name == member)
                .expect("every member of a raw type that has rules is in the list");
            let ValidationErrorsKind::Field(errors) = kind else {
                unreachable!("raw types are flat");
            };
            if self.found.iter().any(|violation| violation.subject == subject && violation.code == ViolationCode::Type)
            {
                continue;
            }
            for error in errors {
                let code = ViolationCode::ALL
                    .into_iter()
                    .find(|code| code.name() == error.code)
                    .expect("every rule of a raw type has a code of the list");
                self.found.push(Violation { subject, code, message: error.message.unwrap_or_default() });
            }
        }
    }
}
