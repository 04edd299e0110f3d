//! Takes records out of librdkafka in bulk.
//!
//! A record then costs a quarter of a record of `BaseConsumer::poll`. The queue of each assigned partition is forwarded
//! into one queue. Taking from that queue never runs a rebalance; `BaseConsumer::poll` on the consumer's queue does.
//!
//! * a) A message is lent to the visitor, which copies what it needs. It is destroyed before `wait` or `take_ready` returns:
//!   a held message pins its whole fetch buffer.
//! * b) librdkafka waits until the array is full or the time is up. So a wait is for one message, and a larger array is
//!   filled without waiting.
//! * c) librdkafka drops messages that were fetched before a pause, a seek or an unassign when they are taken.
//!
//! Callers: the poll thread, and the readers of partitions.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, ConsumerContext};

use crate::kafka::client::errors::{ErrorClass, GroupRefusal, Resource, class_of};
pub use crate::kafka::client::ffi::Incoming;
use crate::kafka::client::ffi::{self, MessageQueue, PartitionError};
use crate::record::{Batch, Header, Offset, Partition};

/// Limit of messages per call.
pub const MAX_TAKEN: usize = ffi::MAX_TAKEN;

/// The queue into which the queues of all assigned partitions are forwarded.
pub struct ForwardedQueue<C: ConsumerContext>(MessageQueue<C>);

pub enum Taken<'a> {
    Record(Partition, Incoming<'a>),
    /// The client cannot continue to read a partition.
    Failed {
        partition: Partition,
        /// The offset at fault, if the client reports one.
        offset: Option<Offset>,
        class: ErrorClass,
        failure: QueueFailure,
        reason: String,
    },
}

/// Why a partition is not read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueFailure {
    /// The position is not within the log. The client has stopped reading the partition.
    OutOfRange,
    /// A record is larger than the client accepts.
    TooLarge,
    /// A permission is missing.
    NotAuthorized,
    /// Waiting does not help: the topic does not exist, the log was cut, the client cannot log in.
    Permanent,
    /// The client keeps trying.
    Transient,
}

impl<C: ConsumerContext> ForwardedQueue<C> {
    pub fn new(consumer: Arc<BaseConsumer<C>>) -> ForwardedQueue<C> {
        ForwardedQueue(MessageQueue::new(consumer))
    }

    /// Forwards the records of `partition` to this queue. Call it before the partition is assigned, or some records
    /// arrive at the consumer's queue.
    pub fn forward(&self, topic: &str, partition: Partition) {
        self.0.forward(topic, partition);
    }

    /// Waits for one message, at most `wait`, and lends it to `visit`. Returns the number of messages: 0 or 1.
    pub fn wait(&mut self, wait: Duration, visit: impl FnMut(Taken<'_>)) -> usize {
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        self.take(wait_ms, 1, visit)
    }

    /// Lends at most `limit` waiting messages to `visit`. Returns the number of messages.
    pub fn take_ready(&mut self, limit: usize, visit: impl FnMut(Taken<'_>)) -> usize {
        self.take(0, limit, visit)
    }

    fn take(&mut self, wait_ms: i32, limit: usize, mut visit: impl FnMut(Taken<'_>)) -> usize {
        self.0.consume(wait_ms, limit, |partition, message| {
            visit(match message {
                Ok(record) => Taken::Record(partition, record),
                Err(PartitionError { code, offset, reason }) => {
                    let class = class_of(code);
                    Taken::Failed { partition, offset, class, failure: QueueFailure::of(class), reason }
                }
            });
        })
    }
}

impl QueueFailure {
    pub(crate) fn of(class: ErrorClass) -> QueueFailure {
        let is_permanent = matches!(
            class,
            ErrorClass::LoginRefused
                | ErrorClass::MechanismUnsupported
                | ErrorClass::UnknownTopic
                | ErrorClass::UnknownPartition
                | ErrorClass::InvalidTopic
                | ErrorClass::GroupRefused(GroupRefusal::Name)
                | ErrorClass::ClientFailed
                | ErrorClass::LogTruncated
        );
        if class == ErrorClass::OffsetOutOfRange {
            QueueFailure::OutOfRange
        } else if class == ErrorClass::RecordTooLarge {
            QueueFailure::TooLarge
        } else if matches!(class, ErrorClass::Forbidden(Resource::Topic | Resource::Group | Resource::Cluster)) {
            QueueFailure::NotAuthorized
        } else if is_permanent {
            QueueFailure::Permanent
        } else {
            QueueFailure::Transient
        }
    }
}

impl Incoming<'_> {
    /// Returns the value of the last header of this name; `None` if there is none, or if it is null.
    pub fn last_header(&self, name: &str) -> Option<&[u8]> {
        let headers: Vec<_> = self.headers().collect();
        headers.into_iter().rev().find(|(found, _)| found == name)?.1
    }

    /// Appends a copy of the record to the batch.
    pub fn copy_into(&self, batch: &mut Batch) {
        let headers: Vec<_> = self.headers().collect();
        batch.push(
            self.offset(),
            self.timestamp_ms(),
            self.key(),
            self.value(),
            headers.iter().map(|(name, value)| Header { name, value: *value }),
        );
    }
}
