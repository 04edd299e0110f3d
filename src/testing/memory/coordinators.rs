//! The brokers of the fake: the logs, the coordinator of the transactions, and the coordinator of the group.
//!
//! A request that the network delays stays in `late`, and is executed when the test says so. It is then refused, or not,
//! as on a broker: by the producer epoch, and for offsets by the group's generation as well. As on a broker, the group
//! compares no partition with its owner.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::engine::commit::transaction::CommittedOffset;
use crate::engine::foreign_members::{GroupLook, GroupMember, MemberIds};
use crate::engine::planted::{Planted, planted};
use crate::record::{Partition, Topic};
use crate::testing::memory::log::MemoryLog;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId(pub u64);

#[derive(Debug, Default)]
pub(super) struct PartitionLogs {
    /// In the order of [`Topic`].
    logs: [MemoryLog; 3],
    pub(super) committed: Option<CommittedOffset>,
    /// The offsets in open transactions, by transactional id.
    pending: BTreeMap<String, CommittedOffset>,
    pub(super) owner: Option<PodId>,
}

impl PartitionLogs {
    pub(super) fn log(&self, topic: Topic) -> &MemoryLog {
        &self.logs[topic as usize]
    }

    pub(super) fn log_mut(&mut self, topic: Topic) -> &mut MemoryLog {
        &mut self.logs[topic as usize]
    }

    /// The committed position, once no transaction is open on it.
    pub(super) fn stable_committed(&self) -> Option<Option<CommittedOffset>> {
        self.pending.is_empty().then(|| self.committed.clone())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProducerId {
    pub(super) transactional_id: String,
    pub(super) epoch: u64,
}

/// A member of the group in a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FakeMembership {
    pub(super) pod: PodId,
    pub(super) generation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Commit,
    Abort,
}

/// What a producer sends to a coordinator.
#[derive(Debug, Clone)]
pub(super) enum Request {
    /// Without a membership, the group accepts the offsets from anyone.
    Offsets {
        from: ProducerId,
        member: Option<FakeMembership>,
        offsets: Vec<(Partition, CommittedOffset)>,
    },
    End {
        from: ProducerId,
        end: End,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    /// A newer producer has the transactional id.
    Fenced,
    StaleGeneration,
    /// There is no such transaction.
    InvalidState,
}

/// A transactional id, as its coordinator knows it.
#[derive(Debug, Default)]
struct CoordinatedProducer {
    epoch: u64,
    /// When the open transaction began.
    open_since: Option<Duration>,
    /// How the last transaction of this epoch ended.
    last_end: Option<End>,
}

#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) generation: u64,
    /// When the last heartbeat of each member arrived.
    pub(super) members: BTreeMap<PodId, Duration>,
}

#[derive(Debug, Default)]
pub(super) struct Cluster {
    pub(super) partitions: Vec<PartitionLogs>,
    producers: BTreeMap<String, CoordinatedProducer>,
    pub(super) group: Group,
    /// Requests that are still under way, although their senders wait no longer.
    pub(super) late: Vec<Request>,
    /// Since the start of the test.
    pub(super) now: Duration,
    pub(super) group_away_until: Duration,
    pub(super) transactions_away_until: Duration,
    /// The next transaction that commits snapshots loses those of one partition, against Kafka's guarantee.
    pub(super) tears_next: bool,
    /// The partitions that lost snapshots in this way.
    pub(super) torn: BTreeSet<Partition>,
    /// The name of each pod, which is its transactional id.
    pub(super) names: BTreeMap<PodId, String>,
    /// How often each topic was created again, in the order of [`Topic`].
    pub(super) created_again: [u8; 3],
}

impl Cluster {
    pub(super) fn of(partitions: usize) -> Cluster {
        let partitions = (0..partitions).map(|_| PartitionLogs::default()).collect();
        Cluster { partitions, ..Cluster::default() }
    }

    pub(super) fn logs(&self, partition: Partition) -> &PartitionLogs {
        &self.partitions[index(partition)]
    }

    pub(super) fn logs_mut(&mut self, partition: Partition) -> &mut PartitionLogs {
        &mut self.partitions[index(partition)]
    }

    pub(super) fn is_group_away(&self) -> bool {
        self.now < self.group_away_until
    }

    pub(super) fn are_transactions_away(&self) -> bool {
        self.now < self.transactions_away_until
    }

    // ------------------------------------------------------------------------------------------------ transactions

    /// Registers a producer: aborts the open transaction of its id, and fences every older producer.
    pub(super) fn register(&mut self, transactional_id: &str) -> u64 {
        self.end_open(transactional_id, End::Abort);
        let producer = self.producers.entry(transactional_id.to_owned()).or_default();
        producer.epoch += 1;
        (producer.open_since, producer.last_end) = (None, None);
        producer.epoch
    }

    pub(super) fn is_newest(&self, producer: &ProducerId) -> bool {
        self.producers.get(&producer.transactional_id).is_some_and(|newest| newest.epoch == producer.epoch)
    }

