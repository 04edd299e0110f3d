//! The guarantees of the log beyond its lines: the level changes while the process runs, a flood costs one line per
//! kind and window, a reader that stops delays nothing, keys are shown as configured, and payloads and secrets are
//! never shown.

mod about;
mod flood;
mod levels;
mod provoked;
mod silence;
mod unread;
mod writer;
