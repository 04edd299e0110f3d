//! The board of status and the watchdog that judges it, without threads: what counts as standing still, for how long, and
//! what is said about it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use steward::engine::batches::{Head, OpenWork};
use steward::engine::partition::PartitionState;
use steward::engine::recovery::Topic;
use steward::observability::log_events::StallPhase;
use steward::observability::status::{RecoveryAt, Status};
use steward::observability::watchdog::{IngestPressure, Observation, Stall, Watchdog, WatchdogLimits};
use steward::record::{Batch, Epoch, Offset, Partition, Position};

const P0: Partition = Partition(0);
const P1: Partition = Partition(1);
const LIMIT: Duration = Duration::from_secs(30);
const JOIN: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(250);

#[apply(offline_test)]
fn a_partition_that_stands_still_among_busy_ones_is_noticed() {
    let mut scene = Scene::serving(&[P0, P1]);
    scene.opens(&[(P0, 7), (P1, 3)]);

    let stall = scene.until_stall(2 * LIMIT, |scene, step| scene.commits(P1, 10 + step));

    assert_eq!((stall.phase, stall.partition, stall.offset), (StallPhase::Apply, Some(P0), Some(Offset(7))));
    assert_eq!((stall.lasts, stall.limit), (LIMIT, LIMIT));
}

#[apply(offline_test)]
fn a_partition_with_nothing_to_do_never_stalls() {
    let mut scene = Scene::serving(&[P0]);
    scene.commits(P0, 5);
    scene.status.end(P0, Position(5));
    scene.stands_for(10 * LIMIT);
}

#[apply(offline_test)]
fn the_clock_of_a_partition_starts_when_it_has_something_to_do() {
    let mut scene = Scene::serving(&[P0]);
    scene.commits(P0, 5);
    scene.stands_for(10 * LIMIT);
    scene.status.end(P0, Position(6));
    scene.stands_for(LIMIT);
    let stall = scene.until_stall(LOOK, |_, _| {});
    assert_eq!((stall.phase, stall.partition, stall.lasts), (StallPhase::Poll, Some(P0), LIMIT));
    assert_eq!(stall.waiting_for, "records to arrive; the consumer is polling");
}

#[apply(offline_test)]
fn time_in_which_nobody_looked_does_not_count() {
    let mut scene = Scene::serving(&[P0]);
    scene.opens(&[(P0, 7)]);
    scene.stands_for(LIMIT / 2);
    scene.now += 100 * LIMIT;
    scene.stands_for(LIMIT / 2 - Duration::from_secs(3));
    let stall = scene.until_stall(Duration::from_secs(6), |_, _| {});
    assert!(stall.lasts < LIMIT + Duration::from_secs(2), "{stall:?}");
}

#[apply(offline_test)]
fn a_partition_that_waits_for_room_counts_a_tenth() {
    let mut scene = Scene::serving(&[P0, P1]);
    scene.intake = IngestPressure::Full;
    scene.opens(&[(P1, 3)]);
    scene.commits(P0, 5);
    scene.status.end(P0, Position(6));
    let mut looks = 0;
    let stall = scene.until_stall(11 * LIMIT, |scene, step| {
        looks = step;
        scene.commits(P1, 10 + step);
    });
    assert!(
        LOOK * u32::try_from(looks).expect("a few hundred") > 9 * LIMIT,
        "others used its turn up, and that was taken for a stall"
    );
    assert_eq!((stall.phase, stall.partition), (StallPhase::Poll, Some(P0)));
    assert_eq!(stall.waiting_for, "room in the intake, which others fill");
}

#[apply(offline_test)]
fn a_partition_that_has_read_counts_in_full_though_the_intake_is_full() {
    let mut scene = Scene::serving(&[P0]);
    scene.intake = IngestPressure::Full;
    scene.opens(&[(P0, 3)]);
    scene.stands_for(LIMIT);
    assert_eq!(scene.until_stall(LOOK, |_, _| {}).phase, StallPhase::Apply);
}

