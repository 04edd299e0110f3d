//! Takes records out of librdkafka in bulk.
//!
//! Why it exists: a record costs a quarter of what `BaseConsumer::poll` costs. Each assigned partition's queue is
//! forwarded into one queue of our own; taking from that one never runs a rebalance, which stays with
//! `BaseConsumer::poll` on the consumer's queue.
//!
//! * a) A message is lent to the visitor, which copies what it needs, and is destroyed before `take` returns: a held
//!   message pins its whole fetch buffer.
//! * b) librdkafka waits until the array is full or the time is up. So a wait is for one message, and a larger array
//!   is filled without waiting.
//! * c) Messages that were fetched before a pause, a seek or an unassign are dropped by librdkafka itself when they are
//!   taken.
//!
//! Architecture invariant: no pointer and no rdkafka type leaves this module.

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::marker::PhantomData;
use std::ptr::{
    NonNull, {self},
};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

use crate::kafka::client::errors::{ErrorClass, GroupRefusal, Resource, class_of};
use crate::kafka::client::headers::NativeHeaders;
use crate::record::{Batch, Header, Offset, Partition};

/// Messages taken by one call at most: the array of pointers is allocated once.
pub const MAX_TAKEN: usize = 1024;

/// Into which the queues of all assigned partitions are forwarded.
pub struct BatchQueue<C: ConsumerContext> {
    queue: QueueHandle,
    slots: Vec<*mut sys::rd_kafka_message_t>,
    /// Held so that the client outlives the queue. Fields are dropped in order, this one last.
    consumer: Arc<BaseConsumer<C>>,
}

/// What was taken.
pub enum Taken<'a> {
    /// A record of this partition.
    Record(Partition, Incoming<'a>),
    /// The client cannot go on reading a partition.
    Failed {
        /// The partition.
        partition: Partition,
        /// The offset it was about, where the client told.
        offset: Option<Offset>,
        /// What it means.
        failure: QueueFailure,
        /// librdkafka's words.
        reason: String,
    },
}

/// Why a partition is not read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueFailure {
    /// The position is not within the log. The client has stopped reading the partition.
    OutOfRange,
    /// A record is larger than the client accepts.
    TooLarge,
    /// A permission is missing.
    NotAuthorized,
    /// Another one that no waiting cures: the topic is not there, the log was cut, the client cannot log in.
    Hopeless,
    /// Anything else; the client goes on trying.
    Other,
}

// SAFETY: librdkafka's queues may be used from any thread; `slots` holds no live pointer between two calls of `take`.
unsafe impl<C: ConsumerContext> Send for BatchQueue<C> {}

impl<C: ConsumerContext> BatchQueue<C> {
    /// A queue of this consumer, into which nothing is forwarded yet.
    #[must_use]
    pub fn new(consumer: Arc<BaseConsumer<C>>) -> BatchQueue<C> {
        // SAFETY: the client is alive: `consumer` owns it.
        let queue = unsafe { sys::rd_kafka_queue_new(consumer.client().native_ptr()) };
        let queue = QueueHandle::new(queue).expect("rd_kafka_queue_new has no failure but lack of memory");
        BatchQueue { queue, slots: vec![ptr::null_mut(); MAX_TAKEN], consumer }
    }

    /// Lets the records of `partition` arrive here. To be called before the partition is assigned, or some would arrive
    /// at the consumer's queue.
    ///
    /// # Panics
    /// When the topic's name holds a zero byte: the broker knows no such topic.
    pub fn forward(&self, topic: &str, partition: Partition) {
        let topic = CString::new(topic).expect("a topic that the group assigned has a name without zero bytes");
        // SAFETY: the client is alive, `topic` is a C string that lives through the call.
        let source = unsafe {
            sys::rd_kafka_queue_get_partition(self.consumer.client().native_ptr(), topic.as_ptr(), partition.0)
        };
        let source = QueueHandle::new(source).expect("the client is a consumer, and creates what it does not know");
        // SAFETY: both queues are alive; librdkafka counts the reference that it keeps on the target.
        unsafe { sys::rd_kafka_queue_forward(source.as_ptr(), self.queue.as_ptr()) };
    }

    /// Waits for one message, at most `wait`, and lends it to `visit`. Returns how many there were: 0 or 1.
    pub fn wait(&mut self, wait: Duration, visit: impl FnMut(Taken<'_>)) -> usize {
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        self.consume(wait_ms, 1, visit)
    }

    /// Lends at most `limit` messages that are there already to `visit`, without waiting. Returns how many there were.
    pub fn drain(&mut self, limit: usize, visit: impl FnMut(Taken<'_>)) -> usize {
        self.consume(0, limit.min(MAX_TAKEN), visit)
    }

    fn consume(&mut self, wait_ms: i32, limit: usize, mut visit: impl FnMut(Taken<'_>)) -> usize {
        let slots = self.slots.as_mut_ptr();
        // SAFETY: `slots` has room for MAX_TAKEN pointers, and `limit` is not above that.
        let count = unsafe { sys::rd_kafka_consume_batch_queue(self.queue.as_ptr(), wait_ms, slots, limit) };
        // A negative count says that the queue is not there (the client is going down): nothing was taken.
        let count = usize::try_from(count).unwrap_or(0);
        // Owned before the first visit, so that a visitor that panics leaks nothing.
        let mut taken = TakenSlots { slots: &self.slots[..count], next: 0 };
        while let Some(message) = taken.next() {
            visit(message.read());
        }
        count
    }
}

/// Messages that this call owns: destroyed one by one as they are visited, the rest when this is dropped.
struct TakenSlots<'q> {
    slots: &'q [*mut sys::rd_kafka_message_t],
    next: usize,
}

impl TakenSlots<'_> {
    fn next(&mut self) -> Option<Message> {
        let slot = *self.slots.get(self.next)?;
        self.next += 1;
        Some(Message(NonNull::new(slot).expect("librdkafka fills as many slots as it says")))
    }
}

impl Drop for TakenSlots<'_> {
    fn drop(&mut self) {
        while self.next().is_some() {}
    }
}

