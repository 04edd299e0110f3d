//! Inspects the three topics at the start: waits for the input, creates missing outputs, and runs the preflight checks.
//!
//! The input is never created. A consumer fetches the metadata, with `allow.auto.create.topics=false`: a producer's
//! request would create the topic on brokers that allow it.
//!
//! Architecture invariant: every wait has a limit, and every failure has a remedy.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::config::{Config, KafkaConfig};
use crate::engine::topic_watch::{TopicIdentities, TopicIds};
use crate::kafka::admin::new_topic::{NewTopicSettings, create_command, dlq_settings, state_settings};
use crate::kafka::admin::preflight::{
    StartRefusal, StartWarning, {self},
};
use crate::kafka::admin::topic_facts::{CleanupPolicy, Demands, TopicFacts, TopicSettings, tombstones_outlive_events};
use crate::kafka::admin::topic_look::{
    LookFailure, {self},
};
use crate::kafka::client::errors::{ErrorClass, Resource, class_of};
use crate::kafka::client::ffi::{add_brokers, serve_token};
use crate::kafka::client::settings::admin;
use crate::kafka::client::unsubscribed::{build, serve};
use crate::ports::Clock;

const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// The wait between two requests for a missing topic.
const RETRY_WAIT: Duration = Duration::from_millis(250);

/// Limit of the wait for a created topic to appear in the metadata.
const APPEAR_LIMIT: Duration = Duration::from_secs(20);

/// How long an existing topic may be described without any setting, before that counts as a missing permission.
const EMPTY_ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Minimum wait for an unreachable broker. The wait for the input topic may be longer.
const MIN_UNREACHABLE_WAIT: Duration = Duration::from_secs(5);

/// Three topics that fit together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topics {
    /// Of the input and of the state topic.
    pub partitions: i32,
    /// Replicas of the input.
    pub replication: i32,
    pub created: Vec<CreatedTopic>,
    pub warnings: Vec<StartWarning>,
    /// The smaller `max.message.bytes` of the two output topics, if it may be read. A batch above it is refused as a
    /// whole, so the producer's `batch.size` must not exceed it.
    pub max_batch_bytes: Option<u64>,
    /// `max.message.bytes` of the state topic, if it may be read.
    pub max_state_record_bytes: Option<u64>,
    /// `min.insync.replicas` of the state and of the DLQ topic, if it may be read.
    pub min_in_sync: [Option<i64>; 2],
    /// `None` if the topics are not to be watched while the process runs.
    pub identities: Option<TopicIdentities>,
    /// Whether a tombstone stays at least until retention has deleted the events that it covers; `false` if the settings
    /// may not be read.
    pub tombstones_outlive_events: bool,
}

impl Topics {
    /// Unknown ids if the topics are not watched.
    pub fn ids(&self) -> TopicIds {
        self.identities.as_ref().map_or_else(TopicIds::default, TopicIdentities::ids)
    }
}

/// A topic that did not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    pub name: String,
    /// What the broker refused to set.
    pub left_out: Option<LeftOutSettings>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOutSettings {
    /// The names, separated by commas.
    pub names: String,
    /// The broker's answer.
    pub cause: String,
}

/// The input topic does not exist yet, or no broker answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingForTopic {
    pub topic: String,
    pub waited: Duration,
    pub limit: Duration,
    /// The last error; `None` if the brokers answer and do not know the topic.
    pub cause: Option<String>,
}

pub struct TopicInspector<'a, C: ConsumerContext + Clone + 'static> {
    kafka: &'a KafkaConfig,
    demands: Demands,
    clock: &'a dyn Clock,
    metadata: BaseConsumer<C>,
    admin: AdminClient<C>,
    /// Blocks on the admin client's futures, which end by their own limit.
    runtime: tokio::runtime::Runtime,
}

