//! The real binary as a process, judged by its log: JSON lines with an `event` each, and by its exit code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

use super::contract::breach;
use super::kafka::Kafka;
use super::leash::Leash;
use super::names::Names;
use super::signal::{
    Signal, {self},
};
use super::wait::{Deadline, PATIENCE, wait_for, wait_until};

/// How many lines of its log a process shows when something went wrong.
const SHOWN_LINES: usize = 60;

/// What a process is to be started with.
#[derive(Debug, Clone)]
pub struct Setup {
    config: toml::Table,
    environment: BTreeMap<String, String>,
    on_terminal: bool,
}

impl Setup {
    /// The topics and the group of a test, everything else by default.
    pub fn new(kafka: &Kafka, names: &Names) -> Setup {
        Setup { config: toml::Table::new(), environment: BTreeMap::new(), on_terminal: false }
            .set("kafka.bootstrap_servers", kafka.address())
            .set("kafka.group_id", names.group.as_str())
            .set("kafka.topic", names.input.as_str())
            .set("kafka.state_topic", names.state.as_str())
            .set("kafka.dlq_topic", names.dlq.as_str())
            .set("log.format", "json")
    }

    /// One key of the configuration file, as `section.key`.
    pub fn set(mut self, path: &str, value: impl Into<toml::Value>) -> Setup {
        let (section, key) = path.split_once('.').expect("section.key");
        let section = self.config.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let table = section.as_table_mut().expect("only tables are put in above");
        table.insert(key.to_owned(), value.into());
        self
    }

    /// One variable of the environment.
    pub fn env(mut self, name: &str, value: &str) -> Setup {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The name of the instance, which decides about the transactional id.
    pub fn instance(self, name: &str) -> Setup {
        self.set("kafka.instance_name", name)
    }

    /// Its standard output is a terminal, as for a person who tries it.
    pub fn on_terminal(mut self) -> Setup {
        self.on_terminal = true;
        self
    }

    /// Starts `steward run`.
    pub fn start(&self) -> Steward {
        Steward::start(self.clone())
    }
}

/// What a probe answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// Its exit code.
    pub code: i32,
    /// Its line.
    pub said: String,
}

/// A running, or ended, `steward run`. Dropping it kills it.
pub struct Steward {
    child: Child,
    leash: Leash,
    folder: PathBuf,
    log: Arc<Log>,
    readers: Vec<JoinHandle<()>>,
    /// How many events of each name were waited for.
    taken: BTreeMap<String, usize>,
}

impl Steward {
    fn start(setup: Setup) -> Steward {
        let folder = tempfile::Builder::new().prefix("steward-run-").tempdir().expect("the system's temporary folder");
        // The leash removes it, also when nobody is left to drop a TempDir.
        let folder = folder.keep();
        let mut leash = Leash::new(&folder);
        let setup = setup.set("health.file", folder.join("health").display().to_string());
        std::fs::write(folder.join("steward.toml"), setup.config.to_string()).expect("a folder of our own");

        let (screen, stdout) = if setup.on_terminal { terminal() } else { pipe() };
        let mut child = command(&folder, &setup)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .expect("cargo has built it");
        leash.at_the_end(&format!("kill -9 {}", child.id()));
        let log = Arc::new(Log::default());
        let readers = vec![follow(&log, screen), follow(&log, child.stderr.take().expect("piped"))];
        Steward { child, leash, folder, log, readers, taken: BTreeMap::new() }
    }

    /// The configuration file, for other commands of the binary.
    pub fn config_file(&self) -> PathBuf {
        self.folder.join("steward.toml")
    }

    /// Where it writes its heartbeat.
    pub fn heartbeat_file(&self) -> PathBuf {
        self.folder.join("health")
    }

    /// The next event of this name: the first call returns the first one since the start, also if it was logged
    /// before the call.
    ///
    /// # Panics
    /// With the end of the log, after `limit`, or when the process ends without it.
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

    /// What was logged so far under this name counts as waited for.
    pub fn pass_over(&mut self, name: &str) {
        self.taken.insert(name.to_owned(), self.events(name).len());
    }

