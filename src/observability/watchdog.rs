//! Judges what stands on the board: which partition has stood still for longest although it has something to do, in
//! which phase, and what it waits for.
//!
//! * a) Only time in which it looks itself counts. A process that stood still, because it was stopped or its machine
//!   was, has not stalled: it goes on, and the group tells it what it lost.
//! * b) Each partition has a clock of its own, which starts when it has something to do and goes back with its own
//!   movement. That others move says nothing about it.
//! * c) While the intake is full, a partition of which nothing is read waits for its turn, which others use up: that
//!   time counts a tenth. So backpressure is no stall, and still nobody waits indefinitely.
//! * d) Whoever waits for its turn to recover shares the movement of those that recover (`Status` sees to it).
//! * e) A process that is no member of its group owns nothing that could stand still. It has a limit of its own, which is
//!   longer: other members, or brokers that are away, can make a join take minutes, and starting again would not help.
//!
//! Architecture invariant: pure. A look and the time go in, a stall comes out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::engine::partition::PartitionState;
use crate::engine::recovery::Topic;
use crate::observability::log_events::StallPhase;
use crate::observability::status::{RecoveryAt, Standing, StatusSnapshot};
use crate::record::{Offset, Partition};

/// a) What counts of the time between two looks at most. Many looks fit into it, so that more means that nobody ran.
const LONGEST_BLINK: Duration = Duration::from_secs(2);
/// c) A waiting partition's time is divided by this while the intake is full.
const FULL_DIVISOR: u32 = 10;
/// The ingest actor comes round each second, if it can.
const ROUNDS: Duration = Duration::from_secs(2);

/// How long is too long.
#[derive(Debug, Clone, Copy)]
pub struct WatchdogLimits {
    /// For a partition that does not move, and a thread that does not come round.
    pub stall: Duration,
    /// For becoming a member of the group.
    pub join: Duration,
}

/// Whether records are taken from the consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngestPressure {
    /// There is room for more.
    Open,
    /// What is read and not committed takes all the room there is.
    Full,
}

/// What is seen at one look, beside the board.
#[derive(Debug, Clone)]
pub struct Observation<'a> {
    /// The board.
    pub reading: &'a StatusSnapshot,
    /// How long the consumer's thread has not come round.
    pub since_source_turned: Duration,
    /// What the consumer's thread is doing.
    pub source: &'static str,
    /// Whether records are taken.
    pub intake: IngestPressure,
    /// Why the process is no member of the group; `None` where it is one.
    pub outside: Option<&'static str>,
    /// What the commit thread is doing, and for how long; `None` where it has nothing to do.
    pub committing: Option<(String, Duration)>,
}

/// Something that stood still for longer than it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stall {
    /// Where.
    pub phase: StallPhase,
    /// What it waits for, for a person.
    pub waiting_for: String,
    /// The partition, where it is one.
    pub partition: Option<Partition>,
    /// The event at the head of it, where there is one: in [`StallPhase::Apply`] the one that an entity is at.
    pub offset: Option<Offset>,
    /// For how long.
    pub lasts: Duration,
    /// What it was allowed.
    pub limit: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Watchdog {
    limits: WatchdogLimits,
    last_look: Instant,
    /// b) For how long each partition that has something to do was seen not to move.
    still: BTreeMap<Partition, Duration>,
    source_hangs: Duration,
    actors_hang: Duration,
    /// e)
    outside: Duration,
    seated: Vec<(Option<(Partition, Offset)>, Duration)>,
}

impl Watchdog {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new(limits: WatchdogLimits, now: Instant) -> Watchdog {
        Watchdog {
            limits,
            last_look: now,
            still: BTreeMap::new(),
            source_hangs: Duration::ZERO,
            actors_hang: Duration::ZERO,
            outside: Duration::ZERO,
            seated: Vec::new(),
        }
    }

