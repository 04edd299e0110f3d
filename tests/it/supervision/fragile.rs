//! An entity whose state is the list of its events, and that fails on the events that say so.

use std::cell::RefCell;

use steward::entity::{CorruptSnapshot, Entity, RawEvent, Reason, Rejection};

use crate::support::paused;

/// A value that begins like this makes the entity panic while it decides.
pub const PANIC: &str = "panic";
/// A value that begins like this makes the entity panic when it encodes a state that contains it.
pub const ENCODE_PANIC: &str = "unwritable";
/// A value that begins like this is rejected.
pub const REFUSE: &str = "refuse";

/// A value that begins like this keeps the entity's thread for [`SLOW_MS`], by the paused clock.
pub const SLOW: &str = "slow";
/// Many ticks of the coarse clock.
pub const SLOW_MS: u64 = 50;
/// A value that begins like this keeps the thread for an hour, as if the process had been suspended.
pub const FROZEN: &str = "frozen";

thread_local! {
    static DECIDED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What was decided on this thread since the last call, as `key value`, in order.
pub fn decided() -> Vec<String> {
    DECIDED.take()
}

/// Its state is the list, joined by commas. An empty list is an absent entity.
pub struct Fragile;

impl Entity for Fragile {
    type State = String;

    fn absent(&self) -> String {
        String::new()
    }

    fn apply(&self, state: &String, event: RawEvent<'_>) -> Result<String, Rejection> {
        let value = String::from_utf8_lossy(event.value);
        DECIDED.with_borrow_mut(|all| all.push(format!("{} {value}", String::from_utf8_lossy(event.key))));
        if value.starts_with(SLOW) {
            paused::work(SLOW_MS);
        }
        if value.starts_with(FROZEN) {
            paused::work(3_600_000);
        }
        assert!(!value.starts_with(PANIC), "expected: {value}");
        if value.starts_with(REFUSE) {
            return Err(Rejection::new(Reason::InvalidEvent, "expected"));
        }
        Ok(if state.is_empty() { value.into_owned() } else { format!("{state},{value}") })
    }

    fn encode(&self, state: &String) -> Option<Vec<u8>> {
        assert!(!state.contains(ENCODE_PANIC), "expected: {state}");
        (!state.is_empty()).then(|| state.clone().into_bytes())
    }

    fn decode(&self, snapshot: &[u8]) -> Result<String, CorruptSnapshot> {
        String::from_utf8(snapshot.to_vec()).map_err(|error| CorruptSnapshot(error.to_string()))
    }

    fn newest_event_ms(&self, _: &String) -> Option<i64> {
        None
    }
}
