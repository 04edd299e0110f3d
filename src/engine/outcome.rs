//! The outcomes of a batch: the records that its events become, and the outputs that these records go to.
//!
//! Every record that a transaction writes is an [`OutputRecord`]. It shares the bytes of the entity or of the event that
//! it was made from. Batches, the group commit and the commit thread treat all outputs alike; [`Output`] has what differs.
//!
//! A third output takes three files. This one gets a variant of [`Output`], and a variant of
//! [`RecordContent`] with its key, value, headers and weight. The code that decides on such a record, for example
//! `runtime::entity_actor`, pushes it to its [`Outcomes`]. `kafka::transactions::commit_thread` gets the name of the topic.
//! A topic that is configured and checked before the start is named in `config` and `kafka::admin` too.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use crate::entity::Rejection;
use crate::record::{Batch, Key, Offset, Partition, Record, TraceContext, header};

/// A topic that transactions write to, besides the offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    State,
    Dlq,
}

impl Output {
    /// Every output, in the order in which a transaction writes to them.
    pub const ALL: [Output; 2] = [Output::State, Output::Dlq];

    pub const fn name(self) -> &'static str {
        match self {
            Output::State => "state",
            Output::Dlq => "DLQ",
        }
    }

    /// Whether a transaction writes only the newest record of each key. Such a topic is compacted. The records of any
    /// other output are all written, in source order.
    pub const fn is_coalesced_by_key(self) -> bool {
        match self {
            Output::State => true,
            Output::Dlq => false,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct PerOutput<T>([T; Output::ALL.len()]);

impl<T> Index<Output> for PerOutput<T> {
    type Output = T;

    fn index(&self, output: Output) -> &T {
        &self.0[output as usize]
    }
}

impl<T> IndexMut<Output> for PerOutput<T> {
    fn index_mut(&mut self, output: Output) -> &mut T {
        &mut self.0[output as usize]
    }
}

/// Names a record among those of a process.
pub type RecordId = (Output, Partition, Offset);

#[derive(Debug, Clone)]
pub struct OutputRecord {
    /// The partition of the event, and of the record.
    pub partition: Partition,
    /// The newest event that the record contains.
    pub source: Offset,
    pub content: RecordContent,
    /// `None` for the whole record.
    pub degradation: Option<Degradation>,
}

/// What a record is made of. Cloning shares the bytes of key and value.
#[derive(Debug, Clone)]
pub enum RecordContent {
    Snapshot(EntitySnapshot),
    Rejected(Arc<RejectedEvent>),
}

/// What an entity is after an event.
#[derive(Debug, Clone)]
pub struct EntitySnapshot {
    pub key: Key,
    /// The entity's JSON; `None` is a tombstone.
    pub value: Option<Arc<[u8]>>,
    pub trace: Option<Box<TraceContext>>,
}

#[derive(Debug, Clone)]
pub struct RejectedEvent {
    /// Holds the bytes of the event.
    pub batch: Arc<Batch>,
    pub index: u32,
    pub rejection: Rejection,
}

impl RejectedEvent {
    pub fn record(&self) -> Record<'_> {
        self.batch.record(self.index as usize)
    }
}

/// What is left out of a record, because the broker refused the whole one as too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Degradation {
    TraceContext,
    /// The value, whose length is in a header.
    Value,
}

/// What the headers of a record name besides its event.
#[derive(Debug, Clone, Copy)]
pub struct RecordOrigin<'a> {
    pub group: &'a str,
    pub source_topic: &'a str,
}

impl OutputRecord {
    pub fn snapshot(partition: Partition, source: Offset, snapshot: EntitySnapshot) -> OutputRecord {
        OutputRecord { partition, source, content: RecordContent::Snapshot(snapshot), degradation: None }
    }

