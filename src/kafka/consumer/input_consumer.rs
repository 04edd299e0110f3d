//! The consumer as a port: commands go in, events come out, and one thread does the work.
//!
//! Life cycle, in two steps, because the commit thread needs the consumer before the sink exists:
//!
//! 1. [`connect`] builds the consumer. It returns [`KafkaConsumer`], the port that the ingest actor commands, and
//!    [`ConnectedConsumer`], which is not subscribed yet.
//! 2. [`ConnectedConsumer::run`] subscribes, and starts the poll thread with the sink. It returns [`ConsumerHandle`], which
//!    joins the thread and shows its phase.
//!
//! Architecture invariant: only the poll thread polls the consumer.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use rdkafka::consumer::Consumer;

use crate::config::Config;
use crate::kafka::client::settings::SettingsError;
pub use crate::kafka::consumer::current_consumer::ConsumerParts;
use crate::kafka::consumer::current_consumer::CurrentConsumer;
use crate::kafka::consumer::poll_phase::PollPhaseWatch;
use crate::kafka::consumer::poll_thread::{PollCommand, PollThread};
use crate::kafka::consumer::rebalance::GroupConsumer;
use crate::ports::{ConsumerSink, InputConsumer};
use crate::record::{Epoch, Partition, Position};

/// Limit of commands that wait for the poll thread. The thread takes commands many times a second, so a sender that
/// finds the channel full waits for milliseconds. It cannot deadlock, because the thread never waits for a sink.
const MAX_WAITING_COMMANDS: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum ConsumerStartError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("the client refuses to subscribe to the input topic ({0}); check the [kafka] section of the configuration")]
    Subscription(String),
    #[error("the consumer's thread cannot be started ({0}); raise the limit of threads of this process")]
    Thread(std::io::Error),
}

/// The consumer as the ingest actor commands it. Dropping it leaves the group, as [`InputConsumer::leave`] does.
pub struct KafkaConsumer {
    commands: Sender<PollCommand>,
}

/// A consumer that is built, not subscribed, and not polled.
pub struct ConnectedConsumer {
    config: Config,
    parts: ConsumerParts,
    consumer: CurrentConsumer,
    commands: Receiver<PollCommand>,
    wake: Sender<PollCommand>,
}

pub struct ConsumerHandle {
    consumer: CurrentConsumer,
    phase: Arc<PollPhaseWatch>,
    thread: JoinHandle<()>,
}

/// Builds the consumer. Commands may be sent at once; they are carried out after [`ConnectedConsumer::run`].
///
/// # Errors
/// The client refuses the settings. Unreachable brokers are no error: the client keeps trying, and
/// reports it.
pub fn connect(
    config: &Config,
    parts: ConsumerParts,
) -> Result<(KafkaConsumer, ConnectedConsumer), ConsumerStartError> {
    let consumer = CurrentConsumer::new(parts.build(config)?);
    let (wake, commands) = bounded(MAX_WAITING_COMMANDS);
    let source = KafkaConsumer { commands: wake.clone() };
    Ok((source, ConnectedConsumer { config: config.clone(), parts, consumer, commands, wake }))
}

impl KafkaConsumer {
    fn command(&self, command: PollCommand) {
        // A thread that has ended has left the group, so the command has nothing to act on.
        drop(self.commands.send(command));
    }
}

impl InputConsumer for KafkaConsumer {
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

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        self.command(PollCommand::Leave);
    }
}

impl ConnectedConsumer {
    /// Returns the consumer, for the group's metadata.
    pub fn consumer(&self) -> CurrentConsumer {
        self.consumer.clone()
    }

    /// Subscribes to the input topic and starts the poll thread, which offers events to `sink`.
    ///
    /// # Errors
    /// The client refuses the subscription, or the operating system has no thread.
    pub fn run(self, sink: Box<dyn ConsumerSink>) -> Result<ConsumerHandle, ConsumerStartError> {
        let ConnectedConsumer { config, parts, consumer, commands, wake } = self;
        let refused = |error: rdkafka::error::KafkaError| ConsumerStartError::Subscription(error.to_string());
        consumer.get().subscribe(&[&config.kafka.topic]).map_err(refused)?;
        let phase = Arc::new(PollPhaseWatch::new(parts.clock.now()));
        let poll_thread = PollThread::new(&config, parts, consumer.clone(), commands, wake, Arc::clone(&phase), sink);
        let thread = thread::Builder::new()
            .name("consumer".to_owned())
            .spawn(move || poll_thread.run())
            .map_err(ConsumerStartError::Thread)?;
        Ok(ConsumerHandle { consumer, phase, thread })
    }
}

impl ConsumerHandle {
    /// Returns the consumer, for the group's metadata. The caller must not poll it, nor keep it.
    pub fn consumer(&self) -> Arc<GroupConsumer> {
        self.consumer.get()
    }

    pub fn phase(&self) -> Arc<PollPhaseWatch> {
        Arc::clone(&self.phase)
    }

    /// Returns whether the thread has ended, so that [`ConsumerHandle::join`] does not wait.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the poll thread, which ends after [`InputConsumer::leave`]. An error is the thread's panic.
    pub fn join(self) -> thread::Result<()> {
        self.thread.join()
    }
}
