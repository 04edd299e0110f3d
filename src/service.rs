//! Owns the entity that ships, a *service* (web development, plumbing, ...): its events, rules, state and snapshots.
//!
//! The value of a record takes four steps. `json` checks the grammar and finds the fields. `event` reads the fields into
//! raw types that carry the rules, and those into checked types with private fields. `state` applies a checked event.
//! `snapshot` writes the new state, and reads it back through the same rules. The first step that fails determines the
//! reason of the rejection.
//!
//! Architecture invariant: no clock, no I/O, no actor, no Kafka; the same record always gives the same bytes.
//! Architecture invariant: checked events and states do not implement serde, so nothing bypasses the rules.
//! Another kind of entity is a sibling of this module.

mod event;
mod snapshot;
mod state;

use crate::entity::{CorruptSnapshot, Entity, RawEvent as Incoming, Reason, Rejection, Remedies};

pub use crate::service::state::{Live, State};

/// The entity that ships.
#[derive(Debug, Clone, Copy, Default)]
pub struct Service;

impl Entity for Service {
    type State = State;

    const REMEDIES: Remedies = Remedies {
        missing_key: "send the id in decimal digits as the key",
        null_payload: "to delete a service send a ServiceDeleted event",
    };

    fn absent(&self) -> State {
        State::Absent
    }

    fn apply(&self, state: &State, incoming: Incoming<'_>) -> Result<State, Rejection> {
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

    fn max_encoded_bytes(&self, state: &State) -> Option<u64> {
        match state {
            State::Absent => Some(0),
            State::Live(live) => Some(snapshot::max_bytes(live)),
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

/// Checks that the key is the id in its shortest decimal form. Any other key belongs to another entity.
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

/// Returns whether the text is the number in its shortest decimal form. It does not allocate, because it runs for every
/// event.
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

/// Returns the text in quotes, cut to `limit` characters. A detail may contain at most 64 characters of the input in
/// total.
fn quoted(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}
