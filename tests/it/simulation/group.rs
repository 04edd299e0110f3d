//! The group in a simulated run: sessions, rebalances, and pods that do not know yet what the group has decided.

use super::*;

impl World {
    /// The brokers' part of a step: time passes, and running pods send heartbeats.
    pub(super) fn serve_group(&mut self) {
        self.kafka.set_time(self.time());
        self.kafka.time_out_transactions(self.scenario.transaction_timeout);
        for pod in 0..self.pods.len() {
            if !self.is_frozen(pod) {
                self.send_heartbeat(pod);
            }
        }
        for removed in self.kafka.end_sessions(self.scenario.session_timeout) {
            self.note(format!("the session of {removed:?} is over"));
        }
        if self.chance(0.3) {
            self.register_dead_owners();
        }
        self.collect_stops();
    }

    /// A running pod sends a heartbeat. It may learn from the answer what the group has decided.
    fn send_heartbeat(&mut self, pod: usize) {
        let Scenario { learns_generation, learns_removal, .. } = self.scenario;
        let memory = self.pods[pod].memory.clone();
        match memory.send_heartbeat() {
            None => {}
            Some(true) if self.chance(learns_generation) => memory.learn_generation(),
            Some(true) => {}
            Some(false) => {
                // The client knows it before the application does.
                if self.chance(learns_removal) {
                    memory.forget_membership();
                }
                if self.chance(learns_removal) {
                    self.learn_removal(pod);
                }
            }
        }
    }

    /// A pod that is no member learns of it, and joins again.
    pub(super) fn learn_removal(&mut self, pod: usize) {
        if self.pods[pod].memory.send_heartbeat() == Some(false) {
            self.lose_all(pod);
            self.pods[pod].memory.join();
        }
    }

    /// The pod learns that it has lost its partitions.
    fn lose_all(&mut self, pod: usize) {
        let memory = self.pods[pod].memory.clone();
        let owned = memory.owned();
        if !owned.is_empty() {
            self.note(format!("pod {pod} learns that it has lost {owned:?}"));
            memory.lose(&owned);
        }
    }

    /// The group assigns each partition without an owner to a pod that runs.
    pub(super) fn assign_unowned(&mut self) {
        for partition in self.partitions() {
            if self.kafka.owner(partition).is_none()
                && let Some(pod) = self.any_pod()
            {
                let memory = self.pods[pod].memory.clone();
                // A pod that was removed, and does not know it yet, gets nothing.
                let knows = memory.send_heartbeat().map(|is_member| is_member || memory.owned().is_empty());
                if knows == Some(true) {
                    self.note(format!("pod {pod} gets {partition}"));
                    memory.assign(&[partition]);
                }
            }
        }
    }

    pub(super) async fn hand_over(&mut self) {
        let Some((pod, partition)) = self.any_owned() else { return };
        self.note(format!("pod {pod} hands over {partition}"));
        let memory = self.pods[pod].memory.clone();
        let drained = Arc::new(Mutex::new(false));
        let is_called = Arc::clone(&drained);
        let call = Drained::new(move || *is_called.lock().expect("no thread panics while it holds this") = true);
        // Some of the records are only read when the revocation begins.
        if self.chance(0.5) {
            memory.poll(partition, self.scenario.batch_records);
        }
        memory.revoke(&[partition], self.now() + Duration::from_millis(400), call);
        settle().await;
        // The in-flight transaction may end, or not, before the partition is released.
        for _ in 0..self.random.random_range(0..12) {
            let is_drained = *drained.lock().expect("no thread panics while it holds this");
            if !is_drained {
                memory.advance(Fate::Answered);
                settle().await;
            }
        }
        memory.give_up(&[partition]);
    }

    /// The group removes a pod that does not know it.
    pub(super) fn expel(&mut self) {
        let Some((pod, _)) = self.any_owned() else { return };
        self.note(format!("the group removes pod {pod}"));
        self.pods[pod].memory.expel();
    }

    /// A pod does not run for a time.
    pub(super) fn freeze(&mut self) {
        let Some(pod) = self.any_pod() else { return };
        let time = Duration::from_secs(self.random.random_range(1..20));
        self.note(format!("pod {pod} does not run for {time:?}"));
        self.pods[pod].frozen_until = self.time() + time;
    }

    pub(super) fn move_coordinator(&mut self) {
        let time = Duration::from_millis(self.random.random_range(1..5_000));
        if self.chance(0.5) {
            self.note(format!("the group's coordinator moves for {time:?}"));
            self.kafka.move_group_coordinator(time);
        } else {
            self.note(format!("the coordinator of the transactions moves for {time:?}"));
            self.kafka.move_transaction_coordinator(time);
        }
    }

    fn any_owned(&mut self) -> Option<(usize, Partition)> {
        let running = (0..self.pods.len()).filter(|pod| !self.is_frozen(*pod));
        let owned: Vec<(usize, Partition)> = running
            .flat_map(|pod| {
                let memory = &self.pods[pod].memory;
                let owned = memory.owned().into_iter().filter(|of| self.kafka.owner(*of) == Some(memory.id()));
                owned.map(move |partition| (pod, partition)).collect::<Vec<_>>()
            })
            .collect();
        (!owned.is_empty()).then(|| owned[self.random.random_range(0..owned.len())])
    }

    /// A pod that ends because its transactions were timed out is started again, as Kubernetes does. Any other end is a
    /// failure of the run.
    pub(super) fn collect_stops(&mut self) {
        for pod in 0..self.pods.len() {
            let stops =
                std::mem::take(&mut *self.pods[pod].stops.lock().expect("no thread panics while it holds this"));
            for stop in stops {
                if let StopCause::Commit(StopReason::TimedOutTooOften(_)) = stop {
                    self.restart(pod);
                } else {
                    self.stops.push(stop);
                }
            }
        }
    }
}
