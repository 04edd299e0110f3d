//! Finds stalls in the status: the partition that has work and has made no progress for longest, in which phase, and
//! what it waits for.
//!
//! * a) Only time in which the watchdog itself runs counts. A process that was suspended, or whose machine was, has not
//!   stalled: it continues, and the group reports what it lost.
//! * b) Each partition has a clock of its own. It starts when the partition has work, and restarts with the partition's
//!   own progress. Progress of other partitions does not count.
//! * c) While ingest is full, a partition without uncommitted records waits for room that other partitions use. A tenth
//!   of that time counts, so that backpressure is no stall, but no partition waits indefinitely.
//! * d) A recovery that waits for its turn shares the progress of the running recoveries (`Status` implements this).
//! * e) The broker of a served partition responds several times a second, even if there are no records. If it sends nothing
//!   while the partition is fetched, the partition may have events that nothing reports. That is a stall only while another
//!   broker responds: if none does, a restart would not help, and the group's own limits apply. Nor does it help while the
//!   partition has no leader, which the status leaves out.
//! * f) A broker announces for how long it delays its responses to a client above its quota. Until then no records can
//!   arrive, and its silence is no fault.
//! * g) While brokers refuse records for a reason of their own, such as too few replicas in sync, a restart would not help:
//!   the next process would meet the same refusal. So this time does not count for a partition that waits for its commit.
//! * h) A process that is no member of its group owns no partition. It has a limit of its own, which is longer: other
//!   members, or unavailable brokers, can make a join take minutes, and a restart would not help.
//!
//! Architecture invariant: pure. An observation and the time go in, a stall comes out.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::engine::partition::PartitionState;
use crate::observability::log_events::StallPhase;
use crate::observability::status::{PartitionSnapshot, RecoveryAt, StatusSnapshot};
use crate::record::{Offset, Partition, Topic};

/// a) The most time between two checks that counts. Many checks fit into it; a longer gap means that the process did not
/// run.
const MAX_CHECK_GAP: Duration = Duration::from_secs(2);
/// c) Divides the time of a partition that waits for room while ingest is full.
const FULL_DIVISOR: u32 = 10;
/// e) Other brokers respond if one has sent something within this time. A member of a group receives responses from its coordinator
/// more often, and the consumer reports once a second.
const RECENT: Duration = Duration::from_secs(5);
const FETCH_WAITS_FOR: &str = "any response of the broker that the partition is fetched from; other brokers respond";
/// The ingest actor runs at least once a second; twice that is noticeable.
const MIN_LONG: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
pub struct WatchdogLimits {
    /// For a partition without progress, and a thread that does not run.
    pub stall: Duration,
    /// For becoming a member of the group.
    pub join: Duration,
}

/// Whether ingest takes records from the consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngestPressure {
    Open,
    /// The uncommitted records have reached their limit.
    Full,
}

#[derive(Debug, Clone)]
pub struct Observation<'a> {
    pub status: &'a StatusSnapshot,
    /// Time since the poll thread last ran its loop.
    pub since_consumer_ran: Duration,
    /// What the poll thread is doing.
    pub consumer_phase: &'static str,
    pub ingest: IngestPressure,
    /// Whether the poll thread takes records. Otherwise partitions may be paused, and nothing is fetched.
    pub is_polling: bool,
    /// Why the process is no member of the group; `None` if it is one.
    pub not_member: Option<&'static str>,
    /// g) Whether the brokers have refused records for now, within the limit for a stall.
    pub is_refused_for_now: bool,
    /// What the commit thread is doing, and for how long; `None` if it is idle.
    pub commit_step: Option<(String, Duration)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StallReport {
    pub phase: StallPhase,
    pub waiting_for: String,
    pub partition: Option<Partition>,
    /// The oldest event of the partition. In [`StallPhase::Apply`], the event that an entity is processing.
    pub offset: Option<Offset>,
    pub duration: Duration,
    pub limit: Duration,
}

#[derive(Debug)]
pub struct Watchdog {
    limits: WatchdogLimits,
    last_check: Instant,
    /// b) How long each partition with work has made no progress.
    partitions: BTreeMap<Partition, Duration>,
    /// e) How long the broker of each served partition has sent nothing, while the partition was fetched.
    silent: BTreeMap<Partition, Duration>,
    consumer: Duration,
    actors: Duration,
    /// h)
    not_member: Duration,
    /// The event of each entity thread, and for how long.
    current_events: Vec<(Option<(Partition, Offset)>, Duration)>,
}

impl Watchdog {
    pub fn new(limits: WatchdogLimits, now: Instant) -> Watchdog {
        Watchdog {
            limits,
            last_check: now,
            partitions: BTreeMap::new(),
            silent: BTreeMap::new(),
            consumer: Duration::ZERO,
            actors: Duration::ZERO,
            not_member: Duration::ZERO,
            current_events: Vec::new(),
        }
    }

