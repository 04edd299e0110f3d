//! Owns reading a topic from its start to its end, for `steward state` and `steward dlq`: committed records, every
//! partition or one, or a single record.
//!
//! The end is taken first, and without regard to transactions: whatever was committed before the question is read,
//! and an open transaction makes the reader wait, to a limit, instead of ending early. Positions, not records, tell
//! when the end is reached: transaction markers take offsets too.
//!
//! Architecture invariant: it never joins a group and commits nothing, so it disturbs nobody.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{ClientConfig, Offset as ClientOffset, TopicPartitionList};

use crate::config::Config;
use crate::kafka::admin::access::{Access, AccessFailure, ClientMessages, UNKNOWN_TOPIC_PATIENCE};
use crate::kafka::client::context::{ClientRole, ReportingContext};
use crate::kafka::client::errors::{ErrorClass, Resource, class_of};
use crate::kafka::client::ffi::headers_of;
use crate::kafka::client::settings::{self, Isolation, SettingsError};
use crate::kafka::reader::committed::serve;
use crate::ports::Clock;
use crate::record::{Offset, Partition, Position};

/// One wait for records; then the positions are looked at.
const POLL: Duration = Duration::from_millis(100);

/// One record that was read.
pub struct ReadRecord<'a>(&'a BorrowedMessage<'a>);

impl ReadRecord<'_> {
    /// The partition that holds it.
    #[must_use]
    pub fn partition(&self) -> Partition {
        Partition(self.0.partition())
    }

    /// Where it stands in the partition.
    #[must_use]
    pub fn offset(&self) -> Offset {
        Offset(self.0.offset())
    }

    /// The key; `None` where it is null.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.0.key()
    }

    /// The value; `None` where it is null.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.0.payload()
    }

    /// Milliseconds since 1970; `None` where the record has no timestamp.
    #[must_use]
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.0.timestamp().to_millis()
    }

    /// Names and values of the headers, in order; what is not UTF-8 in a name is replaced.
    #[must_use]
    pub fn headers(&self) -> Vec<(Cow<'_, str>, Option<&[u8]>)> {
        headers_of(self.0)
    }

    /// The value of the last header of this name; `None` where there is none, or where it is null.
    #[must_use]
    pub fn last_header(&self, name: &str) -> Option<&[u8]> {
        self.headers().into_iter().rev().find(|(found, _)| found == name)?.1
    }
}

/// How far the reading has come, in offsets, all partitions together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicProgress {
    /// Passed so far.
    pub done: u64,
    /// From the starts to the ends.
    pub total: u64,
}

/// Which partitions are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadScope {
    /// All of them.
    All,
    /// This one.
    One(Partition),
    /// At most the record at this offset.
    Record(Partition, Offset),
}

impl ReadScope {
    /// The partition, where it is only one.
    fn partition(self) -> Option<Partition> {
        match self {
            ReadScope::All => None,
            ReadScope::One(partition) | ReadScope::Record(partition, _) => Some(partition),
        }
    }

    /// The part of a log that is read.
    fn within(self, ends: Ends) -> Ends {
        match self {
            ReadScope::All | ReadScope::One(_) => ends,
            ReadScope::Record(_, offset) => {
                let low = Position(offset.0).clamp(ends.low, ends.high);
                Ends { low, high: offset.next().clamp(low, ends.high) }
            }
        }
    }
}

/// A topic, ready to be read.
pub struct TopicReader<'a> {
    consumer: BaseConsumer<ReportingContext>,
    topic: String,
    servers: String,
    ends: BTreeMap<Partition, Ends>,
    heard: std::sync::Arc<ClientMessages>,
    limit: Duration,
    clock: &'a dyn Clock,
}

#[derive(Debug, Clone, Copy)]
struct Ends {
    low: Position,
    high: Position,
}

