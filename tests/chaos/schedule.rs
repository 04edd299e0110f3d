//! The schedule of a seed: which failures happen, and when. The whole schedule exists before anything starts.
//!
//! Kinds of failure are drawn from a shuffled list without replacement, so that a short schedule has each of them. They
//! overlap: the broker may crash while one process is frozen and another one starts. Storms, in which the group hardly
//! has time to rebalance, alternate with quiet periods, in which every process gets work.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::support::proxy::{Api, ClientSees};

/// Greatest number of processes.
pub const SLOTS: usize = 4;
/// Number of processes at the start.
pub const FIRST: usize = 3;
/// The session timeout of the group.
pub const SESSION: Duration = Duration::from_secs(6);
/// Shortest time between two failures of the broker.
const BROKER_PAUSE_MS: u64 = 9_000;

/// Index of a slot for a process.
pub type Slot = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Start(Slot, Name),
    /// SIGKILL.
    Kill(Slot),
    /// SIGTERM.
    Terminate(Slot),
    /// SIGSTOP.
    Freeze(Slot),
    /// SIGCONT.
    Thaw(Slot),
    /// SIGKILL to the broker.
    KillBroker,
    /// Starts the broker again with the same data.
    StartBroker,
    /// SIGSTOP to the broker.
    FreezeBroker,
    /// SIGCONT to the broker.
    ThawBroker,
    /// Delays the next request of this API.
    Delay(Delayed, Api, ClientSees),
    /// Releases a delayed request, or cancels the delay if no request has arrived.
    Release(Delayed),
    /// Drops the next request of this API.
    LoseRequest(Api),
    /// Drops the response to the next request of this API.
    LoseAnswer(Api),
    /// Closes all connections.
    CutConnections,
}

/// The number of a delayed request, from 0.
pub type Delayed = usize;

/// The instance name of a started process, which determines its transactional id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// The name of the previous process in the slot, as in a StatefulSet. An open transaction is aborted at once.
    Same,
    /// A new name, as in a Deployment. An open transaction of the previous process stays open until it times out.
    Fresh,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Time since the start of the schedule.
    pub at: Duration,
    pub action: Action,
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:7.3} s  {:?}", self.at.as_secs_f64(), self.action)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kill,
    Freeze,
    Restart,
    ScaleOut,
    ScaleIn,
    BrokerCrash,
    BrokerPause,
}

/// The kinds of failure with their frequencies. Failures of single processes are the most frequent.
const KINDS: [Kind; 10] = [
    Kind::Kill,
    Kind::Kill,
    Kind::Kill,
    Kind::Freeze,
    Kind::Freeze,
    Kind::Restart,
    Kind::ScaleOut,
    Kind::ScaleIn,
    Kind::BrokerCrash,
    Kind::BrokerPause,
];

/// The requests that can be delayed or lost: all requests of a transaction.
const TRANSACTION_APIS: [Api; 6] = [
    Api::END_TXN,
    Api::TXN_OFFSET_COMMIT,
    Api::ADD_OFFSETS_TO_TXN,
    Api::ADD_PARTITIONS_TO_TXN,
    Api::PRODUCE,
    Api::INIT_PRODUCER_ID,
];
/// Some delays are longer than the transaction timeout, but none is longer than the watchdog's limit.
pub const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// Returns the steps of a seed, in order. Failures begin within `length`, and may end a little later. At the end
/// nothing is frozen or delayed, and the broker runs.
pub fn draw(seed: u64, length: Duration) -> Vec<Step> {
    let mut steps = disturb_processes(seed, length);
    steps.extend(disturb_network(seed, length));
    steps.sort_by_key(|step| step.at);
    steps
}