    /// One look. What is over its limit comes out: a thread that hangs before the partition that stands still for
    /// longest, because it is the cause.
    pub fn look(&mut self, sight: &Observation<'_>, now: Instant) -> Option<Stall> {
        let blink = now.saturating_duration_since(self.last_look).min(LONGEST_BLINK);
        self.last_look = now;
        self.source_hangs = (self.source_hangs + blink).min(sight.since_source_turned);
        self.actors_hang = (self.actors_hang + blink).min(sight.reading.since_actors_turned);
        let is_outside = sight.outside.is_some() || sight.reading.since_assigned.is_none();
        self.outside = if is_outside { self.outside + blink } else { Duration::ZERO };
        self.watch_seats(&sight.reading.seated, blink);
        self.watch_partitions(sight, blink);
        self.hanging_source().or_else(|| self.standing_partition(sight)).or_else(|| self.still_outside(sight))
    }

    fn watch_seats(&mut self, seated: &[Option<(Partition, Offset)>], blink: Duration) {
        self.seated.resize(seated.len(), (None, Duration::ZERO));
        for ((before, lasts), occupant) in self.seated.iter_mut().zip(seated) {
            let stays = occupant.is_some() && before == occupant;
            *lasts = if stays { *lasts + blink } else { Duration::ZERO };
            *before = *occupant;
        }
    }

    fn watch_partitions(&mut self, sight: &Observation<'_>, blink: Duration) {
        let before = std::mem::take(&mut self.still);
        let busy = sight.reading.standings.iter().filter(|standing| standing.is_busy());
        self.still = busy
            .map(|standing| {
                let waits_for_room = sight.intake == IngestPressure::Full
                    && standing.stage == Some(PartitionState::Serving)
                    && !standing.has_read();
                let counts = if waits_for_room { blink / FULL_DIVISOR } else { blink };
                let still = before.get(&standing.partition).map_or(Duration::ZERO, |still| *still + counts);
                (standing.partition, still.min(standing.since_moved))
            })
            .collect();
    }

    fn hanging_source(&self) -> Option<Stall> {
        (self.source_hangs >= self.limits.stall).then(|| Stall {
            phase: StallPhase::Poll,
            waiting_for: "a call of the consumer to return".to_owned(),
            partition: None,
            offset: None,
            lasts: self.source_hangs,
            limit: self.limits.stall,
        })
    }

    fn still_outside(&self, sight: &Observation<'_>) -> Option<Stall> {
        let why = sight.outside.unwrap_or("no assignment has come");
        (self.outside >= self.limits.join).then(|| Stall {
            phase: StallPhase::Rebalance,
            waiting_for: format!("the group to take the process in: {why}"),
            partition: None,
            offset: None,
            lasts: self.outside,
            limit: self.limits.join,
        })
    }

    /// Where several stand still for equally long, the one whose recovery has begun comes first, and then the one with
    /// the oldest event.
    fn standing_partition(&self, sight: &Observation<'_>) -> Option<Stall> {
        let over = sight.reading.standings.iter().filter_map(|standing| {
            let lasts = *self.still.get(&standing.partition)?;
            (lasts >= self.limits.stall).then_some((lasts, standing))
        });
        let (lasts, standing) = over.max_by_key(|(lasts, standing)| {
            let has_begun = standing.recovery != RecoveryAt::Queued;
            let oldest = standing.work.head.and_then(|head| head.timestamp_ms);
            (*lasts, has_begun, std::cmp::Reverse(oldest.unwrap_or(i64::MAX)))
        })?;
        Some(self.explain(standing, sight, lasts))
    }

