//! The start of a partition, by C, M, D, the log's ends and the configuration.

use steward::engine::recovery::{CommittedBy, LogBounds, RecoveryFinding, RecoverySettings, StartPlan, plan};
use steward::engine::topic_watch::TopicIds;
use steward::entity::SizeLimits;
use steward::record::{Offset, Position};

const LOOK_BACK: u64 = 10;
const VERIFY_MAX: u64 = 100;

#[apply(offline_test)]
fn nothing_committed_and_no_state_starts_at_the_earliest_record() {
    assert_eq!(planned(None, None, None, (0, 50)), starts(0, None, vec![]));
    assert_eq!(planned(None, None, None, (20, 50)), starts(20, None, vec![]), "no event expired: the group is new");
    assert_eq!(planned(None, None, None, (0, 0)), starts(0, None, vec![]));
    assert_eq!(planned(None, None, Some(29), (20, 50)), starts(30, Some((20, 30)), vec![]));
    assert_eq!(planned(None, None, Some(29), (0, 50)), starts(30, Some((0, 30)), vec![]), "all before it is unsure");
}

#[apply(offline_test)]
fn nothing_committed_but_state_starts_behind_the_state_and_says_so() {
    let missing = |position| RecoveryFinding::CommittedMissing { position: Position(position) };
    assert_eq!(planned(None, Some(39), None, (0, 50)), starts(40, Some((30, 40)), vec![missing(40)]));
    assert_eq!(planned(None, Some(39), Some(44), (0, 50)), starts(45, Some((35, 45)), vec![missing(40)]));
    assert_eq!(planned(None, Some(39), Some(4), (0, 50)), starts(40, Some((30, 40)), vec![missing(40)]));
}

#[apply(offline_test)]
fn the_start_is_behind_everything_that_is_contained() {
    for (committed, state, dlq, start) in [
        (40, Some(30), Some(20), 40),
        (40, Some(39), Some(39), 40),
        (40, Some(44), Some(20), 45),
        (40, Some(20), Some(44), 45),
        (40, Some(46), Some(44), 47),
        (40, None, Some(44), 45),
        (40, None, None, 40),
        (0, Some(0), None, 1),
    ] {
        let plan = planned(Some(committed), state, dlq, (0, 50));
        assert_eq!((plan.start, plan.findings), (Position(start), vec![]), "C {committed}, M {state:?}, D {dlq:?}");
    }
}

#[apply(offline_test)]
fn a_committed_position_beyond_the_end_counts_as_the_end() {
    let beyond = RecoveryFinding::CommittedBeyondEnd { committed: Position(51), end: Position(50) };
    assert_eq!(planned(Some(51), Some(49), None, (0, 50)), starts(50, Some((40, 50)), vec![beyond.clone()]));
    assert_eq!(planned(Some(50), Some(49), None, (0, 50)), starts(50, Some((40, 50)), vec![]), "the end is not beyond");
    let trusting = RecoverySettings { verify_max_records: 0, ..settings() };
    let plan = plan(by_steward(Some(51)), offset(49), None, bounds((0, 50)), &trusting);
    assert_eq!(plan, starts(50, None, vec![beyond]));
}

#[apply(offline_test)]
fn events_that_expired_unread_are_named() {
    let expired = |first| RecoveryFinding::Expired { first: Position(first), until: Position(20) };
    assert_eq!(planned(Some(5), None, None, (20, 50)), starts(20, None, vec![expired(5)]));
    assert_eq!(planned(Some(5), Some(3), Some(4), (20, 50)), starts(20, None, vec![expired(5)]));
    assert_eq!(planned(Some(19), Some(18), None, (20, 50)), starts(20, None, vec![expired(19)]));
    assert_eq!(planned(Some(20), Some(19), None, (20, 50)), starts(20, None, vec![]), "nothing is missing");
    assert_eq!(planned(Some(5), Some(19), None, (20, 50)).findings, [], "all that expired is contained");
    assert_eq!(planned(Some(5), None, None, (20, 20)), starts(20, None, vec![expired(5)]), "also from an empty log");
    let missing = RecoveryFinding::CommittedMissing { position: Position(8) };
    assert_eq!(planned(None, Some(7), None, (20, 50)), starts(20, None, vec![missing, expired(8)]));
}

#[apply(offline_test)]
fn the_verified_range_begins_at_the_first_unsure_event_or_the_look_back() {
    for (committed, state, dlq, range) in [
        // The look-back goes further than C and M.
        (40, Some(39), None, (30, 40)),
        (40, Some(35), None, (30, 40)),
        (40, Some(30), None, (30, 40)),
        // M is further back.
        (40, Some(20), None, (21, 40)),
        (40, None, None, (0, 40)),
        (40, None, Some(39), (0, 40)),
        // C is further back.
        (5, Some(39), None, (5, 40)),
        (5, Some(3), Some(39), (4, 40)),
        // The log's beginning.
        (3, Some(2), None, (0, 3)),
        (1, Some(0), None, (0, 1)),
    ] {
        let plan = planned(Some(committed), state, dlq, (0, 50));
        assert_eq!(
            plan.verified_range,
            Some((Position(range.0), Position(range.1))),
            "C {committed}, M {state:?}, D {dlq:?}"
        );
        assert_eq!(plan.findings, []);
    }
    let cut = planned(Some(40), Some(39), None, (35, 50));
    assert_eq!(cut, starts(40, Some((35, 40)), vec![]), "it cannot look back beyond the log's start");
    let without = RecoverySettings { look_back_records: 0, ..settings() };
    let plan = plan(by_steward(Some(40)), offset(39), None, bounds((0, 50)), &without);
    assert_eq!(plan, starts(40, None, vec![]));
}

