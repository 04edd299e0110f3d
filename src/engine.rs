//! The state machines that decide. They are plain structs: inputs and the time go in, commands come out. Actors and
//! threads only carry the commands out, so the whole service can run on one thread from a seed.
//!
//! * [`ownership`]: mints, compares and ends the epochs of partitions.
//! * [`planted`]: defects that tests plant.
//! * [`partition`]: the life cycle of a partition.
//! * [`recovery`]: what a partition contains, where it starts, and what it publishes first.
//! * [`batches`]: the open batches of a partition, completed in order.
//! * [`outcome`]: the records that a batch becomes, and the outputs that they go to.
//! * [`commit`]: when a transaction is due, what it carries, and what its end means.
//! * [`dead_owners`]: when the open transaction of a dead owner is ended, and who has fenced this process.
//! * [`static_membership`]: what follows when the group has given the static membership to another member.
//! * [`offset_metadata`]: what is committed with a position.
//! * [`budget`]: a bound on bytes in memory.
//! * [`topic_watch`]: whether the topics are still those of the start.
//!
//! Architecture invariant: no clock, thread, file, actor or client of Kafka.

pub mod batches;
pub mod budget;
pub mod commit;
pub mod dead_owners;
pub mod foreign_members;
pub mod offset_metadata;
pub mod outcome;
pub mod ownership;
pub mod partition;
pub mod planted;
pub mod recovery;
pub mod static_membership;
pub mod topic_watch;
