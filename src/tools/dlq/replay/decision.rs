//! What a replay would do: letter by letter, and counted.

use std::collections::{BTreeMap, HashMap};

use crate::entity::{Entity, Reason, apply_record};
use crate::record::{Batch, Epoch, Offset, Partition, Position, Record};
use crate::tools::dlq::{DlqLocation, DlqRecord, ReplayReceipts};

/// What one letter takes among the [`Overtaken`] in memory beside its key, in bytes.
const HELD_BYTES: usize = 128;

/// How many letters of a kind that cannot be replayed are named.
pub const NAMED_LETTERS: usize = 20;

/// The topic that DLQ records go back to.
#[derive(Debug, Clone)]
pub struct InputLog {
    /// Its name.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: i32,
}

/// What becomes of one DLQ record in a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayDecision {
    /// It goes back to the input.
    Replay(Reason),
    /// It was replayed before.
    Replayed,
    /// It cannot be replayed.
    Kept(Obstacle),
}

/// Why a DLQ record cannot be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// Its value was too large for the DLQ topic, and is not there.
    Truncated,
    /// It comes from another topic, or from a partition that the input does not have.
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

/// Says what becomes of `letter`.
#[must_use]
pub fn fate(letter: &DlqRecord<'_>, input: &InputLog, replayed: &ReplayReceipts) -> ReplayDecision {
    let (Some(reason), Some(source)) = (letter.reason(), letter.source()) else {
        return ReplayDecision::Kept(Obstacle::Unreadable);
    };
    if source.topic != input.topic || source.partition.0 >= input.partitions {
        ReplayDecision::Kept(Obstacle::FromElsewhere)
    } else if replayed.contains_letter(letter) {
        ReplayDecision::Replayed
    } else if letter.truncated_bytes().is_some() {
        ReplayDecision::Kept(Obstacle::Truncated)
    } else {
        ReplayDecision::Replay(reason)
    }
}

/// Judges the event by this version's rules and limits, as it would stand in the input at `now_ms`, milliseconds since
/// 1970.
#[must_use]
pub fn outlook<E: Entity>(entity: &E, letter: &DlqRecord<'_>, now_ms: i64, max_payload_bytes: u64) -> Outlook {
    let mut batch = Batch::new(letter.place.partition, Epoch(0), Position(0));
    batch.push(letter.place.offset, Some(now_ms), letter.key, letter.value, []);
    let record: Record<'_> = batch.record(0);
    match apply_record(entity, &entity.absent(), &record, max_payload_bytes) {
        Ok(_) => Outlook::Open,
        Err(rejection) => match rejection.reason {
            // Of an entity that is absent. This one may not be.
            Reason::AlreadyExists | Reason::NotFound => Outlook::Open,
            Reason::MissingKey
            | Reason::NullPayload
            | Reason::PayloadTooLarge
            | Reason::MalformedJson
            | Reason::UnknownEventType
            | Reason::InvalidEvent
            | Reason::KeyIdMismatch
            | Reason::Panicked => Outlook::RefusedAgain,
        },
    }
}

/// How many letters of one reason go back, and how many of them for nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplayCounts {
    /// They go back to the input.
    pub replay: u64,
    /// Of those: they break a rule whatever the state is.
    pub refused_again: u64,
}

/// What a replay would do, counted.
#[derive(Debug, Clone, Default)]
pub struct ReplayPlan {
    /// What goes back, by reason.
    pub reasons: BTreeMap<Reason, ReplayCounts>,
    /// ReplayReceipts before.
    pub replayed: u64,
    /// Not to be replayed, by why, and the first of them.
    pub kept: BTreeMap<Obstacle, (u64, Vec<DlqLocation>)>,
    /// The newest letter of each partition that was looked at, wanted or not.
    pub newest: BTreeMap<Partition, DlqLocation>,
}

impl ReplayPlan {
    /// ReplayCounts a letter that is wanted.
    pub fn count(&mut self, place: DlqLocation, fate: ReplayDecision, outlook: Outlook) {
        match fate {
            ReplayDecision::Replay(reason) => {
                let counts = self.reasons.entry(reason).or_default();
                counts.replay += 1;
                counts.refused_again += u64::from(outlook == Outlook::RefusedAgain);
            }
            ReplayDecision::Replayed => self.replayed += 1,
            ReplayDecision::Kept(obstacle) => {
                let (count, named) = self.kept.entry(obstacle).or_default();
                *count += 1;
                if named.len() < NAMED_LETTERS {
                    named.push(place);
                }
            }
        }
    }

    /// How many letters go back.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.reasons.values().map(|counts| counts.replay).sum()
    }

    /// How many of them break a rule whatever the state is.
    #[must_use]
    pub fn refused_again(&self) -> u64 {
        self.reasons.values().map(|counts| counts.refused_again).sum()
    }
}

/// Finds the letters that are older than what their service contains: replayed, they would overwrite newer values.
#[derive(Debug, Default)]
pub struct Overtaken {
    /// By partition and key.
    services: HashMap<(Partition, Box<[u8]>), Compared>,
    held_bytes: u64,
}

#[derive(Debug, Default)]
struct Compared {
    /// Of the letters' events.
    letters: Vec<Offset>,
    /// Of the newest event in the state.
    newest: Option<Offset>,
}

impl Overtaken {
    /// Adds a letter that is going to be replayed.
    pub fn add(&mut self, letter: &DlqRecord<'_>) {
        let (Some(key), Some(source)) = (letter.key, letter.source()) else { return };
        self.held_bytes += (key.len() + HELD_BYTES) as u64;
        self.services.entry((source.partition, key.into())).or_default().letters.push(source.offset);
    }

    /// What the letters take in memory, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Takes a record of the state topic, in the order of the topic; `newest` is the newest event that it contains.
    pub fn observe(&mut self, partition: Partition, key: &[u8], newest: Offset) {
        if let Some(compared) = self.services.get_mut(&(partition, Box::from(key))) {
            compared.newest = Some(newest);
        }
    }

    /// How many letters are older than what their service contains.
    #[must_use]
    pub fn count(&self) -> u64 {
        let older = |compared: &Compared| {
            let is_older = |letter: &&Offset| compared.newest.is_some_and(|newest| **letter < newest);
            compared.letters.iter().filter(is_older).count() as u64
        };
        self.services.values().map(older).sum()
    }
}
