//! Builds the pipeline on Kafka: consumer, commit thread, recovery threads, and the actors between them. Generic over
//! the entity, so that tests and the demo run the same pipeline as the service.
//!
//! Order of construction: the consumer, which the commit thread asks for the group's metadata; the commit and the
//! recovery threads; the actors, which command all three. Last the poll thread, which sends its events to the actors.

use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use actix::{Addr, Arbiter, Recipient, System};
use crossbeam_channel::bounded;

use crate::app::client_events::{ClientLog, PipelineClientEvents};
use crate::app::recovery_threads::{RecoveryParts, RecoveryThreads};
use crate::app::topic_watch_thread::{self, WatchParts};
use crate::app::transaction_ender::TransactionEnder;
use crate::config::{Config, LogConfig, LogKeys, OnExpired};
use crate::engine::dead_owners::DeadOwners;
use crate::engine::offset_metadata::OffsetMetadata;
use crate::engine::ownership::Ownership;
use crate::engine::recovery::RecoverySettings;
use crate::entity::{Entity, SizeLimits};
use crate::kafka::admin::topics::Topics;
use crate::kafka::client::context::{ClientEvents, ClientRole, ReportingContext};
use crate::kafka::client::settings::{self, Isolation, ProducerIdentity, ReaderClientSettings};
use crate::kafka::consumer::current_consumer::CurrentConsumer;
use crate::kafka::consumer::input_consumer::{ConsumerHandle, ConsumerParts, ConsumerStartError, connect};
use crate::kafka::consumer::membership::{GroupView, Membership, membership_of};
use crate::kafka::consumer::poll_phase::PollPhaseWatch;
use crate::kafka::reader::partition_reader::ReaderSettings;
use crate::kafka::transactions::commit_thread::{
    CommitClients, CommitGates, CommitPhaseWatch, CommitSettings, CommitThread,
};
use crate::kafka::transactions::dead_owner::KafkaOwnerRequests;
use crate::kafka::transactions::topic_looks::TopicLooks;
use crate::kafka::transactions::transaction;
use crate::observability::log_events::KeyPolicy;
use crate::ports::{Clock, Transactions};
use crate::runtime::assemble::{Actors, Ports, RuntimeSettings, assemble};
use crate::runtime::committer::{CommitActor, LogSummaries};
use crate::runtime::ingest::{LeaveGroup, StopIngest};
use crate::runtime::{MemoryLimits, OnStop, Shared, post, post_to};

/// What a record of the state topic has besides key and value: the framing of a record batch, and the headers except
/// for the trace context, which is left out if there is no room.
const SNAPSHOT_FRAME_BYTES: u64 = 2_048;
/// Kafka's default of `max.message.bytes`.
const DEFAULT_MAX_MESSAGE_BYTES: u64 = 1_048_588;
const START_LIMIT: Duration = Duration::from_secs(30);
/// With more threads a slow entity keeps fewer others waiting, and more threads than cores cost nothing measurable.
const ENTITY_THREADS_PER_CORE: usize = 2;
/// Time for the committer to log its summaries at the end of the process.
const SUMMARY_LIMIT: Duration = Duration::from_secs(1);

pub struct PipelineParts<'a, E: Entity> {
    pub config: &'a Config,
    pub instance: &'a str,
    pub topics: Topics,
    pub entity: Arc<E>,
    pub clock: Arc<dyn Clock>,
    pub client_log: Arc<ClientLog>,
    pub stop: OnStop,
    /// Wraps the commit thread, whose offset metadata is the second argument. [`unwrapped`] leaves it as it is.
    pub wrap: fn(CommitThread, OffsetMetadata) -> Box<dyn Transactions>,
}

pub fn unwrapped(transactions: CommitThread, _: OffsetMetadata) -> Box<dyn Transactions> {
    Box::new(transactions)
}

#[derive(Debug, thiserror::Error)]
pub enum PipelineStartError {
    #[error(transparent)]
    Consumer(#[from] ConsumerStartError),
    #[error(
        "the {name} cannot be started ({cause}); raise the limit of processes and threads, see \"Threads\" in docs/operating.md"
    )]
    Thread { name: &'static str, cause: io::Error },
    #[error("the actors did not start within {} s", START_LIMIT.as_secs())]
    ActorsTooSlow,
}

