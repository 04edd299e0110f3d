//! Maps each reason for which `run` ends to its exit code and its error text.

use crate::engine::commit::StopReason;
use crate::engine::recovery::RecoveryRefusal;
use crate::engine::recovery::driver::ReadFailure;
use crate::exit_code::ExitCode;
use crate::kafka::admin::preflight::StartRefusal;
use crate::observability::log_events::{PreflightCheck, ProcessFailed};
use crate::observability::logging::LoggingError;
use crate::ports::ConsumerFailure;
use crate::runtime::StopCause;

/// Why the process ends, other than by a signal.
#[derive(Debug)]
pub(super) struct RunFailure {
    pub(super) exit: ExitCode,
    pub(super) error: String,
}

impl RunFailure {
    pub(super) fn new(exit: ExitCode, error: impl Into<String>) -> RunFailure {
        RunFailure { exit, error: error.into() }
    }

    /// Returns a failure that is a bug. The next owner repeats what is not committed, so ending at once loses nothing.
    pub(super) fn panicked() -> RunFailure {
        RunFailure::new(ExitCode::Unexpected, "a thread panicked; report the line before this one, it is a bug")
    }

    /// The limit of threads was reached after the check at the start.
    pub(super) fn no_thread(purpose: &str, cause: &std::io::Error) -> RunFailure {
        let remedy = "raise the limit of processes and threads, see \"Threads\" in docs/operating.md";
        RunFailure::new(ExitCode::Config, format!("no thread can be started for {purpose} ({cause}); {remedy}"))
    }

    pub(super) fn channel_closed() -> RunFailure {
        RunFailure::new(ExitCode::Unexpected, "the control loop lost its channel")
    }

    pub(super) fn event(&self) -> ProcessFailed<'_> {
        ProcessFailed { exit_code: i32::from(self.exit.code()), exit_name: self.exit.name(), error: &self.error }
    }
}

impl From<&LoggingError> for RunFailure {
    fn from(error: &LoggingError) -> RunFailure {
        match error {
            LoggingError::WrongLevel { .. } | LoggingError::Gone(_) | LoggingError::SetUpTwice(_) => {
                RunFailure::new(ExitCode::Config, error.to_string())
            }
            LoggingError::NoWriter(cause) => RunFailure::no_thread("the log", cause),
        }
    }
}

impl From<&StartRefusal> for RunFailure {
    fn from(refusal: &StartRefusal) -> RunFailure {
        let exit = match refusal {
            StartRefusal::BrokersUnreachable { .. } | StartRefusal::Broker { .. } => ExitCode::KafkaUnavailable,
            StartRefusal::InputMissing { .. }
            | StartRefusal::OutputMissing { .. }
            | StartRefusal::InputCompacted { .. }
            | StartRefusal::StateNotCompacted { .. }
            | StartRefusal::DlqCompacted { .. }
            | StartRefusal::PartitionsDiffer { .. }
            | StartRefusal::TombstonesTooShort { .. }
            | StartRefusal::RecordsTooSmall { .. }
            | StartRefusal::Unchecked { .. }
            | StartRefusal::NotReported { .. }
            | StartRefusal::Interrupted { .. } => ExitCode::TopicsRefused,
        };
        RunFailure::new(exit, refusal.to_string())
    }
}

/// Returns the preflight check that a refusal belongs to, if it is found only once partitions are recovered or read.
pub(super) fn late_check(cause: &StopCause) -> Option<PreflightCheck> {
    match cause {
        StopCause::Refused(RecoveryRefusal::Recreated { .. } | RecoveryRefusal::OtherInput { .. })
        | StopCause::Consumer(ConsumerFailure::Recreated { .. }) => Some(PreflightCheck::InputIdentity),
        StopCause::Refused(RecoveryRefusal::OtherGroup { .. } | RecoveryRefusal::ForeignState { .. }) => {
            Some(PreflightCheck::StateOwner)
        }
        StopCause::Refused(RecoveryRefusal::StateLost(_)) => Some(PreflightCheck::StateComplete),
        StopCause::Consumer(ConsumerFailure::PartitionsChanged { .. }) => Some(PreflightCheck::PartitionCounts),
        StopCause::Refused(RecoveryRefusal::StateTooLarge { .. } | RecoveryRefusal::Expired { .. })
        | StopCause::Consumer(
            ConsumerFailure::InstanceReplaced(_) | ConsumerFailure::OrderBroken { .. } | ConsumerFailure::Fatal(_),
        )
        // It has an event of its own.
        | StopCause::TopicChanged(_)
        | StopCause::Commit(_)
        | StopCause::Unreadable(_)
        | StopCause::StateTooLarge { .. } => None,
    }
}

