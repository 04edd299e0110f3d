//! What the producers of one transactional id share: what an earlier one met matters to the next one.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::observability::log_events::{LogEvent, RecordsNotAccepted};

/// How long after a repeated registration a late copy of its request may still arrive.
const LATEST_COPY: Duration = Duration::from_secs(60);

/// How long a broker that has delayed a request may delay further ones.
const DELAYS_FOR: Duration = Duration::from_secs(60);

/// The longest wait is this many times doubled, and never longer than a transaction may last.
const MAX_DOUBLINGS: u32 = 12;

/// How often it is logged that brokers do not accept records.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// The log line of the client library about records that it sends again: its facility, and what surrounds the error.
const SENDS_AGAIN: &str = "MSGSET";
const BEFORE_ERROR: &str = "encountered error: ";
const AFTER_ERROR: &str = " (actions ";
const AFTER_PARTITION: &str = "]: MessageSet with ";

/// The library's texts for the two codes that mean too few replicas, and Kafka's names of these codes.
const TOO_FEW_REPLICAS: [(&str, &str); 2] = [
    ("Broker: Not enough in-sync replicas", "NOT_ENOUGH_REPLICAS"),
    ("Broker: Message(s) written to insufficient number of in-sync replicas", "NOT_ENOUGH_REPLICAS_AFTER_APPEND"),
];

/// Shared by all producers of a transactional id.
#[derive(Debug, Default)]
pub struct EarlierProducers {
    /// Clients that are still being torn down.
    closing: Arc<AtomicUsize>,
    /// When a registration was last repeated, or abandoned, without a response. Its request may still arrive, and fence
    /// a producer that has registered since.
    without_response: Mutex<Option<Instant>>,
    /// When a broker last delayed the requests of one of them.
    delayed: Mutex<Option<Instant>>,
    /// Records were not delivered in time, and none were since.
    waits_in_vain: AtomicBool,
    refused: Mutex<Option<RefusedForNow>>,
    /// Transactions since the last commit that waited in vain for the answer to their offsets or their end.
    without_answer: AtomicU32,
}

/// What the brokers do not accept for now.
#[derive(Debug, Clone)]
struct RefusedForNow {
    what: String,
    last: Instant,
    /// When refused records were last logged.
    logged_at: Option<Instant>,
}

impl EarlierProducers {
    pub fn closing(&self) -> usize {
        self.closing.load(Ordering::Acquire)
    }

    pub(super) fn one_more_closes(&self) -> Counted {
        Counted::one_more(&self.closing)
    }

    pub(super) fn had_no_response(&self, now: Instant) {
        *lock(&self.without_response) = Some(now);
    }

    pub(super) fn may_still_register(&self, now: Instant) -> bool {
        lock(&self.without_response).is_some_and(|last| now < last + LATEST_COPY)
    }

    pub(super) fn were_delayed(&self, now: Instant) {
        *lock(&self.delayed) = Some(now);
    }

    pub(super) fn may_be_delayed(&self, now: Instant) -> bool {
        lock(&self.delayed).is_some_and(|last| now < last + DELAYS_FOR)
    }

    /// Records were not delivered in time. The next producer logs why it sends records again.
    pub(super) fn waited_in_vain(&self) {
        self.waits_in_vain.store(true, Ordering::Relaxed);
    }

    pub(super) fn logs_refusals(&self) -> bool {
        self.waits_in_vain.load(Ordering::Relaxed)
    }

    /// Returns how much longer than usual the next transaction waits for these answers.
    pub(super) fn wait_factor(&self) -> u32 {
        1 << self.without_answer.load(Ordering::Relaxed).saturating_sub(1).min(MAX_DOUBLINGS)
    }

    pub(super) fn waited_in_vain_for_answer(&self) {
        self.without_answer.fetch_add(1, Ordering::Relaxed);
    }

    /// A transaction was committed.
    pub(super) fn committed(&self) {
        self.without_answer.store(0, Ordering::Relaxed);
        if self.waits_in_vain.swap(false, Ordering::Relaxed) {
            *lock(&self.refused) = None;
        }
    }

    /// Reads a line of the client library's log.
    pub(super) fn logged(&self, facility: &str, message: &str, now: Instant) {
        if let Some((topic, partition, code)) = refused_in(facility, message) {
            self.refuses(topic, partition, code, now);
        }
    }

    /// The brokers do not accept records of this partition for now.
    pub(super) fn refuses(&self, topic: &str, partition: i32, code: &str, now: Instant) {
        let mut refused = lock(&self.refused);
        let logged_at = refused.as_ref().and_then(|refused| refused.logged_at);
        let is_due = logged_at.is_none_or(|at| now.saturating_duration_since(at) >= LOG_INTERVAL);
        if is_due {
            RecordsNotAccepted { topic, partition, code }.emit();
        }
        let what = format!("the brokers do not accept records of partition {partition} of {topic}: {code}");
        let logged_at = if is_due { Some(now) } else { logged_at };
        *refused = Some(RefusedForNow { what, last: now, logged_at });
    }

    /// The coordinator does not accept a registration for now, because it has not ended the last transaction yet.
    pub(super) fn still_ends(&self, now: Instant) {
        let mut refused = lock(&self.refused);
        let what = "the coordinator has not ended the last transaction yet: CONCURRENT_TRANSACTIONS".to_owned();
        let logged_at = refused.as_ref().and_then(|refused| refused.logged_at);
        *refused = Some(RefusedForNow { what, last: now, logged_at });
    }

    /// Returns what the brokers do not accept, if they last refused it after `since`.
    pub fn refused_for_now(&self, since: Instant) -> Option<String> {
        lock(&self.refused).as_ref().filter(|refused| refused.last >= since).map(|refused| refused.what.clone())
    }
}

/// Returns topic, partition and error of records that the client sends again.
fn refused_in<'m>(facility: &str, message: &'m str) -> Option<(&'m str, i32, &'m str)> {
    if facility != SENDS_AGAIN {
        return None;
    }
    let (records, error) = message.split_once(BEFORE_ERROR)?;
    let (error, _) = error.split_once(AFTER_ERROR)?;
    let (partition, _) = records.split_once(AFTER_PARTITION)?;
    // In front of the topic are the names of the thread and the broker, each of which ends with a colon.
    let (_, partition) = partition.rsplit_once(": ").unwrap_or(("", partition));
    let (topic, partition) = partition.split_once(" [")?;
    let code = TOO_FEW_REPLICAS.iter().find(|(text, _)| *text == error).map_or(error, |(_, code)| code);
    Some((topic, partition.parse().ok()?, code))
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic cannot leave a half-written value.
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts one until it is dropped.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    pub(super) fn one_more(count: &Arc<AtomicUsize>) -> Counted {
        count.fetch_add(1, Ordering::AcqRel);
        Counted(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
