//! Owns one entity: accepts or rejects each event of its key, in order.
//!
//! A message carries all records of the key in one batch. After each message the actor leaves its state in its
//! [`EntitySlot`] as the last good one, and finishes its part of the batch. A message may take several turns (see
//! [`thread_context`]); until it is finished, the rest of the mailbox waits.
//!
//! A panic of entity code is caught and costs that one event, which is rejected as `panicked`. The outcomes go out
//! without delay; then the supervisor restarts the actor from the last good state. A panic while the state is encoded
//! is caught only after several events: the message is then processed again, with the state encoded after each event,
//! to find the event that caused it.

pub mod batch_work;
pub mod slot;
pub mod thread_context;

use std::ops::Range;
use std::sync::Arc;

use actix::fut::{ActorFutureExt as _, wrap_future};
use actix::{Actor, ActorContext, AsyncContext as _, Context, Handler, Message, Supervised};

use crate::engine::outcome::{EntitySnapshot, Outcomes, OutputRecord};
use crate::engine::recovery::StoredEntity;
use crate::entity::{Entity, Reason, Rejection, apply_record, encode_snapshot};
use crate::observability::log_events::{EntityRestarted, LogEvent};
use crate::record::{Batch, Key, Offset, Partition, TraceContext};
use crate::runtime::MAILBOX_MESSAGES;
use crate::runtime::entity_actor::batch_work::BatchWork;
use crate::runtime::entity_actor::slot::EntitySlot;
use crate::runtime::entity_actor::thread_context::EntityThreadContext;

/// All records of one key in one batch.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Deliver {
    pub work: Arc<BatchWork>,
    /// Range of the batch's records by key.
    pub records: Range<u32>,
}

/// A process can hold a hundred thousand actors, so what they share is in one [`EntityThreadContext`] per thread.
pub struct EntityActor<E: Entity> {
    thread_context: Arc<EntityThreadContext<E>>,
    partition: Partition,
    key: Key,
    state: E::State,
    /// The newest event that the state contains, if any.
    newest: Option<Offset>,
    slot: Arc<EntitySlot>,
}

/// The result of a message's records so far.
struct KeyResult<S> {
    /// `None` if no event was applied.
    applied: Option<Applied<S>>,
    outcomes: Outcomes,
}

/// The newest event that was applied, and the state after it.
struct Applied<S> {
    state: S,
    /// The state, once it is encoded; `None` also for an absent entity.
    snapshot: Option<Arc<[u8]>>,
    offset: Offset,
    /// The record's index in the batch.
    index: u32,
}

/// A message while it is processed, in one turn or several.
struct MessageInProgress<S> {
    work: Arc<BatchWork>,
    /// Range of the batch's records by key.
    records: Range<u32>,
    /// The first index that is not processed yet.
    next: u32,
    result: KeyResult<S>,
}

#[derive(Clone, Copy)]
enum EncodeState {
    AfterMessage,
    AfterEachEvent,
}

impl<E: Entity> EntityActor<E> {
    /// An actor that starts from the last good state in its slot.
    pub(in crate::runtime) fn new(
        thread_context: Arc<EntityThreadContext<E>>,
        partition: Partition,
        key: Key,
        slot: Arc<EntitySlot>,
    ) -> EntityActor<E> {
        let last_good = slot.last_good();
        let newest = last_good.as_ref().map(|last_good| last_good.newest);
        let state = match last_good.as_ref().and_then(|last_good| last_good.snapshot.as_deref()) {
            // Recovery has checked it, or this process has encoded it.
            Some(snapshot) => {
                thread_context.entity.decode(snapshot).expect("the snapshot of a passivated entity can be decoded")
            }
            None => thread_context.entity.absent(),
        };
        EntityActor { thread_context, partition, key, state, newest, slot }
    }

    /// Processes one record on top of `result`. The actor's own state stays unchanged.
    fn process_record(
        &self,
        result: &mut KeyResult<E::State>,
        batch: &Arc<Batch>,
        index: u32,
        encode_state: EncodeState,
    ) {
        let record = batch.record(index as usize);
        let newest = result.applied.as_ref().map(|applied| applied.offset).or(self.newest);
        if newest.is_some_and(|newest| record.offset <= newest) {
            result.outcomes.skipped += 1;
            return;
        }
        let thread_context = &*self.thread_context;
        thread_context.current_event.set(self.partition, record.offset);
        let state = result.applied.as_ref().map_or(&self.state, |applied| &applied.state);
        let decided = apply_record(&*thread_context.entity, state, &record, thread_context.size_limits);
        let encoded = decided.and_then(|next| match encode_state {
            EncodeState::AfterMessage => Ok((next, None)),
            EncodeState::AfterEachEvent => self.encode(&next).map(|snapshot| (next, snapshot)),
        });
        match encoded {
            Ok((state, snapshot)) => {
                result.applied = Some(Applied { state, snapshot, offset: record.offset, index });
                result.outcomes.applied += 1;
            }
            Err(rejection) => result.outcomes.push(OutputRecord::rejected(batch, index, rejection)),
        }
    }

