//! Owns the conversion of snapshots and DLQ records to Kafka records: which headers, in which order.
//!
//! No timestamp is copied. A record gets its timestamp when it is produced; a DLQ record with the timestamp of an old
//! event could expire at once.

use rdkafka::message::{Header, OwnedHeaders};

use crate::engine::outcome::RejectedEvent;
use crate::record::{Partition, Snapshot, header};

/// A record that is about to be produced.
#[derive(Debug)]
pub struct ProducerRecord<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: Partition,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: OwnedHeaders,
}

impl<'a> ProducerRecord<'a> {
    /// A record without headers. `None` is null.
    #[must_use]
    pub fn new(
        topic: &'a str,
        partition: Partition,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
    ) -> ProducerRecord<'a> {
        ProducerRecord::with_capacity(topic, partition, key, value, 0)
    }

    fn with_capacity(
        topic: &'a str,
        partition: Partition,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        headers: usize,
    ) -> ProducerRecord<'a> {
        ProducerRecord { topic, partition, key, value, headers: OwnedHeaders::new_with_capacity(headers) }
    }

    /// Appends a header.
    #[must_use]
    pub fn header(self, name: &str, value: Option<&[u8]>) -> ProducerRecord<'a> {
        ProducerRecord { headers: self.headers.insert(Header { key: name, value }), ..self }
    }

    /// Bytes of key, value and headers, without the framing of a record batch.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        use rdkafka::message::Headers as _;
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers: usize = self.headers.iter().map(|header| header.key.len() + length(header.value)).sum();
        (length(self.key) + length(self.value) + headers) as u64
    }
}

/// The record of `snapshot` for the state topic.
#[must_use]
pub fn snapshot<'a>(topic: &'a str, group: &str, snapshot: &'a Snapshot) -> ProducerRecord<'a> {
    let value = snapshot.value.as_deref();
    let record = ProducerRecord::with_capacity(topic, snapshot.partition, Some(&snapshot.key), value, 5)
        .header(header::STATE_PARTITION, Some(snapshot.partition.0.to_string().as_bytes()))
        .header(header::STATE_OFFSET, Some(snapshot.newest.0.to_string().as_bytes()))
        .header(header::STATE_GROUP, Some(group.as_bytes()));
    let Some(trace) = &snapshot.trace else { return record };
    let trace = [(header::TRACEPARENT, &trace.traceparent), (header::TRACESTATE, &trace.tracestate)];
    trace.into_iter().fold(record, |record, (name, value)| match value {
        Some(value) => record.header(name, Some(value)),
        None => record,
    })
}

/// The record of `rejected` for the DLQ topic: the event as it was, then why it was rejected.
#[must_use]
pub fn dlq_record<'a>(topic: &'a str, source_topic: &str, rejected: &'a RejectedEvent) -> ProducerRecord<'a> {
    let event = rejected.record();
    let partition = rejected.batch.partition();
    let value = event.value.filter(|_| !rejected.truncated);
    let record = ProducerRecord::with_capacity(topic, partition, event.key, value, event.headers.len() + 8);
    let record = event.headers.iter().fold(record, |record, header| record.header(header.name, header.value));
    let timestamp_ms = event.timestamp_ms.unwrap_or(-1);
    let record = record
        .header(header::REASON, Some(rejected.rejection.reason.code().as_bytes()))
        .header(header::DETAIL, Some(rejected.rejection.detail.as_bytes()))
        .header(header::SOURCE_TOPIC, Some(source_topic.as_bytes()))
        .header(header::SOURCE_PARTITION, Some(partition.0.to_string().as_bytes()))
        .header(header::SOURCE_OFFSET, Some(event.offset.0.to_string().as_bytes()))
        .header(header::SOURCE_TIMESTAMP, Some(timestamp_ms.to_string().as_bytes()));
    if !rejected.truncated {
        return record;
    }
    let length = event.value.map_or(0, <[u8]>::len).to_string();
    record.header(header::TRUNCATED, Some(b"true")).header(header::TRUNCATED_LENGTH, Some(length.as_bytes()))
}
