//! Runs the real binary as a process. Tests observe its log, JSON lines with an `event` each, and its exit code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::child_io::{
    ControllingTerminal, GatedReader, OutputMode, ReadGate, Reading, in_session_of_its_own, pipe, terminal,
};
use super::cleanup::CleanupGuard;
use super::contract::violation;
use super::kafka::Kafka;
use super::names::Names;
use super::signal::{
    Signal, {self},
};
use super::wait::{Deadline, PATIENCE, wait_for, wait_until};

/// Number of lines of the log that a failure prints.
const SHOWN_LINES: usize = 60;

/// The configuration and environment of a process.
#[derive(Debug, Clone)]
pub struct Setup {
    config: toml::Table,
    environment: BTreeMap<String, String>,
    terminal: ControllingTerminal,
    output: OutputMode,
}

impl Setup {
    /// Makes a setup with the topics and the group of a test, and defaults for everything else.
    pub fn new(kafka: &Kafka, names: &Names) -> Setup {
        Setup {
            config: toml::Table::new(),
            environment: BTreeMap::new(),
            terminal: ControllingTerminal::Absent,
            output: OutputMode::Blocking,
        }
        .set("kafka.bootstrap_servers", kafka.address())
        .set("kafka.group_id", names.group.as_str())
        .set("kafka.topic", names.input.as_str())
        .set("kafka.state_topic", names.state.as_str())
        .set("kafka.dlq_topic", names.dlq.as_str())
        .set("log.format", "json")
    }

    /// Sets a key of the configuration file, as `section.key`.
    pub fn set(mut self, path: &str, value: impl Into<toml::Value>) -> Setup {
        let (section, key) = path.split_once('.').expect("section.key");
        let section = self.config.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let table = section.as_table_mut().expect("only tables are inserted above");
        table.insert(key.to_owned(), value.into());
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Setup {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets the name of the instance, which determines the transactional id.
    pub fn instance(self, name: &str) -> Setup {
        self.set("kafka.instance_name", name)
    }

    /// Gives the process a controlling terminal, as `steward run | cat` in a shell has it: standard output is a pipe.
    pub fn on_terminal(mut self) -> Setup {
        self.terminal = ControllingTerminal::Present;
        self
    }

    /// As [`Setup::on_terminal`], started by `nohup`.
    pub fn on_terminal_with_nohup(mut self) -> Setup {
        self.terminal = ControllingTerminal::Ignored;
        self
    }

    /// Makes standard output a full pipe that is not read.
    pub fn with_full_output(mut self) -> Setup {
        self.output = OutputMode::Full;
        self
    }

    /// Makes standard output non-blocking, as some supervisors do.
    pub fn with_non_blocking_output(mut self) -> Setup {
        self.output = OutputMode::NonBlocking;
        self
    }

    /// Starts `steward run`.
    pub fn start(&self) -> Steward {
        Steward::start(self.clone())
    }
}

/// The result of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    pub code: i32,
    pub line: String,
}

/// A `steward run`, running or ended. Dropping it kills the process.
pub struct Steward {
    child: Child,
    cleanup: CleanupGuard,
    folder: PathBuf,
    log: Arc<Log>,
    readers: Vec<JoinHandle<()>>,
    /// Standard output, only to see how much of it is unread.
    output: PipeReader,
    gate: Arc<ReadGate>,
    /// The other end of the controlling terminal.
    terminal: Option<File>,
    /// Number of events of each name that `wait_for_event` has returned.
    taken: BTreeMap<String, usize>,
}

impl Steward {
    fn start(setup: Setup) -> Steward {
        let folder = tempfile::Builder::new().prefix("steward-run-").tempdir().expect("the system's temporary folder");
        // The guard removes the folder, also if this process is killed before it drops a TempDir.
        let folder = folder.keep();
        let mut cleanup = CleanupGuard::new(&folder);
        let setup = setup.set("health.file", folder.join("health").display().to_string());
        std::fs::write(folder.join("steward.toml"), setup.config.to_string()).expect("a folder of our own");

        let (output, stdout) = pipe(setup.output);
        let (screen, stdin) = match setup.terminal {
            ControllingTerminal::Absent => (None, Stdio::null()),
            ControllingTerminal::Present | ControllingTerminal::Ignored => {
                let (screen, stdin) = terminal();
                (Some(screen), stdin)
            }
        };
        let mut command = command(&folder, &setup);
        command.stdin(stdin).stdout(stdout).stderr(Stdio::piped());
        in_session_of_its_own(&mut command, setup.terminal);
        let mut child = command.spawn().expect("cargo has built it");
        // It has the child's end of the pipe.
        drop(command);
        cleanup.set_command(&format!("kill -9 {}", child.id()));
        let (log, gate) = (Arc::new(Log::default()), Arc::new(ReadGate::default()));
        let stdout = GatedReader { stream: output.try_clone().expect("a descriptor is free"), gate: Arc::clone(&gate) };
        if setup.output == OutputMode::Full {
            gate.set(Reading::Paused);
        }
        let readers = vec![follow(&log, stdout), follow(&log, child.stderr.take().expect("piped"))];
        Steward { child, cleanup, folder, log, readers, output, gate, terminal: screen, taken: BTreeMap::new() }
    }

