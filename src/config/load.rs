//! Text and variables to values. Each value is checked for its kind here, and for everything else in `rules`.
//!
//! A value that is wrong is reported and left out, so that the others can still be judged.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use crate::config::keys::{
    ConfigKey, ValueKind, {self},
};
use crate::config::properties::{
    PropertyVerdict, {self},
};
use crate::config::{Config, ConfigError, Mistake, ValueOrigin, files, rules};

/// What names a variable that overrides a key. Variables with a single underscore behind `STEWARD` are none.
const VARIABLE_PREFIX: &str = "STEWARD__";

/// Below this, what is in `STEWARD__KAFKA__PROPERTIES__FETCH_WAIT_MAX_MS` is a property of librdkafka.
const PROPERTY_PREFIX: &str = "kafka__properties__";

/// A found value is shown up to this many characters.
const SHOWN_CHARS: usize = 64;

/// A syntax error tends to bring others; so many are shown.
const MAX_SYNTAX_MISTAKES: usize = 5;

/// Whether the client library of a build can do TLS, SCRAM and OAUTHBEARER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// It can.
    BuiltIn,
    /// It cannot.
    Absent,
}

impl Tls {
    /// What this build can do.
    pub const OF_THIS_BUILD: Tls = if cfg!(feature = "tls") { Tls::BuiltIn } else { Tls::Absent };
}

/// The text of a configuration file.
#[derive(Debug, Clone, Copy)]
pub struct ConfigDocument<'a> {
    /// What mistakes call it.
    pub name: &'a str,
    /// TOML.
    pub text: &'a str,
}

/// A configuration, and where each of its values comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    /// The values, checked.
    pub config: Config,
    /// The name of the file that was read; `None` where there was none.
    pub file: Option<String>,
    pub(super) origins: Origins,
}

/// Where the values come from that are not simply defaults, by key.
pub(super) type Origins = BTreeMap<String, ValueOrigin>;

/// This process's variables. What is not Unicode is taken over with replacement characters, so that it is refused
/// with its name where it matters, and does no harm where it does not.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

impl Effective {
    /// Reads the file (none: defaults alone), lets the variables override it, and checks the whole for this build,
    /// the files that it names included: secrets are read, certificates have to be there.
    ///
    /// # Errors
    /// The file cannot be read, or all mistakes that were found.
    pub fn load(
        path: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Effective, ConfigError> {
        let file = match path {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
                Some((path.display().to_string(), text))
            }
        };
        let document = file.as_ref().map(|(name, text)| ConfigDocument { name, text });
        let (mut effective, mut mistakes, bad) = assemble(document, env, Tls::OF_THIS_BUILD);
        mistakes.extend(files::read(&mut effective, &bad));
        finish(effective, mistakes)
    }

    /// The same without touching a file: those that the configuration names are neither read nor looked for.
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

    /// Where the value of this key comes from.
    #[must_use]
    pub fn origin(&self, path: &str) -> ValueOrigin {
        self.origins.get(path).cloned().unwrap_or(ValueOrigin::Default)
    }
}

fn finish(effective: Effective, mut mistakes: Vec<Mistake>) -> Result<Effective, ConfigError> {
    if mistakes.is_empty() {
        return Ok(effective);
    }
    let place = |mistake: &Mistake| keys::KEYS.iter().position(|key| key.path == mistake.key).unwrap_or(usize::MAX);
    mistakes.sort_by_key(place);
    Err(ConfigError::Invalid(mistakes))
}

/// The values that could be had, the mistakes, and the keys whose value is not the one that was meant.
fn assemble(
    document: Option<ConfigDocument<'_>>,
    env: impl IntoIterator<Item = (String, String)>,
    tls: Tls,
) -> (Effective, Vec<Mistake>, BTreeSet<String>) {
    let mut variables: Vec<(String, String)> = env.into_iter().collect();
    variables.sort();
    let mut draft = ConfigDraft { tls, ..ConfigDraft::default() };
    let file = document.as_ref().map(|document| document.name.to_owned());
    if let Some(document) = document {
        draft.take_document(document);
    }
    draft.take_variables(&variables);

    let bad = draft.bad;
    let mut mistakes = draft.mistakes;
    let origins = draft.values.iter().map(|(path, (_, origin))| (path.clone(), origin.clone())).collect();
    let mut effective = Effective { config: build(draft.values), file, origins };
    rules::make_room(&mut effective);
    let pod_name = variables.iter().find(|(name, _)| name == "POD_NAME").map(|(_, value)| value.as_str());
    mistakes.extend(rules::check(&effective, tls, pod_name, &bad));
    (effective, mistakes, bad)
}

