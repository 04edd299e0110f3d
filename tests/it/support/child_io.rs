//! Standard output and the terminal of a child process: pipes that are full or not read, and terminals that close.

use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// What a hangup of its terminal does to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControllingTerminal {
    /// There is none.
    Absent,
    /// As in a shell.
    Present,
    /// As under `nohup`, which makes the process ignore SIGHUP.
    Ignored,
}

/// What a write to standard output does when its pipe is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputMode {
    Blocking,
    /// The pipe is full from the start, and it is not read until the process has ended.
    Full,
    NonBlocking,
}

/// Makes a pipe of the smallest size: the end to read from, and the child's end.
pub fn pipe(mode: OutputMode) -> (PipeReader, Stdio) {
    const SMALLEST_BYTES: libc::c_int = 4096;
    let (reader, mut writer) = std::io::pipe().expect("a pipe can be made");
    let flags = match mode {
        OutputMode::Blocking | OutputMode::Full => 0,
        OutputMode::NonBlocking => libc::O_NONBLOCK,
    };
    // SAFETY: fcntl takes numbers here, and touches no memory of ours.
    unsafe {
        assert!(libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, SMALLEST_BYTES) >= SMALLEST_BYTES);
        assert_eq!(libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, flags), 0);
    }
    if mode == OutputMode::Full {
        writer.write_all(&[b'\n'; SMALLEST_BYTES as usize]).expect("the pipe has room for that");
    }
    (reader, writer.into())
}

/// Makes a pseudo terminal: the end to read from, and the child's end.
pub fn terminal() -> (File, Stdio) {
    let screen =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal can be made");
    grantpt(&screen).expect("the terminal exists");
    unlockpt(&screen).expect("the terminal exists");
    let path = ptsname(&screen, Vec::new()).expect("the terminal exists");
    let path = path.into_string().expect("the path is UTF-8");
    let mut options = File::options();
    // The terminal must not become the controlling terminal of the tests.
    let child = options.read(true).write(true).custom_flags(libc::O_NOCTTY).open(path).expect("the terminal exists");
    (File::from(screen), child.into())
}

/// Takes the process out of the session of the tests, whose terminal would be its controlling terminal. Then makes its
/// standard input its controlling terminal, if it has one.
pub fn in_session_of_its_own(command: &mut Command, terminal: ControllingTerminal) {
    let prepare = move || {
        // SAFETY: these calls take numbers, touch no memory of ours, and are allowed between fork and exec.
        let outcomes = unsafe {
            [
                libc::setsid(),
                if terminal == ControllingTerminal::Absent { 0 } else { libc::ioctl(0, libc::TIOCSCTTY, 0) },
                if terminal != ControllingTerminal::Ignored {
                    0
                } else if libc::signal(libc::SIGHUP, libc::SIG_IGN) == libc::SIG_ERR {
                    -1
                } else {
                    0
                },
            ]
        };
        if outcomes.contains(&-1) { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure only makes system calls.
    unsafe { command.pre_exec(prepare) };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reading {
    #[default]
    Running,
    Paused,
}

#[derive(Default)]
pub struct ReadGate {
    reading: Mutex<Reading>,
    changed: Condvar,
}

impl ReadGate {
    pub fn set(&self, reading: Reading) {
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = reading;
        self.changed.notify_all();
    }

    pub fn wait(&self) {
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let paused = |reading: &mut Reading| *reading == Reading::Paused;
        drop(self.changed.wait_while(reading, paused).unwrap_or_else(PoisonError::into_inner));
    }
}

/// A stream that is read only while the gate is open.
pub struct GatedReader<R> {
    pub stream: R,
    pub gate: Arc<ReadGate>,
}

impl<R: Read> Read for GatedReader<R> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.gate.wait();
        self.stream.read(bytes)
    }
}
