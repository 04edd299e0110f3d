//! One process, as the cluster sees it: its consumer, its producer and its readers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::budget::Budget;
use crate::engine::commit::transaction::TransactionContent;
use crate::engine::offset_metadata::OffsetMetadata;
use crate::engine::outcome::OutputRecord;
use crate::engine::ownership::Ownership;
use crate::engine::recovery::driver::{RecoveryFailure, recover};
use crate::engine::recovery::{Recovered, Recovery, RecoverySettings};
use crate::engine::topic_watch::TopicIds;
use crate::entity::Entity;
use crate::ports::{
    Clock, CommitReply, ConsumerEvent, ConsumerSink, Drained, InputConsumer, Recoveries, RecoveryReply, ResetReply,
    Transactions,
};
use crate::record::{Batch, Epoch, Partition, Position, Topic};
use crate::testing::memory::coordinators::{FakeMembership, PodId};
use crate::testing::memory::kafka::MemoryKafka;
use crate::testing::memory::log::StoredRecord;
use crate::testing::memory::reader::{MemoryReader, push};
use crate::testing::memory::transaction::{Attempt, Fate, InjectedOutcome, Progress, Registration, Sender, Stepped};

/// What the coordinator waits for the end of a transaction, unless the test sets another time.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

enum Pending {
    Commit(Attempt),
    Registration(Registration),
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
    /// Recoveries that have read everything, and are not reported yet.
    recovered: VecDeque<(RecoveryReply, Result<Recovered, RecoveryFailure>)>,
    producer_epoch: u64,
    /// The group's generation, as far as the pod knows it.
    membership: Option<FakeMembership>,
    wants_to_leave: bool,
}

/// One process. A clone is the same pod.
#[derive(Clone)]
pub struct MemoryPod {
    kafka: MemoryKafka,
    id: PodId,
    sender: Sender,
    ownership: Arc<Ownership>,
    state: Arc<Mutex<PodState>>,
}

impl MemoryPod {
    pub fn new(kafka: &MemoryKafka, transactional_id: &str, ownership: Arc<Ownership>) -> MemoryPod {
        let id = {
            let mut cluster = kafka.lock();
            let id = PodId(cluster.names.len() as u64 + 1);
            cluster.names.insert(id, transactional_id.into());
            id
        };
        let sender = Sender {
            kafka: kafka.clone(),
            transactional_id: transactional_id.into(),
            offset_metadata: OffsetMetadata::new(format!("{transactional_id}#{:x}", id.0), kafka.topic_ids()),
            ownership: Arc::clone(&ownership),
            transaction_timeout: TRANSACTION_TIMEOUT,
            clock: None,
        };
        MemoryPod { kafka: kafka.clone(), id, sender, ownership, state: Arc::default() }
    }

    #[must_use]
    pub fn with_time(mut self, clock: Arc<dyn Clock>, transaction_timeout: Duration) -> MemoryPod {
        (self.sender.clock, self.sender.transaction_timeout) = (Some(clock), transaction_timeout);
        self
    }

    pub fn id(&self) -> PodId {
        self.id
    }

    pub fn offset_metadata(&self) -> OffsetMetadata {
        self.sender.offset_metadata.clone()
    }

    pub fn topic_ids(&self) -> TopicIds {
        self.kafka.topic_ids()
    }

    pub fn listen(&self, sink: Box<dyn ConsumerSink>) {
        self.lock().sink = Some(sink);
    }

    /// The process is killed: its pending transaction and recoveries never end. The group does not know it yet.
    pub fn die(&self) {
        *self.lock() = PodState::default();
    }

    // ------------------------------------------------------------------------------------------------------- group

    /// The group gives the partitions to this pod, in a new generation that the pod knows.
    pub fn assign(&self, partitions: &[Partition]) {
        let mut assigned = Vec::new();
        {
            let mut cluster = self.kafka.lock();
            cluster.add_member(self.id);
            for &partition in partitions {
                cluster.logs_mut(partition).owner = Some(self.id);
                assigned.push((partition, self.ownership.mint(partition)));
            }
        }
        self.learn_generation();
        self.offer(ConsumerEvent::Assigned(assigned));
    }

    /// The pod joins the group again, and gets no partition at first.
    pub fn join(&self) {
        self.kafka.lock().add_member(self.id);
        self.learn_generation();
    }

    /// The pod learns of the group's generation, if it is a member.
    pub fn learn_generation(&self) {
        let cluster = self.kafka.lock();
        if cluster.group.members.contains_key(&self.id) {
            self.lock().membership = Some(FakeMembership { pod: self.id, generation: cluster.group.generation });
        }
    }

    /// The client has found that its session is over. The application does not know it yet.
    pub fn forget_membership(&self) {
        self.lock().membership = None;
    }

