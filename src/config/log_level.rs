//! Owns the grammar of `log.level`, and reads this one key again while the process runs.
//!
//! The grammar: at most one general level, by default `info`, and any number of `target=level`. `off` is allowed only
//! for a target: a process without any log could not be monitored.
//!
//! Absent on purpose: every other key. They are read once, at the start.

use crate::config::LogConfig;

/// The least severe level that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Nothing; only for a single target.
    Off,
    Error,
    Warn,
    Info,
    Debug,
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLevel {
    /// For everything that no target covers.
    pub general: Verbosity,
    /// For single targets and the targets below them.
    pub targets: Vec<(String, Verbosity)>,
}

/// A part of `log.level` that is not in the grammar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongPart(pub String);

impl LogLevel {
    /// # Errors
    /// The first part that is neither a level nor `target=level`, or a second general level.
    pub fn parse(text: &str) -> Result<LogLevel, WrongPart> {
        let wrong = |part: &str| WrongPart(part.to_owned());
        let mut general = None;
        let mut targets = Vec::new();
        for part in text.split(',').map(str::trim) {
            let Some((target, level)) = part.rsplit_once('=') else {
                // Other filters would treat a word that is no level as a target, and silence everything else.
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

/// Returns the `log.level` in the text of a configuration file, or the default if the text does not contain one.
/// Nothing else is checked, so that a file that is being edited for the next start can still change the level of this
/// process.
///
/// # Errors
/// Why the level cannot be read, without quoting lines of the text, which may contain secrets.
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
