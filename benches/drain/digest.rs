//! What came out, in a few numbers that are equal only if all of it is.

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

/// How long the broker may show nothing new.
const LIMIT: Duration = Duration::from_secs(30);

/// The outcome of a drain. Two are equal if every key has the same newest value and source offset, and every event that
/// was refused was refused for the same reason, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub keys: usize,
    pub dlq_records: u64,
    state: u64,
    refused: u64,
}

impl Outcome {
    /// Reads both topics to their ends.
    pub fn read(kafka: &Kafka, names: &Names) -> Outcome {
        let mut newest: FxHashMap<(i32, Vec<u8>), u64> = FxHashMap::default();
        read(kafka, &names.state, |record| {
            let key = (record.partition().0, record.key().unwrap_or_default().to_vec());
            newest.insert(key, hash((record.value(), record.last_header(header::STATE_OFFSET))));
        });
        let (mut dlq_records, mut refused) = (0, 0_u64);
        read(kafka, &names.dlq, |record| {
            dlq_records += 1;
            let place = (record.partition().0, record.last_header(header::SOURCE_OFFSET));
            let what = (record.key(), record.value(), record.last_header(header::REASON));
            refused = refused.wrapping_add(hash((place, what)));
        });
        let state = newest.iter().map(hash).fold(0_u64, u64::wrapping_add);
        Outcome { keys: newest.len(), dlq_records, state, refused }
    }
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = FxHasher::default();
    of.hash(&mut hasher);
    hasher.finish()
}

fn read(kafka: &Kafka, topic: &str, mut take: impl FnMut(&ReadRecord<'_>)) {
    let mut config = Config::default();
    config.kafka.bootstrap_servers = kafka.address().to_owned();
    config.kafka.group_id = "bench-reader".to_owned();
    let reader = TopicReader::open(&config, topic, ReadScope::All, LIMIT, &SystemClock).expect("the topic is there");
    let each = |record: ReadRecord<'_>| {
        take(&record);
        ControlFlow::Continue(())
    };
    reader.read(each, |_| {}).expect("the topic can be read");
}
