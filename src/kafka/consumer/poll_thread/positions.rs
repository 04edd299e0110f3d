//! Brings partitions to their positions: starts, starts again after an interruption or where the log does not hold a
//! position, and positions behind transaction markers. The letters are those of the parent.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset as ClientOffset;

use crate::config::OnExpired;
use crate::kafka::consumer::intake::FetchState;
use crate::kafka::consumer::poll_thread::{PollThread, RESTART, RunState, list_of, pause};
use crate::kafka::consumer::rebalance::OwnershipChange;
use crate::ports::{SourceEvent, SourceFailure};
use crate::record::{Batch, Partition, Position};

/// How long one call of the client may take within a turn.
const SEEK_TIMEOUT: Duration = Duration::from_millis(500);
const NUDGE_TIMEOUT: Duration = Duration::from_millis(2);
const WATERMARK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a seek is tried before the partition is assigned anew.
const SEEK_PATIENCE: Duration = Duration::from_secs(1);
/// How long bringing a partition to its position may take altogether, tries included.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Between two tries to find out where a log starts.
pub(super) const EXPIRED_RETRY: Duration = Duration::from_millis(500);
/// Between an error of the client's and the next try to read there. Also the client's own wait after a failed fetch.
pub(super) const INTERRUPTED_RETRY: Duration = Duration::from_millis(500);
/// How often positions behind transaction markers are looked for.
pub(super) const IDLE_INTERVAL: Duration = Duration::from_secs(1);

impl PollThread {
    pub(super) fn bring_to_positions(&mut self) {
        if !matches!(self.course, RunState::Running) {
            return;
        }
        self.end_interruptions();
        self.seek_starting();
        // e) Not while the group waits for an answer.
        if self.revocation.is_none() {
            self.revive_expired();
        }
    }

    fn end_interruptions(&mut self) {
        let now = self.clock.now();
        for owned in self.owned.values_mut() {
            match owned.reading {
                FetchState::Interrupted { next, resume_at } if resume_at <= now => {
                    owned.reading = starting(next, now, now);
                }
                FetchState::Interrupted { .. }
                | FetchState::Held
                | FetchState::Starting { .. }
                | FetchState::Started { .. }
                | FetchState::Expired { .. } => {}
            }
        }
    }

    fn seek_starting(&mut self) {
        let due: Vec<(Partition, Option<Position>)> = self
            .owned
            .iter()
            .filter_map(|(&partition, owned)| match owned.reading {
                FetchState::Starting { position, .. } => Some((partition, Some(position))),
                FetchState::Held
                | FetchState::Started { .. }
                | FetchState::Interrupted { .. }
                | FetchState::Expired { .. } => None,
            })
            .collect();
        if due.is_empty() {
            return;
        }
        let sought = self.consumer.seek_partitions(list_of(&self.topic, due.iter().copied()), SEEK_TIMEOUT);
        for &(partition, _) in &due {
            let outcome = match &sought {
                Ok(list) => list.find_partition(&self.topic, partition.0).map_or(Ok(()), |element| element.error()),
                Err(error) => Err(error.clone()),
            };
            if outcome.is_ok() {
                // f) Once more, now that the client has begun with it: a stop that was under way undoes a forwarding.
                self.queue.forward(&self.topic, partition);
            }
            let outcome = outcome.and_then(|()| self.consumer.resume(&list_of(&self.topic, [(partition, None)])));
            self.settle_start(partition, outcome);
        }
        self.nudge(&due);
    }

    /// g) Asks the partitions' leaders for something nobody needs.
    fn nudge(&self, partitions: &[(Partition, Option<Position>)]) {
        let asked = partitions.iter().map(|&(partition, _)| (partition, Some(Position(i64::MAX))));
        // The question wakes the client's thread; nobody waits for the answer.
        drop(self.consumer.offsets_for_times(list_of(&self.topic, asked), NUDGE_TIMEOUT));
    }

    fn settle_start(&mut self, partition: Partition, outcome: Result<(), KafkaError>) {
        let now = self.clock.now();
        let Some(owned) = self.owned.get_mut(&partition) else { return };
        let FetchState::Starting { position, since, patience_until } = owned.reading else { return };
        match outcome {
            Ok(()) => owned.reading = FetchState::Started { next: position, open: None },
            Err(error) if now >= since + START_LIMIT => self.fail(SourceFailure::Fatal(format!(
                "partition {partition} cannot be read from position {position}: {error}; {RESTART}"
            ))),
            // The client has given the partition up, because an earlier position was out of range. e) Not while the
            // group waits for an answer.
            Err(_) if now >= patience_until && self.revocation.is_none() => {
                owned.reading = starting(position, since, now);
                self.assign_anew(partition);
            }
            // The client has not begun with the partition yet: it will have in a moment.
            Err(_) => {}
        }
    }

