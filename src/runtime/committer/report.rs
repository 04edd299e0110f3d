//! Turns the work of the committer into stats and log events. Events that can repeat without limit are throttled: the
//! first is logged, the others are counted and summarised.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use crate::engine::commit::transaction::OffsetRange;
use crate::engine::commit::{CommitNotice, CommitReceipt, DoubtVerdict};
use crate::engine::outcome::{Degradation, Output, RejectedEvent};
use crate::engine::recovery::Repaired;
use crate::entity::Reason;
use crate::observability::log_events::{
    DrainCutShort, EntitiesPanicked, EntityPanicked, EventRejected, EventsRejected, LogEvent, LostWriteRepaired,
    ProducerReset, ProducerResetFailed, RecordTruncated, RecordsTruncated, ResetVerdict, StaleOutcomesDropped,
    TakenForDead, Trace, TraceContextDropped, TransactionAborted, TransactionCommitted, TransactionInDoubt,
    TransactionRefused, TruncatedPart, millis, ranges,
};
use crate::observability::log_throttle::{LogThrottle, Occurrence, ThrottleSummary};
use crate::record::{Epoch, Partition, header};
use crate::runtime::Shared;

const SUMMARY_WINDOW: Duration = Duration::from_secs(10);

/// Value, headers and key.
const TRUNCATED_PARTS: usize = 3;

/// Partition and offset.
type RecordPlace = (i32, i64);

#[derive(Debug)]
pub(super) struct Report {
    rejected: LogThrottle<Reason, RecordPlace>,
    truncated: LogThrottle<Degradation, RecordPlace>,
    panics: u64,
    /// What recoveries found missing, until it is committed. Only the commit proves that it was missing: a process that
    /// has lost the partition and has no notice of it yet can read a state that its next owner is about to write, but
    /// the broker accepts nothing from it.
    repairing: BTreeMap<Partition, (Epoch, Repaired)>,
}

impl Default for Report {
    fn default() -> Report {
        let rejected = LogThrottle::new(SUMMARY_WINDOW, Reason::ALL.len());
        let truncated = LogThrottle::new(SUMMARY_WINDOW, TRUNCATED_PARTS);
        Report { rejected, truncated, panics: 0, repairing: BTreeMap::new() }
    }
}

impl Report {
    pub(super) fn recovered(&mut self, partition: Partition, epoch: Epoch, repaired: Option<Repaired>) {
        match repaired {
            Some(repaired) => self.repairing.insert(partition, (epoch, repaired)),
            None => self.repairing.remove(&partition),
        };
    }

    pub(super) fn committed(&mut self, receipt: CommitReceipt, shared: &Shared) {
        let now_ms = shared.clock.unix_ms();
        let (mut events, mut bytes) = (0, 0);
        for done in &receipt.batches {
            shared.stats.applied(done.outcomes.applied);
            shared.stats.skipped(done.outcomes.skipped);
            bytes += done.outcomes.weight_bytes();
            for rejected in done.outcomes.rejected_events() {
                self.rejected(rejected, shared);
            }
            let timestamps_ms = done.open.batch.iter().filter_map(|record| record.timestamp_ms);
            shared.stats.latencies_ms(timestamps_ms.map(|timestamp_ms| now_ms.saturating_sub(timestamp_ms)));
            events += done.open.batch.len() as u64;
        }
        for range in &receipt.offset_ranges {
            self.log_repair(range);
            shared.status.committed(range.partition, range.end, shared.clock.now());
        }
        shared.stats.transaction(receipt.took);
        TransactionCommitted {
            number: receipt.number,
            events,
            snapshots: receipt.records[Output::State] as u64,
            dlq_records: receipt.records[Output::Dlq] as u64,
            bytes,
            took_ms: millis(receipt.took),
            partitions: &ranges(receipt.offset_ranges.iter().map(|range| range.partition.0)),
        }
        .emit();
    }

    /// The last part of a repair commits the end of the verified range, those before it a position within it.
    fn log_repair(&mut self, range: &OffsetRange) {
        let partition = range.partition;
        let Entry::Occupied(found) = self.repairing.entry(partition) else { return };
        let (epoch, repaired) = found.get();
        if *epoch != range.epoch || range.end < repaired.until {
            return;
        }
        let (_, Repaired { entities, events, rejections, from, until }) = found.remove();
        let partition = partition.0;
        LostWriteRepaired { partition, entities, events, rejections, from: from.0, until: until.0 }.emit();
    }

    fn rejected(&mut self, rejected: &RejectedEvent, shared: &Shared) {
        let record = rejected.record();
        let (partition, offset) = (rejected.batch.partition().0, record.offset.0);
        let reason = rejected.rejection.reason;
        shared.stats.rejected(reason, 1);
        if self.rejected.seen(&reason, (partition, offset), shared.clock.now()) == Occurrence::Counted {
            self.panics += u64::from(reason == Reason::Panicked);
            return;
        }
        let key = record.key.and_then(|key| shared.keys.show(key));
        let trace = record.headers.last(header::TRACEPARENT).and_then(Trace::parse);
        let (trace_id, span_id) = (trace.map(|trace| trace.trace_id), trace.map(|trace| trace.span_id));
        let trace_flags = trace.map(|trace| trace.trace_flags);
        if reason == Reason::Panicked {
            self.panics += 1;
            let (location, panics) = (rejected.rejection.location.as_deref(), self.panics);
            EntityPanicked { partition, offset, key, location, panics, trace_id, span_id, trace_flags }.emit();
        } else {
            let reason = reason.code();
            EventRejected { reason, partition, offset, key, trace_id, span_id, trace_flags }.emit();
        }
    }

