//! How the thread ends: cleanly, or in any other way. The letters are those of the parent.

use std::time::Instant;

use rdkafka::consumer::Consumer;

use crate::kafka::consumer::poll_phase::PollPhase;
use crate::kafka::consumer::poll_thread::{LeaveStep, PollThread, RunState};
use crate::kafka::consumer::rebalance::{Ending, GroupNotice, end_epochs, partitions_of};
use crate::record::Partition;

/// Of the time that leaving may take, how much the drain may have; the rest is for telling the group.
const DRAIN_SHARE: f64 = 0.8;

impl PollThread {
    pub(super) fn begin_leaving(&mut self) {
        if matches!(self.course, RunState::Leaving { .. } | RunState::Ended) {
            return;
        }
        let since = self.clock.now();
        let deadline = since + self.bounds.leave_limit.mul_f64(DRAIN_SHARE);
        let partitions: Vec<Partition> = self.owned.keys().copied().collect();
        self.stop_reading(&partitions);
        let revoked = self.revocation.as_ref().map(|revocation| partitions_of(&revocation.list)).unwrap_or_default();
        let others: Vec<Partition> = partitions.into_iter().filter(|partition| !revoked.contains(partition)).collect();
        let drain = self.announce_revocation(&others, deadline);
        self.course = RunState::Leaving { since, step: LeaveStep::Draining { deadline, drain } };
    }

    pub(super) fn go_on_leaving(&mut self) {
        let RunState::Leaving { since, step } = &self.course else { return };
        let now = self.clock.now();
        let over = now >= *since + self.bounds.leave_limit;
        match step {
            LeaveStep::Draining { deadline, drain } => {
                // A revocation of the group's that is under way has a drain of its own, and a nearer deadline.
                if now >= *deadline || (drain.is_finished() && self.revocation.is_none()) {
                    self.close(*since);
                }
            }
            LeaveStep::Closing if self.outbox.is_empty() && self.consumer.closed() => self.course = RunState::Ended,
            LeaveStep::Closing => {}
        }
        if over {
            self.course = RunState::Ended;
        }
    }

    /// Gives everything up and tells the group. What the group answers is served until the client is closed.
    fn close(&mut self, since: Instant) {
        self.close_revocation(Ending::Revoked);
        let partitions: Vec<Partition> = self.owned.keys().copied().collect();
        self.end_ownership(&partitions, Ending::Revoked);
        self.course = RunState::Leaving { since, step: LeaveStep::Closing };
        if self.consumer.close_queue().is_err() {
            // The client has failed for good, and the group learns of it by silence.
            self.outbox.offer(&mut *self.sink);
            self.course = RunState::Ended;
        }
    }
}

impl Drop for PollThread {
    /// However the thread ends: nothing it owned may be committed afterwards, and the client must be able to go down.
    fn drop(&mut self) {
        self.consumer.context().leave_unattended();
        let partitions: Vec<Partition> = self.owned.keys().copied().collect();
        end_epochs(&self.ownership, &partitions);
        let unanswered = self.revocation.take().map(|revocation| GroupNotice::Revoke(revocation.list));
        let mut next = unanswered.or_else(|| self.consumer.context().next_notice());
        while let Some(notice) = next {
            self.consumer.context().answer_unattended(&self.consumer, notice);
            next = self.consumer.context().next_notice();
        }
        self.phase.record_turn(PollPhase::Ended, self.clock.now());
    }
}
