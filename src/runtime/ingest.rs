//! Owns the order of events. Everything that the consumer, the recoveries and the committer report passes the mailbox
//! of this actor, and each message is handled completely before the next.
//!
//! Its parts decide: `partitions` what an event means for a partition, `fan_out` which record belongs to which key,
//! the entity pool which actor gets it. The actor executes. A batch becomes one message per key, which holds the range
//! of the key's records; the bytes stay in the batch.

pub(super) mod fan_out;
mod partitions;
mod report;
mod sink;

pub use crate::runtime::ingest::sink::IngestSink;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};

use crate::engine::batches::{BatchId, CompleteBatch, OpenBatch};
use crate::engine::budget::Lease;
use crate::engine::commit::CommitInput;
use crate::engine::ownership::Ownership;
use crate::engine::partition::{PartitionAction, PartitionEvent};
use crate::engine::recovery::driver::{ReadFailure, RecoveryFailure};
use crate::engine::recovery::{Recovered, RecoveryRefusal};
use crate::entity::Entity;
use crate::ports::{ConsumerEvent, InputConsumer, Recoveries};
use crate::record::{Batch, Epoch, Partition, Position};
use crate::runtime::committer::{CommitActor, Invalidated, PartitionRecovered, Revoking};
use crate::runtime::entity_actor::batch_work::BatchWork;
use crate::runtime::entity_pool::EntityPool;
use crate::runtime::ingest::fan_out::{BatchByKey, FanOut};
use crate::runtime::ingest::partitions::{OwnedPartitions, OwnershipEnd};
use crate::runtime::ingest::sink::{BatchPermit, FromConsumer};
use crate::runtime::{MAILBOX_MESSAGES, OpenBatchGuard, Shared, StopCause, post};

/// Wait before a recovery that failed to read is repeated.
const RECOVERY_RETRY: Duration = Duration::from_secs(1);
const STATS_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct IngestSettings {
    /// Repairs of a recovery are cut into batches of at most this size.
    pub(super) max_repair_bytes: u64,
    pub(super) entity_idle: Duration,
    pub(super) stop_on_expired: bool,
}

pub struct IngestActor<E: Entity> {
    settings: IngestSettings,
    shared: Shared,
    consumer: Box<dyn InputConsumer>,
    recoveries: Box<dyn Recoveries>,
    committer: Addr<CommitActor>,
    partitions: OwnedPartitions,
    fan_out: FanOut<E>,
    entities: EntityPool<E>,
    next_batch: u64,
    state: IngestState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IngestState {
    Running,
    /// The process is about to end: recovered partitions are not read.
    Stopped,
}

#[derive(Message)]
#[rtype(result = "()")]
struct RecoveryEnded {
    partition: Partition,
    epoch: Epoch,
    result: Box<Result<Recovered, RecoveryFailure>>,
}

/// Stops reading, for the end of the process. Records that were read are processed and committed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StopIngest;

#[derive(Message)]
#[rtype(result = "()")]
pub struct LeaveGroup;

pub(super) struct IngestParts<E: Entity> {
    pub(super) settings: IngestSettings,
    pub(super) shared: Shared,
    pub(super) ownership: Arc<Ownership>,
    pub(super) consumer: Box<dyn InputConsumer>,
    pub(super) recoveries: Box<dyn Recoveries>,
    pub(super) committer: Addr<CommitActor>,
    pub(super) fan_out: FanOut<E>,
    pub(super) entities: EntityPool<E>,
}

impl<E: Entity> IngestActor<E> {
    pub(super) fn new(parts: IngestParts<E>) -> IngestActor<E> {
        let IngestParts { settings, shared, ownership, consumer, recoveries, committer, fan_out, entities } = parts;
        IngestActor {
            partitions: OwnedPartitions::new(ownership, shared.clone()),
            settings,
            shared,
            consumer,
            recoveries,
            committer,
            fan_out,
            entities,
            next_batch: 1,
            state: IngestState::Running,
        }
    }

    fn stop(&self, cause: StopCause) {
        (self.shared.stop)(cause);
    }

    fn assigned(&mut self, partitions: &[(Partition, Epoch)], context: &Context<Self>) {
        self.partitions.assign(partitions);
        for &(partition, epoch) in partitions {
            self.recover(partition, epoch, context);
        }
    }

