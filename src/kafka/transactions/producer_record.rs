//! Owns the conversion of output records to the client's records.
//!
//! No timestamp is copied. A record gets its timestamp when it is produced; a DLQ record with the timestamp of an old
//! event could expire at once.

use rdkafka::message::{Header, OwnedHeaders};

use crate::engine::outcome::{OutputRecord, RecordOrigin};
use crate::record::Partition;

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
    /// Returns a record without headers. `None` is null.
    pub fn new(
        topic: &'a str,
        partition: Partition,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
    ) -> ProducerRecord<'a> {
        ProducerRecord { topic, partition, key, value, headers: OwnedHeaders::new_with_capacity(0) }
    }

    pub fn header(self, name: &str, value: Option<&[u8]>) -> ProducerRecord<'a> {
        ProducerRecord { headers: self.headers.insert(Header { key: name, value }), ..self }
    }

    /// Bytes of key, value and headers, without the framing of a record batch.
    pub fn weight_bytes(&self) -> u64 {
        use rdkafka::message::Headers as _;
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers: usize = self.headers.iter().map(|header| header.key.len() + length(header.value)).sum();
        (length(self.key) + length(self.value) + headers) as u64
    }
}

/// Converts a record of an output, for the output's topic.
pub fn of_output<'a>(topic: &'a str, origin: &RecordOrigin<'_>, record: &'a OutputRecord) -> ProducerRecord<'a> {
    let headers = OwnedHeaders::new_with_capacity(record.max_headers());
    let empty =
        ProducerRecord { topic, partition: record.partition, key: record.key(), value: record.value(), headers };
    record.fold_headers(origin, empty, ProducerRecord::header)
}
