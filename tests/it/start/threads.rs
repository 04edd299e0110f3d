//! A system that permits too few threads.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use serde_json::Value;
use steward::exit_code::ExitCode;

/// A user without processes.
const USER: u32 = 61_234;
const PERMITTED: u64 = 30;

#[apply(offline_test)]
fn a_limit_of_threads_is_named_in_one_line_with_one_code() {
    // Another user may not reach the folder of the binary.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = folder.path().join("steward");
    fs::copy(env!("CARGO_BIN_EXE_steward"), &program).expect("the binary is there");
    for path in [folder.path(), &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("they are ours");
    }
    let mut command = Command::new(&program);
    command.arg("run").env_clear().current_dir("/");
    // The limit does not hold for root. Any other user has more processes than that.
    if rustix::process::getuid().is_root() {
        command.uid(USER);
    }
    let limit = || {
        let limit = libc::rlimit { rlim_cur: PERMITTED, rlim_max: PERMITTED };
        // SAFETY: the pointer is valid for the call.
        let set = unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &limit) };
        if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(limit) };
    let output = command.output().expect("it can be started");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(i32::from(ExitCode::Config.code())), "{text}{errors}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let [line] = lines.as_slice() else { panic!("one line: {text}") };
    assert_eq!(line["event"], "process_failed");
    let error = line["error"].as_str().unwrap_or_default();
    for part in ["threads", "limit of the user: 30", "raise the limit", "docs/operating.md"] {
        assert!(error.contains(part), "{part} in {error}");
    }
}
