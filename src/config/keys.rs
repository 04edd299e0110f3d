//! The list of all keys, in the order of `config.toml`, and how to find one by its path, its variable or a misspelling.

use crate::config::{kafka, sections};

pub use crate::config::declaration::{ConfigKey, FileContent, Section, TextFormat, ValueKind};

/// Every section, in the order of `config.toml`.
pub const SECTIONS: &[&Section] = &[
    &kafka::KafkaConfig::SECTION,
    &kafka::SecurityConfig::SECTION,
    &sections::LimitsConfig::SECTION,
    &sections::CommitConfig::SECTION,
    &sections::RecoveryConfig::SECTION,
    &sections::GuardsConfig::SECTION,
    &sections::ShutdownConfig::SECTION,
    &sections::HealthConfig::SECTION,
    &sections::LogConfig::SECTION,
    &sections::RuntimeConfig::SECTION,
];

/// The section whose keys are properties of librdkafka. It follows `kafka.security`.
pub const PROPERTIES: &str = "kafka.properties";

/// Every key but those of [`PROPERTIES`], in the order of `config.toml`.
pub fn all() -> impl Iterator<Item = &'static ConfigKey> + Clone {
    SECTIONS.iter().flat_map(|section| section.keys)
}

pub fn find(path: &str) -> Option<&'static ConfigKey> {
    all().find(|key| key.path == path)
}

/// Returns the librdkafka property that the key below [`PROPERTIES`] passes on.
pub(super) fn property(path: &str) -> Option<&str> {
    path.strip_prefix(PROPERTIES)?.strip_prefix('.')
}

/// Returns the path of a name in a section. The document's root is the section `""`.
pub(super) fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// Returns whether keys lie below this path.
pub fn is_section(path: &str) -> bool {
    section_names().any(|section| section == path)
}

pub fn section_names() -> impl Iterator<Item = &'static str> {
    SECTIONS.iter().map(|section| section.name).chain([PROPERTIES])
}

/// Returns the variable that overrides this key, such as `STEWARD__KAFKA__GROUP_ID`.
pub fn variable(path: &str) -> String {
    match property(path) {
        Some(property) => format!("STEWARD__KAFKA__PROPERTIES__{}", property.to_uppercase().replace('.', "_")),
        None => format!("STEWARD__{}", path.to_uppercase().replace('.', "__")),
    }
}

/// Returns the candidate that `word` is most likely a misspelling of; `None` if none is close, or if `word` is longer
/// than 200 characters.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).max(1);
    if word.chars().count() > 200 {
        return None;
    }
    let measured = candidates.into_iter().map(|candidate| (distance(word, candidate), candidate));
    measured.filter(|(distance, _)| *distance <= allowed).min_by_key(|(distance, _)| *distance).map(|(_, found)| found)
}

/// Returns the number of characters to insert, remove or replace to turn `from` into `to` (Levenshtein distance).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, from) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, to) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}
