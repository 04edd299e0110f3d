//! The machines that decide: plain structs, input and time in, commands out. The actors and threads around them only
//! carry the commands out, so the whole service can run on one thread, from a seed.
//!
//! * [`partition`]: one partition, from assigned to gone.
//! * [`recovery`]: what a partition contains, where it goes on, and what it has to publish first.
//! * [`batches`]: the batches of one partition that are open, and those that are done in order.
//! * [`commit`]: when a transaction is due, what it carries, and what its end means.
//! * [`commit::transaction`]: what a transaction carries, and how it can end.
//! * [`budget`]: bytes held, against a bound.
//!
//! Architecture invariant: no clock, thread, file, actor or client of Kafka.

pub mod batches;
pub mod budget;
pub mod commit;
pub mod outcome;
pub mod ownership;
pub mod partition;
pub mod recovery;