/// The running pipeline, as the control loop uses it.
pub struct Pipeline {
    stop_ingest: Recipient<StopIngest>,
    leave_group: Recipient<LeaveGroup>,
    committer: Addr<CommitActor>,
    source: ConsumerHandle,
    pub(super) source_phase: Arc<PollPhaseWatch>,
    pub(super) commit_phase: Arc<CommitPhaseWatch>,
    /// Partitions of the input, at the start.
    partitions: u64,
    shared: Shared,
    pub(super) client_log: Arc<ClientLog>,
}

impl Pipeline {
    /// Starts everything. The first transaction's producer and the consumer connect on their own threads.
    ///
    /// # Errors
    /// See [`PipelineStartError`]. Unreachable brokers are no error: the clients keep trying.
    pub fn start<E: Entity>(parts: PipelineParts<'_, E>) -> Result<Pipeline, PipelineStartError> {
        let PipelineParts { config, instance, topics, entity, clock, client_log, stop, wrap } = parts;
        let limits =
            MemoryLimits { in_flight_bytes: in_flight_bytes(config), state_bytes: config.limits.max_state_bytes };
        let shared = Shared::new(clock, limits, key_policy(&config.log), stop);
        let status = Arc::clone(&shared.status);
        let partitions = u64::try_from(topics.partitions).unwrap_or(0);
        let client_events = Arc::new(PipelineClientEvents { log: Arc::clone(&client_log), status });
        let ownership = Arc::new(Ownership::new());
        let size_limits = size_limits(config, &topics);
        let builder = PortBuilder { config, instance, topics, size_limits, ownership, shared, client_events };

        let (source, connected) = connect(config, builder.source_parts())?;
        let offset_metadata =
            OffsetMetadata::new(format!("{instance}#{:x}", builder.shared.clock.unix_ms()), builder.topics.ids());
        let commit_thread = builder.commit_thread(connected.consumer(), &offset_metadata)?;
        let commit_phase = commit_thread.phase();
        let ports = Ports {
            consumer: Box::new(source),
            recoveries: Box::new(builder.recovery_threads(Arc::clone(&entity))?),
            transactions: wrap(commit_thread, offset_metadata.clone()),
            ownership: builder.ownership,
        };
        let shared = builder.shared;
        let Actors { ingest, committer, sink } =
            start_actors(config, size_limits, ports, entity, offset_metadata, shared.clone())?;
        let source = connected.run(Box::new(sink))?;
        Ok(Pipeline {
            stop_ingest: ingest.clone().recipient(),
            leave_group: ingest.recipient(),
            committer,
            source_phase: source.phase(),
            source,
            commit_phase,
            partitions,
            shared,
            client_log,
        })
    }

    /// Stops reading. Records that were read are processed and committed.
    pub fn stop_ingest(&self) {
        post_to(&self.stop_ingest, StopIngest);
    }

    pub fn leave_group(&self) {
        post_to(&self.leave_group, LeaveGroup);
    }

    /// Returns whether every record that was read is committed.
    pub fn is_drained(&self) -> bool {
        self.open_records() == 0 && self.shared.in_flight.held_bytes() == 0
    }

    /// Records read and not committed.
    pub fn open_records(&self) -> u64 {
        self.shared.status.snapshot(self.shared.clock.now()).open_records()
    }

    /// Returns whether the group was left, or the consumer's thread has failed.
    pub fn source_has_ended(&self) -> bool {
        self.source.is_finished()
    }

    /// Returns why the process is not a member of its group; `None` if it is one. Must not be called after
    /// [`Pipeline::leave_group`]: the client does not reply any more.
    pub fn not_a_member(&self) -> Option<&'static str> {
        match membership_of(&*self.source.consumer()) {
            Membership::Member(_) => None,
            Membership::NotAMember(why) => Some(why),
        }
    }

    /// Returns the number of partitions of the input, of all processes together.
    pub fn partitions(&self) -> u64 {
        self.partitions
    }

    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Logs all summaries, for the end of the process. Waits at most `SUMMARY_LIMIT` for the committer.
    pub fn finish_summaries(&self) {
        let (done, is_done) = bounded(1);
        post(&self.committer, LogSummaries(done));
        // The process ends, with these summaries or without.
        let _ = is_done.recv_timeout(SUMMARY_LIMIT);
        self.client_log.finish();
    }
}

