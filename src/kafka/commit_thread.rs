//! Owns the producer, on a thread of its own, and runs one transaction at a time: the [`Transactions`] port.
//!
//! A commit goes through the steps of [`CommitStep`]: the records are produced and drained; then, in this order,
//!
//! a) the group's metadata is taken, and refused where it fences nothing (see `membership`);
//! b) every stretch's term is compared. Metadata that was taken while a term was current is of a generation in which
//!    the partition was owned; the other way round, a partition lost in between would go out under newer metadata;
//! c) the offsets are sent, which the broker refuses from an older generation;
//! d) the transaction is committed.
//!
//! Every failure is one of [`KafkaFailure`], and says what happens to the producer: it comes back after a clear abort,
//! and is dropped otherwise. A renewal builds the next one; only when that has registered, and so ended whatever the
//! old one had under way, the group's committed offsets are asked for.
//!
//! Sending offsets may block far beyond its limit while the group's coordinator is away. The thread cannot help that;
//! [`CommitPhase`] shows since when, so that the watchdog can.
//!
//! Architecture invariant: nothing here decides what to send again or when; it carries out, and answers.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::kafka::committed::{build, committed, serve};
use crate::kafka::error::{Cause, KafkaFailure, Refusal, group_moved_on};
use crate::kafka::membership::{GroupView, Membership};
use crate::kafka::out_record;
use crate::kafka::transaction::{Ended, Producer, Transaction, Undelivered};
use crate::ports::{Answer, Clock, Content, Mark, RefusedRecord, Reply, Terms, Transactions};
use crate::record::{Partition, header};

/// How long a new producer may take to register. Shorter than the watchdog's patience.
const REGISTER_LIMIT: Duration = Duration::from_secs(10);

/// How long the question for committed offsets may take.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// Old clients that may be closing at the same time, before a renewal waits for them.
const MAX_CLOSING: usize = 8;

/// Requests that wait for the thread. The committer has one under way at a time; the second slot is for a renewal
/// that overtakes its answer.
const QUEUE_LENGTH: usize = 2;

/// The broker still writes the markers of the last transaction for a moment, and refuses offsets meanwhile. The client
/// repeats them only after its back-off, and a repeated request is one in doubt. Records wait 20 ms at a time, and so
/// absorb it; offsets alone do not.
const OFFSETS_ALONE_GAP: Duration = Duration::from_millis(50);

/// How often the clients may call back while there is nothing to send.
const IDLE_POLL: Duration = Duration::from_millis(200);

/// Where the records go, and how long a transaction may last.
#[derive(Debug, Clone)]
pub struct CommitSettings {
    /// The input topic, whose offsets are committed.
    pub topic: String,
    /// The state topic.
    pub state_topic: String,
    /// The dead letter topic.
    pub dlq_topic: String,
    /// The consumer group.
    pub group_id: String,
    /// `transaction.timeout.ms` of the producer.
    pub transaction_timeout: Duration,
}

/// The clients' configurations.
#[derive(Clone)]
pub struct CommitClients {
    /// Made with [`transaction::settings`](crate::kafka::transaction::settings).
    pub producer: ClientConfig,
    /// Made with [`committed::settings`](crate::kafka::committed::settings).
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

/// The step of the commit thread, and since when. The thread writes it; watchdog, heartbeat and tests read it.
#[derive(Debug)]
pub struct CommitPhase(Mutex<(CommitStep, Instant)>);

impl CommitPhase {
    fn new(now: Instant) -> CommitPhase {
        CommitPhase(Mutex::new((CommitStep::Idle, now)))
    }

    /// What the thread does, and since when.
    #[must_use]
    pub fn get(&self) -> (CommitStep, Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, step: CommitStep, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (step, now);
    }
}

/// The handle to the thread. Dropped, it lets the thread end after what it is doing, without waiting.
pub struct CommitThread {
    requests: Sender<Request>,
    phase: Arc<CommitPhase>,
    thread: JoinHandle<()>,
}

enum Request {
    Commit(Arc<Content>, ReplyOnce),
    Renew(Vec<Partition>, ReplyOnce),
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
        terms: Arc<Terms>,
        mark: Mark,
        clock: Arc<dyn Clock>,
    ) -> io::Result<CommitThread> {
        let (requests, inbox) = crossbeam_channel::bounded(QUEUE_LENGTH);
        let phase = Arc::new(CommitPhase::new(clock.now()));
        let worker = Worker {
            settings,
            clients,
            context,
            group,
            terms,
            mark,
            clock,
            phase: Arc::clone(&phase),
            producer: None,
            asker: None,
            last_end: None,
            owes_a_producer: false,
            closing: Arc::default(),
        };
        let thread = std::thread::Builder::new().name("steward-commit".to_owned()).spawn(move || worker.run(&inbox))?;
        Ok(CommitThread { requests, phase, thread })
    }

