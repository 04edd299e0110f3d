//! A fake is valid only if the same scenario ends the same on Kafka. The scenario says what is produced, when a process
//! crashes and when a partition moves. It runs once over the fake and once with real processes on a real broker. The
//! transactions differ; what a reader finds at the end must not.

use std::collections::BTreeMap;
use std::time::Duration;

use steward::testing::workload::GeneratedEvent;

use super::{Run, Scenario, World};
use crate::support::capture::Capture;
use crate::support::kafka::Kafka;
use crate::support::ledger::{
    assert_exact, wait_until_committed, {self},
};
use crate::support::names::Names;
use crate::support::paused::on_one_thread;
use crate::support::process::{Setup, Steward};

const SEED: u64 = 11;
const PARTITIONS: usize = 4;
const LIMIT: Duration = Duration::from_secs(60);

/// A step of the scenario.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Produces this number of events.
    Produce(usize),
    /// Some of the events are processed.
    ProcessSome,
    /// All events are processed and committed.
    ProcessAll,
    /// A process crashes, and another takes its name.
    Crash,
    /// Partitions move to another process.
    HandOver,
}

const SCENARIO: [Act; 17] = [
    Act::Produce(150),
    Act::ProcessAll,
    Act::Crash,
    Act::Produce(100),
    Act::ProcessSome,
    Act::Crash,
    Act::HandOver,
    Act::Produce(150),
    Act::ProcessSome,
    Act::HandOver,
    Act::ProcessAll,
    Act::Produce(50),
    Act::HandOver,
    Act::Crash,
    Act::Produce(150),
    Act::HandOver,
    Act::ProcessAll,
];

#[apply(broker_test)]
fn the_same_scenario_ends_the_same_on_the_fake_and_on_kafka() {
    let on_fake = outcome(&play_on_fake().seen);
    let on_kafka = outcome(&play_on_kafka());
    assert!(on_fake.entities.len() > 5, "the scenario is too small: {} entities", on_fake.entities.len());
    assert!(on_fake.dlq_records.len() > 20, "the scenario is too small: {} rejected", on_fake.dlq_records.len());
    assert_eq!(on_fake.entities, on_kafka.entities, "the entities differ");
    assert_eq!(on_fake.dlq_records, on_kafka.dlq_records, "the DLQ records differ");
}

/// What does not depend on how the work is split into transactions.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// By partition and key: value and source offset.
    entities: BTreeMap<(i32, Vec<u8>), (String, String)>,
    /// By partition and source offset.
    dlq_records: BTreeMap<(i32, i64), DlqRecord>,
}

/// Reason, detail, key and value.
type DlqRecord = (String, String, Option<Vec<u8>>, Option<Vec<u8>>);

fn outcome(seen: &steward::testing::reference::check::SeenRecords) -> Outcome {
    let text = |record: &steward::testing::reference::TopicRecord, name: &str| {
        let value = record.last_header(name).flatten().unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    };
    let mut entities = BTreeMap::new();
    for record in &seen.state {
        let key = (record.partition, record.key.clone().unwrap_or_default());
        match &record.value {
            Some(value) => {
                let value = String::from_utf8_lossy(value).into_owned();
                entities.insert(key, (value, text(record, "steward-source-offset")));
            }
            None => drop(entities.remove(&key)),
        }
    }
    let dlq_records = seen.dlq_records.iter().map(|record| {
        let offset = text(record, "steward-source-offset").parse().expect("decimal digits");
        let (reason, detail) = (text(record, "steward-reason"), text(record, "steward-detail"));
        ((record.partition, offset), (reason, detail, record.key.clone(), record.value.clone()))
    });
    Outcome { entities, dlq_records: dlq_records.collect() }
}

// --------------------------------------------------------------------------------------------------------- the fake

fn play_on_fake() -> Run {
    // The state topic on Kafka takes every snapshot.
    let max_snapshot_bytes = u64::MAX;
    let scenario = Scenario { events: 600, partitions: PARTITIONS, pods: 2, max_snapshot_bytes, ..Scenario::stormy() };
    let capture = Capture::here();
    let run = on_one_thread(move |clock| async move {
        let mut world = World::new(SEED, scenario, clock);
        for act in SCENARIO {
            match act {
                Act::Produce(many) => world.produce_many(many),
                Act::ProcessSome => {
                    for _ in 0..10 {
                        world.assign_unowned();
                        world.poll();
                        world.recover();
                        world.end_transaction().await;
                        super::settle().await;
                    }
                }
                Act::ProcessAll => world.calm().await,
                Act::Crash => world.crash(),
                Act::HandOver => world.hand_over().await,
            }
        }
        world.calm().await;
        world.result()
    });
    run.assert_exact(SEED);
    Run { log: capture.all(), ..run }
}

// ------------------------------------------------------------------------------------------------------------ Kafka

fn play_on_kafka() -> steward::testing::reference::check::SeenRecords {
    let partitions = i32::try_from(PARTITIONS).expect("a few partitions");
    let kafka = Kafka::shared();
    let names = Names::new();
    kafka.create_input(&names, partitions);
    let mut events = workload().into_iter();
    let mut processes = Processes::start(&kafka, &names);
    for act in SCENARIO {
        match act {
            Act::Produce(many) => {
                let records: Vec<_> =
                    events.by_ref().take(many).map(|event| ledger::outgoing(event, partitions)).collect();
                kafka.produce(&names.input, &records);
            }
            // Whatever the processes have processed by the next step.
            Act::ProcessSome => {}
            Act::ProcessAll => wait_until_committed(&kafka, &names, LIMIT),
            Act::Crash => processes.crash(),
            Act::HandOver => processes.hand_over(),
        }
    }
    wait_until_committed(&kafka, &names, LIMIT);
    processes.stop();
    assert_exact(&kafka, &names);
    ledger::seen(&kafka, &names)
}

fn workload() -> Vec<GeneratedEvent> {
    super::workload_of(SEED, 600).generate().expect("the workload makes sense").collect()
}

/// One process that stays, and one that joins and leaves, which moves partitions.
struct Processes {
    setup: Setup,
    stays: Steward,
    guest: Option<Steward>,
}

impl Processes {
    fn start(kafka: &Kafka, names: &Names) -> Processes {
        // A dead dynamic member keeps its partitions for a session. A static member is replaced at once.
        let setup = Setup::new(kafka, names).set("kafka.static_membership", true);
        let stays = setup.clone().instance("stays").start();
        Processes { setup, stays, guest: None }
    }

    fn crash(&mut self) {
        self.stays.kill9();
        self.stays.assert_no_errors_but(&[]);
        self.stays = self.setup.clone().instance("stays").start();
    }

    fn hand_over(&mut self) {
        match self.guest.take() {
            None => {
                let mut guest = self.setup.clone().set("kafka.static_membership", false).instance("guest").start();
                guest.wait_for_event("recovery_finished", LIMIT);
                self.guest = Some(guest);
            }
            Some(mut guest) => {
                guest.stop();
                guest.assert_no_errors_but(&[]);
            }
        }
    }

    fn stop(&mut self) {
        for process in self.guest.iter_mut().chain([&mut self.stays]) {
            process.stop();
            process.assert_no_errors_but(&[]);
        }
    }
}
