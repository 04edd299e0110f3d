//! Watches the files with certificates, keys and passwords that the configuration names.
//!
//! The client library reads them only when a client is built, and a run builds clients at any time. So when the files
//! change, the process checks that its clients accept the new content, waits for a random time, so that not all
//! processes of a group leave at once, and stops cleanly. The platform starts it again, and it reads the files. Content
//! that no client accepts is reported, and the process goes on with what it has read.
//!
//! It also reports a certificate that expires soon.
//!
//! A thread of its own does this, because a file may be on a network. Deliberately absent: the token of OAUTHBEARER,
//! which the client reads again whenever it needs one.

mod expiry;
mod watch;

pub use crate::app::credentials::expiry::{CertificateExpiry, ExpiryWatch, expiry_of};
pub use crate::app::credentials::watch::{CredentialWatch, FileState, WatchStep};

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState};
use std::time::Duration;
use std::{io, thread};

use crate::app::SystemClock;
use crate::config::{CredentialFile, Effective};
use crate::kafka::client::settings;
use crate::observability::log_events::{CertificateExpires, CredentialsChanged, CredentialsRefused, LogEvent, millis};
use crate::ports::Clock as _;

/// How often the files are read.
const READ_INTERVAL: Duration = Duration::from_secs(5);
/// Wait before changed files are read again, because certificate and key may be replaced one after the other.
const CONFIRM_AFTER: Duration = Duration::from_secs(1);

struct CredentialThread {
    effective: Effective,
    instance: String,
    files: Vec<CredentialFile>,
    spread: Duration,
}

/// Starts the thread, if the configuration names such files. It calls `leave` when the process has to stop, at most
/// once.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn start(effective: &Effective, instance: &str, leave: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let files = effective.credential_files();
    if files.is_empty() {
        return Ok(());
    }
    let spread = Duration::from_millis(effective.config.kafka.security.reload_spread_ms);
    let thread = CredentialThread { effective: effective.clone(), instance: instance.to_owned(), files, spread };
    thread::Builder::new().name("credentials".to_owned()).spawn(move || {
        thread.wait_for_change();
        leave();
    })?;
    Ok(())
}

impl CredentialThread {
    /// Returns when the files have changed, their new content is accepted, and the random time has passed.
    fn wait_for_change(&self) {
        let contents = self.read();
        let mut watch = CredentialWatch::new(states(&contents));
        let mut expiry = ExpiryWatch::default();
        self.report_expiry(&mut expiry, &contents);
        loop {
            let contents = self.read();
            match watch.observe(states(&contents)) {
                WatchStep::Unchanged => {
                    self.report_expiry(&mut expiry, &contents);
                    thread::sleep(READ_INTERVAL);
                }
                WatchStep::Unconfirmed => thread::sleep(CONFIRM_AFTER),
                WatchStep::Changed(keys) => {
                    let files = &keys.join(",");
                    match self.check() {
                        Ok(()) => {
                            let wait = random_below(self.spread);
                            CredentialsChanged { files, leaves_in_ms: millis(wait) }.emit();
                            return thread::sleep(wait);
                        }
                        Err(problem) => CredentialsRefused { files, problem: &problem }.emit(),
                    }
                }
            }
        }
    }

    fn read(&self) -> Contents {
        self.files.iter().map(|file| (file.key, file.read())).collect()
    }

    /// Returns why a process that starts now could not use the files.
    fn check(&self) -> Result<(), String> {
        let config = self.effective.with_files_read_again().map_err(|mistakes| mistakes.join("; "))?;
        settings::check(&config, &self.instance).map_err(|error| error.to_string())
    }

    fn report_expiry(&self, watch: &mut ExpiryWatch, contents: &Contents) {
        let now_ms = SystemClock.unix_ms();
        for (key, content) in contents {
            let expiry = content.as_ref().ok().and_then(|bytes| expiry_of(key, bytes));
            if let Some(expiry) = expiry.filter(|expiry| watch.is_due(key, expiry, now_ms)) {
                let left_ms = u64::try_from(expiry.not_after_ms - now_ms).unwrap_or(0);
                CertificateExpires { file: key, expires: &expiry.not_after_text(), left_ms }.emit();
            }
        }
    }
}

/// The bytes of each file by its key, or why it cannot be read.
type Contents = BTreeMap<&'static str, Result<Vec<u8>, String>>;

fn states(contents: &Contents) -> BTreeMap<&'static str, FileState> {
    let state = |content: &Result<Vec<u8>, String>| match content {
        Ok(bytes) => {
            // Only a hash of the secrets stays in memory.
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            FileState::Content(hasher.finish())
        }
        Err(_) => FileState::Unreadable,
    };
    contents.iter().map(|(key, content)| (*key, state(content))).collect()
}

fn random_below(limit: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    Duration::from_millis(random % (millis(limit) + 1))
}
