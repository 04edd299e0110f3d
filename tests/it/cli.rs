//! What people type and read, as far as it takes no broker: help, mistakes, configuration, probes, exit codes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use steward::config::Config;
use steward::exit_code::ExitCode;
use steward::observability::heartbeat::{Heartbeat, HeartbeatError, HeartbeatFile, HeartbeatWriter, ProbeResult};
use steward::tools::demo::engine::Comparison;
use steward::tools::demo::report;

use crate::support::wait::{PATIENCE, unix_ms, wait_for};

// ------------------------------------------------------------------------------------------------------------- help

#[apply(offline_test)]
fn the_help_fits_on_one_screen() {
    let help = steward(["--help"]).ok();
    assert!(help.lines().count() <= 45, "{} lines", help.lines().count());
    for word in ["services.state", "services.dlq", "steward demo", "config default", "exit-codes.md"] {
        assert!(help.contains(word), "{word}");
    }
}

#[apply(offline_test)]
fn the_help_of_every_command_has_an_example_and_the_next_step() {
    let mut seen = 0;
    each_command(&steward::cli::command(), &mut |path, command| {
        seen += 1;
        assert!(command.get_about().is_some_and(|about| about.to_string().len() > 10), "{path}: about");
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let has_example = after.lines().any(|line| line.starts_with("Example") || line.starts_with("First steps"));
        assert!(has_example && after.contains("steward"), "{path}: an example in {after:?}");
        assert!(path == "steward" || after.contains("\nNext: "), "{path}: what to look at next in {after:?}");
    });
    assert!(seen >= 11, "only {seen} commands");
}

#[apply(offline_test)]
fn the_help_of_every_flag_states_its_default() {
    each_command(&steward::cli::command(), &mut |path, command| {
        for flag in command.get_arguments().filter(|flag| !flag.is_positional()) {
            let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
            let id = flag.get_id();
            assert!(!help.is_empty(), "{path} --{id} has no help");
            if flag.get_action().takes_values() && flag.get_default_values().is_empty() {
                let names_default =
                    ["without it", "wins over", "instead of", "Draw only"].iter().any(|word| help.contains(word));
                assert!(names_default, "{path} --{id} has no default, and its help does not explain that: {help}");
            }
        }
    });
}

#[apply(offline_test)]
fn a_wrong_command_line_ends_with_2() {
    let wrong: [&[&str]; 16] = [
        &[],
        &["walk"],
        &["run", "--fast"],
        &["run", "extra"],
        &["state", "get"],
        &["state", "get", "forty-two"],
        &["state", "get", "042"],
        &["state", "get", "-1"],
        &["state", "get", "9007199254740992"],
        &["state", "list", "--partition", "-1"],
        &["health"],
        &["health", "live", "--max-age-ms", "0"],
        &["produce", "--rate", "0"],
        &["produce", "--invalid", "no-such-kind=1"],
        &["produce", "--invalid-share", "0.7", "--odd-share", "0.7"],
        &["completions", "tcsh"],
    ];
    for arguments in wrong {
        let ran = steward(arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.stderr);
        assert!(!ran.stderr.is_empty() && ran.stdout.is_empty(), "{arguments:?}: reported on standard error");
    }
}

#[apply(offline_test)]
fn the_version_names_the_client_library() {
    let version = steward(["--version"]).ok();
    assert!(version.starts_with(&format!("steward {} (librdkafka 2.", env!("CARGO_PKG_VERSION"))), "{version}");
    assert!(version.contains(if cfg!(feature = "tls") { "with TLS" } else { "without TLS" }), "{version}");
}

#[apply(offline_test)]
fn every_exit_code_has_a_section_on_its_page() {
    let page = include_str!("../../docs/exit-codes.md");
    let headings: Vec<&str> = page.lines().filter(|line| line.starts_with("## ")).collect();
    let expected = ExitCode::ALL.map(|code| format!("## {} `{}`", code.code(), code.name()));
    assert_eq!(headings, expected);
    for section in page.split("\n## ").skip(1) {
        for part in ["**Cause.** ", "**Data.** ", "**What to do.** "] {
            assert!(section.contains(part), "{part} is missing in {section}");
        }
    }
}

// ---------------------------------------------------------------------------------------------------- configuration

#[apply(offline_test)]
fn the_default_configuration_is_the_file_of_the_repository() {
    let folder = folder();
    let file = folder.write("config.toml", &steward(["config", "default"]).ok());
    assert_eq!(fs::read_to_string(&file).expect("written above"), include_str!("../../config.toml"));
    steward(["config", "check", "--config", &file]).ok();
}

