//! Why a command failed, and the exit code of each failure.

use std::io;

use crate::config::ConfigError;
use crate::exit_code::ExitCode;
use crate::kafka::admin::access::AccessFailure;
use crate::kafka::admin::preflight::StartRefusal;
use crate::testing::workload::WorkloadError;
use crate::tools::dlq::replay_failure::ReplayFailure;
use crate::tools::note;

#[derive(Debug, thiserror::Error)]
pub enum CommandFailure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Access(#[from] AccessFailure),
    #[error(transparent)]
    Replay(#[from] ReplayFailure),
    /// The flags of `produce` contradict each other.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    #[error("cannot write to standard output: {0}; check where it is redirected to")]
    Output(#[source] io::Error),
    #[error("cannot handle signals: {0}; check whether the container's profile forbids it")]
    Signals(#[source] io::Error),
    #[error(
        "the broker refused {refused} records ({codes}); see max.message.bytes and message.timestamp.after.max.ms of the topic"
    )]
    RecordsRefused {
        refused: u64,
        /// Kafka's codes with their counts.
        codes: String,
    },
    #[error(
        "the services take more than {limit_bytes} bytes; list one partition at a time with --partition, or raise limits.max_state_bytes"
    )]
    StateTooLarge { limit_bytes: u64 },
    #[error("{0}")]
    NotFound(String),
    #[error(
        "standard input is a terminal, not a log; pipe one into it: kubectl logs -f -l app.kubernetes.io/name=steward --prefix | steward top"
    )]
    NoLog,
    #[error("cannot use the terminal: {0}; --once prints a plain table instead")]
    Terminal(#[source] io::Error),
    #[error("cannot read {file}: {error}; check that the file exists and is readable")]
    Unreadable {
        file: String,
        #[source]
        error: io::Error,
    },
    #[error("cannot write {file}: {error}; choose another file with --output")]
    Unwritable {
        file: String,
        #[source]
        error: io::Error,
    },
    #[error("{0}")]
    Demo(String),
}

impl CommandFailure {
    pub fn exit_code(&self) -> ExitCode {
        match self {
            CommandFailure::Config(_) => ExitCode::Config,
            CommandFailure::Access(access) => access_exit_code(access),
            CommandFailure::Replay(replay) => replay_exit_code(replay),
            CommandFailure::Workload(_)
            | CommandFailure::NoLog
            | CommandFailure::Unreadable { .. }
            | CommandFailure::Unwritable { .. } => ExitCode::Usage,
            CommandFailure::RecordsRefused { .. } => ExitCode::WriteRefused,
            CommandFailure::StateTooLarge { .. } => ExitCode::StateTooLarge,
            CommandFailure::NotFound(_) => ExitCode::CheckFailed,
            CommandFailure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::Done,
            CommandFailure::Output(_)
            | CommandFailure::Signals(_)
            | CommandFailure::Terminal(_)
            | CommandFailure::Demo(_) => ExitCode::Unexpected,
        }
    }

    /// Prints the message on standard error, and returns the exit code. A broken pipe is not a failure and prints
    /// nothing.
    pub(crate) fn report(&self) -> ExitCode {
        let code = self.exit_code();
        if code != ExitCode::Done {
            note(&format!("error: {self}"));
        }
        code
    }
}

fn access_exit_code(failure: &AccessFailure) -> ExitCode {
    match failure {
        AccessFailure::Settings(_) => ExitCode::Config,
        AccessFailure::UnknownPartition { .. } => ExitCode::Usage,
        AccessFailure::Unreachable { .. }
        | AccessFailure::UnknownTopic { .. }
        | AccessFailure::Refused { .. }
        | AccessFailure::Stuck { .. } => ExitCode::KafkaUnavailable,
    }
}

fn replay_exit_code(failure: &ReplayFailure) -> ExitCode {
    match failure {
        ReplayFailure::Access(access) => access_exit_code(access),
        ReplayFailure::Topics(StartRefusal::BrokersUnreachable { .. } | StartRefusal::Broker { .. })
        | ReplayFailure::GivenUp { .. } => ExitCode::KafkaUnavailable,
        ReplayFailure::Topics(_)
        | ReplayFailure::NotCompacted { .. }
        | ReplayFailure::TooFewPartitions { .. }
        | ReplayFailure::ForeignRecord { .. } => ExitCode::TopicsRefused,
        ReplayFailure::TooManyReceipts { .. } => ExitCode::StateTooLarge,
        ReplayFailure::Fenced { .. } => ExitCode::DuplicateInstance,
        ReplayFailure::Forbidden { .. } => ExitCode::WriteRefused,
    }
}
