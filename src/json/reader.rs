//! Reads fields as the types that rules are about, and collects those of another type.

use std::borrow::Cow;

use crate::entity::Rejection;
use crate::json::document::{Field, JsonDocument, JsonValue};
use crate::json::violation::{Subject, Violations};

/// Reads fields of a document. A field of the wrong type is a violation, and is absent from then on.
///
/// Every method returns `None` if the field is absent or null, and the errors of [`JsonDocument::value`].
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

    /// Returns the violations so far.
    #[must_use]
    pub fn into_violations(self) -> Violations {
        self.violations
    }

    /// Reads digits. A number that no `u64` can hold is `u64::MAX`, so that a rule on the range rejects it.
    pub fn digits(&mut self, field: Field) -> Result<Option<u64>, Rejection> {
        let remedy = "send digits only, without quotes, sign, fraction or exponent";
        self.read(field, remedy, |raw, value| {
            let has_digits_only =
                matches!(value, JsonValue::Number(_)) && raw.bytes().all(|byte| byte.is_ascii_digit());
            has_digits_only.then(|| raw.parse().unwrap_or(u64::MAX))
        })
    }

    /// Reads a string.
    pub fn text(&mut self, field: Field) -> Result<Option<Cow<'a, str>>, Rejection> {
        self.read(field, "send a string", |_, value| if let JsonValue::Text(text) = value { Some(text) } else { None })
    }

    /// Reads an array of strings.
    pub fn texts(&mut self, field: Field) -> Result<Option<Vec<Cow<'a, str>>>, Rejection> {
        let remedy = "send an array of strings, without null among them; it may be empty";
        self.read(field, remedy, |_, value| if let JsonValue::Texts(texts) = value { Some(texts) } else { None })
    }

    /// Reads a number.
    pub fn number(&mut self, field: Field) -> Result<Option<f64>, Rejection> {
        let remedy = "send a number, without quotes";
        self.read(field, remedy, |_, value| if let JsonValue::Number(number) = value { Some(number) } else { None })
    }

    /// `accept` gets the raw text and the value. It returns `None` for a value of another type.
    fn read<T>(
        &mut self,
        field: Field,
        remedy: &'static str,
        accept: impl FnOnce(&'a str, JsonValue<'a>) -> Option<T>,
    ) -> Result<Option<T>, Rejection> {
        let Some((raw, value)) = self.document.value(field)? else { return Ok(None) };
        let accepted = accept(raw, value);
        if accepted.is_none() {
            self.violations.mistyped(field, remedy);
        }
        Ok(accepted)
    }
}
