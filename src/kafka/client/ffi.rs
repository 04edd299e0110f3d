//! Owns all unsafe code of the crate, except `describe_topics` and `describe_group` beside it and the allocator's
//! option in `main.rs`: the calls of librdkafka that the rdkafka crate does not wrap, or wraps with a panic or a loss.
//!
//! * [`MessageQueue`] takes messages in bulk, for a quarter of the cost of `BaseConsumer::poll`.
//! * [`Incoming::headers`] reads headers. rdkafka's accessor panics on a header name that is not
//!   UTF-8, which any producer may send: one record would end the process each time it is read.
//! * [`metadata_of`] reads the metadata of committed offsets. rdkafka's accessor panics on bytes that are not UTF-8, and
//!   an earlier user of the group may have left such.
//! * [`group_identity`] reads generation and member id, which rdkafka keeps private.
//! * [`position`] reads the position of a partition that is not assigned.
//! * [`serve_token`] gives a client its OAUTHBEARER token with SASL extensions, which rdkafka does not pass on.
//! * [`add_brokers`] gives a client its bootstrap addresses again.
//! * [`waiting_callbacks`] counts the callbacks in a client's queue.
//!
//! Architecture invariant: no raw pointer and no type of `rdkafka_sys` leaves this module.

#![expect(unsafe_code, reason = "calls librdkafka's C functions")]

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rdkafka::client::{Client, ClientContext, OAuthToken};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset as ClientOffset, TopicPartitionList};
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

use crate::config::oauth_extensions;
use crate::record::{Offset, Partition, Position};

/// Limit of messages per call. The array of pointers is allocated once.
pub(super) const MAX_TAKEN: usize = 1024;

/// The name and the value of a header. A value may be null, which is not the same as empty.
pub(crate) type NativeHeader<'m> = (Cow<'m, str>, Option<&'m [u8]>);

// --------------------------------------------------------------------------------------------------------------- queue

/// A queue of librdkafka, into which the queues of partitions are forwarded.
pub(super) struct MessageQueue<C: ConsumerContext> {
    queue: QueueHandle,
    slots: Vec<*mut sys::rd_kafka_message_t>,
    /// Held so that the client outlives the queue. Fields are dropped in order, this one last.
    consumer: Arc<BaseConsumer<C>>,
}

// SAFETY: librdkafka's queues may be used from any thread; `slots` holds no live pointer between two calls of `consume`.
unsafe impl<C: ConsumerContext> Send for MessageQueue<C> {}

impl<C: ConsumerContext> MessageQueue<C> {
    pub(super) fn new(consumer: Arc<BaseConsumer<C>>) -> MessageQueue<C> {
        // SAFETY: the client is alive: `consumer` owns it.
        let queue = unsafe { sys::rd_kafka_queue_new(consumer.client().native_ptr()) };
        let queue = QueueHandle::new(queue).expect("rd_kafka_queue_new has no failure but lack of memory");
        MessageQueue { queue, slots: vec![ptr::null_mut(); MAX_TAKEN], consumer }
    }

    /// # Panics
    /// The topic's name contains a zero byte: the broker has no such topic.
    pub(super) fn forward(&self, topic: &str, partition: Partition) {
        let topic = CString::new(topic).expect("a topic that the group assigned has a name without zero bytes");
        // SAFETY: the client is alive; `topic` is a C string that lives through the call.
        let source = unsafe {
            sys::rd_kafka_queue_get_partition(self.consumer.client().native_ptr(), topic.as_ptr(), partition.0)
        };
        let source = QueueHandle::new(source).expect("the client is a consumer, and creates an unknown partition");
        // SAFETY: both queues are alive; librdkafka counts the reference that it keeps on the target.
        unsafe { sys::rd_kafka_queue_forward(source.as_ptr(), self.queue.as_ptr()) };
    }

