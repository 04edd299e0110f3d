//! The consumer as the rest of the house sees it: commands in, events out, one thread behind it.
//!
//! [`KafkaSource`] is the port that the ingest actor commands. [`SourceHandle`] stays with whoever wires the process
//! up: it joins the thread, lends the consumer to the commit thread, and shows what the thread is doing. How the thread
//! works stands in `poll_thread`.
//!
//! Architecture invariant: nobody but the poll thread polls the consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{
    JoinHandle, {self},
};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use rdkafka::consumer::Consumer;

use crate::config::Config;
use crate::engine::ownership::Ownership;
use crate::kafka::client::context::{ClientEvents, ClientRole, ReportingContext};
use crate::kafka::client::settings::{
    SettingsError, {self},
};
use crate::kafka::consumer::poll_thread::{PollCommand, PollParts, PollThread};
use crate::kafka::consumer::rebalance::{SourceConsumer, SourceContext};
use crate::ports::{Clock, EventSource, SourceSink};
use crate::record::{Epoch, Partition, Position};

/// Commands that wait for the poll thread at most. It takes them many times a second, so a sender that finds the
/// channel full waits for milliseconds; it cannot wait for itself, because the thread never waits for a sink.
const MAX_WAITING_COMMANDS: usize = 1024;

/// Why the consumer could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartFailure {
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// What librdkafka said to the settings.
    #[error("the consumer cannot be created ({0}); check the [kafka] section of the configuration")]
    Client(String),
    /// The operating system gave no thread.
    #[error("the consumer's thread cannot be started ({0}); raise the limit of threads of this process")]
    Thread(std::io::Error),
}

/// What a source needs from the rest of the house.
pub struct SourceParts {
    /// Names this process among its siblings.
    pub instance: String,
    /// How many partitions the input has: more of them later is a reason to stop.
    pub partition_count: i32,
    /// Written by the poll thread, at the moment ownership begins or ends.
    pub ownership: Arc<Ownership>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Takes what the source has to say. Moved to the poll thread.
    pub sink: Box<dyn SourceSink>,
    /// Hears of errors, log lines and statistics.
    pub events: Arc<dyn ClientEvents>,
}

/// The consumer, as the ingest actor commands it. Dropping it leaves the group, as [`EventSource::leave`] does.
pub struct KafkaSource {
    commands: Sender<PollCommand>,
}

/// The consumer, as whoever wires the process up holds it.
pub struct SourceHandle {
    consumer: Arc<SourceConsumer>,
    phase: Arc<PhaseWatch>,
    thread: JoinHandle<()>,
}

impl KafkaSource {
    /// Creates the consumer, subscribes it to the input topic and starts the thread that polls it.
    ///
    /// # Errors
    /// See [`StartFailure`]. That brokers cannot be reached is none: the consumer goes on trying, and says so.
    pub fn start(config: &Config, parts: SourceParts) -> Result<(KafkaSource, SourceHandle), StartFailure> {
        let settings = settings::consumer(config, &parts.instance)?;
        let talking = ReportingContext::new(config, ClientRole::Consumer, Arc::clone(&parts.events));
        let context = SourceContext::new(talking, Arc::clone(&parts.ownership));
        let consumer: SourceConsumer =
            settings.create_with_context(context).map_err(|error| StartFailure::Client(error.to_string()))?;
        consumer.subscribe(&[&config.kafka.topic]).map_err(|error| StartFailure::Client(error.to_string()))?;

        let consumer = Arc::new(consumer);
        let phase = Arc::new(PhaseWatch::new(parts.clock.now()));
        let (commands, taken) = bounded(MAX_WAITING_COMMANDS);
        let wiring = PollParts {
            consumer: Arc::clone(&consumer),
            commands: taken,
            answers: commands.clone(),
            phase: Arc::clone(&phase),
        };
        let poll_thread = PollThread::new(config, parts, wiring);
        let thread = thread::Builder::new()
            .name("consumer".to_owned())
            .spawn(move || poll_thread.run())
            .map_err(StartFailure::Thread)?;
        Ok((KafkaSource { commands }, SourceHandle { consumer, phase, thread }))
    }

