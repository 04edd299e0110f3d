//! Events that are read: those that are refused, and when reading pauses.

use crate::observability::log_events::{LoggedKey, log_events};

log_events! {
    target: "steward::ingest",
    title: "Events and intake",

    /// An event was rejected and goes to the DLQ topic. The first of its reason is written; those that follow
    /// are counted by `events_rejected`.
    #[event(WARN, "event_rejected", "an event was rejected")]
    #[action("read `reason` and the DLQ record's `steward-detail`, fix the producer")]
    pub struct EventRejected<'a> {
        /// Code of the reason, as in `steward-reason`.
        pub reason: &'a str,
        /// Partition of the event.
        pub partition: i32,
        /// Offset of the event.
        pub offset: i64,
        /// The event's key, as `log.keys` wants it shown; absent where it has none.
        pub key: Option<LoggedKey>,
        /// Trace of the event, from its `traceparent` header; absent where that is missing or malformed, as are the next
        /// two.
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
        /// How many in the window.
        pub count: u64,
        /// Length of the window.
        pub window_ms: u64,
        /// Partition of the last one.
        pub last_partition: i32,
        /// Offset of the last one.
        pub last_offset: i64,
    }

    /// Entity code panicked on an event. The event goes to the DLQ topic, the entity goes on from its last good
    /// state. Those that follow are counted by `entities_panicked`.
    #[event(ERROR, "entity_panicked", "entity code panicked on an event")]
    #[action("fix the entity's code, then send the event again")]
    pub struct EntityPanicked<'a> {
        /// Partition of the event.
        pub partition: i32,
        /// Offset of the event.
        pub offset: i64,
        /// The event's key, as `log.keys` wants it shown.
        pub key: Option<LoggedKey>,
        /// File, line and column in the source. What the panic said may quote the event, and stands in the DLQ record's
        /// `steward-detail` alone.
        pub location: Option<&'a str>,
        /// Panics since the process started.
        pub panics: u64,
        /// Trace of the event, from its `traceparent` header; absent where that is missing or malformed, as are the next
        /// two.
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
        /// How many in the window.
        pub count: u64,
        /// Length of the window.
        pub window_ms: u64,
        /// Partition of the last one.
        pub last_partition: i32,
        /// Offset of the last one.
        pub last_offset: i64,
    }

    /// The actor of an entity started again after a panic.
    #[event(TRACE, "entity_restarted", "an entity started again")]
    #[action("none")]
    pub struct EntityRestarted {
        /// Partition of the entity.
        pub partition: i32,
        /// Restarts since the process started, all entities together.
        pub restarts: u64,
    }

    /// What is read but not committed has reached its bound, and reading pauses. Commits are slower than intake.
    #[event(INFO, "ingest_paused", "intake pauses")]
    #[action("none, unless it lasts: then look at `transaction_p99_ms` in `stats`, and at the brokers")]
    pub struct IngestPaused {
        /// Bytes held.
        pub held_bytes: u64,
        /// `limits.max_in_flight_bytes`.
        pub limit_bytes: u64,
    }

    /// Reading goes on.
    #[event(INFO, "ingest_resumed", "intake goes on")]
    #[action("none")]
    pub struct IngestResumed {
        /// Bytes held.
        pub held_bytes: u64,
        /// How long it had paused.
        pub paused_ms: u64,
    }
}
