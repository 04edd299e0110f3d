//! The member of the consumer group.
//!
//! It owns the consumer, its poll thread, the positions of the assigned partitions, and the answers to rebalances. It
//! does not own offsets: the commit thread sends them with its transactions, and reads [`membership`] from the
//! consumer.
//!
//! * [`input_consumer`]: the port of the ingest actor, and the life cycle: connect, run, leave, join.
//! * [`current_consumer`]: the consumer of the process, which is replaced if the group has fenced it.
//! * `poll_thread`: the loop, with a file each for the group, positions, records and leaving.
//! * [`rebalance`]: the callbacks of librdkafka, and the ends of a revocation.
//! * `fetching`: records between librdkafka and the sink.
//! * [`poll_phase`]: what the thread is doing, for the watchdog.
//!
//! Failures: an error that the client recovers from is reported by its context and changes nothing here. An error that
//! lasts becomes one `ConsumerFailure`; the process then leaves and ends.

pub mod current_consumer;
mod fetching;
pub mod input_consumer;
pub mod membership;
pub mod poll_phase;
mod poll_thread;
pub mod rebalance;
