//! Builds the pipeline on Kafka: consumer, committer, recoveries and the actors between them. Generic over the kind of
//! entity, so that tests and the try-out run the very same wiring.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter, System};
use crossbeam_channel::bounded;

use crate::app::client_events::ClientLog;
use crate::app::recoveries::{RecoveryParts, RecoveryThreads};
use crate::config::{Config, LogConfig, LogKeys, OnExpired};
use crate::engine::budget::Budget;
use crate::engine::commit::transaction::OffsetMetadata;
use crate::engine::ownership::Ownership;
use crate::engine::{commit, recovery};
use crate::entity::Entity;
use crate::kafka::admin::topics::Topics;
use crate::kafka::client::context::{ClientEvents, ClientRole, ReportingContext};
use crate::kafka::client::settings::{self, Isolation, ProducerIdentity, ReaderClientSettings};
use crate::kafka::consumer::event_source::{ConnectedSource, KafkaSource, SourceHandle, SourceParts, connect};
use crate::kafka::consumer::membership::{GroupView, Membership, membership_of};
use crate::kafka::consumer::poll_phase::PhaseWatch;
use crate::kafka::consumer::rebalance::SourceConsumer;
use crate::kafka::reader::partition_reader::ReaderSettings;
use crate::kafka::transactions::commit_thread::{CommitClients, CommitPhase, CommitSettings, CommitThread};
use crate::kafka::transactions::transaction;
use crate::observability::log_events::KeyPolicy;
use crate::observability::stats::Stats;
use crate::observability::status::Status;
use crate::ports::{Clock, Transactions};
use crate::runtime::committer::{CommitActor, LogSummaries};
use crate::runtime::ingest::{IngestActor, IngestParts, IngestSink, LeaveGroup, StopIngest};
use crate::runtime::{OpenBatchCount, Shared, StopCause, ingest};

/// How long the actors may take to start.
const START_LIMIT: Duration = Duration::from_secs(30);
/// A slow entity keeps fewer others waiting the more threads there are, and more than cores cost nothing measurable.
const ENTITY_THREADS_PER_CORE: usize = 2;

/// How long the committer may take to sum up when the process ends.
const SUM_UP_LIMIT: Duration = Duration::from_secs(1);

/// Called once the pipeline cannot go on.
pub type OnStop = Arc<dyn Fn(StopCause) + Send + Sync>;

/// What a pipeline is started with.
pub struct PipelineParts<'a, E: Entity> {
    /// Everything that can be configured.
    pub config: &'a Config,
    /// Names this process among its siblings.
    pub instance: &'a str,
    /// What is known of the topics.
    pub topics: Topics,
    /// The kind of entity.
    pub entity: Arc<E>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Hears what the clients say.
    pub events: Arc<ClientLog>,
    /// Called once the pipeline cannot go on.
    pub stop: OnStop,
    /// Wraps the transactions; the marks that they leave are given, too. [`plain`] leaves them as they are.
    pub wrap: fn(CommitThread, OffsetMetadata) -> Box<dyn Transactions>,
}

/// Transactions as they are.
#[must_use]
pub fn plain(transactions: CommitThread, _: OffsetMetadata) -> Box<dyn Transactions> {
    Box::new(transactions)
}

/// The running pipeline, as the control loop sees it.
pub struct Pipeline {
    /// StopCause reading, leave.
    commands: Box<dyn Commands>,
    committer: Addr<CommitActor>,
    source: SourceHandle,
    source_phase: Arc<PhaseWatch>,
    commit_phase: Arc<CommitPhase>,
    shared: Shared,
    events: Arc<ClientLog>,
}

/// The ingest actor, whatever kind of entity it serves.
trait Commands: Send {
    fn stop_intake(&self);
    fn leave(&self);
}

impl<E: Entity> Commands for Addr<IngestActor<E>> {
    fn stop_intake(&self) {
        crate::runtime::post(self, StopIngest);
    }

