//! Topics made by hand, and what a recovery of them finds.

use super::*;

/// Topics made by hand, and the reference model of their content.
pub struct World {
    pub kafka: MemoryKafka,
    pub ownership: Arc<Ownership>,
    pub pod: MemoryPod,
    pub model: Mutex<Model>,
    pub settings: RecoverySettings,
    pub budget: Arc<Budget>,
}

/// Key and value.
pub type Event = (String, String);

impl World {
    pub fn new() -> World {
        let kafka = MemoryKafka::new(1, TOPIC, GROUP);
        let ownership = Arc::new(Ownership::new());
        let pod = MemoryPod::new(&kafka, "pod", Arc::clone(&ownership));
        pod.assign(&[P0]);
        let settings = RecoverySettings {
            topic: TOPIC.into(),
            state_topic: STATE_TOPIC.into(),
            group: GROUP.into(),
            topic_ids: kafka.topic_ids(),
            tombstones_outlive_events: true,
            look_back_records: 100,
            verify_max_records: 1_000,
            adopt_group: false,
            stop_on_expired: false,
            size_limits: SizeLimits::of_payload(262_144),
        };
        let model = Mutex::new(Model::keeping_history(262_144));
        World { kafka, ownership, pod, model, settings, budget: Budget::new(1_000_000_000) }
    }

    /// The same outputs beside an input that is empty.
    pub fn with_another_input(&self) -> World {
        let world = World::new();
        for topic in [Topic::State, Topic::Dlq] {
            for stored in self.kafka.records(topic, P0) {
                let (timestamp_ms, key, value) = (stored.timestamp_ms, stored.key, stored.value);
                world.kafka.append(topic, P0, MemoryRecord { timestamp_ms, key, value, headers: stored.headers });
            }
        }
        world
    }

    pub fn events(&self, events: &[Event]) {
        for event in events {
            self.event_with(event.clone(), vec![]);
        }
    }

    pub fn event_with(&self, event: Event, headers: Vec<(String, Option<Vec<u8>>)>) {
        let at = AT + self.kafka.bounds(Topic::Input, P0).high.0;
        self.append(event, at, headers);
    }

    pub fn event_at(&self, event: Event, at: i64) {
        self.append(event, at, vec![]);
    }

    pub fn append(&self, (key, value): Event, at: i64, headers: Vec<(String, Option<Vec<u8>>)>) {
        let (key, value) = (key.into_bytes(), value.into_bytes());
        let record =
            MemoryRecord { timestamp_ms: Some(at), key: Some(key.clone()), value: Some(value.clone()), headers };
        let offset = self.kafka.append(Topic::Input, P0, record);
        self.model.lock().expect("one thread").process(0, offset.0, Some(&key), Some(&value), Some(at));
    }

    /// The state topic gets these entities as they are now.
    pub fn publishes(&self, keys: &[&str]) {
        for key in keys {
            let model = self.model.lock().expect("one thread");
            let newest = model.newest_of(0, key.as_bytes()).expect("something was applied to it");
            self.state_value(key, newest.value.clone(), newest.newest_offset);
        }
    }

    pub fn state_record(&self, key: &str, value: &[u8], newest: i64) {
        self.state_value(key, Some(value.to_vec()), newest);
    }

    pub fn state_value(&self, key: &str, value: Option<Vec<u8>>, newest: i64) {
        let headers = vec![
            head(header::STATE_PARTITION, "0"),
            head(header::STATE_OFFSET, &newest.to_string()),
            head(header::GROUP, GROUP),
        ];
        let key = Some(key.as_bytes().to_vec());
        self.kafka.append(Topic::State, P0, MemoryRecord { timestamp_ms: Some(AT), key, value, headers });
    }

    /// The DLQ topic gets the event at this offset.
    pub fn dlq_record(&self, offset: i64) -> Offset {
        self.dlq_record_of(offset, vec![])
    }