#[apply(offline_test)]
fn a_configuration_is_checked_and_shown_with_its_sources() {
    let folder = folder();
    let file = folder.write("steward.toml", "[kafka]\ngroup_id = \"blue\"\n");
    let shown = steward_with(&[("STEWARD__KAFKA__TOPIC", "events")], ["config", "check", "--config", &file]).ok();

    assert!(shown.contains(&format!("group_id = \"blue\" # {file}, line 2, column 1")), "{shown}");
    assert!(shown.contains("topic = \"events\" # STEWARD__KAFKA__TOPIC"), "{shown}");
    assert!(shown.contains("dlq_topic = \"services.dlq\" # default"), "{shown}");
    let again = folder.write("again.toml", &shown);
    steward(["config", "check", "--config", &again]).ok();
}

#[apply(offline_test)]
fn all_mistakes_of_a_configuration_are_reported_at_once_without_secrets() {
    let folder = folder();
    let file = folder.write(
        "steward.toml",
        "[kafka]\ngroup = \"blue\"\nsession_timeout_ms = 3\n[kafka.security]\npassword = \"hunter2\"\n",
    );
    let ran = steward(["config", "check", "--config", &file]);

    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""));
    for text in ["kafka.group ", "kafka.session_timeout_ms = 3", "kafka.security.password"] {
        assert!(ran.stderr.contains(text), "{text}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);

    let missing = steward(["config", "check", "--config", "/nowhere/steward.toml"]);
    assert_eq!(missing.code, 3);
    assert!(missing.stderr.contains("/nowhere/steward.toml"), "{}", missing.stderr);
}

#[apply(offline_test)]
fn an_empty_variable_counts_as_no_configuration_file() {
    let shown = steward_with(&[("STEWARD_CONFIG", "")], ["config", "check"]).ok();
    assert!(shown.contains("group_id = \"steward\" # default"), "{shown}");
    let named = steward_with(&[("STEWARD_CONFIG", "/nowhere/steward.toml")], ["config", "check"]);
    assert_eq!(named.code, 3, "{}", named.stderr);
}

#[apply(offline_test)]
fn a_run_with_a_wrong_configuration_logs_one_line() {
    let ran = steward_with(&[("STEWARD__KAFKA__SESSION_TIMEOUT_MS", "3")], ["run"]);

    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("kafka.session_timeout_ms = 3"), "{}", ran.stderr);
    let line: Value = serde_json::from_str(&ran.stdout).expect("one line of JSON");
    assert_eq!((&line["event"], &line["level"]), (&"process_failed".into(), &"ERROR".into()));
    assert_eq!((&line["exit_code"], &line["exit_name"]), (&3.into(), &"config".into()));
    assert!(line["error"].as_str().is_some_and(|error| error.contains("kafka.session_timeout_ms")), "{line}");
}

#[apply(offline_test)]
fn a_mistake_in_a_flag_names_the_flag() {
    let environment = [("STEWARD__KAFKA__TOPIC", "overridden")];
    let ran = steward_with(&environment, ["produce", "--topic", "no/topic", "--bootstrap-servers", "nowhere"]);
    assert_eq!(ran.code, 3);
    for text in ["\"no/topic\" (--topic)", "\"nowhere\" (--bootstrap-servers)"] {
        assert!(ran.stderr.contains(text), "{text}: {}", ran.stderr);
    }
}

// ----------------------------------------------------------------------------------------------------------- health

const MAX_AGE: Duration = Duration::from_millis(10_000);
const NOW: i64 = 1_700_000_000_000;

/// A process that started a minute before `NOW`.
pub fn writer() -> HeartbeatWriter {
    HeartbeatWriter {
        pid: 7,
        host: gethostname::gethostname().to_string_lossy().into_owned(),
        instance: "steward-0".into(),
        started_unix_ms: NOW - 60_000,
    }
}

fn beat(written_unix_ms: i64) -> Heartbeat {
    Heartbeat {
        written_unix_ms,
        writer: writer(),
        ready: true,
        ready_cause: "3 partitions serve".into(),
        live: true,
        live_cause: "nothing to do".into(),
    }
}

