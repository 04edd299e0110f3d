//! The thread that polls the consumer.
//!
//! One turn of its loop: serve the group without waiting; take commands; bring partitions to their positions; look
//! whether a revocation has ended; offer what the sink has not taken; and, if the sink wants more, take records for one
//! round. Nothing in a turn waits for the sink: an event that it gives back is offered again in the next turn, while
//! records stay in librdkafka, whose read-ahead is bounded.
//!
//! * a) What is said about ownership overtakes batches that the sink has no room for: a full sink must not cost the
//!   group its rebalance. Batches of a partition that goes are dropped; its next owner reads them again.
//! * b) A partition is assigned paused and at no particular position; it reads from its start's position on, and never
//!   before. Records that do not belong to the current epoch are dropped.
//! * c) Offsets of one epoch only rise. The client may give records a second time: when it pauses a partition for a
//!   rebalance, it notes its place before it has counted what it is just handing out. So the first record below the
//!   position has the client set back to it; one right after that is a reason to stop, not to skip.
//! * d) Leaving drains first and tells the group afterwards: once the client has no subscription it sends no heartbeats,
//!   and a drain that is longer than the session would lose what it was to save.
//! * e) An assignment outside of a rebalance could be taken for the answer to a revocation that waits in the queue. So
//!   whatever revocation turns up right after one counts as lost.
//! * f) When the client stops reading a partition, some time after it was unassigned, it undoes the forwarding of the
//!   partition's queue: records of a later assignment would wait there indefinitely. So a start forwards again, after the
//!   seek has shown that the stop is over.
//! * g) The client's thread for a broker sleeps up to a second when it has nothing to fetch, and a resume does not wake
//!   it. A request to the broker does, so a start asks for something.
//! * h) The client counts an error as if it were the record at that offset: its position, where a pause resumes, then
//!   stands behind a record that was never read. And what follows a batch that it cannot read stands behind a gap. So
//!   nothing behind an error is taken, and the client is set back to the last position that was right. Until then the
//!   partition is paused: a rebalance would let it fetch behind the log's end, which looks like a lost log.

mod leaving;
mod positions;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset as ClientOffset;
use rustc_hash::FxHashMap;

use crate::config::{Config, OnExpired};
use crate::engine::ownership::Ownership;
use crate::kafka::client::batch_queue::{BatchQueue, MAX_TAKEN, QueueFailure};
use crate::kafka::client::context::{ClientError, ClientEvents, ClientRole};
use crate::kafka::client::errors::{ErrorClass, GroupRefusal, Resource, class_of};
use crate::kafka::consumer::intake::{FetchCause, FetchFailure, FetchState, Outbox, ReadPartition, Round};
use crate::kafka::consumer::poll_phase::{PhaseWatch, PollPhase};
use crate::kafka::consumer::poll_thread::positions::{EXPIRED_RETRY, IDLE_INTERVAL, INTERRUPTED_RETRY, starting};
use crate::kafka::consumer::rebalance::{
    Drain, Ending, GroupNotice, OwnershipChange, Revocation, SourceConsumer, end_epochs, partitions_of,
};
use crate::ports::{Clock, Drained, SourceEvent, SourceFailure, SourceSink};
use crate::record::{Epoch, Partition, Position};

/// How long a turn waits for a record. It bounds how late a rebalance or a command is seen.
const RECORD_WAIT: Duration = Duration::from_millis(10);
/// How long a turn waits for a command while records are not welcome.
const FULL_WAIT: Duration = Duration::from_millis(2);
/// Events of the consumer's queue that are served in one turn at most.
const GROUP_EVENTS_PER_TURN: usize = 16;
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that one round takes at most, give or take what one call returns. The larger a batch, the more of its records
/// share a key and with it a message, a snapshot and a place in the processor's cache.
const ROUND_BYTES: u64 = 8 << 20;
/// A round takes at most one part in so many of `limits.max_in_flight_bytes`, so that one is taken while others are worked on.
const ROUNDS_IN_FLIGHT: u64 = 6;