    /// What the thread does, for whoever watches.
    #[must_use]
    pub fn phase(&self) -> Arc<CommitPhase> {
        Arc::clone(&self.phase)
    }

    /// Lets the thread finish what it is doing, and waits for it. It may block as long as a call of the client does.
    pub fn join(self) {
        drop(self.requests);
        // A panic of the thread has answered whoever waited, and is reported by the panic hook.
        drop(self.thread.join());
    }

    fn ask(&self, request: Request) {
        let (Err(TrySendError::Full(request)) | Err(TrySendError::Disconnected(request))) =
            self.requests.try_send(request)
        else {
            return;
        };
        let (Request::Commit(_, reply) | Request::Renew(_, reply)) = request;
        reply.answer(Answer::Fatal { cause: "the commit thread has ended, or was asked twice at once".to_owned() });
    }
}

impl Transactions for CommitThread {
    fn commit(&self, content: Arc<Content>, reply: Reply) {
        self.ask(Request::Commit(content, ReplyOnce(Some(reply))));
    }

    fn renew(&self, partitions: Vec<Partition>, reply: Reply) {
        self.ask(Request::Renew(partitions, ReplyOnce(Some(reply))));
    }
}

/// A reply that is given even when the thread panics: nobody may wait for ever.
struct ReplyOnce(Option<Reply>);

impl ReplyOnce {
    fn answer(mut self, answer: Answer) {
        if let Some(reply) = self.0.take() {
            reply(answer);
        }
    }
}

impl Drop for ReplyOnce {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply(Answer::Fatal { cause: "the commit thread ended before it answered".to_owned() });
        }
    }
}

struct Worker<C: ConsumerContext + Clone + 'static> {
    settings: CommitSettings,
    clients: CommitClients,
    context: C,
    group: GroupView,
    terms: Arc<Terms>,
    mark: Mark,
    clock: Arc<dyn Clock>,
    phase: Arc<CommitPhase>,
    /// `None` before the first renewal, and from an unclear end to the next one.
    producer: Option<Producer<C>>,
    /// Asks for committed offsets; it never joins the group.
    asker: Option<BaseConsumer<C>>,
    last_end: Option<Instant>,
    /// The last transaction was aborted for sure, and only its producer is in doubt: the next commit may register
    /// another one without asking how things stand.
    owes_a_producer: bool,
    /// Old clients that are being torn down on threads of their own.
    closing: Arc<AtomicUsize>,
}