    fn leave(&self) {
        crate::runtime::post(self, LeaveGroup);
    }
}

impl Pipeline {
    /// Starts everything. The first transaction's producer and the consumer connect on their own threads.
    ///
    /// # Errors
    /// What librdkafka or the operating system refused, and what to do.
    pub fn start<E: Entity>(parts: PipelineParts<'_, E>) -> Result<Pipeline, String> {
        let PipelineParts { config, instance, topics, entity, clock, events, stop, wrap } = parts;
        let shared = Shared {
            stats: Arc::new(Stats::new()),
            status: Arc::new(Status::new(clock.now())),
            in_flight: Budget::new(in_flight_bytes(config)),
            open_batches: OpenBatchCount::default(),
            passivated: Budget::new(config.limits.max_state_bytes),
            keys: Arc::new(key_policy(&config.log)),
            clock,
            stop,
        };
        events.report_to(Arc::clone(&shared.status));
        let builder = Builder { config, instance, topics, ownership: Arc::new(Ownership::new()), shared, events };
        builder.build(entity, wrap)
    }

    /// Stops reading; what is read is worked off and committed.
    pub fn stop_intake(&self) {
        self.commands.stop_intake();
    }

    /// Leaves the group cleanly.
    pub fn leave(&self) {
        self.commands.leave();
    }

    /// Whether nothing is read and not committed.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.open_records() == 0 && self.shared.in_flight.held_bytes() == 0
    }

    /// Records read and not committed.
    #[must_use]
    pub fn open_records(&self) -> u64 {
        self.shared.status.read(self.shared.clock.now()).open_records
    }

    /// Whether the group was left, or the consumer's thread has failed.
    #[must_use]
    pub fn source_has_ended(&self) -> bool {
        self.source.is_finished()
    }

    /// Why the process is no member of its group; `None` where it is one. Not to be asked behind [`Pipeline::leave`]: the
    /// client would not answer any more.
    #[must_use]
    pub fn outside(&self) -> Option<&'static str> {
        match membership_of(&*self.source.consumer()) {
            Membership::Member(_) => None,
            Membership::NotAMember(why) => Some(why),
        }
    }

    /// Whether records are taken: both bytes and batches are bounded.
    #[must_use]
    pub fn takes_records(&self) -> bool {
        self.shared.takes_records()
    }

    /// What all actors share.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What the poll thread is doing.
    #[must_use]
    pub fn source_phase(&self) -> &PhaseWatch {
        &self.source_phase
    }

    /// What the commit thread is doing.
    #[must_use]
    pub fn commit_phase(&self) -> &CommitPhase {
        &self.commit_phase
    }

    /// Sums up what the clients repeated.
    pub fn summarise_clients(&self) {
        self.events.summarise();
    }

    /// Sums up whatever repeated and was not told yet, for the end of the process. A committer that does not answer is
    /// not waited for any longer than a moment.
    pub fn finish_summaries(&self) {
        let (done, is_done) = bounded(1);
        crate::runtime::post(&self.committer, LogSummaries(done));
        // Whether it was told or not, the process ends.
        let _ = is_done.recv_timeout(SUM_UP_LIMIT);
        self.events.finish();
    }
}

/// What is left of the in-flight budget once the client's prefetch is taken off.
fn in_flight_bytes(config: &Config) -> u64 {
    config.limits.max_in_flight_bytes.saturating_sub(settings::prefetch_bytes(config)).max(1)
}

/// How keys stand in the log. A hash that nobody can make shows none: the configuration has seen to a secret.
fn key_policy(log: &LogConfig) -> KeyPolicy {
    match (log.keys, &log.key_hash_secret) {
        (LogKeys::Plain, _) => KeyPolicy::Plain,
        (LogKeys::Hashed, Some(secret)) => KeyPolicy::hashed(secret.reveal().as_bytes()),
        (LogKeys::Hashed, None) | (LogKeys::Omitted, _) => KeyPolicy::Omitted,
    }
}

