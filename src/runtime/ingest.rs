//! Fans the records of a batch out by key, and owns each partition's life cycle.
//!
//! The event source speaks to this actor through a [`SourceSink`] that puts what it says into the mailbox; recoveries
//! answer here; invalidates come from the committer. What each means for a partition is decided by its
//! [`PartitionLifecycle`]; this actor carries it out.
//!
//! One message per key and batch goes to the entities, with the indices of the key's records; the bytes stay in the
//! batch. The records that need no entity, because they have no key or are known to be refused, are decided here.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix::{Actor, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message, Supervisor};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};

use crate::engine::batches::{BatchId, DoneBatch, OpenBatch};
use crate::engine::budget::Lease;
use crate::engine::outcome::{Outcomes, RejectedEvent};
use crate::engine::ownership::Ownership;
use crate::engine::partition::{PartitionAction, PartitionEvent, PartitionLifecycle, PartitionState};
use crate::engine::recovery::driver::{ReadFailure, RecoveryFailure};
use crate::engine::recovery::{Recovered, RecoveryRefusal};
use crate::entity::{Entity, judge};
use crate::observability::log_events::{
    EventsExpired, LogEvent, PartitionInvalidated, PartitionsAssigned, PartitionsLost, PartitionsRevoked,
    RecoveryFailed, RecoveryStarted,
};
use crate::ports::{Drained, EventSource, Recoveries, SourceEvent, SourceSink};
use crate::record::{Batch, Epoch, Key, Offset, Partition, Position};
use crate::runtime::committer::{
    CommitActor, Invalidated, Joined, Opened, OwnershipEnded, ReportInvalidations, Revoking, Stopping,
};
use crate::runtime::entity_actor::{Deliver, EntityActor, EntityThreadContext, Work};
use crate::runtime::registry::{EntitySlot, PartitionEntities};
use crate::runtime::{MAILBOX_MESSAGES, MAX_OPEN_BATCHES, Shared, StopCause, post};

mod report;

/// The wait before a recovery that could not read is tried again.
const RECOVERY_RETRY: Duration = Duration::from_secs(1);

/// Bounds and habits.
#[derive(Debug, Clone)]
pub struct IngestSettings {
    /// A larger value is refused.
    pub max_payload_bytes: u64,
    /// What recovery has to publish is cut into parts of at most this weight.
    pub max_transaction_bytes: u64,
    /// An entity without events for longer goes to rest.
    pub entity_idle: Duration,
    /// Entities that are actors at the same time; beyond, the idle ones rest at once.
    pub max_active_entities: usize,
    /// Whether events that expired unread end the process.
    pub stop_on_expired: bool,
}

/// One owned partition.
struct OwnedPartition<E: Entity> {
    lifecycle: PartitionLifecycle,
    /// There once it has recovered.
    entities: Option<PartitionEntities<E>>,
    /// Events ahead that stand in the DLQ records already.
    rejected: FxHashSet<Offset>,
    attempts: u32,
    recovers_since: Instant,
    /// How many keys the last batch had.
    keys_of_last_batch: usize,
}

/// See the module.
pub struct IngestActor<E: Entity> {
    entity: Arc<E>,
    settings: IngestSettings,
    shared: Shared,
    ownership: Arc<Ownership>,
    source: Box<dyn EventSource>,
    recoveries: Box<dyn Recoveries>,
    committer: Addr<CommitActor>,
    /// Where entities live; one at least.
    entity_threads: Vec<EntityThread<E>>,
    owned: BTreeMap<Partition, OwnedPartition<E>>,
    open_batches: OpenBatchCount,
    /// Entities that are actors, all partitions together.
    active_entities: usize,
    next_batch: u64,
    /// Rises with every batch and every sweep: what an entity was last used at.
    use_clock: u64,
    used_at_last_sweep: u64,
    /// When the revocation under way began.
    revoked_at: Option<Instant>,
    intake: IngestState,
}

