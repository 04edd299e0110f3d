//! What can be wrong with a configuration, told so that the reader can put it right without looking anything up.

use std::fmt;
use std::path::PathBuf;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read at all.
    #[error("cannot read the configuration file {}: {source}; name a TOML file in UTF-8 with --config or STEWARD_CONFIG", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// All mistakes that were found, in the order of [`crate::config::keys::KEYS`]; those without a known key come last.
    #[error("{}", listed(.0))]
    Invalid(Vec<Mistake>),
}

impl ConfigError {
    /// The mistakes, none where the file could not be read.
    #[must_use]
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
    /// The key, such as `limits.max_payload_bytes`; where there is none to name, the place.
    pub key: String,
    /// The value, as TOML. Absent where there is none, where it is a secret, and where it might be one.
    pub found: Option<String>,
    /// Where the value comes from.
    pub origin: ValueOrigin,
    /// What is wrong, or what is allowed.
    pub problem: String,
    /// What to do.
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

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueOrigin {
    /// Nobody gave it.
    Default,
    /// Nobody gave it, and the default had to make room for another key.
    Follows(&'static str),
    /// The file.
    File {
        /// Its name.
        name: String,
        /// Counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
    },
    /// A variable of the environment.
    Variable(String),
}

impl ValueOrigin {
    /// Whether somebody gave the value.
    #[must_use]
    pub fn is_given(&self) -> bool {
        match self {
            ValueOrigin::Default | ValueOrigin::Follows(_) => false,
            ValueOrigin::File { .. } | ValueOrigin::Variable(_) => true,
        }
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
