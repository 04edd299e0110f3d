//! Owns the topic of receipts: its name, its creation, and reading it.
//!
//! Its name is that of the DLQ topic and `.replayed`. It has one record ([`ReplayReceipt`]) for each DLQ record that was
//! replayed, in the partition of the DLQ record, written in the transaction that replays it. The topic is compacted, so
//! that no retention deletes a receipt. Each DLQ record has a key of its own, so compaction removes nothing.
//!
//! Receipts are not in the DLQ topic itself: recovery takes the newest records there for the newest rejections.
//!
//! [`ReplayReceipt`]: crate::tools::dlq::ReplayReceipt

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::kafka::admin::access::ClientMessages;
use crate::kafka::admin::new_topic::receipts_topic_settings;
use crate::kafka::admin::preflight::{StartRefusal, check_readable, config_command};
use crate::kafka::admin::topics::TopicInspector;
use crate::kafka::client::context::{ClientEvents, ClientRole, ReportingContext};
use crate::kafka::reader::topic_reader::{ReadScope, TopicProgress, TopicReader};
use crate::ports::Clock;
use crate::tools::dlq::receipt::ReplayReceipts;
use crate::tools::dlq::replay_failure::ReplayFailure;

/// Returns the name of the receipts topic of a DLQ topic.
pub fn topic_of(dlq_topic: &str) -> String {
    format!("{dlq_topic}.replayed")
}

/// Reads all receipts of the partitions in `scope`. Without the topic there are none.
///
/// # Errors
/// The topic cannot be read, it has a record that is no receipt, or the receipts exceed `limits.max_state_bytes`.
pub fn read(
    config: &Config,
    scope: ReadScope,
    limit: Duration,
    clock: &dyn Clock,
    progress: impl FnMut(TopicProgress),
) -> Result<ReplayReceipts, ReplayFailure> {
    match TopicReader::open_if_exists(config, &topic_of(&config.kafka.dlq_topic), scope, limit, clock)? {
        Some(reader) => read_from(reader, config, progress),
        None => Ok(ReplayReceipts::default()),
    }
}

/// Like [`read`], for a topic that must exist.
pub(super) fn read_existing(
    config: &Config,
    limit: Duration,
    clock: &dyn Clock,
    progress: impl FnMut(TopicProgress),
) -> Result<ReplayReceipts, ReplayFailure> {
    let reader = TopicReader::open(config, &topic_of(&config.kafka.dlq_topic), ReadScope::All, limit, clock)?;
    read_from(reader, config, progress)
}

fn read_from(
    reader: TopicReader<'_>,
    config: &Config,
    progress: impl FnMut(TopicProgress),
) -> Result<ReplayReceipts, ReplayFailure> {
    let limit_bytes = config.limits.max_state_bytes;
    let mut replayed = ReplayReceipts::default();
    let mut failure = None;
    let read = reader.read(
        |record| {
            failure = match replayed.take(record.key(), record.value()) {
                Err(problem) => Some(ReplayFailure::ForeignRecord {
                    topic: topic_of(&config.kafka.dlq_topic),
                    partition: record.partition(),
                    offset: record.offset(),
                    problem,
                }),
                Ok(()) if replayed.held_bytes() > limit_bytes => Some(ReplayFailure::TooManyReceipts { limit_bytes }),
                Ok(()) => None,
            };
            if failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
        progress,
    );
    match failure {
        Some(failure) => Err(failure),
        None => read.map(|()| replayed).map_err(ReplayFailure::from),
    }
}

/// Creates the receipts topic if it does not exist, and checks that it keeps every receipt.
///
/// # Errors
/// It cannot be created, it is not compacted, or it has fewer partitions than the DLQ records.
pub(super) fn prepare(config: &Config, clock: &dyn Clock) -> Result<(), ReplayFailure> {
    let messages = ClientMessages::new();
    let context = ReportingContext::new(config, ClientRole::Admin, Arc::clone(&messages) as Arc<dyn ClientEvents>);
    let (kafka, unchecked) = (&config.kafka, config.guards.unchecked);
    let inspector = TopicInspector::new(config, &context, clock)?;
    let [dlq, receipts] = inspector
        .find_or_create_beside(&kafka.dlq_topic, &topic_of(&kafka.dlq_topic), receipts_topic_settings)
        .map_err(|refusal| match (refusal, messages.last()) {
            // The error of the request says only that there was no response.
            (StartRefusal::BrokersUnreachable { bootstrap, .. }, Some(cause)) => {
                StartRefusal::BrokersUnreachable { bootstrap, cause }
            }
            (refusal, _) => refusal,
        })?;
    if receipts.partitions < dlq.partitions {
        let (servers, topic, needed) = (&kafka.bootstrap_servers, &receipts.name, dlq.partitions);
        let command =
            format!("kafka-topics.sh --bootstrap-server {servers} --alter --topic {topic} --partitions {needed}");
        let (topic, found) = (receipts.name, receipts.partitions);
        return Err(ReplayFailure::TooFewPartitions { topic, found, needed, command });
    }
    // If the settings may not be read and that is allowed, the operator is responsible for them.
    check_readable(&kafka.bootstrap_servers, &receipts, unchecked)?;
    let cleanup = receipts.settings.and_then(|settings| settings.cleanup);
    if cleanup.is_some_and(|cleanup| !cleanup.only_compacts()) {
        let command = config_command(&kafka.bootstrap_servers, &receipts.name, "cleanup.policy=compact");
        return Err(ReplayFailure::NotCompacted { topic: receipts.name, command });
    }
    Ok(())
}
