//! Owns the reading of the log: from bytes to lines, from a line to a typed event, from events to the state of the pods.
//!
//! `steward top` and `steward report` use it. They depend only on the contract of the log
//! ([`crate::observability::log_events`]). The lines come from `kubectl logs --prefix`, `docker compose logs`, stern,
//! files of a container runtime (CRI, or Docker's `json-file`), or journald. The lines of several pods may be mixed,
//! with lines of other programs in between.
//!
//! [`LineSplitter`] splits bytes into lines, [`read`] parses a line to a [`LogLine`], and a line changes one [`Pod`] of
//! a [`Fleet`], which `steward top` shows. A [`Recording`] also keeps the history, for `steward report`.
//!
//! Architecture invariant: the input is not trusted. Every length and every count is bounded, and no input causes a
//! panic. Texts are not escaped here; the caller escapes them for its output. Architecture invariant: no file, no
//! clock, no terminal; times are arguments.

mod counts;
mod events;
mod fleet;
mod line;
mod lines;
mod pod;
mod prefix;
mod recording;
mod series;
mod timeline;

pub use crate::tools::log_reader::counts::{Tally, parse_counts};
pub use crate::tools::log_reader::events::{EventRead, LoggedEvent, READ, StatsReported, Waiting};
pub use crate::tools::log_reader::fleet::{Fleet, Now, PodNotice, WhenFull};
pub use crate::tools::log_reader::line::{LineReading, LogLine, UnixMs, read};
pub use crate::tools::log_reader::lines::{LineSplitter, MAX_LINE_BYTES, Piece};
pub use crate::tools::log_reader::pod::{Life, Liveness, Pod, PodTotals, Readiness};
pub use crate::tools::log_reader::prefix::pod_of;
pub use crate::tools::log_reader::recording::{FindingKind, LogFinding, Recording};
pub use crate::tools::log_reader::series::{Bucket, Series};
pub use crate::tools::log_reader::timeline::{Activity, Timeline, TimelineEvent, TimelineEventKind};