#[apply(offline_test)]
fn a_recovery_that_moves_never_stalls_however_long_it_takes() {
    let mut scene = Scene::recovering(&[P0]);
    scene.status.recovery_begins(P0, scene.now);
    for step in 1..50 {
        scene.reads(P0, step);
        scene.stands_for(LIMIT - 2 * LOOK);
    }
    let stall = scene.until_stall(LIMIT, |_, _| {});
    assert_eq!((stall.phase, stall.partition, stall.offset), (StallPhase::Restore, Some(P0), None));
    assert_eq!(stall.waiting_for, "records of the state topic: it stands at position 49 of 1000");
}

#[apply(offline_test)]
fn a_recovery_that_waits_for_its_turn_shares_the_movement_of_the_others() {
    let mut scene = Scene::recovering(&[P0, P1]);
    scene.status.recovery_begins(P1, scene.now);
    for step in 1..50 {
        scene.reads(P1, step);
        scene.stands_for(LIMIT / 2);
    }
    // Its own turn begins with a clock of its own.
    scene.status.stage(P1, Some(PartitionState::Serving), scene.now);
    scene.stands_for(LIMIT / 2);
    scene.status.recovery_begins(P0, scene.now);
    scene.stands_for(LIMIT - 2 * LOOK);
    let stall = scene.until_stall(4 * LOOK, |_, _| {});
    assert_eq!((stall.phase, stall.partition), (StallPhase::Restore, Some(P0)));
}

#[apply(offline_test)]
fn a_recovery_that_only_begins_anew_does_not_move() {
    let mut scene = Scene::recovering(&[P0]);
    let mut attempts = 0;
    let stall = scene.until_stall(2 * LIMIT, |scene, step| {
        // Each attempt comes as far as the one before, and fails.
        scene.status.recovery_begins(P0, scene.now);
        scene.reads(P0, 1 + step % 10);
        attempts += 1;
    });
    assert_eq!(stall.phase, StallPhase::Restore);
    assert!(attempts > 100, "{attempts}");
}

#[apply(offline_test)]
fn what_blocks_the_recoveries_is_named_before_those_that_wait_behind_it() {
    let mut scene = Scene::recovering(&[P0, P1]);
    scene.status.recovery_begins(P0, scene.now);
    scene.reads(P0, 1);
    let stall = scene.until_stall(2 * LIMIT, |_, _| {});
    assert_eq!(stall.partition, Some(P0), "{stall:?}");
}

#[apply(offline_test)]
fn what_waits_in_the_mailbox_is_a_route_that_stands_still() {
    let mut scene = Scene::serving(&[P0]);
    scene.status.offers(P0, Some((Offset(4), Some(b"four"))));
    scene.status.offers(P0, Some((Offset(9), Some(b"nine"))));
    let stall = scene.until_stall(2 * LIMIT, |_, _| {});
    assert_eq!((stall.phase, stall.partition, stall.offset), (StallPhase::Route, Some(P0), Some(Offset(4))));
    assert_eq!(stall.waiting_for, "the ingest actor to take 2 batches from its mailbox");
    assert_eq!(scene.status.key_at(P0, Offset(4)).as_deref(), Some(&b"four"[..]));

    // One that takes them is no stall; one that never comes round is named for that.
    scene.status.routed(P0, None);
    scene.status.routed(P0, None);
    scene.stands_for(2 * LIMIT);
    scene.opens(&[(P0, 4)]);
    scene.do_actors_turn = false;
    let stall = scene.until_stall(2 * LIMIT, |_, _| {});
    assert_eq!((stall.phase, stall.offset), (StallPhase::Route, Some(Offset(4))));
    assert!(stall.waiting_for.starts_with("the ingest actor, which has not come round for "), "{stall:?}");
}

#[apply(offline_test)]
fn a_refused_offer_leaves_nothing_in_the_mailbox() {
    let mut scene = Scene::serving(&[P0]);
    scene.status.offers(P0, Some((Offset(4), None)));
    scene.status.offer_refused(P0);
    scene.stands_for(2 * LIMIT);
}

