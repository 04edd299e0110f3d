//! Why a command failed, and which exit code that is.

use std::io;

use crate::config::ConfigError;
use crate::exit_code::ExitCode;
use crate::kafka::admin::access::AccessFailure;
use crate::kafka::admin::preflight::StartRefusal;
use crate::testing::workload::WorkloadError;
use crate::tools::dlq::replay_failure::ReplayFailure;
use crate::tools::note;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandFailure {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A topic could not be read or written.
    #[error(transparent)]
    Access(#[from] AccessFailure),
    /// DLQ records could not be replayed, or not all of them.
    #[error(transparent)]
    Replay(#[from] ReplayFailure),
    /// The flags of `produce` make no sense together.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// What was asked for could not be written to standard output.
    #[error("cannot write to standard output: {0}; see where it is redirected to")]
    Output(#[source] io::Error),
    /// The signals cannot be heard.
    #[error("cannot listen to signals: {0}; see whether the container's profile forbids it")]
    Signals(#[source] io::Error),
    /// The brokers did not take some of the records.
    #[error(
        "the broker refused {refused} records ({codes}); see max.message.bytes and message.timestamp.after.max.ms of the topic"
    )]
    RecordsRefused {
        /// How many.
        refused: u64,
        /// Kafka's codes with their counts.
        codes: String,
    },
    /// More entities than may be held.
    #[error(
        "the services take more than {limit_bytes} bytes; list one partition at a time with --partition, or raise limits.max_state_bytes"
    )]
    StateTooLarge {
        /// `limits.max_state_bytes`.
        limit_bytes: u64,
    },
    /// There is no such service.
    #[error("{0}")]
    NotFound(String),
    /// `steward top` has nothing to read.
    #[error(
        "standard input is a terminal, not a log; pipe one into it: kubectl logs -f -l app.kubernetes.io/name=steward --prefix | steward top"
    )]
    NoLog,
    /// The terminal cannot be drawn on, or gives no keys.
    #[error("cannot use the terminal: {0}; --once prints a plain table instead")]
    Terminal(#[source] io::Error),
    /// A log cannot be read.
    #[error("cannot read {file}: {error}; see whether it is there, and may be read")]
    Unreadable {
        /// Its path.
        file: String,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// The page cannot be written.
    #[error("cannot write {file}: {error}; name another place with --output")]
    Unwritable {
        /// Its path.
        file: String,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// The demo could not be played to its end.
    #[error("{0}")]
    Demo(String),
}

impl CommandFailure {
    /// The exit code.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            CommandFailure::Config(_) => ExitCode::Config,
            CommandFailure::Access(access) => of_access(access),
            CommandFailure::Replay(replay) => of_replay(replay),
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

    /// Prints the message on standard error, and returns the exit code. A broken pipe is not a failure and prints nothing.
    pub(crate) fn report(&self) -> ExitCode {
        let code = self.exit_code();
        if code != ExitCode::Done {
            note(&format!("error: {self}"));
        }
        code
    }
}

fn of_access(failure: &AccessFailure) -> ExitCode {
    match failure {
        AccessFailure::Settings(_) => ExitCode::Config,
        AccessFailure::UnknownPartition { .. } => ExitCode::Usage,
        AccessFailure::Unreachable { .. }
        | AccessFailure::UnknownTopic { .. }
        | AccessFailure::Refused { .. }
        | AccessFailure::Stuck { .. } => ExitCode::KafkaUnavailable,
    }
}

fn of_replay(failure: &ReplayFailure) -> ExitCode {
    match failure {
        ReplayFailure::Access(access) => of_access(access),
        ReplayFailure::Topics(StartRefusal::BrokersUnreachable { .. } | StartRefusal::Broker { .. })
        | ReplayFailure::GivenUp { .. } => ExitCode::KafkaUnavailable,
        ReplayFailure::Topics(_)
        | ReplayFailure::NotCompacted { .. }
        | ReplayFailure::TooFewPartitions { .. }
        | ReplayFailure::ForeignMark { .. } => ExitCode::TopicsRefused,
        ReplayFailure::TooManyMarks { .. } => ExitCode::StateTooLarge,
        ReplayFailure::Fenced { .. } => ExitCode::DuplicateInstance,
        ReplayFailure::Forbidden { .. } => ExitCode::WriteRefused,
    }
}
