//! A real broker for the tests that need one, its address in `STEWARD_TEST_KAFKA`; without it they are ignored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use libtest_mimic::Trial;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use steward::ports::Clock;

/// Longer than anything takes on a loaded machine; a test that waits for it has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn needing_a_broker(trials: Vec<Trial>) -> Vec<Trial> {
    let missing = std::env::var_os("STEWARD_TEST_KAFKA").is_none();
    trials.into_iter().map(|trial| trial.with_ignored_flag(missing)).collect()
}

pub fn bootstrap() -> String {
    std::env::var("STEWARD_TEST_KAFKA").expect("tests that need a broker are ignored without STEWARD_TEST_KAFKA")
}

pub fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap());
    config
}

/// A name that no other test and no earlier run has used.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{}-{}-{count}", std::process::id(), SystemClock.unix_ms())
}

pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "tests against a real broker live in real time")]
    fn now(&self) -> Instant {
        Instant::now()
    }

    #[expect(clippy::disallowed_methods, reason = "tests against a real broker live in real time")]
    fn unix_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("this clock is past 1970");
        i64::try_from(since.as_millis()).expect("this clock is before the year 292 million")
    }
}

pub fn create_topic(name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> = client().create().expect("a valid configuration");
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (name, value) in settings {
        topic = topic.set(name, value);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let results = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new())).expect("the broker answers");
    assert!(results.iter().all(Result::is_ok), "creating {name}: {results:?}");
    let consumer: BaseConsumer = client().create().expect("a valid configuration");
    wait_until(&format!("{name} has its leaders"), || {
        let metadata = consumer.fetch_metadata(Some(name), Duration::from_secs(5)).ok();
        let found = metadata.as_ref().and_then(|metadata| metadata.topics().first());
        found.is_some_and(|topic| {
            topic.partitions().len() == usize::try_from(partitions).expect("a count")
                && topic.partitions().iter().all(|partition| partition.leader() >= 0)
        })
    });
}

pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = SystemClock.now() + PATIENCE;
    while !holds() {
        assert!(SystemClock.now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

/// A record as a `read_committed` reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub offset: i64,
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Everything committed, once every transaction up to the present end has ended.
pub fn committed_records(topic: &str, partition: i32) -> Vec<Seen> {
    let mut config = client();
    config.set("group.id", unique("observer")).set("isolation.level", "read_uncommitted");
    let uncommitted: BaseConsumer = config.create().expect("a valid configuration");
    let (_, end) = uncommitted.fetch_watermarks(topic, partition, PATIENCE).expect("the broker answers");
    config.set("isolation.level", "read_committed").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().expect("a valid configuration");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Beginning).expect("a valid offset");
    consumer.assign(&list).expect("assigned");
    let mut seen = Vec::new();
    let deadline = SystemClock.now() + PATIENCE;
    let reached = |consumer: &BaseConsumer| match consumer.position().expect("assigned").elements()[0].offset() {
        Offset::Offset(position) => position >= end,
        Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => end == 0,
    };
    while !reached(&consumer) {
        assert!(SystemClock.now() < deadline, "an open transaction keeps {topic}/{partition} from being read");
        let Some(message) = consumer.poll(Duration::from_millis(20)) else { continue };
        let message = message.expect("readable");
        let headers = message.headers().map(|headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        seen.push(Seen {
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        });
    }
    seen
}

/// A live member of a group, polled by a thread of its own until it is dropped.
pub struct Member {
    pub consumer: Arc<BaseConsumer<DefaultConsumerContext>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Member {
    /// Joins, and returns once partitions are assigned.
    pub fn joins(group: &str, topic: &str) -> Member {
        let mut config = client();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "300")
            .set("auto.offset.reset", "earliest");
        let consumer: Arc<BaseConsumer> = Arc::new(config.create().expect("a valid configuration"));
        consumer.subscribe(&[topic]).expect("subscribed");
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (consumer, stop) = (Arc::clone(&consumer), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Acquire) {
                    drop(consumer.poll(Duration::from_millis(20)));
                }
            }
        });
        let member = Member { consumer, stop, thread: Some(thread) };
        member.waits_for_an_assignment();
        member
    }

    pub fn waits_for_an_assignment(&self) {
        wait_until("the member has partitions", || {
            self.consumer.assignment().is_ok_and(|assignment| assignment.count() > 0)
        });
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the poll thread does not panic");
        }
    }
}
