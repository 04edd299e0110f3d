//! Looks at everything a few times a second: writes the heartbeat, says when the process is ready, logs `stats`, and
//! ends the process when there is work and nothing moves.
//!
//! The watchdog looks at what was finished, not at its own loops: a commit, a recovery, a stretch of a restore. It is
//! silent while there is nothing to do, and its clock starts when there is. Only time in which it looks itself counts: a
//! process that stood still, because it was stopped or its machine was, has not stalled; it goes on, and the group tells
//! it what it lost.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::pipeline::Pipeline;
use crate::config::Config;
use crate::heartbeat::Heartbeat;
use crate::kafka::commit_thread::CommitStep;
use crate::kafka::event_source::Phase;
use crate::log_events::{
    BecameReady, BecameUnready, HeartbeatUnwritable, IntakePaused, IntakeResumed, LogEvent, ProgressStalled, millis,
};
use crate::ports::Clock;
use crate::stats::{Sample, Window};
use crate::vitals::Reading;

/// How often the heartbeat is written.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);

/// What counts of the time between two looks at the most. Many looks fit into it, so that more means that nobody ran.
const LONGEST_BLINK: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Vigil<'a> {
    config: &'a Config,
    pipeline: &'a Pipeline,
    clock: Arc<dyn Clock>,
    started: Instant,
    window: Window,
    stats_due: Instant,
    heartbeat_due: Instant,
    last_look: Instant,
    /// For how long it has seen that nothing is finished; `None` while there is nothing to do.
    idle_at_work: Option<Duration>,
    /// For how long it has seen that the poll thread does not turn.
    poll_hangs: Duration,
    paused_since: Option<Instant>,
    is_ready: bool,
    is_stopping: bool,
    is_heartbeat_failing: bool,
}

