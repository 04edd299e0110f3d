//! Owns how a DLQ record is named: its partition and offset.

use std::fmt;

use crate::record::{Offset, Partition};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DlqLocation {
    pub partition: Partition,
    pub offset: Offset,
}

impl fmt::Display for DlqLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.partition, self.offset)
    }
}
