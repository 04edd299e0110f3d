//! Handles the end of a transaction and of a producer reset. Facts a) to c) are those of the parent module.

use std::time::{Duration, Instant};

use crate::engine::batches::CompleteBatch;
use crate::engine::commit::transaction::{CommitOutcome, CommittedOffset, OffsetRange, RefusedRecord, ResetOutcome};
use crate::engine::commit::{
    CommitCommand, CommitNotice, CommitReceipt, DoubtVerdict, FENCINGS_PER_MINUTE, GAP_WITHOUT_LINGER, GroupCommit,
    InFlight, InvalidationCause, Linger, MAX_LINGER, MINUTE, ProducerState, REFUSALS_ALLOWED,
    STALE_GENERATIONS_ALLOWED, StopReason, TIMEOUTS_OF_A_LARGE_BATCH, records_of, wait_after,
};
use crate::engine::dead_owners::FencedBy;
use crate::engine::outcome::PerOutput;
use crate::engine::planted::{Planted, planted};
use crate::record::{Epoch, Partition};

impl GroupCommit {
    pub(super) fn transaction_ended(
        &mut self,
        outcome: CommitOutcome,
        now: Instant,
        commands: &mut Vec<CommitCommand>,
    ) {
        let ProducerState::Sending(mut in_flight) = std::mem::replace(&mut self.producer, ProducerState::Idle) else {
            panic!("a) a transaction ended while none was in flight: {outcome:?}");
        };
        let number = in_flight.content.number;
        if !matches!(outcome, CommitOutcome::StaleGeneration { .. }) {
            in_flight.stale_generations = 0;
        }
        match outcome {
            CommitOutcome::Committed { took } => {
                self.limit.committed(in_flight.bytes, took);
                let began = in_flight.sent_at.unwrap_or(now);
                let partitions = u32::try_from(in_flight.parts.len()).unwrap_or(u32::MAX);
                self.conclude(in_flight, took, commands);
                let linger =
                    self.settings.linger_per_partition.saturating_mul(partitions).saturating_sub(GAP_WITHOUT_LINGER);
                let markers_until = now + linger.min(MAX_LINGER);
                let interval_until = markers_until.max(began + self.settings.min_interval);
                self.producer = ProducerState::Lingering(Linger { markers_until, interval_until });
            }
            CommitOutcome::Aborted { cause, timed_out } => {
                in_flight.aborts += 1;
                commands.push(CommitCommand::Log(CommitNotice::Aborted { number, cause, attempt: in_flight.aborts }));
                if timed_out && self.has_timed_out(&mut in_flight) {
                    return self.read_again(in_flight, commands);
                }
                if planted(Planted::AbortedIsDropped) {
                    return;
                }
                self.retry_after(in_flight.aborts, in_flight, now);
            }
            CommitOutcome::StaleGeneration { cause } => self.stale_generation(in_flight, cause, now, commands),
            CommitOutcome::Stale(partitions) => {
                let parts = in_flight.parts.iter().map(|part| (part.partition, part.epoch));
                let stale: Vec<_> = parts.filter(|(partition, _)| partitions.contains(partition)).collect();
                self.end_ownership(&stale, commands);
                self.send_again(in_flight, now, commands);
            }
            CommitOutcome::InDoubt { cause } => {
                let took = in_flight.age(now);
                commands.push(CommitCommand::Log(CommitNotice::InDoubt { number, cause, took }));
                if planted(Planted::DoubtCountsAsCommitted) {
                    return self.conclude(in_flight, took, commands);
                }
                if planted(Planted::DoubtCountsAsAborted) {
                    return self.retry_after(1, in_flight, now);
                }
                self.reset_producer(Some(in_flight), commands);
            }
            CommitOutcome::Fenced { cause, by } => self.fenced(in_flight, cause, by, now, commands),
            CommitOutcome::Refused { cause, record } => self.refused(in_flight, cause, record, now, commands),
            CommitOutcome::Fatal { cause } => self.stop(StopReason::ProducerFatal(cause), commands),
        }
    }

    pub(super) fn producer_reset(&mut self, outcome: ResetOutcome, now: Instant, commands: &mut Vec<CommitCommand>) {
        let ProducerState::Resetting(in_flight) = std::mem::replace(&mut self.producer, ProducerState::Idle) else {
            panic!("a) a reset of the producer ended while none was running: {outcome:?}");
        };
        match outcome {
            ResetOutcome::Ready(committed) => {
                self.resets_failed = 0;
                self.settle_doubt(in_flight, &committed, now, commands);
            }
            ResetOutcome::Failed { cause } => {
                self.resets_failed += 1;
                let attempt = self.resets_failed;
                commands.push(CommitCommand::Log(CommitNotice::ProducerResetFailed { cause, attempt }));
                self.producer = ProducerState::ResetWaiting(in_flight, now + wait_after(attempt));
            }
            ResetOutcome::Fenced { cause } => self.stop(StopReason::DuplicateInstance(cause), commands),
            ResetOutcome::Fatal { cause } => self.stop(StopReason::ProducerFatal(cause), commands),
        }
    }

