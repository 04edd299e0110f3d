//! Keeps one entity per partition and key, and applies the events that pass the rules, one record at a time.

use std::collections::BTreeMap;

use crate::entity::Reason;
use crate::testing::reference::rules::{self, What, because};
use crate::testing::reference::text::{number_text, quoted, time_text};
use crate::testing::reference::{HeaderOf, ModelViolation, TopicRecord};

/// An entity is a key in a partition.
pub(super) type EntityKey = (i32, Vec<u8>);

/// The required outcome of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelVerdict {
    /// The event is applied. Holds the value for the state topic; `None` for a tombstone.
    Applied(Option<Vec<u8>>),
    /// The event goes to the DLQ topic.
    Rejected {
        /// The first rule that the event breaks.
        reason: Reason,
        /// The violations that `steward-detail` lists for [`Reason::InvalidEvent`], in field order; else empty.
        violations: Vec<ModelViolation>,
    },
}

impl ModelVerdict {
    /// Returns why the event was rejected; `None` if it was applied.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            ModelVerdict::Applied(_) => None,
            ModelVerdict::Rejected { reason, .. } => Some(*reason),
        }
    }
}

/// The state of an entity after one of its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSnapshot {
    /// The value for the state topic; `None` for a tombstone.
    pub value: Option<Vec<u8>>,
    /// The input offset of the event.
    pub newest_offset: i64,
    pub traceparent: Option<Vec<u8>>,
    pub tracestate: Option<Vec<u8>>,
}

/// An entity that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSnapshot {
    pub value: Vec<u8>,
    /// The input offset of the newest event that the value contains.
    pub newest_offset: i64,
}

/// An event that the DLQ topic must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    pub record: TopicRecord,
    pub reason: Reason,
    /// As in [`ModelVerdict::Rejected`].
    pub violations: Vec<ModelViolation>,
}

#[derive(Debug, Clone)]
struct ModelEntity {
    id: u64,
    name: String,
    description: String,
    tags: Vec<String>,
    price: Option<f64>,
    version: u64,
    created_ms: i64,
    updated_ms: i64,
}

/// The whole service as a map: computes the required outputs from the input.
#[derive(Debug, Clone)]
pub struct Model {
    max_payload_bytes: u64,
    max_snapshot_bytes: u64,
    keeps_history: bool,
    live: BTreeMap<EntityKey, ModelEntity>,
    /// The snapshots of each entity in the order of its events; only the last one if history is not kept.
    snapshots: BTreeMap<EntityKey, Vec<ModelSnapshot>>,
    rejections: Vec<Rejected>,
    last_offsets: BTreeMap<i32, i64>,
}

impl Model {
    /// Makes a model that keeps only the newest snapshot of each entity, which suffices to check final contents.
    pub fn new(max_payload_bytes: u64) -> Model {
        Model {
            max_payload_bytes,
            max_snapshot_bytes: u64::MAX,
            keeps_history: false,
            live: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            rejections: Vec::new(),
            last_offsets: BTreeMap::new(),
        }
    }

    /// Makes a model that keeps every snapshot (about 300 bytes per event), so that every record of the state topic can
    /// be checked.
    pub fn keeping_history(max_payload_bytes: u64) -> Model {
        Model { keeps_history: true, ..Model::new(max_payload_bytes) }
    }

    /// Limits key and value of a snapshot together, in bytes. Without this call there is no limit.
    #[must_use]
    pub fn with_snapshot_limit(self, max_snapshot_bytes: u64) -> Model {
        Model { max_snapshot_bytes, ..self }
    }

    /// Processes a record without headers. See [`Model::process_record`].
    ///
    /// # Panics
    /// If the offset does not rise within its partition.
    pub fn process(
        &mut self,
        partition: i32,
        offset: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp_ms: Option<i64>,
    ) -> ModelVerdict {
        let (key, value) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
        self.process_record(&TopicRecord { partition, offset, timestamp_ms, key, value, headers: Vec::new() })
    }

    /// Processes the next record of a partition, and keeps the outcome. Offsets may have gaps.
    ///
    /// # Panics
    /// If the offset does not rise within its partition.
    pub fn process_record(&mut self, record: &TopicRecord) -> ModelVerdict {
        let last = self.last_offsets.insert(record.partition, record.offset);
        assert!(last < Some(record.offset), "offsets of one partition only rise: {last:?} then {}", record.offset);
        match self.decide(record) {
            Ok(value) => ModelVerdict::Applied(value),
            Err(rules::ModelRejection { reason, violations }) => {
                self.rejections.push(Rejected { record: record.clone(), reason, violations: violations.clone() });
                ModelVerdict::Rejected { reason, violations }
            }
        }
    }

    /// Returns the entities that exist, by partition and key.
    pub fn state(&self) -> BTreeMap<(i32, Vec<u8>), LiveSnapshot> {
        let live = self.newest().filter_map(|(key, newest)| {
            let value = newest.value.clone()?;
            Some((key.clone(), LiveSnapshot { value, newest_offset: newest.newest_offset }))
        });
        live.collect()
    }

