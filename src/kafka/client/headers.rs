//! Reads the headers of a consumed message, for everybody who does.
//!
//! rdkafka's own accessor panics on a header name that is not UTF-8, which any producer may send: one record would
//! take the process down each time it is read. Here such a name comes with U+FFFD in place of what is not UTF-8.

use std::borrow::Cow;
use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr::{
    NonNull, {self},
};

use rdkafka::message::BorrowedMessage;
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

/// Name and value of each header, in order. A value may be null, which is not the same as empty.
#[must_use]
pub fn headers_of<'m>(message: &'m BorrowedMessage<'_>) -> Vec<(Cow<'m, str>, Option<&'m [u8]>)> {
    // SAFETY: the message holds librdkafka's own, which lives as long as it does.
    unsafe { NativeHeaders::of(&*message.ptr()) }.collect()
}

/// The headers of a message in librdkafka's memory.
pub(crate) struct NativeHeaders<'m> {
    headers: Option<NonNull<sys::rd_kafka_headers_t>>,
    index: usize,
    message: PhantomData<&'m sys::rd_kafka_message_t>,
}

impl<'m> NativeHeaders<'m> {
    /// # Safety
    /// The message is one that librdkafka made, it is not destroyed while 'm lasts, and no other thread uses it.
    pub(crate) unsafe fn of(message: &'m sys::rd_kafka_message_t) -> NativeHeaders<'m> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is alive. librdkafka parses the headers on the first call and keeps them in the message:
        // they live as long as it does.
        let code = unsafe { sys::rd_kafka_message_headers(message, &raw mut headers) };
        let headers = (code == Code::RD_KAFKA_RESP_ERR_NO_ERROR).then_some(headers).and_then(NonNull::new);
        NativeHeaders { headers, index: 0, message: PhantomData }
    }
}

impl<'m> Iterator for NativeHeaders<'m> {
    type Item = (Cow<'m, str>, Option<&'m [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let headers = self.headers?;
        let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the headers are alive with their message; the three are written when the call finds a header.
        let code = unsafe {
            sys::rd_kafka_header_get_all(headers.as_ptr(), self.index, &raw mut name, &raw mut value, &raw mut len)
        };
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        self.index += 1;
        // SAFETY: a found header has a name, which librdkafka ends with a zero byte, and which lives with the message.
        let name: &'m CStr = unsafe { CStr::from_ptr(name) };
        let value: *const u8 = value.cast();
        // SAFETY: librdkafka keeps `len` bytes there as long as the message lives.
        let value = (!value.is_null()).then(|| unsafe { std::slice::from_raw_parts(value, len) });
        // Names are UTF-8 but for mischief, and to find that out costs less than to repair them.
        let name = name.to_str().map_or_else(|_| name.to_string_lossy(), Cow::Borrowed);
        Some((name, value))
    }
}
