//! The harness of the consumer tests: group members, topics, and a sink that records what it receives.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset as ClientOffset, TopicPartitionList};
use rdkafka_sys as sys;
use steward::config::Config;
use steward::engine::ownership::Ownership;
use steward::kafka::client::context::{
    ClientError, ClientEvents, ClientLogLevel, ClientRole, ConsumerStatistics, Throttle,
};
use steward::kafka::consumer::input_consumer::{ConsumerHandle, ConsumerParts, KafkaConsumer, connect};
use steward::ports::{Clock, ConsumerEvent, ConsumerFailure, ConsumerSink, Drained, InputConsumer};
use steward::record::{Batch, Epoch, Header, Partition, Position};

/// A test fails if it waits longer than this for a condition.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) instance: String,
    pub(super) partition_count: i32,
    pub(super) start_at_once: Option<Position>,
}

pub(super) struct Member {
    pub(super) source: Arc<OnceLock<KafkaConsumer>>,
    pub(super) handle: Mutex<Option<ConsumerHandle>>,
    pub(super) ownership: Arc<Ownership>,
    pub(super) sink: Arc<SinkState>,
    pub(super) events: Arc<RecordedClientEvents>,
}

impl Member {
    pub(super) fn join(topic: &Topic) -> Member {
        Member::join_with(topic, |_| {})
    }

    pub(super) fn join_with(topic: &Topic, change: impl FnOnce(&mut Setup)) -> Member {
        let mut setup = Setup {
            config: topic.config(),
            instance: format!("member-{}", fresh()),
            partition_count: topic.partitions,
            start_at_once: None,
        };
        change(&mut setup);
        let (ownership, sink, events) = (Arc::new(Ownership::new()), Arc::new(SinkState::default()), Arc::default());
        let source = Arc::new(OnceLock::new());
        let recording =
            RecordingSink { state: Arc::clone(&sink), source: Arc::clone(&source), start_at_once: setup.start_at_once };
        let parts = ConsumerParts {
            instance: setup.instance,
            partition_count: setup.partition_count,
            ownership: Arc::clone(&ownership),
            clock: Arc::new(WallClock),
            events: Arc::clone(&events) as Arc<dyn ClientEvents>,
        };
        let (commands, connected) = connect(&setup.config, parts).expect("the consumer is built");
        assert!(source.set(commands).is_ok(), "set once");
        let handle = connected.run(Box::new(recording)).expect("the consumer starts");
        Member { source, handle: Mutex::new(Some(handle)), ownership, sink, events }
    }

    pub(super) fn source(&self) -> &KafkaConsumer {
        self.source.get().expect("set by join")
    }

    pub(super) fn phase(&self) -> Arc<steward::kafka::consumer::poll_phase::PollPhaseWatch> {
        self.handle.lock().expect("not poisoned").as_ref().expect("not joined yet").phase()
    }

    pub(super) fn start(&self, owned: &[(Partition, Epoch)], position: i64) {
        for &(partition, epoch) in owned {
            self.source().start(partition, epoch, Position(position));
        }
    }

    /// Returns all assignments so far, after the first event.
    pub(super) fn assigned(&self) -> Vec<(Partition, Epoch)> {
        self.wait("an assignment", |events| events.iter().any(|event| event.starts_with("assigned")));
        self.sink.lock().assigned.clone()
    }

    pub(super) fn assigned_some(&self) -> Vec<(Partition, Epoch)> {
        self.wait("an assignment with partitions", |events| {
            events.iter().any(|event| event.starts_with("assigned") && event != "assigned 0")
        });
        self.sink.lock().assigned.clone()
    }

    pub(super) fn records(&self, count: usize) -> Vec<Seen> {
        self.wait(&format!("{count} records"), |_| self.sink.lock().seen.len() >= count);
        self.seen()
    }

