//! A transaction with a `not_found` is committed only after a look at the topics that began after its events were read.

use std::sync::Mutex;
use std::sync::mpsc::Receiver;

use steward::engine::topic_watch::LookDoubt;
use steward::kafka::transactions::topic_looks::{LookInbox, LookWake, topic_looks};

use super::*;

type Events = Arc<Mutex<Vec<&'static str>>>;

/// The commit thread on a mock broker, and the thread that looks, which the test plays.
struct Watched {
    mock: Mock,
    inbox: LookInbox,
    events: Events,
}

#[apply(offline_test)]
fn a_transaction_with_a_not_found_sends_its_records_and_is_committed_after_a_look_that_began_later() {
    let watched = Watched::new();
    let outcome = watched.commits(1, Reason::NotFound);
    assert_eq!(watched.inbox.wait(PATIENCE), LookWake::Requested);
    let newest = watched.inbox.newest_request();
    // The commit thread goes on meanwhile.
    wait_until("the transaction begins", PATIENCE, || watched.events.lock().expect("no panic").len() == 1);
    watched.happened("the look begins");
    watched.waits_with_its_records_delivered();
    watched.happened("the look is answered");
    watched.inbox.found_nothing(newest);

    assert!(matches!(received(&outcome), CommitOutcome::Committed { .. }));
    assert_eq!(watched.events(), ["metadata", "the look begins", "the look is answered", "metadata"]);
}

#[apply(offline_test)]
fn a_look_that_began_before_the_request_permits_no_commit() {
    let watched = Watched::new();
    let begun_too_early = watched.inbox.newest_request();
    let outcome = watched.commits(1, Reason::NotFound);
    assert_eq!(watched.inbox.wait(PATIENCE), LookWake::Requested);
    watched.inbox.found_nothing(begun_too_early);
    watched.waits_with_its_records_delivered();

    // It seems that a topic has changed.
    watched.inbox.doubted(LookDoubt::Suspected);
    let outcome = received(&outcome);
    let CommitOutcome::Aborted { cause, timed_out: false } = &outcome else { panic!("{outcome:?}") };
    assert!(cause.contains("perhaps not the one of the start"), "{cause}");
    assert_eq!(watched.events(), ["metadata"], "no offsets were sent");
}

#[apply(offline_test)]
fn while_a_topic_seems_to_have_changed_no_transaction_begins() {
    let watched = Watched::new();
    watched.inbox.doubted(LookDoubt::Suspected);
    let outcome = watched.commits(1, Reason::AlreadyExists);
    assert_eq!(watched.inbox.wait(PATIENCE), LookWake::Requested);
    watched.happened("the look is answered");
    watched.inbox.found_nothing(watched.inbox.newest_request());
    assert!(matches!(received(&outcome), CommitOutcome::Committed { .. }));
    assert_eq!(watched.events(), ["the look is answered", "metadata", "metadata"]);

    watched.inbox.doubted(LookDoubt::Suspected);
    let outcome = watched.commits(2, Reason::AlreadyExists);
    assert_eq!(watched.inbox.wait(PATIENCE), LookWake::Requested);
    // The topic has changed, and the process ends.
    drop(watched.inbox);
    assert!(matches!(received(&outcome), CommitOutcome::Aborted { .. }));
    assert_eq!(watched.events.lock().expect("no panic").len(), 3, "it has not begun");
}

#[apply(offline_test)]
fn other_transactions_need_no_look() {
    let watched = Watched::new();
    watched.inbox.doubted(LookDoubt::NoAnswer);
    let outcome = watched.commits(1, Reason::AlreadyExists);
    assert!(matches!(received(&outcome), CommitOutcome::Committed { .. }));
    assert!(!watched.inbox.has_unanswered());
}

#[apply(offline_test)]
fn a_look_without_an_answer_delays_a_transaction_and_stops_none() {
    let watched = Watched::new();
    // The wait within the transaction is limited to a quarter of the timeout. Until then there is no answer.
    let outcome = received(&watched.commits(1, Reason::NotFound));
    let CommitOutcome::Aborted { cause, .. } = &outcome else { panic!("{outcome:?}") };
    assert!(cause.contains("no broker has described the topics"), "{cause}");

    assert_eq!(watched.inbox.wait(PATIENCE), LookWake::Requested);
    watched.events.lock().expect("no panic").clear();
    let again = watched.commits(1, Reason::NotFound);
    assert_eq!(watched.inbox.wait(PATIENCE), LookWake::Requested);
    assert_eq!(watched.events(), [""; 0], "it does not begin before the answer");
    watched.inbox.answer_all();
    assert!(matches!(received(&again), CommitOutcome::Committed { .. }));
}

impl Watched {
    fn new() -> Watched {
        let (looks, inbox) = topic_looks();
        let events = Events::default();
        let of_mock = Arc::clone(&events);
        let taken = move || of_mock.lock().expect("no panic").push("metadata");
        let mock = Mock::start(Duration::from_secs(4), Some(looks), taken);
        events.lock().expect("no panic").clear();
        Watched { mock, inbox, events }
    }

    /// Sends a transaction with one rejected event.
    fn commits(&self, number: u64, reason: Reason) -> Receiver<CommitOutcome> {
        let mut content = self.mock.content(number);
        let mut batch = Batch::new(P0, content.offset_ranges[0].epoch, Position(0));
        batch.push(Offset(0), None, Some(b"43"), Some(b"{}"), std::iter::empty::<Header<'_>>());
        content.records.push(OutputRecord::rejected(&Arc::new(batch), 0, Rejection::new(reason, "why")));
        let (reply, outcome) = mpsc::channel();
        let reply = Box::new(move |outcome| reply.send(outcome).expect("the test waits"));
        self.mock.transactions.commit(Arc::new(content), reply);
        outcome
    }

    fn waits_with_its_records_delivered(&self) {
        let phase = self.mock.transactions.phase();
        wait_until("the records are delivered", PATIENCE, || phase.get().0 == CommitPhase::Delivering);
    }

    fn happened(&self, event: &'static str) {
        self.events.lock().expect("no panic").push(event);
    }

    fn events(&self) -> Vec<&'static str> {
        self.events.lock().expect("no panic").clone()
    }
}

fn received(outcome: &Receiver<CommitOutcome>) -> CommitOutcome {
    outcome.recv_timeout(PATIENCE).expect("every request is answered")
}
