//! Over the fake, on one thread: what is logged about panics, that they delay no other key, and that a restart keeps the
//! mailbox.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::Addr;
use steward::engine::ownership::Ownership;
use steward::engine::recovery::RecoverySettings;
use steward::engine::topic_watch::TopicIds;
use steward::entity::SizeLimits;
use steward::observability::log_events::{KeyPolicy, LogEvent as _, LostWriteRepaired};
use steward::observability::stats::{Sample, StatsInterval};
use steward::record::{Partition, Position, Topic};
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
fn messages_in_the_mailbox_survive_a_restart() {
    let pod = run(|mut pod| async move {
        for number in 0..50 {
            pod.send("a", &number.to_string());
            pod.send("a", &format!("{PANIC} {number}"));
        }
        assert_eq!(pod.deliver_one_by_one(1_000), 100);
        assert_eq!(
            pod.shared.stats.totals().entity_restarts,
            0,
            "no message is processed yet: all wait in the mailbox"
        );
        pod.settle().await;
        pod
    });

    let numbers: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(pod.states(), [owned(("a", &numbers.join(",")))]);
    assert_eq!(pod.rejected(), (0..50).map(|number| format!("{PANIC} {number}")).collect::<Vec<_>>());
    assert_eq!(pod.shared.stats.totals().entity_restarts, 50, "one for each");
    assert_eq!(pod.committed(), 100);
}

#[apply(offline_test)]
fn a_thousand_restarts_take_no_time_and_delay_no_other_key() {
    let pod = run(|mut pod| async move {
        for number in 0..PANICS {
            pod.send("bad", &format!("{PANIC} {number}"));
            pod.send(&format!("good-{}", number % 7), &number.to_string());
        }
        let began = pod.shared.clock.now();
        let settles_before = pod.settles;
        let mut delivered = 0;
        while delivered < 2 * PANICS {
            // In portions, because the number of open batches is bounded.
            delivered += pod.deliver_one_by_one(100);
            pod.settle().await;
        }
        // The clock of this thread moves only while every task waits, so a back-off would be visible as time.
        let passed = pod.shared.clock.now().duration_since(began);
        assert_eq!(passed, SETTLE * (pod.settles - settles_before), "a task waited");
        pod
    });

    assert_eq!(pod.committed(), 2 * PANICS);
    let totals = pod.shared.stats.totals();
    assert_eq!((totals.entity_restarts, totals.applied), (PANICS as u64, PANICS as u64));
    assert_eq!(pod.rejected().len(), PANICS);
    assert_eq!(pod.states().len(), 7);
}

#[apply(offline_test)]
fn repeated_panics_are_summarised() {
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

    assert_eq!(pod.rejected().len(), PANICS);
    let singles = log.lines("entity_panicked");
    assert_eq!(singles.len(), 1, "the first one: {singles:?}");
    assert_eq!((singles[0].integer("partition"), singles[0].integer("offset")), (0, 0));
    let summaries = log.lines("entities_panicked");
    let summed: i64 = summaries.iter().map(|line| line.integer("count")).sum();
    assert_eq!(summed, PANICS as i64 - 1, "every other one is counted: {summaries:?}");
    assert!(summaries.len() <= 3, "one per window: {summaries:?}");
    assert_eq!(summaries.last().map(|line| line.integer("last_offset")), Some(PANICS as i64 - 1));
    let restarts = log.lines("entity_restarted");
    assert_eq!(restarts.last().map(|line| line.integer("restarts")), Some(PANICS as i64));
    assert!(restarts.iter().all(|line| line.level == tracing::Level::TRACE), "{:?}", restarts[0]);
}

