//! steward: owns the current state of every entity that a Kafka topic describes.
//!
//! The data flow, and the rooms in the order in which to read them: `docs/architecture.md`.

pub mod app;
pub mod cli;
pub mod config;
pub mod engine;
pub mod entity;
pub mod exit_code;
pub mod kafka;
pub mod observability;
pub mod ports;
pub mod record;
pub mod runtime;
pub mod service;
pub mod testing;
pub mod tools;
