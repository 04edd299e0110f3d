//! Owns the topic that says which DLQ records were replayed: finding it, creating it, reading it.
//!
//! It stands beside the DLQ topic, with its name and `.replayed`: one record for each DLQ record that was
//! replayed ([`Mark`]), in the partition of the DLQ record, written in the transaction that replays it. It is compacted,
//! so that no retention forgets a mark; each DLQ record has a key of its own, and there is nothing to compact away.
//!
//! Not in the DLQ topic itself: recovery takes the newest records there for the newest refusals.
//!
//! [`Mark`]: crate::tools::dlq::ReplayReceipt

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::kafka::admin::access::ClientMessages;
use crate::kafka::admin::preflight::{StartRefusal, check_readable, config_command, marks_settings};
use crate::kafka::admin::topics::TopicInspector;
use crate::kafka::client::context::{ClientEvents, ClientRole, ReportingContext};
use crate::kafka::reader::topic_reader::{ReadScope, TopicProgress, TopicReader};
use crate::ports::Clock;
use crate::tools::dlq::receipt::ReplayReceipts;
use crate::tools::dlq::replay_failure::ReplayFailure;

/// The topic of marks that belongs to a DLQ topic.
#[must_use]
pub fn topic_of(dlq_topic: &str) -> String {
    format!("{dlq_topic}.replayed")
}

/// Reads all marks of the partitions in `scope`; without the topic there are none.
///
/// # Errors
/// It cannot be read, something else stands in it, or the marks exceed `limits.max_state_bytes`.
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

/// The same, where the topic has to be there.
///
/// # Errors
/// As [`read`], and where it is not there.
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
                Err(problem) => Some(ReplayFailure::ForeignMark {
                    topic: topic_of(&config.kafka.dlq_topic),
                    partition: record.partition(),
                    offset: record.offset(),
                    problem,
                }),
                Ok(()) if replayed.held_bytes() > limit_bytes => Some(ReplayFailure::TooManyMarks { limit_bytes }),
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

/// Makes sure that the topic of marks is there and keeps what it is told.
///
/// # Errors
/// It cannot be created, it is not compacted, or it has fewer partitions than the DLQ records.
pub(super) fn prepare(config: &Config, clock: &dyn Clock) -> Result<(), ReplayFailure> {
    let heard = ClientMessages::new();
    let context = ReportingContext::new(config, ClientRole::Admin, Arc::clone(&heard) as Arc<dyn ClientEvents>);
    let (kafka, unchecked) = (&config.kafka, config.guards.unchecked);
    let inspector = TopicInspector::new(config, &context, clock)?;
    let [dlq, marks] = inspector
        .find_or_create_beside(&kafka.dlq_topic, &topic_of(&kafka.dlq_topic), marks_settings)
        .map_err(|refusal| match (refusal, heard.last()) {
        // The question's own error says only that no answer came.
        (StartRefusal::BrokersUnreachable { bootstrap, .. }, Some(cause)) => {
            StartRefusal::BrokersUnreachable { bootstrap, cause }
        }
        (refusal, _) => refusal,
    })?;
    if marks.partitions < dlq.partitions {
        let (servers, topic, needed) = (&kafka.bootstrap_servers, &marks.name, dlq.partitions);
        let command =
            format!("kafka-topics.sh --bootstrap-server {servers} --alter --topic {topic} --partitions {needed}");
        return Err(ReplayFailure::TooFewPartitions {
            topic: marks.name.clone(),
            found: marks.partitions,
            needed,
            command,
        });
    }
    // Where it may not be looked at and that is allowed, somebody else sees to it.
    check_readable(&kafka.bootstrap_servers, &marks, unchecked)?;
    if marks.settings.is_some_and(|settings| !settings.compacts || settings.deletes) {
        let command = config_command(&kafka.bootstrap_servers, &marks.name, "cleanup.policy=compact");
        return Err(ReplayFailure::NotCompacted { topic: marks.name, command });
    }
    Ok(())
}
