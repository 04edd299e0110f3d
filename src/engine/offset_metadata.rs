//! The metadata that is committed with a position: which transaction committed it, and what the state contained then.
//!
//! Its text is `instance#start/number`, then what is known of `state=OFFSET` or `tombstone=OFFSET`, `input=ID` and
//! `state-topic=ID`, separated by spaces. Releases before 0.2 wrote only the first word. Other programs of the group,
//! and tools that reset offsets, write something else or nothing.
//!
//! Architecture invariant: the text of a transaction is a function of its number and its content. A transaction in doubt
//! is recognised by it.

use std::fmt::Write as _;

use crate::engine::topic_watch::TopicIds;
use crate::record::{Offset, TopicId};

/// The newest event that a state partition contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NewestState {
    pub offset: Offset,
    /// The event deleted its entity. Compaction removes a tombstone, but never the newest value of a key.
    pub is_tombstone: bool,
}

/// What the metadata of a position says that steward committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PositionFacts {
    /// The newest event that the state partition contained with this commit. `None` if it contained none, and in
    /// metadata of older releases.
    pub newest_state: Option<NewestState>,
    pub topics: TopicIds,
}

/// Writes the metadata of one process.
#[derive(Debug, Clone)]
pub struct OffsetMetadata {
    instance: String,
    topics: TopicIds,
}

impl OffsetMetadata {
    /// `instance` names one run of one process. It is unique, so that a restarted process never meets metadata of its
    /// earlier run.
    pub fn new(instance: impl Into<String>, topics: TopicIds) -> OffsetMetadata {
        OffsetMetadata { instance: instance.into(), topics }
    }

    /// Returns the metadata of one partition in the transaction `number`, after which the state contains
    /// `newest_state`.
    pub fn of(&self, number: u64, newest_state: Option<NewestState>) -> String {
        let mut text = format!("{}/{number}", self.instance);
        let mut word = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a string cannot fail.
            let _ = write!(text, " {name}={value}");
        };
        if let Some(NewestState { offset, is_tombstone }) = newest_state {
            word(if is_tombstone { TOMBSTONE } else { STATE }, &offset);
        }
        if let Some(id) = self.topics.input {
            word(INPUT, &id);
        }
        if let Some(id) = self.topics.state {
            word(STATE_TOPIC, &id);
        }
        text
    }
}

const STATE: &str = "state";
const TOMBSTONE: &str = "tombstone";
const INPUT: &str = "input";
const STATE_TOPIC: &str = "state-topic";

impl PositionFacts {
    /// Returns `None` if steward has not written the text.
    pub fn parse(metadata: &str) -> Option<PositionFacts> {
        PositionFacts::split(metadata).map(|(_, facts)| facts)
    }

    /// Returns the instance name and the facts.
    fn split(metadata: &str) -> Option<(&str, PositionFacts)> {
        let mut facts = PositionFacts::default();
        let mut rest = metadata;
        // From the end: an instance name may have spaces.
        while let Some((before, word)) = rest.rsplit_once(' ')
            && facts.read(word).is_some()
        {
            rest = before;
        }
        Some((instance_in(rest)?, facts))
    }

    fn read(&mut self, word: &str) -> Option<()> {
        let (name, value) = word.split_once('=')?;
        match name {
            STATE | TOMBSTONE => {
                let offset = Offset(value.parse().ok()?);
                self.newest_state = Some(NewestState { offset, is_tombstone: name == TOMBSTONE });
            }
            INPUT => self.topics.input = Some(TopicId::parse(value)?),
            STATE_TOPIC => self.topics.state = Some(TopicId::parse(value)?),
            _ => return None,
        }
        Some(())
    }
}

/// Returns the name of the instance that committed the position; `None` if steward did not.
pub fn instance_of(metadata: &str) -> Option<&str> {
    PositionFacts::split(metadata).map(|(instance, _)| instance)
}

/// Reads `instance#start/number`.
fn instance_in(text: &str) -> Option<&str> {
    let (instance, number) = text.rsplit_once('/')?;
    let (name, start) = instance.rsplit_once('#')?;
    let is_valid = !name.is_empty() && u64::from_str_radix(start, 16).is_ok() && number.parse::<u64>().is_ok();
    is_valid.then_some(name)
}
