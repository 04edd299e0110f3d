//! Owns the entities of one partition. A passivated entity is its snapshot. Its first event makes it an actor, which
//! shares an [`EntitySlot`] with the registry and leaves its last good state there after each message.
//!
//! At no moment do two actors own one key. Only the ingest actor spawns actors and sends to them. It passivates an
//! entity only if its actor has processed every message sent to it; that actor then has nothing left to do but end.

use std::sync::Arc;

use actix::Addr;
use dashmap::DashMap;
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::engine::budget::Lease;
use crate::engine::recovery::{StoredEntity, passivated_bytes};
use crate::entity::Entity;
use crate::record::Key;
use crate::runtime::entity_actor::EntityActor;
use crate::runtime::entity_actor::slot::EntitySlot;

pub(super) struct ActiveEntity<E: Entity> {
    /// Behind an `Arc`, because a clone of an address allocates.
    address: Arc<Addr<EntityActor<E>>>,
    slot: Arc<EntitySlot>,
    /// See [`PartitionEntities::passivate`].
    last_used: u64,
    /// Its share of the lease.
    counted_bytes: u64,
}

pub(super) struct PartitionEntities<E: Entity> {
    pub(super) passivated: FxHashMap<Key, StoredEntity>,
    pub(super) active: DashMap<Key, ActiveEntity<E>, FxBuildHasher>,
    /// Bytes of all entities. An actor counts with its size at the last [`PartitionEntities::passivate`].
    pub(super) lease: Lease,
}

impl<E: Entity> PartitionEntities<E> {
    pub(super) fn all_passivated(passivated: FxHashMap<Key, StoredEntity>, lease: Lease) -> PartitionEntities<E> {
        PartitionEntities { passivated, active: DashMap::with_hasher(FxBuildHasher), lease }
    }

    /// Returns the address of the entity's actor, which is spawned if there is none. The caller sends exactly one
    /// message to it: the message counts as pending already.
    pub(super) fn address_for_message(
        &mut self,
        key: &[u8],
        now_used: u64,
        spawn: impl FnOnce(Key, Arc<EntitySlot>) -> Addr<EntityActor<E>>,
    ) -> Arc<Addr<EntityActor<E>>> {
        if let Some(mut active) = self.active.get_mut(key) {
            active.slot.message_sent();
            active.last_used = now_used;
            return Arc::clone(&active.address);
        }
        let (key, passivated, counted_bytes) = match self.passivated.remove_entry(key) {
            Some((key, passivated)) => {
                let bytes = passivated_bytes(&key, &passivated);
                (key, Some(passivated), bytes)
            }
            None => (Arc::from(key), None, 0),
        };
        let slot = Arc::new(EntitySlot::with_one_pending(passivated));
        let address = Arc::new(spawn(Arc::clone(&key), Arc::clone(&slot)));
        self.active
            .insert(key, ActiveEntity { address: Arc::clone(&address), slot, last_used: now_used, counted_bytes });
        address
    }

    /// Passivates each actor that has no pending message and was last used before `unused_since`. Returns how many.
    pub(super) fn passivate(&mut self, unused_since: u64) -> usize {
        let mut count = 0;
        let mut bytes = self.lease.bytes();
        let passivated = &mut self.passivated;
        self.active.retain(|key, active| {
            // Read before the state: only this thread sends, so an actor that is idle stays idle.
            let is_idle = !active.slot.is_busy() && active.last_used < unused_since;
            // An absent entity needs no entry: an unknown key is absent.
            let live = active.slot.last_good().filter(|last_good| last_good.snapshot.is_some());
            let now_bytes = live.as_ref().map_or(0, |live| passivated_bytes(key, live));
            bytes = (bytes + now_bytes).saturating_sub(active.counted_bytes);
            active.counted_bytes = now_bytes;
            if is_idle {
                count += 1;
                if let Some(live) = live {
                    passivated.insert(Arc::clone(key), live);
                }
            }
            !is_idle
        });
        self.lease.set(bytes);
        count
    }
}