impl<C: ConsumerContext + Clone + 'static> Worker<C> {
    fn run(mut self, inbox: &Receiver<Request>) {
        loop {
            let (answer, reply) = match inbox.recv_timeout(IDLE_POLL) {
                Ok(Request::Commit(content, reply)) => (self.commit(&content), reply),
                Ok(Request::Renew(partitions, reply)) => (self.renew(&partitions), reply),
                Err(RecvTimeoutError::Timeout) => {
                    self.serve_clients();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.enter(CommitStep::Idle);
            reply.answer(answer);
        }
    }

    /// Lets the clients call back: statistics, errors, and the refresh of access tokens.
    fn serve_clients(&self) {
        if let Some(producer) = &self.producer {
            producer.serve();
        }
        if let Some(asker) = &self.asker {
            serve(asker);
        }
    }

    fn enter(&self, step: CommitStep) {
        self.phase.enter(step, self.clock.now());
    }

    // -------------------------------------------------------------------------------------------------- commit

    fn commit(&mut self, content: &Content) -> Answer {
        assert_covered(content);
        let stale = self.stale(content);
        if !stale.is_empty() {
            return Answer::Stale(stale);
        }
        if let Membership::NotAMember(why) = (self.group)() {
            return Answer::OutOfGroup { cause: why.to_owned() };
        }
        let producer = match self.producer.take() {
            Some(producer) => producer,
            None if self.owes_a_producer => match self.register() {
                Ok(producer) => producer,
                Err(failure) => return self.answer_without_producer(failure, Duration::ZERO),
            },
            None => return Answer::Unanswered { cause: "there is no producer before a renewal".to_owned() },
        };
        self.leave_a_gap(content);
        self.enter(CommitStep::Producing);
        let mut transaction = match producer.begin() {
            Ok(transaction) => transaction,
            Err(failure) => return self.answer_without_producer(failure, Duration::ZERO),
        };
        if let Err((failure, record)) = self.produce(&mut transaction, content) {
            return self.give_up(transaction, failure, record);
        }

        // a) first the metadata, b) then the terms, c) then the offsets.
        let member = match (self.group)() {
            Membership::Member(member) => member,
            Membership::NotAMember(why) => {
                let ended = self.give_up(transaction, KafkaFailure::AbortAndResend(Cause::of_ours(why)), None);
                return if let Answer::Aborted { cause, .. } = ended { Answer::OutOfGroup { cause } } else { ended };
            }
        };
        let stale = self.stale(content);
        if !stale.is_empty() {
            let ended = self.give_up(transaction, KafkaFailure::AbortAndResend(Cause::of_ours("terms ended")), None);
            return if matches!(ended, Answer::Aborted { .. }) { Answer::Stale(stale) } else { ended };
        }
        self.enter(CommitStep::SendingOffsets);
        if let Err(failure) = transaction.send_offsets(&self.offsets(content), &member) {
            return self.give_up(transaction, failure, None);
        }
        self.enter(CommitStep::Committing);
        let open_since = transaction.may_be_open_since();
        self.conclude(transaction.commit(), open_since, None)
    }

    /// The partitions of `content` whose term is over.
    fn stale(&self, content: &Content) -> Vec<Partition> {
        let over = content.stretches.iter().filter(|stretch| !self.terms.is_current(stretch.partition, stretch.term));
        over.map(|stretch| stretch.partition).collect()
    }

    fn leave_a_gap(&self, content: &Content) {
        let Some(last_end) = self.last_end else { return };
        if content.snapshots.is_empty() && content.dead_letters.is_empty() {
            let since = self.clock.now().saturating_duration_since(last_end);
            std::thread::sleep(OFFSETS_ALONE_GAP.saturating_sub(since));
        }
    }

    /// Stages every record, and waits until all are delivered. On failure also names the record where one is at fault.
    fn produce(
        &self,
        transaction: &mut Transaction<C>,
        content: &Content,
    ) -> Result<(), (KafkaFailure, Option<RefusedRecord>)> {
        let CommitSettings { topic, state_topic, dlq_topic, group_id, .. } = &self.settings;
        let snapshots = content.snapshots.iter().map(|snapshot| out_record::snapshot(state_topic, group_id, snapshot));
        let letters = content.dead_letters.iter().map(|letter| out_record::dead_letter(dlq_topic, topic, letter));
        for (index, record) in snapshots.chain(letters).enumerate() {
            let Err(failure) = transaction.stage(record, index) else { continue };
            let mut failed = vec![Undelivered { index: Some(index), failure: failure.clone() }];
            if matches!(failure, KafkaFailure::AbortAndResend(_)) {
                // The client takes no more since something failed: what that was is the cause.
                self.enter(CommitStep::DrainingQueue);
                failed.extend(transaction.drain().err().unwrap_or_default());
            }
            return Err(at_fault(content, failed));
        }
        self.enter(CommitStep::DrainingQueue);
        transaction.drain().map_err(|failed| at_fault(content, failed))
    }

    fn offsets(&self, content: &Content) -> TopicPartitionList {
        let mark = self.mark.of(content.number);
        let mut offsets = TopicPartitionList::with_capacity(content.stretches.len());
        for stretch in &content.stretches {
            let mut element = offsets.add_partition(&self.settings.topic, stretch.partition.0);
            element
                .set_offset(Offset::Offset(stretch.end.0))
                .expect("a position is an absolute offset, not a logical one");
            element.set_metadata(&mark);
        }
        offsets
    }

    /// Aborts where the failure leaves something to abort, and says how it ended.
    fn give_up(&mut self, transaction: Transaction<C>, failure: KafkaFailure, record: Option<RefusedRecord>) -> Answer {
        let open_since = transaction.may_be_open_since();
        match failure {
            KafkaFailure::Retry(cause) | KafkaFailure::AbortAndResend(cause) => {
                self.enter(CommitStep::Aborting);
                self.conclude(transaction.abort(cause), open_since, None)
            }
            KafkaFailure::Refused(_, cause) => {
                self.enter(CommitStep::Aborting);
                match transaction.abort(cause.clone()) {
                    // Where the first partition was refused, the coordinator knows of no transaction to abort. Whatever
                    // became of it: no commit was sent, so it has no effect once another producer is registered.
                    Ended::Failed(KafkaFailure::Unanswered(_)) => {
                        self.last_end = Some(self.clock.now());
                        self.owes_a_producer = true;
                        Answer::Refused { cause: cause.to_string(), record }
                    }
                    ended @ (Ended::Committed(..) | Ended::Aborted(..) | Ended::Failed(_)) => {
                        self.conclude(ended, open_since, Some(record))
                    }
                }
            }
            KafkaFailure::Fenced(_) | KafkaFailure::Unanswered(_) | KafkaFailure::Fatal(_) => {
                self.answer_without_producer(failure, self.clock.now().saturating_duration_since(open_since))
            }
        }
    }

    /// Takes the producer back where there is one. `refused` is what led to an abort.
    fn conclude(&mut self, ended: Ended<C>, open_since: Instant, refused: Option<Option<RefusedRecord>>) -> Answer {
        self.last_end = Some(self.clock.now());
        match ended {
            Ended::Committed(producer, took) => {
                self.producer = Some(producer);
                Answer::Committed { took }
            }
            Ended::Aborted(producer, cause) => {
                self.owes_a_producer = producer.is_none();
                self.producer = producer;
                match refused {
                    Some(record) => Answer::Refused { cause: cause.to_string(), record },
                    None if group_moved_on(&cause) => Answer::OutOfGroup { cause: cause.to_string() },
                    None => Answer::Aborted { timed_out: cause.timed_out, cause: cause.to_string() },
                }
            }
            Ended::Failed(failure) => {
                let age = self.clock.now().saturating_duration_since(open_since);
                self.answer_without_producer(failure, age)
            }
        }
    }

    /// The producer is gone, and with it whatever is open. `age` is the oldest that the coordinator can have timed out:
    /// of a producer that is younger, only another process's can be the newer one.
    fn answer_without_producer(&self, failure: KafkaFailure, age: Duration) -> Answer {
        match failure {
            KafkaFailure::Fenced(cause) => {
                Answer::Fenced { cause: cause.to_string(), within_timeout: age < self.settings.transaction_timeout }
            }
            KafkaFailure::Retry(cause) | KafkaFailure::AbortAndResend(cause) | KafkaFailure::Unanswered(cause) => {
                Answer::Unanswered { cause: cause.to_string() }
            }
            KafkaFailure::Refused(_, cause) => Answer::Refused { cause: cause.to_string(), record: None },
            KafkaFailure::Fatal(cause) => Answer::Fatal { cause: cause.to_string() },
        }
    }

    // --------------------------------------------------------------------------------------------------- renew

    fn renew(&mut self, partitions: &[Partition]) -> Answer {
        let producer = match self.register() {
            Ok(producer) => producer,
            Err(failure) => return answer_to_registration(failure),
        };
        self.enter(CommitStep::AskingCommitted);
        match self.ask_committed(partitions) {
            Ok(positions) => {
                self.producer = Some(producer);
                Answer::Renewed(positions)
            }
            Err(cause) => Answer::RenewFailed { cause },
        }
    }

    /// Lets go of the old producer, and fences it with a new one.
    fn register(&mut self) -> Result<Producer<C>, KafkaFailure> {
        self.enter(CommitStep::Renewing);
        self.producer = None;
        self.last_end = None;
        self.owes_a_producer = false;
        let closing = self.closing.load(Ordering::Acquire);
        if closing > MAX_CLOSING {
            return Err(KafkaFailure::Retry(Cause::of_ours(format!("{closing} old producers are still closing"))));
        }
        Producer::register(
            &self.clients.producer,
            self.context.clone(),
            Arc::clone(&self.clock),
            self.settings.transaction_timeout,
            REGISTER_LIMIT,
            Arc::clone(&self.closing),
        )
    }

    fn ask_committed(
        &mut self,
        partitions: &[Partition],
    ) -> Result<Vec<(Partition, Option<crate::ports::Committed>)>, String> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let asker = match self.asker.take() {
            Some(asker) => asker,
            None => build(&self.clients.asker, self.context.clone())
                .map_err(|error| format!("the client that asks for committed offsets cannot be built: {error}"))?,
        };
        let answer = committed(&asker, &self.settings.topic, partitions, ASK_LIMIT)
            .map_err(|error| format!("the group's committed offsets could not be had: {error}"));
        self.asker = Some(asker);
        answer
    }
}

