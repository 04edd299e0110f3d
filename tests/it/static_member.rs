//! Static membership: a member that the group replaces, by a delayed request of its own or by another process.

use serde_json::Value;
use steward::exit_code::ExitCode;

use crate::support::kafka::Kafka;
use crate::support::ledger::Ledger;
use crate::support::names::Names;
use crate::support::process::{Setup, Steward, wait_for_log};
use crate::support::proxy::{Api, ClientSees, ProxiedBroker};
use crate::support::wait::{Deadline, PATIENCE, wait_until};
use crate::support::world::{created, malformed, priced};

const PARTITIONS: i32 = 2;

/// The connection breaks before the response, and the client repeats the request. The coordinator has both, and executes
/// the first one last, as one may that stood still.
#[apply(own_broker_test)]
fn a_member_that_its_own_delayed_request_replaces_joins_again() {
    let broker = ProxiedBroker::start();
    let (kafka, names) = (broker.direct(), Names::new());
    kafka.create_input(&names, PARTITIONS);
    let delayed = broker.proxy.hold(Api::JOIN_GROUP, ClientSees::Close);
    let mut steward = of_one_name(&broker.through(), &names).start();
    delayed.wait();
    produces(&kafka, &names, 1);
    commits(&kafka, &names, &steward);

    delayed.release();

    steward.wait_for_event("static_member_replaced", PATIENCE);
    produces(&kafka, &names, 2);
    wait_for_log(&steward, "it recovers again", PATIENCE, |lines| {
        let recovered = lines.iter().filter(|line| line["event"] == "recovery_finished").count();
        (recovered >= 2 * PARTITIONS as usize).then_some(())
    });
    commits(&kafka, &names, &steward);
    Ledger::of(&kafka, &names).assert_exact();
    assert_eq!(steward.events("static_member_replaced").len(), 1, "{}", steward.tail());
    steward.stop();
    steward.assert_no_errors_but(&[]);
}

#[apply(broker_test)]
fn of_two_static_members_with_one_name_one_ends_and_the_other_serves() {
    let (kafka, names) = (Kafka::shared(), Names::new());
    kafka.create_input(&names, PARTITIONS);
    let setup = of_one_name(&kafka, &names);
    let mut first = setup.start();
    produces(&kafka, &names, 1);
    commits(&kafka, &names, &first);

    let mut second = setup.start();
    let deadline = Deadline::after(PATIENCE);
    let mut price = 1;
    while first.is_running() && second.is_running() {
        assert!(!deadline.passed(), "both go on; {}", first.tail());
        price += 1;
        produces(&kafka, &names, price);
    }
    let [mut ended, mut serves] = if first.is_running() { [second, first] } else { [first, second] };
    assert_eq!(ended.wait_exit(PATIENCE), i32::from(ExitCode::DuplicateInstance.code()), "{}", ended.tail());
    let failed = ended.wait_for_event("process_failed", PATIENCE);
    let error = failed["error"].as_str().unwrap_or_default();
    assert!(error.contains("uses this instance name"), "{failed}");

    produces(&kafka, &names, price + 1);
    commits(&kafka, &names, &serves);
    Ledger::of(&kafka, &names).assert_exact();
    serves.stop();
    assert_eq!(serves.errors(), Vec::<Value>::new());
}

// ----------------------------------------------------------------------------------------------------------- helpers

fn of_one_name(kafka: &Kafka, names: &Names) -> Setup {
    Setup::new(kafka, names).set("kafka.static_membership", true).instance("the-same")
}

/// Produces events to both partitions.
fn produces(kafka: &Kafka, names: &Names, round: u64) {
    let events = (0..2).flat_map(|partition: i32| {
        let id = 2 * round + u64::from(partition == 1);
        [created(id), priced(id, round), malformed(id)].map(|event| event.to(partition))
    });
    kafka.produce(&names.input, &events.collect::<Vec<_>>());
}

/// Waits until everything is committed.
fn commits(kafka: &Kafka, names: &Names, process: &Steward) {
    let ends: Vec<Option<i64>> = kafka.ends(&names.input).iter().map(|ends| Some(ends.high)).collect();
    wait_until(&format!("{} commits up to {ends:?}", process.pid()), PATIENCE, || {
        kafka.committed(&names.group, &names.input) == ends
    });
}