impl<'a, C: ConsumerContext + Clone + 'static> TopicInspector<'a, C> {
    /// Connects to nothing. The client library may refuse the configuration.
    pub fn new(config: &'a Config, context: &C, clock: &'a dyn Clock) -> Result<TopicInspector<'a, C>, StartRefusal> {
        let refused = |error: String| StartRefusal::Broker { what: "building a client".to_owned(), cause: error };
        let settings = admin(config);
        let metadata = build(&settings, context.clone()).map_err(|error| refused(error.to_string()))?;
        let admin: AdminClient<C> =
            settings.create_with_context(context.clone()).map_err(|error| refused(error.to_string()))?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().build().map_err(|error| refused(error.to_string()))?;
        let (kafka, demands) = (&config.kafka, Demands::of(config));
        Ok(TopicInspector { kafka, demands, clock, metadata, admin, runtime })
    }

    /// Waits for the input, creates missing outputs, and checks all three. Blocks; must not be called on an async
    /// runtime's thread. `waiting` is called about four times a second while the input topic is missing, and ends the
    /// wait with `Break`.
    pub fn inspect(
        &self,
        waiting: &mut dyn FnMut(&WaitingForTopic) -> ControlFlow<()>,
    ) -> Result<Topics, StartRefusal> {
        let started = self.clock.now();
        let mut created = Vec::new();
        // Brokers that answered once may be gone at the next request. It has the patience of the first.
        loop {
            let input = self.wait_for_input(started, waiting)?;
            match self.check(&input, &mut created) {
                Err(refusal @ StartRefusal::BrokersUnreachable { .. }) => {
                    self.wait_again(started, Some(refusal), waiting)?;
                }
                outcome => return outcome,
            }
        }
    }

    fn check(&self, input: &TopicFacts, created: &mut Vec<CreatedTopic>) -> Result<Topics, StartRefusal> {
        preflight::check_input(&self.kafka.bootstrap_servers, input)?;
        let state = self.find_or_create(&self.kafka.state_topic, input, &state_settings(input, &self.demands), created);
        let dlq = self.find_or_create(&self.kafka.dlq_topic, input, &dlq_settings(input), created);
        let (state, dlq) = match (state, dlq) {
            (Ok(state), Ok(dlq)) => (state, dlq),
            (Err(refusal), Ok(_))
            | (Ok(_), Err(refusal))
            | (Err(refusal @ StartRefusal::BrokersUnreachable { .. }), Err(_))
            | (Err(_), Err(refusal @ StartRefusal::BrokersUnreachable { .. })) => return Err(refusal),
            (Err(of_state), Err(of_dlq)) => return Err(of_state.and_missing(of_dlq)),
        };
        let warnings = preflight::check(&self.kafka.bootstrap_servers, input, &state, &dlq, &self.demands)?;
        let limits =
            [&state, &dlq].map(|topic| topic.settings.as_ref().and_then(|settings| settings.max_message_bytes));
        let [state_limit, dlq_limit] = limits;
        let max_batch_bytes = state_limit.zip(dlq_limit).and_then(|(state, dlq)| u64::try_from(state.min(dlq)).ok());
        let min_in_sync = [&state, &dlq].map(|topic| topic.settings.as_ref()?.min_in_sync);
        let identities = self.identities()?;
        let created = std::mem::take(created);
        Ok(Topics {
            partitions: input.partitions,
            replication: input.replication,
            created,
            warnings,
            max_batch_bytes,
            max_state_record_bytes: state_limit.and_then(|limit| u64::try_from(limit).ok()),
            min_in_sync,
            identities: Some(identities),
            tombstones_outlive_events: tombstones_outlive_events(input, &state),
        })
    }

    /// Returns the ids of the three topics. A broker may not know a new one yet.
    fn identities(&self) -> Result<TopicIdentities, StartRefusal> {
        let names = [&self.kafka.topic, &self.kafka.state_topic, &self.kafka.dlq_topic].map(String::as_str);
        let deadline = self.clock.now() + APPEAR_LIMIT;
        loop {
            serve(&self.metadata);
            match topic_look::identities(self.metadata.client(), names, REQUEST_LIMIT) {
                Ok(identities) => return Ok(identities),
                Err(LookFailure::NoResponse(error)) => return Err(self.unreachable(&error)),
                Err(LookFailure::Refused { topic, code }) => {
                    if !is_missing(class_of(code)) || self.clock.now() >= deadline {
                        let what = format!("asking for the id of topic {topic}");
                        return Err(StartRefusal::Broker { what, cause: code.to_string() });
                    }
                }
            }
            std::thread::sleep(RETRY_WAIT);
        }
    }

    fn wait_for_input(
        &self,
        started: Instant,
        waiting: &mut dyn FnMut(&WaitingForTopic) -> ControlFlow<()>,
    ) -> Result<TopicFacts, StartRefusal> {
        loop {
            let cause = match self.facts(&self.kafka.topic) {
                Ok(Some(facts)) => return Ok(facts),
                Ok(None) => None,
                Err(refusal @ StartRefusal::BrokersUnreachable { .. }) => Some(refusal),
                Err(refusal) => return Err(refusal),
            };
            self.wait_again(started, cause, waiting)?;
        }
    }

    /// Pauses before the next request, while there is time left. Without a cause the input topic is missing.
    fn wait_again(
        &self,
        started: Instant,
        cause: Option<StartRefusal>,
        waiting: &mut dyn FnMut(&WaitingForTopic) -> ControlFlow<()>,
    ) -> Result<(), StartRefusal> {
        let topic = &self.kafka.topic;
        let limit = Duration::from_millis(self.kafka.topic_wait_ms);
        let waited = self.clock.now().saturating_duration_since(started);
        let patience = if cause.is_some() { limit.max(MIN_UNREACHABLE_WAIT) } else { limit };
        if waited >= patience {
            let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
            return Err(cause.unwrap_or(StartRefusal::InputMissing { topic: topic.clone(), waited_ms }));
        }
        let cause = cause.map(|refusal| refusal.to_string());
        if waiting(&WaitingForTopic { topic: topic.clone(), waited, limit, cause }).is_break() {
            return Err(StartRefusal::Interrupted { topic: topic.clone() });
        }
        std::thread::sleep(RETRY_WAIT.min(patience.saturating_sub(waited)));
        Ok(())
    }

    /// Finds a topic, or creates it with the partitions and replicas of `like`. Returns `like` first.
    ///
    /// # Errors
    /// `like` does not exist, the other topic cannot be created, or a request to the brokers fails.
    pub fn find_or_create_beside(
        &self,
        like: &str,
        topic: &str,
        settings: impl Fn(&TopicFacts) -> NewTopicSettings,
    ) -> Result<[TopicFacts; 2], StartRefusal> {
        let missing =
            || StartRefusal::Broker { what: format!("asking for topic {like}"), cause: "it does not exist".to_owned() };
        let like = self.facts(like)?.ok_or_else(missing)?;
        let found = self.find_or_create(topic, &like, &settings(&like), &mut Vec::new())?;
        Ok([like, found])
    }

    fn find_or_create(
        &self,
        topic: &str,
        input: &TopicFacts,
        settings: &NewTopicSettings,
        created: &mut Vec<CreatedTopic>,
    ) -> Result<TopicFacts, StartRefusal> {
        if let Some(facts) = self.facts(topic)? {
            return Ok(facts);
        }
        let missing_with = |cause: String, settings: &NewTopicSettings| StartRefusal::OutputMissing {
            topic: topic.to_owned(),
            cause,
            command: create_command(&self.kafka.bootstrap_servers, topic, input, settings),
            also: None,
        };
        let missing = |cause: String| missing_with(cause, settings);
        if !self.kafka.create_topics {
            return Err(missing("kafka.create_topics is off".to_owned()));
        }
        // Without the input's limits the new topic might not fit.
        preflight::check_readable(&self.kafka.bootstrap_servers, input, self.demands.unchecked)?;
        let mut answer = self.create(topic, input, settings)?;
        let mut left_out = None;
        if let Some(code) = answer
            && class_of(code) == ErrorClass::PolicyViolated
            && !settings.optional.is_empty()
        {
            let required = settings.required_only();
            answer = self.create(topic, input, &required)?;
            if let Some(code) = answer.filter(|code| class_of(*code) == ErrorClass::PolicyViolated) {
                return Err(missing_with(format!("creating it failed: {code}"), &required));
            }
            left_out = Some(LeftOutSettings { names: settings.optional_names(), cause: code.to_string() });
        }
        match answer {
            None => created.push(CreatedTopic { name: topic.to_owned(), left_out }),
            // Another instance created it.
            Some(code) if class_of(code) == ErrorClass::TopicExists => {}
            Some(code) => return Err(missing(format!("creating it failed: {code}"))),
        }
        self.wait_until_created(topic)
            .and_then(|facts| facts.ok_or_else(|| missing("it was created, and does not appear".to_owned())))
    }

    /// Returns the broker's refusal; `None` if it has created the topic.
    fn create(
        &self,
        topic: &str,
        like: &TopicFacts,
        settings: &NewTopicSettings,
    ) -> Result<Option<RDKafkaErrorCode>, StartRefusal> {
        let mut wanted = NewTopic::new(topic, like.partitions, TopicReplication::Fixed(like.replication));
        for (name, value) in settings.all() {
            wanted = wanted.set(name, value);
        }
        let options = AdminOptions::new().request_timeout(Some(REQUEST_LIMIT)).operation_timeout(Some(REQUEST_LIMIT));
        self.serve_admin();
        match self.runtime.block_on(self.admin.create_topics([&wanted], &options)) {
            Ok(mut results) => Ok(results.pop().and_then(Result::err).map(|(_, code)| code)),
            Err(error) if is_unreachable(&error) => Err(self.unreachable(&error)),
            Err(error) => {
                let command = create_command(&self.kafka.bootstrap_servers, topic, like, settings);
                let (topic, cause) = (topic.to_owned(), error.to_string());
                Err(StartRefusal::OutputMissing { topic, cause, command, also: None })
            }
        }
    }

    fn wait_until_created(&self, topic: &str) -> Result<Option<TopicFacts>, StartRefusal> {
        let deadline = self.clock.now() + APPEAR_LIMIT;
        loop {
            let facts = self.facts(topic)?;
            if facts.is_some() || self.clock.now() >= deadline {
                return Ok(facts);
            }
            std::thread::sleep(RETRY_WAIT);
        }
    }

    /// Returns `None` if the topic does not exist.
    fn facts(&self, topic: &str) -> Result<Option<TopicFacts>, StartRefusal> {
        let what = || format!("asking for topic {topic}");
        serve(&self.metadata);
        let metadata = match self.metadata.fetch_metadata(Some(topic), REQUEST_LIMIT) {
            Ok(metadata) => metadata,
            Err(error) if is_missing(ErrorClass::of(&error)) => return Ok(None),
            Err(error) if is_unreachable(&error) => return Err(self.unreachable(&error)),
            Err(error) => return Err(StartRefusal::Broker { what: what(), cause: error.to_string() }),
        };
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
        if let Some(code) = found.error().map(RDKafkaErrorCode::from) {
            if is_missing(class_of(code)) {
                return Ok(None);
            }
            return Err(StartRefusal::Broker { what: what(), cause: code.to_string() });
        }
        let Some(first) = found.partitions().first() else { return Ok(None) };
        Ok(Some(TopicFacts {
            name: topic.to_owned(),
            partitions: i32::try_from(found.partitions().len()).unwrap_or(i32::MAX),
            replication: i32::try_from(first.replicas().len()).unwrap_or(1),
            settings: self.settings(topic)?,
        }))
    }

    /// Returns `None` if a permission to read them is missing.
    fn settings(&self, topic: &str) -> Result<Option<TopicSettings>, StartRefusal> {
        let failed =
            |cause: String| StartRefusal::Broker { what: format!("reading the configuration of topic {topic}"), cause };
        let options = AdminOptions::new().request_timeout(Some(REQUEST_LIMIT));
        let resources = [ResourceSpecifier::Topic(topic)];
        self.serve_admin();
        let (deadline, empty_until) = (self.clock.now() + APPEAR_LIMIT, self.clock.now() + EMPTY_ANSWER_LIMIT);
        loop {
            let response = self.runtime.block_on(self.admin.describe_configs(&resources, &options));
            let code = match response.map(|mut found| found.pop()) {
                // The wrapper drops the error of a single topic: a missing permission, or a topic that the broker does
                // not know yet.
                Ok(Some(Ok(resource))) if resource.entries.is_empty() => {
                    if self.clock.now() >= empty_until {
                        return Ok(None);
                    }
                    std::thread::sleep(RETRY_WAIT);
                    continue;
                }
                Ok(Some(Ok(resource))) => return read_settings(&resource).map(Some).map_err(failed),
                Ok(Some(Err(code))) => code,
                Err(KafkaError::AdminOp(code)) if !class_of(code).is_unreachable() => code,
                Ok(None) => return Err(failed("the broker left it out".to_owned())),
                Err(error) if is_unreachable(&error) => return Err(self.unreachable(&error)),
                Err(error) => return Err(failed(error.to_string())),
            };
            if matches!(class_of(code), ErrorClass::Forbidden(Resource::Topic | Resource::Cluster)) {
                return Ok(None);
            }
            // A broker may not know a new topic yet.
            if class_of(code) != ErrorClass::UnknownTopic || self.clock.now() >= deadline {
                return Err(failed(code.to_string()));
            }
            std::thread::sleep(RETRY_WAIT);
        }
    }

    /// Also prepares the next request: the clients may have forgotten all brokers (librdkafka#5301).
    fn unreachable(&self, error: &KafkaError) -> StartRefusal {
        // The reason is in the client's queue; with the library's `debug`, after thousands of log lines.
        serve(&self.metadata);
        for client in [self.metadata.client(), self.admin.inner()] {
            add_brokers(client, &self.kafka.bootstrap_servers);
        }
        StartRefusal::BrokersUnreachable { bootstrap: self.kafka.bootstrap_servers.clone(), cause: error.to_string() }
    }

    /// The admin client polls only for its own responses, so its token is set here.
    fn serve_admin(&self) {
        serve_token(self.admin.inner());
    }
}

