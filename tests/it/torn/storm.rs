//! Any request of a transaction is late, lost, or robbed of its answer, at moments that a seed decides, under load.
//!
//! What this finds are wrong verdicts, stops and needless exits. That a late request is refused shows in `steward`: a
//! torn transaction does harm only where it is aborted or its process dies, which nothing here does.

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

/// `STEWARD_TORN_SEED` plays another schedule.
#[apply(own_broker_test)]
fn whatever_is_late_or_lost_each_event_counts_once() {
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
        assert!(process.is_running(), "it ended in round {round}; {}", process.tail());
    }
    load.stop();

    let ledger = Ledger::of(&direct, &names).assert_exact();
    let renewals = process.events("producer_reset").len();
    println!("{} events, {renewals} new producers", ledger.events());
    assert!(renewals >= ROUNDS / 4, "only {renewals} of {ROUNDS} disturbances put a transaction in doubt");
    process.stop();
    process.assert_no_errors_but(&[]);
}

/// One request meets its fate; what was held is released up to three transactions later.
fn disturb(random: &mut ChaCha8Rng, proxy: &Proxy, round: usize) {
    let api = APIS[random.random_range(0..APIS.len())];
    let fate = random.random_range(0..5);
    println!("round {round}: {api:?}, fate {fate}");
    match fate {
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
            wait_until("transactions have ended meanwhile", PATIENCE, || proxy.requests(Api::END_TXN) >= end);
            // While a transaction is open, complete except for its end.
            let open = proxy.hold(Api::END_TXN, ClientSees::Silence);
            open.wait();
            delayed.release();
            open.release();
        }
    }
}
