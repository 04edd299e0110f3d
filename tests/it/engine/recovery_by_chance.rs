//! Recoveries of random histories: events whose head has expired, a compacted state without tombstones, positions of
//! other programs, and lost writes. What the recovery leads to is compared with the reference model.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};
use steward::engine::budget::Budget;
use steward::engine::commit::transaction::CommittedOffset;
use steward::engine::offset_metadata::{NewestState, OffsetMetadata};
use steward::engine::outcome::Output;
use steward::engine::ownership::Ownership;
use steward::engine::recovery::driver::RecoveryFailure;
use steward::engine::recovery::{Recovered, RecoveryFinding, RecoveryRefusal, RecoverySettings};
use steward::entity::SizeLimits;
use steward::ports::Recoveries;
use steward::record::{Offset, Position, Topic, header};
use steward::service::Service;
use steward::testing::memory::{MemoryKafka, MemoryPod, MemoryRecord, StoredRecord};
use steward::testing::reference::Model;

use super::P0;
use super::recovery::{created, deleted_event, head, updated};

const MAX_PAYLOAD_BYTES: u64 = 262_144;
const AT: i64 = 1_769_860_800_000;

/// What happened to the topics before the recovery.
#[derive(Debug, Clone)]
struct History {
    events: Vec<(u64, Kind)>,
    /// Steward has processed the events before this one.
    processed: usize,
    /// The position of the group, if another program has committed it: at or after `processed`.
    passed_over: Option<usize>,
    /// The log's start.
    low: usize,
    /// Retention deletes events, and a tombstone stays until its events are gone. Otherwise any tombstone may be gone.
    has_retention: bool,
    /// Which tombstones compaction has removed, by the bits of their source offsets.
    removed: u64,
    look_back: u64,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Creates,
    Updates,
    Deletes,
    Malformed,
}

impl History {
    /// The position is steward's.
    fn by_steward(self) -> History {
        History { passed_over: None, low: self.low.min(self.processed), ..self }
    }
}

fn histories() -> impl Strategy<Value = History> {
    let kind = prop_oneof![
        3 => Just(Kind::Creates), 3 => Just(Kind::Updates), 3 => Just(Kind::Deletes), 1 => Just(Kind::Malformed)
    ];
    let events = prop::collection::vec((1_u64..4, kind), 1..40);
    let shares = (0.0..=1.0_f64, 0.0..=1.0_f64, 0.0..=1.0_f64);
    (events, shares, any::<[bool; 2]>(), any::<u64>(), 0_u64..50).prop_map(
        |(events, (processed, passed_over, low), [has_retention, is_passed_over], removed, look_back)| {
            let part = |share: f64, of: usize| (share * of as f64).round() as usize;
            let processed = part(processed, events.len());
            let passed_over = is_passed_over.then(|| processed + part(passed_over, events.len() - processed));
            let low = part(low, passed_over.unwrap_or(processed));
            History { events, processed, passed_over, low, has_retention, removed, look_back }
        },
    )
}

fn check(cases: u32, test: impl Fn(History) -> Result<(), TestCaseError>) {
    let cases = std::env::var("STEWARD_PROPTEST_CASES").map_or(cases, |cases| cases.parse().expect("a number"));
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    if let Err(broken) = crate::support::chance::runner(config).run(&histories(), test) {
        panic!("{broken}");
    }
}

/// Nothing was lost, so nothing is published: no entity comes back, and no event is rejected for a tombstone that is
/// gone.
#[apply(offline_test)]
fn an_intact_state_is_left_as_it_is_whatever_has_expired() {
    check(3_000, |history| {
        let history = history.by_steward();
        let world = World::of(&history);
        world.remove_tombstones(&history, |_| true);
        let recovered = world.recovers(&history).expect("nothing is missing");
        prop_assert!(recovered.repairs.has_no_records(), "{:?}", recovered.repairs.records);
        prop_assert_eq!(&recovered.findings, &vec![]);
        prop_assert_eq!(recovered.start, Position(offset(history.processed)));
        prop_assert_eq!(entities(&recovered), live(&world.model));
        Ok(())
    });
}

