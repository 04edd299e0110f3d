//! Makes the blocking calls of the client: one transaction, or one new producer, at a time. Facts a) to g) are those of
//! the parent module.
//!
//! Each call is announced before it begins, with its limit. A worker that the supervisor has abandoned ends at its next
//! announcement, and drops its clients.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::engine::commit::transaction::{
    CommitOutcome, CommittedOffset, RefusedRecord, ResetOutcome, TransactionContent,
};
use crate::engine::dead_owners::{FencedBy, FencingInquiry};
use crate::engine::foreign_members::GroupLook;
use crate::engine::outcome::RecordOrigin;
use crate::kafka::client::context::TakesStatistics;
use crate::kafka::client::describe_group::look_at_group;
use crate::kafka::client::errors::{BrokerRefusal, Cause, ClientCall, ErrorClass, KafkaFailure, Resource, class_of};
use crate::kafka::client::unsubscribed::RequestClient;
use crate::kafka::consumer::membership::Membership;
use crate::kafka::reader::committed_offsets::committed_offsets;
use crate::kafka::transactions::commit_thread::{Abandoned, CommitPhase, WorkerParts};
use crate::kafka::transactions::driver::{
    GroupOffsets, ProducerReadiness, TransactionDriver, TransactionOutcome, TransactionRequest,
};
use crate::kafka::transactions::producer_record::{ProducerRecord, of_output};
use crate::kafka::transactions::replicas::{UnwritablePartition, unwritable_partition};
use crate::kafka::transactions::topic_looks::RequestedLook;
use crate::kafka::transactions::transaction::ProducerParts;
use crate::record::Partition;

/// How long the registration of a new producer may take. Shorter than the watchdog's limit.
const REGISTER_LIMIT: Duration = Duration::from_secs(10);

/// How long the fetch of committed offsets may take, and one request for them. Without a response the next request has
/// another client.
const FETCH_COMMITTED_LIMIT: Duration = Duration::from_secs(10);
const FETCH_COMMITTED_REQUEST: Duration = Duration::from_secs(2);

/// Pause before the request is repeated. A coordinator that has just moved answers NOT_COORDINATOR.
const FETCH_COMMITTED_PAUSE: Duration = Duration::from_millis(20);

/// Shortest time between the end of a transaction and one that carries only offsets. The broker still writes the markers
/// of the last transaction for a moment, and refuses offsets meanwhile. The client repeats them only after its back-off,
/// and a repeated request leaves the transaction in doubt. Records wait 20 ms at a time, and so absorb it; offsets alone
/// do not.
const OFFSETS_ALONE_GAP: Duration = Duration::from_millis(50);

/// Pause between two looks at the group.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// How often the client's callbacks are served while there is nothing to send.
const IDLE_POLL: Duration = Duration::from_millis(200);

pub(super) enum Job {
    Commit(Arc<TransactionContent>, Sender<CommitOutcome>),
    /// Register a new producer, and fetch the committed offsets of these partitions.
    ResetProducer(Vec<Partition>, Sender<ResetOutcome>),
}

pub(super) struct Worker<C: TakesStatistics + Clone + 'static> {
    parts: WorkerParts<C>,
    number: u64,
    driver: TransactionDriver<C>,
    /// Fetches committed offsets; it never joins the group.
    offset_reader: RequestClient<C>,
    /// When the last transaction of this producer ended.
    last_end: Option<Instant>,
}

