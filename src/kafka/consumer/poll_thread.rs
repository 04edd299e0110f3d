//! The thread that polls the consumer.
//!
//! One turn of its loop: serve the group without waiting; take commands; bring partitions to their positions; check
//! whether a revocation has ended; offer events that the sink has not accepted; and, if the sink wants more, take one
//! round of records. A turn never waits for the sink. An event that the sink gives back is offered again in the next
//! turn, while records stay in librdkafka, whose read-ahead is bounded.
//!
//! * a) Events about ownership overtake batches that the sink has no room for: a full sink must not cost the group its
//!   rebalance. Batches of a revoked partition are dropped; its next owner reads them again.
//! * b) A partition is assigned paused, with a placeholder position. Reading begins at the position of its `Start`
//!   command. Records of an older epoch are dropped.
//! * c) Offsets of one epoch only rise. The client may return records a second time: when it pauses a partition for a
//!   rebalance, it stores its position before it has counted the records that it is just returning. So at the first
//!   record below the position the client is set back to it. A second such record right after that is a reason to stop,
//!   not to skip.
//! * d) Leaving drains first, then leaves the group. A client without a subscription sends no heartbeat, so a drain longer
//!   than the session would lose the partitions before their events are committed.
//! * e) If this thread assigns a partition while a revocation waits in the queue, the client may take that for the response
//!   to the revocation. So a revocation that arrives right after such an assignment counts as lost.
//! * f) When the client stops reading a partition, some time after it was unassigned, it undoes the forwarding of the
//!   partition's queue: records of a later assignment would wait there indefinitely. So a start forwards again, after the
//!   seek has shown that the stop is over.
//! * g) The client's thread for a broker sleeps up to a second when it has nothing to fetch, and a resume does not wake
//!   it. A request to the broker does, so a start sends one.
//! * h) After a fetch error the client's position is one past the failed offset, although no record was returned. So nothing
//!   after an error is taken; the partition is paused and set back to its last correct position. Without the pause, a
//!   rebalance would let it fetch past the log's end, which looks like a lost log.

mod group;
mod leaving;
mod positions;
mod records;
mod replaced;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset as ClientOffset;
use rustc_hash::FxHashMap;

use crate::config::Config;
use crate::engine::static_membership::StaticMembership;
use crate::kafka::client::forwarded_queue::ForwardedQueue;
use crate::kafka::consumer::current_consumer::{ConsumerParts, CurrentConsumer};
use crate::kafka::consumer::fetching::{AssignedPartition, FetchState, Outbox};
use crate::kafka::consumer::poll_phase::{PollPhase, PollPhaseWatch};
use crate::kafka::consumer::poll_thread::positions::{IDLE_INTERVAL, starting};
use crate::kafka::consumer::rebalance::{
    Drain, GroupClaim, GroupConsumer, GroupConsumerContext, Revocation, partitions_of,
};
use crate::ports::{ConsumerEvent, ConsumerFailure, ConsumerSink};
use crate::record::{Epoch, Partition, Position};

/// The wait of a turn for a record. It bounds the delay of a rebalance and of a command.
const RECORD_WAIT: Duration = Duration::from_millis(10);
/// The wait of a turn for a command while the sink wants no records.
const FULL_WAIT: Duration = Duration::from_millis(2);
/// Limit of bytes in one round, exceeded by at most one call. The larger a batch, the more of its records share a key,
/// and with it a message, a snapshot and a line of the processor's cache.
const ROUND_BYTES: u64 = 8 << 20;
/// A round takes at most this part of `limits.max_in_flight_bytes`, so that the actors process several at a time.
const ROUNDS_IN_FLIGHT: u64 = 6;
/// The assumed size of a record before the first one was read.
const RECORD_BYTES: u64 = 256;

/// The remedy if the client refuses a call that it has to support.
const RESTART: &str = "restart the process, nothing that was applied is lost; report it, with the kafka_client_error before it, if it comes again";

/// A command of the ingest actor, see `InputConsumer`.
pub(super) enum PollCommand {
    Start {
        partition: Partition,
        epoch: Epoch,
        position: Position,
    },
    Hold(Partition),
    Leave,
    /// A drain has finished.
    Wake,
}

pub(super) struct PollThread {
    /// The present one of `current`.
    consumer: Arc<GroupConsumer>,
    /// Shared with the commit thread and the control loop, which read the group's metadata from it.
    current: CurrentConsumer,
    /// The next consumer is built of these two as well.
    config: Config,
    parts: ConsumerParts,
    membership: StaticMembership,
    commands: Receiver<PollCommand>,
    /// For the `Drained` that the sink receives: it wakes the thread.
    wake: Sender<PollCommand>,
    /// Written by this thread, read by the watchdog and by tests.
    phase: Arc<PollPhaseWatch>,
    queue: ForwardedQueue<GroupConsumerContext>,
    sink: Box<dyn ConsumerSink>,
    round_records: usize,
    round_bytes: u64,
    revoke_drain: Duration,
    leave_limit: Duration,
    assigned: FxHashMap<Partition, AssignedPartition>,
    /// The revocation that the group waits for.
    revocation: Option<Revocation>,
    outbox: Outbox,
    next_idle_check: Instant,
    /// The average size of a record in the last round.
    record_bytes: u64,
    state: RunState,
}

/// The thread's life, in order. `Failed` may be skipped.
enum RunState {
    Running,
    /// The failure is in the outbox. The group is served until the leave command, but nothing is read.
    Failed,
    /// d) Applied events are being committed, as in a revocation, until `deadline`. The thread ends at `end_by`.
    Draining {
        end_by: Instant,
        deadline: Instant,
        drain: Arc<Drain>,
    },
    /// The client leaves the group.
    Closing {
        end_by: Instant,
    },
    Ended,
}

