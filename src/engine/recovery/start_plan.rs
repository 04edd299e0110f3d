//! Decides where a partition starts, and which range of the input before that is verified.

use crate::engine::planted::{Planted, planted};
use crate::engine::recovery::dlq_tail::DlqTail;
use crate::engine::recovery::restore::Restored;
use crate::engine::recovery::{LogBounds, RecoveryFinding, RecoverySettings};
use crate::entity::Entity;
use crate::record::{Offset, Position};

/// The start position and the range to verify are decided.
pub(super) struct PlannedRecovery<E: Entity> {
    pub(super) restored: Restored<E>,
    pub(super) input: LogBounds,
    pub(super) dlq: DlqTail,
    pub(super) plan: StartPlan,
}

/// Which program has committed a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommittedBy {
    /// Every event before the position has an outcome in the topics, unless a write was lost.
    Steward,
    /// A tool, or another member of the group. The position says nothing about the events before it.
    Other,
}

/// The first position to process, and the range to verify before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartPlan {
    pub start: Position,
    pub verified_range: Option<(Position, Position)>,
    pub findings: Vec<RecoveryFinding>,
}

/// Decides where a partition starts. `newest_state` is M, `newest_dlq` is D.
pub fn plan(
    committed: Option<(Position, CommittedBy)>,
    newest_state: Option<Offset>,
    newest_dlq: Option<Offset>,
    input: LogBounds,
    settings: &RecoverySettings,
) -> StartPlan {
    let mut findings = Vec::new();
    let after_state = newest_state.map_or(Position(0), Offset::next);
    let after_dlq = newest_dlq.map_or(Position(0), Offset::next);
    let mut position = match (committed, newest_state) {
        (Some((position, _)), _) => position,
        (None, None) => input.low,
        (None, Some(_)) => {
            findings.push(RecoveryFinding::CommittedMissing { position: after_state });
            after_state
        }
    };
    if position > input.high {
        findings.push(RecoveryFinding::CommittedBeyondEnd { committed: position, end: input.high });
        position = input.high;
    }
    let trusts_committed = settings.verify_max_records == 0;
    let contained = if planted(Planted::DlqIsIgnored) { after_state } else { after_state.max(after_dlq) };
    let starts_at_committed = trusts_committed || planted(Planted::StartsAtCommitted);
    let mut start = if starts_at_committed { position } else { position.max(contained) };
    let unknown_from = contained.max(input.low);
    if trusts_committed && position > unknown_from {
        findings.push(RecoveryFinding::PassedOver { from: unknown_from, until: position });
    }
    let unprocessed_from = match committed {
        Some((_, CommittedBy::Other)) if !trusts_committed => contained,
        Some(_) | None => start,
    };
    if unprocessed_from < input.low {
        findings.push(RecoveryFinding::Expired { first: unprocessed_from, until: input.low });
        start = start.max(input.low);
    }
    let verified_range = if trusts_committed {
        None
    } else {
        range_to_verify(position, after_state, start, input, settings, &mut findings)
    };
    StartPlan { start, verified_range, findings }
}

fn range_to_verify(
    position: Position,
    after_state: Position,
    start: Position,
    input: LogBounds,
    settings: &RecoverySettings,
    findings: &mut Vec<RecoveryFinding>,
) -> Option<(Position, Position)> {
    if start <= input.low {
        return None;
    }
    // What retention has deleted is not verified. A key without a snapshot was deleted before the log's start, if it was
    // ever there: its tombstone would be there as long as the event.
    let first_unsure = if planted(Planted::VerifiesFromCommitted) { position } else { position.min(after_state) };
    let unsure_from = first_unsure.max(input.low);
    if start.distance_from(unsure_from) > settings.verify_max_records {
        findings.push(RecoveryFinding::NotVerified { from: unsure_from, until: start });
        return None;
    }
    let look_back = settings.look_back_records.min(settings.verify_max_records);
    let from = unsure_from.min(start.back(look_back)).max(input.low);
    (from < start).then_some((from, start))
}
