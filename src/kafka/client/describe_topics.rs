//! Reads the ids and the partition counts of topics (DescribeTopics), which the rdkafka crate does not wrap.
//!
//! The response is that of one broker's metadata. A broker that has just started may not know the newest topics yet.
//!
//! Architecture invariant: no raw pointer and no type of `rdkafka_sys` leaves this module.

#![expect(unsafe_code, reason = "calls librdkafka's C functions")]

use std::ffi::{CStr, CString};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

use crate::kafka::client::ffi::QueueHandle;
use crate::record::TopicId;

/// The longest time that the response of the client to its own time limit may be late.
pub(super) const RESPONSE_DELAY: Duration = Duration::from_secs(1);

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
) -> Result<Vec<TopicDescription>, RDKafkaErrorCode> {
    let names: Result<Vec<CString>, _> = topics.iter().map(|topic| CString::new(*topic)).collect();
    let names = names.map_err(|_| RDKafkaErrorCode::InvalidArgument)?;
    // SAFETY: the client outlives this call.
    let queue = QueueHandle::new(unsafe { sys::rd_kafka_queue_new(client.native_ptr()) })
        .expect("rd_kafka_queue_new has no failure but lack of memory");
    request(client, &names, limit, &queue);
    let Some(event) = Event::poll(&queue, limit + RESPONSE_DELAY) else {
        return Err(RDKafkaErrorCode::OperationTimedOut);
    };
    event.descriptions()
}

fn request<C: ClientContext>(client: &Client<C>, names: &[CString], limit: Duration, queue: &QueueHandle) {
    let limit_ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: the client is alive. The library copies the names and the options during the call of DescribeTopics; both
    // are destroyed once, after it. A limit that it refuses leaves its default.
    unsafe {
        let options = sys::rd_kafka_AdminOptions_new(
            client.native_ptr(),
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        let mut problem = [0; 128];
        sys::rd_kafka_AdminOptions_set_request_timeout(options, limit_ms, problem.as_mut_ptr(), problem.len());
        let collection = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        sys::rd_kafka_DescribeTopics(client.native_ptr(), collection, options, queue.as_ptr());
        sys::rd_kafka_TopicCollection_destroy(collection);
        sys::rd_kafka_AdminOptions_destroy(options);
    }
}

/// A response that the library put into a queue.
pub(super) struct Event(NonNull<sys::rd_kafka_event_t>);

impl Event {
    pub(super) fn as_ptr(&self) -> *mut sys::rd_kafka_event_t {
        self.0.as_ptr()
    }

    pub(super) fn poll(queue: &QueueHandle, limit: Duration) -> Option<Event> {
        let limit_ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is alive. The event is ours to destroy.
        NonNull::new(unsafe { sys::rd_kafka_queue_poll(queue.as_ptr(), limit_ms) }).map(Event)
    }

    fn descriptions(&self) -> Result<Vec<TopicDescription>, RDKafkaErrorCode> {
        let mut count = 0;
        // SAFETY: the event is alive until this is dropped. The result, its array and its elements live as long.
        let elements = unsafe {
            let code = sys::rd_kafka_event_error(self.0.as_ptr());
            if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(code.into());
            }
            let result = sys::rd_kafka_event_DescribeTopics_result(self.0.as_ptr());
            if result.is_null() {
                return Err(RDKafkaErrorCode::Fail);
            }
            let elements = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            if elements.is_null() { &[] } else { std::slice::from_raw_parts(elements, count) }
        };
        // A topic that the broker left out of its response is null.
        let answered = elements.iter().filter(|element| !element.is_null());
        // SAFETY: see above; the element is not null.
        Ok(answered.map(|element| unsafe { description(*element) }).collect())
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: owned, and destroyed only here.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}

/// # Safety
/// `native` is a description of the library, and alive.
unsafe fn description(native: *const sys::rd_kafka_TopicDescription_t) -> TopicDescription {
    // SAFETY: the caller's promise. The library ends a topic's name with a zero byte; error and id may be null.
    unsafe {
        let name = CStr::from_ptr(sys::rd_kafka_TopicDescription_name(native)).to_string_lossy().into_owned();
        let error = sys::rd_kafka_TopicDescription_error(native);
        if !error.is_null() {
            let code = sys::rd_kafka_error_code(error);
            if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return TopicDescription { name, found: Err(code.into()) };
            }
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
