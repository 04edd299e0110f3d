//! Generates reproducible streams of realistic events, some of them invalid on purpose.
//!
//! `steward produce`, `steward demo`, the tests and the benchmarks use it. Every event has an [`EventKind`], which
//! determines its outcome under the contract. The generator tracks which ids exist, so that a valid event is valid and a
//! `not_found` event is rejected. This requires that the input holds these events only, in order.
//!
//! Architecture invariant: no clock, no partition and no Kafka. A seed gives the same bytes on every machine, so the
//! generator iterates no hash map and does not use the platform's `powf`.

mod draft;
mod faults;
mod keys;
mod kinds;
mod text;

use crate::testing::workload::draft::EventDraft;
use crate::testing::workload::faults::{DraftedEvent, InvalidEvents};
use crate::testing::workload::keys::{Keys, Random, Weighted};
pub use crate::testing::workload::kinds::{InvalidKind, OddKind, UnknownKind};

use crate::entity::Reason;

/// The greatest number of ids of a workload. They are kept in memory, 12 bytes each.
pub const MAX_KEYS: u32 = 100_000_000;
/// The greatest id of the contract, 2^53 - 1.
const MAX_ID: u64 = 9_007_199_254_740_991;
/// The end of the year 9999, in milliseconds since 1970.
const LATEST_MS: i64 = 253_402_300_799_999;

/// The parameters of a stream of events.
#[derive(Debug, Clone)]
pub struct Workload {
    /// The same seed and parameters give the same bytes.
    pub seed: u64,
    pub events: u64,
    /// Greatest number of ids.
    pub keys: u32,
    pub first_id: u64,
    /// The frequency of an id falls with its rank to this power, 0 to 10. With 0 all ids are equally frequent.
    pub zipf_exponent: f64,
    /// Share among the valid events, in proportion to `updates` and `deletes`.
    pub creates: f64,
    pub updates: f64,
    pub deletes: f64,
    /// Share of events that break the contract, 0 to 1.
    pub invalid_share: f64,
    /// Relative frequencies.
    pub invalid_weights: Vec<(InvalidKind, u32)>,
    /// Share of events that are valid but unusual, 0 to 1.
    pub odd_share: f64,
    pub odd_weights: Vec<(OddKind, u32)>,
    /// Share of events that carry a `traceparent` header, 0 to 1.
    pub traced_share: f64,
    /// The service's `limits.max_payload_bytes`, which some events reach or exceed.
    pub max_payload_bytes: u64,
    /// Timestamp of the first event, in milliseconds since 1970. A broker deletes events that are older than the topic's
    /// `retention.ms` at once, so `steward produce` uses recent timestamps.
    pub start_timestamp_ms: i64,
    /// Average difference between the timestamps of two consecutive events, in milliseconds.
    pub interval_ms: u64,
}

impl Default for Workload {
    fn default() -> Workload {
        Workload {
            seed: 1,
            events: 100_000,
            keys: 10_000,
            first_id: 1,
            zipf_exponent: 0.0,
            creates: 0.07,
            updates: 0.90,
            deletes: 0.03,
            invalid_share: 0.01,
            invalid_weights: InvalidKind::ALL.map(|kind| (kind, kind.default_weight())).into(),
            odd_share: 0.01,
            odd_weights: OddKind::ALL.map(|kind| (kind, kind.default_weight())).into(),
            traced_share: 0.1,
            max_payload_bytes: 262_144,
            // 2025-01-01T00:00:00Z
            start_timestamp_ms: 1_735_689_600_000,
            interval_ms: 10,
        }
    }
}

/// Why parameters are refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WorkloadError {
    #[error("a workload has 1 to {MAX_KEYS} keys, not {0}")]
    Keys(u32),
    /// Besides the ids, the generator needs as many spare ids that are never created.
    #[error("the first id is {first_id}, which leaves less than twice {keys} ids up to {MAX_ID}; choose a smaller one")]
    FirstId { first_id: u64, keys: u32 },
    #[error("the Zipf exponent is 0 (all keys alike) to 10, not {0}")]
    ZipfExponent(f64),
    #[error("the share of {name} must be a number of at least 0, not {value}")]
    Share { name: &'static str, value: f64 },
    #[error("the shares of creates, updates and deletes are all 0; give one of them a share")]
    NoShares,
    #[error("the shares of invalid and odd events add up to {0}; together they are at most 1")]
    TooManySpecial(f64),
    #[error("the share of traced events is 0 to 1, not {0}")]
    TracedShare(f64),
    #[error("{0} events have a share, but no kind of them has a weight; give one a weight or set the share to 0")]
    NoWeights(&'static str),
    #[error("the payload limit is 1,024 to 16,777,216 bytes, not {0}")]
    MaxPayloadBytes(u64),
    /// Kafka's clients refuse negative timestamps. The contract rejects timestamps after the year 9999.
    #[error(
        "timestamps from {start_timestamp_ms} on, {interval_ms} ms apart, leave the years 1970 to 9999 within {events} events"
    )]
    Timestamps { start_timestamp_ms: i64, interval_ms: u64, events: u64 },
}

