//! Reads whether this process is a member of its group, and as whom: what a transaction's offsets are fenced with.
//!
//! The broker accepts offsets that come with the metadata of a consumer that never joined, even while the group has
//! live members. So metadata with a generation below 0 or an empty member id is never handed out, nor any while the
//! assignment is lost.

use std::ffi::CStr;
use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata};
use rdkafka_sys as sys;

/// This process in its group, at one moment.
pub enum Membership {
    /// A member, whose offsets the broker fences by generation.
    Member(ConsumerGroupMetadata),
    /// Not one, or not one any more: nothing may be committed. Says why.
    NotAMember(&'static str),
}

/// Takes a fresh look at the group: once for each transaction, after its records are delivered.
pub type GroupView = Arc<dyn Fn() -> Membership + Send + Sync>;

/// Who `consumer` is in its group right now.
#[must_use]
pub fn membership_of<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Membership {
    // rdkafka's metadata cannot be looked into. A second look before and after it that sees the same valid member
    // vouches for what was taken in between: no generation of a member ever comes back.
    let before = identity_of(consumer);
    let metadata = consumer.group_metadata();
    let after = identity_of(consumer);
    let Some(metadata) = metadata else { return Membership::NotAMember("the consumer has no group metadata") };
    if before != after {
        return Membership::NotAMember("the group is changing generations");
    }
    match before {
        None => Membership::NotAMember("the consumer has no group metadata"),
        Some((generation, _)) if generation < 0 => Membership::NotAMember("the consumer has not joined its group"),
        Some((_, member)) if member.is_empty() => Membership::NotAMember("the consumer has no member id"),
        Some(_) if consumer.assignment_lost() => Membership::NotAMember("the assignment is lost"),
        Some(_) => Membership::Member(metadata),
    }
}

/// Generation and member id.
fn identity_of<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<(i32, Vec<u8>)> {
    // SAFETY: the client outlives the call; the library is thread safe, and returns a copy that is ours to destroy.
    let metadata = unsafe { sys::rd_kafka_consumer_group_metadata(consumer.client().native_ptr()) };
    if metadata.is_null() {
        return None;
    }
    // SAFETY: `metadata` is valid until it is destroyed, below.
    let generation = unsafe { sys::rd_kafka_consumer_group_metadata_generation_id(metadata) };
    // SAFETY: as above.
    let member = unsafe { sys::rd_kafka_consumer_group_metadata_member_id(metadata) };
    let member = if member.is_null() {
        Vec::new()
    } else {
        // SAFETY: a NUL-terminated string that lives as long as `metadata`; it is copied before that ends.
        unsafe { CStr::from_ptr(member) }.to_bytes().to_vec()
    };
    // SAFETY: destroyed once, and not used after.
    unsafe { sys::rd_kafka_consumer_group_metadata_destroy(metadata) };
    Some((generation, member))
}