#[apply(offline_test)]
fn a_range_that_is_too_long_is_not_verified() {
    let too_long = |from, until| RecoveryFinding::NotVerified { from: Position(from), until: Position(until) };
    assert_eq!(planned(Some(150), Some(49), None, (0, 500)), starts(150, Some((50, 150)), vec![]), "100 are allowed");
    assert_eq!(planned(Some(151), Some(49), None, (0, 500)), starts(151, None, vec![too_long(50, 151)]));
    assert_eq!(planned(Some(50), Some(199), None, (0, 500)), starts(200, None, vec![too_long(50, 200)]));
    let short = RecoverySettings { verify_max_records: 4, ..settings() };
    let plan = plan(by_steward(Some(40)), offset(39), None, bounds((0, 50)), &short);
    assert_eq!(plan, starts(40, Some((36, 40)), vec![]), "the look-back is never longer than what is verified");
}

#[apply(offline_test)]
fn a_range_whose_head_has_expired_is_verified_from_the_start_of_the_log() {
    for (committed, state) in [(40, Some(18)), (40, Some(19)), (40, None), (10, Some(39))] {
        let found = planned(Some(committed), state, None, (20, 50));
        assert_eq!(found, starts(40, Some((20, 40)), vec![]), "C {committed}, M {state:?}");
    }
    let too_long = RecoveryFinding::NotVerified { from: Position(20), until: Position(150) };
    assert_eq!(planned(Some(150), Some(5), None, (20, 500)), starts(150, None, vec![too_long]));
    assert_eq!(planned(Some(120), Some(5), None, (20, 500)), starts(120, Some((20, 120)), vec![]));
}

/// Another program's position says nothing about the events before it.
#[apply(offline_test)]
fn events_before_the_position_of_another_program_that_have_expired_are_named() {
    let expired = |first| vec![RecoveryFinding::Expired { first: Position(first), until: Position(120) }];
    let by_other = |committed, state, dlq, low| {
        plan(by(CommittedBy::Other, Some(committed)), offset(state), dlq, bounds((low, 500)), &settings())
    };
    assert_eq!(by_other(200, 99, None, 120), starts(200, Some((120, 200)), expired(100)), "only the missing part");
    assert_eq!(by_other(120, 99, None, 120), starts(120, None, expired(100)), "all that was passed over is missing");
    assert_eq!(by_other(110, 99, None, 120), starts(120, None, expired(100)), "and what was not read either");
    assert_eq!(
        by_other(200, 99, Some(Offset(105)), 120),
        starts(200, Some((120, 200)), expired(106)),
        "one was rejected"
    );
    assert_eq!(by_other(200, 119, None, 120), starts(200, Some((120, 200)), vec![]), "all that expired is contained");
    assert_eq!(by_other(105, 150, None, 120), starts(151, Some((120, 151)), vec![]), "the same, after a reset");
    assert_eq!(planned(Some(200), Some(99), None, (120, 500)), starts(200, Some((120, 200)), vec![]), "steward's own");
}

#[apply(offline_test)]
fn without_verification_the_committed_position_is_the_start() {
    let trusting = RecoverySettings { verify_max_records: 0, ..settings() };
    let passed = |from, until| RecoveryFinding::PassedOver { from: Position(from), until: Position(until) };
    for (committed, state, dlq, start, findings) in [
        (Some(40), Some(39), None, 40, vec![]),
        (Some(40), Some(45), Some(47), 40, vec![]),
        (Some(45), Some(39), Some(41), 45, vec![passed(42, 45)]),
        (Some(45), None, None, 45, vec![passed(20, 45)]),
        (None, Some(39), Some(44), 40, vec![RecoveryFinding::CommittedMissing { position: Position(40) }]),
        (None, None, None, 20, vec![passed(20, 20)]),
        (
            Some(5),
            Some(3),
            None,
            20,
            vec![passed(5, 5), RecoveryFinding::Expired { first: Position(5), until: Position(20) }],
        ),
    ] {
        let found = plan(by_steward(committed), state.map(Offset), dlq.map(Offset), bounds((20, 50)), &trusting);
        let empty =
            |finding: &RecoveryFinding| matches!(finding, RecoveryFinding::PassedOver { from, until } if from == until);
        let findings: Vec<RecoveryFinding> = findings.into_iter().filter(|finding| !empty(finding)).collect();
        assert_eq!(found, starts(start, None, findings), "C {committed:?}, M {state:?}, D {dlq:?}");
    }
}