impl TopicReader<'_> {
    /// Connects, makes sure that the topic is there, and takes the ends of its partitions.
    ///
    /// # Errors
    /// Nobody answers within `limit`, topic or partition do not exist, or the settings or the user are refused.
    pub fn open<'a>(
        config: &Config,
        topic: &str,
        scope: ReadScope,
        limit: Duration,
        clock: &'a dyn Clock,
    ) -> Result<TopicReader<'a>, AccessFailure> {
        TopicReader::open_patiently(config, topic, scope, (limit, UNKNOWN_TOPIC_PATIENCE), clock)
    }

    /// The same for a topic that need not be there; `None` where it is not.
    ///
    /// # Errors
    /// As [`TopicReader::open`], but for a topic that does not exist.
    pub fn open_if_there<'a>(
        config: &Config,
        topic: &str,
        scope: ReadScope,
        limit: Duration,
        clock: &'a dyn Clock,
    ) -> Result<Option<TopicReader<'a>>, AccessFailure> {
        match TopicReader::open_patiently(config, topic, scope, (limit, Duration::ZERO), clock) {
            Err(AccessFailure::UnknownTopic { .. }) => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// `patience` is for an answer, and for a topic that was created a moment ago.
    fn open_patiently<'a>(
        config: &Config,
        topic: &str,
        scope: ReadScope,
        patience: (Duration, Duration),
        clock: &'a dyn Clock,
    ) -> Result<TopicReader<'a>, AccessFailure> {
        let (limit, unknown_patience) = patience;
        let heard = ClientMessages::new();
        let context = || ReportingContext::new(config, ClientRole::Reader, heard.clone());
        let build = |settings: ClientConfig| -> Result<BaseConsumer<ReportingContext>, AccessFailure> {
            Ok(settings.create_with_context(context()).map_err(|error| SettingsError::of(&error, config))?)
        };
        let consumer = build(settings::topic_reader(config))?;
        let uncommitted = build(settings::reader(config, Isolation::Uncommitted))?;

        let servers = config.kafka.bootstrap_servers.clone();
        let access = Access { topic, servers: &servers, limit, clock, heard: &heard };
        let partitions = access.partitions_within(unknown_patience, uncommitted.client(), || serve(&uncommitted))?;
        let partitions = match scope.partition() {
            None => partitions,
            Some(asked) if partitions.contains(&asked) => vec![asked],
            Some(asked) => {
                let last = partitions.last().copied().unwrap_or(Partition(0));
                return Err(AccessFailure::UnknownPartition { topic: topic.to_owned(), last, asked });
            }
        };
        let mut ends = BTreeMap::new();
        for partition in partitions {
            ends.insert(partition, scope.within(ends_of(&uncommitted, partition, &access)?));
        }
        Ok(TopicReader { consumer, topic: topic.to_owned(), servers, ends, heard, limit, clock })
    }

    /// How many partitions are read.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.ends.len()
    }

    /// Reads every committed record up to the ends, in the order of the offsets within a partition, or until `take` has
    /// enough.
    ///
    /// # Errors
    /// Nothing moved within the limit, or the broker refuses.
    pub fn read(
        self,
        mut take: impl FnMut(ReadRecord<'_>) -> ControlFlow<()>,
        mut progress: impl FnMut(TopicProgress),
    ) -> Result<(), AccessFailure> {
        let mut assignment = TopicPartitionList::new();
        for (partition, ends) in self.ends.iter().filter(|(_, ends)| ends.low < ends.high) {
            let offset = ClientOffset::Offset(ends.low.0);
            assignment
                .add_partition_offset(&self.topic, partition.0, offset)
                .expect("a log's start is no negative number, which would mean something else");
        }
        let mut reached: BTreeMap<Partition, Position> =
            self.ends.iter().map(|(partition, ends)| (*partition, ends.low)).collect();
        progress(self.progress(&reached));
        if assignment.count() == 0 {
            return Ok(());
        }
        self.consumer.assign(&assignment).map_err(|error| self.failed(&error))?;
        let mut moved = self.clock.now();
        let mut looked = moved;
        while !self.is_at_the_end(&reached) {
            let mut has_moved = false;
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    let (partition, offset) = (Partition(message.partition()), Offset(message.offset()));
                    // What was appended since is not asked for.
                    if self.ends.get(&partition).is_some_and(|ends| offset.is_before(ends.high)) {
                        has_moved = true;
                        reached.insert(partition, offset.next());
                        if take(ReadRecord(&message)).is_break() {
                            return Ok(());
                        }
                    }
                }
                Some(Err(error)) if is_passing(&error) => {}
                Some(Err(error)) => return Err(self.failed(&error)),
                None => {}
            }
            let now = self.clock.now();
            if now - looked >= POLL {
                looked = now;
                has_moved |= self.look(&mut reached);
                progress(self.progress(&reached));
            }
            if has_moved {
                moved = now;
            } else if now - moved >= self.limit {
                return Err(self.stuck(&reached));
            }
        }
        progress(self.progress(&reached));
        Ok(())
    }

    /// Takes the client's positions, which also pass what is no record. Tells whether one of them has moved.
    fn look(&self, reached: &mut BTreeMap<Partition, Position>) -> bool {
        let Ok(positions) = self.consumer.position() else { return false };
        let mut has_moved = false;
        for element in positions.elements() {
            let Some(position) = reached.get_mut(&Partition(element.partition())) else { continue };
            if let ClientOffset::Offset(offset) = element.offset()
                && Position(offset) > *position
            {
                *position = Position(offset);
                has_moved = true;
            }
        }
        has_moved
    }

    fn is_at_the_end(&self, reached: &BTreeMap<Partition, Position>) -> bool {
        self.ends.iter().all(|(partition, ends)| reached.get(partition).is_some_and(|position| *position >= ends.high))
    }

    fn progress(&self, reached: &BTreeMap<Partition, Position>) -> TopicProgress {
        let total = self.ends.values().map(|ends| ends.high.distance_from(ends.low)).sum();
        let passed = |(partition, ends): (&Partition, &Ends)| {
            reached.get(partition).map_or(0, |position| (*position).min(ends.high).distance_from(ends.low))
        };
        TopicProgress { done: self.ends.iter().map(passed).sum(), total }
    }

    fn failed(&self, error: &KafkaError) -> AccessFailure {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        if class_of(code).is_access_refusal() {
            let (topic, servers) = (self.topic.as_str(), self.servers.as_str());
            let access = Access { topic, servers, limit: self.limit, clock: self.clock, heard: &self.heard };
            return access.refused(code);
        }
        let remedy = "see the broker's log, then try again";
        AccessFailure::Refused { what: format!("topic {}", self.topic), code: error.to_string(), remedy }
    }

    fn stuck(&self, reached: &BTreeMap<Partition, Position>) -> AccessFailure {
        let behind = self.ends.iter().find(|(partition, ends)| reached[*partition] < ends.high);
        let place = behind.map_or_else(String::new, |(partition, ends)| {
            format!(" partition {partition} at position {} of {}", reached[partition], ends.high)
        });
        AccessFailure::Stuck {
            what: format!("topic {}{place}", self.topic),
            limit_ms: self.limit.as_millis(),
            heard: self.heard.last(),
            remedy: "see whether the brokers run; if they do, an open transaction is in the way: find it with kafka-transactions.sh find-hanging",
        }
    }
}

