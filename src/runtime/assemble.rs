//! Owns the construction of the actors: wires them to each other and to the ports. The service, the simulation, the test
//! harnesses and the benchmarks all start the actors here.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, ArbiterHandle, AsyncContext, Context};

use crate::engine::commit::GroupCommitSettings;
use crate::engine::commit::limit::FIRST_BYTES;
use crate::engine::offset_metadata::OffsetMetadata;
use crate::engine::ownership::Ownership;
use crate::entity::{Entity, SizeLimits};
use crate::ports::{InputConsumer, Recoveries, Transactions};
use crate::runtime::Shared;
use crate::runtime::committer::CommitActor;
use crate::runtime::entity_pool::EntityPool;
use crate::runtime::ingest::fan_out::FanOut;
use crate::runtime::ingest::{IngestActor, IngestParts, IngestSettings, IngestSink};

/// What the actors reach outside the process through.
pub struct Ports {
    pub consumer: Box<dyn InputConsumer>,
    pub recoveries: Box<dyn Recoveries>,
    pub transactions: Box<dyn Transactions>,
    /// Shared with the consumer and the transactions.
    pub ownership: Arc<Ownership>,
}

pub struct RuntimeSettings {
    /// Events beyond these are rejected.
    pub size_limits: SizeLimits,
    /// Content of one transaction. A batch is never split, so one batch may exceed it.
    pub max_transaction_bytes: u64,
    /// A larger DLQ record is cut.
    pub max_dlq_record_bytes: u64,
    /// Time after which the coordinator ends a transaction.
    pub transaction_timeout: Duration,
    /// The shortest time from the begin of a transaction to the begin of the next one.
    pub min_commit_interval: Duration,
    /// Wait between a commit and the next transaction, for each partition of the commit.
    pub linger_per_partition: Duration,
    /// Identifies the transactions of this process in the metadata of the committed offsets.
    pub offset_metadata: OffsetMetadata,
    /// An entity without events for longer is passivated.
    pub entity_idle: Duration,
    /// Entities that are actors at the same time. Above this limit every idle actor is passivated at once.
    pub max_active_entities: usize,
    /// Whether the process ends if events expired unread.
    pub stop_on_expired: bool,
    /// The threads of the entities. Empty: entities run on the current thread.
    pub entity_threads: Vec<ArbiterHandle>,
}

pub struct Actors<E: Entity> {
    pub ingest: Addr<IngestActor<E>>,
    pub committer: Addr<CommitActor>,
    /// Takes the events of the consumer.
    pub sink: IngestSink<E>,
}

/// Starts the actors on the current thread, which runs an actix system. The caller then lets the consumer send its
/// events to the sink.
pub fn assemble<E: Entity>(ports: Ports, entity: Arc<E>, settings: RuntimeSettings, shared: &Shared) -> Actors<E> {
    let Ports { consumer, recoveries, transactions, ownership } = ports;
    let size_limits = settings.size_limits;
    let commit_settings = GroupCommitSettings {
        max_transaction_bytes: settings.max_transaction_bytes,
        transaction_timeout: settings.transaction_timeout,
        min_interval: settings.min_commit_interval,
        offset_metadata: settings.offset_metadata,
        max_dlq_record_bytes: settings.max_dlq_record_bytes,
        linger_per_partition: settings.linger_per_partition,
    };
    let ingest_settings = IngestSettings {
        // A batch is never split, and a process begins with small transactions.
        max_repair_bytes: settings.max_transaction_bytes.min(FIRST_BYTES),
        entity_idle: settings.entity_idle,
        stop_on_expired: settings.stop_on_expired,
    };
    let entities = EntityPool::new(&entity, settings.entity_threads, size_limits, settings.max_active_entities, shared);
    // Each of the two actors sends to the other. The context has an address before its actor exists.
    let ingest_context = Context::<IngestActor<E>>::new();
    let invalidated = ingest_context.address().recipient();
    let committer = CommitActor::new(commit_settings, transactions, shared.clone(), invalidated).start();
    let ingest = ingest_context.run(IngestActor::new(IngestParts {
        settings: ingest_settings,
        shared: shared.clone(),
        ownership,
        consumer,
        recoveries,
        committer: committer.clone(),
        fan_out: FanOut { entity, size_limits },
        entities,
    }));
    let sink = IngestSink { ingest: ingest.clone(), shared: shared.clone() };
    Actors { ingest, committer, sink }
}
