//! The exit codes of a steward process: a closed list. Each code has a section in `docs/exit-codes.md`.

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExitCode {
    /// The command succeeded. `run` stopped after a signal and committed all applied events.
    Done = 0,
    /// An unexpected failure: a bug.
    Unexpected = 1,
    Usage = 2,
    Config = 3,
    /// The preflight checks refuse the topics. The log names the remedy.
    TopicsRefused = 4,
    /// The brokers cannot be reached, or refuse the client.
    KafkaUnavailable = 5,
    /// Another process uses the same instance name.
    DuplicateInstance = 6,
    /// There was work but no progress for `health.stall_timeout_ms`. The log names the phase.
    Stalled = 7,
    /// Applied events could not be committed within `shutdown.drain_timeout_ms`. The next owner applies them again.
    DrainTimedOut = 8,
    /// The entities do not fit into `limits.max_state_bytes`.
    StateTooLarge = 9,
    /// The brokers refuse a record. The log names the record.
    WriteRefused = 10,
    /// Offsets of a partition did not rise within one assignment, or another guarantee could not be kept.
    GuaranteeBroken = 11,
    /// Events were deleted before they were read, and `recovery.on_expired` is `stop`.
    EventsExpired = 12,
    /// An open transaction that the brokers do not end blocks the reading of a partition.
    HangingTransaction = 13,
    /// A second signal ended the process immediately.
    SecondSignal = 14,
    /// `steward health`: not healthy. `steward state get`: the service does not exist. `steward demo`: the outcome
    /// differs from the reference model.
    CheckFailed = 15,
    /// Certificates or passwords have changed. `run` stopped cleanly, to be started again.
    CredentialsChanged = 16,
}

impl ExitCode {
    pub const ALL: [ExitCode; 17] = [
        ExitCode::Done,
        ExitCode::Unexpected,
        ExitCode::Usage,
        ExitCode::Config,
        ExitCode::TopicsRefused,
        ExitCode::KafkaUnavailable,
        ExitCode::DuplicateInstance,
        ExitCode::Stalled,
        ExitCode::DrainTimedOut,
        ExitCode::StateTooLarge,
        ExitCode::WriteRefused,
        ExitCode::GuaranteeBroken,
        ExitCode::EventsExpired,
        ExitCode::HangingTransaction,
        ExitCode::SecondSignal,
        ExitCode::CheckFailed,
        ExitCode::CredentialsChanged,
    ];

    /// Returns the exit status of the process.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Returns the stable name that the log uses.
    pub fn name(self) -> &'static str {
        match self {
            ExitCode::Done => "done",
            ExitCode::Unexpected => "unexpected",
            ExitCode::Usage => "usage",
            ExitCode::Config => "config",
            ExitCode::TopicsRefused => "topics_refused",
            ExitCode::KafkaUnavailable => "kafka_unavailable",
            ExitCode::DuplicateInstance => "duplicate_instance",
            ExitCode::Stalled => "stalled",
            ExitCode::DrainTimedOut => "drain_timed_out",
            ExitCode::StateTooLarge => "state_too_large",
            ExitCode::WriteRefused => "write_refused",
            ExitCode::GuaranteeBroken => "guarantee_broken",
            ExitCode::EventsExpired => "events_expired",
            ExitCode::HangingTransaction => "hanging_transaction",
            ExitCode::SecondSignal => "second_signal",
            ExitCode::CheckFailed => "check_failed",
            ExitCode::CredentialsChanged => "credentials_changed",
        }
    }
}
