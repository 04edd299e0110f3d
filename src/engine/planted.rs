//! Defects that a test plants, to prove that the simulation finds each of them.
//!
//! A planted defect is one condition in the code that it breaks: `if planted(Planted::…)`. Builds without debug assertions
//! have none of them: there the condition is the constant `false`. In a debug build only code can plant one, on its own
//! thread; no configuration, variable or message does.

use std::cell::Cell;

/// A defect of one line. `tests/it/simulation/planted.rs` says how each one is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// The offsets are sent without comparing the epochs.
    EpochsAreNotCompared,
    /// The epochs are compared before the group's metadata is taken.
    EpochsAreComparedTooEarly,
    /// A member that has lost its membership sends offsets without a generation.
    OffsetsWithoutMembership,
    /// After a transaction in doubt, the producer is used again.
    ProducerInDoubtIsReused,
    /// The committed positions are fetched before the new producer has registered.
    PositionsAreFetchedTooEarly,
    /// The coordinator accepts the end of a transaction from an older producer.
    LateEndIsAccepted,
    /// A transaction in doubt counts as aborted.
    DoubtCountsAsAborted,
    /// A transaction in doubt counts as committed.
    DoubtCountsAsCommitted,
    /// A transaction in doubt that was committed is sent again.
    CommittedIsSentAgain,
    /// The position alone decides whether a transaction in doubt was committed, without the metadata.
    MetadataIsNotCompared,
    /// Aborted content is dropped.
    AbortedIsDropped,
    /// The wait before the next attempt has no deadline.
    RetryHasNoDeadline,
    /// The offset of the last record is committed, not the position after it.
    LastRecordInsteadOfPosition,
    /// A batch is committed before all of its records have an outcome.
    CommittedBeforeOutcomes,
    /// A revocation drops the applied work of the partitions that stay.
    RevocationDropsKeptWork,
    /// The oldest record of a key is written, not the newest.
    OldestRecordOfKey,
    /// The result of a recovery counts under the next epoch too.
    OldRecoveryIsAccepted,
    /// Processing starts at the committed position, whatever the topics contain.
    StartsAtCommitted,
    /// The newest DLQ record does not move the start.
    DlqIsIgnored,
    /// The verification begins at the committed position.
    VerifiesFromCommitted,
    /// The state is published before the range is verified to its end.
    RepairsTooEarly,
    /// Events that a snapshot contains are verified again.
    ContainedIsVerifiedAgain,
}

impl Planted {
    pub const ALL: [Planted; 22] = [
        Planted::EpochsAreNotCompared,
        Planted::EpochsAreComparedTooEarly,
        Planted::OffsetsWithoutMembership,
        Planted::ProducerInDoubtIsReused,
        Planted::PositionsAreFetchedTooEarly,
        Planted::LateEndIsAccepted,
        Planted::DoubtCountsAsAborted,
        Planted::DoubtCountsAsCommitted,
        Planted::CommittedIsSentAgain,
        Planted::MetadataIsNotCompared,
        Planted::AbortedIsDropped,
        Planted::RetryHasNoDeadline,
        Planted::LastRecordInsteadOfPosition,
        Planted::CommittedBeforeOutcomes,
        Planted::RevocationDropsKeptWork,
        Planted::OldestRecordOfKey,
        Planted::OldRecoveryIsAccepted,
        Planted::StartsAtCommitted,
        Planted::DlqIsIgnored,
        Planted::VerifiesFromCommitted,
        Planted::RepairsTooEarly,
        Planted::ContainedIsVerifiedAgain,
    ];
}

thread_local! {
    static PLANTED: Cell<Option<Planted>> = const { Cell::new(None) };
}

/// Returns whether this defect is planted on this thread. In a release build it never is.
#[inline]
pub fn planted(defect: Planted) -> bool {
    cfg!(debug_assertions) && PLANTED.get() == Some(defect)
}

/// Plants a defect on this thread, for as long as `call` runs.
pub fn plant<T>(defect: Planted, call: impl FnOnce() -> T) -> T {
    struct Removal;
    impl Drop for Removal {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }
    PLANTED.set(Some(defect));
    let _removal = Removal;
    call()
}