    /// Stops reading standard output, except for one more read.
    pub fn pause_reading(&self) {
        self.gate.set(Reading::Paused);
    }

    /// Continues after [`Steward::pause_reading`].
    pub fn resume_reading(&self) {
        self.gate.set(Reading::Running);
    }

    /// Returns the bytes of standard output that are in the pipe.
    pub fn unread_bytes(&self) -> u64 {
        rustix::io::ioctl_fionread(&self.output).expect("a pipe knows it")
    }

    /// Closes the controlling terminal.
    pub fn hang_up(&mut self) {
        drop(self.terminal.take().expect("it has a terminal"));
    }

    /// Returns the configuration file, for other commands of the binary.
    pub fn config_file(&self) -> PathBuf {
        self.folder.join("steward.toml")
    }

    /// Returns the heartbeat file.
    pub fn heartbeat_file(&self) -> PathBuf {
        self.folder.join("health")
    }

    /// Waits for the next event of this name. The first call returns the first one since the start, even if it was
    /// logged before the call.
    ///
    /// # Panics
    /// After `limit`, or if the process ends without the event; prints the end of the log.
    pub fn wait_for_event(&mut self, name: &str, limit: Duration) -> Value {
        let taken = self.taken.get(name).copied().unwrap_or(0);
        let Some(event) = self.log.nth(name, taken, Deadline::after(limit)) else {
            panic!("no event {name} (after {taken} others) within {limit:?}; {}", self.tail());
        };
        self.taken.insert(name.to_owned(), taken + 1);
        event
    }

    /// Waits for the next event of this name for which `wanted` holds.
    pub fn wait_for_event_where(&mut self, name: &str, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Deadline::after(limit);
        loop {
            let event = self.wait_for_event(name, deadline.left());
            if wanted(&event) {
                return event;
            }
        }
    }

    /// Skips all events of this name so far.
    pub fn skip_events(&mut self, name: &str) {
        self.taken.insert(name.to_owned(), self.events(name).len());
    }

    /// Returns all events of this name so far.
    pub fn events(&self, name: &str) -> Vec<Value> {
        self.log.all().into_iter().filter(|line| line["event"] == name).collect()
    }

    /// Returns the partitions that the last `stats` lists as serving.
    pub fn serving(&self) -> BTreeSet<i32> {
        self.events("stats").last().map(|line| ranges(&line["serving"])).unwrap_or_default()
    }

    /// Returns all lines of level ERROR so far.
    pub fn errors(&self) -> Vec<Value> {
        self.log.all().into_iter().filter(|line| line["level"] == "ERROR").collect()
    }

