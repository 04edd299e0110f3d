//! Owns the thread that runs one transaction at a time: the [`Transactions`] port.
//!
//! The worker runs each transaction with the [`driver`](crate::kafka::transactions::driver). After the records are
//! delivered, and after a look at the topics if the content needs one (see
//! [`topic_looks`](crate::kafka::transactions::topic_looks)), in this order,
//!
//! a) the group's metadata is taken, and refused if it fences nothing (see `membership`);
//! b) the epoch of every offset range is compared. Metadata that was taken while an epoch was current belongs to a
//!    generation in which the partition was owned. In the other order, a partition that is lost in between would be
//!    committed under newer metadata;
//! c) the offsets are sent. The broker refuses offsets of an older generation;
//! d) the transaction is committed.
//!
//! The calls of the client block, and one of them does not keep its limit: sending offsets can last indefinitely while
//! the group's coordinator is away (librdkafka#5456, #5511). So a thread of their own (`worker`) makes the calls. If a
//! call is overdue by `GRACE`, the supervisor abandons the worker together with its producer:
//!
//! e) An abandoned worker begins no further call: before each step it checks in [`CommitPhaseWatch`] that it is the current
//!    worker. The call that it is in may still return; its result is dropped.
//! f) Requests that this call still has under way belong to an older producer epoch once the producer of the next worker
//!    has registered. The committed offsets are fetched only after that. So "in doubt" is the correct outcome, and the
//!    reset that follows settles it.
//! g) Nothing waits for an abandoned worker, and nothing destroys its client before the call has returned: the call uses
//!    the client. At most [`MAX_ABANDONED`] may be outstanding.
//!
//! A registration is never abandoned: if it finished late, it would fence its successor. It keeps its limit, and the
//! watchdog finds one that does not.
//!
//! Architecture invariant: nothing here decides what to send again or when.

mod worker;

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use rdkafka::ClientConfig;

use crate::engine::commit::transaction::{CommitOutcome, ResetOutcome, TransactionContent};
use crate::engine::foreign_members::MemberIds;
use crate::engine::offset_metadata::OffsetMetadata;
use crate::engine::outcome::Output;
use crate::engine::ownership::Ownership;
use crate::kafka::client::context::TakesStatistics;
use crate::kafka::client::errors::ClientCall;
use crate::kafka::consumer::membership::GroupView;
use crate::kafka::transactions::commit_thread::worker::{Job, Worker};
use crate::kafka::transactions::earlier::{Counted, EarlierProducers};
use crate::kafka::transactions::topic_looks::TopicLooks;
use crate::observability::log_events::{AbandonedStep, LogEvent, ProducerAbandoned, millis};
use crate::ports::{Clock, CommitReply, ResetReply, Transactions};
use crate::record::Partition;

/// How much longer than its limit a call may take, in time during which this process runs. The client checks its clock
/// only at intervals, and a machine may be busy.
const GRACE: Duration = Duration::from_secs(2);

/// How often a running call is checked.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// Abandoned calls that may be outstanding at a time. Each keeps its client's threads and buffers, and the content of
/// its transaction, so one more ends the process.
pub const MAX_ABANDONED: usize = 5;

/// Requests that wait for the thread. The committer has one under way at a time; the second slot is for a reset that
/// overtakes its reply.
const QUEUE_LENGTH: usize = 2;

#[derive(Debug, Clone)]
pub struct CommitSettings {
    /// The input topic, whose offsets are committed.
    pub topic: String,
    pub state_topic: String,
    pub dlq_topic: String,
    /// `min.insync.replicas` of the state and of the DLQ topic; `None` if it may not be read.
    pub min_in_sync: [Option<i64>; 2],
    pub group_id: String,
    /// Name of this process within the group.
    pub instance: String,
    /// How the client ids of the group's members look.
    pub member_ids: MemberIds,
    /// `transaction.timeout.ms` of the producer.
    pub transaction_timeout: Duration,
}

impl CommitSettings {
    fn topic_of(&self, output: Output) -> &str {
        match output {
            Output::State => &self.state_topic,
            Output::Dlq => &self.dlq_topic,
        }
    }
}

#[derive(Clone)]
pub struct CommitClients {
    /// Of [`transactional_producer`](crate::kafka::client::settings::transactional_producer).
    pub producer: ClientConfig,
    /// Of [`reader`](crate::kafka::client::settings::reader), for committed records.
    pub offset_reader: ClientConfig,
}

/// What has to permit a commit.
#[derive(Clone)]
pub struct CommitGates {
    /// The group's metadata.
    pub group: GroupView,
    pub ownership: Arc<Ownership>,
    /// `None` if the topics are not watched.
    pub topics: Option<TopicLooks>,
}

