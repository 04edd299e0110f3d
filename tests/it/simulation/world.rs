//! The pods, the fake cluster and the reference model of a simulated run.

use super::*;

pub(super) struct Pod {
    pub(super) memory: MemoryPod,
    pub(super) ingest: Addr<IngestActor<Counted>>,
    pub(super) entity: Arc<Counted>,
    pub(super) state_memory: Arc<Budget>,
    pub(super) size_limits: SizeLimits,
    pub(super) owned: Vec<Partition>,
    /// The transactional id, which a new pod of the same name takes over.
    pub(super) name: String,
}

impl Pod {
    /// Starts the real actors over the fake. Without entity threads, entities run on the current thread.
    pub(super) fn start(
        kafka: &MemoryKafka,
        name: String,
        size_limits: SizeLimits,
        clock: Arc<dyn Clock>,
        stops: Arc<Mutex<Vec<StopCause>>>,
        entity_threads: Vec<ArbiterHandle>,
    ) -> Pod {
        let entity = Arc::new(Counted::default());
        let limits = MemoryLimits { in_flight_bytes: 1 << 20, state_bytes: 1 << 20 };
        let stop = Arc::new(move |cause| stops.lock().expect("no thread panics while it holds this").push(cause));
        let shared = Shared::new(clock, limits, KeyPolicy::Plain, stop);
        let ownership = Arc::new(Ownership::new());
        let memory = MemoryPod::new(kafka, &name, Arc::clone(&ownership));
        let ports = Ports {
            consumer: Box::new(memory.clone()),
            recoveries: Box::new(memory.clone()),
            transactions: Box::new(memory.clone()),
            ownership,
        };
        let settings = RuntimeSettings {
            size_limits,
            max_transaction_bytes: 20_000,
            max_dlq_record_bytes: u64::MAX,
            transaction_timeout: TRANSACTION_TIMEOUT,
            min_commit_interval: Duration::ZERO,
            linger_per_partition: Duration::from_millis(3),
            offset_metadata: memory.offset_metadata(),
            entity_idle: Duration::from_secs(5),
            max_active_entities: 1_000,
            stop_on_expired: false,
            entity_threads,
        };
        let Actors { ingest, sink, .. } = assemble(ports, Arc::clone(&entity), settings, &shared);
        memory.listen(Box::new(sink));
        Pod { memory, ingest, entity, state_memory: shared.state_memory, size_limits, owned: Vec::new(), name }
    }

    pub(super) fn run_recovery(&self) -> bool {
        let settings = RecoverySettings {
            topic: TOPIC.into(),
            state_topic: "services.state".into(),
            group: GROUP.into(),
            topic_ids: self.memory.topic_ids(),
            tombstones_outlive_events: true,
            look_back_records: 15,
            verify_max_records: 1_000_000,
            adopt_group: false,
            stop_on_expired: false,
            size_limits: self.size_limits,
        };
        self.memory.run_recovery(&self.entity, &settings, &self.state_memory)
    }
}

pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) random: ChaCha8Rng,
    pub(super) clock: Arc<PausedClock>,
    pub(super) kafka: MemoryKafka,
    pub(super) events: Vec<GeneratedEvent>,
    pub(super) next_event: usize,
    pub(super) model: Model,
    pub(super) pods: Vec<Pod>,
    pub(super) stops: Arc<Mutex<Vec<StopCause>>>,
    pub(super) steps: Vec<String>,
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
        let kafka = MemoryKafka::new(scenario.partitions, TOPIC, GROUP);
        let stops = Arc::new(Mutex::new(Vec::new()));
        let mut world = World {
            random: ChaCha8Rng::seed_from_u64(seed),
            clock,
            kafka,
            events: workload.generate().expect("the workload makes sense").collect(),
            next_event: 0,
            model: Model::keeping_history(MAX_PAYLOAD_BYTES).with_snapshot_limit(scenario.max_snapshot_bytes),
            pods: Vec::new(),
            stops,
            steps: Vec::new(),
            scenario,
        };
        for index in 0..world.scenario.pods {
            let pod = world.start_pod(format!("pod-{index}"));
            world.pods.push(pod);
        }
        world
    }

    pub(super) fn start_pod(&self, name: String) -> Pod {
        let (clock, stops) = (Arc::clone(&self.clock) as Arc<dyn Clock>, Arc::clone(&self.stops));
        Pod::start(&self.kafka, name, self.scenario.size_limits(), clock, stops, Vec::new())
    }

    // ------------------------------------------------------------------------------------------------------ steps

    pub(super) async fn storm(&mut self) {
        while self.next_event < self.events.len() {
            self.step().await;
        }
        for _ in 0..40 {
            self.step().await;
        }
    }

    /// What each committed position says is what the topics have.
    pub(super) fn assert_positions_know_their_state(&self) {
        for index in 0..self.scenario.partitions {
            let partition = Partition(i32::try_from(index).expect("a few partitions"));
            let Some(committed) = self.kafka.committed(partition) else { continue };
            let facts = PositionFacts::parse(&committed.metadata).expect("steward has committed it");
            let snapshots = self.kafka.records(Topic::State, partition).into_iter().map(|record| {
                let value = |name: &str| record.headers.iter().rev().find(|(found, _)| found == name)?.1.clone();
                let offset = String::from_utf8(value(header::STATE_OFFSET).expect("it has one")).expect("digits");
                let offset = Offset(offset.parse().expect("a number"));
                NewestState { offset, is_tombstone: record.value.is_none() }
            });
            let expected = PositionFacts { newest_state: snapshots.max(), topics: self.kafka.topic_ids() };
            assert_eq!(facts, expected, "partition {partition}: {}", committed.metadata);
        }
    }

    pub(super) async fn step(&mut self) {
        let Scenario { crashes, hand_overs, losses, .. } = self.scenario;
        let choices = [30, 30, 20, 30, crashes, hand_overs, losses, 4];
        match self.draw(&choices) {
            0 => self.produce(),
            1 => self.poll(),
            2 => self.recover(),
            3 => self.end_transaction(),
            4 => self.crash(),
            5 => self.hand_over().await,
            6 => self.lose().await,
            _ => self.pass_time().await,
        }
        self.assign_unowned();
        settle().await;
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

    pub(super) fn note(&mut self, step: impl Into<String>) {
        self.steps.push(step.into());
    }

    pub(super) fn produce(&mut self) {
        let many = self.random.random_range(1..20);
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
            self.model.process_record(&topic_record(
                partition,
                &StoredRecord {
                    offset,
                    timestamp_ms: record.timestamp_ms,
                    key: record.key,
                    value: record.value,
                    headers: record.headers,
                },
            ));
        }
    }

    pub(super) fn any_pod(&mut self) -> usize {
        self.random.random_range(0..self.pods.len())
    }

    pub(super) fn poll(&mut self) {
        let pod = self.any_pod();
        for partition in self.pods[pod].memory.started() {
            let most = self.random.random_range(1..30);
            let records = self.pods[pod].memory.poll(partition, most);
            self.note(format!("pod {pod} reads {records} of {partition}"));
        }
    }

    pub(super) fn recover(&mut self) {
        let pod = self.any_pod();
        let ran = self.run_recovery(pod);
        self.note(format!("pod {pod} recovers: {ran}"));
    }

    pub(super) fn run_recovery(&self, pod: usize) -> bool {
        self.pods[pod].run_recovery()
    }

    pub(super) fn end_transaction(&mut self) {
        let pod = self.any_pod();
        let doubts = self.scenario.doubts;
        let outcome = match self.draw(&[60, doubts, doubts, doubts, doubts]) {
            0 => InjectedOutcome::Commits,
            1 => InjectedOutcome::Aborts,
            2 => InjectedOutcome::CommitsUnanswered,
            3 => InjectedOutcome::TimesOut,
            _ => InjectedOutcome::AbortsUnanswered,
        };
        let ended = self.pods[pod].memory.end_pending(outcome);
        self.note(format!("pod {pod} ends its transaction {outcome:?}: {ended}"));
    }

    pub(super) fn crash(&mut self) {
        let index = self.any_pod();
        self.note(format!("pod {index} dies"));
        self.assert_positions_know_their_state();
        let owned = std::mem::take(&mut self.pods[index].owned);
        self.pods[index].memory.expel(&owned);
        self.pods[index].memory.die();
        let name = self.pods[index].name.clone();
        self.pods[index] = self.start_pod(name);
    }

    pub(super) async fn hand_over(&mut self) {
        let Some((pod, partition)) = self.any_owned() else { return };
        self.note(format!("pod {pod} hands over {partition}"));
        let memory = self.pods[pod].memory.clone();
        let drained = Arc::new(Mutex::new(false));
        let is_called = Arc::clone(&drained);
        let call = Drained::new(move || *is_called.lock().expect("no thread panics while it holds this") = true);
        memory.revoke(&[partition], self.now() + Duration::from_millis(400), call);
        settle().await;
        // The in-flight transaction may end, or not, before the partition is given up.
        for _ in 0..self.random.random_range(0..3) {
            let is_drained = *drained.lock().expect("no thread panics while it holds this");
            if !is_drained {
                memory.end_pending(InjectedOutcome::Commits);
                settle().await;
            }
        }
        memory.give_up(&[partition]);
        self.pods[pod].owned.retain(|owned| *owned != partition);
    }

    pub(super) async fn lose(&mut self) {
        let Some((pod, partition)) = self.any_owned() else { return };
        self.note(format!("pod {pod} loses {partition}"));
        let memory = self.pods[pod].memory.clone();
        memory.expel(&[partition]);
        settle().await;
        // The pod has no notice of the loss yet, and goes on.
        for _ in 0..self.random.random_range(0..3) {
            memory.poll(partition, 5);
            memory.end_pending(InjectedOutcome::Commits);
            settle().await;
        }
        memory.lose(&[partition]);
        self.pods[pod].owned.retain(|owned| *owned != partition);
    }

    pub(super) async fn pass_time(&mut self) {
        let seconds = self.random.random_range(1..8);
        self.note(format!("{seconds} s pass"));
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    pub(super) fn any_owned(&mut self) -> Option<(usize, Partition)> {
        let owned: Vec<(usize, Partition)> = self
            .pods
            .iter()
            .enumerate()
            .flat_map(|(pod, of)| of.owned.iter().map(move |partition| (pod, *partition)))
            .collect();
        if owned.is_empty() {
            return None;
        }
        Some(owned[self.random.random_range(0..owned.len())])
    }

    /// The group assigns each partition without an owner to a pod.
    pub(super) fn assign_unowned(&mut self) {
        for index in 0..self.scenario.partitions {
            let partition = Partition(i32::try_from(index).expect("a few partitions"));
            if self.pods.iter().all(|pod| !pod.owned.contains(&partition)) {
                let pod = self.any_pod();
                self.note(format!("pod {pod} gets {partition}"));
                self.pods[pod].owned.push(partition);
                self.pods[pod].memory.assign(&[partition]);
            }
        }
    }

    /// Runs without faults until everything is committed.
    pub(super) async fn calm(&mut self) {
        for _ in 0..2_000 {
            self.assign_unowned();
            let mut is_busy = false;
            for pod in 0..self.pods.len() {
                is_busy |= self.run_recovery(pod);
                settle().await;
                is_busy |= self.pods[pod].memory.end_pending(InjectedOutcome::Commits);
                for partition in self.pods[pod].memory.started() {
                    is_busy |= self.pods[pod].memory.poll(partition, 50) > 0;
                }
                settle().await;
            }
            if !is_busy && self.is_committed() {
                return;
            }
            if !is_busy {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        panic!(
            "the run does not settle:\n{}",
            self.steps.iter().rev().take(40).cloned().collect::<Vec<_>>().join("\n")
        );
    }

    pub(super) fn is_committed(&self) -> bool {
        (0..self.scenario.partitions).all(|index| {
            let partition = Partition(i32::try_from(index).expect("a few partitions"));
            let end = self.kafka.bounds(Topic::Input, partition).high;
            end.0 == 0 || self.kafka.committed(partition).is_some_and(|committed| committed.position >= end)
        })
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(super) fn result(self) -> Run {
        self.assert_positions_know_their_state();
        let mut seen = SeenRecords::default();
        let (mut committed, mut ends) = (BTreeMap::new(), BTreeMap::new());
        for index in 0..self.scenario.partitions {
            let partition = Partition(i32::try_from(index).expect("a few partitions"));
            let all = |topic| self.kafka.records(topic, partition);
            seen.state.extend(all(Topic::State).iter().map(|record| topic_record(partition, record)));
            seen.dlq_records.extend(all(Topic::Dlq).iter().map(|record| topic_record(partition, record)));
            ends.insert(partition.0, self.kafka.bounds(Topic::Input, partition).high.0);
            if let Some(found) = self.kafka.committed(partition) {
                committed.insert(partition.0, found.position.0);
            }
        }
        (seen.committed, seen.ends) = (committed, ends);
        let stops = self.stops.lock().expect("no thread panics while it holds this").clone();
        Run { model: self.model, seen, steps: self.steps, stops, log: Vec::new() }
    }
}

/// Lets every actor process its mailbox. Paused time moves only when no task has anything left to do.
pub(super) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
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
