//! Owns the way into the ingest actor's mailbox: counts a batch against the in-flight limits before the actor gets it.

use actix::dev::SendError;
use actix::{Addr, Message};

use crate::engine::budget::Lease;
use crate::entity::Entity;
use crate::ports::{ConsumerEvent, ConsumerSink};
use crate::runtime::ingest::IngestActor;
use crate::runtime::{OpenBatchGuard, Shared};

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct FromConsumer {
    pub(super) event: ConsumerEvent,
    /// What a batch holds of the in-flight limits; `None` for other events.
    pub(super) in_flight: Option<BatchPermit>,
}

/// A batch's share of the in-flight limits, given back on drop.
pub(super) struct BatchPermit {
    pub(super) lease: Lease,
    pub(super) guard: OpenBatchGuard,
}

/// The ingest actor's mailbox, as the consumer sees it.
pub struct IngestSink<E: Entity> {
    pub(in crate::runtime) ingest: Addr<IngestActor<E>>,
    pub(in crate::runtime) shared: Shared,
}

impl<E: Entity> ConsumerSink for IngestSink<E> {
    fn offer(&mut self, event: ConsumerEvent) -> Result<(), ConsumerEvent> {
        let (mut records, mut bytes, mut in_flight) = (0, 0, None);
        if let ConsumerEvent::Batch(batch) = &event {
            (records, bytes) = (batch.len() as u64, batch.held_bytes());
            let first = batch.iter().next().map(|record| (record.offset, record.key));
            // Before the actor can take the batch out of its mailbox.
            self.shared.status.batch_offered(batch.partition(), first);
            let (lease, guard) = (self.shared.in_flight.hold(bytes), self.shared.open_batches.count());
            in_flight = Some(BatchPermit { lease, guard });
        }
        match self.ingest.try_send(FromConsumer { event, in_flight }) {
            Ok(()) => {
                if records > 0 {
                    self.shared.stats.events_read(records, bytes);
                }
                Ok(())
            }
            Err(SendError::Full(FromConsumer { event, .. }) | SendError::Closed(FromConsumer { event, .. })) => {
                if let ConsumerEvent::Batch(batch) = &event {
                    self.shared.status.offer_refused(batch.partition());
                }
                Err(event)
            }
        }
    }

    fn wants_records(&self) -> bool {
        self.shared.takes_records()
    }

    fn batch_bytes(&self) -> u64 {
        self.shared.batch_bytes()
    }
}
