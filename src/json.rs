//! Owns the strict-JSON toolkit for entity authors: how the value of an event is read, and how broken rules are
//! reported.
//!
//! An entity declares its fields in a [`FieldTable`]. [`JsonDocument::read`] accepts exactly one JSON object and keeps
//! the raw text of the fields in the table. [`FieldReader`] then reads each field that the event's type allows,
//! strictly, and collects fields of the wrong type; the rules on values (crate `validator`) add theirs. [`Violations`]
//! turns all of them into one rejection with field, code and message. [`RecordTime`] is the one form in which times are
//! written.
//!
//! Architecture invariant: no clock, no I/O, no entity; the same bytes give the same result.
//! Architecture invariant: details name fields and positions, and never quote the input.

#![warn(missing_docs)]

mod document;
mod envelope;
mod reader;
mod time;
mod violation;

pub use crate::json::document::{Field, FieldTable, JsonDocument, JsonValue};
pub use crate::json::envelope::Envelope;
pub use crate::json::reader::FieldReader;
pub use crate::json::time::RecordTime;
pub use crate::json::violation::{Subject, ViolationCode, Violations};
