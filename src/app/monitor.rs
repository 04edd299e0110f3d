//! Checks the process a few times a second: writes the heartbeat, logs readiness and `stats`, and ends the process if
//! there is work and no progress.
//!
//! The [`Watchdog`] decides what a stall is. The monitor gives it an [`Observation`] and logs its finding.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::pipeline::Pipeline;
use crate::config::{Config, KafkaConfig};
use crate::engine::partition::PartitionState;
use crate::kafka::consumer::poll_phase::PollPhase;
use crate::kafka::transactions::commit_thread::CommitPhase;
use crate::observability::heartbeat::{Heartbeat, HeartbeatError, HeartbeatFile};
use crate::observability::log_events::{
    BecameReady, BecameUnready, HeartbeatShared, HeartbeatUnwritable, IngestPaused, IngestResumed,
    InputTransactionOpen, LogEvent, ProcessPhase, ProgressStalled, UnreadyCause, millis,
};
use crate::observability::open_transactions::OpenTransactions;
use crate::observability::stats::{Sample, StatsInterval};
use crate::observability::status::StatusSnapshot;
use crate::observability::watchdog::{IngestPressure, Observation, StallReport, Watchdog, WatchdogLimits};
use crate::ports::Clock;

const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

pub struct Monitor<'a> {
    config: &'a Config,
    pipeline: &'a Pipeline,
    clock: Arc<dyn Clock>,
    started: Instant,
    interval: StatsInterval,
    stats_due: Instant,
    heartbeat_due: Instant,
    watchdog: Watchdog,
    open_transactions: OpenTransactions,
    /// Since when the in-flight budget has no room.
    paused_since: Option<Instant>,
    is_ready: bool,
    is_stopping: bool,
    heartbeat_file: HeartbeatFile,
    is_heartbeat_failing: bool,
}

