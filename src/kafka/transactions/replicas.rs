//! Finds a partition of the outputs to which no broker can write for now.
//!
//! While too few replicas of a partition are in sync, the coordinator cannot write the markers that end a transaction.
//! It then answers CONCURRENT_TRANSACTIONS to each registration, and names neither the topic nor the reason. The metadata
//! of the topics show both.

use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::KafkaResult;
use rdkafka::metadata::MetadataTopic;

/// Limit of one request. A transaction waits for it.
const LOOK_LIMIT: Duration = Duration::from_millis(500);

/// A partition to which no broker can write, and Kafka's name for the reason.
pub(super) struct UnwritablePartition {
    pub(super) partition: i32,
    pub(super) code: &'static str,
}

/// Returns the first such partition of the topic; `None` if there is none. Without `min_in_sync` only a partition without
/// a leader is found.
///
/// # Errors
/// No broker responds in time.
pub(super) fn unwritable_partition<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    min_in_sync: Option<i64>,
) -> KafkaResult<Option<UnwritablePartition>> {
    let metadata = client.fetch_metadata(Some(topic), LOOK_LIMIT)?;
    let mut partitions =
        metadata.topics().iter().filter(|found| found.name() == topic).flat_map(MetadataTopic::partitions);
    let unwritable = partitions.find_map(|partition| {
        let (in_sync, replicas) = (partition.isr().len(), partition.replicas().len());
        // The broker lowers the minimum to the number of replicas.
        let min = min_in_sync.map_or(0, |min| usize::try_from(min).unwrap_or(0).min(replicas));
        let code = if partition.leader() < 0 {
            "LEADER_NOT_AVAILABLE"
        } else if in_sync < min {
            "NOT_ENOUGH_REPLICAS"
        } else {
            return None;
        };
        Some(UnwritablePartition { partition: partition.id(), code })
    });
    Ok(unwritable)
}
