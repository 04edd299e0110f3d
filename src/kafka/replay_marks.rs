//! Owns the topic that says which dead letters were replayed: finding it, creating it, reading it.
//!
//! It stands beside the dead letter topic, with its name and `.replayed`: one record for each dead letter that was
//! replayed ([`Mark`]), in the partition of the dead letter, written in the transaction that replays it. It is compacted,
//! so that no retention forgets a mark; each dead letter has a key of its own, and there is nothing to compact away.
//!
//! Not in the dead letter topic itself: recovery takes the newest records there for the newest refusals.
//!
//! [`Mark`]: crate::dead_letters::Mark

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::access::Heard;
use super::client;
use super::client_context::{ClientEvents, ClientRole, TalkingContext};
use super::guards::{StartRefusal, check_readable, config_command, marks_settings};
use super::replay::ReplayFailure;
use super::topic_reader::{Progress, Scope, TopicReader};
use super::topics::TopicInspector;
use crate::config::Config;
use crate::dead_letters::Replayed;
use crate::ports::Clock;

/// The topic of marks that belongs to a dead letter topic.
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
    scope: Scope,
    limit: Duration,
    clock: &dyn Clock,
    progress: impl FnMut(Progress),
) -> Result<Replayed, ReplayFailure> {
    match TopicReader::open_if_there(config, &topic_of(&config.kafka.dlq_topic), scope, limit, clock)? {
        Some(reader) => read_from(reader, config, progress),
        None => Ok(Replayed::default()),
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
    progress: impl FnMut(Progress),
) -> Result<Replayed, ReplayFailure> {
    let reader = TopicReader::open(config, &topic_of(&config.kafka.dlq_topic), Scope::All, limit, clock)?;
    read_from(reader, config, progress)
}

fn read_from(
    reader: TopicReader<'_>,
    config: &Config,
    progress: impl FnMut(Progress),
) -> Result<Replayed, ReplayFailure> {
    let limit_bytes = config.limits.max_state_bytes;
    let mut replayed = Replayed::default();
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
/// It cannot be created, it is not compacted, or it has fewer partitions than the dead letters.
pub(super) fn prepare(config: &Config, clock: &dyn Clock) -> Result<(), ReplayFailure> {
    let settings = client::admin(config).map_err(super::access::AccessFailure::from)?;
    let heard = Heard::new();
    let context = TalkingContext::new(config, ClientRole::Admin, Arc::clone(&heard) as Arc<dyn ClientEvents>);
    let (kafka, unchecked) = (&config.kafka, config.guards.unchecked);
    let inspector = TopicInspector::new(kafka, unchecked, &settings, &context, clock)?;
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
