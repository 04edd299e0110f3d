//! From the start of the process to its end.

use crate::observability::log_events::log_events;

log_events! {
    target: "steward::process",
    title: "The process",

    /// The configuration was read, and the process starts.
    #[event(INFO, "process_starting", "the process starts")]
    #[action("none")]
    pub struct ProcessStarting<'a> {
        /// Version of the program.
        pub version: &'a str,
        /// Name of this process among its siblings.
        pub instance: &'a str,
        /// Consumer group.
        pub group: &'a str,
        /// Transactional id: no other process may have it.
        pub transactional_id: &'a str,
        /// Topic of the events.
        pub topic: &'a str,
        /// The configuration's file.
        pub config: &'a str,
    }

    /// The process leaves the group, and commits what is applied before it ends.
    #[event(INFO, "process_stopping", "the process stops")]
    #[action("none after a signal; after an `error`, read the ERROR before it")]
    pub struct ProcessStopping<'a> {
        /// `sigterm`, `sigint`, `sighup` on a terminal, or `error`.
        pub cause: &'a str,
        /// How long it may take at most.
        pub drain_timeout_ms: u64,
    }

    /// A second signal came while the process was stopping: it ends at once. What was applied but not committed is
    /// done again by the next owner.
    #[event(WARN, "second_signal", "a second signal ends the process at once")]
    #[action("none; where it comes from an orchestrator, its grace period is shorter than `shutdown.drain_timeout_ms`")]
    pub struct SecondSignal<'a> {
        /// `sigterm` or `sigint`; on a terminal also `sighup`.
        pub signal: &'a str,
        /// Time since the first one.
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
        /// Time from the signal to here.
        pub drain_ms: u64,
    }

    /// The last line of a process that failed.
    #[event(ERROR, "process_failed", "the process failed")]
    #[action("the exit code's paragraph in the documentation says what happened to the data and what to do; `error` ends with the remedy")]
    pub struct ProcessFailed<'a> {
        /// Exit code.
        pub exit_code: i32,
        /// The exit code's name.
        pub exit_name: &'a str,
        /// What failed, with its causes.
        pub error: &'a str,
    }

    /// A thread panicked outside of entity code. It is a bug in steward, and the process ends.
    #[event(ERROR, "thread_panicked", "a thread panicked")]
    #[action("report it with this line; the data is safe, the next owner does again what was not committed")]
    pub struct ThreadPanicked<'a> {
        /// Name of the thread.
        pub thread: &'a str,
        /// File, line and column in the source.
        pub location: &'a str,
        /// The panic's message, at most 64 characters of it.
        pub detail: &'a str,
    }

    /// The level of the log was changed while the process runs: by SIGHUP, or because the file changed. Nothing else of
    /// the file is read before the next start.
    #[event(INFO, "log_level_changed", "the log level was changed, and nothing else")]
    #[action("none; set `log.level` back when you have seen enough")]
    pub struct LogLevelChanged<'a> {
        /// `log.level` until here.
        pub old: &'a str,
        /// `log.level` from here on.
        pub new: &'a str,
        /// `sighup` or `file`.
        pub trigger: &'a str,
    }

    /// SIGHUP came, and `log.level` is what it was.
    #[event(INFO, "log_level_unchanged", "the log level was read again and is what it was")]
    #[action("none; if it should be another, look whether the file is the one that `process_starting` names")]
    pub struct LogLevelUnchanged<'a> {
        /// `log.level`.
        pub kept: &'a str,
        /// `sighup`.
        pub trigger: &'a str,
    }

    /// The configuration file gives no `log.level` that could be taken. The old one stays.
    #[event(WARN, "log_level_refused", "the log level stays, because the new one cannot be taken")]
    #[action("correct `log.level` in the file; `problem` says what is wrong")]
    pub struct LogLevelRefused<'a> {
        /// `log.level` as it stays.
        pub kept: &'a str,
        /// What is wrong.
        pub problem: &'a str,
        /// `sighup` or `file`.
        pub trigger: &'a str,
    }
}