    /// Waits until `limit` messages are there or the time is up, and lends each to `visit`. Returns the number of
    /// messages.
    pub(super) fn consume<V>(&mut self, wait_ms: i32, limit: usize, mut visit: V) -> usize
    where
        V: FnMut(Partition, Result<Incoming<'_>, PartitionError>),
    {
        let limit = limit.min(MAX_TAKEN);
        let slots = self.slots.as_mut_ptr();
        // SAFETY: `slots` has room for MAX_TAKEN pointers, and `limit` is not above that.
        let count = unsafe { sys::rd_kafka_consume_batch_queue(self.queue.as_ptr(), wait_ms, slots, limit) };
        // A negative count means that the queue is disabled because the client is closing: nothing was taken.
        let count = usize::try_from(count).unwrap_or(0);
        // Owned before the first visit, so that a visitor that panics leaks nothing.
        let mut taken = TakenSlots { slots: &self.slots[..count], next: 0 };
        while let Some(message) = taken.next() {
            let raw = message.get();
            visit(Partition(raw.partition), record_or_error(raw));
        }
        count
    }
}

/// A reference on a queue of librdkafka.
pub(super) struct QueueHandle(NonNull<sys::rd_kafka_queue_t>);

impl QueueHandle {
    pub(super) fn new(queue: *mut sys::rd_kafka_queue_t) -> Option<QueueHandle> {
        NonNull::new(queue).map(QueueHandle)
    }

    pub(super) fn as_ptr(&self) -> *mut sys::rd_kafka_queue_t {
        self.0.as_ptr()
    }
}

impl Drop for QueueHandle {
    fn drop(&mut self) {
        // SAFETY: every handle owns one reference. For a partition's queue this releases the reference; for the queue
        // that `MessageQueue` created it also destroys the content.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) };
    }
}

/// The messages of one call: each is destroyed after its visit, the rest when this is dropped.
struct TakenSlots<'q> {
    slots: &'q [*mut sys::rd_kafka_message_t],
    next: usize,
}

impl TakenSlots<'_> {
    fn next(&mut self) -> Option<OwnedMessage> {
        let slot = *self.slots.get(self.next)?;
        self.next += 1;
        Some(OwnedMessage(NonNull::new(slot).expect("librdkafka fills as many slots as it returns")))
    }
}

impl Drop for TakenSlots<'_> {
    fn drop(&mut self) {
        while self.next().is_some() {}
    }
}

struct OwnedMessage(NonNull<sys::rd_kafka_message_t>);

impl OwnedMessage {
    fn get(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: the message is alive until this is dropped, and nothing writes to it.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for OwnedMessage {
    fn drop(&mut self) {
        // SAFETY: owned, and destroyed only here.
        unsafe { sys::rd_kafka_message_destroy(self.0.as_ptr()) };
    }
}

// ------------------------------------------------------------------------------------------------------------- message

/// A record in librdkafka's memory. It lives until the visitor returns.
#[derive(Clone, Copy)]
pub struct Incoming<'m> {
    raw: &'m sys::rd_kafka_message_t,
}

/// Why the client does not continue to read a partition.
pub(super) struct PartitionError {
    pub(super) code: RDKafkaErrorCode,
    /// The offset at fault, if the client reports one.
    pub(super) offset: Option<Offset>,
    pub(super) reason: String,
}

fn record_or_error(raw: &sys::rd_kafka_message_t) -> Result<Incoming<'_>, PartitionError> {
    if raw.err == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(Incoming { raw });
    }
    // SAFETY: the message is alive, and the text lives as long.
    let reason = unsafe { sys::rd_kafka_message_errstr(raw) };
    let reason = if reason.is_null() {
        format!("{:?}", raw.err)
    } else {
        // SAFETY: not null, and librdkafka ends its texts with a zero byte.
        unsafe { CStr::from_ptr(reason) }.to_string_lossy().into_owned()
    };
    let offset = (raw.offset >= 0).then_some(Offset(raw.offset));
    Err(PartitionError { code: raw.err.into(), offset, reason })
}

impl<'m> Incoming<'m> {
    pub fn partition(&self) -> Partition {
        Partition(self.raw.partition)
    }

    pub fn offset(&self) -> Offset {
        Offset(self.raw.offset)
    }

    /// Returns the length of key and value in bytes.
    pub fn payload_bytes(&self) -> usize {
        self.raw.key_len + self.raw.len
    }

