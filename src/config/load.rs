//! Text and variables to values. The kind of each value is checked here, everything else in `rules`.
//!
//! A wrong value is reported and left out, so that the other values can still be checked.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use crate::config::properties::PropertyVerdict;
use crate::config::value::{FoundValue, shown};
use crate::config::{Config, ConfigError, Effective, Mistake, Tls, ValueOrigin, files, keys, properties, rules};

/// Prefix of a variable that overrides a key. A variable with a single underscore after `STEWARD` is not a key.
const VARIABLE_PREFIX: &str = "STEWARD__";

/// Syntax errors that are reported. One tends to cause others.
const MAX_SYNTAX_MISTAKES: usize = 5;

#[derive(Debug, Clone, Copy)]
pub struct ConfigDocument<'a> {
    /// The name in mistakes.
    pub name: &'a str,
    pub text: &'a str,
}

/// Returns the environment variables of this process. Bytes that are not Unicode become replacement characters, which
/// no key accepts; in a variable that is not a key they do no harm.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

impl Effective {
    /// Reads the file (`None`: only defaults), applies the variables, and checks the result for this build. Checks the
    /// files that the configuration names as well: secrets are read, certificates have to exist.
    ///
    /// # Errors
    /// The file cannot be read, or all mistakes that were found.
    pub fn load(
        path: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Effective, ConfigError> {
        let read = |path: &Path| match std::fs::read_to_string(path) {
            Ok(text) => Ok((path.display().to_string(), text)),
            Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
        };
        let file = path.map(read).transpose()?;
        let document = file.as_ref().map(|(name, text)| ConfigDocument { name, text });
        let (mut effective, mut mistakes, bad) = assemble(document, env, Tls::OF_THIS_BUILD);
        mistakes.extend(files::read(&mut effective, &bad));
        finish(effective, mistakes)
    }

    /// Like [`Effective::load`], but without access to files: those that the configuration names are not checked.
    ///
    /// # Errors
    /// All mistakes that were found.
    pub fn parse(
        document: Option<ConfigDocument<'_>>,
        env: impl IntoIterator<Item = (String, String)>,
        tls: Tls,
    ) -> Result<Effective, ConfigError> {
        let (effective, mistakes, _) = assemble(document, env, tls);
        finish(effective, mistakes)
    }
}

fn finish(effective: Effective, mut mistakes: Vec<Mistake>) -> Result<Effective, ConfigError> {
    if mistakes.is_empty() {
        return Ok(effective);
    }
    let place = |mistake: &Mistake| keys::all().position(|key| key.path == mistake.key).unwrap_or(usize::MAX);
    mistakes.sort_by_key(place);
    Err(ConfigError::Invalid(mistakes))
}

/// Returns the values without the wrong ones, the mistakes, and the keys that have a wrong value.
fn assemble(
    document: Option<ConfigDocument<'_>>,
    env: impl IntoIterator<Item = (String, String)>,
    tls: Tls,
) -> (Effective, Vec<Mistake>, BTreeSet<String>) {
    let mut variables: Vec<(String, String)> = env.into_iter().collect();
    variables.sort();
    let mut draft = ConfigDraft { values: BTreeMap::new(), mistakes: Vec::new(), bad: BTreeSet::new(), tls };
    let file = document.as_ref().map(|document| document.name.to_owned());
    if let Some(document) = document {
        draft.take_document(document);
    }
    draft.take_variables(&variables);

    let bad = draft.bad;
    let mut mistakes = draft.mistakes;
    let origins = draft.values.iter().map(|(path, (_, origin))| (path.clone(), origin.clone())).collect();
    let mut effective = Effective { config: build(draft.values), file, origins };
    rules::adapt_defaults(&mut effective);
    let pod_name = variables.iter().find(|(name, _)| name == "POD_NAME").map(|(_, value)| value.as_str());
    mistakes.extend(rules::check(&effective, tls, pod_name, &bad));
    (effective, mistakes, bad)
}

fn build(values: BTreeMap<String, (toml::Value, ValueOrigin)>) -> Config {
    let mut root = toml::Table::new();
    for (path, (value, _)) in values {
        let (parents, leaf) = split(&path);
        let mut table = &mut root;
        for parent in parents {
            let below = table.entry(parent).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            let toml::Value::Table(below) = below else { unreachable!("no key is a section") };
            table = below;
        }
        table.insert(leaf.to_owned(), value);
    }
    // Not `expect`: it would print the value found, which can be a secret.
    let Ok(config) = Config::deserialize(root) else {
        unreachable!("each value has the kind of its key, and a test compares kinds with fields")
    };
    config
}

/// Returns the sections above a key, and its own name. The name of a property contains dots of its own.
fn split(path: &str) -> (Vec<&str>, &str) {
    match keys::property(path) {
        Some(property) => (keys::PROPERTIES.split('.').collect(), property),
        None => {
            let (parents, leaf) = path.rsplit_once('.').unwrap_or(("", path));
            (parents.split('.').collect(), leaf)
        }
    }
}

struct ConfigDraft {
    values: BTreeMap<String, (toml::Value, ValueOrigin)>,
    mistakes: Vec<Mistake>,
    bad: BTreeSet<String>,
    tls: Tls,
}

impl ConfigDraft {
    fn take_document(&mut self, document: ConfigDocument<'_>) {
        let (table, errors) = DeTable::parse_recoverable(document.text);
        if errors.is_empty() {
            return self.take_table("", table.get_ref(), document);
        }
        // The recovered part of a broken text is a guess. Mistakes found in it would be guesses, too.
        for error in errors.iter().take(MAX_SYNTAX_MISTAKES) {
            let origin = document.place(error.span().unwrap_or(0..0));
            // Only the message: the parser's `Display` quotes the line, which may hold a secret.
            self.mistakes.push(Mistake {
                key: document.key_at(error.span().unwrap_or(0..0)),
                found: None,
                origin,
                problem: format!("is not TOML: {}", error.message().trim_end()),
                remedy: "correct the line; text needs double quotes, sections need brackets".into(),
            });
        }
    }

