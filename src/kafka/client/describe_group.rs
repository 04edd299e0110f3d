//! Reads the members of the consumer group (DescribeConsumerGroups), which the rdkafka crate does not wrap.
//!
//! Architecture invariant: no raw pointer and no type of `rdkafka_sys` leaves this module.

#![expect(unsafe_code, reason = "calls librdkafka's C functions")]

use std::ffi::{CStr, CString, c_char};
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka_sys as sys;

use crate::engine::foreign_members::{GroupLook, GroupMember};
use crate::kafka::client::admin_request::{AdminLimits, Event, element_failure, respond};
use crate::kafka::client::unsubscribed::RequestClient;
use crate::record::Partition;

/// How long the caller waits for a response.
const LOOK_LIMIT: Duration = Duration::from_secs(1);

/// Limit of the request in the client, far above that of the caller. If the coordinator responds to a request that the
/// client has given up, an assertion of the library aborts the process (`rd_kafka_enq_once_del_source_return`).
const REQUEST_LIMIT: Duration = Duration::from_secs(300);

/// Looks at the members of the group and their partitions of `topic`. Read on the group suffices. Blocks for two seconds
/// at most.
pub(crate) fn look_at_group<C: ConsumerContext + Clone + 'static>(
    client: &mut RequestClient<C>,
    group: &str,
    topic: &str,
) -> GroupLook {
    client.request(|client| describe_group(client.client(), group, topic)).unwrap_or(GroupLook::NoAnswer)
}

/// # Errors
/// There is no response in time, or the coordinator refuses the request. A name with a zero byte is an invalid argument.
fn describe_group<C: ClientContext>(client: &Client<C>, group: &str, topic: &str) -> KafkaResult<GroupLook> {
    let group = CString::new(group).map_err(|_| KafkaError::AdminOp(RDKafkaErrorCode::InvalidArgument))?;
    let mut names = [group.as_ptr()];
    let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    let limits = AdminLimits { request: REQUEST_LIMIT, wait: LOOK_LIMIT };
    let event = respond(client, operation, &limits, |client, options, queue| {
        // SAFETY: all three are alive. The library copies the name during the call.
        unsafe {
            sys::rd_kafka_DescribeConsumerGroups(client, names.as_mut_ptr(), names.len(), options, queue);
        }
    })?;
    members(&event, topic).map_err(KafkaError::AdminOp)
}

fn members(event: &Event, topic: &str) -> Result<GroupLook, RDKafkaErrorCode> {
    // SAFETY: the event is alive for the whole call, and all that its getters return lives as long. Each pointer is
    // checked before its use; the library ends its texts with a zero byte.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event.as_ptr());
        if result.is_null() {
            return Err(RDKafkaErrorCode::Fail);
        }
        let mut count = 0;
        let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        if groups.is_null() || count == 0 {
            return Err(RDKafkaErrorCode::Fail);
        }
        let group = *groups;
        if let Some(code) = element_failure(sys::rd_kafka_ConsumerGroupDescription_error(group)) {
            return Err(code);
        }
        let state = sys::rd_kafka_ConsumerGroupDescription_state(group);
        let is_stable = state == sys::rd_kafka_consumer_group_state_t::RD_KAFKA_CONSUMER_GROUP_STATE_STABLE;
        let count = sys::rd_kafka_ConsumerGroupDescription_member_count(group);
        let members = (0..count).map(|index| sys::rd_kafka_ConsumerGroupDescription_member(group, index));
        let members = members.filter(|member| !member.is_null()).map(|native| member(native, topic)).collect();
        Ok(if is_stable { GroupLook::Members(members) } else { GroupLook::Rebalancing(members) })
    }
}

/// # Safety
/// `native` is a member of the library, and alive.
unsafe fn member(native: *const sys::rd_kafka_MemberDescription_t, topic: &str) -> GroupMember {
    // SAFETY: the caller's promise. Texts may be null; a list has as many elements as it counts.
    unsafe {
        let assignment = sys::rd_kafka_MemberDescription_assignment(native);
        let list =
            if assignment.is_null() { std::ptr::null() } else { sys::rd_kafka_MemberAssignment_partitions(assignment) };
        let elements = match list.as_ref() {
            Some(list) if !list.elems.is_null() => {
                std::slice::from_raw_parts(list.elems, usize::try_from(list.cnt).unwrap_or(0))
            }
            Some(_) | None => &[],
        };
        let of_topic = elements.iter().filter(|element| text(element.topic) == topic);
        GroupMember {
            client_id: text(sys::rd_kafka_MemberDescription_client_id(native)),
            host: text(sys::rd_kafka_MemberDescription_host(native)),
            partitions: of_topic.map(|element| Partition(element.partition)).collect(),
        }
    }
}

/// # Safety
/// `native` is null, or a text that ends with a zero byte and is alive.
unsafe fn text(native: *const c_char) -> String {
    if native.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(native) }.to_string_lossy().into_owned()
}
