//! Carries out what the [group commit machine](crate::engine::commit) decides. Nothing is decided here: an
//! input goes in, commands come out, each is one line of work.
//!
//! Answers of the transaction port arrive on its thread and come in as messages, so the machine is touched by this
//! actor alone.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient, SpawnHandle};
use crossbeam_channel::Sender;

use crate::engine::batches::{BatchId, DoneBatch, OpenBatch};
use crate::engine::commit::transaction::{CommitOutcome, ResetOutcome};
use crate::engine::commit::{CommitCommand, CommitInput, GroupCommit, GroupCommitSettings, RevocationId};
use crate::engine::outcome::Outcomes;
use crate::engine::recovery::Repaired;
use crate::ports::{Drained, Transactions};
use crate::record::{Epoch, Partition, Position};
use crate::runtime::{MAILBOX_MESSAGES, Shared, StopCause, post};

mod report;

use crate::runtime::committer::report::Report;

/// How often what repeats is looked at for a summary.
const SUMMARY_CHECK: Duration = Duration::from_secs(1);

/// A partition has recovered.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Joined {
    /// The partition.
    pub partition: Partition,
    /// Its epoch.
    pub epoch: Epoch,
    /// What the group has committed.
    pub committed: Option<Position>,
    /// The first position to process.
    pub start: Position,
    /// What recovery has to publish, in batches without records at `start`.
    pub repairs: Vec<DoneBatch>,
    /// The same in numbers; `None` if nothing was missing.
    pub repaired: Option<Repaired>,
}

/// A batch is about to be handed to its entities.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Opened(pub OpenBatch);

/// All records of a batch have an outcome.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Completed {
    /// The partition.
    pub partition: Partition,
    /// The epoch under which it was read.
    pub epoch: Epoch,
    /// Which batch.
    pub id: BatchId,
    /// The outcomes.
    pub outcomes: Outcomes,
}

/// These partitions are about to go.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Revoking {
    /// Partitions and epochs.
    pub partitions: Vec<(Partition, Epoch)>,
    /// To be dropped once nothing of them is left to be committed.
    pub drained: Drained,
}

/// Ownership under these epochs is over.
#[derive(Message)]
#[rtype(result = "()")]
pub struct OwnershipEnded(pub Vec<(Partition, Epoch)>);

/// The process stops: nothing is read any more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Stopping;

/// It cannot be told what of this epoch was committed.
#[derive(Message, Debug, Clone, Copy)]
#[rtype(result = "()")]
pub struct Invalidated {
    /// The partition.
    pub partition: Partition,
    /// The epoch.
    pub epoch: Epoch,
}

/// The transaction in flight has ended.
#[derive(Message)]
#[rtype(result = "()")]
struct TransactionEnded(CommitOutcome);

/// The reset of the producer has ended.
#[derive(Message)]
#[rtype(result = "()")]
struct ProducerReset(ResetOutcome);

/// The process ends: what repeated is to be summed up now.
#[derive(Message)]
#[rtype(result = "()")]
pub struct LogSummaries(pub Sender<()>);

/// Who has to know that a epoch was invalidated: the ingest actor, which is born after this one.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReportInvalidations(pub Recipient<Invalidated>);

/// See the module.
pub struct CommitActor {
    machine: GroupCommit,
    first: Option<CommitCommand>,
    transactions: Box<dyn Transactions>,
    shared: Shared,
    invalidates: Option<Recipient<Invalidated>>,
    revocations: HashMap<RevocationId, Drained>,
    next_revocation: u64,
    alarm: Option<(Instant, SpawnHandle)>,
    report: Report,
}

impl CommitActor {
    /// An actor that builds its first producer when it starts.
    #[must_use]
    pub fn new(settings: GroupCommitSettings, transactions: Box<dyn Transactions>, shared: Shared) -> CommitActor {
        let (machine, first) = GroupCommit::new(settings);
        CommitActor {
            machine,
            first: Some(first),
            transactions,
            shared,
            invalidates: None,
            revocations: HashMap::new(),
            next_revocation: 1,
            alarm: None,
            report: Report::default(),
        }
    }

    fn handle_input(&mut self, input: CommitInput, context: &mut Context<Self>) {
        let now = self.shared.clock.now();
        for command in self.machine.handle(input, now) {
            self.carry_out(command, context);
        }
        self.tell_vitals();
        self.set_alarm(context);
    }

