//! The search in the tail of the DLQ partition: which events were rejected already.
//!
//! The tail is read in windows, from the end backwards, until a window lies wholly before the part of the input that
//! verification reads again. DLQ records are in source order, except those that an earlier recovery published later; a
//! window is far longer than these.

use rustc_hash::FxHashSet;

use crate::engine::recovery::restore::Restored;
use crate::engine::recovery::start_plan::{self, StartPlan};
use crate::engine::recovery::{LogBounds, RecoveryFinding, RecoveryRefusal, number};
use crate::entity::Entity;
use crate::record::{Offset, Position, Record, header};

/// The least number of DLQ offsets in one window.
const MIN_WINDOW: u64 = 1_000;

/// The stage that reads the tail of the DLQ partition.
pub(super) struct DlqSearch<E: Entity> {
    restored: Restored<E>,
    input: LogBounds,
    tail: DlqTail,
    /// The end of the window that is being read.
    until: Position,
    window_newest: Option<Offset>,
}

pub(super) struct DlqTail {
    /// The start of the DLQ partition's log.
    low: Position,
    pub(super) offsets: FxHashSet<Offset>,
    /// D.
    newest: Option<Offset>,
    oldest: Option<Offset>,
    pub(super) unreadable: Option<UnreadableDlqRecords>,
}

/// DLQ records without steward's headers, or of another input.
#[derive(Clone, Copy)]
pub(super) struct UnreadableDlqRecords {
    pub(super) records: u64,
    /// The offset of the newest one in the DLQ partition.
    pub(super) newest: Offset,
}

/// The start position and the range to verify are decided.
pub(super) struct PlannedRecovery<E: Entity> {
    pub(super) restored: Restored<E>,
    pub(super) input: LogBounds,
    pub(super) dlq: DlqTail,
    pub(super) plan: StartPlan,
}

pub(super) enum WindowRead<E: Entity> {
    /// Older DLQ records matter too: read the window before.
    TooFew(DlqSearch<E>),
    Enough(PlannedRecovery<E>),
}

impl<E: Entity> Restored<E> {
    pub(super) fn search_dlq(self, dlq: LogBounds, input: LogBounds) -> Result<DlqSearch<E>, RecoveryRefusal> {
        let newest = self.state.newest.as_ref().map(|newest| newest.offset);
        self.recovery.refuse_shorter_input(input, newest, "the state contains")?;
        let tail =
            DlqTail { low: dlq.low, offsets: FxHashSet::default(), newest: None, oldest: None, unreadable: None };
        Ok(DlqSearch { restored: self, input, tail, until: dlq.high, window_newest: None })
    }
}

impl<E: Entity> DlqSearch<E> {
    /// The range of the DLQ partition to read next.
    pub(super) fn window(&self) -> (Position, Position) {
        let length = self.restored.recovery.settings.look_back_records.max(MIN_WINDOW);
        (self.until.back(length).max(self.tail.low), self.until)
    }

    pub(super) fn record(&mut self, record: &Record<'_>) {
        let recovery = &self.restored.recovery;
        let is_own = record.headers.last(header::SOURCE_TOPIC) == Some(recovery.settings.topic.as_bytes())
            && number(record, header::SOURCE_PARTITION) == Some(i64::from(recovery.partition.0));
        let tail = &mut self.tail;
        let Some(offset) = number(record, header::SOURCE_OFFSET).map(Offset).filter(|_| is_own) else {
            let unreadable = tail.unreadable.get_or_insert(UnreadableDlqRecords { records: 0, newest: record.offset });
            unreadable.records += 1;
            unreadable.newest = unreadable.newest.max(record.offset);
            return;
        };
        tail.offsets.insert(offset);
        tail.newest = tail.newest.max(Some(offset));
        tail.oldest = Some(tail.oldest.map_or(offset, |oldest| oldest.min(offset)));
        self.window_newest = self.window_newest.max(Some(offset));
    }

    pub(super) fn finish_window(mut self) -> Result<WindowRead<E>, RecoveryRefusal> {
        let Restored { recovery, committed, state } = &self.restored;
        recovery.refuse_shorter_input(self.input, self.tail.newest, "the DLQ records contain")?;
        let newest = state.newest.as_ref().map(|newest| newest.offset);
        let plan = start_plan::plan(*committed, newest, self.tail.newest, self.input, &recovery.settings);
        if let Some(RecoveryFinding::Expired { first, until }) =
            plan.findings.iter().find(|finding| matches!(finding, RecoveryFinding::Expired { .. }))
            && recovery.settings.stop_on_expired
        {
            return Err(RecoveryRefusal::Expired { partition: recovery.partition, first: *first, until: *until });
        }
        let needed_from = plan.verified_range.map_or(plan.start, |(from, _)| from);
        let is_enough = self.window_newest.take().is_some_and(|newest| newest.is_before(needed_from));
        let (from, _) = self.window();
        if from > self.tail.low && !is_enough {
            self.until = from;
            return Ok(WindowRead::TooFew(self));
        }
        let DlqSearch { restored, input, tail: dlq, .. } = self;
        Ok(WindowRead::Enough(PlannedRecovery { restored, input, dlq, plan }))
    }
}

impl DlqTail {
    /// Whether the DLQ record of a rejected event, which was not found, was lost. If retention has deleted DLQ records,
    /// then those before the oldest remaining one may have existed.
    pub(super) fn has_lost(&self, offset: Offset) -> bool {
        self.low == Position(0) || self.oldest.is_some_and(|oldest| offset > oldest)
    }
}
