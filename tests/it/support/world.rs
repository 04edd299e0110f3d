//! One service seen from outside: its topics on a real Kafka, and a reference model of its input. The outputs, as a
//! `read_committed` reader sees them, have to equal those of the model.

use std::collections::BTreeMap;

use steward::testing::reference::{Difference, Expectation, Fault, Model, SeenRecords, TopicRecord, check};

use super::kafka::{Kafka, Outgoing, Place, Stored, record};
use super::names::Names;
use super::process::{Setup, Steward};
use super::wait::{PATIENCE, wait_until};

/// The default of `limits.max_payload_bytes`.
pub const MAX_PAYLOAD_BYTES: u64 = 262_144;

/// The records of the state topic and the DLQ topic.
pub type Outputs = [Vec<Stored>; 2];

pub struct World {
    pub kafka: Kafka,
    /// Topics and group. A test may change them, for example to copies.
    pub names: Names,
    /// Has processed the events of [`World::produce`].
    pub model: Model,
    /// A group whose DLQ records count as this group's.
    pub taken_over: Option<String>,
}

impl World {
    /// Creates an empty input topic; the outputs do not exist yet.
    pub fn new(partitions: i32) -> World {
        World::with_payload_limit(partitions, MAX_PAYLOAD_BYTES)
    }

    /// [`World::new`] with another `limits.max_payload_bytes` for the model, but not for [`World::setup`].
    pub fn with_payload_limit(partitions: i32, max_payload_bytes: u64) -> World {
        let world = World::without_topics(max_payload_bytes);
        world.kafka.create_input(&world.names, partitions);
        world
    }

    /// Creates no topic.
    pub fn without_topics(max_payload_bytes: u64) -> World {
        World {
            kafka: Kafka::shared(),
            names: Names::new(),
            model: Model::keeping_history(max_payload_bytes),
            taken_over: None,
        }
    }

    /// Produces events that the service will see: the model processes them.
    pub fn produce(&mut self, events: &[Outgoing]) -> Vec<Place> {
        let places = self.kafka.produce(&self.names.input, events);
        self.process(&places);
        places
    }

    /// Produces events that the service will not see.
    pub fn produce_unseen(&self, events: &[Outgoing]) -> Vec<Place> {
        self.kafka.produce(&self.names.input, events)
    }

    /// Lets the model process the records at these places.
    pub fn process(&mut self, places: &[Place]) {
        for stored in self.kafka.read_committed(&self.names.input) {
            if places.contains(&Place { partition: stored.partition, offset: stored.offset }) {
                self.model.process_record(&topic_record(stored));
            }
        }
    }

    /// Returns the setup of a process of this service.
    pub fn setup(&self) -> Setup {
        Setup::new(&self.kafka, &self.names)
    }

    /// Processes the whole input with a process of this setup, and stops it cleanly.
    pub fn process_input_with(&self, setup: &Setup) -> Steward {
        let mut steward = setup.start();
        self.settle(&mut steward);
        steward.stop();
        steward
    }

    /// Processes the whole input with a default process, which must log no ERROR.
    pub fn process_input(&self) -> Steward {
        let steward = self.process_input_with(&self.setup());
        steward.assert_no_errors_but(&[]);
        steward
    }

    /// Waits until the process serves every partition and has committed the whole input.
    pub fn settle(&self, steward: &mut Steward) {
        let ends: Vec<Option<i64>> =
            self.kafka.ends(&self.names.input).into_iter().map(|ends| Some(ends.high)).collect();
        wait_until(&format!("the input is committed up to {ends:?}"), PATIENCE, || {
            assert!(steward.is_running(), "it ended; {}", steward.tail());
            steward.events("recovery_finished").len() >= ends.len()
                && self.kafka.committed(&self.names.group, &self.names.input) == ends
        });
    }

