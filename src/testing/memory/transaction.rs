//! The producer of a pod: sends a transaction or registers, one step at a time, in the order of the commit thread.
//!
//! A step sends at most one request. The test decides what becomes of it. Without a clear answer the transaction is in
//! doubt, as with the client library, and a request that was not executed may be executed later.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::commit::transaction::{CommitOutcome, CommittedOffset, ResetOutcome, TransactionContent};
use crate::engine::dead_owners::{FencedBy, FencingInquiry};
use crate::engine::foreign_members::MemberIds;
use crate::engine::offset_metadata::OffsetMetadata;
use crate::engine::outcome::{Output, RecordOrigin};
use crate::engine::ownership::Ownership;
use crate::engine::planted::{Planted, planted};
use crate::ports::{Clock, CommitReply, ResetReply};
use crate::record::{Partition, Topic};
use crate::testing::memory::coordinators::{Answer, Cluster, End, FakeMembership, ProducerId, Request};
use crate::testing::memory::kafka::MemoryKafka;
use crate::testing::memory::log::MemoryRecord;

/// How long a call waits for a coordinator that is away, before it counts as in doubt.
const CALL_LIMIT: Duration = Duration::from_secs(3);

const FENCED: &str = "a newer producer has this id";

/// How a whole transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectedOutcome {
    /// It takes effect, and the pod gets the response.
    Commits,
    /// As [`InjectedOutcome::Commits`], after this time.
    CommitsAfter(Duration),
    /// It has no effect, because it takes longer than a transaction may.
    TimesOut,
    /// It has no effect, and the pod gets the response.
    Aborts,
    /// It takes effect, and the response is lost.
    CommitsUnanswered,
    /// It has no effect, and the response is lost.
    AbortsUnanswered,
}

/// What becomes of the request of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Answered,
    /// It is executed, and the response is lost.
    AnswerLost,
    /// It is lost.
    RequestLost,
    /// It is executed later, if at all.
    Late,
    /// It is executed, and the response comes so late that a second copy is under way.
    Repeated,
    /// The broker refuses it, with a clear response.
    Refused,
}

/// How far a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There is nothing to do.
    Idle,
    /// The coordinator is away.
    Waits,
    /// Further steps follow.
    Moved,
    /// The pod has its reply.
    Ended,
}

#[derive(Debug)]
enum Stage {
    Begin,
    TakeMetadata,
    CompareEpochs(Option<FakeMembership>),
    SendOffsets(Option<FakeMembership>),
    Commit {
        /// A second copy of the offsets may be under way.
        is_in_doubt: bool,
    },
    /// The outcome, once the abort is clear.
    Abort(CommitOutcome),
    /// A newer producer has the transactional id: it is found out whose.
    Inquire(FencingInquiry),
}

/// A transaction that is being sent.
pub(super) struct Attempt {
    pub(super) content: Arc<TransactionContent>,
    pub(super) reply: CommitReply,
    stage: Stage,
    /// When the transaction was opened.
    began: Option<Duration>,
    /// Since when the present step waits for a coordinator.
    waits_since: Option<Duration>,
}

/// A producer that is being registered.
pub(super) struct Registration {
    partitions: Vec<Partition>,
    reply: ResetReply,
    is_registered: bool,
    fetched: Option<Vec<(Partition, Option<CommittedOffset>)>>,
}

/// A transaction or registration after a step.
pub(super) enum Stepped<T, O> {
    Waits(T),
    Moved(T),
    Ended(T, O),
}

impl Attempt {
    pub(super) fn new(content: Arc<TransactionContent>, reply: CommitReply) -> Attempt {
        Attempt { content, reply, stage: Stage::Begin, began: None, waits_since: None }
    }

    pub(super) fn describe(&self) -> String {
        format!("transaction {} at {:?}", self.content.number, self.stage)
    }
}

impl Registration {
    pub(super) fn new(partitions: Vec<Partition>, reply: ResetReply) -> Registration {
        Registration { partitions, reply, is_registered: false, fetched: None }
    }

    pub(super) fn reply(self, outcome: ResetOutcome) {
        (self.reply)(outcome);
    }
}

/// What a pod sends with.
#[derive(Clone)]
pub(super) struct Sender {
    pub(super) kafka: MemoryKafka,
    pub(super) transactional_id: String,
    pub(super) offset_metadata: OffsetMetadata,
    pub(super) ownership: Arc<Ownership>,
    pub(super) transaction_timeout: Duration,
    /// Without a clock, a fenced producer takes the other one for that of another process.
    pub(super) clock: Option<Arc<dyn Clock>>,
}

impl Sender {
    // ------------------------------------------------------------------------------------------------- transaction

