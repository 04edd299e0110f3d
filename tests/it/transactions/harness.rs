//! One process of the tests: a group member, its epochs, and its commit thread.

use super::*;

/// One process: a group member, its epochs, and its commit thread with a new producer.
pub(super) struct Pod {
    pub(super) kafka: Kafka,
    pub(super) names: Names,
    pub(super) instance: String,
    pub(super) transaction_timeout: Duration,
    pub(super) ownership: Arc<Ownership>,
    pub(super) epoch: Epoch,
    pub(super) transactions: Option<CommitThread>,
    pub(super) member: Member,
}

impl Pod {
    pub(super) fn join(partitions: i32) -> Pod {
        let ownership = Arc::new(Ownership::new());
        let epoch = ownership.mint(P0);
        Pod::with_view(partitions, ownership, epoch, |member| Arc::new(move || membership_of(&member)))
    }

    pub(super) fn with_view(
        partitions: i32,
        ownership: Arc<Ownership>,
        epoch: Epoch,
        view: impl FnOnce(Arc<BaseConsumer>) -> GroupView,
    ) -> Pod {
        Pod::build(partitions, ownership, epoch, Names::new(), Duration::from_secs(10), view)
    }

    pub(super) fn build(
        partitions: i32,
        ownership: Arc<Ownership>,
        epoch: Epoch,
        names: Names,
        transaction_timeout: Duration,
        view: impl FnOnce(Arc<BaseConsumer>) -> GroupView,
    ) -> Pod {
        let kafka = Kafka::shared();
        kafka.create_topic(&names.input, partitions, &[]);
        kafka.create_topic(&names.state, partitions, &[("cleanup.policy", "compact")]);
        kafka.create_topic(&names.dlq, partitions, &[]);
        let member = Member::joins(&kafka, &names.group, &names.input);
        let view = view(Arc::clone(&member.consumer));
        let instance = unique("instance");
        let mut pod = Pod { kafka, names, instance, transaction_timeout, ownership, epoch, transactions: None, member };
        pod.transactions = Some(pod.thread(view));
        assert_eq!(pod.reset_producer(), [(P0, None)]);
        pod
    }

    pub(super) fn view(&self) -> GroupView {
        let member = Arc::clone(&self.member.consumer);
        Arc::new(move || -> Membership { membership_of(&member) })
    }

    pub(super) fn thread(&self, view: GroupView) -> CommitThread {
        let settings = CommitSettings {
            topic: self.names.input.clone(),
            state_topic: self.names.state.clone(),
            dlq_topic: self.names.dlq.clone(),
            min_in_sync: [None, None],
            group_id: self.names.group.clone(),
            instance: "this".to_owned(),
            member_ids: MemberIds::Configured(String::new()),
            transaction_timeout: self.transaction_timeout,
        };
        let brokers = self.kafka.address().to_owned();
        let clients = clients(brokers, &self.instance, &self.names.group, self.transaction_timeout);
        let gates = CommitGates { group: view, ownership: Arc::clone(&self.ownership), topics: None };
        let (context, metadata) = (DefaultConsumerContext, OffsetMetadata::new("run", TopicIds::default()));
        CommitThread::start(settings, clients, context, gates, metadata, Arc::new(SystemClock)).expect("a thread")
    }

    pub(super) fn snapshot(&self, key: &str, value: Option<&str>, newest: i64) -> OutputRecord {
        let value = value.map(|value| Arc::from(value.as_bytes()));
        let snapshot = EntitySnapshot { key: Arc::from(key.as_bytes()), value, trace: None };
        OutputRecord::snapshot(P0, Offset(newest), snapshot)
    }

    pub(super) fn traced_snapshot(&self, key: &str, newest: i64, trace: TraceContext) -> OutputRecord {
        let (key, value) = (Arc::from(key.as_bytes()), Some(Arc::from(&b"{}"[..])));
        OutputRecord::snapshot(P0, Offset(newest), EntitySnapshot { key, value, trace: Some(Box::new(trace)) })
    }

    pub(super) fn batch(
        &self,
        offset: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Arc<Batch> {
        let mut batch = Batch::new(P0, self.epoch, Position(offset));
        let headers = headers.iter().map(|(name, value)| Header { name, value: *value });
        batch.push(Offset(offset), Some(1_700_000_000_000), key, value, headers);
        Arc::new(batch)
    }

    pub(super) fn content(&self, number: u64, records: Vec<OutputRecord>, end: i64) -> TransactionContent {
        let range =
            OffsetRange { partition: P0, epoch: self.epoch, start: None, end: Position(end), newest_state: None };
        TransactionContent { number, records, offset_ranges: vec![range] }
    }

    pub(super) fn commit(&self, content: TransactionContent) -> CommitOutcome {
        commit(self.transactions.as_ref().expect("started"), content)
    }

    pub(super) fn reset_producer(&self) -> Vec<(Partition, Option<CommittedOffset>)> {
        let outcome = reset(self.transactions.as_ref().expect("started"));
        let ResetOutcome::Ready(committed) = outcome else { panic!("no new producer: {outcome:?}") };
        committed
    }
}

pub(super) fn commit(transactions: &CommitThread, content: TransactionContent) -> CommitOutcome {
    let (reply, outcome) = mpsc::channel();
    transactions.commit(Arc::new(content), Box::new(move |outcome| reply.send(outcome).expect("the test waits")));
    outcome.recv_timeout(PATIENCE).expect("every request is answered")
}

pub(super) fn reset(transactions: &CommitThread) -> ResetOutcome {
    let (reply, outcome) = mpsc::channel();
    transactions.reset_producer(vec![P0], Box::new(move |outcome| reply.send(outcome).expect("the test waits")));
    outcome.recv_timeout(PATIENCE).expect("every request is answered")
}

pub(super) fn headers(pairs: &[(&str, &str)]) -> Vec<(String, Option<Vec<u8>>)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Some(value.as_bytes().to_vec()))).collect()
}