/// The sections from the flat values.
pub(super) fn build(values: BTreeMap<String, (toml::Value, ValueOrigin)>) -> Config {
    let mut root = toml::Table::new();
    for (path, (value, _)) in values {
        let (parents, leaf) = split(&path);
        let mut table = &mut root;
        for parent in parents {
            let below = table.entry(parent).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            let toml::Value::Table(below) = below else { unreachable!("no key is a section, which a test holds") };
            table = below;
        }
        table.insert(leaf.to_owned(), value);
    }
    // Not `expect`: it would print what it found, and that can be a secret.
    let Ok(config) = Config::deserialize(root) else {
        unreachable!("each value has the kind of its key, and a test holds the kinds against the fields")
    };
    config
}

/// The sections above a key, and its own name. The name of a property holds dots of its own.
fn split(path: &str) -> (Vec<&str>, &str) {
    match path.strip_prefix(keys::PROPERTIES).and_then(|rest| rest.strip_prefix('.')) {
        Some(property) => (keys::PROPERTIES.split('.').collect(), property),
        None => {
            let (parents, leaf) = path.rsplit_once('.').unwrap_or(("", path));
            (parents.split('.').collect(), leaf)
        }
    }
}

/// What is gathered while reading.
struct ConfigDraft {
    values: BTreeMap<String, (toml::Value, ValueOrigin)>,
    mistakes: Vec<Mistake>,
    bad: BTreeSet<String>,
    tls: Tls,
}

impl Default for ConfigDraft {
    fn default() -> ConfigDraft {
        ConfigDraft { values: BTreeMap::new(), mistakes: Vec::new(), bad: BTreeSet::new(), tls: Tls::OF_THIS_BUILD }
    }
}

impl ConfigDraft {
    fn take_document(&mut self, document: ConfigDocument<'_>) {
        let (table, errors) = DeTable::parse_recoverable(document.text);
        if errors.is_empty() {
            return self.take_table("", table.get_ref(), document);
        }
        // What could be recovered of a broken text is a guess; mistakes found in it would be guesses, too.
        for error in errors.iter().take(MAX_SYNTAX_MISTAKES) {
            let origin = document.place(error.span().unwrap_or(0..0));
            // Only the parser's own words: its `Display` would quote the line, which may hold a secret.
            self.mistakes.push(Mistake {
                key: document.key_at(error.span().unwrap_or(0..0)),
                found: None,
                origin,
                problem: format!("is not TOML: {}", error.message().trim_end()),
                remedy: "correct the line; text stands in double quotes, sections in brackets".into(),
            });
        }
    }

