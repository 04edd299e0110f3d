//! Steward's own pipeline with default settings, and an entity that is slow for one key.

use std::sync::Arc;
use std::time::Duration;

use steward::app::SystemClock;
use steward::app::client_events::ClientLog;
use steward::app::pipeline::{Pipeline, PipelineParts, unwrapped};
use steward::engine::partition::PartitionState;
use steward::entity::{CorruptSnapshot, Entity, RawEvent, Rejection};
use steward::kafka::admin::topics::Topics;
use steward::ports::Clock as _;
use steward::service::{Service, State};

use super::member::config_of;
use crate::contender::{ASSIGNED, FIRST_EVENT, Reported, Task};
use crate::support::wait::wait_until;

const LIMIT: Duration = Duration::from_secs(600);

/// The service entity, with a delay for the events of one key.
struct Slow {
    key: Vec<u8>,
    delay: Duration,
}

impl Entity for Slow {
    type State = State;

    fn absent(&self) -> State {
        Service.absent()
    }

    fn apply(&self, state: &State, event: RawEvent<'_>) -> Result<State, Rejection> {
        if event.key == self.key && !self.delay.is_zero() {
            std::thread::sleep(self.delay);
        }
        Service.apply(state, event)
    }

    fn encode(&self, state: &State) -> Option<Vec<u8>> {
        Service.encode(state)
    }

    fn decode(&self, snapshot: &[u8]) -> Result<State, CorruptSnapshot> {
        Service.decode(snapshot)
    }

    fn newest_event_ms(&self, state: &State) -> Option<i64> {
        Service.newest_event_ms(state)
    }
}

/// Returns when all events are read and no batch is open. The parent process reads the committed offsets.
pub fn run(task: &Task) -> Reported {
    let (key, delay_us) = task.slow.clone().unwrap_or_default();
    let entity = Slow { key: key.into_bytes(), delay: Duration::from_micros(delay_us) };
    let config = config_of(task);
    let pipeline = Pipeline::start(PipelineParts {
        config: &config,
        instance: "slow",
        topics: Topics { partitions: task.partitions, replication: 1, ..Topics::default() },
        entity: Arc::new(entity),
        clock: Arc::new(SystemClock),
        client_log: Arc::new(ClientLog::new(SystemClock)),
        stop: Arc::new(|stop| panic!("{stop:?}")),
        wrap: unwrapped,
    });
    let pipeline = pipeline.expect("the pipeline starts");
    let owned = || {
        let status = pipeline.shared().status.snapshot(SystemClock.now());
        status.partitions.iter().filter(|at| at.state.is_some_and(|state| state != PartitionState::Revoking)).count()
    };
    wait_until("the partitions are assigned", LIMIT, || owned() > 0);
    println!("{ASSIGNED}");
    let totals = || pipeline.shared().stats.totals();
    wait_until("the first event is read", LIMIT, || totals().events > 0);
    println!("{FIRST_EVENT}");
    wait_until("all is read", LIMIT, || totals().events >= task.events.unsigned_abs());
    wait_until("no batch is open", LIMIT, || pipeline.is_drained());
    let transactions = totals().transactions;
    // The pipeline runs until the process ends.
    std::mem::forget(pipeline);
    Reported { transactions, ..Reported::default() }
}
