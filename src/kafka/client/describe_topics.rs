//! Reads the ids and the partition counts of topics (DescribeTopics), which the rdkafka crate does not wrap.
//!
//! The response is that of one broker's metadata. A broker that has just started may not know the newest topics yet.
//!
//! Architecture invariant: no raw pointer and no type of `rdkafka_sys` leaves this module.

#![expect(unsafe_code, reason = "calls librdkafka's C functions")]

use std::ffi::{CStr, CString};
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka_sys as sys;

use crate::kafka::client::admin_request::{AdminLimits, Event, element_failure, respond};
use crate::record::TopicId;

/// What a broker answers about one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicDescription {
    pub(crate) name: String,
    /// The error is for this topic alone.
    pub(crate) found: Result<FoundTopic, RDKafkaErrorCode>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FoundTopic {
    /// `None` if the broker has no topic ids.
    pub(crate) id: Option<TopicId>,
    pub(crate) partitions: i32,
}

/// Describes `topics`, in any order; a topic that the broker leaves out is missing from the list. Blocks for `limit`,
/// and at most a second longer.
///
/// # Errors
/// There is no response: no broker answers within `limit`, or the client refuses the request. A name with a zero byte is
/// an invalid argument.
pub(crate) fn describe_topics<C: ClientContext>(
    client: &Client<C>,
    topics: &[&str],
    limit: Duration,
) -> KafkaResult<Vec<TopicDescription>> {
    let names: Result<Vec<CString>, _> = topics.iter().map(|topic| CString::new(*topic)).collect();
    let names = names.map_err(|_| KafkaError::AdminOp(RDKafkaErrorCode::InvalidArgument))?;
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    let limits = AdminLimits { request: limit, wait: limit };
    let event = respond(client, operation, &limits, |client, options, queue| {
        // SAFETY: all three are alive. The library copies the names during the call of DescribeTopics; the collection is
        // destroyed once, after it.
        unsafe {
            let collection = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            sys::rd_kafka_DescribeTopics(client, collection, options, queue);
            sys::rd_kafka_TopicCollection_destroy(collection);
        }
    })?;
    descriptions(&event)
}

fn descriptions(event: &Event) -> KafkaResult<Vec<TopicDescription>> {
    let mut count = 0;
    // SAFETY: the event is alive. The result, its array and its elements live as long.
    let elements = unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event.as_ptr());
        if result.is_null() {
            return Err(KafkaError::AdminOp(RDKafkaErrorCode::Fail));
        }
        let elements = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if elements.is_null() { &[] } else { std::slice::from_raw_parts(elements, count) }
    };
    // A topic that the broker left out of its response is null.
    let answered = elements.iter().filter(|element| !element.is_null());
    // SAFETY: see above; the element is not null.
    Ok(answered.map(|element| unsafe { description(*element) }).collect())
}

/// # Safety
/// `native` is a description of the library, and alive.
unsafe fn description(native: *const sys::rd_kafka_TopicDescription_t) -> TopicDescription {
    // SAFETY: the caller's promise. The library ends a topic's name with a zero byte; error and id may be null.
    unsafe {
        let name = CStr::from_ptr(sys::rd_kafka_TopicDescription_name(native)).to_string_lossy().into_owned();
        if let Some(code) = element_failure(sys::rd_kafka_TopicDescription_error(native)) {
            return TopicDescription { name, found: Err(code) };
        }
        let mut partitions = 0;
        sys::rd_kafka_TopicDescription_partitions(native, &raw mut partitions);
        let id = sys::rd_kafka_TopicDescription_topic_id(native);
        let id = (!id.is_null()).then(|| {
            let high = sys::rd_kafka_Uuid_most_significant_bits(id).to_be_bytes();
            let low = sys::rd_kafka_Uuid_least_significant_bits(id).to_be_bytes();
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&high);
            bytes[8..].copy_from_slice(&low);
            bytes
        });
        let id = id.and_then(TopicId::from_bytes);
        TopicDescription {
            name,
            found: Ok(FoundTopic { id, partitions: i32::try_from(partitions).unwrap_or(i32::MAX) }),
        }
    }
}
