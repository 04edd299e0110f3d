//! The silent replay: what the events of the last stretch come to beyond what was read, and what is published for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::engine::outcome::{Outcomes, RejectedEvent};
use crate::engine::recovery::{Passivated, Recovery};
use crate::entity::{Entity, judge};
use crate::record::{Batch, Key, Offset, Position, Record, Snapshot, TraceContext};

/// What the silent replay found.
pub(super) struct Verification<E: Entity> {
    pub(super) touched: FxHashMap<Key, Touched<E>>,
    pub(super) rejected: Vec<RejectedEvent>,
    pub(super) replayed: u64,
    pub(super) skipped: u64,
    /// Of the skipped: those that the group has not committed.
    pub(super) skipped_uncommitted: u64,
    pub(super) applied: u64,
}

pub(super) struct Touched<E: Entity> {
    state: E::State,
    newest: Offset,
    trace: Option<Box<TraceContext>>,
    is_changed: Changed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Changed {
    No,
    Yes,
}

impl<E: Entity> Recovery<E> {
    pub(super) fn replay_record(&mut self, record: &Record<'_>) {
        self.replay.replayed += 1;
        if self.dlq.offsets.contains(&record.offset) {
            return self.skip(record.offset);
        }
        let key = record.key.unwrap_or_default();
        let contained = match self.replay.touched.get(key) {
            Some(touched) => Some(touched.newest),
            None => self.entities.get(key).map(|passivated| passivated.newest),
        };
        if contained.is_some_and(|newest| record.offset <= newest) {
            return self.skip(record.offset);
        }
        if !self.replay.touched.contains_key(key) {
            let touched = self.touch(key);
            self.replay.touched.insert(Arc::from(key), touched);
        }
        let touched = self.replay.touched.get_mut(key).expect("inserted just above");
        match judge(&*self.entity, &touched.state, record, self.settings.max_payload_bytes) {
            Ok(next) => {
                touched.state = next;
                touched.newest = record.offset;
                touched.trace = TraceContext::of(record.headers);
                touched.is_changed = Changed::Yes;
                self.replay.applied += 1;
            }
            Err(_) if !self.is_missing(record.offset) => {}
            Err(rejection) => {
                let mut batch = Batch::new(self.partition, self.epoch, Position(record.offset.0));
                batch.push(record.offset, record.timestamp_ms, record.key, record.value, record.headers.iter());
                let letter = RejectedEvent { batch: Arc::new(batch), index: 0, rejection, truncated: false };
                self.replay.rejected.push(letter);
            }
        }
    }

    /// Whether a DLQ record that was not found was lost. Where retention has cut the DLQ records, those before the
    /// oldest that is left may have been there.
    fn is_missing(&self, offset: Offset) -> bool {
        self.dlq_low == Position(0) || self.dlq.oldest.is_some_and(|oldest| offset > oldest)
    }

    fn skip(&mut self, offset: Offset) {
        self.replay.skipped += 1;
        // Where the group has no position, that behind the state counts as it.
        let behind_state = self.newest.as_ref().map_or(Position(0), |(newest, _)| newest.next());
        let position = self.committed.as_ref().map_or(behind_state, |committed| committed.position);
        if !offset.is_before(position) {
            self.replay.skipped_uncommitted += 1;
        }
    }

    fn touch(&self, key: &[u8]) -> Touched<E> {
        let passivated = self.entities.get(key);
        let state = match passivated.and_then(|passivated| passivated.snapshot.as_deref()) {
            Some(snapshot) => self.entity.decode(snapshot).expect("decoded once already when it was read"),
            None => self.entity.absent(),
        };
        let newest = passivated.map_or(Offset(-1), |passivated| passivated.newest);
        Touched { state, newest, trace: None, is_changed: Changed::No }
    }

    /// What differs from what was read, and the DLQ records that are missing; the entities take the repaired state.
    pub(super) fn repairs(&mut self) -> Outcomes {
        let mut repairs = Outcomes::default();
        let changed = std::mem::take(&mut self.replay.touched);
        let mut changed: BTreeMap<Offset, (Key, Touched<E>)> = changed
            .into_iter()
            .filter(|(_, touched)| touched.is_changed == Changed::Yes)
            .map(|(key, touched)| (touched.newest, (key, touched)))
            .collect();
        while let Some((newest, (key, touched))) = changed.pop_first() {
            let value: Option<Arc<[u8]>> = self.entity.encode(&touched.state).map(Arc::from);
            let was = self.entities.get(&key).and_then(|passivated| passivated.snapshot.clone());
            if value != was {
                repairs.snapshots.push(Snapshot {
                    partition: self.partition,
                    key: Arc::clone(&key),
                    value: value.clone(),
                    newest,
                    trace: touched.trace,
                });
                self.entities.insert(key, Passivated { snapshot: value, newest });
            }
        }
        repairs.dlq_records = std::mem::take(&mut self.replay.rejected);
        repairs.applied = 0;
        repairs
    }
}
