//! Owns what the entity actors of one thread share, and their turns.
//!
//! actix lets an actor process its whole mailbox before the thread polls another actor. A key with slow events would
//! therefore keep the other keys of its thread waiting. An actor that used up its turn, a tick of the coarse clock,
//! pauses for as long as it ran, so a slow key costs the others at most half of the thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::yield_now;

use crate::entity::{Entity, SizeLimits};
use crate::observability::stats::Stats;
use crate::observability::status::CurrentEvent;
use crate::ports::Clock;
use crate::runtime::Shared;

/// The longest pause of an actor. If a turn took longer, the actor may not have been slow: the process may have been
/// suspended.
const MAX_PAUSE_MS: u64 = 1_000;

pub struct EntityThreadContext<E: Entity> {
    pub(super) entity: Arc<E>,
    pub(super) stats: Arc<Stats>,
    /// Written by this thread alone, read by the watchdog.
    pub(super) current_event: Arc<CurrentEvent>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) size_limits: SizeLimits,
    /// Turns taken by all actors of the thread. Written by this thread alone.
    turns: AtomicU64,
}

impl<E: Entity> EntityThreadContext<E> {
    pub(in crate::runtime) fn new(entity: Arc<E>, shared: &Shared, size_limits: SizeLimits) -> EntityThreadContext<E> {
        EntityThreadContext {
            entity,
            stats: Arc::clone(&shared.stats),
            current_event: shared.status.add_entity_thread(),
            clock: Arc::clone(&shared.clock),
            size_limits,
            turns: AtomicU64::new(0),
        }
    }

    pub(super) fn count_turn(&self) {
        self.turns.store(self.turns.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Waits while the other actors of the thread run: for `took_ms`, the length of the caller's turn, or until none of
    /// them has anything to do. tokio returns from a yield after each ready task had a turn and the thread has looked
    /// for new messages.
    pub(super) async fn pause(self: Arc<Self>, took_ms: u64) {
        let until_ms = self.clock.coarse_ms() + took_ms.min(MAX_PAUSE_MS);
        loop {
            let before = self.turns.load(Ordering::Relaxed);
            yield_now().await;
            if self.turns.load(Ordering::Relaxed) == before || self.clock.coarse_ms() >= until_ms {
                return;
            }
        }
    }
}
