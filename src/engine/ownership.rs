//! The partitions that this process owns, each with its current epoch.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use crate::record::{Epoch, Partition};

/// The table of current epochs. The consumer's thread changes it inside the rebalance, at the moment when ownership
/// begins or ends. The ingest actor replaces an epoch when it has to recover a partition again. The commit thread
/// compares its content with the table after it has taken the group's metadata, and before it sends the offsets.
///
/// Why that order suffices: metadata that was taken while an epoch was current is of a generation in which the partition
/// was owned. A comparison *after* taking the metadata therefore never sends offsets of a lost partition with newer
/// metadata.
#[derive(Debug, Default)]
pub struct Ownership {
    current: RwLock<HashMap<Partition, Epoch>>,
    minted: AtomicU64,
}

impl Ownership {
    pub fn new() -> Ownership {
        Ownership::default()
    }

    /// Mints the epoch of a new assignment, and ends any older epoch of the partition.
    pub fn mint(&self, partition: Partition) -> Epoch {
        let epoch = Epoch(self.minted.fetch_add(1, Ordering::Relaxed) + 1);
        self.write().insert(partition, epoch);
        epoch
    }

    /// Mints a new epoch for the same assignment: the work under `old` is void. Returns `None` if `old` has ended.
    pub fn invalidate(&self, partition: Partition, old: Epoch) -> Option<Epoch> {
        let mut current = self.write();
        let epoch = current.get_mut(&partition).filter(|epoch| **epoch == old)?;
        *epoch = Epoch(self.minted.fetch_add(1, Ordering::Relaxed) + 1);
        Some(*epoch)
    }

    /// Ends the ownership of the partition. Returns the epoch that ended.
    pub fn end(&self, partition: Partition) -> Option<Epoch> {
        self.write().remove(&partition)
    }

    /// Returns the epoch that was minted last.
    pub fn newest(&self) -> Epoch {
        Epoch(self.minted.load(Ordering::Relaxed))
    }

    pub fn current(&self, partition: Partition) -> Option<Epoch> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).get(&partition).copied()
    }

    pub fn is_current(&self, partition: Partition, epoch: Epoch) -> bool {
        self.current(partition) == Some(epoch)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Partition, Epoch>> {
        // Each operation leaves the map complete, so a panic elsewhere cannot have left it half written.
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }
}
