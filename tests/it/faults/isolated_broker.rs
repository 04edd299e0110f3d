//! A broker that counts itself as dead: it lists its topics, but no broker. After that librdkafka knows no broker at all,
//! and does not look for one (librdkafka#5301). A broker answers so after it was suspended, or cut off from the others.

use crate::support::kafka::Outgoing;
use crate::support::ledger::{Ledger, wait_until_committed};
use crate::support::load::events;
use crate::support::names::Names;
use crate::support::process::Setup;
use crate::support::proxy::ProxiedBroker;
use crate::support::wait::{PATIENCE, wait_until};

/// Many partitions and the library's debug messages make the client's race likely.
const PARTITIONS: i32 = 48;

#[apply(own_broker_test)]
fn clients_without_any_broker_find_the_brokers_again() {
    let broker = ProxiedBroker::start();
    let (kafka, names) = (broker.direct(), Names::new());
    kafka.create_input(&names, PARTITIONS);
    let setup = Setup::new(&broker.through(), &names)
        .set("health.stall_timeout_ms", 300_000)
        .set("kafka.properties.debug", "broker,metadata,topic");
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
