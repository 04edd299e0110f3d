//! Decides whether three topics fit together, and which settings a missing topic gets. Pure: `topics` collects the facts.
//!
//! A failed preflight check refuses the start. The refusal has the cause, then the remedy, as a command if there is one.
//! A wrong topic is worse than no service: another partition count separates keys from their state, a state topic that
//! deletes loses entities, a compacted input loses events.

use crate::config::Unchecked;
use crate::observability::log_events::PreflightCheck;

/// Room for the headers and the detail that a DLQ record has in addition to its event.
pub const DLQ_HEADROOM_BYTES: i64 = 65_536;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFacts {
    pub name: String,
    pub partitions: i32,
    /// Replicas of the first partition.
    pub replication: i32,
    /// `None` if a permission to read them is missing.
    pub settings: Option<TopicSettings>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// `cleanup.policy` contains `compact`.
    pub compacts: bool,
    /// `cleanup.policy` contains `delete`.
    pub deletes: bool,
    /// `retention.ms`; a negative value means indefinitely.
    pub retention_ms: i64,
    pub segment_ms: i64,
    pub delete_retention_ms: i64,
    pub max_message_bytes: i64,
}

impl TopicSettings {
    /// Returns how long tombstones of these events have to stay: until retention must have deleted the events.
    pub fn tombstones_needed_ms(&self) -> i64 {
        match self.retention_ms {
            ..0 => i64::MAX,
            retention_ms => retention_ms.saturating_add(self.segment_ms),
        }
    }
}

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
        "topic {topic} has delete.retention.ms={found}, the input keeps events for {needed} ms; a deleted entity could come back in a replay: {command}"
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
            StartRefusal::Unchecked { .. } => Some(PreflightCheck::ConfigurationReadable),
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
}

/// Returns the first refusal, or a warning for each topic whose checks could not run.
pub fn check(
    bootstrap: &str,
    input: &TopicFacts,
    state: &TopicFacts,
    dlq: &TopicFacts,
    unchecked: Unchecked,
) -> Result<Vec<StartWarning>, StartRefusal> {
    if state.partitions != input.partitions {
        return Err(counts_differ(state, input));
    }
    if dlq.partitions < input.partitions {
        return Err(counts_differ(dlq, input));
    }
    let mut warnings = Vec::new();
    for topic in [input, state, dlq] {
        warnings.extend(check_readable(bootstrap, topic, unchecked)?);
    }
    check_input(bootstrap, input)?;
    if let Some(settings) = &state.settings {
        check_state(bootstrap, state, settings, input)?;
    }
    if let Some(settings) = &dlq.settings {
        if settings.compacts {
            let command = config_command(bootstrap, &dlq.name, "cleanup.policy=delete");
            return Err(StartRefusal::DlqCompacted { topic: dlq.name.clone(), command });
        }
        check_record_size(bootstrap, dlq, settings, input, DLQ_HEADROOM_BYTES)?;
    }
    Ok(warnings)
}

/// Checks the input alone, before other topics are created.
pub fn check_input(bootstrap: &str, input: &TopicFacts) -> Result<(), StartRefusal> {
    if input.settings.as_ref().is_some_and(|settings| settings.compacts) {
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
) -> Result<(), StartRefusal> {
    let topic = state.name.clone();
    if !settings.compacts || settings.deletes {
        let command = config_command(bootstrap, &topic, "cleanup.policy=compact");
        return Err(StartRefusal::StateNotCompacted { topic, command });
    }
    if let Some(needed) = input.settings.as_ref().map(TopicSettings::tombstones_needed_ms)
        && settings.delete_retention_ms < needed
    {
        let command = config_command(bootstrap, &topic, &format!("delete.retention.ms={needed}"));
        return Err(StartRefusal::TombstonesTooShort { topic, found: settings.delete_retention_ms, needed, command });
    }
    check_record_size(bootstrap, state, settings, input, 0)
}

fn check_record_size(
    bootstrap: &str,
    topic: &TopicFacts,
    settings: &TopicSettings,
    input: &TopicFacts,
    headroom: i64,
) -> Result<(), StartRefusal> {
    let Some(input) = &input.settings else { return Ok(()) };
    let needed = record_bytes(input, headroom);
    if settings.max_message_bytes >= needed {
        return Ok(());
    }
    let command = config_command(bootstrap, &topic.name, &format!("max.message.bytes={needed}"));
    Err(StartRefusal::RecordsTooSmall { topic: topic.name.clone(), found: settings.max_message_bytes, needed, command })
}

/// `max.message.bytes` is a 32-bit number.
fn record_bytes(input: &TopicSettings, headroom: i64) -> i64 {
    input.max_message_bytes.saturating_add(headroom).min(i64::from(i32::MAX))
}

pub fn state_settings(input: &TopicFacts) -> Vec<(String, String)> {
    let tombstones = input.settings.as_ref().map_or(i64::MAX, TopicSettings::tombstones_needed_ms);
    let mut settings =
        vec![("cleanup.policy".into(), "compact".into()), ("delete.retention.ms".into(), tombstones.to_string())];
    settings.extend(durable(input));
    settings.extend(large_enough(input));
    settings
}

pub fn dlq_settings(input: &TopicFacts) -> Vec<(String, String)> {
    let mut settings = vec![("cleanup.policy".into(), "delete".into()), ("retention.ms".into(), "-1".into())];
    settings.extend(durable(input));
    settings.extend(large_enough(input));
    settings
}

/// Returns the settings for a new topic of replay receipts: one receipt for each DLQ record, kept indefinitely.
pub fn receipts_topic_settings(dlq: &TopicFacts) -> Vec<(String, String)> {
    let mut settings = vec![("cleanup.policy".into(), "compact".into())];
    settings.extend(durable(dlq));
    settings
}

fn durable(input: &TopicFacts) -> [(String, String); 2] {
    let in_sync = (input.replication - 1).max(1);
    [("min.insync.replicas".into(), in_sync.to_string()), ("unclean.leader.election.enable".into(), "false".into())]
}

fn large_enough(input: &TopicFacts) -> Option<(String, String)> {
    let settings = input.settings.as_ref()?;
    Some(("max.message.bytes".into(), record_bytes(settings, DLQ_HEADROOM_BYTES).to_string()))
}

pub fn create_command(bootstrap: &str, topic: &str, input: &TopicFacts, settings: &[(String, String)]) -> String {
    let settings: String = settings.iter().map(|(name, value)| format!(" --config {name}={value}")).collect();
    format!(
        "kafka-topics.sh --bootstrap-server {bootstrap} --create --topic {topic} --partitions {} --replication-factor {}{settings}",
        input.partitions, input.replication
    )
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