struct Builder<'a> {
    config: &'a Config,
    instance: &'a str,
    topics: Topics,
    ownership: Arc<Ownership>,
    shared: Shared,
    events: Arc<ClientLog>,
}

impl Builder<'_> {
    fn build<E: Entity>(
        self,
        entity: Arc<E>,
        wrap: fn(CommitThread, OffsetMetadata) -> Box<dyn Transactions>,
    ) -> Result<Pipeline, String> {
        let (commands, source) = connect(self.config, self.source_parts()).map_err(|error| error.to_string())?;
        let mark = OffsetMetadata::new(format!("{}#{:x}", self.instance, self.shared.clock.unix_ms()));
        let commit_thread = self.commit_thread(source.consumer(), &mark)?;
        let commit_phase = commit_thread.phase();
        let transactions = wrap(commit_thread, mark.clone());
        let recoveries = self.recoveries(Arc::clone(&entity))?;
        let commit_settings = commit::GroupCommitSettings {
            max_transaction_bytes: self.config.limits.max_transaction_bytes,
            mark,
            rest_per_partition: transaction::MARKER_WRITTEN_WITHIN,
        };
        let parts = ActorWiring {
            config: self.config.clone(),
            ownership: self.ownership,
            shared: self.shared.clone(),
            commands,
            source,
            commit_settings,
            transactions,
            recoveries,
            entity,
        };
        let (ingest, committer, source) = start_actors(parts)?;
        let source_phase = source.phase();
        Ok(Pipeline {
            commands: Box::new(ingest),
            committer,
            source,
            source_phase,
            commit_phase,
            shared: self.shared,
            events: self.events,
        })
    }

    fn context(&self, role: ClientRole) -> ReportingContext {
        ReportingContext::new(self.config, role, Arc::clone(&self.events) as Arc<dyn ClientEvents>)
    }

    fn source_parts(&self) -> SourceParts {
        SourceParts {
            instance: self.instance.to_owned(),
            partition_count: self.topics.partitions,
            ownership: Arc::clone(&self.ownership),
            clock: Arc::clone(&self.shared.clock),
            events: Arc::clone(&self.events) as Arc<dyn ClientEvents>,
        }
    }

    fn commit_thread(&self, consumer: Arc<SourceConsumer>, mark: &OffsetMetadata) -> Result<CommitThread, String> {
        let kafka = &self.config.kafka;
        let transactional_id = kafka.transactional_id(self.instance);
        let timeout = Duration::from_millis(kafka.transaction_timeout_ms);
        let identity = ProducerIdentity { transactional_id: &transactional_id, client_id: &transactional_id };
        let clients = CommitClients {
            producer: settings::transactional_producer(self.config, identity, self.topics.max_batch_bytes),
            asker: settings::reader(self.config, Isolation::Committed),
        };
        let settings = CommitSettings {
            topic: kafka.topic.clone(),
            state_topic: kafka.state_topic.clone(),
            dlq_topic: kafka.dlq_topic.clone(),
            group_id: kafka.group_id.clone(),
            transaction_timeout: timeout,
        };
        let group: GroupView = Arc::new(move || membership_of(&*consumer));
        let (ownership, clock) = (Arc::clone(&self.ownership), Arc::clone(&self.shared.clock));
        CommitThread::start(
            settings,
            clients,
            self.context(ClientRole::Producer),
            group,
            ownership,
            mark.clone(),
            clock,
        )
        .map_err(|error| format!("the commit thread cannot be started ({error}); raise the limit of threads"))
    }

    fn recoveries<E: Entity>(&self, entity: Arc<E>) -> Result<RecoveryThreads, String> {
        let (kafka, recovery, limits) = (&self.config.kafka, &self.config.recovery, &self.config.limits);
        let parts = RecoveryParts {
            entity,
            settings: recovery::RecoverySettings {
                topic: kafka.topic.clone(),
                group: kafka.group_id.clone(),
                look_back_records: recovery.look_back_records,
                verify_max_records: recovery.verify_max_records,
                adopt_group: recovery.adopt_group,
                stop_on_expired: recovery.on_expired == OnExpired::Stop,
                max_payload_bytes: limits.max_payload_bytes,
            },
            readers: ReaderClientSettings::new(self.config),
            reader_settings: ReaderSettings {
                input: kafka.topic.clone(),
                state: kafka.state_topic.clone(),
                dlq: kafka.dlq_topic.clone(),
                stall_limit: ReaderSettings::stall_limit_for(Duration::from_millis(kafka.transaction_timeout_ms)),
            },
            context: self.context(ClientRole::Reader),
            budget: Arc::clone(&self.shared.passivated),
            ownership: Arc::clone(&self.ownership),
            clock: Arc::clone(&self.shared.clock),
            status: Arc::clone(&self.shared.status),
        };
        let partitions = usize::try_from(self.topics.partitions).unwrap_or(usize::MAX);
        RecoveryThreads::start(parts, recovery.max_parallel_partitions.min(partitions))
            .map_err(|error| format!("the recovery threads cannot be started ({error}); raise the limit of threads"))
    }
}