/// A hundred thousand rejected events: four reasons, one of them `panicked`, and many keys.
#[apply(offline_test)]
fn a_flood_of_rejections_costs_one_line_per_reason_and_window_and_shows_no_payload() {
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
            let mut delivered = 0;
            while delivered < 1_000 {
                // The first batches are small.
                delivered += pod.deliver(1_000);
                pod.settle().await;
            }
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
        let passed = pod.shared.clock.now().duration_since(began);
        assert!(passed < Duration::from_secs(60), "{passed:?}: more windows than the bound below allows");
        pod
    });

    assert_eq!(pod.committed(), EVENTS);
    let per_kind = i64::try_from(EVENTS / KINDS).expect("small");
    for reason in ["invalid_event", "payload_too_large", "missing_key"] {
        let lines_of = |name: &str| {
            let lines = log.lines(name).into_iter();
            lines.filter(|line| line.text("reason") == reason).collect::<Vec<_>>()
        };
        assert_eq!(lines_of("event_rejected").len(), 1, "{reason}");
        let summed: i64 = lines_of("events_rejected").iter().map(|line| line.integer("count")).sum();
        assert_eq!(summed, per_kind - 1, "{reason}");
    }
    let summed: i64 = log.lines("entities_panicked").iter().map(|line| line.integer("count")).sum();
    assert_eq!((log.lines("entity_panicked").len(), summed), (1, per_kind - 1));
    let visible = log.all().into_iter().filter(|line| line.level <= tracing::Level::INFO).collect::<Vec<_>>();
    let about_events =
        visible.iter().filter(|line| line.name.contains("reject") || line.name.contains("panic")).count();
    assert!(about_events <= KINDS * (1 + 6), "the first of each reason, and one line per window: {about_events}");
    for line in log.all() {
        for (field, value) in &line.fields {
            let is_key = field == "key" && (line.name == "event_rejected" || line.name == "entity_panicked");
            assert!(is_key || !value.to_string().contains(CANARY), "{line:?}");
        }
    }
}

#[apply(offline_test)]
fn a_panic_among_rejected_and_applied_events_costs_only_its_event() {
    let pod = run(|mut pod| async move {
        for value in ["1", REFUSE, PANIC, "2", REFUSE, PANIC, "3"] {
            pod.send("a", value);
        }
        pod.deliver(7);
        pod.settle().await;
        pod
    });

    assert_eq!(pod.states(), [owned(("a", "1,2,3"))]);
    assert_eq!(pod.rejected(), [REFUSE, PANIC, REFUSE, PANIC]);
    assert_eq!(pod.shared.stats.totals().entity_restarts, 1, "one message, one restart");
}

#[apply(offline_test)]
fn a_panic_while_encoding_is_traced_to_its_event_within_a_batch() {
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
    assert_eq!(pod.rejected(), [ENCODE_PANIC, ENCODE_PANIC]);
}

