//! Owns the way into the ingest actor's mailbox: counts a batch against the in-flight limits before the actor gets it.

use actix::dev::SendError;
use actix::{Addr, Message};

use crate::engine::budget::Lease;
use crate::entity::Entity;
use crate::ports::{SourceEvent, SourceSink};
use crate::record::{Batch, Offset};
use crate::runtime::ingest::IngestActor;
use crate::runtime::{OpenBatchGuard, Shared};

/// An event of the source.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct FromSource {
    pub(super) event: SourceEvent,
    /// What a batch holds of the in-flight limits; `None` for other events.
    pub(super) in_flight: Option<InFlight>,
}

/// A batch's share of the in-flight limits, given back on drop.
pub(super) struct InFlight {
    pub(super) lease: Lease,
    pub(super) guard: OpenBatchGuard,
}

/// The ingest actor's mailbox, as the event source sees it.
pub struct IngestSink<E: Entity> {
    ingest: Addr<IngestActor<E>>,
    shared: Shared,
}

impl<E: Entity> IngestSink<E> {
    pub(in crate::runtime) fn new(ingest: Addr<IngestActor<E>>, shared: Shared) -> IngestSink<E> {
        IngestSink { ingest, shared }
    }
}

impl<E: Entity> SourceSink for IngestSink<E> {
    fn offer(&mut self, event: SourceEvent) -> Result<(), SourceEvent> {
        let (records, bytes, in_flight) = match &event {
            SourceEvent::Batch(batch) => {
                let bytes = batch.held_bytes();
                // Before the actor can take the batch out of its mailbox.
                self.shared.status.batch_offered(batch.partition(), first_record(batch));
                let (lease, guard) = (self.shared.in_flight.hold(bytes), self.shared.open_batches.count());
                (batch.len() as u64, bytes, Some(InFlight { lease, guard }))
            }
            SourceEvent::Assigned(_)
            | SourceEvent::Revoking { .. }
            | SourceEvent::Revoked(_)
            | SourceEvent::Lost(_)
            | SourceEvent::Expired { .. }
            | SourceEvent::Failed(_) => (0, 0, None),
        };
        match self.ingest.try_send(FromSource { event, in_flight }) {
            Ok(()) => {
                if records > 0 {
                    self.shared.stats.events_read(records, bytes);
                }
                Ok(())
            }
            Err(SendError::Full(FromSource { event, .. }) | SendError::Closed(FromSource { event, .. })) => {
                if let SourceEvent::Batch(batch) = &event {
                    self.shared.status.offer_refused(batch.partition());
                }
                Err(event)
            }
        }
    }

    fn wants_records(&self) -> bool {
        self.shared.takes_records()
    }
}

fn first_record(batch: &Batch) -> Option<(Offset, Option<&[u8]>)> {
    batch.iter().next().map(|record| (record.offset, record.key))
}
