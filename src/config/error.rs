//! The mistakes of a configuration. Each one states everything that is needed to correct it.

use std::fmt;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {}: {source}; name a TOML file in UTF-8 with --config or STEWARD_CONFIG", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// All mistakes that were found, in the order of [`crate::config::keys::all`]; those without a known key come last.
    #[error("{}", listed(.0))]
    Invalid(Vec<Mistake>),
}

impl ConfigError {
    /// Returns the mistakes; none if the file could not be read.
    pub fn mistakes(&self) -> &[Mistake] {
        match self {
            ConfigError::Unreadable { .. } => &[],
            ConfigError::Invalid(mistakes) => mistakes,
        }
    }
}

fn listed(mistakes: &[Mistake]) -> String {
    let lines: Vec<String> = mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect();
    let noun = if lines.len() == 1 { "mistake" } else { "mistakes" };
    format!("{} {noun} in the configuration:{}", lines.len(), lines.concat())
}

/// One mistake: `key = found (origin): what is allowed; what to do`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The key, such as `limits.max_payload_bytes`; `the file` if there is no key to name.
    pub key: String,
    /// The value, as TOML. `None` if there is none, if it is a secret, or if it might be one.
    pub found: Option<String>,
    pub origin: ValueOrigin,
    /// What is wrong, or what is allowed.
    pub problem: String,
    pub remedy: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mistake { key, found, origin, problem, remedy } = self;
        match (found, origin) {
            (Some(found), _) => write!(f, "{key} = {found} ({origin}): {problem}; {remedy}"),
            (None, ValueOrigin::Default) => write!(f, "{key} (not set): {problem}; {remedy}"),
            (None, _) => write!(f, "{key} ({origin}): {problem}; {remedy}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueOrigin {
    /// Not given.
    Default,
    /// Not given, and the default was adapted to the value of this key.
    Follows(&'static str),
    File {
        name: String,
        /// Counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
    },
    Variable(String),
}

impl ValueOrigin {
    /// Returns whether the value was given in the file or in a variable.
    pub fn is_given(&self) -> bool {
        matches!(self, ValueOrigin::File { .. } | ValueOrigin::Variable(_))
    }
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueOrigin::Default => f.write_str("default"),
            ValueOrigin::Follows(key) => write!(f, "follows {key}"),
            ValueOrigin::File { name, line, column } => write!(f, "{name}, line {line}, column {column}"),
            ValueOrigin::Variable(name) => f.write_str(name),
        }
    }
}