    /// Fails on a line of level ERROR whose event was not announced.
    pub fn assert_no_errors_but(&self, announced: &[&str]) {
        let unannounced: Vec<Value> = self
            .errors()
            .into_iter()
            .filter(|line| !line["event"].as_str().is_some_and(|event| announced.contains(&event)))
            .collect();
        assert!(unannounced.is_empty(), "errors that the test did not announce: {unannounced:#?}");
        self.assert_contract();
    }

    /// Fails on a line that does not match the specification of its event.
    fn assert_contract(&self) {
        let violations = self.log.state.lock().unwrap_or_else(PoisonError::into_inner).violations.clone();
        assert!(violations.is_empty(), "lines that do not match their specification: {violations:#?}");
    }

    /// Sends SIGKILL, and returns when the process has ended.
    pub fn kill9(&mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
        self.finish();
    }

    /// Sends SIGTERM, after which the process stops cleanly.
    pub fn sigterm(&self) {
        self.wait_for_first_line();
        signal::send(&self.child, Signal::Terminate);
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn sigint(&self) {
        self.wait_for_first_line();
        signal::send(&self.child, Signal::Interrupt);
    }

    /// Sends SIGHUP, after which the process reads its log level again.
    pub fn sighup(&self) {
        self.wait_for_first_line();
        signal::send(&self.child, Signal::HangUp);
    }

    /// Waits for the first line. Before it, the process may have no signal handlers yet, and a signal would kill it.
    fn wait_for_first_line(&self) {
        wait_until("the process writes a line", PATIENCE, || {
            let lines = self.log.state.lock().unwrap_or_else(PoisonError::into_inner);
            !lines.raw.is_empty() || lines.ended == 2
        });
    }

    /// Freezes the process, like a long pause of its machine.
    pub fn sigstop(&self) {
        signal::send(&self.child, Signal::Stop);
    }

    /// Continues after [`Steward::sigstop`].
    pub fn sigcont(&self) {
        signal::send(&self.child, Signal::Continue);
    }

    /// Returns whether the process has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_none()
    }

    /// Waits until the process ends, and returns its exit code.
    ///
    /// # Panics
    /// If the process does not end within `limit`, or is ended by a signal; prints the end of the log.
    pub fn wait_exit(&mut self, limit: Duration) -> i32 {
        let deadline = Deadline::after(limit);
        let status: ExitStatus = loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                break status;
            }
            assert!(!deadline.passed(), "has not ended within {limit:?}; {}", self.tail());
            std::thread::sleep(Duration::from_millis(10));
        };
        self.finish();
        status.code().unwrap_or_else(|| panic!("ended by a signal: {status}; {}", self.tail()))
    }

    /// Sends SIGTERM, and fails unless the process ends with exit code 0.
    pub fn stop(&mut self) {
        self.sigterm();
        let code = self.wait_exit(Duration::from_secs(40));
        assert_eq!(code, 0, "after SIGTERM; {}", self.tail());
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the result of `steward health ready`.
    pub fn is_ready(&self) -> bool {
        self.health("ready", &[]).code == 0
    }

    /// Runs `steward health live|ready` with the configuration of the process and further arguments.
    pub fn health(&self, which: &str, arguments: &[&str]) -> Probed {
        let mut probe = Command::new(env!("CARGO_BIN_EXE_steward"));
        probe.args(["health", which, "--config"]).arg(self.config_file()).args(arguments).stdin(Stdio::null());
        let ran = probe.output().expect("cargo has built it");
        let code = ran.status.code().expect("a probe ends by itself");
        Probed { code, line: String::from_utf8_lossy(&ran.stdout).trim_end().to_owned() }
    }

    /// Returns all output so far, standard output and standard error mixed.
    pub fn output(&self) -> String {
        self.log.state.lock().unwrap_or_else(PoisonError::into_inner).raw.join("\n")
    }

    /// Returns the end of the log, for messages.
    pub fn tail(&self) -> String {
        let lines = self.log.state.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = &lines.raw[lines.raw.len().saturating_sub(SHOWN_LINES)..];
        format!("its log ends with\n  {}", shown.join("\n  "))
    }

    /// Reads the output to its end, after the process has ended.
    fn finish(&mut self) {
        self.cleanup.ended();
        self.resume_reading();
        for reader in self.readers.drain(..) {
            reader.join().expect("the reader does not panic");
        }
    }
}

