//! The wiring: builds the ports, starts threads and arbiters, and owns the order of start and of shutdown. The only
//! room below `cli` that names `service`, and the only one that knows what time it is.
//!
//! Start: signals, topics and guards, then the pipeline. Shutdown, on a signal: stop reading, let what is applied be
//! committed, leave the group, exit 0; all of it within `shutdown.drain_timeout_ms`. Whatever makes the process end
//! arrives as one [`ProcessEvent`] at the control loop, which is this room's main thread; the loop also writes the
//! heartbeat, watches for progress and logs `stats`.

pub mod client_events;
mod log_level;
pub mod monitor;
pub mod pipeline;
mod recoveries;

pub use crate::runtime::StopCause;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustix::time::{ClockId, Timespec, clock_gettime};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::app::client_events::ClientLog;
use crate::app::monitor::Monitor;
use crate::app::pipeline::{Pipeline, PipelineParts};
use crate::config::{Config, Effective};
use crate::engine::commit::StopReason;
use crate::engine::recovery::RecoveryRefusal;
use crate::engine::recovery::driver::ReadFailure;
use crate::entity::panicked_in_entity_code;
use crate::exit_code::ExitCode;
use crate::kafka::admin::access::ClientMessages;
use crate::kafka::admin::preflight::{StartRefusal, StartWarning};
use crate::kafka::admin::topics::{TopicInspector, Topics};
use crate::kafka::client::context::{ClientEvents, ClientRole, ReportingContext};
use crate::kafka::client::settings;
use crate::observability::log_events::{
    LogEvent, PreflightCheck, PreflightRefused, PreflightUnchecked, ProcessFailed, ProcessStarting, ProcessStopped,
    ProcessStopping, ProducerFenced, SecondSignal, StopSignal, TopicAwaited, TopicCreated, TopicsChecked, millis,
};
use crate::observability::logging::{
    Surroundings, {self},
};
use crate::ports::{Clock, SourceFailure};
use crate::service::Service;

/// How often the control loop looks at everything.
const LOOK: Duration = Duration::from_millis(250);
/// How often it looks while the process ends.
const LOOK_WHILE_ENDING: Duration = Duration::from_millis(10);
/// What may wait for the control loop: two signals and a few reasons to stop; more of them say nothing new.
const HAPPENINGS: usize = 64;
/// A process that has to end for a reason of its own leaves the group within this time, or without saying so.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// The time of this machine. The one place that asks for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine for the time")]
    fn now(&self) -> Instant {
        Instant::now()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine for the time")]
    fn unix_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn coarse_ms(&self) -> u64 {
        // Read from memory, without asking the hardware: as fine as the kernel's timer, 1 to 10 ms.
        #[cfg(target_os = "linux")]
        const COARSE: ClockId = ClockId::MonotonicCoarse;
        #[cfg(not(target_os = "linux"))]
        const COARSE: ClockId = ClockId::Monotonic;
        let Timespec { tv_sec, tv_nsec } = clock_gettime(COARSE);
        // Neither is negative, and thousandths of both fit for ages.
        (tv_sec * 1_000 + tv_nsec / 1_000_000).unsigned_abs()
    }
}

/// What reaches the control loop.
#[derive(Debug)]
pub enum ProcessEvent {
    /// The operating system asks the process to end.
    Signal(i32),
    /// The pipeline cannot go on.
    Stop(StopCause),
    /// A thread or an actor of the process is gone: a bug.
    Panicked,
    /// The topics were looked at.
    Topics(Box<Result<Topics, StartRefusal>>),
}