impl<'a> Monitor<'a> {
    pub fn new(
        config: &'a Config,
        pipeline: &'a Pipeline,
        clock: Arc<dyn Clock>,
        heartbeat_file: HeartbeatFile,
    ) -> Monitor<'a> {
        let now = clock.now();
        let limits = WatchdogLimits {
            stall: Duration::from_millis(config.health.stall_timeout_ms),
            join: Duration::from_millis(config.health.join_timeout_ms),
        };
        Monitor {
            config,
            pipeline,
            started: now,
            interval: StatsInterval::open(Arc::clone(&pipeline.shared().stats), now),
            stats_due: now + Duration::from_millis(config.log.stats_interval_ms),
            heartbeat_due: now,
            watchdog: Watchdog::new(limits, now),
            open_transactions: OpenTransactions::new(Duration::from_millis(config.health.open_transaction_ms)),
            paused_since: None,
            is_ready: false,
            is_stopping: false,
            heartbeat_file,
            is_heartbeat_failing: false,
            clock,
        }
    }

    /// From here on nothing is a stall: a drain has a limit of its own.
    pub fn stopping(&mut self) {
        self.is_stopping = true;
    }

    /// `Break` holds the reason for which the process has to end.
    pub fn check(&mut self) -> ControlFlow<String> {
        let now = self.clock.now();
        let status = self.pipeline.shared().status.snapshot(now);
        // Once per check: the request goes to another thread of the client and back.
        let not_a_member = self.not_a_member();
        self.log_readiness(&status, not_a_member, now);
        self.log_ingest_pauses(now);
        self.log_open_transactions(&status, now);
        if now >= self.stats_due {
            self.stats_due = now + Duration::from_millis(self.config.log.stats_interval_ms);
            self.log_stats(&status, now);
            self.pipeline.client_log.summarise();
        }
        let stall = self.find_stall(&status, not_a_member, now);
        if now >= self.heartbeat_due {
            self.heartbeat_due = now + HEARTBEAT_INTERVAL;
            self.write_heartbeat(&status, not_a_member, stall.as_ref());
        }
        match stall {
            Some(stall) if !self.is_stopping => ControlFlow::Break(self.log_stall(&stall)),
            Some(_) | None => ControlFlow::Continue(()),
        }
    }

    /// Logs the last `stats`, and removes the heartbeat.
    pub fn finish(&mut self) {
        let now = self.clock.now();
        let status = self.pipeline.shared().status.snapshot(now);
        self.log_stats(&status, now);
        self.pipeline.finish_summaries();
        self.heartbeat_file.remove();
    }

    fn log_readiness(&mut self, status: &StatusSnapshot, not_a_member: Option<&'static str>, now: Instant) {
        let is_ready = self.is_ready_now(status, not_a_member);
        if is_ready == self.is_ready {
            return;
        }
        self.is_ready = is_ready;
        if is_ready {
            let took_ms = millis(now.saturating_duration_since(self.started));
            BecameReady { assigned: status.in_state(PartitionState::Serving).count() as u64, took_ms }.emit();
        } else {
            BecameUnready { cause: self.unready_cause(status, not_a_member) }.emit();
        }
    }

    /// The client reports no loss if the group removes a member without partitions, so the membership is
    /// checked, too.
    fn is_ready_now(&self, status: &StatusSnapshot, not_a_member: Option<&'static str>) -> bool {
        let settle = Duration::from_millis(self.config.health.ready_settle_ms);
        status.is_ready(settle) && !self.is_stopping && not_a_member.is_none()
    }

    /// Returns why the process is not a member of its group; `None` if it is, or if it is leaving. A client that has
    /// left does not reply, and the request has no limit.
    fn not_a_member(&self) -> Option<&'static str> {
        if self.is_stopping { None } else { self.pipeline.not_a_member() }
    }

    fn unready_cause(&self, status: &StatusSnapshot, not_a_member: Option<&'static str>) -> UnreadyCause {
        if self.is_stopping {
            UnreadyCause::Stopping
        } else if status.since_assigned.is_none() || not_a_member.is_some() {
            UnreadyCause::NotJoined
        } else if status.has(PartitionState::Recovering) {
            UnreadyCause::Recovering
        } else if status.has(PartitionState::Revoking) {
            UnreadyCause::Revoking
        } else {
            UnreadyCause::Settling
        }
    }

    fn log_ingest_pauses(&mut self, now: Instant) {
        let shared = self.pipeline.shared();
        let (held_bytes, limit_bytes) = (shared.in_flight.held_bytes(), shared.in_flight_limit_bytes());
        match (held_bytes < limit_bytes, self.paused_since) {
            (false, None) => {
                self.paused_since = Some(now);
                IngestPaused { held_bytes, limit_bytes }.emit();
            }
            (true, Some(since)) => {
                self.paused_since = None;
                IngestResumed { held_bytes, paused_ms: millis(now.saturating_duration_since(since)) }.emit();
            }
            (false, Some(_)) | (true, None) => {}
        }
    }

    fn log_open_transactions(&mut self, status: &StatusSnapshot, now: Instant) {
        let KafkaConfig { topic, bootstrap_servers, .. } = &self.config.kafka;
        for (partition, held) in self.open_transactions.due(status, now) {
            let tool = format!("kafka-transactions.sh --bootstrap-server {bootstrap_servers}");
            let log = format!("--topic {topic} --partition {partition}");
            InputTransactionOpen {
                topic,
                partition: partition.0,
                last_stable: held.last_stable.0,
                high_watermark: held.high_watermark.0,
                held_back: held.offsets(),
                open_ms: millis(held.open_for),
                find: &format!("{tool} describe-producers {log}; {tool} find-hanging {log}"),
            }
            .emit();
        }
    }

    fn log_stats(&mut self, status: &StatusSnapshot, now: Instant) {
        let shared = self.pipeline.shared();
        let lags = shared.status.lags();
        for (partition, lag) in &lags {
            shared.stats.update_partition(partition.0, |level| level.lag = *lag);
        }
        for at in &status.partitions {
            let is_serving = at.state == Some(PartitionState::Serving);
            shared.stats.update_partition(at.partition.0, |level| {
                level.behind_open_transaction = at.held_back.map_or(0, |held| held.offsets());
                level.fetch_age_ms = if is_serving { millis(at.since_response) } else { 0 };
            });
        }
        let sample = Sample {
            keys: Arc::clone(&shared.keys),
            unix_ms: self.clock.unix_ms(),
            phase: self.phase(status),
            serving: status.in_state(PartitionState::Serving).map(|partition| partition.0).collect(),
            recovering: status.in_state(PartitionState::Recovering).map(|partition| partition.0).collect(),
            partitions_total: self.pipeline.partitions(),
            in_flight_limit_bytes: shared.in_flight.limit_bytes(),
            memory_rss_bytes: resident_bytes(),
            oldest_unix_ms: status.oldest().and_then(|(_, head)| head.timestamp_ms),
            oldest: status.oldest().map(|(partition, head)| (partition.0, head.offset.0)),
        };
        self.interval.close(now, &sample).emit();
    }

    fn write_heartbeat(
        &mut self,
        status: &StatusSnapshot,
        not_a_member: Option<&'static str>,
        stall: Option<&StallReport>,
    ) {
        let is_ready = self.is_ready_now(status, not_a_member);
        let ready_cause = if is_ready { "serving" } else { self.unready_cause(status, not_a_member).code() };
        let heartbeat = Heartbeat {
            written_unix_ms: self.clock.unix_ms(),
            writer: self.heartbeat_file.writer().clone(),
            ready: is_ready,
            ready_cause: ready_cause.to_owned(),
            live: stall.is_none(),
            live_cause: self.phase(status),
        };
        // Logged once, not each second. A probe only finds that the old heartbeat is stale.
        let failed = self.heartbeat_file.write(&heartbeat).err();
        if let Some(error) = &failed
            && !self.is_heartbeat_failing
        {
            let problem = &error.to_string();
            match error {
                HeartbeatError::Shared { .. } => HeartbeatShared { problem }.emit(),
                HeartbeatError::Missing { .. }
                | HeartbeatError::Unreadable { .. }
                | HeartbeatError::Malformed { .. }
                | HeartbeatError::Unwritable { .. } => HeartbeatUnwritable { problem }.emit(),
            }
        }
        self.is_heartbeat_failing = failed.is_some();
    }

    fn find_stall(
        &mut self,
        status: &StatusSnapshot,
        not_a_member: Option<&'static str>,
        now: Instant,
    ) -> Option<StallReport> {
        let source = self.pipeline.source_phase.read();
        let (step, since) = self.pipeline.commit_phase.get();
        let commit_step = (step != CommitPhase::Idle)
            .then(|| (format!("the commit thread, {step:?}"), now.saturating_duration_since(since)));
        let seen = Observation {
            status,
            since_consumer_ran: now.saturating_duration_since(source.last_turn),
            consumer_phase: source.phase.name(),
            is_polling: source.phase == PollPhase::Polling,
            ingest: if self.pipeline.shared().takes_records() { IngestPressure::Open } else { IngestPressure::Full },
            not_member: not_a_member,
            is_refused_for_now: self.is_refused_for_now(now),
            commit_step,
        };
        self.watchdog.check(&seen, now)
    }

    /// Returns whether the brokers have refused records within the limit for a stall. Attempts follow each other more
    /// quickly.
    fn is_refused_for_now(&self, now: Instant) -> bool {
        let limit = Duration::from_millis(self.config.health.stall_timeout_ms);
        now.checked_sub(limit).is_some_and(|since| self.pipeline.commit_phase.refused_for_now(since).is_some())
    }

    fn log_stall(&self, stall: &StallReport) -> String {
        let event = stall.partition.zip(stall.offset);
        let key = event.and_then(|(partition, offset)| self.pipeline.shared().status.key_at(partition, offset));
        let key = key.and_then(|key| self.pipeline.shared().keys.show(&key));
        let (phase, stalled_ms) = (stall.phase, millis(stall.duration));
        ProgressStalled {
            phase,
            waiting_for: &stall.waiting_for,
            partition: stall.partition.map(|partition| partition.0),
            offset: stall.offset.map(|offset| offset.0),
            key,
            stalled_ms,
            limit_ms: millis(stall.limit),
        }
        .emit();
        let waiting_for = &stall.waiting_for;
        format!(
            "no progress for {stalled_ms} ms in phase {}, waiting for {waiting_for}; look at the brokers, and at the line before",
            phase.code()
        )
    }

    fn phase(&self, status: &StatusSnapshot) -> String {
        let source = self.pipeline.source_phase.read().phase;
        let (step, _) = self.pipeline.commit_phase.get();
        let process = if self.is_stopping {
            ProcessPhase::Stopping
        } else if status.since_assigned.is_none() {
            ProcessPhase::Joining
        } else if status.has(PartitionState::Recovering) {
            ProcessPhase::Recovering
        } else if source == PollPhase::Revoking {
            ProcessPhase::Rebalancing
        } else {
            ProcessPhase::Serving
        };
        format!("{}, consumer {}, committer {step:?}", process.code(), source.name())
    }
}

/// Resident memory of this process, in bytes; 0 if it is unknown.
fn resident_bytes() -> u64 {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return 0 };
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}
