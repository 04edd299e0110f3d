//! A partition is read to its high watermark, and every wait has a limit.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::DefaultConsumerContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use steward::config::Config;
use steward::engine::ownership::Ownership;
use steward::engine::recovery::LogBounds;
use steward::engine::recovery::driver::{PartitionReader, ReadFailure};
use steward::kafka::client::settings::{ProducerIdentity, ReaderClientSettings, transactional_producer};
use steward::kafka::reader::partition_reader::{KafkaPartitionReader, ReadProgress, ReaderReport, ReaderSettings};
use steward::kafka::reader::watermark_read::ReaderClients;
use steward::ports::Clock;
use steward::record::{Epoch, Offset, Partition, Position, Topic};

use crate::support::broker::Cluster;
use crate::support::clock::SystemClock;
use crate::support::kafka::{ANY_TIMESTAMP, Kafka};
use crate::support::names::unique;
use crate::support::wait::{PATIENCE, wait_until};

const P0: Partition = Partition(0);

#[apply(broker_test)]
fn a_read_ends_after_the_markers_and_returns_no_aborted_record() {
    let log = Log::new();
    let producer = log.transactional();
    log.commit(&producer, &["a", "b"]);
    log.abort(&producer, &["c", "d"]);
    log.commit(&producer, &["e"]);
    log.abort(&producer, &["f"]);
    // a b | marker | c d | marker | e | marker | f | marker
    let mut reader = log.reader();
    assert_eq!(reader.bounds(), LogBounds { low: Position(0), high: Position(10) });
    assert_eq!(reader.read(0, 10), Ok(vec![(0, "a".into()), (1, "b".into()), (6, "e".into())]));
    assert_eq!(reader.read(8, 10), Ok(vec![]));
}

#[apply(broker_test)]
fn a_read_returns_exactly_its_range() {
    let log = Log::new();
    log.produce(&["a", "b", "c", "d"]);
    let mut reader = log.reader();
    assert_eq!(reader.read(1, 3), Ok(vec![(1, "b".into()), (2, "c".into())]));
    assert_eq!(reader.read(2, 2), Ok(vec![]));
}

#[apply(broker_test)]
fn a_partition_can_be_read_twice_with_the_same_clients() {
    let log = Log::new();
    let values: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    log.produce(&values.iter().map(String::as_str).collect::<Vec<_>>());
    let mut reader = log.reader();
    for (from, until) in [(0, 500), (0, 500), (250, 300), (0, 10), (499, 500), (0, 500)] {
        let read = reader.read(from, until).expect("readable");
        let offsets: Vec<i64> = read.into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(offsets, (from..until).collect::<Vec<_>>());
    }
}

#[apply(broker_test)]
fn a_read_from_below_the_logs_start_begins_there() {
    let log = Log::new();
    log.produce(&["a", "b", "c"]);
    log.delete_before(2);
    let mut reader = log.reader();
    assert_eq!(reader.bounds(), LogBounds { low: Position(2), high: Position(3) });
    assert_eq!(reader.read(0, 3), Ok(vec![(2, "c".into())]));
    assert_eq!(reader.read(0, 1), Ok(vec![]));
}

#[apply(broker_test)]
fn a_read_beyond_the_end_ends_at_the_end() {
    let log = Log::new();
    log.produce(&["a"]);
    assert_eq!(log.reader().read(0, 100), Ok(vec![(0, "a".into())]));
}

#[apply(broker_test)]
fn the_bounds_include_uncommitted_records() {
    let log = Log::new();
    let producer = log.transactional();
    producer.begin_transaction().expect("begun");
    log.send(&producer, &["open"]);
    assert_eq!(log.reader().bounds(), LogBounds { low: Position(0), high: Position(1) });
    producer.abort_transaction(Duration::from_secs(10)).expect("aborted");
}