/// What to do where the client refuses what it has to be able to do.
const RESTART: &str = "restart the process, nothing that was applied is lost; report it, with the kafka_client_error before it, if it comes again";

/// What the thread is told.
pub(super) enum PollCommand {
    /// See `EventSource::start`.
    Start {
        /// The partition.
        partition: Partition,
        /// Under which epoch.
        epoch: Epoch,
        /// From where.
        position: Position,
    },
    /// See `EventSource::hold`.
    Hold(Partition),
    /// See `EventSource::leave`.
    Leave,
    /// Look at what has changed.
    Wake,
}

/// What the thread is built from.
pub(super) struct PollParts {
    /// Shared with the commit thread, which asks it for the group's metadata.
    pub(super) consumer: Arc<SourceConsumer>,
    pub(super) commands: Receiver<PollCommand>,
    /// For the `Drained` that the sink gets: it wakes the thread.
    pub(super) wake: Sender<PollCommand>,
    /// Written by this thread, read by the watchdog and by tests.
    pub(super) phase: Arc<PhaseWatch>,
    pub(super) instance: String,
    pub(super) partition_count: i32,
    pub(super) ownership: Arc<Ownership>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) sink: Box<dyn SourceSink>,
    pub(super) events: Arc<dyn ClientEvents>,
}

pub(super) struct PollThread {
    consumer: Arc<SourceConsumer>,
    commands: Receiver<PollCommand>,
    wake: Sender<PollCommand>,
    phase: Arc<PhaseWatch>,
    queue: BatchQueue<crate::kafka::consumer::rebalance::SourceContext>,
    topic: String,
    instance: String,
    partition_count: i32,
    ownership: Arc<Ownership>,
    clock: Arc<dyn Clock>,
    sink: Box<dyn SourceSink>,
    events: Arc<dyn ClientEvents>,
    bounds: PollLimits,
    owned: FxHashMap<Partition, ReadPartition>,
    revocation: Option<Revocation>,
    outbox: Outbox,
    next_idle_check: Instant,
    on_expired: OnExpired,
    record_bytes: u64,
    course: RunState,
}

struct PollLimits {
    round_records: usize,
    round_bytes: u64,
    revoke_drain: Duration,
    leave_limit: Duration,
}

/// Where the thread is in its life.
enum RunState {
    Running,
    /// `Failed` was said; the group is served until somebody says leave, but nothing is read.
    Failed,
    Leaving {
        since: Instant,
        step: LeaveStep,
    },
    Ended,
}

enum LeaveStep {
    /// d) Whoever commits is waited for, as in a revocation.
    Draining { deadline: Instant, drain: Arc<Drain> },
    /// The group is told.
    Closing,
}

impl PollThread {
    pub(super) fn new(config: &Config, parts: PollParts) -> PollThread {
        PollThread {
            queue: BatchQueue::new(Arc::clone(&parts.consumer)),
            next_idle_check: parts.clock.now() + IDLE_INTERVAL,
            consumer: parts.consumer,
            commands: parts.commands,
            wake: parts.wake,
            phase: parts.phase,
            topic: config.kafka.topic.clone(),
            instance: parts.instance,
            partition_count: parts.partition_count,
            ownership: parts.ownership,
            clock: parts.clock,
            sink: parts.sink,
            events: parts.events,
            bounds: PollLimits {
                round_records: config.limits.max_batch_records.max(1),
                round_bytes: ROUND_BYTES.min(config.limits.max_in_flight_bytes / ROUNDS_IN_FLIGHT).max(65_536),
                revoke_drain: Duration::from_millis(config.shutdown.revoke_drain_ms),
                leave_limit: Duration::from_millis(config.shutdown.drain_timeout_ms),
            },
            owned: FxHashMap::default(),
            revocation: None,
            outbox: Outbox::default(),
            on_expired: config.recovery.on_expired,
            record_bytes: 256,
            course: RunState::Running,
        }
    }