    /// Returns a stall, if there is one. A poll thread that hangs comes before the partition that has stalled for
    /// longest, because it is the cause.
    pub fn check(&mut self, seen: &Observation<'_>, now: Instant) -> Option<StallReport> {
        let elapsed = now.saturating_duration_since(self.last_check).min(MAX_CHECK_GAP);
        self.last_check = now;
        self.consumer = (self.consumer + elapsed).min(seen.since_consumer_ran);
        self.actors = (self.actors + elapsed).min(seen.status.since_actors_ran);
        let is_outside = seen.not_member.is_some() || seen.status.since_assigned.is_none();
        self.not_member = if is_outside { self.not_member + elapsed } else { Duration::ZERO };
        self.count_events(&seen.status.current_events, elapsed);
        self.count_partitions(seen, elapsed);
        self.count_silence(seen, elapsed);
        self.consumer_stall()
            .or_else(|| self.partition_stall(seen))
            .or_else(|| self.fetch_stall())
            .or_else(|| self.join_stall(seen))
    }

    fn count_events(&mut self, current_events: &[Option<(Partition, Offset)>], elapsed: Duration) {
        self.current_events.resize(current_events.len(), (None, Duration::ZERO));
        for ((before, duration), current) in self.current_events.iter_mut().zip(current_events) {
            let is_same = current.is_some() && before == current;
            *duration = if is_same { *duration + elapsed } else { Duration::ZERO };
            *before = *current;
        }
    }

    fn count_partitions(&mut self, seen: &Observation<'_>, elapsed: Duration) {
        let before = std::mem::take(&mut self.partitions);
        let with_work = seen.status.partitions.iter().filter(|at| at.has_work());
        self.partitions = with_work
            .map(|at| {
                let waits_for_room = seen.ingest == IngestPressure::Full
                    && at.state == Some(PartitionState::Serving)
                    && !at.has_uncommitted();
                let is_delayed = at.is_throttled && at.state == Some(PartitionState::Serving) && !at.has_uncommitted();
                let waits_for_commit = waits_for_room || (at.work.batches > 0 && at.work.is_complete());
                let is_refused = seen.is_refused_for_now && waits_for_commit;
                let counts = match (is_delayed || is_refused, waits_for_room) {
                    (true, _) => Duration::ZERO,
                    (false, true) => elapsed / FULL_DIVISOR,
                    (false, false) => elapsed,
                };
                let duration = before.get(&at.partition).map_or(Duration::ZERO, |duration| *duration + counts);
                (at.partition, duration.min(at.since_progress))
            })
            .collect();
    }

    fn count_silence(&mut self, seen: &Observation<'_>, elapsed: Duration) {
        let before = std::mem::take(&mut self.silent);
        let brokers_respond = seen.status.since_any_response.is_some_and(|since| since < RECENT);
        let is_fetching = seen.is_polling && seen.ingest == IngestPressure::Open && brokers_respond;
        let counts = if is_fetching { elapsed } else { Duration::ZERO };
        let serving = seen.status.partitions.iter().filter(|at| at.state == Some(PartitionState::Serving));
        self.silent = serving
            .map(|at| {
                let silent = before.get(&at.partition).map_or(Duration::ZERO, |silent| *silent + counts);
                (at.partition, silent.min(at.since_response))
            })
            .collect();
    }

    fn fetch_stall(&self) -> Option<StallReport> {
        let (partition, duration) = self.silent.iter().max_by_key(|(_, silent)| **silent)?;
        (*duration >= self.limits.stall).then(|| StallReport {
            phase: StallPhase::Fetch,
            waiting_for: FETCH_WAITS_FOR.to_owned(),
            partition: Some(*partition),
            offset: None,
            duration: *duration,
            limit: self.limits.stall,
        })
    }

    fn consumer_stall(&self) -> Option<StallReport> {
        (self.consumer >= self.limits.stall).then(|| StallReport {
            phase: StallPhase::Poll,
            waiting_for: "a call of the consumer to return".to_owned(),
            partition: None,
            offset: None,
            duration: self.consumer,
            limit: self.limits.stall,
        })
    }

    fn join_stall(&self, seen: &Observation<'_>) -> Option<StallReport> {
        let cause = seen.not_member.unwrap_or("no assignment has arrived");
        (self.not_member >= self.limits.join).then(|| StallReport {
            phase: StallPhase::Rebalance,
            waiting_for: format!("the process to become a member of its group: {cause}"),
            partition: None,
            offset: None,
            duration: self.not_member,
            limit: self.limits.join,
        })
    }

