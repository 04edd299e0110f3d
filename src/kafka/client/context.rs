//! The context of the clients: passes on the errors, log lines and statistics that a client reports by itself.
//!
//! librdkafka calls back on the thread that polls the client. The context translates its types and calls
//! [`ClientEvents`].
//!
//! Architecture invariant: no log line is written here.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{ConsumerContext, DefaultConsumerContext};
use rdkafka::error::KafkaError;
use serde::Deserialize;

use crate::config::Config;
use crate::kafka::client::errors::ErrorClass;
use crate::kafka::client::oauth::{TokenError, TokenSource};
pub use crate::observability::log_events::ClientRole;
use crate::record::{Partition, Position};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientLogLevel {
    Error,
    Warn,
    Info,
    /// Only with librdkafka's `debug` property.
    Debug,
}

/// An error that a client reports by itself.
#[derive(Debug, Clone, Copy)]
pub struct ClientError<'a> {
    /// The name of Kafka's or librdkafka's code.
    pub code: &'a str,
    pub class: ErrorClass,
    pub reason: &'a str,
}

/// Receives errors, log lines and statistics of clients. Called on the thread that polls the client; must not block.
pub trait ClientEvents: Send + Sync {
    /// The client reports an error. The client recovers from most of them by itself.
    fn error(&self, role: ClientRole, error: &ClientError<'_>);
    /// A log line of librdkafka. `facility` is its short name for what the line is about.
    fn log(&self, role: ClientRole, level: ClientLogLevel, facility: &str, message: &str);
    /// The group's consumer reports its state, once a second.
    fn statistics(&self, statistics: ConsumerStatistics);
    /// A broker has delayed responses because the client exceeds a quota. Called at each report of the client while that
    /// lasts.
    fn throttled(&self, role: ClientRole, throttle: &Throttle);
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerStatistics {
    /// Keys, values and framing read ahead but not yet taken, all partitions together.
    pub prefetched_bytes: u64,
    /// Whether the client has no address of a broker.
    pub knows_no_broker: bool,
    /// Time since any connection of the client received anything; `None` if no broker is connected.
    pub since_any_response: Option<Duration>,
    /// The longest delay of a response within the last interval, if there was one.
    pub throttle: Option<Throttle>,
    pub partitions: Vec<PartitionStatistics>,
}

impl ConsumerStatistics {
    /// Returns the longest time for which a broker delayed a response.
    pub fn delay(&self) -> Duration {
        self.throttle.as_ref().map_or(Duration::ZERO, |throttle| Duration::from_millis(throttle.time_ms))
    }
}

/// A broker's delay of a response, because the client exceeds a quota.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Throttle {
    /// The broker, as `host:port/id`.
    pub broker: String,
    /// The broker's `throttle_time_ms`.
    pub time_ms: u64,
}

/// The end of a partition's log and the consumer's position, as far as the client knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionStatistics {
    pub partition: Partition,
    /// Behind the last record that is before all open transactions.
    pub last_stable: Option<Position>,
    /// Behind the last record.
    pub high_watermark: Option<Position>,
    /// The next record that the client returns.
    pub position: Option<Position>,
    /// Time since the broker that the client fetches the partition from sent anything. While the partition is fetched,
    /// a response arrives several times a second, if only an empty one. `None` if that broker is not connected, or
    /// unknown.
    pub since_response: Option<Duration>,
    /// Whether no broker leads the partition.
    pub lacks_leader: bool,
}

/// The context of every client. It also reads the OAUTHBEARER token.
#[derive(Clone)]
pub struct ReportingContext {
    role: ClientRole,
    events: Arc<dyn ClientEvents>,
    token: Option<TokenSource>,
    /// Whether the client does not know any broker. Clones share it.
    knows_no_broker: Arc<AtomicBool>,
}

impl ReportingContext {
    pub fn new(config: &Config, role: ClientRole, events: Arc<dyn ClientEvents>) -> ReportingContext {
        let token = TokenSource::of(&config.kafka.security);
        ReportingContext { role, events, token, knows_no_broker: Arc::default() }
    }

    /// Returns true once after the client has reported that it does not know any broker. Such a client does not find one
    /// by itself: a broker answered that no broker is alive, the client forgot them all, and the same response cancelled
    /// its return to the bootstrap addresses (librdkafka#5301).
    pub fn has_lost_all_brokers(&self) -> bool {
        self.knows_no_broker.swap(false, Ordering::Relaxed)
    }
}

/// A context that takes statistics which another context around it has read. It reports delays by brokers.
pub trait TakesStatistics: ConsumerContext {
    fn take_statistics(&self, statistics: ConsumerStatistics);
}

impl TakesStatistics for ReportingContext {
    fn take_statistics(&self, statistics: ConsumerStatistics) {
        self.knows_no_broker.store(statistics.knows_no_broker, Ordering::Relaxed);
        if let Some(throttle) = &statistics.throttle {
            self.events.throttled(self.role, throttle);
        }
        if self.role == ClientRole::Consumer {
            self.events.statistics(statistics);
        }
    }
}

