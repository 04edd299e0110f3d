//! Owns reading a topic from its start to its high watermarks, for the commands: committed records of every partition,
//! of one, or a single record.
//!
//! The high watermarks are fetched first. Records that were committed before that are read; an open transaction makes
//! the reader wait, up to a limit, instead of ending early.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::config::Config;
use crate::engine::recovery::LogBounds;
use crate::engine::recovery::read_stall::{ReadStall, StallCause};
use crate::kafka::admin::access::{Access, AccessFailure, ClientMessages, UNKNOWN_TOPIC_PATIENCE};
use crate::kafka::client::context::{ClientRole, ReportingContext};
use crate::kafka::client::errors::{ErrorClass, Resource, class_of};
use crate::kafka::client::forwarded_queue::Incoming;
pub use crate::kafka::client::forwarded_queue::Incoming as ReadRecord;
use crate::kafka::client::settings::{ReaderClientSettings, SettingsError};
use crate::kafka::client::unsubscribed::serve;
use crate::kafka::reader::watermark_read::{
    ReadError, ReadObserver, ReadStop, ReaderClients, StalledRead, Target, WatermarkRead,
};
use crate::ports::Clock;
use crate::record::{Offset, Partition, Position};

/// Pause before the high watermark is requested again.
const REQUEST_PAUSE: Duration = Duration::from_millis(100);

const REPORT_EVERY: Duration = Duration::from_millis(100);

/// How far the read is, in offsets, all partitions together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicProgress {
    pub done: u64,
    pub total: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadScope {
    All,
    One(Partition),
    /// At most the record at this offset.
    Record(Partition, Offset),
}

impl ReadScope {
    fn partition(self) -> Option<Partition> {
        match self {
            ReadScope::All => None,
            ReadScope::One(partition) | ReadScope::Record(partition, _) => Some(partition),
        }
    }

    fn within(self, ends: LogBounds) -> LogBounds {
        match self {
            ReadScope::All | ReadScope::One(_) => ends,
            ReadScope::Record(_, offset) => {
                let low = Position(offset.0).clamp(ends.low, ends.high);
                LogBounds { low, high: offset.next().clamp(low, ends.high) }
            }
        }
    }
}

pub struct TopicReader<'a> {
    clients: ReaderClients<ReportingContext>,
    topic: String,
    servers: String,
    ends: BTreeMap<Partition, LogBounds>,
    messages: Arc<ClientMessages>,
    limit: Duration,
    clock: &'a dyn Clock,
}

impl TopicReader<'_> {
    /// Connects, checks that the topic exists, and fetches the bounds of its partitions.
    ///
    /// # Errors
    /// No broker responds within `limit`, topic or partition do not exist, or the settings or the user are refused.
    pub fn open<'a>(
        config: &Config,
        topic: &str,
        scope: ReadScope,
        limit: Duration,
        clock: &'a dyn Clock,
    ) -> Result<TopicReader<'a>, AccessFailure> {
        TopicReader::open_patiently(config, topic, scope, (limit, UNKNOWN_TOPIC_PATIENCE), clock)
    }

    /// Like [`TopicReader::open`]; `None` if the topic does not exist.
    pub fn open_if_exists<'a>(
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

    /// `patience`: for a response, and for a topic that may have been created a moment ago.
    fn open_patiently<'a>(
        config: &Config,
        topic: &str,
        scope: ReadScope,
        patience: (Duration, Duration),
        clock: &'a dyn Clock,
    ) -> Result<TopicReader<'a>, AccessFailure> {
        let (limit, unknown_patience) = patience;
        let messages = ClientMessages::new();
        let context = ReportingContext::new(config, ClientRole::Reader, messages.clone());
        let clients = ReaderClients::build(&ReaderClientSettings::new(config), &context)
            .map_err(|error| SettingsError::of(&error, config))?;
        let uncommitted = &clients.uncommitted;

        let servers = config.kafka.bootstrap_servers.clone();
        let access = Access { topic, servers: &servers, limit, clock, client_errors: &messages };
        let partitions = access.partitions(unknown_patience, uncommitted.client(), || serve(uncommitted))?;
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
            ends.insert(partition, scope.within(ends_of(uncommitted, partition, &access)?));
        }
        Ok(TopicReader { clients, topic: topic.to_owned(), servers, ends, messages, limit, clock })
    }

    pub fn partitions(&self) -> usize {
        self.ends.len()
    }

    /// Reads every committed record up to the high watermarks, in the order of the offsets within a partition, or until
    /// `take` breaks.
    ///
    /// # Errors
    /// No position moved within the limit, or the broker refuses.
    pub fn read(
        self,
        take: impl FnMut(ReadRecord<'_>) -> ControlFlow<()>,
        progress: impl FnMut(TopicProgress),
    ) -> Result<(), AccessFailure> {
        let TopicReader { mut clients, topic, servers, ends, messages, limit, clock } = self;
        let targets: BTreeMap<Partition, Target> = ends
            .iter()
            .filter(|(_, ends)| ends.low < ends.high)
            .map(|(partition, ends)| (*partition, Target { position: ends.low, until: ends.high }))
            .collect();
        let access = Access { topic: &topic, servers: &servers, limit, clock, client_errors: &messages };
        let total = ends.values().map(|ends| ends.high.distance_from(ends.low)).sum();
        let mut observer = CommandRead { access, total, reported: clock.now(), take, progress };
        observer.report(&targets);
        if targets.is_empty() {
            return Ok(());
        }
        let read = WatermarkRead { topic: &topic, targets, stall_limit: limit, clock };
        read.run(&mut clients, &mut observer).map_err(|stop| match stop {
            ReadStop::Observer(failure) => failure,
            ReadStop::Client(reason) => observer.failed(reason),
            ReadStop::Stalled(stall) => observer.stuck(stall),
        })
    }
}

