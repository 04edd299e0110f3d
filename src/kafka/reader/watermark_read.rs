//! Owns the loop that reads partitions of a topic to their high watermarks, committed records only: for recovery
//! ([`partition_reader`](super::partition_reader)) and for the commands ([`topic_reader`](super::topic_reader)).
//!
//! a) **The target is the high watermark,** from a client that sees uncommitted records. Commit markers reach partitions
//!    one by one, so a group's committed offsets can be stable before the last stable offset of a state partition has
//!    moved. A read that ended there would miss committed records. An open transaction makes the read wait instead.
//! b) **The position ends the read, not the last record.** Markers take offsets too, and the records of aborted
//!    transactions are never returned.
//! c) **A position comes from this read.** The client forgets the partitions of the read before on another thread, and
//!    returns their positions until then. So a read waits until they are forgotten.
//! d) **Every wait ends:** if an open transaction holds a position for longer than the stall limit, if the broker sends
//!    nothing for as long, or when the observer ends it. The observer is called several times a second. While the broker
//!    sends responses, however slowly, the read goes on.
//!
//! Architecture invariant: these clients never join a group and commit nothing. Partitions are assigned by hand, and
//! unassigned at the end.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::metadata::Metadata;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use crate::engine::recovery::read_stall::{LogReport, ReadStall, StallCause, StallTimer};
use crate::kafka::client::context::{ConsumerStatistics, TakesStatistics};
use crate::kafka::client::errors::ErrorClass;
use crate::kafka::client::ffi;
use crate::kafka::client::forwarded_queue::{ForwardedQueue, Incoming, MAX_TAKEN, Taken};
use crate::kafka::client::settings::ReaderClientSettings;
use crate::kafka::client::unsubscribed::{build, close, serve};
use crate::kafka::reader::reading_context::ReadingContext;
use crate::ports::Clock;
use crate::record::{Partition, Position};

/// Longest wait for records in one turn of the loop.
const POLL: Duration = Duration::from_millis(50);

/// A turn counts for at most this long as standing still, far above what a turn takes. Time in which this process did
/// not run proves nothing about the transaction that the read waits for.
const LONGEST_TURN: Duration = Duration::from_secs(5);

/// Longest wait for the metadata of the topic.
const METADATA_LIMIT: Duration = Duration::from_secs(1);

/// Longest wait for metadata in a repair. A broker that does not run leaves it to another one to answer the next request.
const REFRESH_LIMIT: Duration = Duration::from_millis(250);

/// A read whose broker has sent nothing for so long gets fresh metadata, and again after each pause. A broker answers a
/// fetch without records much sooner.
const SILENT_AFTER: Duration = Duration::from_secs(2);
const REPAIR_PAUSE: Duration = Duration::from_secs(1);

/// How long the client may take to forget the partitions of the read before.
const RELEASE_LIMIT: Duration = Duration::from_secs(10);

/// The two clients of a reader, used for one read after the other. A broker that is lost, or that does not run, makes
/// them ask for metadata, and is a reason for new clients if that does not help.
pub struct ReaderClients<C: TakesStatistics + 'static> {
    settings: ReaderClientSettings,
    context: C,
    /// Reads committed records, and fetches committed offsets.
    pub(super) committed: Arc<BaseConsumer<ReadingContext<C>>>,
    /// The records of the partitions that are read.
    records: ForwardedQueue<ReadingContext<C>>,
    /// Fetches the high watermarks.
    pub(super) uncommitted: BaseConsumer<C>,
    pub(super) group: String,
}