impl TakesStatistics for DefaultConsumerContext {
    fn take_statistics(&self, _: ConsumerStatistics) {}
}

impl ReportingContext {
    fn unreadable(&self, unreadable: &serde_json::Error) {
        let (class, reason) = (ErrorClass::Other, unreadable.to_string());
        self.events.error(self.role, &ClientError { code: "StatisticsUnreadable", class, reason: &reason });
    }
}

impl ClientContext for ReportingContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let level = match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                ClientLogLevel::Error
            }
            RDKafkaLogLevel::Warning => ClientLogLevel::Warn,
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => ClientLogLevel::Info,
            RDKafkaLogLevel::Debug => ClientLogLevel::Debug,
        };
        self.events.log(self.role, level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| format!("{code:?}"));
        let class = ErrorClass::of(&error);
        self.events.error(self.role, &ClientError { code: &code, class, reason });
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match read_statistics(statistics, None) {
            Ok(statistics) => self.take_statistics(statistics),
            Err(unreadable) => self.unreadable(&unreadable),
        }
    }

    /// Called by `kafka::client::ffi::serve_token`, and not by rdkafka.
    fn generate_oauth_token(&self, _oauthbearer_config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        // rdkafka's signature needs a boxed error; the client passes it to `error` above.
        let token = self.token.as_ref().ok_or(TokenError::NotConfigured)?;
        Ok(token.read()?)
    }
}

impl ConsumerContext for ReportingContext {}

/// Reads the few fields of librdkafka's statistics that are used; the other fields are skipped. `topic`: only the
/// partitions of this topic.
pub(crate) fn read_statistics(json: &[u8], topic: Option<&str>) -> Result<ConsumerStatistics, serde_json::Error> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(default)]
        brokers: BTreeMap<String, RawBroker>,
        #[serde(default)]
        topics: BTreeMap<String, RawTopic>,
    }
    #[derive(Deserialize)]
    struct RawBroker {
        #[serde(default)]
        name: String,
        nodeid: i32,
        /// `configured` for a bootstrap address, `learned` for a broker of the cluster. The others have no address of
        /// their own.
        source: String,
        /// Microseconds since the connection received anything, a part of a response included; -1 without a connection.
        rxidle: i64,
        #[serde(default)]
        throttle: RawThrottle,
    }
    #[derive(Default, Deserialize)]
    struct RawThrottle {
        /// Milliseconds; 0 if there was no delay.
        max: i64,
    }
    #[derive(Deserialize)]
    struct RawTopic {
        #[serde(default)]
        partitions: BTreeMap<String, RawPartition>,
    }
    #[derive(Deserialize)]
    struct RawPartition {
        partition: i32,
        /// The broker that the partition is fetched from; -1 if there is none.
        broker: i32,
        /// -1 if there is none.
        leader: i32,
        fetch_state: String,
        fetchq_size: u64,
        ls_offset: i64,
        hi_offset: i64,
        app_offset: i64,
    }
    let known = |offset: i64| (offset >= 0).then_some(Position(offset));
    let raw: Raw = serde_json::from_slice(json)?;
    let idle = |broker: &RawBroker| u64::try_from(broker.rxidle).ok().map(Duration::from_micros);
    // The bootstrap connections and the coordinator's have ids of their own, which no partition names.
    let since_response = |id: i32| raw.brokers.values().find(|broker| broker.nodeid == id && id >= 0).and_then(idle);
    let throttles = raw.brokers.values().filter_map(|broker| {
        let time_ms = u64::try_from(broker.throttle.max).ok().filter(|time_ms| *time_ms > 0)?;
        Some(Throttle { broker: broker.name.clone(), time_ms })
    });
    let has_address = |broker: &RawBroker| matches!(broker.source.as_str(), "configured" | "learned");
    let mut statistics = ConsumerStatistics {
        knows_no_broker: !raw.brokers.values().any(has_address),
        since_any_response: raw.brokers.values().filter_map(idle).min(),
        throttle: throttles.max_by_key(|throttle| throttle.time_ms),
        ..ConsumerStatistics::default()
    };
    // librdkafka keeps records without a partition in partition -1.
    let topics = raw.topics.iter().filter(|(name, _)| topic.is_none_or(|topic| *name == topic));
    let partitions = topics.flat_map(|(_, topic)| topic.partitions.values()).filter(|raw| raw.partition >= 0);
    for raw in partitions.filter(|raw| raw.fetch_state != "none" && raw.fetch_state != "stopped") {
        // All partitions are forwarded into one queue, and each of them reports the size of the whole.
        statistics.prefetched_bytes = statistics.prefetched_bytes.max(raw.fetchq_size);
        statistics.partitions.push(PartitionStatistics {
            partition: Partition(raw.partition),
            last_stable: known(raw.ls_offset),
            high_watermark: known(raw.hi_offset),
            position: known(raw.app_offset),
            since_response: since_response(raw.broker),
            lacks_leader: raw.leader < 0,
        });
    }
    statistics.partitions.sort_by_key(|statistics| statistics.partition);
    Ok(statistics)
}
