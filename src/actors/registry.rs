//! Where an entity is. At rest it is its compact snapshot, in a map that the ingest actor alone owns; when an event
//! arrives it becomes an actor, and its place is in a concurrent map, where the actor leaves its last good state after
//! each message; when idle it goes back to rest.
//!
//! At no moment do two actors own one key: only the ingest actor gives birth, and it lets an entity rest only when the
//! actor has worked off all that it was sent. The former actor then has nothing left to do but to end.

use std::sync::Arc;

use actix::Addr;
use dashmap::DashMap;
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::actors::entity_actor::EntityActor;
use crate::entity::Entity;
use crate::progress::budget::Lease;
use crate::progress::recovery::{Resting, resting_bytes};
use crate::record::{Key, Offset};

/// The entities of one partition that are actors.
pub type ActiveEntities<E> = DashMap<Key, Active<E>, FxBuildHasher>;

/// An entity that is an actor.
pub struct Active<E: Entity> {
    /// Where to send its records.
    pub address: Addr<EntityActor<E>>,
    /// Messages sent and not yet worked off. Raised by ingest, lowered by the actor.
    pub pending: u32,
    /// The clock of use, see [`PartitionEntities::let_rest`].
    pub used: u64,
    /// The state after the last message that was worked off: what it restarts from, and what it rests as.
    pub last_good: Resting,
    /// What it counts for in the lease, in bytes.
    counted_bytes: u64,
}

/// All entities of one partition.
pub struct PartitionEntities<E: Entity> {
    resting: FxHashMap<Key, Resting>,
    active: Arc<ActiveEntities<E>>,
    lease: Lease,
}

impl<E: Entity> PartitionEntities<E> {
    /// All are at rest.
    #[must_use]
    pub fn at_rest(resting: FxHashMap<Key, Resting>, lease: Lease) -> PartitionEntities<E> {
        PartitionEntities { resting, active: Arc::new(DashMap::with_hasher(FxBuildHasher)), lease }
    }

    /// The address of the entity's actor, which is given birth to where it is at rest; one more message is pending.
    pub fn address(
        &mut self,
        key: &[u8],
        used: u64,
        birth: impl FnOnce(Key, Resting, Arc<ActiveEntities<E>>) -> Addr<EntityActor<E>>,
    ) -> Addr<EntityActor<E>> {
        if let Some(mut active) = self.active.get_mut(key) {
            active.pending += 1;
            active.used = used;
            return active.address.clone();
        }
        let (key, resting, counted_bytes) = match self.resting.remove_entry(key) {
            Some((key, resting)) => {
                let bytes = resting_bytes(&key, &resting);
                (key, resting, bytes)
            }
            None => (Arc::from(key), Resting { snapshot: None, newest: Offset(-1) }, 0),
        };
        let address = birth(Arc::clone(&key), resting.clone(), Arc::clone(&self.active));
        let active = Active { address: address.clone(), pending: 1, used, last_good: resting, counted_bytes };
        self.active.insert(key, active);
        address
    }

    /// Lets each actor rest that has nothing pending and was last used before `idle_before`. Returns how many.
    pub fn let_rest(&mut self, idle_before: u64) -> usize {
        let mut rested = Vec::new();
        let mut bytes = self.lease.bytes();
        self.active.retain(|key, active| {
            // An absent entity is the same as one that was never heard of.
            let is_live = active.last_good.snapshot.is_some();
            let now_bytes = if is_live { resting_bytes(key, &active.last_good) } else { 0 };
            bytes = (bytes + now_bytes).saturating_sub(active.counted_bytes);
            active.counted_bytes = now_bytes;
            let rests = active.pending == 0 && active.used < idle_before;
            if rests {
                rested.push((Arc::clone(key), active.last_good.clone()));
            }
            !rests
        });
        self.lease.set(bytes);
        let count = rested.len();
        self.resting.extend(rested.into_iter().filter(|(_, resting)| resting.snapshot.is_some()));
        count
    }

    /// How many entities are actors.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active.len()
    }

    /// What all take, in bytes: those at rest, and the actors as they were when last looked at.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.lease.bytes()
    }

    /// How many entities are at rest.
    #[must_use]
    pub fn resting(&self) -> usize {
        self.resting.len()
    }
}

/// An actor holds the map, and the map its address: without this the actors of a partition that has gone would keep
/// each other for ever.
impl<E: Entity> Drop for PartitionEntities<E> {
    fn drop(&mut self) {
        self.active.clear();
    }
}