    /// Runs one turn. If it used up its time, the actor pauses afterwards; the mailbox waits with it.
    fn run_turn(&mut self, mut message: MessageInProgress<E::State>, context: &mut Context<Self>) {
        let thread_context = &self.thread_context;
        thread_context.count_turn();
        let began_ms = thread_context.clock.coarse_ms();
        let mut took_ms = 0;
        while took_ms == 0 && message.next < message.records.end {
            message.work.prefetch_after(message.next, &message.records);
            let index = message.work.index_at(message.next);
            self.process_record(&mut message.result, &message.work.batch, index, EncodeState::AfterMessage);
            message.next += 1;
            took_ms = thread_context.clock.coarse_ms().saturating_sub(began_ms);
        }
        thread_context.current_event.clear();
        let is_done = message.next == message.records.end;
        if is_done && took_ms == 0 {
            return self.finish(message, context);
        }
        thread_context.stats.key_took(&self.key, took_ms);
        let pause = wrap_future(Arc::clone(thread_context).pause(took_ms));
        if is_done {
            self.finish(message, context);
            context.wait(pause);
        } else {
            context.wait(pause.map(|(), actor: &mut Self, context| actor.run_turn(message, context)));
        }
    }

    /// Takes over the state after the message, and hands its outcomes on.
    fn finish(&mut self, message: MessageInProgress<E::State>, context: &mut Context<Self>) {
        let MessageInProgress { work, records, mut result, .. } = message;
        if let Some(applied) = &mut result.applied {
            match self.encode(&applied.state) {
                Ok(snapshot) => applied.snapshot = snapshot,
                Err(_) => result = self.process_again(&work, records),
            }
        }
        let KeyResult { applied, outcomes } = result;
        let has_panicked = outcomes.rejected_events().any(|rejected| rejected.rejection.reason == Reason::Panicked);
        let snapshot = match applied {
            Some(Applied { state, snapshot, offset: newest, index }) => {
                (self.state, self.newest) = (state, Some(newest));
                let trace = TraceContext::of(work.batch.record(index as usize).headers);
                self.slot.message_processed(Some(StoredEntity { snapshot: snapshot.clone(), newest }));
                let snapshot = EntitySnapshot { key: Arc::clone(&self.key), value: snapshot, trace };
                Some(OutputRecord::snapshot(self.partition, newest, snapshot))
            }
            None => {
                self.slot.message_processed(None);
                None
            }
        };
        work.finish_key(snapshot, outcomes);
        if has_panicked {
            // The supervisor restarts the actor (see `restarting`) and keeps its mailbox.
            context.stop();
        }
    }

    /// Processes a message whose final state could not be encoded, with the state encoded after each event.
    fn process_again(&self, work: &BatchWork, records: Range<u32>) -> KeyResult<E::State> {
        let mut result = KeyResult { applied: None, outcomes: Outcomes::default() };
        for by_key in records {
            self.process_record(&mut result, &work.batch, work.index_at(by_key), EncodeState::AfterEachEvent);
        }
        self.thread_context.current_event.clear();
        result
    }

    fn encode(&self, state: &E::State) -> Result<Option<Arc<[u8]>>, Rejection> {
        Ok(encode_snapshot(&*self.thread_context.entity, state)?.map(Arc::from))
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
        let (thread_context, key, slot) = (self.thread_context.clone(), self.key.clone(), self.slot.clone());
        *self = EntityActor::new(thread_context, self.partition, key, slot);
        let stats = &self.thread_context.stats;
        stats.entity_restarted();
        let restarts = stats.totals().entity_restarts;
        EntityRestarted { partition: self.partition.0, restarts }.emit();
    }
}

impl<E: Entity> Handler<Deliver> for EntityActor<E> {
    type Result = ();

    fn handle(&mut self, Deliver { work, records }: Deliver, context: &mut Self::Context) {
        let (next, result) = (records.start, KeyResult { applied: None, outcomes: Outcomes::default() });
        self.run_turn(MessageInProgress { work, records, next, result }, context);
    }
}