/// Only a bug upstream can stage a record whose partition's offsets do not go with it: nothing would fence it.
fn assert_covered(content: &Content) {
    let covered: BTreeSet<Partition> = content.stretches.iter().map(|stretch| stretch.partition).collect();
    let staged = content.snapshots.iter().map(|snapshot| snapshot.partition);
    for partition in staged.chain(content.dead_letters.iter().map(|letter| letter.batch.partition())) {
        assert!(covered.contains(&partition), "records of partition {partition} come with a stretch of it");
    }
    assert!(!covered.is_empty(), "a transaction carries offsets: they are what fences it");
}

/// The failure that decides, and the record at fault: a record that is too large takes its batch's neighbours with it,
/// and the largest of them is the one.
fn at_fault(content: &Content, failed: Vec<Undelivered>) -> (KafkaFailure, Option<RefusedRecord>) {
    let rank = |failed: &Undelivered| {
        let grave = match &failed.failure {
            KafkaFailure::Fenced(_) => 5,
            KafkaFailure::Fatal(_) => 4,
            KafkaFailure::Unanswered(_) => 3,
            KafkaFailure::Refused(..) => 2,
            KafkaFailure::AbortAndResend(_) => 1,
            KafkaFailure::Retry(_) => 0,
        };
        (grave, failed.failure.cause().timed_out, failed.index.map(|index| weight_of(content, index)))
    };
    let worst = failed.into_iter().max_by_key(rank).expect("called with at least one");
    let record = match &worst.failure {
        KafkaFailure::Refused(refusal, _) => worst.index.map(|index| named(content, index, *refusal)),
        KafkaFailure::Retry(_)
        | KafkaFailure::AbortAndResend(_)
        | KafkaFailure::Fenced(_)
        | KafkaFailure::Unanswered(_)
        | KafkaFailure::Fatal(_) => None,
    };
    (worst.failure, record)
}

