//! How commands for people reach a topic: is it there, how many partitions has it, and if not, what to do.
//!
//! A person waits at a terminal, so every wait has a limit, and an answer that cannot get better (no permission, a
//! wrong password) ends it at once. `steward run` has other needs, and does not come through here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;

use crate::kafka::client::context::{ClientError, ClientEvents, ClientLogLevel, ClientRole, ConsumerStatistics};
use crate::kafka::client::errors::{ErrorClass, class_of};
use crate::kafka::client::settings::SettingsError;
use crate::ports::Clock;
use crate::record::Partition;

/// One question for metadata; between two of them a new address is tried, or a broker that comes up is found.
const ASK: Duration = Duration::from_millis(500);

/// A topic that was created a moment ago is not known to every broker yet.
pub(crate) const UNKNOWN_TOPIC_PATIENCE: Duration = Duration::from_secs(2);

/// Why a topic could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AccessFailure {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Nobody answers.
    #[error(
        "no broker answers at {servers} within {limit_ms} ms{}; check kafka.bootstrap_servers (--bootstrap-servers), the network, and kafka.security",
        because(heard)
    )]
    Unreachable {
        /// The addresses.
        servers: String,
        /// How long it was tried.
        limit_ms: u128,
        /// What the client complained about last.
        heard: Option<String>,
    },
    /// There is no such topic.
    #[error(
        "there is no topic {topic} at {servers}; check the name, or create it: kafka-topics.sh --bootstrap-server {servers} --create --topic {topic} --partitions 6"
    )]
    UnknownTopic {
        /// The topic.
        topic: String,
        /// The addresses.
        servers: String,
    },
    /// The topic has no such partition.
    #[error("topic {topic} has the partitions 0 to {last}, not {asked}; leave --partition out to look at all of them")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The greatest partition.
        last: Partition,
        /// The one that was asked for.
        asked: Partition,
    },
    /// The broker answers with a refusal that asking again does not change.
    #[error("the broker refuses {what}: {code}; {remedy}")]
    Refused {
        /// What was to be done.
        what: String,
        /// Kafka's code, and what it says.
        code: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// It answered once, and then nothing moved any more.
    #[error("{what} has not moved for {limit_ms} ms{}; {remedy}", because(heard))]
    Stuck {
        /// What was under way, and how far it had come.
        what: String,
        /// How long it stood still.
        limit_ms: u128,
        /// What the client complained about last.
        heard: Option<String>,
        /// What to do about it.
        remedy: &'static str,
    },
}

fn because(heard: &Option<String>) -> String {
    heard.as_ref().map_or_else(String::new, |heard| format!(" ({heard})"))
}

/// Remembers the newest complaint of a client, to be told when something fails; the client's thread writes it.
#[derive(Default)]
pub struct ClientMessages {
    last: Mutex<Option<ClientMessage>>,
    /// Who hears of everything as well.
    next: Option<Arc<dyn ClientEvents>>,
}

#[derive(Debug, Clone)]
struct ClientMessage {
    class: ErrorClass,
    reason: String,
}

impl ClientMessages {
    pub(crate) fn new() -> Arc<ClientMessages> {
        Arc::new(ClientMessages::default())
    }

    /// Hands everything on.
    #[must_use]
    pub fn on_the_way_to(next: Arc<dyn ClientEvents>) -> Arc<ClientMessages> {
        Arc::new(ClientMessages { last: Mutex::default(), next: Some(next) })
    }

    /// The newest complaint, for a person.
    #[must_use]
    pub fn last(&self) -> Option<String> {
        self.complaint().map(|complaint| complaint.reason)
    }

    /// The newest complaint, where asking again cannot change it.
    fn hopeless(&self) -> Option<String> {
        let is_login = |class| {
            matches!(class, ErrorClass::LoginRefused | ErrorClass::MechanismUnsupported | ErrorClass::LoginFailed)
        };
        self.complaint().filter(|heard| is_login(heard.class)).map(|heard| heard.reason)
    }

