//! Decides what a replay does with each DLQ record, and counts the decisions.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::entity::{Entity, Reason, SizeLimits, apply_record};
use crate::record::{Batch, Epoch, Offset, Partition, Position, Record};
use crate::tools::dlq::{DlqLocation, DlqRecord, ReplayReceipts};

/// Memory of one DLQ record among the [`Overtaken`] without its key, in bytes.
const HELD_BYTES: usize = 128;

/// How many DLQ records with the same obstacle are named.
pub const NAMED_RECORDS: usize = 20;

/// The topic that DLQ records go back to, and the group whose records do.
#[derive(Debug, Clone)]
pub struct InputLog {
    pub topic: String,
    pub partitions: i32,
    pub group: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayDecision {
    /// It goes back to the input.
    Replay(Reason),
    Replayed,
    Kept(Obstacle),
}

/// Why a DLQ record cannot be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// It was too large for the DLQ topic: value, headers or key are not complete.
    Truncated,
    /// It comes from another topic or group, or from a partition that the input does not have.
    FromElsewhere,
    /// Its headers are not those that this version of steward writes.
    Unreadable,
}

/// What awaits an event in the input, as far as it can be known without the state of its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// It depends on the state.
    Open,
    /// It breaks a rule whatever the state is.
    RefusedAgain,
}

pub fn decide(dlq_record: &DlqRecord<'_>, input: &InputLog, replayed: &ReplayReceipts) -> ReplayDecision {
    let (Some(reason), Some(source)) = (dlq_record.reason(), dlq_record.source()) else {
        return ReplayDecision::Kept(Obstacle::Unreadable);
    };
    let is_of_group = dlq_record.group().is_none_or(|group| group == input.group);
    if !is_of_group || source.topic != input.topic || source.partition.0 >= input.partitions {
        ReplayDecision::Kept(Obstacle::FromElsewhere)
    } else if dlq_record.is_replayed(replayed) {
        ReplayDecision::Replayed
    } else if dlq_record.truncation().is_some() {
        ReplayDecision::Kept(Obstacle::Truncated)
    } else {
        ReplayDecision::Replay(reason)
    }
}

/// Judges the event by this version's rules and limits, as it would stand in the input at `now_ms`, milliseconds since
/// 1970.
pub fn outlook<E: Entity>(entity: &E, dlq_record: &DlqRecord<'_>, now_ms: i64, max_payload_bytes: u64) -> Outlook {
    let mut batch = Batch::new(dlq_record.location.partition, Epoch(0), Position(0));
    batch.push(dlq_record.location.offset, Some(now_ms), dlq_record.key, dlq_record.value, []);
    let record: Record<'_> = batch.record(0);
    // What the state topic takes is not known here.
    let limits = SizeLimits::of_payload(max_payload_bytes);
    match apply_record(entity, &entity.absent(), &record, limits) {
        Ok(_) => Outlook::Open,
        // Of an entity that is absent. This one may not be.
        Err(rejection) if rejection.reason.depends_on_state() => Outlook::Open,
        Err(_) => Outlook::RefusedAgain,
    }
}

/// How many DLQ records of one reason go back, and how many of them in vain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ReplayCounts {
    pub replay: u64,
    /// Of those: they break a rule whatever the state is.
    pub refused_again: u64,
}

#[derive(Debug, Clone, Default)]
pub struct ReplayPlan {
    /// What goes back, by reason.
    pub reasons: BTreeMap<Reason, ReplayCounts>,
    pub replayed: u64,
    /// Not replayable, by obstacle: their number, and the first of them.
    pub kept: BTreeMap<Obstacle, (u64, Vec<DlqLocation>)>,
    /// The newest DLQ record of each partition that was read, wanted or not.
    pub newest: BTreeMap<Partition, DlqLocation>,
}

impl ReplayPlan {
    /// Counts a DLQ record that is wanted.
    pub fn count(&mut self, location: DlqLocation, decision: ReplayDecision, outlook: Outlook) {
        match decision {
            ReplayDecision::Replay(reason) => {
                let counts = self.reasons.entry(reason).or_default();
                counts.replay += 1;
                counts.refused_again += u64::from(outlook == Outlook::RefusedAgain);
            }
            ReplayDecision::Replayed => self.replayed += 1,
            ReplayDecision::Kept(obstacle) => {
                let (count, named) = self.kept.entry(obstacle).or_default();
                *count += 1;
                if named.len() < NAMED_RECORDS {
                    named.push(location);
                }
            }
        }
    }

    pub fn total(&self) -> u64 {
        self.reasons.values().map(|counts| counts.replay).sum()
    }

    /// How many of them break a rule whatever the state is.
    pub fn refused_again(&self) -> u64 {
        self.reasons.values().map(|counts| counts.refused_again).sum()
    }
}

/// Finds the DLQ records whose events are older than the newest event of their service: a replay of them overwrites
/// newer values.
#[derive(Debug, Default)]
pub struct Overtaken {
    /// By partition and key.
    services: HashMap<(Partition, Box<[u8]>), Compared>,
    held_bytes: u64,
}

#[derive(Debug, Default)]
struct Compared {
    /// Offsets of the rejected events.
    rejected: Vec<Offset>,
    /// Of the newest event in the state.
    newest: Option<Offset>,
}

impl Overtaken {
    pub fn add(&mut self, dlq_record: &DlqRecord<'_>) {
        let (Some(key), Some(source)) = (dlq_record.key, dlq_record.source()) else { return };
        self.held_bytes += (key.len() + HELD_BYTES) as u64;
        self.services.entry((source.partition, key.into())).or_default().rejected.push(source.offset);
    }

    /// Memory in use, in bytes.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Takes a record of the state topic, in the order of the topic; `newest` is the newest event that it contains.
    pub fn observe(&mut self, partition: Partition, key: &[u8], newest: Offset) {
        if let Some(compared) = self.services.get_mut(&(partition, Box::from(key))) {
            compared.newest = Some(newest);
        }
    }

    /// How many rejected events are older than the newest event of their service.
    pub fn count(&self) -> u64 {
        let older = |compared: &Compared| {
            let is_older = |offset: &&Offset| compared.newest.is_some_and(|newest| **offset < newest);
            compared.rejected.iter().filter(is_older).count() as u64
        };
        self.services.values().map(older).sum()
    }
}
