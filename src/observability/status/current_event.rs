//! The event that an entity thread is processing, so that the watchdog can name an event whose processing does not end.
//! There is one for each thread, because a thread runs one entity at a time.
//!
//! Deliberately absent: a lock. Each event is recorded, at the cost of two relaxed stores.

use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};

use crate::record::{Offset, Partition};

/// Marks an idle thread: no offset is negative.
const IDLE: i64 = -1;

#[derive(Debug)]
pub struct CurrentEvent {
    partition: AtomicI32,
    offset: AtomicI64,
}

impl Default for CurrentEvent {
    fn default() -> CurrentEvent {
        CurrentEvent { partition: AtomicI32::new(0), offset: AtomicI64::new(IDLE) }
    }
}

impl CurrentEvent {
    pub fn set(&self, partition: Partition, offset: Offset) {
        self.partition.store(partition.0, Ordering::Relaxed);
        self.offset.store(offset.0, Ordering::Relaxed);
    }

    pub fn clear(&self) {
        self.offset.store(IDLE, Ordering::Relaxed);
    }

    /// Returns the event that the thread is processing. A read during a change may mix two events; a value that repeats
    /// in several reads is right.
    pub fn get(&self) -> Option<(Partition, Offset)> {
        let offset = self.offset.load(Ordering::Relaxed);
        (offset != IDLE).then(|| (Partition(self.partition.load(Ordering::Relaxed)), Offset(offset)))
    }
}
