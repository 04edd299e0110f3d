//! Under load, requests of transactions are delayed or lost, or their responses are, at moments that a seed decides.
//!
//! The test finds wrong verdicts, stalls and needless exits. The tests in `steward` show that a late request is
//! refused: a torn transaction does damage only if it is aborted or its process dies, and neither happens here.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::support::ledger::Ledger;
use crate::support::load::Load;
use crate::support::names::Names;
use crate::support::process::Setup;
use crate::support::proxy::{Api, ClientSees, ProxiedBroker, Proxy};
use crate::support::wait::{Deadline, PATIENCE, wait_until};

const ROUNDS: usize = 40;
/// The requests of a transaction.
const APIS: [Api; 5] =
    [Api::PRODUCE, Api::ADD_PARTITIONS_TO_TXN, Api::ADD_OFFSETS_TO_TXN, Api::TXN_OFFSET_COMMIT, Api::END_TXN];

/// `STEWARD_TORN_SEED` selects another schedule.
#[apply(own_broker_test)]
fn each_event_counts_once_when_requests_are_late_or_lost() {
    let seed = std::env::var("STEWARD_TORN_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_124);
    println!("the schedule of seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let broker = ProxiedBroker::start();
    let (direct, names) = (broker.direct(), Names::new());
    direct.create_input(&names, 3);
    let mut process = Setup::new(&broker.through(), &names).instance("torn").start();
    let load = Load::on(&direct, &names.input, seed, 500);

    for round in 0..ROUNDS {
        disturb(&mut random, &broker.proxy, round);
        assert!(process.is_running(), "the process ended in round {round}; {}", process.tail());
    }
    load.stop();

    let ledger = Ledger::of(&direct, &names).assert_exact();
    let resets = process.events("producer_reset").len();
    println!("{} events, {resets} new producers", ledger.events());
    assert!(resets >= ROUNDS / 4, "only {resets} of {ROUNDS} disturbances put a transaction in doubt");
    process.stop();
    process.assert_no_errors_but(&[]);
}

/// Delays or drops one request or its response. A held request is released up to three transactions later.
fn disturb(random: &mut ChaCha8Rng, proxy: &Proxy, round: usize) {
    let api = APIS[random.random_range(0..APIS.len())];
    let fault = random.random_range(0..5);
    println!("round {round}: {api:?}, fault {fault}");
    match fault {
        0 => proxy.drop_request(api).wait(),
        1 => proxy.drop_answer(api).wait(),
        2 => {
            let slow = proxy.hold(api, ClientSees::Silence);
            slow.wait();
            let late = Deadline::after(Duration::from_millis(random.random_range(0..700)));
            wait_until("the request is late", PATIENCE, || late.passed());
            slow.release();
        }
        _ => {
            let delayed = proxy.hold(api, ClientSees::Close);
            delayed.wait();
            let end = proxy.requests(Api::END_TXN) + random.random_range(0..=3);
            wait_until("further transactions have ended", PATIENCE, || proxy.requests(Api::END_TXN) >= end);
            // While a transaction is open, complete except for its end.
            let open = proxy.hold(Api::END_TXN, ClientSees::Silence);
            open.wait();
            delayed.release();
            open.release();
        }
    }
}
