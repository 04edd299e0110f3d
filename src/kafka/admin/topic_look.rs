//! Looks at the three topics: their ids and partition counts, in one request. `engine::topic_watch` compares them. Also
//! looks at the members of the group.

use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

use crate::config::Config;
use crate::engine::foreign_members::GroupLook;
use crate::engine::topic_watch::{Sighting, Sightings, TopicIdentities, TopicIdentity};
use crate::kafka::client::describe_group::look_at_group;
use crate::kafka::client::describe_topics::{FoundTopic, TopicDescription, describe_topics};
use crate::kafka::client::errors::{ErrorClass, class_of};
use crate::kafka::client::settings::admin;
use crate::kafka::client::unsubscribed::RequestClient;
use crate::record::Topic;

/// Limit of one request about topics.
const LOOK_LIMIT: Duration = Duration::from_secs(1);

/// A client of its own that looks at the topics while the process runs.
pub struct TopicObserver<C: ConsumerContext + 'static> {
    client: RequestClient<C>,
    group: String,
}

impl<C: ConsumerContext + Clone + 'static> TopicObserver<C> {
    /// # Errors
    /// The client library refuses the configuration.
    pub fn new(config: &Config, context: C) -> Result<TopicObserver<C>, KafkaError> {
        let mut client = RequestClient::new(admin(config), context);
        client.prepare()?;
        Ok(TopicObserver { client, group: config.kafka.group_id.clone() })
    }

    /// Returns what a broker says about each topic. Without a response nothing is known.
    pub fn look(&mut self, topics: &TopicIdentities) -> Sightings {
        let names = Topic::ALL.map(|role| topics.of(role).name.as_str());
        let described = self.client.request(|client| describe(client, &names)).unwrap_or_default();
        names.map(|topic| sighting(&described, topic))
    }

    /// Returns the members of the group with their partitions of the input.
    pub fn members(&mut self, topics: &TopicIdentities) -> GroupLook {
        look_at_group(&mut self.client, &self.group, &topics.input.name)
    }

    /// Serves the client's callbacks between two looks.
    pub fn serve(&self) {
        self.client.serve();
    }
}

fn describe<C: ConsumerContext>(client: &BaseConsumer<C>, names: &[&str]) -> KafkaResult<Vec<TopicDescription>> {
    let describe = || describe_topics(client.client(), names, LOOK_LIMIT);
    describe().or_else(|error| {
        // The client asks the broker that it knows as the controller. The response to a request for metadata, which any
        // broker answers, names another one.
        client.fetch_metadata(Some(names[0]), LOOK_LIMIT).map_err(|_| error)?;
        describe()
    })
}

fn sighting(described: &[TopicDescription], topic: &str) -> Sighting {
    match described.iter().find(|description| description.name == topic).map(|description| &description.found) {
        Some(Ok(FoundTopic { id, partitions })) => Sighting::Exists { id: *id, partitions: *partitions },
        Some(Err(code)) if class_of(*code) == ErrorClass::UnknownTopic => Sighting::Missing,
        Some(Err(_)) | None => Sighting::Unknown,
    }
}

/// Describes the three topics at the start; the error of one that cannot be described names it.
///
/// # Errors
/// There is no response, or the broker does not describe one of the topics.
pub(super) fn identities<C: ClientContext>(
    client: &Client<C>,
    [input, state, dlq]: [&str; Topic::ALL.len()],
    limit: Duration,
) -> Result<TopicIdentities, LookFailure> {
    let described = describe_topics(client, &[input, state, dlq], limit).map_err(LookFailure::NoResponse)?;
    let identity = |topic: &str| {
        let description = described.iter().find(|description| description.name == topic);
        let found = description.map_or(Err(RDKafkaErrorCode::UnknownTopicOrPartition), |description| description.found);
        let FoundTopic { id, partitions } =
            found.map_err(|code| LookFailure::Refused { topic: topic.to_owned(), code })?;
        Ok(TopicIdentity { name: topic.to_owned(), id, partitions })
    };
    Ok(TopicIdentities { input: identity(input)?, state: identity(state)?, dlq: identity(dlq)? })
}

pub(super) enum LookFailure {
    NoResponse(KafkaError),
    Refused { topic: String, code: RDKafkaErrorCode },
}
