//! The end of a run: without faults, everything has to be committed within a bounded time.

use super::*;

/// Longer than a session, a transaction and the longest wait before another attempt together.
const CALM_LIMIT: Duration = Duration::from_secs(60);

impl World {
    /// Runs without faults until everything is committed.
    pub(super) async fn calm(&mut self) {
        if let Err(stuck) = self.settles().await {
            panic!("{stuck}\n{}", self.steps.iter().rev().take(40).rev().cloned().collect::<Vec<_>>().join("\n"));
        }
    }

    /// As [`World::calm`].
    ///
    /// # Errors
    /// What is stuck at the deadline.
    pub(super) async fn settles(&mut self) -> Result<(), String> {
        self.note("the faults end");
        self.pods.iter_mut().for_each(|pod| pod.frozen_until = Duration::ZERO);
        self.kafka.end_faults();
        self.register_dead_owners();
        if self.kafka.is_torn() {
            // A lost write is found by the next recovery.
            (0..self.pods.len()).for_each(|pod| self.restart(pod));
        }
        let deadline = self.time() + CALM_LIMIT;
        let mut was_settled = false;
        while self.time() < deadline {
            self.serve_group();
            self.assign_unowned();
            let mut is_busy = false;
            for pod in 0..self.pods.len() {
                self.learn_removal(pod);
                self.pods[pod].memory.learn_generation();
                is_busy |= self.run_recovery(pod);
                settle().await;
                is_busy |= self.pods[pod].memory.end_pending(InjectedOutcome::Commits);
                for partition in self.pods[pod].memory.started() {
                    is_busy |= self.pods[pod].memory.poll(partition, 50) > 0;
                }
                settle().await;
            }
            let is_settled = self.is_committed() && self.kafka.open_transactions().is_empty() && !self.kafka.is_torn();
            if !is_busy && is_settled && was_settled {
                return Ok(());
            }
            // A repair may still wait for the end of a linger.
            was_settled = !is_busy && is_settled;
            if !is_busy {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Err(format!("stuck {CALM_LIMIT:?} after the last fault: {}", self.stuck()))
    }

    pub(super) fn is_committed(&self) -> bool {
        self.partitions().all(|partition| {
            let end = self.kafka.bounds(Topic::Input, partition).high;
            match self.kafka.committed(partition) {
                None => end == Position(0),
                // A position of the operator has no metadata. The next owner commits it again.
                Some(committed) => committed.position >= end && !committed.metadata.is_empty(),
            }
        })
    }

    fn stuck(&self) -> String {
        let mut stuck = format!("open transactions {:?}", self.kafka.open_transactions());
        for partition in self.partitions() {
            let (end, owner) = (self.kafka.bounds(Topic::Input, partition).high, self.kafka.owner(partition));
            let committed = self.kafka.committed(partition).map(|committed| committed.position);
            stuck += &format!("\npartition {partition}: {committed:?} of {end:?}, owner {owner:?}");
        }
        for (index, pod) in self.pods.iter().enumerate() {
            stuck += &format!("\npod {index} {:?}: {}", pod.memory.id(), pod.memory.describe());
        }
        stuck
    }
}
