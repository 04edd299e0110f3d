//! Brings partitions to their positions: starts; restarts after an interruption, or if the log does not contain the
//! position; and positions after transaction markers. Facts a), b) and so on are those of the parent module.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset as ClientOffset;

use crate::config::OnExpired;
use crate::kafka::consumer::fetching::FetchState;
use crate::kafka::consumer::poll_thread::{PollThread, RESTART, list_of, pause};
use crate::kafka::consumer::rebalance::GroupClaim;
use crate::ports::{ConsumerEvent, ConsumerFailure};
use crate::record::{Batch, Partition, Position};

/// Limit of one call of the client within a turn.
const SEEK_TIMEOUT: Duration = Duration::from_millis(500);
const WAKE_TIMEOUT: Duration = Duration::from_millis(2);
const WATERMARK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a seek is repeated before the partition is assigned again.
const SEEK_PATIENCE: Duration = Duration::from_secs(1);
/// Limit of bringing a partition to its position, all attempts together.
const START_LIMIT: Duration = Duration::from_secs(30);
/// The wait between two attempts to read a log's start.
pub(super) const EXPIRED_RETRY: Duration = Duration::from_millis(500);
/// The wait after an error of the client before the partition is read again. Also the client's own wait after a failed
/// fetch.
pub(super) const INTERRUPTED_RETRY: Duration = Duration::from_millis(500);
/// How often the thread looks for positions after transaction markers.
pub(super) const IDLE_INTERVAL: Duration = Duration::from_secs(1);

impl PollThread {
    pub(super) fn seek_due(&mut self) {
        if !self.is_running() {
            return;
        }
        self.end_interruptions();
        self.seek_starting();
        // e) Never while the group waits for an answer.
        if self.revocation.is_none() {
            self.continue_expired();
        }
    }

    fn end_interruptions(&mut self) {
        let now = self.parts.clock.now();
        for assigned in self.assigned.values_mut() {
            if let FetchState::Interrupted { next, resume_at } = assigned.fetch
                && resume_at <= now
            {
                assigned.fetch = starting(next, now, now);
            }
        }
    }

    fn seek_starting(&mut self) {
        let due: Vec<(Partition, Option<Position>)> = self
            .assigned
            .iter()
            .filter_map(|(&partition, assigned)| {
                let FetchState::Starting { position, .. } = assigned.fetch else { return None };
                Some((partition, Some(position)))
            })
            .collect();
        if due.is_empty() {
            return;
        }
        let result =
            self.consumer.seek_partitions(list_of(&self.config.kafka.topic, due.iter().copied()), SEEK_TIMEOUT);
        for &(partition, _) in &due {
            let outcome = match &result {
                Ok(list) => {
                    list.find_partition(&self.config.kafka.topic, partition.0).map_or(Ok(()), |element| element.error())
                }
                Err(error) => Err(error.clone()),
            };
            if outcome.is_ok() {
                // f) Again, because the client has begun to read: an earlier stop may have undone the forwarding.
                self.queue.forward(&self.config.kafka.topic, partition);
            }
            let outcome =
                outcome.and_then(|()| self.consumer.resume(&list_of(&self.config.kafka.topic, [(partition, None)])));
            self.settle_start(partition, outcome);
        }
        self.wake_fetchers(&due);
    }

    /// g) Sends a request to the partitions' leaders whose response is not needed.
    fn wake_fetchers(&self, partitions: &[(Partition, Option<Position>)]) {
        // The list carries timestamps in place of offsets: no record is that late.
        let timestamps = partitions.iter().map(|&(partition, _)| (partition, Some(Position(i64::MAX))));
        // The request wakes the client's thread; the response does not matter.
        drop(self.consumer.offsets_for_times(list_of(&self.config.kafka.topic, timestamps), WAKE_TIMEOUT));
    }

    fn settle_start(&mut self, partition: Partition, outcome: Result<(), KafkaError>) {
        let now = self.parts.clock.now();
        let Some(assigned) = self.assigned.get_mut(&partition) else { return };
        let FetchState::Starting { position, since, patience_until } = assigned.fetch else { return };
        match outcome {
            Ok(()) => assigned.fetch = FetchState::Started { next: position, open: None },
            Err(error) if now >= since + START_LIMIT => self.fail(ConsumerFailure::Fatal(format!(
                "partition {partition} cannot be read from position {position}: {error}; {RESTART}"
            ))),
            // The client has given the partition up, because an earlier position was out of range. e) Never while the
            // group waits for an answer.
            Err(_) if now >= patience_until && self.revocation.is_none() => {
                assigned.fetch = starting(position, since, now);
                self.assign_again(partition);
            }
            // The client has not begun to read the partition yet.
            Err(_) => {}
        }
    }

