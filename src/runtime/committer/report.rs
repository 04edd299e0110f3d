//! What the committer does, as numbers and log events. What can repeat without end is counted and summarised.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use crate::engine::commit::{CommitNotice, DoubtVerdict, Receipt};
use crate::engine::outcome::{Degradation, Output, RejectedEvent};
use crate::engine::recovery::Repaired;
use crate::entity::Reason;
use crate::observability::log_events::{
    DrainCutShort, EntitiesPanicked, EntityPanicked, EventRejected, EventsRejected, LogEvent, LostWriteRepaired,
    ProducerReset, ProducerResetFailed, RecordTruncated, RecordsTruncated, ResetVerdict, StaleOutcomesDropped, Trace,
    TraceContextDropped, TransactionAborted, TransactionCommitted, TransactionInDoubt, TransactionRefused, millis,
    ranges,
};
use crate::observability::log_throttle::{LogThrottle, Occurrence, ThrottleSummary};
use crate::record::{Epoch, Partition, header};
use crate::runtime::Shared;

/// What repeats is summarised this often.
const SUMMARY_WINDOW: Duration = Duration::from_secs(10);

/// Where the last one of many stood: partition and offset.
type RecordPlace = (i32, i64);

/// See the module.
#[derive(Debug)]
pub(super) struct Report {
    rejected: LogThrottle<Reason, RecordPlace>,
    truncated: LogThrottle<(), RecordPlace>,
    panics: u64,
    /// What recoveries found missing, until it is published. Only then it was missing for sure: a process that does not
    /// know yet that it has lost the partition reads what its next owner is about to write, and nothing of its own is
    /// taken any more.
    repairing: BTreeMap<Partition, (Epoch, Repaired)>,
}

impl Default for Report {
    fn default() -> Report {
        let rejected = LogThrottle::new(SUMMARY_WINDOW, Reason::ALL.len());
        Report { rejected, truncated: LogThrottle::new(SUMMARY_WINDOW, 1), panics: 0, repairing: BTreeMap::new() }
    }
}

impl Report {
    /// A partition was recovered.
    pub(super) fn joined(&mut self, partition: Partition, epoch: Epoch, repaired: Option<Repaired>) {
        match repaired {
            Some(repaired) => self.repairing.insert(partition, (epoch, repaired)),
            None => self.repairing.remove(&partition),
        };
    }

    pub(super) fn committed(&mut self, receipt: Receipt, shared: &Shared) {
        let now_ms = shared.clock.unix_ms();
        let mut events = 0;
        let mut bytes = 0;
        for done in &receipt.batches {
            shared.stats.applied(done.outcomes.applied);
            shared.stats.skipped(done.outcomes.skipped);
            bytes += done.outcomes.weight_bytes();
            for letter in done.outcomes.rejected_events() {
                self.dlq_record(letter, shared);
            }
            let timestamps_ms = done.open.batch.iter().filter_map(|record| record.timestamp_ms);
            shared.stats.latencies_ms(timestamps_ms.map(|timestamp_ms| now_ms.saturating_sub(timestamp_ms)));
            events += done.open.batch.len() as u64;
        }
        for stretch in &receipt.stretches {
            self.repaired(stretch.partition, stretch.epoch);
            shared.status.committed(stretch.partition, stretch.end, shared.clock.now());
        }
        shared.stats.transaction(receipt.took);
        TransactionCommitted {
            number: receipt.number,
            events,
            snapshots: receipt.records[Output::State] as u64,
            dlq_records: receipt.records[Output::Dlq] as u64,
            bytes,
            took_ms: millis(receipt.took),
            partitions: &ranges(receipt.stretches.iter().map(|stretch| stretch.partition.0)),
        }
        .emit();
    }