    /// Sets the committed offset of the group in every partition, as an operator would.
    pub fn set_offsets(&self, offset: i64) {
        let partitions = self.kafka.partitions_of(&self.names.input);
        let offsets: Vec<(i32, i64)> = (0..partitions).map(|partition| (partition, offset)).collect();
        self.kafka.commit(&self.names.group, &self.names.input, &offsets);
    }

    /// Returns the records of the two outputs, as a `read_committed` reader sees them.
    pub fn outputs(&self) -> Outputs {
        [&self.names.state, &self.names.dlq].map(|topic| self.kafka.read_committed(topic))
    }

    /// Returns the newest value of a key in the state topic as text; `None` for a tombstone, or if there is no record.
    pub fn state_of(&self, key: &str) -> Option<String> {
        let state = self.kafka.read_committed(&self.names.state);
        state.iter().rev().find(|stored| stored.key_text() == key)?.value_text()
    }

    /// Fails on any difference between the outputs and the model, and lists the differences.
    pub fn assert_exact(&self) {
        self.assert_exact_except(&[]);
    }

    /// [`World::assert_exact`], except that the state of these keys may be missing.
    pub fn assert_exact_except(&self, exempt: &[&str]) {
        let [state, mut dlq_records]: [Vec<TopicRecord>; 2] =
            self.outputs().map(|records| records.into_iter().map(topic_record).collect());
        self.count_as_own(&mut dlq_records);
        let committed = self.kafka.committed(&self.names.group, &self.names.input);
        let committed: BTreeMap<i32, i64> =
            (0..).zip(committed).filter_map(|(partition, offset)| Some((partition, offset?))).collect();
        let ends = (0..).zip(self.kafka.ends(&self.names.input)).map(|(partition, ends)| (partition, ends.high));
        let seen = SeenRecords { state, dlq_records, committed, ends: ends.collect() };
        let expected = Expectation { topic: self.names.input.clone(), group: self.names.group.clone() };
        let differences = check(&self.model, &expected, &seen);
        let is_exempt = |difference: &Difference| {
            let key = difference.key.as_deref().unwrap_or_default();
            difference.fault == Fault::StateMissing && exempt.iter().any(|exempt| exempt.as_bytes() == key)
        };
        let differences: Vec<String> =
            differences.iter().filter(|difference| !is_exempt(difference)).map(ToString::to_string).collect();
        assert!(differences.is_empty(), "the outputs differ from the model:\n{}", differences.join("\n"));
    }

    fn count_as_own(&self, dlq_records: &mut [TopicRecord]) {
        let Some(taken_over) = &self.taken_over else { return };
        for (name, value) in dlq_records.iter_mut().flat_map(|record| &mut record.headers) {
            if name == "steward-group" && value.as_deref() == Some(taken_over.as_bytes()) {
                *value = Some(self.names.group.clone().into_bytes());
            }
        }
    }
}

fn topic_record(stored: Stored) -> TopicRecord {
    let Stored { partition, offset, timestamp_ms, key, value, headers } = stored;
    TopicRecord { partition, offset, timestamp_ms, key, value, headers }
}

// ---------------------------------------------------------------------------------------------------------- events

pub fn created(id: u64) -> Outgoing {
    created_with_description(id, "Full stack")
}

/// Creates a service with this description, which needs no escapes in JSON.
pub fn created_with_description(id: u64, description: &str) -> Outgoing {
    let value = format!(
        r#"{{"eventType":"ServiceCreated","id":{id},"name":"Service {id}","description":"{description}","tags":["web"]}}"#
    );
    record(id.to_string(), value)
}

/// Sets a service's price.
pub fn priced(id: u64, price: u64) -> Outgoing {
    record(id.to_string(), format!(r#"{{"eventType":"ServiceUpdated","id":{id},"pricePerHour":{price}}}"#))
}

pub fn deleted(id: u64) -> Outgoing {
    record(id.to_string(), format!(r#"{{"eventType":"ServiceDeleted","id":{id}}}"#))
}

/// A record that is not JSON.
pub fn malformed(id: u64) -> Outgoing {
    record(id.to_string(), format!("{{{id}"))
}