#[apply(offline_test)]
fn a_slow_key_yields_to_the_other_keys_of_its_thread_and_keeps_its_order() {
    let pod = run(|mut pod| async move {
        for value in ["slow 1", "slow 2", "slow 3"] {
            pod.send("a", value);
        }
        pod.send("b", "1");
        pod.deliver(4);
        // These wait in the mailboxes.
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
    let line = StatsInterval::open(Arc::clone(&pod.shared.stats), now).close(now + Duration::from_secs(10), &sample);
    assert_eq!(line.slowest_keys, format!("a:{}", 3 * SLOW_MS), "the log names the slow key");
}

/// The process was suspended, so the key was not slow; and its thread has much to do.
#[apply(offline_test)]
fn a_key_that_ran_while_the_process_was_suspended_does_not_pause_for_as_long() {
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
    let position = decided.iter().position(|one| one == "a 2").expect("it is processed");
    assert!(1 < position && position < OTHERS, "the other key runs in between, but is not done: {position}");
}

#[apply(offline_test)]
fn a_panic_after_a_slow_event_costs_only_its_event() {
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
    assert_eq!(pod.rejected(), [PANIC, ENCODE_PANIC]);
    assert_eq!(pod.shared.stats.totals().entity_restarts, 1, "one message, one restart, whatever the number of turns");
}

/// A process that has lost the partition, and has no notice of it yet, reads a state that its next owner is about to
/// write. To that process the write seems lost.
#[apply(offline_test)]
fn a_lost_write_is_logged_once_its_repair_is_committed_and_not_by_a_former_owner() {
    let capture = Capture::here();
    capture.announce(LostWriteRepaired::NAME);
    let pod = run(|mut pod| async move {
        pod.send("a", "1");
        pod.kafka.set_committed(P, Some(Position(1)));
        pod.memory.lose(&[P]);
        pod.memory.assign(&[P]);
        pod.memory.expel();
        pod.wait().await;
        assert!(pod.run_recovery());
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert!(pod.memory.end_pending(InjectedOutcome::Commits), "it tries to commit its repair");
        }
        assert_eq!(capture.lines(LostWriteRepaired::NAME).len(), 0, "the broker accepted nothing of it");

        pod.memory.lose(&[P]);
        pod.memory.assign(&[P]);
        pod.wait().await;
        assert!(pod.run_recovery());
        // The wait before the next attempt.
        tokio::time::sleep(Duration::from_secs(5)).await;
        pod.settle().await;
        assert_eq!(capture.lines(LostWriteRepaired::NAME).len(), 1);
        pod
    });
    assert_eq!(pod.states(), [owned(("a", "1"))]);
}

// ----------------------------------------------------------------------------------------------------------- helpers

const SETTLE: Duration = Duration::from_millis(1);

/// A pod that owns the only partition, over the fake.
struct Pod {
    kafka: MemoryKafka,
    memory: MemoryPod,
    shared: Shared,
    stops: Arc<Mutex<Vec<StopCause>>>,
    settles: u32,
    _ingest: Addr<IngestActor<Fragile>>,
}

fn run<F: Future<Output = Pod>>(scenario: impl FnOnce(Pod) -> F) -> Pod {
    let pod = on_one_thread(|clock| async move {
        let mut pod = Pod::start(clock);
        pod.memory.assign(&[P]);
        pod.settle().await;
        scenario(pod).await
    });
    let stops = pod.stops.lock().expect("no thread panics while it holds this").clone();
    assert!(stops.is_empty(), "the pod stopped: {stops:?}");
    pod
}

impl Pod {
    fn start(clock: Arc<PausedClock>) -> Pod {
        let kafka = MemoryKafka::new(1, "in", "group");
        let stops = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&stops);
        let limits = MemoryLimits { in_flight_bytes: 1 << 24, state_bytes: 1 << 24 };
        let stop = Arc::new(move |cause| recorded.lock().expect("no thread panics while it holds this").push(cause));
        let shared = Shared::new(clock, limits, KeyPolicy::Plain, stop);
        let ownership = Arc::new(Ownership::new());
        let memory = MemoryPod::new(&kafka, "pod", Arc::clone(&ownership));
        let ports = Ports {
            consumer: Box::new(memory.clone()),
            recoveries: Box::new(memory.clone()),
            transactions: Box::new(memory.clone()),
            ownership,
        };
        let settings = RuntimeSettings {
            size_limits: SizeLimits::of_payload(1_000),
            max_transaction_bytes: 1 << 20,
            max_dlq_record_bytes: u64::MAX,
            transaction_timeout: Duration::from_secs(10),
            min_commit_interval: Duration::ZERO,
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

    /// Lets every actor process its mailbox, and every transaction commit.
    async fn settle(&mut self) {
        loop {
            self.wait().await;
            if !self.run_recovery() & !self.memory.end_pending(InjectedOutcome::Commits) {
                return;
            }
        }
    }

    /// Lets every actor process its mailbox.
    async fn wait(&mut self) {
        tokio::time::sleep(SETTLE).await;
        self.settles += 1;
    }

    /// Runs a requested recovery, if there is one.
    fn run_recovery(&self) -> bool {
        let settings = RecoverySettings {
            group: "group".into(),
            topic_ids: TopicIds::default(),
            topic: "in".into(),
            state_topic: "state".into(),
            tombstones_outlive_events: true,
            look_back_records: 10,
            verify_max_records: 1_000,
            adopt_group: false,
            stop_on_expired: false,
            size_limits: SizeLimits::of_payload(1_000),
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

    /// The values of the DLQ records, in order.
    fn rejected(&self) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let records = self.kafka.records(Topic::Dlq, P);
        records
            .iter()
            .map(|record| text(record.value.as_deref().expect("a DLQ record has the value of its event")))
            .collect()
    }

    fn committed(&self) -> usize {
        let committed = self.kafka.committed(P).expect("something is committed");
        usize::try_from(committed.position.0).expect("a position")
    }
}
