//! Over the twins, on one thread: what the log says of panics, that nothing waits for them, and that a restart leaves
//! the mailbox as it was.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::Addr;
use steward::engine::ownership::Ownership;
use steward::engine::recovery::{RecoverySettings, Topic};
use steward::observability::log_events::{KeyPolicy, LogEvent as _, LostWriteRepaired};
use steward::observability::stats::{Sample, Window};
use steward::record::{Partition, Position};
use steward::runtime::assemble::{Actors, Ports, RuntimeSettings, assemble};
use steward::runtime::ingest::IngestActor;
use steward::runtime::{MemoryLimits, Shared, StopCause};
use steward::testing::memory::{InjectedOutcome, MemoryKafka, MemoryPod, MemoryRecord};

use super::fragile::{
    ENCODE_PANIC, FROZEN, Fragile, PANIC, REFUSE, SLOW_MS, {self},
};
use super::owned;
use crate::support::capture::Capture;
use crate::support::paused::{PausedClock, on_one_thread};

const P: Partition = Partition(0);
const PANICS: usize = 1_000;

/// All batches are in the actor's mailbox before it handles the first one.
#[apply(offline_test)]
fn what_waits_in_the_mailbox_survives_a_restart() {
    let pod = run(|mut pod| async move {
        for number in 0..50 {
            pod.send("a", &number.to_string());
            pod.send("a", &format!("{PANIC} {number}"));
        }
        assert_eq!(pod.deliver_one_by_one(1_000), 100);
        assert_eq!(pod.shared.stats.totals().entity_restarts, 0, "nothing was handled yet: all of it waits");
        pod.settle().await;
        pod
    });

    let numbers: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(pod.states(), [owned(("a", &numbers.join(",")))]);
    assert_eq!(pod.letters(), (0..50).map(|number| format!("{PANIC} {number}")).collect::<Vec<_>>());
    assert_eq!(pod.shared.stats.totals().entity_restarts, 50, "one for each");
    assert_eq!(pod.committed(), 100);
}

#[apply(offline_test)]
fn a_thousand_restarts_take_no_time_and_hold_nobody_up() {
    let pod = run(|mut pod| async move {
        for number in 0..PANICS {
            pod.send("bad", &format!("{PANIC} {number}"));
            pod.send(&format!("good-{}", number % 7), &number.to_string());
        }
        let began = pod.shared.clock.now();
        let settles_before = pod.settles;
        let mut delivered = 0;
        while delivered < 2 * PANICS {
            // In portions, because the number of batches under way is bounded.
            delivered += pod.deliver_one_by_one(100);
            pod.settle().await;
        }
        // The clock of this thread moves only while everyone waits: a back-off anywhere would show as time.
        let passed = pod.shared.clock.now().duration_since(began);
        assert_eq!(passed, SETTLE * (pod.settles - settles_before), "somebody waited");
        pod
    });

    assert_eq!(pod.committed(), 2 * PANICS);
    let totals = pod.shared.stats.totals();
    assert_eq!((totals.entity_restarts, totals.applied), (PANICS as u64, PANICS as u64));
    assert_eq!(pod.letters().len(), PANICS);
    assert_eq!(pod.states().len(), 7);
}

