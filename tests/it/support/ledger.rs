//! Compares the topics on a real Kafka with the reference model.

use std::time::Duration;

use steward::testing::reference::check::{Difference, Expectation, SeenRecords, check};
use steward::testing::reference::{Model, TopicRecord};
use steward::testing::workload::GeneratedEvent;

use super::kafka::{Kafka, Outgoing, Stored};
use super::names::Names;
use super::wait::{PATIENCE, wait_until};

/// The default of `limits.max_payload_bytes`.
pub const MAX_PAYLOAD_BYTES: u64 = 262_144;

/// Number of differences that a failure prints.
const SHOWN: usize = 12;

/// Converts a generated event to a record for a topic. Each key goes to one partition, and null keys go to partition 0.
pub fn outgoing(event: GeneratedEvent, partitions: i32) -> Outgoing {
    let GeneratedEvent { key, value, timestamp_ms, headers, .. } = event;
    let sum: i32 = key.iter().flatten().map(|byte| i32::from(*byte)).sum();
    let headers = headers.into_iter().map(|(name, value)| (name, Some(value))).collect();
    Outgoing { partition: Some(sum % partitions), key, value, headers, timestamp_ms: Some(timestamp_ms) }
}

/// Waits until the group has committed the whole input.
pub fn wait_until_committed(kafka: &Kafka, names: &Names, limit: Duration) {
    let ends: Vec<i64> = kafka.ends(&names.input).iter().map(|ends| ends.high).collect();
    wait_until("the group has committed the whole input", limit, || {
        let committed = kafka.committed(&names.group, &names.input);
        ends.iter().zip(committed).all(|(end, position)| *end == 0 || position.is_some_and(|position| position >= *end))
    });
}

/// Returns a model that has processed the whole input.
pub fn model_of(kafka: &Kafka, names: &Names) -> Model {
    after_input(kafka, names, Model::keeping_history(MAX_PAYLOAD_BYTES))
}

fn after_input(kafka: &Kafka, names: &Names, mut model: Model) -> Model {
    for record in kafka.read_committed(&names.input) {
        model.process_record(&topic_record(record));
    }
    model
}

/// Returns the outcome as a `read_committed` reader sees it.
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

/// Fails with the differences, unless the outcome equals that of the model.
pub fn assert_exact(kafka: &Kafka, names: &Names) {
    let expected = Expectation { topic: names.input.clone(), group: names.group.clone() };
    fail_on(&check(&model_of(kafka, names), &expected, &seen(kafka, names)));
}

/// Converts a record to the type of the model.
pub fn topic_record(stored: Stored) -> TopicRecord {
    let Stored { partition, offset, timestamp_ms, key, value, headers } = stored;
    TopicRecord { partition, offset, timestamp_ms, key, value, headers }
}

/// The whole input and outcome, for tests that check more than [`assert_exact`] does.
pub struct Ledger {
    /// Has processed the whole input.
    pub model: Model,
    /// The outcome as a `read_committed` reader sees it.
    pub seen: SeenRecords,
    expected: Expectation,
}

impl Ledger {
    /// Waits until the group has committed the whole input, then reads the three topics.
    pub fn of(kafka: &Kafka, names: &Names) -> Ledger {
        Ledger::with_model(kafka, names, Model::keeping_history(MAX_PAYLOAD_BYTES))
    }

    /// [`Ledger::of`], with a model that has processed nothing yet.
    pub fn with_model(kafka: &Kafka, names: &Names, model: Model) -> Ledger {
        wait_until_committed(kafka, names, PATIENCE);
        let expected = Expectation { topic: names.input.clone(), group: names.group.clone() };
        Ledger { model: after_input(kafka, names, model), seen: seen(kafka, names), expected }
    }

    /// Returns every difference between the outcome and the contract.
    pub fn differences(&self) -> Vec<Difference> {
        check(&self.model, &self.expected, &self.seen)
    }

    /// Fails if an event was lost, applied twice, reordered or misread. Returns the ledger for further checks.
    #[track_caller]
    pub fn assert_exact(self) -> Ledger {
        fail_on(&self.differences());
        assert!(!self.model.last_offsets().is_empty(), "nothing went in, so that nothing is shown");
        self
    }

    /// Returns the number of events in the input.
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