#[apply(offline_test)]
fn a_fresh_heartbeat_is_trusted() {
    for written in [NOW, NOW - 10_000, NOW + 10_000] {
        assert!(matches!(beat(written).check_live(NOW, MAX_AGE), ProbeResult::Healthy(_)), "{written}");
        assert!(matches!(beat(written).check_ready(NOW, MAX_AGE), ProbeResult::Healthy(_)), "{written}");
    }
    let restoring = Heartbeat { ready: false, ready_cause: "2 partitions restore".into(), ..beat(NOW - 300) };
    let by = format!("process 7 of host {}, instance steward-0, up 59 s, written 300 ms ago", writer().host);
    let ready = ProbeResult::Unhealthy(format!("not ready: 2 partitions restore ({by})"));
    assert_eq!(restoring.check_ready(NOW, MAX_AGE), ready);
    let live = ProbeResult::Healthy(format!("live: nothing to do ({by})"));
    assert_eq!(restoring.check_live(NOW, MAX_AGE), live);
    let stuck = Heartbeat { live: false, live_cause: "commits hang".into(), ..beat(NOW) };
    assert!(matches!(stuck.check_live(NOW, MAX_AGE), ProbeResult::Unhealthy(cause) if cause.contains("commits hang")));
}

#[apply(offline_test)]
fn an_old_heartbeat_is_not_trusted() {
    for written in [NOW - 10_001, 0, i64::MIN] {
        for judgement in [beat(written).check_live(NOW, MAX_AGE), beat(written).check_ready(NOW, MAX_AGE)] {
            assert!(matches!(&judgement, ProbeResult::Unhealthy(cause) if cause.contains("ms old")), "{judgement}");
        }
    }
}

#[apply(offline_test)]
fn a_heartbeat_from_the_future_is_not_trusted() {
    for written in [NOW + 10_001, i64::MAX] {
        let judgement = beat(written).check_live(NOW, MAX_AGE);
        assert!(matches!(&judgement, ProbeResult::Unhealthy(cause) if cause.contains("future")), "{judgement}");
    }
}

