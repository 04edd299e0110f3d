//! The group: its callbacks, assignments, revocations and losses. Facts a), b) and so on are those of the parent module.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset as ClientOffset;
use rdkafka::{Message, TopicPartitionList};

use crate::kafka::client::errors::{ErrorClass, GroupRefusal, Resource, class_of};
use crate::kafka::client::ffi::{add_brokers, serve_token};
use crate::kafka::consumer::fetching::{AssignedPartition, FetchState};
use crate::kafka::consumer::poll_thread::{PollCommand, PollThread, RESTART, RunState, pause};
use crate::kafka::consumer::rebalance::{
    Drain, GroupClaim, RebalanceEvent, Revocation, RevocationEnd, end_epochs, partitions_of,
};
use crate::ports::{ConsumerEvent, ConsumerFailure, Drained};
use crate::record::{Epoch, Partition};

/// Limit of events of the consumer's queue that are served in one turn.
const GROUP_EVENTS_PER_TURN: usize = 16;
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);

impl PollThread {
    /// Serves the consumer's queue: callbacks, statistics, errors. An empty answer does not show whether the queue is
    /// empty or an event was served, hence the fixed number.
    pub(super) fn serve_group(&mut self) {
        serve_token(self.consumer.client());
        for _ in 0..GROUP_EVENTS_PER_TURN {
            let failure = match self.consumer.poll(Duration::ZERO) {
                None => continue,
                Some(Ok(stray)) => Some(ConsumerFailure::Fatal(format!(
                    "partition {} offset {} came by a queue that nothing should come by; this is a bug, report it and restart",
                    stray.partition(),
                    stray.offset()
                ))),
                Some(Err(error)) => self.failure_of(&error),
            };
            if let Some(failure) = failure {
                self.fail(failure);
            }
        }
        if self.consumer.context().has_lost_all_brokers() {
            add_brokers(self.consumer.client(), &self.config.kafka.bootstrap_servers);
        }
    }

    /// Returns `None` if the client recovers by itself, or was replaced. The context has reported the error.
    fn failure_of(&mut self, error: &KafkaError) -> Option<ConsumerFailure> {
        if let Some((code, reason)) = self.consumer.client().fatal_error() {
            if class_of(code) == ErrorClass::InstanceFenced {
                return self.instance_fenced();
            }
            return Some(ConsumerFailure::Fatal(format!("the consumer cannot go on ({code:?}): {reason}; {RESTART}")));
        }
        let remedy = remedy(ErrorClass::of(error))?;
        Some(ConsumerFailure::Fatal(format!("{error}; {remedy}")))
    }

    pub(super) fn answer(&mut self, event: RebalanceEvent, claim: GroupClaim) {
        // The group waits for one answer at a time. A second event means that the first has ended.
        if self.revocation.is_some() {
            self.close_revocation(RevocationEnd::Lost);
        }
        match (event, claim) {
            (RebalanceEvent::Assign(list), GroupClaim::Held | GroupClaim::Lost) => self.assign(list),
            (RebalanceEvent::Revoke(list), GroupClaim::Held) => self.revoke(list),
            (RebalanceEvent::Revoke(list), GroupClaim::Lost) => {
                self.stop_reading(&partitions_of(&list));
                self.give_up(&list, RevocationEnd::Lost);
            }
        }
    }

    fn assign(&mut self, mut list: TopicPartitionList) {
        let partitions = partitions_of(&list);
        if let Some(beyond) = partitions.iter().filter(|partition| partition.0 >= self.parts.partition_count).max() {
            let found = self.count_partitions().unwrap_or(beyond.0 + 1);
            self.fail(ConsumerFailure::PartitionsChanged {
                topic: self.config.kafka.topic.clone(),
                expected: self.parts.partition_count,
                found,
            });
        }
        for &partition in &partitions {
            self.queue.forward(&self.config.kafka.topic, partition);
        }
        // b) Paused before it is assigned: a pause afterwards would leave time for a fetch. The start replaces the
        // position; it is given so that the client fetches no committed offset.
        let assigned = pause(&self.consumer, &list)
            .and_then(|()| list.set_all_offsets(ClientOffset::Offset(0)))
            .and_then(|()| self.consumer.incremental_assign(&list));
        if let Err(error) = assigned {
            return self.fail(ConsumerFailure::Fatal(format!("the assignment was not accepted: {error}; {RESTART}")));
        }
        if matches!(self.state, RunState::Draining { .. } | RunState::Closing { .. }) {
            // Accepted only so that it can be given back.
            return;
        }
        let begun: Vec<(Partition, Epoch)> =
            partitions.into_iter().map(|partition| (partition, self.parts.ownership.mint(partition))).collect();
        for &(partition, epoch) in &begun {
            self.assigned.insert(partition, AssignedPartition::new(epoch, FetchState::Held));
        }
        self.outbox.urgent.push_back(ConsumerEvent::Assigned(begun));
    }

