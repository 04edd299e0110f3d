//! The only room that knows rdkafka, and the only one with unsafe code (in [`batch_queue`]).

pub mod batch_queue;
pub mod client;
