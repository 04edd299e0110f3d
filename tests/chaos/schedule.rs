//! What happens, and when: drawn from a seed before anything starts, so that a seed is a schedule.
//!
//! Kinds of disturbance are drawn like cards from a shuffled deck, which is shuffled again when it is empty: so a short
//! schedule has each of them. They overlap: the broker may crash while one process is frozen and another one starts.
//! Storms, in which the group hardly finds the time to rebalance, change with lulls, in which everybody comes to work.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::support::proxy::{Api, ClientSees};

/// Places for processes.
pub const SLOTS: usize = 4;
/// Of which so many are taken in the beginning.
pub const FIRST: usize = 3;
/// The group takes a process for dead when it is silent for so long.
pub const SESSION: Duration = Duration::from_secs(6);
/// Nothing happens to the broker for so long after something has.
const BROKER_REST_MS: u64 = 9_000;

/// The number of a place for a process.
pub type Slot = usize;

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A process starts.
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
    /// It starts again, on the same data.
    StartBroker,
    /// SIGSTOP to the broker.
    FreezeBroker,
    /// SIGCONT to the broker.
    ThawBroker,
    /// The next request of this API is late; the number tells it from others.
    Delay(Delayed, Api, ClientSees),
    /// A delayed request goes on, or the next one of its API is not delayed any more.
    Release(Delayed),
    /// The next request of this API is lost.
    LoseRequest(Api),
    /// The broker's answer to the next request of this API is lost.
    LoseAnswer(Api),
    /// All connections break.
    CutConnections,
}

/// The number of a delayed request, from 0.
pub type Delayed = usize;

/// The instance name that a process starts with, which its transactional id is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// That of the one before in this slot, as in a StatefulSet: what that one left open is aborted at once.
    Same,
    /// A new one, as in a Deployment: what the one before left open stands until it times out.
    Fresh,
}

/// An action and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Since the beginning.
    pub at: Duration,
    /// What happens.
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

/// More of what hits single processes.
const DECK: [Kind; 10] = [
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

/// What can be late or lost: everything that a transaction is made of.
const TEARABLE: [Api; 6] = [
    Api::END_TXN,
    Api::TXN_OFFSET_COMMIT,
    Api::ADD_OFFSETS_TO_TXN,
    Api::ADD_PARTITIONS_TO_TXN,
    Api::PRODUCE,
    Api::INIT_PRODUCER_ID,
];
/// Some of the delays outlast the transaction, none the watchdog.
pub const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// The steps of a seed, in order. Disturbances begin within `length`; what ends them may come a little later. At the
/// end nothing is frozen or delayed and the broker runs.
pub fn draw(seed: u64, length: Duration) -> Vec<Step> {
    let mut steps = break_processes(seed, length);
    steps.extend(tear_transactions(seed, length));
    steps.sort_by_key(|step| step.at);
    steps
}

/// What the network does, all the while.
fn tear_transactions(seed: u64, length: Duration) -> Vec<Step> {
    // Numbers of its own, so that seeds that have shown something go on doing to processes what they did.
    let mut random = ChaCha8Rng::seed_from_u64(!seed);
    let length_ms = u64::try_from(length.as_millis()).expect("a test takes less than ages");
    let mut steps = Vec::new();
    let mut add = |at_ms: u64, action: Action| steps.push(Step { at: Duration::from_millis(at_ms), action });
    let mut delayed = 0;
    let mut now_ms = 4_000;
    while now_ms < length_ms {
        let api = *TEARABLE.choose(&mut random).expect("there are some");
        match random.random_range(0..8) {
            0..4 => {
                let client = if random.random() { ClientSees::Close } else { ClientSees::Silence };
                let longest_ms = u64::try_from(LONGEST_DELAY.as_millis()).expect("seconds");
                // Most are short.
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

/// What happens to processes and to the broker.
fn break_processes(seed: u64, length: Duration) -> Vec<Step> {
    let mut hand = Hand { random: ChaCha8Rng::seed_from_u64(seed), steps: Vec::new(), slots: Vec::new(), broker_ms: 0 };
    hand.slots = (0..SLOTS).map(|slot| if slot < FIRST { Some(0) } else { None }).collect();
    let length_ms = u64::try_from(length.as_millis()).expect("a test takes less than ages");
    let mut deck: Vec<Kind> = Vec::new();
    let mut now_ms = 3_000;
    while now_ms < length_ms {
        if deck.is_empty() {
            deck = DECK.to_vec();
            deck.shuffle(&mut hand.random);
        }
        // What is not possible now, because everybody is busy, keeps its turn for later.
        if let Some(index) = deck.iter().rposition(|kind| hand.play(*kind, now_ms)) {
            deck.remove(index);
        }
        let is_lull = hand.random.random_range(0..5) == 0;
        now_ms += if is_lull { hand.random.random_range(6_000..10_000) } else { hand.random.random_range(200..2_500) };
    }
    hand.steps
}

struct Hand {
    random: ChaCha8Rng,
    steps: Vec<Step>,
    /// When the process in a slot is free for the next disturbance; `None` where there is none.
    slots: Vec<Option<u64>>,
    broker_ms: u64,
}

impl Hand {
    /// Whether it was possible.
    fn play(&mut self, kind: Kind, now_ms: u64) -> bool {
        match kind {
            Kind::Kill => self.with_process(now_ms, |hand, slot| {
                let again_ms = now_ms + hand.random.random_range(100..5_000);
                let name = hand.name();
                hand.step(now_ms, Action::Kill(slot));
                hand.step(again_ms, Action::Start(slot, name));
                Some(again_ms)
            }),
            Kind::Freeze => self.with_process(now_ms, |hand, slot| {
                let session_ms = u64::try_from(SESSION.as_millis()).expect("seconds");
                let thaw_ms = now_ms + session_ms + hand.random.random_range(1_000..7_000);
                hand.step(now_ms, Action::Freeze(slot));
                hand.step(thaw_ms, Action::Thaw(slot));
                Some(thaw_ms)
            }),
            Kind::Restart => self.with_process(now_ms, |hand, slot| {
                let again_ms = now_ms + hand.random.random_range(500..4_000);
                let name = hand.name();
                hand.step(now_ms, Action::Terminate(slot));
                hand.step(again_ms, Action::Start(slot, name));
                Some(again_ms)
            }),
            Kind::ScaleIn => {
                self.slots.iter().flatten().count() > 1
                    && self.with_process(now_ms, |hand, slot| {
                        hand.step(now_ms, Action::Terminate(slot));
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

    /// Plays on one of the processes that nothing happens to at the time; what comes back is when it is free again.
    fn with_process(&mut self, now_ms: u64, play: impl FnOnce(&mut Hand, Slot) -> Option<u64>) -> bool {
        let is_free = |slot: &Slot| self.slots[*slot].is_some_and(|free_ms| free_ms <= now_ms);
        let free: Vec<Slot> = (0..SLOTS).filter(is_free).collect();
        let Some(&slot) = free.choose(&mut self.random) else { return false };
        self.slots[slot] = play(self, slot);
        true
    }

    fn with_broker(&mut self, now_ms: u64, until_ms: u64, [begin, end]: [Action; 2]) -> bool {
        if self.broker_ms > now_ms {
            return false;
        }
        self.step(now_ms, begin);
        self.step(until_ms, end);
        self.broker_ms = until_ms + BROKER_REST_MS;
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

/// The same again; one thing at a time to each process; everything up at the end; and all kinds there: for the default
/// seed in its time, and for 500 others in twice that.
#[apply(offline_test)]
fn a_seed_is_a_schedule_that_makes_sense() {
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
