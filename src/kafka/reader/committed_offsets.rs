//! Fetches the group's committed offsets, once no transaction is open on them.
//!
//! RequireStable comes with `isolation.level=read_committed` (KIP-447): while a transaction holds offsets of the
//! partition, the broker responds with UNSTABLE_OFFSET_COMMIT, and the client repeats the request until the limit.
//!
//! The fetch is with the readers, not with the consumer: the client never joins the group.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::engine::commit::transaction::CommittedOffset;
use crate::kafka::client::ffi::metadata_of;
use crate::kafka::client::unsubscribed::serve;
use crate::record::{Partition, Position};

/// Returns the committed position and metadata of each of `partitions`, in their order; `None` if there is none.
///
/// `client` has the settings of a reader of committed records.
///
/// # Errors
/// The client's error, for the request or for the first partition that has one.
pub fn committed_offsets<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: &str,
    partitions: &[Partition],
    limit: Duration,
) -> Result<Vec<(Partition, Option<CommittedOffset>)>, KafkaError> {
    let mut request = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        request.add_partition(topic, partition.0);
    }
    serve(client);
    let response = client.committed_offsets(request, limit)?;
    let mut found = HashMap::with_capacity(partitions.len());
    for (element, metadata) in response.elements().into_iter().zip(metadata_of(&response)) {
        element.error()?;
        let Offset::Offset(position) = element.offset() else { continue };
        found.insert(element.partition(), CommittedOffset { position: Position(position), metadata });
    }
    Ok(partitions.iter().map(|partition| (*partition, found.remove(&partition.0))).collect())
}
