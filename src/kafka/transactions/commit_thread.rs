//! Owns the producer, on a thread of its own, and runs one transaction at a time: the [`Transactions`] port.
//!
//! A commit goes through the steps of [`CommitStep`]: the records are produced and drained; then, in this order,
//!
//! a) the group's metadata is taken, and refused where it fences nothing (see `membership`);
//! b) every stretch's epoch is compared. Metadata that was taken while a epoch was current is of a generation in which
//!    the partition was owned; the other way round, a partition lost in between would go out under newer metadata;
//! c) the offsets are sent, which the broker refuses from an older generation;
//! d) the transaction is committed.
//!
//! Every failure is a [`KafkaFailure`](crate::kafka::client::errors::KafkaFailure), and says what happens to the producer: it
//! comes back after a clear abort, and is dropped otherwise. A renewal builds the next one; only when that has registered,
//! and so ended whatever the old one had under way, the group's committed offsets are asked for.
//!
//! The client's calls block, and one of them does not keep its limit: sending offsets, while the group's coordinator is
//! away (librdkafka#5456, #5511), may last indefinitely. So the calls are made on a thread of their own (`worker`), which is
//! given up together with its producer when a call is overdue by `GRACE`:
//!
//! e) An abandoned worker begins no further call: each step asks [`CommitPhase`] first whose turn it is. The call that it
//!    is in may still return, with whatever result; nobody hears of it.
//! f) What that call still has under way is of an older epoch once the next worker's producer has registered, and only
//!    after that the committed offsets are asked for. So the answer "unanswered" is the truth, and what it leads to
//!    settles it.
//! g) Nothing waits for an abandoned worker, and nothing destroys its client before the call has returned: that would
//!    take the ground from under it. At most [`MAX_ABANDONED`] may be outstanding.
//!
//! A registration is never given up: should it come late, it would fence its successor. It keeps its limit, and the
//! watchdog sees one that does not.
//!
//! Architecture invariant: nothing here decides what to send again or when; it carries out, and answers.

mod worker;

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use rdkafka::ClientConfig;
use rdkafka::consumer::ConsumerContext;

use crate::engine::commit::transaction::{CommitOutcome, OffsetMetadata, ResetOutcome, TransactionContent};
use crate::engine::outcome::Output;
use crate::engine::ownership::Ownership;
use crate::kafka::client::errors::ClientCall;
use crate::kafka::consumer::membership::GroupView;
use crate::kafka::transactions::commit_thread::worker::{Job, Worker};
use crate::kafka::transactions::transaction::EarlierProducers;
use crate::observability::log_events::{AbandonedStep, LogEvent, ProducerAbandoned, millis};
use crate::ports::{Clock, CommitReply, ResetReply, Transactions};
use crate::record::Partition;

/// What a call may take beyond the limit that it was given, in time during which this process ran: the client looks at
/// its clock now and then, and a machine may be busy.
const GRACE: Duration = Duration::from_secs(2);

/// How often a call that lasts is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Abandoned calls that may be outstanding at a time. Each keeps its client's threads and buffers, and the content of
/// its transaction, so that one more ends the process.
pub const MAX_ABANDONED: usize = 3;

/// Requests that wait for the thread. The committer has one under way at a time; the second slot is for a renewal
/// that overtakes its answer.
const QUEUE_LENGTH: usize = 2;

/// Where the records go, and how long a transaction may last.
#[derive(Debug, Clone)]
pub struct CommitSettings {
    /// The input topic, whose offsets are committed.
    pub topic: String,
    /// The state topic.
    pub state_topic: String,
    /// The DLQ topic.
    pub dlq_topic: String,
    /// The consumer group.
    pub group_id: String,
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

/// The clients' configurations.
#[derive(Clone)]
pub struct CommitClients {
    /// Of [`transactional_producer`](crate::kafka::client::settings::transactional_producer).
    pub producer: ClientConfig,
    /// Of [`reader`](crate::kafka::client::settings::reader), for committed records.
    pub asker: ClientConfig,
}

/// What the commit thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitStep {
    /// It waits for content.
    Idle,
    /// Records go into the client's queue.
    Producing,
    /// Their deliveries are waited for.
    DrainingQueue,
    /// The input offsets are sent.
    SendingOffsets,
    /// The end is on its way.
    Committing,
    /// The transaction is given up.
    Aborting,
    /// A new producer registers.
    Renewing,
    /// The committed offsets are asked for.
    AskingCommitted,
}

impl CommitStep {
    /// The step during which the transaction driver makes `call`.
    fn of(call: ClientCall) -> CommitStep {
        match call {
            ClientCall::Init => CommitStep::Renewing,
            ClientCall::Begin | ClientCall::Produce => CommitStep::Producing,
            ClientCall::Delivery => CommitStep::DrainingQueue,
            ClientCall::SendOffsets => CommitStep::SendingOffsets,
            ClientCall::Commit => CommitStep::Committing,
            ClientCall::Abort => CommitStep::Aborting,
        }
    }