impl<C: TakesStatistics + Clone + 'static> ReaderClients<C> {
    pub(super) fn build(settings: &ReaderClientSettings, context: &C) -> Result<ReaderClients<C>, KafkaError> {
        let config = settings.with_known_brokers(&settings.committed);
        let committed = Arc::new(build(&config, ReadingContext::new(context.clone()))?);
        Ok(ReaderClients {
            settings: settings.clone(),
            context: context.clone(),
            records: ForwardedQueue::new(Arc::clone(&committed)),
            committed,
            uncommitted: build(&settings.with_known_brokers(&settings.uncommitted), context.clone())?,
            group: settings.group_id.clone(),
        })
    }

    /// Repairs the clients after a failure. `silences` counts those in a row that were a silence: with number 1, 2, 4 and
    /// so on the clients are replaced, otherwise they get fresh metadata. A broker that does not run keeps its connections
    /// open, and is asked for metadata as any other. A new client has no connection to it.
    pub(super) fn repair(&mut self, class: ErrorClass, silences: &mut u32, topic: &str) {
        if class == ErrorClass::TimedOut {
            *silences += 1;
            if silences.is_power_of_two() {
                return self.renew();
            }
        }
        self.refresh(topic);
    }

    /// Requests the metadata of the topic. By themselves the clients request it only every few minutes if a broker stands
    /// still, and remember an answer that a topic does not exist.
    fn refresh(&self, topic: &str) {
        drop(self.uncommitted.fetch_metadata(Some(topic), REFRESH_LIMIT));
        self.learn(self.committed.fetch_metadata(Some(topic), REFRESH_LIMIT));
    }

    /// Replaces both clients. What they have assigned has to be assigned again.
    fn renew(&mut self) {
        // Without new ones the old ones are tried again.
        let Ok(new) = ReaderClients::build(&self.settings, &self.context) else { return };
        close(std::mem::replace(self, new));
    }

    /// Stores the addresses of the brokers.
    fn learn(&self, metadata: Result<Metadata, KafkaError>) {
        let Ok(metadata) = metadata else { return };
        let brokers = metadata.brokers().iter().map(|broker| format!("{}:{}", broker.host(), broker.port()));
        self.settings.set_known_brokers(brokers.collect());
    }

    /// Serves the clients' callbacks while nothing is read.
    pub fn serve(&self) {
        serve(&self.committed);
        serve(&self.uncommitted);
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) position: Position,
    pub(super) until: Position,
}

pub(super) struct WatermarkRead<'a> {
    pub(super) topic: &'a str,
    pub(super) targets: BTreeMap<Partition, Target>,
    /// Longest time without a change of any position, or without a response.
    pub(super) stall_limit: Duration,
    pub(super) clock: &'a dyn Clock,
}

/// What a caller does while its partitions are read.
pub(super) trait ReadObserver<C: TakesStatistics + Clone + 'static> {
    type Failure;

    /// Takes a record below the target of its partition. `Break` ends the read.
    fn record(&mut self, record: &Incoming<'_>) -> ControlFlow<()>;

    /// Called after each turn of the loop. An error ends the read.
    fn turn(
        &mut self,
        targets: &BTreeMap<Partition, Target>,
        stall: ReadStall,
        now: Instant,
    ) -> Result<(), Self::Failure>;

    /// Returns `Err` to end the read. Otherwise the client continues if it can, and the error is named if the read
    /// stalls.
    fn client_failed(&mut self, error: &ReadError) -> Result<(), Self::Failure>;

    /// Fetches the first position of the log, after the client has reported that the position is not within the log.
    fn log_start(&mut self, clients: &mut ReaderClients<C>, partition: Partition) -> Result<Position, Self::Failure>;
}

/// The repairs of a silent read.
struct Repairs {
    /// How many since the broker sent something.
    silences: u32,
    next: Instant,
}

pub(super) struct ReadError {
    /// `None` if the error is about no partition.
    partition: Option<Partition>,
    pub(super) class: ErrorClass,
    pub(super) reason: String,
}

/// Why a read ended before its targets.
pub(super) enum ReadStop<F> {
    Observer(F),
    Client(String),
    Stalled(StalledRead),
}

impl<F> From<F> for ReadStop<F> {
    fn from(failure: F) -> ReadStop<F> {
        ReadStop::Observer(failure)
    }
}

/// No position has moved within the limit.
pub(super) struct StalledRead {
    /// The partition that an open transaction holds back, or the first one below its target.
    pub(super) partition: Partition,
    pub(super) target: Target,
    pub(super) stalled: Duration,
    pub(super) cause: StallCause,
}

