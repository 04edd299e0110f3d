//! Reads the headers of a consumed message.
//!
//! rdkafka's own accessor panics on a header name that is not UTF-8, which any producer may send: one record would
//! take the process down each time it is read. Here such a name comes with U+FFFD in place of what is not UTF-8.

use std::borrow::Cow;
use std::ffi::CStr;

use rdkafka::message::BorrowedMessage;
use rdkafka_sys as sys;

/// Name and value of each header, in order. A value may be null.
#[must_use]
pub fn headers_of<'m>(message: &'m BorrowedMessage<'_>) -> Vec<(Cow<'m, str>, Option<&'m [u8]>)> {
    let mut native = std::ptr::null_mut();
    // SAFETY: the message outlives the call and the result, and keeps what `native` points to.
    let error = unsafe { sys::rd_kafka_message_headers(message.ptr(), &raw mut native) };
    if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || native.is_null() {
        return Vec::new();
    }
    // SAFETY: `native` is not null, and belongs to the message.
    let count = unsafe { sys::rd_kafka_header_cnt(native) };
    let mut headers = Vec::with_capacity(count);
    for index in 0..count {
        let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
        // SAFETY: as above; the three are written when there is such a header, and read only then.
        let error =
            unsafe { sys::rd_kafka_header_get_all(native, index, &raw mut name, &raw mut value, &raw mut size) };
        if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            break;
        }
        // SAFETY: the library ends every name with a NUL, and keeps it as long as the message.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
        let value = match value.is_null() {
            true => None,
            // SAFETY: the library keeps `size` bytes there as long as the message.
            false => Some(unsafe { std::slice::from_raw_parts(value.cast::<u8>(), size) }),
        };
        headers.push((name, value));
    }
    headers
}
