//! Reads one partition of the three topics again, to its true end: the [`PartitionReader`] port.
//!
//! Commit markers reach partitions one by one, so a group's committed offsets can be stable before a state partition's
//! last stable offset has moved. A read therefore takes its target, the high watermark, from a client that sees
//! uncommitted records, and reads committed ones until its *position* is there: markers take offsets too, and the
//! records of aborted transactions are never seen, so the last record says nothing.
//!
//! Every wait ends: with the partition's epoch, which is looked at several times a second; when the position stands
//! still for longer than any transaction may last, which is a hanging transaction; or when the brokers' errors last as
//! long.
//!
//! Architecture invariant: these consumers never join the group; a partition is assigned by hand, and given back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use crate::engine::commit::transaction::Committed;
use crate::engine::ownership::Ownership;
use crate::engine::recovery::driver::{PartitionReader, ReadFailure};
use crate::engine::recovery::{LogBounds, Topic};
use crate::kafka::client::batch_queue::{BatchQueue, MAX_TAKEN, QueueFailure, Taken};
use crate::kafka::client::errors::ErrorClass;
use crate::kafka::client::ffi;
use crate::kafka::client::settings::ReaderClientSettings;
use crate::kafka::reader::committed::{build, committed, serve};
use crate::ports::Clock;
use crate::record::{Batch, Epoch, Partition, Position, Record};

/// How often cancellation is looked at while nothing comes.
const POLL: Duration = Duration::from_millis(50);

/// How often progress is reported.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Copied at once before records are handed on: large enough to be quick, small enough for several readers.
const CHUNK_BYTES: u64 = 262_144;

/// What one turn of reading counts for at most, far above what it takes.
const LONGEST_TURN: Duration = Duration::from_secs(5);

/// How long one question for bounds or committed offsets may block, so that cancellation is seen in between.
const ASK_SLICE: Duration = Duration::from_secs(1);

/// How long the client may take to forget a partition that was read before.
const RELEASE_LIMIT: Duration = Duration::from_secs(10);

/// The consumers that read: one pair for each recovery thread, used for one partition after the other.
pub struct ReaderClients<C: ConsumerContext + 'static> {
    /// Reads committed records, and asks for committed offsets.
    committed: Arc<BaseConsumer<C>>,
    /// Where the records of the partition that is read arrive.
    records: BatchQueue<C>,
    /// Knows the high watermarks.
    uncommitted: BaseConsumer<C>,
    /// Whose committed offsets are asked for.
    group: String,
}

impl<C: ConsumerContext + Clone + 'static> ReaderClients<C> {
    /// Builds the pair.
    ///
    /// # Errors
    /// [`ReadFailure::Kafka`] when the client refuses its configuration.
    pub fn new(settings: &ReaderClientSettings, context: &C) -> Result<ReaderClients<C>, ReadFailure> {
        let build = |settings| {
            build(settings, context.clone())
                .map_err(|error| ReadFailure::Kafka(format!("a client that reads partitions cannot be built: {error}")))
        };
        let committed = Arc::new(build(&settings.committed)?);
        let records = BatchQueue::new(Arc::clone(&committed));
        Ok(ReaderClients {
            committed,
            records,
            uncommitted: build(&settings.uncommitted)?,
            group: settings.group_id.clone(),
        })
    }

    /// Lets the clients call back while nothing is read.
    pub fn serve(&self) {
        serve(&self.committed);
        serve(&self.uncommitted);
    }
}

/// The names of the three topics, and how long is too long.
#[derive(Debug, Clone)]
pub struct ReaderSettings {
    /// Events.
    pub input: String,
    /// Snapshots.
    pub state: String,
    /// DLQ records.
    pub dlq: String,
    /// A position that stands still for longer, or an error that lasts longer, ends the read. Longer than any
    /// transaction may last, and than the coordinator takes to notice: its timeout and 15 s.
    pub stall_limit: Duration,
}

impl ReaderSettings {
    /// The limit that belongs to a transaction timeout.
    #[must_use]
    pub fn stall_limit_for(transaction_timeout: Duration) -> Duration {
        transaction_timeout + Duration::from_secs(15)
    }