#[apply(broker_test)]
fn a_hanging_transaction_is_named() {
    let mut log = Log::new();
    log.settings.stall_limit = Duration::from_millis(2_500);
    let producer = log.transactional();
    log.commit(&producer, &["a"]);
    producer.begin_transaction().expect("begun");
    log.send(&producer, &["open"]);
    let mut reader = log.reader();

    let failure = reader.read(0, 3).expect_err("the last record is not committed");

    let ReadFailure::Hanging { topic, partition, position, until, stalled_ms } = failure else { panic!("{failure}") };
    assert_eq!((&topic, partition, position, until), (&log.settings.state, P0, Position(2), Position(3)));
    assert!(stalled_ms >= 2_500, "{stalled_ms}");
    let reports = &reader.reports;
    assert!(
        reports.iter().any(|report| report.stall.is_held_back && report.stall.stalled >= Duration::from_millis(500)),
        "{reports:?}"
    );
    producer.abort_transaction(Duration::from_secs(10)).expect("aborted");
    assert_eq!(reader.read(0, 3), Ok(vec![(0, "a".into())]));
}

#[apply(broker_test)]
fn a_read_ends_with_its_epoch() {
    let log = Log::new();
    let producer = log.transactional();
    producer.begin_transaction().expect("begun");
    log.send(&producer, &["open"]);
    let mut reader = log.reader();
    let ownership = Arc::clone(&log.ownership);
    // The first report arrives while the read waits for the open transaction.
    reader.on_report = Some(Box::new(move || {
        ownership.end(P0);
    }));
    assert_eq!(reader.read(0, 1), Err(ReadFailure::Cancelled));
    producer.abort_transaction(Duration::from_secs(10)).expect("aborted");
}

#[apply(broker_test)]
fn headers_and_nulls_are_read_unchanged() {
    use rdkafka::message::{Header, OwnedHeaders};
    let log = Log::new();
    let producer: BaseProducer = log.kafka.client_config().create().expect("valid");
    let headers = OwnedHeaders::new()
        .insert(Header { key: "a", value: Some(&b"1"[..]) })
        .insert(Header { key: "a", value: None::<&[u8]> })
        .insert(Header { key: "b", value: Some(&b""[..]) });
    let record = BaseRecord::<[u8], [u8]>::to(&log.settings.state).partition(0).key(&b""[..]).headers(headers);
    assert!(producer.send(record.timestamp(1_700_000_000_000)).is_ok());
    producer.flush(Duration::from_secs(30)).expect("delivered");
    let mut found = Vec::new();
    log.reader().read_with(0, 1, &mut |record| {
        let headers: Vec<_> =
            record.headers.iter().map(|header| (header.name.to_owned(), header.value.map(<[u8]>::to_vec))).collect();
        found.push((record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec), record.timestamp_ms, headers));
    });
    let headers =
        vec![("a".to_owned(), Some(b"1".to_vec())), ("a".to_owned(), None), ("b".to_owned(), Some(Vec::new()))];
    assert_eq!(found, [(Some(Vec::new()), None, Some(1_700_000_000_000), headers)]);
}