    /// The same, of an event with headers, as releases before 0.2 wrote it.
    pub fn dlq_record_of(&self, offset: i64, mut headers: Vec<(String, Option<Vec<u8>>)>) -> Offset {
        headers.extend([
            head(header::REASON, "not_found"),
            head(header::SOURCE_TOPIC, TOPIC),
            head(header::SOURCE_PARTITION, "0"),
            head(header::SOURCE_OFFSET, &offset.to_string()),
        ]);
        self.kafka.append(Topic::Dlq, P0, MemoryRecord { headers, ..MemoryRecord::default() })
    }

    pub fn commits(&self, position: i64) {
        self.kafka.set_committed(P0, Some(Position(position)));
    }

    /// Steward has committed this position, with this metadata after the transaction's name.
    pub fn steward_commits(&self, position: i64, facts: &str) {
        let metadata = format!("pod#1/7{facts}");
        self.kafka.commit(P0, CommittedOffset { position: Position(position), metadata });
    }

    pub fn tries(&self) -> Result<Recovered, RecoveryFailure> {
        let epoch = self.ownership.current(P0).unwrap_or(steward::record::Epoch(1));
        let (reply, replies) = std::sync::mpsc::channel();
        self.pod.begin(P0, epoch, Box::new(move |result| reply.send(result).expect("the test receives it")));
        assert!(self.pod.run_recovery(&Arc::new(Service), &self.settings, &self.budget));
        replies.try_recv().expect("it was run")
    }

    pub fn recovers(&self) -> Recovered {
        self.tries().expect("nothing is wrong with it")
    }

    pub fn refused(&self) -> RecoveryRefusal {
        match self.tries() {
            Err(RecoveryFailure::Refused(refusal)) => refusal,
            other => panic!("it was not refused: {other:?}"),
        }
    }

    /// Keys and newest offsets, each with the value that the model has at this offset.
    pub fn entities(&self, recovered: &Recovered) -> Vec<(String, i64)> {
        let model = self.model.lock().expect("one thread");
        let mut entities: Vec<(String, i64)> = recovered
            .entities
            .iter()
            .map(|(key, passivated)| {
                let history = model.history_of(0, key).expect("history is kept");
                let expected = history.iter().find(|snapshot| snapshot.newest_offset == passivated.newest.0);
                let expected = expected.unwrap_or_else(|| panic!("nothing was applied at {}", passivated.newest));
                assert_eq!(passivated.snapshot.as_deref(), expected.value.as_deref());
                (String::from_utf8_lossy(key).into_owned(), passivated.newest.0)
            })
            .collect();
        entities.sort_unstable();
        entities
    }

    pub fn model_entities(&self) -> Vec<(String, i64)> {
        let model = self.model.lock().expect("one thread");
        let live = model.state();
        live.iter().map(|((_, key), live)| (String::from_utf8_lossy(key).into_owned(), live.newest_offset)).collect()
    }

    pub fn model_value(&self, key: &str) -> Option<Vec<u8>> {
        self.model.lock().expect("one thread").newest_of(0, key.as_bytes())?.value.clone()
    }

    /// The entity's value after this number of its events.
    pub fn value_after(&self, events: usize, key: &str) -> Vec<u8> {
        let model = self.model.lock().expect("one thread");
        let history = model.history_of(0, key.as_bytes()).expect("history is kept");
        history[events - 1].value.clone().expect("it lives")
    }
}

pub fn created(id: u64) -> Event {
    let value = format!(r#"{{"eventType":"ServiceCreated","id":{id},"name":"n","description":"d","tags":[]}}"#);
    (id.to_string(), value)
}

pub fn updated(id: u64) -> Event {
    (id.to_string(), format!(r#"{{"eventType":"ServiceUpdated","id":{id},"name":"m"}}"#))
}

pub fn deleted_event(id: u64) -> Event {
    (id.to_string(), format!(r#"{{"eventType":"ServiceDeleted","id":{id}}}"#))
}

pub fn head(name: &str, value: &str) -> (String, Option<Vec<u8>>) {
    (name.to_owned(), Some(value.as_bytes().to_vec()))
}

pub fn repaired(entities: u64, events: u64, rejections: u64, from: i64, until: i64) -> Option<Repaired> {
    Some(Repaired { entities, events, rejections, from: Position(from), until: Position(until) })
}

pub fn skipped(events: u64) -> RecoveryFinding {
    RecoveryFinding::Skipped { events }
}
