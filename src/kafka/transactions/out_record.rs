//! Writes snapshots and DLQ records down as Kafka records: which headers, in which order.
//!
//! No timestamp is copied: a record is stamped when it is produced, or a DLQ record of an old event would expire at
//! once.

use rdkafka::message::{Header, OwnedHeaders};

use crate::engine::outcome::RejectedEvent;
use crate::record::{Snapshot, header};

/// A record that is about to be produced.
#[derive(Debug)]
pub struct OutRecord<'a> {
    /// Where it goes.
    pub topic: &'a str,
    /// The partition of the event that it came from.
    pub partition: i32,
    /// `None` is null.
    pub key: Option<&'a [u8]>,
    /// `None` is null: a tombstone, or a truncated DLQ record.
    pub value: Option<&'a [u8]>,
    /// In order.
    pub headers: OwnedHeaders,
}

/// The state topic's record of `snapshot`.
#[must_use]
pub fn snapshot<'a>(topic: &'a str, group: &str, snapshot: &'a Snapshot) -> OutRecord<'a> {
    let mut headers = OwnedHeaders::new_with_capacity(5);
    headers = put(headers, header::STATE_PARTITION, snapshot.partition.0.to_string().as_bytes());
    headers = put(headers, header::STATE_OFFSET, snapshot.newest.0.to_string().as_bytes());
    headers = put(headers, header::STATE_GROUP, group.as_bytes());
    if let Some(trace) = &snapshot.trace {
        if let Some(value) = &trace.traceparent {
            headers = put(headers, header::TRACEPARENT, value);
        }
        if let Some(value) = &trace.tracestate {
            headers = put(headers, header::TRACESTATE, value);
        }
    }
    OutRecord {
        topic,
        partition: snapshot.partition.0,
        key: Some(&snapshot.key),
        value: snapshot.value.as_deref(),
        headers,
    }
}

/// The DLQ topic's record of `letter`: the event as it was, then why it is here.
#[must_use]
pub fn dlq_record<'a>(topic: &'a str, source_topic: &str, letter: &'a RejectedEvent) -> OutRecord<'a> {
    let event = letter.record();
    let partition = letter.batch.partition().0;
    let mut headers = OwnedHeaders::new_with_capacity(event.headers.len() + 8);
    for original in event.headers.iter() {
        headers = headers.insert(Header { key: original.name, value: original.value });
    }
    headers = put(headers, header::REASON, letter.rejection.reason.code().as_bytes());
    headers = put(headers, header::DETAIL, letter.rejection.detail.as_bytes());
    headers = put(headers, header::SOURCE_TOPIC, source_topic.as_bytes());
    headers = put(headers, header::SOURCE_PARTITION, partition.to_string().as_bytes());
    headers = put(headers, header::SOURCE_OFFSET, event.offset.0.to_string().as_bytes());
    headers = put(headers, header::SOURCE_TIMESTAMP, event.timestamp_ms.unwrap_or(-1).to_string().as_bytes());
    let mut value = event.value;
    if letter.truncated {
        headers = put(headers, header::TRUNCATED, b"true");
        headers = put(headers, header::TRUNCATED_LENGTH, value.map_or(0, <[u8]>::len).to_string().as_bytes());
        value = None;
    }
    OutRecord { topic, partition, key: event.key, value, headers }
}

fn put(headers: OwnedHeaders, name: &str, value: &[u8]) -> OwnedHeaders {
    headers.insert(Header { key: name, value: Some(value) })
}
