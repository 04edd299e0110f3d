//! Owns the claim of one process to its heartbeat file.
//!
//! Two processes with one `health.file` would overwrite each other's heartbeats, and one that is frozen would look
//! live. So a process writes only while it holds an exclusive lock (`flock`) on a file beside it, `.NAME.lock`. The
//! kernel releases the lock when the process ends, however it ends, so a file that was left behind blocks no process.
//! The lock file is never deleted: a process could lock the deleted one while another locks its successor.
//!
//! A file system without locks permits every process to write.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::observability::heartbeat::{Heartbeat, HeartbeatError, HeartbeatWriter};

/// The heartbeat file of this process.
#[derive(Debug)]
pub struct HeartbeatFile {
    path: PathBuf,
    writer: HeartbeatWriter,
    claim: Claim,
}

#[derive(Debug)]
enum Claim {
    /// Locked until this is dropped.
    Held(#[expect(dead_code, reason = "the lock is released when the file is closed")] File),
    /// The file system has no locks, or the lock file cannot be opened.
    Unlocked,
    /// Another process holds the lock.
    HeldByOther,
}

impl HeartbeatFile {
    /// Claims the file, and removes the heartbeat that a process left behind: it says nothing about this one.
    pub fn claim(path: &Path, writer: HeartbeatWriter) -> HeartbeatFile {
        let file = HeartbeatFile { path: path.to_owned(), writer, claim: claim(path) };
        file.remove();
        file
    }

    /// Returns the process that writes this file.
    pub fn writer(&self) -> &HeartbeatWriter {
        &self.writer
    }

    /// Writes a heartbeat, unless another process has claimed the file and has not ended since.
    ///
    /// # Errors
    /// [`HeartbeatError::Shared`] and [`HeartbeatError::Unwritable`].
    pub fn write(&mut self, heartbeat: &Heartbeat) -> Result<(), HeartbeatError> {
        if let Claim::HeldByOther = self.claim {
            self.claim = claim(&self.path);
        }
        match self.claim {
            Claim::Held(_) | Claim::Unlocked => heartbeat.write(&self.path),
            Claim::HeldByOther => {
                let owner = Heartbeat::read(&self.path).ok().map(|heartbeat| heartbeat.writer);
                Err(HeartbeatError::Shared { path: self.path.clone(), owner })
            }
        }
    }

    /// Removes the heartbeat at the end of the process, unless it is another's.
    pub fn remove(&self) {
        match self.claim {
            // A file that cannot be removed becomes stale, which probes notice.
            Claim::Held(_) | Claim::Unlocked => drop(std::fs::remove_file(&self.path)),
            Claim::HeldByOther => {}
        }
    }
}

fn claim(path: &Path) -> Claim {
    let Some(name) = path.file_name() else { return Claim::Unlocked };
    let lock = path.with_file_name(format!(".{}.lock", name.to_string_lossy()));
    // A lock needs no permission to write, and the file may be another user's.
    let opened = File::open(&lock).or_else(|_| OpenOptions::new().write(true).create(true).truncate(false).open(&lock));
    let Ok(file) = opened else { return Claim::Unlocked };
    match file.try_lock() {
        Ok(()) => Claim::Held(file),
        Err(TryLockError::WouldBlock) => Claim::HeldByOther,
        Err(TryLockError::Error(_)) => Claim::Unlocked,
    }
}