impl<C: TakesStatistics + Clone + 'static> Worker<C> {
    pub(super) fn new(parts: WorkerParts<C>, number: u64) -> Worker<C> {
        let driver = TransactionDriver::new(ProducerParts {
            config: parts.clients.producer.clone(),
            context: parts.context.clone(),
            clock: Arc::clone(&parts.clock),
            transaction_timeout: parts.settings.transaction_timeout,
            earlier: Arc::clone(&parts.earlier),
        });
        let offset_reader = RequestClient::new(parts.clients.offset_reader.clone(), parts.context.clone());
        Worker { parts, number, driver, offset_reader, last_end: None }
    }

    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let reported = match jobs.recv_timeout(IDLE_POLL) {
                Ok(Job::Commit(content, outcomes)) => {
                    self.commit(&content).and_then(|outcome| self.report(outcome, &outcomes))
                }
                Ok(Job::ResetProducer(partitions, outcomes)) => {
                    self.reset_producer(&partitions).and_then(|outcome| self.report(outcome, &outcomes))
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.serve_clients();
                    Ok(())
                }
                Err(RecvTimeoutError::Disconnected) => Err(Abandoned),
            };
            if reported.is_err() {
                return;
            }
        }
    }

    fn report<O>(&self, outcome: O, outcomes: &Sender<O>) -> Result<(), Abandoned> {
        self.enter(CommitPhase::Idle, None)?;
        outcomes.send(outcome).map_err(|_| Abandoned)
    }

    /// Serves the clients' callbacks: statistics, errors, and the refresh of access tokens.
    fn serve_clients(&self) {
        self.driver.serve();
        self.offset_reader.serve();
    }

    /// e) Announces a step. A step with a limit is abandoned if it takes much longer.
    fn enter(&self, step: CommitPhase, limit: Option<Duration>) -> Result<(), Abandoned> {
        self.parts.phase.enter(self.number, step, self.parts.clock.now(), limit)
    }

    fn commit(&mut self, content: &TransactionContent) -> Result<CommitOutcome, Abandoned> {
        assert_covered(content);
        let looks = self.parts.gates.topics.as_ref();
        let look = looks.and_then(|looks| looks.request_for(content));
        if let Some(Err(why)) = look.as_ref().map(RequestedLook::before_begin) {
            return Ok(not_looked_at(why));
        }
        let mut request = CommitTransaction { parts: &self.parts, number: self.number, content, look };
        let stale = request.stale();
        if !stale.is_empty() {
            return Ok(CommitOutcome::Stale(stale));
        }
        if let Membership::NotAMember(why) = (self.parts.gates.group)() {
            return Ok(CommitOutcome::StaleGeneration { cause: why.to_owned() });
        }
        match self.driver.state() {
            ProducerReadiness::Ready => {
                if let (Some(last_end), []) = (self.last_end, &*content.records) {
                    let since = self.parts.clock.now().saturating_duration_since(last_end);
                    std::thread::sleep(OFFSETS_ALONE_GAP.saturating_sub(since));
                }
            }
            ProducerReadiness::Replaceable => {
                self.enter(CommitPhase::ResettingProducer, None)?;
                if let Err(failure) = self.driver.replace(REGISTER_LIMIT) {
                    if let KafkaFailure::Fenced(cause) = &failure {
                        return self.fenced(cause);
                    }
                    let code = failure.cause().code;
                    let outcome = request.outcome(TransactionOutcome::without_producer(failure, true));
                    self.look_at_replicas(code);
                    return Ok(outcome);
                }
            }
            // `run` then returns in doubt, and the committer resets the producer.
            ProducerReadiness::ResetRequired => {}
        }
        let outcome = self.driver.run(&mut request)?;
        self.last_end = Some(self.parts.clock.now());
        if let TransactionOutcome::Fenced { cause, within_timeout: true } = &outcome {
            return self.fenced(cause);
        }
        let outcome = request.outcome(outcome);
        self.look_at_replicas(None);
        Ok(outcome)
    }

    /// Another process has registered the transactional id of this one: finds out why.
    fn fenced(&mut self, cause: &Cause) -> Result<CommitOutcome, Abandoned> {
        self.enter(CommitPhase::ResettingProducer, None)?;
        Ok(CommitOutcome::Fenced { cause: cause.to_string(), by: self.fenced_by() })
    }

    fn fenced_by(&mut self) -> FencedBy {
        let Worker { parts, offset_reader, .. } = self;
        let settings = &parts.settings;
        let inquiry = FencingInquiry::new(&settings.instance, settings.member_ids.clone(), parts.clock.now());
        let mut look = GroupLook::NoAnswer;
        loop {
            if let Some(by) = inquiry.looked(&look, parts.clock.now()) {
                return by;
            }
            look = look_at_group(offset_reader, &settings.group_id, &settings.topic);
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    fn reset_producer(&mut self, partitions: &[Partition]) -> Result<ResetOutcome, Abandoned> {
        self.enter(CommitPhase::ResettingProducer, None)?;
        self.last_end = None;
        let Worker { parts, number, driver, offset_reader, .. } = self;
        // A new client finds the coordinator while the producer registers. A failure is reported by the fetch.
        drop(offset_reader.prepare());
        let read_committed = || {
            let entered = parts.phase.enter(*number, CommitPhase::FetchingCommitted, parts.clock.now(), None);
            entered.map_err(ResetStop::Abandoned)?;
            fetch_committed(parts, offset_reader, partitions).map_err(ResetStop::Failed)
        };
        match driver.reset(REGISTER_LIMIT, read_committed) {
            Ok(Ok(committed)) => Ok(ResetOutcome::Ready(committed)),
            Ok(Err(ResetStop::Failed(cause))) => Ok(ResetOutcome::Failed { cause }),
            Ok(Err(ResetStop::Abandoned(abandoned))) => Err(abandoned),
            Err(KafkaFailure::Fenced(cause)) => Ok(match self.fenced_by() {
                FencedBy::AnotherProcess => ResetOutcome::Fenced { cause: cause.to_string() },
                FencedBy::Timeout | FencedBy::Recovery | FencedBy::Unknown => {
                    ResetOutcome::Failed { cause: cause.to_string() }
                }
            }),
            Err(failure) => {
                self.look_at_replicas(failure.cause().code);
                Ok(registration_outcome(failure))
            }
        }
    }

    /// Finds out whether the brokers cannot write to an output topic for now, if that would explain what happened: records
    /// were not delivered in time, or the coordinator has not ended the last transaction.
    fn look_at_replicas(&mut self, registration: Option<RDKafkaErrorCode>) {
        let cannot_end = registration == Some(RDKafkaErrorCode::ConcurrentTransactions);
        if !cannot_end && !self.parts.earlier.logs_refusals() {
            return;
        }
        let Worker { parts, offset_reader, .. } = self;
        let settings = &parts.settings;
        let unwritable = offset_reader.request(|client| {
            let outputs = [&settings.state_topic, &settings.dlq_topic].into_iter().zip(settings.min_in_sync);
            for (topic, min_in_sync) in outputs {
                if let Some(found) = unwritable_partition(client.client(), topic, min_in_sync)? {
                    return Ok(Some((topic, found)));
                }
            }
            Ok(None)
        });
        let now = parts.clock.now();
        // Without a response, the failure itself is all that can be reported.
        if let Ok(Some((topic, UnwritablePartition { partition, code }))) = unwritable {
            parts.earlier.refuses(topic, partition, code, now);
        } else if cannot_end {
            parts.earlier.still_ends(now);
        }
    }
}

/// Why a producer cannot be used although it has registered.
enum ResetStop {
    Abandoned(Abandoned),
    /// The committed offsets could not be fetched.
    Failed(String),
}

fn fetch_committed<C: TakesStatistics + Clone>(
    parts: &WorkerParts<C>,
    offset_reader: &mut RequestClient<C>,
    partitions: &[Partition],
) -> Result<Vec<(Partition, Option<CommittedOffset>)>, String> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let deadline = parts.clock.now() + FETCH_COMMITTED_LIMIT;
    loop {
        let topic = &parts.settings.topic;
        let fetch = |client: &_| committed_offsets(client, topic, partitions, FETCH_COMMITTED_REQUEST);
        let error = match offset_reader.request(fetch) {
            Ok(committed) => return Ok(committed),
            Err(error) => error,
        };
        let class = ErrorClass::of(&error);
        let may_pass = class == ErrorClass::CoordinatorAway || class.is_unreachable();
        if !may_pass || parts.clock.now() >= deadline {
            return Err(format!("the group's committed offsets could not be fetched: {error}"));
        }
        // The client asks for the coordinator meanwhile.
        std::thread::sleep(FETCH_COMMITTED_PAUSE);
    }
}