impl From<&StopCause> for RunFailure {
    fn from(cause: &StopCause) -> RunFailure {
        match cause {
            StopCause::Commit(reason) => commit_failure(reason),
            StopCause::Refused(refusal) => {
                let exit = match refusal {
                    RecoveryRefusal::StateTooLarge { .. } => ExitCode::StateTooLarge,
                    RecoveryRefusal::Expired { .. } => ExitCode::EventsExpired,
                    RecoveryRefusal::ForeignState { .. }
                    | RecoveryRefusal::OtherGroup { .. }
                    | RecoveryRefusal::OtherInput { .. }
                    | RecoveryRefusal::StateLost(_)
                    | RecoveryRefusal::Recreated { .. } => ExitCode::TopicsRefused,
                };
                RunFailure::new(exit, refusal.to_string())
            }
            StopCause::Unreadable(failure) => {
                let exit = match failure {
                    ReadFailure::Hanging { .. } | ReadFailure::OffsetHeldBack { .. } => ExitCode::HangingTransaction,
                    ReadFailure::Cancelled | ReadFailure::Denied(_) | ReadFailure::Kafka(_) => {
                        ExitCode::KafkaUnavailable
                    }
                };
                RunFailure::new(exit, failure.to_string())
            }
            StopCause::TopicChanged(change) => RunFailure::new(ExitCode::TopicsRefused, change.to_string()),
            StopCause::Consumer(failure) => {
                let exit = match failure {
                    ConsumerFailure::InstanceReplaced(_) => ExitCode::DuplicateInstance,
                    ConsumerFailure::PartitionsChanged { .. } | ConsumerFailure::Recreated { .. } => {
                        ExitCode::TopicsRefused
                    }
                    ConsumerFailure::OrderBroken { .. } => ExitCode::GuaranteeBroken,
                    ConsumerFailure::Fatal(_) => ExitCode::KafkaUnavailable,
                };
                RunFailure::new(exit, failure.to_string())
            }
            StopCause::StateTooLarge { held_bytes, limit_bytes } => RunFailure::new(
                ExitCode::StateTooLarge,
                format!(
                    "the entities take {held_bytes} bytes, limits.max_state_bytes is {limit_bytes}; raise it, or run more pods"
                ),
            ),
        }
    }
}

fn commit_failure(reason: &StopReason) -> RunFailure {
    match reason {
        StopReason::DuplicateInstance(cause) => RunFailure::new(
            ExitCode::DuplicateInstance,
            format!(
                "another process uses this instance name ({cause}); give each process its own kafka.instance_name or POD_NAME: without them it is host name and process id, which processes of containers can share"
            ),
        ),
        StopReason::Refused { cause, record } => {
            let which = match record {
                Some((partition, offset)) => format!("the outcome of partition {partition}, offset {offset}"),
                None => "the records of a transaction".to_owned(),
            };
            RunFailure::new(ExitCode::WriteRefused, format!("the brokers refuse {which}: {cause}"))
        }
        StopReason::TimedOutTooOften(cause) => RunFailure::new(
            ExitCode::Stalled,
            format!(
                "one transaction after another timed out ({cause}); check the brokers, or raise kafka.transaction_timeout_ms"
            ),
        ),
        StopReason::ProducerFatal(cause) => {
            RunFailure::new(ExitCode::KafkaUnavailable, format!("the producer cannot continue: {cause}"))
        }
        StopReason::OrderBroken(broken) => RunFailure::new(ExitCode::GuaranteeBroken, broken.to_string()),
    }
}