/// Runs the service until it is told to stop, and says how it ended.
#[must_use]
pub fn run(effective: &Effective) -> ExitCode {
    let config = &effective.config;
    let now_ms: logging::WallClock = Arc::new(|| SystemClock.unix_ms());
    let levels = match logging::install(&config.log, Arc::clone(&now_ms)) {
        Ok(levels) => levels,
        Err(error) => {
            let error = error.to_string();
            let exit = ExitCode::Config;
            let event = ProcessFailed { exit_code: i32::from(exit.code()), exit_name: exit.name(), error: &error };
            logging::emergency_line(now_ms, event);
            return exit;
        }
    };
    let clock = SystemClock;
    let started = clock.now();
    let (happenings, inbox) = bounded(HAPPENINGS);
    let panics = happenings.clone();
    // A full channel holds reasons enough to stop.
    logging::log_panics(panicked_in_entity_code, move || drop(panics.try_send(ProcessEvent::Panicked)), now_ms);
    let (hang_up, hangups) = bounded(1);
    let watched = log_level::start(effective, levels, hangups);
    let ended = match watched.and_then(|()| watch_signals(happenings.clone(), hang_up)) {
        Ok(()) => Process { config, file: effective.file.as_deref(), clock, happenings, inbox }.run(),
        Err(error) => Err(RunFailure::new(ExitCode::Unexpected, format!("signals cannot be watched: {error}"))),
    };
    match ended {
        Ok(drain) => {
            let exit = ExitCode::Done;
            let ran_ms = millis(clock.now().saturating_duration_since(started));
            ProcessStopped { exit_code: i32::from(exit.code()), ran_ms, drain_ms: millis(drain) }.emit();
            exit
        }
        Err(failure) => {
            failure.log();
            failure.exit
        }
    }
}

/// Why the process ends, and what it says about it.
#[derive(Debug)]
struct RunFailure {
    exit: ExitCode,
    error: String,
}

impl RunFailure {
    fn new(exit: ExitCode, error: impl Into<String>) -> RunFailure {
        RunFailure { exit, error: error.into() }
    }

    fn log(&self) {
        let exit_code = i32::from(self.exit.code());
        ProcessFailed { exit_code, exit_name: self.exit.name(), error: &self.error }.emit();
    }
}

/// SIGHUP asks for the log's level to be read again. On a terminal it says that the terminal has gone, and a process
/// that went on would do so unseen: there it ends the process as SIGTERM does.
fn watch_signals(happenings: Sender<ProcessEvent>, hang_up: Sender<()>) -> std::io::Result<()> {
    let on_terminal = Surroundings::of_stdout().terminal;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            // A full channel holds more signals than one needs.
            if signal == SIGHUP && !on_terminal {
                let _ = hang_up.try_send(());
            } else {
                let _ = happenings.try_send(ProcessEvent::Signal(signal));
            }
        }
    })?;
    Ok(())
}

struct Process<'a> {
    config: &'a Config,
    file: Option<&'a str>,
    clock: SystemClock,
    happenings: Sender<ProcessEvent>,
    inbox: Receiver<ProcessEvent>,
}

