//! The loop that a good engineer would write for steward's work on one thread. It has the same rules, records and
//! transactions, and nothing that handles failures: no supervision, no recovery, no bounds.

use std::borrow::Cow;

use rdkafka::message::{Header, OwnedHeaders};
use rustc_hash::FxHashMap;
use steward::entity::{Entity as _, RawEvent, Reason, Rejection};
use steward::kafka::client::forwarded_queue::Incoming;
use steward::record::{Offset, Partition, header};
use steward::service::{Service, State};

use super::member::Member;
use super::sender::{INTERVAL, Sender};
use crate::contender::{Reported, Task};
use crate::support::wait::now;

/// `limits.max_payload_bytes`.
const MAX_PAYLOAD_BYTES: usize = 262_144;

/// One entity.
struct Slot {
    partition: i32,
    key: Box<[u8]>,
    state: State,
    newest: Offset,
    traceparent: Option<Box<[u8]>>,
    tracestate: Option<Box<[u8]>>,
    is_in_changed: bool,
}

/// All entities, and which of them have changed since the last transaction.
struct Entities {
    /// By partition: key to index in `slots`.
    indices: Vec<FxHashMap<Box<[u8]>, usize>>,
    slots: Vec<Slot>,
    /// Indices in `slots`.
    changed: Vec<usize>,
}

/// Returns when all events are committed.
pub fn run(task: &Task) -> Reported {
    let mut sender = Sender::register(task);
    let mut member = Member::join(task);
    let mut entities = Entities { indices: Vec::new(), slots: Vec::new(), changed: Vec::new() };
    while member.read() < task.events {
        let began = sender.begin();
        while member.read() < task.events && now().saturating_duration_since(began) < INTERVAL {
            member.take(|partition, record| {
                if let Err(rejection) = entities.apply(partition, record) {
                    reject(&sender, task, partition, record, &rejection);
                }
            });
        }
        entities.publish(&sender, task);
        sender.commit(began, &member);
    }
    sender.reported()
}

impl Entities {
    fn apply(&mut self, partition: Partition, record: &Incoming<'_>) -> Result<(), Rejection> {
        let key = record.key().unwrap_or_default();
        if key.is_empty() {
            return Err(Rejection::new(Reason::MissingKey, "the record has no key"));
        }
        let Some(value) = record.value() else {
            return Err(Rejection::new(Reason::NullPayload, "the value is null"));
        };
        if value.len() > MAX_PAYLOAD_BYTES {
            return Err(Rejection::new(Reason::PayloadTooLarge, "the value is too large"));
        }
        let event = RawEvent { key, value, timestamp_ms: record.timestamp_ms() };
        let index = usize::try_from(partition.0).expect("partitions are counted from 0");
        if self.indices.len() <= index {
            self.indices.resize_with(index + 1, FxHashMap::default);
        }
        let indices = &mut self.indices[index];
        let slot_index = match indices.get(key) {
            Some(slot) => *slot,
            None => {
                let key: Box<[u8]> = key.into();
                indices.insert(key.clone(), self.slots.len());
                self.slots.push(Slot {
                    partition: partition.0,
                    key,
                    state: State::Absent,
                    newest: record.offset(),
                    traceparent: None,
                    tracestate: None,
                    is_in_changed: false,
                });
                self.slots.len() - 1
            }
        };
        let slot = &mut self.slots[slot_index];
        slot.state = Service.apply(&slot.state, event)?;
        slot.newest = record.offset();
        (slot.traceparent, slot.tracestate) = (None, None);
        for (name, value) in record.headers() {
            match &*name {
                header::TRACEPARENT => slot.traceparent = value.map(Box::from),
                header::TRACESTATE => slot.tracestate = value.map(Box::from),
                _ => {}
            }
        }
        if !slot.is_in_changed {
            slot.is_in_changed = true;
            self.changed.push(slot_index);
        }
        Ok(())
    }

    fn publish(&mut self, sender: &Sender, task: &Task) {
        let mut digits = String::with_capacity(20);
        for slot_index in self.changed.drain(..) {
            let slot = &mut self.slots[slot_index];
            slot.is_in_changed = false;
            let value = Service.encode(&slot.state);
            let mut headers = OwnedHeaders::new_with_capacity(5);
            headers = put(headers, header::STATE_PARTITION, decimal(&mut digits, slot.partition.into()));
            headers = put(headers, header::STATE_OFFSET, decimal(&mut digits, slot.newest.0));
            headers = put(headers, header::GROUP, task.group.as_bytes());
            if let Some(value) = &slot.traceparent {
                headers = put(headers, header::TRACEPARENT, value);
            }
            if let Some(value) = &slot.tracestate {
                headers = put(headers, header::TRACESTATE, value);
            }
            sender.send(&task.state, slot.partition, Some(&slot.key), value.as_deref(), Some(headers));
        }
    }
}

fn reject(sender: &Sender, task: &Task, partition: Partition, record: &Incoming<'_>, rejection: &Rejection) {
    let originals: Vec<(Cow<'_, str>, Option<&[u8]>)> = record.headers().collect();
    let mut headers = OwnedHeaders::new_with_capacity(originals.len() + 6);
    for (name, value) in &originals {
        headers = headers.insert(Header { key: name, value: *value });
    }
    headers = put(headers, header::REASON, rejection.reason.code().as_bytes());
    headers = put(headers, header::DETAIL, rejection.detail.as_bytes());
    headers = put(headers, header::SOURCE_TOPIC, task.input.as_bytes());
    headers = put(headers, header::SOURCE_PARTITION, partition.0.to_string().as_bytes());
    headers = put(headers, header::SOURCE_OFFSET, record.offset().0.to_string().as_bytes());
    headers = put(headers, header::SOURCE_TIMESTAMP, record.timestamp_ms().unwrap_or(-1).to_string().as_bytes());
    sender.send(&task.dlq, partition.0, record.key(), record.value(), Some(headers));
}

fn put(headers: OwnedHeaders, name: &str, value: &[u8]) -> OwnedHeaders {
    headers.insert(Header { key: name, value: Some(value) })
}

fn decimal(buffer: &mut String, number: i64) -> &[u8] {
    use std::fmt::Write as _;
    buffer.clear();
    write!(buffer, "{number}").expect("writing to a string cannot fail");
    buffer.as_bytes()
}
