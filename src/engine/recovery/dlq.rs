//! The tail of the DLQ records: which events stand there already.

use rustc_hash::FxHashSet;

use crate::engine::recovery::{Recovery, RecoveryFinding, RecoveryRefusal, RecoveryStage, number, start_plan};
use crate::entity::Entity;
use crate::record::{Offset, Position, Record, header};

/// The fewest DLQ records that are looked at from the end of their log at once.
const MIN_DLQ_WINDOW: u64 = 1_000;

/// What the tail of the DLQ records told.
#[derive(Default)]
pub(super) struct DlqTail {
    pub(super) offsets: FxHashSet<Offset>,
    pub(super) newest: Option<Offset>,
    /// The newest source offset in the window that is read.
    window_newest: Option<Offset>,
    pub(super) oldest: Option<Offset>,
    pub(super) unreadable: u64,
    pub(super) newest_unreadable: Offset,
}

impl<E: Entity> Recovery<E> {
    pub(super) fn dlq_window_before(&self, until: Position) -> RecoveryStage {
        let window = self.settings.look_back_records.max(MIN_DLQ_WINDOW);
        RecoveryStage::Dlq { from: until.back(window).max(self.dlq_low), until }
    }

    pub(super) fn dlq_record(&mut self, record: &Record<'_>) {
        let topic = record.headers.last(header::SOURCE_TOPIC);
        let is_ours = topic == Some(self.settings.topic.as_bytes())
            && number(record, header::SOURCE_PARTITION) == Some(i64::from(self.partition.0));
        let dlq = &mut self.dlq;
        let Some(offset) = number(record, header::SOURCE_OFFSET).map(Offset).filter(|_| is_ours) else {
            dlq.unreadable += 1;
            dlq.newest_unreadable = dlq.newest_unreadable.max(record.offset);
            return;
        };
        dlq.offsets.insert(offset);
        dlq.newest = dlq.newest.max(Some(offset));
        dlq.window_newest = dlq.window_newest.max(Some(offset));
        dlq.oldest = Some(dlq.oldest.map_or(offset, |oldest| oldest.min(offset)));
    }

    /// Windows are read from the end backwards until one lies wholly before what will be replayed. DLQ records stand
    /// in the order of their source, except those that a recovery published later: a window is far longer than these.
    pub(super) fn dlq_window_read(&mut self, from: Position) -> Result<RecoveryStage, RecoveryRefusal> {
        self.refuse_input_shorter_than("the DLQ records contain", self.dlq.newest)?;
        let committed = self.committed.as_ref().map(|committed| committed.position);
        let newest = self.newest.as_ref().map(|(newest, _)| *newest);
        self.plan = start_plan::plan(committed, newest, self.dlq.newest, self.input, &self.settings);
        if let Some(RecoveryFinding::Expired { first, until }) =
            self.plan.findings.iter().find(|finding| matches!(finding, RecoveryFinding::Expired { .. }))
            && self.settings.stop_on_expired
        {
            return Err(RecoveryRefusal::Expired { partition: self.partition, first: *first, until: *until });
        }
        let needed_from = self.plan.replay.map_or(self.plan.start, |(from, _)| from);
        let window_newest = std::mem::take(&mut self.dlq.window_newest);
        let is_enough = window_newest.is_some_and(|newest| newest.is_before(needed_from));
        if from > self.dlq_low && !is_enough {
            return Ok(self.dlq_window_before(from));
        }
        let is_checkable = newest.is_some_and(|newest| !newest.is_before(self.input.low));
        Ok(if is_checkable { RecoveryStage::RecordAtNewest { seen: false } } else { self.after_checks() })
    }
}
