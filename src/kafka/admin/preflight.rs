//! Decides whether three topics fit together. Pure: `topics` collects the facts, `new_topic` has the settings of a
//! missing topic.
//!
//! A failed preflight check refuses the start. The refusal has the cause, then the remedy, as a command if there is one.
//! A wrong topic is worse than no service: another partition count separates keys from their state, a state topic that
//! deletes loses entities, a compacted input loses events.

use crate::config::Unchecked;
use crate::kafka::admin::new_topic::{largest_segment_bytes, small_segments};
use crate::kafka::admin::topic_facts::{
    Demands, HEADROOM_BYTES, INDEFINITE_MS, TOMBSTONE_RETENTION_MS, TopicFacts, TopicSettings, record_bytes,
};
use crate::observability::log_events::PreflightCheck;

/// Why the process does not start: the cause, then the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartRefusal {
    #[error(
        "no broker of {bootstrap} answers ({cause}); check kafka.bootstrap_servers, kafka.security and the network"
    )]
    BrokersUnreachable { bootstrap: String, cause: String },
    #[error(
        "topic {topic} does not exist, after waiting for {waited_ms} ms; create it, or correct kafka.topic: steward never creates its input"
    )]
    InputMissing { topic: String, waited_ms: u64 },
    /// The state or the DLQ topic does not exist, and creating it failed or is not allowed.
    #[error("topic {topic} does not exist ({cause}); create it: {command}{}", and(also.as_deref()))]
    OutputMissing {
        topic: String,
        cause: String,
        command: String,
        /// The other output topic, if it is missing as well, so that both can be created at once.
        also: Option<Box<StartRefusal>>,
    },
    #[error(
        "topic {topic} is compacted, which drops events that were not read yet; set cleanup.policy=delete: {command}"
    )]
    InputCompacted { topic: String, command: String },
    #[error(
        "topic {topic} must have cleanup.policy=compact and nothing else, or entities are lost or the log grows without end: {command}"
    )]
    StateNotCompacted { topic: String, command: String },
    #[error(
        "topic {topic} is compacted, which drops all but the newest DLQ record of a key; set cleanup.policy=delete: {command}"
    )]
    DlqCompacted { topic: String, command: String },
    #[error(
        "topic {topic} has {found} partitions, input {input} has {expected}; create new topics with {expected} partitions and replay the input into them: adding partitions would move keys away from their state"
    )]
    PartitionsDiffer { topic: String, found: i32, input: String, expected: i32 },
    #[error(
        "topic {topic} has delete.retention.ms={found}, at least {needed} are needed; a deleted entity could come back in a recovery: {command} (where the platform caps it, set guards.tombstone_retention_ms)"
    )]
    TombstonesTooShort {
        topic: String,
        found: i64,
        /// In milliseconds.
        needed: i64,
        command: String,
    },
    #[error("topic {topic} has max.message.bytes={found}, {needed} are needed for what fits the input: {command}")]
    RecordsTooSmall {
        topic: String,
        found: i64,
        /// In bytes.
        needed: i64,
        command: String,
    },
    #[error(
        "the configuration of topic {topic} may not be read, so that its preflight checks cannot run; grant the ACL: {command} (or set guards.unchecked = \"allow\")"
    )]
    Unchecked { topic: String, command: String },
    #[error(
        "the broker does not report {names} of topic {topic}, so that its preflight checks cannot run; check them with the provider's tools against docs/operating.md, then set guards.unchecked = \"allow\""
    )]
    NotReported {
        topic: String,
        /// Separated by commas.
        names: String,
    },
    #[error("{what} failed ({cause}); check that the brokers are healthy and that this user has the ACLs it needs")]
    Broker { what: String, cause: String },
    #[error("stopped while waiting for topic {topic}")]
    Interrupted { topic: String },
}

fn and(also: Option<&StartRefusal>) -> String {
    also.map_or(String::new(), |also| format!("; {also}"))
}

impl StartRefusal {
    /// Adds `other` to this refusal if both are missing outputs.
    pub fn and_missing(mut self, other: StartRefusal) -> StartRefusal {
        if let (StartRefusal::OutputMissing { also, .. }, StartRefusal::OutputMissing { .. }) = (&mut self, &other) {
            *also = Some(Box::new(other));
        }
        self
    }

    /// Returns the check that failed; `None` if the start was interrupted.
    pub fn check(&self) -> Option<PreflightCheck> {
        match self {
            StartRefusal::BrokersUnreachable { .. } => Some(PreflightCheck::BrokersReachable),
            StartRefusal::InputMissing { .. } => Some(PreflightCheck::InputExists),
            StartRefusal::OutputMissing { .. } => Some(PreflightCheck::OutputsExist),
            StartRefusal::InputCompacted { .. } => Some(PreflightCheck::InputNotCompacted),
            StartRefusal::StateNotCompacted { .. } => Some(PreflightCheck::StateCompacted),
            StartRefusal::DlqCompacted { .. } => Some(PreflightCheck::DlqNotCompacted),
            StartRefusal::PartitionsDiffer { .. } => Some(PreflightCheck::PartitionCounts),
            StartRefusal::TombstonesTooShort { .. } => Some(PreflightCheck::TombstoneRetention),
            StartRefusal::RecordsTooSmall { .. } => Some(PreflightCheck::RecordSize),
            StartRefusal::Unchecked { .. } | StartRefusal::NotReported { .. } => {
                Some(PreflightCheck::ConfigurationReadable)
            }
            StartRefusal::Broker { .. } => Some(PreflightCheck::BrokerAnswers),
            StartRefusal::Interrupted { .. } => None,
        }
    }
}