    fn recover(&mut self, partition: Partition, epoch: Epoch, context: &Context<Self>) {
        self.partitions.recovery_starts(partition, epoch);
        let ingest = context.address();
        let reply = move |result| post(&ingest, RecoveryEnded { partition, epoch, result: Box::new(result) });
        self.recoveries.begin(partition, epoch, Box::new(reply));
    }

    fn recovery_failed(
        &mut self,
        partition: Partition,
        epoch: Epoch,
        failure: RecoveryFailure,
        context: &mut Context<Self>,
    ) {
        match failure {
            RecoveryFailure::Refused(refusal) => self.stop(StopCause::Refused(refusal)),
            // The epoch has ended; the event that says so is in the mailbox.
            RecoveryFailure::Unread(ReadFailure::Cancelled) => {}
            RecoveryFailure::Unread(
                failure @ (ReadFailure::Hanging { .. } | ReadFailure::OffsetHeldBack { .. } | ReadFailure::Denied(_)),
            ) => {
                self.stop(StopCause::Unreadable(failure));
            }
            RecoveryFailure::Unread(ReadFailure::Kafka(error)) => {
                self.partitions.recovery_failed(partition, &error);
                context.run_later(RECOVERY_RETRY, move |actor, context| {
                    if actor.partitions.is_recovering(partition, epoch) {
                        actor.recover(partition, epoch, context);
                    }
                });
            }
        }
    }

    fn serve(&mut self, mut recovered: Recovered) {
        self.partitions.start_serving(&mut recovered);
        let repairs = recovered.take_repairs(self.settings.max_repair_bytes);
        let Recovered { partition, epoch, entities, lease, committed, start, newest_state, repaired, .. } = recovered;
        self.entities.add(partition, entities, lease);
        let repairs = repairs.into_iter().map(|(position, outcomes)| {
            let lease = self.shared.in_flight.hold(outcomes.weight_bytes());
            let batch = Batch::new(partition, epoch, position);
            CompleteBatch { open: self.open_batch(batch, lease, self.shared.open_batches.count()), outcomes }
        });
        let repairs = repairs.collect();
        let recovered = CommitInput::Recovered { partition, epoch, committed, start, newest_state, repairs };
        post(&self.committer, PartitionRecovered { partition, epoch, recovered, repaired });
        if self.state == IngestState::Running {
            self.consumer.start(partition, epoch, start);
        }
    }

    fn ownership_ended(&mut self, partitions: &[(Partition, Epoch)], how: OwnershipEnd) {
        for (partition, epoch) in self.partitions.ended(partitions, how) {
            self.entities.remove(partition);
            post(&self.committer, CommitInput::OwnershipEnded(vec![(partition, epoch)]));
        }
    }

    fn expired(&self, partition: Partition, epoch: Epoch, first: Position, until: Position) {
        if self.partitions.expired(partition, epoch, first, until) && self.settings.stop_on_expired {
            self.stop(StopCause::Refused(RecoveryRefusal::Expired { partition, first, until }));
        }
    }

    fn batch_read(&mut self, batch: Batch, BatchPermit { lease, guard }: BatchPermit) {
        let (partition, epoch) = (batch.partition(), batch.epoch());
        match self.partitions.handle(partition, epoch, PartitionEvent::BatchRead) {
            PartitionAction::Route => {}
            PartitionAction::Recover
            | PartitionAction::Serve
            | PartitionAction::Drain
            | PartitionAction::Release
            | PartitionAction::Ignore => return self.shared.status.batch_routed(partition, None),
        }
        let open = self.open_batch(batch, lease, guard);
        let (id, batch) = (open.id, Arc::clone(&open.batch));
        // Before any entity can complete the batch.
        post(&self.committer, CommitInput::Opened(open));
        if !batch.is_empty() {
            self.route(partition, id, &batch);
        }
        self.shared.status.batch_routed(partition, Some(batch));
    }

    fn open_batch(&mut self, batch: Batch, lease: Lease, guard: OpenBatchGuard) -> OpenBatch {
        let id = BatchId(self.next_batch);
        self.next_batch += 1;
        OpenBatch { id, batch: Arc::new(batch), lease, guard: Some(Box::new(guard)) }
    }

