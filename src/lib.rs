//! steward: owns the current state of every entity that a Kafka topic describes.
//!
//! The data flow, and the rooms in the order in which to read them: `docs/architecture.md`.

pub mod actors;
pub mod app;
pub mod cli;
pub mod config;
pub mod dead_letters;
pub mod entity;
pub mod exit_code;
pub mod heartbeat;
pub mod kafka;
pub mod log_events;
pub mod log_reader;
pub mod ports;
pub mod progress;
pub mod record;
pub mod reference;
pub mod service;
pub mod stats;
pub mod telemetry;
pub mod vitals;
pub mod workload;
