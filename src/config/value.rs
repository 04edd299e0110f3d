//! One value: text or TOML to a value of the kind that its key accepts, and how much of it an error may show.

use toml::de::DeValue;

use crate::config::ValueOrigin;
use crate::config::keys::{ConfigKey, TextFormat, ValueKind, nearest};

/// Former spellings of words, and the present ones.
const FORMER_WORDS: [(&str, &str); 2] = [("tls", "ssl"), ("sasl_tls", "sasl_ssl")];

/// An error shows up to this many characters of a value.
const SHOWN_CHARS: usize = 64;

/// What is wrong with a value, and what to do.
pub(super) type WrongValue = (String, String);

/// A value as it was found. That of a variable is a string, whatever kind the key has.
pub(super) struct FoundValue<'a> {
    pub(super) text: &'a str,
    pub(super) value: &'a DeValue<'a>,
}

impl FoundValue<'_> {
    pub(super) fn typed(&self, key: &ConfigKey, origin: &ValueOrigin) -> Result<toml::Value, WrongValue> {
        match key.kind {
            ValueKind::Number { min, max, .. } => {
                // Every range ends far below `i64::MAX`, so that a larger number is refused by its range.
                let fits = |number: u128| i64::try_from(number).unwrap_or(i64::MAX);
                self.as_number(origin).map(|number| toml::Value::Integer(fits(number))).ok_or_else(|| {
                    let problem = format!("must be a whole number from {min} to {max}");
                    (problem, "write digits alone, without a unit or quotes".to_owned())
                })
            }
            ValueKind::Flag => self.as_flag(origin).map(toml::Value::Boolean).ok_or_else(|| {
                ("must be true or false".to_owned(), "write one of the two in lower case, without quotes".to_owned())
            }),
            ValueKind::Word(words) => self.as_word(words),
            ValueKind::Text(TextFormat::Extensions) => self.as_pairs(origin),
            ValueKind::Text(_) | ValueKind::Secret => self.as_text(origin),
            ValueKind::File(_) => {
                let path = self.as_text(origin)?;
                if path.as_str().is_some_and(looks_like_content) {
                    let problem = "must be the path of a file, and looks like the content of one".to_owned();
                    return Err((problem, "write it to a file, and give the file's path".to_owned()));
                }
                Ok(path)
            }
        }
    }

    fn as_word(&self, words: &[&str]) -> Result<toml::Value, WrongValue> {
        let text = self.value.as_str();
        if let Some(word) = text.filter(|text| words.contains(text)) {
            return Ok(toml::Value::String(word.to_owned()));
        }
        let lower_case = text.map(str::to_lowercase);
        let lower_case = lower_case.as_deref().unwrap_or_default();
        let current = FORMER_WORDS.iter().find(|(former, current)| *former == lower_case && words.contains(current));
        let meant = current.map(|(_, current)| *current).or_else(|| nearest(lower_case, words.iter().copied()));
        let remedy = meant.map_or_else(|| "choose one of them".to_owned(), |meant| format!("did you mean \"{meant}\""));
        let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        Err((format!("must be one of {}", quoted.join(", ")), remedy))
    }

    fn as_text(&self, origin: &ValueOrigin) -> Result<toml::Value, WrongValue> {
        let Some(text) = self.value.as_str() else {
            return Err(("must be text".to_owned(), "put it in double quotes".to_owned()));
        };
        if text.is_empty() {
            let other =
                if matches!(origin, ValueOrigin::Variable(_)) { "unset the variable" } else { "remove the line" };
            return Err(("must not be empty".to_owned(), format!("give it a value, or {other}")));
        }
        if text.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
            let problem = "must hold no line breaks, control characters or bytes that are not UTF-8".to_owned();
            return Err((problem, "remove them; often it is a trailing line break".to_owned()));
        }
        Ok(toml::Value::String(text.to_owned()))
    }

    /// A table of texts becomes the text that a variable has.
    fn as_pairs(&self, origin: &ValueOrigin) -> Result<toml::Value, WrongValue> {
        let DeValue::Table(table) = self.value else { return self.as_text(origin) };
        let pairs = table.iter().map(|(name, value)| {
            let value = value.get_ref().as_str().filter(|value| !value.contains(','));
            value.map(|value| format!("{}={value}", name.get_ref()))
        });
        match pairs.collect::<Option<Vec<String>>>() {
            Some(pairs) if !pairs.is_empty() => Ok(toml::Value::String(pairs.join(","))),
            _ => Err((
                "must be a table of texts without commas".to_owned(),
                "write { name = \"value\" }, or remove the line".to_owned(),
            )),
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

    /// The value as librdkafka reads it: a string that is not empty, a decimal number or a flag.
    pub(super) fn as_property(&self) -> Option<String> {
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

/// Returns whether a key, a certificate or a token was given in place of the path of its file.
fn looks_like_content(text: &str) -> bool {
    text.contains("-----BEGIN") || text.trim_start_matches(['"', '\'']).starts_with("eyJ")
}

/// The value as an error may show it; `None` for a secret, and for a value that may contain a secret by mistake.
pub(super) fn shown(key: &ConfigKey, text: &str) -> Option<String> {
    let may_hold_secret = match key.kind {
        ValueKind::Secret => true,
        // `user:password@host`.
        ValueKind::Text(TextFormat::Servers) => text.contains('@'),
        ValueKind::File(_) => looks_like_content(text),
        ValueKind::Number { .. } | ValueKind::Flag | ValueKind::Text(_) | ValueKind::Word(_) => false,
    };
    if may_hold_secret {
        return None;
    }
    let line = text.lines().next().unwrap_or_default();
    let cut: String = line.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect();
    let ellipsis = if cut.len() < text.len() { "…" } else { "" };
    Some(format!("{cut}{ellipsis}"))
}