    /// One partition in a turn, the one that is due the longest: each asks the broker, which may take its time.
    fn revive_expired(&mut self) {
        let now = self.clock.now();
        let due = self.owned.iter().filter_map(|(&partition, owned)| match owned.reading {
            FetchState::Expired { first, since, retry_at } if retry_at <= now => {
                Some((retry_at, partition, first, since))
            }
            FetchState::Expired { .. }
            | FetchState::Held
            | FetchState::Starting { .. }
            | FetchState::Started { .. }
            | FetchState::Interrupted { .. } => None,
        });
        if let Some((_, partition, first, since)) = due.min_by_key(|&(retry_at, ..)| retry_at) {
            self.revive(partition, first, since);
        }
    }

    fn revive(&mut self, partition: Partition, first: Position, since: Instant) {
        let watermarks = self.consumer.fetch_watermarks(&self.topic, partition.0, WATERMARK_TIMEOUT);
        let now = self.clock.now();
        let Some(owned) = self.owned.get_mut(&partition) else { return };
        let epoch = owned.epoch;
        let (low, high) = match watermarks {
            Ok((low, high)) => (Position(low), Position(high)),
            Err(_) if now < since + START_LIMIT => {
                owned.reading = FetchState::Expired { first, since, retry_at: now + EXPIRED_RETRY };
                return;
            }
            Err(error) => {
                return self.fail(SourceFailure::Fatal(format!(
                    "partition {partition} has lost position {first}, and where its log starts cannot be had: {error}; look at the partition's leader, then restart"
                )));
            }
        };
        if first > high {
            return self.fail(SourceFailure::Recreated { partition, first, end: high });
        }
        if low > first {
            self.outbox.data.push_back(SourceEvent::Expired { partition, epoch, first, until: low });
            match self.on_expired {
                // So that the group stands behind the gap even while nothing follows it.
                OnExpired::Continue => {
                    self.outbox.data.push_back(SourceEvent::Batch(Batch::new(partition, epoch, low)));
                }
                // Whoever hears of it ends the process, and nothing may be committed behind the gap meanwhile.
                OnExpired::Stop => {
                    if let Some(owned) = self.owned.get_mut(&partition) {
                        owned.reading = FetchState::Held;
                    }
                    return;
                }
            }
        }
        if let Some(owned) = self.owned.get_mut(&partition) {
            owned.reading = starting(first.max(low), since, now);
        }
        self.assign_anew(partition);
    }

    /// Once a position was out of range the client has given the partition up: it refuses to seek until the partition
    /// is assigned again. What follows is a start like any other.
    fn assign_anew(&mut self, partition: Partition) {
        let list = list_of(&self.topic, [(partition, Some(Position(0)))]);
        let consumer = &self.consumer;
        let assigned = consumer
            .incremental_unassign(&list)
            .and_then(|()| pause(consumer, &list))
            .and_then(|()| consumer.incremental_assign(&list));
        if let Err(error) = assigned {
            self.fail(SourceFailure::Fatal(format!("partition {partition} was not assigned anew: {error}; {RESTART}")));
        }
        self.serve_group();
        while let Some(notice) = self.consumer.context().next_notice() {
            self.answer(notice, OwnershipChange::Lost);
        }
    }

    pub(super) fn report_idle_positions(&mut self) {
        let now = self.clock.now();
        if now < self.next_idle_check || self.revocation.is_some() || !matches!(self.course, RunState::Running) {
            return;
        }
        self.next_idle_check = now + IDLE_INTERVAL;
        // No answer now is one in a second.
        let Ok(positions) = self.consumer.position() else { return };
        for element in positions.elements() {
            let partition = Partition(element.partition());
            // The client counts only what it has handed out, and this thread keeps nothing back: whatever stands below
            // this position was given on. h) An error that it counts ends `Started`, and the seek after it resets the
            // count. It names no position before the first record after a seek.
            let ClientOffset::Offset(position) = element.offset() else { continue };
            let Some(owned) = self.owned.get_mut(&partition) else { continue };
            let FetchState::Started { next, open: None } = &mut owned.reading else { continue };
            if Position(position) > *next && self.ownership.is_current(partition, owned.epoch) {
                *next = Position(position);
                self.outbox.data.push_back(SourceEvent::Batch(Batch::new(partition, owned.epoch, *next)));
            }
        }
    }
}

pub(super) fn starting(position: Position, since: Instant, now: Instant) -> FetchState {
    FetchState::Starting { position, since, patience_until: now + SEEK_PATIENCE }
}
