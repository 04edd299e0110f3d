//! How a process of steward can end: a closed list, each with a paragraph in `docs/exit-codes.md`.
//!
//! A leaf: anyone may name it.

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExitCode {
    /// The command did what it was asked to; `run` was told to stop and has committed what it had applied.
    Done,
    /// Something that should not happen: a bug.
    Unexpected,
    /// The command line is wrong.
    Usage,
    /// The configuration is wrong.
    Config,
    /// The topics are not what steward can work with; the log says what to do.
    TopicsRefused,
    /// The brokers cannot be reached, or refuse the client.
    KafkaUnavailable,
    /// Another process uses the same instance name.
    DuplicateInstance,
    /// There was work and no progress for `health.stall_timeout_ms`; the log names the phase.
    Stalled,
    /// What was applied could not be committed within `shutdown.drain_timeout_ms`; the next owner does it again.
    DrainTimedOut,
    /// The entities do not fit into `limits.max_state_bytes`.
    StateTooLarge,
    /// The brokers refuse what is to be written; the log names the record.
    WriteRefused,
    /// Offsets fell within one assignment, or another promise could not be kept.
    GuaranteeBroken,
    /// Events were deleted unread, and `recovery.on_expired` is `stop`.
    EventsExpired,
    /// An open transaction that the brokers do not end keeps a partition from being read.
    HangingTransaction,
    /// A second signal ended the process at once.
    SecondSignal,
    /// `steward health`: not healthy. `steward state get`: no such service. `steward demo`: the outcome differs from the
    /// reference model.
    CheckFailed,
}

impl ExitCode {
    /// Every code.
    pub const ALL: [ExitCode; 16] = [
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
    ];

    /// The number that the operating system sees.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            ExitCode::Done => 0,
            ExitCode::Unexpected => 1,
            ExitCode::Usage => 2,
            ExitCode::Config => 3,
            ExitCode::TopicsRefused => 4,
            ExitCode::KafkaUnavailable => 5,
            ExitCode::DuplicateInstance => 6,
            ExitCode::Stalled => 7,
            ExitCode::DrainTimedOut => 8,
            ExitCode::StateTooLarge => 9,
            ExitCode::WriteRefused => 10,
            ExitCode::GuaranteeBroken => 11,
            ExitCode::EventsExpired => 12,
            ExitCode::HangingTransaction => 13,
            ExitCode::SecondSignal => 14,
            ExitCode::CheckFailed => 15,
        }
    }

    /// The stable name, as it stands in the log.
    #[must_use]
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
        }
    }
}
