//! One record of the DLQ topic, and the event that can be made of it again.

use std::borrow::Cow;
use std::fmt;

use crate::entity::Reason;
use crate::record::{Offset, Partition, header};
use crate::tools::dlq::ReplayReceipt;

/// Names of headers that begin so are steward's own.
const OURS: &str = "steward-";

/// What a record weighs beside its bytes, in bytes.
const RECORD_BYTES: usize = 128;

/// Where a DLQ record stands in its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DlqLocation {
    /// The partition.
    pub partition: Partition,
    /// The offset.
    pub offset: Offset,
}

impl fmt::Display for DlqLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.partition, self.offset)
    }
}

/// The event that a DLQ record was, where it stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventSourceHeaders<'a> {
    /// The input topic.
    pub topic: &'a str,
    /// The input partition.
    pub partition: Partition,
    /// The input offset.
    pub offset: Offset,
    /// The event's timestamp in milliseconds since 1970; `None` where it had none.
    pub timestamp_ms: Option<i64>,
}

/// One record of the DLQ topic.
#[derive(Debug, Clone)]
pub struct DlqRecord<'a> {
    /// Where it stands.
    pub place: DlqLocation,
    /// When it was produced, in milliseconds since 1970: when the event was refused.
    pub timestamp_ms: Option<i64>,
    /// The event's key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// The event's value; `None` is null, or too large for the topic ([`DlqRecord::truncated_bytes`]).
    pub value: Option<&'a [u8]>,
    headers: Vec<(Cow<'a, str>, Option<&'a [u8]>)>,
    /// How many of the headers are the event's.
    own: usize,
}

/// An event that is to be produced to the input again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayEvent {
    /// The DLQ record that it comes from.
    pub letter: DlqLocation,
    /// Why it was refused.
    pub reason: Reason,
    /// Where it goes: the partition that it came from. An entity is a key in a partition.
    pub partition: Partition,
    /// The key's bytes; `None` is null.
    pub key: Option<Box<[u8]>>,
    /// The value's bytes; `None` is null.
    pub value: Option<Box<[u8]>>,
    /// The event's own headers, then the one that names the DLQ record.
    pub headers: Vec<(String, Option<Box<[u8]>>)>,
    /// What is written down beside it.
    pub mark: ReplayReceipt,
}

impl ReplayEvent {
    /// What the two records weigh in a transaction, in bytes.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        let length = |bytes: &Option<Box<[u8]>>| bytes.as_ref().map_or(0, |bytes| bytes.len());
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + length(value)).sum();
        length(&self.key) + length(&self.value) + headers + 2 * RECORD_BYTES
    }
}

impl<'a> DlqRecord<'a> {
    /// Reads a record of the DLQ topic; `headers` in the order of the record.
    #[must_use]
    pub fn new(
        place: DlqLocation,
        timestamp_ms: Option<i64>,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        headers: Vec<(Cow<'a, str>, Option<&'a [u8]>)>,
    ) -> DlqRecord<'a> {
        // Steward's stand behind the event's. The event may have had one of the name itself, before.
        let own = headers.iter().rposition(|(name, _)| name == header::REASON).unwrap_or(headers.len());
        DlqRecord { place, timestamp_ms, key, value, headers, own }
    }

    /// The code of the rule that the event broke; `None` where the record has none, or none that is text.
    #[must_use]
    pub fn reason_code(&self) -> Option<&str> {
        self.text(header::REASON)
    }

    /// The rule that the event broke, where this version knows it.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        let code = self.reason_code()?;
        Reason::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// What was wrong, for a person.
    #[must_use]
    pub fn detail(&self) -> Option<Cow<'_, str>> {
        self.last(header::DETAIL).map(String::from_utf8_lossy)
    }

    /// The event's place in the input; `None` where the headers do not tell it.
    #[must_use]
    pub fn source(&self) -> Option<EventSourceHeaders<'_>> {
        let partition: i32 = self.number(header::SOURCE_PARTITION)?;
        let offset: i64 = self.number(header::SOURCE_OFFSET)?;
        let timestamp_ms: Option<i64> = self.number(header::SOURCE_TIMESTAMP);
        let topic = self.text(header::SOURCE_TOPIC)?;
        (partition >= 0 && offset >= 0).then_some(EventSourceHeaders {
            topic,
            partition: Partition(partition),
            offset: Offset(offset),
            timestamp_ms: timestamp_ms.filter(|ms| *ms >= 0),
        })
    }

    /// The length of the value that the DLQ topic did not take, in bytes, 0 where it is not told; `None` where
    /// the letter is whole.
    #[must_use]
    pub fn truncated_bytes(&self) -> Option<u64> {
        let is_truncated = self.text(header::TRUNCATED) == Some("true");
        is_truncated.then(|| self.number(header::TRUNCATED_LENGTH).unwrap_or(0))
    }

    /// The headers that the event had, in order.
    pub fn own_headers(&self) -> impl Iterator<Item = (&str, Option<&'a [u8]>)> {
        self.headers[..self.own].iter().map(|(name, value)| (&**name, *value))
    }

    /// The event as it is to be produced again: key, value and headers as they were, except for headers of steward's,
    /// which an event has that was replayed before. `None` where the headers do not tell enough.
    #[must_use]
    pub fn replay(&self, dlq_topic: &str) -> Option<ReplayEvent> {
        let (reason, source) = (self.reason()?, self.source()?);
        let own = self.own_headers().filter(|(name, _)| !name.starts_with(OURS));
        let mut headers: Vec<_> = own.map(|(name, value)| (name.to_owned(), value.map(Box::from))).collect();
        let DlqLocation { partition, offset } = self.place;
        let from = format!("{dlq_topic}-{partition}@{offset}");
        headers.push((header::REPLAYED_FROM.to_owned(), Some(from.into_bytes().into())));
        Some(ReplayEvent {
            letter: self.place,
            reason,
            partition: source.partition,
            key: self.key.map(Box::from),
            value: self.value.map(Box::from),
            headers,
            mark: self.mark()?,
        })
    }

    /// What tells this DLQ record from every other, once it was replayed.
    #[must_use]
    pub fn mark(&self) -> Option<ReplayReceipt> {
        let source = self.source()?;
        Some(ReplayReceipt {
            letter: self.place,
            source_partition: source.partition,
            source_offset: source.offset,
            refused_ms: self.timestamp_ms,
        })
    }

    fn last(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.iter().rev().find(|(found, _)| found == name)?.1
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(self.last(name)?).ok()
    }

    fn number<N: std::str::FromStr>(&self, name: &str) -> Option<N> {
        self.text(name)?.parse().ok()
    }
}
