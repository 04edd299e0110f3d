//! The member of the consumer group: its poll thread, its positions, and its rebalances.

pub mod event_source;
mod intake;
pub mod membership;
pub mod poll_phase;
mod poll_thread;
pub mod rebalance;