    /// Compares a transaction in doubt with what the group has committed. The reset has fenced every earlier request, so
    /// the committed positions cannot change any more.
    fn settle_doubt(
        &mut self,
        in_flight: Option<InFlight>,
        committed: &[(Partition, Option<CommittedOffset>)],
        now: Instant,
        commands: &mut Vec<CommitCommand>,
    ) {
        let Some(mut in_flight) = in_flight else {
            let (verdict, took) = (DoubtVerdict::NothingInDoubt, Duration::ZERO);
            commands.push(CommitCommand::Log(CommitNotice::ProducerReset { number: None, verdict, took }));
            return;
        };
        let number = in_flight.content.number;
        let metadata_of = |range: &OffsetRange| self.settings.offset_metadata.of(number, range.newest_state);
        let is_owned = |range: &&OffsetRange| self.queue(range.partition, range.epoch).is_some();
        let mut verdicts: Vec<DoubtVerdict> = in_flight
            .content
            .offset_ranges
            .iter()
            .filter(is_owned)
            .map(|range| {
                let found = committed.iter().find(|(of, _)| *of == range.partition);
                verdict_of(range, found, &metadata_of(range))
            })
            .collect();
        verdicts.sort_unstable_by_key(|verdict| *verdict as u8);
        verdicts.dedup();
        let verdict = match verdicts.as_slice() {
            [] => DoubtVerdict::Lost,
            [agreed] => *agreed,
            [..] => DoubtVerdict::Unknown,
        };
        let took = in_flight.age(now);
        commands.push(CommitCommand::Log(CommitNotice::ProducerReset { number: Some(number), verdict, took }));
        match verdict {
            DoubtVerdict::Committed if planted(Planted::CommittedIsSentAgain) => {
                self.send_again(in_flight, now, commands);
            }
            DoubtVerdict::Committed => self.conclude(in_flight, took, commands),
            DoubtVerdict::NotCommitted | DoubtVerdict::NothingInDoubt => {
                self.limit.failed(in_flight.bytes);
                in_flight.doubts += 1;
                match in_flight.doubts {
                    // One lost response is no reason to wait.
                    1 => self.send_again(in_flight, now, commands),
                    doubts => self.retry_after(doubts - 1, in_flight, now),
                }
            }
            DoubtVerdict::Lost => self.send_again(in_flight, now, commands),
            DoubtVerdict::Unknown => self.drop_and_invalidate(in_flight, InvalidationCause::UnknownCommit, commands),
        }
    }

    /// Lowers the limit. Returns whether the same content would time out again: its first batch alone is above the
    /// limit.
    fn has_timed_out(&mut self, in_flight: &mut InFlight) -> bool {
        self.limit.failed(in_flight.bytes);
        in_flight.timeouts += 1;
        let first = in_flight.parts.first().and_then(|part| part.complete.first());
        let is_splittable =
            |first: &CompleteBatch| first.open.batch.len() > 1 && first.outcomes.weight_bytes() > self.limit.bytes();
        in_flight.timeouts >= TIMEOUTS_OF_A_LARGE_BATCH && first.is_some_and(is_splittable)
    }

    /// Drops every batch that is too large for the present limit, with all that follows it in its partition. The
    /// partitions recover, and read the records again. The transaction in flight had no effect.
    fn read_again(&mut self, in_flight: InFlight, commands: &mut Vec<CommitCommand>) {
        self.drop_and_invalidate(in_flight, InvalidationCause::BatchTooLarge, commands);
        let limit_bytes = self.limit.bytes();
        let too_large = self.queues.iter().filter(|(_, queue)| queue.open.has_larger_than(limit_bytes));
        let too_large: Vec<(Partition, Epoch)> =
            too_large.map(|(partition, queue)| (*partition, queue.epoch)).collect();
        for (partition, epoch) in too_large {
            self.end_ownership(&[(partition, epoch)], commands);
            commands.push(CommitCommand::Invalidate(partition, epoch, InvalidationCause::BatchTooLarge));
        }
    }

    fn drop_and_invalidate(
        &mut self,
        in_flight: InFlight,
        cause: InvalidationCause,
        commands: &mut Vec<CommitCommand>,
    ) {
        for part in in_flight.parts {
            commands.push(CommitCommand::Dropped { partition: part.partition, records: records_of(&part) });
            if self.queue(part.partition, part.epoch).is_some() {
                self.end_ownership(&[(part.partition, part.epoch)], commands);
                commands.push(CommitCommand::Invalidate(part.partition, part.epoch, cause));
            }
        }
    }

    fn conclude(&mut self, in_flight: InFlight, took: Duration, commands: &mut Vec<CommitCommand>) {
        let content = &in_flight.content;
        for range in &content.offset_ranges {
            if let Some(queue) = self.queue_mut(range.partition, range.epoch) {
                queue.committed = Some(range.end);
                queue.newest_state = range.newest_state;
            }
        }
        let mut records = PerOutput::default();
        for record in &content.records {
            records[record.output()] += 1;
            if !self.degraded.is_empty() {
                self.degraded.remove(&record.id());
            }
        }
        commands.push(CommitCommand::Committed(CommitReceipt {
            number: content.number,
            took,
            offset_ranges: content.offset_ranges.clone(),
            records,
            batches: in_flight.parts.into_iter().flat_map(|part| part.complete).collect(),
        }));
    }

