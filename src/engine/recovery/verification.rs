//! The verification: reads a range of the input again without output, and finds the writes that the topics lack.
//!
//! An event at or below its key's snapshot is skipped. An event that has a DLQ record is skipped too: it was rejected,
//! and rules or code may have changed since. Every other event is applied. At the end, and only then, each entity that
//! differs from its snapshot is published, and so is each rejection without a DLQ record.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::engine::outcome::{EntitySnapshot, Outcomes, Output, OutputRecord};
use crate::engine::planted::{Planted, planted};
use crate::engine::recovery::dlq_tail::{OtherGroupsDlqRecords, UnreadableDlqRecords};
use crate::engine::recovery::restore::Restored;
use crate::engine::recovery::start_plan::PlannedRecovery;
use crate::engine::recovery::{Recovered, Recovery, RecoveryFinding, Repaired, StoredEntity, passivated_bytes};
use crate::entity::{Entity, apply_record};
use crate::record::{Batch, Key, Offset, Position, Record, TraceContext};

/// The stage that reads the input before the start position again.
pub(super) struct Verification<E: Entity> {
    planned: PlannedRecovery<E>,
    touched: FxHashMap<Key, Touched<E>>,
    rejected: Vec<OutputRecord>,
    verified: u64,
    skipped: u64,
    /// Those skipped events that the group has not committed.
    skipped_uncommitted: u64,
    applied: u64,
}

/// An entity that has an event to apply.
struct Touched<E: Entity> {
    state: E::State,
    applied: Option<AppliedEvent>,
}

struct AppliedEvent {
    offset: Offset,
    trace: Option<Box<TraceContext>>,
}

impl<E: Entity> PlannedRecovery<E> {
    pub(super) fn verify(self) -> Verification<E> {
        let (touched, rejected) = (FxHashMap::default(), Vec::new());
        Verification { planned: self, touched, rejected, verified: 0, skipped: 0, skipped_uncommitted: 0, applied: 0 }
    }
}

impl<E: Entity> Verification<E> {
    pub(super) fn range(&self) -> Option<(Position, Position)> {
        self.planned.plan.verified_range
    }

    pub(super) fn record(&mut self, record: &Record<'_>) {
        self.verified += 1;
        let key = record.key.unwrap_or_default();
        if planted(Planted::RepairsTooEarly) && self.applied > 0 {
            return;
        }
        let is_rejected = self.planned.dlq.offsets.contains(&record.offset);
        if is_rejected || self.newest_contained(key).is_some_and(|newest| record.offset <= newest) {
            return self.skip(record.offset);
        }
        if !self.touched.contains_key(key) {
            let state = self.restored_state(key);
            self.touched.insert(Arc::from(key), Touched { state, applied: None });
        }
        let touched = self.touched.get_mut(key).expect("inserted just above");
        let Recovery { entity, partition, epoch, settings, .. } = &self.planned.restored.recovery;
        match apply_record(&**entity, &touched.state, record, settings.size_limits) {
            Ok(next) => {
                let trace = TraceContext::of(record.headers);
                *touched = Touched { state: next, applied: Some(AppliedEvent { offset: record.offset, trace }) };
                self.applied += 1;
            }
            Err(_) if !self.planned.dlq.has_lost(record.offset) => {}
            Err(rejection) if rejection.reason.depends_on_state() && self.may_lack_tombstone(key, record.offset) => {}
            Err(rejection) => {
                let mut batch = Batch::new(*partition, *epoch, Position(record.offset.0));
                batch.push(record.offset, record.timestamp_ms, record.key, record.value, record.headers.iter());
                self.rejected.push(OutputRecord::rejected(&Arc::new(batch), 0, rejection));
            }
        }
    }

    /// Returns the newest event that the entity contains, events of the verified range included.
    fn newest_contained(&self, key: &[u8]) -> Option<Offset> {
        let applied = self.touched.get(key).and_then(|touched| touched.applied.as_ref());
        let restored = || Some(self.planned.restored.state.entities.get(key)?.newest);
        if planted(Planted::ContainedIsVerifiedAgain) {
            return None;
        }
        applied.map(|applied| applied.offset).or_else(restored)
    }

    fn restored_state(&self, key: &[u8]) -> E::State {
        let Restored { recovery, state, .. } = &self.planned.restored;
        match state.entities.get(key).and_then(|passivated| passivated.snapshot.as_deref()) {
            Some(snapshot) => recovery.entity.decode(snapshot).expect("checked when it was restored"),
            None => recovery.entity.absent(),
        }
    }

