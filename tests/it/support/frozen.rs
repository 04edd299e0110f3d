//! Holds one thread of a process still while all others go on: what a call looks like that never returns.
//!
//! By ptrace, as a debugger does, on a thread of its own, because only the thread that holds another one may let it go.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use super::wait::{PATIENCE, wait_for, wait_until};

/// A thread that stands still until this is dropped, or its process ends.
pub struct FrozenThread {
    let_go: Arc<AtomicBool>,
    tracer: Option<JoinHandle<()>>,
}

impl FrozenThread {
    /// Stops the thread of this name. The process has to be a child of ours.
    ///
    /// # Panics
    /// When there is no such thread, or the system does not let it be held.
    pub fn of(pid: u32, name: &str) -> FrozenThread {
        let thread = wait_for(&format!("a thread {name}"), PATIENCE, || thread_named(pid, name));
        let let_go = Arc::new(AtomicBool::new(false));
        let (tell, told) = mpsc::channel();
        let asked = Arc::clone(&let_go);
        let tracer = std::thread::spawn(move || hold(thread, &asked, &tell));
        told.recv_timeout(PATIENCE).expect("the tracer answers").expect("the thread can be held");
        FrozenThread { let_go, tracer: Some(tracer) }
    }
}

impl Drop for FrozenThread {
    fn drop(&mut self) {
        self.let_go.store(true, Ordering::Relaxed);
        if let Some(tracer) = self.tracer.take() {
            // It has said before what went wrong.
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

fn hold(thread: libc::pid_t, let_go: &AtomicBool, tell: &mpsc::Sender<Result<(), std::io::Error>>) {
    let stopped = stop(thread);
    let is_stopped = stopped.is_ok();
    tell.send(stopped).expect("the test waits");
    if !is_stopped {
        return;
    }
    let is_over = || let_go.load(Ordering::Relaxed) || has_ended(thread);
    // A process that ends is gone only when its held thread was waited for, which `has_ended` does.
    wait_until("the thread is let go", PATIENCE * 10, is_over);
    // SAFETY: ptrace takes numbers here, and touches no memory of ours. A thread that has ended is none any more.
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