    fn take_table(&mut self, prefix: &str, table: &DeTable<'_>, document: ConfigDocument<'_>) {
        for (name, value) in table {
            let path = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{name}", name = name.get_ref())
            };
            let origin = document.place(name.span());
            let in_properties = prefix.starts_with(keys::PROPERTIES);
            match value.get_ref() {
                // Within the properties an unquoted dot makes a table of what is one name.
                DeValue::Table(below) if in_properties || keys::is_section(&path) => {
                    self.take_table(&path, below, document);
                }
                DeValue::Table(_)
                | DeValue::String(_)
                | DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_) => {
                    let found = FoundValue { text: &document.text[value.span()], value: value.get_ref() };
                    self.take(path, &found, origin);
                }
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
                self.refuse(path, None, origin, problem, format!("unset one of them, best {}", rarer(other, name)));
                continue;
            }
            let value = DeValue::String(Cow::Borrowed(text));
            self.take(path, &FoundValue { text, value: &value }, origin);
        }
    }

    fn take(&mut self, path: String, found: &FoundValue<'_>, origin: ValueOrigin) {
        if let (ValueOrigin::File { .. }, Some((_, ValueOrigin::File { line, .. }))) = (&origin, self.values.get(&path))
        {
            // TOML itself refuses a name that stands twice, but not `a.b` beside `"a.b"`.
            let problem = format!("is given twice, in line {line} as well");
            return self.refuse(path, None, origin, problem, "remove one of them".to_owned());
        }
        if let Some(property) = path.strip_prefix(keys::PROPERTIES).and_then(|rest| rest.strip_prefix('.')) {
            let property = property.to_owned();
            return self.take_property(path, &property, found, origin);
        }
        let Some(key) = keys::find(&path) else { return self.refuse_unknown(path, origin) };
        match found.typed(key, &origin) {
            Ok(value) => {
                // A variable that is right puts a mistake of the file out of the world for the rules, not for the
                // reader: the file stays wrong, and is reported.
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
            Some(PropertyVerdict::Passed(_)) => match found.as_property() {
                Some(value) => {
                    self.values.insert(path, (toml::Value::String(value), origin));
                    return;
                }
                None => (
                    "must be a string, a whole number, true or false, and not empty".to_owned(),
                    "write the value as librdkafka's documentation does".to_owned(),
                ),
            },
            Some(PropertyVerdict::Refused(refusal)) => {
                (format!("is not passed on: {}", refusal.reason), refusal.remedy.to_owned())
            }
            None => {
                let meant = keys::nearest(property, properties::passed());
                let hint = meant.map_or_else(
                    || "see docs/configuration.md for those that are passed on".to_owned(),
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
        let same_name = keys::KEYS.iter().find(|key| key.path.rsplit('.').next() == Some(leaf));
        let candidates = keys::KEYS.iter().map(|key| key.path).chain(keys::sections());
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

/// `KAFKA__GROUP_ID` to `kafka.group_id`, `KAFKA__PROPERTIES__FETCH_WAIT_MAX_MS` to `kafka.properties.fetch.wait.max.ms`.
fn path_of_variable(rest: &str) -> String {
    let lower = rest.to_lowercase();
    match lower.strip_prefix(PROPERTY_PREFIX) {
        // No property that is passed on has an underscore in its name, which a test holds.
        Some(property) => format!("{}.{}", keys::PROPERTIES, property.replace('_', ".")),
        None => lower.replace("__", "."),
    }
}

/// Of two names for the same key, the one that is not in capitals.
fn rarer<'a>(one: &'a str, other: &'a str) -> &'a str {
    if one.chars().any(char::is_lowercase) { one } else { other }
}

fn suggestion(path: &str, origin: &ValueOrigin) -> String {
    match origin {
        ValueOrigin::Variable(_) => keys::variable(path),
        ValueOrigin::Default | ValueOrigin::Follows(_) | ValueOrigin::File { .. } => path.to_owned(),
    }
}

fn first_key_below(section: &str, origin: &ValueOrigin) -> String {
    let below = |key: &&ConfigKey| key.path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'));
    let first = keys::KEYS.iter().find(below).map_or("kafka.properties.client.id", |key| key.path);
    suggestion(first, origin)
}

/// A value as it was found. A variable's is a string, whatever the key takes.
struct FoundValue<'a> {
    text: &'a str,
    value: &'a DeValue<'a>,
}

impl FoundValue<'_> {
    /// The value as the key takes it, or what is wrong and what to do.
    fn typed(&self, key: ConfigKey, origin: &ValueOrigin) -> Result<toml::Value, (String, String)> {
        match key.kind {
            ValueKind::Number => {
                let number = self.as_number(origin);
                // The range of each number ends far below, so that what does not fit is refused by it.
                let fits = |number: u128| i64::try_from(number).unwrap_or(i64::MAX);
                number.map(|number| toml::Value::Integer(fits(number))).ok_or_else(|| {
                    let (min, max) = rules::range_of(key.path);
                    (
                        format!("must be a whole number from {min} to {max}"),
                        "write digits alone, without a unit or quotes".to_owned(),
                    )
                })
            }
            ValueKind::Flag => self.as_flag(origin).map(toml::Value::Boolean).ok_or_else(|| {
                ("must be true or false".to_owned(), "write one of the two in lower case, without quotes".to_owned())
            }),
            ValueKind::Word(words) => {
                let text = self.value.as_str();
                let known = text.filter(|text| words.contains(text));
                known.map(|text| toml::Value::String(text.to_owned())).ok_or_else(|| {
                    let meant = text.and_then(|text| keys::nearest(&text.to_lowercase(), words.iter().copied()));
                    let remedy = meant
                        .map_or_else(|| "choose one of them".to_owned(), |meant| format!("did you mean \"{meant}\""));
                    (format!("must be one of {}", quoted(words)), remedy)
                })
            }
            ValueKind::Text | ValueKind::File | ValueKind::Secret => {
                let Some(text) = self.value.as_str() else {
                    return Err(("must be text".to_owned(), "put it in double quotes".to_owned()));
                };
                if text.is_empty() {
                    return Err(("must not be empty".to_owned(), remedy_of_empty(origin)));
                }
                if text.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
                    let problem = "must not hold line breaks, control characters or what is not UTF-8".to_owned();
                    return Err((problem, "remove them; a trailing line break is the usual one".to_owned()));
                }
                if key.kind == ValueKind::File && looks_like_content(text) {
                    let problem = "must be the path of a file, and looks like what belongs into it".to_owned();
                    return Err((problem, "write it to a file, and give the file's path".to_owned()));
                }
                Ok(toml::Value::String(text.to_owned()))
            }
        }
    }

    fn as_number(&self, origin: &ValueOrigin) -> Option<u128> {
        match (self.value, origin) {
            (DeValue::Integer(number), _) => u128::from_str_radix(number.as_str(), number.radix()).ok(),
            (DeValue::String(text), ValueOrigin::Variable(_)) => text.replace('_', "").parse().ok(),
            _ => None,
        }
    }

    fn as_flag(&self, origin: &ValueOrigin) -> Option<bool> {
        match (self.value, origin) {
            (DeValue::Boolean(flag), _) => Some(*flag),
            (DeValue::String(text), ValueOrigin::Variable(_)) => text.parse().ok(),
            _ => None,
        }
    }

    fn as_property(&self) -> Option<String> {
        let text = match self.value {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
            DeValue::Boolean(flag) => flag.to_string(),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                return None;
            }
        };
        (!text.is_empty() && !text.chars().any(char::is_control)).then_some(text)
    }
}

fn remedy_of_empty(origin: &ValueOrigin) -> String {
    match origin {
        ValueOrigin::Variable(_) => "give it a value, or unset the variable".to_owned(),
        ValueOrigin::Default | ValueOrigin::Follows(_) | ValueOrigin::File { .. } => {
            "give it a value, or remove the line".to_owned()
        }
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

/// A key, a certificate or a token where the name of its file belongs.
fn looks_like_content(text: &str) -> bool {
    text.contains("-----BEGIN") || text.trim_start_matches(['"', '\'']).starts_with("eyJ")
}

/// The value as it may be shown: never a secret's, and nothing that looks as if a secret stood in the wrong place.
pub(super) fn shown(key: ConfigKey, text: &str) -> Option<String> {
    let may_hold_secret = match key.kind {
        ValueKind::Secret => true,
        // `user:password@host`.
        ValueKind::Text => text.contains('@') && key.path == "kafka.bootstrap_servers",
        ValueKind::File => looks_like_content(text),
        ValueKind::Number | ValueKind::Flag | ValueKind::Word(_) => false,
    };
    if may_hold_secret {
        return None;
    }
    let line = text.lines().next().unwrap_or_default();
    let cut: String = line.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect();
    let ellipsis = if cut.len() < text.len() { "…" } else { "" };
    Some(format!("{cut}{ellipsis}"))
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

    /// The name to the left of the equals sign of a line that is no TOML, if it looks like one.
    fn key_at(&self, span: Range<usize>) -> String {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = self.text.lines().nth(before.matches('\n').count()).unwrap_or_default();
        let name = line.split_once('=').map(|(name, _)| name.trim());
        let section = before.lines().rev().find_map(|line| line.trim().strip_prefix('[')?.split(']').next());
        let full = name.map(|name| section.map_or_else(|| name.to_owned(), |section| format!("{section}.{name}")));
        full.filter(|full| keys::find(full).is_some()).unwrap_or_else(|| "the file".to_owned())
    }
}
