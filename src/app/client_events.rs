//! Turns what Kafka's clients report by themselves into log events. Repeated errors are counted and summarised.
//! Statistics of the consumer go to the status.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::app::SystemClock;
use crate::kafka::client::context::{
    ClientError, ClientEvents, ClientLogLevel, ClientRole, ConsumerStatistics, PartitionStatistics,
};
use crate::observability::log_events::{
    KafkaClientError, KafkaClientErrors, KafkaClientLog, KafkaClientWarning, LogEvent, millis,
};
use crate::observability::log_throttle::{LogThrottle, Occurrence, ThrottleSummary};
use crate::observability::status::{InputLog, Status};
use crate::ports::Clock;

const SUMMARY_WINDOW: Duration = Duration::from_secs(30);
/// Kinds of error that are counted separately.
const MAX_KINDS: usize = 64;

/// Role of the client, and code of the error.
type MessageKind = (ClientRole, String);

pub struct ClientLog {
    clock: SystemClock,
    errors: Mutex<LogThrottle<MessageKind, String>>,
}

/// Logs errors and log lines of the pipeline's clients, and keeps the log ends in the status up to date.
pub(super) struct PipelineClientEvents {
    pub(super) log: Arc<ClientLog>,
    pub(super) status: Arc<Status>,
}

impl ClientLog {
    pub fn new(clock: SystemClock) -> ClientLog {
        ClientLog { clock, errors: Mutex::new(LogThrottle::new(SUMMARY_WINDOW, MAX_KINDS)) }
    }

    /// Logs the summaries that are due.
    pub(super) fn summarise(&self) {
        log_summaries(self.errors().summaries(self.clock.now()));
    }

    /// Logs a summary of everything that is counted and not yet logged.
    pub(super) fn finish(&self) {
        log_summaries(self.errors().finish(self.clock.now()));
    }

    fn is_first(&self, role: ClientRole, code: String, message: &str) -> bool {
        self.errors().seen(&(role, code), message.to_owned(), self.clock.now()) == Occurrence::First
    }

    fn errors(&self) -> MutexGuard<'_, LogThrottle<MessageKind, String>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log_summaries(summaries: Vec<ThrottleSummary<MessageKind, String>>) {
    for summary in summaries {
        let code = summary.kind.as_ref().map_or("various", |(_, code)| code.as_str());
        let window_ms = millis(summary.window);
        KafkaClientErrors { code, count: summary.count, window_ms, last_detail: &summary.last }.emit();
    }
}

impl ClientEvents for ClientLog {
    fn error(&self, role: ClientRole, error: &ClientError<'_>) {
        let ClientError { code, reason, .. } = *error;
        if self.is_first(role, code.to_owned(), reason) {
            KafkaClientError { code, detail: reason, client: role }.emit();
        }
    }

    fn log(&self, role: ClientRole, level: ClientLogLevel, facility: &str, message: &str) {
        match level {
            // Important errors also arrive at `error`; this is the client's own text.
            ClientLogLevel::Error | ClientLogLevel::Warn => {
                if self.is_first(role, format!("log:{facility}"), message) {
                    KafkaClientWarning { facility, detail: message, client: role }.emit();
                }
            }
            ClientLogLevel::Info | ClientLogLevel::Debug => {
                KafkaClientLog { facility, detail: message, client: role }.emit()
            }
        }
    }

    /// Only the pipeline's consumer has statistics.
    fn statistics(&self, _: ConsumerStatistics) {}
}

impl ClientEvents for PipelineClientEvents {
    fn error(&self, role: ClientRole, error: &ClientError<'_>) {
        self.log.error(role, error);
    }

    fn log(&self, role: ClientRole, level: ClientLogLevel, facility: &str, message: &str) {
        self.log.log(role, level, facility, message);
    }

    fn statistics(&self, statistics: ConsumerStatistics) {
        let now = self.log.clock.now();
        self.status.set_since_any_response(statistics.since_any_response, now);
        for of in statistics.partitions {
            let PartitionStatistics { last_stable, high_watermark, since_response, .. } = of;
            self.status.set_input_log(
                of.partition,
                InputLog { last_stable, high_watermark, since_response, delay: statistics.throttled },
                now,
            );
        }
    }
}
