//! Owns what a service is, and which event may follow which state.

use crate::entity::{Reason, Rejection};
use crate::service::event::{Details, EventBody, ServiceEvent};
use crate::service::record_time::RecordTime;

/// What is known of one service. Deleted and never heard of are the same: an id can be created again.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// There is none.
    Absent,
    /// There is one.
    Live(Live),
}

/// A service that exists. Clones are cheap: an update shares with its predecessor all that it leaves unchanged.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    pub(super) id: u64,
    pub(super) details: Details,
    /// Events applied since creation, 1 at creation. At most 2^53 - 1 after a restore, so counting on cannot overflow.
    pub(super) version: u64,
    pub(super) created_at: RecordTime,
    pub(super) updated_at: RecordTime,
}

/// What the service is after the event. An update that changes nothing is an event all the same.
///
/// # Errors
/// `already_exists` and `not_found`; the state is untouched.
pub(super) fn apply(state: &State, event: ServiceEvent) -> Result<State, Rejection> {
    let (id, at, kind) = event.into_parts();
    match (state, kind) {
        (State::Absent, EventBody::Created(details)) => {
            Ok(State::Live(Live { id, details, version: 1, created_at: at, updated_at: at }))
        }
        (State::Absent, EventBody::Updated(_)) => Err(not_found()),
        (State::Absent, EventBody::Deleted) => Err(not_found()),
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
