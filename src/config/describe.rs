//! The configuration in force, for `steward config check`: TOML that can be loaded again, except for the secrets.

use std::fmt::Write as _;

use crate::config::keys::ValueKind;
use crate::config::{Effective, keys};

impl Effective {
    /// Renders every key with its value and the value's origin. A secret is rendered as `"[secret]"`, a key without a
    /// value as a comment.
    pub fn describe(&self) -> String {
        let values = self.values();
        let mut text = String::new();
        for section in keys::SECTIONS {
            heading(section.name, &mut text);
            for key in section.keys {
                let (_, name) = key.section_and_name();
                let origin = self.origin(key.path);
                // A secret that was read from a file is a value of the key that names the file.
                let has_value = key.kind != ValueKind::Secret || origin.is_given();
                match values.get(key.path).filter(|_| has_value) {
                    Some(value) => line(&mut text, format_args!("{name} = {value} # {origin}")),
                    None => line(&mut text, format_args!("# {name} is not set")),
                }
            }
            if section.name == "kafka.security" {
                self.describe_properties(&mut text);
            }
        }
        text
    }

    fn describe_properties(&self, text: &mut String) {
        let properties = &self.config.kafka.properties;
        if properties.is_empty() {
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
    writeln!(text, "{content}").expect("writing to a String never fails");
}
