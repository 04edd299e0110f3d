//! Leases hold bytes, and return them on drop.

use steward::engine::budget::Budget;

#[apply(offline_test)]
fn a_lease_gives_back_what_it_holds_when_it_is_dropped() {
    let budget = Budget::new(100);
    let (first, second) = (budget.hold(30), budget.hold(40));
    assert_eq!((budget.held_bytes(), first.bytes(), second.bytes()), (70, 30, 40));
    drop(first);
    assert_eq!(budget.held_bytes(), 40);
    drop(second);
    assert_eq!(budget.held_bytes(), 0);
}

#[apply(offline_test)]
fn a_lease_that_changes_counts_with_its_new_size_alone() {
    let budget = Budget::new(100);
    let mut lease = budget.hold(30);
    for bytes in [50, 10, 0, 80] {
        lease.set(bytes);
        assert_eq!((budget.held_bytes(), lease.bytes()), (bytes, bytes));
    }
    drop(lease);
    assert_eq!(budget.held_bytes(), 0);
}

#[apply(offline_test)]
fn there_is_room_below_the_bound_and_none_at_it() {
    let budget = Budget::new(100);
    let mut lease = budget.hold(99);
    assert!(budget.has_room() && lease.fits());
    lease.set(100);
    assert!(!budget.has_room(), "at the bound there is no room");
    assert!(lease.fits(), "what fills the bound exactly is within it");
    lease.set(101);
    assert!(!lease.fits());
}

#[apply(offline_test)]
fn what_is_in_memory_already_is_held_beyond_the_bound() {
    let budget = Budget::new(100);
    let lease = budget.hold(250);
    assert_eq!((budget.held_bytes(), budget.limit_bytes(), lease.budget().held_bytes()), (250, 100, 250));
}
