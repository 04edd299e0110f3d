//! The fake cluster, as a test sees and changes it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::engine::commit::transaction::CommittedOffset;
use crate::engine::foreign_members::GroupLook;
use crate::engine::recovery::LogBounds;
use crate::engine::topic_watch::TopicIds;
use crate::record::{Offset, Partition, Position, Topic, TopicId};
use crate::testing::memory::coordinators::{Cluster, PodId};
use crate::testing::memory::log::{MemoryLog, MemoryRecord, StoredRecord};

/// A fake cluster; a clone is the same cluster.
#[derive(Debug, Clone)]
pub struct MemoryKafka {
    cluster: Arc<Mutex<Cluster>>,
    pub(super) topic: String,
    pub(super) group: String,
}

impl MemoryKafka {
    /// Returns a cluster with three empty topics of `partitions` partitions each.
    pub fn new(partitions: usize, topic: &str, group: &str) -> MemoryKafka {
        let cluster = Arc::new(Mutex::new(Cluster::of(partitions)));
        MemoryKafka { cluster, topic: topic.into(), group: group.into() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ------------------------------------------------------------------------------------------------------ topics

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
        self.lock().logs_mut(partition).log_mut(Topic::State).compact(is_removed);
    }

    pub fn topic_ids(&self) -> TopicIds {
        let created_again = self.lock().created_again;
        let id = |topic: Topic| TopicId::from_bytes([1 + topic as u8 + 10 * created_again[topic as usize]; 16]);
        TopicIds { input: id(Topic::Input), state: id(Topic::State) }
    }

    /// All records of a partition, as a `read_committed` reader sees them.
    pub fn records(&self, topic: Topic, partition: Partition) -> Vec<StoredRecord> {
        self.lock().logs(partition).log(topic).committed().cloned().collect()
    }

    pub fn bounds(&self, topic: Topic, partition: Partition) -> LogBounds {
        self.lock().logs(partition).log(topic).bounds()
    }

    /// Returns whether no transaction is open in the partition.
    pub fn is_stable(&self, topic: Topic, partition: Partition) -> bool {
        let cluster = self.lock();
        let log = cluster.logs(partition).log(topic);
        log.last_stable() == log.bounds().high
    }

    // ------------------------------------------------------------------------------------------------------- group

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

    pub fn owner(&self, partition: Partition) -> Option<PodId> {
        self.lock().logs(partition).owner
    }

    /// Removes the members without a heartbeat for `timeout`, and returns them.
    pub fn end_sessions(&self, timeout: Duration) -> Vec<PodId> {
        let mut cluster = self.lock();
        if cluster.is_group_away() { Vec::new() } else { cluster.end_sessions(timeout) }
    }

    /// Removes a member, as after a session without a heartbeat.
    pub fn remove_member(&self, pod: PodId) {
        self.lock().remove_member(pod);
    }

    /// The group's coordinator answers nothing for `time`. The next one waits for heartbeats a whole session.
    pub fn move_group_coordinator(&self, time: Duration) {
        let mut cluster = self.lock();
        let until = cluster.now + time;
        cluster.group_away_until = until;
        cluster.group.members.values_mut().for_each(|last| *last = until);
    }

    // ------------------------------------------------------------------------------------------------ transactions

    /// Moves the time of the brokers to `now`, since the start of the test.
    pub fn set_time(&self, now: Duration) {
        self.lock().now = now;
    }

    /// Aborts the transactions that are open for longer than `timeout`, and fences their producers.
    pub fn time_out_transactions(&self, timeout: Duration) {
        let mut cluster = self.lock();
        if !cluster.are_transactions_away() {
            cluster.time_out_transactions(timeout);
        }
    }

    /// The coordinator of the transactions answers nothing for `time`.
    pub fn move_transaction_coordinator(&self, time: Duration) {
        let mut cluster = self.lock();
        cluster.transactions_away_until = cluster.now + time;
    }

    /// Registers a producer, as another process does: ends the open transaction of its id, and fences older ones.
    pub fn register(&self, transactional_id: &str) {
        self.lock().register(transactional_id);
    }

    pub fn look_at_group(&self) -> GroupLook {
        self.lock().look_at_group()
    }

    /// Returns whether an open transaction holds back a recovery of the partition.
    pub fn is_blocked(&self, partition: Partition) -> bool {
        let has_offset = self.lock().logs(partition).stable_committed().is_none();
        has_offset || !self.is_stable(Topic::State, partition) || !self.is_stable(Topic::Dlq, partition)
    }

    /// The transactional id of each open transaction, and the time when it began.
    pub fn open_transactions(&self) -> Vec<(String, Duration)> {
        self.lock().open_transactions()
    }

    /// How many requests are under way whose senders wait no longer.
    pub fn late_requests(&self) -> usize {
        self.lock().late.len()
    }

    /// Executes one of the late requests, and describes it.
    pub fn deliver_late(&self, index: usize) -> String {
        let mut cluster = self.lock();
        let request = cluster.late.remove(index);
        let described = format!("{request:?}");
        format!("{described}: {:?}", cluster.execute(request))
    }

    /// The next transaction that commits snapshots loses those of one partition, against Kafka's guarantee.
    pub fn tear_next(&self) {
        self.lock().tears_next = true;
    }

    /// Returns whether a partition has lost snapshots that way, since the last call of [`MemoryKafka::is_verified`].
    pub fn is_torn(&self) -> bool {
        !self.lock().torn.is_empty()
    }

    /// A recovery has read the partition, and repairs what it lacks.
    pub fn is_verified(&self, partition: Partition) {
        self.lock().torn.remove(&partition);
    }

    /// The coordinators are back, what was under way arrives, and no transaction is torn any more.
    pub fn end_faults(&self) {
        let mut cluster = self.lock();
        (cluster.group_away_until, cluster.transactions_away_until) = (Duration::ZERO, Duration::ZERO);
        cluster.tears_next = false;
        for request in std::mem::take(&mut cluster.late) {
            cluster.execute(request);
        }
    }
}