/// What the commit thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitPhase {
    /// Waiting for content.
    Idle,
    Producing,
    Delivering,
    SendingOffsets,
    Committing,
    Aborting,
    ResettingProducer,
    FetchingCommitted,
}

impl CommitPhase {
    fn of(call: ClientCall) -> CommitPhase {
        match call {
            ClientCall::Init => CommitPhase::ResettingProducer,
            ClientCall::Begin | ClientCall::Produce => CommitPhase::Producing,
            ClientCall::Delivery => CommitPhase::Delivering,
            ClientCall::SendOffsets => CommitPhase::SendingOffsets,
            ClientCall::Commit => CommitPhase::Committing,
            ClientCall::Abort => CommitPhase::Aborting,
        }
    }

    /// Returns how much longer than its limit the step may take.
    fn grace(self) -> Duration {
        match self {
            // A late return of this call is in doubt, and helps no more than none.
            CommitPhase::SendingOffsets => Duration::ZERO,
            CommitPhase::Idle
            | CommitPhase::Producing
            | CommitPhase::Delivering
            | CommitPhase::Committing
            | CommitPhase::Aborting
            | CommitPhase::ResettingProducer
            | CommitPhase::FetchingCommitted => GRACE,
        }
    }

    /// Returns the step for the log event of an abandoned call; `None` if there is no call.
    fn abandoned(self) -> Option<AbandonedStep> {
        match self {
            CommitPhase::Idle => None,
            CommitPhase::Producing => Some(AbandonedStep::Producing),
            CommitPhase::Delivering => Some(AbandonedStep::Delivering),
            CommitPhase::SendingOffsets => Some(AbandonedStep::SendingOffsets),
            CommitPhase::Committing => Some(AbandonedStep::Committing),
            CommitPhase::Aborting => Some(AbandonedStep::Aborting),
            CommitPhase::ResettingProducer => Some(AbandonedStep::ResettingProducer),
            CommitPhase::FetchingCommitted => Some(AbandonedStep::FetchingCommitted),
        }
    }
}

/// The step of the commit thread and its start. The current worker writes it; watchdog, heartbeat and tests read it.
#[derive(Debug)]
pub struct CommitPhaseWatch {
    current: Mutex<CurrentStep>,
    earlier: Arc<EarlierProducers>,
}

#[derive(Debug, Clone, Copy)]
struct CurrentStep {
    step: CommitPhase,
    since: Instant,
    /// When the step should have ended; `None` if it is never abandoned.
    due: Option<Instant>,
    /// Number of the current worker.
    worker: u64,
}

/// The worker is not the current one, and must end.
struct Abandoned;

impl CommitPhaseWatch {
    fn new(earlier: Arc<EarlierProducers>, now: Instant) -> CommitPhaseWatch {
        let current = CurrentStep { step: CommitPhase::Idle, since: now, due: None, worker: 0 };
        CommitPhaseWatch { current: Mutex::new(current), earlier }
    }

    /// Returns which records the brokers do not accept for now, if they have refused them since then.
    pub fn refused_for_now(&self, since: Instant) -> Option<String> {
        self.earlier.refused_for_now(since)
    }

    pub fn get(&self) -> (CommitPhase, Instant) {
        let current = self.lock();
        (current.step, current.since)
    }

    /// e) Begins a step, if `worker` is the current one.
    fn enter(&self, worker: u64, step: CommitPhase, now: Instant, limit: Option<Duration>) -> Result<(), Abandoned> {
        let mut current = self.lock();
        if current.worker != worker {
            return Err(Abandoned);
        }
        *current = CurrentStep { step, since: now, due: limit.map(|limit| now + limit), worker };
        Ok(())
    }

    /// Returns the time until the step is due, at most `CHECK_EVERY`, and that if it is overdue.
    fn next_check(&self, now: Instant) -> Duration {
        let until_due = self.lock().due.and_then(|due| due.checked_duration_since(now));
        until_due.filter(|wait| !wait.is_zero()).map_or(CHECK_EVERY, |wait| wait.min(CHECK_EVERY))
    }

    /// Returns the step that should have ended by now, and its start.
    fn overdue(&self, now: Instant) -> Option<(CommitPhase, Instant)> {
        let current = self.lock();
        current.due.is_some_and(|due| due <= now).then_some((current.step, current.since))
    }

