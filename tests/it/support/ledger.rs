//! What the topics hold against what the reference model says: the one judge of every test on a real Kafka.

use std::time::Duration;

use steward::testing::reference::check::{Difference, Expectation, SeenRecords, check};
use steward::testing::reference::{Model, TopicRecord};
use steward::testing::workload::GeneratedEvent;

use super::kafka::{Kafka, Outgoing, Stored};
use super::names::Names;
use super::wait::{PATIENCE, wait_until};

/// The default of `limits.max_payload_bytes`.
pub const MAX_PAYLOAD_BYTES: u64 = 262_144;

/// The differences that are shown of many.
const SHOWN: usize = 12;

/// A generated event on its way into a topic: what has no key goes to partition 0, and each key to one partition.
pub fn outgoing(event: GeneratedEvent, partitions: i32) -> Outgoing {
    let GeneratedEvent { key, value, timestamp_ms, headers, .. } = event;
    let sum: i32 = key.iter().flatten().map(|byte| i32::from(*byte)).sum();
    let headers = headers.into_iter().map(|(name, value)| (name, Some(value))).collect();
    Outgoing { partition: Some(sum % partitions), key, value, headers, timestamp_ms: Some(timestamp_ms) }
}

/// Waits until the group has committed all that the input holds.
pub fn wait_until_committed(kafka: &Kafka, names: &Names, limit: Duration) {
    let ends: Vec<i64> = kafka.ends(&names.input).iter().map(|ends| ends.high).collect();
    wait_until("the group has committed the whole input", limit, || {
        let committed = kafka.committed(&names.group, &names.input);
        ends.iter().zip(committed).all(|(end, position)| *end == 0 || position.is_some_and(|position| position >= *end))
    });
}

/// The model's judgement of everything in the input.
pub fn model_of(kafka: &Kafka, names: &Names) -> Model {
    let mut model = Model::keeping_history(MAX_PAYLOAD_BYTES);
    for record in kafka.read_committed(&names.input) {
        model.process_record(&topic_record(record));
    }
    model
}

/// What a `read_committed` reader sees of the outcome.
pub fn seen(kafka: &Kafka, names: &Names) -> SeenRecords {
    let read = |topic: &str| kafka.read_committed(topic).into_iter().map(topic_record).collect();
    let ends = kafka.ends(&names.input);
    let committed = kafka.committed(&names.group, &names.input);
    let numbered = |values: Vec<Option<i64>>| {
        (0..).zip(values).filter_map(|(partition, value)| Some((partition, value?))).collect()
    };
    SeenRecords {
        state: read(&names.state),
        dlq_records: read(&names.dlq),
        committed: numbered(committed),
        ends: numbered(ends.iter().map(|ends| Some(ends.high)).collect()),
    }
}

/// Fails, naming the differences, unless the outcome is exactly what the model says.
pub fn assert_exact(kafka: &Kafka, names: &Names) {
    let expected = Expectation { topic: names.input.clone(), group: names.group.clone() };
    fail_on(&check(&model_of(kafka, names), &expected, &seen(kafka, names)));
}

/// The same record in the model's epochs.
pub fn topic_record(stored: Stored) -> TopicRecord {
    let Stored { partition, offset, timestamp_ms, key, value, headers } = stored;
    TopicRecord { partition, offset, timestamp_ms, key, value, headers }
}

/// Everything that went in, and everything that came out, for tests that ask more than [`assert_exact`] does.
pub struct Ledger {
    /// What the input must come to.
    pub model: Model,
    /// What a reader sees.
    pub seen: SeenRecords,
    expected: Expectation,
}

impl Ledger {
    /// Waits until the group has committed all of the input, then reads the three topics.
    pub fn of(kafka: &Kafka, names: &Names) -> Ledger {
        wait_until_committed(kafka, names, PATIENCE);
        let expected = Expectation { topic: names.input.clone(), group: names.group.clone() };
        Ledger { model: model_of(kafka, names), seen: seen(kafka, names), expected }
    }

    /// Every way in which the outcome differs from the contract.
    pub fn differences(&self) -> Vec<Difference> {
        check(&self.model, &self.expected, &self.seen)
    }

    /// Nothing was lost, doubled, swapped or misread. Returns itself for further questions.
    #[track_caller]
    pub fn assert_exact(self) -> Ledger {
        fail_on(&self.differences());
        assert!(!self.model.last_offsets().is_empty(), "nothing went in, so that nothing is shown");
        self
    }

    /// How many events went in and were judged.
    pub fn events(&self) -> usize {
        let history = |(partition, key): &(i32, Vec<u8>)| self.model.history_of(*partition, key).map_or(0, <[_]>::len);
        self.model.newest().map(|(entity, _)| history(entity)).sum::<usize>() + self.model.rejections().len()
    }
}

#[track_caller]
fn fail_on(differences: &[Difference]) {
    let shown: Vec<String> = differences.iter().take(SHOWN).map(ToString::to_string).collect();
    assert!(
        differences.is_empty(),
        "{} differences from the model, among them\n{}",
        differences.len(),
        shown.join("\n")
    );
}
