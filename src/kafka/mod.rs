//! To be written.

pub mod access;
pub mod plain_producer;
pub mod topic_reader;
