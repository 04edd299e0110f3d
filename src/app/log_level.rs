//! Changes the log level while the process runs: on SIGHUP, and when `log.level` in the configuration file changes. The
//! file is watched because a container without a shell has no way to send itself a signal.
//!
//! A thread of its own does this, so that it works while the process waits for its topics, restores, or hangs. A changed
//! file counts once it reads the same twice: an editor that writes in place leaves half a file for a moment, and an
//! empty file is a legal configuration. A mounted ConfigMap changes a link instead, which also changes the content.
//!
//! Absent on purpose: every other key. The process reads them once, at start.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::config::log_level::level_in;
use crate::config::{Effective, ValueOrigin};
use crate::observability::log_events::{LevelTrigger, LogEvent, LogLevelChanged, LogLevelRefused, LogLevelUnchanged};
use crate::observability::logging::{Levels, LogFilter};

/// How often the file is read.
const READ_INTERVAL: Duration = Duration::from_secs(3);
/// Wait before a changed file is read again.
const CONFIRM_AFTER: Duration = Duration::from_millis(500);

/// Where a new level can come from.
#[derive(Debug, Clone)]
enum LevelSource {
    File(PathBuf),
    /// The level cannot change, for this reason.
    Fixed(String),
}

/// The file's text, or why it cannot be read.
type FileContent = Result<String, String>;

struct LevelWatch {
    levels: Levels,
    level: String,
    source: LevelSource,
    /// The last content that was applied or refused.
    settled: Option<FileContent>,
    /// Another content, read once.
    unconfirmed: Option<FileContent>,
}

/// Starts the thread. A message on `hangups` is a SIGHUP; the thread ends when its senders are dropped.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn start(effective: &Effective, levels: Levels, hangups: Receiver<()>) -> std::io::Result<()> {
    let source = match (effective.origin("log.level"), &effective.file) {
        (ValueOrigin::Variable(name), _) => {
            LevelSource::Fixed(format!("the variable {name} overrides every file; unset it"))
        }
        (_, None) => LevelSource::Fixed("the process was started without a configuration file".to_owned()),
        (ValueOrigin::Default | ValueOrigin::Follows(_) | ValueOrigin::File { .. }, Some(file)) => {
            LevelSource::File(file.into())
        }
    };
    let level = effective.config.log.level.clone();
    let watch = LevelWatch { levels, level, source, settled: None, unconfirmed: None };
    thread::Builder::new().name("log-level".to_owned()).spawn(move || watch.run(&hangups)).map(drop)
}

impl LevelWatch {
    fn run(mut self, hangups: &Receiver<()>) {
        loop {
            let wait = if self.unconfirmed.is_some() { CONFIRM_AFTER } else { READ_INTERVAL };
            match hangups.recv_timeout(wait) {
                Ok(()) => self.reload(),
                Err(RecvTimeoutError::Timeout) => self.check_file(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn reload(&mut self) {
        match &self.source {
            LevelSource::Fixed(reason) => self.refuse(reason, LevelTrigger::Sighup),
            LevelSource::File(file) => {
                let content = read(file);
                self.apply(content, LevelTrigger::Sighup);
            }
        }
    }

    fn check_file(&mut self) {
        let LevelSource::File(file) = &self.source else { return };
        let content = Some(read(file));
        if content == self.settled {
            self.unconfirmed = None;
        } else if content != self.unconfirmed {
            self.unconfirmed = content;
        } else if let Some(content) = self.unconfirmed.take() {
            self.apply(content, LevelTrigger::File);
        }
    }

    fn apply(&mut self, content: FileContent, trigger: LevelTrigger) {
        let level = content.clone().and_then(|text| level_in(&text));
        self.settled = Some(content);
        self.unconfirmed = None;
        match level {
            Err(problem) => self.refuse(&problem, trigger),
            Ok(level) if level != self.level => self.change(level, trigger),
            Ok(level) => match trigger {
                LevelTrigger::Sighup => LogLevelUnchanged { kept: &level, trigger }.emit(),
                // Another key has changed.
                LevelTrigger::File => {}
            },
        }
    }

    fn change(&mut self, level: String, trigger: LevelTrigger) {
        let filter = match LogFilter::parse(&level) {
            Ok(filter) => filter,
            Err(error) => return self.refuse(&error.to_string(), trigger),
        };
        let changed = LogLevelChanged { old: &self.level, new: &level, trigger };
        // Logged under the old level or, if that suppresses it, under the new one.
        let is_logged = LogLevelChanged::is_shown();
        if is_logged {
            changed.clone().emit();
        }
        if let Err(error) = self.levels.set(filter) {
            return self.refuse(&error.to_string(), trigger);
        }
        if !is_logged {
            changed.emit();
        }
        self.level = level;
    }

    fn refuse(&self, problem: &str, trigger: LevelTrigger) {
        LogLevelRefused { kept: &self.level, problem, trigger }.emit();
    }
}

/// Reads the file. A configuration has a few thousand bytes; a larger file is the wrong path.
fn read(file: &Path) -> FileContent {
    use std::io::Read as _;
    const MAX_BYTES: u64 = 1_048_576;
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
    read.map(|_| text).map_err(|error| format!("{} cannot be read: {error}", file.display()))
}
