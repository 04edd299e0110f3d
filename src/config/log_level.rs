//! The grammar of `log.level`, and what a file says of it when it is read again while the process runs.
//!
//! At most one level for all, `info` where there is none, and any number of `target=level`. `off` is for single targets:
//! a process without any log could not be watched.
//!
//! Absent on purpose: every other key. They are read once, at the start.

use crate::config::LogConfig;

/// How much is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Nothing; only for a single target.
    Off,
    /// Errors.
    Error,
    /// Warnings, too.
    Warn,
    /// The life cycle, too.
    Info,
    /// Decisions, too.
    Debug,
    /// Each record, too.
    Trace,
}

impl Verbosity {
    fn named(name: &str) -> Option<Verbosity> {
        let named = [
            ("off", Verbosity::Off),
            ("error", Verbosity::Error),
            ("warn", Verbosity::Warn),
            ("info", Verbosity::Info),
            ("debug", Verbosity::Debug),
            ("trace", Verbosity::Trace),
        ];
        named.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, verbosity)| verbosity)
    }
}

/// A value of `log.level`, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLevel {
    /// For all that no target covers.
    pub general: Verbosity,
    /// For single targets and what lies below them.
    pub targets: Vec<(String, Verbosity)>,
}

/// A part of `log.level` that means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongPart(pub String);

impl LogLevel {
    /// Reads `log.level`.
    ///
    /// # Errors
    /// The first part that is neither a level nor `target=level`, or a second level for all.
    pub fn parse(text: &str) -> Result<LogLevel, WrongPart> {
        let wrong = |part: &str| WrongPart(part.to_owned());
        let mut general = None;
        let mut targets = Vec::new();
        for part in text.split(',').map(str::trim) {
            let Some((target, level)) = part.rsplit_once('=') else {
                // A word that is no level would be taken for a target by other filters, and silence the rest.
                let level = Verbosity::named(part).filter(|level| *level != Verbosity::Off);
                if general.replace(level.ok_or_else(|| wrong(part))?).is_some() {
                    return Err(wrong(part));
                }
                continue;
            };
            let level = Verbosity::named(level.trim()).ok_or_else(|| wrong(part))?;
            let target = target.trim();
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-' | '.');
            if target.is_empty() || !target.chars().all(legal) {
                return Err(wrong(part));
            }
            targets.push((target.to_owned(), level));
        }
        Ok(LogLevel { general: general.unwrap_or(Verbosity::Info), targets })
    }
}

/// The `log.level` of a configuration file's text; the default where it gives none. Nothing else is judged, so that a
/// file that is being changed for the next start can still change the level of this process.
///
/// # Errors
/// Why the text gives no level, without quoting its lines, which may hold secrets.
pub fn level_in(text: &str) -> Result<String, String> {
    let table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| format!("the file is not TOML: {}", error.message().trim()))?;
    let log = match table.get("log") {
        None => return Ok(LogConfig::default().level),
        Some(log) => log.as_table().ok_or("[log] is no section")?,
    };
    let level = match log.get("level") {
        None => return Ok(LogConfig::default().level),
        Some(level) => level.as_str().ok_or("log.level must be text in double quotes")?,
    };
    match LogLevel::parse(level) {
        Ok(_) => Ok(level.to_owned()),
        Err(WrongPart(part)) => Err(format!("log.level: {part:?} is neither a level nor target=level")),
    }
}