/// One transaction of the commit thread.
struct CommitTransaction<'a, C> {
    parts: &'a WorkerParts<C>,
    number: u64,
    content: &'a TransactionContent,
    /// What the commit has to wait for.
    look: Option<RequestedLook>,
}

/// Why the offsets are withheld.
enum Withheld {
    NotAMember(&'static str),
    /// The epochs of these partitions have ended.
    Stale(Vec<Partition>),
    /// No look at the topics has found them unchanged.
    NotLookedAt(&'static str),
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Withheld::NotAMember(why) | Withheld::NotLookedAt(why) => f.write_str(why),
            Withheld::Stale(_) => f.write_str("ownership ended"),
        }
    }
}

impl<C> TransactionRequest for CommitTransaction<'_, C> {
    type Stop = Abandoned;
    type Withheld = Withheld;

    fn before(&mut self, call: ClientCall, limit: Duration) -> Result<(), Abandoned> {
        self.parts.phase.enter(self.number, CommitPhase::of(call), self.parts.clock.now(), Some(limit))
    }

    fn records(&self) -> impl Iterator<Item = ProducerRecord<'_>> {
        let settings = &self.parts.settings;
        let origin = RecordOrigin { group: &settings.group_id, source_topic: &settings.topic };
        let records = self.content.records.iter();
        records.map(move |record| of_output(settings.topic_of(record.output()), &origin, record))
    }

    /// First the look at the topics, which may take a while; then a) the metadata, b) the epochs, c) the offsets.
    fn offsets(&mut self) -> Result<Option<GroupOffsets>, Withheld> {
        if let Some(look) = &self.look {
            look.before_offsets(self.parts.settings.transaction_timeout).map_err(Withheld::NotLookedAt)?;
        }
        let group = match (self.parts.gates.group)() {
            Membership::Member(group) => group,
            Membership::NotAMember(why) => return Err(Withheld::NotAMember(why)),
        };
        let stale = self.stale();
        if stale.is_empty() {
            Ok(Some(GroupOffsets { offsets: self.list(), group }))
        } else {
            Err(Withheld::Stale(stale))
        }
    }
}

