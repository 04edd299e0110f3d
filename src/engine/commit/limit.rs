//! How many bytes a transaction carries. It starts small and grows while transactions end quickly. So a process whose
//! brokers are slow, or throttle it, never begins with a transaction that cannot end within the transaction timeout.
//!
//! How long a transaction takes says nothing about larger ones unless it was about as large as the limit permits.
//! So only such a transaction raises the limit. Times are parts of the transaction timeout:
//!
//! | transaction | next limit |
//! |---|---|
//! | took less than 1/32, and none was too slow | below 1 MiB four times the limit, then twice |
//! | took less than 1/32 | twice the limit, up to half of what was too slow last; then a quarter more |
//! | took less than 1/8 | a quarter more |
//! | took less than 1/4 | as it is: it may grow no further |
//! | took longer | half of what it carried, at least [`FIRST_BYTES`] |
//! | had no effect, because it was too slow or in doubt | half of what it carried, at most [`FIRST_BYTES`] |
//!
//! A broker with a quota accepts a burst and delays only what follows it. So the limit does not follow the measured rate:
//! within a burst of some 11 s, the bytes that were quick so far show no more than that as many again take 11 s at most,
//! which is about the timeout. The third row makes growth slow before such a delay exceeds the timeout. The fifth row has a lower bound, because a time that does not depend on the size, such as
//! the distance to the brokers, must not shrink transactions to nothing. The last row has none, except one byte: then a
//! transaction carries one batch, and a batch one record.

use std::time::Duration;

/// The limit of the first transaction of a process. At full speed it takes seven transactions to reach the default of
/// `limits.max_transaction_bytes`: some 0.2 s of a process that starts with a backlog.
pub const FIRST_BYTES: u64 = 65_536;

/// While the limit is not at its maximum, events are read for this many transactions: one in flight, and twice as much
/// for the next one, whose limit may have grown. Batches are as small as the limit then. More of them would cost processor
/// time, and if the brokers are slow, they would keep other partitions from being read.
const TRANSACTIONS_READ_AHEAD: u64 = 4;

/// Below this, the limit grows fourfold at first. What such transactions carry together is hardly more than what the last
/// one carries, so a quota is exceeded by no more than with twice as many that double.
const QUADRUPLES_BELOW_BYTES: u64 = 1 << 20;

/// Bytes that may be read ahead in any case, unless the brokers are slow.
pub const LEAST_READ_AHEAD_BYTES: u64 = 4 << 20;

/// Batches that a transaction has room for, if their outcomes are as large as their events.
const BATCHES_IN_TRANSACTION: u64 = 4;

/// Parts of the transaction timeout within which a transaction lets the limit double, grow, and stay.
const DOUBLE_WITHIN: u32 = 32;
const GROW_WITHIN: u32 = 8;
const STAY_WITHIN: u32 = 4;

#[derive(Debug, Clone)]
pub struct TransactionLimit {
    bytes: u64,
    max_bytes: u64,
    /// Half of what was too slow last, until the limit is at its maximum again.
    doubles_to_bytes: u64,
    /// The transaction timeout.
    timeout: Duration,
}

impl TransactionLimit {
    pub fn new(max_bytes: u64, timeout: Duration) -> TransactionLimit {
        TransactionLimit { bytes: FIRST_BYTES.min(max_bytes).max(1), max_bytes, doubles_to_bytes: u64::MAX, timeout }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that the next batch should have. It is never split, and its outcomes may be larger than its events.
    pub fn batch_bytes(&self) -> u64 {
        self.bytes / BATCHES_IN_TRANSACTION
    }

    /// Returns the bytes of events that may be in flight, if this is less than the memory permits.
    pub fn read_ahead_bytes(&self) -> u64 {
        if self.bytes >= self.max_bytes {
            return u64::MAX;
        }
        let least = if self.has_been_slow() { 0 } else { LEAST_READ_AHEAD_BYTES };
        self.bytes.saturating_mul(TRANSACTIONS_READ_AHEAD).max(least)
    }

    /// A transaction with this many bytes was committed.
    pub fn committed(&mut self, carried_bytes: u64, took: Duration) {
        let is_full = carried_bytes >= self.bytes / 2;
        if took >= self.timeout / STAY_WITHIN {
            self.was_too_slow(carried_bytes);
            self.bytes = self.bytes.min(self.doubles_to_bytes.max(FIRST_BYTES));
        } else if is_full && took < self.timeout / DOUBLE_WITHIN && self.bytes <= self.doubles_to_bytes / 2 {
            let quadruples = self.bytes < QUADRUPLES_BELOW_BYTES && !self.has_been_slow();
            self.grow_by(if quadruples { 3 * self.bytes } else { self.bytes });
        } else if is_full && took < self.timeout / GROW_WITHIN {
            self.grow_by(self.bytes.div_ceil(4));
        }
    }

    /// A transaction with this many bytes had no effect, because it was too slow or in doubt.
    pub fn failed(&mut self, carried_bytes: u64) {
        self.was_too_slow(carried_bytes);
        self.bytes = self.doubles_to_bytes.clamp(1, FIRST_BYTES);
    }

    /// Returns whether a transaction was too slow since the limit was last at its maximum.
    fn has_been_slow(&self) -> bool {
        self.doubles_to_bytes < u64::MAX
    }

    fn was_too_slow(&mut self, carried_bytes: u64) {
        self.doubles_to_bytes = carried_bytes.min(self.bytes) / 2;
    }

    fn grow_by(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes).min(self.max_bytes).max(1);
        if self.bytes >= self.max_bytes {
            self.doubles_to_bytes = u64::MAX;
        }
    }
}
