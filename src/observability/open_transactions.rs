//! Finds transactions that producers of the input leave open, and decides when to warn about them.
//!
//! A `read_committed` reader stops at the last stable offset: where the oldest open transaction of the partition begins.
//! While that offset does not move and is below the high watermark, that one transaction is open. Its events and all
//! events behind it wait, and neither lag that can be read nor the age of a read event shows them.
//!
//! Architecture invariant: pure. A status and the time go in, the transactions to warn about come out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::observability::status::{HeldBack, StatusSnapshot};
use crate::record::{Partition, Position};

/// A transaction that stays open is warned about again after this many times the limit.
const REPEAT: u32 = 10;

#[derive(Debug)]
pub struct OpenTransactions {
    limit: Duration,
    /// The transaction of each partition that was warned about, by its first offset, and when.
    warned: BTreeMap<Partition, (Position, Instant)>,
}

impl OpenTransactions {
    /// `limit`: how long a transaction may be open without a warning.
    pub fn new(limit: Duration) -> OpenTransactions {
        OpenTransactions { limit, warned: BTreeMap::new() }
    }

    /// Returns the transactions to warn about now: each once, and again if it stays open for long.
    pub fn due(&mut self, status: &StatusSnapshot, now: Instant) -> Vec<(Partition, HeldBack)> {
        let held = status.partitions.iter().filter_map(|at| Some((at.partition, at.held_back?)));
        let open: BTreeMap<Partition, HeldBack> = held.filter(|(_, held)| held.open_for >= self.limit).collect();
        self.warned.retain(|partition, (first, _)| open.get(partition).is_some_and(|held| held.last_stable == *first));
        let repeat = self.limit * REPEAT;
        let is_due = |partition: &Partition| {
            self.warned.get(partition).is_none_or(|(_, at)| now.saturating_duration_since(*at) >= repeat)
        };
        let due: Vec<(Partition, HeldBack)> = open.into_iter().filter(|(partition, _)| is_due(partition)).collect();
        self.warned.extend(due.iter().map(|(partition, held)| (*partition, (held.last_stable, now))));
        due
    }
}
