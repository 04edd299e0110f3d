//! What all Kafka clients share.
//!
//! Absent on purpose: clients. Their owners build them from the settings and a context.

pub mod batch_queue;
pub mod context;
pub mod errors;
pub(crate) mod ffi;
pub(crate) mod oauth;
pub mod settings;
pub mod unsubscribed;
