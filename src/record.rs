//! Records of the three topics, the names of their headers, and the numbers that locate a record.
//!
//! A [`Batch`] owns the bytes of many records of one partition in one buffer. All later stages borrow from it through an
//! `Arc`, so a record is copied once when it is read, and not again before it is produced.
//!
//! Architecture invariant: nothing here depends on Kafka's client, an actor or a clock.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use prefetch_index::prefetch_index;

/// One of the three topics of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    Input,
    State,
    Dlq,
}

impl Topic {
    pub const ALL: [Topic; 3] = [Topic::Input, Topic::State, Topic::Dlq];

    /// Returns how an error names the topic.
    pub const fn name(self) -> &'static str {
        match self {
            Topic::Input => "input",
            Topic::State => "state",
            Topic::Dlq => "DLQ",
        }
    }
}

/// The number of a partition, equal in the input, state and DLQ topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub i32);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

/// The offset of the next record to read. Groups commit positions; the start and the end of a log are positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub i64);

/// The ownership epoch of a partition: an assignment begins one, and each invalidation begins another. Epochs only rise
/// within a process, so work of an older epoch can be distinguished from work of the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Offset {
    /// Returns the position after this record. The only `+ 1` between the two types.
    pub fn next(self) -> Position {
        Position(self.0 + 1)
    }

    /// Returns whether this record is before `position`, so that a reader at `position` has passed it.
    pub fn is_before(self, position: Position) -> bool {
        self.0 < position.0
    }
}

impl Position {
    /// The position that is `records` offsets earlier, but not negative.
    pub fn back(self, records: u64) -> Position {
        Position(self.0.saturating_sub_unsigned(records).max(0))
    }

    /// Returns the number of offsets from `earlier` up to here; 0 if it is not earlier.
    pub fn distance_from(self, earlier: Position) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id that Kafka gave a topic when it was created: a topic that was deleted and created again has another id. Its
/// text is that of Kafka's tools, base64url without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId([u8; 16]);

impl TopicId {
    /// `None` for the zero id: brokers older than 2.8 have no topic ids.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<TopicId> {
        (bytes != [0; 16]).then_some(TopicId(bytes))
    }

    /// `None` if the text is not that of an id.
    pub fn parse(text: &str) -> Option<TopicId> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        TopicId::from_bytes(bytes.try_into().ok()?)
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// A key's bytes, shared by the registry, the snapshots and the log of one entity.
pub type Key = Arc<[u8]>;

/// The names of the headers that steward writes. A reader takes the last header of a name.
pub mod header {
    /// On a snapshot: the input partition, decimal.
    pub const STATE_PARTITION: &str = "steward-source-partition";
    /// On a snapshot: the input offset of the newest event that it contains, decimal.
    pub const STATE_OFFSET: &str = "steward-source-offset";
    /// On a snapshot and on a DLQ record: the group that wrote it.
    pub const GROUP: &str = "steward-group";
    /// W3C trace context of the newest event, byte for byte.
    pub const TRACEPARENT: &str = "traceparent";
    /// W3C trace state of the newest event, byte for byte.
    pub const TRACESTATE: &str = "tracestate";
    /// On a DLQ record: the code of the first rule broken.
    pub const REASON: &str = "steward-reason";
    /// On a DLQ record: what was wrong, for a person.
    pub const DETAIL: &str = "steward-detail";
    /// On a DLQ record: the input topic.
    pub const SOURCE_TOPIC: &str = "steward-source-topic";
    /// On a DLQ record: the input partition, decimal.
    pub const SOURCE_PARTITION: &str = "steward-source-partition";
    /// On a DLQ record: the input offset, decimal.
    pub const SOURCE_OFFSET: &str = "steward-source-offset";
    /// On a DLQ record: the input record's timestamp in milliseconds since 1970, decimal; -1 if it had none.
    pub const SOURCE_TIMESTAMP: &str = "steward-source-timestamp";
    /// On a DLQ record without its value, which did not fit: `true`. The headers below say what else was cut.
    pub const TRUNCATED: &str = "steward-truncated";
    /// On a truncated DLQ record: the length of the value in bytes, decimal. Missing if the event's value was null.
    pub const TRUNCATED_LENGTH: &str = "steward-truncated-length";
    /// On a truncated DLQ record without the event's headers: their number, decimal.
    pub const TRUNCATED_HEADERS: &str = "steward-truncated-headers";
    /// On a truncated DLQ record with only the first bytes of the key: the key's length in bytes, decimal.
    pub const TRUNCATED_KEY_LENGTH: &str = "steward-truncated-key-length";
    /// Beside it: the SHA-256 of the whole key, in hexadecimal digits.
    pub const TRUNCATED_KEY_SHA256: &str = "steward-truncated-key-sha256";
    /// On an event that `steward dlq replay` has produced: its DLQ record, as `topic-partition@offset`.
    pub const REPLAYED_FROM: &str = "steward-replayed-from";
}

/// One header of a record. The name is UTF-8 by Kafka's protocol; the value may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    pub name: &'a str,
    pub value: Option<&'a [u8]>,
}