/// A thread on which entities live.
struct EntityThread<E: Entity> {
    /// `None`: the thread of the ingest actor.
    arbiter: Option<ArbiterHandle>,
    thread_context: Arc<EntityThreadContext<E>>,
}

impl<E: Entity> EntityThread<E> {
    fn all(
        arbiters: Vec<ArbiterHandle>,
        entity: &Arc<E>,
        shared: &Shared,
        max_payload_bytes: u64,
    ) -> Vec<EntityThread<E>> {
        let mut threads: Vec<Option<ArbiterHandle>> = arbiters.into_iter().map(Some).collect();
        if threads.is_empty() {
            threads.push(None);
        }
        let entity_threads = threads.into_iter().map(|arbiter| {
            let (entity, stats, current_event) =
                (Arc::clone(entity), Arc::clone(&shared.stats), shared.status.current_event());
            let clock = Arc::clone(&shared.clock);
            let turns = AtomicU64::new(0);
            EntityThread {
                arbiter,
                thread_context: Arc::new(EntityThreadContext {
                    entity,
                    stats,
                    current_event,
                    clock,
                    max_payload_bytes,
                    turns,
                }),
            }
        });
        entity_threads.collect()
    }
}

/// Whether events are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IngestState {
    Open,
    /// The process is about to end.
    Stopped,
}

/// How many batches are read and not yet committed or dropped; shared with the sink, which stops the intake above
/// [`MAX_OPEN_BATCHES`].
#[derive(Debug, Clone, Default)]
pub struct OpenBatchCount(Arc<AtomicUsize>);

impl OpenBatchCount {
    /// Counts one more until the guard is dropped.
    fn count(&self) -> OpenBatchGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenBatchGuard(Arc::clone(&self.0))
    }

    /// Whether one more may be opened.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.0.load(Ordering::Relaxed) < MAX_OPEN_BATCHES
    }
}

/// Counts one open batch; see [`OpenBatchCount`].
#[derive(Debug)]
pub struct OpenBatchGuard(Arc<AtomicUsize>);

impl Drop for OpenBatchGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the event source says.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FromSource(pub SourceEvent, Option<(Lease, OpenBatchGuard)>);

/// What became of a recovery.
#[derive(Message)]
#[rtype(result = "()")]
struct RecoveryEnded {
    partition: Partition,
    epoch: Epoch,
    result: Box<Result<Recovered, RecoveryFailure>>,
}

/// StopCause reading for good. What is read is worked off.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StopIntake;

/// Leave the group cleanly.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Leave;

/// The ingest actor's mailbox as the event source sees it.
pub struct IngestSink<E: Entity> {
    /// The actor.
    pub ingest: Addr<IngestActor<E>>,
    /// What all share.
    pub shared: Shared,
    /// How many batches are under way.
    pub open_batches: OpenBatchCount,
}

impl<E: Entity> SourceSink for IngestSink<E> {
    fn offer(&mut self, event: SourceEvent) -> Result<(), SourceEvent> {
        let (records, bytes, held) = match &event {
            SourceEvent::Batch(batch) => {
                let bytes = batch.held_bytes();
                // Before the actor can take it.
                self.shared.status.offers(batch.partition(), first_of(batch));
                (batch.len() as u64, bytes, Some((self.shared.in_flight.hold(bytes), self.open_batches.count())))
            }
            SourceEvent::Assigned(_)
            | SourceEvent::Revoking { .. }
            | SourceEvent::Revoked(_)
            | SourceEvent::Lost(_)
            | SourceEvent::Expired { .. }
            | SourceEvent::Failed(_) => (0, 0, None),
        };
        match self.ingest.try_send(FromSource(event, held)) {
            Ok(()) => {
                if records > 0 {
                    self.shared.stats.events_read(records, bytes);
                }
                Ok(())
            }
            Err(
                actix::dev::SendError::Full(FromSource(event, _)) | actix::dev::SendError::Closed(FromSource(event, _)),
            ) => {
                if let SourceEvent::Batch(batch) = &event {
                    self.shared.status.offer_refused(batch.partition());
                }
                Err(event)
            }
        }
    }

