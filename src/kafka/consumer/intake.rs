//! Records on their way from librdkafka to the sink: the partitions that are read, one round of taking, and what the
//! sink has not taken yet.
//!
//! Architecture invariant: no call of librdkafka here; a round is handed what was taken.

use std::collections::VecDeque;
use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::kafka::client::batch_queue::{QueueFailure, Taken};
use crate::ports::{SourceEvent, SourceSink};
use crate::record::{Batch, Epoch, Extent, Offset, Partition, Position};

/// A partition that is assigned.
pub(super) struct ReadPartition {
    pub(super) epoch: Epoch,
    pub(super) reading: FetchState,
    /// What came a second time, so that the client was set back; `None` once a record behind it has come.
    pub(super) repeated: Option<Offset>,
    /// What the last batch came to.
    pub(super) last_extent: Extent,
}

impl ReadPartition {
    pub(super) fn new(epoch: Epoch, reading: FetchState) -> ReadPartition {
        ReadPartition { epoch, reading, repeated: None, last_extent: Extent::default() }
    }
}

pub(super) enum FetchState {
    /// Not, or not yet.
    Held,
    /// About to, as soon as the client has taken the position; assigned anew if it has not at `patience_until`.
    Starting { position: Position, since: Instant, patience_until: Instant },
    /// `next` is the position behind everything that was taken; `open` collects this round's records.
    Started { next: Position, open: Option<Batch> },
    /// The client has lost its place: at `resume_at` it is set back to `next`, and until then nothing is taken.
    Interrupted { next: Position, resume_at: Instant },
    /// The log does not hold `first`; the client has stopped reading.
    Expired { first: Position, since: Instant, retry_at: Instant },
}

/// One round of taking records.
pub(super) struct Round<'p> {
    pub(super) owned: &'p mut FxHashMap<Partition, ReadPartition>,
    pub(super) records: usize,
    pub(super) bytes: u64,
    pub(super) failures: Vec<FetchFailure>,
}

pub(super) struct FetchFailure {
    pub(super) partition: Partition,
    pub(super) offset: Option<Offset>,
    pub(super) cause: FetchCause,
    pub(super) reason: String,
}

pub(super) enum FetchCause {
    Client(QueueFailure),
    /// A record came from below the position.
    FellBack(Offset),
}

impl Round<'_> {
    pub(super) fn take(&mut self, taken: Taken<'_>) {
        match taken {
            Taken::Record(partition, incoming) => {
                // What stands behind a failure may stand behind a gap. The partition is read again from before it.
                if self.failures.iter().any(|failure| failure.partition == partition) {
                    return;
                }
                // Anything else was fetched before the partition was held or revoked.
                let Some(ReadPartition { epoch, reading: FetchState::Started { next, open }, repeated, last_extent }) =
                    self.owned.get_mut(&partition)
                else {
                    return;
                };
                let offset = incoming.offset();
                if offset.is_before(*next) {
                    let reason = format!("offset {offset} came after position {next}; the client is set back to that");
                    self.failures.push(FetchFailure {
                        partition,
                        offset: Some(offset),
                        cause: FetchCause::FellBack(offset),
                        reason,
                    });
                    return;
                }
                incoming
                    .copy_into(open.get_or_insert_with(|| Batch::with_room(partition, *epoch, *next, *last_extent)));
                *next = offset.next();
                *repeated = None;
                self.records += 1;
                self.bytes += incoming.payload_bytes() as u64;
            }
            Taken::Failed { partition, offset, failure, reason, .. } => {
                self.failures.push(FetchFailure { partition, offset, cause: FetchCause::Client(failure), reason });
            }
        }
    }

    pub(super) fn average_bytes(&self) -> Option<u64> {
        self.bytes.checked_div(self.records as u64)
    }
}

/// What the sink has not taken yet. Bounded: records are taken only while it is empty.
#[derive(Default)]
pub(super) struct Outbox {
    /// About ownership, and failure: in order, and before any data.
    pub(super) urgent: VecDeque<SourceEvent>,
    /// Batches, and what belongs between them: in order.
    pub(super) data: VecDeque<SourceEvent>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.data.is_empty()
    }

    pub(super) fn offer(&mut self, sink: &mut dyn SourceSink) {
        for queue in [&mut self.urgent, &mut self.data] {
            while let Some(event) = queue.pop_front() {
                if let Err(refused) = sink.offer(event) {
                    queue.push_front(refused);
                    return;
                }
            }
        }
    }

    pub(super) fn drop_data(&mut self, of: Partition) {
        self.data.retain(|event| match event {
            SourceEvent::Batch(batch) => batch.partition() != of,
            SourceEvent::Expired { partition, .. } => *partition != of,
            SourceEvent::Assigned(_)
            | SourceEvent::Revoking { .. }
            | SourceEvent::Revoked(_)
            | SourceEvent::Lost(_)
            | SourceEvent::Failed(_) => true,
        });
    }
}
