//! Which DLQ records are wanted.

use crate::entity::Reason;
use crate::record::Offset;
use crate::tools::dlq::DlqRecord;

/// Which DLQ records are wanted: those that every part lets through. An empty part lets everything through; a letter
/// that does not tell what a part asks about is let through by none that asks.
#[derive(Debug, Clone, Default)]
pub struct DlqFilter {
    /// Of one of these reasons.
    pub reasons: Vec<Reason>,
    /// Of one of these keys, byte for byte.
    pub keys: Vec<Vec<u8>>,
    /// At one of these offsets of the DLQ topic.
    pub offsets: Vec<Offset>,
    /// Refused at this time or later, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Refused before this time, in milliseconds since 1970.
    pub until_ms: Option<i64>,
    /// Whose event stands at this offset of the input or behind it.
    pub source_from: Option<Offset>,
    /// Whose event stands at this offset of the input or before it.
    pub source_to: Option<Offset>,
}

impl DlqFilter {
    /// Whether this letter is wanted.
    #[must_use]
    pub fn wants(&self, letter: &DlqRecord<'_>) -> bool {
        let reason = || letter.reason().is_some_and(|reason| self.reasons.contains(&reason));
        let key = || letter.key.is_some_and(|key| self.keys.iter().any(|wanted| wanted == key));
        let at = |holds: &dyn Fn(i64) -> bool| letter.timestamp_ms.is_some_and(holds);
        let source = |holds: &dyn Fn(Offset) -> bool| letter.source().is_some_and(|source| holds(source.offset));
        (self.offsets.is_empty() || self.offsets.contains(&letter.place.offset))
            && self.since_ms.is_none_or(|since| at(&|ms| ms >= since))
            && self.until_ms.is_none_or(|until| at(&|ms| ms < until))
            && (self.keys.is_empty() || key())
            && (self.reasons.is_empty() || reason())
            && self.source_from.is_none_or(|from| source(&|offset| offset >= from))
            && self.source_to.is_none_or(|to| source(&|offset| offset <= to))
    }
}