    fn command(&self, command: PollCommand) {
        // A thread that has ended takes no commands: it left the group, and whoever joins it knows why.
        drop(self.commands.send(command));
    }
}

impl EventSource for KafkaSource {
    fn start(&self, partition: Partition, epoch: Epoch, position: Position) {
        self.command(PollCommand::Start { partition, epoch, position });
    }

    fn hold(&self, partition: Partition) {
        self.command(PollCommand::Hold(partition));
    }

    fn leave(&self) {
        self.command(PollCommand::Leave);
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.command(PollCommand::Leave);
    }
}

impl SourceHandle {
    /// The consumer: the commit thread takes the group's metadata from it. To be polled by nobody.
    #[must_use]
    pub fn consumer(&self) -> Arc<SourceConsumer> {
        Arc::clone(&self.consumer)
    }

    /// What the poll thread is doing.
    #[must_use]
    pub fn phase(&self) -> Arc<PhaseWatch> {
        Arc::clone(&self.phase)
    }

    /// Whether the thread has ended, so that [`SourceHandle::join`] does not wait.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the poll thread, which ends after [`EventSource::leave`].
    ///
    /// # Errors
    /// What the thread panicked with.
    pub fn join(self) -> thread::Result<()> {
        self.thread.join()
    }
}

// ------------------------------------------------------------------------------------------------------------- phase

/// What the poll thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollPhase {
    /// Serves the group and takes records.
    Polling,
    /// Holds events that the sink has no room for.
    Offering,
    /// Waits for what is applied to be committed, before it gives partitions up.
    Revoking,
    /// Takes a partition to its position.
    Seeking,
    /// Leaves the group.
    Leaving,
    /// Is over.
    Ended,
}

impl PollPhase {
    const ALL: [PollPhase; 6] = [
        PollPhase::Polling,
        PollPhase::Offering,
        PollPhase::Revoking,
        PollPhase::Seeking,
        PollPhase::Leaving,
        PollPhase::Ended,
    ];

    /// The name in log lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PollPhase::Polling => "polling",
            PollPhase::Offering => "offering",
            PollPhase::Revoking => "revoking",
            PollPhase::Seeking => "seeking",
            PollPhase::Leaving => "leaving",
            PollPhase::Ended => "ended",
        }
    }
}

/// What the poll thread is doing, since when, and when it last came round: written by that thread alone, read by the
/// watchdog and by tests.
#[derive(Debug)]
pub struct PhaseWatch {
    origin: Instant,
    /// Milliseconds since the origin in the upper bits, the phase's index in the lower eight: one word, so that both
    /// are of the same moment.
    phase_since: AtomicU64,
    /// Milliseconds since the origin.
    turned: AtomicU64,
}

/// A reading of [`PhaseWatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PhaseReading {
    /// What the thread is doing.
    pub phase: PollPhase,
    /// Since when, without a pause.
    pub since: Instant,
    /// When the thread's loop last came round: long ago means that a call does not return.
    pub turned: Instant,
}

impl PhaseWatch {
    fn new(now: Instant) -> PhaseWatch {
        PhaseWatch { origin: now, phase_since: AtomicU64::new(0), turned: AtomicU64::new(0) }
    }

    /// Reads it.
    #[must_use]
    pub fn read(&self) -> PhaseReading {
        let phase_since = self.phase_since.load(Ordering::Relaxed);
        PhaseReading {
            phase: PollPhase::ALL[(phase_since & 0xff) as usize],
            since: self.origin + Duration::from_millis(phase_since >> 8),
            turned: self.origin + Duration::from_millis(self.turned.load(Ordering::Relaxed)),
        }
    }

    /// The thread came round, and finds itself in this phase.
    pub(super) fn turn(&self, phase: PollPhase, now: Instant) {
        let at_ms = u64::try_from(now.duration_since(self.origin).as_millis()).unwrap_or(u64::MAX >> 8);
        self.turned.store(at_ms, Ordering::Relaxed);
        if self.read().phase != phase {
            self.phase_since.store((at_ms << 8) | phase as u64, Ordering::Relaxed);
        }
    }
}