    fn take_table(&mut self, prefix: &str, table: &DeTable<'_>, document: ConfigDocument<'_>) {
        for (name, value) in table {
            let path = keys::join(prefix, name.get_ref());
            let origin = document.place(name.span());
            // TOML makes a table of a property's name, which contains dots, unless it is quoted.
            let is_above_keys = prefix.starts_with(keys::PROPERTIES) || keys::is_section(&path);
            if let DeValue::Table(below) = value.get_ref()
                && is_above_keys
            {
                self.take_table(&path, below, document);
            } else {
                let found = FoundValue { text: &document.text[value.span()], value: value.get_ref() };
                self.take(path, &found, origin);
            }
        }
    }

    fn take_variables(&mut self, variables: &[(String, String)]) {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else { continue };
            let path = path_of_variable(rest);
            let origin = ValueOrigin::Variable(name.clone());
            if let Some(other) = seen.insert(path.clone(), name) {
                let problem = format!("is given twice, by {other} as well");
                self.refuse(path, None, origin, problem, format!("unset one of them, best {}", unusual(other, name)));
                continue;
            }
            let value = DeValue::String(Cow::Borrowed(text));
            self.take(path, &FoundValue { text, value: &value }, origin);
        }
    }

    fn take(&mut self, path: String, found: &FoundValue<'_>, origin: ValueOrigin) {
        if let (ValueOrigin::File { .. }, Some((_, ValueOrigin::File { line, .. }))) = (&origin, self.values.get(&path))
        {
            // TOML itself refuses a repeated name, but not `a.b` beside `"a.b"`.
            let problem = format!("is given twice, in line {line} as well");
            return self.refuse(path, None, origin, problem, "remove one of them".to_owned());
        }
        if let Some(property) = keys::property(&path) {
            let property = property.to_owned();
            return self.take_property(path, &property, found, origin);
        }
        let Some(key) = keys::find(&path) else { return self.refuse_unknown(path, origin) };
        match found.typed(key, &origin) {
            Ok(value) => {
                // A correct variable overrides a wrong value of the file, so the rules can check it. The mistake in the
                // file is still reported.
                self.bad.remove(&path);
                self.values.insert(path, (value, origin));
            }
            Err((problem, remedy)) => {
                let shown = shown(key, found.text);
                self.refuse(path, shown, origin, problem, remedy);
            }
        }
    }

