//! The context of the client that reads: keeps its newest statistics, which show whether the brokers send anything.

use std::error::Error;
use std::sync::{Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

use crate::kafka::client::context::{ConsumerStatistics, TakesStatistics, read_statistics};

/// Passes everything on to `C`, the statistics when they are taken.
pub struct ReadingContext<C> {
    inner: C,
    /// As JSON, because most of them are never needed.
    newest: Mutex<Option<Vec<u8>>>,
}

impl<C: TakesStatistics> ReadingContext<C> {
    pub(super) fn new(inner: C) -> ReadingContext<C> {
        ReadingContext { inner, newest: Mutex::new(None) }
    }

    /// Takes the statistics that have arrived since the last call, of the partitions of this topic.
    pub(super) fn take_statistics(&self, topic: &str) -> Option<ConsumerStatistics> {
        let json = self.newest.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        // Unreadable ones are as good as none: then the read ends at its limit.
        let statistics = read_statistics(&json, Some(topic)).ok()?;
        self.inner.take_statistics(statistics.clone());
        Some(statistics)
    }
}

impl<C: ClientContext> ClientContext for ReadingContext<C> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.inner.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.inner.error(error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(statistics.to_vec());
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.inner.generate_oauth_token(config)
    }
}

impl<C: ConsumerContext> ConsumerContext for ReadingContext<C> {}
