//! The size of a run, its limits, and the weights of its faults. A seed draws its own: each fault is absent from some of the
//! seeds, so that the others go further.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use steward::entity::SizeLimits;

use super::{MAX_PAYLOAD_BYTES, MAX_SNAPSHOT_BYTES, TRANSACTION_TIMEOUT};

/// Weights without a unit are relative to each other.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub events: u64,
    /// Events that are produced at once, at most.
    pub burst: usize,
    pub keys: u32,
    pub partitions: usize,
    pub pods: usize,
    /// The size of the events that are as large as, or larger than, the generator takes for the limit.
    pub largest_bytes: u64,
    pub max_snapshot_bytes: u64,
    pub max_transaction_bytes: u64,
    pub in_flight_bytes: u64,
    pub max_active_entities: usize,
    pub entity_idle: Duration,
    pub look_back_records: u64,
    pub session_timeout: Duration,
    pub transaction_timeout: Duration,
    /// Whether a pod that starts again replaces its member at once. Otherwise the group waits for the session.
    pub is_static: bool,
    /// Records in one batch.
    pub batch_records: usize,
    /// How long a step takes at most.
    pub longest_step: Duration,
    /// Steps of a transaction at a time.
    pub transaction_steps: usize,
    /// The chance, between two steps of a transaction, that something else happens first.
    pub interrupted: f64,
    /// The chance, at each step, that a member learns the group's generation.
    pub learns_generation: f64,
    /// The chance, at each step, that a pod learns that the group has removed it.
    pub learns_removal: f64,
    pub weights: Weights,
    pub fates: Fates,
}

/// What happens next.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    pub produce: u32,
    pub poll: u32,
    pub recover: u32,
    pub transaction: u32,
    pub time: u32,
    pub crashes: u32,
    pub hand_overs: u32,
    /// The group removes a pod that does not know it.
    pub losses: u32,
    /// A pod does not run for a time, which may exceed its session and its transaction.
    pub freezes: u32,
    pub coordinator_moves: u32,
    /// Producers of the input write markers.
    pub markers: u32,
    pub compactions: u32,
    /// A request arrives whose sender waits no longer.
    pub late_requests: u32,
    /// An operator sets the committed positions while no pod runs. Once: in the middle of a repair, that would move the
    /// range that is verified.
    pub operator: u32,
    /// A transaction takes effect without the snapshots of one partition.
    pub tears: u32,
}

/// What becomes of a request.
#[derive(Debug, Clone, Default)]
pub struct Fates {
    pub answered: u32,
    pub answer_lost: u32,
    pub request_lost: u32,
    pub late: u32,
    pub repeated: u32,
    pub refused: u32,
}

impl Scenario {
    /// A fixed size, with faults.
    pub fn stormy() -> Scenario {
        Scenario {
            events: 600,
            burst: 20,
            keys: 12,
            partitions: 4,
            pods: 3,
            largest_bytes: MAX_PAYLOAD_BYTES,
            max_snapshot_bytes: MAX_SNAPSHOT_BYTES,
            max_transaction_bytes: 20_000,
            in_flight_bytes: 1 << 20,
            max_active_entities: 1_000,
            entity_idle: Duration::from_secs(5),
            look_back_records: 15,
            session_timeout: TRANSACTION_TIMEOUT,
            transaction_timeout: TRANSACTION_TIMEOUT,
            is_static: true,
            batch_records: 30,
            longest_step: Duration::from_millis(1),
            transaction_steps: 6,
            interrupted: 0.1,
            learns_generation: 0.5,
            learns_removal: 0.2,
            weights: Weights {
                produce: 30,
                poll: 30,
                recover: 20,
                transaction: 60,
                time: 4,
                crashes: 2,
                hand_overs: 4,
                losses: 2,
                late_requests: 5,
                ..Weights::default()
            },
            fates: Fates { answered: 90, answer_lost: 3, request_lost: 3, late: 3, repeated: 3, refused: 3 },
        }
    }

