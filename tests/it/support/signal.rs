//! Signals to processes of the tests.

use std::process::Child;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Stops the process cleanly.
    Terminate,
    /// Stops the process cleanly, as Ctrl-C does.
    Interrupt,
    /// Makes the process read its log level again.
    HangUp,
    /// Freezes the process. Its connections stay open.
    Stop,
    /// Continues after `Stop`.
    Continue,
}

/// Sends a signal to a child. Nothing has waited for the child yet, so its process id cannot belong to another process.
pub fn send(child: &Child, signal: Signal) {
    let number = match signal {
        Signal::Terminate => libc::SIGTERM,
        Signal::Interrupt => libc::SIGINT,
        Signal::HangUp => libc::SIGHUP,
        Signal::Stop => libc::SIGSTOP,
        Signal::Continue => libc::SIGCONT,
    };
    let pid = libc::pid_t::try_from(child.id()).expect("a process id fits into pid_t");
    // SAFETY: kill takes two numbers and touches no memory of ours.
    let outcome = unsafe { libc::kill(pid, number) };
    assert_eq!(outcome, 0, "signal {signal:?} to {pid}: {}", std::io::Error::last_os_error());
}
