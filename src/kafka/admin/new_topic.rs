//! Decides which settings a missing topic gets, and prints the command that creates it. Pure.
//!
//! A topic is created with what the guarantees need (`required`) and with what is better than the broker's defaults
//! (`optional`). Platforms may forbid some settings by policy; then the topic is created without the optional ones.

use crate::kafka::admin::topic_facts::{Demands, HEADROOM_BYTES, TOMBSTONE_RETENTION_MS, TopicFacts, record_bytes};

/// Bytes of a segment of a new state topic, unless a record may be larger.
const SEGMENT_BYTES: i64 = 8 << 20;

/// Name and value.
pub type Setting = (&'static str, String);

/// The settings of a new topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTopicSettings {
    pub required: Vec<Setting>,
    /// Left out if the broker refuses them.
    pub optional: Vec<Setting>,
}

impl NewTopicSettings {
    pub fn all(&self) -> impl Iterator<Item = &Setting> {
        self.required.iter().chain(&self.optional)
    }

    /// Returns what is left if the broker refuses the optional settings.
    pub fn required_only(&self) -> NewTopicSettings {
        NewTopicSettings { required: self.required.clone(), optional: Vec::new() }
    }

    /// Returns the names of the optional settings, separated by commas.
    pub fn optional_names(&self) -> String {
        self.optional.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
}

pub fn state_settings(input: &TopicFacts, demands: &Demands) -> NewTopicSettings {
    let tombstones = demands.tombstones_needed_ms(input).unwrap_or(TOMBSTONE_RETENTION_MS);
    let of_input = input.settings.as_ref().and_then(|settings| record_bytes(settings, HEADROOM_BYTES));
    let bytes = of_input.unwrap_or(0).max(demands.snapshot_bytes());
    let mut optional: Vec<Setting> = durable(input).collect();
    optional.extend(small_segments(bytes));
    NewTopicSettings {
        required: vec![
            ("cleanup.policy", "compact".to_owned()),
            ("delete.retention.ms", tombstones.to_string()),
            ("max.message.bytes", bytes.to_string()),
        ],
        optional,
    }
}

pub fn dlq_settings(input: &TopicFacts) -> NewTopicSettings {
    let mut required = vec![("cleanup.policy", "delete".to_owned()), ("retention.ms", "-1".to_owned())];
    let bytes = input.settings.as_ref().and_then(|settings| record_bytes(settings, HEADROOM_BYTES));
    required.extend(bytes.map(|bytes| ("max.message.bytes", bytes.to_string())));
    NewTopicSettings { required, optional: durable(input).collect() }
}

/// Returns the settings for a new topic of replay receipts: one receipt for each DLQ record, kept indefinitely.
pub fn receipts_topic_settings(dlq: &TopicFacts) -> NewTopicSettings {
    let required = vec![("cleanup.policy", "compact".to_owned())];
    NewTopicSettings { required, optional: durable(dlq).collect() }
}

/// The cleaner never touches the newest segment, and a restore reads all of it. Measured in
/// `docs/performance.md`.
pub fn small_segments(max_message_bytes: i64) -> [Setting; 4] {
    [
        ("segment.bytes", segment_bytes(max_message_bytes).to_string()),
        ("segment.ms", "3600000".to_owned()),
        ("min.cleanable.dirty.ratio", "0.3".to_owned()),
        ("max.compaction.lag.ms", "21600000".to_owned()),
    ]
}

/// The broker refuses a record that is larger than a segment.
fn segment_bytes(max_message_bytes: i64) -> i64 {
    SEGMENT_BYTES.max(max_message_bytes)
}

/// Returns above which size of its segments a state topic gets a warning: four times that of a new one.
pub fn largest_segment_bytes(max_message_bytes: i64) -> i64 {
    segment_bytes(max_message_bytes).saturating_mul(4)
}

/// Settings without which a broker may lose acknowledged records, where its own defaults are not known to be as good.
fn durable(like: &TopicFacts) -> impl Iterator<Item = Setting> {
    let in_sync = i64::from((like.replication - 1).max(1));
    let broker = like.settings.as_ref();
    let default_in_sync = broker.and_then(|settings| settings.broker_min_in_sync).unwrap_or(1);
    let default_unclean = broker.and_then(|settings| settings.broker_allows_unclean_election).unwrap_or(true);
    let in_sync = (default_in_sync < in_sync).then(|| ("min.insync.replicas", in_sync.to_string()));
    let unclean = default_unclean.then(|| ("unclean.leader.election.enable", "false".to_owned()));
    in_sync.into_iter().chain(unclean)
}

pub fn create_command(bootstrap: &str, topic: &str, like: &TopicFacts, settings: &NewTopicSettings) -> String {
    let settings: String = settings.all().map(|(name, value)| format!(" --config {name}={value}")).collect();
    format!(
        "kafka-topics.sh --bootstrap-server {bootstrap} --create --topic {topic} --partitions {} --replication-factor {}{settings}",
        like.partitions, like.replication
    )
}
