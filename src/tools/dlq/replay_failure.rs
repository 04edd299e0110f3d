//! Owns why a replay of DLQ records could not begin, or not continue.

use crate::kafka::admin::access::AccessFailure;
use crate::kafka::admin::preflight::StartRefusal;
use crate::record::{Offset, Partition};
use crate::tools::dlq::receipt::NotAReceipt;

/// The events that were sent have receipts: the same command continues.
#[derive(Debug, thiserror::Error)]
pub enum ReplayFailure {
    #[error(transparent)]
    Access(#[from] AccessFailure),
    /// The receipts topic could not be described or created.
    #[error(transparent)]
    Topics(#[from] StartRefusal),
    /// Receipts would be deleted, and their DLQ records replayed again.
    #[error(
        "topic {topic} must have cleanup.policy=compact and nothing else, or it loses receipts of replayed DLQ records: {command}"
    )]
    NotCompacted { topic: String, command: String },
    /// A receipt is in the partition of its DLQ record.
    #[error("topic {topic} has {found} partitions, the DLQ records have {needed}; add the missing ones: {command}")]
    TooFewPartitions { topic: String, found: i32, needed: i32, command: String },
    /// The receipts topic has a record that is no receipt, so it is not known what was replayed.
    #[error(
        "topic {topic} partition {partition} offset {offset}: {problem}; only `steward dlq replay` writes there: see who else did, or use the version of steward that wrote it"
    )]
    ForeignRecord { topic: String, partition: Partition, offset: Offset, problem: NotAReceipt },
    #[error("the receipts of replayed DLQ records take more than {limit_bytes} bytes; raise limits.max_state_bytes")]
    TooManyReceipts { limit_bytes: u64 },
    /// Another replay of these DLQ records registered later.
    #[error(
        "another replay of {dlq_topic} has begun, and continues where this one was stopped ({cause}); wait for it, then start again: what was replayed is not repeated"
    )]
    Fenced { dlq_topic: String, cause: String },
    #[error(
        "the brokers refuse the replay: {cause}; allow Write on the topics {input} and {receipts} and on the transactional id {transactional_id}"
    )]
    Forbidden { cause: String, input: String, receipts: String, transactional_id: String },
    /// `cause` is that of the last attempt.
    #[error(
        "no transaction succeeded in {attempts} attempts ({cause}); see whether the brokers are healthy and this user may write to {input} and {receipts}, then start again: what was replayed is not repeated"
    )]
    GivenUp { attempts: u32, cause: String, input: String, receipts: String },
}
