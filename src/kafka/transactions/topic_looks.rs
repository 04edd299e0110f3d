//! Requests for a look at the topics, and their answers: between the commit thread and the thread that looks.
//!
//! A transaction with a `not_found` is committed only after a look that began when its records had been read, and that
//! found nothing (`engine::topic_watch`). The look is requested when the transaction begins and overlaps with it; the
//! wait for its answer comes before the offsets are sent. While the last look left a doubt, a transaction does not begin
//! before the answer, so that none stays open for the seconds that another look may take.
//!
//! Architecture invariant: after the thread that looks has ended, no transaction that needs a look is committed.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::engine::commit::transaction::TransactionContent;
use crate::engine::topic_watch::{LookDoubt, LookNumber, LookRequests};

/// How long a transaction that has not begun waits for an answer. The thread that looks answers much sooner: also if no
/// broker does.
const HELD_LIMIT: Duration = Duration::from_secs(20);

/// How long an open transaction waits for an answer, and at most a quarter of the transaction timeout.
const OPEN_LIMIT: Duration = Duration::from_secs(2);

/// Returns both ends.
pub fn topic_looks() -> (TopicLooks, LookInbox) {
    let shared = Arc::new(Shared::default());
    let (wake, woken) = bounded(1);
    (TopicLooks { shared: Arc::clone(&shared), wake }, LookInbox { shared, woken })
}

#[derive(Default)]
struct Shared {
    requests: Mutex<LookRequests>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, LookRequests> {
        // Each operation leaves the numbers complete.
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut LookRequests)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// The end of the commit thread. The thread that looks ends when all clones are dropped.
#[derive(Clone)]
pub struct TopicLooks {
    shared: Arc<Shared>,
    /// Has room for one message: a look answers all requests that were made before it began.
    wake: Sender<()>,
}

impl TopicLooks {
    /// Requests a look, if a transaction with this content needs one.
    pub(super) fn request_for(&self, content: &TransactionContent) -> Option<RequestedLook> {
        let has_not_found = content.has_not_found();
        let number = {
            let mut requests = self.shared.lock();
            if !has_not_found && !requests.doubt().concerns_all() {
                return None;
            }
            requests.request()
        };
        // Without room, the look for the request before has not begun.
        let _ = self.wake.try_send(());
        Some(RequestedLook { shared: Arc::clone(&self.shared), number })
    }
}

/// A look that one transaction needs.
pub(super) struct RequestedLook {
    shared: Arc<Shared>,
    number: LookNumber,
}

impl RequestedLook {
    /// Waits before the transaction begins, if the last look left a doubt.
    ///
    /// # Errors
    /// There is no answer; holds the reason.
    pub(super) fn before_begin(&self) -> Result<(), &'static str> {
        let requests = self.shared.lock();
        if requests.doubt() == LookDoubt::None {
            return Ok(());
        }
        let is_pending =
            |requests: &mut LookRequests| !requests.is_answered(self.number) && requests.doubt() != LookDoubt::Ended;
        let waited = self.shared.changed.wait_timeout_while(requests, HELD_LIMIT, is_pending);
        self.result(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Waits for the answer while the transaction is open. A doubt ends the wait.
    ///
    /// # Errors
    /// There is no answer; holds the reason.
    pub(super) fn before_offsets(&self, transaction_timeout: Duration) -> Result<(), &'static str> {
        let limit = OPEN_LIMIT.min(transaction_timeout / 4);
        let is_pending =
            |requests: &mut LookRequests| !requests.is_answered(self.number) && requests.doubt() == LookDoubt::None;
        let waited = self.shared.changed.wait_timeout_while(self.shared.lock(), limit, is_pending);
        let (mut requests, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            requests.doubted(LookDoubt::NoAnswer);
        }
        self.result(&requests)
    }

    fn result(&self, requests: &LookRequests) -> Result<(), &'static str> {
        match requests.doubt() {
            _ if requests.is_answered(self.number) => Ok(()),
            LookDoubt::Suspected | LookDoubt::Ended => Err("a topic is perhaps not the one of the start"),
            LookDoubt::None | LookDoubt::NoAnswer => Err("no broker has described the topics yet"),
        }
    }
}

/// The end of the thread that looks.
pub struct LookInbox {
    shared: Arc<Shared>,
    woken: Receiver<()>,
}

/// Why a wait for requests has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookWake {
    /// A look was requested.
    Requested,
    /// The time is up.
    Due,
    /// Nobody will request a look any more.
    Ended,
}

impl LookInbox {
    pub fn wait(&self, limit: Duration) -> LookWake {
        match self.woken.recv_timeout(limit) {
            Ok(()) => LookWake::Requested,
            Err(RecvTimeoutError::Timeout) => LookWake::Due,
            Err(RecvTimeoutError::Disconnected) => LookWake::Ended,
        }
    }

    /// Returns the newest request: a look that begins after this call answers it.
    pub fn newest_request(&self) -> LookNumber {
        self.shared.lock().newest()
    }

    /// The look that began after `newest_request` was returned has found nothing.
    pub fn found_nothing(&self, newest_request: LookNumber) {
        self.shared.update(|requests| requests.found_nothing(newest_request));
    }

    pub fn doubted(&self, doubt: LookDoubt) {
        self.shared.update(|requests| requests.doubted(doubt));
    }

    /// Answers all requests without a look: no broker answers one.
    pub fn answer_all(&self) {
        self.shared.update(LookRequests::answer_all);
    }

    pub fn has_unanswered(&self) -> bool {
        let requests = self.shared.lock();
        !requests.is_answered(requests.newest())
    }
}

impl Drop for LookInbox {
    fn drop(&mut self) {
        self.doubted(LookDoubt::Ended);
    }
}
