//! Every pair of a partition's state and event.

use std::panic::catch_unwind;

use steward::engine::partition::{PartitionAction, PartitionEvent, PartitionLifecycle, PartitionState};
use steward::record::Epoch;

const EPOCH: Epoch = Epoch(7);
const OLDER: Epoch = Epoch(6);
const NEWER: Epoch = Epoch(8);

const EVENTS: [PartitionEvent; 7] = [
    PartitionEvent::Recovered,
    PartitionEvent::RecoveryFailed,
    PartitionEvent::BatchRead,
    PartitionEvent::Revoking,
    PartitionEvent::Revoked,
    PartitionEvent::Lost,
    PartitionEvent::Invalidated,
];

#[apply(offline_test)]
fn every_pair_of_state_and_event_has_its_action() {
    use PartitionAction::*;
    use PartitionEvent as On;
    use PartitionState::*;
    // After a Release the state is not read any more.
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
    assert_eq!(table.len(), 3 * EVENTS.len(), "a pair is missing");
    for (state, event, action, then) in table {
        let mut partition = partition_in(state);
        assert_eq!(partition.handle(event, EPOCH), action, "{event:?} while {state:?}");
        assert_eq!((partition.state(), partition.epoch()), (then, EPOCH), "after {event:?} while {state:?}");
    }
}

#[apply(offline_test)]
fn an_event_of_an_older_epoch_changes_nothing() {
    for state in [PartitionState::Recovering, PartitionState::Serving, PartitionState::Revoking] {
        for event in EVENTS {
            // The machine cannot get an event of a newer epoch; it must not act on one either.
            for epoch in [OLDER, NEWER] {
                let mut partition = partition_in(state);
                assert_eq!(
                    partition.handle(event, epoch),
                    PartitionAction::Ignore,
                    "{event:?} of {epoch:?} while {state:?}"
                );
                assert_eq!(partition, partition_in(state));
            }
        }
    }
}

#[apply(offline_test)]
fn a_new_epoch_makes_the_old_one_stale() {
    let mut partition = partition_in(PartitionState::Serving);
    assert_eq!(partition.handle(PartitionEvent::Invalidated, EPOCH), PartitionAction::Recover);
    partition.continue_under(NEWER);
    assert_eq!(partition.epoch(), NEWER);
    assert_eq!(partition.handle(PartitionEvent::BatchRead, EPOCH), PartitionAction::Ignore);
    assert_eq!(partition.handle(PartitionEvent::Recovered, EPOCH), PartitionAction::Ignore);
    assert_eq!(partition.state(), PartitionState::Recovering);
    assert_eq!(partition.handle(PartitionEvent::Recovered, NEWER), PartitionAction::Serve);
    assert_eq!(partition.handle(PartitionEvent::BatchRead, NEWER), PartitionAction::Route);
}

#[apply(offline_test)]
fn an_epoch_never_falls() {
    for epoch in [OLDER, EPOCH] {
        let renewed = catch_unwind(|| partition_in(PartitionState::Recovering).continue_under(epoch));
        assert!(renewed.is_err(), "{epoch:?} came after {EPOCH:?}");
    }
}

fn partition_in(state: PartitionState) -> PartitionLifecycle {
    let mut partition = PartitionLifecycle::assigned(EPOCH);
    match state {
        PartitionState::Recovering => {}
        PartitionState::Serving => {
            assert_eq!(partition.handle(PartitionEvent::Recovered, EPOCH), PartitionAction::Serve)
        }
        PartitionState::Revoking => {
            assert_eq!(partition.handle(PartitionEvent::Revoking, EPOCH), PartitionAction::Drain)
        }
    }
    partition
}