/// Every combination of a small world, against what the plan promises in words.
#[apply(offline_test)]
fn every_combination_keeps_the_guarantees_of_the_plan() {
    let mut combinations = 0;
    for ((low, high), committed_by) in [(0, 0), (0, 6), (3, 6), (6, 6)]
        .into_iter()
        .flat_map(|log| [CommittedBy::Steward, CommittedBy::Other].map(|by| (log, by)))
    {
        for committed in [None, Some(0), Some(2), Some(3), Some(5), Some(6), Some(9)] {
            for state in [None, Some(0), Some(2), Some(3), Some(5)] {
                for dlq in [None, Some(0), Some(2), Some(4), Some(5)] {
                    for look_back_records in [0, 2, 100] {
                        for verify_max_records in [0, 3, 100] {
                            if state.max(dlq).is_some_and(|newest| newest >= high) {
                                continue;
                            }
                            let settings = RecoverySettings { look_back_records, verify_max_records, ..settings() };
                            let bounds = bounds((low, high));
                            let plan = plan(
                                by(committed_by, committed),
                                state.map(Offset),
                                dlq.map(Offset),
                                bounds,
                                &settings,
                            );
                            let case = format!(
                                "log {low}..{high}, C {committed:?} by {committed_by:?}, M {state:?}, D {dlq:?}, look back \
                                 {look_back_records}, verify {verify_max_records}: {plan:?}"
                            );
                            keeps_its_word(&plan, (committed_by, committed), state, dlq, (low, high), &settings, &case);
                            combinations += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(combinations > 3_000, "only {combinations}");
}

fn keeps_its_word(
    plan: &StartPlan,
    (committed_by, committed): (CommittedBy, Option<i64>),
    state: Option<i64>,
    dlq: Option<i64>,
    (low, high): (i64, i64),
    settings: &RecoverySettings,
    case: &str,
) {
    let start = plan.start.0;
    let contained = state.max(dlq).map_or(0, |newest| newest + 1);
    let trusts = settings.verify_max_records == 0;
    assert!((low..=high).contains(&start), "it starts outside of the log: {case}");
    if !trusts {
        assert!(start >= contained, "what is contained would be processed again: {case}");
    }
    if let Some(committed) = committed {
        assert!(start >= committed.min(high), "what is committed would be processed again: {case}");
        let may_skip = match (trusts, committed_by) {
            (true, _) => committed.min(high),
            (false, CommittedBy::Steward) => committed.min(high).max(contained),
            (false, CommittedBy::Other) => contained,
        };
        let said = plan.findings.iter().find_map(|finding| {
            let RecoveryFinding::Expired { first, until } = finding else { return None };
            Some((first.0, until.0))
        });
        let expired = (may_skip < low).then_some((may_skip, low));
        assert_eq!(said, expired, "events that are gone, and events that are reported as expired: {case}");
    }
    if let Some((from, until)) = plan.verified_range {
        assert!(!trusts && from < until && until == plan.start && from.0 >= low, "{case}");
        let unsure = committed.unwrap_or(i64::MAX).min(state.map_or(0, |newest| newest + 1));
        assert!(
            from.0 <= unsure.max(low) || committed.is_none() && state.is_none(),
            "a part alone may resurrect: {case}"
        );
        assert!(until.distance_from(from) <= settings.verify_max_records, "{case}");
    }
}

fn settings() -> RecoverySettings {
    RecoverySettings {
        topic: "services".into(),
        state_topic: "services.state".into(),
        tombstones_outlive_events: true,
        group: "steward".into(),
        topic_ids: TopicIds::default(),
        look_back_records: LOOK_BACK,
        verify_max_records: VERIFY_MAX,
        adopt_group: false,
        stop_on_expired: false,
        size_limits: SizeLimits::of_payload(262_144),
    }
}

fn bounds((low, high): (i64, i64)) -> LogBounds {
    LogBounds { low: Position(low), high: Position(high) }
}

fn offset(at: i64) -> Option<Offset> {
    Some(Offset(at))
}

fn planned(committed: Option<i64>, state: Option<i64>, dlq: Option<i64>, log: (i64, i64)) -> StartPlan {
    plan(by_steward(committed), state.map(Offset), dlq.map(Offset), bounds(log), &settings())
}

fn by_steward(committed: Option<i64>) -> Option<(Position, CommittedBy)> {
    by(CommittedBy::Steward, committed)
}

fn by(program: CommittedBy, committed: Option<i64>) -> Option<(Position, CommittedBy)> {
    committed.map(|committed| (Position(committed), program))
}

fn starts(start: i64, verified_range: Option<(i64, i64)>, findings: Vec<RecoveryFinding>) -> StartPlan {
    let verified_range = verified_range.map(|(from, until)| (Position(from), Position(until)));
    StartPlan { start: Position(start), verified_range, findings }
}