impl Workload {
    /// Checks the parameters, and starts the stream.
    ///
    /// # Errors
    /// Names the first wrong parameter.
    pub fn generate(&self) -> Result<Events, WorkloadError> {
        self.validate()?;
        let total = self.creates + self.updates + self.deletes;
        Ok(Events {
            remaining: self.events,
            random: Random::new(self.seed),
            keys: Keys::new(self.first_id, self.keys, self.zipf_exponent),
            delete_below: self.deletes / total,
            create_below: (self.deletes + self.creates) / total,
            invalid_kinds: Weighted::new(&self.invalid_weights),
            odd_kinds: Weighted::new(&self.odd_weights),
            timestamp_ms: self.start_timestamp_ms,
            workload: self.clone(),
        })
    }

    /// # Errors
    /// Names the first wrong parameter.
    pub fn validate(&self) -> Result<(), WorkloadError> {
        if self.keys == 0 || self.keys > MAX_KEYS {
            return Err(WorkloadError::Keys(self.keys));
        }
        let last_spare_id = self.first_id.saturating_add(2 * u64::from(self.keys));
        if last_spare_id > MAX_ID {
            return Err(WorkloadError::FirstId { first_id: self.first_id, keys: self.keys });
        }
        if !(0.0..=10.0).contains(&self.zipf_exponent) {
            return Err(WorkloadError::ZipfExponent(self.zipf_exponent));
        }
        let shares = [
            ("creates", self.creates),
            ("updates", self.updates),
            ("deletes", self.deletes),
            ("invalid events", self.invalid_share),
            ("odd events", self.odd_share),
        ];
        for (name, value) in shares {
            if !value.is_finite() || value < 0.0 {
                return Err(WorkloadError::Share { name, value });
            }
        }
        if self.creates + self.updates + self.deletes == 0.0 {
            return Err(WorkloadError::NoShares);
        }
        if self.invalid_share + self.odd_share > 1.0 {
            return Err(WorkloadError::TooManySpecial(self.invalid_share + self.odd_share));
        }
        if !(0.0..=1.0).contains(&self.traced_share) {
            return Err(WorkloadError::TracedShare(self.traced_share));
        }
        if self.invalid_share > 0.0 && self.invalid_weights.iter().all(|(_, weight)| *weight == 0) {
            return Err(WorkloadError::NoWeights("invalid"));
        }
        if self.odd_share > 0.0 && self.odd_weights.iter().all(|(_, weight)| *weight == 0) {
            return Err(WorkloadError::NoWeights("odd"));
        }
        if !(1024..=16_777_216).contains(&self.max_payload_bytes) {
            return Err(WorkloadError::MaxPayloadBytes(self.max_payload_bytes));
        }
        let longest_ms = u128::from(self.events) * 2 * u128::from(self.interval_ms);
        let available_ms = u128::try_from(LATEST_MS - self.start_timestamp_ms.clamp(0, LATEST_MS)).unwrap_or(0);
        if self.start_timestamp_ms < 0 || self.start_timestamp_ms > LATEST_MS || longest_ms > available_ms {
            let (start_timestamp_ms, interval_ms) = (self.start_timestamp_ms, self.interval_ms);
            return Err(WorkloadError::Timestamps { start_timestamp_ms, interval_ms, events: self.events });
        }
        Ok(())
    }
}

/// The kind of a generated event, which determines its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    Created,
    Updated,
    Deleted,
    /// Valid, but unusual.
    Odd(OddKind),
    /// Must be rejected.
    Invalid(InvalidKind),
}

impl EventKind {
    /// Returns the reason for which the event must be rejected; `None` if it must be applied.
    pub fn reason(self) -> Option<Reason> {
        match self {
            EventKind::Created | EventKind::Updated | EventKind::Deleted | EventKind::Odd(_) => None,
            EventKind::Invalid(kind) => Some(kind.reason()),
        }
    }
}

/// One record to produce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedEvent {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    pub headers: Vec<(String, Vec<u8>)>,
    pub kind: EventKind,
}

