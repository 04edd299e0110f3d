//! Signals to processes that the tests started.

use std::process::Child;

/// What can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ends the process cleanly.
    Terminate,
    /// What Ctrl-C sends: the same, from a person.
    Interrupt,
    /// Has it read the level of its log again.
    HangUp,
    /// Freezes it; it keeps its connections, and says nothing.
    Stop,
    /// Goes on after `Stop`.
    Continue,
}

/// Sends a signal to a child that was not waited for, so that its number cannot belong to anybody else.
pub fn send(child: &Child, signal: Signal) {
    let number = match signal {
        Signal::Terminate => libc::SIGTERM,
        Signal::Interrupt => libc::SIGINT,
        Signal::HangUp => libc::SIGHUP,
        Signal::Stop => libc::SIGSTOP,
        Signal::Continue => libc::SIGCONT,
    };
    let pid = libc::pid_t::try_from(child.id()).expect("a process number fits: it came out of one");
    // SAFETY: kill takes two numbers and touches no memory of ours.
    let outcome = unsafe { libc::kill(pid, number) };
    assert_eq!(outcome, 0, "signal {signal:?} to {pid}: {}", std::io::Error::last_os_error());
}
