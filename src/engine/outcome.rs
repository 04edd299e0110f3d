//! The outcomes of a batch: the records that its events become, and the outputs that these records go to.
//!
//! Every record that a transaction writes is an [`OutputRecord`]. It shares the bytes of the entity or of the event
//! that it was made from. Batches, the group commit and the commit thread treat all outputs alike; [`Output`] has what
//! differs.
//!
//! A third output takes three files. This one gets a variant of [`Output`], and a variant of [`RecordContent`] with its
//! key, value, headers and weight. The code that decides on such a record, for example `runtime::entity_actor`, pushes
//! it to its [`Outcomes`]. `kafka::transactions::commit_thread` gets the name of the topic. A topic that is configured
//! and checked before the start is named in `config` and `kafka::admin` too.

use std::fmt::Write as _;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::entity::Rejection;
use crate::record::{Batch, Header, Key, Offset, Partition, Record, TraceContext, header};

/// The part of a key that remains in a DLQ record, if the whole key does not fit.
pub const KEPT_KEY_BYTES: usize = 256;

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

    /// Returns whether a transaction writes only the newest record of each key. Such a topic is compacted. The records
    /// of any other output are all written, in source order.
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

/// What is left out of a record that is too large. Each of a DLQ record's includes those before it, so that the last one
/// always fits: what then remains is a few KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Degradation {
    /// Of a snapshot.
    TraceContext,
    /// Of a DLQ record: the value. Its length is in a header.
    Value,
    /// And the event's headers. Their number is in a header.
    Headers,
    /// And the key, except for its first [`KEPT_KEY_BYTES`]. Its length and hash are in headers.
    Key,
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

    /// Returns the record for the DLQ topic of the batch's event at `index`.
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
            RecordContent::Rejected(rejected) => {
                let key = rejected.record().key?;
                let kept = if self.leaves_out(Degradation::Key) { key.len().min(KEPT_KEY_BYTES) } else { key.len() };
                Some(&key[..kept])
            }
        }
    }

    pub fn value(&self) -> Option<&[u8]> {
        match &self.content {
            RecordContent::Snapshot(snapshot) => snapshot.value.as_deref(),
            RecordContent::Rejected(rejected) => {
                rejected.record().value.filter(|_| !self.leaves_out(Degradation::Value))
            }
        }
    }

    /// Returns whether this part of a DLQ record is left out.
    fn leaves_out(&self, part: Degradation) -> bool {
        self.degradation >= Some(part)
    }

    /// Returns the event's own headers that a DLQ record carries.
    fn event_headers<'a>(&self, event: Record<'a>) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let is_cut = self.leaves_out(Degradation::Headers);
        event.headers.iter().filter(move |_| !is_cut)
    }

    pub fn rejected_event(&self) -> Option<&RejectedEvent> {
        match &self.content {
            RecordContent::Snapshot(_) => None,
            RecordContent::Rejected(rejected) => Some(rejected),
        }
    }

    /// Returns the trace context that the record carries, if any. A DLQ record has it among the headers of the event.
    pub fn trace(&self) -> Option<&TraceContext> {
        match &self.content {
            RecordContent::Snapshot(snapshot) => {
                snapshot.trace.as_deref().filter(|_| self.degradation != Some(Degradation::TraceContext))
            }
            RecordContent::Rejected(_) => None,
        }
    }

    /// What the record leaves out next if it is too large, and the bytes of that. `None` if nothing can be left out:
    /// then the refusal stands.
    pub fn degrade(&self) -> Option<(Degradation, u64)> {
        match &self.content {
            RecordContent::Snapshot(_) => {
                let trace = self.trace()?;
                let bytes = trace.traceparent.iter().chain(&trace.tracestate).map(|value| value.len() as u64).sum();
                Some((Degradation::TraceContext, bytes))
            }
            RecordContent::Rejected(rejected) => {
                let event = rejected.record();
                let stages = [
                    (Degradation::Value, length(event.value)),
                    (Degradation::Headers, event.headers.iter().map(header_bytes).sum()),
                    (Degradation::Key, length(event.key).saturating_sub(KEPT_KEY_BYTES)),
                ];
                // A stage that leaves out nothing would only cost another attempt.
                let next = stages.into_iter().find(|(stage, bytes)| !self.leaves_out(*stage) && *bytes > 0)?;
                Some((next.0, next.1 as u64))
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
                let headers = text(headers, header::GROUP, origin.group);
                let Some(trace) = self.trace() else { return headers };
                let trace = [(header::TRACEPARENT, &trace.traceparent), (header::TRACESTATE, &trace.tracestate)];
                trace.into_iter().fold(headers, |headers, (name, value)| match value {
                    Some(value) => put(headers, name, Some(value)),
                    None => headers,
                })
            }
            RecordContent::Rejected(rejected) => {
                let event = rejected.record();
                let headers = self.event_headers(event).fold(start, |headers, of| put(headers, of.name, of.value));
                let headers = text(headers, header::REASON, rejected.rejection.reason.code());
                let headers = text(headers, header::DETAIL, &rejected.rejection.detail);
                let headers = text(headers, header::SOURCE_TOPIC, origin.source_topic);
                let headers = text(headers, header::SOURCE_PARTITION, &self.partition.to_string());
                let headers = text(headers, header::SOURCE_OFFSET, &self.source.to_string());
                let timestamp_ms = event.timestamp_ms.unwrap_or(-1);
                let headers = text(headers, header::SOURCE_TIMESTAMP, &timestamp_ms.to_string());
                let headers = text(headers, header::GROUP, origin.group);
                if !self.leaves_out(Degradation::Value) {
                    return headers;
                }
                let mut headers = text(headers, header::TRUNCATED, "true");
                if let Some(value) = event.value {
                    headers = text(headers, header::TRUNCATED_LENGTH, &value.len().to_string());
                }
                if self.leaves_out(Degradation::Headers) {
                    headers = text(headers, header::TRUNCATED_HEADERS, &event.headers.len().to_string());
                }
                let Some(key) = event.key.filter(|_| self.leaves_out(Degradation::Key)) else { return headers };
                let headers = text(headers, header::TRUNCATED_KEY_LENGTH, &key.len().to_string());
                text(headers, header::TRUNCATED_KEY_SHA256, &hexadecimal(&Sha256::digest(key)))
            }
        }
    }

    pub fn max_headers(&self) -> usize {
        match &self.content {
            RecordContent::Snapshot(_) => 5,
            RecordContent::Rejected(rejected) => self.event_headers(rejected.record()).count() + 12,
        }
    }

    /// Returns the bytes of the record in a transaction. The headers that steward adds are an estimate.
    pub fn weight_bytes(&self) -> u64 {
        let headers = match &self.content {
            RecordContent::Snapshot(_) => 128,
            RecordContent::Rejected(rejected) => {
                let own: usize = self.event_headers(rejected.record()).map(header_bytes).sum();
                own + rejected.rejection.detail.len() + 512
            }
        };
        (length(self.key()) + length(self.value()) + headers) as u64
    }
}

fn length(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(0, <[u8]>::len)
}

fn header_bytes(header: Header<'_>) -> usize {
    header.name.len() + length(header.value)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
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
    /// empty. Snapshots come last.
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