    /// Returns the step for the log event of an abandoned call; `None` if there is no call.
    fn abandoned(self) -> Option<AbandonedStep> {
        match self {
            CommitStep::Idle => None,
            CommitStep::Producing => Some(AbandonedStep::Producing),
            CommitStep::DrainingQueue => Some(AbandonedStep::DrainingQueue),
            CommitStep::SendingOffsets => Some(AbandonedStep::SendingOffsets),
            CommitStep::Committing => Some(AbandonedStep::Committing),
            CommitStep::Aborting => Some(AbandonedStep::Aborting),
            CommitStep::Renewing => Some(AbandonedStep::ResettingProducer),
            CommitStep::AskingCommitted => Some(AbandonedStep::FetchingCommitted),
        }
    }
}

/// The step of the commit thread, and since when. The worker whose turn it is writes it; watchdog, heartbeat and tests
/// read it.
#[derive(Debug)]
pub struct CommitPhase(Mutex<CurrentStep>);

#[derive(Debug, Clone, Copy)]
struct CurrentStep {
    step: CommitStep,
    since: Instant,
    /// When the step should be over; `None` where it is not to be given up.
    due: Option<Instant>,
    /// Whose turn it is.
    worker: u64,
}

/// The worker is not to go on: nobody hears its answer.
struct Abandoned;

impl CommitPhase {
    fn new(now: Instant) -> CommitPhase {
        CommitPhase(Mutex::new(CurrentStep { step: CommitStep::Idle, since: now, due: None, worker: 0 }))
    }

    /// What the thread does, and since when.
    #[must_use]
    pub fn get(&self) -> (CommitStep, Instant) {
        let shown = self.lock();
        (shown.step, shown.since)
    }

    /// e) Begins a step, if it is this worker's turn.
    fn enter(&self, worker: u64, step: CommitStep, now: Instant, limit: Option<Duration>) -> Result<(), Abandoned> {
        let mut shown = self.lock();
        if shown.worker != worker {
            return Err(Abandoned);
        }
        *shown = CurrentStep { step, since: now, due: limit.map(|limit| now + limit), worker };
        Ok(())
    }

    /// The step that should have been over by now, and since when it lasts.
    fn overdue(&self, now: Instant) -> Option<(CommitStep, Instant)> {
        let shown = self.lock();
        shown.due.is_some_and(|due| due < now).then_some((shown.step, shown.since))
    }

    /// Gives the turn to another worker.
    fn hand_over(&self, worker: u64, now: Instant) {
        *self.lock() = CurrentStep { step: CommitStep::Idle, since: now, due: None, worker };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, CurrentStep> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle to the thread. Dropped, it lets the thread end after what it is doing, without waiting.
pub struct CommitThread {
    requests: Sender<CommitRequest>,
    phase: Arc<CommitPhase>,
    thread: JoinHandle<()>,
}

enum CommitRequest {
    Commit(Arc<TransactionContent>, ReplyOnce<CommitOutcome>),
    ResetProducer(Vec<Partition>, ReplyOnce<ResetOutcome>),
}

impl CommitThread {
    /// Starts the thread, without a producer: the first one is built by a renewal.
    ///
    /// # Errors
    /// The operating system has no thread to give.
    pub fn start<C: ConsumerContext + Clone + 'static>(
        settings: CommitSettings,
        clients: CommitClients,
        context: C,
        group: GroupView,
        ownership: Arc<Ownership>,
        mark: OffsetMetadata,
        clock: Arc<dyn Clock>,
    ) -> io::Result<CommitThread> {
        let (requests, inbox) = crossbeam_channel::bounded(QUEUE_LENGTH);
        let phase = Arc::new(CommitPhase::new(clock.now()));
        let tools = Tools {
            settings,
            clients,
            context,
            group,
            ownership,
            mark,
            clock,
            phase: Arc::clone(&phase),
            earlier: Arc::default(),
        };
        let mut supervisor = Supervisor { tools, worker: None, workers: 0, threads: Arc::default() };
        supervisor.worker = Some(supervisor.start_worker()?);
        let run = move || supervisor.run(&inbox);
        let thread = std::thread::Builder::new().name("steward-commit".to_owned()).spawn(run)?;
        Ok(CommitThread { requests, phase, thread })
    }

    /// What the thread does, for whoever watches.
    #[must_use]
    pub fn phase(&self) -> Arc<CommitPhase> {
        Arc::clone(&self.phase)
    }

    /// Lets the thread finish what it is doing, and waits for it. An abandoned call is not waited for.
    pub fn join(self) {
        drop(self.requests);
        // A panic of the thread has answered whoever waited, and is reported by the panic hook.
        drop(self.thread.join());
    }

    fn ask(&self, request: CommitRequest) {
        let (Err(TrySendError::Full(request)) | Err(TrySendError::Disconnected(request))) =
            self.requests.try_send(request)
        else {
            return;
        };
        let cause = "the commit thread has ended, or was asked twice at once".to_owned();
        match request {
            CommitRequest::Commit(_, reply) => reply.call(CommitOutcome::Fatal { cause }),
            CommitRequest::ResetProducer(_, reply) => reply.call(ResetOutcome::Fatal { cause }),
        }
    }
}

impl Transactions for CommitThread {
    fn commit(&self, content: Arc<TransactionContent>, reply: CommitReply) {
        self.ask(CommitRequest::Commit(content, ReplyOnce(Some(reply))));
    }

