//! A panic in entity code costs one restart of that entity and one DLQ record. Every other key goes on.
//!
//! The same small entity runs twice. On a real Kafka, in this process and with many threads, the tests check what a
//! `read_committed` reader sees. Over the fake, on one thread with a paused clock, any delay is visible.

mod fake;
mod fragile;

use std::sync::{Arc, Mutex};

use steward::app::client_events::ClientLog;
use steward::app::pipeline::{Pipeline, PipelineParts, unwrapped};
use steward::app::{StopCause, SystemClock};
use steward::config::Config;
use steward::kafka::admin::topics::Topics;

use crate::support::kafka::{ANY_TIMESTAMP, Kafka, Outgoing, Stored, record};
use crate::support::names::Names;
use crate::support::wait::{PATIENCE, wait_until};
use fragile::{ENCODE_PANIC, Fragile, PANIC};

#[apply(broker_test)]
fn a_panic_costs_one_restart_and_one_dlq_record_and_other_keys_go_on() {
    check_one_panic(PANIC);
}

#[apply(broker_test)]
fn a_panic_while_the_state_is_encoded_costs_the_event_that_caused_it() {
    check_one_panic(ENCODE_PANIC);
}

/// The events before and after the panic are in the same batch, so the restart does not separate them.
fn check_one_panic(panic: &str) {
    let run = Run::start(1, Config::default());
    let bad = record("a", panic).header("mine", b"\xff\x00").null_header("null").at(1_700_000_000_000);

    run.produce(&[record("a", "1"), record("b", "2"), bad.clone(), record("a", "3"), record("b", "4")]);
    run.wait_until_committed(5);
    assert_eq!(run.states(), [("a", "1,3"), ("b", "2,4")].map(owned), "from the last good state");
    run.produce(&[record("a", "5"), record("b", "6")]);
    run.wait_until_committed(7);

    assert_eq!(run.states(), [("a", "1,3,5"), ("b", "2,4,6")].map(owned), "and after the restart");
    let dlq_records = run.kafka.read_committed(&run.names.dlq);
    let [dlq_record] = &dlq_records[..] else { panic!("one DLQ record, not {dlq_records:?}") };
    assert_eq!(
        (dlq_record.key.clone(), dlq_record.value.clone()),
        (bad.key.clone(), bad.value.clone()),
        "byte for byte"
    );
    assert!(dlq_record.headers.starts_with(&bad.headers), "{dlq_record:?}");
    assert_eq!(dlq_record.last_header("steward-reason").as_deref(), Some("panicked"));
    assert_eq!(dlq_record.last_header("steward-source-offset").as_deref(), Some("2"));
    assert_eq!(dlq_record.last_header("steward-source-timestamp").as_deref(), Some("1700000000000"));
    let totals = run.pipeline.shared().stats.totals();
    assert_eq!((totals.entity_restarts, totals.applied, totals.skipped), (1, 6, 0));
    run.end();
}

/// Each batch has one record, so each panic is a restart.
#[apply(broker_test)]
fn a_flood_of_panics_of_one_key_loses_nothing_of_the_others() {
    let mut config = Config::default();
    config.limits.max_batch_records = 1;
    let run = Run::start(1, config);
    const PANICS: usize = 1_000;
    let flood = (0..PANICS).flat_map(|number| {
        let neighbour = record(format!("key-{}", number % 10), number.to_string());
        [record("bad", format!("{PANIC} {number}")), neighbour]
    });
    let all: Vec<Outgoing> =
        [record("bad", "before")].into_iter().chain(flood).chain([record("bad", "after")]).collect();

    run.produce(&all);
    run.wait_until_committed(all.len());

    let expected = (0..10).map(|key| {
        let numbers: Vec<String> = (key..PANICS).step_by(10).map(|number| number.to_string()).collect();
        (format!("key-{key}"), numbers.join(","))
    });
    let mut expected: Vec<(String, String)> = expected.chain([owned(("bad", "before,after"))]).collect();
    expected.sort();
    assert_eq!(run.states(), expected);
    let dlq_records = run.kafka.read_committed(&run.names.dlq);
    let found: Vec<String> = dlq_records.iter().filter_map(Stored::value_text).collect();
    let panics: Vec<String> = (0..PANICS).map(|number| format!("{PANIC} {number}")).collect();
    assert_eq!(found, panics, "each once, in order");
    let totals = run.pipeline.shared().stats.totals();
    assert_eq!(totals.applied, PANICS as u64 + 2);
    assert_eq!(totals.entity_restarts, PANICS as u64);
    run.end();
}

// ----------------------------------------------------------------------------------------------------------- helpers

/// The real pipeline on a real Kafka, in this process, with the fragile entity.
struct Run {
    kafka: Kafka,
    names: Names,
    pipeline: Pipeline,
    stops: Arc<Mutex<Vec<StopCause>>>,
}

impl Run {
    fn start(partitions: i32, mut config: Config) -> Run {
        let (kafka, names) = (Kafka::shared(), Names::new());
        kafka.create_input(&names, partitions);
        kafka.create_topic(&names.state, partitions, &[("cleanup.policy", "compact")]);
        kafka.create_topic(&names.dlq, partitions, &ANY_TIMESTAMP);
        config.kafka.bootstrap_servers = kafka.address().to_owned();
        config.kafka.group_id.clone_from(&names.group);
        config.kafka.topic.clone_from(&names.input);
        config.kafka.state_topic.clone_from(&names.state);
        config.kafka.dlq_topic.clone_from(&names.dlq);
        let topics = Topics { partitions, replication: 1, ..Topics::default() };
        let stops = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&stops);
        let stop = Arc::new(move |stop| recorded.lock().expect("no thread panics while it holds this").push(stop));
        let (clock, log) = (Arc::new(SystemClock), Arc::new(ClientLog::new(SystemClock)));
        let pipeline = Pipeline::start(PipelineParts {
            config: &config,
            instance: "pod",
            topics,
            entity: Arc::new(Fragile),
            clock,
            client_log: log,
            stop,
            wrap: unwrapped,
        });
        Run { kafka, names, pipeline: pipeline.expect("the pipeline starts"), stops }
    }

    fn produce(&self, records: &[Outgoing]) {
        self.kafka.produce(&self.names.input, records);
    }

    fn wait_until_committed(&self, records: usize) {
        let records = i64::try_from(records).expect("a few");
        wait_until("everything is committed", PATIENCE, || {
            let stops = self.stops.lock().expect("no thread panics while it holds this");
            assert!(stops.is_empty(), "the pipeline stopped: {stops:?}");
            let committed = self.kafka.committed(&self.names.group, &self.names.input);
            committed.into_iter().flatten().sum::<i64>() == records
        });
    }

    /// The newest value of each key, by key.
    fn states(&self) -> Vec<(String, String)> {
        let records = self.kafka.read_committed(&self.names.state);
        let newest: std::collections::BTreeMap<String, String> =
            records.iter().filter_map(|record| Some((record.key_text(), record.value_text()?))).collect();
        newest.into_iter().collect()
    }

    fn end(self) {
        self.pipeline.stop_ingest();
        wait_until("nothing is open", PATIENCE, || self.pipeline.is_drained());
        self.pipeline.leave_group();
        wait_until("the group is left", PATIENCE, || self.pipeline.source_has_ended());
    }
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}