/// The stream of a [`Workload`].
#[derive(Debug, Clone)]
pub struct Events {
    remaining: u64,
    random: Random,
    keys: Keys,
    delete_below: f64,
    create_below: f64,
    invalid_kinds: Weighted<InvalidKind>,
    odd_kinds: Weighted<OddKind>,
    timestamp_ms: i64,
    workload: Workload,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PreferredEvent {
    Create,
    Update,
}

impl Iterator for Events {
    type Item = GeneratedEvent;

    fn next(&mut self) -> Option<GeneratedEvent> {
        self.remaining = self.remaining.checked_sub(1)?;
        let (kind, event) = self.draw();
        let timestamp_ms = event.timestamp_ms.unwrap_or(self.timestamp_ms);
        let step_ms = self.random.below(2 * self.workload.interval_ms + 1);
        self.timestamp_ms = self.timestamp_ms.saturating_add_unsigned(step_ms);
        let headers = self.headers();
        Some(GeneratedEvent { key: event.key, value: event.value, timestamp_ms, headers, kind })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let remaining = usize::try_from(self.remaining);
        (remaining.unwrap_or(usize::MAX), remaining.ok())
    }
}

impl Events {
    fn draw(&mut self) -> (EventKind, DraftedEvent) {
        let at = self.random.unit();
        let drawn = match at {
            at if at < self.workload.invalid_share => self.invalid(),
            at if at < self.workload.invalid_share + self.workload.odd_share => self.odd(),
            _ => None,
        };
        drawn.unwrap_or_else(|| self.valid())
    }

    fn valid(&mut self) -> (EventKind, DraftedEvent) {
        let at = self.random.unit();
        if at < self.delete_below
            && let Some(live) = self.keys.any_live(&mut self.random)
        {
            self.keys.delete(live);
            return (EventKind::Deleted, DraftedEvent::new(live.id, &EventDraft::deleted(live.id)));
        }
        let preferred = if at < self.create_below { PreferredEvent::Create } else { PreferredEvent::Update };
        let (kind, id, draft) = self.creation_or_update(preferred);
        (kind, DraftedEvent::new(id, &draft))
    }

    /// Returns the preferred event if an id exists for it: an absent id for a creation, a live id for an update.
    /// Otherwise returns the other one.
    fn creation_or_update(&mut self, preferred: PreferredEvent) -> (EventKind, u64, EventDraft) {
        let random = &mut self.random;
        let live = self.keys.popular(random);
        let absent = self.keys.absent(random).filter(|_| preferred == PreferredEvent::Create || live.is_none());
        match (absent, live) {
            (Some(absent), _) => {
                self.keys.create(absent);
                (EventKind::Created, absent.id, EventDraft::created(absent.id, random))
            }
            (None, Some(live)) => (EventKind::Updated, live.id, EventDraft::updated(live.id, random)),
            (None, None) => unreachable!("there is at least one id, and each is absent or live"),
        }
    }

    fn invalid(&mut self) -> Option<(EventKind, DraftedEvent)> {
        let kind = self.invalid_kinds.draw(&mut self.random)?;
        let (keys, max_payload_bytes) = (&self.keys, self.workload.max_payload_bytes);
        let event = InvalidEvents { keys, random: &mut self.random, max_payload_bytes }.invalid(kind)?;
        Some((EventKind::Invalid(kind), event))
    }

    fn odd(&mut self) -> Option<(EventKind, DraftedEvent)> {
        let kind = self.odd_kinds.draw(&mut self.random)?;
        let (id, draft) = if kind == OddKind::DeletionWithJunk {
            let live = self.keys.any_live(&mut self.random)?;
            self.keys.delete(live);
            (live.id, EventDraft::deleted(live.id))
        } else if kind == OddKind::NothingChanges {
            let live = self.keys.popular(&mut self.random)?;
            (live.id, EventDraft::nothing_updated(live.id))
        } else {
            let preferred = if self.random.below(2) == 0 { PreferredEvent::Create } else { PreferredEvent::Update };
            let (_, id, draft) = self.creation_or_update(preferred);
            (id, draft)
        };
        let value = faults::odd(kind, draft, self.workload.max_payload_bytes);
        Some((EventKind::Odd(kind), DraftedEvent::of(id, value)))
    }

    fn headers(&mut self) -> Vec<(String, Vec<u8>)> {
        if self.random.unit() >= self.workload.traced_share {
            return Vec::new();
        }
        let (trace, more, span) = (self.random.bits(), self.random.bits(), self.random.bits());
        let traceparent = format!("00-{trace:016x}{more:016x}-{span:016x}-01");
        vec![("traceparent".into(), traceparent.into_bytes())]
    }
}
