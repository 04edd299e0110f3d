//! Owns a run of the service: builds the ports, starts threads and arbiters, and orders start and stop.
//!
//! Start: signals, preflight checks of the topics, then the pipeline. Stop, on a signal: read no more, commit the
//! outcomes, leave the group, exit with code 0, all within `shutdown.drain_timeout_ms`. Every reason to end arrives as
//! a `ProcessEvent` at the control loop on the main thread. The loop also runs the [`Monitor`]: heartbeat, watchdog,
//! `stats`.
//!
//! Architecture invariant: below the tools, only this module imports `service` and reads the clock.

pub mod client_events;
pub mod credentials;
mod log_level;
pub mod monitor;
pub mod pipeline;
mod recovery_threads;
mod run_failure;
mod signals;
mod system_clock;
mod threads;
mod topic_inspection;
mod topic_watch_thread;
pub mod transaction_ender;

pub use crate::app::system_clock::SystemClock;
pub use crate::runtime::StopCause;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::app::client_events::ClientLog;
use crate::app::monitor::Monitor;
use crate::app::pipeline::{Pipeline, PipelineParts};
use crate::app::run_failure::RunFailure;
use crate::app::topic_inspection::InspectionResult;
use crate::config::{Config, Effective};
use crate::engine::commit::StopReason;
use crate::entity::panicked_in_entity_code;
use crate::exit_code::ExitCode;
use crate::kafka::admin::topics::Topics;
use crate::kafka::client::context::ClientEvents;
use crate::kafka::client::settings;
use crate::observability::heartbeat::{HeartbeatFile, HeartbeatWriter};
use crate::observability::log_events::{
    LogEvent, PreflightRefused, ProcessStarting, ProcessStopped, ProcessStopping, ProducerFenced, SecondSignal,
    StopSignal, StopTrigger, TopicChanged, millis,
};
use crate::observability::logging;
use crate::ports::Clock;
use crate::service::Service;

/// How often the control loop runs the monitor.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
const CHECK_INTERVAL_WHILE_ENDING: Duration = Duration::from_millis(10);
/// Events that wait for the control loop: two signals and a few reasons to stop. Further ones are dropped, because the
/// process ends for the first.
const MAX_EVENTS: usize = 64;
/// Time to leave the group if the process ends for another reason than a signal.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

enum ProcessEvent {
    /// The operating system asks the process to end.
    Signal(StopSignal),
    /// The pipeline cannot continue.
    Stop(StopCause),
    /// Files with certificates or passwords have changed.
    CredentialsChanged,
    /// A thread or an actor panicked outside of entity code: a bug.
    Panicked,
    /// The preflight checks of the topics have ended.
    Topics(Box<InspectionResult>),
}

/// Runs the service to its end. Returns how it ended, after logging it.
pub fn run(effective: &Effective) -> ExitCode {
    let config = &effective.config;
    let now_ms: logging::WallClock = Arc::new(|| SystemClock.unix_ms());
    if let Err(error) = threads::check(config, pipeline::entity_threads(config)) {
        let failure = RunFailure::new(ExitCode::Config, error.to_string());
        logging::emergency_line(now_ms, failure.event());
        return failure.exit;
    }
    // Dropped at the end of this function, also by a panic: then the last lines are written.
    let (levels, _log) = match logging::install(&config.log, Arc::clone(&now_ms)) {
        Ok(installed) => installed,
        Err(error) => {
            let failure = RunFailure::from(&error);
            logging::emergency_line(now_ms, failure.event());
            return failure.exit;
        }
    };
    let clock = SystemClock;
    let started = clock.now();
    let (events, inbox) = bounded(MAX_EVENTS);
    let panics = events.clone();
    logging::log_panics(panicked_in_entity_code, move || drop(panics.try_send(ProcessEvent::Panicked)), now_ms);
    let (hang_up, hangups) = bounded(1);
    let watching = log_level::start(effective, levels, hangups).and_then(|()| signals::watch(events.clone(), hang_up));
    let ended = match watching {
        Ok(()) => {
            let instance = instance_name(config);
            Process { effective, config, instance, clock, events, inbox }.run()
        }
        Err(error) => Err(RunFailure::no_thread("signals", &error)),
    };
    match ended {
        Ok(CleanStop { trigger, drain }) => {
            let exit = match trigger {
                StopTrigger::CredentialsChanged => ExitCode::CredentialsChanged,
                StopTrigger::Sigterm | StopTrigger::Sigint | StopTrigger::Sighup => ExitCode::Done,
            };
            let ran_ms = millis(clock.now().saturating_duration_since(started));
            ProcessStopped { exit_code: i32::from(exit.code()), ran_ms, drain_ms: millis(drain) }.emit();
            exit
        }
        Err(failure) => {
            failure.event().emit();
            failure.exit
        }
    }
}

/// What came first at the start.
enum Inspected {
    Topics(Box<Topics>),
    /// Something stopped the process before its topics were found.
    Interrupted(StopTrigger),
}