    fn wants_records(&self) -> bool {
        self.shared.in_flight.has_room() && self.open_batches.has_room()
    }
}

/// Where the first record of a batch stands, and its key.
fn first_of(batch: &Batch) -> Option<(Offset, Option<&[u8]>)> {
    batch.iter().next().map(|record| (record.offset, record.key))
}

/// What an [`IngestActor`] is made of.
pub struct IngestParts<E: Entity> {
    /// The kind of entity.
    pub entity: Arc<E>,
    /// Bounds and habits.
    pub settings: IngestSettings,
    /// What all share.
    pub shared: Shared,
    /// Who owns which partition.
    pub ownership: Arc<Ownership>,
    /// The consumer.
    pub source: Box<dyn EventSource>,
    /// Reads partitions back.
    pub recoveries: Box<dyn Recoveries>,
    /// Where outcomes go.
    pub committer: Addr<CommitActor>,
    /// Where entities live; empty: on the thread of the ingest actor.
    pub arbiters: Vec<ArbiterHandle>,
    /// Shared with the sink.
    pub open_batches: OpenBatchCount,
}

impl<E: Entity> IngestActor<E> {
    /// Owns nothing yet.
    #[must_use]
    pub fn new(parts: IngestParts<E>) -> IngestActor<E> {
        let IngestParts { entity, settings, shared, ownership, source, recoveries, committer, arbiters, open_batches } =
            parts;
        let entity_threads = EntityThread::all(arbiters, &entity, &shared, settings.max_payload_bytes);
        IngestActor {
            entity,
            settings,
            shared,
            ownership,
            source,
            recoveries,
            committer,
            entity_threads,
            owned: BTreeMap::new(),
            open_batches,
            active_entities: 0,
            next_batch: 1,
            use_clock: 1,
            used_at_last_sweep: 1,
            revoked_at: None,
            intake: IngestState::Open,
        }
    }

    fn stop(&self, reason: StopCause) {
        (self.shared.stop)(reason);
    }

    // ------------------------------------------------------------------------------------------------ partitions

    fn assigned(&mut self, partitions: Vec<(Partition, Epoch)>, context: &mut Context<Self>) {
        self.shared.status.assigned(self.shared.clock.now());
        for &(partition, epoch) in &partitions {
            let owned = OwnedPartition {
                lifecycle: PartitionLifecycle::assigned(epoch),
                entities: None,
                rejected: FxHashSet::default(),
                attempts: 0,
                recovers_since: self.shared.clock.now(),
                keys_of_last_batch: 0,
            };
            self.shared.stats.own_partition(partition.0);
            self.owned.insert(partition, owned);
            self.set_stage(partition);
        }
        PartitionsAssigned {
            partitions: &report::list(&partitions),
            count: partitions.len() as u64,
            owned: self.owned.len() as u64,
        }
        .emit();
        for (partition, epoch) in partitions {
            self.recover(partition, epoch, context);
        }
    }

    fn recover(&mut self, partition: Partition, epoch: Epoch, context: &mut Context<Self>) {
        RecoveryStarted { partition: partition.0, epoch: epoch.0 }.emit();
        if let Some(owned) = self.owned.get_mut(&partition) {
            owned.recovers_since = self.shared.clock.now();
        }
        let ingest = context.address();
        let reply = move |result| post(&ingest, RecoveryEnded { partition, epoch, result: Box::new(result) });
        self.recoveries.begin(partition, epoch, Box::new(reply));
    }

    fn happened(&mut self, partition: Partition, epoch: Epoch, happening: PartitionEvent) -> PartitionAction {
        let Some(owned) = self.owned.get_mut(&partition) else { return PartitionAction::Ignore };
        let step = owned.lifecycle.handle(happening, epoch);
        self.set_stage(partition);
        step
    }

    fn set_stage(&self, partition: Partition) {
        let stage = self.owned.get(&partition).map(|owned| owned.lifecycle.stage());
        self.shared.status.stage(partition, stage, self.shared.clock.now());
    }