#[apply(offline_test)]
fn panics_that_repeat_are_summed_up() {
    let log = Capture::here();
    log.announce("entity_panicked");
    log.announce("entities_panicked");
    let pod = run(|mut pod| async move {
        for number in 0..PANICS {
            pod.send("bad", &format!("{PANIC} {number}"));
            pod.deliver(1);
            pod.settle().await;
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
        pod
    });

    assert_eq!(pod.letters().len(), PANICS);
    let singles = log.lines("entity_panicked");
    assert_eq!(singles.len(), 1, "the first one of its kind: {singles:?}");
    assert_eq!((singles[0].integer("partition"), singles[0].integer("offset")), (0, 0));
    let summaries = log.lines("entities_panicked");
    let summed: i64 = summaries.iter().map(|line| line.integer("count")).sum();
    assert_eq!(summed, PANICS as i64 - 1, "none is left out: {summaries:?}");
    assert!(summaries.len() <= 3, "a line each: {summaries:?}");
    assert_eq!(summaries.last().map(|line| line.integer("last_offset")), Some(PANICS as i64 - 1));
    let restarts = log.lines("entity_restarted");
    assert_eq!(restarts.last().map(|line| line.integer("restarts")), Some(PANICS as i64));
    assert!(restarts.iter().all(|line| line.level == tracing::Level::TRACE), "{:?}", restarts[0]);
}

/// Panics and refusals of four kinds, from many keys, a hundred thousand of them.
#[apply(offline_test)]
fn a_flood_of_all_kinds_costs_a_line_for_each_kind_and_window_and_shows_no_payload() {
    const EVENTS: usize = 100_000;
    const KINDS: usize = 4;
    const CANARY: &str = "canary-7f3a";
    let log = Capture::here();
    log.announce("entity_panicked");
    log.announce("entities_panicked");
    let too_large = format!("{CANARY}{}", "x".repeat(1_001));
    let pod = run(|mut pod| async move {
        let began = pod.shared.clock.now();
        for chunk in 0..EVENTS / 1_000 {
            for number in 0..1_000 / KINDS {
                let key = format!("{CANARY}-{}", (chunk + number) % 97);
                pod.send(&key, &format!("{PANIC} {CANARY}"));
                pod.send(&key, &format!("{REFUSE} {CANARY}"));
                pod.send(&key, &too_large);
                pod.send("", CANARY);
            }
            pod.deliver(1_000);
            pod.settle().await;
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
        let passed = pod.shared.clock.now().duration_since(began);
        assert!(passed < Duration::from_secs(60), "{passed:?}: more windows than the bound below allows");
        pod
    });

    assert_eq!(pod.committed(), EVENTS);
    let per_kind = i64::try_from(EVENTS / KINDS).expect("small");
    for reason in ["invalid_event", "payload_too_large", "missing_key"] {
        let of_it = |name: &str| {
            let lines = log.lines(name).into_iter();
            lines.filter(|line| line.text("reason") == reason).collect::<Vec<_>>()
        };
        assert_eq!(of_it("event_rejected").len(), 1, "{reason}");
        let summed: i64 = of_it("events_rejected").iter().map(|line| line.integer("count")).sum();
        assert_eq!(summed, per_kind - 1, "{reason}");
    }
    let summed: i64 = log.lines("entities_panicked").iter().map(|line| line.integer("count")).sum();
    assert_eq!((log.lines("entity_panicked").len(), summed), (1, per_kind - 1));
    let told = log.all().into_iter().filter(|line| line.level <= tracing::Level::INFO).collect::<Vec<_>>();
    let about_events = told.iter().filter(|line| line.name.contains("reject") || line.name.contains("panic")).count();
    assert!(about_events <= KINDS * (1 + 6), "the first of each, and a line a window: {about_events}");
    for line in log.all() {
        for (field, value) in &line.fields {
            let is_key = field == "key" && (line.name == "event_rejected" || line.name == "entity_panicked");
            assert!(is_key || !value.to_string().contains(CANARY), "{line:?}");
        }
    }
}

#[apply(offline_test)]
fn a_panic_beside_a_rejection_and_a_good_event_costs_only_itself() {
    let pod = run(|mut pod| async move {
        for value in ["1", REFUSE, PANIC, "2", REFUSE, PANIC, "3"] {
            pod.send("a", value);
        }
        pod.deliver(7);
        pod.settle().await;
        pod
    });

    assert_eq!(pod.states(), [owned(("a", "1,2,3"))]);
    assert_eq!(pod.letters(), [REFUSE, PANIC, REFUSE, PANIC]);
    assert_eq!(pod.shared.stats.totals().entity_restarts, 1, "one message, one restart");
}

#[apply(offline_test)]
fn a_panic_while_writing_is_found_among_many_events_of_a_batch() {
    let pod = run(|mut pod| async move {
        for value in ["1", "2", ENCODE_PANIC, "3", ENCODE_PANIC, "4"] {
            pod.send("a", value);
        }
        pod.send("b", "1");
        pod.deliver(7);
        pod.settle().await;
        pod.send("a", "5");
        pod.deliver(1);
        pod.settle().await;
        pod
    });

    assert_eq!(pod.states(), [("a", "1,2,3,4,5"), ("b", "1")].map(owned));
    assert_eq!(pod.letters(), [ENCODE_PANIC, ENCODE_PANIC]);
}

#[apply(offline_test)]
fn a_slow_key_lets_others_have_their_turn_and_keeps_its_own_order() {
    let pod = run(|mut pod| async move {
        for value in ["slow 1", "slow 2", "slow 3"] {
            pod.send("a", value);
        }
        pod.send("b", "1");
        pod.deliver(4);
        // These wait in the mailbox meanwhile.
        pod.send("a", "4");
        pod.send("b", "2");
        pod.deliver(2);
        fragile::decided();
        pod.settle().await;
        pod
    });

    assert_eq!(fragile::decided(), ["a slow 1", "b 1", "b 2", "a slow 2", "a slow 3", "a 4"]);
    assert_eq!(pod.states(), [("a", "slow 1,slow 2,slow 3,4"), ("b", "1,2")].map(owned));
    assert_eq!(pod.committed(), 6);
    let now = pod.shared.clock.now();
    let sample = Sample { keys: Arc::clone(&pod.shared.keys), ..Sample::default() };
    let line = Window::open(Arc::clone(&pod.shared.stats), now).close(now + Duration::from_secs(10), &sample);
    assert_eq!(line.slowest_keys, format!("a:{}", 3 * SLOW_MS), "the log names the key that takes the time");
}

/// It was the process that stood still, and its thread has much to do since.
#[apply(offline_test)]
fn a_key_that_met_a_freeze_is_not_kept_waiting_for_as_long() {
    const OTHERS: usize = 200;
    run(|mut pod| async move {
        pod.send("a", FROZEN);
        pod.send("a", "2");
        for _ in 0..OTHERS {
            pod.send("b", "slow");
        }
        pod.deliver(2 + OTHERS);
        fragile::decided();
        pod.settle().await;
        pod
    });

    let decided = fragile::decided();
    let place = decided.iter().position(|one| one == "a 2").expect("it is decided");
    assert!(1 < place && place < OTHERS, "the other one works in between, but is not done: {place}");
}

#[apply(offline_test)]
fn a_panic_behind_a_slow_event_costs_only_itself() {
    let pod = run(|mut pod| async move {
        for value in ["slow 1", PANIC, "slow 2", ENCODE_PANIC, "slow 3"] {
            pod.send("a", value);
        }
        pod.deliver(5);
        pod.send("a", "4");
        pod.deliver(1);
        pod.settle().await;
        pod
    });

    assert_eq!(pod.states(), [owned(("a", "slow 1,slow 2,slow 3,4"))]);
    assert_eq!(pod.letters(), [PANIC, ENCODE_PANIC]);
    assert_eq!(pod.shared.stats.totals().entity_restarts, 1, "one message, one restart, in however many turns");
}

/// Who has lost the partition and does not know it yet reads what its next owner is about to write, and takes it for
/// lost.
#[apply(offline_test)]
fn a_lost_write_is_told_once_it_is_published_and_not_by_who_has_lost_the_partition() {
    let capture = Capture::here();
    capture.announce(LostWriteRepaired::NAME);
    let pod = run(|mut pod| async move {
        pod.send("a", "1");
        pod.kafka.set_committed(P, Some(Position(1)));
        pod.memory.lose(&[P]);
        pod.memory.assign(&[P]);
        pod.memory.expel(&[P]);
        pod.wait().await;
        assert!(pod.recovers());
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert!(pod.memory.end_pending(InjectedOutcome::Commits), "it tries to publish what it found missing");
        }
        assert_eq!(capture.lines(LostWriteRepaired::NAME).len(), 0, "nothing of it was taken");

        pod.memory.lose(&[P]);
        pod.memory.assign(&[P]);
        pod.wait().await;
        assert!(pod.recovers());
        // It waits a little before it tries again.
        tokio::time::sleep(Duration::from_secs(5)).await;
        pod.settle().await;
        assert_eq!(capture.lines(LostWriteRepaired::NAME).len(), 1);
        pod
    });
    assert_eq!(pod.states(), [owned(("a", "1"))]);
}

// ----------------------------------------------------------------------------------------------------------- helpers

const SETTLE: Duration = Duration::from_millis(1);

/// One pod that owns the one partition, over the twins.
struct Pod {
    kafka: MemoryKafka,
    memory: MemoryPod,
    shared: Shared,
    stops: Arc<Mutex<Vec<StopCause>>>,
    settles: u32,
    _ingest: Addr<IngestActor<Fragile>>,
}

fn run<F: Future<Output = Pod>>(scenario: impl FnOnce(Pod) -> F) -> Pod {
    fragile::silence_expected_panics();
    let pod = on_one_thread(|clock| async move {
        let mut pod = Pod::start(clock);
        pod.memory.assign(&[P]);
        pod.settle().await;
        scenario(pod).await
    });
    let stops = pod.stops.lock().expect("nobody panics while holding this").clone();
    assert!(stops.is_empty(), "the pod stopped: {stops:?}");
    pod
}

impl Pod {
    fn start(clock: Arc<PausedClock>) -> Pod {
        let kafka = MemoryKafka::new(1, "in", "group");
        let stops = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&stops);
        let limits = MemoryLimits { in_flight_bytes: 1 << 24, state_bytes: 1 << 24 };
        let stop = Arc::new(move |cause| told.lock().expect("nobody panics while holding this").push(cause));
        let shared = Shared::new(clock, limits, KeyPolicy::Plain, stop);
        let ownership = Arc::new(Ownership::new());
        let memory = MemoryPod::new(&kafka, "pod", Arc::clone(&ownership));
        let ports = Ports {
            source: Box::new(memory.clone()),
            recoveries: Box::new(memory.clone()),
            transactions: Box::new(memory.clone()),
            ownership,
        };
        let settings = RuntimeSettings {
            max_payload_bytes: 1_000,
            max_transaction_bytes: 1 << 20,
            linger_per_partition: Duration::ZERO,
            offset_metadata: memory.offset_metadata(),
            entity_idle: Duration::from_secs(3_600),
            max_active_entities: 1_000,
            stop_on_expired: false,
            entity_threads: Vec::new(),
        };
        let Actors { ingest, sink, .. } = assemble(ports, Arc::new(Fragile), settings, &shared);
        memory.listen(Box::new(sink));
        Pod { kafka, memory, shared, stops, settles: 0, _ingest: ingest }
    }

    fn send(&mut self, key: &str, value: &str) {
        let (key, value) = (Some(key.as_bytes().to_vec()), Some(value.as_bytes().to_vec()));
        self.kafka.append(Topic::Input, P, MemoryRecord { timestamp_ms: Some(1), key, value, headers: Vec::new() });
    }

    /// One batch of up to `most` records. Returns how many it has.
    fn deliver(&self, most: usize) -> usize {
        self.memory.poll(P, most)
    }

    /// Up to `most` batches of one record each. Returns how many.
    fn deliver_one_by_one(&self, most: usize) -> usize {
        (0..most).map(|_| self.memory.poll(P, 1)).sum()
    }

    /// Lets every actor work off what it has, and every transaction commit.
    async fn settle(&mut self) {
        loop {
            self.wait().await;
            if !self.recovers() & !self.memory.end_pending(InjectedOutcome::Commits) {
                return;
            }
        }
    }

    /// Lets every actor work off what it has.
    async fn wait(&mut self) {
        tokio::time::sleep(SETTLE).await;
        self.settles += 1;
    }

    /// Carries a recovery out that was asked for, if there is one.
    fn recovers(&self) -> bool {
        let settings = RecoverySettings {
            group: "group".into(),
            topic: "in".into(),
            look_back_records: 10,
            verify_max_records: 1_000,
            adopt_group: false,
            stop_on_expired: false,
            max_payload_bytes: 1_000,
        };
        self.memory.run_recovery(&Arc::new(Fragile), &settings, &self.shared.state_memory)
    }

    fn states(&self) -> Vec<(String, String)> {
        let text = |bytes: &Option<Vec<u8>>| Some(String::from_utf8_lossy(bytes.as_deref()?).into_owned());
        let records = self.kafka.records(Topic::State, P);
        let newest: std::collections::BTreeMap<String, String> =
            records.iter().filter_map(|record| Some((text(&record.key)?, text(&record.value)?))).collect();
        newest.into_iter().collect()
    }

    /// The DLQ records' values, in order; all of them have a reason.
    fn letters(&self) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let letters = self.kafka.records(Topic::Dlq, P);
        letters.iter().map(|letter| text(letter.value.as_deref().expect("the event as it was"))).collect()
    }

    fn committed(&self) -> usize {
        let committed = self.kafka.committed(P).expect("something is committed");
        usize::try_from(committed.position.0).expect("a position")
    }
}
