//! Transactions, and what is done when one does not end well.

use crate::observability::log_events::log_events;

log_events! {
    target: "steward::commit",
    title: "Transactions",

    /// A transaction took effect.
    #[event(DEBUG, "transaction_committed", "a transaction was committed")]
    #[action("none")]
    pub struct TransactionCommitted<'a> {
        /// Number of the transaction since the process started.
        pub number: u64,
        /// Events that it settles.
        pub events: u64,
        /// Snapshots that it carries.
        pub snapshots: u64,
        /// DLQ records that it carries.
        pub dlq_records: u64,
        /// Bytes that it carries.
        pub bytes: u64,
        /// How long it took.
        pub took_ms: u64,
        /// Partitions whose offsets it carries, such as `0-3,7`.
        pub partitions: &'a str,
    }

    /// A transaction was aborted. The same content is sent again.
    #[event(WARN, "transaction_aborted", "a transaction was aborted")]
    #[action("none if it passes; else look at the brokers, `cause` is their answer")]
    pub struct TransactionAborted<'a> {
        /// Number of the transaction.
        pub number: u64,
        /// What the brokers or the client said.
        pub cause: &'a str,
        /// How often this content was tried.
        pub attempt: u64,
    }

    /// A transaction ended without a clear answer. The producer is not used again; a new one is built, and then the
    /// committed offsets tell whether it took effect.
    #[event(WARN, "transaction_in_doubt", "a transaction ended without a clear answer")]
    #[action("none if it passes; else look at the brokers and the network")]
    pub struct TransactionInDoubt<'a> {
        /// Number of the transaction.
        pub number: u64,
        /// Why the answer is not clear.
        pub cause: &'a str,
        /// How long it took.
        pub took_ms: u64,
    }

    /// A call of the Kafka client did not return within its limit, as it may happen while the group's coordinator is away.
    /// It was given up, and its producer with it: a new one is built, which fences the old one, and the committed offsets
    /// tell whether the transaction took effect. What the old one holds is given back when the call returns.
    #[event(WARN, "producer_abandoned", "a call of the Kafka client did not return, and was given up")]
    #[action("look at the brokers, the group's coordinator first; the process ends when `outstanding` exceeds 3")]
    pub struct ProducerAbandoned<'a> {
        /// The step that hangs, such as `sending_offsets`.
        pub step: &'a str,
        /// How long it has lasted.
        pub waited_ms: u64,
        /// Calls that were given up and have not returned, this one included.
        pub outstanding: u64,
    }

    /// A new producer is there, and the committed offsets told what became of the last transaction.
    #[event(WARN, "producer_reset", "a new producer was built")]
    #[action("none; after `disagrees` the partitions recover again")]
    pub struct ProducerReset<'a> {
        /// Number of the last transaction.
        pub number: u64,
        /// `took_effect`, `did_not`, `disagrees`, or `lost`: its partitions are not this process's any more.
        pub verdict: &'a str,
        /// How long it took.
        pub took_ms: u64,
    }

    /// No new producer could be had. It is tried again.
    #[event(WARN, "producer_reset_failed", "a new producer could not be built")]
    #[action("look at the brokers; the watchdog ends the process if it lasts")]
    pub struct ProducerResetFailed<'a> {
        /// What the brokers or the client said.
        pub cause: &'a str,
        /// How often it was tried in a row.
        pub attempt: u64,
    }

    /// Another process has this one's transactional id. This process ends.
    #[event(ERROR, "producer_fenced", "another process has this transactional id")]
    #[action("give each process its own `kafka.instance_name`")]
    pub struct ProducerFenced<'a> {
        /// The id.
        pub transactional_id: &'a str,
        /// What the brokers or the client said.
        pub cause: &'a str,
    }

    /// A partition is treated as lost although the group has not taken it, because it is not certain what of it is
    /// committed. It recovers again.
    #[event(WARN, "partition_invalidated", "a partition is treated as lost")]
    #[action("none if it passes; if it comes again, another program commits for this group: give each its own")]
    pub struct PartitionInvalidated<'a> {
        /// The partition.
        pub partition: i32,
        /// What is not certain.
        pub cause: &'a str,
    }

    /// Results of an earlier ownership were dropped. The present owner does the work again.
    #[event(INFO, "stale_outcomes_dropped", "results of an earlier ownership were dropped")]
    #[action("none")]
    pub struct StaleOutcomesDropped {
        /// The partition.
        pub partition: i32,
        /// Events whose results were dropped.
        pub events: u64,
    }

    /// The DLQ record of an event was too large for the topic, and went there without its value. Those that follow are
    /// counted by `records_truncated`.
    #[event(WARN, "record_truncated", "a DLQ record went without its value")]
    #[action("raise `max.message.bytes` of the DLQ topic to the input's and 64 KiB more")]
    pub struct RecordTruncated {
        /// Partition of the event.
        pub partition: i32,
        /// Offset of the event, where its value still stands until retention removes it.
        pub offset: i64,
        /// Length of the value.
        pub bytes: u64,
    }

    /// More DLQ records went without their values.
    #[event(WARN, "records_truncated", "more DLQ records went without their values")]
    #[action("as for `record_truncated`")]
    pub struct RecordsTruncated {
        /// How many in the window.
        pub count: u64,
        /// Length of the window.
        pub window_ms: u64,
        /// Partition of the last event.
        pub last_partition: i32,
        /// Offset of the last event.
        pub last_offset: i64,
    }

    /// The snapshot of a service was too large for the state topic because of the trace context that it carries, and went
    /// there without `traceparent` and `tracestate`.
    #[event(WARN, "trace_context_dropped", "a snapshot went without its trace context")]
    #[action("raise `max.message.bytes` of the state topic, or have the producers send a shorter `tracestate`")]
    pub struct TraceContextDropped {
        /// Partition of the event.
        pub partition: i32,
        /// Offset of the newest event that the snapshot contains.
        pub offset: i64,
        /// Length of the headers' values.
        pub bytes: u64,
    }

    /// The process stops, and the group refuses again and again what it still has to commit, because the group does not
    /// know it as the member that it was. The work is dropped; the next owner does it again.
    #[event(WARN, "drain_cut_short", "what the group refuses is dropped, because the process stops")]
    #[action("none")]
    pub struct DrainCutShort<'a> {
        /// What the brokers or the client said.
        pub cause: &'a str,
        /// How often in a row it was refused.
        pub attempts: u64,
        /// Events whose results were dropped.
        pub events: u64,
    }

    /// The brokers refuse a content for what it is or for want of a permission, and repeating it did not help. The
    /// process ends.
    #[event(ERROR, "transaction_refused", "the brokers refuse a transaction")]
    #[action("`cause` says whether a permission or a record is at fault; partition and offset name the record")]
    pub struct TransactionRefused<'a> {
        /// What the brokers or the client said.
        pub cause: &'a str,
        /// Partition of the record, where it is one.
        pub partition: Option<i32>,
        /// Offset of the event that it came from, where it is one.
        pub offset: Option<i64>,
        /// How often it was tried.
        pub attempt: u64,
    }
}
