//! Owns the selection of DLQ records.

use crate::entity::Reason;
use crate::record::Offset;
use crate::tools::dlq::DlqRecord;

/// Selects DLQ records that match every criterion. An empty criterion matches all. A record without the header that a
/// criterion compares does not match it.
#[derive(Debug, Clone, Default)]
pub struct DlqFilter {
    pub reasons: Vec<Reason>,
    /// Compared byte for byte.
    pub keys: Vec<Vec<u8>>,
    /// Offsets of the DLQ topic.
    pub offsets: Vec<Offset>,
    /// Rejected at this time or later, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Rejected before this time, in milliseconds since 1970.
    pub until_ms: Option<i64>,
    /// Offset of the event in the input, or later.
    pub source_from: Option<Offset>,
    /// Offset of the event in the input, or earlier.
    pub source_to: Option<Offset>,
}

impl DlqFilter {
    pub fn wants(&self, dlq_record: &DlqRecord<'_>) -> bool {
        let reason = || dlq_record.reason().is_some_and(|reason| self.reasons.contains(&reason));
        let key = || dlq_record.key.is_some_and(|key| self.keys.iter().any(|wanted| wanted == key));
        let at = |holds: &dyn Fn(i64) -> bool| dlq_record.timestamp_ms.is_some_and(holds);
        let source = |holds: &dyn Fn(Offset) -> bool| dlq_record.source().is_some_and(|source| holds(source.offset));
        (self.offsets.is_empty() || self.offsets.contains(&dlq_record.location.offset))
            && self.since_ms.is_none_or(|since| at(&|ms| ms >= since))
            && self.until_ms.is_none_or(|until| at(&|ms| ms < until))
            && (self.keys.is_empty() || key())
            && (self.reasons.is_empty() || reason())
            && self.source_from.is_none_or(|from| source(&|offset| offset >= from))
            && self.source_to.is_none_or(|to| source(&|offset| offset <= to))
    }
}
