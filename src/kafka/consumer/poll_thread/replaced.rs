//! Joins the group again after it has given the static membership of this process to another member.

use std::sync::Arc;

use rdkafka::consumer::Consumer;

use crate::engine::static_membership::Replaced;
use crate::kafka::client::forwarded_queue::ForwardedQueue;
use crate::kafka::consumer::poll_thread::{PollThread, RESTART};
use crate::kafka::consumer::rebalance::RevocationEnd;
use crate::observability::log_events::{LogEvent as _, StaticMemberReplaced};
use crate::ports::ConsumerFailure;
use crate::record::Partition;

impl PollThread {
    /// The client is of no use any more. Drops all partitions and joins with a new one, or returns why not.
    pub(super) fn instance_fenced(&mut self) -> Option<ConsumerFailure> {
        if !self.is_running() || self.membership.replaced(self.parts.clock.now()) == Replaced::ByAnotherProcess {
            return Some(ConsumerFailure::InstanceReplaced(self.parts.instance.clone()));
        }
        StaticMemberReplaced { instance: &self.parts.instance }.emit();
        let partitions: Vec<Partition> = self.assigned.keys().copied().collect();
        self.stop_reading(&partitions);
        // Before there is a new consumer: its metadata would be accepted with work of these epochs.
        self.end_ownership(&partitions, RevocationEnd::Lost);
        self.release_client();
        let built = self.parts.build(&self.config).map_err(|error| error.to_string());
        let joined = built.and_then(|consumer| {
            consumer.subscribe(&[&self.config.kafka.topic]).map_err(|error| error.to_string())?;
            Ok(consumer)
        });
        match joined {
            Ok(consumer) => {
                self.queue = ForwardedQueue::new(Arc::clone(&consumer));
                self.consumer = Arc::clone(&consumer);
                self.current.replace(consumer);
                None
            }
            Err(error) => {
                Some(ConsumerFailure::Fatal(format!("no new consumer can join the group: {error}; {RESTART}")))
            }
        }
    }
}
