//! A static membership that the group gives to another member: by a request of this process, or by another process.

use std::time::{Duration, Instant};

use steward::engine::static_membership::{REJOINS, Replaced, StaticMembership};

const SECOND: Duration = Duration::from_secs(1);

#[apply(offline_test)]
fn a_member_that_is_replaced_by_its_own_delayed_requests_joins_again() {
    let (mut member, now) = (StaticMembership::default(), now());
    for fault in 0..10 {
        let at = now + 61 * SECOND * fault;
        assert_eq!(member.replaced(at), Replaced::JoinAgain, "fault {fault}");
        assert_eq!(member.replaced(at + SECOND), Replaced::JoinAgain, "another request, fault {fault}");
    }
}

/// Each of two processes joins again when the other one has replaced it.
#[apply(offline_test)]
fn of_two_processes_with_one_name_exactly_one_ends() {
    let mut members = [StaticMembership::default(), StaticMembership::default()];
    let mut at = now();
    let mut rounds = 0;
    let ended = (0..2).cycle().find(|replaced| {
        (at, rounds) = (at + SECOND, rounds + 1);
        members[*replaced].replaced(at) == Replaced::ByAnotherProcess
    });
    assert_eq!(ended, Some(0), "the one that was replaced first");
    assert_eq!(rounds, 2 * REJOINS + 1);
}

#[expect(clippy::disallowed_methods, reason = "any moment will do")]
fn now() -> Instant {
    Instant::now()
}