    /// Takes the next step of a transaction, as a producer of this epoch and a member of the group.
    pub(super) fn step(
        &self,
        mut attempt: Attempt,
        epoch: u64,
        membership: Option<FakeMembership>,
        fate: Fate,
    ) -> Stepped<Attempt, CommitOutcome> {
        let mut cluster = self.kafka.lock();
        let needs_group = matches!(attempt.stage, Stage::SendOffsets(_));
        let needs_coordinator = matches!(attempt.stage, Stage::Begin | Stage::Commit { .. } | Stage::Abort(_));
        let producer = ProducerId { transactional_id: self.transactional_id.clone(), epoch };
        if (needs_group && cluster.is_group_away()) || (needs_coordinator && cluster.are_transactions_away()) {
            return self.wait(&mut cluster, attempt, producer, fate);
        }
        attempt.waits_since = None;
        let stage = std::mem::replace(&mut attempt.stage, Stage::Begin);
        let outcome = match stage {
            Stage::Begin => self.begin(&mut cluster, &mut attempt, &producer, membership, fate),
            Stage::TakeMetadata => {
                attempt.stage = Stage::CompareEpochs(membership);
                None
            }
            Stage::CompareEpochs(membership) => {
                attempt.stage = self.compare(&attempt, membership);
                None
            }
            Stage::SendOffsets(member) => {
                let request = self.offsets_of(&attempt.content, producer, member);
                self.offsets_sent(&cluster_answer(&mut cluster, request, fate), &cluster, &mut attempt)
            }
            Stage::Commit { is_in_doubt } => {
                let request = Request::End { from: producer, end: End::Commit };
                let response = cluster_answer(&mut cluster, request, fate);
                match self.commit_sent(&response, &cluster, &mut attempt) {
                    Some(CommitOutcome::Committed { .. }) if is_in_doubt => Some(in_doubt()),
                    outcome => outcome,
                }
            }
            Stage::Abort(outcome) if attempt.began.is_none() => Some(outcome),
            Stage::Abort(outcome) => {
                let request = Request::End { from: producer, end: End::Abort };
                match cluster_answer(&mut cluster, request, fate) {
                    Response::Clear(Answer::Done) => Some(outcome),
                    Response::Clear(Answer::Fenced) => self.fenced(&cluster, &mut attempt),
                    Response::Clear(Answer::StaleGeneration | Answer::InvalidState)
                    | Response::Late(_)
                    | Response::Refused
                    | Response::None => Some(in_doubt()),
                }
            }
            Stage::Inquire(inquiry) => {
                let clock = self.clock.as_ref().expect("an inquiry began");
                let Some(by) = inquiry.looked(&cluster.look_at_group(), clock.now()) else {
                    attempt.stage = Stage::Inquire(inquiry);
                    return Stepped::Waits(attempt);
                };
                Some(CommitOutcome::Fenced { cause: FENCED.into(), by })
            }
        };
        match outcome {
            Some(outcome) => Stepped::Ended(attempt, outcome),
            None => Stepped::Moved(attempt),
        }
    }

    /// Waits for a coordinator that is away. After the limit the transaction is in doubt, and its request may be under
    /// way.
    fn wait(
        &self,
        cluster: &mut Cluster,
        mut attempt: Attempt,
        producer: ProducerId,
        fate: Fate,
    ) -> Stepped<Attempt, CommitOutcome> {
        let since = *attempt.waits_since.get_or_insert(cluster.now);
        if cluster.now < since + CALL_LIMIT {
            return Stepped::Waits(attempt);
        }
        let request = match &attempt.stage {
            Stage::SendOffsets(member) => Some(self.offsets_of(&attempt.content, producer, *member)),
            Stage::Commit { .. } => Some(Request::End { from: producer, end: End::Commit }),
            Stage::Abort(_) => Some(Request::End { from: producer, end: End::Abort }),
            Stage::Begin | Stage::TakeMetadata | Stage::CompareEpochs(_) | Stage::Inquire(_) => None,
        };
        if !matches!(fate, Fate::RequestLost) {
            cluster.late.extend(request);
        }
        Stepped::Ended(attempt, in_doubt())
    }

    fn begin(
        &self,
        cluster: &mut Cluster,
        attempt: &mut Attempt,
        producer: &ProducerId,
        membership: Option<FakeMembership>,
        fate: Fate,
    ) -> Option<CommitOutcome> {
        if !cluster.is_newest(producer) {
            return self.fenced(cluster, attempt);
        }
        let stale = self.stale(&attempt.content);
        if !stale.is_empty() && !planted(Planted::EpochsAreNotCompared) {
            return Some(CommitOutcome::Stale(stale));
        }
        if membership.is_none() && !planted(Planted::OffsetsWithoutMembership) {
            return Some(stale_generation());
        }
        if !attempt.content.records.is_empty() {
            cluster.begin(producer);
            attempt.began = Some(cluster.now);
        }
        attempt.stage = match fate {
            Fate::Answered | Fate::AnswerLost | Fate::Repeated => {
                self.produce(cluster, &attempt.content);
                Stage::TakeMetadata
            }
            Fate::RequestLost | Fate::Late => Stage::Abort(aborted(true)),
            Fate::Refused => Stage::Abort(aborted(false)),
        };
        None
    }

