//! Events of transactions and their producer.

use crate::observability::log_events::{field_values, log_events};

field_values! {
    /// What the commit thread was doing when its call did not return.
    pub enum AbandonedStep {
        /// Puts the records into the client's queue.
        Producing = "producing",
        /// Waits for the deliveries of the records.
        Delivering = "delivering",
        /// Sends the input offsets.
        SendingOffsets = "sending_offsets",
        /// Commits the transaction.
        Committing = "committing",
        /// Aborts the transaction.
        Aborting = "aborting",
        /// Builds and registers a new producer.
        ResettingProducer = "resetting_producer",
        /// Fetches the committed offsets.
        FetchingCommitted = "fetching_committed",
    }

    /// The part of a DLQ record that did not fit.
    pub enum TruncatedPart {
        /// The event's value.
        Value = "value",
        /// The event's headers.
        Headers = "headers",
        /// The event's key, except for its first 256 bytes.
        Key = "key",
    }

    /// What the committed offsets show of the last transaction.
    pub enum ResetVerdict {
        /// The transaction took effect.
        Committed = "committed",
        /// It did not take effect, and is sent again.
        NotCommitted = "not_committed",
        /// The offsets match neither case. The partitions recover again.
        Unknown = "unknown",
        /// This process no longer owns the partitions of the transaction.
        Lost = "lost",
    }
}