    fn recovery_ended(&mut self, ended: RecoveryEnded, context: &mut Context<Self>) {
        let RecoveryEnded { partition, epoch, result } = ended;
        match *result {
            Ok(recovered) => {
                if self.happened(partition, epoch, PartitionEvent::Recovered) == PartitionAction::Serve {
                    self.serve(recovered);
                }
            }
            Err(RecoveryFailure::Refused(refusal)) => {
                if self.happened(partition, epoch, PartitionEvent::RecoveryFailed) == PartitionAction::Recover {
                    self.stop(StopCause::Refused(refusal));
                }
            }
            Err(RecoveryFailure::Unread(failure)) => self.recovery_unread(partition, epoch, failure, context),
        }
    }

    fn recovery_unread(
        &mut self,
        partition: Partition,
        epoch: Epoch,
        failure: ReadFailure,
        context: &mut Context<Self>,
    ) {
        if self.happened(partition, epoch, PartitionEvent::RecoveryFailed) != PartitionAction::Recover {
            return;
        }
        let Some(owned) = self.owned.get_mut(&partition) else { return };
        owned.attempts += 1;
        match failure {
            // The epoch is over: its end is on the way.
            ReadFailure::Cancelled => {}
            ReadFailure::Hanging { .. } | ReadFailure::Denied(_) => self.stop(StopCause::Unreadable(failure)),
            ReadFailure::Kafka(ref error) => {
                RecoveryFailed { partition: partition.0, error, attempt: u64::from(owned.attempts) }.emit();
                context.run_later(RECOVERY_RETRY, move |actor, context| {
                    let is_current = actor.owned.get(&partition).is_some_and(|owned| {
                        owned.lifecycle.epoch() == epoch && owned.lifecycle.stage() == PartitionState::Recovering
                    });
                    if is_current {
                        actor.recover(partition, epoch, context);
                    }
                });
            }
        }
    }

    fn serve(&mut self, recovered: Recovered) {
        let now = self.shared.clock.now();
        let since = self.owned.get(&recovered.partition).map_or(now, |owned| owned.recovers_since);
        report::recovered(&recovered, now.saturating_duration_since(since));
        let Recovered { partition, epoch, entities, lease, committed, start, rejected, repairs, repaired, .. } =
            recovered;
        let Some(owned) = self.owned.get_mut(&partition) else { return };
        owned.entities = Some(PartitionEntities::all_passivated(entities, lease));
        owned.rejected = rejected;
        owned.attempts = 0;
        let repairs = repairs.cut(self.settings.max_transaction_bytes).into_iter().map(|outcomes| {
            let lease = self.shared.in_flight.hold(outcomes.weight_bytes());
            let open = self.open_batch(Batch::new(partition, epoch, start), lease, self.open_batches.count());
            DoneBatch { open, outcomes }
        });
        let repairs = repairs.collect();
        post(&self.committer, Joined { partition, epoch, committed, start, repairs, repaired });
        if self.intake == IngestState::Open {
            self.source.start(partition, epoch, start);
        }
    }

    fn open_batch(&mut self, batch: Batch, lease: Lease, guard: OpenBatchGuard) -> OpenBatch {
        let id = BatchId(self.next_batch);
        self.next_batch += 1;
        OpenBatch { id, batch: Arc::new(batch), lease, guard: Some(Box::new(guard)) }
    }

    fn revoked(&mut self, partitions: Vec<(Partition, Epoch)>, drained: Drained) {
        self.revoked_at = Some(self.shared.clock.now());
        let draining = partitions.into_iter().filter(|(partition, epoch)| {
            self.happened(*partition, *epoch, PartitionEvent::Revoking) == PartitionAction::Drain
        });
        let partitions = draining.collect();
        post(&self.committer, Revoking { partitions, drained });
    }