/// Returns the faults of the network.
fn disturb_network(seed: u64, length: Duration) -> Vec<Step> {
    // A separate random sequence, so that the process failures of known seeds do not change with the network faults.
    let mut random = ChaCha8Rng::seed_from_u64(!seed);
    let length_ms = u64::try_from(length.as_millis()).expect("milliseconds fit into 64 bits");
    let mut steps = Vec::new();
    let mut add = |at_ms: u64, action: Action| steps.push(Step { at: Duration::from_millis(at_ms), action });
    let mut delayed = 0;
    let mut now_ms = 4_000;
    while now_ms < length_ms {
        let api = *TRANSACTION_APIS.choose(&mut random).expect("the list is not empty");
        match random.random_range(0..8) {
            0..4 => {
                let client = if random.random() { ClientSees::Close } else { ClientSees::Silence };
                let longest_ms = u64::try_from(LONGEST_DELAY.as_millis()).expect("seconds");
                // Most delays are short.
                let for_ms = random.random_range(50_u64..3_162).pow(2) / 1_000;
                add(now_ms, Action::Delay(delayed, api, client));
                add(now_ms + for_ms.min(longest_ms), Action::Release(delayed));
                delayed += 1;
            }
            4 | 5 => add(now_ms, Action::LoseAnswer(api)),
            6 => add(now_ms, Action::LoseRequest(api)),
            _ => add(now_ms, Action::CutConnections),
        }
        now_ms += random.random_range(300..3_000);
    }
    steps
}

/// Returns the failures of processes and of the broker.
fn disturb_processes(seed: u64, length: Duration) -> Vec<Step> {
    let mut builder =
        ScheduleBuilder { random: ChaCha8Rng::seed_from_u64(seed), steps: Vec::new(), slots: Vec::new(), broker_ms: 0 };
    builder.slots = (0..SLOTS).map(|slot| if slot < FIRST { Some(0) } else { None }).collect();
    let length_ms = u64::try_from(length.as_millis()).expect("milliseconds fit into 64 bits");
    let mut remaining: Vec<Kind> = Vec::new();
    let mut now_ms = 3_000;
    while now_ms < length_ms {
        if remaining.is_empty() {
            remaining = KINDS.to_vec();
            remaining.shuffle(&mut builder.random);
        }
        // A kind that is not possible now stays in the list for later.
        if let Some(index) = remaining.iter().rposition(|kind| builder.add(*kind, now_ms)) {
            remaining.remove(index);
        }
        let is_lull = builder.random.random_range(0..5) == 0;
        now_ms +=
            if is_lull { builder.random.random_range(6_000..10_000) } else { builder.random.random_range(200..2_500) };
    }
    builder.steps
}

struct ScheduleBuilder {
    random: ChaCha8Rng,
    steps: Vec<Step>,
    /// When the process in a slot may fail next; `None` if the slot is empty.
    slots: Vec<Option<u64>>,
    broker_ms: u64,
}

impl ScheduleBuilder {
    /// Adds a failure of this kind, if it is possible now. Returns whether it is.
    fn add(&mut self, kind: Kind, now_ms: u64) -> bool {
        match kind {
            Kind::Kill => self.with_process(now_ms, |builder, slot| {
                let again_ms = now_ms + builder.random.random_range(100..5_000);
                let name = builder.name();
                builder.step(now_ms, Action::Kill(slot));
                builder.step(again_ms, Action::Start(slot, name));
                Some(again_ms)
            }),
            Kind::Freeze => self.with_process(now_ms, |builder, slot| {
                let session_ms = u64::try_from(SESSION.as_millis()).expect("seconds");
                let thaw_ms = now_ms + session_ms + builder.random.random_range(1_000..7_000);
                builder.step(now_ms, Action::Freeze(slot));
                builder.step(thaw_ms, Action::Thaw(slot));
                Some(thaw_ms)
            }),
            Kind::Restart => self.with_process(now_ms, |builder, slot| {
                let again_ms = now_ms + builder.random.random_range(500..4_000);
                let name = builder.name();
                builder.step(now_ms, Action::Terminate(slot));
                builder.step(again_ms, Action::Start(slot, name));
                Some(again_ms)
            }),
            Kind::ScaleIn => {
                self.slots.iter().flatten().count() > 1
                    && self.with_process(now_ms, |builder, slot| {
                        builder.step(now_ms, Action::Terminate(slot));
                        None
                    })
            }
            Kind::ScaleOut => {
                let Some(slot) = self.slots.iter().position(Option::is_none) else { return false };
                self.step(now_ms, Action::Start(slot, Name::Fresh));
                self.slots[slot] = Some(now_ms);
                true
            }
            Kind::BrokerCrash => {
                let again_ms = now_ms + self.random.random_range(0..3_000);
                self.with_broker(now_ms, again_ms, [Action::KillBroker, Action::StartBroker])
            }
            Kind::BrokerPause => self.with_broker(now_ms, now_ms + 5_000, [Action::FreezeBroker, Action::ThawBroker]),
        }
    }