    /// All events of this name so far.
    pub fn events(&self, name: &str) -> Vec<Value> {
        self.log.all().into_iter().filter(|line| line["event"] == name).collect()
    }

    /// The partitions that it serves, as its last `stats` said.
    pub fn serving(&self) -> BTreeSet<i32> {
        self.events("stats").last().map(|line| ranges(&line["serving"])).unwrap_or_default()
    }

    /// All lines of level ERROR so far: a test fails on those that it did not announce.
    pub fn errors(&self) -> Vec<Value> {
        self.log.all().into_iter().filter(|line| line["level"] == "ERROR").collect()
    }

    /// Fails on a line of level ERROR whose event is not among those announced.
    pub fn assert_no_errors_but(&self, announced: &[&str]) {
        let unannounced: Vec<Value> = self
            .errors()
            .into_iter()
            .filter(|line| !line["event"].as_str().is_some_and(|event| announced.contains(&event)))
            .collect();
        assert!(unannounced.is_empty(), "errors that the test did not announce: {unannounced:#?}");
        self.assert_contract();
    }

    /// Fails on a line that is not what the catalogue says of its event.
    fn assert_contract(&self) {
        let breaches = self.log.state.lock().unwrap_or_else(PoisonError::into_inner).breaches.clone();
        assert!(breaches.is_empty(), "lines that the catalogue does not promise: {breaches:#?}");
    }

    /// Kills it at once, and returns when it is gone.
    pub fn kill9(&mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
        self.gone();
    }

    /// Asks it to end cleanly.
    pub fn sigterm(&self) {
        self.wait_until_it_speaks();
        signal::send(&self.child, Signal::Terminate);
    }

    /// Asks it to end cleanly, as Ctrl-C does.
    pub fn sigint(&self) {
        self.wait_until_it_speaks();
        signal::send(&self.child, Signal::Interrupt);
    }

    /// Has it read the level of its log again.
    pub fn sighup(&self) {
        self.wait_until_it_speaks();
        signal::send(&self.child, Signal::HangUp);
    }

    /// Before its first line a process may not listen to signals yet, and would just be gone.
    fn wait_until_it_speaks(&self) {
        wait_until("the process says something", PATIENCE, || {
            let lines = self.log.state.lock().unwrap_or_else(PoisonError::into_inner);
            !lines.raw.is_empty() || lines.ended == 2
        });
    }

    /// Freezes it, as a long pause of its machine would.
    pub fn sigstop(&self) {
        signal::send(&self.child, Signal::Stop);
    }

    /// Goes on after [`Steward::sigstop`].
    pub fn sigcont(&self) {
        signal::send(&self.child, Signal::Continue);
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_none()
    }

