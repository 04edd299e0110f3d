//! Reads fields as the types that rules are about, and collects those of another type.

use std::borrow::Cow;

use crate::entity::Rejection;
use crate::json::document::{Field, JsonDocument, JsonValue};
use crate::json::violation::{Subject, Violations};

/// Reads fields of a document. A field of the wrong type is a violation, and is absent from then on.
///
/// Every method returns `None` if the field is absent or null.
pub struct FieldReader<'d, 'a, const N: usize> {
    document: &'d JsonDocument<'a, N>,
    violations: Violations,
}

impl<'d, 'a, const N: usize> FieldReader<'d, 'a, N> {
    /// Starts without violations. For `members`, see [`Violations::new`].
    #[must_use]
    pub fn new(
        document: &'d JsonDocument<'a, N>,
        members: &'static [(&'static str, Subject)],
    ) -> FieldReader<'d, 'a, N> {
        FieldReader { document, violations: Violations::new(members) }
    }

    /// The violations so far.
    #[must_use]
    pub fn into_violations(self) -> Violations {
        self.violations
    }

    /// Reads digits. A number that no `u64` can hold is `u64::MAX`, so that a rule on the range rejects it.
    ///
    /// # Errors
    /// `malformed_json`, as [`JsonDocument::value`].
    pub fn digits(&mut self, field: Field) -> Result<Option<u64>, Rejection> {
        match self.document.value(field)? {
            None => Ok(None),
            Some((raw, JsonValue::Number(_))) if raw.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(Some(raw.parse().unwrap_or(u64::MAX)))
            }
            Some(_) => {
                self.violations.mistyped(field, "send digits only, without quotes, sign, fraction or exponent");
                Ok(None)
            }
        }
    }

    /// Reads a string.
    ///
    /// # Errors
    /// `malformed_json`, as [`JsonDocument::value`].
    pub fn text(&mut self, field: Field) -> Result<Option<Cow<'a, str>>, Rejection> {
        match self.document.value(field)? {
            None => Ok(None),
            Some((_, JsonValue::Text(text))) => Ok(Some(text)),
            Some(_) => {
                self.violations.mistyped(field, "send a string");
                Ok(None)
            }
        }
    }

    /// Reads an array of strings.
    ///
    /// # Errors
    /// `malformed_json`, as [`JsonDocument::value`].
    pub fn texts(&mut self, field: Field) -> Result<Option<Vec<Cow<'a, str>>>, Rejection> {
        match self.document.value(field)? {
            None => Ok(None),
            Some((_, JsonValue::Texts(texts))) => Ok(Some(texts)),
            Some(_) => {
                self.violations.mistyped(field, "send an array of strings, without null among them; it may be empty");
                Ok(None)
            }
        }
    }

    /// Reads a number.
    ///
    /// # Errors
    /// `malformed_json`, as [`JsonDocument::value`].
    pub fn number(&mut self, field: Field) -> Result<Option<f64>, Rejection> {
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