/// One record of any topic. Its bytes are borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub offset: Offset,
    /// Milliseconds since 1970, by the clock of the producer or the broker.
    pub timestamp_ms: Option<i64>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

#[derive(Debug, Clone, Copy)]
pub struct Headers<'a> {
    data: &'a [u8],
    spans: &'a [HeaderSpan],
}

impl<'a> Headers<'a> {
    pub const EMPTY: Headers<'static> = Headers { data: &[], spans: &[] };

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Header<'a>> + use<'a> {
        let data = self.data;
        self.spans.iter().map(move |span| span.read(data))
    }

    /// Returns the value of the last header of this name; `None` if there is no such header, or if its value is null.
    pub fn last(&self, name: &str) -> Option<&'a [u8]> {
        let data = self.data;
        // Compares bytes: a restore looks up several names in each record.
        let found = self.spans.iter().rev().find(|span| &data[span.name.range()] == name.as_bytes())?;
        found.value.map(|span| &data[span.range()])
    }

    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}

/// A range of a batch's buffer. `u32`: a batch holds less than 4 GiB, which [`Batch::push`] asserts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ByteSpan {
    start: u32,
    len: u32,
}

impl ByteSpan {
    fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

#[derive(Debug, Clone, Copy)]
struct HeaderSpan {
    name: ByteSpan,
    value: Option<ByteSpan>,
}

impl HeaderSpan {
    fn read<'a>(&self, data: &'a [u8]) -> Header<'a> {
        let name = std::str::from_utf8(&data[self.name.range()]).expect("pushed from a &str");
        Header { name, value: self.value.map(|span| &data[span.range()]) }
    }
}

/// Where a record is in the buffer: the value follows the key. Small, because the thread that reads a record fetches
/// the span from the cache of another core. An absent part has a number that no present part can have.
#[derive(Debug, Clone, Copy)]
struct RecordSpan {
    offset: Offset,
    timestamp_ms: i64,
    start: u32,
    key_len: u32,
    value_len: u32,
    /// The headers end where those of the next record begin.
    headers_start: u32,
}

/// The unit in which processors load memory.
const CACHE_LINE_BYTES: usize = 64;
/// The part of a record that is prefetched. Most records are not longer, and the processor prefetches the rest of a long
/// one by itself.
const PREFETCHED_LINES: usize = 4;

/// The length of a key or value that is null.
const NULL: u32 = u32::MAX;
/// The timestamp of a record without one.
const NO_TIMESTAMP: i64 = i64::MIN;

impl RecordSpan {
    fn key(&self) -> Option<Range<usize>> {
        byte_range(self.start, self.key_len)
    }

    fn value(&self) -> Option<Range<usize>> {
        let key_len = if self.key_len == NULL { 0 } else { self.key_len };
        byte_range(self.start + key_len, self.value_len)
    }
}

fn byte_range(start: u32, len: u32) -> Option<Range<usize>> {
    (len != NULL).then(|| start as usize..start as usize + len as usize)
}

/// Records of one partition in the order of their offsets, read under one epoch, and the position after them.
///
/// A batch without records carries only a position: after transaction markers, or where an assignment starts.
#[derive(Debug)]
pub struct Batch {
    partition: Partition,
    epoch: Epoch,
    end: Position,
    data: Vec<u8>,
    records: Vec<RecordSpan>,
    headers: Vec<HeaderSpan>,
}

/// The size of a batch: an estimate for the reader's next one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extent {
    records: usize,
    headers: usize,
    data_bytes: usize,
}

impl Batch {
    /// Returns a batch without records, of a reader at the position `end`.
    pub fn new(partition: Partition, epoch: Epoch, end: Position) -> Batch {
        Batch::with_room(partition, epoch, end, Extent::default())
    }

    /// Returns a batch without records, with room for `expected` and an eighth more. A buffer that grows is copied, and
    /// may become twice as large as its content.
    pub fn with_room(partition: Partition, epoch: Epoch, end: Position, expected: Extent) -> Batch {
        let room = |count: usize| count + count / 8;
        Batch {
            partition,
            epoch,
            end,
            data: Vec::with_capacity(room(expected.data_bytes)),
            records: Vec::with_capacity(room(expected.records)),
            headers: Vec::with_capacity(room(expected.headers)),
        }
    }

