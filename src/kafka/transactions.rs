//! Owns transactions: the producer, the one open transaction, the driver that runs it, and the commit thread.

pub mod commit_thread;
pub mod driver;
pub mod producer_record;
pub mod transaction;
