//! The configuration in force, for `steward config check`: TOML that could be loaded again, but for the secrets.

use std::fmt::Write as _;

use crate::config::keys::{
    ValueKind, {self},
};
use crate::config::{Effective, rules};

impl Effective {
    /// Renders every key with its value and where that comes from. A secret shows as `"[secret]"`, a key without a
    /// value as a comment.
    #[must_use]
    pub fn describe(&self) -> String {
        let values = rules::values(&self.config);
        let mut text = String::new();
        let mut section = "";
        for key in keys::KEYS {
            let (parent, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
            if parent != section {
                // The properties belong to the section that ends here.
                self.describe_properties(section, &mut text);
                section = parent;
                heading(section, &mut text);
            }
            let origin = self.origin(key.path);
            let value = match key.kind {
                // What was read from a secret's file is the file's, and is shown there.
                ValueKind::Secret if !origin.is_given() => None,
                ValueKind::Secret => Some("\"[secret]\"".to_owned()),
                ValueKind::Number | ValueKind::Flag | ValueKind::Text | ValueKind::File | ValueKind::Word(_) => {
                    values.get(key.path).map(ToString::to_string)
                }
            };
            match value {
                Some(value) => line(&mut text, format_args!("{name} = {value} # {origin}")),
                None => line(&mut text, format_args!("# {name} is not set")),
            }
        }
        text
    }

    fn describe_properties(&self, section: &str, text: &mut String) {
        let properties = &self.config.kafka.properties;
        if section != "kafka.security" || properties.is_empty() {
            return;
        }
        heading(keys::PROPERTIES, text);
        for (name, value) in properties {
            let origin = self.origin(&format!("{}.{name}", keys::PROPERTIES));
            let value = toml::Value::String(value.clone());
            line(text, format_args!("\"{name}\" = {value} # {origin}"));
        }
    }
}

fn heading(section: &str, text: &mut String) {
    if !text.is_empty() {
        text.push('\n');
    }
    line(text, format_args!("[{section}]"));
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("a String takes everything");
}
