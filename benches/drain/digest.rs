//! The outcome of a drain as a few numbers, which are equal only if all of the outcome is.

use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHasher};
use steward::app::SystemClock;
use steward::config::Config;
use steward::kafka::reader::topic_reader::{ReadRecord, ReadScope, TopicReader};
use steward::record::header;

use crate::support::kafka::Kafka;
use crate::support::names::Names;

/// Longest time without progress.
const LIMIT: Duration = Duration::from_secs(30);

/// The outcome of a drain. Two outcomes are equal if every key has the same newest value and source offset, and if the
/// same events were rejected for the same reasons, once each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub keys: usize,
    pub dlq_records: u64,
    state: u64,
    rejected: u64,
}

impl Outcome {
    /// Reads both topics to their ends.
    pub fn read(kafka: &Kafka, names: &Names) -> Outcome {
        let mut newest: FxHashMap<(i32, Vec<u8>), u64> = FxHashMap::default();
        read(kafka, &names.state, |record| {
            let key = (record.partition().0, record.key().unwrap_or_default().to_vec());
            newest.insert(key, hash((record.value(), record.last_header(header::STATE_OFFSET))));
        });
        let (mut dlq_records, mut rejected) = (0, 0_u64);
        read(kafka, &names.dlq, |record| {
            dlq_records += 1;
            let source = (record.partition().0, record.last_header(header::SOURCE_OFFSET));
            let content = (record.key(), record.value(), record.last_header(header::REASON));
            rejected = rejected.wrapping_add(hash((source, content)));
        });
        let state = newest.iter().map(hash).fold(0_u64, u64::wrapping_add);
        Outcome { keys: newest.len(), dlq_records, state, rejected }
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = FxHasher::default();
    value.hash(&mut hasher);
    hasher.finish()
}

fn read(kafka: &Kafka, topic: &str, mut visit: impl FnMut(&ReadRecord<'_>)) {
    let mut config = Config::default();
    config.kafka.bootstrap_servers = kafka.address().to_owned();
    config.kafka.group_id = "bench-reader".to_owned();
    let reader = TopicReader::open(&config, topic, ReadScope::All, LIMIT, &SystemClock).expect("the topic exists");
    let each = |record: ReadRecord<'_>| {
        visit(&record);
        ControlFlow::Continue(())
    };
    reader.read(each, |_| {}).expect("the topic can be read");
}
