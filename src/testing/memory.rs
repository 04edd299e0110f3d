//! In-memory fakes of the ports: a cluster with three topics and one group, and the pods that use it.
//!
//! The cluster has the behavior that the guarantees depend on. Transactions leave markers, which are offsets without a
//! record, and commit all or nothing. A newer producer of the same transactional id fences the older one. The group
//! refuses former owners, and keeps committed positions with their metadata. A transaction waits until the test decides
//! how it ends ([`InjectedOutcome`]), so that a pod can die, or lose a partition, at each of these moments.
//!
//! Deliberately absent: threads, time and the network. The test decides what happens next, so the same decisions give
//! the same run. One test runs the same scenario here and on a real Kafka.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::budget::Budget;
use crate::engine::commit::transaction::{
    CommitOutcome, CommittedOffset, OffsetRange, ResetOutcome, TransactionContent,
};
use crate::engine::dead_owners::FencedBy;
use crate::engine::offset_metadata::OffsetMetadata;
use crate::engine::outcome::{Output, OutputRecord, RecordOrigin};
use crate::engine::ownership::Ownership;
use crate::engine::recovery::driver::{PartitionReader, ReadFailure, recover};
use crate::engine::recovery::{LogBounds, Recovery, RecoverySettings};
use crate::engine::topic_watch::TopicIds;
use crate::entity::Entity;
use crate::ports::{
    CommitReply, ConsumerEvent, ConsumerSink, Drained, InputConsumer, Recoveries, RecoveryReply, ResetReply,
    Transactions,
};
use crate::record::{Batch, Epoch, Header, Offset, Partition, Position, Record, Topic, TopicId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    pub offset: Offset,
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A record to be appended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryRecord {
    /// Milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

#[derive(Debug, Default)]
struct MemoryLog {
    records: Vec<StoredRecord>,
    start: i64,
    end: i64,
}

impl MemoryLog {
    fn append(&mut self, record: MemoryRecord) -> Offset {
        let offset = Offset(self.end);
        let MemoryRecord { timestamp_ms, key, value, headers } = record;
        self.records.push(StoredRecord { offset, timestamp_ms, key, value, headers });
        self.end += 1;
        offset
    }

    fn append_marker(&mut self) {
        self.end += 1;
    }

    fn delete_before(&mut self, position: Position) {
        self.start = position.0.clamp(self.start, self.end);
        self.records.retain(|record| !record.offset.is_before(position));
    }

    fn bounds(&self) -> LogBounds {
        LogBounds { low: Position(self.start), high: Position(self.end) }
    }
}

#[derive(Debug, Default)]
struct PartitionLogs {
    /// In the order of [`Topic`].
    logs: [MemoryLog; 3],
    committed: Option<CommittedOffset>,
    owner: Option<PodId>,
}

impl PartitionLogs {
    fn log(&self, topic: Topic) -> &MemoryLog {
        &self.logs[topic as usize]
    }

    fn log_mut(&mut self, topic: Topic) -> &mut MemoryLog {
        &mut self.logs[topic as usize]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId(pub u64);

#[derive(Debug, Default)]
struct Cluster {
    partitions: Vec<PartitionLogs>,
    /// The newest producer of each transactional id.
    epochs: BTreeMap<String, u64>,
    next_pod: u64,
    /// How often each topic was created again, in the order of [`Topic`].
    created_again: [u8; 3],
}

/// A fake cluster; a clone is the same cluster.
#[derive(Debug, Clone)]
pub struct MemoryKafka {
    cluster: Arc<Mutex<Cluster>>,
    topic: String,
    group: String,
}

impl MemoryKafka {
    /// Returns a cluster with three empty topics of `partitions` partitions each.
    pub fn new(partitions: usize, topic: &str, group: &str) -> MemoryKafka {
        let partitions = (0..partitions).map(|_| PartitionLogs::default()).collect();
        let cluster = Cluster { partitions, ..Cluster::default() };
        MemoryKafka { cluster: Arc::new(Mutex::new(cluster)), topic: topic.into(), group: group.into() }
    }

    /// Appends a record to a topic, as another producer does.
    pub fn append(&self, topic: Topic, partition: Partition, record: MemoryRecord) -> Offset {
        self.lock().logs_mut(partition).log_mut(topic).append(record)
    }

    /// Appends an offset without a record: the marker of another producer's transaction, or an aborted record.
    pub fn append_marker(&self, topic: Topic, partition: Partition) {
        self.lock().logs_mut(partition).log_mut(topic).append_marker();
    }

    /// Deletes the records before `position`, as retention does.
    pub fn delete_before(&self, topic: Topic, partition: Partition, position: Position) {
        self.lock().logs_mut(partition).log_mut(topic).delete_before(position);
    }

    /// Deletes a topic and creates it again: it is empty, and has another id.
    pub fn create_again(&self, topic: Topic) {
        let mut cluster = self.lock();
        cluster.created_again[topic as usize] += 1;
        cluster.partitions.iter_mut().for_each(|logs| *logs.log_mut(topic) = MemoryLog::default());
    }

    /// The partition's log is lost with its disk, and begins again at offset 0.
    pub fn lose(&self, topic: Topic, partition: Partition) {
        *self.lock().logs_mut(partition).log_mut(topic) = MemoryLog::default();
    }

    /// Removes what compaction may remove from the state topic: each record that has a newer one of its key, and those
    /// tombstones that `is_removed` selects.
    pub fn compact_state(&self, partition: Partition, is_removed: impl Fn(&StoredRecord) -> bool) {
        let mut cluster = self.lock();
        let log = cluster.logs_mut(partition).log_mut(Topic::State);
        let mut newest: BTreeMap<Option<Vec<u8>>, Offset> = BTreeMap::new();
        newest.extend(log.records.iter().map(|record| (record.key.clone(), record.offset)));
        log.records.retain(|record| {
            newest.get(&record.key) == Some(&record.offset) && (record.value.is_some() || !is_removed(record))
        });
    }

    pub fn topic_ids(&self) -> TopicIds {
        let created_again = self.lock().created_again;
        let id = |topic: Topic| TopicId::from_bytes([1 + topic as u8 + 10 * created_again[topic as usize]; 16]);
        TopicIds { input: id(Topic::Input), state: id(Topic::State) }
    }

    /// All records of a partition, as a `read_committed` reader sees them.
    pub fn records(&self, topic: Topic, partition: Partition) -> Vec<StoredRecord> {
        self.lock().logs(partition).log(topic).records.clone()
    }

    pub fn committed(&self, partition: Partition) -> Option<CommittedOffset> {
        self.lock().logs(partition).committed.clone()
    }

    /// Sets the group's committed position without metadata, as an operator does.
    pub fn set_committed(&self, partition: Partition, position: Option<Position>) {
        let committed = position.map(|position| CommittedOffset { position, metadata: String::new() });
        self.lock().logs_mut(partition).committed = committed;
    }

    /// Sets the group's committed position, as a process of the group does.
    pub fn commit(&self, partition: Partition, committed: CommittedOffset) {
        self.lock().logs_mut(partition).committed = Some(committed);
    }

    pub fn bounds(&self, topic: Topic, partition: Partition) -> LogBounds {
        self.lock().logs(partition).log(topic).bounds()
    }

    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    fn logs(&self, partition: Partition) -> &PartitionLogs {
        &self.partitions[index(partition)]
    }

    fn logs_mut(&mut self, partition: Partition) -> &mut PartitionLogs {
        &mut self.partitions[index(partition)]
    }
}

fn index(partition: Partition) -> usize {
    usize::try_from(partition.0).expect("partitions are counted from 0")
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectedOutcome {
    /// It takes effect, and the pod gets the response.
    Commits,
    /// As [`InjectedOutcome::Commits`], after this time.
    CommitsAfter(Duration),
    /// It has no effect, because it takes longer than a transaction may.
    TimesOut,
    /// It has no effect, and the pod gets the response.
    Aborts,
    /// It takes effect, and the response is lost.
    CommitsUnanswered,
    /// It has no effect, and the response is lost.
    AbortsUnanswered,
}

enum Pending {
    Commit(Arc<TransactionContent>, CommitReply),
    ResetProducer(Vec<Partition>, ResetReply),
}

struct FetchState {
    epoch: Epoch,
    position: Position,
}

#[derive(Default)]
struct PodState {
    sink: Option<Box<dyn ConsumerSink>>,
    reading: BTreeMap<Partition, FetchState>,
    pending: VecDeque<Pending>,
    recoveries: VecDeque<(Partition, Epoch, RecoveryReply)>,
    epoch: u64,
    wants_to_leave: bool,
}

/// One process, as the cluster sees it: its consumer, its producer and its readers. A clone is the same pod.
#[derive(Clone)]
pub struct MemoryPod {
    kafka: MemoryKafka,
    id: PodId,
    transactional_id: String,
    offset_metadata: OffsetMetadata,
    ownership: Arc<Ownership>,
    state: Arc<Mutex<PodState>>,
}

impl MemoryPod {
    pub fn new(kafka: &MemoryKafka, transactional_id: &str, ownership: Arc<Ownership>) -> MemoryPod {
        let id = {
            let mut cluster = kafka.lock();
            cluster.next_pod += 1;
            PodId(cluster.next_pod)
        };
        MemoryPod {
            kafka: kafka.clone(),
            id,
            transactional_id: transactional_id.into(),
            offset_metadata: OffsetMetadata::new(format!("{transactional_id}#{:x}", id.0), kafka.topic_ids()),
            ownership,
            state: Arc::new(Mutex::new(PodState::default())),
        }
    }

    pub fn offset_metadata(&self) -> OffsetMetadata {
        self.offset_metadata.clone()
    }

    pub fn topic_ids(&self) -> TopicIds {
        self.kafka.topic_ids()
    }

    pub fn listen(&self, sink: Box<dyn ConsumerSink>) {
        self.lock().sink = Some(sink);
    }

    /// The process is killed: its pending transaction and recoveries never end.
    pub fn die(&self) {
        *self.lock() = PodState::default();
    }

    /// The group gives the partition to this pod.
    pub fn assign(&self, partitions: &[Partition]) {
        let mut assigned = Vec::new();
        for &partition in partitions {
            self.kafka.lock().logs_mut(partition).owner = Some(self.id);
            assigned.push((partition, self.ownership.mint(partition)));
        }
        self.offer(ConsumerEvent::Assigned(assigned));
    }

    /// The group takes the partitions away; [`MemoryPod::give_up`] has to follow.
    pub fn revoke(&self, partitions: &[Partition], deadline: Instant, drained: Drained) {
        let partitions = self.with_epochs(partitions);
        self.offer(ConsumerEvent::Revoking { partitions, deadline, drained });
    }

    /// The pod gives the partitions up after a revocation.
    pub fn give_up(&self, partitions: &[Partition]) {
        let ended = self.end(partitions);
        self.offer(ConsumerEvent::Revoked(ended));
    }

    /// The pod learns that the group has given the partitions to another member. The group refuses its work in flight.
    pub fn lose(&self, partitions: &[Partition]) {
        let ended = self.end(partitions);
        self.offer(ConsumerEvent::Lost(ended));
    }

    /// The group removes the pod, which does not learn of it yet, as after a pause that lasted too long.
    pub fn expel(&self, partitions: &[Partition]) {
        for &partition in partitions {
            self.kafka.lock().logs_mut(partition).owner.take_if(|owner| *owner == self.id);
        }
    }

    fn with_epochs(&self, partitions: &[Partition]) -> Vec<(Partition, Epoch)> {
        partitions.iter().filter_map(|&partition| Some((partition, self.ownership.current(partition)?))).collect()
    }

    fn end(&self, partitions: &[Partition]) -> Vec<(Partition, Epoch)> {
        self.expel(partitions);
        let mut state = self.lock();
        partitions
            .iter()
            .filter_map(|&partition| {
                state.reading.remove(&partition);
                Some((partition, self.ownership.end(partition)?))
            })
            .collect()
    }

    /// Reads up to `max_records` of a partition that was started, at most as many bytes as the sink wants, and offers
    /// them to the sink. Returns their number.
    pub fn poll(&self, partition: Partition, max_records: usize) -> usize {
        let batch = {
            let mut state = self.lock();
            let sink = state.sink.as_ref().filter(|sink| sink.wants_records());
            let (wants, batch_bytes) = (sink.is_some(), sink.map_or(0, |sink| sink.batch_bytes()));
            let Some(reading) = state.reading.get_mut(&partition).filter(|_| wants) else { return 0 };
            let cluster = self.kafka.lock();
            let log = cluster.logs(partition).log(Topic::Input);
            let mut batch = Batch::new(partition, reading.epoch, reading.position);
            let ahead = log.records.iter().filter(|record| !record.offset.is_before(reading.position));
            for record in ahead.take(max_records) {
                let is_full = !batch.is_empty() && batch.held_bytes() + size_of_record(record) > batch_bytes;
                if is_full {
                    break;
                }
                push(&mut batch, record);
            }
            reading.position = batch.end();
            batch
        };
        let records = batch.len();
        if records > 0 {
            self.offer(ConsumerEvent::Batch(batch));
        }
        records
    }

    /// The partitions that the pod reads.
    pub fn started(&self) -> Vec<Partition> {
        self.lock().reading.keys().copied().collect()
    }

    pub fn wants_to_leave(&self) -> bool {
        self.lock().wants_to_leave
    }

    /// Runs the oldest recovery that was requested. Returns whether there was one.
    pub fn run_recovery<E: Entity>(&self, entity: &Arc<E>, settings: &RecoverySettings, budget: &Arc<Budget>) -> bool {
        let Some((partition, epoch, reply)) = self.lock().recoveries.pop_front() else { return false };
        let mut reader =
            MemoryReader { kafka: self.kafka.clone(), partition, epoch, ownership: Arc::clone(&self.ownership) };
        let recovery = Recovery::new(Arc::clone(entity), partition, epoch, settings.clone(), budget);
        reply(recover(recovery, &mut reader));
        true
    }

    /// Returns the bytes of the records in the pending transaction, if there is one.
    pub fn pending_bytes(&self) -> Option<u64> {
        match self.lock().pending.front()? {
            Pending::Commit(content, _) => Some(content.records.iter().map(OutputRecord::weight_bytes).sum()),
            Pending::ResetProducer(..) => None,
        }
    }

    /// Returns whether a transaction or a producer reset is pending.
    pub fn is_busy(&self) -> bool {
        !self.lock().pending.is_empty()
    }

    /// Ends the pending transaction or producer reset. Returns whether there was one.
    pub fn end_pending(&self, injected: InjectedOutcome) -> bool {
        let Some(pending) = self.lock().pending.pop_front() else { return false };
        match pending {
            Pending::Commit(content, reply) => reply(self.end_transaction(&content, injected)),
            Pending::ResetProducer(partitions, reply) => reply(self.reset(&partitions)),
        }
        true
    }

    fn reset(&self, partitions: &[Partition]) -> ResetOutcome {
        let mut cluster = self.kafka.lock();
        let epoch = cluster.epochs.entry(self.transactional_id.clone()).or_default();
        *epoch += 1;
        self.lock().epoch = *epoch;
        let committed = partitions.iter().map(|&of| (of, cluster.logs(of).committed.clone())).collect();
        ResetOutcome::Ready(committed)
    }

    fn end_transaction(&self, content: &TransactionContent, injected: InjectedOutcome) -> CommitOutcome {
        let mut cluster = self.kafka.lock();
        let newest = cluster.epochs.get(&self.transactional_id).copied();
        if newest != Some(self.lock().epoch) {
            return CommitOutcome::Fenced { cause: "newer producer".into(), by: FencedBy::AnotherProcess };
        }
        let is_stale = |range: &&OffsetRange| !self.ownership.is_current(range.partition, range.epoch);
        let stale: Vec<Partition> =
            content.offset_ranges.iter().filter(is_stale).map(|range| range.partition).collect();
        if !stale.is_empty() {
            return CommitOutcome::Stale(stale);
        }
        let is_owner = |of: Partition| cluster.logs(of).owner == Some(self.id);
        if !content.offset_ranges.iter().all(|range| is_owner(range.partition)) {
            return CommitOutcome::StaleGeneration { cause: "the group's generation has moved on".into() };
        }
        match injected {
            InjectedOutcome::Commits | InjectedOutcome::CommitsAfter(_) | InjectedOutcome::CommitsUnanswered => {
                self.write(&mut cluster, content);
            }
            InjectedOutcome::Aborts | InjectedOutcome::TimesOut | InjectedOutcome::AbortsUnanswered => {
                mark_abort(&mut cluster, content);
            }
        }
        let cause = "injected by the test".into();
        match injected {
            InjectedOutcome::Commits => CommitOutcome::Committed { took: Duration::from_millis(1) },
            InjectedOutcome::CommitsAfter(took) => CommitOutcome::Committed { took },
            InjectedOutcome::Aborts => CommitOutcome::Aborted { cause, timed_out: false },
            InjectedOutcome::TimesOut => CommitOutcome::Aborted { cause, timed_out: true },
            InjectedOutcome::CommitsUnanswered | InjectedOutcome::AbortsUnanswered => CommitOutcome::InDoubt { cause },
        }
    }

    fn write(&self, cluster: &mut Cluster, content: &TransactionContent) {
        let origin = RecordOrigin { group: &self.kafka.group, source_topic: &self.kafka.topic };
        for record in &content.records {
            let headers = record.fold_headers(&origin, Vec::new(), |mut headers, name, value| {
                headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
                headers
            });
            cluster.logs_mut(record.partition).log_mut(topic_of(record.output())).append(MemoryRecord {
                timestamp_ms: None,
                key: record.key().map(<[u8]>::to_vec),
                value: record.value().map(<[u8]>::to_vec),
                headers,
            });
        }
        for range in &content.offset_ranges {
            let metadata = self.offset_metadata.of(content.number, range.newest_state);
            let logs = cluster.logs_mut(range.partition);
            logs.committed = Some(CommittedOffset { position: range.end, metadata });
            logs.log_mut(Topic::State).append_marker();
            logs.log_mut(Topic::Dlq).append_marker();
        }
    }

    fn offer(&self, event: ConsumerEvent) {
        let mut sink = self.lock().sink.take();
        if let Some(listener) = sink.as_mut() {
            let refused = listener.offer(event);
            assert!(refused.is_ok(), "a test polls only while the sink has room");
        }
        let mut state = self.lock();
        if state.sink.is_none() {
            state.sink = sink;
        }
    }

    fn lock(&self) -> MutexGuard<'_, PodState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An aborted transaction leaves offsets without a committed record.
fn mark_abort(cluster: &mut Cluster, content: &TransactionContent) {
    for record in &content.records {
        cluster.logs_mut(record.partition).log_mut(topic_of(record.output())).append_marker();
    }
}

fn topic_of(output: Output) -> Topic {
    match output {
        Output::State => Topic::State,
        Output::Dlq => Topic::Dlq,
    }
}

fn size_of_record(record: &StoredRecord) -> u64 {
    let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    (length(&record.key) + length(&record.value)) as u64
}

fn push(batch: &mut Batch, record: &StoredRecord) {
    let headers = record.headers.iter().map(|(name, value)| Header { name, value: value.as_deref() });
    batch.push(record.offset, record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), headers);
}

impl InputConsumer for MemoryPod {
    fn start(&self, partition: Partition, epoch: Epoch, position: Position) {
        if self.ownership.is_current(partition, epoch) {
            self.lock().reading.insert(partition, FetchState { epoch, position });
        }
    }

    fn hold(&self, partition: Partition) {
        self.lock().reading.remove(&partition);
    }

    fn leave(&self) {
        self.lock().wants_to_leave = true;
    }
}

impl Transactions for MemoryPod {
    fn commit(&self, content: Arc<TransactionContent>, reply: CommitReply) {
        self.lock().pending.push_back(Pending::Commit(content, reply));
    }

    fn reset_producer(&self, partitions: Vec<Partition>, reply: ResetReply) {
        self.lock().pending.push_back(Pending::ResetProducer(partitions, reply));
    }
}

impl Recoveries for MemoryPod {
    fn begin(&self, partition: Partition, epoch: Epoch, reply: RecoveryReply) {
        self.lock().recoveries.push_back((partition, epoch, reply));
    }
}

struct MemoryReader {
    kafka: MemoryKafka,
    partition: Partition,
    epoch: Epoch,
    ownership: Arc<Ownership>,
}

impl MemoryReader {
    fn check(&self) -> Result<(), ReadFailure> {
        if self.ownership.is_current(self.partition, self.epoch) { Ok(()) } else { Err(ReadFailure::Cancelled) }
    }
}

impl PartitionReader for MemoryReader {
    fn committed(&mut self) -> Result<Option<CommittedOffset>, ReadFailure> {
        self.check()?;
        Ok(self.kafka.committed(self.partition))
    }

    fn bounds(&mut self, topic: Topic) -> Result<LogBounds, ReadFailure> {
        self.check()?;
        Ok(self.kafka.bounds(topic, self.partition))
    }

    fn read(
        &mut self,
        topic: Topic,
        from: Position,
        until: Position,
        take: &mut dyn FnMut(&Record<'_>),
    ) -> Result<(), ReadFailure> {
        self.check()?;
        let records = self.kafka.records(topic, self.partition);
        let mut batch = Batch::new(self.partition, self.epoch, from);
        let is_wanted = |record: &&StoredRecord| !record.offset.is_before(from) && record.offset.is_before(until);
        records.iter().filter(is_wanted).for_each(|record| push(&mut batch, record));
        batch.iter().for_each(|record| take(&record));
        Ok(())
    }
}