    fn over(&mut self, partitions: &[(Partition, Epoch)], happening: PartitionEvent) {
        let now = self.shared.clock.now();
        let drain_ms = self.revoked_at.take().map_or(0, |at| now.saturating_duration_since(at).as_millis());
        let drain_ms = u64::try_from(drain_ms).unwrap_or(u64::MAX);
        for &(partition, _) in partitions {
            // Ownership is of the partition: a epoch that was renewed meanwhile ends with it.
            let Some(epoch) = self.owned.get(&partition).map(|owned| owned.lifecycle.epoch()) else { continue };
            if self.happened(partition, epoch, happening) == PartitionAction::Release {
                if let Some(owned) = self.owned.remove(&partition) {
                    self.release(owned.entities);
                }
                self.shared.stats.drop_partition(partition.0);
                self.set_stage(partition);
                post(&self.committer, OwnershipEnded(vec![(partition, epoch)]));
            }
        }
        let list = report::list(partitions);
        let (count, owned) = (partitions.len() as u64, self.owned.len() as u64);
        if happening == PartitionEvent::Lost {
            // Nobody counts on this process any more until the group speaks again.
            self.shared.status.left();
            PartitionsLost { partitions: &list, count, owned }.emit();
        } else {
            PartitionsRevoked { partitions: &list, count, owned, drain_ms }.emit();
        }
    }

    /// The entities of a partition are owned no more; their actors end when they have worked off what they have.
    fn release(&mut self, entities: Option<PartitionEntities<E>>) {
        let active = entities.map_or(0, |entities| entities.active_count());
        self.active_entities -= active;
        self.shared.stats.entities_rested(active as u64);
    }

    fn invalidated(&mut self, partition: Partition, old: Epoch, context: &mut Context<Self>) {
        if self.happened(partition, old, PartitionEvent::Invalidated) != PartitionAction::Recover {
            return;
        }
        PartitionInvalidated { partition: partition.0, cause: "it cannot be told what was committed" }.emit();
        // Where the epoch is over already, its end is on the way.
        let Some(epoch) = self.ownership.renew(partition, old) else { return };
        self.source.hold(partition);
        let mut entities = None;
        if let Some(owned) = self.owned.get_mut(&partition) {
            owned.lifecycle.renew(epoch);
            entities = owned.entities.take();
        }
        self.release(entities);
        self.recover(partition, epoch, context);
    }

    fn expired(&mut self, partition: Partition, epoch: Epoch, first: Position, until: Position) {
        let is_current = self.owned.get(&partition).is_some_and(|owned| owned.lifecycle.epoch() == epoch);
        if !is_current {
            return;
        }
        EventsExpired { partition: partition.0, first: first.0, last: until.0 - 1, count: until.distance_from(first) }
            .emit();
        if self.settings.stop_on_expired {
            self.stop(StopCause::Refused(RecoveryRefusal::Expired { partition, first, until }));
        }
    }

    // ---------------------------------------------------------------------------------------------------- records

    fn batch(&mut self, batch: Batch, lease: Lease, guard: OpenBatchGuard) {
        let (partition, epoch) = (batch.partition(), batch.epoch());
        if self.happened(partition, epoch, PartitionEvent::BatchRead) != PartitionAction::Route {
            return self.shared.status.routed(partition, None);
        }
        let open = self.open_batch(batch, lease, guard);
        let (id, batch) = (open.id, Arc::clone(&open.batch));
        // The committer knows of the batch before any entity can complete it.
        post(&self.committer, Opened(open));
        if !batch.is_empty() {
            self.route(partition, id, Arc::clone(&batch));
        }
        self.shared.status.routed(partition, Some(batch));
    }