    fn name(&self, topic: Topic) -> &str {
        match topic {
            Topic::Input => &self.input,
            Topic::State => &self.state,
            Topic::Dlq => &self.dlq,
        }
    }
}

/// What a reader tells about every second, while it goes on or waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportedEnd {
    /// A read goes on, or stands still.
    Reading(ReadProgress),
    /// The group's committed offset is held back by a transaction that is open, since so long.
    OffsetHeldBack(Duration),
}

/// How far a read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadProgress {
    /// Which topic.
    pub topic: Topic,
    /// Which partition.
    pub partition: Partition,
    /// Where the reader stands.
    pub position: Position,
    /// Where it has to get.
    pub until: Position,
    /// How long the position has stood still: an open transaction, or brokers that do not answer.
    pub stalled: Duration,
}

/// Reads one partition under one epoch.
pub struct KafkaPartitionReader<'a, C: ConsumerContext + 'static> {
    clients: &'a mut ReaderClients<C>,
    settings: &'a ReaderSettings,
    partition: Partition,
    epoch: Epoch,
    ownership: Arc<Ownership>,
    clock: Arc<dyn Clock>,
    tell: &'a mut dyn FnMut(ReportedEnd),
}

impl<'a, C: ConsumerContext + 'static> KafkaPartitionReader<'a, C> {
    /// Borrows the clients until the partition is read. `tell` is called from within the questions and reads.
    pub fn new(
        clients: &'a mut ReaderClients<C>,
        settings: &'a ReaderSettings,
        (partition, epoch): (Partition, Epoch),
        ownership: Arc<Ownership>,
        clock: Arc<dyn Clock>,
        tell: &'a mut dyn FnMut(ReportedEnd),
    ) -> KafkaPartitionReader<'a, C> {
        KafkaPartitionReader { clients, settings, partition, epoch, ownership, clock, tell }
    }

    fn check_owned(&self) -> Result<(), ReadFailure> {
        match self.ownership.is_current(self.partition, self.epoch) {
            true => Ok(()),
            false => Err(ReadFailure::Cancelled),
        }
    }

    /// Asks again until there is an answer, an error that no waiting cures, or the limit passes.
    fn ask<T>(
        &self,
        what: &str,
        question: impl Fn(&ReaderClients<C>) -> Result<T, KafkaError>,
    ) -> Result<T, ReadFailure> {
        let deadline = self.clock.now() + self.settings.stall_limit;
        loop {
            if let Some(answer) = self.ask_once(what, deadline, &question)? {
                return Ok(answer);
            }
        }
    }

    /// `None`: ask again.
    fn ask_once<T>(
        &self,
        what: &str,
        deadline: Instant,
        question: impl Fn(&ReaderClients<C>) -> Result<T, KafkaError>,
    ) -> Result<Option<T>, ReadFailure> {
        self.check_owned()?;
        let error = match question(self.clients) {
            Ok(answer) => return Ok(Some(answer)),
            Err(error) => error,
        };
        let partition = self.partition;
        let failure = failure_of(&error);
        if failure == QueueFailure::NotAuthorized {
            return Err(ReadFailure::Denied(format!(
                "{what} of partition {partition} may not be asked for: {error}; allow Read on the group {} and on the topics {}, {} and {}",
                self.clients.group, self.settings.input, self.settings.state, self.settings.dlq
            )));
        }
        if failure == QueueFailure::Permanent || self.clock.now() >= deadline {
            return Err(ReadFailure::Kafka(format!("{what} of partition {partition} could not be had: {error}")));
        }
        // Some errors come at once; the poll also serves the client's callbacks.
        drop(self.clients.uncommitted.poll(POLL));
        Ok(None)
    }

    /// Whether the group's coordinator answers whoever does not mind open transactions: then one of these is why it does
    /// not answer others.
    fn is_offset_held_back(&self) -> bool {
        let asked = committed(&self.clients.uncommitted, &self.settings.input, &[self.partition], ASK_SLICE);
        asked.is_ok()
    }

    /// Makes the client forget the partition, so that a position can only come from the assignment that follows. The
    /// client does it on another thread: until then it still tells the position of the read before.
    fn release(&self, topic: &str) -> Result<(), ReadFailure> {
        let client = &self.clients.committed;
        client.unassign().map_err(|error| said(&error))?;
        let deadline = self.clock.now() + RELEASE_LIMIT;
        while ffi::position(client, topic, self.partition).is_some() {
            if self.clock.now() >= deadline {
                return Err(ReadFailure::Kafka(format!("the client does not give {topic}/{} back", self.partition)));
            }
            drop(client.poll(Duration::from_millis(1)));
        }
        Ok(())
    }

    /// Tells the client where the topic's partitions are. By itself it asks for a topic that it does not know only once
    /// a second: a recovery of three topics would take three seconds, however little there is to read.
    fn introduce(&self, topic: &str) -> Result<(), ReadFailure> {
        self.ask("the leader", |clients| clients.committed.fetch_metadata(Some(topic), ASK_SLICE).map(drop))
    }

    fn assign(&self, topic: &str, from: Position) -> Result<(), ReadFailure> {
        self.release(topic)?;
        self.introduce(topic)?;
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(topic, self.partition.0, KafkaOffset::Offset(from.0))
            .map_err(|error| said(&error))?;
        self.clients.records.forward(topic, self.partition);
        self.clients.committed.assign(&list).map_err(|error| said(&error))
    }
}