/// What remains of the in-flight budget without the client's prefetch.
fn in_flight_bytes(config: &Config) -> u64 {
    config.limits.max_in_flight_bytes.saturating_sub(settings::prefetch_bytes(config)).max(1)
}

/// What an event may carry, and what the snapshot after it may have.
fn size_limits(config: &Config, topics: &Topics) -> SizeLimits {
    let max_payload_bytes = config.limits.max_payload_bytes;
    // If it may not be read, the topic is taken to be as it is created: with room for a snapshot of the largest payload.
    let assumed = || max_payload_bytes.saturating_add(SNAPSHOT_FRAME_BYTES).max(DEFAULT_MAX_MESSAGE_BYTES);
    let record_bytes = topics.max_state_record_bytes.unwrap_or_else(assumed).min(settings::max_record_bytes(config));
    SizeLimits { max_payload_bytes, max_snapshot_bytes: record_bytes.saturating_sub(SNAPSHOT_FRAME_BYTES) }
}

/// How keys appear in the log. The configuration requires a secret for hashed keys; without one none is shown.
fn key_policy(log: &LogConfig) -> KeyPolicy {
    match (log.keys, &log.key_hash_secret) {
        (LogKeys::Plain, _) => KeyPolicy::Plain,
        (LogKeys::Hashed, Some(secret)) => KeyPolicy::hashed(secret.reveal().as_bytes()),
        (LogKeys::Hashed, None) | (LogKeys::Omitted, _) => KeyPolicy::Omitted,
    }
}

struct PortBuilder<'a> {
    config: &'a Config,
    instance: &'a str,
    topics: Topics,
    size_limits: SizeLimits,
    ownership: Arc<Ownership>,
    shared: Shared,
    client_events: Arc<PipelineClientEvents>,
}

impl PortBuilder<'_> {
    fn client_events(&self) -> Arc<dyn ClientEvents> {
        Arc::<PipelineClientEvents>::clone(&self.client_events)
    }

    fn context(&self, role: ClientRole) -> ReportingContext {
        ReportingContext::new(self.config, role, self.client_events())
    }

    fn source_parts(&self) -> ConsumerParts {
        ConsumerParts {
            instance: self.instance.to_owned(),
            partition_count: self.topics.partitions,
            ownership: Arc::clone(&self.ownership),
            clock: Arc::clone(&self.shared.clock),
            events: self.client_events(),
        }
    }

    fn commit_thread(
        &self,
        consumer: CurrentConsumer,
        offset_metadata: &OffsetMetadata,
    ) -> Result<CommitThread, PipelineStartError> {
        let kafka = &self.config.kafka;
        let transactional_id = kafka.transactional_id(self.instance);
        let identity = ProducerIdentity { transactional_id: &transactional_id, client_id: &transactional_id };
        let clients = CommitClients {
            producer: settings::transactional_producer(self.config, identity, self.topics.max_batch_bytes),
            offset_reader: settings::reader(self.config, Isolation::Committed),
        };
        let settings = CommitSettings {
            topic: kafka.topic.clone(),
            state_topic: kafka.state_topic.clone(),
            dlq_topic: kafka.dlq_topic.clone(),
            min_in_sync: self.topics.min_in_sync,
            group_id: kafka.group_id.clone(),
            instance: self.instance.to_owned(),
            member_ids: settings::member_ids(self.config),
            transaction_timeout: Duration::from_millis(kafka.transaction_timeout_ms),
        };
        let group: GroupView = Arc::new(move || membership_of(&*consumer.get()));
        let gates = CommitGates { group, ownership: Arc::clone(&self.ownership), topics: self.topic_looks()? };
        let (context, clock) = (self.context(ClientRole::Producer), Arc::clone(&self.shared.clock));
        CommitThread::start(settings, clients, context, gates, offset_metadata.clone(), clock)
            .map_err(|cause| PipelineStartError::Thread { name: "commit thread", cause })
    }

    /// Starts the watch of the topics. Without their ids, for example in the demo, they are not watched.
    fn topic_looks(&self) -> Result<Option<TopicLooks>, PipelineStartError> {
        let Some(identities) = self.topics.identities.clone() else { return Ok(None) };
        let parts = WatchParts {
            config: self.config,
            identities,
            context: self.context(ClientRole::Admin),
            clock: Arc::clone(&self.shared.clock),
            stop: Arc::clone(&self.shared.stop),
        };
        let looks = topic_watch_thread::start(parts);
        looks.map(Some).map_err(|cause| PipelineStartError::Thread { name: "watch of the topics", cause })
    }

    fn transaction_ender(&self) -> TransactionEnder {
        let clock = || Arc::clone(&self.shared.clock);
        let own_id = self.config.kafka.transactional_id(self.instance);
        let owners = DeadOwners::new(self.instance, settings::member_ids(self.config));
        let requests = KafkaOwnerRequests::new(self.config, &own_id, clock(), self.client_events());
        TransactionEnder::new(owners, Box::new(requests), Arc::clone(&self.ownership), clock())
    }

    fn recovery_threads<E: Entity>(&self, entity: Arc<E>) -> Result<RecoveryThreads, PipelineStartError> {
        let (kafka, recovery) = (&self.config.kafka, &self.config.recovery);
        let parts = RecoveryParts {
            entity,
            settings: RecoverySettings {
                topic: kafka.topic.clone(),
                state_topic: kafka.state_topic.clone(),
                group: kafka.group_id.clone(),
                topic_ids: self.topics.ids(),
                tombstones_outlive_events: self.topics.tombstones_outlive_events,
                look_back_records: recovery.look_back_records,
                verify_max_records: recovery.verify_max_records,
                adopt_group: recovery.adopt_group,
                stop_on_expired: recovery.on_expired == OnExpired::Stop,
                size_limits: self.size_limits,
            },
            readers: ReaderClientSettings::new(self.config),
            reader_settings: ReaderSettings {
                input: kafka.topic.clone(),
                state: kafka.state_topic.clone(),
                dlq: kafka.dlq_topic.clone(),
                stall_limit: ReaderSettings::stall_limit_for(Duration::from_millis(kafka.transaction_timeout_ms)),
            },
            context: self.context(ClientRole::Reader),
            state_memory: Arc::clone(&self.shared.state_memory),
            ownership: Arc::clone(&self.ownership),
            clock: Arc::clone(&self.shared.clock),
            status: Arc::clone(&self.shared.status),
            ender: self.transaction_ender(),
        };
        let partitions = usize::try_from(self.topics.partitions).unwrap_or(usize::MAX);
        RecoveryThreads::start(parts, recovery.max_parallel_partitions.min(partitions))
            .map_err(|cause| PipelineStartError::Thread { name: "recovery threads", cause })
    }
}