    fn take_property(&mut self, path: String, property: &str, found: &FoundValue<'_>, origin: ValueOrigin) {
        let (problem, remedy) = match properties::verdict(property) {
            Some(PropertyVerdict::Passed(_)) if properties::needs_tls(property) && self.tls == Tls::Absent => {
                ("needs TLS, which this build does not have".to_owned(), rules::BUILD_WITH_TLS.to_owned())
            }
            Some(PropertyVerdict::Passed(_)) => {
                if let Some(value) = found.as_property() {
                    self.values.insert(path, (toml::Value::String(value), origin));
                    return;
                }
                let problem = "must be a string, a whole number, true or false, and not empty";
                (problem.to_owned(), "write the value as librdkafka's documentation does".to_owned())
            }
            Some(PropertyVerdict::Refused(refusal)) => {
                (format!("is not passed on: {}", refusal.reason), refusal.remedy.to_owned())
            }
            None => {
                let meant = keys::nearest(property, properties::passed());
                let hint = meant.map_or_else(
                    || "see docs/configuration.md for the properties that are passed on".to_owned(),
                    |meant| format!("did you mean {}", suggestion(&format!("{}.{meant}", keys::PROPERTIES), &origin)),
                );
                ("librdkafka has no such property".to_owned(), hint)
            }
        };
        self.refuse(path, None, origin, problem, remedy);
    }

    fn refuse_unknown(&mut self, path: String, origin: ValueOrigin) {
        if keys::is_section(&path) {
            let remedy = format!("give its keys a value each, for example {}", first_key_below(&path, &origin));
            return self.refuse(path, None, origin, "is a section, not a key".to_owned(), remedy);
        }
        let leaf = path.rsplit('.').next().unwrap_or(&path);
        let same_name = keys::all().find(|key| key.section_and_name().1 == leaf);
        let candidates = keys::all().map(|key| key.path).chain(keys::section_names());
        let meant = same_name.map(|key| key.path).or_else(|| keys::nearest(&path, candidates));
        let remedy = match (meant, &origin) {
            (Some(meant), _) => format!("did you mean {}", suggestion(meant, &origin)),
            (None, ValueOrigin::Variable(_)) => "unset it; docs/configuration.md lists the keys".to_owned(),
            (None, _) => "remove it; docs/configuration.md lists the keys".to_owned(),
        };
        self.refuse(path, None, origin, "there is no such key".to_owned(), remedy);
    }

    fn refuse(&mut self, path: String, found: Option<String>, origin: ValueOrigin, problem: String, remedy: String) {
        self.bad.insert(path.clone());
        self.mistakes.push(Mistake { key: path, found, origin, problem, remedy });
    }
}

/// `KAFKA__GROUP_ID` to `kafka.group_id`, `KAFKA__PROPERTIES__FETCH_WAIT_MAX_MS` to
/// `kafka.properties.fetch.wait.max.ms`.
fn path_of_variable(rest: &str) -> String {
    let lower = rest.to_lowercase();
    match lower.strip_prefix("kafka__properties__") {
        // No property that is passed on has an underscore in its name.
        Some(property) => format!("{}.{}", keys::PROPERTIES, property.replace('_', ".")),
        None => lower.replace("__", "."),
    }
}

/// Of two variables for one key, the one that is not in capitals.
fn unusual<'a>(one: &'a str, other: &'a str) -> &'a str {
    if one.chars().any(char::is_lowercase) { one } else { other }
}

fn suggestion(path: &str, origin: &ValueOrigin) -> String {
    match origin {
        ValueOrigin::Variable(_) => keys::variable(path),
        ValueOrigin::Default | ValueOrigin::Follows(_) | ValueOrigin::File { .. } => path.to_owned(),
    }
}

fn first_key_below(section: &str, origin: &ValueOrigin) -> String {
    let below = |path: &&str| path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'));
    let first = keys::all().map(|key| key.path).find(below).unwrap_or("kafka.properties.client.id");
    suggestion(first, origin)
}

impl ConfigDocument<'_> {
    fn place(&self, span: Range<usize>) -> ValueOrigin {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ValueOrigin::File {
            name: self.name.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// The key of a line that is not TOML: the text before the equals sign, if there is such a key.
    fn key_at(&self, span: Range<usize>) -> String {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = self.text.lines().nth(before.matches('\n').count()).unwrap_or_default();
        let name = line.split_once('=').map(|(name, _)| name.trim());
        let section = before.lines().rev().find_map(|line| line.trim().strip_prefix('[')?.split(']').next());
        let full = name.map(|name| section.map_or_else(|| name.to_owned(), |section| format!("{section}.{name}")));
        full.filter(|full| keys::find(full).is_some()).unwrap_or_else(|| "the file".to_owned())
    }
}
