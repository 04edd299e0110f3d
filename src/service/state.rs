//! Owns the state of a service, and the events that each state allows.

use crate::entity::{Reason, Rejection};
use crate::json::RecordTime;
use crate::service::event::{Details, EventBody, ServiceEvent};

/// The state of one service. A deleted service is the same as one that never existed: the id can be created again.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    Absent,
    Live(Live),
}

/// A service that exists. Clones are cheap: an update shares the values that it does not change with the previous state.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    pub(super) id: u64,
    pub(super) details: Details,
    /// Events applied since creation, 1 at creation. At most 2^53 - 1 after a restore, so adding 1 cannot overflow.
    pub(super) version: u64,
    pub(super) created_at: RecordTime,
    pub(super) updated_at: RecordTime,
}

/// Applies the event. An update that changes no value still counts as an event.
///
/// # Errors
/// `already_exists` and `not_found`; the state stays as it was.
pub(super) fn apply(state: &State, event: ServiceEvent) -> Result<State, Rejection> {
    let (id, at, kind) = event.into_parts();
    match (state, kind) {
        (State::Absent, EventBody::Created(details)) => {
            Ok(State::Live(Live { id, details, version: 1, created_at: at, updated_at: at }))
        }
        (State::Absent, EventBody::Updated(_) | EventBody::Deleted) => Err(not_found()),
        (State::Live(_), EventBody::Created(_)) => Err(already_exists()),
        (State::Live(live), EventBody::Updated(changes)) => Ok(State::Live(Live {
            id: live.id,
            details: live.details.with(changes),
            version: live.version + 1,
            created_at: live.created_at,
            updated_at: at,
        })),
        (State::Live(_), EventBody::Deleted) => Ok(State::Absent),
    }
}

fn already_exists() -> Rejection {
    Rejection::new(Reason::AlreadyExists, "the service exists; send ServiceUpdated to change it, or delete it first")
}

fn not_found() -> Rejection {
    Rejection::new(Reason::NotFound, "there is no service with this id; send ServiceCreated first")
}
