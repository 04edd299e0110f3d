//! Owns the admin requests that the rdkafka crate does not wrap: options, the wait for the response, and its error.
//!
//! Architecture invariant: raw pointers stay within this module and the two that build requests with it,
//! `describe_topics` and `describe_group`.

#![expect(unsafe_code, reason = "calls librdkafka's C functions")]

use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

use crate::kafka::client::ffi::QueueHandle;

/// The longest time that the response of the client to its own time limit may be late.
const RESPONSE_DELAY: Duration = Duration::from_secs(1);

/// Time limits of a request.
pub(super) struct AdminLimits {
    /// After this time the client gives the request up, and responds with an error.
    pub(super) request: Duration,
    /// How long the caller waits for the response, and at most a second longer.
    pub(super) wait: Duration,
}

/// Has `send` send a request, and returns its response. `send` gets the client, the options of the request, and the
/// queue for the response. They are alive for the call; the library copies the options.
///
/// # Errors
/// There is no response in time, or the response is an error.
pub(super) fn respond<C: ClientContext>(
    client: &Client<C>,
    operation: sys::rd_kafka_admin_op_t,
    limits: &AdminLimits,
    send: impl FnOnce(*mut sys::rd_kafka_t, *const sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
) -> KafkaResult<Event> {
    // SAFETY: the client outlives this call.
    let queue = QueueHandle::new(unsafe { sys::rd_kafka_queue_new(client.native_ptr()) })
        .expect("rd_kafka_queue_new has no failure but lack of memory");
    // SAFETY: the client is alive. The options are destroyed once, after their last use. A limit that the library
    // refuses leaves its default.
    unsafe {
        let options = sys::rd_kafka_AdminOptions_new(client.native_ptr(), operation);
        let mut problem = [0; 128];
        sys::rd_kafka_AdminOptions_set_request_timeout(
            options,
            milliseconds(limits.request),
            problem.as_mut_ptr(),
            problem.len(),
        );
        send(client.native_ptr(), options, queue.as_ptr());
        sys::rd_kafka_AdminOptions_destroy(options);
    }
    let wait_ms = milliseconds(limits.wait + RESPONSE_DELAY);
    // SAFETY: the queue is alive. The event is ours to destroy.
    let event = NonNull::new(unsafe { sys::rd_kafka_queue_poll(queue.as_ptr(), wait_ms) }).map(Event);
    let event = event.ok_or(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut))?;
    // SAFETY: the event is alive.
    let failure = failure(unsafe { sys::rd_kafka_event_error(event.as_ptr()) });
    failure.map_or(Ok(event), |code| Err(KafkaError::AdminOp(code)))
}

/// A response that the library put into a queue. All that its getters return lives as long as it.
pub(super) struct Event(NonNull<sys::rd_kafka_event_t>);

impl Event {
    pub(super) fn as_ptr(&self) -> *mut sys::rd_kafka_event_t {
        self.0.as_ptr()
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: owned, and destroyed only here.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}

/// Returns the code of an error that is about one element of a response; `None` if there is no error.
///
/// # Safety
/// `error` is null, or an error of the library that is alive.
pub(super) unsafe fn element_failure(error: *const sys::rd_kafka_error_t) -> Option<RDKafkaErrorCode> {
    if error.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    failure(unsafe { sys::rd_kafka_error_code(error) })
}

fn failure(code: Code) -> Option<RDKafkaErrorCode> {
    (code != Code::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| code.into())
}

fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}