    fn carry_out(&mut self, command: CommitCommand, context: &mut Context<Self>) {
        match command {
            CommitCommand::Commit(content) => {
                let address = context.address();
                let reply = Box::new(move |outcome| post(&address, TransactionEnded(outcome)));
                self.transactions.commit(content, reply);
            }
            CommitCommand::ResetProducer(partitions) => {
                let address = context.address();
                let reply = Box::new(move |outcome| post(&address, ProducerReset(outcome)));
                self.transactions.reset_producer(partitions, reply);
            }
            CommitCommand::Committed(receipt) => self.report.committed(receipt, &self.shared),
            CommitCommand::Drained(id) => drop(self.revocations.remove(&id)),
            CommitCommand::Invalidate(partition, epoch) => {
                if let Some(invalidates) = &self.invalidates {
                    // The ingest actor ends only with the process; then there is nobody to recover the partition for.
                    invalidates.do_send(Invalidated { partition, epoch });
                }
            }
            CommitCommand::Dropped { partition, records } => {
                self.report.dropped(partition, records);
            }
            CommitCommand::Stop(reason) => (self.shared.stop)(StopCause::Commit(reason)),
            CommitCommand::Log(notice) => self.report.notice(notice, &self.shared),
        }
    }

    fn tell_vitals(&self) {
        self.shared.status.open(self.machine.open_work(), self.shared.clock.now());
    }

    fn set_alarm(&mut self, context: &mut Context<Self>) {
        let due = self.machine.next_deadline();
        if self.alarm.map(|(at, _)| at) == due {
            return;
        }
        if let Some((_, alarm)) = self.alarm.take() {
            context.cancel_future(alarm);
        }
        if let Some(at) = due {
            let wait = at.saturating_duration_since(self.shared.clock.now());
            let alarm = context.run_later(wait, |actor, context| {
                actor.alarm = None;
                actor.handle_input(CommitInput::Tick, context);
            });
            self.alarm = Some((at, alarm));
        }
    }
}

impl Actor for CommitActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX_MESSAGES);
        if let Some(first) = self.first.take() {
            self.carry_out(first, context);
        }
        context.run_interval(SUMMARY_CHECK, |actor, _| actor.report.summarise(&actor.shared));
    }
}

impl Drop for CommitActor {
    fn drop(&mut self) {
        self.report.finish(&self.shared);
    }
}

impl Handler<LogSummaries> for CommitActor {
    type Result = ();
    fn handle(&mut self, LogSummaries(done): LogSummaries, _: &mut Self::Context) {
        self.report.finish(&self.shared);
        // Whoever asked may have given up.
        let _ = done.try_send(());
    }
}

impl Handler<ReportInvalidations> for CommitActor {
    type Result = ();
    fn handle(&mut self, ReportInvalidations(recipient): ReportInvalidations, _: &mut Self::Context) {
        self.invalidates = Some(recipient);
    }
}

impl Handler<Joined> for CommitActor {
    type Result = ();
    fn handle(&mut self, joined: Joined, context: &mut Self::Context) {
        let Joined { partition, epoch, committed, start, repairs, repaired } = joined;
        self.report.joined(partition, epoch, repaired);
        self.handle_input(CommitInput::Joined { partition, epoch, committed, start, repairs }, context);
    }
}

impl Handler<Opened> for CommitActor {
    type Result = ();
    fn handle(&mut self, Opened(open): Opened, context: &mut Self::Context) {
        self.handle_input(CommitInput::Opened(open), context);
    }
}

impl Handler<Completed> for CommitActor {
    type Result = ();
    fn handle(&mut self, completed: Completed, context: &mut Self::Context) {
        let Completed { partition, epoch, id, outcomes } = completed;
        self.handle_input(CommitInput::Completed { partition, epoch, id, outcomes }, context);
    }
}

impl Handler<Revoking> for CommitActor {
    type Result = ();
    fn handle(&mut self, Revoking { partitions, drained }: Revoking, context: &mut Self::Context) {
        let id = RevocationId(self.next_revocation);
        self.next_revocation += 1;
        self.revocations.insert(id, drained);
        self.handle_input(CommitInput::Revoking { id, partitions }, context);
    }
}

impl Handler<OwnershipEnded> for CommitActor {
    type Result = ();
    fn handle(&mut self, OwnershipEnded(partitions): OwnershipEnded, context: &mut Self::Context) {
        self.handle_input(CommitInput::OwnershipEnded(partitions), context);
    }
}

impl Handler<Stopping> for CommitActor {
    type Result = ();
    fn handle(&mut self, _: Stopping, context: &mut Self::Context) {
        self.handle_input(CommitInput::Stopping, context);
    }
}

impl Handler<TransactionEnded> for CommitActor {
    type Result = ();
    fn handle(&mut self, TransactionEnded(outcome): TransactionEnded, context: &mut Self::Context) {
        self.handle_input(CommitInput::TransactionEnded(outcome), context);
    }
}

impl Handler<ProducerReset> for CommitActor {
    type Result = ();
    fn handle(&mut self, ProducerReset(outcome): ProducerReset, context: &mut Self::Context) {
        self.handle_input(CommitInput::ProducerReset(outcome), context);
    }
}