    fn route(&mut self, partition: Partition, id: BatchId, batch: Arc<Batch>) {
        let Some(owned) = self.owned.get_mut(&partition) else { return };
        let Some(entities) = owned.entities.as_mut() else { return };
        self.use_clock += 1;
        let mut decided = Outcomes::default();
        let mut keys = ByKey::with_room_for(batch.len(), owned.keys_of_last_batch);
        for (index, record) in batch.iter().enumerate() {
            let index = u32::try_from(index).expect("a batch holds less than 2^32 records");
            if !owned.rejected.is_empty() && owned.rejected.remove(&record.offset) {
                decided.skipped += 1;
                continue;
            }
            match record.key {
                Some(key) if !key.is_empty() => keys.add(key, index),
                Some(_) | None => {
                    let absent = self.entity.absent();
                    let judged = judge(&*self.entity, &absent, &record, self.settings.max_payload_bytes);
                    let rejection = judged.err().expect("a record without a key is always refused");
                    let batch = Arc::clone(&batch);
                    decided.dlq_records.push(RejectedEvent { batch, index, rejection, truncated: false });
                }
            }
        }
        let (keys, by_key) = keys.sorted();
        owned.keys_of_last_batch = keys.len();
        self.shared.stats.keys_read(batch.len(), keys.iter().map(|(key, records)| (*key, records.len())));
        let work = Work::new(Arc::clone(&batch), id, by_key, keys.len(), decided, self.committer.clone());
        for (key, records) in keys {
            let birth = |key: Key, slot: Arc<EntitySlot>| {
                self.shared.stats.entity_woke();
                self.active_entities += 1;
                spawn(&self.entity_threads, partition, key, slot)
            };
            let address = entities.address(key, self.use_clock, birth);
            post(&address, Deliver { work: Arc::clone(&work), records });
        }
        if self.active_entities > self.settings.max_active_entities {
            self.sweep(self.use_clock);
        }
    }

    /// Lets the actors rest that were not used since `idle_before`, and looks at the memory that all entities take.
    fn sweep(&mut self, idle_before: u64) {
        for owned in self.owned.values_mut() {
            if let Some(entities) = owned.entities.as_mut() {
                let rested = entities.passivate(idle_before);
                self.active_entities -= rested;
                self.shared.stats.entities_rested(rested as u64);
            }
        }
        let (held_bytes, limit_bytes) = (self.shared.passivated.held_bytes(), self.shared.passivated.limit_bytes());
        if held_bytes > limit_bytes {
            self.stop(StopCause::StateTooLarge { held_bytes, limit_bytes });
        }
    }

    fn tell_stats(&self) {
        self.shared.status.actors_turned(self.shared.clock.now());
        self.shared.stats.set_in_flight_bytes(self.shared.in_flight.held_bytes());
        for (partition, owned) in &self.owned {
            if let Some(entities) = &owned.entities {
                self.shared.stats.update_partition(partition.0, |level| {
                    level.entities_passivated = entities.passivated_count() as u64;
                    level.state_bytes = entities.held_bytes();
                });
            }
        }
    }
}

/// The records of a batch by key, without an allocation for each key: the numbers of keys first, then places counted
/// out, so that those of one key stand beside each other.
struct ByKey<'b> {
    slots: FxHashMap<&'b [u8], u32>,
    /// Each key, and how many records it has.
    keys: Vec<(&'b [u8], u32)>,
    /// EntitySlot and index of each record, in order.
    records: Vec<(u32, u32)>,
}

/// A key, and where its records stand in the list of all.
type KeyStretch<'b> = (&'b [u8], Range<u32>);

impl<'b> ByKey<'b> {
    /// `keys` is a guess. Room for as many keys as there are records would be spread over more than the processor's cache.
    fn with_room_for(records: usize, keys: usize) -> ByKey<'b> {
        let keys = keys.min(records);
        ByKey {
            slots: FxHashMap::with_capacity_and_hasher(keys, FxBuildHasher),
            keys: Vec::with_capacity(keys),
            records: Vec::with_capacity(records),
        }
    }

    fn add(&mut self, key: &'b [u8], index: u32) {
        let next = u32::try_from(self.keys.len()).expect("no more keys than records");
        let slot = *self.slots.entry(key).or_insert(next);
        match self.keys.get_mut(slot as usize) {
            Some((_, count)) => *count += 1,
            None => self.keys.push((key, 1)),
        }
        self.records.push((slot, index));
    }

    /// The keys in the order of their first records, each with its stretch of the list that comes with them.
    fn sorted(self) -> (Vec<KeyStretch<'b>>, Vec<u32>) {
        let mut end = 0;
        let stretches = self.keys.into_iter().map(|(key, count)| {
            let start = end;
            end += count;
            (key, start..start)
        });
        let mut stretches: Vec<KeyStretch<'_>> = stretches.collect();
        let mut by_key = vec![0; self.records.len()];
        for (slot, index) in self.records {
            let stretch = &mut stretches[slot as usize].1;
            by_key[stretch.end as usize] = index;
            stretch.end += 1;
        }
        (stretches, by_key)
    }
}