#[apply(offline_test)]
fn the_event_that_an_entity_is_at_is_named_and_not_the_oldest_one() {
    let mut scene = Scene::serving(&[P0, P1]);
    let seats = [scene.status.current_event(), scene.status.current_event()];
    scene.opens(&[(P0, 7), (P1, 3)]);
    seats[1].take(P0, Offset(12));
    let stall = scene.until_stall(2 * LIMIT, |_, step| {
        // The other thread works.
        seats[0].take(P1, Offset(step));
    });
    assert_eq!((stall.phase, stall.partition, stall.offset), (StallPhase::Apply, Some(P0), Some(Offset(12))));
    assert!(stall.waiting_for.starts_with("an entity that has been at this event for "), "{stall:?}");

    // It holds up whoever shares its thread, of another partition too.
    let mut scene = Scene::serving(&[P0, P1]);
    let current_event = scene.status.current_event();
    current_event.take(P0, Offset(12));
    scene.opens(&[(P1, 3)]);
    let stall = scene.until_stall(2 * LIMIT, |_, _| {});
    assert_eq!((stall.partition, stall.offset), (Some(P0), Some(Offset(12))));

    let mut scene = Scene::serving(&[P0]);
    let current_event = scene.status.current_event();
    current_event.take(P0, Offset(12));
    current_event.leave();
    scene.opens(&[(P0, 3)]);
    let stall = scene.until_stall(2 * LIMIT, |_, _| {});
    assert_eq!((stall.offset, stall.waiting_for.as_str()), (Some(Offset(3)), "the entities of a batch to finish"));
}

#[apply(offline_test)]
fn a_transaction_that_outlives_its_partition_is_still_watched() {
    let mut scene = Scene::serving(&[P0]);
    scene.routes(P0, 7, b"seven");
    scene.routes(P0, 8, b"eight");
    scene.opens_decided(P0, 7);
    scene.stands_for(LIMIT / 2);
    scene.status.stage(P0, None, scene.now);
    scene.opens_decided(P0, 7);
    assert_eq!(scene.status.key_at(P0, Offset(7)).as_deref(), Some(&b"seven"[..]));
    assert_eq!(scene.status.key_at(P0, Offset(8)), None, "it is not in the transaction");
    scene.stands_for(LIMIT / 2 - 2 * LOOK);
    let stall = scene.until_stall(4 * LOOK, |_, _| {});
    assert_eq!((stall.phase, stall.partition, stall.offset), (StallPhase::Commit, Some(P0), Some(Offset(7))));
}

#[apply(offline_test)]
fn an_assignment_does_not_make_a_transaction_that_hangs_younger() {
    let mut scene = Scene::serving(&[P0]);
    scene.opens_decided(P0, 7);
    scene.stands_for(LIMIT / 2);
    scene.status.stage(P0, None, scene.now);
    scene.status.stage(P0, Some(PartitionState::Recovering), scene.now);
    scene.stands_for(LIMIT / 2 - 2 * LOOK);
    assert_eq!(scene.until_stall(4 * LOOK, |_, _| {}).partition, Some(P0));
}

#[apply(offline_test)]
fn a_commit_that_stands_still_says_why_the_last_attempt_came_to_nothing() {
    let mut scene = Scene::serving(&[P0]);
    scene.opens_decided(P0, 7);
    scene.committing = Some(("the commit thread, SendingOffsets".to_owned(), Duration::from_secs(4)));
    scene.status.commit_failed("the group is changing generations");
    let stall = scene.until_stall(2 * LIMIT, |_, _| {});
    assert_eq!(stall.phase, StallPhase::Commit);
    assert_eq!(
        stall.waiting_for,
        "the commit thread, SendingOffsets for 4000 ms; the last attempt came to nothing: the group is changing generations"
    );

    // A commit clears it.
    scene.commits(P0, 8);
    scene.opens_decided(P0, 8);
    scene.committing = None;
    let stall = scene.until_stall(2 * LIMIT, |_, _| {});
    assert_eq!(stall.waiting_for, "a transaction to begin");
}