    /// The record for the DLQ topic of the batch's event at `index`.
    pub fn rejected(batch: &Arc<Batch>, index: u32, rejection: Rejection) -> OutputRecord {
        let rejected = RejectedEvent { batch: Arc::clone(batch), index, rejection };
        OutputRecord {
            partition: batch.partition(),
            source: rejected.record().offset,
            content: RecordContent::Rejected(Arc::new(rejected)),
            degradation: None,
        }
    }

    pub fn output(&self) -> Output {
        match self.content {
            RecordContent::Snapshot(_) => Output::State,
            RecordContent::Rejected(_) => Output::Dlq,
        }
    }

    pub fn id(&self) -> RecordId {
        (self.output(), self.partition, self.source)
    }

    pub fn key(&self) -> Option<&[u8]> {
        match &self.content {
            RecordContent::Snapshot(snapshot) => Some(&snapshot.key),
            RecordContent::Rejected(rejected) => rejected.record().key,
        }
    }

    pub fn value(&self) -> Option<&[u8]> {
        match &self.content {
            RecordContent::Snapshot(snapshot) => snapshot.value.as_deref(),
            RecordContent::Rejected(rejected) => {
                rejected.record().value.filter(|_| self.degradation != Some(Degradation::Value))
            }
        }
    }

    pub fn rejected_event(&self) -> Option<&RejectedEvent> {
        match &self.content {
            RecordContent::Snapshot(_) => None,
            RecordContent::Rejected(rejected) => Some(rejected),
        }
    }

    /// The trace context that the record carries, if any. A DLQ record has it among the headers of the event.
    pub fn trace(&self) -> Option<&TraceContext> {
        match &self.content {
            RecordContent::Snapshot(snapshot) => {
                snapshot.trace.as_deref().filter(|_| self.degradation != Some(Degradation::TraceContext))
            }
            RecordContent::Rejected(_) => None,
        }
    }

    /// What the record leaves out next if the broker refuses it as too large, and the bytes of that. `None` if nothing can
    /// be left out: then the refusal stands.
    pub fn degrade(&self) -> Option<(Degradation, u64)> {
        match &self.content {
            RecordContent::Snapshot(_) => {
                let trace = self.trace()?;
                let bytes = trace.traceparent.iter().chain(&trace.tracestate).map(|value| value.len() as u64).sum();
                Some((Degradation::TraceContext, bytes))
            }
            RecordContent::Rejected(_) if self.degradation == Some(Degradation::Value) => None,
            RecordContent::Rejected(rejected) => {
                Some((Degradation::Value, rejected.record().value.map_or(0, <[u8]>::len) as u64))
            }
        }
    }

    /// Calls `put` with each header, in order, and what the call before it returned.
    pub fn fold_headers<T>(&self, origin: &RecordOrigin<'_>, start: T, put: impl Fn(T, &str, Option<&[u8]>) -> T) -> T {
        let text = |headers: T, name: &str, value: &str| put(headers, name, Some(value.as_bytes()));
        match &self.content {
            RecordContent::Snapshot(_) => {
                let headers = text(start, header::STATE_PARTITION, &self.partition.to_string());
                let headers = text(headers, header::STATE_OFFSET, &self.source.to_string());
                let headers = text(headers, header::STATE_GROUP, origin.group);
                let Some(trace) = self.trace() else { return headers };
                let trace = [(header::TRACEPARENT, &trace.traceparent), (header::TRACESTATE, &trace.tracestate)];
                trace.into_iter().fold(headers, |headers, (name, value)| match value {
                    Some(value) => put(headers, name, Some(value)),
                    None => headers,
                })
            }
            RecordContent::Rejected(rejected) => {
                let event = rejected.record();
                let headers = event.headers.iter().fold(start, |headers, of| put(headers, of.name, of.value));
                let headers = text(headers, header::REASON, rejected.rejection.reason.code());
                let headers = text(headers, header::DETAIL, &rejected.rejection.detail);
                let headers = text(headers, header::SOURCE_TOPIC, origin.source_topic);
                let headers = text(headers, header::SOURCE_PARTITION, &self.partition.to_string());
                let headers = text(headers, header::SOURCE_OFFSET, &self.source.to_string());
                let timestamp_ms = event.timestamp_ms.unwrap_or(-1);
                let headers = text(headers, header::SOURCE_TIMESTAMP, &timestamp_ms.to_string());
                if self.degradation != Some(Degradation::Value) {
                    return headers;
                }
                let headers = text(headers, header::TRUNCATED, "true");
                text(headers, header::TRUNCATED_LENGTH, &event.value.map_or(0, <[u8]>::len).to_string())
            }
        }
    }

