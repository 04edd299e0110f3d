//! One partition, from assigned to gone.
//!
//! ```text
//!             assigned              recovered               revoked              gone
//!   (absent) ----------> Recovering ----------> Serving ----------> Revoking ----------> (absent)
//!                         |  ^   ^                 |                   |
//!                         |  |   +---- invalidated --+                   |
//!                         |  +-------- recovery failed                 |
//!                         +--------------- lost, from any stage -------+-----------------> (absent)
//! ```
//! Every pair of stage and happening is written out: rebalances that follow each other quickly, a partition that
//! leaves before it has recovered, one that comes straight back are ordinary cases. What is late is told by its epoch.

use crate::record::Epoch;

/// Where a partition stands. A partition without a [`PartitionLifecycle`] is not owned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionState {
    /// Its state is being read and verified.
    Recovering,
    /// Its events are processed.
    Serving,
    /// It is about to go; what is applied is being committed.
    Revoking,
}

/// What can happen to an owned partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionEvent {
    /// Recovery has ended well.
    Recovered,
    /// Recovery has failed in a way that trying again may mend.
    RecoveryFailed,
    /// Records, or a position, were read.
    BatchRead,
    /// The group takes the partition away cleanly.
    Revoking,
    /// The group has taken it away cleanly.
    Revoked,
    /// Ownership was over before anybody said so.
    Lost,
    /// What was done under the epoch can no longer be told from what was committed: begin again, under a new epoch.
    Invalidated,
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionAction {
    /// Read the state, then verify it.
    Recover,
    /// Take the entities over and start reading events.
    Serve,
    /// Hand the records to their entities.
    Route,
    /// Commit what is applied, drop what is only read.
    Drain,
    /// Forget the entities and all work of the epoch.
    Release,
    /// Drop it: it belongs to what is over.
    Ignore,
}

/// One owned partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionLifecycle {
    stage: PartitionState,
    epoch: Epoch,
}

impl PartitionLifecycle {
    /// The partition was assigned; [`PartitionAction::Recover`] is due.
    #[must_use]
    pub fn assigned(epoch: Epoch) -> PartitionLifecycle {
        PartitionLifecycle { stage: PartitionState::Recovering, epoch }
    }

    /// Where it stands.
    #[must_use]
    pub fn stage(&self) -> PartitionState {
        self.stage
    }

    /// The present ownership.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What happened under `epoch`. Of an older epoch nothing matters any more.
    pub fn handle(&mut self, happening: PartitionEvent, epoch: Epoch) -> PartitionAction {
        if epoch != self.epoch {
            return PartitionAction::Ignore;
        }
        match (self.stage, happening) {
            (PartitionState::Recovering, PartitionEvent::Recovered) => {
                self.stage = PartitionState::Serving;
                PartitionAction::Serve
            }
            (PartitionState::Recovering, PartitionEvent::RecoveryFailed) => PartitionAction::Recover,
            // Nothing is read of a partition before it serves: the source answers to a command of a former epoch.
            (PartitionState::Recovering, PartitionEvent::BatchRead) => PartitionAction::Ignore,
            (PartitionState::Serving, PartitionEvent::BatchRead) => PartitionAction::Route,
            (PartitionState::Recovering | PartitionState::Serving, PartitionEvent::Revoking) => {
                self.stage = PartitionState::Revoking;
                PartitionAction::Drain
            }
            // Its next owner reads it again.
            (
                PartitionState::Revoking,
                PartitionEvent::Recovered | PartitionEvent::RecoveryFailed | PartitionEvent::BatchRead,
            ) => PartitionAction::Ignore,
            (
                PartitionState::Recovering | PartitionState::Serving | PartitionState::Revoking,
                PartitionEvent::Revoked | PartitionEvent::Lost,
            ) => PartitionAction::Release,
            // The caller minted a new epoch and tells it by `renew`; a partition that goes anyway need not recover.
            (PartitionState::Serving | PartitionState::Recovering, PartitionEvent::Invalidated) => {
                self.stage = PartitionState::Recovering;
                PartitionAction::Recover
            }
            (PartitionState::Revoking, PartitionEvent::Invalidated) => PartitionAction::Ignore,
            // Said twice, or of a partition that serves: nothing left to do.
            (PartitionState::Serving, PartitionEvent::Recovered | PartitionEvent::RecoveryFailed)
            | (PartitionState::Revoking, PartitionEvent::Revoking) => PartitionAction::Ignore,
        }
    }

    /// The same ownership under a new epoch, after [`PartitionEvent::Invalidated`].
    pub fn renew(&mut self, epoch: Epoch) {
        assert!(epoch > self.epoch, "ownership only rise: {:?} then {epoch:?}", self.epoch);
        self.epoch = epoch;
    }
}