    /// The first transaction of a epoch carries what its recovery found missing.
    fn repaired(&mut self, partition: Partition, epoch: Epoch) {
        let Entry::Occupied(found) = self.repairing.entry(partition) else { return };
        if found.get().0 != epoch {
            return;
        }
        let (_, Repaired { entities, events, rejections, from, until }) = found.remove();
        let partition = partition.0;
        LostWriteRepaired { partition, entities, events, rejections, from: from.0, until: until.0 }.emit();
    }

    fn dlq_record(&mut self, letter: &RejectedEvent, shared: &Shared) {
        let record = letter.record();
        let (partition, offset) = (letter.batch.partition().0, record.offset.0);
        let reason = letter.rejection.reason;
        shared.stats.rejected(reason, 1);
        if self.rejected.seen(&reason, (partition, offset), shared.clock.now()) == Occurrence::Counted {
            self.panics += u64::from(reason == Reason::Panicked);
            return;
        }
        let key = record.key.and_then(|key| shared.keys.show(key));
        let trace = record.headers.last(header::TRACEPARENT).and_then(Trace::parse);
        let trace_id = trace.map(|trace| trace.trace_id);
        let span_id = trace.map(|trace| trace.span_id);
        let trace_flags = trace.map(|trace| trace.trace_flags);
        if reason == Reason::Panicked {
            self.panics += 1;
            let (location, panics) = (letter.rejection.location.as_deref(), self.panics);
            EntityPanicked { partition, offset, key, location, panics, trace_id, span_id, trace_flags }.emit();
        } else {
            let reason = reason.code();
            EventRejected { reason, partition, offset, key, trace_id, span_id, trace_flags }.emit();
        }
    }

    pub(super) fn summarise(&mut self, shared: &Shared) {
        let now = shared.clock.now();
        self.rejected.summaries(now).into_iter().for_each(tell_summary);
        self.truncated.summaries(now).into_iter().for_each(tell_truncated);
    }

    pub(super) fn finish(&mut self, shared: &Shared) {
        let now = shared.clock.now();
        self.rejected.finish(now).into_iter().for_each(tell_summary);
        self.truncated.finish(now).into_iter().for_each(tell_truncated);
    }

    pub(super) fn dropped(&self, partition: Partition, records: u64) {
        if records > 0 {
            StaleOutcomesDropped { partition: partition.0, events: records }.emit();
        }
    }

    pub(super) fn notice(&mut self, notice: CommitNotice, shared: &Shared) {
        if let Some(cause) = trouble_of(&notice) {
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
            CommitNotice::InDoubt { number, cause, took } => {
                TransactionInDoubt { number, cause: &cause, took_ms: millis(took) }.emit();
            }
            // The first producer of a process is no news.
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
        match degradation {
            Degradation::TraceContext => TraceContextDropped { partition, offset, bytes }.emit(),
            Degradation::Value => {
                if self.truncated.seen(&(), place, shared.clock.now()) == Occurrence::First {
                    RecordTruncated { partition, offset, bytes }.emit();
                }
            }
        }
    }
}

fn tell_summary(summary: ThrottleSummary<Reason, RecordPlace>) {
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

fn tell_truncated(summary: ThrottleSummary<(), RecordPlace>) {
    let ThrottleSummary { count, window, last: (last_partition, last_offset), .. } = summary;
    RecordsTruncated { count, window_ms: millis(window), last_partition, last_offset }.emit();
}

/// Why nothing was committed, where it was not.
fn trouble_of(notice: &CommitNotice) -> Option<&str> {
    match notice {
        CommitNotice::Aborted { cause, .. }
        | CommitNotice::TimedOut { cause, .. }
        | CommitNotice::InDoubt { cause, .. }
        | CommitNotice::ProducerResetFailed { cause, .. }
        | CommitNotice::CutShort { cause, .. }
        | CommitNotice::Refused { cause, .. } => Some(cause),
        CommitNotice::ProducerReset { .. } | CommitNotice::Degraded { .. } => None,
    }
}

/// The stable code of a verdict.
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