    /// Logs the summaries that are due.
    pub(super) fn summarise(&mut self, shared: &Shared) {
        let now = shared.clock.now();
        self.rejected.summaries(now).into_iter().for_each(log_rejected);
        self.truncated.summaries(now).into_iter().for_each(log_truncated);
    }

    /// Logs a summary of everything that is counted and not yet logged.
    pub(super) fn finish(&mut self, shared: &Shared) {
        let now = shared.clock.now();
        self.rejected.finish(now).into_iter().for_each(log_rejected);
        self.truncated.finish(now).into_iter().for_each(log_truncated);
    }

    pub(super) fn dropped(&self, partition: Partition, records: u64) {
        if records > 0 {
            StaleOutcomesDropped { partition: partition.0, events: records }.emit();
        }
    }

    pub(super) fn notice(&mut self, notice: CommitNotice, shared: &Shared) {
        if let Some(cause) = failure_of(&notice) {
            shared.status.commit_failed(cause);
        }
        match notice {
            CommitNotice::Aborted { number, cause, attempt } => {
                shared.stats.transaction_aborted();
                TransactionAborted { number, cause: &cause, attempt: u64::from(attempt) }.emit();
            }
            CommitNotice::TimedOut { number, cause } => {
                shared.stats.transaction_aborted();
                TransactionAborted { number, cause: &cause, attempt: 1 }.emit();
            }
            CommitNotice::TakenForDead { number, cause } => {
                shared.stats.transaction_aborted();
                TakenForDead { number, cause: &cause }.emit();
            }
            CommitNotice::InDoubt { number, cause, took } => {
                TransactionInDoubt { number, cause: &cause, took_ms: millis(took) }.emit();
            }
            // The first producer of a process replaces none.
            CommitNotice::ProducerReset { number, verdict, took } => {
                if let (Some(number), Some(verdict)) = (number, reset_verdict(verdict)) {
                    ProducerReset { number, verdict, took_ms: millis(took) }.emit();
                }
            }
            CommitNotice::ProducerResetFailed { cause, attempt } => {
                ProducerResetFailed { cause: &cause, attempt: u64::from(attempt) }.emit();
            }
            CommitNotice::Refused { cause, partition, offset, attempt } => TransactionRefused {
                cause: &cause,
                partition: partition.map(|partition| partition.0),
                offset: offset.map(|offset| offset.0),
                attempt: u64::from(attempt),
            }
            .emit(),
            CommitNotice::Degraded { degradation, partition, offset, bytes } => {
                self.degraded(degradation, (partition.0, offset.0), bytes, shared);
            }
            CommitNotice::CutShort { cause, attempts, records } => {
                DrainCutShort { cause: &cause, attempts: u64::from(attempts), events: records }.emit();
            }
        }
    }

    fn degraded(&mut self, degradation: Degradation, place: RecordPlace, bytes: u64, shared: &Shared) {
        let (partition, offset) = place;
        let Some(part) = truncated_part(degradation) else {
            return TraceContextDropped { partition, offset, bytes }.emit();
        };
        if self.truncated.seen(&degradation, place, shared.clock.now()) == Occurrence::First {
            RecordTruncated { partition, offset, part, bytes }.emit();
        }
    }
}

fn log_rejected(summary: ThrottleSummary<Reason, RecordPlace>) {
    let ThrottleSummary { kind, count, window, last: (last_partition, last_offset) } = summary;
    let window_ms = millis(window);
    match kind {
        Some(Reason::Panicked) => EntitiesPanicked { count, window_ms, last_partition, last_offset }.emit(),
        Some(reason) => {
            EventsRejected { reason: reason.code(), count, window_ms, last_partition, last_offset }.emit();
        }
        None => unreachable!("there is room for every reason"),
    }
}

fn log_truncated(summary: ThrottleSummary<Degradation, RecordPlace>) {
    let ThrottleSummary { kind, count, window, last: (last_partition, last_offset) } = summary;
    if let Some(part) = kind.and_then(truncated_part) {
        RecordsTruncated { part, count, window_ms: millis(window), last_partition, last_offset }.emit();
    }
}

/// Returns the part of a DLQ record that was left out; `None` for a snapshot.
fn truncated_part(degradation: Degradation) -> Option<TruncatedPart> {
    match degradation {
        Degradation::TraceContext => None,
        Degradation::Value => Some(TruncatedPart::Value),
        Degradation::Headers => Some(TruncatedPart::Headers),
        Degradation::Key => Some(TruncatedPart::Key),
    }
}

/// Returns why nothing was committed, if the notice is about a failed commit.
fn failure_of(notice: &CommitNotice) -> Option<&str> {
    match notice {
        CommitNotice::Aborted { cause, .. }
        | CommitNotice::TimedOut { cause, .. }
        | CommitNotice::TakenForDead { cause, .. }
        | CommitNotice::InDoubt { cause, .. }
        | CommitNotice::ProducerResetFailed { cause, .. }
        | CommitNotice::CutShort { cause, .. }
        | CommitNotice::Refused { cause, .. } => Some(cause),
        CommitNotice::ProducerReset { .. } | CommitNotice::Degraded { .. } => None,
    }
}

/// Returns `None` if there was no transaction in doubt.
fn reset_verdict(verdict: DoubtVerdict) -> Option<ResetVerdict> {
    match verdict {
        DoubtVerdict::NothingInDoubt => None,
        DoubtVerdict::Committed => Some(ResetVerdict::Committed),
        DoubtVerdict::NotCommitted => Some(ResetVerdict::NotCommitted),
        DoubtVerdict::Unknown => Some(ResetVerdict::Unknown),
        DoubtVerdict::Lost => Some(ResetVerdict::Lost),
    }
}
