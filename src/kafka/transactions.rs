//! The transactional producer, the one open transaction, and the thread that runs transactions.

pub mod commit_thread;
pub mod out_record;
pub mod transaction;
