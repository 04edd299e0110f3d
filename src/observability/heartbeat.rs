//! Owns the heartbeat file: how a running process tells `steward health` how it is, without an open port.
//!
//! `steward run` writes it once a second; the probe reads it, and judges its age before it believes what it says, so
//! that a process that is dead, frozen or stuck is found out although it cannot say so. The file is one JSON object:
//!
//! `{"written_unix_ms":1700000000000,"pid":7,"ready":true,"ready_cause":"...","live":true,"live_cause":"..."}`
//!
//! Ages come from the wall clock, which can jump. One that steps back by less than the age allowed goes unnoticed, as
//! it must. A larger step, back or forth, makes one beat look wrong: the next one, a second later, is stamped with the
//! new time, so a probe that asks for more than one failure in a row sees nothing of it.
//!
//! A leaf, shared by the app that writes and the command that reads.
//! Architecture invariant: no clock; times are handed in.
//! Absent on purpose: whether the process number still exists. A number can be given to another process; an age cannot.

use std::fmt;
use std::io::{
    Write as _, {self},
};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How old a heartbeat may be unless the probe says otherwise, in milliseconds.
pub const DEFAULT_MAX_AGE_MS: u64 = 10_000;

/// How often a running process writes the file.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// More than any heartbeat: a file beyond it is none, and is not read into memory.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// One beat. Fields that a reader does not know are ignored, so that a newer process can tell more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// When it was written: milliseconds since 1970 by the wall clock.
    pub written_unix_ms: i64,
    /// The process that wrote it.
    pub pid: u32,
    /// Whether the process is a settled member of the group, and serves all that it owns.
    pub ready: bool,
    /// Why, or why not, in a few words: it continues a sentence that begins with "ready: ".
    pub ready_cause: String,
    /// Whether there is progress, or a known reason for none.
    pub live: bool,
    /// Why, or why not, in a few words: it continues a sentence that begins with "live: ".
    pub live_cause: String,
}

/// Why there is no heartbeat to judge, or none could be written.
#[derive(Debug, thiserror::Error)]
pub enum HeartbeatError {
    /// No such file.
    #[error(
        "there is no heartbeat file {}; the process has not started yet, or its health.file is another one",
        path.display()
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The file is there and cannot be read.
    #[error("the heartbeat file {} cannot be read: {source}; let the probe run as the user of the process", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file holds something else, or only the first part of a heartbeat.
    #[error(
        "{} holds no heartbeat, or half of one; only steward may write it, and the disk must not be full: {problem}",
        path.display()
    )]
    NotOne {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file cannot be written.
    #[error("the heartbeat file {} cannot be written: {source}; point health.file into a folder that is writable", path.display())]
    Unwritable {
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

/// What a probe answers, with its cause: one line for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// The probe passes.
    Healthy(String),
    /// The probe fails.
    Unhealthy(String),
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Judgement::Healthy(cause) | Judgement::Unhealthy(cause) => f.write_str(cause),
        }
    }
}

impl Heartbeat {
    /// Replaces the file in one step: a reader sees the old beat or this one, never a part. Nothing is forced to the
    /// disk, because after a crash of the machine an old beat and none are the same.
    ///
    /// # Errors
    /// [`HeartbeatError::Unwritable`]; the file then still holds the beat before.
    pub fn write(&self, path: &Path) -> Result<(), HeartbeatError> {
        let unwritable = |source| HeartbeatError::Unwritable { path: path.to_owned(), source };
        let json = serde_json::to_vec(self).expect("numbers, flags and texts can always be written");
        let Some(name) = path.file_name() else {
            return Err(unwritable(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file")));
        };
        // Beside the file, because a rename is atomic only within one file system; with the process number, because
        // two processes that share a folder by mistake must not write into each other's half.
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}.tmp", self.pid));
        let temporary = path.with_file_name(temporary);
        let replaced = write_whole(&temporary, &json).and_then(|()| std::fs::rename(&temporary, path));
        replaced.map_err(|source| {
            // What is left behind is overwritten by the next beat, so it does not matter whether this succeeds.
            let _ = std::fs::remove_file(&temporary);
            unwritable(source)
        })
    }

    /// Reads the file.
    ///
    /// # Errors
    /// All of [`HeartbeatError`] but [`HeartbeatError::Unwritable`].
    pub fn read(path: &Path) -> Result<Heartbeat, HeartbeatError> {
        let bytes = read_bounded(path).map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                HeartbeatError::Missing { path: path.to_owned() }
            } else {
                HeartbeatError::Unreadable { path: path.to_owned(), source }
            }
        })?;
        serde_json::from_slice(&bytes)
            .map_err(|error| HeartbeatError::NotOne { path: path.to_owned(), problem: error.to_string() })
    }

    /// Whether the process makes progress, or has a known reason for none.
    #[must_use]
    pub fn judge_live(&self, now_unix_ms: i64, max_age: Duration) -> Judgement {
        let said = if self.live { Said::Yes(&self.live_cause) } else { Said::No(&self.live_cause) };
        self.judge("live", said, now_unix_ms, max_age)
    }

    /// Whether the process is settled and serves all that it owns.
    #[must_use]
    pub fn judge_ready(&self, now_unix_ms: i64, max_age: Duration) -> Judgement {
        let said = if self.ready { Said::Yes(&self.ready_cause) } else { Said::No(&self.ready_cause) };
        self.judge("ready", said, now_unix_ms, max_age)
    }

    fn judge(&self, what: &str, said: Said<'_>, now_unix_ms: i64, max_age: Duration) -> Judgement {
        let pid = self.pid;
        // Wider than the stamps, which a stranger may have written.
        let age_ms = i128::from(now_unix_ms) - i128::from(self.written_unix_ms);
        let max_age_ms = i128::try_from(max_age.as_millis()).unwrap_or(i128::MAX);
        if age_ms > max_age_ms {
            return Judgement::Unhealthy(format!(
                "not {what}: the last heartbeat of process {pid} is {age_ms} ms old, {max_age_ms} ms are allowed; the process has ended, is frozen, or the clock jumped forward"
            ));
        }
        if age_ms < -max_age_ms {
            let ahead_ms = -age_ms;
            return Judgement::Unhealthy(format!(
                "not {what}: the last heartbeat of process {pid} is dated {ahead_ms} ms into the future; the clock jumped back, and the process has not written since"
            ));
        }
        // The clock may have been set back a little since the beat.
        let age_ms = age_ms.max(0);
        match said {
            Said::Yes(cause) => Judgement::Healthy(format!("{what}: {cause} (process {pid}, {age_ms} ms ago)")),
            Said::No(cause) => Judgement::Unhealthy(format!("not {what}: {cause} (process {pid}, {age_ms} ms ago)")),
        }
    }
}

/// What the process says of itself, with its cause.
enum Said<'a> {
    Yes(&'a str),
    No(&'a str),
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(bytes)
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}