    /// The exit code.
    ///
    /// # Panics
    /// With the end of the log, when it has not ended within `limit`, or by a signal.
    pub fn wait_exit(&mut self, limit: Duration) -> i32 {
        let deadline = Deadline::after(limit);
        let status: ExitStatus = loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                break status;
            }
            assert!(!deadline.passed(), "has not ended within {limit:?}; {}", self.tail());
            std::thread::sleep(Duration::from_millis(10));
        };
        self.gone();
        status.code().unwrap_or_else(|| panic!("ended by a signal: {status}; {}", self.tail()))
    }

    /// Ends it cleanly, and expects that it does.
    pub fn stop(&mut self) {
        self.sigterm();
        let code = self.wait_exit(Duration::from_secs(40));
        assert_eq!(code, 0, "after SIGTERM; {}", self.tail());
    }

    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What `steward health ready` says of it.
    pub fn is_ready(&self) -> bool {
        self.health("ready", &[]).code == 0
    }

    /// What `steward health live|ready` says of it, by its configuration and these further arguments.
    pub fn health(&self, which: &str, arguments: &[&str]) -> Probed {
        let mut probe = Command::new(env!("CARGO_BIN_EXE_steward"));
        probe.args(["health", which, "--config"]).arg(self.config_file()).args(arguments).stdin(Stdio::null());
        let ran = probe.output().expect("cargo has built it");
        let code = ran.status.code().expect("a probe ends by itself");
        Probed { code, said: String::from_utf8_lossy(&ran.stdout).trim_end().to_owned() }
    }

    /// All that it has written so far, standard output and standard error mixed.
    pub fn output(&self) -> String {
        self.log.state.lock().unwrap_or_else(PoisonError::into_inner).raw.join("\n")
    }

    /// The end of its log, for a person.
    pub fn tail(&self) -> String {
        let lines = self.log.state.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = &lines.raw[lines.raw.len().saturating_sub(SHOWN_LINES)..];
        format!("its log ends with\n  {}", shown.join("\n  "))
    }

    /// It was waited for: what it wrote is read to the end.
    fn gone(&mut self) {
        self.leash.ended();
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader that only pushes lines");
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

/// What is read here, and what a child writes into.
fn pipe() -> (Box<dyn Read + Send>, Stdio) {
    let (reader, writer) = std::io::pipe().expect("the system gives pipes");
    (Box::new(reader), writer.into())
}

/// The same, and for the child it is a terminal.
fn terminal() -> (Box<dyn Read + Send>, Stdio) {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("the system gives terminals");
    grantpt(&screen).expect("it was just made");
    unlockpt(&screen).expect("it was just made");
    let path = ptsname(&screen, Vec::new()).expect("it was just made");
    let path = path.into_string().expect("a path of numbers and letters");
    let mut options = File::options();
    // It shall not become the terminal that the tests are controlled by.
    let child = options.read(true).write(true).custom_flags(libc::O_NOCTTY).open(path).expect("it was just made");
    (Box::new(File::from(screen)), child.into())
}

fn command(folder: &Path, setup: &Setup) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steward"));
    command.arg("run").arg("--config").arg(folder.join("steward.toml"));
    // The machine's own settings of steward are not the test's.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STEWARD") || name == "POD_NAME" {
            command.env_remove(name);
        }
    }
    command.envs(&setup.environment);
    command
}

// ------------------------------------------------------------------------------------------------------------- log

/// What the process has written so far; two threads add to it.
#[derive(Default)]
struct Log {
    state: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    /// As they came, standard output and standard error mixed.
    raw: Vec<String>,
    /// Those that are JSON objects.
    parsed: Vec<Value>,
    /// What is wrong with lines that the catalogue does not promise.
    breaches: Vec<String>,
    /// How many of the two streams have ended.
    ended: usize,
}

impl Log {
    /// The event of this name that has `before` others of the name before it; `None` when it is not there by the
    /// deadline, or can no more come.
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

/// Reads one stream to its end, in a thread.
fn follow(log: &Arc<Log>, stream: impl Read + Send + 'static) -> JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            let parsed = serde_json::from_str::<Value>(&text).ok().filter(Value::is_object);
            let breach = parsed.as_ref().and_then(|parsed| breach(&text, parsed));
            log.change(|lines| {
                lines.raw.push(text);
                lines.breaches.extend(breach);
                lines.parsed.extend(parsed);
            });
        }
        log.change(|lines| lines.ended += 1);
    })
}

/// Waits until every one of the processes has logged an event of this name.
pub fn all_log(processes: &mut [Steward], name: &str, limit: Duration) {
    let deadline = Deadline::after(limit);
    for process in processes {
        process.wait_for_event(name, deadline.left());
    }
}

/// Waits until something holds of a process's log.
pub fn wait_for_log<T>(process: &Steward, what: &str, limit: Duration, look: impl Fn(&[Value]) -> Option<T>) -> T {
    wait_for(what, limit, || look(&process.log.all()))
}

/// The partitions that a line names.
pub fn partitions(line: &Value) -> BTreeSet<i32> {
    ranges(&line["partitions"])
}

/// `0-3,7` as numbers.
fn ranges(text: &Value) -> BTreeSet<i32> {
    let text = text.as_str().expect("partitions are told as text");
    let number = |text: &str| text.parse::<i32>().expect("a partition's number");
    text.split(',')
        .filter(|part| !part.is_empty())
        .flat_map(|part| match part.split_once('-') {
            Some((first, last)) => number(first)..=number(last),
            None => number(part)..=number(part),
        })
        .collect()
}
