//! Decides whether the three topics are still those of the start.
//!
//! A topic that was deleted, created again, or got other partitions is not the one that the state was made from. Each
//! look at the topics is compared with the start:
//!
//! * a) More partitions than at the start are certain at once: no broker invents a partition. Keys have moved already.
//! * b) Any other difference counts when two looks in a row find it. A broker that has just started may answer from
//!   metadata that is older than the start of this process.
//! * c) A topic without an answer is no evidence, and neither confirms nor clears a difference.
//!
//! A transaction may need a look that began after its events were read. [`LookRequests`] knows which look that is.

use crate::record::{Topic, TopicId};

/// A topic at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicIdentity {
    pub name: String,
    /// `None` if the brokers have no topic ids; then it is not compared.
    pub id: Option<TopicId>,
    pub partitions: i32,
}

/// The three topics at the start of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicIdentities {
    pub input: TopicIdentity,
    pub state: TopicIdentity,
    pub dlq: TopicIdentity,
}

/// The ids of the topics that a position and its state belong to; `None` where the brokers have none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TopicIds {
    pub input: Option<TopicId>,
    pub state: Option<TopicId>,
}

impl TopicIdentities {
    pub fn ids(&self) -> TopicIds {
        TopicIds { input: self.input.id, state: self.state.id }
    }

    pub fn of(&self, role: Topic) -> &TopicIdentity {
        match role {
            Topic::Input => &self.input,
            Topic::State => &self.state,
            Topic::Dlq => &self.dlq,
        }
    }
}

/// What a look found of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sighting {
    Exists {
        id: Option<TopicId>,
        partitions: i32,
    },
    /// The broker does not know the topic.
    Missing,
    /// c) The broker gave no answer for this topic.
    Unknown,
}

/// What a look found, in the order of [`Topic::ALL`].
pub type Sightings = [Sighting; Topic::ALL.len()];

/// The first of the three topics that is not the one of the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} topic {topic} {difference}; {}", role.name(), remedy(*role, *difference))]
pub struct TopicChange {
    pub role: Topic,
    pub topic: String,
    pub difference: TopicDifference,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicDifference {
    #[error("does not exist any more")]
    Deleted,
    #[error("was deleted and created again (its id was {expected}, and is {found})")]
    Recreated { expected: TopicId, found: TopicId },
    #[error("had {expected} partitions at the start, and has {found}")]
    Partitions { expected: i32, found: i32 },
}

fn remedy(role: Topic, difference: TopicDifference) -> &'static str {
    match (role, difference) {
        (Topic::Input, TopicDifference::Deleted | TopicDifference::Recreated { .. }) => {
            "the state was made from events that are gone: create the input with all events, and give steward new state and DLQ topics and a new group"
        }
        (Topic::Input | Topic::State, TopicDifference::Partitions { .. }) => {
            "keys have moved away from their state: create new topics and replay the input into them"
        }
        (Topic::State, TopicDifference::Deleted | TopicDifference::Recreated { .. }) => {
            "the state is gone: give steward new state and DLQ topics and a new group, and it builds the state again from the input"
        }
        (Topic::Dlq, TopicDifference::Deleted | TopicDifference::Recreated { .. }) => {
            "the rejected events that it contained are gone; restart steward, which creates the topic if it is missing"
        }
        (Topic::Dlq, TopicDifference::Partitions { .. }) => "restart steward, which checks the topic",
    }
}

/// What follows from a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookVerdict {
    Unchanged,
    /// b) There is a difference, to be confirmed by another look.
    Suspected,
    /// c) Not all topics were described.
    NoAnswer,
    /// The process has to end.
    Changed(TopicChange),
}

/// Compares each look with the start.
#[derive(Debug)]
pub struct TopicWatch {
    at_start: TopicIdentities,
    /// b) What the look before found, to be confirmed.
    suspected: Option<TopicChange>,
}

impl TopicWatch {
    pub fn new(at_start: TopicIdentities) -> TopicWatch {
        TopicWatch { at_start, suspected: None }
    }

    pub fn at_start(&self) -> &TopicIdentities {
        &self.at_start
    }

    pub fn looked(&mut self, sightings: Sightings) -> LookVerdict {
        let changes = Topic::ALL.into_iter().zip(sightings);
        let mut changes: Vec<TopicChange> =
            changes.filter_map(|(role, sighting)| self.change(role, sighting)).collect();
        let is_certain = |change: &TopicChange| {
            matches!(change.difference, TopicDifference::Partitions { expected, found } if found > expected)
                || self.suspected.as_ref() == Some(change)
        };
        if let Some(certain) = changes.iter().position(is_certain) {
            return LookVerdict::Changed(changes.swap_remove(certain));
        }
        if let Some(change) = changes.into_iter().next() {
            self.suspected = Some(change);
            return LookVerdict::Suspected;
        }
        if sightings.contains(&Sighting::Unknown) {
            return LookVerdict::NoAnswer;
        }
        self.suspected = None;
        LookVerdict::Unchanged
    }

    fn change(&self, role: Topic, sighting: Sighting) -> Option<TopicChange> {
        let TopicIdentity { name, id, partitions } = self.at_start.of(role);
        let difference = match sighting {
            Sighting::Unknown => return None,
            Sighting::Missing => TopicDifference::Deleted,
            Sighting::Exists { id: found, partitions: count } => match (*id, found) {
                (Some(expected), Some(found)) if expected != found => TopicDifference::Recreated { expected, found },
                (Some(_) | None, Some(_) | None) if count != *partitions => {
                    TopicDifference::Partitions { expected: *partitions, found: count }
                }
                (Some(_) | None, Some(_) | None) => return None,
            },
        };
        Some(TopicChange { role, topic: name.clone(), difference })
    }
}

/// Names a request for a look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LookNumber(u64);

/// Why the last look does not show that the topics are unchanged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LookDoubt {
    #[default]
    None,
    /// c) Not all topics were described.
    NoAnswer,
    /// b) There is a difference, to be confirmed by another look.
    Suspected,
    /// There are no more looks: the process ends.
    Ended,
}

impl LookDoubt {
    /// Returns whether it concerns also transactions that need no look otherwise.
    pub fn concerns_all(self) -> bool {
        match self {
            LookDoubt::None | LookDoubt::NoAnswer => false,
            LookDoubt::Suspected | LookDoubt::Ended => true,
        }
    }
}

/// Which requests for a look have an answer. A look that finds nothing answers the requests that were made before it
/// began; one that began earlier may have missed what the events of the request were written after.
#[derive(Debug, Default)]
pub struct LookRequests {
    newest: LookNumber,
    /// This one and all before are answered.
    answered: LookNumber,
    doubt: LookDoubt,
}

impl LookRequests {
    pub fn request(&mut self) -> LookNumber {
        self.newest.0 += 1;
        self.newest
    }

    /// Returns the newest request, to be taken before a look begins.
    pub fn newest(&self) -> LookNumber {
        self.newest
    }

    /// The look that began after `newest` was taken has found the topics unchanged.
    pub fn found_nothing(&mut self, newest: LookNumber) {
        self.answered = self.answered.max(newest);
        self.doubt = LookDoubt::None;
    }

    pub fn doubted(&mut self, doubt: LookDoubt) {
        self.doubt = doubt;
    }

    /// Answers all requests without a look. The doubt remains.
    pub fn answer_all(&mut self) {
        self.answered = self.newest;
    }

    pub fn is_answered(&self, request: LookNumber) -> bool {
        request <= self.answered
    }

    pub fn doubt(&self) -> LookDoubt {
        self.doubt
    }
}
