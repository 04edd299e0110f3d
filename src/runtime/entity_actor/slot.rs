//! Owns what an entity's actor shares with the registry: the last good state, and the number of pending messages.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::engine::recovery::StoredEntity;

#[derive(Debug)]
pub struct EntitySlot {
    /// Messages sent and not yet processed. Raised by the ingest actor, lowered by the entity's actor.
    pending: AtomicU32,
    /// The state after the last processed message. The actor restarts from it and is passivated as it. `None` if no
    /// event was ever applied.
    last_good: Mutex<Option<StoredEntity>>,
}

impl EntitySlot {
    /// The slot of an entity whose first message is about to be sent.
    pub(in crate::runtime) fn with_one_pending(passivated: Option<StoredEntity>) -> EntitySlot {
        EntitySlot { pending: AtomicU32::new(1), last_good: Mutex::new(passivated) }
    }

    pub(in crate::runtime) fn message_sent(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends a message. `state` is the state after it; `None` if the message changed nothing.
    pub(super) fn message_processed(&self, state: Option<StoredEntity>) {
        if state.is_some() {
            *self.lock() = state;
        }
        // A thread that reads the lowered count also reads the state above.
        self.pending.fetch_sub(1, Ordering::Release);
    }

    pub(in crate::runtime) fn last_good(&self) -> Option<StoredEntity> {
        self.lock().clone()
    }

    pub(in crate::runtime) fn is_busy(&self) -> bool {
        self.pending.load(Ordering::Acquire) > 0
    }

    fn lock(&self) -> MutexGuard<'_, Option<StoredEntity>> {
        // The value is only ever replaced as a whole, so a panic elsewhere cannot leave it half written.
        self.last_good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
