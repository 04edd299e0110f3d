//! Adds many permissions in one request, with librdkafka. rdkafka does not expose this call, and each call of Kafka's
//! own tool would start a JVM.

use std::ffi::{CStr, CString, c_char};

use rdkafka_sys as sys;
pub use sys::{
    rd_kafka_AclOperation_t as Operation, rd_kafka_ResourcePatternType_t as Pattern,
    rd_kafka_ResourceType_t as Resource,
};

use super::kafka::Kafka;
use super::wait::PATIENCE;

/// Allows a user an operation, from any host.
#[derive(Debug)]
pub struct Allow<'a> {
    pub user: &'a str,
    pub operation: Operation,
    pub resource: Resource,
    pub name: String,
    pub pattern: Pattern,
}

/// Adds the permissions, and returns when the broker has confirmed them.
///
/// # Panics
/// If the broker refuses a permission.
pub fn add(kafka: &Kafka, acls: &[Allow<'_>]) {
    let mut bindings: Vec<*mut sys::rd_kafka_AclBinding_t> = acls.iter().map(binding).collect();
    let client = kafka.native();
    let timeout_ms = i32::try_from(PATIENCE.as_millis()).expect("the timeout fits into 32 bits");
    // SAFETY: the client outlives this call; queue, event and bindings are destroyed below, once each, after their
    // last use; the result and its parts belong to the event, and are read before it is destroyed. Options may be null.
    unsafe {
        let queue = sys::rd_kafka_queue_new(client);
        sys::rd_kafka_CreateAcls(client, bindings.as_mut_ptr(), bindings.len(), std::ptr::null(), queue);
        let event = sys::rd_kafka_queue_poll(queue, timeout_ms);
        let refused = refusal(event);
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_queue_destroy(queue);
        for binding in bindings {
            sys::rd_kafka_AclBinding_destroy(binding);
        }
        assert_eq!(refused, None, "{acls:?}");
    }
}

fn binding(allow: &Allow<'_>) -> *mut sys::rd_kafka_AclBinding_t {
    let text = |text: &str| CString::new(text).expect("no name has a zero byte");
    let (name, principal, host) = (text(&allow.name), text(&format!("User:{}", allow.user)), text("*"));
    let mut error = [0 as c_char; 256];
    // SAFETY: the strings live for the whole call, which copies them, and `error` has the passed length.
    let binding = unsafe {
        sys::rd_kafka_AclBinding_new(
            allow.resource,
            name.as_ptr(),
            allow.pattern,
            principal.as_ptr(),
            host.as_ptr(),
            allow.operation,
            sys::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
            error.as_mut_ptr(),
            error.len(),
        )
    };
    assert!(!binding.is_null(), "{allow:?} is not a valid permission");
    binding
}

/// Returns the error of a response, if there is one.
///
/// # Safety
/// The event is null, or was not destroyed yet.
unsafe fn refusal(event: *mut sys::rd_kafka_event_t) -> Option<String> {
    if event.is_null() {
        return Some("no response".to_owned());
    }
    // SAFETY: the caller guarantees a live event; the result lives as long as the event.
    unsafe {
        let result = sys::rd_kafka_event_CreateAcls_result(event);
        let code = sys::rd_kafka_event_error(event);
        if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || result.is_null() {
            return Some(format!("{code:?}"));
        }
        let mut count = 0;
        let results = sys::rd_kafka_CreateAcls_result_acls(result, &raw mut count);
        let mut errors = (0..count).map(|index| sys::rd_kafka_acl_result_error(*results.add(index)));
        let error = errors.find(|error| !error.is_null())?;
        Some(CStr::from_ptr(sys::rd_kafka_error_string(error)).to_string_lossy().into_owned())
    }
}