    fn explain(&self, standing: &Standing, sight: &Observation<'_>, lasts: Duration) -> Stall {
        let head = standing.work.head.map(|head| head.offset);
        let (phase, waiting_for, offset) = match standing.stage {
            Some(PartitionState::Recovering) => (StallPhase::Restore, recovery_waits_for(standing.recovery), None),
            Some(PartitionState::Revoking) => {
                (StallPhase::Rebalance, "the consumer to give the partition up".to_owned(), head)
            }
            Some(PartitionState::Serving) | None => {
                // A batch in the mailbox of an actor that works is only on its way.
                if self.actors_hang >= self.long() || (standing.offered > 0 && standing.work.batches == 0) {
                    (StallPhase::Route, self.route_waits_for(standing), head.or(standing.offered_first))
                } else if standing.work.batches == 0 {
                    (StallPhase::Poll, source_waits_for(sight), None)
                } else if standing.work.is_decided() {
                    (StallPhase::Commit, commit_waits_for(sight), head)
                } else {
                    return self.explain_apply(standing, lasts);
                }
            }
        };
        let partition = Some(standing.partition);
        Stall { phase, waiting_for, partition, offset, lasts, limit: self.limits.stall }
    }

    /// An entity that judges one event for longer, or a thread that does not come round for longer, is what others wait
    /// for.
    fn long(&self) -> Duration {
        (self.limits.stall / 2).max(ROUNDS)
    }

    fn route_waits_for(&self, standing: &Standing) -> String {
        let batches = standing.offered;
        if self.actors_hang >= self.long() {
            let ms = self.actors_hang.as_millis();
            format!("the ingest actor, which has not come round for {ms} ms; {batches} batches in its mailbox")
        } else {
            format!("the ingest actor to take {batches} batches from its mailbox")
        }
    }

    /// The oldest event need not be the one that hangs: its batch waits for all of its keys. An entity that does not come
    /// back holds up all that share its thread, of whatever partition.
    fn explain_apply(&self, standing: &Standing, lasts: Duration) -> Stall {
        let hanging = self.seated.iter().filter_map(|(occupant, lasts)| Some((occupant.as_ref()?, *lasts)));
        let hanging = hanging.filter(|(_, lasts)| *lasts >= self.long());
        let of_this = |partition: Partition| partition == standing.partition;
        let worst = hanging.max_by_key(|((partition, _), lasts)| (of_this(*partition), *lasts));
        let (waiting_for, partition, offset) = match worst {
            Some(((partition, offset), lasts)) => (
                format!("an entity that has been at this event for {} ms", lasts.as_millis()),
                *partition,
                Some(*offset),
            ),
            None => (
                "the entities of a batch to finish".to_owned(),
                standing.partition,
                standing.work.head.map(|head| head.offset),
            ),
        };
        Stall {
            phase: StallPhase::Apply,
            waiting_for,
            partition: Some(partition),
            offset,
            lasts,
            limit: self.limits.stall,
        }
    }
}

fn recovery_waits_for(at: RecoveryAt) -> String {
    match at {
        RecoveryAt::Queued => "its turn, behind recoveries that do not get on".to_owned(),
        RecoveryAt::Asking => "the brokers to tell its committed offset and the ends of its logs".to_owned(),
        RecoveryAt::Reading { topic, position, until } => {
            let topic = match topic {
                Topic::Input => "input",
                Topic::State => "state",
                Topic::Dlq => "DLQ record",
            };
            format!("records of the {topic} topic: it stands at position {position} of {until}")
        }
    }
}

fn source_waits_for(sight: &Observation<'_>) -> String {
    match sight.intake {
        IngestPressure::Full => "room in the intake, which others fill".to_owned(),
        IngestPressure::Open => format!("records to arrive; the consumer is {}", sight.source),
    }
}

fn commit_waits_for(sight: &Observation<'_>) -> String {
    let step = match &sight.committing {
        Some((step, lasts)) => format!("{step} for {} ms", lasts.as_millis()),
        None => "a transaction to begin".to_owned(),
    };
    match &sight.reading.commit_trouble {
        Some(cause) => format!("{step}; the last attempt came to nothing: {cause}"),
        None => step,
    }
}
