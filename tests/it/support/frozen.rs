//! Stops one thread of a process while the others continue, which simulates a call that never returns.
//!
//! It uses ptrace, like a debugger, on a thread of its own, because only the thread that attached can detach.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use super::wait::{PATIENCE, wait_for, wait_until};

/// A stopped thread. It continues when this is dropped.
pub struct FrozenThread {
    resumed: Arc<AtomicBool>,
    tracer: Option<JoinHandle<()>>,
}

impl FrozenThread {
    /// Stops the thread of this name. The process has to be a child of this one.
    ///
    /// # Panics
    /// If there is no such thread, or if the system refuses ptrace.
    pub fn of(pid: u32, name: &str) -> FrozenThread {
        let thread = wait_for(&format!("a thread {name}"), PATIENCE, || thread_named(pid, name));
        let resumed = Arc::new(AtomicBool::new(false));
        let (result_sender, result) = mpsc::channel();
        let resume = Arc::clone(&resumed);
        let tracer = std::thread::spawn(move || hold(thread, &resume, &result_sender));
        result.recv_timeout(PATIENCE).expect("the tracer sends a result").expect("the thread can be stopped");
        FrozenThread { resumed, tracer: Some(tracer) }
    }
}

impl Drop for FrozenThread {
    fn drop(&mut self) {
        self.resumed.store(true, Ordering::Relaxed);
        if let Some(tracer) = self.tracer.take() {
            // A panic of the tracer has been printed already.
            let _ = tracer.join();
        }
    }
}

fn thread_named(pid: u32, name: &str) -> Option<libc::pid_t> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut tasks = tasks.filter_map(Result::ok);
    let is_named = |task: &std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    tasks.find(is_named)?.file_name().to_str()?.parse().ok()
}

fn hold(thread: libc::pid_t, resumed: &AtomicBool, result: &mpsc::Sender<Result<(), std::io::Error>>) {
    let stopped = stop(thread);
    let is_stopped = stopped.is_ok();
    result.send(stopped).expect("the test waits");
    if !is_stopped {
        return;
    }
    let is_over = || resumed.load(Ordering::Relaxed) || has_ended(thread);
    // A process can end only after a wait for its stopped thread, which `has_ended` does.
    wait_until("the thread is resumed", PATIENCE * 10, is_over);
    // SAFETY: ptrace takes numbers here, and touches no memory of ours. It fails for a thread that has ended.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, thread, 0, 0) };
}

fn stop(thread: libc::pid_t) -> std::io::Result<()> {
    // SAFETY: ptrace takes numbers here, and touches no memory of ours.
    let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, thread, 0, 0) };
    if seized != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: as above.
    let interrupted = unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, thread, 0, 0) };
    if interrupted != 0 {
        return Err(std::io::Error::last_os_error());
    }
    let mut status = 0;
    // SAFETY: waitpid writes to the status alone.
    match unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) } {
        found if found == thread && libc::WIFSTOPPED(status) => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn has_ended(thread: libc::pid_t) -> bool {
    let mut status = 0;
    // SAFETY: waitpid writes to the status alone.
    let found = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL | libc::WNOHANG) };
    found == thread && (libc::WIFEXITED(status) || libc::WIFSIGNALED(status))
}
