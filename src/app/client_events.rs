//! What Kafka's clients say by themselves, as log events; what repeats is counted and summarised. Statistics go on to
//! the board of status.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::app::SystemClock;
use crate::kafka::client::context::{ClientEvents, ClientLogLevel, ClientRole, ConsumerStatistics};
use crate::observability::log_events::{
    KafkaClientError, KafkaClientErrors, KafkaClientLog, KafkaClientWarning, LogEvent, millis,
};
use crate::observability::log_throttle::{LogThrottle, Occurrence, ThrottleSummary};
use crate::observability::status::Status;
use crate::ports::Clock;

const SUMMARY_WINDOW: Duration = Duration::from_secs(30);
/// Kinds of error that are told apart: role and code.
const MAX_KINDS: usize = 64;

/// Role and code.
type MessageKind = (ClientRole, String);

/// See the module.
pub struct ClientLog {
    clock: SystemClock,
    errors: Mutex<LogThrottle<MessageKind, String>>,
    status: OnceLock<Arc<Status>>,
}

impl ClientLog {
    /// Hears everything from now on.
    #[must_use]
    pub fn new(clock: SystemClock) -> ClientLog {
        ClientLog { clock, errors: Mutex::new(LogThrottle::new(SUMMARY_WINDOW, MAX_KINDS)), status: OnceLock::new() }
    }

    /// Where statistics go from now on.
    pub(super) fn report_to(&self, status: Arc<Status>) {
        // Set once, when the pipeline is built; before that there are no statistics.
        let _ = self.status.set(status);
    }

    /// Sums up what repeated.
    pub(super) fn summarise(&self) {
        tell(self.errors.lock().unwrap_or_else(PoisonError::into_inner).summaries(self.clock.now()));
    }

    /// Sums up all that is not told yet.
    pub(super) fn finish(&self) {
        tell(self.errors.lock().unwrap_or_else(PoisonError::into_inner).finish(self.clock.now()));
    }
}

fn tell(summaries: Vec<ThrottleSummary<MessageKind, String>>) {
    for summary in summaries {
        let code = summary.kind.as_ref().map_or("various", |(_, code)| code.as_str());
        let window_ms = millis(summary.window);
        KafkaClientErrors { code, count: summary.count, window_ms, last_detail: &summary.last }.emit();
    }
}

impl ClientEvents for ClientLog {
    fn error(&self, role: ClientRole, code: &str, reason: &str) {
        let kind = (role, code.to_owned());
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.seen(&kind, reason.to_owned(), self.clock.now()) == Occurrence::First {
            KafkaClientError { code, detail: reason, client: role }.emit();
        }
    }

    fn log(&self, role: ClientRole, level: ClientLogLevel, facility: &str, message: &str) {
        match level {
            // What matters of it comes through `error`, too; this is the client's own account of it.
            ClientLogLevel::Error | ClientLogLevel::Warn => {
                let kind = (role, format!("log:{facility}"));
                let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
                if errors.seen(&kind, message.to_owned(), self.clock.now()) == Occurrence::First {
                    KafkaClientWarning { facility, detail: message, client: role }.emit();
                }
            }
            ClientLogLevel::Info | ClientLogLevel::Debug => {
                KafkaClientLog { facility, detail: message, client: role }.emit()
            }
        }
    }

    fn statistics(&self, statistics: ConsumerStatistics) {
        let Some(status) = self.status.get() else { return };
        for partition in &statistics.partitions {
            if let Some(end) = partition.last_stable {
                status.end(partition.partition, end);
            }
        }
    }
}