#[apply(broker_test)]
fn a_header_name_that_is_not_text_stops_no_read() {
    use rdkafka_sys as sys;
    use sys::rd_kafka_vtype_t::*;
    let log = Log::new();
    let producer: BaseProducer = log.kafka.client_config().create().expect("valid");
    let topic = std::ffi::CString::new(log.settings.state.as_str()).expect("no NUL");
    // SAFETY: the arguments are what each VTYPE requires, and outlive the call, which copies them.
    let error = unsafe {
        sys::rd_kafka_producev(
            producer.client().native_ptr(),
            RD_KAFKA_VTYPE_TOPIC,
            topic.as_ptr(),
            RD_KAFKA_VTYPE_PARTITION,
            0,
            RD_KAFKA_VTYPE_MSGFLAGS,
            sys::RD_KAFKA_MSG_F_COPY,
            RD_KAFKA_VTYPE_HEADER,
            c"x\xff".as_ptr(),
            c"1".as_ptr(),
            1_isize,
            RD_KAFKA_VTYPE_END,
        )
    };
    assert_eq!(error, sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
    producer.flush(Duration::from_secs(30)).expect("delivered");
    let mut names = Vec::new();
    log.reader().read_with(0, 1, &mut |record| {
        names.extend(record.headers.iter().map(|header| header.name.to_owned()));
    });
    assert_eq!(names, ["x\u{fffd}"]);
}

#[apply(broker_test)]
fn a_topic_that_stays_missing_is_an_error() {
    let mut log = Log::new();
    log.settings.stall_limit = Duration::from_secs(600);
    log.settings.state = unique("missing");
    let failure = log.reader().read(0, 1).expect_err("the topic does not exist");
    assert!(matches!(failure, ReadFailure::Kafka(_)), "{failure}");
}

#[apply(broker_test)]
fn many_records_are_read_in_order_and_once() {
    let log = Log::new();
    let values: Vec<String> = (0..50_000).map(|n| format!("{n:0>100}")).collect();
    log.produce(&values.iter().map(String::as_str).collect::<Vec<_>>());
    let mut next = 0;
    let started = SystemClock.now();
    log.reader().read_with(0, 50_000, &mut |record| {
        assert_eq!(record.offset, Offset(next));
        next += 1;
    });
    assert_eq!(next, 50_000);
    println!("50,000 records read in {:?}", SystemClock.now() - started);
}

/// A broker that has just started answers like this about every topic.
#[apply(broker_test)]
fn a_topic_that_is_unknown_for_a_moment_is_waited_for() {
    let mut log = Log::new();
    log.settings.state = unique("late");
    let topic = log.settings.state.clone();
    let kafka = log.kafka.address().to_owned();
    let mut reader = log.reader();

    let created = std::thread::spawn(move || {
        let kafka = Kafka::at(&kafka);
        kafka.create_topic(&topic, 1, &[]);
    });
    assert_eq!(reader.bounds(), LogBounds { low: Position(0), high: Position(0) });

    created.join().expect("created");
}

/// The broker of the partition stops to run, but its connections stay open: no client notices it by an error.
#[apply(cluster_test)]
fn a_read_that_loses_its_broker_goes_on_with_the_new_leader_from_where_it_was() {
    const RECORDS: i64 = 300_000;
    let mut cluster = Cluster::own();
    let log = Log::on(cluster.kafka());
    let topic = log.settings.state.clone();
    let values: Vec<String> = (0..RECORDS).map(|n| format!("{n:0>100}")).collect();
    for values in values.chunks(50_000) {
        log.produce(&values.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let mut reader = log.reader();
    let first = cluster.leader_of(&topic, 0);

    let (mut next, mut frozen_at) = (0, None);
    let started = SystemClock.now();
    reader.read_with(0, RECORDS, &mut |record| {
        assert_eq!(record.offset, Offset(next), "in order, and each once");
        next += 1;
        if next == 1_000 {
            cluster.node(first).pause();
            frozen_at = Some(SystemClock.now());
        }
    });
    assert_eq!(next, RECORDS);
    let frozen_at = frozen_at.expect("frozen within the read");
    println!("read in {:?}, {:?} of it after the freeze", frozen_at - started, SystemClock.now() - frozen_at);
    let second = cluster.leader_of(&topic, 0);
    assert_ne!(second, first, "the read has seen the end of the log without its first leader");

    // The clients know the second leader, and its successor is known before they ask.
    cluster.node(first).resume();
    cluster.wait_until_in_sync();
    cluster.node(second).pause();
    wait_until("there is a new leader", PATIENCE, || cluster.leader_of(&topic, 0) != second);
    let asked = SystemClock.now();
    assert_eq!(reader.bounds(), LogBounds { low: Position(0), high: Position(RECORDS) });
    assert_eq!(reader.read(RECORDS - 1, RECORDS).map(|records| records.len()), Ok(1));
    println!("bounds and a read {:?} after the new leader was known", SystemClock.now() - asked);
    cluster.node(second).resume();
}

// ------------------------------------------------------------------------------------------------------------ harness

/// A state topic with one partition, and the epoch of its owner.
struct Log {
    kafka: Kafka,
    settings: ReaderSettings,
    ownership: Arc<Ownership>,
    epoch: Epoch,
}

impl Log {
    fn new() -> Log {
        Log::on(Kafka::shared())
    }

    fn on(kafka: Kafka) -> Log {
        let topic = unique("log");
        // One test writes a timestamp in the past, and retention would delete the record within seconds.
        kafka.create_topic(&topic, 1, &ANY_TIMESTAMP);
        let settings = ReaderSettings {
            input: topic.clone(),
            state: topic.clone(),
            dlq: topic,
            stall_limit: Duration::from_secs(30),
        };
        let ownership = Arc::new(Ownership::new());
        let epoch = ownership.mint(P0);
        Log { kafka, settings, ownership, epoch }
    }

    fn transactional(&self) -> BaseProducer {
        let id = unique("writer");
        let identity = ProducerIdentity { transactional_id: &id, client_id: &id };
        let settings = transactional_producer(&self.config(), identity, None);
        let producer: BaseProducer = settings.create().expect("valid");
        producer.init_transactions(Duration::from_secs(30)).expect("registered");
        producer
    }

    fn send(&self, producer: &BaseProducer, values: &[&str]) {
        for value in values {
            let record = BaseRecord::<[u8], str>::to(&self.settings.state).partition(0).payload(value);
            assert!(producer.send(record).is_ok());
        }
        wait_until("the records are delivered", PATIENCE, || {
            producer.poll(Duration::from_millis(1));
            producer.in_flight_count() == 0
        });
    }

    fn commit(&self, producer: &BaseProducer, values: &[&str]) {
        producer.begin_transaction().expect("begun");
        self.send(producer, values);
        producer.commit_transaction(Duration::from_secs(30)).expect("committed");
    }

    fn abort(&self, producer: &BaseProducer, values: &[&str]) {
        producer.begin_transaction().expect("begun");
        self.send(producer, values);
        producer.abort_transaction(Duration::from_secs(30)).expect("aborted");
    }

    fn produce(&self, values: &[&str]) {
        let producer: BaseProducer = self.kafka.client_config().set("linger.ms", "5").create().expect("valid");
        self.send(&producer, values);
    }

    fn delete_before(&self, offset: i64) {
        self.kafka.delete_records(&self.settings.state, 0, offset);
    }

    fn config(&self) -> Config {
        let mut config = Config::default();
        config.kafka.bootstrap_servers = self.kafka.address().to_owned();
        config.kafka.group_id = unique("group");
        config.kafka.transaction_timeout_ms = 60_000;
        config
    }

    fn reader(&self) -> TestReader<'_> {
        let settings = ReaderClientSettings::new(&self.config());
        let clients = ReaderClients::new(&settings, &DefaultConsumerContext).expect("valid");
        TestReader { log: self, clients, reports: Vec::new(), on_report: None }
    }
}

struct TestReader<'a> {
    log: &'a Log,
    clients: ReaderClients<DefaultConsumerContext>,
    reports: Vec<ReadProgress>,
    on_report: Option<Box<dyn FnMut()>>,
}

impl TestReader<'_> {
    fn with<T>(&mut self, work: impl FnOnce(&mut dyn PartitionReader) -> T) -> T {
        let TestReader { log, clients, reports, on_report } = self;
        let mut progress = |report| {
            let ReaderReport::Reading(progress) = report else { panic!("this test fetches no offsets: {report:?}") };
            reports.push(progress);
            if let Some(on_report) = on_report {
                on_report();
            }
        };
        let ownership = Arc::clone(&log.ownership);
        let owned = (P0, log.epoch);
        let clock = Arc::new(SystemClock);
        work(&mut KafkaPartitionReader::new(clients, &log.settings, owned, ownership, clock, &mut progress))
    }

    fn bounds(&mut self) -> LogBounds {
        self.with(|reader| reader.bounds(Topic::State)).expect("known")
    }

    fn read(&mut self, from: i64, until: i64) -> Result<Vec<(i64, String)>, ReadFailure> {
        let mut seen = Vec::new();
        self.with(|reader| {
            reader.read(Topic::State, Position(from), Position(until), &mut |record| {
                let value = String::from_utf8(record.value.expect("a value").to_vec()).expect("text");
                seen.push((record.offset.0, value));
            })
        })
        .map(|()| seen)
    }

    fn read_with(&mut self, from: i64, until: i64, take: &mut dyn FnMut(&steward::record::Record<'_>)) {
        self.with(|reader| reader.read(Topic::State, Position(from), Position(until), take)).expect("readable");
    }
}