#[apply(offline_test)]
fn a_partition_that_has_to_go_and_does_not_is_a_rebalance_that_stands_still() {
    let mut scene = Scene::serving(&[P0]);
    scene.status.stage(P0, Some(PartitionState::Revoking), scene.now);
    let stall = scene.until_stall(2 * LIMIT, |_, _| {});
    assert_eq!((stall.phase, stall.partition, stall.limit), (StallPhase::Rebalance, Some(P0), LIMIT));
}

#[apply(offline_test)]
fn a_process_outside_of_its_group_has_a_limit_of_its_own() {
    let mut scene = Scene::new();
    scene.stands_for(JOIN - 2 * LOOK);
    let stall = scene.until_stall(4 * LOOK, |_, _| {});
    assert_eq!((stall.phase, stall.partition, stall.offset, stall.limit), (StallPhase::Rebalance, None, None, JOIN));
    assert_eq!(stall.waiting_for, "the group to take the process in: no assignment has come");

    // To fall out counts anew, and to come back ends it.
    let mut scene = Scene::serving(&[]);
    scene.stands_for(JOIN);
    scene.outside = Some("the consumer has no member id");
    scene.stands_for(JOIN - 2 * LOOK);
    scene.outside = None;
    scene.stands_for(LOOK);
    scene.outside = Some("the consumer has no member id");
    scene.stands_for(JOIN - 2 * LOOK);
    let stall = scene.until_stall(4 * LOOK, |_, _| {});
    assert_eq!(stall.waiting_for, "the group to take the process in: the consumer has no member id");
}

#[apply(offline_test)]
fn a_member_without_partitions_never_stalls() {
    Scene::serving(&[]).stands_for(10 * JOIN);
}

#[apply(offline_test)]
fn a_consumer_s_thread_that_hangs_is_a_poll_that_stands_still() {
    let mut scene = Scene::serving(&[P0]);
    scene.does_source_turn = false;
    let stall = scene.until_stall(2 * LIMIT, |_, _| {});
    assert_eq!((stall.phase, stall.partition), (StallPhase::Poll, None));
    assert_eq!(stall.waiting_for, "a call of the consumer to return");
}

#[apply(offline_test)]
fn a_key_is_found_until_its_event_is_committed() {
    let scene = Scene::serving(&[P0]);
    let mut batch = Batch::new(P0, Epoch(1), Position(0));
    batch.push(Offset(4), None, Some(b"four"), None, []);
    batch.push(Offset(5), None, None, None, []);
    scene.status.offers(P0, Some((Offset(4), Some(b"four"))));
    scene.status.routed(P0, Some(Arc::new(batch)));

    assert_eq!(scene.status.key_at(P0, Offset(4)).as_deref(), Some(&b"four"[..]));
    assert_eq!(scene.status.key_at(P0, Offset(5)), None, "it has none");
    assert_eq!(scene.status.key_at(P1, Offset(4)), None);
    scene.commits(P0, 5);
    assert_eq!(scene.status.key_at(P0, Offset(4)).as_deref(), Some(&b"four"[..]), "a part of the batch is open");
    scene.commits(P0, 6);
    assert_eq!(scene.status.key_at(P0, Offset(4)), None);
}

#[apply(offline_test)]
fn of_an_ownership_that_is_over_nothing_is_left() {
    let scene = Scene::serving(&[P0]);
    scene.commits(P0, 5);
    scene.status.end(P0, Position(9));
    assert_eq!(scene.status.lags(), BTreeMap::from([(P0, 4)]));
    scene.status.stage(P0, None, scene.now);
    scene.status.end(P0, Position(10));
    scene.commits(P0, 6);
    assert_eq!(scene.status.read(scene.now).standings, []);
    scene.status.stage(P0, Some(PartitionState::Recovering), scene.now);
    assert_eq!(scene.status.lags(), BTreeMap::new());
}

// ------------------------------------------------------------------------------------------------------- the helpers

