//! The pods, the fake cluster and the reference model of a simulated run, and its steps.

use super::*;

pub(super) struct Pod {
    pub(super) memory: MemoryPod,
    pub(super) ingest: Addr<IngestActor<Counted>>,
    pub(super) entity: Arc<Counted>,
    pub(super) state_memory: Arc<Budget>,
    pub(super) size_limits: SizeLimits,
    pub(super) look_back_records: u64,
    /// Why the process would have ended.
    pub(super) stops: Arc<Mutex<Vec<StopCause>>>,
    /// It does not run until this time.
    pub(super) frozen_until: Duration,
    /// Decides when its recoveries end the transaction of another pod.
    pub(super) dead_owners: DeadOwners,
    /// The transactional id, which a new pod of the same name takes over.
    pub(super) name: String,
}

impl Pod {
    /// Starts the real actors over the fake. Without entity threads, entities run on the current thread.
    pub(super) fn start(
        kafka: &MemoryKafka,
        name: String,
        scenario: &Scenario,
        clock: Arc<dyn Clock>,
        entity_threads: Vec<ArbiterHandle>,
    ) -> Pod {
        let (entity, stops) = (Arc::new(Counted::default()), Arc::<Mutex<Vec<StopCause>>>::default());
        let dead_owners = DeadOwners::new(&name, MemberIds::Marked);
        let limits = MemoryLimits { in_flight_bytes: scenario.in_flight_bytes, state_bytes: 1 << 20 };
        let recorded = Arc::clone(&stops);
        let stop = Arc::new(move |cause| recorded.lock().expect("no thread panics while it holds this").push(cause));
        let shared = Shared::new(Arc::clone(&clock), limits, KeyPolicy::Plain, stop);
        let ownership = Arc::new(Ownership::new());
        let memory = MemoryPod::new(kafka, &name, Arc::clone(&ownership));
        let memory = memory.with_time(Arc::clone(&clock), scenario.transaction_timeout);
        let ports = Ports {
            consumer: Box::new(memory.clone()),
            recoveries: Box::new(memory.clone()),
            transactions: Box::new(memory.clone()),
            ownership,
        };
        let settings = RuntimeSettings {
            size_limits: scenario.size_limits(),
            max_transaction_bytes: scenario.max_transaction_bytes,
            max_dlq_record_bytes: u64::MAX,
            transaction_timeout: scenario.transaction_timeout,
            min_commit_interval: Duration::ZERO,
            linger_per_partition: Duration::from_millis(3),
            offset_metadata: memory.offset_metadata(),
            entity_idle: scenario.entity_idle,
            max_active_entities: scenario.max_active_entities,
            stop_on_expired: false,
            entity_threads,
        };
        let Actors { ingest, sink, .. } = assemble(ports, Arc::clone(&entity), settings, &shared);
        memory.listen(Box::new(sink));
        Pod {
            memory,
            ingest,
            entity,
            state_memory: shared.state_memory,
            size_limits: scenario.size_limits(),
            look_back_records: scenario.look_back_records,
            stops,
            frozen_until: Duration::ZERO,
            dead_owners,
            name,
        }
    }

    pub(super) fn run_recovery(&self) -> bool {
        self.read_recovery(|_, _, _| {});
        self.memory.report_recovery()
    }

    pub(super) fn read_recovery(&self, inspect: impl FnOnce(Partition, Epoch, Option<Position>)) -> bool {
        let settings = RecoverySettings {
            topic: TOPIC.into(),
            state_topic: "services.state".into(),
            group: GROUP.into(),
            topic_ids: self.memory.topic_ids(),
            tombstones_outlive_events: true,
            look_back_records: self.look_back_records,
            verify_max_records: 1_000_000,
            adopt_group: false,
            stop_on_expired: false,
            size_limits: self.size_limits,
        };
        self.memory.read_recovery(&self.entity, &settings, &self.state_memory, inspect)
    }
}

pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) random: ChaCha8Rng,
    pub(super) clock: Arc<PausedClock>,
    pub(super) began: Instant,
    pub(super) kafka: MemoryKafka,
    pub(super) events: Vec<GeneratedEvent>,
    pub(super) next_event: usize,
    pub(super) model: Model,
    pub(super) pods: Vec<Pod>,
    pub(super) stops: Vec<StopCause>,
    pub(super) steps: Vec<String>,
    /// The dead owners whose transactions are about to be ended.
    pub(super) registrations: Vec<String>,
    /// The operator has set the positions.
    pub(super) is_operated: bool,
    /// What the contract does not permit, and was seen during the run.
    pub(super) violations: Vec<String>,
}

impl World {
    pub(super) fn new(seed: u64, scenario: Scenario, clock: Arc<PausedClock>) -> World {
        let workload = Workload {
            seed,
            events: scenario.events,
            keys: scenario.keys,
            invalid_share: 0.1,
            odd_share: 0.1,
            max_payload_bytes: scenario.largest_bytes,
            ..Workload::default()
        };
        // Depending on the seed, a message takes one turn or several.
        tick_every([0, 1, 2, 5][usize::try_from(seed % 4).expect("small")]);
        let mut world = World {
            random: ChaCha8Rng::seed_from_u64(seed),
            began: clock.now(),
            clock,
            kafka: MemoryKafka::new(scenario.partitions, TOPIC, GROUP),
            events: workload.generate().expect("the workload makes sense").collect(),
            next_event: 0,
            model: Model::keeping_history(MAX_PAYLOAD_BYTES).with_snapshot_limit(scenario.max_snapshot_bytes),
            pods: Vec::new(),
            stops: Vec::new(),
            steps: Vec::new(),
            registrations: Vec::new(),
            is_operated: false,
            violations: Vec::new(),
            scenario,
        };
        for index in 0..world.scenario.pods {
            let pod = world.start_pod(format!("pod-{index}"));
            world.pods.push(pod);
        }
        world
    }

    fn start_pod(&self, name: String) -> Pod {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Pod::start(&self.kafka, name, &self.scenario, clock, Vec::new())
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.scenario.partitions).map(|index| Partition(i32::try_from(index).expect("a few partitions")))
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(super) fn time(&self) -> Duration {
        self.now().saturating_duration_since(self.began)
    }

    pub(super) fn note(&mut self, step: impl Into<String>) {
        self.steps.push(step.into());
    }

    // ------------------------------------------------------------------------------------------------------ steps

    pub(super) async fn storm(&mut self) {
        // Bounded, because a pod that is away slows the production of the others.
        for _ in 0..MOST_STEPS {
            self.step().await;
            if self.next_event == self.events.len() {
                break;
            }
        }
        for _ in 0..40 {
            self.step().await;
        }
        self.produce_many(self.events.len());
    }

    pub(super) async fn step(&mut self) {
        let weights = self.scenario.weights.clone();
        let choices = [
            weights.produce,
            weights.poll,
            weights.recover,
            weights.transaction,
            weights.time,
            weights.crashes,
            weights.hand_overs,
            weights.losses,
            weights.freezes,
            weights.coordinator_moves,
            weights.markers,
            weights.compactions,
            weights.late_requests,
            if self.is_operated { 0 } else { weights.operator },
            weights.tears,
        ];
        match self.draw(&choices) {
            0 => self.produce(),
            1 => self.poll(),
            2 => self.recover(),
            3 => self.end_transaction().await,
            4 => self.pass_time().await,
            5 => self.crash(),
            6 => self.hand_over().await,
            7 => self.expel(),
            8 => self.freeze(),
            9 => self.move_coordinator(),
            10 => self.write_markers(),
            11 => self.compact(),
            12 => self.deliver_late(),
            13 => self.set_positions().await,
            _ => self.kafka.tear_next(),
        }
        self.serve_group();
        self.assign_unowned();
        tokio::time::sleep(self.random.random_range(Duration::from_millis(1)..=self.scenario.longest_step)).await;
    }