struct ActorWiring<E: Entity> {
    config: Config,
    ownership: Arc<Ownership>,
    shared: Shared,
    commands: KafkaSource,
    source: ConnectedSource,
    commit_settings: commit::GroupCommitSettings,
    transactions: Box<dyn Transactions>,
    recoveries: RecoveryThreads,
    entity: Arc<E>,
}

type Started<E> = Result<(Addr<IngestActor<E>>, Addr<CommitActor>, SourceHandle), String>;

/// Ingest actor and committer share one thread; entities have arbiters of their own.
fn start_actors<E: Entity>(wiring: ActorWiring<E>) -> Started<E> {
    let (tell, told) = bounded::<Started<E>>(1);
    let run = move || {
        let system = System::new();
        system.block_on(async move {
            let started = wire(wiring);
            let has_started = started.is_ok();
            // Whoever waits gives up after a limit; then the process ends.
            let _ = tell.send(started);
            if has_started {
                std::future::pending::<()>().await;
            }
        });
    };
    thread::Builder::new()
        .name("actors".to_owned())
        .spawn(run)
        .map_err(|error| format!("the actors' thread cannot be started ({error}); raise the limit of threads"))?;
    told.recv_timeout(START_LIMIT).unwrap_or_else(|error| Err(format!("the actors did not start: {error}")))
}

fn wire<E: Entity>(wiring: ActorWiring<E>) -> Started<E> {
    let ActorWiring { config, ownership, shared, commands, source, entity, .. } = wiring;
    let committer = CommitActor::new(wiring.commit_settings, wiring.transactions, shared.clone()).start();
    let threads = match config.runtime.entity_threads {
        0 => ENTITY_THREADS_PER_CORE * thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let arbiters = (0..threads).map(|_| Arbiter::new().handle()).collect();
    let limits = &config.limits;
    let settings = ingest::IngestSettings {
        max_payload_bytes: limits.max_payload_bytes,
        max_transaction_bytes: limits.max_transaction_bytes,
        entity_idle: Duration::from_millis(limits.entity_idle_ms),
        max_active_entities: limits.max_active_entities,
        stop_on_expired: config.recovery.on_expired == OnExpired::Stop,
    };
    let ingest = IngestActor::new(IngestParts {
        entity,
        settings,
        shared: shared.clone(),
        ownership,
        source: Box::new(commands),
        recoveries: Box::new(wiring.recoveries),
        committer: committer.clone(),
        arbiters,
    })
    .start();
    let sink = IngestSink::new(ingest.clone(), shared);
    let source = source.run(Box::new(sink)).map_err(|error| error.to_string())?;
    Ok((ingest, committer, source))
}
