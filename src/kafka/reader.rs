//! Reads partitions to their high watermark: for recovery, and for the commands.

pub mod committed;
pub mod partition_reader;
pub mod topic_reader;