impl<'a> Vigil<'a> {
    pub(super) fn new(config: &'a Config, pipeline: &'a Pipeline, clock: Arc<dyn Clock>) -> Vigil<'a> {
        let now = clock.now();
        Vigil {
            config,
            pipeline,
            started: now,
            window: Window::open(Arc::clone(&pipeline.shared().stats), now),
            stats_due: now + Duration::from_millis(config.log.stats_interval_ms),
            heartbeat_due: now,
            last_look: now,
            idle_at_work: None,
            poll_hangs: Duration::ZERO,
            paused_since: None,
            is_ready: false,
            is_stopping: false,
            is_heartbeat_failing: false,
            clock,
        }
    }

    /// From now on nothing is a stall: the drain has a limit of its own.
    pub(super) fn stopping(&mut self) {
        self.is_stopping = true;
    }

    /// One look. `Break` says why the process has to end.
    pub(super) fn look(&mut self) -> ControlFlow<String> {
        let now = self.clock.now();
        let reading = self.pipeline.shared().vitals.read(now);
        self.tell_ready(&reading, now);
        self.tell_intake(now);
        if now >= self.stats_due {
            self.stats_due = now + Duration::from_millis(self.config.log.stats_interval_ms);
            self.tell_stats(&reading, now);
            self.pipeline.summarise_clients();
        }
        let stalled = self.stalled(&reading, now);
        if now >= self.heartbeat_due {
            self.heartbeat_due = now + HEARTBEAT_EVERY;
            self.beat(&reading, stalled.as_ref());
        }
        let limit = Duration::from_millis(self.config.health.stall_timeout_ms);
        match stalled {
            Some(stall) if stall.lasts >= limit && !self.is_stopping => {
                ControlFlow::Break(self.tell_stalled(&stall, limit))
            }
            Some(_) | None => ControlFlow::Continue(()),
        }
    }

    /// The last `stats` of the process.
    pub(super) fn finish(&mut self) {
        let now = self.clock.now();
        let reading = self.pipeline.shared().vitals.read(now);
        self.tell_stats(&reading, now);
        self.pipeline.finish_summaries();
        // Nobody is ready or alive any more; a file that cannot be removed grows stale.
        let _ = std::fs::remove_file(&self.config.health.file);
    }

    fn tell_ready(&mut self, reading: &Reading, now: Instant) {
        let is_ready = self.is_ready_now(reading);
        if is_ready == self.is_ready {
            return;
        }
        self.is_ready = is_ready;
        if is_ready {
            let took_ms = millis(now.saturating_duration_since(self.started));
            BecameReady { assigned: reading.serving as u64, took_ms }.emit();
        } else {
            BecameUnready { cause: self.unready_cause(reading) }.emit();
        }
    }

    /// A spare without partitions is told of no loss when the group puts it out, so the group is asked, too.
    fn is_ready_now(&self, reading: &Reading) -> bool {
        let settle = Duration::from_millis(self.config.health.ready_settle_ms);
        reading.is_ready(settle) && !self.is_stopping && self.pipeline.is_member()
    }

    fn unready_cause(&self, reading: &Reading) -> &'static str {
        if self.is_stopping {
            "stopping"
        } else if reading.since_assigned.is_none() || !self.pipeline.is_member() {
            "not_joined"
        } else if reading.recovering > 0 {
            "recovering"
        } else if reading.revoking > 0 {
            "revoking"
        } else {
            "settling"
        }
    }

    fn tell_intake(&mut self, now: Instant) {
        let intake = &self.pipeline.shared().intake;
        let (held_bytes, limit_bytes) = (intake.held_bytes(), intake.limit_bytes());
        match (intake.has_room(), self.paused_since) {
            (false, None) => {
                self.paused_since = Some(now);
                IntakePaused { held_bytes, limit_bytes }.emit();
            }
            (true, Some(since)) => {
                self.paused_since = None;
                IntakeResumed { held_bytes, paused_ms: millis(now.saturating_duration_since(since)) }.emit();
            }
            (false, Some(_)) | (true, None) => {}
        }
    }

    fn tell_stats(&mut self, reading: &Reading, now: Instant) {
        let shared = self.pipeline.shared();
        let lags = shared.vitals.lags();
        for (partition, lag) in &lags {
            shared.stats.update_partition(partition.0, |level| level.lag = *lag);
        }
        let sample = Sample {
            unix_ms: self.clock.unix_ms(),
            phase: self.phase(reading),
            serving: reading.serving_partitions.iter().map(|partition| partition.0).collect(),
            recovering: reading.recovering_partitions.iter().map(|partition| partition.0).collect(),
            in_flight_limit_bytes: shared.intake.limit_bytes(),
            memory_rss_bytes: resident_bytes(),
            oldest_unix_ms: reading.oldest.and_then(|(_, head)| head.timestamp_ms),
        };
        self.window.close(now, &sample).emit();
    }

    fn beat(&mut self, reading: &Reading, stalled: Option<&Stall>) {
        let is_ready = self.is_ready_now(reading);
        let limit = Duration::from_millis(self.config.health.stall_timeout_ms);
        let is_live = stalled.is_none_or(|stall| stall.lasts < limit);
        let heartbeat = Heartbeat {
            written_unix_ms: self.clock.unix_ms(),
            pid: std::process::id(),
            ready: is_ready,
            ready_cause: if is_ready { "serving".to_owned() } else { self.unready_cause(reading).to_owned() },
            live: is_live,
            live_cause: self.phase(reading),
        };
        // Said once, not each second: a probe finds the old one stale, and nobody would know why.
        let failed = heartbeat.write(&self.config.health.file).err();
        if let Some(error) = &failed
            && !self.is_heartbeat_failing
        {
            HeartbeatUnwritable { problem: &error.to_string() }.emit();
        }
        self.is_heartbeat_failing = failed.is_some();
    }

    // ------------------------------------------------------------------------------------------------ the watchdog

    /// How long nothing has moved although there is something to do.
    fn stalled(&mut self, reading: &Reading, now: Instant) -> Option<Stall> {
        let blink = now.saturating_duration_since(self.last_look).min(LONGEST_BLINK);
        self.last_look = now;
        let since_turn = now.saturating_duration_since(self.pipeline.source_phase().read().turned);
        self.poll_hangs = (self.poll_hangs + blink).min(since_turn);
        if self.poll_hangs >= Duration::from_millis(self.config.health.stall_timeout_ms) {
            let waiting_for = "a call of the consumer".to_owned();
            return Some(Stall { phase: "poll", waiting_for, lasts: self.poll_hangs });
        }
        if !reading.has_work() {
            self.idle_at_work = None;
            return None;
        }
        let lasts = self.idle_at_work.map_or(Duration::ZERO, |idle| (idle + blink).min(reading.since_progress));
        self.idle_at_work = Some(lasts);
        let (phase, waiting_for) = self.where_it_stands(reading);
        Some(Stall { phase, waiting_for, lasts })
    }

    fn where_it_stands(&self, reading: &Reading) -> (&'static str, String) {
        let (step, since) = self.pipeline.commit_phase().get();
        let for_ms = millis(self.clock.now().saturating_duration_since(since));
        let is_decided = reading.oldest.is_none_or(|(_, head)| head.decided);
        if reading.recovering > 0 && reading.serving == 0 {
            ("restore", "the state, the dead letters or the input to be read".to_owned())
        } else if step != CommitStep::Idle || (reading.open_records > 0 && is_decided) {
            ("commit", format!("{step:?} for {for_ms} ms"))
        } else if reading.open_records > 0 {
            ("apply", "the entities of a batch to finish".to_owned())
        } else if reading.revoking > 0 {
            ("rebalance", "the group".to_owned())
        } else {
            ("poll", "records to arrive".to_owned())
        }
    }

    fn tell_stalled(&self, stall: &Stall, limit: Duration) -> String {
        let oldest = self.pipeline.shared().vitals.read(self.clock.now()).oldest;
        let (stalled_ms, limit_ms) = (millis(stall.lasts), millis(limit));
        ProgressStalled {
            phase: stall.phase,
            waiting_for: &stall.waiting_for,
            partition: oldest.map(|(partition, _)| partition.0),
            offset: oldest.map(|(_, head)| head.offset.0),
            stalled_ms,
            limit_ms,
        }
        .emit();
        format!(
            "no progress for {stalled_ms} ms in phase {}, waiting for {}; look at the brokers, and at the line before",
            stall.phase, stall.waiting_for
        )
    }

    fn phase(&self, reading: &Reading) -> String {
        let source = self.pipeline.source_phase().read().phase;
        let (step, _) = self.pipeline.commit_phase().get();
        let what = if self.is_stopping {
            "stopping"
        } else if reading.since_assigned.is_none() {
            "joining"
        } else if reading.recovering > 0 {
            "recovering"
        } else if source == Phase::Revoking {
            "rebalancing"
        } else {
            "serving"
        };
        format!("{what}, consumer {}, committer {step:?}", source.name())
    }
}

#[derive(Debug)]
struct Stall {
    phase: &'static str,
    waiting_for: String,
    lasts: Duration,
}

/// Resident memory of this process, in bytes; 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return 0 };
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}
