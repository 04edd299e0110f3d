//! Events of a partition from its assignment until it serves.

use crate::observability::log_events::{field_values, log_events};

field_values! {
    /// What a recovery reads.
    pub enum RecoveryPhase {
        /// Restores the entities from the state topic.
        State = "state",
        /// Reads the end of the DLQ topic.
        Dlq = "dlq",
        /// Reads the end of the input again to find lost writes.
        Verify = "verify",
    }

    /// Why a range of the input was not verified.
    pub enum VerificationSkipCause {
        /// It has more than `recovery.verify_max_records` offsets.
        TooLong = "too_long",
    }
}

log_events! {
    target: "steward::recovery",
    title: "Recovery",

    /// The recovery of a partition starts.
    #[event(INFO, "recovery_started", "recovery starts")]
    #[action("none")]
    pub struct RecoveryStarted {
        /// The partition.
        pub partition: i32,
        /// The ownership epoch. It rises with each assignment.
        pub epoch: u64,
    }

    /// Recovery waits for a transaction that an earlier owner left open: the last stable offset is at the position,
    /// below the high watermark. It is ended if that owner is no member of the group any more (`dead_owner_fenced`), else the
    /// coordinator ends it after the owner's `kafka.transaction_timeout_ms`.
    #[event(WARN, "recovery_blocked", "recovery waits for an open transaction")]
    #[action("none below `limit_ms`; then the process ends, and the hanging transaction has to be aborted by hand (`kafka-transactions.sh find-hanging`)")]
    pub struct RecoveryBlocked<'a> {
        /// The partition.
        pub partition: i32,
        /// The topic whose records the open transaction holds back; the input, if recovery waits for the committed
        /// offset.
        pub topic: &'a str,
        /// Current position; absent while recovery waits for the committed offset.
        pub position: Option<i64>,
        /// High watermark to reach; absent while recovery waits for the committed offset.
        pub until: Option<i64>,
        /// Time without progress.
        pub waited_ms: u64,
        /// Time without progress after which the process ends.
        pub limit_ms: u64,
    }

    /// An open transaction blocks the recovery, and the instance that committed the partition last is no member of the
    /// group any more. Its transactional id is registered, which ends the transaction and fences what that instance may
    /// still send.
    #[event(INFO, "dead_owner_fenced", "the open transaction of a dead owner is ended")]
    #[action("none")]
    pub struct DeadOwnerFenced<'a> {
        /// The partition.
        pub partition: i32,
        /// Name of the instance.
        pub instance: &'a str,
        /// The instance's transactional id.
        pub transactional_id: &'a str,
    }

    /// The transactional id of a dead owner could not be registered. Recovery waits for the timeout of the transaction.
    #[event(WARN, "dead_owner_not_fenced", "the open transaction of a dead owner could not be ended")]
    #[action("none if it passes; if `cause` is a missing permission: allow Write on the transactional ids of the group's instances")]
    pub struct DeadOwnerNotFenced<'a> {
        /// The partition.
        pub partition: i32,
        /// Name of the instance.
        pub instance: &'a str,
        /// The instance's transactional id.
        pub transactional_id: &'a str,
        /// Error of the brokers or the client.
        pub cause: &'a str,
    }

    /// A recovery reads slowly or not at all, and no open transaction is the cause: the brokers delay their responses,
    /// or send none. It goes on while any response arrives. Without one, the process ends after
    /// `health.stall_timeout_ms`.
    #[event(WARN, "recovery_slow", "recovery waits for the brokers")]
    #[action("if `throttled_ms` is above 0, raise the quota of this client (`consumer_byte_rate`). If `silent_ms` grows, look at the partition's leader and the network to it")]
    pub struct RecoverySlow<'a> {
        /// The partition.
        pub partition: i32,
        /// The topic that is read.
        pub topic: &'a str,
        /// Current position.
        pub position: i64,
        /// Position at which the read ends.
        pub until: i64,
        /// Time since the last record.
        pub waited_ms: u64,
        /// Time since the broker sent anything, without a delay that it announced.
        pub silent_ms: u64,
        /// The longest delay of responses that the broker announced since the last record, because of a quota; 0 if
        /// none.
        pub throttled_ms: u64,
    }

    /// Progress of a recovery, in offsets. A compacted topic has fewer records than offsets.
    #[event(INFO, "recovery_progress", "recovery continues")]
    #[action("none")]
    pub struct RecoveryProgress {
        /// The partition.
        pub partition: i32,
        /// What is being read.
        pub phase: RecoveryPhase,
        /// Current position.
        pub position: i64,
        /// Position at which the phase ends.
        pub until: i64,
        /// Progress of the phase, in percent.
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
        /// The ownership epoch.
        pub epoch: u64,
        /// How long it took.
        pub took_ms: u64,
        /// Entities that exist.
        pub entities: u64,
        /// Bytes of their snapshots.
        pub state_bytes: u64,
        /// Committed position of the group; absent if there is none.
        pub committed: Option<i64>,
        /// Position at which processing starts.
        pub start: i64,
        /// Events that verification read.
        pub verified: u64,
        /// Of these, events that the state or the DLQ already contained.
        pub skipped: u64,
    }

    /// A recovery failed and starts again.
    #[event(WARN, "recovery_failed", "recovery failed and starts again")]
    #[action("none if it passes; else look at the brokers, `error` is their response")]
    pub struct RecoveryFailed<'a> {
        /// The partition.
        pub partition: i32,
        /// What failed.
        pub error: &'a str,
        /// Number of attempts.
        pub attempt: u64,
    }

    /// Verification found lost writes: the events between `from` and `until` lead to other entities or other DLQ
    /// records than the topics contain. The missing records have been published.
    #[event(ERROR, "lost_write_repaired", "a lost write was repaired")]
    #[action("none for the data. Readers of the state have seen older values since the loss; find out what happened to the brokers")]
    pub struct LostWriteRepaired {
        /// The partition.
        pub partition: i32,
        /// Entities that were published again.
        pub entities: u64,
        /// Events applied to them.
        pub events: u64,
        /// DLQ records that were published.
        pub rejections: u64,
        /// First position of the verified range.
        pub from: i64,
        /// End of the verified range, exclusive.
        pub until: i64,
    }

    /// Recovery trusts the topics for this range of offsets without reading it again.
    #[event(WARN, "verification_skipped", "a range of the input was not verified")]
    #[action("raise `recovery.verify_max_records` if a lost write must be excluded")]
    pub struct VerificationSkipped {
        /// The partition.
        pub partition: i32,
        /// Why the range was not verified.
        pub cause: VerificationSkipCause,
        /// First position of the range.
        pub from: i64,
        /// End of the range, exclusive.
        pub until: i64,
        /// Length of the range in offsets.
        pub records: u64,
    }

    /// Verification is switched off (`recovery.verify_max_records = 0`), and the committed position is beyond the
    /// events that the state contains. The events in between are passed over. This is how an operator skips events on
    /// purpose.
    #[event(WARN, "events_passed_over", "events are passed over")]
    #[action("if the offsets were not moved on purpose: set `recovery.verify_max_records` above 0 and start again")]
    pub struct EventsPassedOver {
        /// The partition.
        pub partition: i32,
        /// First position that is passed over.
        pub from: i64,
        /// End of the range, exclusive.
        pub until: i64,
    }

    /// Events were read again that the state already contains, and were skipped.
    #[event(INFO, "events_skipped", "events were skipped that the state contains")]
    #[action("none")]
    pub struct EventsSkipped {
        /// The partition.
        pub partition: i32,
        /// Number of events.
        pub count: u64,
    }

    /// The group has no committed position although there is state. Processing continues after the newest event that
    /// the state contains.
    #[event(WARN, "committed_offset_missing", "there is state but no committed offset")]
    #[action("none if the offsets were deleted on purpose; else raise `offsets.retention.minutes` of the brokers")]
    pub struct CommittedOffsetMissing {
        /// The partition.
        pub partition: i32,
        /// The position that is used as the committed one.
        pub assumed: i64,
    }

    /// The committed position is beyond the end of the input. The end of the input is used instead.
    #[event(WARN, "committed_offset_beyond_end", "the committed offset is beyond the end")]
    #[action("find out whether the input lost records: an unclean leader election, or a restored cluster")]
    pub struct CommittedOffsetBeyondEnd {
        /// The partition.
        pub partition: i32,
        /// The committed position.
        pub committed: i64,
        /// The end of the input.
        pub end: i64,
    }

    /// Retention deleted events before they were processed. They are lost to this group. If another program committed a
    /// position beyond them, the range begins after the newest event that the state and the DLQ contain. Processing
    /// continues at the start of the log, or the process ends if `recovery.on_expired = "stop"`.
    #[event(ERROR, "events_expired", "events expired unread")]
    #[action("have the producers send the missing events again; lengthen the input's retention or add capacity")]
    pub struct EventsExpired {
        /// The partition.
        pub partition: i32,
        /// First expired offset.
        pub first: i64,
        /// Last expired offset.
        pub last: i64,
        /// Number of expired offsets.
        pub count: u64,
    }

    /// A record in the DLQ topic does not carry steward's headers. It is ignored.
    #[event(WARN, "dlq_record_unreadable", "a DLQ record does not carry the headers")]
    #[action("find out which other program writes to the DLQ topic")]
    pub struct DlqRecordUnreadable {
        /// The partition.
        pub partition: i32,
        /// Offset of the last such record in the DLQ topic.
        pub offset: i64,
        /// Number of such records in this recovery.
        pub count: u64,
    }

    /// Other groups write to the same DLQ topic. Their records are ignored.
    #[event(INFO, "dlq_records_of_other_groups", "the DLQ topic has records of other groups")]
    #[action("none; a DLQ topic of its own for each group keeps recoveries short")]
    pub struct DlqRecordsOfOtherGroups<'a> {
        /// The partition.
        pub partition: i32,
        /// The group of one of them.
        pub other_group: &'a str,
        /// Number of such records that this recovery read.
        pub count: u64,
    }

    /// The snapshots of another group were adopted, because `recovery.adopt_group` is set.
    #[event(WARN, "group_adopted", "snapshots of another group were taken over")]
    #[action("make sure that the other group has stopped: two groups on one state topic do not fence each other; keep `recovery.adopt_group` until each of its snapshots has been replaced")]
    pub struct GroupAdopted<'a> {
        /// The partition.
        pub partition: i32,
        /// The group that wrote the snapshots.
        pub from_group: &'a str,
    }
}
