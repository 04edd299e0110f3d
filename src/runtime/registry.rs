//! Where an entity is. At rest it is its compact snapshot; when an event arrives it becomes an actor, which shares a
//! [`EntitySlot`] with the registry and leaves its last good state there after each message; when idle it goes back to rest.
//!
//! At no moment do two actors own one key: only the ingest actor gives birth, and it lets an entity rest only when the
//! actor has worked off all that it was sent. The former actor then has nothing left to do but to end.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use actix::Addr;
use dashmap::DashMap;
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::engine::budget::Lease;
use crate::engine::recovery::{Passivated, passivated_bytes};
use crate::entity::Entity;
use crate::record::{Key, Offset};
use crate::runtime::entity_actor::EntityActor;

/// What an entity that is an actor and its registry both know.
#[derive(Debug)]
pub struct EntitySlot {
    /// Messages sent and not yet worked off. Raised by ingest, lowered by the actor.
    pending: AtomicU32,
    /// The state after the last message that was worked off: what it restarts from, and what it rests as.
    last_good: Mutex<Passivated>,
}

impl EntitySlot {
    /// Of an entity that is about to get its first message.
    fn new(passivated: Passivated) -> EntitySlot {
        EntitySlot { pending: AtomicU32::new(1), last_good: Mutex::new(passivated) }
    }

    /// A message is worked off. `applied` is the state after it; `None` where it is what it was.
    pub fn settle(&self, applied: Option<Passivated>) {
        if let Some(passivated) = applied {
            *self.lock() = passivated;
        }
        // Whoever sees the count sees the state above.
        self.pending.fetch_sub(1, Ordering::Release);
    }

    /// The state after the last message that was worked off.
    #[must_use]
    pub fn last_good(&self) -> Passivated {
        self.lock().clone()
    }

    fn is_busy(&self) -> bool {
        self.pending.load(Ordering::Acquire) > 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Passivated> {
        // It is replaced as a whole.
        self.last_good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An entity that is an actor.
struct Active<E: Entity> {
    /// Where to send its records. Behind an `Arc`, because a clone of an address allocates.
    address: Arc<Addr<EntityActor<E>>>,
    slot: Arc<EntitySlot>,
    /// The clock of use, see [`PartitionEntities::passivate`].
    used: u64,
    /// What it counts for in the lease, in bytes.
    counted_bytes: u64,
}

/// All entities of one partition.
pub struct PartitionEntities<E: Entity> {
    passivated: FxHashMap<Key, Passivated>,
    active: DashMap<Key, Active<E>, FxBuildHasher>,
    lease: Lease,
}

impl<E: Entity> PartitionEntities<E> {
    /// All are passivated.
    #[must_use]
    pub fn all_passivated(passivated: FxHashMap<Key, Passivated>, lease: Lease) -> PartitionEntities<E> {
        PartitionEntities { passivated, active: DashMap::with_hasher(FxBuildHasher), lease }
    }

    /// The address of the entity's actor, which is given birth to where it is passivated; one more message is pending.
    pub fn address(
        &mut self,
        key: &[u8],
        used: u64,
        birth: impl FnOnce(Key, Arc<EntitySlot>) -> Addr<EntityActor<E>>,
    ) -> Arc<Addr<EntityActor<E>>> {
        if let Some(mut active) = self.active.get_mut(key) {
            active.slot.pending.fetch_add(1, Ordering::Relaxed);
            active.used = used;
            return Arc::clone(&active.address);
        }
        let (key, passivated, counted_bytes) = match self.passivated.remove_entry(key) {
            Some((key, passivated)) => {
                let bytes = passivated_bytes(&key, &passivated);
                (key, passivated, bytes)
            }
            None => (Arc::from(key), Passivated { snapshot: None, newest: Offset(-1) }, 0),
        };
        let slot = Arc::new(EntitySlot::new(passivated));
        let address = Arc::new(birth(Arc::clone(&key), Arc::clone(&slot)));
        self.active.insert(key, Active { address: Arc::clone(&address), slot, used, counted_bytes });
        address
    }

    /// Lets each actor rest that has nothing pending and was last used before `idle_before`. Returns how many.
    pub fn passivate(&mut self, idle_before: u64) -> usize {
        let mut rested = 0;
        let mut bytes = self.lease.bytes();
        let passivated = &mut self.passivated;
        self.active.retain(|key, active| {
            // Before the state is looked at: only this thread sends, so an actor that is idle stays so.
            let rests = !active.slot.is_busy() && active.used < idle_before;
            let last_good = active.slot.last_good();
            // An absent entity is the same as one that was never heard of.
            let is_live = last_good.snapshot.is_some();
            let now_bytes = if is_live { passivated_bytes(key, &last_good) } else { 0 };
            bytes = (bytes + now_bytes).saturating_sub(active.counted_bytes);
            active.counted_bytes = now_bytes;
            if rests {
                rested += 1;
                if is_live {
                    passivated.insert(Arc::clone(key), last_good);
                }
            }
            !rests
        });
        self.lease.set(bytes);
        rested
    }

    /// How many entities are actors.
    #[must_use]
    pub fn active_count(&self) -> usize {
        self.active.len()
    }

    /// What all take, in bytes: those passivated, and the actors as they were when last looked at.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.lease.bytes()
    }

    /// How many entities are passivated.
    #[must_use]
    pub fn passivated_count(&self) -> usize {
        self.passivated.len()
    }
}