    fn route(&mut self, partition: Partition, id: BatchId, batch: &Arc<Batch>) {
        let Some(fan_out_state) = self.partitions.fan_out_mut(partition) else { return };
        let BatchByKey { keys, by_key, decided } = self.fan_out.split(batch, fan_out_state);
        self.shared.stats.keys_read(batch.len(), keys.iter().map(|(key, records)| (*key, records.len())));
        let work = BatchWork::start(Arc::clone(batch), id, by_key, keys.len(), decided, self.committer.clone());
        self.entities.deliver(partition, keys, &work);
        if self.entities.has_too_many_actors() {
            self.entities.passivate_all_idle();
            self.check_memory();
        }
    }

    fn check_memory(&self) {
        let memory = &self.shared.state_memory;
        let (held_bytes, limit_bytes) = (memory.held_bytes(), memory.limit_bytes());
        if held_bytes > limit_bytes {
            self.stop(StopCause::StateTooLarge { held_bytes, limit_bytes });
        }
    }

    fn update_stats(&self) {
        self.shared.status.actors_ran(self.shared.clock.now());
        self.shared.stats.set_in_flight_bytes(self.shared.in_flight.held_bytes());
        self.entities.update_stats();
    }
}

impl<E: Entity> Actor for IngestActor<E> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX_MESSAGES);
        context.run_interval(self.settings.entity_idle, |actor, _| {
            actor.entities.passivate_unused();
            actor.check_memory();
        });
        context.run_interval(STATS_INTERVAL, |actor, _| actor.update_stats());
    }
}

impl<E: Entity> Handler<FromConsumer> for IngestActor<E> {
    type Result = ();

    fn handle(&mut self, FromConsumer { event, in_flight }: FromConsumer, context: &mut Self::Context) {
        match event {
            ConsumerEvent::Assigned(partitions) => self.assigned(&partitions, context),
            ConsumerEvent::Batch(batch) => {
                if let Some(in_flight) = in_flight {
                    self.batch_read(batch, in_flight);
                }
            }
            ConsumerEvent::Revoking { partitions, deadline: _, drained } => {
                let partitions = self.partitions.revoking(partitions);
                post(&self.committer, Revoking { partitions, drained });
            }
            ConsumerEvent::Revoked(partitions) => self.ownership_ended(&partitions, OwnershipEnd::Revoked),
            ConsumerEvent::Lost(partitions) => self.ownership_ended(&partitions, OwnershipEnd::Lost),
            ConsumerEvent::Expired { partition, epoch, first, until } => self.expired(partition, epoch, first, until),
            ConsumerEvent::Failed(failure) => self.stop(StopCause::Consumer(failure)),
        }
    }
}

impl<E: Entity> Handler<RecoveryEnded> for IngestActor<E> {
    type Result = ();

    fn handle(&mut self, ended: RecoveryEnded, context: &mut Self::Context) {
        let RecoveryEnded { partition, epoch, result } = ended;
        let event = if result.is_ok() { PartitionEvent::Recovered } else { PartitionEvent::RecoveryFailed };
        let action = self.partitions.handle(partition, epoch, event);
        match (action, *result) {
            (PartitionAction::Serve, Ok(recovered)) => self.serve(recovered),
            (PartitionAction::Recover, Err(failure)) => self.recovery_failed(partition, epoch, failure, context),
            (PartitionAction::Serve, Err(_)) | (PartitionAction::Recover, Ok(_)) => {
                unreachable!("a recovery that has ended cannot be {action:?}")
            }
            (
                PartitionAction::Route | PartitionAction::Drain | PartitionAction::Release | PartitionAction::Ignore,
                Ok(_) | Err(_),
            ) => {}
        }
    }
}

impl<E: Entity> Handler<Invalidated> for IngestActor<E> {
    type Result = ();

    fn handle(&mut self, Invalidated { partition, epoch: old, cause }: Invalidated, context: &mut Self::Context) {
        if let Some(epoch) = self.partitions.invalidate(partition, old, cause) {
            self.consumer.hold(partition);
            self.entities.remove(partition);
            self.recover(partition, epoch, context);
        }
    }
}

impl<E: Entity> Handler<StopIngest> for IngestActor<E> {
    type Result = ();

    fn handle(&mut self, _: StopIngest, _: &mut Self::Context) {
        self.state = IngestState::Stopped;
        for partition in self.partitions.iter() {
            self.consumer.hold(partition);
        }
        post(&self.committer, CommitInput::Stopping);
    }
}

impl<E: Entity> Handler<LeaveGroup> for IngestActor<E> {
    type Result = ();

    fn handle(&mut self, _: LeaveGroup, _: &mut Self::Context) {
        self.consumer.leave();
    }
}
