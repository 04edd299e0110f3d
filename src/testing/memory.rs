//! In-memory fakes of the ports: a cluster with three topics and one group, and the pods that use it.
//!
//! The cluster has the behavior that the guarantees depend on. Transactions are open until their end reaches the
//! coordinator, hold `read_committed` readers back, leave markers, which are offsets without a record, and commit all or
//! nothing. A newer producer of the same transactional id fences the older one; a transaction that is open for too long is
//! aborted. The group knows members and generations, keeps committed positions with their metadata, and removes a member
//! that sends no heartbeat. Coordinators may be away, and requests may arrive when their senders wait no longer.
//!
//! A pod takes one step at a time, and the test decides which, and what becomes of the step's request ([`Fate`]). So a pod
//! can die, freeze or lose a partition at each of these moments. [`InjectedOutcome`] is a whole transaction at once.
//!
//! Deliberately absent: threads, a clock and the network. The test decides what happens next and what time it is, so the
//! same decisions give the same run. One test runs the same scenario here and on a real Kafka.

mod coordinators;
mod kafka;
mod log;
mod pod;
mod reader;
mod transaction;

pub use crate::testing::memory::coordinators::PodId;
pub use crate::testing::memory::kafka::MemoryKafka;
pub use crate::testing::memory::log::{MemoryRecord, StoredRecord};
pub use crate::testing::memory::pod::MemoryPod;
pub use crate::testing::memory::transaction::{Fate, InjectedOutcome, Progress};
