//! The life cycle of one partition, from assigned to revoked or lost.
//!
//! ```text
//!             assigned              recovered               revoking             revoked
//!   (absent) ----------> Recovering ----------> Serving ----------> Revoking ----------> (absent)
//!                         |  ^   ^                 |                   |
//!                         |  |   +-- invalidated --+                   |
//!                         |  +------ recovery failed                   |
//!                         +--------------- lost, in any state ---------+-----------------> (absent)
//! ```
//! Every pair of state and event is written out. Rebalances in quick succession, a partition that leaves before it has
//! recovered, and one that comes back at once are ordinary cases. An event of an older epoch is ignored.

use crate::engine::planted::{Planted, planted};
use crate::record::Epoch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionState {
    Recovering,
    Serving,
    /// The group is taking it away; applied events are being committed.
    Revoking,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionEvent {
    Recovered,
    /// Recovery has failed, and another attempt may succeed.
    RecoveryFailed,
    /// Records, or a position alone, were read.
    BatchRead,
    Revoking,
    Revoked,
    /// Ownership ended without a drain.
    Lost,
    /// It is unknown what was committed under the epoch: recover under a new one.
    Invalidated,
}

/// What the caller has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionAction {
    /// Start a recovery. After a failed one, decide by the cause: retry, stop, or wait for the end of the epoch.
    Recover,
    /// Take over the entities, and start reading events.
    Serve,
    /// Hand the records to their entities.
    Route,
    /// Commit applied events, and drop those that are only read.
    Drain,
    /// Drop the entities and all work of the epoch.
    Release,
    Ignore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionLifecycle {
    state: PartitionState,
    epoch: Epoch,
}

impl PartitionLifecycle {
    /// A partition that was assigned just now; [`PartitionAction::Recover`] is due.
    pub fn assigned(epoch: Epoch) -> PartitionLifecycle {
        PartitionLifecycle { state: PartitionState::Recovering, epoch }
    }

    pub fn state(&self) -> PartitionState {
        self.state
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub fn handle(&mut self, event: PartitionEvent, epoch: Epoch) -> PartitionAction {
        let is_accepted = planted(Planted::OldRecoveryIsAccepted) && event == PartitionEvent::Recovered;
        if epoch != self.epoch && !is_accepted {
            return PartitionAction::Ignore;
        }
        match (self.state, event) {
            (PartitionState::Recovering, PartitionEvent::Recovered) => {
                self.state = PartitionState::Serving;
                PartitionAction::Serve
            }
            (PartitionState::Recovering, PartitionEvent::RecoveryFailed) => PartitionAction::Recover,
            // No partition is read before it serves: the batch follows from a command of an older epoch.
            (PartitionState::Recovering, PartitionEvent::BatchRead) => PartitionAction::Ignore,
            (PartitionState::Serving, PartitionEvent::BatchRead) => PartitionAction::Route,
            (PartitionState::Recovering | PartitionState::Serving, PartitionEvent::Revoking) => {
                self.state = PartitionState::Revoking;
                PartitionAction::Drain
            }
            // The next owner reads the records again.
            (
                PartitionState::Revoking,
                PartitionEvent::Recovered | PartitionEvent::RecoveryFailed | PartitionEvent::BatchRead,
            ) => PartitionAction::Ignore,
            (
                PartitionState::Recovering | PartitionState::Serving | PartitionState::Revoking,
                PartitionEvent::Revoked | PartitionEvent::Lost,
            ) => PartitionAction::Release,
            // The caller mints a new epoch next, and passes it to `continue_under`. A revoking partition need not
            // recover.
            (PartitionState::Serving | PartitionState::Recovering, PartitionEvent::Invalidated) => {
                self.state = PartitionState::Recovering;
                PartitionAction::Recover
            }
            (PartitionState::Revoking, PartitionEvent::Invalidated) => PartitionAction::Ignore,
            // A repeated event, or one that is too late.
            (PartitionState::Serving, PartitionEvent::Recovered | PartitionEvent::RecoveryFailed)
            | (PartitionState::Revoking, PartitionEvent::Revoking) => PartitionAction::Ignore,
        }
    }

    /// Continues the assignment under a new epoch, after [`PartitionEvent::Invalidated`].
    pub fn continue_under(&mut self, epoch: Epoch) {
        assert!(epoch > self.epoch, "epochs only rise: {:?} then {epoch:?}", self.epoch);
        self.epoch = epoch;
    }
}
