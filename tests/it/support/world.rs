//! One service as its neighbours see it: its topics on a real Kafka, what the reference model says about its input, and
//! whether a `read_committed` reader finds just that in its outputs.

use std::collections::BTreeMap;

use steward::testing::reference::{Difference, Expectation, Fault, Model, SeenRecords, TopicRecord, check};

use super::kafka::{Kafka, Outgoing, Place, Stored, record};
use super::names::Names;
use super::process::{Setup, Steward};
use super::wait::{PATIENCE, wait_until};

/// The default of `limits.max_payload_bytes`.
pub const MAX_PAYLOAD_BYTES: u64 = 262_144;

/// What stands in the two outputs.
pub type Outputs = [Vec<Stored>; 2];

/// See the module.
pub struct World {
    /// The Kafka that all tests share.
    pub kafka: Kafka,
    /// Topics and group; a test may point them elsewhere, at copies for one.
    pub names: Names,
    /// Has judged what [`World::produce`] produced.
    pub model: Model,
}

impl World {
    /// An empty input of so many partitions; the outputs do not exist yet.
    pub fn new(partitions: i32) -> World {
        World::with_payload_limit(partitions, MAX_PAYLOAD_BYTES)
    }

    /// The same, whose model knows another `limits.max_payload_bytes`; [`World::setup`] does not.
    pub fn with_payload_limit(partitions: i32, max_payload_bytes: u64) -> World {
        let world = World::without_topics(max_payload_bytes);
        world.kafka.create_input(&world.names, partitions);
        world
    }

    /// No topic exists yet.
    pub fn without_topics(max_payload_bytes: u64) -> World {
        World { kafka: Kafka::shared(), names: Names::new(), model: Model::keeping_history(max_payload_bytes) }
    }

    /// Produces events that count: the model judges them.
    pub fn produce(&mut self, events: &[Outgoing]) -> Vec<Place> {
        let places = self.kafka.produce(&self.names.input, events);
        self.judge(&places);
        places
    }

    /// Produces events that the service is not going to see.
    pub fn produce_unseen(&self, events: &[Outgoing]) -> Vec<Place> {
        self.kafka.produce(&self.names.input, events)
    }

    /// Lets the model judge the records at these places.
    pub fn judge(&mut self, places: &[Place]) {
        for stored in self.kafka.read_committed(&self.names.input) {
            if places.contains(&Place { partition: stored.partition, offset: stored.offset }) {
                self.model.process_record(&topic_record(stored));
            }
        }
    }

    /// A process of this service, to be completed.
    pub fn setup(&self) -> Setup {
        Setup::new(&self.kafka, &self.names)
    }

    /// Works off the whole input with a process of this setup, and ends it cleanly.
    pub fn work_off_with(&self, setup: &Setup) -> Steward {
        let mut steward = setup.start();
        self.settle(&mut steward);
        steward.stop();
        steward
    }

    /// Works off the whole input with an ordinary process, in which nothing goes wrong.
    pub fn work_off(&self) -> Steward {
        let steward = self.work_off_with(&self.setup());
        steward.assert_no_errors_but(&[]);
        steward
    }

    /// Waits until the process serves every partition and has committed up to the end of each.
    pub fn settle(&self, steward: &mut Steward) {
        let ends: Vec<Option<i64>> =
            self.kafka.ends(&self.names.input).into_iter().map(|ends| Some(ends.high)).collect();
        wait_until(&format!("the input is worked off up to {ends:?}"), PATIENCE, || {
            assert!(steward.is_running(), "it ended; {}", steward.tail());
            steward.events("recovery_finished").len() >= ends.len()
                && self.kafka.committed(&self.names.group, &self.names.input) == ends
        });
    }

    /// Sets what the group has committed in every partition, as an operator would.
    pub fn set_offsets(&self, offset: i64) {
        let partitions = self.kafka.partitions_of(&self.names.input);
        let offsets: Vec<(i32, i64)> = (0..partitions).map(|partition| (partition, offset)).collect();
        self.kafka.commit(&self.names.group, &self.names.input, &offsets);
    }

    /// All that a `read_committed` reader finds in the two outputs.
    pub fn outputs(&self) -> Outputs {
        [&self.names.state, &self.names.dlq].map(|topic| self.kafka.read_committed(topic))
    }

    /// The newest value of a key of the state topic as text; `None` for a tombstone, and where there is no record.
    pub fn state_of(&self, key: &str) -> Option<String> {
        let state = self.kafka.read_committed(&self.names.state);
        state.iter().rev().find(|stored| stored.key_text() == key)?.value_text()
    }

    /// Fails on any difference between the outputs and what the model says, with each told in a sentence.
    pub fn assert_exact(&self) {
        self.assert_exact_but_for(&[]);
    }

    /// [`World::assert_exact`], where nothing needs to be known of these keys.
    pub fn assert_exact_but_for(&self, forgotten: &[&str]) {
        let [state, dlq_records] = self.outputs().map(|records| records.into_iter().map(topic_record).collect());
        let committed = self.kafka.committed(&self.names.group, &self.names.input);
        let committed: BTreeMap<i32, i64> =
            (0..).zip(committed).filter_map(|(partition, offset)| Some((partition, offset?))).collect();
        let ends = (0..).zip(self.kafka.ends(&self.names.input)).map(|(partition, ends)| (partition, ends.high));
        let seen = SeenRecords { state, dlq_records, committed, ends: ends.collect() };
        let expected = Expectation { topic: self.names.input.clone(), group: self.names.group.clone() };
        let differences = check(&self.model, &expected, &seen);
        let is_forgotten = |difference: &Difference| {
            let key = difference.key.as_deref().unwrap_or_default();
            difference.fault == Fault::StateMissing && forgotten.iter().any(|forgotten| forgotten.as_bytes() == key)
        };
        let differences: Vec<String> =
            differences.iter().filter(|difference| !is_forgotten(difference)).map(ToString::to_string).collect();
        assert!(differences.is_empty(), "the outputs are not what the model says:\n{}", differences.join("\n"));
    }
}

fn topic_record(stored: Stored) -> TopicRecord {
    let Stored { partition, offset, timestamp_ms, key, value, headers } = stored;
    TopicRecord { partition, offset, timestamp_ms, key, value, headers }
}

// ---------------------------------------------------------------------------------------------------------- events

/// Creates a service.
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

/// Deletes a service.
pub fn deleted(id: u64) -> Outgoing {
    record(id.to_string(), format!(r#"{{"eventType":"ServiceDeleted","id":{id}}}"#))
}

/// Is no event that could ever be applied.
pub fn malformed(id: u64) -> Outgoing {
    record(id.to_string(), format!("{{{id}"))
}
