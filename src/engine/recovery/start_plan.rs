//! Decides where a partition starts, and which range of the input before that is verified.

use crate::engine::recovery::{LogBounds, NotVerifiedCause, RecoveryFinding, RecoverySettings};
use crate::record::{Offset, Position};

/// The first position to process, and the range to verify before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartPlan {
    pub start: Position,
    pub verified_range: Option<(Position, Position)>,
    pub findings: Vec<RecoveryFinding>,
}

/// Decides where a partition starts. `newest_state` is M, `newest_dlq` is D.
pub fn plan(
    committed: Option<Position>,
    newest_state: Option<Offset>,
    newest_dlq: Option<Offset>,
    input: LogBounds,
    settings: &RecoverySettings,
) -> StartPlan {
    let mut findings = Vec::new();
    let after_state = newest_state.map_or(Position(0), Offset::next);
    let after_dlq = newest_dlq.map_or(Position(0), Offset::next);
    let mut position = match (committed, newest_state) {
        (Some(position), _) => position,
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
    let contained = after_state.max(after_dlq);
    let mut start = if trusts_committed { position } else { position.max(contained) };
    let unknown_from = contained.max(input.low);
    if trusts_committed && position > unknown_from {
        findings.push(RecoveryFinding::PassedOver { from: unknown_from, until: position });
    }
    if start < input.low {
        findings.push(RecoveryFinding::Expired { first: start, until: input.low });
        start = input.low;
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
    let unsure_from = position.min(after_state);
    let length = start.distance_from(unsure_from);
    let cause = if unsure_from < input.low {
        Some(NotVerifiedCause::HeadExpired)
    } else if length > settings.verify_max_records {
        Some(NotVerifiedCause::TooLong)
    } else {
        None
    };
    if let Some(cause) = cause {
        findings.push(RecoveryFinding::NotVerified { cause, from: unsure_from, until: start });
        return None;
    }
    let look_back = settings.look_back_records.min(settings.verify_max_records);
    let from = unsure_from.min(start.back(look_back)).max(input.low);
    (from < start).then_some((from, start))
}