    /// Continues one partition per turn, the longest due: each sends a request to the broker, which may take long.
    fn continue_expired(&mut self) {
        let now = self.parts.clock.now();
        let due = self.assigned.iter().filter_map(|(&partition, assigned)| {
            let FetchState::Expired { first, since, retry_at } = assigned.fetch else { return None };
            (retry_at <= now).then_some((retry_at, partition, first, since))
        });
        if let Some((_, partition, first, since)) = due.min_by_key(|&(retry_at, ..)| retry_at) {
            self.continue_at_log_start(partition, first, since);
        }
    }

    fn continue_at_log_start(&mut self, partition: Partition, first: Position, since: Instant) {
        let watermarks = self.consumer.fetch_watermarks(&self.config.kafka.topic, partition.0, WATERMARK_TIMEOUT);
        let now = self.parts.clock.now();
        let Some(assigned) = self.assigned.get_mut(&partition) else { return };
        let epoch = assigned.epoch;
        let (low, high) = match watermarks {
            Ok((low, high)) => (Position(low), Position(high)),
            Err(_) if now < since + START_LIMIT => {
                assigned.fetch = FetchState::Expired { first, since, retry_at: now + EXPIRED_RETRY };
                return;
            }
            Err(error) => {
                return self.fail(ConsumerFailure::Fatal(format!(
                    "partition {partition} has lost position {first}, and its log's start cannot be read: {error}; look at the partition's leader, then restart"
                )));
            }
        };
        if first > high {
            return self.fail(ConsumerFailure::Recreated {
                topic: self.config.kafka.topic.clone(),
                partition,
                first,
                end: high,
            });
        }
        if low > first {
            self.outbox.data.push_back(ConsumerEvent::Expired { partition, epoch, first, until: low });
            match self.config.recovery.on_expired {
                // So that the group's offset is after the gap even if no record follows.
                OnExpired::Continue => {
                    self.outbox.data.push_back(ConsumerEvent::Batch(Batch::new(partition, epoch, low)));
                }
                // The event ends the process. Nothing may be committed after the gap meanwhile.
                OnExpired::Stop => {
                    if let Some(assigned) = self.assigned.get_mut(&partition) {
                        assigned.fetch = FetchState::Held;
                    }
                    return;
                }
            }
        }
        if let Some(assigned) = self.assigned.get_mut(&partition) {
            assigned.fetch = starting(first.max(low), since, now);
        }
        self.assign_again(partition);
    }

    /// After a position was out of range the client has given the partition up: it refuses to seek until the partition
    /// is assigned again. An ordinary start follows.
    fn assign_again(&mut self, partition: Partition) {
        let list = list_of(&self.config.kafka.topic, [(partition, Some(Position(0)))]);
        let consumer = &self.consumer;
        let assigned = consumer
            .incremental_unassign(&list)
            .and_then(|()| pause(consumer, &list))
            .and_then(|()| consumer.incremental_assign(&list));
        if let Err(error) = assigned {
            self.fail(ConsumerFailure::Fatal(format!(
                "partition {partition} was not assigned again: {error}; {RESTART}"
            )));
        }
        self.serve_group();
        while let Some(event) = self.consumer.context().next_event() {
            self.answer(event, GroupClaim::Lost);
        }
    }

    pub(super) fn report_idle_positions(&mut self) {
        let now = self.parts.clock.now();
        if now < self.next_idle_check || self.revocation.is_some() || !self.is_running() {
            return;
        }
        self.next_idle_check = now + IDLE_INTERVAL;
        // Without an answer the check is repeated after the interval.
        let Ok(positions) = self.consumer.position() else { return };
        for element in positions.elements() {
            let partition = Partition(element.partition());
            // The client counts only records that it has returned, and this thread holds none back: every record below
            // this position is in a batch. h) An error that the client counts ends `Started`, and the seek after it
            // resets the count. The client has no position before the first record after a seek.
            let ClientOffset::Offset(position) = element.offset() else { continue };
            let Some(assigned) = self.assigned.get_mut(&partition) else { continue };
            let FetchState::Started { next, open: None } = &mut assigned.fetch else { continue };
            if Position(position) > *next && self.parts.ownership.is_current(partition, assigned.epoch) {
                *next = Position(position);
                self.outbox.data.push_back(ConsumerEvent::Batch(Batch::new(partition, assigned.epoch, *next)));
            }
        }
    }
}

pub(super) fn starting(position: Position, since: Instant, now: Instant) -> FetchState {
    FetchState::Starting { position, since, patience_until: now + SEEK_PATIENCE }
}
