//! Owns the entities of all partitions: the threads that run them, and which of them are actors.
//!
//! Used by the ingest actor alone. An entity's actor is spawned when its first message is delivered. It is passivated
//! when it was not used for a while, or at once when there are more than `max_active_entities` actors.
//!
//! Absent on purpose: which partitions are owned, and what happens to a batch.

mod registry;

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use actix::{Addr, ArbiterHandle, Supervisor};
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::engine::budget::Lease;
use crate::engine::recovery::StoredEntity;
use crate::entity::{Entity, SizeLimits};
use crate::observability::stats::Stats;
use crate::record::{Key, Partition};
use crate::runtime::entity_actor::batch_work::{BatchWork, KeyRecords};
use crate::runtime::entity_actor::slot::EntitySlot;
use crate::runtime::entity_actor::thread_context::EntityThreadContext;
use crate::runtime::entity_actor::{Deliver, EntityActor};
use crate::runtime::entity_pool::registry::PartitionEntities;
use crate::runtime::{Shared, post};

pub(super) struct EntityPool<E: Entity> {
    /// At least one.
    threads: Vec<EntityThread<E>>,
    partitions: BTreeMap<Partition, PartitionEntities<E>>,
    /// Entities that are actors, all partitions together.
    active: usize,
    max_active: usize,
    /// Logical time: rises with each batch and each check for unused actors.
    use_counter: u64,
    /// `use_counter` at the last check for unused actors.
    last_unused_check: u64,
    stats: Arc<Stats>,
}

struct EntityThread<E: Entity> {
    /// `None`: the thread of the ingest actor.
    arbiter: Option<ArbiterHandle>,
    context: Arc<EntityThreadContext<E>>,
}

impl<E: Entity> EntityPool<E> {
    /// Without arbiters, entities run on the thread of the ingest actor.
    pub(super) fn new(
        entity: &Arc<E>,
        arbiters: Vec<ArbiterHandle>,
        size_limits: SizeLimits,
        max_active: usize,
        shared: &Shared,
    ) -> EntityPool<E> {
        let thread = |arbiter| EntityThread {
            arbiter,
            context: Arc::new(EntityThreadContext::new(Arc::clone(entity), shared, size_limits)),
        };
        let threads = match arbiters.is_empty() {
            true => vec![thread(None)],
            false => arbiters.into_iter().map(|arbiter| thread(Some(arbiter))).collect(),
        };
        EntityPool {
            threads,
            partitions: BTreeMap::new(),
            active: 0,
            max_active,
            use_counter: 1,
            last_unused_check: 1,
            stats: Arc::clone(&shared.stats),
        }
    }

    /// Takes over the entities of a recovered partition.
    pub(super) fn add(&mut self, partition: Partition, passivated: FxHashMap<Key, StoredEntity>, lease: Lease) {
        self.partitions.insert(partition, PartitionEntities::all_passivated(passivated, lease));
    }

    /// Drops the entities of a partition. Their actors end when they have processed their mailboxes.
    pub(super) fn remove(&mut self, partition: Partition) {
        let active = self.partitions.remove(&partition).map_or(0, |entities| entities.active.len());
        self.count_passivated(active);
    }

    pub(super) fn deliver(&mut self, partition: Partition, keys: Vec<KeyRecords<'_>>, work: &Arc<BatchWork>) {
        let entities = self.partitions.get_mut(&partition).expect("a partition that serves has entities");
        self.use_counter += 1;
        for (key, records) in keys {
            let spawn = |key: Key, slot: Arc<EntitySlot>| {
                self.stats.entity_spawned();
                self.active += 1;
                spawn_on_one_of(&self.threads, partition, key, slot)
            };
            let address = entities.address_for_message(key, self.use_counter, spawn);
            post(&address, Deliver { work: Arc::clone(work), records });
        }
    }

    pub(super) fn has_too_many_actors(&self) -> bool {
        self.active > self.max_active
    }

    /// Passivates every idle actor, except those of the newest batch.
    pub(super) fn passivate_all_idle(&mut self) {
        self.passivate(self.use_counter);
    }

    /// Passivates the idle actors that were not used since the last call.
    pub(super) fn passivate_unused(&mut self) {
        self.passivate(self.last_unused_check);
        self.use_counter += 1;
        self.last_unused_check = self.use_counter;
    }

    fn passivate(&mut self, unused_since: u64) {
        let passivated = self.partitions.values_mut().map(|entities| entities.passivate(unused_since)).sum();
        self.count_passivated(passivated);
    }

    fn count_passivated(&mut self, count: usize) {
        self.active -= count;
        self.stats.entities_stopped(count as u64);
    }

    pub(super) fn update_stats(&self) {
        for (partition, entities) in &self.partitions {
            self.stats.update_partition(partition.0, |level| {
                level.entities_passivated = entities.passivated.len() as u64;
                level.state_bytes = entities.lease.bytes();
            });
        }
    }
}

/// A key always runs on the same thread.
fn spawn_on_one_of<E: Entity>(
    threads: &[EntityThread<E>],
    partition: Partition,
    key: Key,
    slot: Arc<EntitySlot>,
) -> Addr<EntityActor<E>> {
    let hash = FxBuildHasher.hash_one(&key);
    let thread = &threads[usize::try_from(hash % threads.len() as u64).expect("less than the number of threads")];
    let context = Arc::clone(&thread.context);
    let actor = move || EntityActor::new(context, partition, key, slot);
    match &thread.arbiter {
        Some(arbiter) => Supervisor::start_in_arbiter(arbiter, |_| actor()),
        None => Supervisor::start(|_| actor()),
    }
}
