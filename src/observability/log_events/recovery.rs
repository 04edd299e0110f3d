//! A partition from its assignment until it serves.

use crate::observability::log_events::log_events;

log_events! {
    target: "steward::recovery",
    title: "Recovery",

    /// A partition starts to recover.
    #[event(INFO, "recovery_started", "recovery starts")]
    #[action("none")]
    pub struct RecoveryStarted {
        /// The partition.
        pub partition: i32,
        /// The ownership; it rises with each assignment.
        pub epoch: u64,
    }

    /// Recovery waits for a transaction that an earlier owner left open. The coordinator ends it after that owner's
    /// `kafka.transaction_timeout_ms`.
    #[event(WARN, "recovery_blocked", "recovery waits for an open transaction")]
    #[action("none below `limit_ms`; there the process ends, and the hanging transaction has to be aborted by hand (`kafka-transactions.sh find-hanging`)")]
    pub struct RecoveryBlocked<'a> {
        /// The partition.
        pub partition: i32,
        /// The topic whose records the open transaction holds back; the input, if it is the group's committed offset.
        pub topic: &'a str,
        /// Where reading stands; absent while the committed offset is waited for.
        pub position: Option<i64>,
        /// The high watermark that it has to reach; absent likewise.
        pub until: Option<i64>,
        /// Time without a step forward.
        pub waited_ms: u64,
        /// When the process ends.
        pub limit_ms: u64,
    }

    /// How far a recovery is. Offsets are counted, not records: a compacted topic has fewer of these.
    #[event(INFO, "recovery_progress", "recovery goes on")]
    #[action("none")]
    pub struct RecoveryProgress<'a> {
        /// The partition.
        pub partition: i32,
        /// `committed`, `state`, `dlq` or `verify`.
        pub phase: &'a str,
        /// Where reading stands.
        pub position: i64,
        /// Where the phase ends.
        pub until: i64,
        /// How much of the phase is done, in percent.
        pub percent: u64,
        /// Time since the recovery started.
        pub elapsed_ms: u64,
    }

    /// A partition has recovered and serves.
    #[event(INFO, "recovery_finished", "recovery has finished")]
    #[action("none")]
    pub struct RecoveryFinished {
        /// The partition.
        pub partition: i32,
        /// The ownership.
        pub epoch: u64,
        /// How long it took.
        pub took_ms: u64,
        /// Entities that exist.
        pub entities: u64,
        /// Bytes of their snapshots.
        pub state_bytes: u64,
        /// The group's committed position; absent where there is none.
        pub committed: Option<i64>,
        /// The position at which processing starts.
        pub start: i64,
        /// Events that were replayed silently.
        pub replayed: u64,
        /// Of these, events that the state or the DLQ records contained.
        pub skipped: u64,
    }

    /// A recovery failed and starts again.
    #[event(WARN, "recovery_failed", "recovery failed and starts again")]
    #[action("none if it passes; else look at the brokers, `error` is their answer")]
    pub struct RecoveryFailed<'a> {
        /// The partition.
        pub partition: i32,
        /// What failed.
        pub error: &'a str,
        /// How often it was tried.
        pub attempt: u64,
    }

    /// Verification found that writes were lost: the events between `from` and `until` give other entities or other
    /// DLQ records than the topics hold. What was missing has been published.
    #[event(ERROR, "lost_write_repaired", "a lost write was repaired")]
    #[action("none for the data. Readers of the state have seen older values since; look at what the brokers went through")]
    pub struct LostWriteRepaired {
        /// The partition.
        pub partition: i32,
        /// Entities that are published again.
        pub entities: u64,
        /// Events applied to them.
        pub events: u64,
        /// DLQ records that are published.
        pub rejections: u64,
        /// First position of the verified stretch.
        pub from: i64,
        /// Position behind it.
        pub until: i64,
    }

    /// Recovery trusts the topics for this stretch without replaying it.
    #[event(WARN, "verification_skipped", "a stretch was not verified")]
    #[action("after `too_long`, raise `recovery.verify_max_records` if a lost write must be excluded; after `head_expired`, lengthen the input's retention")]
    pub struct VerificationSkipped<'a> {
        /// The partition.
        pub partition: i32,
        /// `too_long`, `head_expired` or `switched_off`.
        pub cause: &'a str,
        /// First position of the stretch.
        pub from: i64,
        /// Position behind it.
        pub until: i64,
        /// Its length in offsets.
        pub records: u64,
    }

    /// Verification is switched off and the committed position stands beyond what the state contains: the events in
    /// between are passed over, as an operator who moved the offsets wants it.
    #[event(WARN, "events_passed_over", "events are passed over")]
    #[action("if nobody moved the offsets: set `recovery.verify_max_records` above 0 and start again")]
    pub struct EventsPassedOver {
        /// The partition.
        pub partition: i32,
        /// First position that is passed over.
        pub from: i64,
        /// Position behind the last one.
        pub until: i64,
    }

    /// Events were read again that the state already contains, and were skipped.
    #[event(INFO, "events_skipped", "events were skipped that the state contains")]
    #[action("none")]
    pub struct EventsSkipped {
        /// The partition.
        pub partition: i32,
        /// How many.
        pub count: u64,
    }

    /// The group has no committed position although there is state. Processing goes on behind what the state contains.
    #[event(WARN, "committed_offset_missing", "there is state but no committed offset")]
    #[action("none if the offsets were deleted on purpose; else raise `offsets.retention.minutes` of the brokers")]
    pub struct CommittedOffsetMissing {
        /// The partition.
        pub partition: i32,
        /// The position that stands in for it.
        pub assumed: i64,
    }

    /// The committed position stands beyond the end of the input, and counts as its end.
    #[event(WARN, "committed_offset_beyond_end", "the committed offset stands beyond the end")]
    #[action("find out whether the input lost records: an unclean leader election, or a restored cluster")]
    pub struct CommittedOffsetBeyondEnd {
        /// The partition.
        pub partition: i32,
        /// The committed position.
        pub committed: i64,
        /// The end of the input.
        pub end: i64,
    }

    /// Retention deleted events before they were read. They are lost to this group; processing goes on at the log's
    /// start, or the process ends where `recovery.on_expired` says so.
    #[event(ERROR, "events_expired", "events expired unread")]
    #[action("have the producers send what is missing; lengthen the input's retention or add capacity")]
    pub struct EventsExpired {
        /// The partition.
        pub partition: i32,
        /// First offset that is gone.
        pub first: i64,
        /// Last offset that is gone.
        pub last: i64,
        /// How many offsets that are.
        pub count: u64,
    }

    /// A record in the DLQ topic does not carry steward's headers. It is ignored.
    #[event(WARN, "dlq_record_unreadable", "a DLQ record does not carry the headers")]
    #[action("find out who else writes to the DLQ topic")]
    pub struct DlqRecordUnreadable {
        /// The partition.
        pub partition: i32,
        /// Offset of the last such record in the DLQ topic.
        pub offset: i64,
        /// How many in this recovery.
        pub count: u64,
    }

    /// Snapshots of another group were taken over, because `recovery.adopt_group` is set.
    #[event(WARN, "group_adopted", "snapshots of another group were taken over")]
    #[action("make sure that the other group is gone: two groups on one state topic do not fence each other; keep `recovery.adopt_group` until each of its snapshots was replaced")]
    pub struct GroupAdopted<'a> {
        /// The partition.
        pub partition: i32,
        /// The group whose snapshots these are.
        pub from_group: &'a str,
    }
}
