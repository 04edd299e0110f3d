//! Detects an input topic that was deleted and created again: its events are not those that the state was made from.

use crate::engine::recovery::restore::NewestSnapshot;
use crate::engine::recovery::start_plan::PlannedRecovery;
use crate::engine::recovery::{LogBounds, Recovery, RecoveryRefusal};
use crate::entity::Entity;
use crate::record::{Offset, Position, Record};

impl<E: Entity> Recovery<E> {
    /// Refuses an input that ends before `newest`. `holder` names the topic that contains this event.
    pub(super) fn refuse_shorter_input(
        &self,
        input: LogBounds,
        newest: Option<Offset>,
        holder: &str,
    ) -> Result<(), RecoveryRefusal> {
        let end = input.high;
        let Some(newest) = newest.filter(|newest| newest.next() > end) else { return Ok(()) };
        Err(self.recreated(format!("it ends at {end}, but {holder} the event at offset {newest}")))
    }

    fn recreated(&self, why: String) -> RecoveryRefusal {
        RecoveryRefusal::Recreated { topic: self.settings.topic.clone(), partition: self.partition, why }
    }
}

/// Compares the input's record at M with the newest snapshot.
pub(super) struct NewestEventCheck<'a, E: Entity> {
    planned: &'a PlannedRecovery<E>,
    newest: &'a NewestSnapshot,
    is_found: bool,
}

impl<E: Entity> PlannedRecovery<E> {
    /// Returns `None` if there is no snapshot, or if retention has deleted the event of the newest one.
    pub(super) fn newest_event_check(&self) -> Option<NewestEventCheck<'_, E>> {
        let newest = self.restored.state.newest.as_ref().filter(|newest| !newest.offset.is_before(self.input.low))?;
        Some(NewestEventCheck { planned: self, newest, is_found: false })
    }
}

impl<E: Entity> NewestEventCheck<'_, E> {
    pub(super) fn range(&self) -> (Position, Position) {
        (Position(self.newest.offset.0), self.newest.offset.next())
    }

    pub(super) fn record(&mut self, record: &Record<'_>) -> Result<(), RecoveryRefusal> {
        let NewestSnapshot { offset, key, .. } = self.newest;
        let restored = &self.planned.restored;
        let entity = &restored.recovery.entity;
        let snapshot_ms = restored.state.entities.get(&key[..]).and_then(|passivated| {
            let state = entity.decode(passivated.snapshot.as_deref()?).ok()?;
            entity.newest_event_ms(&state)
        });
        let is_other_key = record.key != Some(key);
        let is_other_time = snapshot_ms.is_some_and(|at| record.timestamp_ms != Some(at));
        if is_other_key || is_other_time {
            let what = if is_other_key { "another key" } else { "another timestamp" };
            return Err(restored.recovery.recreated(format!(
                "the record at offset {offset} has {what} than the event that the newest snapshot contains"
            )));
        }
        self.is_found = true;
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), RecoveryRefusal> {
        if self.is_found {
            return Ok(());
        }
        let why = "the record that the newest snapshot contains is not there".into();
        Err(self.planned.restored.recovery.recreated(why))
    }
}