    fn hand_over(&self, worker: u64, now: Instant) {
        *self.lock() = CurrentStep { step: CommitPhase::Idle, since: now, due: None, worker };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, CurrentStep> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle to the thread. If it is dropped, the thread ends after the request that it is running; nothing waits for
/// it.
pub struct CommitThread {
    requests: Sender<CommitRequest>,
    phase: Arc<CommitPhaseWatch>,
    thread: JoinHandle<()>,
}

enum CommitRequest {
    Commit(Arc<TransactionContent>, ReplyOnce<CommitOutcome>),
    ResetProducer(Vec<Partition>, ReplyOnce<ResetOutcome>),
}

impl CommitThread {
    /// Starts the thread without a producer: the first reset builds it.
    pub fn start<C: TakesStatistics + Clone + 'static>(
        settings: CommitSettings,
        clients: CommitClients,
        context: C,
        gates: CommitGates,
        metadata: OffsetMetadata,
        clock: Arc<dyn Clock>,
    ) -> io::Result<CommitThread> {
        let (requests, inbox) = crossbeam_channel::bounded(QUEUE_LENGTH);
        let earlier = Arc::<EarlierProducers>::default();
        let phase = Arc::new(CommitPhaseWatch::new(Arc::clone(&earlier), clock.now()));
        let parts =
            WorkerParts { settings, clients, context, gates, metadata, clock, phase: Arc::clone(&phase), earlier };
        let mut supervisor = Supervisor { parts, worker: None, workers: 0, threads: Arc::default() };
        supervisor.worker = Some(supervisor.start_worker()?);
        let run = move || supervisor.run(&inbox);
        let thread = std::thread::Builder::new().name("commit".to_owned()).spawn(run)?;
        Ok(CommitThread { requests, phase, thread })
    }

    pub fn phase(&self) -> Arc<CommitPhaseWatch> {
        Arc::clone(&self.phase)
    }

    /// Waits until the thread has ended the request that it is running. Does not wait for an abandoned call.
    pub fn join(self) {
        drop(self.requests);
        // After a panic of the thread the reply was sent, and the panic hook has reported it.
        drop(self.thread.join());
    }

    fn send(&self, request: CommitRequest) {
        let (Err(TrySendError::Full(request)) | Err(TrySendError::Disconnected(request))) =
            self.requests.try_send(request)
        else {
            return;
        };
        let cause = "the commit thread has ended, or has two requests already".to_owned();
        match request {
            CommitRequest::Commit(_, reply) => reply.call(CommitOutcome::Fatal { cause }),
            CommitRequest::ResetProducer(_, reply) => reply.call(ResetOutcome::Fatal { cause }),
        }
    }
}

impl Transactions for CommitThread {
    fn commit(&self, content: Arc<TransactionContent>, reply: CommitReply) {
        self.send(CommitRequest::Commit(content, ReplyOnce(Some(reply))));
    }

    fn reset_producer(&self, partitions: Vec<Partition>, reply: ResetReply) {
        self.send(CommitRequest::ResetProducer(partitions, ReplyOnce(Some(reply))));
    }
}

/// An outcome that the supervisor can report when the worker cannot.
pub trait UnreportedOutcome {
    /// A call did not return, and its producer is dropped: the next reset settles what it did.
    fn abandoned(cause: String) -> Self;
    /// The process has to end.
    fn fatal(cause: String) -> Self;
}

impl UnreportedOutcome for CommitOutcome {
    fn abandoned(cause: String) -> CommitOutcome {
        CommitOutcome::InDoubt { cause }
    }

    fn fatal(cause: String) -> CommitOutcome {
        CommitOutcome::Fatal { cause }
    }
}

impl UnreportedOutcome for ResetOutcome {
    fn abandoned(cause: String) -> ResetOutcome {
        ResetOutcome::Failed { cause }
    }

    fn fatal(cause: String) -> ResetOutcome {
        ResetOutcome::Fatal { cause }
    }
}

/// A callback that is called even when the thread panics: the committer must not wait indefinitely.
struct ReplyOnce<O: UnreportedOutcome>(Option<Box<dyn FnOnce(O) + Send>>);

impl<O: UnreportedOutcome> ReplyOnce<O> {
    fn call(mut self, outcome: O) {
        if let Some(reply) = self.0.take() {
            reply(outcome);
        }
    }
}

impl<O: UnreportedOutcome> Drop for ReplyOnce<O> {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply(O::fatal("the commit thread ended before it replied".to_owned()));
        }
    }
}

#[derive(Clone)]
struct WorkerParts<C> {
    settings: CommitSettings,
    clients: CommitClients,
    context: C,
    gates: CommitGates,
    metadata: OffsetMetadata,
    clock: Arc<dyn Clock>,
    phase: Arc<CommitPhaseWatch>,
    /// What earlier producers of this process may still do.
    earlier: Arc<EarlierProducers>,
}

