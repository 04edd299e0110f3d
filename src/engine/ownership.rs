//! Which partitions this process owns, and under which epoch.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::record::{Epoch, Partition};

/// Which partitions this process owns, and under which epoch. The consumer's thread writes it inside the rebalance, at
/// the moment ownership ends or begins; the ingest actor renews a epoch when it has to recover a partition again; the
/// commit thread compares with it after it has taken the group's metadata and before it sends.
///
/// Why that suffices: metadata taken while a epoch was current is metadata of a generation in which the partition was
/// owned. Whoever compares *after* taking it therefore never sends offsets of a lost partition with newer metadata.
#[derive(Debug, Default)]
pub struct Ownership {
    current: RwLock<HashMap<Partition, Epoch>>,
    minted: AtomicU64,
}

impl Ownership {
    /// No partition is owned.
    #[must_use]
    pub fn new() -> Ownership {
        Ownership::default()
    }

    /// The partition is owned from now on. Any older epoch of it ends.
    pub fn begin(&self, partition: Partition) -> Epoch {
        let epoch = Epoch(self.minted.fetch_add(1, Ordering::Relaxed) + 1);
        self.write().insert(partition, epoch);
        epoch
    }

    /// The partition is still owned, but what was done under `old` no longer counts. `None` where `old` is over.
    #[must_use]
    pub fn renew(&self, partition: Partition, old: Epoch) -> Option<Epoch> {
        let mut current = self.write();
        let held = current.get_mut(&partition).filter(|held| **held == old)?;
        *held = Epoch(self.minted.fetch_add(1, Ordering::Relaxed) + 1);
        Some(*held)
    }

    /// The partition is owned no more. Returns the epoch that ended.
    pub fn end(&self, partition: Partition) -> Option<Epoch> {
        self.write().remove(&partition)
    }

    /// The present ownership of the partition.
    #[must_use]
    pub fn current(&self, partition: Partition) -> Option<Epoch> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).get(&partition).copied()
    }

    /// Whether `epoch` is the present ownership of `partition`.
    #[must_use]
    pub fn is_current(&self, partition: Partition, epoch: Epoch) -> bool {
        self.current(partition) == Some(epoch)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<Partition, Epoch>> {
        // The map is whole after every single operation, so a panic elsewhere cannot have left it half written.
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }
}
