//! Turns what Kafka's clients report by themselves into log events. Repeated errors are counted and summarised.
//! Statistics of the consumer go to the status.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::app::SystemClock;
use crate::kafka::client::context::{
    ClientError, ClientEvents, ClientLogLevel, ClientRole, ConsumerStatistics, PartitionStatistics, Throttle,
};
use crate::observability::log_events::{
    ClientThrottled, KafkaClientError, KafkaClientErrors, KafkaClientLog, KafkaClientWarning, LogEvent, millis,
};
use crate::observability::log_throttle::{LogThrottle, Occurrence, ThrottleSummary};
use crate::observability::status::{InputReport, Status};
use crate::ports::Clock;

const SUMMARY_WINDOW: Duration = Duration::from_secs(30);
/// Kinds of error that are counted separately.
const MAX_KINDS: usize = 64;

/// Role of the client, and code of the error.
type MessageKind = (ClientRole, String);

pub struct ClientLog {
    clock: SystemClock,
    errors: Mutex<LogThrottle<MessageKind, String>>,
    delays: Mutex<BTreeMap<ClientRole, Delay>>,
}

/// Delays of one client by brokers.
struct Delay {
    logged_at: Instant,
    /// The longest one since then.
    longest: Throttle,
}

/// Logs errors and log lines of the pipeline's clients, and keeps the log ends in the status up to date.
pub(super) struct PipelineClientEvents {
    pub(super) log: Arc<ClientLog>,
    pub(super) status: Arc<Status>,
}

impl ClientLog {
    pub fn new(clock: SystemClock) -> ClientLog {
        ClientLog { clock, errors: Mutex::new(LogThrottle::new(SUMMARY_WINDOW, MAX_KINDS)), delays: Mutex::default() }
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

    /// Returns the delay to log: the first one, then the longest of each window.
    fn longest_delay(&self, role: ClientRole, throttle: &Throttle) -> Option<Throttle> {
        let now = self.clock.now();
        let mut delays = self.delays.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(delay) = delays.get_mut(&role) else {
            delays.insert(role, Delay { logged_at: now, longest: Throttle::default() });
            return Some(throttle.clone());
        };
        if throttle.time_ms > delay.longest.time_ms {
            delay.longest = throttle.clone();
        }
        let is_due = now.saturating_duration_since(delay.logged_at) >= SUMMARY_WINDOW;
        is_due.then(|| {
            delay.logged_at = now;
            std::mem::take(&mut delay.longest)
        })
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

    fn throttled(&self, role: ClientRole, throttle: &Throttle) {
        if let Some(longest) = self.longest_delay(role, throttle) {
            ClientThrottled { client: role, broker: &longest.broker, throttle_time_ms: longest.time_ms }.emit();
        }
    }
}

impl ClientEvents for PipelineClientEvents {
    fn error(&self, role: ClientRole, error: &ClientError<'_>) {
        self.log.error(role, error);
    }

    fn log(&self, role: ClientRole, level: ClientLogLevel, facility: &str, message: &str) {
        self.log.log(role, level, facility, message);
    }

    fn throttled(&self, role: ClientRole, throttle: &Throttle) {
        self.log.throttled(role, throttle);
    }

    fn statistics(&self, statistics: ConsumerStatistics) {
        let now = self.log.clock.now();
        self.status.set_since_any_response(statistics.since_any_response, now);
        let delay = statistics.delay();
        for of in statistics.partitions {
            let PartitionStatistics { last_stable, high_watermark, since_response, lacks_leader, .. } = of;
            self.status.set_input_report(
                of.partition,
                InputReport { last_stable, high_watermark, since_response, lacks_leader, delay },
                now,
            );
        }
    }
}
