//! Owns the reference model: a second implementation of the whole contract, and a checker that compares outcomes with
//! it.
//!
//! [`Model`] processes every record of the input and computes the expected content of the state topic and the DLQ topic.
//! [`check()`] compares that content with the records that a `read_committed` reader saw, and describes each difference
//! in a sentence. The model is slow and straightforward: one map, one record at a time, every rule written where it is
//! used.
//!
//! Architecture invariant: the model uses nothing of `service`, and no JSON library. If both used the same code, a
//! mistake in it would go undetected. So the rules, the JSON parser, the dates and the text of numbers are implemented
//! a second time on purpose. Only the names of the reasons are shared.

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

/// Name and value of a record header.
pub type HeaderOf = (String, Option<Vec<u8>>);

/// A record of the input, state or DLQ topic, as a consumer receives it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicRecord {
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since 1970; `None` if the record has no timestamp.
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<HeaderOf>,
}

impl TopicRecord {
    /// Returns the last header of this name: `None` if there is no such header, `Some(None)` if its value is null.
    pub fn last_header(&self, name: &str) -> Option<Option<&[u8]>> {
        self.headers.iter().rev().find(|(found, _)| found == name).map(|(_, value)| value.as_deref())
    }
}

/// Bytes as a message quotes them: as text if they are UTF-8, else escaped; at most 300 bytes.
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