log_events! {
    target: "steward::commit",
    title: "Transactions",

    /// A transaction was committed.
    #[event(DEBUG, "transaction_committed", "a transaction was committed")]
    #[action("none")]
    pub struct TransactionCommitted<'a> {
        /// Number of the transaction since the process started.
        pub number: u64,
        /// Events that it settles.
        pub events: u64,
        /// Snapshots in it.
        pub snapshots: u64,
        /// DLQ records in it.
        pub dlq_records: u64,
        /// Bytes in it.
        pub bytes: u64,
        /// How long it took.
        pub took_ms: u64,
        /// Partitions whose offsets it commits, such as `0-3,7`.
        pub partitions: &'a str,
    }

    /// A transaction was aborted. The same content is sent again.
    #[event(WARN, "transaction_aborted", "a transaction was aborted")]
    #[action("none if it passes; else look at the brokers, `cause` is their response")]
    pub struct TransactionAborted<'a> {
        /// Number of the transaction.
        pub number: u64,
        /// Error of the brokers or the client.
        pub cause: &'a str,
        /// Number of attempts with this content.
        pub attempt: u64,
    }

    /// A transaction ended without a clear response. The producer is not used again. A new one is built, and then the
    /// committed offsets show whether the transaction took effect.
    #[event(WARN, "transaction_in_doubt", "a transaction ended without a clear response")]
    #[action("none if it passes; else look at the brokers and the network")]
    pub struct TransactionInDoubt<'a> {
        /// Number of the transaction.
        pub number: u64,
        /// Why the response is not clear.
        pub cause: &'a str,
        /// How long it took.
        pub took_ms: u64,
    }

    /// A call of the Kafka client did not return within its limit, which can happen while the group's coordinator is
    /// unavailable. The call and its producer were abandoned. A new producer is built, which fences the old one, and the
    /// committed offsets show whether the transaction took effect. The memory of the old producer is released when the
    /// call returns.
    #[event(WARN, "producer_abandoned", "a call of the Kafka client did not return, and was abandoned")]
    #[action("look at the brokers, the group's coordinator first; the process ends when `outstanding` exceeds 5")]
    pub struct ProducerAbandoned {
        /// The step that hangs.
        pub step: AbandonedStep,
        /// How long the step has lasted.
        pub waited_ms: u64,
        /// Abandoned calls that have not returned, including this one.
        pub outstanding: u64,
    }

    /// A new producer was built, and the committed offsets showed what happened to the last transaction.
    #[event(WARN, "producer_reset", "a new producer was built")]
    #[action("none; after `unknown` the partitions recover again")]
    pub struct ProducerReset {
        /// Number of the last transaction.
        pub number: u64,
        /// What happened to it.
        pub verdict: ResetVerdict,
        /// How long it took.
        pub took_ms: u64,
    }

    /// A new producer could not be built. The attempt is repeated. With `ConcurrentTransactions` the coordinator has not
    /// ended the last transaction yet, because a broker that has to write the end does not respond. The process waits
    /// without a limit then: no other process could do better.
    #[event(WARN, "producer_reset_failed", "a new producer could not be built")]
    #[action("look at the brokers; unless the coordinator is waited for, the watchdog ends the process if it lasts")]
    pub struct ProducerResetFailed<'a> {
        /// Error of the brokers or the client.
        pub cause: &'a str,
        /// Number of attempts in a row.
        pub attempt: u64,
    }

    /// The brokers do not accept records, and the client sends them again and again. With `NOT_ENOUGH_REPLICAS` the
    /// partition has fewer replicas in sync than the topic's `min.insync.replicas`. The process waits without a limit,
    /// reading pauses, and it goes on by itself when the brokers accept the records. Logged at most every 30 s.
    #[event(WARN, "records_not_accepted", "the brokers do not accept records for now")]
    #[action("bring the missing brokers back; `kafka-topics --describe --under-min-isr-partitions` lists the partitions")]
    pub struct RecordsNotAccepted<'a> {
        /// The topic that the records are for.
        pub topic: &'a str,
        /// Their partition.
        pub partition: i32,
        /// `NOT_ENOUGH_REPLICAS`, `NOT_ENOUGH_REPLICAS_AFTER_APPEND`, `LEADER_NOT_AVAILABLE`, or the client's text of
        /// another error.
        pub code: &'a str,
    }

    /// Another process ended this process's open transaction, because this process was no member of the group when that
    /// one recovered a partition. Nothing of the transaction took effect. A new producer is built; the partitions that the
    /// group has taken are lost, and the new owner repeats their work.
    #[event(WARN, "taken_for_dead", "another process ended the transaction of this process")]
    #[action("none if it passes; if it repeats, find out why the process stands still for longer than `kafka.session_timeout_ms`: a frozen node, too little CPU, a slow network")]
    pub struct TakenForDead<'a> {
        /// Number of the transaction.
        pub number: u64,
        /// Error of the brokers or the client.
        pub cause: &'a str,
    }

    /// Another process uses the transactional id of this process. This process ends.
    #[event(ERROR, "producer_fenced", "another process uses this transactional id")]
    #[action("give each process its own `kafka.instance_name`")]
    pub struct ProducerFenced<'a> {
        /// The transactional id.
        pub transactional_id: &'a str,
        /// Error of the brokers or the client.
        pub cause: &'a str,
    }

    /// A partition is treated as lost although the group has not taken it. Either it is not certain which of its events
    /// are committed, or a batch that was read while the brokers were quicker has too many bytes for one transaction.
    /// It recovers again.
    #[event(WARN, "partition_invalidated", "a partition is treated as lost")]
    #[action("none if it passes; if it repeats, another program commits for this group: give each its own")]
    pub struct PartitionInvalidated<'a> {
        /// The partition.
        pub partition: i32,
        /// Which of the two.
        pub cause: &'a str,
    }

    /// Results of an earlier ownership epoch were dropped. The current owner repeats the work.
    #[event(INFO, "stale_outcomes_dropped", "results of an earlier ownership were dropped")]
    #[action("none")]
    pub struct StaleOutcomesDropped {
        /// The partition.
        pub partition: i32,
        /// Events whose results were dropped.
        pub events: u64,
    }

    /// The DLQ record of an event was too large for the topic, or for the client's queue, and was written without a
    /// part of it. Only the first one for each `part` is logged; the following ones are counted by `records_truncated`.
    #[event(WARN, "record_truncated", "a DLQ record was written without a part of it")]
    #[action("raise `max.message.bytes` of the DLQ topic to that of the input plus 64 KiB, or have the producer send less")]
    pub struct RecordTruncated {
        /// Partition of the event.
        pub partition: i32,
        /// Offset of the event. The input contains the whole event until retention removes it.
        pub offset: i64,
        /// What was left out.
        pub part: TruncatedPart,
        /// Length of that part.
        pub bytes: u64,
    }

    /// More DLQ records were written without a part of them.
    #[event(WARN, "records_truncated", "more DLQ records were written without a part of them")]
    #[action("as for `record_truncated`")]
    pub struct RecordsTruncated {
        /// What was left out.
        pub part: TruncatedPart,
        /// Number of DLQ records in the window.
        pub count: u64,
        /// Length of the window.
        pub window_ms: u64,
        /// Partition of the last event.
        pub last_partition: i32,
        /// Offset of the last event.
        pub last_offset: i64,
    }

    /// The snapshot of a service was too large for the state topic because of the trace context that it carries, and was
    /// written without `traceparent` and `tracestate`.
    #[event(WARN, "trace_context_dropped", "a snapshot was written without its trace context")]
    #[action("raise `max.message.bytes` of the state topic, or have the producers send a shorter `tracestate`")]
    pub struct TraceContextDropped {
        /// Partition of the event.
        pub partition: i32,
        /// Offset of the newest event that the snapshot contains.
        pub offset: i64,
        /// Length of the headers' values.
        pub bytes: u64,
    }

    /// The process stops, and the group repeatedly refuses the remaining work, because it does not know this process as
    /// a member any more. The work is dropped; the next owner repeats it.
    #[event(WARN, "drain_cut_short", "refused work is dropped, because the process stops")]
    #[action("none")]
    pub struct DrainCutShort<'a> {
        /// Error of the brokers or the client.
        pub cause: &'a str,
        /// Number of refusals in a row.
        pub attempts: u64,
        /// Events whose results were dropped.
        pub events: u64,
    }

    /// The brokers refuse the content of a transaction, because of a record or of a missing permission, and repeating it
    /// did not help. The process ends.
    #[event(ERROR, "transaction_refused", "the brokers refuse a transaction")]
    #[action("`cause` says whether a permission or a record is at fault; partition and offset name the record")]
    pub struct TransactionRefused<'a> {
        /// Error of the brokers or the client.
        pub cause: &'a str,
        /// Partition of the record, if a record is at fault.
        pub partition: Option<i32>,
        /// Offset of the event that the record results from, if a record is at fault.
        pub offset: Option<i64>,
        /// Number of attempts.
        pub attempt: u64,
    }
}
