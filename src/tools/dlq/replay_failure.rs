//! Owns why a replay of DLQ records could not begin, or not continue.

use crate::kafka::admin::access::AccessFailure;
use crate::kafka::admin::preflight::StartRefusal;
use crate::record::{Offset, Partition};
use crate::tools::dlq::receipt::NotAReceipt;

/// Why a replay could not begin, or not go on. What was replayed until then is marked: the same command goes on.
#[derive(Debug, thiserror::Error)]
pub enum ReplayFailure {
    /// A topic could not be read.
    #[error(transparent)]
    Access(#[from] AccessFailure),
    /// The topic of marks could not be looked at or created.
    #[error(transparent)]
    Topics(#[from] StartRefusal),
    /// Marks would be deleted, and their DLQ records replayed again.
    #[error(
        "topic {topic} must have cleanup.policy=compact and nothing else, or it forgets what was replayed: {command}"
    )]
    NotCompacted {
        /// The topic of marks.
        topic: String,
        /// What cures it.
        command: String,
    },
    /// A mark stands in the partition of its DLQ record.
    #[error("topic {topic} has {found} partitions, the DLQ records have {needed}; add the missing ones: {command}")]
    TooFewPartitions {
        /// The topic of marks.
        topic: String,
        /// How many it has.
        found: i32,
        /// How many it needs.
        needed: i32,
        /// What cures it.
        command: String,
    },
    /// Something stands among the marks that is none, so that it is not known what was replayed.
    #[error(
        "topic {topic} partition {partition} offset {offset}: {problem}; only `steward dlq replay` writes there: see who else did, or use the version of steward that wrote it"
    )]
    ForeignMark {
        /// The topic of marks.
        topic: String,
        /// The partition.
        partition: Partition,
        /// The offset.
        offset: Offset,
        /// What is wrong with it.
        problem: NotAReceipt,
    },
    /// More marks than may be held.
    #[error("the marks of what was replayed take more than {limit_bytes} bytes; raise limits.max_state_bytes")]
    TooManyMarks {
        /// `limits.max_state_bytes`.
        limit_bytes: u64,
    },
    /// Another replay of these DLQ records registered later.
    #[error(
        "another replay of {dlq_topic} has begun, and goes on where this one was stopped ({cause}); wait for it, then start again: what was replayed is not repeated"
    )]
    Fenced {
        /// The DLQ topic.
        dlq_topic: String,
        /// What the client said.
        cause: String,
    },
    /// The brokers do not allow it.
    #[error(
        "the brokers refuse the replay: {cause}; allow Write on the topics {input} and {marks} and on the transactional id {transactional_id}"
    )]
    Forbidden {
        /// What the client said.
        cause: String,
        /// The input topic.
        input: String,
        /// The topic of marks.
        marks: String,
        /// The id.
        transactional_id: String,
    },
    /// It was tried often enough.
    #[error(
        "no transaction succeeded in {attempts} attempts ({cause}); see whether the brokers are healthy and this user may write to {input} and {marks}, then start again: what was replayed is not repeated"
    )]
    GivenUp {
        /// How often.
        attempts: u32,
        /// What the client said last.
        cause: String,
        /// The input topic.
        input: String,
        /// The topic of marks.
        marks: String,
    },
}
