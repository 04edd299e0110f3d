//! The ways in which the thread ends: cleanly, or by a panic. Facts a), b) and so on are those of the parent module.

use std::sync::Arc;
use std::time::Instant;

use rdkafka::consumer::Consumer;

use crate::kafka::consumer::poll_phase::PollPhase;
use crate::kafka::consumer::poll_thread::{PollThread, RunState};
use crate::kafka::consumer::rebalance::{RebalanceEvent, RevocationEnd, end_epochs, partitions_of};
use crate::record::Partition;

/// The part of the time limit for leaving that the drain may use. The rest is for the group's leave protocol.
const DRAIN_SHARE: f64 = 0.8;

impl PollThread {
    pub(super) fn begin_leaving(&mut self) {
        if !matches!(self.state, RunState::Running | RunState::Failed) {
            return;
        }
        let now = self.parts.clock.now();
        let deadline = now + self.leave_limit.mul_f64(DRAIN_SHARE);
        let partitions: Vec<Partition> = self.assigned.keys().copied().collect();
        self.stop_reading(&partitions);
        let revoking = self.revocation.as_ref().map(|revocation| partitions_of(&revocation.list)).unwrap_or_default();
        let others: Vec<Partition> = partitions.into_iter().filter(|partition| !revoking.contains(partition)).collect();
        let drain = self.announce_revocation(&others, deadline);
        self.state = RunState::Draining { end_by: now + self.leave_limit, deadline, drain };
    }

    pub(super) fn continue_leaving(&mut self) {
        let now = self.parts.clock.now();
        match &self.state {
            RunState::Running | RunState::Failed | RunState::Ended => {}
            RunState::Draining { end_by, deadline, drain } => {
                let end_by = *end_by;
                // A revocation by the group that is in progress has a drain of its own, and a nearer deadline.
                if now >= *deadline || (drain.is_finished() && self.revocation.is_none()) {
                    self.close(end_by);
                }
                if now >= end_by {
                    self.state = RunState::Ended;
                }
            }
            RunState::Closing { end_by } => {
                if now >= *end_by || (self.outbox.is_empty() && self.consumer.closed()) {
                    self.state = RunState::Ended;
                }
            }
        }
    }

    /// Gives all partitions up and leaves the group. The group's responses are served until the client is closed.
    fn close(&mut self, end_by: Instant) {
        self.close_revocation(RevocationEnd::Revoked);
        let partitions: Vec<Partition> = self.assigned.keys().copied().collect();
        self.end_ownership(&partitions, RevocationEnd::Revoked);
        self.state = RunState::Closing { end_by };
        if self.consumer.close_queue().is_err() {
            // The client has failed permanently. The group notices it when the session times out.
            self.outbox.offer(&mut *self.sink);
            self.state = RunState::Ended;
        }
    }
}

impl PollThread {
    /// The thread polls the client no more. Until it is closed, its callback answers the group.
    pub(super) fn release_client(&mut self) {
        let consumer = Arc::clone(&self.consumer);
        let context = consumer.context();
        context.end_polling();
        let unanswered = self.revocation.take().map(|revocation| RebalanceEvent::Revoke(revocation.list));
        let mut next = unanswered.or_else(|| context.next_event());
        while let Some(event) = next {
            context.answer(&consumer, event);
            next = context.next_event();
        }
    }
}

impl Drop for PollThread {
    /// After any end, none of the thread's partitions may be committed, and the client must be able to close.
    fn drop(&mut self) {
        let partitions: Vec<Partition> = self.assigned.keys().copied().collect();
        end_epochs(&self.parts.ownership, &partitions);
        self.release_client();
        self.phase.record_turn(PollPhase::Ended, self.parts.clock.now());
    }
}
