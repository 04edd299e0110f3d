//! Asks what the group has committed, once no transaction is open on it.
//!
//! RequireStable comes with `isolation.level=read_committed` (KIP-447): while a transaction holds offsets of the
//! partition, the broker says UNSTABLE_OFFSET_COMMIT, and the client asks again until the limit.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::engine::commit::transaction::Committed;
use crate::kafka::client::ffi::metadata_of;
use crate::kafka::client::settings::uses_tokens;
use crate::record::{Partition, Position};

/// Callbacks that are served in one go. Log lines are among them, and with the library's `debug` there are many.
pub(crate) const CALLBACKS_AT_A_TIME: usize = 256;

/// How long a new client is polled before its first request, where it needs an access token.
const FIRST_TOKEN_POLL: Duration = Duration::from_millis(100);

/// Lets a consumer that is assigned nothing call back: errors, statistics, the refresh of access tokens. At most a few
/// at a time. An empty answer does not tell whether the queue is empty or something was served, hence the fixed number.
pub fn serve<C: ConsumerContext>(consumer: &BaseConsumer<C>) {
    for _ in 0..CALLBACKS_AT_A_TIME {
        // An error has gone to the context already.
        drop(consumer.poll(Duration::ZERO));
    }
}

/// Builds a consumer that is never subscribed.
///
/// # Errors
/// The client's error: a property that does not exist, a file that cannot be read.
pub fn build<C: ConsumerContext>(config: &ClientConfig, context: C) -> Result<BaseConsumer<C>, KafkaError> {
    let consumer: BaseConsumer<C> = config.create_with_context(context)?;
    if C::ENABLE_REFRESH_OAUTH_TOKEN && uses_tokens(config) {
        // The first token is asked for by a callback, which only a poll serves.
        drop(consumer.poll(FIRST_TOKEN_POLL));
    }
    Ok(consumer)
}

/// The group's committed position and mark for each of `partitions`, in their order; `None` where there is none.
///
/// `asker` has the settings of a reader of committed records.
///
/// # Errors
/// The client's error, for the request or for the first partition that has one.
pub fn committed<C: ConsumerContext>(
    asker: &BaseConsumer<C>,
    topic: &str,
    partitions: &[Partition],
    limit: Duration,
) -> Result<Vec<(Partition, Option<Committed>)>, KafkaError> {
    let mut asked = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        asked.add_partition(topic, partition.0);
    }
    serve(asker);
    let told = asker.committed_offsets(asked, limit)?;
    let marks = metadata_of(&told);
    let mut found = std::collections::HashMap::with_capacity(partitions.len());
    for (element, mark) in told.elements().into_iter().zip(marks) {
        element.error()?;
        let committed = match element.offset() {
            Offset::Offset(position) => Some(Committed { position: Position(position), metadata: mark }),
            Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => None,
        };
        found.insert(element.partition(), committed);
    }
    Ok(partitions.iter().map(|partition| (*partition, found.remove(&partition.0).flatten())).collect())
}
