//! The restore: reads the newest snapshot of each entity, and refuses a state topic that is not this group's.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::engine::recovery::{
    CommittedPosition, LogBounds, Recovery, RecoveryRefusal, StoredEntity, number, passivated_bytes, snapshot_bytes,
};
use crate::entity::Entity;
use crate::record::{Key, Offset, Position, Record, header};

/// The budget is charged when the restored bytes have changed by more than this.
const CHARGE_STEP_BYTES: u64 = 65_536;

pub(super) struct Restore<E: Entity> {
    recovery: Recovery<E>,
    committed: Option<CommittedPosition>,
    log: LogBounds,
    state: RestoredState,
    held_bytes: u64,
}

#[derive(Default)]
pub(super) struct RestoredState {
    pub(super) entities: FxHashMap<Key, StoredEntity>,
    pub(super) newest: Option<NewestSnapshot>,
    /// The other group whose snapshots were taken over.
    pub(super) adopted: Option<String>,
}

pub(super) struct NewestSnapshot {
    /// M.
    pub(super) offset: Offset,
    pub(super) is_tombstone: bool,
    pub(super) key: Vec<u8>,
}

pub(super) struct Restored<E: Entity> {
    pub(super) recovery: Recovery<E>,
    pub(super) committed: Option<CommittedPosition>,
    /// The bounds of the state partition.
    pub(super) state_log: LogBounds,
    pub(super) state: RestoredState,
}

impl<E: Entity> Recovery<E> {
    /// Starts to restore from the state partition with the bounds `log`. `committed` is C.
    pub(super) fn restore(self, committed: Option<CommittedPosition>, log: LogBounds) -> Restore<E> {
        Restore { recovery: self, committed, log, state: RestoredState::default(), held_bytes: 0 }
    }
}

impl<E: Entity> Restore<E> {
    pub(super) fn record(&mut self, record: &Record<'_>) -> Result<(), RecoveryRefusal> {
        let Recovery { entity, partition, settings, .. } = &self.recovery;
        let foreign = |why: String| RecoveryRefusal::ForeignState { partition: *partition, offset: record.offset, why };
        let Some(key) = record.key else {
            return Err(foreign("it has no key".into()));
        };
        let Some(newest) = number(record, header::STATE_OFFSET).map(Offset) else {
            return Err(foreign(format!("it lacks the header {}", header::STATE_OFFSET)));
        };
        if number(record, header::STATE_PARTITION) != Some(i64::from(partition.0)) {
            return Err(foreign("it is of another input partition".into()));
        }
        let group = record.headers.last(header::GROUP).unwrap_or_default();
        if group != settings.group.as_bytes() {
            let found = String::from_utf8_lossy(group).into_owned();
            if !settings.adopt_group {
                let own = settings.group.clone();
                return Err(RecoveryRefusal::OtherGroup { partition: *partition, found, own });
            }
            self.state.adopted = Some(found);
        }
        if let Some(value) = record.value {
            entity.check(value).map_err(|corrupt| foreign(corrupt.0))?;
        }
        self.keep(key, record.value, newest);
        self.charge(record.offset)
    }

    fn keep(&mut self, key: &[u8], value: Option<&[u8]>, offset: Offset) {
        let is_tombstone = value.is_none();
        let passivated = StoredEntity { snapshot: value.map(Arc::from), newest: offset };
        match self.state.entities.get_mut(key) {
            Some(older) => {
                self.held_bytes = self.held_bytes + snapshot_bytes(&passivated) - snapshot_bytes(older);
                *older = passivated;
            }
            None => {
                let key: Key = Arc::from(key);
                self.held_bytes += passivated_bytes(&key, &passivated);
                self.state.entities.insert(key, passivated);
            }
        }
        match &mut self.state.newest {
            Some(newest) if newest.offset < offset => {
                newest.offset = offset;
                newest.is_tombstone = is_tombstone;
                newest.key.clear();
                newest.key.extend_from_slice(key);
            }
            Some(_) => {}
            None => self.state.newest = Some(NewestSnapshot { offset, is_tombstone, key: key.to_vec() }),
        }
    }

    /// Charges the budget in steps, not for each record. `at` is the offset of the last record.
    fn charge(&mut self, at: Offset) -> Result<(), RecoveryRefusal> {
        if self.held_bytes.abs_diff(self.recovery.lease.bytes()) > CHARGE_STEP_BYTES {
            self.recovery.lease.set(self.held_bytes);
            self.refuse_too_much_state(at.next())?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Restored<E>, RecoveryRefusal> {
        self.recovery.lease.set(self.held_bytes);
        self.refuse_too_much_state(self.log.high)?;
        Ok(Restored { recovery: self.recovery, committed: self.committed, state_log: self.log, state: self.state })
    }

    /// `read_to` is the position that reading has reached.
    fn refuse_too_much_state(&self, read_to: Position) -> Result<(), RecoveryRefusal> {
        let lease = &self.recovery.lease;
        if lease.fits() {
            return Ok(());
        }
        let (held_bytes, limit_bytes) = (lease.budget().held_bytes(), lease.budget().limit_bytes());
        let (read, unread) = (read_to.distance_from(self.log.low).max(1), self.log.high.distance_from(read_to));
        let unread_bytes = u128::from(self.held_bytes) * u128::from(unread) / u128::from(read);
        let needed_bytes = u64::try_from(u128::from(held_bytes) + unread_bytes).unwrap_or(u64::MAX);
        Err(RecoveryRefusal::StateTooLarge {
            partition: self.recovery.partition,
            partition_bytes: self.held_bytes,
            held_bytes,
            limit_bytes,
            pods: needed_bytes.div_ceil(limit_bytes.max(1)).max(2),
        })
    }
}
