//! When the open transaction of a dead owner is ended, and who has fenced a process.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use steward::app::transaction_ender::TransactionEnder;
use steward::engine::dead_owners::{DeadOwners, FencedBy, FencingInquiry, NAMESAKE_JOINS_WITHIN};
use steward::engine::foreign_members::{GroupLook, GroupMember, MemberIds};
use steward::engine::ownership::Ownership;
use steward::kafka::transactions::dead_owner::OwnerRequests;
use steward::record::{Epoch, Partition};

use crate::support::capture::Capture;
use crate::support::clock::SystemClock;
use crate::support::wait::now;

const SECOND: Duration = Duration::from_secs(1);
const E1: Epoch = Epoch(1);

#[apply(offline_test)]
fn the_transaction_of_an_owner_that_is_no_member_is_ended() {
    let mut owners = Owners::new();
    assert!(owners.ends("dead", E1, &members(&["this", "other"])));
}

#[apply(offline_test)]
fn the_transaction_of_a_member_is_never_ended() {
    let mut owners = Owners::new();
    for _ in 0..100 {
        assert!(!owners.ends("other", E1, &members(&["this", "other"])));
    }
    // Once it has left, it is.
    assert!(owners.ends("other", E1, &members(&["this"])));
}

#[apply(offline_test)]
fn nothing_is_ended_unless_this_process_is_a_member_of_a_stable_group() {
    let mut owners = Owners::new();
    let looks = [
        members(&[]),
        members(&["other"]),
        // A second process with the name of this one: one of them is to end.
        members(&["this", "this"]),
        GroupLook::Rebalancing(vec![member("this")]),
        GroupLook::NoAnswer,
    ];
    for look in looks {
        assert!(!owners.ends("dead", E1, &look), "{look:?}");
    }
}

#[apply(offline_test)]
fn an_owner_is_ended_once_for_each_epoch() {
    let mut owners = Owners::new();
    owners.newest = Epoch(3);
    let group = members(&["this"]);
    assert!(owners.ends("dead", Epoch(2), &group));
    for epoch in [Epoch(1), Epoch(2), Epoch(3)] {
        assert!(!owners.ends("dead", epoch, &group), "{epoch:?} existed when it was ended");
    }
    assert!(owners.ends("another", Epoch(2), &group));
    // It has come back, and has died again.
    owners.newest = Epoch(4);
    assert!(owners.ends("dead", Epoch(4), &group));
    assert!(!owners.ends("dead", Epoch(4), &group));
}

#[apply(offline_test)]
fn this_process_and_processes_that_cannot_be_distinguished_are_never_ended() {
    assert!(!Owners::new().ends("this", E1, &members(&["this"])));
    let mut configured = Owners::new();
    configured.owners = DeadOwners::new("this", MemberIds::Configured("steward:this".to_owned()));
    assert!(!configured.ends("dead", E1, &members(&["this"])));
}

#[apply(offline_test)]
fn the_group_is_looked_at_once_a_second() {
    let mut owners = Owners::new();
    assert!(owners.owners.is_look_due("dead", E1, owners.now));
    assert!(!owners.owners.is_look_due("dead", E1, owners.now + SECOND / 2));
    assert!(owners.owners.is_look_due("dead", E1, owners.now + SECOND));
}

#[apply(offline_test)]
fn two_members_of_one_name_are_two_processes() {
    let inquiry = Inquiry::begins(MemberIds::Marked);
    assert_eq!(inquiry.sees(&members(&["this"]), Duration::ZERO), None, "the other one may still join");
    let two = [member("this"), member("this"), member("other")];
    assert_eq!(inquiry.sees(&GroupLook::Rebalancing(two.to_vec()), SECOND), Some(FencedBy::AnotherProcess));
    assert_eq!(inquiry.sees(&GroupLook::Members(two.to_vec()), SECOND), Some(FencedBy::AnotherProcess));
}