/// Another program has passed over events. Those that are left are applied, as if those that expired had never been
/// there.
#[apply(offline_test)]
fn events_that_were_passed_over_are_applied_as_far_as_they_are_left() {
    check(3_000, |history| {
        let Some(passed_over) = history.passed_over else { return Ok(()) };
        let mut world = World::of(&history);
        // The newest record of a log is in a segment that is never compacted.
        let newest = world.newest_state().map(|newest| newest.offset);
        world.remove_tombstones(&history, |source| Some(Offset(source)) != newest);
        let contained = offset(history.processed).min(world.contained().0);
        world.kafka.commit(P0, CommittedOffset { position: Position(offset(passed_over)), metadata: String::new() });
        let recovered = world.recovers(&history).expect("nothing is missing");

        let left = history.processed.max(history.low)..passed_over;
        let rejected = world.process(&history.events, left);
        let published = recovered.repairs.records[Output::Dlq].iter().map(|record| record.source.0);
        prop_assert_eq!(published.collect::<Vec<_>>(), rejected);
        prop_assert_eq!(entities(&recovered), live(&world.model));
        let low = offset(history.low);
        let expired = RecoveryFinding::Expired { first: Position(contained), until: Position(low) };
        let expired: Vec<_> = (contained < low).then_some(expired).into_iter().collect();
        prop_assert_eq!(&recovered.findings, &expired);
        Ok(())
    });
}