    /// Returns whether the state may have contained a tombstone of this key that covered the event, and that compaction
    /// has removed. Then a rejection that depends on the state proves nothing. From the beginning of the input the
    /// state is known without tombstones.
    fn may_lack_tombstone(&self, key: &[u8], offset: Offset) -> bool {
        let Restored { recovery, state, .. } = &self.planned.restored;
        let is_from_beginning = self.range().is_some_and(|(from, _)| from == Position(0));
        let is_contained = self.planned.restored.newest_state().is_some_and(|newest| offset <= newest.offset);
        let tombstones_stay = recovery.settings.tombstones_outlive_events || is_from_beginning;
        !tombstones_stay && is_contained && !state.entities.contains_key(key)
    }

    fn skip(&mut self, offset: Offset) {
        self.skipped += 1;
        // If the group has no committed position, then the position after the state counts as one.
        let Restored { committed, state, .. } = &self.planned.restored;
        let committed = committed
            .map(|committed| committed.position)
            .or_else(|| state.newest.as_ref().map(|newest| newest.offset.next()));
        if committed.is_none_or(|committed| !offset.is_before(committed)) {
            self.skipped_uncommitted += 1;
        }
    }

    pub(super) fn finish(mut self) -> Recovered {
        let repairs = self.repairs();
        let Verification { planned, verified, skipped, skipped_uncommitted, applied, .. } = self;
        let newest_state = planned.restored.newest_state();
        let PlannedRecovery { restored, input, dlq, plan } = planned;
        let Restored { mut recovery, committed, mut state, .. } = restored;
        let committed = committed.map(|committed| committed.position);
        let start = plan.start;
        // A tombstone matters only while an event that it contains may still be read.
        state.entities.retain(|_, passivated| passivated.snapshot.is_some() || !passivated.newest.is_before(start));
        recovery.lease.set(state.entities.iter().map(|(key, passivated)| passivated_bytes(key, passivated)).sum());

        let mut findings = plan.findings;
        findings.extend(state.adopted.map(|group| RecoveryFinding::Adopted { group }));
        if let Some(UnreadableDlqRecords { records, newest }) = dlq.unreadable {
            findings.push(RecoveryFinding::UnreadableDlqRecords { records, offset: newest });
        }
        if let Some(OtherGroupsDlqRecords { records, group }) = dlq.of_other_groups {
            findings.push(RecoveryFinding::OtherGroupsDlqRecords { records, group });
        }
        let contained_uncommitted = committed.map_or(0, |committed| start.distance_from(committed.max(input.low)));
        let events = if plan.verified_range.is_some() { skipped_uncommitted } else { contained_uncommitted };
        if events > 0 {
            findings.push(RecoveryFinding::Skipped { events });
        }
        let repaired = plan.verified_range.filter(|_| !repairs.has_no_records()).map(|(from, until)| Repaired {
            entities: repairs.records[Output::State].len() as u64,
            events: applied,
            rejections: repairs.records[Output::Dlq].len() as u64,
            from,
            until,
        });
        Recovered {
            partition: recovery.partition,
            epoch: recovery.epoch,
            entities: state.entities,
            lease: recovery.lease,
            committed,
            start,
            newest_state,
            rejected: dlq.offsets.into_iter().filter(|offset| !offset.is_before(start)).collect(),
            repairs,
            repaired,
            findings,
            verified,
            skipped,
        }
    }

    /// Returns what the topics lack, and updates the entities to the repaired state.
    fn repairs(&mut self) -> Outcomes {
        let contained = self.planned.restored.newest_state();
        let Restored { recovery, state, .. } = &mut self.planned.restored;
        let mut repairs: Outcomes = std::mem::take(&mut self.rejected).into_iter().collect();
        let changed: BTreeMap<Offset, _> = std::mem::take(&mut self.touched)
            .into_iter()
            .filter_map(|(key, touched)| {
                let applied = touched.applied?;
                Some((applied.offset, (key, touched.state, applied.trace)))
            })
            .collect();
        for (newest, (key, next, trace)) in changed {
            let value: Option<Arc<[u8]>> = recovery.entity.encode(&next).map(Arc::from);
            let restored = state.entities.get(&key);
            // An entity that was created and deleted has a tombstone. Without it, the next verification may begin between
            // the two events, and would take the deletion for a rejected one. One of an older event may have been removed.
            let lacks_tombstone = restored.is_none() && contained.is_none_or(|contained| newest > contained.offset);
            if lacks_tombstone || value.as_ref() != restored.and_then(|passivated| passivated.snapshot.as_ref()) {
                let snapshot = EntitySnapshot { key: Arc::clone(&key), value: value.clone(), trace };
                repairs.push(OutputRecord::snapshot(recovery.partition, newest, snapshot));
                state.entities.insert(key, StoredEntity { snapshot: value, newest });
            }
        }
        repairs
    }
}
