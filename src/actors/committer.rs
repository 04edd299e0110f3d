//! Carries out what the [group commit machine](crate::progress::group_commit) decides. Nothing is decided here: an
//! input goes in, commands come out, each is one line of work.
//!
//! Answers of the transaction port arrive on its thread and come in as messages, so the machine is touched by this
//! actor alone.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, Recipient, SpawnHandle};
use crossbeam_channel::Sender;

use crate::actors::{MAILBOX_MESSAGES, Shared, Stop, post};
use crate::ports::{Drained, Transactions};
use crate::progress::group_commit::{Command, GroupCommit, Input, RevocationId, Settings};
use crate::progress::offsets::{BatchId, DoneBatch, OpenBatch, Outcomes};
use crate::progress::recovery::Healed;
use crate::progress::transaction::Answer;
use crate::record::{Partition, Position, Term};

mod report;

use report::Report;

/// How often what repeats is looked at for a summary.
const SUMMARY_CHECK: Duration = Duration::from_secs(1);

/// A partition has recovered.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Joined {
    /// The partition.
    pub partition: Partition,
    /// Its term.
    pub term: Term,
    /// What the group has committed.
    pub committed: Option<Position>,
    /// The first position to process.
    pub start: Position,
    /// What recovery has to publish, in batches without records at `start`.
    pub heals: Vec<DoneBatch>,
    /// The same in numbers; `None` if nothing was missing.
    pub healed: Option<Healed>,
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
    /// The term under which it was read.
    pub term: Term,
    /// Which batch.
    pub id: BatchId,
    /// The outcomes.
    pub outcomes: Outcomes,
}

/// These partitions are about to go.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Revoked {
    /// Partitions and terms.
    pub partitions: Vec<(Partition, Term)>,
    /// To be dropped once nothing of them is left to be committed.
    pub drained: Drained,
}

/// Ownership under these terms is over.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Over(pub Vec<(Partition, Term)>);

/// The process stops: nothing is read any more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Stopping;

/// It cannot be told what of this term was committed.
#[derive(Message, Debug, Clone, Copy)]
#[rtype(result = "()")]
pub struct Forfeited {
    /// The partition.
    pub partition: Partition,
    /// The term.
    pub term: Term,
}

/// The transaction port has answered.
#[derive(Message)]
#[rtype(result = "()")]
struct Answered(Answer);

/// The process ends: what repeated is to be summed up now.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SumUp(pub Sender<()>);

/// Who has to know that a term was forfeited: the ingest actor, which is born after this one.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReportForfeits(pub Recipient<Forfeited>);

/// See the module.
pub struct CommitActor {
    machine: GroupCommit,
    first: Option<Command>,
    transactions: Box<dyn Transactions>,
    shared: Shared,
    forfeits: Option<Recipient<Forfeited>>,
    revocations: HashMap<RevocationId, Drained>,
    next_revocation: u64,
    alarm: Option<(Instant, SpawnHandle)>,
    report: Report,
}

impl CommitActor {
    /// An actor that builds its first producer when it starts.
    #[must_use]
    pub fn new(settings: Settings, transactions: Box<dyn Transactions>, shared: Shared) -> CommitActor {
        let (machine, first) = GroupCommit::new(settings);
        CommitActor {
            machine,
            first: Some(first),
            transactions,
            shared,
            forfeits: None,
            revocations: HashMap::new(),
            next_revocation: 1,
            alarm: None,
            report: Report::default(),
        }
    }

    fn handle_input(&mut self, input: Input, context: &mut Context<Self>) {
        let now = self.shared.clock.now();
        for command in self.machine.handle(input, now) {
            self.carry_out(command, context);
        }
        self.tell_vitals();
        self.set_alarm(context);
    }

    fn carry_out(&mut self, command: Command, context: &mut Context<Self>) {
        match command {
            Command::Commit(content) => self.transactions.commit(content, reply_to(context.address())),
            Command::Renew(partitions) => self.transactions.renew(partitions, reply_to(context.address())),
            Command::Committed(receipt) => self.report.committed(receipt, &self.shared),
            Command::Drained(id) => drop(self.revocations.remove(&id)),
            Command::Forfeit(partition, term) => {
                if let Some(forfeits) = &self.forfeits {
                    // The ingest actor ends only with the process; then there is nobody to recover the partition for.
                    forfeits.do_send(Forfeited { partition, term });
                }
            }
            Command::Dropped { partition, records } => {
                self.report.dropped(partition, records);
            }
            Command::Stop(reason) => (self.shared.stop)(Stop::Commit(reason)),
            Command::Tell(notice) => self.report.notice(notice, &self.shared),
        }
    }

    fn tell_vitals(&self) {
        self.shared.vitals.open(self.machine.open_work(), self.shared.clock.now());
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
                actor.handle_input(Input::Tick, context);
            });
            self.alarm = Some((at, alarm));
        }
    }
}

fn reply_to(address: Addr<CommitActor>) -> crate::ports::Reply {
    Box::new(move |answer| post(&address, Answered(answer)))
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

impl Handler<SumUp> for CommitActor {
    type Result = ();
    fn handle(&mut self, SumUp(done): SumUp, _: &mut Self::Context) {
        self.report.finish(&self.shared);
        // Whoever asked may have given up.
        let _ = done.try_send(());
    }
}

impl Handler<ReportForfeits> for CommitActor {
    type Result = ();
    fn handle(&mut self, ReportForfeits(recipient): ReportForfeits, _: &mut Self::Context) {
        self.forfeits = Some(recipient);
    }
}

impl Handler<Joined> for CommitActor {
    type Result = ();
    fn handle(&mut self, joined: Joined, context: &mut Self::Context) {
        let Joined { partition, term, committed, start, heals, healed } = joined;
        self.report.joined(partition, term, healed);
        self.handle_input(Input::Joined { partition, term, committed, start, heals }, context);
    }
}

impl Handler<Opened> for CommitActor {
    type Result = ();
    fn handle(&mut self, Opened(open): Opened, context: &mut Self::Context) {
        self.handle_input(Input::Opened(open), context);
    }
}

impl Handler<Completed> for CommitActor {
    type Result = ();
    fn handle(&mut self, completed: Completed, context: &mut Self::Context) {
        let Completed { partition, term, id, outcomes } = completed;
        self.handle_input(Input::Completed { partition, term, id, outcomes }, context);
    }
}

impl Handler<Revoked> for CommitActor {
    type Result = ();
    fn handle(&mut self, Revoked { partitions, drained }: Revoked, context: &mut Self::Context) {
        let id = RevocationId(self.next_revocation);
        self.next_revocation += 1;
        self.revocations.insert(id, drained);
        self.handle_input(Input::Revoked { id, partitions }, context);
    }
}

impl Handler<Over> for CommitActor {
    type Result = ();
    fn handle(&mut self, Over(partitions): Over, context: &mut Self::Context) {
        self.handle_input(Input::Over(partitions), context);
    }
}

impl Handler<Stopping> for CommitActor {
    type Result = ();
    fn handle(&mut self, _: Stopping, context: &mut Self::Context) {
        self.handle_input(Input::Stopping, context);
    }
}

impl Handler<Answered> for CommitActor {
    type Result = ();
    fn handle(&mut self, Answered(answer): Answered, context: &mut Self::Context) {
        self.handle_input(Input::Ended(answer), context);
    }
}