/// The end of the state and of the DLQ was lost. It is built again, or the start is refused.
#[apply(offline_test)]
fn a_lost_end_is_repaired_unless_the_input_lacks_it() {
    check(3_000, |history| {
        let history = History { has_retention: true, ..history.by_steward() };
        let lost_from = history.look_back as usize % (history.processed + 1);
        let world = World::of(&history);
        let expected = world.newest_state();
        world.lose_from(offset(lost_from));
        let found = world.newest_state();
        let is_complete = found.map_or(0, |found| found.offset.0 + 1) >= offset(history.low);
        match world.recovers(&history) {
            Ok(recovered) if is_complete => {
                prop_assert_eq!(entities(&recovered), live(&world.model));
                let repaired = recovered.repairs.records[Output::Dlq].iter().map(|record| record.source.0);
                prop_assert_eq!(repaired.collect::<Vec<_>>(), world.rejected_from(offset(lost_from.max(history.low))));
            }
            // What is missing has expired, and a tombstone may be missing for another reason.
            Ok(_) => prop_assert!(found == expected || expected.is_some_and(|expected| expected.is_tombstone)),
            Err(RecoveryFailure::Refused(RecoveryRefusal::StateLost(_))) => {
                prop_assert!(found < expected && (!is_complete || found.is_none()), "{:?} {:?}", found, expected);
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
        Ok(())
    });
}

// ------------------------------------------------------------------------------------------------------------ harness

struct World {
    kafka: MemoryKafka,
    model: Model,
    rejected: Vec<i64>,
}

impl World {
    /// The topics after steward has processed its part, with its position, and after retention has run.
    fn of(history: &History) -> World {
        let kafka = MemoryKafka::new(1, "services", "steward");
        let mut world = World { kafka, model: Model::keeping_history(MAX_PAYLOAD_BYTES), rejected: Vec::new() };
        for (index, event) in history.events.iter().enumerate() {
            let (key, value) = record_of(event);
            let timestamp_ms = Some(AT + offset(index));
            let record = MemoryRecord { timestamp_ms, key: Some(key), value: Some(value), headers: vec![] };
            world.kafka.append(Topic::Input, P0, record);
        }
        for index in 0..history.processed {
            let rejected = world.process(&history.events, index..index + 1);
            let (topic, value) = match rejected.as_slice() {
                [] => (Topic::State, world.value_of(&history.events[index])),
                [..] => (Topic::Dlq, None),
            };
            world.rejected.extend(rejected);
            let headers = vec![
                head(header::REASON, "of the event"),
                head(header::SOURCE_TOPIC, "services"),
                head(header::SOURCE_PARTITION, "0"),
                head(header::SOURCE_OFFSET, &index.to_string()),
                head(header::GROUP, "steward"),
            ];
            let key = Some(record_of(&history.events[index]).0);
            world.kafka.append(topic, P0, MemoryRecord { timestamp_ms: None, key, value, headers });
        }
        let metadata = OffsetMetadata::new("pod#1", world.kafka.topic_ids()).of(9, world.newest_state());
        let position = Position(offset(history.processed));
        world.kafka.commit(P0, CommittedOffset { position, metadata });
        world.kafka.delete_before(Topic::Input, P0, Position(offset(history.low)));
        world
    }

    /// The model processes these events. Returns the offsets of those that it rejects.
    fn process(&mut self, events: &[(u64, Kind)], range: std::ops::Range<usize>) -> Vec<i64> {
        let mut rejected = Vec::new();
        for index in range {
            let (key, value) = record_of(&events[index]);
            let before = self.model.rejections().len();
            self.model.process(0, offset(index), Some(&key), Some(&value), Some(AT + offset(index)));
            if self.model.rejections().len() > before {
                rejected.push(offset(index));
            }
        }
        rejected
    }

    fn value_of(&self, event: &(u64, Kind)) -> Option<Vec<u8>> {
        self.model.newest_of(0, event.0.to_string().as_bytes()).expect("it was applied").value.clone()
    }

    fn newest_state(&self) -> Option<NewestState> {
        let records = self.kafka.records(Topic::State, P0);
        let newest =
            |record: &StoredRecord| NewestState { offset: source(record), is_tombstone: record.value.is_none() };
        records.iter().map(newest).max()
    }

    /// After the newest event that one of the outputs has.
    fn contained(&self) -> Position {
        let records = [Topic::State, Topic::Dlq].map(|topic| self.kafka.records(topic, P0));
        records.iter().flatten().map(source).max().map_or(Position(0), Offset::next)
    }

    fn remove_tombstones(&self, history: &History, may_be_removed: impl Fn(i64) -> bool) {
        self.kafka.compact_state(P0, |record| {
            let source = source(record).0;
            let is_due = !history.has_retention || source < offset(history.low);
            is_due && may_be_removed(source) && history.removed >> (source % 64) & 1 == 1
        });
    }

    /// The transactions from this event on have not taken effect in the outputs.
    fn lose_from(&self, from: i64) {
        for topic in [Topic::State, Topic::Dlq] {
            let records = self.kafka.records(topic, P0);
            self.kafka.lose(topic, P0);
            for stored in records {
                let StoredRecord { timestamp_ms, key, value, headers, .. } = stored.clone();
                if source(&stored).0 < from {
                    self.kafka.append(topic, P0, MemoryRecord { timestamp_ms, key, value, headers });
                } else {
                    self.kafka.append_marker(topic, P0);
                }
            }
        }
    }

    fn rejected_from(&self, from: i64) -> Vec<i64> {
        self.rejected.iter().copied().filter(|rejected| *rejected >= from).collect()
    }

    fn recovers(&self, history: &History) -> Result<Recovered, RecoveryFailure> {
        let settings = RecoverySettings {
            topic: "services".into(),
            state_topic: "services.state".into(),
            group: "steward".into(),
            topic_ids: self.kafka.topic_ids(),
            tombstones_outlive_events: history.has_retention,
            look_back_records: history.look_back,
            verify_max_records: 1_000,
            adopt_group: false,
            stop_on_expired: false,
            size_limits: SizeLimits::of_payload(MAX_PAYLOAD_BYTES),
        };
        let ownership = Arc::new(Ownership::new());
        let pod = MemoryPod::new(&self.kafka, "pod", Arc::clone(&ownership));
        pod.assign(&[P0]);
        let epoch = ownership.current(P0).expect("it was assigned");
        let (reply, replies) = std::sync::mpsc::channel();
        pod.begin(P0, epoch, Box::new(move |result| reply.send(result).expect("the test receives it")));
        assert!(pod.run_recovery(&Arc::new(Service), &settings, &Budget::new(1_000_000_000)));
        replies.try_recv().expect("it was run")
    }
}

fn record_of((id, kind): &(u64, Kind)) -> (Vec<u8>, Vec<u8>) {
    let (key, value) = match kind {
        Kind::Creates => created(*id),
        Kind::Updates => updated(*id),
        Kind::Deletes => deleted_event(*id),
        Kind::Malformed => (id.to_string(), "{".to_owned()),
    };
    (key.into_bytes(), value.into_bytes())
}

fn offset(index: usize) -> i64 {
    i64::try_from(index).expect("a few events")
}

fn source(record: &StoredRecord) -> Offset {
    let (_, value) = record.headers.iter().find(|(name, _)| name == header::SOURCE_OFFSET).expect("it has one");
    let digits = std::str::from_utf8(value.as_deref().expect("it has a value")).expect("digits");
    Offset(digits.parse().expect("a number"))
}

/// Key, value and newest offset of each entity that lives.
type Entities = BTreeMap<Vec<u8>, (Vec<u8>, i64)>;

fn entities(recovered: &Recovered) -> Entities {
    let entities = recovered.entities.iter();
    let live = entities
        .filter_map(|(key, stored)| Some((key.to_vec(), (stored.snapshot.as_ref()?.to_vec(), stored.newest.0))));
    live.collect()
}

fn live(model: &Model) -> Entities {
    let state = model.state();
    let newest = state.keys().map(|(_, key)| (key.to_vec(), model.newest_of(0, key).expect("it lives")));
    newest.map(|(key, newest)| (key, (newest.value.clone().expect("it lives"), newest.newest_offset))).collect()
}
