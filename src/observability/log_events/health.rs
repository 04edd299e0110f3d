//! Readiness, the watchdog, and the numbers.

use crate::observability::log_events::{LoggedKey, log_events};

log_events! {
    target: "steward::health",
    title: "Health and numbers",

    /// In the group, and every assigned partition serves, for long enough to count as settled.
    #[event(INFO, "became_ready", "the process is ready")]
    #[action("none")]
    pub struct BecameReady {
        /// Partitions that serve.
        pub assigned: u64,
        /// Time since the process started or was ready last.
        pub took_ms: u64,
    }

    /// The process is not ready any more.
    #[event(INFO, "became_unready", "the process is not ready")]
    #[action("none, unless it lasts: `recovery_progress` says how far it is")]
    pub struct BecameUnready<'a> {
        /// Short code of what it waits for.
        pub cause: &'a str,
    }

    /// The heartbeat file cannot be written, so that probes find it missing or stale. Said again only after it worked.
    #[event(WARN, "heartbeat_unwritable", "the heartbeat file cannot be written")]
    #[action("mount a folder that this user may write to at `health.file`")]
    pub struct HeartbeatUnwritable<'a> {
        /// What failed, and what to do.
        pub problem: &'a str,
    }

    /// A partition that has something to do did not move for longer than `health.stall_timeout_ms`, a thread did not come
    /// round for as long, or the group was not joined within `health.join_timeout_ms`. The process ends.
    #[event(ERROR, "progress_stalled", "progress has stalled")]
    #[action("none at once: the process is started again. If it repeats, `waiting_for` names what to look at, and docs/operating.md what to do, by `phase`")]
    pub struct ProgressStalled<'a> {
        /// Where it stands still: `poll`, `route`, `apply`, `commit`, `restore` or `rebalance`.
        pub phase: &'a str,
        /// What it waits for.
        pub waiting_for: &'a str,
        /// The partition that has stood still for longest, where it is one; in `apply` that of the event which an entity is at.
        pub partition: Option<i32>,
        /// The oldest event that waits, where it is known; in `apply` the one that an entity is at.
        pub offset: Option<i64>,
        /// The key of that event, as `log.keys` wants it shown; absent where it has none.
        pub key: Option<LoggedKey>,
        /// For how long it has stood still.
        pub stalled_ms: u64,
        /// The limit that it passed: `health.stall_timeout_ms`, or `health.join_timeout_ms` for a group that is not joined.
        pub limit_ms: u64,
    }

    /// The numbers of this process, every `log.stats_interval_ms`. This line alone is enough to draw a picture of it.
    /// Fields that end in `_total` count since the process started; those that say so count within the interval; the
    /// others are as of this line.
    #[event(INFO, "stats", "numbers of this process")]
    #[action("none; alerts belong on `oldest_age_ms` and `lag_total`")]
    pub struct StatsReported {
        /// Length of the interval.
        pub interval_ms: u64,
        /// What the process is doing; where several things, what takes longest.
        pub phase: String,
        /// Partitions that serve, such as `0-3,7`.
        pub serving: String,
        /// Partitions that recover.
        pub recovering: String,
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
        /// Events in the input that are not committed, all owned partitions together.
        pub lag_total: u64,
        /// The same by partition, such as `0:12,1:0`.
        pub lag: String,
        /// Age of the oldest event that is read and not committed, by its timestamp; 0 where there is none.
        pub oldest_age_ms: u64,
        /// The partition of that event.
        pub oldest_partition: Option<i32>,
        /// Its offset.
        pub oldest_offset: Option<i64>,
        /// The keys with most events read within the interval, five at most, such as `42:1200,7:300`, shown as
        /// `log.keys` wants it. Counted with a fixed number of counters: a count may be off by 1/64 of the interval's
        /// events.
        pub hottest_keys: String,
        /// The keys whose events kept a thread longest within the interval, in milliseconds, such as `42:1200`; five at
        /// the most, those below a hundredth of the interval left out. Right within a few milliseconds each time.
        pub slowest_keys: String,
        /// From an event's timestamp to its commit, median within the interval; 0 where nothing was committed.
        pub latency_p50_ms: u64,
        /// The same, 99 of 100.
        pub latency_p99_ms: u64,
        /// Entities that are actors.
        pub entities_active: u64,
        /// Entities that are snapshots in memory.
        pub entities_passivated: u64,
        /// Bytes of the snapshots in memory.
        pub state_bytes: u64,
        /// Bytes read and not committed.
        pub in_flight_bytes: u64,
        /// `limits.max_in_flight_bytes`.
        pub in_flight_limit_bytes: u64,
        /// Transactions committed within the interval.
        pub transactions: u64,
        /// How long a transaction took, median within the interval; 0 where there was none.
        pub transaction_p50_ms: f64,
        /// The same, 99 of 100.
        pub transaction_p99_ms: f64,
        /// Transactions aborted within the interval.
        pub transactions_aborted: u64,
        /// Entities started again after a panic, within the interval.
        pub entity_restarts: u64,
        /// Resident memory of the process.
        pub memory_rss_bytes: u64,
    }
}
