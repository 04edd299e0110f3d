//! Events of ingest: rejected events, and pauses of reading.

use crate::observability::log_events::{LoggedKey, log_events};

log_events! {
    target: "steward::ingest",
    title: "Events and ingest",

    /// An event was rejected and written to the DLQ topic. Only the first one of its reason is logged; the following
    /// ones are counted by `events_rejected`.
    #[event(WARN, "event_rejected", "an event was rejected")]
    #[action("read `reason` and the DLQ record's `steward-detail`, fix the producer")]
    pub struct EventRejected<'a> {
        /// Code of the reason, as in `steward-reason`: [DLQ reasons](dlq-reasons.md).
        pub reason: &'a str,
        /// Partition of the event.
        pub partition: i32,
        /// Offset of the event.
        pub offset: i64,
        /// Key of the event, shown according to `log.keys`; absent if the event has none.
        pub key: Option<LoggedKey>,
        /// Trace of the event, from its `traceparent` header. Absent if the header is missing or malformed, as are the
        /// next two fields.
        pub trace_id: Option<&'a str>,
        /// Span of the event.
        pub span_id: Option<&'a str>,
        /// Flags of the trace.
        pub trace_flags: Option<&'a str>,
    }

    /// More events were rejected for the same reason.
    #[event(WARN, "events_rejected", "more events were rejected")]
    #[action("as for `event_rejected`")]
    pub struct EventsRejected<'a> {
        /// Code of the reason.
        pub reason: &'a str,
        /// Number of events in the window.
        pub count: u64,
        /// Length of the window.
        pub window_ms: u64,
        /// Partition of the last event.
        pub last_partition: i32,
        /// Offset of the last event.
        pub last_offset: i64,
    }

    /// A producer of the input has left a transaction open. Its events and all events behind it in the partition cannot
    /// be read until it ends: steward reads committed events only. Logged again if it stays open for ten times as long.
    #[event(WARN, "input_transaction_open", "an open transaction of a producer holds events of the input back")]
    #[action("run the commands in `find`, and end the producer or have it finish. If it is gone, abort the transaction at `last_stable`: `kafka-transactions.sh --bootstrap-server ... abort --topic ... --partition ... --start-offset ...`")]
    pub struct InputTransactionOpen<'a> {
        /// The input topic.
        pub topic: &'a str,
        /// The partition.
        pub partition: i32,
        /// The last stable offset: the first offset of the transaction.
        pub last_stable: i64,
        /// The high watermark.
        pub high_watermark: i64,
        /// Offsets between the two.
        pub held_back: u64,
        /// How long this process has seen the transaction open.
        pub open_ms: u64,
        /// Commands that find the producer: the active producers of the partition, and the transactions that no
        /// coordinator ends.
        pub find: &'a str,
    }

    /// Entity code panicked on an event. The event is written to the DLQ topic, and the entity restarts from its last
    /// good state. Only the first one is logged; the following ones are counted by `entities_panicked`.
    #[event(ERROR, "entity_panicked", "entity code panicked on an event")]
    #[action("fix the entity's code, then send the event again")]
    pub struct EntityPanicked<'a> {
        /// Partition of the event.
        pub partition: i32,
        /// Offset of the event.
        pub offset: i64,
        /// Key of the event, shown according to `log.keys`.
        pub key: Option<LoggedKey>,
        /// File, line and column in the source. The panic message may quote the event, so only the DLQ record's
        /// `steward-detail` contains it.
        pub location: Option<&'a str>,
        /// Panics since the process started.
        pub panics: u64,
        /// Trace of the event, from its `traceparent` header. Absent if the header is missing or malformed, as are the
        /// next two fields.
        pub trace_id: Option<&'a str>,
        /// Span of the event.
        pub span_id: Option<&'a str>,
        /// Flags of the trace.
        pub trace_flags: Option<&'a str>,
    }

    /// Entity code panicked on more events.
    #[event(ERROR, "entities_panicked", "entity code panicked on more events")]
    #[action("as for `entity_panicked`")]
    pub struct EntitiesPanicked {
        /// Number of events in the window.
        pub count: u64,
        /// Length of the window.
        pub window_ms: u64,
        /// Partition of the last event.
        pub last_partition: i32,
        /// Offset of the last event.
        pub last_offset: i64,
    }

    /// The actor of an entity restarted after a panic.
    #[event(TRACE, "entity_restarted", "an entity started again")]
    #[action("none")]
    pub struct EntityRestarted {
        /// Partition of the entity.
        pub partition: i32,
        /// Restarts of all entities since the process started.
        pub restarts: u64,
    }

    /// The uncommitted records have reached their limit, and reading pauses. Commits are slower than ingest.
    #[event(INFO, "ingest_paused", "ingest pauses")]
    #[action("none, unless it lasts: then look at `transaction_p99_ms` in `stats`, and at the brokers")]
    pub struct IngestPaused {
        /// Bytes in flight.
        pub held_bytes: u64,
        /// The limit: `limits.max_in_flight_bytes` without what the client reads ahead, or less while transactions are small.
        pub limit_bytes: u64,
    }

    /// Reading continues.
    #[event(INFO, "ingest_resumed", "ingest resumes")]
    #[action("none")]
    pub struct IngestResumed {
        /// Bytes in flight.
        pub held_bytes: u64,
        /// Length of the pause.
        pub paused_ms: u64,
    }
}
