//! One key: judges each of its records, in order, and says what became of them.
//!
//! A message carries all records of the key in one batch. After it the actor leaves its state in its slot as the last
//! good one, and counts the batch down. Where that takes longer than a turn, a tick of the coarse clock, the actor lets
//! the others of its thread have as long in between, so that a slow key costs them half of it at most; what is in its
//! own mailbox waits. A panic of the entity's code is caught around it and costs that one event
//! (`panicked`); the outcomes go out without delay, and then the supervisor restarts the actor from the last good
//! state. A panic while the state is written down is found one event later: the message is gone through again with
//! the state written down after each event, so that the one to blame is known.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use actix::fut::{ActorFutureExt as _, wrap_future};
use actix::{Actor, ActorContext, Addr, AsyncContext as _, Context, Handler, Message, Supervised};
use tokio::task::yield_now;

use crate::engine::batches::BatchId;
use crate::engine::outcome::{Outcomes, RejectedEvent};
use crate::engine::recovery::Passivated;
use crate::entity::{Entity, Reason, Rejection, judge, write_down};
use crate::observability::log_events::{EntityRestarted, LogEvent};
use crate::observability::stats::Stats;
use crate::observability::status::CurrentEvent;
use crate::ports::Clock;
use crate::record::{Batch, Key, Offset, Partition, Snapshot, TraceContext};
use crate::runtime::committer::{CommitActor, Completed};
use crate::runtime::registry::EntitySlot;
use crate::runtime::{MAILBOX_MESSAGES, post};

/// An actor waits no longer for the others of its thread: it may not have been slow, but the whole process frozen.
const LONGEST_PAUSE_MS: u64 = 1_000;

/// A batch that entities work on: the last one to finish tells the committer.
pub struct Work {
    /// The records.
    pub batch: Arc<Batch>,
    id: BatchId,
    /// Indices of records, those of one key beside each other and in order.
    by_key: Vec<u32>,
    keys_left: AtomicUsize,
    outcomes: Mutex<Outcomes>,
    committer: Addr<CommitActor>,
}

impl Work {
    /// Work for `keys` entities, each of which gets a stretch of `by_key`. `decided` is what needed none of them.
    #[must_use]
    pub fn new(
        batch: Arc<Batch>,
        id: BatchId,
        by_key: Vec<u32>,
        keys: usize,
        mut decided: Outcomes,
        committer: Addr<CommitActor>,
    ) -> Arc<Work> {
        decided.snapshots.reserve(keys);
        let (keys_left, outcomes) = (AtomicUsize::new(keys), Mutex::new(decided));
        let work = Work { batch, id, by_key, keys_left, outcomes, committer };
        if keys == 0 {
            work.complete();
        }
        Arc::new(work)
    }

    /// Asks the processor for the next record of a key. Its records stand beside each other in `by_key`, where `at` is the one
    /// that is about to be judged and `records` the stretch of them all, but far from each other in the batch.
    fn prefetch_behind(&self, at: u32, records: &Range<u32>) {
        let behind = &self.by_key[at as usize + 1..records.end as usize];
        if let Some(next) = behind.first() {
            self.batch.prefetch(*next as usize);
        }
        if let Some(next_but_one) = behind.get(1) {
            self.batch.prefetch_place(*next_but_one as usize);
        }
    }

    fn finish_key(&self, snapshot: Option<Snapshot>, others: Outcomes) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.snapshots.extend(snapshot);
        outcomes.merge(others);
        drop(outcomes);
        // The lock above orders this key's outcomes before the count; whoever counts to zero sees them all.
        if self.keys_left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.complete();
        }
    }

    fn complete(&self) {
        let outcomes = std::mem::take(&mut *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner));
        let (partition, epoch) = (self.batch.partition(), self.batch.epoch());
        post(&self.committer, Completed { partition, epoch, id: self.id, outcomes });
    }
}

/// All records of one key in one batch.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Deliver {
    /// The batch.
    pub work: Arc<Work>,
    /// Which stretch of the records by key.
    pub records: Range<u32>,
}