pub(super) fn entity_threads(config: &Config) -> usize {
    match config.runtime.entity_threads {
        0 => ENTITY_THREADS_PER_CORE * thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// Starts the actors on a thread of their own. Entities have further threads.
fn start_actors<E: Entity>(
    config: &Config,
    size_limits: SizeLimits,
    ports: Ports,
    entity: Arc<E>,
    offset_metadata: OffsetMetadata,
    shared: Shared,
) -> Result<Actors<E>, PipelineStartError> {
    let entity_threads = entity_threads(config);
    let mut settings = RuntimeSettings {
        size_limits,
        max_transaction_bytes: config.limits.max_transaction_bytes,
        max_dlq_record_bytes: settings::max_record_bytes(config),
        transaction_timeout: Duration::from_millis(config.kafka.transaction_timeout_ms),
        min_commit_interval: Duration::from_millis(config.commit.min_interval_ms),
        linger_per_partition: transaction::MARKER_WRITTEN_WITHIN,
        offset_metadata,
        entity_idle: Duration::from_millis(config.limits.entity_idle_ms),
        max_active_entities: config.limits.max_active_entities,
        stop_on_expired: config.recovery.on_expired == OnExpired::Stop,
        entity_threads: Vec::new(),
    };
    let (started, actors) = bounded(1);
    let run = move || {
        System::new().block_on(async move {
            // An arbiter belongs to the system of the thread that creates it.
            settings.entity_threads = (0..entity_threads).map(|_| Arbiter::new().handle()).collect();
            // The receiver gives up after a limit; then the process ends.
            let _ = started.send(assemble(ports, entity, settings, &shared));
            std::future::pending::<()>().await;
        });
    };
    thread::Builder::new()
        .name("actors".to_owned())
        .spawn(run)
        .map_err(|cause| PipelineStartError::Thread { name: "actors' thread", cause })?;
    actors.recv_timeout(START_LIMIT).map_err(|_| PipelineStartError::ActorsTooSlow)
}