impl WatermarkRead<'_> {
    /// Reads until every position is at its target, or until the observer ends the read.
    pub(super) fn run<C: TakesStatistics + Clone + 'static, O: ReadObserver<C>>(
        mut self,
        clients: &mut ReaderClients<C>,
        observer: &mut O,
    ) -> Result<(), ReadStop<O::Failure>> {
        self.assign(clients).map_err(ReadStop::Client)?;
        let result = self.read_assigned(clients, observer);
        // Stops the fetching. The next read waits until the partitions are forgotten.
        clients.committed.unassign().map_err(|error| ReadStop::Client(error.to_string()))?;
        result
    }

    fn read_assigned<C: TakesStatistics + Clone + 'static, O: ReadObserver<C>>(
        &mut self,
        clients: &mut ReaderClients<C>,
        observer: &mut O,
    ) -> Result<(), ReadStop<O::Failure>> {
        let mut last_turn = self.clock.now();
        let mut stall = StallTimer::new(last_turn);
        let mut repairs = Repairs { silences: 0, next: last_turn };
        while self.targets.values().any(Target::is_below_target) {
            let before: i64 = self.targets.values().map(|target| target.position.0).sum();
            let (stopped, error) = self.take_available(clients, observer);
            if stopped.is_break() {
                return Ok(());
            }
            let now = self.clock.now();
            stall.did_not_run(now.saturating_duration_since(last_turn).saturating_sub(LONGEST_TURN));
            last_turn = now;
            for (partition, target) in &mut self.targets {
                if let Some(position) = ffi::position(&clients.committed, self.topic, *partition) {
                    target.advance(position);
                }
            }
            if let Some(error) = error {
                match (error.class, error.partition) {
                    (ErrorClass::OffsetOutOfRange, Some(partition)) => {
                        self.restart(clients, observer, partition, &error.reason)?;
                    }
                    (_, _) => {
                        observer.client_failed(&error)?;
                        stall.failed(error.reason, now);
                    }
                }
            }
            if self.targets.values().map(|target| target.position.0).sum::<i64>() > before {
                stall.moved(now);
            }
            if let Some(statistics) = clients.committed.context().take_statistics(self.topic) {
                stall.reported(self.reports(&statistics), statistics.delay(), now);
            }
            if let Some(cause) = stall.verdict(self.stall_limit, now) {
                return Err(ReadStop::Stalled(self.stalled(cause, stall.state(now).stalled)));
            }
            let state = stall.state(now);
            self.follow_leader(clients, &mut repairs, state, now).map_err(ReadStop::Client)?;
            observer.turn(&self.targets, state, now)?;
        }
        Ok(())
    }

    /// Repairs the clients of a read whose broker sends nothing. The read goes on from where it is.
    fn follow_leader<C: TakesStatistics + Clone + 'static>(
        &self,
        clients: &mut ReaderClients<C>,
        repairs: &mut Repairs,
        stall: ReadStall,
        now: Instant,
    ) -> Result<(), String> {
        if stall.silent < SILENT_AFTER {
            repairs.silences = 0;
            return Ok(());
        }
        if now < repairs.next {
            return Ok(());
        }
        let old = Arc::as_ptr(&clients.committed);
        clients.repair(ErrorClass::TimedOut, &mut repairs.silences, self.topic);
        repairs.next = self.clock.now() + REPAIR_PAUSE;
        if std::ptr::eq(old, Arc::as_ptr(&clients.committed)) { Ok(()) } else { self.assign(clients) }
    }

    /// Returns what the client reports about each partition that is still being read.
    fn reports(&self, statistics: &ConsumerStatistics) -> Vec<(Partition, Position, LogReport)> {
        let below = |partition| self.targets.get(&partition).filter(|target| target.is_below_target());
        let reports = statistics.partitions.iter().filter_map(|of| {
            let (last_stable, high_watermark) = (of.last_stable, of.high_watermark);
            let log = LogReport { last_stable, high_watermark, since_response: of.since_response };
            Some((of.partition, below(of.partition)?.position, log))
        });
        reports.collect()
    }

    fn stalled(&self, cause: StallCause, stalled: Duration) -> StalledRead {
        let first =
            || self.targets.iter().find(|(_, target)| target.is_below_target()).map(|(partition, _)| *partition);
        let partition = match &cause {
            StallCause::OpenTransaction(partition) => Some(*partition),
            StallCause::Error(_) | StallCause::NoResponse(_) => first(),
        };
        let partition = partition.unwrap_or(Partition(0));
        let none = Target { position: Position(0), until: Position(0) };
        StalledRead { partition, target: self.targets.get(&partition).copied().unwrap_or(none), stalled, cause }
    }

    /// Hands the records that have arrived to the observer. Waits up to [`POLL`] if none have.
    fn take_available<C: TakesStatistics + Clone + 'static, O: ReadObserver<C>>(
        &mut self,
        clients: &mut ReaderClients<C>,
        observer: &mut O,
    ) -> (ControlFlow<()>, Option<ReadError>) {
        ffi::serve_token(clients.committed.client());
        // Errors about no partition arrive here, and the callbacks are served.
        if let Some(Err(error)) = clients.committed.poll(Duration::ZERO) {
            let error = ReadError { partition: None, class: ErrorClass::of(&error), reason: error.to_string() };
            return (ControlFlow::Continue(()), Some(error));
        }
        let (mut stopped, mut failed) = (ControlFlow::Continue(()), None);
        let mut visit = |taken: Taken<'_>| match taken {
            Taken::Record(partition, record) => {
                let Some(target) = self.targets.get_mut(&partition) else { return };
                // Records that were appended after the watermark was fetched are left out.
                if stopped.is_continue() && record.offset().is_before(target.until) {
                    stopped = observer.record(&record);
                }
                target.advance(record.offset().next());
            }
            Taken::Failed { partition, class, reason, .. } => {
                failed = Some(ReadError { partition: Some(partition), class, reason });
            }
        };
        if clients.records.wait(POLL, &mut visit) > 0 {
            clients.records.take_ready(MAX_TAKEN, &mut visit);
        }
        (stopped, failed)
    }

    /// Continues at the start of the log: retention or compaction has cut the log above the position. The records in
    /// between are gone, and the rest is read.
    fn restart<C: TakesStatistics + Clone + 'static, O: ReadObserver<C>>(
        &mut self,
        clients: &mut ReaderClients<C>,
        observer: &mut O,
        partition: Partition,
        reason: &str,
    ) -> Result<(), ReadStop<O::Failure>> {
        let low = observer.log_start(clients, partition)?;
        match self.targets.get_mut(&partition) {
            Some(target) if target.position < low => target.advance(low),
            _ => return Err(ReadStop::Client(format!("{}/{partition} cannot be read: {reason}", self.topic))),
        }
        self.assign(clients).map_err(ReadStop::Client)
    }

    fn assign<C: TakesStatistics + Clone + 'static>(&self, clients: &ReaderClients<C>) -> Result<(), String> {
        self.release(clients)?;
        // By itself the client requests the metadata of a topic that it does not know only once a second: a recovery of
        // three topics would take three seconds, however little there is to read. If this request fails, the client's
        // own follows.
        clients.learn(clients.committed.fetch_metadata(Some(self.topic), METADATA_LIMIT));
        let mut list = TopicPartitionList::with_capacity(self.targets.len());
        for (partition, target) in self.targets.iter().filter(|(_, target)| target.is_below_target()) {
            list.add_partition_offset(self.topic, partition.0, KafkaOffset::Offset(target.position.0))
                .map_err(|error| error.to_string())?;
            clients.records.forward(self.topic, *partition);
        }
        clients.committed.assign(&list).map_err(|error| error.to_string())
    }

    /// c) Waits until the client has forgotten the partitions.
    fn release<C: TakesStatistics + Clone + 'static>(&self, clients: &ReaderClients<C>) -> Result<(), String> {
        let client = &clients.committed;
        client.unassign().map_err(|error| error.to_string())?;
        let deadline = self.clock.now() + RELEASE_LIMIT;
        let is_held = |partition: &&Partition| ffi::position(client, self.topic, **partition).is_some();
        while let Some(partition) = self.targets.keys().find(is_held) {
            if self.clock.now() >= deadline {
                return Err(format!("the client does not release {}/{partition}", self.topic));
            }
            drop(client.poll(Duration::from_millis(1)));
        }
        Ok(())
    }
}

impl Target {
    fn advance(&mut self, position: Position) {
        self.position = self.position.max(position.min(self.until));
    }

    fn is_below_target(&self) -> bool {
        self.position < self.until
    }
}
