//! Current epochs: an ended epoch never counts as the current one.

use steward::engine::ownership::Ownership;
use steward::record::Epoch;

use super::{P0, P1};

#[apply(offline_test)]
fn an_epoch_is_current_from_its_begin_to_its_end() {
    let ownership = Ownership::new();
    assert_eq!(ownership.current(P0), None);
    let epoch = ownership.mint(P0);
    assert!(ownership.is_current(P0, epoch) && !ownership.is_current(P1, epoch));
    assert_eq!(ownership.end(P0), Some(epoch));
    assert!(!ownership.is_current(P0, epoch));
    assert_eq!(ownership.end(P0), None, "it ends once");
}

#[apply(offline_test)]
fn an_assignment_ends_the_earlier_epoch() {
    let ownership = Ownership::new();
    let (first, second) = (ownership.mint(P0), ownership.mint(P0));
    assert!(!ownership.is_current(P0, first) && ownership.is_current(P0, second));
}

#[apply(offline_test)]
fn a_renewal_ends_the_old_epoch_without_a_gap() {
    let ownership = Ownership::new();
    let old = ownership.mint(P0);
    let other = ownership.mint(P1);
    let new = ownership.invalidate(P0, old).expect("it is current");
    assert!(new > old && ownership.is_current(P0, new) && !ownership.is_current(P0, old));
    assert!(ownership.is_current(P1, other), "another partition's epoch was touched");
}

#[apply(offline_test)]
fn an_epoch_that_has_ended_cannot_be_renewed() {
    let ownership = Ownership::new();
    assert_eq!(ownership.invalidate(P0, Epoch(1)), None, "it never began");
    let old = ownership.mint(P0);
    let new = ownership.mint(P0);
    assert_eq!(ownership.invalidate(P0, old), None);
    assert!(ownership.is_current(P0, new), "a late renewal ended the current epoch");
    ownership.end(P0);
    assert_eq!(ownership.invalidate(P0, new), None);
    assert_eq!(ownership.current(P0), None, "a late renewal brought back an ended ownership");
}

#[apply(offline_test)]
fn epochs_rise_over_all_partitions() {
    let ownership = Ownership::new();
    let mut minted = vec![ownership.mint(P0), ownership.mint(P1)];
    minted.extend(ownership.invalidate(P0, minted[0]));
    ownership.end(P0);
    minted.push(ownership.mint(P0));
    assert!(minted.windows(2).all(|pair| pair[0] < pair[1]), "{minted:?}");
}