#[apply(offline_test)]
fn a_missing_heartbeat_differs_from_a_half_written_one() {
    let folder = folder();
    assert!(matches!(Heartbeat::read(&folder.path("health")), Err(HeartbeatError::Missing { .. })));
    assert!(matches!(Heartbeat::read(&folder.0.path().join("")), Err(HeartbeatError::Unreadable { .. })));

    beat(NOW).write(&folder.path("whole")).expect("a folder of our own");
    let whole = fs::read_to_string(folder.path("whole")).expect("written above");
    for length in 0..whole.len() {
        folder.write("half", &whole[..length]);
        assert!(
            matches!(Heartbeat::read(&folder.path("half")), Err(HeartbeatError::Malformed { .. })),
            "{length} bytes"
        );
    }
    folder.write("newer", &whole.replacen('{', r#"{"written_by_a_newer_version":[1],"#, 1));
    assert_eq!(Heartbeat::read(&folder.path("newer")).expect("readable"), beat(NOW));
}

#[apply(offline_test)]
fn a_heartbeat_replaces_the_previous_one() {
    let folder = folder();
    let file = folder.path("health");
    beat(NOW).write(&file).expect("a folder of our own");
    beat(NOW + 1).write(&file).expect("a folder of our own");

    assert_eq!(Heartbeat::read(&file).expect("written above"), beat(NOW + 1));
    assert_eq!(fs::read_dir(folder.0.path()).expect("ours").count(), 1, "nothing is left beside it");
    let nowhere = beat(NOW).write(&folder.path("nowhere/health"));
    assert!(matches!(nowhere, Err(HeartbeatError::Unwritable { .. })));
}

/// The kernel releases the lock of a process that ends, so dropping it stands for a kill.
#[apply(offline_test)]
fn one_process_at_a_time_writes_a_heartbeat_file() {
    let folder = folder();
    let file = folder.path("health");
    beat(NOW).write(&file).expect("left behind by a process that was killed");
    let mut first = HeartbeatFile::claim(&file, writer());
    assert!(!file.exists(), "what was left behind says nothing about this process");
    first.write(&beat(NOW)).expect("it was claimed");

    let mut second = HeartbeatFile::claim(&file, HeartbeatWriter { pid: 8, ..writer() });
    let refused = second.write(&beat(NOW + 1)).expect_err("the first process still holds the file");
    assert!(matches!(&refused, HeartbeatError::Shared { owner: Some(owner), .. } if *owner == writer()), "{refused}");
    second.remove();
    assert_eq!(Heartbeat::read(&file).expect("the second process left it alone"), beat(NOW));

    drop(first);
    second.write(&beat(NOW + 2)).expect("the first process has ended");
    second.remove();
    assert!(!file.exists());
}

#[apply(offline_test)]
fn a_heartbeat_of_another_host_passes_no_probe() {
    let folder = folder();
    let file = folder.path("health");
    let elsewhere = HeartbeatWriter { host: "elsewhere".into(), ..writer() };
    Heartbeat { writer: elsewhere, ..beat(unix_ms()) }.write(&file).expect("ours");
    for which in ["live", "ready"] {
        let probe = steward(["health", which, "--file", &file.display().to_string()]);
        assert_eq!(probe.code, 15, "{probe:?}");
        assert!(probe.stdout.contains("process 7 of host elsewhere"), "{probe:?}");
    }
    // A release that did not name the host.
    let older = r#"{"written_unix_ms":1,"pid":7,"ready":true,"ready_cause":"x","live":true,"live_cause":"x"}"#;
    folder.write("older", &older.replace(":1,", &format!(":{},", unix_ms())));
    steward(["health", "live", "--file", &folder.path("older").display().to_string()]).ok();
}

#[apply(offline_test)]
fn probes_print_a_line_and_return_an_exit_code() {
    let folder = folder();
    let file = folder.path("health");
    let file_text = file.display().to_string();
    let probe = |which: &str| steward(["health", which, "--file", &file_text]);

    let missing = probe("live");
    assert_eq!(missing.code, 15);
    assert!(missing.stdout.contains(&file_text) && missing.stdout.lines().count() == 1, "{}", missing.stdout);

    Heartbeat { ready: false, ready_cause: "restores".into(), ..beat(unix_ms()) }.write(&file).expect("ours");
    assert!(probe("live").ok().starts_with("live: nothing to do"));
    let ready = probe("ready");
    assert_eq!(ready.code, 15);
    assert!(ready.stdout.starts_with("not ready: restores"), "{}", ready.stdout);

    beat(unix_ms() - 60_000).write(&file).expect("ours");
    assert_eq!(probe("live").code, 15);
    steward(["health", "live", "--file", &file_text, "--max-age-ms", "3600000"]).ok();
}

#[apply(offline_test)]
fn probes_find_the_file_although_the_configuration_has_mistakes() {
    let folder = folder();
    let file = folder.path("health").display().to_string();
    beat(unix_ms()).write(Path::new(&file)).expect("ours");

    let mistaken = folder.write("mistaken.toml", &format!("[kafka]\nnonsense = 1\n[health]\nfile = \"{file}\"\n"));
    steward(["health", "live", "--config", &mistaken]).ok();
    steward_with(&[("STEWARD__HEALTH__FILE", file.as_str())], ["health", "ready"]).ok();

    let broken = folder.write("broken.toml", "[kafka\npassword = \"hunter2\"\n");
    let ran = steward(["health", "live", "--config", &broken]);
    let default = Config::default().health.file.display().to_string();
    assert!(ran.stderr.contains(&broken) && ran.stderr.contains("--file"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("hunter2"));
    assert!(ran.code == 0 || ran.stdout.contains(&default), "the default file is read: {}", ran.stdout);
}

// ------------------------------------------------------------------------------------------------------------ others

#[apply(offline_test)]
fn shells_can_complete_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = steward(["completions", shell]).ok();
        for word in ["steward", "produce", "max-age-ms"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[apply(offline_test)]
fn a_reader_that_closes_the_pipe_is_not_an_error() {
    for arguments in [&["config", "default"][..], &["completions", "bash"], &["produce", "--list-kinds"], &["--help"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = command(&[], arguments);
        let ran = Running::spawn(command.stdout(writer)).end();
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}");
    }
}

#[apply(offline_test)]
fn every_kind_of_event_is_listed() {
    use steward::testing::workload::{InvalidKind, OddKind};
    let names = InvalidKind::ALL.map(InvalidKind::name).into_iter().chain(OddKind::ALL.map(OddKind::name));
    let (table, lines) =
        (steward(["produce", "--list-kinds"]).ok(), steward(["produce", "--list-kinds", "--json"]).ok());
    let listed: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for name in names {
        assert!(table.contains(name), "{name}");
        assert_eq!(listed.iter().filter(|line| line["kind"] == name).count(), 1, "{name}");
    }
    assert!(listed.iter().any(|line| line["kind"] == "name-blank" && line["expected"] == "invalid_event"));
}

#[apply(offline_test)]
fn an_unreachable_broker_is_reported_with_a_remedy() {
    // Bound but not listening, so that no other process gets the port.
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let commands: [&[&str]; 3] = [&["produce"], &["state", "get", "1"], &["state", "list"]];
    for arguments in commands {
        let reach = ["--bootstrap-servers", &address, "--timeout-ms", "400"];
        let ran = steward(arguments.iter().chain(&reach).copied());
        assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{arguments:?}: {}", ran.stderr);
        for text in [address.as_str(), "400 ms", "check kafka.bootstrap_servers"] {
            assert!(ran.stderr.contains(text), "{text}: {}", ran.stderr);
        }
    }
}

#[apply(offline_test)]
fn a_demo_reports_what_differs() {
    let exact = Comparison {
        applied: (5, 5),
        rejected: vec![("not_found", 2, 2)],
        entities: (3, 3),
        differences: vec![],
        took: Duration::from_secs(1),
    };
    assert!(exact.is_exact());
    let text = report(&exact);
    assert!(text.contains("All 7 events") && text.contains("needs a real broker"), "{text}");

    let differs = Comparison { applied: (5, 4), differences: vec!["one \u{1b}[2Jis missing".into(); 30], ..exact };
    let text = report(&differs);
    assert!(!differs.is_exact());
    assert!(text.contains("differs") && text.contains("and 10 more") && !text.contains('\u{1b}'), "{text}");
}

#[apply(offline_test)]
fn the_demo_of_the_embedded_cluster_agrees_with_the_model() {
    let ran = steward(["demo", "--seed", "3", "--events", "400", "--keys", "30"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("All 400 events have the right outcome"), "{}", ran.stdout);
    assert!(ran.stderr.contains("rejected malformed_json"), "{}", ran.stderr);
}

// ------------------------------------------------------------------------------------------------------------- below

fn each_command(command: &clap::Command, visit: &mut dyn FnMut(&str, &clap::Command)) {
    fn walk(path: &str, command: &clap::Command, visit: &mut dyn FnMut(&str, &clap::Command)) {
        visit(path, command);
        for below in command.get_subcommands() {
            walk(&format!("{path} {}", below.get_name()), below, visit);
        }
    }
    walk("steward", command, visit);
}

/// A folder that is deleted with the test.
pub struct Folder(tempfile::TempDir);

pub fn folder() -> Folder {
    Folder(tempfile::tempdir().expect("the system's temporary folder"))
}

impl Folder {
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("a folder of our own");
        path.display().to_string()
    }
}

/// The result of a command.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Returns the standard output; the exit code has to be 0.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self.stdout
    }
}

/// Runs the real binary to its end, for at most [`PATIENCE`].
pub fn steward<'a>(arguments: impl IntoIterator<Item = impl AsRef<str> + 'a>) -> Ran {
    steward_with(&[], arguments)
}

/// Runs the real binary with environment variables.
pub fn steward_with<'a>(
    environment: &[(&str, &str)],
    arguments: impl IntoIterator<Item = impl AsRef<str> + 'a>,
) -> Ran {
    Running::spawn(&mut command(environment, arguments)).end()
}

