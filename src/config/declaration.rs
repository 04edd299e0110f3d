//! Owns the declaration of configuration keys: one entry per key, from which everything else about the key follows.
//!
//! [`config_section!`] turns the declaration of a section into its struct, its defaults and its [`Section`], the list of
//! its keys. Parsing, ranges, error messages and `steward config check` read that list. A test writes `config.toml`, the
//! tables of `docs/configuration.md` and the chart's schema from it, and fails if they differ. A new key is one entry,
//! and its use. Conditions between keys are code, in `rules`.

use std::fmt;

#[derive(Debug)]
pub struct Section {
    /// Such as `kafka.security`.
    pub name: &'static str,
    pub meaning: &'static str,
    /// Its keys, in the order of `config.toml`.
    pub keys: &'static [ConfigKey],
}

#[derive(Debug, Clone, Copy)]
pub struct ConfigKey {
    /// Such as `kafka.security.protocol`.
    pub path: &'static str,
    /// The values that it accepts, whatever the other keys hold.
    pub kind: ValueKind,
    /// What else is required of a value, usually in relation to another key.
    pub also: Option<&'static str>,
    /// A value for `config.toml`, as TOML, if the key has no default.
    pub example: Option<&'static str>,
    /// What the value is and what it protects, in Markdown.
    pub meaning: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    Number {
        min: u64,
        max: u64,
        /// What is counted, such as `ms`.
        unit: &'static str,
    },
    Flag,
    /// A string that is not empty.
    Text(TextFormat),
    /// The path of a file.
    File(FileContent),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A string that is never shown.
    Secret,
}

/// What a text has to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    Free,
    /// A name that Kafka allows for topics and members.
    Name,
    /// `host:port`, separated by commas.
    Servers,
    /// Names and values of SASL extensions.
    Extensions,
    /// The grammar of [`crate::config::log_level`].
    LogLevel,
}

/// What a file has to hold at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileContent {
    /// Nothing: the process writes the file.
    Written,
    /// One line of UTF-8.
    Secret,
    /// A secret that protects data which anyone with a log can try to guess: one line of at least this many bytes.
    LongSecret(usize),
    Pem,
}

impl ConfigKey {
    /// Returns the section, and the name within it.
    pub fn section_and_name(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').expect("the declaration of a section puts its name before the key")
    }

    /// Returns the allowed values in Markdown: those of the kind, then `also`. Empty for a flag.
    pub fn allowed(&self) -> String {
        let kind = self.kind.to_string();
        match self.also {
            Some(also) if kind.is_empty() => also.to_owned(),
            Some(also) => format!("{kind}; {also}"),
            None => kind,
        }
    }
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueKind::Number { min, max, unit } => write!(f, "{min} to {max} {unit}"),
            ValueKind::Flag => Ok(()),
            ValueKind::Text(TextFormat::Name) => f.write_str("1 to 249 of `a-z A-Z 0-9 . _ -`"),
            ValueKind::Text(TextFormat::Servers) => {
                f.write_str("`host:port`, separated by commas; ports 1 to 65535; an IPv6 address in brackets")
            }
            ValueKind::Text(TextFormat::Extensions) => f.write_str(
                "`name=value`, separated by commas; names of letters, not `auth`; values of ASCII without commas",
            ),
            ValueKind::Text(TextFormat::LogLevel) => {
                f.write_str("`error`, `warn`, `info`, `debug`, `trace`, and `target=level`")
            }
            ValueKind::Text(TextFormat::Free)
            | ValueKind::File(FileContent::Written | FileContent::Secret)
            | ValueKind::Secret => f.write_str("not empty"),
            ValueKind::File(FileContent::LongSecret(min)) => write!(f, "at least {min} bytes"),
            ValueKind::File(FileContent::Pem) => f.write_str("PEM"),
            ValueKind::Word(words) => {
                for (index, word) in words.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(f, "{separator}`\"{word}\"`")?;
                }
                Ok(())
            }
        }
    }
}

/// Declares a section: the struct, its `Default`, and `SECTION`.
///
/// Reads like the struct that it makes. The doc comment of a field is the documentation of the key. The attribute
/// `#[key(...)]` names the values that are allowed: `number(min..=max, unit)`, `flag`, `text(format)`, `file(content)`,
/// `word(enum)` or `secret`; then `also`, further conditions, and `example`, for keys without a default. Fields after
/// the keys that are marked `#[not_a_key]` hold nested sections and values that are not read from the file.
macro_rules! config_section {
    (
        $(#[doc = $about:literal])+
        #[section($section:literal)]
        $(#[$struct_attribute:meta])*
        pub struct $name:ident {
            $(
                $(#[doc = $meaning:literal])+
                #[key(
                    $kind:ident $(($($argument:tt)+))?
                    $(, also = $also:literal)?
                    $(, example = $example:literal)?
                )]
                pub $field:ident: $type:ty = $default:expr,
            )+
            $(
                #[not_a_key]
                $(#[$plain_attribute:meta])*
                pub $plain:ident: $plain_type:ty,
            )*
        }
    ) => {
        $(#[doc = $about])+
        $(#[$struct_attribute])*
        #[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $(
                $(#[doc = $meaning])+
                pub $field: $type,
            )+
            $(
                $(#[$plain_attribute])*
                pub $plain: $plain_type,
            )*
        }

        impl Default for $name {
            fn default() -> $name {
                $name { $($field: $default,)+ $($plain: Default::default(),)* }
            }
        }

        impl $name {
            pub(super) const SECTION: $crate::config::declaration::Section = $crate::config::declaration::Section {
                name: $section,
                meaning: concat!($($about),+).trim_ascii(),
                keys: &[$(
                    $crate::config::declaration::ConfigKey {
                        path: concat!($section, ".", stringify!($field)),
                        kind: $crate::config::declaration::value_kind!($kind $(($($argument)+))?),
                        also: $crate::config::declaration::optional!($($also)?),
                        example: $crate::config::declaration::optional!($($example)?),
                        meaning: concat!($($meaning),+).trim_ascii(),
                    },
                )+],
            };
        }
    };
}
pub(super) use config_section;

/// The [`ValueKind`] for the words of `#[key(...)]`.
macro_rules! value_kind {
    (number($min:literal..=$max:literal, $unit:literal)) => {
        $crate::config::declaration::ValueKind::Number { min: $min, max: $max, unit: $unit }
    };
    (flag) => {
        $crate::config::declaration::ValueKind::Flag
    };
    (text($format:ident)) => {
        $crate::config::declaration::ValueKind::Text($crate::config::declaration::TextFormat::$format)
    };
    (file($content:ident $(($bytes:literal))?)) => {
        $crate::config::declaration::ValueKind::File($crate::config::declaration::FileContent::$content $(($bytes))?)
    };
    (word($words:ident)) => {
        $crate::config::declaration::ValueKind::Word($words::WORDS)
    };
    (secret) => {
        $crate::config::declaration::ValueKind::Secret
    };
}
pub(super) use value_kind;

macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}
pub(super) use optional;

/// Declares an enum whose variants are the words that a key accepts, and their list `WORDS`.
macro_rules! config_words {
    (
        $(#[$enum_attribute:meta])*
        pub enum $name:ident {
            $($(#[$variant_attribute:meta])* $variant:ident = $word:literal,)+
        }
    ) => {
        $(#[$enum_attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_attribute])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The words, in the order of the variants.
            pub const WORDS: &'static [&'static str] = &[$($word),+];
        }
    };
}
pub(super) use config_words;