    /// If several partitions have stalled for equally long, one whose recovery has started comes first, then the one
    /// with the oldest event.
    fn partition_stall(&self, seen: &Observation<'_>) -> Option<StallReport> {
        let stalled = seen.status.partitions.iter().filter_map(|at| {
            let duration = *self.partitions.get(&at.partition)?;
            (duration >= self.limits.stall).then_some((duration, at))
        });
        let (duration, at) = stalled.max_by_key(|(duration, at)| {
            let has_started = at.recovery != RecoveryAt::Queued;
            let oldest = at.work.head.and_then(|head| head.timestamp_ms);
            (*duration, has_started, Reverse(oldest.unwrap_or(i64::MAX)))
        })?;
        Some(self.explain(at, seen, duration))
    }

    fn explain(&self, at: &PartitionSnapshot, seen: &Observation<'_>, duration: Duration) -> StallReport {
        let head = at.work.head.map(|head| head.offset);
        let (phase, waiting_for, offset) = match at.state {
            Some(PartitionState::Recovering) => (StallPhase::Restore, recovery_waits_for(at.recovery), None),
            Some(PartitionState::Revoking) => {
                (StallPhase::Rebalance, "the consumer to release the partition".to_owned(), head)
            }
            Some(PartitionState::Serving) | None => {
                // A batch in the mailbox of an actor that runs is no stall of the actor.
                if self.actors >= self.long() || (at.mailbox_batches > 0 && at.work.batches == 0) {
                    (StallPhase::Route, self.route_waits_for(at), head.or(at.mailbox_head))
                } else if at.work.batches == 0 && self.is_silent(at.partition) {
                    (StallPhase::Fetch, FETCH_WAITS_FOR.to_owned(), None)
                } else if at.work.batches == 0 {
                    (StallPhase::Poll, consumer_waits_for(seen), None)
                } else if at.work.is_complete() {
                    (StallPhase::Commit, commit_waits_for(seen), head)
                } else {
                    return self.explain_apply(at, duration);
                }
            }
        };
        StallReport { phase, waiting_for, partition: Some(at.partition), offset, duration, limit: self.limits.stall }
    }

    fn is_silent(&self, partition: Partition) -> bool {
        self.silent.get(&partition).is_some_and(|silent| *silent >= self.long())
    }

    /// Returns how long an entity may process one event, and a thread may not run, before it counts as what others wait
    /// for.
    fn long(&self) -> Duration {
        (self.limits.stall / 2).max(MIN_LONG)
    }

    fn route_waits_for(&self, at: &PartitionSnapshot) -> String {
        let batches = at.mailbox_batches;
        if self.actors >= self.long() {
            let ms = self.actors.as_millis();
            format!("the ingest actor, which has not run for {ms} ms; {batches} batches in its mailbox")
        } else {
            format!("the ingest actor to take {batches} batches from its mailbox")
        }
    }

    /// The oldest event is not always the one that hangs, because its batch waits for all of its keys. An entity that
    /// does not finish delays all entities of its thread, of any partition.
    fn explain_apply(&self, at: &PartitionSnapshot, duration: Duration) -> StallReport {
        let current = self.current_events.iter().filter_map(|(event, duration)| Some((event.as_ref()?, *duration)));
        let hanging = current.filter(|(_, duration)| *duration >= self.long());
        let worst = hanging.max_by_key(|((partition, _), duration)| (*partition == at.partition, *duration));
        let (waiting_for, partition, offset) = match worst {
            Some(((partition, offset), duration)) => {
                let ms = duration.as_millis();
                (format!("an entity that has been processing this event for {ms} ms"), *partition, Some(*offset))
            }
            None => {
                ("the entities of a batch to finish".to_owned(), at.partition, at.work.head.map(|head| head.offset))
            }
        };
        let (phase, partition) = (StallPhase::Apply, Some(partition));
        StallReport { phase, waiting_for, partition, offset, duration, limit: self.limits.stall }
    }
}

fn recovery_waits_for(at: RecoveryAt) -> String {
    match at {
        RecoveryAt::Queued => "its turn, behind recoveries that make no progress".to_owned(),
        RecoveryAt::FetchingOffsets => "its committed offset and the ends of its logs, from the brokers".to_owned(),
        RecoveryAt::Reading { topic, position, until } => {
            let topic = match topic {
                Topic::Input => "input",
                Topic::State => "state",
                Topic::Dlq => "DLQ",
            };
            format!("records of the {topic} topic: at position {position} of {until}")
        }
    }
}

fn consumer_waits_for(seen: &Observation<'_>) -> String {
    match seen.ingest {
        IngestPressure::Full => "room for its records, which other partitions use".to_owned(),
        IngestPressure::Open => format!("records to arrive; the consumer is {}", seen.consumer_phase),
    }
}

fn commit_waits_for(seen: &Observation<'_>) -> String {
    let step = match &seen.commit_step {
        Some((step, duration)) => format!("{step} for {} ms", duration.as_millis()),
        None => "a transaction to begin".to_owned(),
    };
    match &seen.status.commit_error {
        Some(cause) => format!("{step}; the last attempt failed: {cause}"),
        None => step,
    }
}
