//! A status and a watchdog, without threads, whose time the tests advance.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use steward::engine::batches::{Head, OpenWork};
use steward::engine::partition::PartitionState;
use steward::observability::status::{HeldBack, InputReport, RecoveryAt, Status};
use steward::observability::watchdog::{IngestPressure, Observation, StallReport, Watchdog, WatchdogLimits};
use steward::record::{Batch, Epoch, Offset, Partition, Position, Topic};

use super::{CHECK, JOIN, LIMIT};

/// A status, and a watchdog that checks it four times a second.
pub(super) struct Scene {
    pub(super) status: Status,
    pub(super) watchdog: Watchdog,
    pub(super) now: Instant,
    pub(super) ingest: IngestPressure,
    pub(super) not_member: Option<&'static str>,
    pub(super) commit_step: Option<(String, Duration)>,
    pub(super) is_refused_for_now: bool,
    pub(super) does_consumer_run: bool,
    pub(super) consumer_ran_at: Instant,
    pub(super) do_actors_run: bool,
    /// Any broker: the group's coordinator, for example.
    pub(super) do_brokers_respond: bool,
    pub(super) is_polling: bool,
    /// The broker announces it with its responses.
    pub(super) delay: Duration,
}

impl Scene {
    pub(super) fn new() -> Scene {
        let now = now();
        Scene {
            status: Status::new(now),
            watchdog: Watchdog::new(WatchdogLimits { stall: LIMIT, join: JOIN }, now),
            now,
            ingest: IngestPressure::Open,
            not_member: None,
            commit_step: None,
            is_refused_for_now: false,
            does_consumer_run: true,
            consumer_ran_at: now,
            do_actors_run: true,
            do_brokers_respond: false,
            is_polling: true,
            delay: Duration::ZERO,
        }
    }

    pub(super) fn recovering(partitions: &[Partition]) -> Scene {
        let scene = Scene::new();
        scene.status.assigned(scene.now);
        partitions
            .iter()
            .for_each(|partition| scene.status.set_state(*partition, Some(PartitionState::Recovering), scene.now));
        scene
    }

    pub(super) fn serving(partitions: &[Partition]) -> Scene {
        let scene = Scene::recovering(partitions);
        partitions
            .iter()
            .for_each(|partition| scene.status.set_state(*partition, Some(PartitionState::Serving), scene.now));
        scene
    }

    /// Sets the open work of all partitions: one batch each, whose first record has this offset.
    pub(super) fn opens(&self, heads: &[(Partition, i64)]) {
        self.status.set_open_work(
            heads.iter().map(|(partition, offset)| (*partition, work(*offset, false))).collect(),
            self.now,
        );
    }

    /// Routes a batch of one record to its entity.
    pub(super) fn routes(&self, partition: Partition, offset: i64, key: &[u8]) {
        let mut batch = Batch::new(partition, Epoch(1), Position(offset));
        batch.push(Offset(offset), None, Some(key), None, []);
        self.status.batch_offered(partition, Some((Offset(offset), Some(key))));
        self.status.batch_routed(partition, Some(Arc::new(batch)));
    }

    pub(super) fn opens_decided(&self, partition: Partition, offset: i64) {
        self.status.set_open_work(BTreeMap::from([(partition, work(offset, true))]), self.now);
    }

    pub(super) fn commits(&self, partition: Partition, position: i64) {
        self.status.committed(partition, Position(position), self.now);
    }

    /// Sets the position of a recovery, of 1,000.
    pub(super) fn reads(&self, partition: Partition, step: i64) {
        let at = RecoveryAt::Reading { topic: Topic::State, position: Position(step), until: Position(1_000) };
        self.status.recovery_at(partition, at, step.unsigned_abs(), self.now);
    }

    pub(super) fn held_back(&self, partition: Partition) -> Option<HeldBack> {
        let snapshot = self.status.snapshot(self.now);
        snapshot.partitions.iter().find(|at| at.partition == partition)?.held_back
    }

    /// The consumer reports the ends of a log, of a response that has just arrived.
    pub(super) fn logs(&self, partition: Partition, last_stable: i64, high_watermark: i64) {
        let log = InputReport {
            last_stable: Some(Position(last_stable)),
            high_watermark: Some(Position(high_watermark)),
            since_response: Some(Duration::ZERO),
            lacks_leader: false,
            delay: self.delay,
        };
        self.status.set_input_report(partition, log, self.now);
    }

    /// The consumer reports that no broker leads a partition.
    pub(super) fn lacks_leader(&self, partition: Partition) {
        let log = InputReport { lacks_leader: true, ..InputReport::default() };
        self.status.set_input_report(partition, log, self.now);
    }

    pub(super) fn check(&mut self) -> Option<StallReport> {
        if self.do_brokers_respond {
            self.status.set_since_any_response(Some(Duration::ZERO), self.now);
        }
        if self.do_actors_run {
            self.status.actors_ran(self.now);
        }
        if self.does_consumer_run {
            self.consumer_ran_at = self.now;
        }
        let status = self.status.snapshot(self.now);
        let seen = Observation {
            status: &status,
            since_consumer_ran: self.now.duration_since(self.consumer_ran_at),
            consumer_phase: "polling",
            is_polling: self.is_polling,
            ingest: self.ingest,
            not_member: self.not_member,
            commit_step: self.commit_step.clone(),
            is_refused_for_now: self.is_refused_for_now,
        };
        self.watchdog.check(&seen, self.now)
    }

    /// Advances the time, and expects no stall.
    #[track_caller]
    pub(super) fn runs_without_stall_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += CHECK;
            let stall = self.check();
            assert_eq!(stall, None);
        }
    }

    /// Advances the time until a stall is found. Calls `happens` with the number of checks after each check.
    #[track_caller]
    pub(super) fn until_stall(&mut self, limit: Duration, mut happens: impl FnMut(&mut Scene, i64)) -> StallReport {
        let until = self.now + limit + CHECK;
        let mut checks = 0;
        while self.now < until {
            self.now += CHECK;
            checks += 1;
            if let Some(stall) = self.check() {
                return stall;
            }
            happens(self, checks);
        }
        panic!("no stall within {limit:?}: {:?}", self.status.snapshot(self.now));
    }
}

pub(super) fn work(offset: i64, is_complete: bool) -> OpenWork {
    let head = Head { offset: Offset(offset), timestamp_ms: Some(offset), is_complete };
    OpenWork { batches: 1, records: 1, head: Some(head) }
}

#[expect(clippy::disallowed_methods, reason = "an arbitrary start")]
fn now() -> Instant {
    Instant::now()
}