    pub(super) fn run(mut self) {
        while !matches!(self.course, RunState::Ended) {
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.show_phase();
        self.serve_group();
        while let Some(notice) = self.consumer.context().next_notice() {
            self.answer(notice, OwnershipChange::of(&self.consumer));
        }
        while let Ok(command) = self.commands.try_recv() {
            self.obey(command);
        }
        self.show_phase();
        self.bring_to_positions();
        self.end_revocation();
        self.go_on_leaving();
        self.report_idle_positions();
        self.outbox.offer(&mut *self.sink);
        if self.wants_records() {
            self.take_round();
            self.outbox.offer(&mut *self.sink);
        } else if !matches!(self.course, RunState::Ended) {
            self.wait_for_command();
        }
    }

    fn show_phase(&self) {
        let now = self.clock.now();
        let seeking = |owned: &ReadPartition| match owned.reading {
            FetchState::Starting { .. } | FetchState::Interrupted { .. } | FetchState::Expired { .. } => true,
            FetchState::Held | FetchState::Started { .. } => false,
        };
        let phase = if matches!(self.course, RunState::Leaving { .. }) {
            PollPhase::Leaving
        } else if self.revocation.is_some() {
            PollPhase::Revoking
        } else if self.owned.values().any(seeking) {
            PollPhase::Seeking
        } else if !self.outbox.is_empty() {
            PollPhase::Offering
        } else {
            PollPhase::Polling
        };
        self.phase.record_turn(phase, now);
    }

    // ------------------------------------------------------------------------------------------------------- the group

    /// Serves what waits in the consumer's queue: callbacks, statistics, errors. An empty answer does not tell whether
    /// the queue is empty or something was served, hence the fixed number.
    fn serve_group(&mut self) {
        for _ in 0..GROUP_EVENTS_PER_TURN {
            let failure = match self.consumer.poll(Duration::ZERO) {
                None => continue,
                Some(Ok(stray)) => {
                    let place = (rdkafka::Message::partition(&stray), rdkafka::Message::offset(&stray));
                    Some(SourceFailure::Fatal(format!(
                        "partition {} offset {} came by a queue that nothing should come by; this is a bug, report it and restart",
                        place.0, place.1
                    )))
                }
                Some(Err(error)) => self.judge(&error),
            };
            if let Some(failure) = failure {
                self.fail(failure);
            }
        }
    }

    /// `None`: the client repairs it by itself, and the context has told of it.
    fn judge(&self, error: &KafkaError) -> Option<SourceFailure> {
        let consumer = &self.consumer;
        if let Some((code, reason)) = consumer.client().fatal_error() {
            return Some(if class_of(code) == ErrorClass::InstanceFenced {
                SourceFailure::InstanceReplaced(self.instance.clone())
            } else {
                SourceFailure::Fatal(format!("the consumer cannot go on ({code:?}): {reason}; {RESTART}"))
            });
        }
        let remedy = remedy(ErrorClass::of(error))?;
        Some(SourceFailure::Fatal(format!("{error}; {remedy}")))
    }

    fn fail(&mut self, failure: SourceFailure) {
        // Said once; a process that leaves has nobody left to tell.
        if matches!(self.course, RunState::Running) {
            self.course = RunState::Failed;
            self.outbox.urgent.push_back(SourceEvent::Failed(failure));
        }
    }

    fn answer(&mut self, notice: GroupNotice, ownership: OwnershipChange) {
        // The group waits for one answer at a time; should it ask again, the older question has ended.
        if self.revocation.is_some() {
            self.close_revocation(Ending::Lost);
        }
        match (notice, ownership) {
            (GroupNotice::Assign(list), OwnershipChange::Kept | OwnershipChange::Lost) => self.assign(list),
            (GroupNotice::Revoke(list), OwnershipChange::Kept) => self.revoke(list),
            (GroupNotice::Revoke(list), OwnershipChange::Lost) => self.lose(list),
        }
    }

    fn assign(&mut self, mut list: TopicPartitionList) {
        let partitions = partitions_of(&list);
        if let Some(beyond) = partitions.iter().filter(|partition| partition.0 >= self.partition_count).max() {
            let found = self.count_partitions().unwrap_or(beyond.0 + 1);
            self.fail(SourceFailure::PartitionsChanged { expected: self.partition_count, found });
        }
        for &partition in &partitions {
            self.queue.forward(&self.topic, partition);
        }
        // b) Paused before it is assigned: a pause afterwards would leave time for a fetch. The position is replaced at
        // the start; it is given so that the client asks for no committed offset.
        let assigned = pause(&self.consumer, &list)
            .and_then(|()| list.set_all_offsets(ClientOffset::Offset(0)))
            .and_then(|()| self.consumer.incremental_assign(&list));
        if let Err(error) = assigned {
            return self.fail(SourceFailure::Fatal(format!("the assignment was not accepted: {error}; {RESTART}")));
        }
        if matches!(self.course, RunState::Leaving { .. }) {
            // Accepted only so that it can be given back.
            return;
        }
        let begun: Vec<(Partition, Epoch)> =
            partitions.into_iter().map(|partition| (partition, self.ownership.begin(partition))).collect();
        for &(partition, epoch) in &begun {
            self.owned.insert(partition, ReadPartition::new(epoch, FetchState::Held));
        }
        self.outbox.urgent.push_back(SourceEvent::Assigned(begun));
    }

    fn count_partitions(&self) -> Option<i32> {
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), METADATA_TIMEOUT).ok()?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == self.topic)?;
        i32::try_from(topic.partitions().len()).ok().filter(|&count| count > 0)
    }

    fn revoke(&mut self, list: TopicPartitionList) {
        let partitions = partitions_of(&list);
        self.stop_reading(&partitions);
        let deadline = self.clock.now() + self.bounds.revoke_drain;
        let drain = match &self.course {
            // These partitions are being drained already, with all others.
            RunState::Leaving { step: LeaveStep::Draining { drain, .. }, .. } => Arc::clone(drain),
            RunState::Leaving { step: LeaveStep::Closing, .. } => return self.give_up(&list, Ending::Revoked),
            RunState::Running | RunState::Failed | RunState::Ended => self.announce_revocation(&partitions, deadline),
        };
        self.revocation = Some(Revocation { list, deadline, drain });
    }

    /// Tells the sink that these partitions are about to go. What comes back is finished once nobody needs them.
    fn announce_revocation(&mut self, partitions: &[Partition], deadline: Instant) -> Arc<Drain> {
        let ending: Vec<(Partition, Epoch)> =
            partitions.iter().filter_map(|&partition| Some((partition, self.ownership.current(partition)?))).collect();
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
        self.outbox.urgent.push_back(SourceEvent::Revoking { partitions: ending, deadline, drained });
        drain
    }

    fn lose(&mut self, list: TopicPartitionList) {
        self.stop_reading(&partitions_of(&list));
        self.give_up(&list, Ending::Lost);
    }

    fn end_revocation(&mut self) {
        let Some(revocation) = &self.revocation else { return };
        if let Some(ending) = revocation.ending(self.clock.now(), OwnershipChange::of(&self.consumer)) {
            self.close_revocation(ending);
        }
    }

    fn close_revocation(&mut self, ending: Ending) {
        if let Some(revocation) = self.revocation.take() {
            self.give_up(&revocation.list, ending);
        }
    }

    /// Ends the epochs first: from then on nothing of them is sent, whatever metadata the commit thread has.
    fn give_up(&mut self, list: &TopicPartitionList, ending: Ending) {
        let partitions = partitions_of(list);
        self.end_ownership(&partitions, ending);
        if let Err(error) = self.consumer.incremental_unassign(list) {
            self.fail(SourceFailure::Fatal(format!("the revocation was not accepted: {error}; {RESTART}")));
        }
    }

    fn end_ownership(&mut self, partitions: &[Partition], ending: Ending) {
        let ended = end_epochs(&self.ownership, partitions);
        for partition in partitions {
            self.owned.remove(partition);
        }
        if !ended.is_empty() {
            self.outbox.urgent.push_back(match ending {
                Ending::Revoked => SourceEvent::Revoked(ended),
                Ending::Lost => SourceEvent::Lost(ended),
            });
        }
    }

    fn stop_reading(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            if let Some(owned) = self.owned.get_mut(partition) {
                owned.reading = FetchState::Held;
            }
            self.outbox.drop_data(*partition);
        }
    }

    // -------------------------------------------------------------------------------------------------------- commands

    fn obey(&mut self, command: PollCommand) {
        match command {
            PollCommand::Start { partition, epoch, position } => self.begin_start(partition, epoch, position),
            PollCommand::Hold(partition) => self.hold(partition),
            PollCommand::Leave => self.begin_leaving(),
            PollCommand::Wake => {}
        }
    }

    fn begin_start(&mut self, partition: Partition, epoch: Epoch, position: Position) {
        let going =
            self.revocation.as_ref().is_some_and(|revocation| partitions_of(&revocation.list).contains(&partition));
        if going || !matches!(self.course, RunState::Running) || !self.ownership.is_current(partition, epoch) {
            return;
        }
        let since = self.clock.now();
        if let Some(owned) = self.owned.get_mut(&partition) {
            *owned = ReadPartition::new(epoch, starting(position, since, since));
            self.outbox.drop_data(partition);
        }
    }

    fn hold(&mut self, partition: Partition) {
        if !self.owned.contains_key(&partition) {
            return;
        }
        self.stop_reading(&[partition]);
        self.pause(partition);
    }

    fn pause(&mut self, partition: Partition) {
        if let Err(error) = pause(&self.consumer, &list_of(&self.topic, [(partition, None)])) {
            self.fail(SourceFailure::Fatal(format!("partition {partition} cannot be paused: {error}; {RESTART}")));
        }
    }

    fn wait_for_command(&mut self) {
        let reading = self.owned.values().any(|owned| !matches!(owned.reading, FetchState::Held));
        let wait =
            if reading || self.revocation.is_some() || !self.outbox.is_empty() { FULL_WAIT } else { RECORD_WAIT };
        if let Ok(command) = self.commands.recv_timeout(wait) {
            self.obey(command);
        }
    }

    // --------------------------------------------------------------------------------------------------------- records

    fn wants_records(&self) -> bool {
        matches!(self.course, RunState::Running)
            && self.revocation.is_none()
            && self.outbox.is_empty()
            && self.owned.values().any(|owned| matches!(owned.reading, FetchState::Started { .. }))
            && self.sink.wants_records()
    }

    /// Takes what is there, until nothing is left or the round is full, and makes one batch per partition of it.
    fn take_round(&mut self) {
        let mut round = Round { owned: &mut self.owned, records: 0, bytes: 0, failures: Vec::new() };
        let mut taken = self.queue.wait(RECORD_WAIT, |taken| round.take(taken));
        while taken > 0 && round.records < self.bounds.round_records && round.bytes < self.bounds.round_bytes {
            // One call fetches by number, so the number is chosen by the size of the records so far.
            self.record_bytes = round.average_bytes().unwrap_or(self.record_bytes);
            let room = (self.bounds.round_bytes - round.bytes) / self.record_bytes.max(1);
            let room = usize::try_from(room).unwrap_or(MAX_TAKEN).min(self.bounds.round_records - round.records);
            taken = self.queue.drain(room.clamp(1, MAX_TAKEN), |taken| round.take(taken));
        }
        let failures = round.failures;
        self.close_batches();
        for failure in failures {
            self.settle_failure(failure);
        }
    }

    fn close_batches(&mut self) {
        for (&partition, owned) in &mut self.owned {
            let FetchState::Started { open, .. } = &mut owned.reading else { continue };
            let Some(batch) = open.take() else { continue };
            owned.last_extent = batch.extent();
            if self.ownership.is_current(partition, owned.epoch) {
                self.outbox.data.push_back(SourceEvent::Batch(batch));
            } else {
                // The epoch was renewed: the next start tells from where to read again.
                owned.reading = FetchState::Held;
            }
        }
    }

    fn settle_failure(&mut self, failure: FetchFailure) {
        let FetchFailure { partition, offset, cause, reason } = failure;
        let now = self.clock.now();
        let started = self.owned.get_mut(&partition).and_then(|owned| match owned.reading {
            FetchState::Started { next, .. } => Some((owned, next)),
            FetchState::Held
            | FetchState::Starting { .. }
            | FetchState::Interrupted { .. }
            | FetchState::Expired { .. } => None,
        });
        match (cause, started) {
            // c)
            (FetchCause::FellBack(offset), Some((owned, next))) => {
                if owned.repeated.is_some() {
                    return self.fail(SourceFailure::OrderBroken { partition, offset, next });
                }
                owned.repeated = Some(offset);
                owned.reading = FetchState::Interrupted { next, resume_at: now };
                self.pause(partition);
                self.tell("RecordRepeated", partition, &reason);
            }
            (FetchCause::FellBack(_), None) => {}
            // What the client says about its position may be ahead of the last record, by transaction markers.
            (FetchCause::Client(QueueFailure::OutOfRange), Some((owned, next))) => {
                let first = offset.map_or(next, |offset| next.max(Position(offset.0)));
                owned.reading = FetchState::Expired { first, since: now, retry_at: now + EXPIRED_RETRY };
            }
            (FetchCause::Client(QueueFailure::OutOfRange), None) => {}
            (FetchCause::Client(QueueFailure::TooLarge), _) => self.fail(SourceFailure::Fatal(format!(
                "partition {partition} cannot be read on: {reason}; raise receive.message.max.bytes in kafka.properties"
            ))),
            (FetchCause::Client(QueueFailure::NotAuthorized), _) => self.fail(SourceFailure::Fatal(format!(
                "partition {partition} cannot be read on: {reason}; allow READ on the input topic and the group"
            ))),
            // h)
            (FetchCause::Client(QueueFailure::Permanent | QueueFailure::Transient), started) => {
                if let Some((owned, next)) = started {
                    owned.reading = FetchState::Interrupted { next, resume_at: now + INTERRUPTED_RETRY };
                    self.pause(partition);
                }
                self.tell("PartitionRead", partition, &reason);
            }
        }
    }

    fn tell(&self, code: &str, partition: Partition, reason: &str) {
        let (class, reason) = (ErrorClass::Other, format!("partition {partition}: {reason}"));
        self.events.error(ClientRole::Consumer, &ClientError { code, class, reason: &reason });
    }
}

/// What to do about an error that the client would go on meeting indefinitely. `None` where it may pass.
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

fn list_of(topic: &str, partitions: impl IntoIterator<Item = (Partition, Option<Position>)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, position) in partitions {
        let mut element = list.add_partition(topic, partition.0);
        if let Some(position) = position {
            element.set_offset(ClientOffset::Offset(position.0)).expect("a position is not negative, so it is valid");
        }
    }
    list
}

/// librdkafka answers per partition, which the wrapper does not pass on; an unknown partition cannot be, as all of them
/// were forwarded before.
fn pause(consumer: &SourceConsumer, list: &TopicPartitionList) -> Result<(), KafkaError> {
    if list.count() == 0 { Ok(()) } else { consumer.pause(list) }
}