    /// Adds a failure of an undisturbed process. `add` returns when the process may fail next.
    fn with_process(&mut self, now_ms: u64, add: impl FnOnce(&mut ScheduleBuilder, Slot) -> Option<u64>) -> bool {
        let is_free = |slot: &Slot| self.slots[*slot].is_some_and(|free_ms| free_ms <= now_ms);
        let free: Vec<Slot> = (0..SLOTS).filter(is_free).collect();
        let Some(&slot) = free.choose(&mut self.random) else { return false };
        self.slots[slot] = add(self, slot);
        true
    }

    fn with_broker(&mut self, now_ms: u64, until_ms: u64, [begin, end]: [Action; 2]) -> bool {
        if self.broker_ms > now_ms {
            return false;
        }
        self.step(now_ms, begin);
        self.step(until_ms, end);
        self.broker_ms = until_ms + BROKER_PAUSE_MS;
        true
    }

    fn name(&mut self) -> Name {
        if self.random.random_range(0..2) == 0 { Name::Same } else { Name::Fresh }
    }

    fn step(&mut self, at_ms: u64, action: Action) {
        self.steps.push(Step { at: Duration::from_millis(at_ms), action });
    }
}

// ----------------------------------------------------------------------------------------------------------- tests

/// A seed always gives the same schedule, with one failure of a process at a time, all kinds of failures, and everything
/// running at the end. Checked for the default seed with its length, and for 500 others with twice that.
#[apply(offline_test)]
fn a_seed_gives_a_valid_schedule() {
    let default = Duration::from_secs(super::SECONDS);
    let others = (0..500).map(|seed| (seed, 2 * default));
    for (seed, length) in others.chain([(super::SEED, default)]) {
        let steps = draw(seed, length);
        assert_eq!(steps, draw(seed, length), "seed {seed}");
        let mut running: Vec<bool> = (0..SLOTS).map(|slot| slot < FIRST).collect();
        let mut frozen = [false; SLOTS];
        let (mut broker_up, mut broker_frozen) = (true, false);
        let mut kills = [0_u32; 8];
        let mut late = BTreeSet::new();
        for step in &steps {
            let sane = match step.action {
                Action::Start(slot, _) => !std::mem::replace(&mut running[slot], true),
                Action::Kill(slot) | Action::Terminate(slot) => {
                    kills[0] += 1;
                    std::mem::replace(&mut running[slot], false) && !frozen[slot]
                }
                Action::Freeze(slot) => {
                    kills[1] += 1;
                    running[slot] && !std::mem::replace(&mut frozen[slot], true)
                }
                Action::Thaw(slot) => running[slot] && std::mem::replace(&mut frozen[slot], false),
                Action::KillBroker => {
                    kills[2] += 1;
                    std::mem::replace(&mut broker_up, false) && !broker_frozen
                }
                Action::StartBroker => !std::mem::replace(&mut broker_up, true),
                Action::FreezeBroker => {
                    kills[3] += 1;
                    broker_up && !std::mem::replace(&mut broker_frozen, true)
                }
                Action::ThawBroker => broker_up && std::mem::replace(&mut broker_frozen, false),
                Action::Delay(delayed, ..) => {
                    kills[4] += 1;
                    late.insert(delayed)
                }
                Action::Release(delayed) => late.remove(&delayed),
                Action::LoseRequest(_) => {
                    kills[5] += 1;
                    true
                }
                Action::LoseAnswer(_) => {
                    kills[6] += 1;
                    true
                }
                Action::CutConnections => {
                    kills[7] += 1;
                    true
                }
            };
            assert!(sane, "seed {seed}, {step}");
        }
        assert!(broker_up && !broker_frozen && !frozen.contains(&true), "seed {seed} ends with something down");
        assert!(running.contains(&true), "seed {seed} ends without a process");
        assert!(late.is_empty(), "seed {seed} ends with {late:?} held back");
        assert!(!kills.contains(&0), "seed {seed} lacks a kind of disturbance: {kills:?}");
    }
}
