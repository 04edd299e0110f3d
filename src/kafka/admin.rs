//! The topics: preflight checks before the start, creation of missing topics, and the access of commands.
//!
//! * [`preflight`] decides whether three topics fit together. It is pure.
//! * [`topic_facts`]: what both decide by.
//! * [`new_topic`] has the settings of a missing topic. It is pure, too.
//! * [`topics`] collects the facts, waits for the input, and creates missing outputs.
//! * [`topic_look`] reads the ids and the partition counts, at the start and while the process runs.
//! * [`access`] finds a topic for a command, within a time limit.
//!
//! Life cycle: the clients exist for one inspection. Failures: a `StartRefusal` ends the start, an `AccessFailure` the
//! command; each has the cause and a remedy.

pub mod access;
pub mod new_topic;
pub mod preflight;
pub mod topic_facts;
pub mod topic_look;
pub mod topics;
