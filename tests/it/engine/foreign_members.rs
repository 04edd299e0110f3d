//! Which members of the group are named as foreign, and how often.

use steward::engine::foreign_members::{ForeignMembers, GroupMember, MemberIds};
use steward::record::Partition;

#[apply(offline_test)]
fn members_without_the_mark_are_foreign() {
    let mut foreign = ForeignMembers::new(MemberIds::Marked);
    let found = foreign.seen(vec![
        member("steward:pod-0", "a"),
        member("sarama", "b"),
        member("", "c"),
        member("steward", "d"),
    ]);
    assert_eq!(hosts(&found), ["b", "c", "d"]);
}

#[apply(offline_test)]
fn a_configured_client_id_is_that_of_every_member() {
    let mut foreign = ForeignMembers::new(MemberIds::Configured("orders".to_owned()));
    let found = foreign.seen(vec![member("orders", "a"), member("steward:pod-0", "b")]);
    assert_eq!(hosts(&found), ["b"]);
}

#[apply(offline_test)]
fn a_foreign_member_is_named_once_until_it_comes_back() {
    let mut foreign = ForeignMembers::new(MemberIds::Marked);
    let group = || vec![member("steward:pod-0", "a"), member("sarama", "b")];
    assert_eq!(hosts(&foreign.seen(group())), ["b"]);
    assert_eq!(foreign.seen(group()), []);
    let and_another = [group(), vec![member("sarama", "c")]].concat();
    assert_eq!(hosts(&foreign.seen(and_another)), ["c"]);
    assert_eq!(foreign.seen(vec![member("steward:pod-0", "a")]), []);
    assert_eq!(hosts(&foreign.seen(group())), ["b"]);
}

#[apply(offline_test)]
fn a_bounded_number_is_named() {
    let mut foreign = ForeignMembers::new(MemberIds::Marked);
    let many: Vec<GroupMember> = (0..1_000).map(|number| member("sarama", &number.to_string())).collect();
    assert_eq!(foreign.seen(many.clone()).len(), 100);
    assert_eq!(foreign.seen(many), []);
}

fn member(client_id: &str, host: &str) -> GroupMember {
    GroupMember { client_id: client_id.to_owned(), host: host.to_owned(), partitions: vec![Partition(1)] }
}

fn hosts(members: &[GroupMember]) -> Vec<&str> {
    members.iter().map(|member| member.host.as_str()).collect()
}
