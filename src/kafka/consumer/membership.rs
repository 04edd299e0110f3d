//! Reads this process's membership in its group. The broker fences the offsets of a transaction by it.
//!
//! The broker accepts offsets that come with the metadata of a consumer that never joined, even while the group has live
//! members. So metadata without a generation or a member id is never returned, nor any metadata while the assignment is
//! lost.

use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata};

use crate::kafka::client::ffi::{GroupIdentity, group_identity};

/// The membership of this process at one moment.
pub enum Membership {
    /// A member, whose offsets the broker fences by generation.
    Member(ConsumerGroupMetadata),
    /// Not a member, for this reason: nothing may be committed.
    NotAMember(&'static str),
}

/// Reads the membership. The commit thread calls it once for each transaction, after the delivery of its records.
pub type GroupView = Arc<dyn Fn() -> Membership + Send + Sync>;

pub fn membership_of<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Membership {
    // rdkafka's metadata is opaque. If the identity before and after it is one valid member, the metadata between them
    // is of that member: no generation of a member ever returns.
    let before = group_identity(consumer);
    let metadata = consumer.group_metadata();
    let after = group_identity(consumer);
    let Some(metadata) = metadata else { return Membership::NotAMember("the consumer has no group metadata") };
    if before != after {
        return Membership::NotAMember("the group is changing generations");
    }
    match before {
        None => Membership::NotAMember("the consumer has no group metadata"),
        Some(GroupIdentity { generation: None, .. }) => Membership::NotAMember("the consumer has not joined its group"),
        Some(GroupIdentity { member_id: None, .. }) => Membership::NotAMember("the consumer has no member id"),
        Some(_) if consumer.assignment_lost() => Membership::NotAMember("the assignment is lost"),
        Some(_) => Membership::Member(metadata),
    }
}