    /// No faults.
    pub fn quiet() -> Scenario {
        let stormy = Scenario::stormy();
        let weights = Weights { crashes: 0, hand_overs: 0, losses: 0, late_requests: 0, ..stormy.weights };
        Scenario { weights, fates: Fates { answered: 1, ..Fates::default() }, ..stormy }
    }

    /// What the seed draws.
    pub fn drawn(seed: u64) -> Scenario {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut tears = rare(&mut random, 6, 3);
        let operator = rare(&mut random, 8, 1);
        if operator > 0 {
            tears = 0;
        }
        let r = &mut random;
        Scenario {
            events: r.random_range(40..250),
            burst: r.random_range(1..12),
            keys: r.random_range(1..30),
            partitions: r.random_range(1..6),
            pods: [1, 2, 2, 3, 3, 4][r.random_range(0..6)],
            largest_bytes: if r.random_ratio(1, 16) { MAX_PAYLOAD_BYTES } else { 2_000 },
            max_snapshot_bytes: [MAX_SNAPSHOT_BYTES, 1_000][r.random_range(0..2)],
            max_transaction_bytes: r.random_range(1_000..40_000),
            in_flight_bytes: 1 << r.random_range(12..20),
            max_active_entities: [2, 10, 1_000][r.random_range(0..3)],
            entity_idle: Duration::from_secs(r.random_range(1..10)),
            // A lost write is found only in the range that is verified.
            look_back_records: if tears > 0 { 1_000_000 } else { r.random_range(1..60) },
            session_timeout: Duration::from_secs(r.random_range(3..12)),
            transaction_timeout: Duration::from_secs(r.random_range(3..12)),
            is_static: r.random_bool(0.5),
            batch_records: r.random_range(1..60),
            longest_step: Duration::from_millis([20, 100, 300][r.random_range(0..3)]),
            transaction_steps: r.random_range(2..10),
            interrupted: [0.0, 0.1, 0.3, 0.6][r.random_range(0..4)],
            learns_generation: [0.05, 0.2, 0.5, 1.0][r.random_range(0..4)],
            learns_removal: [0.003, 0.01, 0.03, 0.2][r.random_range(0..4)],
            weights: Weights {
                produce: r.random_range(5..20),
                poll: r.random_range(10..30),
                recover: r.random_range(15..50),
                transaction: r.random_range(60..150),
                time: r.random_range(1..6),
                crashes: rare(r, 2, 3),
                hand_overs: frequent(r, 6),
                losses: frequent(r, 4),
                freezes: rare(r, 2, 2),
                coordinator_moves: rare(r, 3, 2),
                markers: frequent(r, 3),
                compactions: frequent(r, 2),
                late_requests: r.random_range(1..30),
                operator,
                tears,
            },
            fates: Fates {
                answered: [60, 200, 600][r.random_range(0..3)],
                answer_lost: frequent(r, 8),
                request_lost: frequent(r, 8),
                late: frequent(r, 8),
                repeated: frequent(r, 8),
                refused: frequent(r, 8),
            },
        }
    }

    pub fn size_limits(&self) -> SizeLimits {
        SizeLimits { max_payload_bytes: MAX_PAYLOAD_BYTES, max_snapshot_bytes: self.max_snapshot_bytes }
    }

    /// Whether something other than steward changes what is committed, so that lost writes are repaired.
    pub fn is_damaged(&self) -> bool {
        self.weights.tears > 0 || self.weights.operator > 0
    }
}

/// A weight up to `most` in three of four seeds, and in one of them far more.
fn frequent(random: &mut ChaCha8Rng, most: u32) -> u32 {
    let times = [0, 1, 1, 6][random.random_range(0..4)];
    times * random.random_range(1..=most)
}

/// A weight up to `most`, in one of `of` seeds.
fn rare(random: &mut ChaCha8Rng, of: u32, most: u32) -> u32 {
    if random.random_ratio(1, of) { random.random_range(1..=most) } else { 0 }
}