fn spawn<E: Entity>(
    entity_threads: &[EntityThread<E>],
    partition: Partition,
    key: Key,
    slot: Arc<EntitySlot>,
) -> Addr<EntityActor<E>> {
    let hash = FxBuildHasher.hash_one(&key);
    let entity_thread =
        &entity_threads[usize::try_from(hash % entity_threads.len() as u64).expect("less than the number of threads")];
    let thread_context = Arc::clone(&entity_thread.thread_context);
    let make = move || EntityActor::new(thread_context, partition, key, slot);
    match &entity_thread.arbiter {
        Some(arbiter) => Supervisor::start_in_arbiter(arbiter, |_| make()),
        None => Supervisor::start(|_| make()),
    }
}

impl<E: Entity> Actor for IngestActor<E> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX_MESSAGES);
        post(&self.committer, ReportInvalidations(context.address().recipient()));
        let idle = self.settings.entity_idle;
        context.run_interval(idle, |actor, _| {
            actor.sweep(actor.used_at_last_sweep);
            actor.use_clock += 1;
            actor.used_at_last_sweep = actor.use_clock;
        });
        context.run_interval(Duration::from_secs(1), |actor, _| actor.tell_stats());
    }
}

impl<E: Entity> Handler<FromSource> for IngestActor<E> {
    type Result = ();

    fn handle(&mut self, FromSource(event, held): FromSource, context: &mut Self::Context) {
        match event {
            SourceEvent::Assigned(partitions) => self.assigned(partitions, context),
            SourceEvent::Batch(batch) => {
                if let Some((lease, guard)) = held {
                    self.batch(batch, lease, guard);
                }
            }
            SourceEvent::Revoking { partitions, deadline: _, drained } => self.revoked(partitions, drained),
            SourceEvent::Revoked(partitions) => self.over(&partitions, PartitionEvent::Revoked),
            SourceEvent::Lost(partitions) => self.over(&partitions, PartitionEvent::Lost),
            SourceEvent::Expired { partition, epoch, first, until } => self.expired(partition, epoch, first, until),
            SourceEvent::Failed(failure) => self.stop(StopCause::Source(failure)),
        }
    }
}

impl<E: Entity> Handler<RecoveryEnded> for IngestActor<E> {
    type Result = ();
    fn handle(&mut self, ended: RecoveryEnded, context: &mut Self::Context) {
        self.recovery_ended(ended, context);
    }
}

impl<E: Entity> Handler<Invalidated> for IngestActor<E> {
    type Result = ();
    fn handle(&mut self, Invalidated { partition, epoch }: Invalidated, context: &mut Self::Context) {
        self.invalidated(partition, epoch, context);
    }
}

impl<E: Entity> Handler<StopIntake> for IngestActor<E> {
    type Result = ();
    fn handle(&mut self, _: StopIntake, _: &mut Self::Context) {
        self.intake = IngestState::Stopped;
        for partition in self.owned.keys() {
            self.source.hold(*partition);
        }
        post(&self.committer, Stopping);
    }
}

impl<E: Entity> Handler<Leave> for IngestActor<E> {
    type Result = ();
    fn handle(&mut self, _: Leave, _: &mut Self::Context) {
        self.source.leave();
    }
}