/// A finding that an operator should see, and that does not prevent the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartWarning {
    /// The preflight checks of this topic were skipped, as configured.
    #[error(
        "the configuration of topic {topic} may not be read, its preflight checks do not run; grant the ACL: {command}"
    )]
    Unchecked { topic: String, command: String },
    /// The broker does not report some settings.
    #[error("the broker does not report {names} of topic {topic}, their checks do not run")]
    NotReported {
        topic: String,
        /// Separated by commas.
        names: String,
    },
    /// The guarantees hold, but the setting has a cost.
    #[error("topic {topic} has {setting}={found}, {why}; {command}")]
    Advised { topic: String, setting: &'static str, found: i64, why: String, command: String },
}

/// Returns the first refusal, or the warnings: checks that could not run, and settings that should be changed.
pub fn check(
    bootstrap: &str,
    input: &TopicFacts,
    state: &TopicFacts,
    dlq: &TopicFacts,
    demands: &Demands,
) -> Result<Vec<StartWarning>, StartRefusal> {
    if state.partitions != input.partitions {
        return Err(counts_differ(state, input));
    }
    if dlq.partitions < input.partitions {
        return Err(counts_differ(dlq, input));
    }
    let mut warnings = Vec::new();
    // A bound that is configured does not rest on the input's retention.
    let input_names: &[SettingRead] = if demands.tombstone_retention_ms.is_some() {
        &[CLEANUP_POLICY, MAX_MESSAGE_BYTES]
    } else {
        &[CLEANUP_POLICY, RETENTION_MS, SEGMENT_MS, MAX_MESSAGE_BYTES]
    };
    let state_names = [CLEANUP_POLICY, DELETE_RETENTION_MS, MAX_MESSAGE_BYTES];
    let names = [(input, input_names), (state, &state_names), (dlq, &[CLEANUP_POLICY, MAX_MESSAGE_BYTES])];
    for (topic, names) in names {
        warnings.extend(check_readable(bootstrap, topic, demands.unchecked)?);
        warnings.extend(check_reported(topic, names, demands.unchecked)?);
    }
    check_input(bootstrap, input)?;
    if let Some(settings) = &state.settings {
        check_state(bootstrap, state, settings, input, demands)?;
        warnings.extend(advise_state(bootstrap, state, settings, input, demands));
    }
    if let Some(settings) = &dlq.settings {
        if settings.cleanup.is_some_and(|cleanup| cleanup.compacts) {
            let command = config_command(bootstrap, &dlq.name, "cleanup.policy=delete");
            return Err(StartRefusal::DlqCompacted { topic: dlq.name.clone(), command });
        }
        check_record_size(bootstrap, dlq, settings, input, HEADROOM_BYTES)?;
    }
    Ok(warnings)
}