const LOOK_AT_BROKERS: &str = "see whether the brokers run and whether this machine reaches each of them";

struct CommandRead<'a, T, P> {
    access: Access<'a>,
    /// Offsets from the starts to the high watermarks.
    total: u64,
    reported: Instant,
    take: T,
    progress: P,
}

impl<T, P: FnMut(TopicProgress)> CommandRead<'_, T, P> {
    fn report(&mut self, targets: &BTreeMap<Partition, Target>) {
        let left: u64 = targets.values().map(|target| target.until.distance_from(target.position)).sum();
        (self.progress)(TopicProgress { done: self.total - left, total: self.total });
    }

    fn failed(&self, reason: String) -> AccessFailure {
        let remedy = "see the broker's log, then try again";
        AccessFailure::Refused { what: format!("topic {}", self.access.topic), code: reason, remedy }
    }

    fn stuck(&self, stall: StalledRead) -> AccessFailure {
        let StalledRead { partition, target: Target { position, until }, cause, .. } = stall;
        let (error, remedy) = match cause {
            StallCause::OpenTransaction(_) => (
                None,
                "an open transaction is in the way: wait for its end, or find it with kafka-transactions.sh find-hanging and abort it",
            ),
            StallCause::Error(error) => (Some(error), LOOK_AT_BROKERS),
            StallCause::NoResponse(_) => (Some("the partition's broker sends nothing".to_owned()), LOOK_AT_BROKERS),
        };
        AccessFailure::Stuck {
            what: format!("topic {} partition {partition} at position {position} of {until}", self.access.topic),
            limit_ms: self.access.limit.as_millis(),
            last_error: self.access.client_errors.last().or(error),
            remedy,
        }
    }
}

impl<T, P> ReadObserver<ReportingContext> for CommandRead<'_, T, P>
where
    T: FnMut(ReadRecord<'_>) -> ControlFlow<()>,
    P: FnMut(TopicProgress),
{
    type Failure = AccessFailure;

    fn record(&mut self, record: &Incoming<'_>) -> ControlFlow<()> {
        (self.take)(*record)
    }

    fn turn(&mut self, targets: &BTreeMap<Partition, Target>, _: ReadStall, now: Instant) -> Result<(), AccessFailure> {
        let is_done = targets.values().all(|target| target.position == target.until);
        if is_done || now.saturating_duration_since(self.reported) >= REPORT_EVERY {
            self.reported = now;
            self.report(targets);
        }
        Ok(())
    }

    fn client_failed(&mut self, error: &ReadError) -> Result<(), AccessFailure> {
        if is_passing(error.class) {
            Ok(())
        } else if error.class.is_access_refusal() {
            Err(self.access.refused(&error.reason))
        } else {
            Err(self.failed(error.reason.clone()))
        }
    }

    fn log_start(
        &mut self,
        clients: &mut ReaderClients<ReportingContext>,
        partition: Partition,
    ) -> Result<Position, AccessFailure> {
        Ok(ends_of(&clients.uncommitted, partition, &self.access)?.low)
    }
}

/// Returns the bounds of the log, with the records of open transactions.
fn ends_of(
    uncommitted: &BaseConsumer<ReportingContext>,
    partition: Partition,
    access: &Access<'_>,
) -> Result<LogBounds, AccessFailure> {
    let began = access.clock.now();
    loop {
        match uncommitted.fetch_watermarks(access.topic, partition.0, access.limit) {
            Ok((low, high)) => return Ok(LogBounds { low: Position(low), high: Position(high) }),
            Err(error) => match error.rdkafka_error_code() {
                Some(code) if class_of(code).is_access_refusal() => return Err(access.refused(code)),
                _ if access.clock.now() - began >= access.limit => return Err(access.unreachable(Some(error))),
                _ => std::thread::sleep(REQUEST_PAUSE),
            },
        }
    }
}

/// Returns whether the client continues by itself.
fn is_passing(class: ErrorClass) -> bool {
    matches!(
        class,
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