    fn complaint(&self) -> Option<ClientMessage> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientEvents for ClientMessages {
    fn error(&self, role: ClientRole, error: &ClientError<'_>) {
        if let Some(next) = &self.next {
            next.error(role, error);
        }
        // The client reports that all brokers are down right after the reason, which has more information.
        if error.class != ErrorClass::AllBrokersDown {
            let complaint = ClientMessage { class: error.class, reason: error.reason.to_owned() };
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(complaint);
        }
    }

    fn log(&self, role: ClientRole, level: ClientLogLevel, facility: &str, message: &str) {
        if let Some(next) = &self.next {
            next.log(role, level, facility, message);
        }
    }

    fn statistics(&self, statistics: ConsumerStatistics) {
        if let Some(next) = &self.next {
            next.statistics(statistics);
        }
    }
}

/// What an access is about, and how patient it is.
pub(crate) struct Access<'a> {
    pub(crate) topic: &'a str,
    pub(crate) servers: &'a str,
    pub(crate) limit: Duration,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) heard: &'a ClientMessages,
}

impl Access<'_> {
    /// Asks until the topic's partitions are known. `poll` serves the client's callbacks.
    ///
    /// # Errors
    /// Nobody answers within the limit, the topic does not exist, or the broker refuses.
    pub(crate) fn partitions<C: rdkafka::ClientContext>(
        &self,
        client: &Client<C>,
        poll: impl Fn(),
    ) -> Result<Vec<Partition>, AccessFailure> {
        self.partitions_within(UNKNOWN_TOPIC_PATIENCE, client, poll)
    }

    /// The same, for a topic that may be unknown for so long.
    pub(crate) fn partitions_within<C: rdkafka::ClientContext>(
        &self,
        unknown_patience: Duration,
        client: &Client<C>,
        poll: impl Fn(),
    ) -> Result<Vec<Partition>, AccessFailure> {
        let began = self.clock.now();
        let mut unknown_since: Option<Instant> = None;
        loop {
            poll();
            let answer = client.fetch_metadata(Some(self.topic), ASK.min(self.limit));
            let now = self.clock.now();
            let topic = answer.as_ref().ok().and_then(|metadata| metadata.topics().first());
            let error = topic.and_then(|topic| topic.error()).map(RDKafkaErrorCode::from);
            match (topic, error) {
                (Some(topic), None) if !topic.partitions().is_empty() => {
                    let mut partitions: Vec<Partition> =
                        topic.partitions().iter().map(|partition| Partition(partition.id())).collect();
                    partitions.sort();
                    return Ok(partitions);
                }
                (_, Some(code)) if class_of(code).is_access_refusal() => return Err(self.refused(code)),
                (_, Some(code)) if matches!(class_of(code), ErrorClass::UnknownTopic | ErrorClass::InvalidTopic) => {
                    let since = *unknown_since.get_or_insert(now);
                    if now - since >= unknown_patience.min(self.limit) {
                        return Err(AccessFailure::UnknownTopic {
                            topic: self.topic.to_owned(),
                            servers: self.servers.to_owned(),
                        });
                    }
                    // The question is answered at once, so the pause has to be made.
                    std::thread::sleep(ASK / 5);
                }
                (_, _) => {}
            }
            poll();
            if let Some(reason) = self.heard.hopeless() {
                let what = format!("this client at {}", self.servers);
                let remedy = "check kafka.security: protocol, mechanism, user name and password";
                return Err(AccessFailure::Refused { what, code: reason, remedy });
            }
            if now - began >= self.limit {
                return Err(AccessFailure::Unreachable {
                    servers: self.servers.to_owned(),
                    limit_ms: self.limit.as_millis(),
                    heard: self.heard.last().or_else(|| answer.err().map(|error| error.to_string())),
                });
            }
        }
    }

    pub(crate) fn refused(&self, code: impl std::fmt::Display) -> AccessFailure {
        let remedy = "give this user the ACL (Describe, and Read or Write, on the topic), or name another user in kafka.security";
        AccessFailure::Refused { what: format!("topic {}", self.topic), code: code.to_string(), remedy }
    }
}
