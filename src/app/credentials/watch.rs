//! Decides when changed files count: when they read the same twice, and once for each new content.

use std::collections::BTreeMap;

/// What a file contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    /// The hash of its content.
    Content(u64),
    Unreadable,
}

/// Files by the key that names them.
type Files = BTreeMap<&'static str, FileState>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchStep {
    /// The files are as at the start, or as when they were last reported.
    Unchanged,
    /// They have changed: read them again soon.
    Unconfirmed,
    /// They have changed and stay so. The keys of the files that differ from those at the start.
    Changed(Vec<&'static str>),
}

#[derive(Debug)]
pub struct CredentialWatch {
    at_start: Files,
    /// The files that were last reported, or that the process started with.
    settled: Files,
    /// Other files, read once.
    unconfirmed: Option<Files>,
}

impl CredentialWatch {
    pub fn new(at_start: Files) -> CredentialWatch {
        CredentialWatch { settled: at_start.clone(), at_start, unconfirmed: None }
    }

    /// Takes what was read.
    pub fn observe(&mut self, seen: Files) -> WatchStep {
        if seen == self.settled {
            self.unconfirmed = None;
            return WatchStep::Unchanged;
        }
        if self.unconfirmed.as_ref() != Some(&seen) {
            self.unconfirmed = Some(seen);
            return WatchStep::Unconfirmed;
        }
        self.unconfirmed = None;
        let differs = |key: &&'static str| seen.get(key) != self.at_start.get(key);
        let changed: Vec<&'static str> = seen.keys().copied().filter(differs).collect();
        self.settled = seen;
        // The old content is back: the process already uses it.
        if changed.is_empty() { WatchStep::Unchanged } else { WatchStep::Changed(changed) }
    }
}