    pub(super) fn begin(&mut self, producer: &ProducerId) {
        let now = self.now;
        if let Some(found) = self.producers.get_mut(&producer.transactional_id) {
            found.open_since.get_or_insert(now);
        }
    }

    /// Aborts the transactions that are open for longer than `timeout`, and fences their producers.
    pub(super) fn time_out_transactions(&mut self, timeout: Duration) {
        let now = self.now;
        let is_over = |producer: &CoordinatedProducer| producer.open_since.is_some_and(|since| since + timeout <= now);
        let over: Vec<String> =
            self.producers.iter().filter(|(_, producer)| is_over(producer)).map(|(id, _)| id.clone()).collect();
        for transactional_id in over {
            self.register(&transactional_id);
        }
    }

    pub(super) fn open_transactions(&self) -> Vec<(String, Duration)> {
        let open = self.producers.iter().filter_map(|(id, producer)| Some((id.clone(), producer.open_since?)));
        open.collect()
    }

    pub(super) fn execute(&mut self, request: Request) -> Answer {
        match request {
            Request::Offsets { from, member, offsets } => self.add_offsets(&from, member, offsets),
            Request::End { from, end } => self.end(&from, end),
        }
    }

    fn add_offsets(
        &mut self,
        from: &ProducerId,
        member: Option<FakeMembership>,
        offsets: Vec<(Partition, CommittedOffset)>,
    ) -> Answer {
        if !self.is_newest(from) {
            return Answer::Fenced;
        }
        if member.is_some_and(|member| !self.group.is_current(member)) {
            return Answer::StaleGeneration;
        }
        self.begin(from);
        for (partition, offset) in offsets {
            self.logs_mut(partition).pending.insert(from.transactional_id.clone(), offset);
        }
        Answer::Done
    }

    fn end(&mut self, from: &ProducerId, end: End) -> Answer {
        if !self.is_newest(from) && !planted(Planted::LateEndIsAccepted) {
            return Answer::Fenced;
        }
        let Some(producer) = self.producers.get_mut(&from.transactional_id) else { return Answer::InvalidState };
        if producer.open_since.take().is_none() {
            return if producer.last_end == Some(end) { Answer::Done } else { Answer::InvalidState };
        }
        producer.last_end = Some(end);
        self.end_open(&from.transactional_id, end);
        Answer::Done
    }

    fn end_open(&mut self, transactional_id: &str, end: End) {
        let is_committed = end == End::Commit;
        for (partition, logs) in (0..).map(Partition).zip(&mut self.partitions) {
            let offset = logs.pending.remove(transactional_id);
            if is_committed && let Some(offset) = offset {
                logs.committed = Some(offset);
            }
            let is_torn = is_committed && self.tears_next && logs.log(Topic::State).has_open(transactional_id);
            if is_torn {
                self.tears_next = false;
                self.torn.insert(partition);
            }
            logs.log_mut(Topic::State).end_transaction(transactional_id, is_committed && !is_torn);
            logs.log_mut(Topic::Dlq).end_transaction(transactional_id, is_committed);
        }
    }

    // ------------------------------------------------------------------------------------------------------- group

    /// A member joins, which begins a generation.
    pub(super) fn add_member(&mut self, pod: PodId) {
        self.group.generation += 1;
        self.group.members.insert(pod, self.now);
    }

    /// Removes a member; its partitions have no owner then.
    pub(super) fn remove_member(&mut self, pod: PodId) {
        if self.group.members.remove(&pod).is_some() {
            self.group.generation += 1;
        }
        self.partitions.iter_mut().for_each(|logs| _ = logs.owner.take_if(|owner| *owner == pod));
    }

    pub(super) fn look_at_group(&self) -> GroupLook {
        if self.is_group_away() {
            return GroupLook::NoAnswer;
        }
        let members = self.group.members.keys().filter_map(|pod| {
            let client_id = MemberIds::Marked.of(self.names.get(pod)?)?;
            Some(GroupMember { client_id, host: String::new(), partitions: Vec::new() })
        });
        let is_stable = self.partitions.iter().all(|logs| logs.owner.is_some());
        if is_stable { GroupLook::Members(members.collect()) } else { GroupLook::Rebalancing(members.collect()) }
    }

    /// Removes the members without a heartbeat for `timeout`.
    pub(super) fn end_sessions(&mut self, timeout: Duration) -> Vec<PodId> {
        let now = self.now;
        let silent = self.group.members.iter().filter(|(_, last)| **last + timeout <= now);
        let silent: Vec<PodId> = silent.map(|(pod, _)| *pod).collect();
        silent.iter().for_each(|pod| self.remove_member(*pod));
        silent
    }
}

impl Group {
    fn is_current(&self, member: FakeMembership) -> bool {
        self.members.contains_key(&member.pod) && self.generation == member.generation
    }
}

fn index(partition: Partition) -> usize {
    usize::try_from(partition.0).expect("partitions are counted from 0")
}