    fn compare(&self, attempt: &Attempt, membership: Option<FakeMembership>) -> Stage {
        if membership.is_none() && !planted(Planted::OffsetsWithoutMembership) {
            return Stage::Abort(stale_generation());
        }
        let stale = self.stale(&attempt.content);
        let is_compared = !planted(Planted::EpochsAreNotCompared) && !planted(Planted::EpochsAreComparedTooEarly);
        match stale.is_empty() || !is_compared {
            true => Stage::SendOffsets(membership),
            false => Stage::Abort(CommitOutcome::Stale(stale)),
        }
    }

    fn offsets_sent(&self, response: &Response, cluster: &Cluster, attempt: &mut Attempt) -> Option<CommitOutcome> {
        attempt.began.get_or_insert(cluster.now);
        attempt.stage = match response {
            Response::Clear(Answer::Done) => Stage::Commit { is_in_doubt: false },
            Response::Late(Answer::Done) => Stage::Commit { is_in_doubt: true },
            Response::Clear(Answer::StaleGeneration) => Stage::Abort(stale_generation()),
            Response::Refused => Stage::Abort(aborted(false)),
            Response::Clear(Answer::Fenced) => return self.fenced(cluster, attempt),
            Response::Clear(Answer::InvalidState) | Response::Late(_) | Response::None => return Some(in_doubt()),
        };
        None
    }

    fn commit_sent(&self, response: &Response, cluster: &Cluster, attempt: &mut Attempt) -> Option<CommitOutcome> {
        match response {
            Response::Clear(Answer::Done) => {
                let took = cluster.now.saturating_sub(attempt.began.unwrap_or(cluster.now));
                Some(CommitOutcome::Committed { took: took.max(Duration::from_millis(1)) })
            }
            Response::Clear(Answer::Fenced) => self.fenced(cluster, attempt),
            Response::Clear(Answer::StaleGeneration | Answer::InvalidState) | Response::Late(_) | Response::None => {
                Some(in_doubt())
            }
            Response::Refused => {
                attempt.stage = Stage::Abort(aborted(false));
                None
            }
        }
    }

    fn fenced(&self, cluster: &Cluster, attempt: &mut Attempt) -> Option<CommitOutcome> {
        let age = attempt.began.map(|began| cluster.now.saturating_sub(began));
        let by = match &self.clock {
            _ if age.is_some_and(|age| age >= self.transaction_timeout) => FencedBy::Timeout,
            None => FencedBy::AnotherProcess,
            Some(clock) => {
                let inquiry = FencingInquiry::new(&self.transactional_id, MemberIds::Marked, clock.now());
                attempt.stage = Stage::Inquire(inquiry);
                return None;
            }
        };
        Some(CommitOutcome::Fenced { cause: FENCED.into(), by })
    }

    fn stale(&self, content: &TransactionContent) -> Vec<Partition> {
        let ranges = content.offset_ranges.iter();
        let stale = ranges.filter(|range| !self.ownership.is_current(range.partition, range.epoch));
        stale.map(|range| range.partition).collect()
    }

    fn produce(&self, cluster: &mut Cluster, content: &TransactionContent) {
        let origin = RecordOrigin { group: &self.kafka.group, source_topic: &self.kafka.topic };
        for record in &content.records {
            let headers = record.fold_headers(&origin, Vec::new(), |mut headers, name, value| {
                headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
                headers
            });
            let key = record.key().map(<[u8]>::to_vec);
            let stored = MemoryRecord { timestamp_ms: None, key, value: record.value().map(<[u8]>::to_vec), headers };
            let log = cluster.logs_mut(record.partition).log_mut(topic_of(record.output()));
            log.append_open(stored, &self.transactional_id);
        }
    }

    fn offsets_of(&self, content: &TransactionContent, from: ProducerId, member: Option<FakeMembership>) -> Request {
        let offsets = content.offset_ranges.iter().map(|range| {
            let metadata = self.offset_metadata.of(content.number, range.newest_state);
            (range.partition, CommittedOffset { position: range.end, metadata })
        });
        Request::Offsets { from, member, offsets: offsets.collect() }
    }