    fn count_partitions(&self) -> Option<i32> {
        let metadata = self.consumer.fetch_metadata(Some(&self.config.kafka.topic), METADATA_TIMEOUT).ok()?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == self.config.kafka.topic)?;
        i32::try_from(topic.partitions().len()).ok().filter(|&count| count > 0)
    }

    fn revoke(&mut self, list: TopicPartitionList) {
        let partitions = partitions_of(&list);
        self.stop_reading(&partitions);
        let deadline = self.parts.clock.now() + self.revoke_drain;
        let drain = match &self.state {
            // These partitions are being drained already, with all others.
            RunState::Draining { drain, .. } => Arc::clone(drain),
            RunState::Closing { .. } => return self.give_up(&list, RevocationEnd::Revoked),
            RunState::Running | RunState::Failed | RunState::Ended => self.announce_revocation(&partitions, deadline),
        };
        self.revocation = Some(Revocation { list, deadline, drain });
    }

    /// Announces to the sink that these partitions will be given up. The returned drain is finished once the sink needs
    /// none of them.
    pub(super) fn announce_revocation(&mut self, partitions: &[Partition], deadline: Instant) -> Arc<Drain> {
        let ending: Vec<(Partition, Epoch)> = partitions
            .iter()
            .filter_map(|&partition| Some((partition, self.parts.ownership.current(partition)?)))
            .collect();
        let drain = Arc::new(Drain::default());
        if ending.is_empty() {
            drain.finish();
            return drain;
        }
        let (finished, wake) = (Arc::clone(&drain), self.wake.clone());
        let drained = Drained::new(move || {
            finished.finish();
            // A full channel wakes the thread, too.
            drop(wake.try_send(PollCommand::Wake));
        });
        self.outbox.urgent.push_back(ConsumerEvent::Revoking { partitions: ending, deadline, drained });
        drain
    }

    pub(super) fn end_revocation(&mut self) {
        let Some(revocation) = &self.revocation else { return };
        // A loss takes precedence.
        if GroupClaim::of(&self.consumer) == GroupClaim::Lost {
            self.close_revocation(RevocationEnd::Lost);
        } else if revocation.drain.is_finished() || self.parts.clock.now() >= revocation.deadline {
            self.close_revocation(RevocationEnd::Revoked);
        }
    }

    pub(super) fn close_revocation(&mut self, end: RevocationEnd) {
        if let Some(revocation) = self.revocation.take() {
            self.give_up(&revocation.list, end);
        }
    }

    /// Ends the epochs first. From then on nothing of them is sent, whatever metadata the commit thread has.
    fn give_up(&mut self, list: &TopicPartitionList, end: RevocationEnd) {
        self.end_ownership(&partitions_of(list), end);
        if let Err(error) = self.consumer.incremental_unassign(list) {
            self.fail(ConsumerFailure::Fatal(format!("the revocation was not accepted: {error}; {RESTART}")));
        }
    }

    pub(super) fn end_ownership(&mut self, partitions: &[Partition], end: RevocationEnd) {
        let ended = end_epochs(&self.parts.ownership, partitions);
        for partition in partitions {
            self.assigned.remove(partition);
        }
        if !ended.is_empty() {
            self.outbox.urgent.push_back(match end {
                RevocationEnd::Revoked => ConsumerEvent::Revoked(ended),
                RevocationEnd::Lost => ConsumerEvent::Lost(ended),
            });
        }
    }
}

/// Returns the remedy for an error that the client would meet indefinitely; `None` if it may pass.
fn remedy(class: ErrorClass) -> Option<&'static str> {
    if class == ErrorClass::Forbidden(Resource::Topic) {
        return Some("allow READ and DESCRIBE on the input topic");
    }
    if class == ErrorClass::Forbidden(Resource::Group) {
        return Some("allow READ on the group");
    }
    let ErrorClass::GroupRefused(refusal) = class else { return None };
    Some(match refusal {
        GroupRefusal::Protocol => "another kind of consumer uses this group; give steward a group of its own",
        GroupRefusal::SessionTimeout => {
            "set session_timeout_ms within the broker's group.min.session.timeout.ms and group.max.session.timeout.ms"
        }
        GroupRefusal::Name => "give the group a valid name",
        GroupRefusal::Size => "raise the broker's group.max.size, or run fewer processes",
    })
}
