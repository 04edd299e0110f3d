//! Where an entity sits while it judges an event, so that whoever watches can name the one that does not come back.
//! One current_event for each thread of entities: a thread runs one entity at a time.
//!
//! Absent on purpose: a lock. It is written for each event, and costs two plain stores.

use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};

use crate::record::{Offset, Partition};

/// What stands in `offset` while nobody sits here: no offset is negative.
const EMPTY: i64 = -1;

/// See the module. Written by one thread, read by the watchdog.
#[derive(Debug)]
pub struct CurrentEvent {
    partition: AtomicI32,
    offset: AtomicI64,
}

impl Default for CurrentEvent {
    fn default() -> CurrentEvent {
        CurrentEvent { partition: AtomicI32::new(0), offset: AtomicI64::new(EMPTY) }
    }
}

impl CurrentEvent {
    /// An entity is about to judge this event.
    pub fn take(&self, partition: Partition, offset: Offset) {
        self.partition.store(partition.0, Ordering::Relaxed);
        self.offset.store(offset.0, Ordering::Relaxed);
    }

    /// Nobody judges anything.
    pub fn leave(&self) {
        self.offset.store(EMPTY, Ordering::Relaxed);
    }

    /// The event that is being judged. A look in the very moment of a change may mix two of them; one that is seen again
    /// and again is right.
    #[must_use]
    pub fn occupant(&self) -> Option<(Partition, Offset)> {
        let offset = self.offset.load(Ordering::Relaxed);
        (offset != EMPTY).then(|| (Partition(self.partition.load(Ordering::Relaxed)), Offset(offset)))
    }
}