/// What the record weighs; the index counts the snapshots, then the dead letters.
fn weight_of(content: &Content, index: usize) -> u64 {
    match index.checked_sub(content.snapshots.len()) {
        None => {
            let snapshot = &content.snapshots[index];
            let trace = snapshot.trace.as_deref();
            let traced = [
                trace.and_then(|trace| trace.traceparent.as_deref().map(|value| (header::TRACEPARENT, value))),
                trace.and_then(|trace| trace.tracestate.as_deref().map(|value| (header::TRACESTATE, value))),
            ];
            let traced: usize = traced.iter().flatten().map(|(name, value)| name.len() + value.len()).sum();
            snapshot.weight_bytes() + traced as u64
        }
        Some(letter) => content.dead_letters[letter].weight_bytes(),
    }
}

fn named(content: &Content, index: usize, refusal: Refusal) -> RefusedRecord {
    match index.checked_sub(content.snapshots.len()) {
        None => RefusedRecord::Snapshot { index, too_large: refusal == Refusal::TooLarge },
        Some(index) => RefusedRecord::DeadLetter { index, too_large: refusal == Refusal::TooLarge },
    }
}

fn answer_to_registration(failure: KafkaFailure) -> Answer {
    match failure {
        KafkaFailure::Retry(cause) | KafkaFailure::AbortAndResend(cause) | KafkaFailure::Unanswered(cause) => {
            Answer::RenewFailed { cause: cause.to_string() }
        }
        // No transaction of this producer can have timed out: another process registers the same id right now.
        KafkaFailure::Fenced(cause) => Answer::Fenced { cause: cause.to_string(), within_timeout: true },
        KafkaFailure::Refused(_, cause) => {
            Answer::Fatal { cause: format!("{cause}; allow Write on the transactional id") }
        }
        KafkaFailure::Fatal(cause) => Answer::Fatal { cause: cause.to_string() },
    }
}
