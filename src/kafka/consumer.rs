//! The member of the consumer group.
//!
//! It owns the consumer, its poll thread, the positions of the assigned partitions, and the answers to rebalances. It does
//! not own offsets: the commit thread sends them with its transactions, and reads [`membership`] from the consumer.
//!
//! Failures: an error that the client recovers from is reported by its context and changes nothing here. An error that
//! lasts becomes one `SourceFailure`; the process then leaves and ends.

pub mod event_source;
mod fetching;
pub mod membership;
pub mod poll_phase;
mod poll_thread;
pub mod rebalance;