impl PollThread {
    pub(super) fn new(
        config: &Config,
        parts: ConsumerParts,
        current: CurrentConsumer,
        commands: Receiver<PollCommand>,
        wake: Sender<PollCommand>,
        phase: Arc<PollPhaseWatch>,
        sink: Box<dyn ConsumerSink>,
    ) -> PollThread {
        let consumer = current.get();
        PollThread {
            queue: ForwardedQueue::new(Arc::clone(&consumer)),
            next_idle_check: parts.clock.now() + IDLE_INTERVAL,
            round_records: config.limits.max_batch_records,
            round_bytes: ROUND_BYTES.min(config.limits.max_in_flight_bytes / ROUNDS_IN_FLIGHT).max(65_536),
            revoke_drain: Duration::from_millis(config.shutdown.revoke_drain_ms),
            leave_limit: Duration::from_millis(config.shutdown.drain_timeout_ms),
            consumer,
            current,
            config: config.clone(),
            parts,
            membership: StaticMembership::default(),
            commands,
            wake,
            phase,
            sink,
            assigned: FxHashMap::default(),
            revocation: None,
            outbox: Outbox::default(),
            record_bytes: RECORD_BYTES,
            state: RunState::Running,
        }
    }

    pub(super) fn run(mut self) {
        while !matches!(self.state, RunState::Ended) {
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.show_phase();
        self.serve_group();
        while let Some(event) = self.consumer.context().next_event() {
            self.answer(event, GroupClaim::of(&self.consumer));
        }
        while let Ok(command) = self.commands.try_recv() {
            self.execute(command);
        }
        self.show_phase();
        self.seek_due();
        self.end_revocation();
        self.continue_leaving();
        self.report_idle_positions();
        self.outbox.offer(&mut *self.sink);
        if self.wants_records() {
            self.take_round();
            self.outbox.offer(&mut *self.sink);
        } else if !matches!(self.state, RunState::Ended) {
            self.wait_for_command();
        }
    }

    fn show_phase(&self) {
        let is_seeking =
            |partition: &AssignedPartition| !matches!(partition.fetch, FetchState::Held | FetchState::Started { .. });
        let phase = match self.state {
            RunState::Draining { .. } | RunState::Closing { .. } => PollPhase::Leaving,
            RunState::Running | RunState::Failed | RunState::Ended => {
                if self.revocation.is_some() {
                    PollPhase::Revoking
                } else if self.assigned.values().any(is_seeking) {
                    PollPhase::Seeking
                } else if !self.outbox.is_empty() {
                    PollPhase::Offering
                } else {
                    PollPhase::Polling
                }
            }
        };
        self.phase.record_turn(phase, self.parts.clock.now());
    }

    fn is_running(&self) -> bool {
        matches!(self.state, RunState::Running)
    }

    /// Reports the first failure. A thread that is leaving reports none.
    fn fail(&mut self, failure: ConsumerFailure) {
        if self.is_running() {
            self.state = RunState::Failed;
            self.outbox.urgent.push_back(ConsumerEvent::Failed(failure));
        }
    }

    fn stop_reading(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            if let Some(assigned) = self.assigned.get_mut(partition) {
                assigned.fetch = FetchState::Held;
            }
            self.outbox.drop_data(*partition);
        }
    }

    // -------------------------------------------------------------------------------------------------------- commands

    fn execute(&mut self, command: PollCommand) {
        match command {
            PollCommand::Start { partition, epoch, position } => self.begin_start(partition, epoch, position),
            PollCommand::Hold(partition) => self.hold(partition),
            PollCommand::Leave => self.begin_leaving(),
            PollCommand::Wake => {}
        }
    }

    fn begin_start(&mut self, partition: Partition, epoch: Epoch, position: Position) {
        let is_revoked =
            self.revocation.as_ref().is_some_and(|revocation| partitions_of(&revocation.list).contains(&partition));
        if is_revoked || !self.is_running() || !self.parts.ownership.is_current(partition, epoch) {
            return;
        }
        let since = self.parts.clock.now();
        if let Some(assigned) = self.assigned.get_mut(&partition) {
            *assigned = AssignedPartition::new(epoch, starting(position, since, since));
            self.outbox.drop_data(partition);
        }
    }

    fn hold(&mut self, partition: Partition) {
        if !self.assigned.contains_key(&partition) {
            return;
        }
        self.stop_reading(&[partition]);
        self.pause(partition);
    }

    fn pause(&mut self, partition: Partition) {
        if let Err(error) = pause(&self.consumer, &list_of(&self.config.kafka.topic, [(partition, None)])) {
            self.fail(ConsumerFailure::Fatal(format!("partition {partition} cannot be paused: {error}; {RESTART}")));
        }
    }

    fn wait_for_command(&mut self) {
        let is_reading = self.assigned.values().any(|assigned| !matches!(assigned.fetch, FetchState::Held));
        let is_busy = is_reading || self.revocation.is_some() || !self.outbox.is_empty();
        if let Ok(command) = self.commands.recv_timeout(if is_busy { FULL_WAIT } else { RECORD_WAIT }) {
            self.execute(command);
        }
    }
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

/// librdkafka answers for each partition, and the wrapper drops those answers. No partition can be unknown, because each
/// was forwarded before.
fn pause(consumer: &GroupConsumer, list: &TopicPartitionList) -> Result<(), KafkaError> {
    if list.count() == 0 { Ok(()) } else { consumer.pause(list) }
}
