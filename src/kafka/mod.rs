//! The only room that knows rdkafka.

pub mod client;