    /// Waits and sends again: the consumer will learn of the new generation, or lose the partitions, which ends their
    /// epochs. A process that stops waits only for a few attempts. It leaves the group anyway, and the next owner does
    /// the work again.
    fn stale_generation(
        &mut self,
        mut in_flight: InFlight,
        cause: String,
        now: Instant,
        commands: &mut Vec<CommitCommand>,
    ) {
        in_flight.aborts += 1;
        in_flight.stale_generations += 1;
        let (number, attempt) = (in_flight.content.number, in_flight.aborts);
        commands.push(CommitCommand::Log(CommitNotice::Aborted { number, cause: cause.clone(), attempt }));
        if !self.is_stopping || in_flight.stale_generations < STALE_GENERATIONS_ALLOWED {
            return self.retry_after(attempt, in_flight, now);
        }
        let (attempts, mut records) = (in_flight.stale_generations, 0);
        for part in &in_flight.parts {
            records += records_of(part);
            commands.push(CommitCommand::Dropped { partition: part.partition, records: records_of(part) });
        }
        records += self.queues.values().map(|queue| queue.open.records()).sum::<u64>();
        let queues: Vec<(Partition, Epoch)> =
            self.queues.iter().map(|(partition, queue)| (*partition, queue.epoch)).collect();
        self.end_ownership(&queues, commands);
        commands.push(CommitCommand::Log(CommitNotice::CutShort { cause, attempts, records }));
    }

    fn fenced(
        &mut self,
        mut in_flight: InFlight,
        cause: String,
        by: FencedBy,
        now: Instant,
        commands: &mut Vec<CommitCommand>,
    ) {
        self.fenced_at.retain(|(at, _)| now.saturating_duration_since(*at) < MINUTE);
        self.fenced_at.push_back((now, by));
        let is_too_often = self.fenced_at.iter().filter(|(_, of)| *of == by).count() > FENCINGS_PER_MINUTE;
        let number = in_flight.content.number;
        let notice = match by {
            FencedBy::Timeout if is_too_often => return self.stop(StopReason::TimedOutTooOften(cause), commands),
            FencedBy::Timeout => {
                self.limit.failed(in_flight.bytes);
                CommitNotice::TimedOut { number, cause }
            }
            FencedBy::Unknown if is_too_often => return self.stop(StopReason::DuplicateInstance(cause), commands),
            FencedBy::Recovery | FencedBy::Unknown => CommitNotice::TakenForDead { number, cause },
            FencedBy::AnotherProcess => return self.stop(StopReason::DuplicateInstance(cause), commands),
        };
        in_flight.aborts += 1;
        commands.push(CommitCommand::Log(notice));
        self.reset_producer(Some(in_flight), commands);
    }

    fn refused(
        &mut self,
        mut in_flight: InFlight,
        cause: String,
        record: Option<RefusedRecord>,
        now: Instant,
        commands: &mut Vec<CommitCommand>,
    ) {
        let refused = record.and_then(|refused| Some((in_flight.content.records.get(refused.index)?, refused)));
        if let Some((record, RefusedRecord { too_large: true, .. })) = &refused
            && let Some((degradation, bytes)) = record.degrade()
        {
            let (partition, offset) = (record.partition, record.source);
            self.degraded.insert(record.id(), degradation);
            commands.push(CommitCommand::Log(CommitNotice::Degraded { degradation, partition, offset, bytes }));
            return self.send_again(in_flight, now, commands);
        }
        let named = refused.map(|(record, _)| (record.partition, record.source));
        in_flight.refusals += 1;
        if in_flight.refusals >= REFUSALS_ALLOWED {
            return self.stop(StopReason::Refused { cause, record: named }, commands);
        }
        commands.push(CommitCommand::Log(CommitNotice::Refused {
            cause,
            partition: named.map(|(partition, _)| partition),
            offset: named.map(|(_, offset)| offset),
            attempt: in_flight.refusals,
        }));
        self.retry_after(in_flight.refusals, in_flight, now);
    }

    fn retry_after(&mut self, attempts: u32, in_flight: InFlight, now: Instant) {
        self.producer = ProducerState::RetryWaiting(in_flight, now + wait_after(attempts));
    }
}

fn verdict_of(
    range: &OffsetRange,
    found: Option<&(Partition, Option<CommittedOffset>)>,
    metadata: &str,
) -> DoubtVerdict {
    let committed = found.and_then(|(_, committed)| committed.as_ref());
    let is_own = |found: &str| found == metadata || planted(Planted::MetadataIsNotCompared);
    match committed {
        Some(committed) if is_own(&committed.metadata) && committed.position == range.end => DoubtVerdict::Committed,
        Some(committed) if Some(committed.position) == range.start => DoubtVerdict::NotCommitted,
        None if range.start.is_none() => DoubtVerdict::NotCommitted,
        Some(_) | None => DoubtVerdict::Unknown,
    }
}
