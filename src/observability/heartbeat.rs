//! Owns the heartbeat file, through which a running process reports its health to `steward health` without an open port.
//!
//! `steward run` writes it once a second. The probe checks its age before its content, so that it detects a process that
//! is dead, suspended or stuck. The file is one JSON object:
//!
//! `{"written_unix_ms":1700000000000,"pid":7,"host":"...","instance":"...","started_unix_ms":1700000000000,"ready":true,
//! "ready_cause":"...","live":true,"live_cause":"..."}`
//!
//! The process that writes it is named, because two can share a file by mistake. [`HeartbeatFile`] lets only one of them
//! write, and a probe does not accept a heartbeat of another host or container.
//!
//! Ages come from the wall clock, which can jump. A step back by less than the permitted age has no effect. A larger
//! step, in either direction, makes one heartbeat fail: the next one, a second later, has the new time. A probe that
//! requires more than one failure in a row is not affected.
//!
//! Architecture invariant: a leaf without a clock, shared by the app that writes and the command that reads.
//! Deliberately absent: a check that the process id exists. Another process can get the same id.

mod exclusive_file;

pub use crate::observability::heartbeat::exclusive_file::HeartbeatFile;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};

use serde::{Deserialize, Serialize};

/// Default of the maximum age of a heartbeat, in milliseconds.
pub const DEFAULT_MAX_AGE_MS: u64 = 10_000;

/// Larger than any heartbeat. Bytes beyond it are not read.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// The content of the file. A reader ignores unknown fields, so that a newer process can add some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Time of writing: milliseconds since 1970 by the wall clock.
    pub written_unix_ms: i64,
    #[serde(flatten)]
    pub writer: HeartbeatWriter,
    /// Whether the process is a settled member of the group, and serves all of its partitions.
    pub ready: bool,
    /// The cause, as the rest of a sentence that begins with "ready: ".
    pub ready_cause: String,
    /// Whether there is progress, or a known reason for none.
    pub live: bool,
    /// The cause, as the rest of a sentence that begins with "live: ".
    pub live_cause: String,
}

/// The process that wrote a heartbeat. In containers the process id is often 1, so the host and the time of the start
/// distinguish processes. Releases that did not write a field left it out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatWriter {
    pub pid: u32,
    /// Name of the host; in a container, that of the container or pod.
    #[serde(default)]
    pub host: String,
    /// Name of the process within its group.
    #[serde(default)]
    pub instance: String,
    /// Start of the process: milliseconds since 1970.
    #[serde(default)]
    pub started_unix_ms: i64,
}

impl fmt::Display for HeartbeatWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)?;
        if !self.host.is_empty() {
            write!(f, " of host {}, instance {}", self.host, self.instance)?;
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum HeartbeatError {
    #[error("there is no heartbeat file {}; the process has not started yet, or its health.file is another one", path.display())]
    Missing { path: PathBuf },
    #[error("the heartbeat file {} cannot be read: {source}; let the probe run as the user of the process", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "{} does not contain a heartbeat, or only a part of one; only steward may write it, and the disk must not be full: {problem}",
        path.display()
    )]
    Malformed { path: PathBuf, problem: String },
    #[error("the heartbeat file {} cannot be written: {source}; point health.file into a folder that is writable", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error(
        "another process holds the heartbeat file {}: {}; give each process a health.file of its own",
        path.display(),
        owner.as_ref().map_or_else(|| "it has not written yet".to_owned(), ToString::to_string)
    )]
    Shared { path: PathBuf, owner: Option<HeartbeatWriter> },
}

/// The result of a probe, with its cause: one line for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeResult {
    Healthy(String),
    Unhealthy(String),
}

impl fmt::Display for ProbeResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeResult::Healthy(cause) | ProbeResult::Unhealthy(cause) => f.write_str(cause),
        }
    }
}