#[apply(offline_test)]
fn a_process_that_is_no_member_was_taken_for_dead() {
    let inquiry = Inquiry::begins(MemberIds::Marked);
    assert_eq!(inquiry.sees(&members(&["other"]), Duration::ZERO), Some(FencedBy::Recovery));
}

#[apply(offline_test)]
fn a_single_member_was_taken_for_dead_if_no_other_one_joins() {
    let inquiry = Inquiry::begins(MemberIds::Marked);
    let before = NAMESAKE_JOINS_WITHIN - Duration::from_millis(1);
    for look in [members(&["this", "other"]), GroupLook::NoAnswer] {
        assert_eq!(inquiry.sees(&look, before), None, "{look:?}");
        assert_eq!(inquiry.sees(&look, NAMESAKE_JOINS_WITHIN), Some(FencedBy::Unknown), "{look:?}");
    }
}

#[apply(offline_test)]
fn processes_that_cannot_be_distinguished_are_taken_for_two() {
    let inquiry = Inquiry::begins(MemberIds::Configured("steward:this".to_owned()));
    assert_eq!(inquiry.sees(&GroupLook::NoAnswer, Duration::ZERO), Some(FencedBy::AnotherProcess));
}

#[apply(offline_test)]
fn a_refused_registration_is_logged_and_not_repeated() {
    let log = Capture::here();
    let ended: Ended = Arc::default();
    let ownership = Arc::new(Ownership::new());
    let epoch = ownership.mint(Partition(0));
    let owners = DeadOwners::new("this", MemberIds::Marked);
    let ender = TransactionEnder::new(owners, Box::new(Refusing(Arc::clone(&ended))), ownership, Arc::new(SystemClock));

    let look = ender.due_look(Partition(0), epoch, "dead").expect("the first one is due");
    assert!(ender.due_look(Partition(0), epoch, "dead").is_none(), "one at a time");
    look();

    assert_eq!(*ended.lock().expect("no panic"), ["dead"]);
    let line = log.wait_for("dead_owner_not_fenced");
    assert_eq!(line.text("instance"), "dead");
    assert_eq!(line.text("transactional_id"), "group-dead");
    assert_eq!(line.text("cause"), "not authorized");
    assert!(ender.due_look(Partition(0), epoch, "dead").is_none());
}

// ----------------------------------------------------------------------------------------------------------- helpers

struct Owners {
    owners: DeadOwners,
    now: Instant,
    newest: Epoch,
}

impl Owners {
    fn new() -> Owners {
        Owners { owners: DeadOwners::new("this", MemberIds::Marked), now: now(), newest: E1 }
    }

    /// A recovery is blocked, long after the last look.
    fn ends(&mut self, owner: &str, epoch: Epoch, look: &GroupLook) -> bool {
        self.now += 10 * SECOND;
        self.owners.is_look_due(owner, epoch, self.now) && self.owners.looked(owner, look, self.newest)
    }
}

struct Inquiry {
    inquiry: FencingInquiry,
    began: Instant,
}

impl Inquiry {
    fn begins(ids: MemberIds) -> Inquiry {
        let began = now();
        Inquiry { inquiry: FencingInquiry::new("this", ids, began), began }
    }

    fn sees(&self, look: &GroupLook, after: Duration) -> Option<FencedBy> {
        self.inquiry.looked(look, self.began + after)
    }
}

type Ended = Arc<Mutex<Vec<String>>>;

struct Refusing(Ended);

impl OwnerRequests for Refusing {
    fn members(&self) -> GroupLook {
        members(&["this"])
    }

    fn transactional_id(&self, instance: &str) -> String {
        format!("group-{instance}")
    }

    fn end_transaction_of(&self, instance: &str) -> Result<(), String> {
        self.0.lock().expect("no panic").push(instance.to_owned());
        Err("not authorized".to_owned())
    }
}

fn members(instances: &[&str]) -> GroupLook {
    GroupLook::Members(instances.iter().map(|instance| member(instance)).collect())
}

fn member(instance: &str) -> GroupMember {
    GroupMember { client_id: format!("steward:{instance}"), host: "h".to_owned(), partitions: Vec::new() }
}