/// Hands each request to the worker, and abandons the worker if a call does not return.
struct Supervisor<C: TakesStatistics + Clone + 'static> {
    parts: WorkerParts<C>,
    /// `None` after a worker was abandoned or has panicked.
    worker: Option<WorkerHandle>,
    /// How many workers were started.
    workers: u64,
    /// How many workers have not ended, with the abandoned ones.
    threads: Arc<AtomicUsize>,
}

/// The supervisor's end of a worker. If it is dropped, the worker ends as soon as it can.
struct WorkerHandle {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

impl<C: TakesStatistics + Clone + 'static> Supervisor<C> {
    fn run(mut self, inbox: &Receiver<CommitRequest>) {
        while let Ok(request) = inbox.recv() {
            match request {
                CommitRequest::Commit(content, reply) => {
                    reply.call(self.carry_out(|outcome| Job::Commit(content, outcome)));
                }
                CommitRequest::ResetProducer(partitions, reply) => {
                    reply.call(self.carry_out(|outcome| Job::ResetProducer(partitions, outcome)));
                }
            }
        }
        if let Some(WorkerHandle { jobs, thread }) = self.worker.take() {
            drop(jobs);
            // The worker is idle. The panic hook has reported a panic.
            drop(thread.join());
        }
    }

    fn start_worker(&mut self) -> io::Result<WorkerHandle> {
        self.workers += 1;
        let number = self.workers;
        let parts = self.parts.clone();
        parts.phase.hand_over(number, parts.clock.now());
        let (jobs, inbox) = crossbeam_channel::bounded(1);
        let count = Counted::one_more(&self.threads);
        let run = move || {
            Worker::new(parts, number).run(&inbox);
            drop(count);
        };
        let thread = std::thread::Builder::new().name("producer".to_owned()).spawn(run)?;
        Ok(WorkerHandle { jobs, thread })
    }

    fn carry_out<O: UnreportedOutcome>(&mut self, job: impl FnOnce(Sender<O>) -> Job) -> O {
        let started = self.worker.take().map_or_else(|| self.start_worker(), Ok);
        let worker = match started {
            Ok(worker) => worker,
            Err(error) => return O::fatal(format!("the system cannot start a thread: {error}")),
        };
        let panicked = || O::fatal("the commit thread ended before it replied".to_owned());
        let (outcome, outcomes) = crossbeam_channel::bounded(1);
        if worker.jobs.send(job(outcome)).is_err() {
            return panicked();
        }
        let mut overdue_for = Duration::ZERO;
        loop {
            match outcomes.recv_timeout(self.parts.phase.next_check(self.parts.clock.now())) {
                Ok(outcome) => {
                    self.worker = Some(worker);
                    return outcome;
                }
                Err(RecvTimeoutError::Disconnected) => return panicked(),
                Err(RecvTimeoutError::Timeout) => {}
            }
            match self.parts.phase.overdue(self.parts.clock.now()) {
                // Checks are counted, so that a process that was suspended gives its calls the time to return.
                Some((step, _)) if overdue_for < step.grace() => overdue_for += CHECK_EVERY,
                Some((step, since)) => return self.abandon(step, since),
                None => overdue_for = Duration::ZERO,
            }
        }
    }

    /// g) The caller drops its end of the worker, and nothing waits for it.
    fn abandon<O: UnreportedOutcome>(&mut self, step: CommitPhase, since: Instant) -> O {
        let now = self.parts.clock.now();
        self.parts.phase.hand_over(self.workers + 1, now);
        if step == CommitPhase::SendingOffsets {
            self.parts.earlier.waited_in_vain_for_answer();
        }
        let outstanding = self.threads.load(Ordering::Acquire);
        let waited = now.saturating_duration_since(since);
        if let Some(step) = step.abandoned() {
            ProducerAbandoned { step, waited_ms: millis(waited), outstanding: outstanding as u64 }.emit();
        }
        abandoned_outcome(step, waited, outstanding)
    }
}

/// Returns the outcome of a call that is abandoned after `waited`, while `outstanding` calls have not returned.
pub fn abandoned_outcome<O: UnreportedOutcome>(step: CommitPhase, waited: Duration, outstanding: usize) -> O {
    if outstanding > MAX_ABANDONED {
        let cause = format!("{outstanding} calls of the client have not returned, the last one was {step:?}");
        return O::fatal(format!("{cause}; restart the process, and look at the group's coordinator"));
    }
    let waited_ms = millis(waited);
    let cause = format!("{step:?} did not return within {waited_ms} ms, and was abandoned with its producer");
    O::abandoned(cause)
}
