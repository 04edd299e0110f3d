//! Owns what a *service* (web development, plumbing, ...) is: how its events are read and judged, and how it is
//! written down.
//!
//! A record's value travels one way: `json` finds the known fields, each as raw text; `event` reads them into raw
//! types that carry the rules, and those into checked types with private fields; `state` applies a checked event;
//! `snapshot` writes the result, and reads it back through the same rules. The first step that fails names the
//! reason.
//!
//! Architecture invariant: no clock, no I/O, no actor, no Kafka; the same record gives the same bytes indefinitely.
//! Architecture invariant: checked events and states know no serde, so nothing can be deserialised past the rules.
//! To own another kind of entity, write a sibling of this folder.

mod event;
mod json;
mod record_time;
mod snapshot;
mod state;
mod violation;

use crate::entity::{CorruptSnapshot, Entity, RawEvent as Incoming, Reason, Rejection};

pub use crate::service::state::{Live, State};

/// The entity that ships.
#[derive(Debug, Clone, Copy, Default)]
pub struct Service;

impl Entity for Service {
    type State = State;

    fn absent(&self) -> State {
        State::Absent
    }

    fn decide(&self, state: &State, incoming: Incoming<'_>) -> Result<State, Rejection> {
        let event = event::decode(incoming.value, incoming.timestamp_ms)?;
        key_is_id(incoming.key, event.id())?;
        state::apply(state, event)
    }

    fn encode(&self, state: &State) -> Option<Vec<u8>> {
        match state {
            State::Absent => None,
            State::Live(live) => Some(snapshot::encode(live)),
        }
    }

    fn decode(&self, snapshot: &[u8]) -> Result<State, CorruptSnapshot> {
        snapshot::decode(snapshot).map(State::Live)
    }

    fn check(&self, snapshot: &[u8]) -> Result<(), CorruptSnapshot> {
        snapshot::check(snapshot)
    }

    fn newest_event_ms(&self, state: &State) -> Option<i64> {
        match state {
            State::Absent => None,
            State::Live(live) => Some(live.updated_at.ms()),
        }
    }
}

/// A key is the id in its shortest decimal form, or the record went to an entity that it is not about.
fn key_is_id(key: &[u8], id: u64) -> Result<(), Rejection> {
    const QUOTED_CHARACTERS: usize = 32;
    if is_decimal_of(key, id) {
        return Ok(());
    }
    // A character has at most 4 bytes, so this much of the key holds one more than can be quoted.
    let head = &key[..key.len().min((QUOTED_CHARACTERS + 1) * 4)];
    let quoted = quoted(&String::from_utf8_lossy(head), QUOTED_CHARACTERS);
    let detail = format!("the key {quoted} is not the id; send {id}, the id in decimal digits, as the key");
    Err(Rejection::new(Reason::KeyIdMismatch, detail))
}

/// Whether the text is the number in its shortest decimal form. Nothing is written down for it: it is asked of every event.
fn is_decimal_of(text: &[u8], number: u64) -> bool {
    let mut left = number;
    for digit in text.iter().rev() {
        if *digit != b'0' + (left % 10) as u8 {
            return false;
        }
        left /= 10;
        if left == 0 {
            break;
        }
    }
    left == 0 && text.len() == number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// The text in quotes, cut to `limit` characters: a detail may hold no more than 64 of the input's, all in all.
fn quoted(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}
