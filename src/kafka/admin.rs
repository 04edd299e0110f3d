//! Looks at the topics before the start, creates those that are missing, and reports how a command reaches a topic.

pub mod access;
pub mod preflight;
pub mod topics;
