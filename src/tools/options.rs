//! Flags that several commands share.

use std::ffi::OsString;
use std::path::Path;

use clap::Args;

use crate::config::{ConfigError, Effective, ValueOrigin, environment, keys};

/// The flag that names the configuration file.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConfigFile {
    /// TOML file; without it every key has its default. STEWARD__SECTION__KEY variables override single keys.
    // Not a PathBuf, because clap refuses an empty one. An empty variable counts as no variable.
    #[arg(long, value_name = "FILE", env = "STEWARD_CONFIG", hide_env_values = true)]
    config: Option<OsString>,
}

/// A flag that sets a key of the configuration, and overrides file and variables.
pub(crate) struct Override<'a> {
    /// As typed, such as `--topic`.
    pub(crate) flag: &'static str,
    /// Such as `kafka.topic`.
    pub(crate) key: &'static str,
    pub(crate) value: Option<&'a str>,
}

impl Override<'_> {
    pub(crate) fn servers(value: Option<&str>) -> Override<'_> {
        Override { flag: "--bootstrap-servers", key: "kafka.bootstrap_servers", value }
    }
}

impl ConfigFile {
    pub(crate) fn path(&self) -> Option<&Path> {
        self.config.as_deref().filter(|name| !name.is_empty()).map(Path::new)
    }

    /// Loads the configuration for this machine, with the overrides.
    ///
    /// # Errors
    /// The file cannot be read, or the configuration is wrong. Lists all mistakes; a mistake in a flag names the flag.
    pub(crate) fn load(&self, overrides: &[Override<'_>]) -> Result<Effective, ConfigError> {
        let given: Vec<(String, &Override<'_>, &str)> = overrides
            .iter()
            .filter_map(|flag| flag.value.map(|value| (keys::variable(flag.key), flag, value)))
            .collect();
        let is_overridden = |name: &str| given.iter().any(|(variable, ..)| variable.eq_ignore_ascii_case(name));
        let variables = environment()
            .filter(|(name, _)| !is_overridden(name))
            .chain(given.iter().map(|(variable, _, value)| (variable.clone(), (*value).to_owned())));
        Effective::load(self.path(), variables).map_err(|error| match error {
            ConfigError::Unreadable { .. } => error,
            ConfigError::Invalid(mut mistakes) => {
                for mistake in &mut mistakes {
                    let ValueOrigin::Variable(name) = &mut mistake.origin else { continue };
                    if let Some((_, flag, _)) = given.iter().find(|(variable, ..)| variable == name) {
                        *name = flag.flag.to_owned();
                    }
                }
                ConfigError::Invalid(mistakes)
            }
        })
    }
}