    /// The pod sends a heartbeat. Returns whether it is a member; `None` if nothing answers.
    pub fn send_heartbeat(&self) -> Option<bool> {
        let mut cluster = self.kafka.lock();
        if cluster.is_group_away() {
            return None;
        }
        let now = cluster.now;
        let member = cluster.group.members.get_mut(&self.id);
        Some(member.map(|last| *last = now).is_some())
    }

    /// The group takes the partitions away; [`MemoryPod::give_up`] has to follow.
    pub fn revoke(&self, partitions: &[Partition], deadline: Instant, drained: Drained) {
        let partitions = self.with_epochs(partitions);
        self.offer(ConsumerEvent::Revoking { partitions, deadline, drained });
    }

    /// The pod gives the partitions up after a revocation.
    pub fn give_up(&self, partitions: &[Partition]) {
        for &partition in partitions {
            self.kafka.lock().logs_mut(partition).owner.take_if(|owner| *owner == self.id);
        }
        let ended = self.end(partitions);
        self.offer(ConsumerEvent::Revoked(ended));
    }

    /// The pod learns that the group has removed it. The group refuses its work in flight.
    pub fn lose(&self, partitions: &[Partition]) {
        self.expel();
        self.forget_membership();
        let ended = self.end(partitions);
        self.offer(ConsumerEvent::Lost(ended));
    }

    /// The group removes the pod, which does not learn of it yet, as after a pause that lasted too long.
    pub fn expel(&self) {
        self.kafka.lock().remove_member(self.id);
    }

    /// The newest epoch of the pod.
    pub fn newest_epoch(&self) -> Epoch {
        self.ownership.newest()
    }

    /// The partitions that the pod takes for its own.
    pub fn owned(&self) -> Vec<Partition> {
        let count = self.kafka.lock().partitions.len();
        let partitions = (0..count).map(|index| Partition(i32::try_from(index).expect("a few partitions")));
        partitions.filter(|partition| self.ownership.current(*partition).is_some()).collect()
    }

    fn with_epochs(&self, partitions: &[Partition]) -> Vec<(Partition, Epoch)> {
        partitions.iter().filter_map(|&partition| Some((partition, self.ownership.current(partition)?))).collect()
    }

    fn end(&self, partitions: &[Partition]) -> Vec<(Partition, Epoch)> {
        let mut state = self.lock();
        partitions
            .iter()
            .filter_map(|&partition| {
                state.reading.remove(&partition);
                Some((partition, self.ownership.end(partition)?))
            })
            .collect()
    }

    pub fn wants_to_leave(&self) -> bool {
        self.lock().wants_to_leave
    }

    // ----------------------------------------------------------------------------------------------------- reading

    /// Reads up to `max_records` of a partition that was started, at most as many bytes as the sink wants, and offers
    /// them to the sink. Without records it offers the position behind markers. Returns the number of records.
    pub fn poll(&self, partition: Partition, max_records: usize) -> usize {
        let (batch, is_news) = {
            let mut state = self.lock();
            let sink = state.sink.as_ref().filter(|sink| sink.wants_records());
            let (wants, batch_bytes) = (sink.is_some(), sink.map_or(0, |sink| sink.batch_bytes()));
            let Some(reading) = state.reading.get_mut(&partition).filter(|_| wants) else { return 0 };
            let cluster = self.kafka.lock();
            let log = cluster.logs(partition).log(Topic::Input);
            let mut batch = Batch::new(partition, reading.epoch, reading.position);
            let mut ahead = log.committed().filter(|record| !record.offset.is_before(reading.position)).peekable();
            if ahead.peek().is_none() {
                batch = Batch::new(partition, reading.epoch, reading.position.max(log.last_stable()));
            }
            for record in ahead.take(max_records) {
                let is_full = !batch.is_empty() && batch.held_bytes() + size_of_record(record) > batch_bytes;
                if is_full {
                    break;
                }
                push(&mut batch, record);
            }
            let is_news = batch.end() > reading.position;
            reading.position = batch.end();
            (batch, is_news)
        };
        let records = batch.len();
        if is_news {
            self.offer(ConsumerEvent::Batch(batch));
        }
        records
    }

    /// The partitions that the pod reads.
    pub fn started(&self) -> Vec<Partition> {
        self.lock().reading.keys().copied().collect()
    }

    /// Runs the oldest recovery that was requested, and reports its result. Returns whether there was one.
    pub fn run_recovery<E: Entity>(&self, entity: &Arc<E>, settings: &RecoverySettings, budget: &Arc<Budget>) -> bool {
        self.read_recovery(entity, settings, budget, |_, _, _| {});
        self.report_recovery()
    }