    pub fn key(&self) -> Option<&'m [u8]> {
        // SAFETY: librdkafka keeps `key_len` bytes there as long as the message lives.
        unsafe { bytes(self.raw.key.cast(), self.raw.key_len) }
    }

    pub fn value(&self) -> Option<&'m [u8]> {
        // SAFETY: librdkafka keeps `len` bytes there as long as the message lives.
        unsafe { bytes(self.raw.payload.cast(), self.raw.len) }
    }

    /// Returns the name and the value of each header, in order. In a name that is not UTF-8, U+FFFD replaces the
    /// invalid part.
    pub fn headers(&self) -> impl Iterator<Item = NativeHeader<'m>> + use<'m> {
        // SAFETY: the message is alive for 'm, and only the visitor's thread has it.
        unsafe { NativeHeaders::of(self.raw) }
    }

    /// Returns milliseconds since 1970, if the record has a timestamp.
    pub fn timestamp_ms(&self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive; `kind` is written before the call returns.
        let timestamp_ms = unsafe { sys::rd_kafka_message_timestamp(self.raw, &raw mut kind) };
        let present = kind != sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && timestamp_ms != -1;
        present.then_some(timestamp_ms)
    }
}

/// Null is not the same as empty.
///
/// # Safety
/// `start` is null, or `len` bytes are there for 'm.
unsafe fn bytes<'m>(start: *const u8, len: usize) -> Option<&'m [u8]> {
    // SAFETY: the caller's promise.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start, len) })
}

// ------------------------------------------------------------------------------------------------------------- headers

struct NativeHeaders<'m> {
    headers: Option<NonNull<sys::rd_kafka_headers_t>>,
    index: usize,
    message: PhantomData<&'m sys::rd_kafka_message_t>,
}

impl<'m> NativeHeaders<'m> {
    /// # Safety
    /// librdkafka made the message, it is not destroyed during 'm, and no other thread uses it.
    unsafe fn of(message: &'m sys::rd_kafka_message_t) -> NativeHeaders<'m> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is alive. librdkafka parses the headers on the first call and keeps them in the message,
        // so they live as long.
        let code = unsafe { sys::rd_kafka_message_headers(message, &raw mut headers) };
        let headers = (code == Code::RD_KAFKA_RESP_ERR_NO_ERROR).then_some(headers).and_then(NonNull::new);
        NativeHeaders { headers, index: 0, message: PhantomData }
    }
}

impl<'m> Iterator for NativeHeaders<'m> {
    type Item = NativeHeader<'m>;

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
        // SAFETY: a found header has a name that librdkafka ends with a zero byte, and that lives with the message.
        let name: &'m CStr = unsafe { CStr::from_ptr(name) };
        // SAFETY: librdkafka keeps `len` bytes there as long as the message lives.
        let value = unsafe { bytes(value.cast(), len) };
        // Nearly all names are UTF-8, and the check costs less than a repair.
        let name = name.to_str().map_or_else(|_| name.to_string_lossy(), Cow::Borrowed);
        Some((name, value))
    }
}

// ---------------------------------------------------------------------------------------------------- group and offsets

/// A consumer's identity in its group.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GroupIdentity {
    /// `None` before the consumer has joined.
    pub(crate) generation: Option<i32>,
    /// `None` if it is empty.
    pub(crate) member_id: Option<Vec<u8>>,
}

/// Returns `None` if the consumer has no group metadata.
pub(crate) fn group_identity<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<GroupIdentity> {
    // SAFETY: the client outlives the call; the library is thread safe, and returns a copy that is ours to destroy.
    let metadata = unsafe { sys::rd_kafka_consumer_group_metadata(consumer.client().native_ptr()) };
    if metadata.is_null() {
        return None;
    }
    // SAFETY: `metadata` is valid until it is destroyed, below.
    let generation = unsafe { sys::rd_kafka_consumer_group_metadata_generation_id(metadata) };
    // SAFETY: as above.
    let member_id = unsafe { sys::rd_kafka_consumer_group_metadata_member_id(metadata) };
    let member_id = if member_id.is_null() {
        Vec::new()
    } else {
        // SAFETY: a NUL-terminated string that lives as long as `metadata`; it is copied before that ends.
        unsafe { CStr::from_ptr(member_id) }.to_bytes().to_vec()
    };
    // SAFETY: destroyed once, and not used afterwards.
    unsafe { sys::rd_kafka_consumer_group_metadata_destroy(metadata) };
    Some(GroupIdentity {
        generation: (generation >= 0).then_some(generation),
        member_id: (!member_id.is_empty()).then_some(member_id),
    })
}

