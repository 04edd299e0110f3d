//! Events of readiness, the watchdog, and the numbers.

use crate::observability::log_events::{LoggedKey, PartitionNumbers, field_values, log_events};

field_values! {
    /// Why the process is not ready.
    pub enum UnreadyCause {
        /// The process is no member of the group.
        NotJoined = "not_joined",
        /// A partition recovers.
        Recovering = "recovering",
        /// A partition is being revoked.
        Revoking = "revoking",
        /// The last assignment is younger than `health.ready_settle_ms`.
        Settling = "settling",
        /// The process stops.
        Stopping = "stopping",
    }

    /// Where work can stall.
    pub enum StallPhase {
        /// The input has events that do not arrive, or a call of the consumer does not return.
        Poll = "poll",
        /// The broker that a partition is fetched from sends nothing, although other brokers respond.
        Fetch = "fetch",
        /// Records that were read do not reach the entities.
        Route = "route",
        /// An entity does not finish.
        Apply = "apply",
        /// Outcomes do not get into a transaction that ends.
        Commit = "commit",
        /// A recovery makes no progress.
        Restore = "restore",
        /// The process does not become a member of the group, or a revoked partition is not released.
        Rebalance = "rebalance",
    }

    /// What the process is doing; the first word of `phase` in `stats`.
    pub enum ProcessPhase {
        /// The process waits for its assignment.
        Joining = "joining",
        /// A partition recovers.
        Recovering = "recovering",
        /// Partitions are being revoked.
        Rebalancing = "rebalancing",
        /// All owned partitions serve.
        Serving = "serving",
        /// The process stops.
        Stopping = "stopping",
    }
}