impl Process<'_> {
    /// From the first line of the log to the last but one. Returns how long draining took.
    fn run(&self) -> Result<Duration, RunFailure> {
        let kafka = &self.config.kafka;
        let instance = self.instance();
        ProcessStarting {
            version: env!("CARGO_PKG_VERSION"),
            instance: &instance,
            group: &kafka.group_id,
            transactional_id: &kafka.transactional_id(&instance),
            topic: &kafka.topic,
            config: self.file.unwrap_or("defaults and environment"),
        }
        .emit();
        settings::check(self.config, &instance)
            .map_err(|error| RunFailure::new(ExitCode::Config, error.to_string()))?;
        // One that a killed process left behind in the same place says nothing about this one.
        let _ = std::fs::remove_file(&self.config.health.file);
        let client_log = Arc::new(ClientLog::new(self.clock));
        let inspected = self.inspect_topics(&(Arc::clone(&client_log) as Arc<dyn ClientEvents>));
        if !matches!(inspected, Ok(Some(_))) {
            // Nobody sums up later what the clients repeated.
            client_log.finish();
        }
        let Some(topics) = inspected? else { return Ok(Duration::ZERO) };
        let stop = {
            let happenings = self.happenings.clone();
            // A full channel holds reasons enough already; the first one counts.
            Arc::new(move |stop| drop(happenings.try_send(ProcessEvent::Stop(stop))))
        };
        let pipeline = Pipeline::start(PipelineParts {
            config: self.config,
            instance: &instance,
            topics,
            entity: Arc::new(Service),
            clock: Arc::new(self.clock),
            client_log,
            stop,
            wrap: pipeline::unwrapped,
        })
        .map_err(|error| RunFailure::new(error.exit_code(), error.to_string()))?;
        self.watch(&pipeline)
    }

    /// How this process is called among its siblings.
    fn instance(&self) -> String {
        let host = gethostname::gethostname().to_string_lossy().into_owned();
        let pod_name = std::env::var("POD_NAME").ok();
        self.config.kafka.instance(pod_name.as_deref(), &host, std::process::id())
    }

    /// [`failure_of`], and the line of its own that being fenced has.
    fn failure_of(&self, stop: &StopCause) -> RunFailure {
        if let StopCause::Commit(StopReason::DuplicateInstance(cause)) = stop {
            let transactional_id = self.config.kafka.transactional_id(&self.instance());
            ProducerFenced { transactional_id: &transactional_id, cause }.emit();
        }
        failure_of(stop)
    }

    // -------------------------------------------------------------------------------------------------- the topics

    /// Looks at the topics on a thread of its own, so that a signal is heard meanwhile. `None`: told to stop.
    fn inspect_topics(&self, events: &Arc<dyn ClientEvents>) -> Result<Option<Topics>, RunFailure> {
        let began = self.clock.now();
        let is_over = Arc::new(AtomicBool::new(false));
        self.start_inspection(Arc::clone(events), Arc::clone(&is_over))?;
        // Ends by itself: every question of the inspection has a limit.
        match self.inbox.recv() {
            Ok(ProcessEvent::Topics(result)) => {
                let topics = result.map_err(|refusal| refused(&refusal))?;
                self.tell_topics(&topics, began);
                Ok(Some(topics))
            }
            Ok(ProcessEvent::Signal(signal)) => {
                is_over.store(true, Ordering::Relaxed);
                ProcessStopping { cause: stop_signal(signal), drain_timeout_ms: 0 }.emit();
                Ok(None)
            }
            Ok(ProcessEvent::Stop(stop)) => Err(self.failure_of(&stop)),
            Ok(ProcessEvent::Panicked) => Err(panicked()),
            Err(_) => Err(RunFailure::new(ExitCode::Unexpected, "the control loop lost its channel")),
        }
    }

    fn start_inspection(&self, events: Arc<dyn ClientEvents>, is_over: Arc<AtomicBool>) -> Result<(), RunFailure> {
        let config = self.config.clone();
        let (clock, happenings) = (self.clock, self.happenings.clone());
        let inspect = move || {
            let result = inspect(&config, &clock, events, &is_over);
            // Whoever was told to stop meanwhile does not wait for it.
            let _ = happenings.try_send(ProcessEvent::Topics(Box::new(result)));
        };
        let thread = thread::Builder::new().name("topics".to_owned()).spawn(inspect);
        thread
            .map(drop)
            .map_err(|error| RunFailure::new(ExitCode::Unexpected, format!("no thread can be started: {error}")))
    }

    fn tell_topics(&self, topics: &Topics, began: Instant) {
        let replication = topics.replication;
        for topic in &topics.created {
            TopicCreated { topic, partitions: topics.partitions, replication }.emit();
        }
        for StartWarning::Unchecked { topic, command } in &topics.warnings {
            let check = PreflightCheck::ConfigurationReadable;
            PreflightUnchecked { check, topic, acl: command }.emit();
        }
        let took_ms = millis(self.clock.now().saturating_duration_since(began));
        TopicsChecked { partitions: topics.partitions, took_ms }.emit();
    }

    // -------------------------------------------------------------------------------------------- the control loop

    /// However it ends: the last numbers are told, and the heartbeat goes with the process.
    fn watch(&self, pipeline: &Pipeline) -> Result<Duration, RunFailure> {
        let mut monitor = Monitor::new(self.config, pipeline, Arc::new(self.clock));
        let ended = self.control(pipeline, &mut monitor);
        monitor.finish();
        ended
    }

    fn control(&self, pipeline: &Pipeline, monitor: &mut Monitor) -> Result<Duration, RunFailure> {
        loop {
            match self.inbox.recv_timeout(LOOK) {
                Ok(ProcessEvent::Signal(signal)) => return self.drain(pipeline, monitor, signal),
                Ok(ProcessEvent::Stop(stop)) => {
                    let failure = self.failure_of(&stop);
                    self.leave(pipeline, LEAVE_LIMIT);
                    return Err(failure);
                }
                Ok(ProcessEvent::Panicked) => return Err(panicked()),
                Ok(ProcessEvent::Topics(_)) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(RunFailure::new(ExitCode::Unexpected, "the control loop lost its channel"));
                }
            }
            if let ControlFlow::Break(stalled) = monitor.look() {
                return Err(RunFailure::new(ExitCode::Stalled, stalled));
            }
            if pipeline.source_has_ended() {
                return Err(RunFailure::new(ExitCode::Unexpected, "the consumer's thread has ended by itself"));
            }
        }
    }

    /// A signal: stop reading, commit what is applied, leave the group.
    fn drain(&self, pipeline: &Pipeline, monitor: &mut Monitor, signal: i32) -> Result<Duration, RunFailure> {
        let began = self.clock.now();
        let limit = Duration::from_millis(self.config.shutdown.drain_timeout_ms);
        ProcessStopping { cause: stop_signal(signal), drain_timeout_ms: self.config.shutdown.drain_timeout_ms }.emit();
        monitor.stopping();
        pipeline.stop_ingest();
        let deadline = began + limit;
        let has_drained = self.wait_until(deadline, began, monitor, || pipeline.is_drained())?;
        let left = deadline.saturating_duration_since(self.clock.now()).max(LEAVE_LIMIT / 4);
        if has_drained {
            // Leaving keeps the actors busy with their end for as long as there are many of them.
            pipeline.finish_summaries();
        }
        pipeline.leave_group();
        let has_left = self.wait_until(self.clock.now() + left, began, monitor, || pipeline.source_has_ended())?;
        let drain = self.clock.now().saturating_duration_since(began);
        if has_drained && has_left {
            return Ok(drain);
        }
        let records = pipeline.open_records();
        let what = if has_drained {
            "the group could not be left cleanly".to_owned()
        } else {
            format!("{records} records that were read are not committed; their next owner reads them again")
        };
        Err(RunFailure::new(
            ExitCode::DrainTimedOut,
            format!("the drain took longer than {} ms: {what}", limit.as_millis()),
        ))
    }

    /// Waits for a condition; a second signal ends the wait and the process.
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
            match self.inbox.recv_timeout(LOOK_WHILE_ENDING) {
                Ok(ProcessEvent::Signal(signal)) => {
                    let stopping_ms = millis(self.clock.now().saturating_duration_since(began));
                    SecondSignal { signal: stop_signal(signal), stopping_ms }.emit();
                    return Err(RunFailure::new(ExitCode::SecondSignal, "a second signal ended the process at once"));
                }
                Ok(ProcessEvent::Stop(stop)) => return Err(self.failure_of(&stop)),
                Ok(ProcessEvent::Panicked) => return Err(panicked()),
                Ok(ProcessEvent::Topics(_)) | Err(_) => {}
            }
            // While it drains nothing is a stall: the drain has a limit of its own.
            let _ = monitor.look();
        }
    }

    fn leave(&self, pipeline: &Pipeline, limit: Duration) {
        pipeline.leave_group();
        let deadline = self.clock.now() + limit;
        while !pipeline.source_has_ended() && self.clock.now() < deadline {
            // Whatever else happens, the process ends already.
            let _ = self.inbox.recv_timeout(LOOK_WHILE_ENDING);
        }
    }
}