    pub fn max_headers(&self) -> usize {
        match &self.content {
            RecordContent::Snapshot(_) => 5,
            RecordContent::Rejected(rejected) => rejected.record().headers.len() + 8,
        }
    }

    /// The bytes of the record in a transaction. The headers that steward adds are an estimate.
    pub fn weight_bytes(&self) -> u64 {
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers = match &self.content {
            RecordContent::Snapshot(_) => 128,
            RecordContent::Rejected(rejected) => {
                let headers = rejected.record().headers;
                let own: usize = headers.iter().map(|header| header.name.len() + length(header.value)).sum();
                own + rejected.rejection.detail.len() + 256
            }
        };
        (length(self.key()) + length(self.value()) + headers) as u64
    }
}

/// The outcomes of the records of one batch, or of a part of them.
#[derive(Debug, Default)]
pub struct Outcomes {
    pub records: PerOutput<Vec<OutputRecord>>,
    pub applied: u64,
    /// Events that a snapshot or the DLQ topic contains already.
    pub skipped: u64,
}

impl Outcomes {
    pub fn push(&mut self, record: OutputRecord) {
        self.records[record.output()].push(record);
    }

    /// Adds the outcomes of other keys of the same batch.
    pub fn merge(&mut self, other: Outcomes) {
        for (own, more) in self.records.0.iter_mut().zip(other.records.0) {
            own.extend(more);
        }
        self.applied += other.applied;
        self.skipped += other.skipped;
    }

    pub fn has_no_records(&self) -> bool {
        self.records.0.iter().all(Vec::is_empty)
    }

    pub fn rejected_events(&self) -> impl Iterator<Item = &RejectedEvent> {
        self.records[Output::Dlq].iter().filter_map(OutputRecord::rejected_event)
    }

    /// Restores source order, as far as an output has it: keys finish in any order.
    pub fn sort_by_source(&mut self) {
        for output in Output::ALL.into_iter().filter(|output| !output.is_coalesced_by_key()) {
            self.records[output].sort_by_key(|record| record.source);
        }
    }

    /// Cuts into parts of at most `max_bytes` each. A part has one record at least, except that a single part may be
    /// empty. Snapshots come last. If the process dies between two parts, the next recovery finds the rest only if it is above
    /// M or within the look-back.
    pub fn cut(mut self, max_bytes: u64) -> Vec<Outcomes> {
        let mut parts = vec![Outcomes { applied: self.applied, skipped: self.skipped, ..Outcomes::default() }];
        let mut room = max_bytes;
        let mut outputs = Output::ALL;
        outputs.sort_by_key(|output| output.is_coalesced_by_key());
        for record in outputs.into_iter().flat_map(|output| std::mem::take(&mut self.records[output])) {
            let weight = record.weight_bytes();
            if weight > room && room < max_bytes {
                parts.push(Outcomes::default());
                room = max_bytes;
            }
            room = room.saturating_sub(weight);
            parts.last_mut().expect("there is always a part").push(record);
        }
        parts
    }

    pub fn weight_bytes(&self) -> u64 {
        self.records.0.iter().flatten().map(OutputRecord::weight_bytes).sum()
    }
}

impl FromIterator<OutputRecord> for Outcomes {
    fn from_iter<T: IntoIterator<Item = OutputRecord>>(records: T) -> Outcomes {
        let mut outcomes = Outcomes::default();
        records.into_iter().for_each(|record| outcomes.push(record));
        outcomes
    }
}