log_events! {
    target: "steward::health",
    title: "Health and numbers",

    /// The process is in the group, every assigned partition serves, and the last assignment is old enough.
    #[event(INFO, "became_ready", "the process is ready")]
    #[action("none")]
    pub struct BecameReady {
        /// Partitions that serve.
        pub assigned: u64,
        /// Time since the process started.
        pub took_ms: u64,
    }

    /// The process is not ready any more.
    #[event(INFO, "became_unready", "the process is not ready")]
    #[action("none, unless it lasts: `recovery_progress` shows how far a recovery is")]
    pub struct BecameUnready {
        /// Why the process is not ready.
        pub cause: UnreadyCause,
    }

    /// The heartbeat file cannot be written, so probes find it missing or stale. Logged again only after a write
    /// succeeded.
    #[event(WARN, "heartbeat_unwritable", "the heartbeat file cannot be written")]
    #[action("mount a folder that this user may write to at `health.file`")]
    pub struct HeartbeatUnwritable<'a> {
        /// What failed, and what to do.
        pub problem: &'a str,
    }

    /// Another process holds the heartbeat file, so probes see that process and not this one. This process writes no
    /// heartbeat until the other one has ended. Logged again only after a write succeeded.
    #[event(WARN, "heartbeat_shared", "another process holds the heartbeat file")]
    #[action("give each process a `health.file` of its own")]
    pub struct HeartbeatShared<'a> {
        /// Which process holds it, and what to do.
        pub problem: &'a str,
    }

    /// There was work and no progress: a partition made no progress for longer than `health.stall_timeout_ms`, a thread
    /// did not run its loop for as long, or the process did not join the group within `health.join_timeout_ms`. The
    /// process ends.
    #[event(ERROR, "progress_stalled", "progress has stalled")]
    #[action("none at once: the process is started again. If it repeats, `waiting_for` names what to look at, and [operating](operating.md) what to do, by `phase`")]
    pub struct ProgressStalled<'a> {
        /// Where the work stalled.
        pub phase: StallPhase,
        /// What it waits for.
        pub waiting_for: &'a str,
        /// The partition that has stalled for longest, if there is one. In `apply`, the partition of the event that an
        /// entity is processing.
        pub partition: Option<i32>,
        /// The oldest event that waits, if it is known. In `apply`, the event that an entity is processing.
        pub offset: Option<i64>,
        /// Key of that event, shown according to `log.keys`; absent if the event has none.
        pub key: Option<LoggedKey>,
        /// How long there has been no progress.
        pub stalled_ms: u64,
        /// The limit that was exceeded: `health.stall_timeout_ms`, or `health.join_timeout_ms` for joining the group.
        pub limit_ms: u64,
    }

    /// The numbers of this process, every `log.stats_interval_ms`. This line alone is enough to chart a process. Fields
    /// that end in `_total` count since the process started. Fields that say so count within the interval. The others
    /// are the values at the time of the line.
    #[event(INFO, "stats", "numbers of this process")]
    #[action("none; alerts belong on `oldest_age_ms` and `lag_total`")]
    pub struct StatsReported {
        /// Length of the interval.
        pub interval_ms: u64,
        /// What the process is doing: `joining`, `recovering`, `rebalancing`, `serving` or `stopping`. The states of its
        /// consumer and committer follow: `serving, consumer polling, committer Idle`.
        pub phase: String,
        /// Partitions that serve, such as `0-3,7`.
        pub serving: String,
        /// Partitions that recover.
        pub recovering: String,
        /// Number of partitions that serve.
        pub partitions_serving: u64,
        /// Number of partitions of the input, of all processes together.
        pub partitions_total: u64,
        /// Events read per second within the interval.
        pub events_per_s: f64,
        /// Bytes of keys, values and headers read per second within the interval.
        pub bytes_per_s: f64,
        /// Events read.
        pub events_total: u64,
        /// Events applied and committed.
        pub applied_total: u64,
        /// Events rejected and committed.
        pub rejected_total: u64,
        /// Events rejected within the interval by reason, such as `malformed_json:3,not_found:1`.
        pub rejected: String,
        /// Events skipped, because the state contained them.
        pub skipped_total: u64,
        /// Uncommitted events in the input, all owned partitions together, including those behind an open transaction.
        pub lag_total: u64,
        /// Uncommitted events in the input by partition, such as `0:12,1:0`.
        pub lag: PartitionNumbers,
        /// Offsets that open transactions of the input's producers hold back, all served partitions together.
        pub behind_open_transaction_total: u64,
        /// The same by partition, such as `0:500`: high watermark minus last stable offset. Partitions without are left
        /// out.
        pub behind_open_transaction: PartitionNumbers,
        /// Longest time since the broker of a served partition sent anything. A broker responds to each fetch within
        /// `fetch.wait.max.ms`, even without records; this number is accurate to a second. It also grows while reading
        /// is paused.
        pub fetch_age_max_ms: u64,
        /// The same by partition, such as `3:41000`. Partitions below 3 seconds are left out.
        pub fetch_age_ms: PartitionNumbers,
        /// Age of the oldest uncommitted event that was read, by its timestamp; 0 if there is none.
        pub oldest_age_ms: u64,
        /// Partition of that event.
        pub oldest_partition: Option<i32>,
        /// Offset of that event.
        pub oldest_offset: Option<i64>,
        /// The keys with most events read within the interval, at most five, such as `42:1200,7:300`, shown according to
        /// `log.keys`. The number of counters is fixed, so a count may be off by 1/64 of the interval's events.
        pub hottest_keys: String,
        /// The keys whose events occupied a thread longest within the interval, in milliseconds, at most five, such as
        /// `42:1200`. Keys below a hundredth of the interval are left out. Accurate to a few milliseconds each.
        pub slowest_keys: String,
        /// Time from an event's timestamp to its commit, median within the interval; 0 if nothing was committed.
        pub latency_p50_ms: u64,
        /// Time from an event's timestamp to its commit, 99th percentile.
        pub latency_p99_ms: u64,
        /// Entities that are actors.
        pub entities_active: u64,
        /// Entities that are snapshots in memory.
        pub entities_passivated: u64,
        /// Bytes of the snapshots in memory.
        pub state_bytes: u64,
        /// Bytes of uncommitted records.
        pub in_flight_bytes: u64,
        /// `limits.max_in_flight_bytes`.
        pub in_flight_limit_bytes: u64,
        /// Transactions committed within the interval.
        pub transactions: u64,
        /// Duration of a transaction, median within the interval; 0 if there was none.
        pub transaction_p50_ms: f64,
        /// Duration of a transaction, 99th percentile.
        pub transaction_p99_ms: f64,
        /// Transactions aborted within the interval.
        pub transactions_aborted: u64,
        /// Entities restarted after a panic within the interval.
        pub entity_restarts: u64,
        /// Resident memory of the process.
        pub memory_rss_bytes: u64,
    }
}
