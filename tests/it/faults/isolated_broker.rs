//! A broker that counts itself as dead: it lists its topics, but no broker. After that librdkafka knows no broker at all,
//! and does not look for one (librdkafka#5301). A broker answers so after it was suspended, or cut off from the others.

use std::sync::Arc;
use std::time::Duration;

use steward::app::SystemClock;
use steward::config::Config;
use steward::engine::foreign_members::GroupLook;
use steward::kafka::client::context::{
    ClientError, ClientEvents, ClientLogLevel, ClientRole, ConsumerStatistics, Throttle,
};
use steward::kafka::transactions::dead_owner::{KafkaOwnerRequests, OwnerRequests};

use crate::support::kafka::{Kafka, Outgoing};
use crate::support::ledger::{Ledger, wait_until_committed};
use crate::support::load::events;
use crate::support::names::Names;
use crate::support::process::Setup;
use crate::support::proxy::{Api, NOT_ENOUGH_REPLICAS, ProxiedBroker};
use crate::support::wait::{PATIENCE, wait_until};

/// Many partitions and the library's debug messages make the client's race likely.
const PARTITIONS: i32 = 48;
/// A look waits a second for its response.
const LONGER_THAN_A_LOOK: Duration = Duration::from_secs(5);

#[apply(own_broker_test)]
fn clients_without_any_broker_find_the_brokers_again() {
    let broker = ProxiedBroker::start();
    let (kafka, names, setup) = busy(&broker);
    let mut steward = setup.clone().instance("a").start();
    kafka.produce(&names.input, &events(1, 200, 10).collect::<Vec<Outgoing>>());
    wait_until_committed(&kafka, &names, PATIENCE);

    broker.proxy.hide_brokers(true);
    broker.proxy.cut();
    let mut late = setup.instance("b").start();
    wait_until("clients have learned of topics without brokers", PATIENCE, || {
        broker.proxy.topics_without_brokers() >= 4
    });
    broker.proxy.hide_brokers(false);

    kafka.produce(&names.input, &events(2, 200, 10).collect::<Vec<Outgoing>>());
    wait_until_committed(&kafka, &names, PATIENCE);
    late.wait_for_event("became_ready", PATIENCE);
    for process in [&mut steward, &mut late] {
        process.stop();
        process.assert_no_errors_but(&[]);
    }
    Ledger::of(&kafka, &names).assert_exact();
}

/// The commit thread looks at the replicas of the output topics while records are not delivered. The client that looks
/// also fetches the committed offsets, for as long as the process runs.
#[apply(own_broker_test)]
fn a_commit_thread_that_has_looked_at_the_replicas_without_any_broker_commits_again() {
    let broker = ProxiedBroker::start();
    let (kafka, names, setup) = busy(&broker);
    let mut steward = setup.set("kafka.transaction_timeout_ms", 1_000).start();
    kafka.produce(&names.input, &events(1, 200, 10).collect::<Vec<Outgoing>>());
    wait_until_committed(&kafka, &names, PATIENCE);

    broker.proxy.refuse(Api::PRODUCE, Some(NOT_ENOUGH_REPLICAS));
    broker.proxy.hide_brokers(true);
    kafka.produce(&names.input, &events(2, 200, 10).collect::<Vec<Outgoing>>());
    wait_until("transactions or producers have failed", PATIENCE, || {
        let failures = ["transaction_aborted", "transaction_in_doubt", "producer_reset_failed"];
        failures.iter().map(|name| steward.events(name).len()).sum::<usize>() >= 2
    });
    broker.proxy.hide_brokers(false);
    broker.proxy.refuse(Api::PRODUCE, None);
    // The transaction is in doubt, and the committed offsets are fetched.
    let unanswered = broker.proxy.drop_answer(Api::END_TXN);

    wait_until_committed(&kafka, &names, PATIENCE);
    unanswered.answer();
    steward.stop();
    steward.assert_no_errors_but(&[]);
    Ledger::of(&kafka, &names).assert_exact();
}

/// The client of a look that has no response is destroyed while its request is under way.
#[apply(own_broker_test)]
fn a_look_at_the_group_without_a_response_is_followed_by_one_of_another_client() {
    let broker = ProxiedBroker::start();
    let mut config = Config::default();
    config.kafka.bootstrap_servers = broker.through().address().to_owned();
    let requests = KafkaOwnerRequests::new(&config, "own", Arc::new(SystemClock), Arc::new(Quiet));
    for api in [Api::FIND_COORDINATOR, Api::DESCRIBE_GROUPS] {
        let before = broker.proxy.requests(api);
        broker.proxy.delay(api, LONGER_THAN_A_LOOK);

        wait_until("a look has no response", PATIENCE, || {
            requests.members() == GroupLook::NoAnswer && broker.proxy.requests(api) > before
        });

        broker.proxy.delay(api, Duration::ZERO);
        wait_until("the group is looked at again", PATIENCE, || requests.members() != GroupLook::NoAnswer);
    }
}

struct Quiet;

impl ClientEvents for Quiet {
    fn error(&self, _: ClientRole, _: &ClientError<'_>) {}

    fn log(&self, _: ClientRole, _: ClientLogLevel, _: &str, _: &str) {}

    fn statistics(&self, _: ConsumerStatistics) {}

    fn throttled(&self, _: ClientRole, _: &Throttle) {}
}

/// Returns the setup of a process whose clients are likely to lose all brokers.
fn busy(broker: &ProxiedBroker) -> (Kafka, Names, Setup) {
    let (kafka, names) = (broker.direct(), Names::new());
    kafka.create_input(&names, PARTITIONS);
    let setup = Setup::new(&broker.through(), &names)
        .set("health.stall_timeout_ms", 300_000)
        .set("kafka.properties.debug", "broker,metadata,topic");
    (kafka, names, setup)
}
