//! A bound on bytes in memory. Each holder of bytes has a [`Lease`], which returns them when it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A bound in bytes, shared by all leases.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: u64,
    held_bytes: AtomicU64,
}

impl Budget {
    pub fn new(limit_bytes: u64) -> Arc<Budget> {
        Arc::new(Budget { limit_bytes, held_bytes: AtomicU64::new(0) })
    }

    /// Leases `bytes` that are in memory already, also above the limit. Reading pauses above the limit, so one batch at
    /// most exceeds it.
    pub fn hold(self: &Arc<Budget>, bytes: u64) -> Lease {
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        Lease { budget: Arc::clone(self), bytes }
    }

    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    pub fn has_room(&self) -> bool {
        self.held_bytes() < self.limit_bytes
    }
}

#[must_use]
#[derive(Debug)]
pub struct Lease {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Lease {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    pub fn set(&mut self, bytes: u64) {
        self.budget.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.budget.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }

    /// Returns whether all leases together are within the limit.
    pub fn fits(&self) -> bool {
        self.budget.held_bytes() <= self.budget.limit_bytes
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