    pub(super) fn records_of(&self, partition: Partition, count: usize) -> Vec<Seen> {
        let of = |seen: &[Seen]| seen.iter().filter(|seen| seen.partition == partition).count();
        self.wait(&format!("{count} records of partition {partition}"), |_| of(&self.sink.lock().seen) >= count);
        self.seen().into_iter().filter(|seen| seen.partition == partition).collect()
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.sink.lock().seen.clone()
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.sink.lock().log.clone()
    }

    /// Seeks without the poll thread. The client itself may do this.
    pub(super) fn set_client_back(&self, topic: &Topic, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic.name, 0, ClientOffset::Offset(offset)).expect("not negative");
        let consumer = self.handle.lock().expect("not poisoned").as_ref().expect("not joined yet").consumer();
        consumer.seek_partitions(list, LIMIT).expect("the client can seek");
    }

    /// Returns whether the client reported something that contains this.
    pub(super) fn has_reported(&self, part: &str) -> bool {
        self.events.reports.lock().expect("not poisoned").iter().any(|report| report.contains(part))
    }

    pub(super) fn refuse(&self, refused: Refused) {
        self.sink.lock().refused = refused;
    }

    pub(super) fn drain(&self) {
        self.sink.lock().revocations.pop_front().expect("a revocation waits");
    }

    pub(super) fn revoked_partition(&self) -> Partition {
        self.sink.lock().revoked[0]
    }

    pub(super) fn revoked_deadline(&self) -> Instant {
        self.sink.lock().deadline.expect("a revocation was received")
    }

    pub(super) fn kept_partition(&self) -> Partition {
        let state = self.sink.lock();
        let kept = state.assigned.iter().map(|(partition, _)| *partition).find(|kept| !state.revoked.contains(kept));
        kept.expect("one was kept")
    }

    pub(super) fn failure(&self) -> ConsumerFailure {
        self.wait("a failure", |_| self.sink.lock().failure.is_some());
        self.sink.lock().failure.clone().expect("a failure was received")
    }

    pub(super) fn position_of(&self, partition: Partition) -> i64 {
        let statistics = self.events.statistics.lock().expect("not poisoned");
        let found = statistics.partitions.iter().find(|found| found.partition == partition);
        found.and_then(|found| found.position).map_or(0, |position| position.0)
    }

    pub(super) fn leave(&self) {
        self.source().leave();
        self.wait("a revocation", |events| events.iter().any(|event| event.starts_with("revoked")));
        self.drain();
        self.wait_for_end();
    }

    pub(super) fn wait_for_end(&self) {
        let handle = self.handle.lock().expect("not poisoned").take().expect("joined once");
        self.wait("the thread's end", |_| handle.is_finished());
        handle.join().expect("the thread did not panic");
    }

    /// Waits until the condition holds. Checks it after every event, and at least every 20 ms for other conditions.
    pub(super) fn wait(&self, what: &str, condition: impl Fn(&[String]) -> bool) {
        let deadline = now() + LIMIT;
        loop {
            let log = self.log();
            if condition(&log) {
                return;
            }
            assert!(
                now() < deadline,
                "timed out waiting for {what}; the sink received {log:?}, and the client reported {:?}",
                self.events.reports.lock().expect("not poisoned")
            );
            let state = self.sink.lock();
            if state.log.len() == log.len() {
                drop(self.sink.changed.wait_timeout(state, Duration::from_millis(20)).expect("not poisoned"));
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.sink.blocked.store(false, Ordering::SeqCst);
        let mut state = self.sink.lock();
        state.refused = Refused::Nothing;
        // From here on every revocation drains at once.
        state.drains_at_once = Drains::AtOnce;
        state.revocations.clear();
        drop(state);
        if let Some(source) = self.source.get() {
            source.leave();
        }
        if let Some(handle) = self.handle.lock().ok().and_then(|mut handle| handle.take()) {
            drop(handle.join());
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) partition: Partition,
    pub(super) epoch: Epoch,
    pub(super) offset: i64,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(String, Option<Vec<u8>>)>,
}

#[derive(Default)]
pub(super) struct SinkState {
    pub(super) received: Mutex<Received>,
    pub(super) changed: Condvar,
    pub(super) refusals: AtomicUsize,
    /// While set, `offer` of a batch does not return.
    pub(super) blocked: AtomicBool,
}

#[derive(Default)]
pub(super) struct Received {
    pub(super) log: Vec<String>,
    pub(super) assigned: Vec<(Partition, Epoch)>,
    pub(super) revoked: Vec<Partition>,
    pub(super) deadline: Option<Instant>,
    pub(super) gone_at: Option<Instant>,
    pub(super) revocations: VecDeque<Drained>,
    pub(super) failure: Option<ConsumerFailure>,
    pub(super) seen: Vec<Seen>,
    pub(super) largest_batch_bytes: u64,
    pub(super) refused: Refused,
    pub(super) drains_at_once: Drains,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    #[default]
    Nothing,
    AfterTheFirst,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drains {
    #[default]
    OnRequest,
    AtOnce,
}

impl SinkState {
    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Received> {
        self.received.lock().expect("no test panics while it holds the lock")
    }

    pub(super) fn gone_at(&self) -> Instant {
        self.lock().gone_at.expect("partitions were revoked")
    }
}

pub(super) struct RecordingSink {
    pub(super) state: Arc<SinkState>,
    pub(super) source: Arc<OnceLock<KafkaConsumer>>,
    pub(super) start_at_once: Option<Position>,
}

impl ConsumerSink for RecordingSink {
    fn offer(&mut self, event: ConsumerEvent) -> Result<(), ConsumerEvent> {
        if matches!(event, ConsumerEvent::Batch(_)) {
            while self.state.blocked.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
        }
        let mut received = self.state.lock();
        let line = match event {
            ConsumerEvent::Batch(batch) => {
                if received.refused == Refused::AfterTheFirst && !received.seen.is_empty() {
                    self.state.refusals.fetch_add(1, Ordering::SeqCst);
                    return Err(ConsumerEvent::Batch(batch));
                }
                received.largest_batch_bytes = received.largest_batch_bytes.max(batch.data_bytes());
                received.seen.extend(batch.iter().map(|record| seen(&batch, &record)));
                if batch.is_empty() {
                    format!("position {}: {}", batch.partition(), batch.end())
                } else {
                    format!("batch {}", batch.partition())
                }
            }
            ConsumerEvent::Assigned(partitions) => {
                let line = format!("assigned {}", partitions.len());
                if let Some(position) = self.start_at_once {
                    let source = loop {
                        if let Some(source) = self.source.get() {
                            break source;
                        }
                    };
                    for &(partition, epoch) in &partitions {
                        source.start(partition, epoch, position);
                    }
                }
                received.assigned.extend(partitions);
                line
            }
            ConsumerEvent::Revoking { partitions, deadline, drained } => {
                received.revoked = partitions.iter().map(|(partition, _)| *partition).collect();
                received.deadline = Some(deadline);
                if received.drains_at_once == Drains::OnRequest {
                    received.revocations.push_back(drained);
                }
                format!("revoked {}", partitions.len())
            }
            ConsumerEvent::Revoked(partitions) => {
                received.gone_at = Some(now());
                format!("gone {}", partitions.len())
            }
            ConsumerEvent::Lost(partitions) => format!("lost {}", partitions.len()),
            ConsumerEvent::Expired { partition, first, until, .. } => {
                format!("expired {partition}: {first} to {until}")
            }
            ConsumerEvent::Failed(failure) => {
                received.failure = Some(failure);
                "failed".to_owned()
            }
        };
        received.log.push(line);
        self.state.changed.notify_all();
        Ok(())
    }

    fn wants_records(&self) -> bool {
        true
    }

    fn batch_bytes(&self) -> u64 {
        u64::MAX
    }
}

pub(super) fn seen(batch: &Batch, record: &steward::record::Record<'_>) -> Seen {
    let header = |header: Header<'_>| (header.name.to_owned(), header.value.map(<[u8]>::to_vec));
    Seen {
        partition: batch.partition(),
        epoch: batch.epoch(),
        offset: record.offset.0,
        timestamp_ms: record.timestamp_ms,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: record.headers.iter().map(header).collect(),
    }
}

#[derive(Default)]
pub(super) struct RecordedClientEvents {
    pub(super) reports: Mutex<Vec<String>>,
    pub(super) statistics: Mutex<ConsumerStatistics>,
}

impl ClientEvents for RecordedClientEvents {
    fn error(&self, role: ClientRole, error: &ClientError<'_>) {
        let ClientError { code, reason, .. } = error;
        self.reports.lock().expect("not poisoned").push(format!("{} {code}: {reason}", role.code()));
    }

    fn log(&self, role: ClientRole, level: ClientLogLevel, facility: &str, message: &str) {
        self.reports.lock().expect("not poisoned").push(format!("{} {level:?} {facility}: {message}", role.code()));
    }

    fn statistics(&self, statistics: ConsumerStatistics) {
        *self.statistics.lock().expect("not poisoned") = statistics;
    }

    fn throttled(&self, role: ClientRole, throttle: &Throttle) {
        self.reports.lock().expect("not poisoned").push(format!("{} throttled: {throttle:?}", role.code()));
    }
}

pub(super) struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Instant {
        now()
    }

    fn unix_ms(&self) -> i64 {
        0
    }

    fn coarse_ms(&self) -> u64 {
        0
    }
}

#[expect(clippy::disallowed_methods, reason = "a test against a real broker runs in real time")]
pub(super) fn now() -> Instant {
    Instant::now()
}

// -------------------------------------------------------------------------------------------------------------- topics

/// A topic that only one test uses, and the group that reads it.
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) partitions: i32,
    pub(super) broker: String,
    pub(super) producer: BaseProducer,
}