fn inspect(
    config: &Config,
    clock: &SystemClock,
    events: Arc<dyn ClientEvents>,
    is_over: &AtomicBool,
) -> Result<Topics, StartRefusal> {
    let heard = ClientMessages::on_the_way_to(events);
    let context = ReportingContext::new(config, ClientRole::Admin, Arc::clone(&heard) as Arc<dyn ClientEvents>);
    let inspector = TopicInspector::new(config, &context, clock)?;
    let mut told = Duration::ZERO;
    let mut inspected = inspector.inspect(&mut |waiting| {
        if waiting.waited >= told {
            told = waiting.waited + Duration::from_secs(5);
            TopicAwaited {
                topic: &waiting.topic,
                cause: &waiting_for(waiting.cause.as_deref(), &heard),
                waited_ms: millis(waiting.waited),
                limit_ms: millis(waiting.limit),
            }
            .emit();
        }
        if is_over.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if let Err(StartRefusal::BrokersUnreachable { cause, .. }) = &mut inspected {
        // The question's own error says only that no answer came.
        *cause = heard.last().unwrap_or_else(|| cause.clone());
    }
    inspected
}

/// Why the input topic is still awaited: what the client complained about, where the brokers do not answer.
fn waiting_for(unreachable: Option<&str>, heard: &ClientMessages) -> String {
    match unreachable {
        Some(cause) => heard.last().unwrap_or_else(|| cause.to_owned()),
        None => "the topic does not exist".to_owned(),
    }
}

fn refused(refusal: &StartRefusal) -> RunFailure {
    let error = refusal.to_string();
    if let Some(check) = refusal.check() {
        PreflightRefused { check, problem: &error }.emit();
    }
    let exit = match refusal {
        StartRefusal::BrokersUnreachable { .. } | StartRefusal::Broker { .. } => ExitCode::KafkaUnavailable,
        StartRefusal::InputMissing { .. }
        | StartRefusal::OutputMissing { .. }
        | StartRefusal::InputCompacted { .. }
        | StartRefusal::StateNotCompacted { .. }
        | StartRefusal::DlqCompacted { .. }
        | StartRefusal::PartitionsDiffer { .. }
        | StartRefusal::TombstonesTooShort { .. }
        | StartRefusal::RecordsTooSmall { .. }
        | StartRefusal::Unchecked { .. }
        | StartRefusal::Interrupted { .. } => ExitCode::TopicsRefused,
    };
    RunFailure::new(exit, error)
}

/// What is not committed is done again by the next owner, so nothing is lost by ending at once.
fn panicked() -> RunFailure {
    RunFailure::new(ExitCode::Unexpected, "a thread panicked; report the line before this one, it is a bug")
}

/// What a reason to stop means for whoever reads the log, and for whoever restarts the process.
fn failure_of(stop: &StopCause) -> RunFailure {
    match stop {
        StopCause::Commit(StopReason::DuplicateInstance(cause)) => RunFailure::new(
            ExitCode::DuplicateInstance,
            format!("another process uses this instance name ({cause}); give each process its own kafka.instance_name"),
        ),
        StopCause::Commit(StopReason::Refused { cause, record }) => {
            let which = match record {
                Some((partition, offset)) => format!("the outcome of partition {partition}, offset {offset}"),
                None => "what is to be written".to_owned(),
            };
            let remedy = "see to the permissions and the size limits of the state and the DLQ topic";
            RunFailure::new(ExitCode::WriteRefused, format!("the brokers refuse {which}: {cause}; {remedy}"))
        }
        StopCause::Commit(StopReason::TimedOutTooOften(cause)) => RunFailure::new(
            ExitCode::Stalled,
            format!(
                "one transaction after the other timed out ({cause}); look at the brokers, or raise kafka.transaction_timeout_ms"
            ),
        ),
        StopCause::Commit(StopReason::ProducerFatal(cause)) => {
            RunFailure::new(ExitCode::KafkaUnavailable, format!("the producer cannot go on: {cause}"))
        }
        StopCause::Commit(StopReason::OrderBroken(broken)) => {
            RunFailure::new(ExitCode::GuaranteeBroken, broken.to_string())
        }
        StopCause::Refused(refusal) => {
            let exit = match refusal {
                RecoveryRefusal::StateTooLarge { .. } => ExitCode::StateTooLarge,
                RecoveryRefusal::Expired { .. } => ExitCode::EventsExpired,
                RecoveryRefusal::ForeignState { .. }
                | RecoveryRefusal::OtherGroup { .. }
                | RecoveryRefusal::Recreated { .. } => ExitCode::TopicsRefused,
            };
            RunFailure::new(exit, refusal.to_string())
        }
        StopCause::Unreadable(failure) => {
            let exit = match failure {
                ReadFailure::Hanging { .. } => ExitCode::HangingTransaction,
                ReadFailure::Cancelled | ReadFailure::Denied(_) | ReadFailure::Kafka(_) => ExitCode::KafkaUnavailable,
            };
            RunFailure::new(exit, failure.to_string())
        }
        StopCause::Source(failure) => {
            let exit = match failure {
                SourceFailure::InstanceReplaced(_) => ExitCode::DuplicateInstance,
                SourceFailure::PartitionsChanged { .. } | SourceFailure::Recreated { .. } => ExitCode::TopicsRefused,
                SourceFailure::OrderBroken { .. } => ExitCode::GuaranteeBroken,
                SourceFailure::Fatal(_) => ExitCode::KafkaUnavailable,
            };
            RunFailure::new(exit, failure.to_string())
        }
        StopCause::StateTooLarge { held_bytes, limit_bytes } => RunFailure::new(
            ExitCode::StateTooLarge,
            format!(
                "the entities take {held_bytes} bytes, limits.max_state_bytes is {limit_bytes}; raise it, or run more pods"
            ),
        ),
    }
}

fn stop_signal(signal: i32) -> StopSignal {
    match signal {
        SIGINT => StopSignal::Sigint,
        SIGHUP => StopSignal::Sighup,
        _ => StopSignal::Sigterm,
    }
}