/// The name of a setting, and whether the broker reported it.
type SettingRead = (&'static str, fn(&TopicSettings) -> bool);

const CLEANUP_POLICY: SettingRead = ("cleanup.policy", |settings| settings.cleanup.is_some());
const RETENTION_MS: SettingRead = ("retention.ms", |settings| settings.retention_ms.is_some());
const SEGMENT_MS: SettingRead = ("segment.ms", |settings| settings.segment_ms.is_some());
const DELETE_RETENTION_MS: SettingRead = ("delete.retention.ms", |settings| settings.delete_retention_ms.is_some());
const MAX_MESSAGE_BYTES: SettingRead = ("max.message.bytes", |settings| settings.max_message_bytes.is_some());

/// Returns a warning if the broker left settings out, or a refusal if the configuration says so.
fn check_reported(
    topic: &TopicFacts,
    needed: &[SettingRead],
    unchecked: Unchecked,
) -> Result<Option<StartWarning>, StartRefusal> {
    let Some(settings) = &topic.settings else { return Ok(None) };
    let left_out: Vec<&str> =
        needed.iter().filter(|(_, is_reported)| !is_reported(settings)).map(|(name, _)| *name).collect();
    if left_out.is_empty() {
        return Ok(None);
    }
    let (topic, names) = (topic.name.clone(), left_out.join(", "));
    match unchecked {
        Unchecked::Refuse => Err(StartRefusal::NotReported { topic, names }),
        Unchecked::Allow => Ok(Some(StartWarning::NotReported { topic, names })),
    }
}

/// Checks the input alone, before other topics are created.
pub fn check_input(bootstrap: &str, input: &TopicFacts) -> Result<(), StartRefusal> {
    let cleanup = input.settings.as_ref().and_then(|settings| settings.cleanup);
    if cleanup.is_some_and(|cleanup| cleanup.compacts) {
        let command = config_command(bootstrap, &input.name, "cleanup.policy=delete");
        return Err(StartRefusal::InputCompacted { topic: input.name.clone(), command });
    }
    Ok(())
}

fn counts_differ(topic: &TopicFacts, input: &TopicFacts) -> StartRefusal {
    StartRefusal::PartitionsDiffer {
        topic: topic.name.clone(),
        found: topic.partitions,
        input: input.name.clone(),
        expected: input.partitions,
    }
}

/// Returns a warning for a topic whose settings may not be read, or a refusal if the configuration says so.
pub fn check_readable(
    bootstrap: &str,
    topic: &TopicFacts,
    unchecked: Unchecked,
) -> Result<Option<StartWarning>, StartRefusal> {
    if topic.settings.is_some() {
        return Ok(None);
    }
    let (topic, command) = (topic.name.clone(), acl_command(bootstrap, &topic.name));
    match unchecked {
        Unchecked::Refuse => Err(StartRefusal::Unchecked { topic, command }),
        Unchecked::Allow => Ok(Some(StartWarning::Unchecked { topic, command })),
    }
}

fn check_state(
    bootstrap: &str,
    state: &TopicFacts,
    settings: &TopicSettings,
    input: &TopicFacts,
    demands: &Demands,
) -> Result<(), StartRefusal> {
    let topic = state.name.clone();
    if settings.cleanup.is_some_and(|cleanup| !cleanup.only_compacts()) {
        let command = config_command(bootstrap, &topic, "cleanup.policy=compact");
        return Err(StartRefusal::StateNotCompacted { topic, command });
    }
    if let Some((needed, found)) = demands.tombstones_needed_ms(input).zip(settings.delete_retention_ms)
        && found < needed
    {
        let command = config_command(bootstrap, &topic, &format!("delete.retention.ms={needed}"));
        return Err(StartRefusal::TombstonesTooShort { topic, found, needed, command });
    }
    check_record_size(bootstrap, state, settings, input, 0)
}

/// Settings of an existing state topic with which it works, at a cost.
fn advise_state(
    bootstrap: &str,
    state: &TopicFacts,
    settings: &TopicSettings,
    input: &TopicFacts,
    demands: &Demands,
) -> Vec<StartWarning> {
    let advise = |setting, found, why: &str, change: String| StartWarning::Advised {
        topic: state.name.clone(),
        setting,
        found,
        why: why.to_owned(),
        command: config_command(bootstrap, &state.name, &change),
    };
    let mut advice = Vec::new();
    if let Some(found) = settings.delete_retention_ms.filter(|found| *found >= INDEFINITE_MS) {
        let why = "with which the broker never removes tombstones and transaction markers, so that restores get longer";
        let needed = demands.tombstones_needed_ms(input).unwrap_or(TOMBSTONE_RETENTION_MS);
        advice.push(advise("delete.retention.ms", found, why, format!("delete.retention.ms={needed}")));
    }
    let needed = demands.snapshot_bytes();
    if let Some(found) = settings.max_message_bytes.filter(|found| *found < needed) {
        let why = "and an event up to limits.max_payload_bytes may have a larger snapshot, and is rejected then (state_too_large)";
        advice.push(advise("max.message.bytes", found, why, format!("max.message.bytes={needed}")));
    }
    let largest_record = settings.max_message_bytes.unwrap_or(needed).max(needed);
    if let Some(found) = settings.segment_bytes.filter(|found| *found > largest_segment_bytes(largest_record)) {
        let why = "and the newest segment is never compacted, so that a restore reads all of it";
        let changes: Vec<String> = small_segments(largest_record).map(|(name, value)| format!("{name}={value}")).into();
        advice.push(advise("segment.bytes", found, why, changes.join(",")));
    }
    advice
}

fn check_record_size(
    bootstrap: &str,
    topic: &TopicFacts,
    settings: &TopicSettings,
    input: &TopicFacts,
    headroom: i64,
) -> Result<(), StartRefusal> {
    let needed = input.settings.as_ref().and_then(|input| record_bytes(input, headroom));
    let Some((needed, found)) = needed.zip(settings.max_message_bytes).filter(|(needed, found)| found < needed) else {
        return Ok(());
    };
    let command = config_command(bootstrap, &topic.name, &format!("max.message.bytes={needed}"));
    Err(StartRefusal::RecordsTooSmall { topic: topic.name.clone(), found, needed, command })
}

pub(crate) fn config_command(bootstrap: &str, topic: &str, setting: &str) -> String {
    format!(
        "kafka-configs.sh --bootstrap-server {bootstrap} --alter --entity-type topics --entity-name {topic} --add-config {setting}"
    )
}

fn acl_command(bootstrap: &str, topic: &str) -> String {
    format!(
        "kafka-acls.sh --bootstrap-server {bootstrap} --add --allow-principal User:<user> --operation DescribeConfigs --topic {topic}"
    )
}