    /// Returns the newest snapshot of every entity, tombstones included.
    pub fn newest(&self) -> impl Iterator<Item = (&(i32, Vec<u8>), &ModelSnapshot)> {
        self.snapshots.iter().filter_map(|(key, snapshots)| Some((key, snapshots.last()?)))
    }

    /// Returns the newest snapshot of one entity; `None` if no event was ever applied to it.
    pub fn newest_of(&self, partition: i32, key: &[u8]) -> Option<&ModelSnapshot> {
        self.snapshots.get(&(partition, key.to_vec()))?.last()
    }

    /// Returns every snapshot of one entity, in the order of its events; `None` if history is not kept.
    pub fn history_of(&self, partition: i32, key: &[u8]) -> Option<&[ModelSnapshot]> {
        let history = || self.snapshots.get(&(partition, key.to_vec())).map_or(&[][..], Vec::as_slice);
        self.keeps_history.then(history)
    }

    /// Returns the events that the DLQ topic must hold, in the order in which they were processed.
    pub fn rejections(&self) -> &[Rejected] {
        &self.rejections
    }

    /// Returns the offset of the last processed record, by partition.
    pub fn last_offsets(&self) -> &BTreeMap<i32, i64> {
        &self.last_offsets
    }

    fn decide(&mut self, record: &TopicRecord) -> Result<Option<Vec<u8>>, rules::ModelRejection> {
        let key = record.key.as_ref().filter(|key| !key.is_empty()).ok_or(because(Reason::MissingKey))?;
        let value = record.value.as_ref().ok_or(because(Reason::NullPayload))?;
        if value.len() as u64 > self.max_payload_bytes {
            return Err(because(Reason::PayloadTooLarge));
        }
        let event = rules::parse_value(value, record.timestamp_ms)?;
        if *key != event.id.to_string().into_bytes() {
            return Err(because(Reason::KeyIdMismatch));
        }
        let entity = (record.partition, key.clone());
        let now = apply(self.live.get(&entity), event).map_err(because)?;
        let value = now.as_ref().map(|live| live.to_json().into_bytes());
        if value.as_ref().is_some_and(|value| (key.len() + value.len()) as u64 > self.max_snapshot_bytes) {
            return Err(because(Reason::StateTooLarge));
        }
        match now {
            Some(live) => self.live.insert(entity.clone(), live),
            None => self.live.remove(&entity),
        };
        self.remember(entity, record, value.clone());
        Ok(value)
    }

    fn remember(&mut self, entity: EntityKey, record: &TopicRecord, value: Option<Vec<u8>>) {
        let snapshots = self.snapshots.entry(entity).or_default();
        if !self.keeps_history {
            snapshots.clear();
        }
        snapshots.push(ModelSnapshot {
            value,
            newest_offset: record.offset,
            traceparent: last_of(&record.headers, "traceparent"),
            tracestate: last_of(&record.headers, "tracestate"),
        });
    }
}

fn last_of(headers: &[HeaderOf], name: &str) -> Option<Vec<u8>> {
    headers.iter().rev().find(|(found, _)| found == name)?.1.clone()
}

/// Returns the entity after the event; `None` is absent.
fn apply(before: Option<&ModelEntity>, event: rules::ModelEvent) -> Result<Option<ModelEntity>, Reason> {
    let at_ms = event.at_ms;
    match (before, event.what) {
        (Some(_), What::Created { .. }) => Err(Reason::AlreadyExists),
        (None, What::Updated { .. } | What::Deleted) => Err(Reason::NotFound),
        (Some(_), What::Deleted) => Ok(None),
        (None, What::Created { name, description, tags, price }) => {
            let (version, created_ms, updated_ms) = (1, at_ms, at_ms);
            Ok(Some(ModelEntity { id: event.id, name, description, tags, price, version, created_ms, updated_ms }))
        }
        (Some(before), What::Updated { name, description, tags, price }) => Ok(Some(ModelEntity {
            id: before.id,
            name: name.unwrap_or_else(|| before.name.clone()),
            description: description.unwrap_or_else(|| before.description.clone()),
            tags: tags.unwrap_or_else(|| before.tags.clone()),
            price: price.or(before.price),
            version: before.version + 1,
            created_ms: before.created_ms,
            updated_ms: at_ms,
        })),
    }
}

impl ModelEntity {
    fn to_json(&self) -> String {
        let tags: Vec<String> = self.tags.iter().map(|tag| quoted(tag)).collect();
        let price = self.price.map_or(String::new(), |price| format!(r#","pricePerHour":{}"#, number_text(price)));
        format!(
            r#"{{"id":{},"name":{},"description":{},"tags":[{}]{price},"version":{},"createdAt":"{}","updatedAt":"{}"}}"#,
            self.id,
            quoted(&self.name),
            quoted(&self.description),
            tags.join(","),
            self.version,
            time_text(self.created_ms),
            time_text(self.updated_ms),
        )
    }
}