impl<C> CommitTransaction<'_, C> {
    /// The partitions whose epoch has ended.
    fn stale(&self) -> Vec<Partition> {
        let ranges = self.content.offset_ranges.iter();
        let stale = ranges.filter(|range| !self.parts.gates.ownership.is_current(range.partition, range.epoch));
        stale.map(|range| range.partition).collect()
    }

    fn list(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(self.content.offset_ranges.len());
        for range in &self.content.offset_ranges {
            let mut element = list.add_partition(&self.parts.settings.topic, range.partition.0);
            element
                .set_offset(Offset::Offset(range.end.0))
                .expect("a position is an absolute offset, not a logical one");
            element.set_metadata(self.parts.metadata.of(self.content.number, range.newest_state));
        }
        list
    }

    fn outcome(&self, outcome: TransactionOutcome<Withheld>) -> CommitOutcome {
        match outcome {
            TransactionOutcome::Committed { took } => CommitOutcome::Committed { took },
            TransactionOutcome::Aborted(cause) if cause.is_stale_generation() => {
                CommitOutcome::StaleGeneration { cause: cause.to_string() }
            }
            TransactionOutcome::Aborted(cause) => {
                CommitOutcome::Aborted { timed_out: cause.timed_out, cause: cause.to_string() }
            }
            TransactionOutcome::Withheld(Withheld::NotAMember(why)) => {
                CommitOutcome::StaleGeneration { cause: why.to_owned() }
            }
            TransactionOutcome::Withheld(Withheld::Stale(partitions)) => CommitOutcome::Stale(partitions),
            TransactionOutcome::Withheld(Withheld::NotLookedAt(why)) => not_looked_at(why),
            TransactionOutcome::Refused { refusal, cause, record } => CommitOutcome::Refused {
                cause: format!("{cause}; {}", self.remedy(refusal, &cause, record)),
                record: record.map(|index| RefusedRecord { index, too_large: refusal == BrokerRefusal::TooLarge }),
            },
            TransactionOutcome::Fenced { cause, .. } => {
                CommitOutcome::Fenced { cause: cause.to_string(), by: FencedBy::Timeout }
            }
            TransactionOutcome::InDoubt(cause) => CommitOutcome::InDoubt { cause: cause.to_string() },
            TransactionOutcome::Fatal(cause) => CommitOutcome::Fatal { cause: cause.to_string() },
        }
    }

    /// Returns what to do about a refusal. `record` is the index of the record at fault.
    fn remedy(&self, refusal: BrokerRefusal, cause: &Cause, record: Option<usize>) -> String {
        let settings = &self.parts.settings;
        let record = record.and_then(|index| self.content.records.get(index));
        let topics = match record {
            Some(record) => settings.topic_of(record.output()).to_owned(),
            None => format!("{} and {}", settings.state_topic, settings.dlq_topic),
        };
        match refusal {
            BrokerRefusal::Permission => match cause.code.map(class_of) {
                Some(ErrorClass::Forbidden(Resource::Group)) => {
                    format!("allow Read on the group {}", settings.group_id)
                }
                Some(ErrorClass::Forbidden(Resource::TransactionalId)) => {
                    "allow Write on the transactional id".to_owned()
                }
                Some(_) | None => format!("allow Write on topic {topics}"),
            },
            BrokerRefusal::Clock => format!(
                "the clocks of this machine and of the brokers differ: synchronise them; message.timestamp.after.max.ms and message.timestamp.before.max.ms of topic {topics} say by how much they may"
            ),
            BrokerRefusal::TooLarge => format!("raise max.message.bytes of topic {topics}"),
            BrokerRefusal::Invalid => format!("check the limits and the policies of topic {topics}"),
        }
    }
}

