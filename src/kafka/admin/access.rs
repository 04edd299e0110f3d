//! Finds a topic and its partitions for a command, or the reason why that fails.
//!
//! A person waits at a terminal, so every wait has a limit, and a response that does not change (no permission, a wrong
//! password) ends it at once. `steward run` inspects its topics with `topics`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::kafka::client::context::{
    ClientError, ClientEvents, ClientLogLevel, ClientRole, ConsumerStatistics, Throttle,
};
use crate::kafka::client::errors::{ErrorClass, class_of};
use crate::kafka::client::settings::SettingsError;
use crate::ports::Clock;
use crate::record::Partition;

/// Limit of one request for metadata. Between two requests the client tries the next address.
const REQUEST_LIMIT: Duration = Duration::from_millis(500);

/// How long a topic may be unknown: a broker may not know a topic that was created a moment ago.
pub(crate) const UNKNOWN_TOPIC_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum AccessFailure {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(
        "no broker answers at {servers} within {limit_ms} ms{}; check kafka.bootstrap_servers (--bootstrap-servers), the network, and kafka.security",
        because(last_error)
    )]
    Unreachable { servers: String, limit_ms: u128, last_error: Option<String> },
    #[error(
        "there is no topic {topic} at {servers}; check the name, or create it: kafka-topics.sh --bootstrap-server {servers} --create --topic {topic} --partitions 6"
    )]
    UnknownTopic { topic: String, servers: String },
    #[error("topic {topic} has the partitions 0 to {last}, not {asked}; leave --partition out to look at all of them")]
    UnknownPartition { topic: String, last: Partition, asked: Partition },
    /// The broker refuses, and would refuse again.
    #[error("the broker refuses {what}: {code}; {remedy}")]
    Refused {
        what: String,
        /// Kafka's code and its description.
        code: String,
        remedy: &'static str,
    },
    /// The broker answered once, and then nothing progressed.
    #[error("{what} has not moved for {limit_ms} ms{}; {remedy}", because(last_error))]
    Stuck {
        /// The operation and its progress.
        what: String,
        limit_ms: u128,
        last_error: Option<String>,
        remedy: &'static str,
    },
}

fn because(last_error: &Option<String>) -> String {
    last_error.as_ref().map_or_else(String::new, |last_error| format!(" ({last_error})"))
}

/// Stores the last error of a client, for the message of a failure. The thread that polls the client writes it.
#[derive(Default)]
pub struct ClientMessages {
    last: Mutex<Option<ClientMessage>>,
    /// Receives everything as well.
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

    pub fn passing_to(next: Arc<dyn ClientEvents>) -> Arc<ClientMessages> {
        Arc::new(ClientMessages { last: Mutex::default(), next: Some(next) })
    }

    pub fn last(&self) -> Option<String> {
        self.last_error().map(|error| error.reason)
    }

    /// Returns the last error if it is a failed login, which a further request does not change.
    fn login_failure(&self) -> Option<String> {
        let is_login = |class| {
            matches!(class, ErrorClass::LoginRefused | ErrorClass::MechanismUnsupported | ErrorClass::LoginFailed)
        };
        self.last_error().filter(|error| is_login(error.class)).map(|error| error.reason)
    }

    fn last_error(&self) -> Option<ClientMessage> {
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
            let message = ClientMessage { class: error.class, reason: error.reason.to_owned() };
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
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

    fn throttled(&self, role: ClientRole, throttle: &Throttle) {
        if let Some(next) = &self.next {
            next.throttled(role, throttle);
        }
    }
}

pub(crate) struct Access<'a> {
    pub(crate) topic: &'a str,
    pub(crate) servers: &'a str,
    pub(crate) limit: Duration,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) client_errors: &'a ClientMessages,
}

impl Access<'_> {
    /// Fetches metadata until the topic's partitions are known. The topic may be unknown for `unknown_patience`. `poll`
    /// serves the client's callbacks.
    ///
    /// # Errors
    /// No broker answers within the limit, the topic does not exist, or the broker refuses.
    pub(crate) fn partitions<C: rdkafka::ClientContext>(
        &self,
        unknown_patience: Duration,
        client: &Client<C>,
        poll: impl Fn(),
    ) -> Result<Vec<Partition>, AccessFailure> {
        let began = self.clock.now();
        let mut unknown_since: Option<Instant> = None;
        loop {
            poll();
            let answer = client.fetch_metadata(Some(self.topic), REQUEST_LIMIT.min(self.limit));
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
                    // The response comes at once, so the pause is made here.
                    std::thread::sleep(REQUEST_LIMIT / 5);
                }
                (_, _) => {}
            }
            poll();
            if let Some(reason) = self.client_errors.login_failure() {
                let what = format!("this client at {}", self.servers);
                let remedy = "check kafka.security: protocol, mechanism, user name and password";
                return Err(AccessFailure::Refused { what, code: reason, remedy });
            }
            if now - began >= self.limit {
                return Err(self.unreachable(answer.err()));
            }
        }
    }

    /// The client's own last error says more than that of a request.
    pub(crate) fn unreachable(&self, error: Option<KafkaError>) -> AccessFailure {
        AccessFailure::Unreachable {
            servers: self.servers.to_owned(),
            limit_ms: self.limit.as_millis(),
            last_error: self.client_errors.last().or_else(|| error.map(|error| error.to_string())),
        }
    }

    pub(crate) fn refused(&self, code: impl std::fmt::Display) -> AccessFailure {
        let remedy = "give this user the ACL (Describe, and Read or Write, on the topic), or name another user in kafka.security";
        AccessFailure::Refused { what: format!("topic {}", self.topic), code: code.to_string(), remedy }
    }
}
