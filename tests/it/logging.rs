//! What the log promises beyond its lines: its level changes while the process runs, a flood costs a line for each kind,
//! keys show as they are configured, and neither payloads nor secrets show at all.

mod about;
mod flood;
mod levels;
mod provoked;
mod silence;