fn not_looked_at(why: &str) -> CommitOutcome {
    CommitOutcome::Aborted { cause: why.to_owned(), timed_out: false }
}

/// Only a bug can stage a record without the offsets of its partition: nothing would fence it.
fn assert_covered(content: &TransactionContent) {
    let covered: BTreeSet<Partition> = content.offset_ranges.iter().map(|range| range.partition).collect();
    for record in &content.records {
        let (output, partition) = (record.output().name(), record.partition);
        assert!(covered.contains(&partition), "a {output} record of partition {partition} comes with its offsets");
    }
    assert!(!covered.is_empty(), "a transaction carries offsets: they are what fences it");
}

fn registration_outcome(failure: KafkaFailure) -> ResetOutcome {
    match failure {
        KafkaFailure::Retry(cause) | KafkaFailure::AbortAndResend(cause) | KafkaFailure::InDoubt(cause) => {
            ResetOutcome::Failed { cause: cause.to_string() }
        }
        // Another process registers the same id right now.
        KafkaFailure::Fenced(cause) => ResetOutcome::Fenced { cause: cause.to_string() },
        KafkaFailure::Refused(_, cause) => {
            ResetOutcome::Fatal { cause: format!("{cause}; allow Write on the transactional id") }
        }
        KafkaFailure::Fatal(cause) => ResetOutcome::Fatal { cause: cause.to_string() },
    }
}
