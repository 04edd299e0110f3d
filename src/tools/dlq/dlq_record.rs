//! One record of the DLQ topic, and the event that can be made of it again.

use std::borrow::Cow;

use crate::entity::Reason;
use crate::record::{Offset, Partition, header};
use crate::tools::dlq::location::DlqLocation;
use crate::tools::dlq::receipt::{ReplayReceipt, ReplayReceipts};

/// Prefix of steward's own headers.
const OURS: &str = "steward-";

/// Size of a record without its key, value and headers, in bytes.
const RECORD_BYTES: usize = 128;

/// Where the event of a DLQ record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventSourceHeaders<'a> {
    pub topic: &'a str,
    pub partition: Partition,
    pub offset: Offset,
    /// The event's timestamp in milliseconds since 1970; `None` if it had none.
    pub timestamp_ms: Option<i64>,
}

/// What a DLQ record lacks of its event. `None`: that part is complete, or was null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncation<'a> {
    /// Length of the value.
    pub value_bytes: Option<u64>,
    /// Number of the event's headers.
    pub headers: Option<u64>,
    /// Length of the key, of which the record has the first bytes.
    pub key_bytes: Option<u64>,
    /// Hash of the whole key, in hexadecimal digits.
    pub key_sha256: Option<&'a str>,
}

#[derive(Debug, Clone)]
pub struct DlqRecord<'a> {
    pub location: DlqLocation,
    /// When it was produced, in milliseconds since 1970: when the event was refused.
    pub timestamp_ms: Option<i64>,
    /// The event's key; `None` is null. May be cut ([`DlqRecord::truncation`]).
    pub key: Option<&'a [u8]>,
    /// The event's value; `None` is null, or left out ([`DlqRecord::truncation`]).
    pub value: Option<&'a [u8]>,
    headers: Vec<(Cow<'a, str>, Option<&'a [u8]>)>,
    /// How many of the headers are the event's.
    own: usize,
}

/// An event that is to be produced to the input again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayEvent {
    pub location: DlqLocation,
    pub reason: Reason,
    /// Where it goes: the partition that it came from. An entity is a key in a partition.
    pub partition: Partition,
    /// `None` is null, as in the value.
    pub key: Option<Box<[u8]>>,
    pub value: Option<Box<[u8]>>,
    /// The event's own headers, then the one that names the DLQ record.
    pub headers: Vec<(String, Option<Box<[u8]>>)>,
    /// Sent with the event in one transaction.
    pub receipt: ReplayReceipt,
}

impl ReplayEvent {
    /// What the two records weigh in a transaction, in bytes.
    pub fn weight_bytes(&self) -> usize {
        let length = |bytes: &Option<Box<[u8]>>| bytes.as_ref().map_or(0, |bytes| bytes.len());
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + length(value)).sum();
        length(&self.key) + length(&self.value) + headers + 2 * RECORD_BYTES
    }
}

impl<'a> DlqRecord<'a> {
    /// Reads a record of the DLQ topic; `headers` in the order of the record.
    pub fn new(
        location: DlqLocation,
        timestamp_ms: Option<i64>,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        headers: Vec<(Cow<'a, str>, Option<&'a [u8]>)>,
    ) -> DlqRecord<'a> {
        // Steward's follow the event's. The event may have had one of the name itself, before.
        let own = headers.iter().rposition(|(name, _)| name == header::REASON).unwrap_or(headers.len());
        DlqRecord { location, timestamp_ms, key, value, headers, own }
    }

    /// Returns the code of the rule that the event broke; `None` if the header is missing or is not UTF-8.
    pub fn reason_code(&self) -> Option<&str> {
        self.text(header::REASON)
    }

    /// Returns the rule that the event broke, if this version knows its code.
    pub fn reason(&self) -> Option<Reason> {
        let code = self.reason_code()?;
        Reason::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// Returns the group that rejected the event; `None` in records of releases before 0.2.
    pub fn group(&self) -> Option<Cow<'_, str>> {
        let ours = &self.headers[self.own..];
        let group = ours.iter().rev().find(|(name, _)| name == header::GROUP)?.1?;
        Some(String::from_utf8_lossy(group))
    }

    pub fn detail(&self) -> Option<Cow<'_, str>> {
        self.last(header::DETAIL).map(String::from_utf8_lossy)
    }

    /// Returns where the event came from; `None` if the headers do not have it.
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

    /// Returns what was too large for the DLQ topic and is not in the record; `None` if the event is complete.
    pub fn truncation(&self) -> Option<Truncation<'a>> {
        (self.text(header::TRUNCATED) == Some("true")).then(|| Truncation {
            value_bytes: self.number(header::TRUNCATED_LENGTH),
            headers: self.number(header::TRUNCATED_HEADERS),
            key_bytes: self.number(header::TRUNCATED_KEY_LENGTH),
            key_sha256: self.text(header::TRUNCATED_KEY_SHA256),
        })
    }

    /// Returns the headers of the event itself, in order.
    pub fn own_headers(&self) -> impl Iterator<Item = (&str, Option<&'a [u8]>)> {
        self.headers[..self.own].iter().map(|(name, value)| (&**name, *value))
    }

    /// The event as it is to be produced again: key, value and headers as they were, except for headers of steward's,
    /// which an event has that was replayed before. `None` if a header is missing.
    pub fn replay(&self, dlq_topic: &str) -> Option<ReplayEvent> {
        let (reason, source) = (self.reason()?, self.source()?);
        let own = self.own_headers().filter(|(name, _)| !name.starts_with(OURS));
        let mut headers: Vec<_> = own.map(|(name, value)| (name.to_owned(), value.map(Box::from))).collect();
        let DlqLocation { partition, offset } = self.location;
        let from = format!("{dlq_topic}-{partition}@{offset}");
        headers.push((header::REPLAYED_FROM.to_owned(), Some(from.into_bytes().into())));
        Some(ReplayEvent {
            location: self.location,
            reason,
            partition: source.partition,
            key: self.key.map(Box::from),
            value: self.value.map(Box::from),
            headers,
            receipt: self.receipt()?,
        })
    }

    /// Returns the receipt of a replay of this DLQ record; `None` if a header is missing.
    pub fn receipt(&self) -> Option<ReplayReceipt> {
        let source = self.source()?;
        Some(ReplayReceipt {
            location: self.location,
            source_partition: source.partition,
            source_offset: source.offset,
            refused_ms: self.timestamp_ms,
        })
    }

    /// Returns whether there is a receipt of this DLQ record. Without the headers of a receipt there is none.
    pub fn is_replayed(&self, receipts: &ReplayReceipts) -> bool {
        self.receipt().is_some_and(|receipt| receipts.contains(&receipt))
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