/// One message of librdkafka, owned.
struct Message(NonNull<sys::rd_kafka_message_t>);

impl Message {
    fn read(&self) -> Taken<'_> {
        // SAFETY: the message is alive until it is dropped, and nobody writes to it.
        let raw = unsafe { self.0.as_ref() };
        let partition = Partition(raw.partition);
        if raw.err == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Taken::Record(partition, Incoming { raw, message: PhantomData });
        }
        // SAFETY: the message is alive; the text lives as long as it does.
        let reason = unsafe { sys::rd_kafka_message_errstr(raw) };
        let reason = if reason.is_null() {
            format!("{:?}", raw.err)
        } else {
            // SAFETY: not null, and librdkafka ends its texts with a zero byte.
            unsafe { CStr::from_ptr(reason) }.to_string_lossy().into_owned()
        };
        let offset = (raw.offset >= 0).then_some(Offset(raw.offset));
        Taken::Failed { partition, offset, failure: QueueFailure::of(class_of(raw.err.into())), reason }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: owned, and destroyed only here.
        unsafe { sys::rd_kafka_message_destroy(self.0.as_ptr()) };
    }
}

impl QueueFailure {
    pub(crate) fn of(class: ErrorClass) -> QueueFailure {
        let is_permanent = matches!(
            class,
            ErrorClass::LoginRefused
                | ErrorClass::MechanismUnsupported
                | ErrorClass::UnknownTopic
                | ErrorClass::UnknownPartition
                | ErrorClass::InvalidTopic
                | ErrorClass::GroupRefused(GroupRefusal::Name)
                | ErrorClass::ClientFailed
                | ErrorClass::LogTruncated
        );
        if class == ErrorClass::OffsetOutOfRange {
            QueueFailure::OutOfRange
        } else if class == ErrorClass::RecordTooLarge {
            QueueFailure::TooLarge
        } else if matches!(class, ErrorClass::Forbidden(Resource::Topic | Resource::Group | Resource::Cluster)) {
            QueueFailure::NotAuthorized
        } else if is_permanent {
            QueueFailure::Hopeless
        } else {
            QueueFailure::Other
        }
    }
}

/// A record in librdkafka's memory. It lives until the visitor returns.
pub struct Incoming<'a> {
    raw: &'a sys::rd_kafka_message_t,
    message: PhantomData<&'a Message>,
}

impl Incoming<'_> {
    /// Where the record stands.
    #[must_use]
    pub fn offset(&self) -> Offset {
        Offset(self.raw.offset)
    }

    /// Key and value, in bytes.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.raw.key_len + self.raw.len
    }

    /// The key's bytes; `None` where it is null.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        bytes(self.raw.key.cast(), self.raw.key_len)
    }

    /// The value's bytes; `None` where it is null.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        bytes(self.raw.payload.cast(), self.raw.len)
    }

    /// Name and value of each header, in order.
    pub fn headers(&self) -> impl Iterator<Item = (Cow<'_, str>, Option<&[u8]>)> {
        // SAFETY: the message is alive until the visitor returns, and this thread is the only one that has it.
        unsafe { NativeHeaders::of(self.raw) }
    }

    /// Copies the record behind those that the batch holds.
    pub fn copy_into(&self, batch: &mut Batch) {
        let headers: Vec<_> = self.headers().collect();
        batch.push(
            self.offset(),
            self.timestamp_ms(),
            self.key(),
            self.value(),
            headers.iter().map(|(name, value)| Header { name, value: *value }),
        );
    }

    /// Milliseconds since 1970; `None` where the record has none.
    #[must_use]
    pub fn timestamp_ms(&self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive; `kind` is written before the call returns.
        let timestamp_ms = unsafe { sys::rd_kafka_message_timestamp(self.raw, &raw mut kind) };
        let present = kind != sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && timestamp_ms != -1;
        present.then_some(timestamp_ms)
    }
}

/// Null is not the same as empty.
fn bytes<'a>(start: *const u8, len: usize) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: callers pass a stretch of a message that is alive for 'a, which their own signatures tie to it.
    Some(unsafe { std::slice::from_raw_parts(start, len) })
}

/// A reference on one of librdkafka's queues.
struct QueueHandle(NonNull<sys::rd_kafka_queue_t>);

impl QueueHandle {
    fn new(queue: *mut sys::rd_kafka_queue_t) -> Option<QueueHandle> {
        NonNull::new(queue).map(QueueHandle)
    }

    fn as_ptr(&self) -> *mut sys::rd_kafka_queue_t {
        self.0.as_ptr()
    }
}

impl Drop for QueueHandle {
    fn drop(&mut self) {
        // SAFETY: every handle owns one reference. For a partition's queue this gives back just the reference; for our
        // own it also lets go of what is in it.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) };
    }
}
