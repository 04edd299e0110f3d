//! The facts about a topic that the preflight checks and the settings of new topics rest on, and what the configuration
//! demands. Pure.

use crate::config::{Config, Unchecked};

/// Room for what an output record has in addition to its event: headers and the detail in the DLQ topic; headers, and
/// the fields that the event does not name, in the state topic.
pub const HEADROOM_BYTES: i64 = 65_536;

/// How long tombstones stay at least if the input keeps its events indefinitely: Kafka's default. Verification then
/// does not rest on tombstones, because no event has gone. Readers of the state topic do: a reader that began before a
/// deletion must come past its tombstone in this time, or it keeps the entity. A restore is such a reader, and takes
/// seconds to minutes. A longer time would keep the markers of all transactions of that time, too.
pub const TOMBSTONE_RETENTION_MS: i64 = 86_400_000;

/// A time above a thousand years counts as indefinite. The broker adds `delete.retention.ms` to its clock: close to the
/// maximum the sum is negative, and neither tombstones nor transaction markers are ever removed.
pub(super) const INDEFINITE_MS: i64 = 31_536_000_000_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFacts {
    pub name: String,
    pub partitions: i32,
    /// Replicas of the first partition.
    pub replication: i32,
    /// `None` if a permission to read them is missing.
    pub settings: Option<TopicSettings>,
}

/// The settings of a topic. `None` is a setting that the broker does not report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicSettings {
    pub cleanup: Option<CleanupPolicy>,
    /// `retention.ms`; a negative value means indefinitely.
    pub retention_ms: Option<i64>,
    pub segment_ms: Option<i64>,
    pub segment_bytes: Option<i64>,
    pub delete_retention_ms: Option<i64>,
    pub max_message_bytes: Option<i64>,
    pub min_in_sync: Option<i64>,
    /// The values that a new topic gets from the broker; `None` if the topic has values of its own.
    pub broker_min_in_sync: Option<i64>,
    pub broker_allows_unclean_election: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    pub compacts: bool,
    pub deletes: bool,
}

impl CleanupPolicy {
    /// Returns whether the topic is compacted and never loses a key.
    pub fn only_compacts(self) -> bool {
        self.compacts && !self.deletes
    }
}

impl TopicSettings {
    /// Returns how long tombstones of these events have to stay: until retention must have deleted the events, or
    /// [`TOMBSTONE_RETENTION_MS`] if it never does. `None` if it is not known.
    pub fn tombstones_needed_ms(&self) -> Option<i64> {
        let retention_ms = self.retention_ms?;
        if retention_ms < 0 {
            return Some(TOMBSTONE_RETENTION_MS);
        }
        let needed = retention_ms.saturating_add(self.segment_ms?);
        Some(if needed < INDEFINITE_MS { needed } else { TOMBSTONE_RETENTION_MS })
    }
}

/// What the configuration says about the checks.
#[derive(Debug, Clone, Copy)]
pub struct Demands {
    pub unchecked: Unchecked,
    /// `guards.tombstone_retention_ms`, in place of the bound that follows from the input.
    pub tombstone_retention_ms: Option<i64>,
    pub max_payload_bytes: i64,
}

impl Demands {
    pub fn of(config: &Config) -> Demands {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Demands {
            unchecked: config.guards.unchecked,
            tombstone_retention_ms: config.guards.tombstone_retention_ms.map(signed),
            max_payload_bytes: signed(config.limits.max_payload_bytes),
        }
    }

    /// Returns the smallest `delete.retention.ms` of the state topic; `None` if the input's settings are not known.
    pub fn tombstones_needed_ms(&self, input: &TopicFacts) -> Option<i64> {
        self.tombstone_retention_ms.or_else(|| input.settings.as_ref()?.tombstones_needed_ms())
    }

    /// Returns the `max.message.bytes` with which the snapshot of every event fits that is not `payload_too_large`.
    pub fn snapshot_bytes(&self) -> i64 {
        self.max_payload_bytes.saturating_add(HEADROOM_BYTES).min(i64::from(i32::MAX))
    }
}

/// Returns whether every tombstone of the state topic stays at least until retention has deleted the events that it
/// covers. `false` if that is not known.
pub fn tombstones_outlive_events(input: &TopicFacts, state: &TopicFacts) -> bool {
    let events_ms = input.settings.as_ref().and_then(|input| {
        let retention_ms = input.retention_ms.filter(|retention_ms| *retention_ms >= 0)?;
        Some(retention_ms.saturating_add(input.segment_ms?))
    });
    let tombstones_ms = state.settings.as_ref().and_then(|state| state.delete_retention_ms);
    tombstones_ms.zip(events_ms).is_some_and(|(tombstones_ms, events_ms)| tombstones_ms >= events_ms)
}

/// `max.message.bytes` is a 32-bit number.
pub(super) fn record_bytes(input: &TopicSettings, headroom: i64) -> Option<i64> {
    Some(input.max_message_bytes?.saturating_add(headroom).min(i64::from(i32::MAX)))
}