    pub(super) fn draw(&mut self, weights: &[u32]) -> usize {
        let mut left = self.random.random_range(0..weights.iter().sum::<u32>());
        for (index, weight) in weights.iter().enumerate() {
            if left < *weight {
                return index;
            }
            left -= weight;
        }
        unreachable!("the number is less than the sum of the weights")
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.random.random_bool(probability)
    }

    pub(super) fn produce(&mut self) {
        let many = self.random.random_range(1..=self.scenario.burst);
        self.produce_many(many);
    }

    pub(super) fn produce_many(&mut self, many: usize) {
        let many = many.min(self.events.len() - self.next_event);
        self.note(format!("produce {many}"));
        for _ in 0..many {
            let event = self.events[self.next_event].clone();
            self.next_event += 1;
            let partition = partition_of(event.key.as_deref(), self.scenario.partitions);
            let headers = event.headers.into_iter().map(|(name, value)| (name, Some(value))).collect();
            let timestamp_ms = (event.timestamp_ms != -1).then_some(event.timestamp_ms);
            let record = MemoryRecord { timestamp_ms, key: event.key, value: event.value, headers };
            let offset = self.kafka.append(Topic::Input, partition, record.clone());
            let MemoryRecord { timestamp_ms, key, value, headers } = record;
            let stored = StoredRecord { offset, timestamp_ms, key, value, headers };
            self.model.process_record(&topic_record(partition, &stored));
        }
    }

    fn write_markers(&mut self) {
        let partition = Partition(self.random.random_range(0..self.scenario.partitions.try_into().expect("a few")));
        self.note(format!("a producer of the input writes a marker to {partition}"));
        self.kafka.append_marker(Topic::Input, partition);
    }

    fn compact(&mut self) {
        let partition = Partition(self.random.random_range(0..self.scenario.partitions.try_into().expect("a few")));
        self.note(format!("the state of {partition} is compacted"));
        self.kafka.compact_state(partition, |_| false);
    }

    /// A pod that runs.
    pub(super) fn any_pod(&mut self) -> Option<usize> {
        let pod = self.random.random_range(0..self.pods.len());
        (!self.is_frozen(pod)).then_some(pod)
    }

    pub(super) fn is_frozen(&self, pod: usize) -> bool {
        self.time() < self.pods[pod].frozen_until
    }

    pub(super) fn poll(&mut self) {
        let Some(pod) = self.any_pod() else { return };
        for partition in self.pods[pod].memory.started() {
            let most = self.random.random_range(1..=self.scenario.batch_records);
            let records = self.pods[pod].memory.poll(partition, most);
            self.note(format!("pod {pod} reads {records} of {partition}"));
        }
    }

    pub(super) fn recover(&mut self) {
        let Some(pod) = self.any_pod() else { return };
        // What a recovery has read may be reported much later.
        if self.chance(0.8) {
            self.read_recovery(pod);
        }
        if self.chance(0.8) {
            let reported = self.pods[pod].memory.report_recovery();
            self.note(format!("pod {pod} reports a recovery: {reported}"));
        }
    }

    pub(super) fn run_recovery(&mut self, pod: usize) -> bool {
        self.read_recovery(pod);
        self.pods[pod].memory.report_recovery()
    }

    /// Processing starts after everything that the topics contain, and not before the committed position.
    fn read_recovery(&mut self, pod: usize) {
        let mut found = None;
        let ran = self.pods[pod].read_recovery(|partition, epoch, start| found = Some((partition, epoch, start)));
        self.note(format!("pod {pod} reads for a recovery: {ran}, {found:?}"));
        let Some((partition, epoch, start)) = found else { return };
        let Some(start) = start else { return self.end_dead_owner(pod, partition, epoch) };
        self.kafka.is_verified(partition);
        let newest = [Topic::State, Topic::Dlq].map(|topic| newest_source(&self.kafka.records(topic, partition)));
        let end = self.kafka.bounds(Topic::Input, partition).high;
        let committed = self.kafka.committed(partition).map_or(Position(0), |committed| committed.position.min(end));
        let expected = newest.into_iter().flatten().map(Offset::next).fold(committed, Position::max);
        if start != expected {
            self.violations.push(format!("{partition} starts at {start} instead of {expected}"));
        }
    }

