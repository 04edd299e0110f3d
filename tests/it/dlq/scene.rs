//! The topics of a test, DLQ records in steward's format, and the `steward dlq` commands.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::{Ran, Running, command};
use crate::support::kafka::{ANY_TIMESTAMP, Kafka, Outgoing, Stored};
use crate::support::names::Names;

pub struct Scene {
    pub kafka: Kafka,
    pub names: Names,
    address: String,
}

impl Scene {
    /// Empty topics with this many partitions each, on the Kafka that all tests share.
    pub fn new(partitions: i32) -> Scene {
        Scene::on(Kafka::shared(), partitions, &[])
    }

    /// Empty topics on this Kafka, with these settings of the input.
    pub fn on(kafka: Kafka, partitions: i32, input: &[(&str, &str)]) -> Scene {
        let (names, address) = (Names::new(), kafka.address().to_owned());
        kafka.create_topic(&names.input, partitions, &[&ANY_TIMESTAMP, input].concat());
        for topic in [&names.state, &names.dlq] {
            kafka.create_topic(topic, partitions, &ANY_TIMESTAMP);
        }
        Scene { kafka, names, address }
    }

    /// Topics that exist already.
    pub fn of(kafka: Kafka, names: Names) -> Scene {
        let address = kafka.address().to_owned();
        Scene { kafka, names, address }
    }

    /// Makes the commands connect to this address.
    pub fn through(mut self, kafka: &Kafka) -> Scene {
        kafka.address().clone_into(&mut self.address);
        self
    }

    /// The DLQ record of an event, in the event's partition.
    pub fn dlq_record(&self, reason: &str, event: Outgoing, source_offset: i64) -> Outgoing {
        let partition = event.partition.unwrap_or(0);
        event
            .to(partition)
            .header("steward-reason", reason)
            .header("steward-detail", "for a person")
            .header("steward-source-topic", &self.names.input)
            .header("steward-source-partition", partition.to_string())
            .header("steward-source-offset", source_offset.to_string())
            .header("steward-source-timestamp", "1700000000000")
            .header("steward-group", &self.names.group)
    }

    pub fn receipts_topic(&self) -> String {
        format!("{}.replayed", self.names.dlq)
    }

    /// Runs `steward dlq` with these arguments and waits for its end.
    pub fn dlq(&self, arguments: &[&str]) -> Ran {
        self.start(arguments).end()
    }

    /// Starts `steward dlq`.
    pub fn start(&self, arguments: &[&str]) -> Running {
        self.start_with(&[], arguments)
    }

    /// Starts `steward dlq` with further environment variables.
    pub fn start_with(&self, further: &[(&str, &str)], arguments: &[&str]) -> Running {
        let environment = [
            ("STEWARD__KAFKA__BOOTSTRAP_SERVERS", self.address.as_str()),
            ("STEWARD__KAFKA__TOPIC", &self.names.input),
            ("STEWARD__KAFKA__STATE_TOPIC", &self.names.state),
            ("STEWARD__KAFKA__DLQ_TOPIC", &self.names.dlq),
            ("STEWARD__KAFKA__GROUP_ID", &self.names.group),
        ];
        let environment = [&environment, further].concat();
        Running::spawn(&mut command(&environment, [&["dlq"], arguments].concat()))
    }

    /// Runs a replay with `--execute`, at the highest rate, and returns its outcome.
    pub fn replay(&self, flags: &[&str]) -> Value {
        let ran = self.dlq(&[&["replay", "--execute", "--rate", "100000", "--json"], flags].concat());
        one(&ran.ok())
    }

    /// Runs a dry run and returns its plan.
    pub fn plan(&self, flags: &[&str]) -> Value {
        one(&self.dlq(&[&["replay", "--json"], flags].concat()).ok())
    }

    /// The events of the input that were replayed.
    pub fn replayed(&self) -> Vec<Stored> {
        let input = self.kafka.read_committed(&self.names.input);
        input.into_iter().filter(|stored| stored.last_header("steward-replayed-from").is_some()).collect()
    }

    /// Fails unless each of the DLQ records was replayed once and has a receipt.
    pub fn assert_each_once(&self, dlq_records: usize) {
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        for stored in self.replayed() {
            *times.entry(stored.last_header("steward-replayed-from").expect("filtered")).or_default() += 1;
        }
        let repeated: Vec<_> = times.iter().filter(|(_, count)| **count > 1).collect();
        assert!(repeated.is_empty(), "{} replayed more than once, the first {:?}", repeated.len(), repeated[0]);
        assert_eq!(times.len(), dlq_records, "replayed");
        let receipts: Vec<String> =
            self.kafka.read_committed(&self.receipts_topic()).iter().map(Stored::key_text).collect();
        let prefix = format!("{}-", self.names.dlq);
        let named = receipts.iter().map(|key| format!("{prefix}{}", key.replace('-', "@")));
        assert_eq!(named.collect::<std::collections::BTreeSet<_>>(), times.into_keys().collect(), "receipts");
        assert_eq!(receipts.len(), dlq_records, "one receipt each");
    }
}

/// Parses the output as one JSON object.
pub fn one(shown: &str) -> Value {
    serde_json::from_str(shown).unwrap_or_else(|error| panic!("{error}: {shown}"))
}

/// Parses each line of the output as a JSON object.
pub fn lines(shown: &str) -> Vec<Value> {
    shown.lines().map(one).collect()
}
