//! Owns the configuration: every key with its unit, default and limits, parsed once at the start.
//!
//! A TOML file gives values, `STEWARD__SECTION__KEY` variables override them, and a key that is in neither has its
//! default. [`Effective::parse`] does this for text and variables; [`Effective::load`] also reads the files that are
//! named. Both report all mistakes at once, each with its key, the value found, its place, and what to do.
//!
//! In reading order: `declaration` (how a key is declared), `kafka` and `sections` (the declarations), `keys` (the list
//! of them), `load` (text and variables to values), `value` (one value), `rules` (conditions between keys), `files`
//! (the files that are named), `properties` (what is passed on to librdkafka), `describe` (the configuration in force),
//! `error`.
//!
//! Architecture invariant: a [`Config`] that was loaded is valid; code that receives one does not check it again.
//! Architecture invariant: a secret is never rendered. An error shows the value found, except for secrets and for values
//! of unknown keys: a secret under a misspelt key is still a secret.
//! Absent on purpose: the Kafka client and the logger.

mod declaration;
mod describe;
mod error;
mod files;
mod kafka;
pub mod keys;
mod load;
pub mod log_level;
pub mod properties;
mod rules;
mod sections;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use crate::config::error::{ConfigError, Mistake, ValueOrigin};
pub use crate::config::files::CredentialFile;
pub use crate::config::kafka::{
    KafkaConfig, MAX_NAME_BYTES, SaslMechanism, Secret, SecurityConfig, SecurityProtocol, oauth_extensions,
};
pub use crate::config::load::{ConfigDocument, environment};
pub use crate::config::sections::{
    CommitConfig, GuardsConfig, HealthConfig, LimitsConfig, LogConfig, LogFormat, LogKeys, OnExpired, RecoveryConfig,
    RuntimeConfig, ShutdownConfig, Unchecked,
};

/// Every value that can be configured, by section.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub kafka: KafkaConfig,
    pub limits: LimitsConfig,
    pub commit: CommitConfig,
    pub recovery: RecoveryConfig,
    pub guards: GuardsConfig,
    pub shutdown: ShutdownConfig,
    pub health: HealthConfig,
    pub log: LogConfig,
    pub runtime: RuntimeConfig,
}

/// A configuration, and where each of its values comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    pub config: Config,
    /// The name of the file that was read; `None` if there was none.
    pub file: Option<String>,
    origins: Origins,
}

/// The origins of the values that are not defaults, by key.
type Origins = BTreeMap<String, ValueOrigin>;

/// Whether the client library of a build supports TLS, SCRAM and OAUTHBEARER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    BuiltIn,
    Absent,
}

impl Tls {
    pub const OF_THIS_BUILD: Tls = if cfg!(feature = "tls") { Tls::BuiltIn } else { Tls::Absent };
}

impl Effective {
    pub fn origin(&self, path: &str) -> ValueOrigin {
        self.origins.get(path).cloned().unwrap_or(ValueOrigin::Default)
    }

    /// Returns the files with certificates, keys and passwords for the clients.
    pub fn credential_files(&self) -> Vec<CredentialFile> {
        files::credentials(self)
    }

    /// Returns the configuration with the files that it names read again.
    ///
    /// # Errors
    /// The mistakes, if a file has no valid content.
    pub fn with_files_read_again(&self) -> Result<Config, Vec<String>> {
        let mut again = self.clone();
        let mistakes = files::read(&mut again, &BTreeSet::new());
        if mistakes.is_empty() { Ok(again.config) } else { Err(mistakes.iter().map(Mistake::to_string).collect()) }
    }

    /// Returns the values by key, as TOML. Keys without a value are absent, and a secret is `"[secret]"`.
    fn values(&self) -> BTreeMap<String, toml::Value> {
        let table = toml::Table::try_from(&self.config)
            .expect("numbers are below 2^63 and paths are UTF-8: both were read from text");
        let mut flat = BTreeMap::new();
        flatten("", table, &mut flat);
        flat
    }
}

fn flatten(prefix: &str, table: toml::Table, flat: &mut BTreeMap<String, toml::Value>) {
    for (name, value) in table {
        let path = keys::join(prefix, &name);
        if let toml::Value::Table(below) = value {
            flatten(&path, below, flat);
        } else {
            flat.insert(path, value);
        }
    }
}

impl Config {
    /// [`Effective::load`], without the origins of the values.
    pub fn load(path: Option<&Path>, env: impl IntoIterator<Item = (String, String)>) -> Result<Config, ConfigError> {
        Effective::load(path, env).map(|effective| effective.config)
    }
}
