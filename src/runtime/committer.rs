//! Executes the commands of the [group commit machine](crate::engine::commit). Each message becomes one input of the
//! machine, which returns the commands. Replies of the transaction port arrive on its thread and are sent here as
//! messages, so only this actor uses the machine.
//!
//! Absent on purpose: decisions.

mod report;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient, SpawnHandle};
use crossbeam_channel::Sender;

use crate::engine::commit::{
    CommitCommand, CommitInput, GroupCommit, GroupCommitSettings, InvalidationCause, RevocationId,
};
use crate::engine::recovery::Repaired;
use crate::ports::{Drained, Transactions};
use crate::record::{Epoch, Partition};
use crate::runtime::committer::report::Report;
use crate::runtime::{MAILBOX_MESSAGES, Shared, StopCause, post, post_to};

/// How often repeated log events are checked for a due summary.
const SUMMARY_CHECK: Duration = Duration::from_secs(1);

/// An input that needs nothing but the machine. `Recovered` and `Revoking` have messages of their own.
impl Message for CommitInput {
    type Result = ();
}

/// A partition has recovered.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PartitionRecovered {
    pub partition: Partition,
    pub epoch: Epoch,
    /// The input that this is for the machine.
    pub recovered: CommitInput,
    /// Counts of the repairs, for the log; `None` if nothing was missing.
    pub repaired: Option<Repaired>,
}

/// The group takes these partitions away.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Revoking {
    pub partitions: Vec<(Partition, Epoch)>,
    /// Dropped when they have nothing left to commit.
    pub drained: Drained,
}

/// Sent to the ingest actor: the partition has to recover.
#[derive(Message, Debug, Clone, Copy)]
#[rtype(result = "()")]
pub struct Invalidated {
    pub partition: Partition,
    pub epoch: Epoch,
    pub cause: InvalidationCause,
}

/// The process ends: summaries of repeated log events are due at once.
#[derive(Message)]
#[rtype(result = "()")]
pub struct LogSummaries(pub Sender<()>);

pub struct CommitActor {
    machine: GroupCommit,
    /// Builds the first producer. Taken when the actor starts.
    first_command: Option<CommitCommand>,
    transactions: Box<dyn Transactions>,
    shared: Shared,
    ingest: Recipient<Invalidated>,
    /// Revocations that wait for their last commit.
    revocations: HashMap<RevocationId, Drained>,
    next_revocation: u64,
    /// The machine's next deadline, and the timer that runs until then.
    timer: Option<(Instant, SpawnHandle)>,
    report: Report,
}

impl CommitActor {
    pub(super) fn new(
        settings: GroupCommitSettings,
        transactions: Box<dyn Transactions>,
        shared: Shared,
        ingest: Recipient<Invalidated>,
    ) -> CommitActor {
        let (machine, first_command) = GroupCommit::new(settings);
        CommitActor {
            machine,
            first_command: Some(first_command),
            transactions,
            shared,
            ingest,
            revocations: HashMap::new(),
            next_revocation: 1,
            timer: None,
            report: Report::default(),
        }
    }

    fn handle_input(&mut self, input: CommitInput, context: &mut Context<Self>) {
        let now = self.shared.clock.now();
        for command in self.machine.handle(input, now) {
            self.execute(command, context);
        }
        self.shared.set_read_limits(self.machine.limit());
        self.shared.status.set_open_work(self.machine.open_work(), self.shared.clock.now());
        self.set_timer(context);
    }

    fn execute(&mut self, command: CommitCommand, context: &mut Context<Self>) {
        match command {
            CommitCommand::Commit(content) => {
                let address = context.address();
                let reply = Box::new(move |outcome| post(&address, CommitInput::TransactionEnded(outcome)));
                self.transactions.commit(content, reply);
            }
            CommitCommand::ResetProducer(partitions) => {
                let address = context.address();
                let reply = Box::new(move |outcome| post(&address, CommitInput::ProducerReset(outcome)));
                self.transactions.reset_producer(partitions, reply);
            }
            CommitCommand::Committed(receipt) => self.report.committed(receipt, &self.shared),
            CommitCommand::Drained(id) => drop(self.revocations.remove(&id)),
            CommitCommand::Invalidate(partition, epoch, cause) => {
                // At most one for each partition and epoch. The ingest actor ends only with the process.
                post_to(&self.ingest, Invalidated { partition, epoch, cause });
            }
            CommitCommand::Dropped { partition, records } => self.report.dropped(partition, records),
            CommitCommand::Stop(reason) => (self.shared.stop)(StopCause::Commit(reason)),
            CommitCommand::Log(notice) => self.report.notice(notice, &self.shared),
        }
    }

    fn set_timer(&mut self, context: &mut Context<Self>) {
        let deadline = self.machine.next_deadline();
        if self.timer.map(|(at, _)| at) == deadline {
            return;
        }
        if let Some((_, timer)) = self.timer.take() {
            context.cancel_future(timer);
        }
        if let Some(at) = deadline {
            let wait = at.saturating_duration_since(self.shared.clock.now());
            let timer = context.run_later(wait, |actor, context| {
                actor.timer = None;
                actor.handle_input(CommitInput::Tick, context);
            });
            self.timer = Some((at, timer));
        }
    }
}

impl Actor for CommitActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX_MESSAGES);
        if let Some(first_command) = self.first_command.take() {
            self.execute(first_command, context);
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
        // The sender may have stopped waiting.
        let _ = done.try_send(());
    }
}

impl Handler<CommitInput> for CommitActor {
    type Result = ();
    fn handle(&mut self, input: CommitInput, context: &mut Self::Context) {
        self.handle_input(input, context);
    }
}

impl Handler<PartitionRecovered> for CommitActor {
    type Result = ();
    fn handle(&mut self, recovered: PartitionRecovered, context: &mut Self::Context) {
        let PartitionRecovered { partition, epoch, recovered, repaired } = recovered;
        self.report.recovered(partition, epoch, repaired);
        self.handle_input(recovered, context);
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
