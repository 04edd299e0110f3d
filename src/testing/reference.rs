//! Owns a second opinion: what the whole contract says about a stream of events, and whether an outcome agrees.
//!
//! [`Model`] judges every record of the input and knows what the state topic and the DLQ topic must hold;
//! [`check()`] compares that with what a `read_committed` reader saw, and says every difference in a sentence. It is slow
//! and straightforward: one map, one record after the other, every rule written where it is used.
//!
//! Architecture invariant: nothing of `service`, and no JSON library, is used here. A mistake that both the service
//! and its judge inherit from shared code would go unseen, so the rules, the reader of JSON, the dates and the text of
//! numbers are written a second time on purpose. Only the names of the reasons are shared.

pub mod check;
mod json;
mod model;
mod rules;
mod text;

use std::fmt;

pub use crate::testing::reference::check::{Difference, Expectation, Fault, SeenRecords, check};
pub use crate::testing::reference::model::{LiveSnapshot, Model, ModelSnapshot, ModelVerdict, Rejected};
pub use crate::testing::reference::rules::ModelViolation;
pub use crate::testing::reference::text::number_text;

/// One header as it stands in a record; the value may be null.
pub type HeaderOf = (String, Option<Vec<u8>>);

/// A record of any of the three topics, with everything that a reader is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicRecord {
    /// Partition.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970; `None` where the record has none.
    pub timestamp_ms: Option<i64>,
    /// The key; `None` where it is null.
    pub key: Option<Vec<u8>>,
    /// The value; `None` where it is null.
    pub value: Option<Vec<u8>>,
    /// The headers in order.
    pub headers: Vec<HeaderOf>,
}

impl TopicRecord {
    /// The last header of this name; `None` where there is none, `Some(None)` where its value is null.
    #[must_use]
    pub fn last_header(&self, name: &str) -> Option<Option<&[u8]>> {
        self.headers.iter().rev().find(|(found, _)| found == name).map(|(_, value)| value.as_deref())
    }
}

/// Bytes for a sentence: as text where they are short UTF-8, cut at 300 characters, else escaped.
struct ShownBytes<'a>(Option<&'a [u8]>);

impl fmt::Display for ShownBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 300;
        let Some(bytes) = self.0 else { return f.write_str("null") };
        let cut = &bytes[..bytes.len().min(LONGEST)];
        match std::str::from_utf8(cut) {
            Ok(text) => write!(f, "`{text}`")?,
            Err(_) => write!(f, "`{}`", cut.escape_ascii())?,
        }
        if cut.len() < bytes.len() {
            write!(f, " and {} bytes more", bytes.len() - cut.len())?;
        }
        Ok(())
    }
}
