//! A cluster inside this process, for `steward demo`: librdkafka's mock broker, which implements Kafka's protocol over
//! loopback.
//!
//! Absent: real transactions. The mock broker drops the offsets that are sent in them, shows records before they are
//! committed, fences no producer, and stores nothing beyond the process. So it can show how steward processes events,
//! but neither exactly-once nor recovery.

use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer};

use crate::kafka::client::settings::embedded_producer;
use crate::kafka::plain_producer::PlainRecord;

/// Limit of the delivery of one call's records.
const DELIVERY_LIMIT: Duration = Duration::from_secs(30);

/// The cluster. Dropping it ends the mock broker.
pub struct EmbeddedCluster {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

impl EmbeddedCluster {
    /// Starts one broker on a port of its own.
    ///
    /// # Errors
    /// librdkafka's error, with what failed.
    pub fn start() -> Result<EmbeddedCluster, String> {
        let cluster = MockCluster::new(1).map_err(|error| format!("the embedded cluster does not start: {error}"))?;
        let producer = embedded_producer(&cluster.bootstrap_servers())
            .create()
            .map_err(|error| format!("a producer for the embedded cluster cannot be built: {error}"))?;
        Ok(EmbeddedCluster { cluster, producer })
    }

    pub fn bootstrap_servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// # Errors
    /// librdkafka's error, with what failed.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), String> {
        self.cluster
            .create_topic(name, partitions, 1)
            .map_err(|error| format!("topic {name} cannot be created: {error}"))
    }

    /// Produces records and waits for their delivery.
    ///
    /// # Errors
    /// librdkafka's error, with what failed.
    pub fn produce<'a>(&self, topic: &str, records: impl Iterator<Item = PlainRecord<'a>>) -> Result<(), String> {
        for record in records {
            self.producer
                .send(record.for_client(topic, ()))
                .map_err(|(error, _)| format!("topic {topic} does not take a record: {error}"))?;
        }
        self.producer.flush(DELIVERY_LIMIT).map_err(|error| format!("topic {topic} does not take records: {error}"))
    }
}
