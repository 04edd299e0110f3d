//! Events from the start of the process to its end.

use crate::observability::log_events::{field_values, log_events};

field_values! {
    /// The signal that stops the process.
    pub enum StopSignal {
        /// Sent by an orchestrator.
        Sigterm = "sigterm",
        /// Sent by Ctrl-C.
        Sigint = "sigint",
        /// The controlling terminal has closed.
        Sighup = "sighup",
    }

    /// What stops the process.
    pub enum StopTrigger {
        /// Sent by an orchestrator.
        Sigterm = "sigterm",
        /// Sent by Ctrl-C.
        Sigint = "sigint",
        /// The controlling terminal has closed.
        Sighup = "sighup",
        /// Certificates or passwords have changed, and the process stops to be started again.
        CredentialsChanged = "credentials_changed",
    }

    /// What made the process read `log.level` again.
    pub enum LevelTrigger {
        /// The process received SIGHUP.
        Sighup = "sighup",
        /// The configuration file changed.
        File = "file",
    }
}

impl From<StopSignal> for StopTrigger {
    fn from(signal: StopSignal) -> StopTrigger {
        match signal {
            StopSignal::Sigterm => StopTrigger::Sigterm,
            StopSignal::Sigint => StopTrigger::Sigint,
            StopSignal::Sighup => StopTrigger::Sighup,
        }
    }
}

log_events! {
    target: "steward::process",
    title: "The process",

    /// The configuration was read, and the process starts.
    #[event(INFO, "process_starting", "the process starts")]
    #[action("none")]
    pub struct ProcessStarting<'a> {
        /// Version of the program.
        pub version: &'a str,
        /// Name of this process within the group.
        pub instance: &'a str,
        /// Consumer group.
        pub group: &'a str,
        /// Transactional id. No other process may use it.
        pub transactional_id: &'a str,
        /// Input topic.
        pub topic: &'a str,
        /// Path of the configuration file.
        pub config: &'a str,
    }

    /// The process stops reading, commits the applied events, and leaves the group.
    #[event(INFO, "process_stopping", "the process stops")]
    #[action("none")]
    pub struct ProcessStopping {
        /// What stops it.
        pub cause: StopTrigger,
        /// How long it may take at most.
        pub drain_timeout_ms: u64,
    }

    /// A second signal arrived while the process was stopping, and ends it at once. The next owner repeats the work
    /// that was applied but not committed.
    #[event(WARN, "second_signal", "a second signal ends the process at once")]
    #[action("none; if an orchestrator sent it, its grace period is shorter than `shutdown.drain_timeout_ms`")]
    pub struct SecondSignal {
        /// The second signal.
        pub signal: StopSignal,
        /// Time since the first signal.
        pub stopping_ms: u64,
    }

    /// The last line of a process that ended cleanly.
    #[event(INFO, "process_stopped", "the process has stopped")]
    #[action("none")]
    pub struct ProcessStopped {
        /// Exit code.
        pub exit_code: i32,
        /// Time since the start.
        pub ran_ms: u64,
        /// Time since the signal.
        pub drain_ms: u64,
    }

    /// The last line of a process that failed.
    #[event(ERROR, "process_failed", "the process failed")]
    #[action("read the paragraph of the exit code: what happened to the data, and what to do; `error` ends with the remedy")]
    pub struct ProcessFailed<'a> {
        /// Exit code.
        pub exit_code: i32,
        /// Name of the exit code, as in [exit codes](exit-codes.md).
        pub exit_name: &'a str,
        /// What failed, with its causes.
        pub error: &'a str,
    }

    /// A thread panicked outside of entity code. This is a bug in steward, and the process ends.
    #[event(ERROR, "thread_panicked", "a thread panicked")]
    #[action("report it with this line; the data is safe, the next owner repeats the work that was not committed")]
    pub struct ThreadPanicked<'a> {
        /// Name of the thread.
        pub thread: &'a str,
        /// File, line and column in the source.
        pub location: &'a str,
        /// The panic message, at most 64 characters of it.
        pub detail: &'a str,
    }

    /// Standard output was not read, and more than `log.max_queued_bytes` of lines waited. This line stands where the
    /// dropped lines would have been. Only log lines are lost: the process did not wait for them.
    #[event(WARN, "log_lines_dropped", "standard output was not read, and log lines were dropped")]
    #[action("find out why standard output was not read: a log driver that hangs, a paused terminal, a pipe whose reader is suspended; or log less (`log.level`)")]
    pub struct LogLinesDropped {
        /// Number of lines.
        pub dropped_lines: u64,
    }

    /// Files with certificates, keys or passwords have changed, and the clients accept the new content. The process
    /// stops cleanly with exit code 16 after a random time, to be started again with the new content.
    #[event(INFO, "credentials_changed", "certificates or passwords have changed")]
    #[action("none, if the platform starts a process again that ends with exit code 16")]
    pub struct CredentialsChanged<'a> {
        /// The keys of the files that changed, such as `kafka.security.certificate_file`.
        pub files: &'a str,
        /// When the process stops: a random time up to `kafka.security.reload_spread_ms`.
        pub leaves_in_ms: u64,
    }

    /// Files with certificates, keys or passwords have changed, and a process that starts now could not use them. The
    /// process goes on with what it read at its start.
    #[event(WARN, "credentials_refused", "changed certificates or passwords cannot be used")]
    #[action("correct the files before a process restarts; `problem` says what is wrong")]
    pub struct CredentialsRefused<'a> {
        /// The keys of the files that changed.
        pub files: &'a str,
        /// What is wrong.
        pub problem: &'a str,
    }

    /// A certificate expires within 14 days, or within a fifth of its lifetime if that is less. Logged once a day.
    #[event(WARN, "certificate_expires", "a certificate expires soon")]
    #[action("renew the certificate, and replace the file: after the expiry no client can connect")]
    pub struct CertificateExpires<'a> {
        /// The key of its file.
        pub file: &'a str,
        /// When it expires.
        pub expires: &'a str,
        /// Time until then; 0 if it has expired.
        pub left_ms: u64,
    }

    /// `log.level` changed while the process runs, after SIGHUP or because the file changed. The rest of the file is
    /// read only at the next start.
    #[event(INFO, "log_level_changed", "the log level was changed")]
    #[action("none; set `log.level` back when you are done")]
    pub struct LogLevelChanged<'a> {
        /// The previous `log.level`.
        pub old: &'a str,
        /// The new `log.level`.
        pub new: &'a str,
        /// Why the file was read.
        pub trigger: LevelTrigger,
    }

    /// The process received SIGHUP, and `log.level` has not changed.
    #[event(INFO, "log_level_unchanged", "the log level has not changed")]
    #[action("none; if you changed it, check that you changed the file that `process_starting` names")]
    pub struct LogLevelUnchanged<'a> {
        /// The current `log.level`.
        pub kept: &'a str,
        /// Why the file was read; here always `sighup`.
        pub trigger: LevelTrigger,
    }

    /// The `log.level` in the configuration file is not valid. The current level stays.
    #[event(WARN, "log_level_refused", "the new log level is not valid, and the old one stays")]
    #[action("correct `log.level` in the file; `problem` says what is wrong")]
    pub struct LogLevelRefused<'a> {
        /// The current `log.level`.
        pub kept: &'a str,
        /// What is wrong.
        pub problem: &'a str,
        /// Why the file was read.
        pub trigger: LevelTrigger,
    }
}