    /// Reads what the oldest recovery that was requested needs. `inspect` gets the partition and epoch, and where it
    /// starts, if it could be read.
    pub fn read_recovery<E: Entity>(
        &self,
        entity: &Arc<E>,
        settings: &RecoverySettings,
        budget: &Arc<Budget>,
        inspect: impl FnOnce(Partition, Epoch, Option<Position>),
    ) -> bool {
        let Some((partition, epoch, reply)) = self.lock().recoveries.pop_front() else { return false };
        let mut reader =
            MemoryReader { kafka: self.kafka.clone(), partition, epoch, ownership: Arc::clone(&self.ownership) };
        let recovery = Recovery::new(Arc::clone(entity), partition, epoch, settings.clone(), budget);
        let result = recover(recovery, &mut reader);
        inspect(partition, epoch, result.as_ref().ok().map(|recovered| recovered.start));
        self.lock().recovered.push_back((reply, result));
        true
    }

    /// Reports the oldest recovery that has read everything. Returns whether there was one.
    pub fn report_recovery(&self) -> bool {
        let Some((reply, result)) = self.lock().recovered.pop_front() else { return false };
        reply(result);
        true
    }

    // ------------------------------------------------------------------------------------------------ transactions

    /// Returns the bytes of the records in the pending transaction, if there is one.
    pub fn pending_bytes(&self) -> Option<u64> {
        match self.lock().pending.front()? {
            Pending::Commit(attempt) => Some(attempt.content.records.iter().map(OutputRecord::weight_bytes).sum()),
            Pending::Registration(_) => None,
        }
    }

    /// Returns whether a transaction or a producer reset is pending.
    pub fn is_busy(&self) -> bool {
        !self.lock().pending.is_empty()
    }

    /// Describes what the pod is doing.
    pub fn describe(&self) -> String {
        let state = self.lock();
        let pending = state.pending.front().map(|pending| match pending {
            Pending::Commit(attempt) => attempt.describe(),
            Pending::Registration(_) => "registers a producer".to_owned(),
        });
        let (reading, recoveries) = (state.reading.keys().collect::<Vec<_>>(), state.recoveries.len());
        format!("reads {reading:?}, {recoveries} recoveries, {:?}, {pending:?}", state.membership)
    }

    /// Takes one step of the pending transaction or producer reset.
    pub fn advance(&self, fate: Fate) -> Progress {
        let (pending, mut epoch, membership) = {
            let mut state = self.lock();
            (state.pending.pop_front(), state.producer_epoch, state.membership)
        };
        match pending {
            None => Progress::Idle,
            Some(Pending::Commit(attempt)) => match self.sender.step(attempt, epoch, membership, fate) {
                Stepped::Waits(attempt) => self.continues(Pending::Commit(attempt), Progress::Waits),
                Stepped::Moved(attempt) => self.continues(Pending::Commit(attempt), Progress::Moved),
                Stepped::Ended(attempt, outcome) => {
                    (attempt.reply)(outcome);
                    Progress::Ended
                }
            },
            Some(Pending::Registration(registration)) => {
                let stepped = self.sender.register(registration, &mut epoch, fate);
                self.lock().producer_epoch = epoch;
                match stepped {
                    Stepped::Waits(registration) | Stepped::Moved(registration) => {
                        self.continues(Pending::Registration(registration), Progress::Moved)
                    }
                    Stepped::Ended(registration, outcome) => {
                        registration.reply(outcome);
                        Progress::Ended
                    }
                }
            }
        }
    }

    fn continues(&self, pending: Pending, progress: Progress) -> Progress {
        self.lock().pending.push_front(pending);
        progress
    }

    /// Ends the pending transaction or producer reset. Returns whether there was one.
    pub fn end_pending(&self, injected: InjectedOutcome) -> bool {
        let (pending, epoch, membership) = {
            let mut state = self.lock();
            (state.pending.pop_front(), state.producer_epoch, state.membership)
        };
        match pending {
            None => return false,
            Some(Pending::Commit(attempt)) => match self.sender.run(attempt, epoch, membership, injected) {
                Ok((reply, outcome)) => reply(outcome),
                Err(waiting) => _ = self.continues(Pending::Commit(waiting), Progress::Waits),
            },
            Some(registration @ Pending::Registration(_)) => {
                self.continues(registration, Progress::Moved);
                while self.advance(Fate::Answered) == Progress::Moved {}
            }
        }
        true
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

fn size_of_record(record: &StoredRecord) -> u64 {
    let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    (length(&record.key) + length(&record.value)) as u64
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
        self.lock().pending.push_back(Pending::Commit(Attempt::new(content, reply)));
    }

    fn reset_producer(&self, partitions: Vec<Partition>, reply: ResetReply) {
        self.lock().pending.push_back(Pending::Registration(Registration::new(partitions, reply)));
    }
}

impl Recoveries for MemoryPod {
    fn begin(&self, partition: Partition, epoch: Epoch, reply: RecoveryReply) {
        self.lock().recoveries.push_back((partition, epoch, reply));
    }
}