    fn reset_producer(&self, partitions: Vec<Partition>, reply: ResetReply) {
        self.ask(CommitRequest::ResetProducer(partitions, ReplyOnce(Some(reply))));
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
            reply(O::fatal("the commit thread ended before it answered".to_owned()));
        }
    }
}

/// What a worker is made of.
#[derive(Clone)]
struct Tools<C> {
    settings: CommitSettings,
    clients: CommitClients,
    context: C,
    group: GroupView,
    ownership: Arc<Ownership>,
    mark: OffsetMetadata,
    clock: Arc<dyn Clock>,
    phase: Arc<CommitPhase>,
    /// What earlier producers may still do.
    earlier: Arc<EarlierProducers>,
}

/// WorkerHandle requests to the worker, and gives it up when a call of its does not return.
struct Supervisor<C: ConsumerContext + Clone + 'static> {
    tools: Tools<C>,
    /// `None` after one was given up, or has panicked.
    worker: Option<WorkerHandle>,
    /// How many there were.
    workers: u64,
    /// Threads of workers that have not ended, the abandoned ones included.
    threads: Arc<AtomicUsize>,
}

/// The supervisor's end of a worker. Dropped, it lets the worker end as soon as it can.
struct WorkerHandle {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

impl<C: ConsumerContext + Clone + 'static> Supervisor<C> {
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
            // It has nothing to do; its panic has been reported by the panic hook.
            drop(thread.join());
        }
    }

    fn start_worker(&mut self) -> io::Result<WorkerHandle> {
        self.workers += 1;
        let number = self.workers;
        let tools = self.tools.clone();
        tools.phase.hand_over(number, tools.clock.now());
        let (jobs, inbox) = crossbeam_channel::bounded(1);
        let count = AbandonedCount::one_more(&self.threads);
        let run = move || {
            Worker::new(tools, number).run(&inbox);
            drop(count);
        };
        let thread = std::thread::Builder::new().name("steward-producer".to_owned()).spawn(run)?;
        Ok(WorkerHandle { jobs, thread })
    }

    fn carry_out<O: UnreportedOutcome>(&mut self, job: impl FnOnce(Sender<O>) -> Job) -> O {
        let started = self.worker.take().map_or_else(|| self.start_worker(), Ok);
        let hands = match started {
            Ok(hands) => hands,
            Err(error) => return O::fatal(format!("the system has no thread to give: {error}")),
        };
        let panicked = || O::fatal("the commit thread ended before it answered".to_owned());
        let (outcome, outcomes) = crossbeam_channel::bounded(1);
        if hands.jobs.send(job(outcome)).is_err() {
            return panicked();
        }
        let mut overdue_for = Duration::ZERO;
        loop {
            match outcomes.recv_timeout(LOOK) {
                Ok(outcome) => {
                    self.worker = Some(hands);
                    return outcome;
                }
                Err(RecvTimeoutError::Disconnected) => return panicked(),
                Err(RecvTimeoutError::Timeout) => {}
            }
            match self.tools.phase.overdue(self.tools.clock.now()) {
                // Looks are counted, so that a process that stood still gives its calls the time to return.
                Some(_) if overdue_for < GRACE => overdue_for += LOOK,
                Some((step, since)) => return self.abandon(step, since),
                None => overdue_for = Duration::ZERO,
            }
        }
    }

    /// g) Its end of the worker is dropped by the caller, and nobody waits.
    fn abandon<O: UnreportedOutcome>(&mut self, step: CommitStep, since: Instant) -> O {
        let now = self.tools.clock.now();
        self.tools.phase.hand_over(self.workers + 1, now);
        let outstanding = self.threads.load(Ordering::Acquire);
        let waited = now.saturating_duration_since(since);
        if let Some(step) = step.abandoned() {
            ProducerAbandoned { step, waited_ms: millis(waited), outstanding: outstanding as u64 }.emit();
        }
        given_up(step, waited, outstanding)
    }
}

/// What is answered when a call has lasted for so long and is given up; so many are outstanding then.
#[must_use]
pub fn given_up<O: UnreportedOutcome>(step: CommitStep, waited: Duration, outstanding: usize) -> O {
    if outstanding > MAX_ABANDONED {
        let cause = format!("{outstanding} calls of the client have not returned, the last one was {step:?}");
        return O::fatal(format!("{cause}; restart the process, and look at the group's coordinator"));
    }
    let waited_ms = millis(waited);
    let cause = format!("{step:?} did not return within {waited_ms} ms, and was given up with its producer");
    O::abandoned(cause)
}

/// Counts one until it is dropped.
struct AbandonedCount(Arc<AtomicUsize>);

impl AbandonedCount {
    fn one_more(count: &Arc<AtomicUsize>) -> AbandonedCount {
        count.fetch_add(1, Ordering::AcqRel);
        AbandonedCount(Arc::clone(count))
    }
}

impl Drop for AbandonedCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