/// A run that ended without a failure.
struct CleanStop {
    trigger: StopTrigger,
    /// How long draining took.
    drain: Duration,
}

/// Returns the name of this host; in a container, that of the container or pod.
pub fn host_name() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

fn instance_name(config: &Config) -> String {
    let pod_name = std::env::var("POD_NAME").ok();
    // The keys of the standard library's hash maps are random, and its only source of randomness.
    let random = RandomState::new().build_hasher().finish() as u32;
    config.kafka.instance(pod_name.as_deref(), &host_name(), std::process::id(), random)
}

struct Process<'a> {
    effective: &'a Effective,
    config: &'a Config,
    /// Its name within its group.
    instance: String,
    clock: SystemClock,
    events: Sender<ProcessEvent>,
    inbox: Receiver<ProcessEvent>,
}

impl Process<'_> {
    fn run(&self) -> Result<CleanStop, RunFailure> {
        let kafka = &self.config.kafka;
        let instance = self.instance.clone();
        ProcessStarting {
            version: env!("CARGO_PKG_VERSION"),
            instance: &instance,
            group: &kafka.group_id,
            transactional_id: &kafka.transactional_id(&instance),
            topic: &kafka.topic,
            config: self.effective.file.as_deref().unwrap_or("defaults and environment"),
        }
        .emit();
        settings::check(self.config, &instance)
            .map_err(|error| RunFailure::new(ExitCode::Config, error.to_string()))?;
        let changed = self.events.clone();
        // If the channel is full, the process is ending.
        credentials::start(self.effective, &instance, move || drop(changed.try_send(ProcessEvent::CredentialsChanged)))
            .map_err(|error| RunFailure::no_thread("changed certificates and passwords", &error))?;
        let heartbeat_file = HeartbeatFile::claim(&self.config.health.file, self.heartbeat_writer(&instance));
        let client_log = Arc::new(ClientLog::new(self.clock));
        let inspected = self.inspect_topics(Arc::<ClientLog>::clone(&client_log));
        if !matches!(inspected, Ok(Inspected::Topics(_))) {
            // There will be no monitor to log the summaries.
            client_log.finish();
        }
        let topics = match inspected? {
            Inspected::Topics(topics) => *topics,
            Inspected::Interrupted(trigger) => return Ok(CleanStop { trigger, drain: Duration::ZERO }),
        };
        let events = self.events.clone();
        let pipeline = Pipeline::start(PipelineParts {
            config: self.config,
            instance: &instance,
            topics,
            entity: Arc::new(Service),
            clock: Arc::new(self.clock),
            client_log,
            stop: Arc::new(move |cause| drop(events.try_send(ProcessEvent::Stop(cause)))),
            wrap: pipeline::unwrapped,
        })
        .map_err(|error| RunFailure::new(ExitCode::Config, error.to_string()))?;
        let mut monitor = Monitor::new(self.config, &pipeline, Arc::new(self.clock), heartbeat_file);
        let ended = self.control(&pipeline, &mut monitor);
        // However it ended: logs the last stats, and removes the heartbeat.
        monitor.finish();
        ended
    }

    fn heartbeat_writer(&self, instance: &str) -> HeartbeatWriter {
        HeartbeatWriter {
            pid: std::process::id(),
            host: host_name(),
            instance: instance.to_owned(),
            started_unix_ms: self.clock.unix_ms(),
        }
    }

    /// The pipeline cannot continue. Logs the event of its own that a fenced producer has.
    fn stopped(&self, cause: &StopCause) -> RunFailure {
        if let StopCause::Commit(StopReason::DuplicateInstance(cause)) = cause {
            let transactional_id = self.config.kafka.transactional_id(&self.instance);
            ProducerFenced { transactional_id: &transactional_id, cause }.emit();
        }
        if let StopCause::TopicChanged(change) = cause {
            TopicChanged { topic: &change.topic, problem: &change.to_string() }.emit();
        }
        let failure = RunFailure::from(cause);
        if let Some(check) = run_failure::late_check(cause) {
            PreflightRefused { check, problem: &failure.error }.emit();
        }
        failure
    }

    fn inspect_topics(&self, client_events: Arc<dyn ClientEvents>) -> Result<Inspected, RunFailure> {
        let began = self.clock.now();
        let events = self.events.clone();
        // If the process is ending, nothing receives the result.
        let done = move |result| drop(events.try_send(ProcessEvent::Topics(Box::new(result))));
        let is_interrupted = topic_inspection::start(self.config, self.clock, client_events, done)
            .map_err(|error| RunFailure::no_thread("the preflight checks", &error))?;
        let interrupt = |cause: StopTrigger| {
            is_interrupted.store(true, Ordering::Relaxed);
            ProcessStopping { cause, drain_timeout_ms: 0 }.emit();
            Inspected::Interrupted(cause)
        };
        match self.inbox.recv() {
            Ok(ProcessEvent::Topics(result)) => {
                topic_inspection::log(&result, self.clock.now().saturating_duration_since(began));
                result.map(|topics| Inspected::Topics(Box::new(topics))).map_err(|refusal| RunFailure::from(&refusal))
            }
            Ok(ProcessEvent::Signal(signal)) => Ok(interrupt(signal.into())),
            Ok(ProcessEvent::CredentialsChanged) => Ok(interrupt(StopTrigger::CredentialsChanged)),
            Ok(ProcessEvent::Stop(cause)) => Err(self.stopped(&cause)),
            Ok(ProcessEvent::Panicked) => Err(RunFailure::panicked()),
            Err(_) => Err(RunFailure::channel_closed()),
        }
    }

    fn control(&self, pipeline: &Pipeline, monitor: &mut Monitor) -> Result<CleanStop, RunFailure> {
        loop {
            match self.inbox.recv_timeout(CHECK_INTERVAL) {
                Ok(ProcessEvent::Signal(signal)) => return self.drain(pipeline, monitor, signal.into()),
                Ok(ProcessEvent::CredentialsChanged) => {
                    return self.drain(pipeline, monitor, StopTrigger::CredentialsChanged);
                }
                Ok(ProcessEvent::Stop(stop)) => {
                    let failure = self.stopped(&stop);
                    self.leave_group(pipeline);
                    return Err(failure);
                }
                Ok(ProcessEvent::Panicked) => return Err(RunFailure::panicked()),
                Ok(ProcessEvent::Topics(_)) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(RunFailure::channel_closed()),
            }
            if let ControlFlow::Break(stalled) = monitor.check() {
                return Err(RunFailure::new(ExitCode::Stalled, stalled));
            }
            if pipeline.source_has_ended() {
                return Err(RunFailure::new(ExitCode::Unexpected, "the consumer's thread has ended by itself"));
            }
        }
    }

    /// Stops reading, commits the outcomes, and leaves the group.
    fn drain(&self, pipeline: &Pipeline, monitor: &mut Monitor, trigger: StopTrigger) -> Result<CleanStop, RunFailure> {
        let began = self.clock.now();
        let limit = Duration::from_millis(self.config.shutdown.drain_timeout_ms);
        ProcessStopping { cause: trigger, drain_timeout_ms: self.config.shutdown.drain_timeout_ms }.emit();
        monitor.stopping();
        pipeline.stop_ingest();
        let deadline = began + limit;
        let has_drained = self.wait_until(deadline, began, monitor, || pipeline.is_drained())?;
        let left = deadline.saturating_duration_since(self.clock.now()).max(LEAVE_LIMIT / 4);
        if has_drained {
            // Before leaving: then the actors of all entities end, which keeps the actors' thread busy.
            pipeline.finish_summaries();
        }
        pipeline.leave_group();
        let has_left = self.wait_until(self.clock.now() + left, began, monitor, || pipeline.source_has_ended())?;
        let drain = self.clock.now().saturating_duration_since(began);
        if has_drained && has_left {
            return Ok(CleanStop { trigger, drain });
        }
        let unfinished = if has_drained {
            "the group could not be left cleanly".to_owned()
        } else {
            let records = pipeline.open_records();
            format!("{records} records that were read are not committed; their next owner reads them again")
        };
        let error = format!("the drain took longer than {} ms: {unfinished}", limit.as_millis());
        Err(RunFailure::new(ExitCode::DrainTimedOut, error))
    }

    /// Waits for a condition. A second signal ends the wait and the process.
    fn wait_until(
        &self,
        deadline: Instant,
        began: Instant,
        monitor: &mut Monitor,
        condition: impl Fn() -> bool,
    ) -> Result<bool, RunFailure> {
        loop {
            if condition() {
                return Ok(true);
            }
            if self.clock.now() >= deadline {
                return Ok(false);
            }
            match self.inbox.recv_timeout(CHECK_INTERVAL_WHILE_ENDING) {
                Ok(ProcessEvent::Signal(signal)) => {
                    let stopping_ms = millis(self.clock.now().saturating_duration_since(began));
                    SecondSignal { signal, stopping_ms }.emit();
                    return Err(RunFailure::new(ExitCode::SecondSignal, "a second signal ended the process at once"));
                }
                Ok(ProcessEvent::Stop(stop)) => return Err(self.stopped(&stop)),
                Ok(ProcessEvent::Panicked) => return Err(RunFailure::panicked()),
                // The process stops already.
                Ok(ProcessEvent::Topics(_) | ProcessEvent::CredentialsChanged) | Err(_) => {}
            }
            // A drain is no stall: it has a limit of its own.
            let _ = monitor.check();
        }
    }

    fn leave_group(&self, pipeline: &Pipeline) {
        pipeline.leave_group();
        let deadline = self.clock.now() + LEAVE_LIMIT;
        while !pipeline.source_has_ended() && self.clock.now() < deadline {
            // The process ends already, whatever the event is.
            let _ = self.inbox.recv_timeout(CHECK_INTERVAL_WHILE_ENDING);
        }
    }
}
