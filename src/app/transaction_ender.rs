//! Ends the open transactions of dead owners that block recoveries. `engine::dead_owners` decides; the requests block, and
//! are made on a thread of their own, which is started for each look at the group.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::engine::dead_owners::DeadOwners;
use crate::engine::ownership::Ownership;
use crate::kafka::transactions::dead_owner::OwnerRequests;
use crate::observability::log_events::{DeadOwnerFenced, DeadOwnerNotFenced, LogEvent};
use crate::ports::Clock;
use crate::record::{Epoch, Partition};

/// Shared by all recoveries of the process.
#[derive(Clone)]
pub struct TransactionEnder {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    requests: Box<dyn OwnerRequests>,
    ownership: Arc<Ownership>,
    clock: Arc<dyn Clock>,
}

struct State {
    owners: DeadOwners,
    /// Whether the thread runs. There is one at a time.
    is_busy: bool,
}

impl TransactionEnder {
    pub fn new(
        owners: DeadOwners,
        requests: Box<dyn OwnerRequests>,
        ownership: Arc<Ownership>,
        clock: Arc<dyn Clock>,
    ) -> TransactionEnder {
        let state = Mutex::new(State { owners, is_busy: false });
        TransactionEnder { shared: Arc::new(Shared { state, requests, ownership, clock }) }
    }

    /// An open transaction blocks the recovery of a partition whose position `instance` has committed. Called again and
    /// again while it lasts; waits for nothing.
    pub fn blocked(&self, partition: Partition, epoch: Epoch, instance: &str) {
        let Some(look) = self.due_look(partition, epoch, instance) else { return };
        if thread::Builder::new().name("dead-owner".to_owned()).spawn(look).is_err() {
            // The next call tries again.
            self.shared.lock().is_busy = false;
        }
    }

    /// Returns the look at the group, with what follows from it, if one is due.
    pub fn due_look(&self, partition: Partition, epoch: Epoch, instance: &str) -> Option<impl FnOnce() + Send + use<>> {
        let now = self.shared.clock.now();
        let mut state = self.shared.lock();
        if state.is_busy || !state.owners.is_look_due(instance, epoch, now) {
            return None;
        }
        state.is_busy = true;
        let (shared, instance) = (Arc::clone(&self.shared), instance.to_owned());
        Some(move || {
            shared.look(partition, &instance);
            shared.lock().is_busy = false;
        })
    }
}

impl Shared {
    fn look(&self, partition: Partition, instance: &str) {
        let look = self.requests.members();
        if !self.lock().owners.looked(instance, &look, self.ownership.newest()) {
            return;
        }
        let (partition, transactional_id) = (partition.0, &*self.requests.transactional_id(instance));
        match self.requests.end_transaction_of(instance) {
            Ok(()) => DeadOwnerFenced { partition, instance, transactional_id }.emit(),
            Err(cause) => DeadOwnerNotFenced { partition, instance, transactional_id, cause: &cause }.emit(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave a half-written value.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