impl Topic {
    pub(super) fn with_partitions(partitions: i32) -> Topic {
        let topic = Topic::named(crate::support::broker::shared_address(), partitions);
        let new = [NewTopic::new(&topic.name, partitions, TopicReplication::Fixed(1))];
        let created = block_on(topic.admin().create_topics(&new, &AdminOptions::new().operation_timeout(Some(LIMIT))));
        assert!(created.expect("the broker answers").iter().all(Result::is_ok), "the topic is new");
        topic
    }

    /// A topic with one partition. The owner of the mock broker has to create it.
    pub(super) fn on_mock(broker: &str) -> Topic {
        Topic::named(broker.to_owned(), 1)
    }

    fn named(broker: String, partitions: i32) -> Topic {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &broker)
            .set("queue.buffering.max.messages", "1000000")
            .create()
            .expect("the settings are valid");
        Topic { name: format!("event-source-{}", fresh()), partitions, broker, producer }
    }

    pub(super) fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.broker).create().expect("the settings are valid")
    }

    pub(super) fn config(&self) -> Config {
        let mut config = Config::default();
        config.kafka.bootstrap_servers = self.broker.clone();
        config.kafka.group_id = self.name.clone();
        config.kafka.topic = self.name.clone();
        config.shutdown.revoke_drain_ms = 10_000;
        config
    }

    pub(super) fn record(&self, partition: i32) -> BaseRecord<'_, str, str> {
        BaseRecord::to(&self.name).partition(partition)
    }

    pub(super) fn produce_all(&self, records: Vec<BaseRecord<'_, str, str>>) {
        for record in records {
            self.producer.send(record).map_err(|(error, _)| error).expect("the queue has room");
        }
        self.producer.flush(LIMIT).expect("the broker accepts the records");
    }

    /// Sends one record to partition 0. The types of the client library do not accept its header name.
    pub(super) fn produce_with_header_name(&self, name: &CStr) {
        use sys::rd_kafka_vtype_t as Kind;
        let topic = CString::new(self.name.as_str()).expect("no NUL");
        // SAFETY: the arguments are what each kind requires, and outlive the call, which copies them.
        let error = unsafe {
            sys::rd_kafka_producev(
                self.producer.client().native_ptr(),
                Kind::RD_KAFKA_VTYPE_TOPIC,
                topic.as_ptr(),
                Kind::RD_KAFKA_VTYPE_PARTITION,
                0,
                Kind::RD_KAFKA_VTYPE_MSGFLAGS,
                sys::RD_KAFKA_MSG_F_COPY,
                Kind::RD_KAFKA_VTYPE_HEADER,
                name.as_ptr(),
                c"1".as_ptr(),
                1_isize,
                Kind::RD_KAFKA_VTYPE_END,
            )
        };
        assert_eq!(error, sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
        self.producer.flush(LIMIT).expect("the broker accepts the record");
    }

    pub(super) fn fill(&self, partition: i32, count: usize) {
        self.fill_with(partition, count, "value");
    }

    pub(super) fn fill_with(&self, partition: i32, count: usize, value: &str) {
        self.produce_all((0..count).map(|_| self.record(partition).key("key").payload(value)).collect());
    }

    pub(super) fn transactional(&self) -> BaseProducer {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.broker)
            .set("transactional.id", format!("{}-{}", self.name, fresh()))
            .create()
            .expect("the settings are valid");
        producer.init_transactions(LIMIT).expect("the coordinator answers");
        producer.begin_transaction().expect("initialised");
        producer
    }

    pub(super) fn fill_in_a_transaction(&self, partition: i32, count: usize) {
        let producer = self.transactional();
        for _ in 0..count {
            producer
                .send(self.record(partition).key("key").payload("value"))
                .map_err(|(error, _)| error)
                .expect("room");
        }
        producer.commit_transaction(LIMIT).expect("the transaction commits");
    }

    pub(super) fn commit_in_a_transaction(&self, member: &Member, positions: &[(i32, i64)]) {
        let producer = self.transactional();
        let mut list = TopicPartitionList::new();
        for &(partition, position) in positions {
            list.add_partition_offset(&self.name, partition, ClientOffset::Offset(position)).expect("not negative");
        }
        let handle = member.handle.lock().expect("not poisoned");
        let metadata = handle.as_ref().expect("not joined").consumer().group_metadata().expect("it has a group");
        producer.send_offsets_to_transaction(&list, &metadata, LIMIT).expect("the generation is current");
        producer.commit_transaction(LIMIT).expect("the transaction commits");
    }

    pub(super) fn committed(&self) -> Vec<Option<i64>> {
        let consumer: rdkafka::consumer::BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.broker)
            .set("group.id", &self.name)
            .create()
            .expect("the settings are valid");
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.name, 0, self.partitions - 1);
        let committed = consumer.committed_offsets(list, LIMIT).expect("the coordinator answers");
        committed.elements().iter().map(|element| element.offset().to_raw().filter(|&raw| raw >= 0)).collect()
    }

    pub(super) fn delete_records_before(&self, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.name, partition, ClientOffset::Offset(offset)).expect("not negative");
        let deleted = block_on(self.admin().delete_records(&list, &AdminOptions::new()));
        assert_eq!(deleted.expect("the broker answers").count(), 1);
    }
}

/// A name that no other test, run or process uses.
#[expect(clippy::disallowed_methods, reason = "only used for a unique name")]
pub(super) fn fresh() -> String {
    static NAMES: AtomicUsize = AtomicUsize::new(0);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    format!("{}-{}-{}", since.as_millis(), std::process::id(), NAMES.fetch_add(1, Ordering::SeqCst))
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}
