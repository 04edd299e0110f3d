//! Every pair of a partition's stage and of what can happen to it.

use std::panic::catch_unwind;

use steward::engine::partition::{PartitionAction, PartitionEvent, PartitionLifecycle, PartitionState};
use steward::record::Epoch;

const TERM: Epoch = Epoch(7);
const OLDER: Epoch = Epoch(6);
const NEWER: Epoch = Epoch(8);

const HAPPENINGS: [PartitionEvent; 7] = [
    PartitionEvent::Recovered,
    PartitionEvent::RecoveryFailed,
    PartitionEvent::BatchRead,
    PartitionEvent::Revoking,
    PartitionEvent::Revoked,
    PartitionEvent::Lost,
    PartitionEvent::Invalidated,
];

#[apply(offline_test)]
fn each_happening_means_what_the_table_says_in_each_stage() {
    use PartitionAction::*;
    use PartitionEvent as On;
    use PartitionState::*;
    // After a Release nobody asks for the stage any more.
    let table = [
        (Recovering, On::Recovered, Serve, Serving),
        (Recovering, On::RecoveryFailed, Recover, Recovering),
        (Recovering, On::BatchRead, Ignore, Recovering),
        (Recovering, On::Revoking, Drain, Revoking),
        (Recovering, On::Revoked, Release, Recovering),
        (Recovering, On::Lost, Release, Recovering),
        (Recovering, On::Invalidated, Recover, Recovering),
        (Serving, On::Recovered, Ignore, Serving),
        (Serving, On::RecoveryFailed, Ignore, Serving),
        (Serving, On::BatchRead, Route, Serving),
        (Serving, On::Revoking, Drain, Revoking),
        (Serving, On::Revoked, Release, Serving),
        (Serving, On::Lost, Release, Serving),
        (Serving, On::Invalidated, Recover, Recovering),
        (Revoking, On::Recovered, Ignore, Revoking),
        (Revoking, On::RecoveryFailed, Ignore, Revoking),
        (Revoking, On::BatchRead, Ignore, Revoking),
        (Revoking, On::Revoking, Ignore, Revoking),
        (Revoking, On::Revoked, Release, Revoking),
        (Revoking, On::Lost, Release, Revoking),
        (Revoking, On::Invalidated, Ignore, Revoking),
    ];
    assert_eq!(table.len(), 3 * HAPPENINGS.len(), "a pair is missing");
    for (stage, happening, step, then) in table {
        let mut partition = standing_at(stage);
        assert_eq!(partition.handle(happening, TERM), step, "{happening:?} while {stage:?}");
        assert_eq!((partition.state(), partition.epoch()), (then, TERM), "after {happening:?} while {stage:?}");
    }
}

#[apply(offline_test)]
fn what_is_late_changes_nothing() {
    for stage in [PartitionState::Recovering, PartitionState::Serving, PartitionState::Revoking] {
        for happening in HAPPENINGS {
            // A newer epoch cannot be known before the partition is; it is no reason to act either.
            for epoch in [OLDER, NEWER] {
                let mut partition = standing_at(stage);
                assert_eq!(
                    partition.handle(happening, epoch),
                    PartitionAction::Ignore,
                    "{happening:?} of {epoch:?} while {stage:?}"
                );
                assert_eq!(partition, standing_at(stage));
            }
        }
    }
}

#[apply(offline_test)]
fn a_new_term_makes_the_old_one_late() {
    let mut partition = standing_at(PartitionState::Serving);
    assert_eq!(partition.handle(PartitionEvent::Invalidated, TERM), PartitionAction::Recover);
    partition.renew(NEWER);
    assert_eq!(partition.epoch(), NEWER);
    assert_eq!(partition.handle(PartitionEvent::BatchRead, TERM), PartitionAction::Ignore);
    assert_eq!(partition.handle(PartitionEvent::Recovered, TERM), PartitionAction::Ignore);
    assert_eq!(partition.state(), PartitionState::Recovering);
    assert_eq!(partition.handle(PartitionEvent::Recovered, NEWER), PartitionAction::Serve);
    assert_eq!(partition.handle(PartitionEvent::BatchRead, NEWER), PartitionAction::Route);
}

#[apply(offline_test)]
fn a_term_never_falls() {
    for epoch in [OLDER, TERM] {
        let renewed = catch_unwind(|| standing_at(PartitionState::Recovering).renew(epoch));
        assert!(renewed.is_err(), "{epoch:?} came after {TERM:?}");
    }
}

fn standing_at(stage: PartitionState) -> PartitionLifecycle {
    let mut partition = PartitionLifecycle::assigned(TERM);
    match stage {
        PartitionState::Recovering => {}
        PartitionState::Serving => {
            assert_eq!(partition.handle(PartitionEvent::Recovered, TERM), PartitionAction::Serve)
        }
        PartitionState::Revoking => {
            assert_eq!(partition.handle(PartitionEvent::Revoking, TERM), PartitionAction::Drain)
        }
    }
    partition
}
