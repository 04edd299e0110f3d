//! Bytes held, against a bound. Whoever holds bytes has a [`Lease`]; dropping it gives them back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A bound in bytes, shared by all who hold some of them.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: u64,
    held_bytes: AtomicU64,
}

impl Budget {
    /// Nothing is held.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Arc<Budget> {
        Arc::new(Budget { limit_bytes, held_bytes: AtomicU64::new(0) })
    }

    /// Holds `bytes` without asking whether there is room: for what is already in memory. Intake stops above the
    /// bound, so it is exceeded by one batch at most.
    #[must_use]
    pub fn hold(self: &Arc<Budget>, bytes: u64) -> Lease {
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        Lease { budget: Arc::clone(self), bytes }
    }

    /// What is held at this moment.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// The bound.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Whether more is welcome.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.held_bytes() < self.limit_bytes
    }
}

/// Bytes held; given back when dropped.
#[derive(Debug)]
pub struct Lease {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Lease {
    /// What this lease holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The budget that this lease is of.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Holds `bytes` more, or gives some back.
    pub fn set(&mut self, bytes: u64) {
        self.budget.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.budget.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }

    /// Whether the budget as a whole is within its bound.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.budget.held_bytes() <= self.budget.limit_bytes
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