impl<C: ConsumerContext + 'static> PartitionReader for KafkaPartitionReader<'_, C> {
    fn committed(&mut self) -> Result<Option<Committed>, ReadFailure> {
        let (partition, began) = (self.partition, self.clock.now());
        let deadline = began + self.settings.stall_limit;
        let question =
            |clients: &ReaderClients<C>| committed(&clients.committed, &self.settings.input, &[partition], ASK_SLICE);
        loop {
            if let Some(told) = self.ask_once("the committed offset", deadline, question)? {
                return Ok(told.into_iter().next().and_then(|(_, committed)| committed));
            }
            if self.is_offset_held_back() {
                (self.tell)(ReportedEnd::OffsetHeldBack(self.clock.now().saturating_duration_since(began)));
            }
        }
    }

    fn bounds(&mut self, topic: Topic) -> Result<LogBounds, ReadFailure> {
        let name = self.settings.name(topic);
        let (low, high) = self.ask("the bounds", |clients| {
            serve(&clients.uncommitted);
            clients.uncommitted.fetch_watermarks(name, self.partition.0, ASK_SLICE)
        })?;
        Ok(LogBounds { low: Position(low), high: Position(high) })
    }

    fn read(
        &mut self,
        topic: Topic,
        from: Position,
        until: Position,
        take: &mut dyn FnMut(&Record<'_>),
    ) -> Result<(), ReadFailure> {
        let bounds = self.bounds(topic)?;
        // Behind the end there is nothing to wait for.
        let until = until.min(bounds.high);
        let from = from.max(bounds.low);
        if from >= until {
            return Ok(());
        }
        let name = self.settings.name(topic).to_owned();
        self.assign(&name, from)?;
        let result = self.read_assigned(topic, &name, from, until, take);
        // Stops the fetching; the next read waits until it has.
        self.clients.committed.unassign().map_err(|error| said(&error))?;
        result
    }
}

impl<C: ConsumerContext + 'static> KafkaPartitionReader<'_, C> {
    fn read_assigned(
        &mut self,
        topic: Topic,
        name: &str,
        from: Position,
        until: Position,
        take: &mut dyn FnMut(&Record<'_>),
    ) -> Result<(), ReadFailure> {
        let mut stall = StallTimer { position: from, since: self.clock.now(), error: None };
        let mut reported = stall.since;
        let mut looked = stall.since;
        let mut chunk = Batch::new(self.partition, self.epoch, from);
        while stall.position < until {
            self.check_owned()?;
            let failed = self.take_what_is_there(&mut chunk, until, take);
            let now = self.clock.now();
            stall.excuse(now.saturating_duration_since(looked));
            looked = now;
            let position = ffi::position(&self.clients.committed, name, self.partition).unwrap_or(stall.position);
            stall.observe(position.max(chunk.next()), now);
            match failed {
                None => {}
                Some((QueueFailure::OutOfRange, reason)) => {
                    // Retention has cut the log above the reader: what is gone was old, and the rest goes on.
                    let low = self.bounds(topic)?.low;
                    if low <= stall.position {
                        return Err(ReadFailure::Kafka(format!("{name}/{} cannot be read: {reason}", self.partition)));
                    }
                    stall.observe(low, now);
                    if low < until {
                        self.assign(name, low)?;
                    }
                }
                Some((QueueFailure::NotAuthorized, reason)) => {
                    return Err(ReadFailure::Denied(format!(
                        "{name} may not be read: {reason}; allow Read on topic {name}"
                    )));
                }
                Some((QueueFailure::Permanent, reason)) => return Err(ReadFailure::Kafka(reason)),
                Some((QueueFailure::TooLarge | QueueFailure::Transient, reason)) => stall.error = Some(reason),
            }
            let stalled = now.saturating_duration_since(stall.since);
            if stalled >= self.settings.stall_limit && stall.position < until {
                return Err(self.stalled(topic, &stall, until, stalled));
            }
            if now.saturating_duration_since(reported) >= REPORT_EVERY {
                reported = now;
                let (partition, position) = (self.partition, stall.position);
                (self.tell)(ReportedEnd::Reading(ReadProgress { topic, partition, position, until, stalled }));
            }
        }
        Ok(())
    }

    /// Hands on what has arrived, chunk by chunk, less the records at or behind `until`, and waits for a moment where
    /// nothing has. Says what keeps the client from reading on.
    fn take_what_is_there(
        &mut self,
        chunk: &mut Batch,
        until: Position,
        take: &mut dyn FnMut(&Record<'_>),
    ) -> Option<(QueueFailure, String)> {
        let ReaderClients { committed, records, .. } = &mut *self.clients;
        // What is of no partition arrives here, the callbacks too.
        if let Some(Err(error)) = committed.poll(Duration::ZERO) {
            return Some((failure_of(&error), error.to_string()));
        }
        let mut failed = None;
        let mut visit = |taken: Taken<'_>| match taken {
            Taken::Record(_, record) if record.offset().is_before(until) => {
                record.copy_into(chunk);
                if chunk.held_bytes() >= CHUNK_BYTES {
                    hand_on(chunk, take);
                }
            }
            Taken::Record(..) => chunk.advance_to(until),
            Taken::Failed { failure, reason, .. } => failed = Some((failure, reason)),
        };
        if records.wait(POLL, &mut visit) > 0 {
            records.drain(MAX_TAKEN, &mut visit);
        }
        hand_on(chunk, take);
        failed
    }

    fn stalled(&self, topic: Topic, stall: &StallTimer, until: Position, stalled: Duration) -> ReadFailure {
        match &stall.error {
            Some(error) => ReadFailure::Kafka(format!(
                "{}/{} could not be read for {} ms: {error}",
                self.settings.name(topic),
                self.partition,
                stalled.as_millis()
            )),
            None => ReadFailure::Hanging {
                topic,
                partition: self.partition,
                position: stall.position,
                until,
                stalled_ms: u64::try_from(stalled.as_millis()).unwrap_or(u64::MAX),
            },
        }
    }
}

fn hand_on(chunk: &mut Batch, take: &mut dyn FnMut(&Record<'_>)) {
    for record in chunk.iter() {
        take(&record);
    }
    chunk.clear();
}

/// Where the reader stands, since when, and the last error since then.
struct StallTimer {
    position: Position,
    since: Instant,
    error: Option<String>,
}

impl StallTimer {
    fn observe(&mut self, position: Position, now: Instant) {
        if position > self.position {
            *self = StallTimer { position, since: now, error: None };
        }
    }

    /// Time in which this process stood still says nothing about the transaction that is waited for.
    fn excuse(&mut self, turn: Duration) {
        self.since += turn.saturating_sub(LONGEST_TURN);
    }
}

fn failure_of(error: &KafkaError) -> QueueFailure {
    QueueFailure::of(ErrorClass::of(error))
}

fn said(error: &KafkaError) -> ReadFailure {
    ReadFailure::Kafka(error.to_string())
}
