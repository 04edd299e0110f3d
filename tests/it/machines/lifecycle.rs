//! Every pair of a partition's stage and of what can happen to it.

use std::panic::catch_unwind;

use steward::progress::lifecycle::{Happening, Lifecycle, Stage, Step};
use steward::record::Term;

pub fn tests() -> Vec<libtest_mimic::Trial> {
    trials![
        each_happening_means_what_the_table_says_in_each_stage,
        what_is_late_changes_nothing,
        a_new_term_makes_the_old_one_late,
        a_term_never_falls,
    ]
}

const TERM: Term = Term(7);
const OLDER: Term = Term(6);
const NEWER: Term = Term(8);

const HAPPENINGS: [Happening; 7] = [
    Happening::Recovered,
    Happening::RecoveryFailed,
    Happening::BatchRead,
    Happening::Revoked,
    Happening::Gone,
    Happening::Lost,
    Happening::Forfeited,
];

fn each_happening_means_what_the_table_says_in_each_stage() {
    use Happening::*;
    use Stage::*;
    use Step::*;
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
    for stage in [Stage::Recovering, Stage::Serving, Stage::Revoking] {
        for happening in HAPPENINGS {
            // A newer term cannot be known before the partition is; it is no reason to act either.
            for term in [OLDER, NEWER] {
                let mut partition = standing_at(stage);
                assert_eq!(
                    partition.handle(happening, term),
                    Step::Ignore,
                    "{happening:?} of {term:?} while {stage:?}"
                );
                assert_eq!(partition, standing_at(stage));
            }
        }
    }
}

fn a_new_term_makes_the_old_one_late() {
    let mut partition = standing_at(Stage::Serving);
    assert_eq!(partition.handle(Happening::Forfeited, TERM), Step::Recover);
    partition.renew(NEWER);
    assert_eq!(partition.term(), NEWER);
    assert_eq!(partition.handle(Happening::BatchRead, TERM), Step::Ignore);
    assert_eq!(partition.handle(Happening::Recovered, TERM), Step::Ignore);
    assert_eq!(partition.stage(), Stage::Recovering);
    assert_eq!(partition.handle(Happening::Recovered, NEWER), Step::Serve);
    assert_eq!(partition.handle(Happening::BatchRead, NEWER), Step::Route);
}

fn a_term_never_falls() {
    for term in [OLDER, TERM] {
        let renewed = catch_unwind(|| standing_at(Stage::Recovering).renew(term));
        assert!(renewed.is_err(), "{term:?} came after {TERM:?}");
    }
}

fn standing_at(stage: Stage) -> Lifecycle {
    let mut partition = Lifecycle::assigned(TERM);
    match stage {
        Stage::Recovering => {}
        Stage::Serving => assert_eq!(partition.handle(Happening::Recovered, TERM), Step::Serve),
        Stage::Revoking => assert_eq!(partition.handle(Happening::Revoked, TERM), Step::Drain),
    }
    partition
}
