//! Owns the life cycle of the owned partitions: assigned, recovering, serving, revoking.
//!
//! Each change goes through the partition's [`PartitionLifecycle`] and into the status, the stats and the log. `handle`
//! returns the [`PartitionAction`] to the ingest actor; `invalidate`, `revoking` and `ended` apply it here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::engine::commit::InvalidationCause;
use crate::engine::ownership::Ownership;
use crate::engine::partition::{PartitionAction, PartitionEvent, PartitionLifecycle, PartitionState};
use crate::engine::recovery::Recovered;
use crate::observability::log_events::{
    EventsExpired, LogEvent, PartitionInvalidated, PartitionsAssigned, PartitionsLost, PartitionsRevoked,
    RecoveryFailed, RecoveryStarted, millis, ranges,
};
use crate::record::{Epoch, Partition, Position};
use crate::runtime::Shared;
use crate::runtime::ingest::fan_out::FanOutState;
use crate::runtime::ingest::report;

struct OwnedPartition {
    lifecycle: PartitionLifecycle,
    fan_out: FanOutState,
    failed_recoveries: u64,
    recovery_started: Instant,
}

pub(super) struct OwnedPartitions {
    owned: BTreeMap<Partition, OwnedPartition>,
    ownership: Arc<Ownership>,
    shared: Shared,
    /// When the current revocation began.
    revocation_started: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnershipEnd {
    Revoked,
    Lost,
}

impl OwnedPartitions {
    pub(super) fn new(ownership: Arc<Ownership>, shared: Shared) -> OwnedPartitions {
        OwnedPartitions { owned: BTreeMap::new(), ownership, shared, revocation_started: None }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Partition> {
        self.owned.keys().copied()
    }

    pub(super) fn fan_out_mut(&mut self, partition: Partition) -> Option<&mut FanOutState> {
        self.owned.get_mut(&partition).map(|owned| &mut owned.fan_out)
    }

    /// Applies an event to a partition's life cycle. An event of a partition that is not owned is ignored.
    pub(super) fn handle(&mut self, partition: Partition, epoch: Epoch, event: PartitionEvent) -> PartitionAction {
        let Some(owned) = self.owned.get_mut(&partition) else { return PartitionAction::Ignore };
        let action = owned.lifecycle.handle(event, epoch);
        self.update_status(partition);
        action
    }

    fn update_status(&self, partition: Partition) {
        let state = self.owned.get(&partition).map(|owned| owned.lifecycle.state());
        self.shared.status.set_state(partition, state, self.shared.clock.now());
    }

    pub(super) fn assign(&mut self, partitions: &[(Partition, Epoch)]) {
        let now = self.shared.clock.now();
        self.shared.status.assigned(now);
        for &(partition, epoch) in partitions {
            let owned = OwnedPartition {
                lifecycle: PartitionLifecycle::assigned(epoch),
                fan_out: FanOutState::default(),
                failed_recoveries: 0,
                recovery_started: now,
            };
            self.shared.stats.own_partition(partition.0);
            self.owned.insert(partition, owned);
            self.update_status(partition);
        }
        PartitionsAssigned {
            partitions: &list(partitions),
            count: partitions.len() as u64,
            owned: self.owned.len() as u64,
        }
        .emit();
    }

    pub(super) fn recovery_starts(&mut self, partition: Partition, epoch: Epoch) {
        RecoveryStarted { partition: partition.0, epoch: epoch.0 }.emit();
        if let Some(owned) = self.owned.get_mut(&partition) {
            owned.recovery_started = self.shared.clock.now();
        }
    }

    pub(super) fn is_recovering(&self, partition: Partition, epoch: Epoch) -> bool {
        self.owned.get(&partition).is_some_and(|owned| {
            owned.lifecycle.epoch() == epoch && owned.lifecycle.state() == PartitionState::Recovering
        })
    }

    pub(super) fn recovery_failed(&mut self, partition: Partition, error: &str) {
        let Some(owned) = self.owned.get_mut(&partition) else { return };
        owned.failed_recoveries += 1;
        RecoveryFailed { partition: partition.0, error, attempt: owned.failed_recoveries }.emit();
    }

    /// Logs the finished recovery, resets the failure count, and moves the offsets that are already in the DLQ to the
    /// fan-out.
    pub(super) fn start_serving(&mut self, recovered: &mut Recovered) {
        let Some(owned) = self.owned.get_mut(&recovered.partition) else { return };
        let took = self.shared.clock.now().saturating_duration_since(owned.recovery_started);
        report::recovered(recovered, took);
        owned.fan_out.in_dlq = std::mem::take(&mut recovered.rejected);
        owned.failed_recoveries = 0;
    }

    /// Ends `old` and mints a new epoch, under which the partition has to recover. `None`: there is nothing to do,
    /// because `old` is not current or the partition is being revoked.
    pub(super) fn invalidate(&mut self, partition: Partition, old: Epoch, cause: InvalidationCause) -> Option<Epoch> {
        match self.handle(partition, old, PartitionEvent::Invalidated) {
            PartitionAction::Recover => {}
            PartitionAction::Serve
            | PartitionAction::Route
            | PartitionAction::Drain
            | PartitionAction::Release
            | PartitionAction::Ignore => return None,
        }
        let cause = match cause {
            InvalidationCause::UnknownCommit => "it is unknown which work was committed",
            InvalidationCause::BatchTooLarge => "a batch timed out, and is read again in smaller ones",
        };
        PartitionInvalidated { partition: partition.0, cause }.emit();
        // If the group has ended the epoch, its event is in the mailbox.
        let epoch = self.ownership.invalidate(partition, old)?;
        if let Some(owned) = self.owned.get_mut(&partition) {
            owned.lifecycle.continue_under(epoch);
        }
        Some(epoch)
    }

    /// Returns the partitions whose work has to be committed before they are given up.
    pub(super) fn revoking(&mut self, partitions: Vec<(Partition, Epoch)>) -> Vec<(Partition, Epoch)> {
        self.revocation_started = Some(self.shared.clock.now());
        let draining = partitions.into_iter().filter(|(partition, epoch)| {
            match self.handle(*partition, *epoch, PartitionEvent::Revoking) {
                PartitionAction::Drain => true,
                PartitionAction::Recover
                | PartitionAction::Serve
                | PartitionAction::Route
                | PartitionAction::Release
                | PartitionAction::Ignore => false,
            }
        });
        draining.collect()
    }

    /// Forgets partitions. Returns those that were owned, under their current epochs.
    pub(super) fn ended(&mut self, partitions: &[(Partition, Epoch)], how: OwnershipEnd) -> Vec<(Partition, Epoch)> {
        let event = match how {
            OwnershipEnd::Revoked => PartitionEvent::Revoked,
            OwnershipEnd::Lost => PartitionEvent::Lost,
        };
        let mut released = Vec::new();
        for &(partition, _) in partitions {
            // Ownership is of the partition: an epoch that was invalidated in the meantime ends with it.
            let Some(epoch) = self.owned.get(&partition).map(|owned| owned.lifecycle.epoch()) else { continue };
            match self.handle(partition, epoch, event) {
                PartitionAction::Release => {}
                PartitionAction::Recover
                | PartitionAction::Serve
                | PartitionAction::Route
                | PartitionAction::Drain
                | PartitionAction::Ignore => continue,
            }
            self.owned.remove(&partition);
            self.shared.stats.drop_partition(partition.0);
            self.update_status(partition);
            released.push((partition, epoch));
        }
        self.log_end(partitions, how);
        released
    }

    fn log_end(&mut self, partitions: &[(Partition, Epoch)], how: OwnershipEnd) {
        let now = self.shared.clock.now();
        let drain_ms = self.revocation_started.take().map_or(0, |at| millis(now.saturating_duration_since(at)));
        let (count, owned) = (partitions.len() as u64, self.owned.len() as u64);
        let partitions = &list(partitions);
        match how {
            OwnershipEnd::Revoked => PartitionsRevoked { partitions, count, owned, drain_ms }.emit(),
            OwnershipEnd::Lost => {
                // The process is not in the group until the next assignment.
                self.shared.status.left_group();
                PartitionsLost { partitions, count, owned }.emit();
            }
        }
    }

    /// Logs events that expired unread. Returns whether `epoch` is current; the others are of no interest.
    pub(super) fn expired(&self, partition: Partition, epoch: Epoch, first: Position, until: Position) -> bool {
        let is_current = self.owned.get(&partition).is_some_and(|owned| owned.lifecycle.epoch() == epoch);
        if is_current {
            let (last, count) = (until.0 - 1, until.distance_from(first));
            EventsExpired { partition: partition.0, first: first.0, last, count }.emit();
        }
        is_current
    }
}

/// `0-3,7` for the partitions 0, 1, 2, 3 and 7.
fn list(partitions: &[(Partition, Epoch)]) -> String {
    ranges(partitions.iter().map(|(partition, _)| partition.0))
}