/// A board, and a watchdog that looks four times a second.
struct Scene {
    status: Status,
    watchdog: Watchdog,
    now: Instant,
    intake: IngestPressure,
    outside: Option<&'static str>,
    committing: Option<(String, Duration)>,
    does_source_turn: bool,
    source_turned: Instant,
    do_actors_turn: bool,
}

impl Scene {
    fn new() -> Scene {
        let now = now();
        Scene {
            status: Status::new(now),
            watchdog: Watchdog::new(WatchdogLimits { stall: LIMIT, join: JOIN }, now),
            now,
            intake: IngestPressure::Open,
            outside: None,
            committing: None,
            does_source_turn: true,
            source_turned: now,
            do_actors_turn: true,
        }
    }

    fn recovering(partitions: &[Partition]) -> Scene {
        let scene = Scene::new();
        scene.status.assigned(scene.now);
        partitions
            .iter()
            .for_each(|partition| scene.status.stage(*partition, Some(PartitionState::Recovering), scene.now));
        scene
    }

    fn serving(partitions: &[Partition]) -> Scene {
        let scene = Scene::recovering(partitions);
        partitions
            .iter()
            .for_each(|partition| scene.status.stage(*partition, Some(PartitionState::Serving), scene.now));
        scene
    }

    /// All that is read: of each partition one batch whose first record stands there, with its entities.
    fn opens(&self, heads: &[(Partition, i64)]) {
        self.status
            .open(heads.iter().map(|(partition, offset)| (*partition, work(*offset, false))).collect(), self.now);
    }

    /// A batch of one record is handed to its entity.
    fn routes(&self, partition: Partition, offset: i64, key: &[u8]) {
        let mut batch = Batch::new(partition, Epoch(1), Position(offset));
        batch.push(Offset(offset), None, Some(key), None, []);
        self.status.offers(partition, Some((Offset(offset), Some(key))));
        self.status.routed(partition, Some(Arc::new(batch)));
    }

    fn opens_decided(&self, partition: Partition, offset: i64) {
        self.status.open(BTreeMap::from([(partition, work(offset, true))]), self.now);
    }

    fn commits(&self, partition: Partition, position: i64) {
        self.status.committed(partition, Position(position), self.now);
    }

    /// The recovery of a partition is at this step of a thousand.
    fn reads(&self, partition: Partition, step: i64) {
        let at = RecoveryAt::Reading { topic: Topic::State, position: Position(step), until: Position(1_000) };
        self.status.recovery_at(partition, at, step.unsigned_abs(), self.now);
    }

    fn look(&mut self) -> Option<Stall> {
        if self.do_actors_turn {
            self.status.actors_turned(self.now);
        }
        if self.does_source_turn {
            self.source_turned = self.now;
        }
        let reading = self.status.read(self.now);
        let sight = Observation {
            reading: &reading,
            since_source_turned: self.now.duration_since(self.source_turned),
            source: "polling",
            intake: self.intake,
            outside: self.outside,
            committing: self.committing.clone(),
        };
        self.watchdog.look(&sight, self.now)
    }

    /// Time passes, and nothing is found.
    #[track_caller]
    fn stands_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += LOOK;
            let stall = self.look();
            assert_eq!(stall, None);
        }
    }

    /// Time passes until something is found; before each look something happens, which is told how many looks there were.
    #[track_caller]
    fn until_stall(&mut self, limit: Duration, mut happens: impl FnMut(&mut Scene, i64)) -> Stall {
        let until = self.now + limit + LOOK;
        let mut looks = 0;
        while self.now < until {
            self.now += LOOK;
            looks += 1;
            if let Some(stall) = self.look() {
                return stall;
            }
            happens(self, looks);
        }
        panic!("nothing stood still for {limit:?}: {:?}", self.status.read(self.now));
    }
}

fn work(offset: i64, decided: bool) -> OpenWork {
    let head = Head { offset: Offset(offset), timestamp_ms: Some(offset), decided };
    OpenWork { batches: 1, records: 1, head: Some(head) }
}

#[expect(clippy::disallowed_methods, reason = "an arbitrary moment to count from")]
fn now() -> Instant {
    Instant::now()
}