    pub fn extent(&self) -> Extent {
        Extent { records: self.records.len(), headers: self.headers.len(), data_bytes: self.data.len() }
    }

    /// Appends a copy of a record, and moves the position after it.
    ///
    /// # Panics
    /// If the offset does not rise, which only a bug of the caller can cause, or at 4 GiB.
    pub fn push<'h>(
        &mut self,
        offset: Offset,
        timestamp_ms: Option<i64>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = Header<'h>>,
    ) {
        if let Some(last) = self.records.last() {
            assert!(last.offset < offset, "offsets of one partition only rise: {} then {offset}", last.offset);
        }
        let start = as_u32(self.data.len());
        let key_len = key.map_or(NULL, |bytes| self.copy(bytes).len);
        let value_len = value.map_or(NULL, |bytes| self.copy(bytes).len);
        let timestamp_ms = timestamp_ms.unwrap_or(NO_TIMESTAMP);
        let headers_start = as_u32(self.headers.len());
        for header in headers {
            let name = self.copy(header.name.as_bytes());
            let value = header.value.map(|bytes| self.copy(bytes));
            self.headers.push(HeaderSpan { name, value });
        }
        self.records.push(RecordSpan { offset, timestamp_ms, start, key_len, value_len, headers_start });
        self.end = offset.next();
    }

    /// Removes the records, and keeps the position and the allocated memory.
    pub fn clear(&mut self) {
        self.data.clear();
        self.records.clear();
        self.headers.clear();
    }

    pub fn partition(&self) -> Partition {
        self.partition
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub fn end(&self) -> Position {
        self.end
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns whether the batch carries only a position.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns the bytes of keys, values and headers.
    pub fn data_bytes(&self) -> u64 {
        self.data.len() as u64
    }

    /// Returns the memory of the batch in bytes: keys, values, headers and spans.
    pub fn held_bytes(&self) -> u64 {
        let records = self.records.len() * size_of::<RecordSpan>();
        let headers = self.headers.len() * size_of::<HeaderSpan>();
        (self.data.len() + records + headers + size_of::<Batch>()) as u64
    }

    /// Returns the record at `index`, counted from 0 in the order of the offsets.
    ///
    /// # Panics
    /// If there is no such record.
    pub fn record(&self, index: usize) -> Record<'_> {
        let span = &self.records[index];
        let headers_end = self.records.get(index + 1).map_or(self.headers.len(), |next| next.headers_start as usize);
        let headers = &self.headers[span.headers_start as usize..headers_end];
        Record {
            offset: span.offset,
            timestamp_ms: (span.timestamp_ms != NO_TIMESTAMP).then_some(span.timestamp_ms),
            key: span.key().map(|range| &self.data[range]),
            value: span.value().map(|range| &self.data[range]),
            headers: Headers { data: &self.data, spans: headers },
        }
    }

    /// Prefetches the span of the record at `index`, which [`prefetch`](Batch::prefetch) needs. A hint to the processor.
    pub fn prefetch_span(&self, index: usize) {
        prefetch_index(&self.records, index);
    }

    /// Prefetches the first bytes of the record at `index`, while the record before it is processed: another core wrote
    /// them some time ago. A hint to the processor.
    ///
    /// # Panics
    /// If there is no such record.
    pub fn prefetch(&self, index: usize) {
        let start = self.records[index].start as usize;
        for line in 0..PREFETCHED_LINES {
            prefetch_index(&self.data, start + line * CACHE_LINE_BYTES);
        }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        (0..self.len()).map(|index| self.record(index))
    }

    fn copy(&mut self, bytes: &[u8]) -> ByteSpan {
        let start = as_u32(self.data.len());
        self.data.extend_from_slice(bytes);
        ByteSpan { start, len: as_u32(bytes.len()) }
    }
}

fn as_u32(len: usize) -> u32 {
    u32::try_from(len).expect("a batch holds less than 4 GiB: the in-flight budget is far below")
}

/// The W3C trace context of the newest event, the last header of each name, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    pub traceparent: Option<Box<[u8]>>,
    pub tracestate: Option<Box<[u8]>>,
}

impl TraceContext {
    /// Returns the trace context in these headers; `None` without an allocation if there is none.
    pub fn of(headers: Headers<'_>) -> Option<Box<TraceContext>> {
        if headers.is_empty() {
            return None;
        }
        let traceparent = headers.last(header::TRACEPARENT).map(Box::from);
        let tracestate = headers.last(header::TRACESTATE).map(Box::from);
        (traceparent.is_some() || tracestate.is_some()).then(|| Box::new(TraceContext { traceparent, tracestate }))
    }
}
