//! Changes the level of the log while the process runs: on SIGHUP, and when the configuration file says another
//! `log.level` than before, because where there is no shell nobody can send a signal.
//!
//! On a thread of its own, so that it works while the process waits for its topics, restores, or hangs. A file whose
//! content changed is believed once it reads the same twice: an editor that writes in place leaves half a file for a
//! moment, and an empty one is a legal configuration. What a mounted ConfigMap does, to point a link elsewhere, is a
//! changed content as well.
//!
//! Absent on purpose: every other key. They are read once, at the start.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::config::log_level::level_in;
use crate::config::{Effective, ValueOrigin};
use crate::observability::log_events::{LevelTrigger, LogEvent, LogLevelChanged, LogLevelRefused, LogLevelUnchanged};
use crate::observability::logging::{Levels, LogFilter};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// When a file that has changed is looked at again.
const SETTLES_WITHIN: Duration = Duration::from_millis(500);

/// Where a level could come from.
#[derive(Debug, Clone)]
enum LevelSource {
    File(PathBuf),
    /// There is none, for this reason.
    Fixed(String),
}

/// What the file holds, or why it cannot be read.
type FileContent = Result<String, String>;

/// See the module.
struct LevelWatch {
    levels: Levels,
    level: String,
    source: LevelSource,
    /// What was acted upon last.
    settled: Option<FileContent>,
    /// What was seen since, once.
    fresh: Option<FileContent>,
}

/// Starts the thread. A message on `hangups` is a SIGHUP; the thread ends when nobody can send one any more.
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
    let watch = LevelWatch { levels, level, source, settled: None, fresh: None };
    thread::Builder::new().name("log-level".to_owned()).spawn(move || watch.run(&hangups)).map(drop)
}

impl LevelWatch {
    fn run(mut self, hangups: &Receiver<()>) {
        loop {
            let next_look = if self.fresh.is_some() { SETTLES_WITHIN } else { LOOK_EVERY };
            match hangups.recv_timeout(next_look) {
                Ok(()) => self.hang_up(),
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn hang_up(&mut self) {
        match &self.source {
            LevelSource::Fixed(reason) => self.refuse(reason, LevelTrigger::Sighup),
            LevelSource::File(file) => {
                let content = read(file);
                self.act(content, LevelTrigger::Sighup);
            }
        }
    }

    fn look(&mut self) {
        let LevelSource::File(file) = &self.source else { return };
        let content = Some(read(file));
        if content == self.settled {
            self.fresh = None;
        } else if content != self.fresh {
            self.fresh = content;
        } else if let Some(content) = self.fresh.take() {
            self.act(content, LevelTrigger::File);
        }
    }

    fn act(&mut self, content: FileContent, trigger: LevelTrigger) {
        let level = content.clone().and_then(|text| level_in(&text));
        self.settled = Some(content);
        self.fresh = None;
        match level {
            Err(problem) => self.refuse(&problem, trigger),
            Ok(level) if level != self.level => self.change(level, trigger),
            Ok(level) => match trigger {
                LevelTrigger::Sighup => LogLevelUnchanged { kept: &level, trigger }.emit(),
                // Something else has changed in it.
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
        // Said under the old level and, where that keeps it back, under the new one.
        let is_told = LogLevelChanged::is_shown();
        if is_told {
            changed.clone().emit();
        }
        if let Err(error) = self.levels.set(filter) {
            return self.refuse(&error.to_string(), trigger);
        }
        if !is_told {
            changed.emit();
        }
        self.level = level;
    }

    fn refuse(&self, problem: &str, trigger: LevelTrigger) {
        LogLevelRefused { kept: &self.level, problem, trigger }.emit();
    }
}

/// The text of the file. A configuration is a few thousand bytes; more is a wrong path.
fn read(file: &Path) -> FileContent {
    use std::io::Read as _;
    const MAX_BYTES: u64 = 1_048_576;
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
    read.map(|_| text).map_err(|error| format!("{} cannot be read: {error}", file.display()))
}