impl Drop for Steward {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("steward {}: {}", self.child.id(), self.tail());
        }
        if self.is_running() {
            self.kill9();
        }
        if !std::thread::panicking() {
            self.assert_contract();
        }
    }
}

fn command(folder: &Path, setup: &Setup) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steward"));
    command.arg("run").arg("--config").arg(folder.join("steward.toml"));
    // Settings of this machine must not affect the test.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STEWARD") || name == "POD_NAME" {
            command.env_remove(name);
        }
    }
    command.envs(&setup.environment);
    command
}

// ------------------------------------------------------------------------------------------------------------- log

/// The output of the process so far. Two threads append to it.
#[derive(Default)]
struct Log {
    state: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    /// All lines, standard output and standard error mixed.
    raw: Vec<String>,
    /// The lines that are JSON objects.
    parsed: Vec<Value>,
    /// Lines that do not match their specification, and why.
    violations: Vec<String>,
    /// Number of the two streams that have ended.
    ended: usize,
}

impl Log {
    /// Waits for the event of this name that follows `before` others of the name. Returns `None` at the deadline, or
    /// when no further line can follow.
    fn nth(&self, name: &str, before: usize, deadline: Deadline) -> Option<Value> {
        let mut lines = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = lines.parsed.iter().filter(|line| line["event"] == name).nth(before) {
                return Some(found.clone());
            }
            if lines.ended == 2 || deadline.passed() {
                return None;
            }
            let waited = self.changed.wait_timeout(lines, deadline.left());
            (lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn all(&self) -> Vec<Value> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).parsed.clone()
    }

    fn change(&self, change: impl FnOnce(&mut Lines)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}

/// Reads a stream to its end, on a thread.
fn follow(log: &Arc<Log>, stream: impl Read + Send + 'static) -> JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            let parsed = serde_json::from_str::<Value>(&text).ok().filter(Value::is_object);
            let violation = parsed.as_ref().and_then(|parsed| violation(&text, parsed));
            log.change(|lines| {
                lines.raw.push(text);
                lines.violations.extend(violation);
                lines.parsed.extend(parsed);
            });
        }
        log.change(|lines| lines.ended += 1);
    })
}

/// Waits until every process has logged an event of this name.
pub fn all_log(processes: &mut [Steward], name: &str, limit: Duration) {
    let deadline = Deadline::after(limit);
    for process in processes {
        process.wait_for_event(name, deadline.left());
    }
}

/// Waits until `find` finds something in the log of a process.
pub fn wait_for_log<T>(process: &Steward, what: &str, limit: Duration, find: impl Fn(&[Value]) -> Option<T>) -> T {
    wait_for(what, limit, || find(&process.log.all()))
}

/// Returns the partitions that a line names.
pub fn partitions(line: &Value) -> BTreeSet<i32> {
    ranges(&line["partitions"])
}

/// Parses `0-3,7`.
fn ranges(text: &Value) -> BTreeSet<i32> {
    let text = text.as_str().expect("partitions are text");
    let number = |text: &str| text.parse::<i32>().expect("a partition's number");
    text.split(',')
        .filter(|part| !part.is_empty())
        .flat_map(|part| match part.split_once('-') {
            Some((first, last)) => number(first)..=number(last),
            None => number(part)..=number(part),
        })
        .collect()
}