/// Returns a command for the real binary, without the steward variables of this machine.
pub fn command<'a>(environment: &[(&str, &str)], arguments: impl IntoIterator<Item = impl AsRef<str> + 'a>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steward"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STEWARD") || name == "POD_NAME" {
            command.env_remove(name);
        }
    }
    for argument in arguments {
        command.arg(argument.as_ref());
    }
    command.envs(environment.iter().copied()).stdin(Stdio::null());
    command.stdout(Stdio::piped());
    command
}

/// A running command. Dropping it kills the process.
pub struct Running {
    child: Child,
    stdout: Option<std::thread::JoinHandle<String>>,
    stderr: Option<std::thread::JoinHandle<String>>,
}

impl Running {
    pub fn spawn(command: &mut Command) -> Running {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("cargo has built it");
        let stdout = child.stdout.take().map(read_all);
        let stderr = child.stderr.take().map(read_all);
        Running { child, stdout, stderr }
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a process number fits: it came out of one");
        // SAFETY: kill takes two numbers and touches no memory of ours; the child was not waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0, "SIGINT to {pid}");
    }

    /// Waits until the command ends.
    pub fn end(mut self) -> Ran {
        let status = wait_for("the command ends", PATIENCE, || self.child.try_wait().expect("a child of ours"));
        let text = |reader: Option<std::thread::JoinHandle<String>>| {
            reader.map(|reader| reader.join().expect("a reader that only reads")).unwrap_or_default()
        };
        let code = status.code().unwrap_or_else(|| panic!("ended by a signal: {status}"));
        Ran { code, stdout: text(self.stdout.take()), stderr: text(self.stderr.take()) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The process has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_all(mut stream: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("a pipe of our own");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