impl Heartbeat {
    /// Replaces the file atomically: a reader sees the old heartbeat or this one, never a part. The file is not synced
    /// to disk, because after a crash of the machine an old heartbeat is worth as much as none.
    ///
    /// # Errors
    /// [`HeartbeatError::Unwritable`]; the file still contains the previous heartbeat.
    pub fn write(&self, path: &Path) -> Result<(), HeartbeatError> {
        let unwritable = |source| HeartbeatError::Unwritable { path: path.to_owned(), source };
        let json = serde_json::to_vec(self).expect("numbers, flags and texts can always be written");
        let Some(name) = path.file_name() else {
            return Err(unwritable(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file")));
        };
        // In the same folder, because a rename is atomic only within one file system. With the process id, because two
        // processes can share a folder by mistake.
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}.tmp", self.writer.pid));
        let temporary = path.with_file_name(temporary);
        let replaced = std::fs::write(&temporary, &json).and_then(|()| std::fs::rename(&temporary, path));
        replaced.map_err(|source| {
            // The next heartbeat overwrites the temporary file, so a failure here does no harm.
            let _ = std::fs::remove_file(&temporary);
            unwritable(source)
        })
    }

    /// # Errors
    /// [`HeartbeatError::Missing`], [`HeartbeatError::Unreadable`] and [`HeartbeatError::Malformed`].
    pub fn read(path: &Path) -> Result<Heartbeat, HeartbeatError> {
        let bytes = read_bounded(path).map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                HeartbeatError::Missing { path: path.to_owned() }
            } else {
                HeartbeatError::Unreadable { path: path.to_owned(), source }
            }
        })?;
        serde_json::from_slice(&bytes)
            .map_err(|error| HeartbeatError::Malformed { path: path.to_owned(), problem: error.to_string() })
    }

    /// Returns why a probe on this host must not use the heartbeat: a process of another host or container wrote it.
    pub fn check_host(&self, host: &str) -> Option<ProbeResult> {
        let is_other = !self.writer.host.is_empty() && self.writer.host != host;
        is_other.then(|| {
            ProbeResult::Unhealthy(format!(
                "not known: {} wrote the heartbeat, and this is host {host}; give each process a health.file of its own",
                self.writer
            ))
        })
    }

    pub fn check_live(&self, now_unix_ms: i64, max_age: Duration) -> ProbeResult {
        self.check("live", (self.live, &self.live_cause), now_unix_ms, max_age)
    }

    pub fn check_ready(&self, now_unix_ms: i64, max_age: Duration) -> ProbeResult {
        self.check("ready", (self.ready, &self.ready_cause), now_unix_ms, max_age)
    }

    /// `reported` is whether the process is healthy, as it reports itself, and the cause.
    fn check(&self, what: &str, reported: (bool, &str), now_unix_ms: i64, max_age: Duration) -> ProbeResult {
        let writer = &self.writer;
        // Wider than the timestamps, which another program may have written.
        let age_ms = i128::from(now_unix_ms) - i128::from(self.written_unix_ms);
        let max_age_ms = i128::try_from(max_age.as_millis()).unwrap_or(i128::MAX);
        if age_ms > max_age_ms {
            return ProbeResult::Unhealthy(format!(
                "not {what}: the last heartbeat of {writer} is {age_ms} ms old, {max_age_ms} ms are allowed; the process has ended or is suspended, or the clock jumped forward"
            ));
        }
        if age_ms < -max_age_ms {
            let ahead_ms = -age_ms;
            return ProbeResult::Unhealthy(format!(
                "not {what}: the last heartbeat of {writer} is dated {ahead_ms} ms into the future; the clock jumped back, and the process has not written since"
            ));
        }
        // The clock may have been set back a little since the heartbeat.
        let age_ms = age_ms.max(0);
        let up_s = self.written_unix_ms.saturating_sub(writer.started_unix_ms).max(0) / 1_000;
        let written = format!("{writer}, up {up_s} s, written {age_ms} ms ago");
        match reported {
            (true, cause) => ProbeResult::Healthy(format!("{what}: {cause} ({written})")),
            (false, cause) => ProbeResult::Unhealthy(format!("not {what}: {cause} ({written})")),
        }
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}