/// Returns whether the topic does not exist, or not yet.
fn is_missing(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::UnknownTopic | ErrorClass::NoLeader)
}

fn is_unreachable(error: &KafkaError) -> bool {
    ErrorClass::of(error).is_unreachable()
}

/// A setting that the broker leaves out is `None`.
fn read_settings(resource: &ConfigResource) -> Result<TopicSettings, String> {
    let entries = resource.entry_map();
    let text = |name: &str| entries.get(name).and_then(|entry| entry.value.as_deref());
    let number = |name: &str| {
        let parse = |value: &str| value.parse::<i64>().map_err(|_| format!("{name} is {value}, which is no number"));
        text(name).map(parse).transpose()
    };
    // What a topic has set itself says nothing about a new topic.
    let is_default = |name: &str| entries.get(name).is_some_and(|entry| entry.source != ConfigSource::DynamicTopic);
    let cleanup = text("cleanup.policy").map(|policies| {
        let contains = |policy: &str| policies.split(',').any(|of| of.trim() == policy);
        CleanupPolicy { compacts: contains("compact"), deletes: contains("delete") }
    });
    Ok(TopicSettings {
        cleanup,
        retention_ms: number("retention.ms")?,
        segment_ms: number("segment.ms")?,
        segment_bytes: number("segment.bytes")?,
        delete_retention_ms: number("delete.retention.ms")?,
        max_message_bytes: number("max.message.bytes")?,
        min_in_sync: number("min.insync.replicas")?,
        broker_min_in_sync: number("min.insync.replicas")?.filter(|_| is_default("min.insync.replicas")),
        broker_allows_unclean_election: text("unclean.leader.election.enable")
            .filter(|_| is_default("unclean.leader.election.enable"))
            .map(|value| value == "true"),
    })
}