/// The ends, those of open transactions included.
fn ends_of(
    uncommitted: &BaseConsumer<ReportingContext>,
    partition: Partition,
    access: &Access<'_>,
) -> Result<Ends, AccessFailure> {
    let began = access.clock.now();
    loop {
        match uncommitted.fetch_watermarks(access.topic, partition.0, access.limit) {
            Ok((low, high)) => return Ok(Ends { low: Position(low), high: Position(high) }),
            Err(error) => match error.rdkafka_error_code() {
                Some(code) if class_of(code).is_access_refusal() => return Err(access.refused(code)),
                _ if access.clock.now() - began >= access.limit => {
                    return Err(AccessFailure::Unreachable {
                        servers: access.servers.to_owned(),
                        limit_ms: access.limit.as_millis(),
                        heard: Some(access.heard.last().unwrap_or_else(|| error.to_string())),
                    });
                }
                _ => std::thread::sleep(POLL),
            },
        }
    }
}

/// Returns whether the client continues by itself.
fn is_passing(error: &KafkaError) -> bool {
    matches!(
        ErrorClass::of(error),
        ErrorClass::Unreachable
            | ErrorClass::AllBrokersDown
            | ErrorClass::TimedOut
            | ErrorClass::NoLeader
            | ErrorClass::LeaderMoved
            | ErrorClass::OffsetOutOfRange
            | ErrorClass::EndOfPartition
            // The client names a group only because it must, so errors of the group do not matter.
            | ErrorClass::Forbidden(Resource::Group)
            | ErrorClass::CoordinatorAway
    )
}
