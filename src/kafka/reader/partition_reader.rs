//! Reads one partition of the three topics again, to its high watermark: the [`PartitionReader`] port.
//!
//! Every wait ends: with the partition's epoch, which is compared several times a second; if an open transaction holds
//! the position for longer than any transaction may last, which is a hanging transaction; or if the brokers' errors or
//! their silence last as long.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;

use crate::engine::commit::transaction::CommittedOffset;
use crate::engine::ownership::Ownership;
use crate::engine::recovery::LogBounds;
use crate::engine::recovery::driver::{PartitionReader, ReadFailure};
use crate::engine::recovery::read_stall::{ReadStall, StallCause};
use crate::kafka::client::context::TakesStatistics;
use crate::kafka::client::errors::ErrorClass;
use crate::kafka::client::forwarded_queue::{Incoming, QueueFailure};
use crate::kafka::client::settings::ReaderClientSettings;
use crate::kafka::client::unsubscribed::serve;
use crate::kafka::reader::committed_offsets::committed_offsets;
use crate::kafka::reader::watermark_read::{
    ReadError, ReadObserver, ReadStop, ReaderClients, StalledRead, Target, WatermarkRead,
};
use crate::ports::Clock;
use crate::record::{Batch, Epoch, Partition, Position, Record, Topic};

/// Pause before a request is repeated.
const REQUEST_PAUSE: Duration = Duration::from_millis(50);

const REPORT_EVERY: Duration = Duration::from_secs(1);

/// That an open transaction holds the position is reported as soon as the position has not moved for so long. The
/// transactions of a live owner are shorter.
const HELD_BACK_AFTER: Duration = Duration::from_millis(500);

/// Bytes that are copied before they are handed on: large enough to be quick, small enough for several readers.
const CHUNK_BYTES: u64 = 262_144;

/// How long one request for bounds or committed offsets may block, so that a cancellation is seen in between, and a
/// broker that does not run is noticed. The first one is shorter.
const REQUEST_LIMIT: Duration = Duration::from_secs(1);

/// How long a topic may be unknown to the brokers: one that has just started does not know those that were there before.
const UNKNOWN_LIMIT: Duration = Duration::from_secs(5);

fn request_limit(silences: u32) -> Duration {
    if silences == 0 { REQUEST_LIMIT / 2 } else { REQUEST_LIMIT }
}

impl<C: TakesStatistics + Clone + 'static> ReaderClients<C> {
    pub fn new(settings: &ReaderClientSettings, context: &C) -> Result<ReaderClients<C>, ReadFailure> {
        ReaderClients::build(settings, context)
            .map_err(|error| ReadFailure::Kafka(format!("a client that reads partitions cannot be built: {error}")))
    }
}

/// The names of the three topics, and the limit of a read.
#[derive(Debug, Clone)]
pub struct ReaderSettings {
    pub input: String,
    pub state: String,
    pub dlq: String,
    /// Longest time for which an open transaction may hold the position, and longest duration of an error or a silence.
    /// Longer than any transaction may last, including the time that the coordinator takes to end it: the transaction
    /// timeout and 15 s.
    pub stall_limit: Duration,
}

impl ReaderSettings {
    pub fn stall_limit_for(transaction_timeout: Duration) -> Duration {
        transaction_timeout + Duration::from_secs(15)
    }

    pub fn name(&self, topic: Topic) -> &str {
        match topic {
            Topic::Input => &self.input,
            Topic::State => &self.state,
            Topic::Dlq => &self.dlq,
        }
    }
}

/// What a reader reports at least every second while it reads or waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReaderReport {
    Reading(ReadProgress),
    /// An open transaction has held back the group's committed offset for this long. `committed` is the offset before
    /// that transaction, if there is one.
    OffsetHeldBack {
        waited: Duration,
        committed: Option<CommittedOffset>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadProgress {
    pub topic: Topic,
    pub partition: Partition,
    pub position: Position,
    pub until: Position,
    /// How long the position has not moved, and why.
    pub stall: ReadStall,
}

/// Reads one partition under one epoch.
pub struct KafkaPartitionReader<'a, C: TakesStatistics + Clone + 'static> {
    clients: &'a mut ReaderClients<C>,
    owned: OwnedPartition<'a>,
    report: &'a mut dyn FnMut(ReaderReport),
}

/// The partition that is read, as long as its epoch is current.
struct OwnedPartition<'a> {
    settings: &'a ReaderSettings,
    partition: Partition,
    epoch: Epoch,
    ownership: Arc<Ownership>,
    clock: Arc<dyn Clock>,
}

impl<'a, C: TakesStatistics + Clone + 'static> KafkaPartitionReader<'a, C> {
    /// Borrows the clients until the partition is read. `report` is called during requests and reads.
    pub fn new(
        clients: &'a mut ReaderClients<C>,
        settings: &'a ReaderSettings,
        (partition, epoch): (Partition, Epoch),
        ownership: Arc<Ownership>,
        clock: Arc<dyn Clock>,
        report: &'a mut dyn FnMut(ReaderReport),
    ) -> KafkaPartitionReader<'a, C> {
        KafkaPartitionReader { clients, owned: OwnedPartition { settings, partition, epoch, ownership, clock }, report }
    }
}

