//! A cluster inside this process, for the try-out: librdkafka's mock broker, which speaks Kafka's protocol over
//! loopback.
//!
//! What it is not: its transactions are a facade. It forgets the offsets that are sent in them, shows records before
//! they are committed, and fences nobody; it keeps nothing beyond the process. So it can show what steward does with
//! events, and cannot show exactly-once or recovery.

use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

use crate::kafka::client::settings::embedded_producer;
use crate::record::Partition;

/// How long the records of one call may take to arrive.
const DELIVERY_LIMIT: Duration = Duration::from_secs(30);

/// A record to be produced.
pub struct EmbeddedRecord<'a> {
    /// Into which partition.
    pub partition: Partition,
    /// `None` is null.
    pub key: Option<&'a [u8]>,
    /// `None` is null.
    pub value: Option<&'a [u8]>,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// In order.
    pub headers: &'a [(String, Vec<u8>)],
}

/// The cluster; it ends with this.
pub struct EmbeddedCluster {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

impl EmbeddedCluster {
    /// Starts one broker on a port of its own.
    ///
    /// # Errors
    /// What librdkafka could not do.
    pub fn start() -> Result<EmbeddedCluster, String> {
        let cluster = MockCluster::new(1).map_err(|error| format!("the embedded cluster does not start: {error}"))?;
        let producer = embedded_producer(&cluster.bootstrap_servers())
            .create()
            .map_err(|error| format!("a producer for the embedded cluster cannot be built: {error}"))?;
        Ok(EmbeddedCluster { cluster, producer })
    }

    /// Where clients find it.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// What librdkafka could not do.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), String> {
        self.cluster
            .create_topic(name, partitions, 1)
            .map_err(|error| format!("topic {name} cannot be created: {error}"))
    }

    /// Produces records and waits until they are there.
    ///
    /// # Errors
    /// What librdkafka could not do.
    pub fn produce<'a>(&self, topic: &str, records: impl Iterator<Item = EmbeddedRecord<'a>>) -> Result<(), String> {
        for record in records {
            let mut message =
                BaseRecord::<[u8], [u8]>::to(topic).partition(record.partition.0).timestamp(record.timestamp_ms);
            let mut headers = rdkafka::message::OwnedHeaders::new();
            for (key, value) in record.headers {
                headers = headers.insert(rdkafka::message::Header { key, value: Some(value) });
            }
            message.key = record.key;
            message.payload = record.value;
            message = message.headers(headers);
            self.producer
                .send(message)
                .map_err(|(error, _)| format!("topic {topic} does not take a record: {error}"))?;
        }
        self.producer.flush(DELIVERY_LIMIT).map_err(|error| format!("topic {topic} does not take records: {error}"))
    }
}
