//! The machines that decide: plain structs, input and time in, commands out. The actors and threads around them only
//! carry the commands out, so the whole service can run on one thread, from a seed.
//!
//! * [`lifecycle`]: one partition, from assigned to gone.
//! * [`recovery`]: what a partition contains, where it goes on, and what it has to publish first.
//! * [`offsets`]: the batches of one partition that are open, and those that are done in order.
//! * [`group_commit`]: when a transaction is due, what it carries, and what its end means.
//! * [`transaction`]: what a transaction carries, and how it can end.
//! * [`budget`]: bytes held, against a bound.
//!
//! Architecture invariant: no clock, thread, file, actor or client of Kafka.

pub mod budget;
pub mod group_commit;
pub mod lifecycle;
pub mod offsets;
pub mod recovery;
pub mod transaction;