impl OwnedPartition<'_> {
    fn check_owned(&self) -> Result<(), ReadFailure> {
        match self.ownership.is_current(self.partition, self.epoch) {
            true => Ok(()),
            false => Err(ReadFailure::Cancelled),
        }
    }

    /// Makes a request, within a limit since the first attempt. An inner error: make it again.
    ///
    /// # Errors
    /// No wait cures the error, or the limit has passed, or the partition is not owned any more.
    fn request<C: TakesStatistics + Clone + 'static, T>(
        &self,
        clients: &ReaderClients<C>,
        what: &str,
        (began, limit): (Instant, Duration),
        request: impl Fn(&ReaderClients<C>) -> Result<T, KafkaError>,
    ) -> Result<Result<T, ErrorClass>, ReadFailure> {
        self.check_owned()?;
        let error = match request(clients) {
            Ok(response) => return Ok(Ok(response)),
            Err(error) => error,
        };
        let OwnedPartition { settings, partition, .. } = self;
        let class = ErrorClass::of(&error);
        let failure = QueueFailure::of(class);
        if failure == QueueFailure::NotAuthorized {
            return Err(ReadFailure::Denied(format!(
                "{what} of partition {partition} may not be fetched: {error}; allow Read on the group {} and on the topics {}, {} and {}",
                clients.group, settings.input, settings.state, settings.dlq
            )));
        }
        let waited = self.clock.now().saturating_duration_since(began);
        let is_unknown = matches!(class, ErrorClass::UnknownTopic | ErrorClass::UnknownPartition);
        let is_permanent = failure == QueueFailure::Permanent && !(is_unknown && waited < UNKNOWN_LIMIT);
        if is_permanent || waited >= limit {
            return Err(ReadFailure::Kafka(format!("{what} of partition {partition} could not be fetched: {error}")));
        }
        // Some errors come at once. The poll also serves the client's callbacks.
        drop(clients.uncommitted.poll(REQUEST_PAUSE));
        Ok(Err(class))
    }

    fn bounds<C: TakesStatistics + Clone + 'static>(
        &self,
        clients: &mut ReaderClients<C>,
        topic: Topic,
    ) -> Result<LogBounds, ReadFailure> {
        let name = self.settings.name(topic);
        let limit = (self.clock.now(), self.settings.stall_limit);
        let mut silences = 0;
        loop {
            let watermarks = |clients: &ReaderClients<C>| {
                serve(&clients.uncommitted);
                clients.uncommitted.fetch_watermarks(name, self.partition.0, request_limit(silences))
            };
            match self.request(clients, "the bounds", limit, watermarks)? {
                Ok((low, high)) => return Ok(LogBounds { low: Position(low), high: Position(high) }),
                Err(class) => clients.repair(class, &mut silences, name),
            }
        }
    }
}

impl<C: TakesStatistics + Clone + 'static> PartitionReader for KafkaPartitionReader<'_, C> {
    fn committed(&mut self) -> Result<Option<CommittedOffset>, ReadFailure> {
        let (settings, partition, began) = (self.owned.settings, self.owned.partition, self.owned.clock.now());
        // Later than the limit below, which knows the cause.
        let limit = (began, settings.stall_limit + 2 * REQUEST_LIMIT);
        let mut silences = 0;
        loop {
            let fetch = |clients: &ReaderClients<C>| {
                committed_offsets(&clients.committed, &settings.input, &[partition], request_limit(silences))
            };
            if let Ok(fetched) = self.owned.request(self.clients, "the committed offset", limit, fetch)? {
                return Ok(fetched.into_iter().next().and_then(|(_, committed)| committed));
            }
            // If the group's coordinator responds to this client about a partition that does not exist, it is an open
            // transaction that holds back the offset of this one, and not a coordinator that is silent.
            let no_partition = [Partition(i32::MAX)];
            let response = committed_offsets(&self.clients.committed, &settings.input, &no_partition, REQUEST_LIMIT);
            if let Err(error) = response {
                self.clients.repair(ErrorClass::of(&error), &mut silences, &settings.input);
            } else {
                let held_back = self.owned.clock.now().saturating_duration_since(began);
                // Without RequireStable.
                let before = committed_offsets(&self.clients.uncommitted, &settings.input, &[partition], REQUEST_LIMIT);
                let committed = before.ok().and_then(|fetched| fetched.into_iter().next()?.1);
                (self.report)(ReaderReport::OffsetHeldBack { waited: held_back, committed });
                if held_back >= settings.stall_limit {
                    let waited_ms = u64::try_from(held_back.as_millis()).unwrap_or(u64::MAX);
                    return Err(ReadFailure::OffsetHeldBack { topic: settings.input.clone(), partition, waited_ms });
                }
            }
        }
    }

