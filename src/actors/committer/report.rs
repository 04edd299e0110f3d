//! What the committer does, as numbers and log events. What can repeat without end is counted and summarised.

use std::time::Duration;

use crate::actors::Shared;
use crate::entity::Reason;
use crate::log_events::{
    EntitiesPanicked, EntityPanicked, EventRejected, EventsRejected, LogEvent, ProducerRenewFailed, ProducerRenewed,
    RecordTruncated, StaleOutcomesDropped, TransactionAborted, TransactionCommitted, TransactionRefused,
    TransactionUnanswered, millis, ranges,
};
use crate::progress::group_commit::{Notice, Receipt, Verdict};
use crate::record::{DeadLetter, Partition, header};
use crate::stats::{Flood, Seen, Summary};

/// What repeats is summarised this often.
const SUMMARY_WINDOW: Duration = Duration::from_secs(10);

/// Where the last one of many stood: partition and offset.
type Place = (i32, i64);

/// See the module.
#[derive(Debug)]
pub(super) struct Report {
    rejected: Flood<Reason, Place>,
    panics: u64,
}

impl Default for Report {
    fn default() -> Report {
        Report { rejected: Flood::new(SUMMARY_WINDOW, Reason::ALL.len()), panics: 0 }
    }
}

impl Report {
    pub(super) fn committed(&mut self, receipt: Receipt, shared: &Shared) {
        let now_ms = shared.clock.unix_ms();
        let mut events = 0;
        let mut bytes = 0;
        for done in &receipt.batches {
            shared.stats.applied(done.outcomes.applied);
            shared.stats.skipped(done.outcomes.skipped);
            bytes += done.outcomes.weight_bytes();
            for letter in &done.outcomes.dead_letters {
                self.dead_letter(letter, shared);
            }
            let timestamps_ms = done.open.batch.iter().filter_map(|record| record.timestamp_ms);
            shared.stats.latencies_ms(timestamps_ms.map(|timestamp_ms| now_ms.saturating_sub(timestamp_ms)));
            events += done.open.batch.len() as u64;
        }
        for stretch in &receipt.stretches {
            shared.vitals.committed(stretch.partition, stretch.end);
        }
        shared.stats.transaction(receipt.took);
        shared.vitals.progressed(shared.clock.now());
        TransactionCommitted {
            number: receipt.number,
            events,
            snapshots: receipt.snapshots as u64,
            dead_letters: receipt.dead_letters as u64,
            bytes,
            took_ms: millis(receipt.took),
            partitions: &ranges(receipt.stretches.iter().map(|stretch| stretch.partition.0)),
        }
        .emit();
    }

    fn dead_letter(&mut self, letter: &DeadLetter, shared: &Shared) {
        let record = letter.record();
        let (partition, offset) = (letter.batch.partition().0, record.offset.0);
        let reason = letter.rejection.reason;
        shared.stats.rejected(reason, 1);
        if self.rejected.seen(&reason, (partition, offset), shared.clock.now()) == Seen::Counted {
            self.panics += u64::from(reason == Reason::Panicked);
            return;
        }
        if reason == Reason::Panicked {
            self.panics += 1;
            EntityPanicked { partition, offset, detail: &letter.rejection.detail, panics: self.panics }.emit();
        } else {
            let traceparent =
                record.headers.last(header::TRACEPARENT).and_then(|bytes| std::str::from_utf8(bytes).ok());
            EventRejected { reason: reason.code(), partition, offset, traceparent }.emit();
        }
    }

    pub(super) fn summarise(&mut self, shared: &Shared) {
        self.rejected.summaries(shared.clock.now()).into_iter().for_each(tell_summary);
    }

    pub(super) fn finish(&mut self, shared: &Shared) {
        self.rejected.finish(shared.clock.now()).into_iter().for_each(tell_summary);
    }

    pub(super) fn dropped(&self, partition: Partition, records: u64) {
        if records > 0 {
            StaleOutcomesDropped { partition: partition.0, events: records }.emit();
        }
    }

    pub(super) fn notice(&self, notice: Notice, shared: &Shared) {
        match notice {
            Notice::Aborted { number, cause, attempt } => {
                shared.stats.transaction_aborted();
                TransactionAborted { number, cause: &cause, attempt: u64::from(attempt) }.emit();
            }
            Notice::TimedOut { number, cause } => {
                shared.stats.transaction_aborted();
                TransactionAborted { number, cause: &cause, attempt: 1 }.emit();
            }
            Notice::Unanswered { number, cause, took } => {
                TransactionUnanswered { number, cause: &cause, took_ms: millis(took) }.emit();
            }
            // The first producer of a process is no news.
            Notice::Renewed { number: None, .. } => {}
            Notice::Renewed { number: Some(number), verdict, took } => {
                ProducerRenewed { number, verdict: verdict_code(verdict), took_ms: millis(took) }.emit();
            }
            Notice::RenewFailed { cause, attempt } => {
                ProducerRenewFailed { cause: &cause, attempt: u64::from(attempt) }.emit();
            }
            Notice::Refused { cause, partition, offset, attempt } => TransactionRefused {
                cause: &cause,
                partition: partition.map(|partition| partition.0),
                offset: offset.map(|offset| offset.0),
                attempt: u64::from(attempt),
            }
            .emit(),
            Notice::Truncated { partition, offset, bytes } => {
                RecordTruncated { partition: partition.0, offset: offset.0, bytes }.emit();
            }
        }
    }
}

fn tell_summary(summary: Summary<Reason, Place>) {
    let Summary { kind, count, window, last: (last_partition, last_offset) } = summary;
    let window_ms = millis(window);
    match kind {
        Some(Reason::Panicked) => EntitiesPanicked { count, window_ms, last_partition, last_offset }.emit(),
        Some(reason) => {
            EventsRejected { reason: reason.code(), count, window_ms, last_partition, last_offset }.emit();
        }
        None => unreachable!("there is room for every reason"),
    }
}

/// The stable code of a verdict.
fn verdict_code(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::NothingInDoubt => "nothing_in_flight",
        Verdict::TookEffect => "took_effect",
        Verdict::HadNone => "did_not",
        Verdict::CannotTell => "disagrees",
    }
}
