//! Records between librdkafka and the sink: the assigned partitions, one round of taking records, and events that the
//! sink has not accepted yet.
//!
//! Architecture invariant: nothing here calls librdkafka. A round receives the taken messages.

use std::collections::VecDeque;
use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::kafka::client::forwarded_queue::{QueueFailure, Taken};
use crate::ports::{ConsumerEvent, ConsumerSink};
use crate::record::{Batch, Epoch, Extent, Offset, Partition, Position};

pub(super) struct AssignedPartition {
    pub(super) epoch: Epoch,
    pub(super) fetch: FetchState,
    /// A record came a second time, so the client was set back, and no record after it has come since.
    pub(super) was_set_back: bool,
    /// The size of the last batch, which predicts the size of the next.
    pub(super) last_extent: Extent,
}

impl AssignedPartition {
    pub(super) fn new(epoch: Epoch, fetch: FetchState) -> AssignedPartition {
        AssignedPartition { epoch, fetch, was_set_back: false, last_extent: Extent::default() }
    }
}

pub(super) enum FetchState {
    /// Paused, without a position.
    Held,
    /// Waits until the client has taken the position. If it has not at `patience_until`, the partition is assigned
    /// again.
    Starting { position: Position, since: Instant, patience_until: Instant },
    /// `next` is the position after all taken records; `open` collects the records of this round.
    Started { next: Position, open: Option<Batch> },
    /// The client's position is wrong. At `resume_at` it is set back to `next`; nothing is taken before.
    Interrupted { next: Position, resume_at: Instant },
    /// The log does not contain `first`; the client has stopped reading.
    Expired { first: Position, since: Instant, retry_at: Instant },
}

/// One round of taking records.
pub(super) struct Round<'p> {
    pub(super) assigned: &'p mut FxHashMap<Partition, AssignedPartition>,
    pub(super) records: usize,
    pub(super) bytes: u64,
    /// A batch of so many bytes takes no more records: after small records, a single call can take many large ones.
    pub(super) max_batch_bytes: u64,
    /// Batches that take no more records.
    pub(super) full: Vec<Batch>,
    pub(super) failures: Vec<FetchFailure>,
}

pub(super) struct FetchFailure {
    pub(super) partition: Partition,
    /// The offset at fault, if the client reports one.
    pub(super) offset: Option<Offset>,
    pub(super) cause: FetchCause,
    pub(super) reason: String,
}

pub(super) enum FetchCause {
    Client(QueueFailure),
    /// A record of this offset, which is below the position.
    FellBack(Offset),
}

impl Round<'_> {
    pub(super) fn take(&mut self, taken: Taken<'_>) {
        match taken {
            Taken::Record(partition, incoming) => {
                // A record after a failure may be after a gap. The partition is read again from before the failure.
                if self.failures.iter().any(|failure| failure.partition == partition) {
                    return;
                }
                // A record of any other partition was fetched before the partition was held or revoked.
                let Some(AssignedPartition {
                    epoch,
                    fetch: FetchState::Started { next, open },
                    was_set_back,
                    last_extent,
                }) = self.assigned.get_mut(&partition)
                else {
                    return;
                };
                if open.as_ref().is_some_and(|batch| batch.data_bytes() >= self.max_batch_bytes) {
                    self.full.extend(open.take());
                }
                let offset = incoming.offset();
                if offset.is_before(*next) {
                    let reason = format!("offset {offset} came after position {next}; the client is set back to that");
                    let cause = FetchCause::FellBack(offset);
                    self.failures.push(FetchFailure { partition, offset: Some(offset), cause, reason });
                    return;
                }
                incoming
                    .copy_into(open.get_or_insert_with(|| Batch::with_room(partition, *epoch, *next, *last_extent)));
                *next = offset.next();
                *was_set_back = false;
                self.records += 1;
                self.bytes += incoming.payload_bytes() as u64;
            }
            Taken::Failed { partition, offset, failure, reason, .. } => {
                self.failures.push(FetchFailure { partition, offset, cause: FetchCause::Client(failure), reason });
            }
        }
    }

    /// Returns the average bytes of a record, if there is one.
    pub(super) fn average_bytes(&self) -> Option<u64> {
        self.bytes.checked_div(self.records as u64)
    }
}

/// Events that the sink has not accepted yet. Bounded, because records are taken only while it is empty.
#[derive(Default)]
pub(super) struct Outbox {
    /// Ownership and failure: in order, and before any data.
    pub(super) urgent: VecDeque<ConsumerEvent>,
    /// Batches and expired events: in order.
    pub(super) data: VecDeque<ConsumerEvent>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.data.is_empty()
    }

    /// Offers events until the sink gives one back.
    pub(super) fn offer(&mut self, sink: &mut dyn ConsumerSink) {
        for queue in [&mut self.urgent, &mut self.data] {
            while let Some(event) = queue.pop_front() {
                if let Err(returned) = sink.offer(event) {
                    queue.push_front(returned);
                    return;
                }
            }
        }
    }

    pub(super) fn drop_data(&mut self, of: Partition) {
        self.data.retain(|event| match event {
            ConsumerEvent::Batch(batch) => batch.partition() != of,
            ConsumerEvent::Expired { partition, .. } => *partition != of,
            ConsumerEvent::Assigned(_)
            | ConsumerEvent::Revoking { .. }
            | ConsumerEvent::Revoked(_)
            | ConsumerEvent::Lost(_)
            | ConsumerEvent::Failed(_) => true,
        });
    }
}
