//! Proves that the simulation finds something: each planted defect fails one of the first seeds.

use std::panic::{AssertUnwindSafe, catch_unwind};

use steward::engine::planted::{Planted, plant};

use super::*;

/// A defect that none of these seeds finds would not be found at all.
const MOST_SEEDS: u64 = 500;

/// A seed that found the defect once. It runs first, and then all others from 1, so that a wrong number costs only time.
#[rustfmt::skip]
const FOUND_BY: [(Planted, u64); Planted::ALL.len()] = [
    (Planted::EpochsAreNotCompared, 20),
    (Planted::EpochsAreComparedTooEarly, 317),
    (Planted::OffsetsWithoutMembership, 101),
    (Planted::ProducerInDoubtIsReused, 2),
    (Planted::PositionsAreFetchedTooEarly, 35),
    (Planted::LateEndIsAccepted, 25),
    (Planted::DoubtCountsAsAborted, 2),
    (Planted::DoubtCountsAsCommitted, 10),
    (Planted::CommittedIsSentAgain, 1),
    (Planted::MetadataIsNotCompared, 81),
    (Planted::AbortedIsDropped, 20),
    (Planted::RetryHasNoDeadline, 2),
    (Planted::LastRecordInsteadOfPosition, 2),
    (Planted::CommittedBeforeOutcomes, 1),
    (Planted::RevocationDropsKeptWork, 45),
    (Planted::OldestRecordOfKey, 4),
    (Planted::OldRecoveryIsAccepted, 42),
    (Planted::StartsAtCommitted, 34),
    (Planted::DlqIsIgnored, 34),
    (Planted::VerifiesFromCommitted, 34),
    (Planted::RepairsTooEarly, 4),
    (Planted::ContainedIsVerifiedAgain, 1),
];

#[apply(offline_test)]
fn each_planted_defect_is_found() {
    let mut missed = Vec::new();
    for defect in Planted::ALL {
        let hint = FOUND_BY.iter().filter(|(of, _)| *of == defect).map(|(_, seed)| *seed);
        match hint.chain(1..=MOST_SEEDS).find_map(|seed| Some((seed, failure_with(defect, seed)?))) {
            Some((seed, failure)) => {
                println!("{defect:?}: seed {seed}: {}", failure.lines().next().unwrap_or(""));
            }
            None => missed.push(defect),
        }
    }
    assert!(missed.is_empty(), "no seed up to {MOST_SEEDS} finds {missed:?}");
}

/// Returns how the seed fails because of the defect, if it does.
fn failure_with(defect: Planted, seed: u64) -> Option<String> {
    let play = || Run::play(seed, &Scenario::drawn(seed)).failure();
    let run = catch_unwind(AssertUnwindSafe(|| plant(defect, play)));
    let failure = run.unwrap_or_else(|panic| Some(format!("a panic: {:?}", panic.downcast_ref::<String>())))?;
    assert_eq!(play(), None, "seed {seed} fails without the defect");
    Some(failure)
}