/// What the entities of one thread share.
pub struct EntityThreadContext<E: Entity> {
    /// The kind of entity.
    pub entity: Arc<E>,
    /// Counters.
    pub stats: Arc<Stats>,
    /// That of the thread.
    pub current_event: Arc<CurrentEvent>,
    /// Tells when a turn is over.
    pub clock: Arc<dyn Clock>,
    /// Payloads above are refused.
    pub max_payload_bytes: u64,
    /// Messages that the thread has worked on, in turns. Written by that thread alone.
    pub turns: AtomicU64,
}

impl<E: Entity> EntityThreadContext<E> {
    fn count_turn(&self) {
        self.turns.store(self.turns.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Lets the others have their turns, for as long as this one took or until none of them wants any. tokio comes back
    /// from a yield when everyone has had a turn, and the thread has looked for new messages.
    async fn let_others_work(self: Arc<Self>, took_ms: u64) {
        let until_ms = self.clock.coarse_ms() + took_ms.min(LONGEST_PAUSE_MS);
        loop {
            let before = self.turns.load(Ordering::Relaxed);
            yield_now().await;
            if self.turns.load(Ordering::Relaxed) == before || self.clock.coarse_ms() >= until_ms {
                return;
            }
        }
    }
}

/// See the module. There can be a hundred thousand of them: what they share stands in one place.
pub struct EntityActor<E: Entity> {
    thread_context: Arc<EntityThreadContext<E>>,
    partition: Partition,
    key: Key,
    state: E::State,
    newest: Offset,
    slot: Arc<EntitySlot>,
}

/// What the records of one message came to so far.
struct Progress<S> {
    /// The state after them; `None` where nothing was applied.
    state: Option<S>,
    newest: Offset,
    /// The last record that was applied.
    newest_applied: Option<u32>,
    snapshot: Option<Arc<[u8]>>,
    outcomes: Outcomes,
}

/// A message that is worked off, in one turn or several.
struct Task<S> {
    work: Arc<Work>,
    /// Which stretch of the records by key.
    records: Range<u32>,
    /// Where in it the first record stands that is not judged yet.
    next: u32,
    judged: Progress<S>,
}

/// When the state is written down.
#[derive(Clone, Copy)]
enum SnapshotTiming {
    AtTheEnd,
    AfterEach,
}

impl<E: Entity> EntityActor<E> {
    /// An actor that starts from the last good state in its slot.
    pub fn new(
        thread_context: Arc<EntityThreadContext<E>>,
        partition: Partition,
        key: Key,
        slot: Arc<EntitySlot>,
    ) -> EntityActor<E> {
        let last_good = slot.last_good();
        let state = state_of(&*thread_context.entity, &last_good);
        EntityActor { thread_context, partition, key, state, newest: last_good.newest, slot }
    }

    fn nothing_judged(&self) -> Progress<E::State> {
        let outcomes = Outcomes::default();
        Progress { state: None, newest: self.newest, newest_applied: None, snapshot: None, outcomes }
    }

    /// Judges one record by the state before it; the actor's own state stays as it is.
    fn judge_one(&self, judged: &mut Progress<E::State>, batch: &Arc<Batch>, index: u32, write_down: SnapshotTiming) {
        let record = batch.record(index as usize);
        if record.offset <= judged.newest {
            judged.outcomes.skipped += 1;
            return;
        }
        let thread_context = &*self.thread_context;
        thread_context.current_event.take(self.partition, record.offset);
        let state = judged.state.as_ref().unwrap_or(&self.state);
        let decided = judge(&*thread_context.entity, state, &record, thread_context.max_payload_bytes);
        let written = decided.and_then(|next| match write_down {
            SnapshotTiming::AtTheEnd => Ok((next, None)),
            SnapshotTiming::AfterEach => self.write_down(&next).map(|snapshot| (next, snapshot)),
        });
        match written {
            Ok((next, snapshot)) => {
                judged.state = Some(next);
                judged.snapshot = snapshot;
                judged.newest = record.offset;
                judged.newest_applied = Some(index);
                judged.outcomes.applied += 1;
            }
            Err(rejection) => {
                let batch = Arc::clone(batch);
                judged.outcomes.dlq_records.push(RejectedEvent { batch, index, rejection, truncated: false });
            }
        }
    }

    /// Works for one turn. The next one comes when the others of the thread have had theirs; until then nothing else
    /// reaches this actor.
    fn work_on(&mut self, mut task: Task<E::State>, context: &mut Context<Self>) {
        let thread_context = &self.thread_context;
        thread_context.count_turn();
        let began_ms = thread_context.clock.coarse_ms();
        let mut took_ms = 0;
        while took_ms == 0 && task.next < task.records.end {
            task.work.prefetch_behind(task.next, &task.records);
            let index = task.work.by_key[task.next as usize];
            self.judge_one(&mut task.judged, &task.work.batch, index, SnapshotTiming::AtTheEnd);
            task.next += 1;
            took_ms = thread_context.clock.coarse_ms().saturating_sub(began_ms);
        }
        thread_context.current_event.leave();
        let is_done = task.next == task.records.end;
        if is_done && took_ms == 0 {
            return self.finish(task, context);
        }
        thread_context.stats.key_took(&self.key, took_ms);
        let pause = wrap_future(Arc::clone(thread_context).let_others_work(took_ms));
        if is_done {
            self.finish(task, context);
            context.wait(pause);
        } else {
            context.wait(pause.map(|(), actor: &mut Self, context| actor.work_on(task, context)));
        }
    }

    /// All records are judged.
    fn finish(&mut self, task: Task<E::State>, context: &mut Context<Self>) {
        let Task { work, records, mut judged, .. } = task;
        if let Some(state) = &judged.state {
            match self.write_down(state) {
                Ok(snapshot) => judged.snapshot = snapshot,
                Err(_) => {
                    judged = self.nothing_judged();
                    for index in &work.by_key[records.start as usize..records.end as usize] {
                        self.judge_one(&mut judged, &work.batch, *index, SnapshotTiming::AfterEach);
                    }
                    self.thread_context.current_event.leave();
                }
            }
        }
        let Progress { state, newest, newest_applied, snapshot, outcomes } = judged;
        let has_panicked = outcomes.dlq_records.iter().any(|letter| letter.rejection.reason == Reason::Panicked);
        let trace = newest_applied.and_then(|index| TraceContext::of(work.batch.record(index as usize).headers));
        let snapshot = match state {
            Some(state) => {
                (self.state, self.newest) = (state, newest);
                self.slot.settle(Some(Passivated { snapshot: snapshot.clone(), newest }));
                let (partition, key) = (work.batch.partition(), Arc::clone(&self.key));
                Some(Snapshot { partition, key, value: snapshot, newest, trace })
            }
            None => {
                self.slot.settle(None);
                None
            }
        };
        work.finish_key(snapshot, outcomes);
        if has_panicked {
            // Under a supervisor this is a restart: see `restarting`. What waits in the mailbox stays there.
            context.stop();
        }
    }

    fn write_down(&self, state: &E::State) -> Result<Option<Arc<[u8]>>, Rejection> {
        Ok(write_down(&*self.thread_context.entity, state)?.map(Arc::from))
    }
}

impl<E: Entity> Actor for EntityActor<E> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX_MESSAGES);
    }
}

impl<E: Entity> Supervised for EntityActor<E> {
    fn restarting(&mut self, _: &mut Self::Context) {
        let last_good = self.slot.last_good();
        self.state = state_of(&*self.thread_context.entity, &last_good);
        self.newest = last_good.newest;
        let stats = &self.thread_context.stats;
        stats.entity_restarted();
        let restarts = stats.totals().entity_restarts;
        EntityRestarted { partition: self.partition.0, restarts }.emit();
    }
}

impl<E: Entity> Handler<Deliver> for EntityActor<E> {
    type Result = ();

    fn handle(&mut self, Deliver { work, records }: Deliver, context: &mut Self::Context) {
        let next = records.start;
        self.work_on(Task { work, records, next, judged: self.nothing_judged() }, context);
    }
}

fn state_of<E: Entity>(entity: &E, passivated: &Passivated) -> E::State {
    match passivated.snapshot.as_deref() {
        // Recovery has decoded it once already, or this process has written it itself.
        Some(snapshot) => entity.decode(snapshot).expect("a snapshot passivated is one that can be read back"),
        None => entity.absent(),
    }
}
