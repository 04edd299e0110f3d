//! Every pair of a partition's stage and of what can happen to it.

use std::panic::catch_unwind;

use steward::engine::partition::{PartitionAction, PartitionEvent, PartitionLifecycle, PartitionState};
use steward::record::Epoch;

pub fn tests() -> Vec<libtest_mimic::Trial> {
    trials![
        each_happening_means_what_the_table_says_in_each_stage,
        what_is_late_changes_nothing,
        a_new_term_makes_the_old_one_late,
        a_term_never_falls,
    ]
}

const TERM: Epoch = Epoch(7);
const OLDER: Epoch = Epoch(6);
const NEWER: Epoch = Epoch(8);

const HAPPENINGS: [PartitionEvent; 7] = [
    PartitionEvent::Recovered,
    PartitionEvent::RecoveryFailed,
    PartitionEvent::BatchRead,
    PartitionEvent::Revoked,
    PartitionEvent::Gone,
    PartitionEvent::Lost,
    PartitionEvent::Forfeited,
];

fn each_happening_means_what_the_table_says_in_each_stage() {
    use PartitionAction::*;
    use PartitionEvent::*;
    use PartitionState::*;
    // After a Release nobody asks for the stage any more.
    let table = [
        (Recovering, Recovered, Serve, Serving),
        (Recovering, RecoveryFailed, Recover, Recovering),
        (Recovering, BatchRead, Ignore, Recovering),
        (Recovering, Revoked, Drain, Revoking),
        (Recovering, Gone, Release, Recovering),
        (Recovering, Lost, Release, Recovering),
        (Recovering, Forfeited, Recover, Recovering),
        (Serving, Recovered, Ignore, Serving),
        (Serving, RecoveryFailed, Ignore, Serving),
        (Serving, BatchRead, Route, Serving),
        (Serving, Revoked, Drain, Revoking),
        (Serving, Gone, Release, Serving),
        (Serving, Lost, Release, Serving),
        (Serving, Forfeited, Recover, Recovering),
        (Revoking, Recovered, Ignore, Revoking),
        (Revoking, RecoveryFailed, Ignore, Revoking),
        (Revoking, BatchRead, Ignore, Revoking),
        (Revoking, Revoked, Ignore, Revoking),
        (Revoking, Gone, Release, Revoking),
        (Revoking, Lost, Release, Revoking),
        (Revoking, Forfeited, Ignore, Revoking),
    ];
    assert_eq!(table.len(), 3 * HAPPENINGS.len(), "a pair is missing");
    for (stage, happening, step, then) in table {
        let mut partition = standing_at(stage);
        assert_eq!(partition.handle(happening, TERM), step, "{happening:?} while {stage:?}");
        assert_eq!((partition.stage(), partition.term()), (then, TERM), "after {happening:?} while {stage:?}");
    }
}

fn what_is_late_changes_nothing() {
    for stage in [PartitionState::Recovering, PartitionState::Serving, PartitionState::Revoking] {
        for happening in HAPPENINGS {
            // A newer term cannot be known before the partition is; it is no reason to act either.
            for term in [OLDER, NEWER] {
                let mut partition = standing_at(stage);
                assert_eq!(
                    partition.handle(happening, term),
                    PartitionAction::Ignore,
                    "{happening:?} of {term:?} while {stage:?}"
                );
                assert_eq!(partition, standing_at(stage));
            }
        }
    }
}

fn a_new_term_makes_the_old_one_late() {
    let mut partition = standing_at(PartitionState::Serving);
    assert_eq!(partition.handle(PartitionEvent::Forfeited, TERM), PartitionAction::Recover);
    partition.renew(NEWER);
    assert_eq!(partition.term(), NEWER);
    assert_eq!(partition.handle(PartitionEvent::BatchRead, TERM), PartitionAction::Ignore);
    assert_eq!(partition.handle(PartitionEvent::Recovered, TERM), PartitionAction::Ignore);
    assert_eq!(partition.stage(), PartitionState::Recovering);
    assert_eq!(partition.handle(PartitionEvent::Recovered, NEWER), PartitionAction::Serve);
    assert_eq!(partition.handle(PartitionEvent::BatchRead, NEWER), PartitionAction::Route);
}

fn a_term_never_falls() {
    for term in [OLDER, TERM] {
        let renewed = catch_unwind(|| standing_at(PartitionState::Recovering).renew(term));
        assert!(renewed.is_err(), "{term:?} came after {TERM:?}");
    }
}

fn standing_at(stage: PartitionState) -> PartitionLifecycle {
    let mut partition = PartitionLifecycle::assigned(TERM);
    match stage {
        PartitionState::Recovering => {}
        PartitionState::Serving => {
            assert_eq!(partition.handle(PartitionEvent::Recovered, TERM), PartitionAction::Serve)
        }
        PartitionState::Revoking => assert_eq!(partition.handle(PartitionEvent::Revoked, TERM), PartitionAction::Drain),
    }
    partition
}
