//! Owns transactions: the producer, the one open transaction, and every way in which it can end.
//!
//! * [`commit_thread`]: the port of the committer; a supervisor, and a worker that makes the blocking calls.
//! * [`driver`]: the order of the calls of one transaction, for the commit thread and for `steward dlq replay`.
//! * [`transaction`]: the producer and the open transaction as values that are traded for each other.
//! * [`dead_owner`]: ends what a producer of another process has open.
//! * [`earlier`]: what a producer leaves to the next one of its transactional id.
//! * [`topic_looks`]: the requests for a look at the topics, and the waits for its answer.
//! * `replicas`: which partition of the outputs no broker can write to.
//! * [`producer_record`]: an output record as librdkafka takes it.
//!
//! An end passes three types on its way back: [`transaction::Ended`] (what the client reported), `TransactionOutcome`
//! (what the driver makes of it) and `CommitOutcome` (what the group commit decides by).

pub mod commit_thread;
pub mod dead_owner;
pub mod driver;
pub mod earlier;
pub mod producer_record;
mod replicas;
pub mod topic_looks;
pub mod transaction;