    fn bounds(&mut self, topic: Topic) -> Result<LogBounds, ReadFailure> {
        self.owned.bounds(self.clients, topic)
    }

    fn read(
        &mut self,
        topic: Topic,
        from: Position,
        until: Position,
        take: &mut dyn FnMut(&Record<'_>),
    ) -> Result<(), ReadFailure> {
        let KafkaPartitionReader { clients, owned, report } = self;
        let bounds = owned.bounds(clients, topic)?;
        // At the end of the log there is nothing to wait for.
        let until = until.min(bounds.high);
        let from = from.max(bounds.low);
        if from >= until {
            return Ok(());
        }
        let name = owned.settings.name(topic);
        let read = WatermarkRead {
            topic: name,
            targets: BTreeMap::from([(owned.partition, Target { position: from, until })]),
            stall_limit: owned.settings.stall_limit,
            clock: &*owned.clock,
        };
        let chunk = Batch::new(owned.partition, owned.epoch, from);
        let mut observer = RecoveryRead {
            topic,
            owned,
            reported: owned.clock.now(),
            is_held_back: false,
            report: *report,
            chunk,
            take,
        };
        read.run(clients, &mut observer).map_err(|stop| match stop {
            ReadStop::Observer(failure) => failure,
            ReadStop::Client(reason) => ReadFailure::Kafka(reason),
            ReadStop::Stalled(stall) => stalled(name, stall),
        })
    }
}

/// Copies records in chunks before they are handed on: a record that the client holds pins its whole fetch buffer.
struct RecoveryRead<'a> {
    topic: Topic,
    owned: &'a OwnedPartition<'a>,
    reported: Instant,
    /// Whether the last report says that an open transaction holds the position.
    is_held_back: bool,
    report: &'a mut dyn FnMut(ReaderReport),
    chunk: Batch,
    take: &'a mut dyn FnMut(&Record<'_>),
}

impl RecoveryRead<'_> {
    fn hand_on(&mut self) {
        for record in self.chunk.iter() {
            (self.take)(&record);
        }
        self.chunk.clear();
    }
}

impl<C: TakesStatistics + Clone + 'static> ReadObserver<C> for RecoveryRead<'_> {
    type Failure = ReadFailure;

    fn record(&mut self, record: &Incoming<'_>) -> ControlFlow<()> {
        record.copy_into(&mut self.chunk);
        if self.chunk.held_bytes() >= CHUNK_BYTES {
            self.hand_on();
        }
        ControlFlow::Continue(())
    }

    fn turn(
        &mut self,
        targets: &BTreeMap<Partition, Target>,
        stall: ReadStall,
        now: Instant,
    ) -> Result<(), ReadFailure> {
        self.hand_on();
        self.owned.check_owned()?;
        let is_newly_held_back = stall.is_held_back && stall.stalled >= HELD_BACK_AFTER && !self.is_held_back;
        if is_newly_held_back || now.saturating_duration_since(self.reported) >= REPORT_EVERY {
            self.reported = now;
            self.is_held_back = stall.is_held_back;
            let (topic, partition) = (self.topic, self.owned.partition);
            if let Some(Target { position, until }) = targets.get(&partition).copied() {
                (self.report)(ReaderReport::Reading(ReadProgress { topic, partition, position, until, stall }));
            }
        }
        Ok(())
    }

    fn client_failed(&mut self, error: &ReadError) -> Result<(), ReadFailure> {
        let name = self.owned.settings.name(self.topic);
        match QueueFailure::of(error.class) {
            QueueFailure::NotAuthorized => Err(ReadFailure::Denied(format!(
                "{name} may not be read: {}; allow Read on topic {name}",
                error.reason
            ))),
            QueueFailure::Permanent => Err(ReadFailure::Kafka(error.reason.clone())),
            QueueFailure::OutOfRange | QueueFailure::TooLarge | QueueFailure::Transient => Ok(()),
        }
    }

    fn log_start(&mut self, clients: &mut ReaderClients<C>, _: Partition) -> Result<Position, ReadFailure> {
        Ok(self.owned.bounds(clients, self.topic)?.low)
    }
}

fn stalled(name: &str, stall: StalledRead) -> ReadFailure {
    let StalledRead { partition, target: Target { position, until }, stalled, cause } = stall;
    let stalled_ms = stalled.as_millis();
    match cause {
        StallCause::Error(error) => {
            ReadFailure::Kafka(format!("{name}/{partition} could not be read for {stalled_ms} ms: {error}"))
        }
        StallCause::NoResponse(silent) => ReadFailure::Kafka(format!(
            "{name}/{partition} could not be read beyond position {position} of {until}: its broker has sent nothing for {} ms",
            silent.as_millis()
        )),
        StallCause::OpenTransaction(_) => {
            let stalled_ms = u64::try_from(stalled_ms).unwrap_or(u64::MAX);
            ReadFailure::Hanging { topic: name.to_owned(), partition, position, until, stalled_ms }
        }
    }
}
