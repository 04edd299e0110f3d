//! Takes records, and handles the client's failures to read a partition. Facts a), b) and so on are those of the parent
//! module.

use crate::kafka::client::context::{ClientError, ClientRole};
use crate::kafka::client::errors::ErrorClass;
use crate::kafka::client::forwarded_queue::{MAX_TAKEN, QueueFailure};
use crate::kafka::consumer::fetching::{FetchCause, FetchFailure, FetchState, Round};
use crate::kafka::consumer::poll_thread::positions::{EXPIRED_RETRY, INTERRUPTED_RETRY};
use crate::kafka::consumer::poll_thread::{PollThread, RECORD_WAIT};
use crate::ports::{ConsumerEvent, ConsumerFailure};
use crate::record::{Batch, Partition, Position};

impl PollThread {
    pub(super) fn wants_records(&self) -> bool {
        self.is_running()
            && self.revocation.is_none()
            && self.outbox.is_empty()
            && self.assigned.values().any(|assigned| matches!(assigned.fetch, FetchState::Started { .. }))
            && self.sink.wants_records()
    }

    /// Takes records until none is left or the round is full, and makes one batch for each partition.
    pub(super) fn take_round(&mut self) {
        let round_bytes = self.round_bytes.min(self.sink.batch_bytes());
        let mut round = Round {
            assigned: &mut self.assigned,
            records: 0,
            bytes: 0,
            max_batch_bytes: round_bytes.saturating_mul(2),
            full: Vec::new(),
            failures: Vec::new(),
        };
        let mut taken = self.queue.wait(RECORD_WAIT, |taken| round.take(taken));
        while taken > 0 && round.records < self.round_records && round.bytes < round_bytes {
            // One call takes a number of records, so the number follows from the average size so far.
            self.record_bytes = round.average_bytes().unwrap_or(self.record_bytes);
            let room = (round_bytes - round.bytes) / self.record_bytes.max(1);
            let room = usize::try_from(room).unwrap_or(MAX_TAKEN).min(self.round_records - round.records);
            taken = self.queue.take_ready(room.clamp(1, MAX_TAKEN), |taken| round.take(taken));
        }
        let Round { failures, full, .. } = round;
        self.close_batches(full);
        for failure in failures {
            self.handle_failure(failure);
        }
    }

    /// Offers the batches of a round. `full` are those that were closed before its end.
    fn close_batches(&mut self, full: Vec<Batch>) {
        let mut batches = full;
        for assigned in self.assigned.values_mut() {
            let FetchState::Started { open, .. } = &mut assigned.fetch else { continue };
            let Some(batch) = open.take() else { continue };
            assigned.last_extent = batch.extent();
            batches.push(batch);
        }
        for batch in batches {
            if self.parts.ownership.is_current(batch.partition(), batch.epoch()) {
                self.outbox.data.push_back(ConsumerEvent::Batch(batch));
            } else if let Some(assigned) = self.assigned.get_mut(&batch.partition()) {
                // The epoch was invalidated. The next start has the position to read from.
                assigned.fetch = FetchState::Held;
            }
        }
    }

    fn handle_failure(&mut self, failure: FetchFailure) {
        let FetchFailure { partition, offset, cause, reason } = failure;
        let now = self.parts.clock.now();
        let started = self.assigned.get_mut(&partition).and_then(|assigned| {
            let FetchState::Started { next, .. } = assigned.fetch else { return None };
            Some((assigned, next))
        });
        match (cause, started) {
            // c)
            (FetchCause::FellBack(offset), Some((assigned, next))) => {
                if assigned.was_set_back {
                    return self.fail(ConsumerFailure::OrderBroken { partition, offset, next });
                }
                assigned.was_set_back = true;
                assigned.fetch = FetchState::Interrupted { next, resume_at: now };
                self.pause(partition);
                self.report(ReadFault::RecordRepeated, partition, &reason);
            }
            (FetchCause::FellBack(_) | FetchCause::Client(QueueFailure::OutOfRange), None) => {}
            // The client's position may be ahead of the last record, by transaction markers.
            (FetchCause::Client(QueueFailure::OutOfRange), Some((assigned, next))) => {
                let first = offset.map_or(next, |offset| next.max(Position(offset.0)));
                assigned.fetch = FetchState::Expired { first, since: now, retry_at: now + EXPIRED_RETRY };
            }
            (FetchCause::Client(QueueFailure::TooLarge), _) => self.fail(ConsumerFailure::Fatal(format!(
                "partition {partition} cannot be read on: {reason}; raise receive.message.max.bytes in kafka.properties"
            ))),
            (FetchCause::Client(QueueFailure::NotAuthorized), _) => self.fail(ConsumerFailure::Fatal(format!(
                "partition {partition} cannot be read on: {reason}; allow READ on the input topic and the group"
            ))),
            // h)
            (FetchCause::Client(QueueFailure::Permanent | QueueFailure::Transient), started) => {
                if let Some((assigned, next)) = started {
                    assigned.fetch = FetchState::Interrupted { next, resume_at: now + INTERRUPTED_RETRY };
                    self.pause(partition);
                }
                self.report(ReadFault::PartitionRead, partition, &reason);
            }
        }
    }

    fn report(&self, fault: ReadFault, partition: Partition, reason: &str) {
        let (class, reason) = (ErrorClass::Other, format!("partition {partition}: {reason}"));
        self.parts.events.error(ClientRole::Consumer, &ClientError { code: fault.code(), class, reason: &reason });
    }
}

/// An error of one partition, beside the codes of the client.
#[derive(Debug, Clone, Copy)]
enum ReadFault {
    /// An offset came again.
    RecordRepeated,
    /// A fetch failed.
    PartitionRead,
}

impl ReadFault {
    const fn code(self) -> &'static str {
        match self {
            ReadFault::RecordRepeated => "RecordRepeated",
            ReadFault::PartitionRead => "PartitionRead",
        }
    }
}
