//! The search in the tail of the DLQ partition: which events were rejected already.
//!
//! The tail is read in windows, from the end backwards, until a window lies wholly before the part of the input that
//! verification reads again. DLQ records are in source order, except those that an earlier recovery published later; a
//! window is far longer than these.

use crate::engine::recovery::dlq_tail::{DlqTail, OtherGroupsDlqRecords, UnreadableDlqRecords};
use crate::engine::recovery::restore::Restored;
use crate::engine::recovery::start_plan::{self, PlannedRecovery};
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

pub(super) enum WindowRead<E: Entity> {
    /// Older DLQ records matter too: read the window before.
    TooFew(DlqSearch<E>),
    Enough(PlannedRecovery<E>),
}

impl<E: Entity> Restored<E> {
    pub(super) fn search_dlq(self, dlq: LogBounds, input: LogBounds) -> Result<DlqSearch<E>, RecoveryRefusal> {
        let newest = self.newest_state().map(|newest| newest.offset);
        self.recovery.refuse_shorter_input(input, newest, "the state contains")?;
        let tail = DlqTail::from(dlq.low);
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
        if let Some(group) = self.other_group(record) {
            let group = String::from_utf8_lossy(group).into_owned();
            let others = self.tail.of_other_groups.get_or_insert(OtherGroupsDlqRecords { records: 0, group });
            others.records += 1;
            return;
        }
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

    /// Returns the group of a DLQ record, if it is neither this group nor the one whose state this group takes over.
    /// Releases before 0.2 did not write the header.
    fn other_group<'r>(&self, record: &Record<'r>) -> Option<&'r [u8]> {
        let Restored { recovery, state, .. } = &self.restored;
        let own = [Some(&recovery.settings.group), state.adopted.as_ref()];
        // The event may have had a header of this name; steward's follow the reason.
        let added = record.headers.iter().rev().take_while(|added| added.name != header::REASON);
        let group = added.into_iter().find(|added| added.name == header::GROUP)?.value?;
        (!own.into_iter().flatten().any(|own| own.as_bytes() == group)).then_some(group)
    }

    pub(super) fn finish_window(mut self) -> Result<WindowRead<E>, RecoveryRefusal> {
        let Restored { recovery, committed, state, .. } = &self.restored;
        recovery.refuse_shorter_input(self.input, self.tail.newest, "the DLQ records contain")?;
        let found = state.newest.as_ref().map(|newest| newest.offset);
        // A tombstone that has been removed moves the start like a DLQ record. The verification begins at M+1 all the
        // same.
        let also_contained = self.tail.newest.max(self.restored.newest_state().map(|newest| newest.offset));
        let committed = committed.map(|committed| (committed.position, committed.by()));
        let plan = start_plan::plan(committed, found, also_contained, self.input, &recovery.settings);
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
        self.restored.refuse_lost_state(&plan)?;
        let DlqSearch { restored, input, tail: dlq, .. } = self;
        Ok(WindowRead::Enough(PlannedRecovery { restored, input, dlq, plan }))
    }
}
