//! Owns the reading of the log: from bytes to lines, from a line to a typed event, from events to a picture of the pods.
//!
//! The log is a contract ([`crate::observability::log_events`]), and this is its other side: `steward top` and `steward report` know
//! nothing of a process but what the catalogue promises. Lines come from anywhere (`kubectl logs --prefix`, `docker
//! compose logs`, stern, files of a container runtime, journald), several pods mixed, other programs' lines in between.
//!
//! A chunk of bytes becomes lines in [`LineSplitter`], a line becomes a [`LogLine`] in [`read`], and a line changes one
//! [`Pod`] of a [`Fleet`], which is what `steward top` shows. A [`Recording`] keeps what happened when besides, for
//! `steward report`.
//!
//! Architecture invariant: what comes in is not trusted. Every length and every number of things is bounded, no input
//! panics, and nothing here is ready to be shown: who shows it makes it harmless for where it is shown.
//! Architecture invariant: no file, no clock, no terminal. Moments come in as arguments.

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
pub use crate::tools::log_reader::events::{EventRead, EventsRead, LoggedEvent, READ, StatsReported, Waiting};
pub use crate::tools::log_reader::fleet::{Fleet, Now, PodNotice, WhenFull};
pub use crate::tools::log_reader::line::{LineReading, LogLine, UnixMs, read};
pub use crate::tools::log_reader::lines::{LineSplitter, MAX_LINE_BYTES, Piece};
pub use crate::tools::log_reader::pod::{Life, Pod, PodTotals, Readiness, Voice};
pub use crate::tools::log_reader::prefix::pod_of;
pub use crate::tools::log_reader::recording::{FindingKind, LogFinding, Recording};
pub use crate::tools::log_reader::series::{Bucket, Series};
pub use crate::tools::log_reader::timeline::{Doing, Timeline, TimelineEvent, TimelineEventKind};