/// Returns the metadata of each element. U+FFFD replaces what is not UTF-8.
pub(crate) fn metadata_of(list: &TopicPartitionList) -> Vec<String> {
    // SAFETY: the list is alive and borrowed; `elems` points to `cnt` elements.
    let elements = unsafe {
        let native = &*list.ptr();
        if native.elems.is_null() {
            return Vec::new();
        }
        std::slice::from_raw_parts(native.elems, usize::try_from(native.cnt).unwrap_or(0))
    };
    let text = |element: &sys::rd_kafka_topic_partition_t| {
        // SAFETY: the library keeps `metadata_size` bytes there as long as the list lives.
        let bytes = unsafe { bytes(element.metadata.cast(), element.metadata_size) };
        String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
    };
    elements.iter().map(text).collect()
}

/// Returns the position of a partition, assigned or not; `None` if nothing of it was read.
pub(crate) fn position<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: Partition,
) -> Option<Position> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition(topic, partition.0);
    // SAFETY: client and list outlive the call, which writes the list's offsets.
    unsafe { sys::rd_kafka_position(consumer.client().native_ptr(), list.ptr()) };
    let ClientOffset::Offset(position) = list.elements().first()?.offset() else { return None };
    Some(Position(position))
}

/// Gives the client addresses of brokers, separated by commas. Those that it has are left as they are.
pub(crate) fn add_brokers<C: ClientContext>(client: &Client<C>, addresses: &str) {
    // The addresses are those that the client was built with, so there is no zero byte.
    let Ok(addresses) = CString::new(addresses) else { return };
    // SAFETY: the client is alive; the string outlives the call, which copies it.
    unsafe { sys::rd_kafka_brokers_add(client.native_ptr(), addresses.as_ptr()) };
}

/// Returns how many callbacks wait in the client's queue. A producer also counts its records without a delivery report.
pub(crate) fn waiting_callbacks<C: ClientContext>(client: &Client<C>) -> usize {
    // SAFETY: the client is alive.
    let count = unsafe { sys::rd_kafka_outq_len(client.native_ptr()) };
    usize::try_from(count).unwrap_or(0)
}

/// Gives the client a token from its context if it requests one, which it does at its start and before the last token
/// expires. The client's own settings hold the extensions that go with it; rdkafka would leave them out.
///
/// Call it before the first request of a client, and whenever the client is polled.
pub(crate) fn serve_token<C: ClientContext>(client: &Client<C>) {
    // SAFETY: the client is alive. Without OAUTHBEARER there is no such queue.
    let Some(queue) = QueueHandle::new(unsafe { sys::rd_kafka_queue_get_sasl(client.native_ptr()) }) else { return };
    // SAFETY: the queue is alive.
    let event = unsafe { sys::rd_kafka_queue_poll(queue.as_ptr(), 0) };
    if event.is_null() {
        return;
    }
    // SAFETY: the event is alive, and the text belongs to the client; it is null if there is none.
    let extensions = unsafe {
        let text = sys::rd_kafka_event_config_string(event);
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    };
    // SAFETY: destroyed once, and not used afterwards.
    unsafe { sys::rd_kafka_event_destroy(event) };
    let token = client.context().generate_oauth_token(None).map_err(|error| error.to_string());
    let given = token.and_then(|token| set_oauth_token(client, token, extensions.as_deref().unwrap_or_default()));
    let Err(failure) = given else { return };
    // Zero bytes are not in the messages of this crate or of the library.
    let failure = CString::new(failure).unwrap_or_default();
    // SAFETY: the client is alive, and the call copies the text.
    unsafe { sys::rd_kafka_oauthbearer_set_token_failure(client.native_ptr(), failure.as_ptr()) };
}

fn set_oauth_token<C: ClientContext>(client: &Client<C>, token: OAuthToken, extensions: &str) -> Result<(), String> {
    let text = |text: &str| CString::new(text).map_err(|_| "the token or an extension contains a zero byte".to_owned());
    let (value, principal) = (text(&token.token)?, text(&token.principal_name)?);
    let texts = oauth_extensions(extensions).flat_map(|(name, value)| [name, value]).map(text);
    let texts = texts.collect::<Result<Vec<CString>, String>>()?;
    let mut pairs: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
    let mut problem = [0 as c_char; 512];
    // SAFETY: the strings outlive the call, which copies them; `problem` has room for its length, with a zero byte.
    let (code, problem) = unsafe {
        let code = sys::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.lifetime_ms,
            principal.as_ptr(),
            pairs.as_mut_ptr(),
            pairs.len(),
            problem.as_mut_ptr(),
            problem.len(),
        );
        (code, CStr::from_ptr(problem.as_ptr()).to_string_lossy())
    };
    if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(problem.into_owned()) }
}
