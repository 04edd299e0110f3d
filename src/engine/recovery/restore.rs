//! The state as it is read: what each entity is, what all of them weigh, and whether they are this group's and this input's.

use std::sync::Arc;

use crate::engine::recovery::{
    Need, Passivated, Recovery, RecoveryRefusal, RecoveryStage, Topic, number, passivated_bytes, snapshot_bytes,
};
use crate::entity::Entity;
use crate::record::{Key, Offset, Position, Record, header};

impl<E: Entity> Recovery<E> {
    pub(super) fn state_record(&mut self, record: &Record<'_>) -> Result<(), RecoveryRefusal> {
        let foreign =
            |why: String| RecoveryRefusal::ForeignState { partition: self.partition, offset: record.offset, why };
        let Some(key) = record.key else {
            return Err(foreign("it has no key".into()));
        };
        let Some(newest) = number(record, header::STATE_OFFSET).map(Offset) else {
            return Err(foreign(format!("it lacks the header {}", header::STATE_OFFSET)));
        };
        if number(record, header::STATE_PARTITION) != Some(i64::from(self.partition.0)) {
            return Err(foreign("it is of another input partition".into()));
        }
        let group = record.headers.last(header::STATE_GROUP).unwrap_or_default();
        if group != self.settings.group.as_bytes() {
            let found = String::from_utf8_lossy(group).into_owned();
            if !self.settings.adopt_group {
                let own = self.settings.group.clone();
                return Err(RecoveryRefusal::OtherGroup { partition: self.partition, found, own });
            }
            self.adopted = Some(found);
        }
        if let Some(value) = record.value {
            self.entity.check(value).map_err(|corrupt| foreign(corrupt.0))?;
        }
        self.keep(key, record.value, newest);
        self.weigh(record.offset)
    }

    fn keep(&mut self, key: &[u8], value: Option<&[u8]>, newest: Offset) {
        let passivated = Passivated { snapshot: value.map(Arc::from), newest };
        match self.entities.get_mut(key) {
            Some(older) => {
                self.held_bytes = self.held_bytes + snapshot_bytes(&passivated) - snapshot_bytes(older);
                *older = passivated;
            }
            None => {
                let key: Key = Arc::from(key);
                self.held_bytes += passivated_bytes(&key, &passivated);
                self.entities.insert(key, passivated);
            }
        }
        match &mut self.newest {
            Some((older, of)) if *older < newest => {
                *older = newest;
                of.clear();
                of.extend_from_slice(key);
            }
            Some(_) => {}
            None => self.newest = Some((newest, key.to_vec())),
        }
    }

    /// Charges the budget, not for each record; `at` is the last one that was read.
    fn weigh(&mut self, at: Offset) -> Result<(), RecoveryRefusal> {
        if self.held_bytes.abs_diff(self.lease.bytes()) > 65_536 {
            self.lease.set(self.held_bytes);
            self.refuse_too_much_state(at.next())?;
        }
        Ok(())
    }

    /// `read_to` is where the reader of the state stands.
    pub(super) fn refuse_too_much_state(&self, read_to: Position) -> Result<(), RecoveryRefusal> {
        if self.lease.fits() {
            return Ok(());
        }
        let budget = self.lease.budget();
        let (held_bytes, limit_bytes) = (budget.held_bytes(), budget.limit_bytes());
        let unread_bytes = match self.need() {
            Need::Read { topic: Topic::State, from, until } => {
                let (read, unread) = (read_to.distance_from(from).max(1), until.distance_from(read_to));
                u128::from(self.held_bytes) * u128::from(unread) / u128::from(read)
            }
            Need::Read { topic: Topic::Input | Topic::Dlq, .. } | Need::Committed | Need::Bounds(_) | Need::Nothing => {
                0
            }
        };
        let needed_bytes = u64::try_from(u128::from(held_bytes) + unread_bytes).unwrap_or(u64::MAX);
        Err(RecoveryRefusal::StateTooLarge {
            partition: self.partition,
            partition_bytes: self.held_bytes,
            held_bytes,
            limit_bytes,
            pods: needed_bytes.div_ceil(limit_bytes.max(1)).max(2),
        })
    }

    pub(super) fn record_at_newest(&mut self, record: &Record<'_>) -> Result<(), RecoveryRefusal> {
        let Some((newest, key)) = &self.newest else { return Ok(()) };
        let written_at = self.entities.get(&key[..]).and_then(|passivated| {
            let state = self.entity.decode(passivated.snapshot.as_deref()?).ok()?;
            self.entity.newest_event_ms(&state)
        });
        let is_other_key = record.key != Some(key);
        let is_other_time = written_at.is_some_and(|at| record.timestamp_ms != Some(at));
        if is_other_key || is_other_time {
            let what = if is_other_key { "another key" } else { "another timestamp" };
            return Err(self.recreated(format!(
                "the record at offset {newest} has {what} than the event that the newest snapshot contains"
            )));
        }
        self.stage = RecoveryStage::RecordAtNewest { seen: true };
        Ok(())
    }
}