    /// An open transaction holds back the recovery. If its owner is dead, it is ended, now or a little later.
    fn end_dead_owner(&mut self, pod: usize, partition: Partition, epoch: Epoch) {
        let committed = self.kafka.committed(partition).filter(|_| self.kafka.is_blocked(partition));
        let Some(owner) = committed.and_then(|of| instance_of(&of.metadata).map(str::to_owned)) else { return };
        let (now, look, pod) = (self.now(), self.kafka.look_at_group(), &mut self.pods[pod]);
        let newest = pod.memory.newest_epoch();
        if pod.dead_owners.is_look_due(&owner, epoch, now) && pod.dead_owners.looked(&owner, &look, newest) {
            self.note(format!("{owner} is dead"));
            self.registrations.push(owner);
        }
    }

    /// The transactions of dead owners end.
    pub(super) fn register_dead_owners(&mut self) {
        for owner in std::mem::take(&mut self.registrations) {
            self.note(format!("the transaction of {owner} is ended"));
            self.kafka.register(&owner);
        }
    }

    pub(super) async fn end_transaction(&mut self) {
        let Some(pod) = self.any_pod() else { return };
        for _ in 0..self.random.random_range(1..=self.scenario.transaction_steps) {
            if self.chance(self.scenario.interrupted) {
                self.interrupt(pod);
            }
            let fate = self.fate();
            let doing = self.pods[pod].memory.describe();
            let progress = self.pods[pod].memory.advance(fate);
            if progress == Progress::Idle {
                return;
            }
            self.note(format!("pod {pod}: {fate:?}, {progress:?}: {doing}"));
            if progress == Progress::Ended {
                settle().await;
            }
        }
    }

    /// Something else happens between two steps of the pod's transaction.
    fn interrupt(&mut self, pod: usize) {
        match self.random.random_range(0..3) {
            0 => self.deliver_late(),
            1 => self.learn_removal(pod),
            _ => {
                self.serve_group();
                self.assign_unowned();
            }
        }
    }

    fn fate(&mut self) -> Fate {
        let Fates { answered, answer_lost, request_lost, late, repeated, refused } = self.scenario.fates;
        match self.draw(&[answered, answer_lost, request_lost, late, repeated, refused]) {
            0 => Fate::Answered,
            1 => Fate::AnswerLost,
            2 => Fate::RequestLost,
            3 => Fate::Late,
            4 => Fate::Repeated,
            _ => Fate::Refused,
        }
    }

    fn deliver_late(&mut self) {
        let requests = self.kafka.late_requests();
        if requests > 0 {
            let index = if self.chance(0.5) { requests - 1 } else { self.random.random_range(0..requests) };
            let described = self.kafka.deliver_late(index);
            self.note(format!("late: {described}"));
        }
    }

    pub(super) fn crash(&mut self) {
        let index = self.random.random_range(0..self.pods.len());
        self.restart(index);
    }

    /// The pod is killed, and another one with its name starts.
    pub(super) fn restart(&mut self, index: usize) {
        self.note(format!("pod {index} dies"));
        if !self.scenario.is_damaged() {
            self.assert_positions_know_their_state();
        }
        let pod = &self.pods[index];
        if self.scenario.is_static {
            pod.memory.expel();
        }
        pod.memory.die();
        let name = pod.name.clone();
        self.pods[index] = self.start_pod(name);
    }

    pub(super) async fn pass_time(&mut self) {
        let longest = self.random.random_range(1..8);
        let passes = Duration::from_millis(self.random.random_range(1..=longest * 1_000));
        self.note(format!("{passes:?} pass"));
        tokio::time::sleep(passes).await;
    }

