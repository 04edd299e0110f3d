//! Owns reading partitions to their high watermarks, for recovery and for the commands, and fetching committed offsets.

pub mod committed_offsets;
pub mod partition_reader;
mod reading_context;
pub mod topic_reader;
pub mod watermark_read;
