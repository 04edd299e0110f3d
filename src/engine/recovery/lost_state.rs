//! Compares what the committed position says with what is there: less state is refused, unless the input completes it.
//!
//! S is the newest event that the state contained with the last commit, M the newest one that it contains. M < S has
//! these causes:
//!
//! * **An empty log**: the topic was deleted, or renamed in the configuration, or the partition was lost with its disk. A log
//!   that has contained a snapshot never ends at 0 again. Refused, even if the input could fill it: it may be the wrong topic.
//! * **A removed tombstone**: S was one, and compaction has removed it. Nothing is lost. Compaction never removes the newest
//!   value of a key, so a value is not missing for this reason, and nothing is if the topic has another id.
//! * **A lost end**: a transaction that the brokers tore, an unclean election, or an older copy under another name. If every
//!   event after M is verified or still to be processed, the repair publishes what is missing. Otherwise it is refused.

use crate::engine::offset_metadata::NewestState;
use crate::engine::recovery::restore::Restored;
use crate::engine::recovery::start_plan::StartPlan;
use crate::engine::recovery::{CommittedPosition, Recovery, RecoveryRefusal, forget_facts};
use crate::entity::Entity;
use crate::record::{Offset, Partition, Position, TopicId};

/// The state contains less than with the last commit, and the input does not have the events to complete it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "state topic {topic}, partition {partition}: {}; it was deleted, renamed or lost. If kafka.state_topic is mistyped, correct it; else restore the topic. To build the state again from the input, give steward new state and DLQ topics and a new group. To go on with what is there, accept the loss: stop all processes of the group, then {}",
    less_than(*expected, *found, *topic_ids),
    forget_facts(group, input, topic_ids.is_none().then_some(*partition))
)]
pub struct StateLost {
    pub topic: String,
    pub partition: Partition,
    /// What the committed position says.
    pub expected: NewestState,
    /// M.
    pub found: Option<Offset>,
    /// The ids of the state topic at the commit and now, if they differ.
    pub topic_ids: Option<(TopicId, TopicId)>,
    pub group: String,
    pub input: String,
}

impl<E: Entity> Recovery<E> {
    /// Refuses an input topic that is not the one of the committed position.
    pub(super) fn refuse_other_input(&self, committed: Option<&CommittedPosition>) -> Result<(), RecoveryRefusal> {
        let expected = committed.and_then(|committed| committed.facts).and_then(|facts| facts.topics.input);
        let Some((expected, found)) = differing(expected, self.settings.topic_ids.input) else { return Ok(()) };
        let (topic, group) = (self.settings.topic.clone(), self.settings.group.clone());
        Err(RecoveryRefusal::OtherInput { topic, partition: self.partition, expected, found, group })
    }
}

impl<E: Entity> Restored<E> {
    /// S, if the state contains less.
    fn missing(&self) -> Option<NewestState> {
        let expected = self.committed?.facts?.newest_state?;
        let found = self.state.newest.as_ref().map(|newest| newest.offset);
        (found < Some(expected.offset)).then_some(expected)
    }

    /// Returns the ids of the state topic with the last commit and now, if they differ.
    fn state_topic_ids(&self) -> Option<(TopicId, TopicId)> {
        let committed = self.committed?.facts?.topics.state;
        differing(committed, self.recovery.settings.topic_ids.state)
    }

    /// Returns the newest event that the state contains: M, or S if its tombstone has been removed.
    pub(super) fn newest_state(&self) -> Option<NewestState> {
        let found = self.state.newest.as_ref();
        let found = found.map(|newest| NewestState { offset: newest.offset, is_tombstone: newest.is_tombstone });
        self.missing().filter(|missing| missing.is_tombstone && self.state_topic_ids().is_none()).or(found)
    }

    pub(super) fn refuse_lost_state(&self, plan: &StartPlan) -> Result<(), RecoveryRefusal> {
        let Some(expected) = self.missing() else { return Ok(()) };
        let (found, topic_ids) = (self.state.newest.as_ref().map(|newest| newest.offset), self.state_topic_ids());
        let is_removed_tombstone = expected.is_tombstone && topic_ids.is_none();
        if self.state_log.high > Position(0) && (is_removed_tombstone || completes(plan, found)) {
            return Ok(());
        }
        let settings = &self.recovery.settings;
        Err(RecoveryRefusal::StateLost(Box::new(StateLost {
            topic: settings.state_topic.clone(),
            partition: self.recovery.partition,
            expected,
            found,
            topic_ids,
            group: settings.group.clone(),
            input: settings.topic.clone(),
        })))
    }
}

/// Returns whether every event after M is verified, or processed after the start.
fn completes(plan: &StartPlan, newest: Option<Offset>) -> bool {
    let after_state = newest.map_or(Position(0), Offset::next);
    plan.verified_range.map_or(plan.start, |(from, _)| from) <= after_state
}

/// Both ids, if both are known and differ.
fn differing(committed: Option<TopicId>, present: Option<TopicId>) -> Option<(TopicId, TopicId)> {
    committed.zip(present).filter(|(committed, present)| committed != present)
}

fn less_than(expected: NewestState, found: Option<Offset>, topic_ids: Option<(TopicId, TopicId)>) -> String {
    let found = found.map_or("it is empty".to_owned(), |found| format!("its newest one is of offset {found}"));
    let ids = topic_ids.map_or(String::new(), |(was, is)| format!(" (the id of the topic was {was}, and is {is})"));
    format!("the committed position says that it contains the event at offset {}, and {found}{ids}", expected.offset)
}