    /// An operator stops all pods, sets the committed positions, and starts the pods again.
    async fn set_positions(&mut self) {
        self.is_operated = true;
        (0..self.pods.len()).for_each(|pod| self.restart(pod));
        while self.kafka.late_requests() > 0 {
            self.deliver_late();
        }
        // Kafka's tool refuses a group that has members, and a transaction of a dead pod is over by then.
        tokio::time::sleep(self.scenario.session_timeout.max(self.scenario.transaction_timeout)).await;
        self.serve_group();
        for partition in self.partitions() {
            let end = self.kafka.bounds(Topic::Input, partition).high;
            let position = match self.random.random_range(0..4) {
                0 => None,
                _ => Some(Position(self.random.random_range(0..=end.0))),
            };
            self.note(format!("an operator sets {partition} to {position:?}"));
            self.kafka.set_committed(partition, position);
        }
    }

    // ---------------------------------------------------------------------------------------------------- results

    /// What each committed position says is what the topics have.
    pub(super) fn assert_positions_know_their_state(&mut self) {
        for partition in self.partitions().filter(|of| self.kafka.is_stable(Topic::State, *of)).collect::<Vec<_>>() {
            let Some(committed) = self.kafka.committed(partition) else { continue };
            let facts = PositionFacts::parse(&committed.metadata);
            let snapshots = self.kafka.records(Topic::State, partition);
            let snapshots = snapshots.iter().map(|record| {
                let offset = source_of(record, header::STATE_OFFSET).expect("it has one");
                NewestState { offset, is_tombstone: record.value.is_none() }
            });
            let newest = snapshots.max();
            // A repair takes a tombstone that was lost for one that compaction has removed.
            let named = facts.and_then(|facts| facts.newest_state).filter(|named| named.is_tombstone);
            let is_lost = self.scenario.is_damaged() && named.is_some_and(|named| Some(named) > newest);
            let newest_state = if is_lost { named } else { newest };
            let expected = PositionFacts { newest_state, topics: self.kafka.topic_ids() };
            if facts != Some(expected) {
                self.violations.push(format!("{partition}: {} instead of {expected:?}", committed.metadata));
            }
        }
    }

    pub(super) fn result(mut self) -> Run {
        self.assert_positions_know_their_state();
        let mut seen = SeenRecords::default();
        let (mut committed, mut ends) = (BTreeMap::new(), BTreeMap::new());
        for partition in self.partitions() {
            let all = |topic| self.kafka.records(topic, partition);
            seen.state.extend(all(Topic::State).iter().map(|record| topic_record(partition, record)));
            seen.dlq_records.extend(all(Topic::Dlq).iter().map(|record| topic_record(partition, record)));
            ends.insert(partition.0, self.kafka.bounds(Topic::Input, partition).high.0);
            if let Some(found) = self.kafka.committed(partition) {
                committed.insert(partition.0, found.position.0);
            }
        }
        (seen.committed, seen.ends) = (committed, ends);
        self.collect_stops();
        let World { model, steps, stops, violations, scenario, .. } = self;
        Run { model, seen, steps, stops, violations, scenario, log: Vec::new() }
    }
}

/// Lets every actor process its mailbox. Paused time moves only when no task has anything left to do.
pub(super) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn newest_source(records: &[StoredRecord]) -> Option<Offset> {
    records.iter().filter_map(|record| source_of(record, header::SOURCE_OFFSET)).max()
}

fn source_of(record: &StoredRecord, name: &str) -> Option<Offset> {
    let (_, value) = record.headers.iter().rev().find(|(found, _)| found == name)?;
    std::str::from_utf8(value.as_deref()?).ok()?.parse().ok().map(Offset)
}

pub(super) fn partition_of(key: Option<&[u8]>, partitions: usize) -> Partition {
    let sum: usize = key.unwrap_or_default().iter().map(|byte| usize::from(*byte)).sum();
    Partition(i32::try_from(sum % partitions).expect("a few partitions"))
}

pub(super) fn topic_record(partition: Partition, record: &StoredRecord) -> TopicRecord {
    TopicRecord {
        partition: partition.0,
        offset: record.offset.0,
        timestamp_ms: record.timestamp_ms,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
    }
}