    /// Runs a whole transaction, unless it has to wait.
    pub(super) fn run(
        &self,
        mut attempt: Attempt,
        epoch: u64,
        membership: Option<FakeMembership>,
        injected: InjectedOutcome,
    ) -> Result<(CommitReply, CommitOutcome), Attempt> {
        loop {
            let mut fate = Fate::Answered;
            if let Stage::Commit { .. } = attempt.stage {
                match injected {
                    InjectedOutcome::Commits | InjectedOutcome::CommitsAfter(_) => {}
                    InjectedOutcome::TimesOut => attempt.stage = Stage::Abort(aborted(true)),
                    InjectedOutcome::Aborts => attempt.stage = Stage::Abort(aborted(false)),
                    InjectedOutcome::CommitsUnanswered => fate = Fate::AnswerLost,
                    InjectedOutcome::AbortsUnanswered => fate = Fate::RequestLost,
                }
            }
            match (self.step(attempt, epoch, membership, fate), injected) {
                (Stepped::Waits(waiting), _) => return Err(waiting),
                (Stepped::Moved(moved), _) => attempt = moved,
                (Stepped::Ended(attempt, CommitOutcome::Committed { .. }), InjectedOutcome::CommitsAfter(took)) => {
                    return Ok((attempt.reply, CommitOutcome::Committed { took }));
                }
                (Stepped::Ended(attempt, outcome), _) => return Ok((attempt.reply, outcome)),
            }
        }
    }

    // ------------------------------------------------------------------------------------------------ registration

    /// Takes the next step of a registration: the producer, then the committed positions.
    pub(super) fn register(
        &self,
        mut registration: Registration,
        epoch: &mut u64,
        fate: Fate,
    ) -> Stepped<Registration, ResetOutcome> {
        let mut cluster = self.kafka.lock();
        let failed = |cause: &str| ResetOutcome::Failed { cause: cause.into() };
        if !registration.is_registered {
            if planted(Planted::PositionsAreFetchedTooEarly) && registration.fetched.is_none() {
                registration.fetched = Some(committed(&cluster, &registration.partitions));
                return Stepped::Moved(registration);
            }
            let is_executed = matches!(fate, Fate::Answered | Fate::AnswerLost | Fate::Repeated);
            if cluster.are_transactions_away() || !is_executed {
                return Stepped::Ended(registration, failed("the registration had no response"));
            }
            let is_reused = planted(Planted::ProducerInDoubtIsReused) && *epoch > 0;
            if !is_reused {
                *epoch = cluster.register(&self.transactional_id);
            }
            if fate == Fate::AnswerLost {
                return Stepped::Ended(registration, failed("the registration had no response"));
            }
            registration.is_registered = true;
            return Stepped::Moved(registration);
        }
        let is_stable = |of: &Partition| cluster.logs(*of).stable_committed().is_some();
        if cluster.is_group_away() || fate != Fate::Answered || !registration.partitions.iter().all(is_stable) {
            return Stepped::Ended(registration, failed("the committed positions could not be fetched"));
        }
        let fetched = registration.fetched.take().unwrap_or_else(|| committed(&cluster, &registration.partitions));
        Stepped::Ended(registration, ResetOutcome::Ready(fetched))
    }
}

fn committed(cluster: &Cluster, partitions: &[Partition]) -> Vec<(Partition, Option<CommittedOffset>)> {
    partitions.iter().map(|&of| (of, cluster.logs(of).committed.clone())).collect()
}

enum Response {
    Clear(Answer),
    /// A second copy of the request may be under way.
    Late(Answer),
    Refused,
    None,
}

fn cluster_answer(cluster: &mut Cluster, request: Request, fate: Fate) -> Response {
    match fate {
        Fate::Answered => Response::Clear(cluster.execute(request)),
        Fate::AnswerLost => {
            cluster.execute(request);
            Response::None
        }
        Fate::RequestLost => Response::None,
        Fate::Late => {
            cluster.late.push(request);
            Response::None
        }
        Fate::Repeated => {
            let answer = cluster.execute(request.clone());
            cluster.late.push(request);
            Response::Late(answer)
        }
        Fate::Refused => Response::Refused,
    }
}

fn aborted(timed_out: bool) -> CommitOutcome {
    CommitOutcome::Aborted { cause: "injected by the test".into(), timed_out }
}

fn in_doubt() -> CommitOutcome {
    CommitOutcome::InDoubt { cause: "injected by the test".into() }
}

fn stale_generation() -> CommitOutcome {
    CommitOutcome::StaleGeneration { cause: "the group's generation has moved on".into() }
}

fn topic_of(output: Output) -> Topic {
    match output {
        Output::State => Topic::State,
        Output::Dlq => Topic::Dlq,
    }
}
