//! The types of fields: what a field can hold, and how its value is written.

use std::fmt::Display;

use crate::observability::log_events::LoggedKey;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldSpec {
    pub name: &'static str,
    pub kind: FieldKind,
    /// What the value means. The unit is stated if the name does not end in it.
    pub meaning: &'static str,
    /// Every value that the field can hold. Empty if the list is open.
    pub values: &'static [FieldValue],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldValue {
    pub code: &'static str,
    pub meaning: &'static str,
}

/// JSON type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    Text,
    /// A number without a fraction.
    Integer,
    Number,
    /// A string, or the field is absent.
    OptionalText,
    /// A number without a fraction, or the field is absent.
    OptionalInteger,
}

pub(super) trait FieldType {
    const KIND: FieldKind;
    /// Every value, if the list is closed.
    const VALUES: &'static [FieldValue] = &[];
    /// Returns the longest value of the type; for free text, `text`.
    fn specimen(text: &'static str) -> Self;
    /// Returns what the subscriber records.
    fn recorded(&self) -> impl tracing::Value;
}

/// `impl FieldType` for a type: its kind, and an expression for the specimen.
macro_rules! field_types {
    ($($type:ty: $kind:ident = |$text:ident| $specimen:expr;)*) => {$(
        impl FieldType for $type {
            const KIND: FieldKind = FieldKind::$kind;
            fn specimen($text: &'static str) -> Self {
                $specimen
            }
            fn recorded(&self) -> impl tracing::Value {
                self
            }
        }
    )*};
}

field_types! {
    &str: Text = |text| text;
    String: Text = |text| text.to_owned();
    i32: Integer = |_text| i32::MIN;
    i64: Integer = |_text| i64::MIN;
    u64: Integer = |_text| u64::MAX;
    f64: Number = |_text| f64::MIN_POSITIVE;
    Option<&str>: OptionalText = |text| Some(text);
    Option<i32>: OptionalInteger = |_text| Some(i32::MIN);
    Option<i64>: OptionalInteger = |_text| Some(i64::MIN);
}

impl FieldType for Option<LoggedKey> {
    const KIND: FieldKind = FieldKind::OptionalText;
    fn specimen(text: &'static str) -> Self {
        Some(LoggedKey::specimen(text))
    }
    fn recorded(&self) -> impl tracing::Value {
        self.as_ref().map(LoggedKey::as_str)
    }
}

/// A number of each partition, such as `0:12,1:0`, bounded so that a line has room for several such lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionNumbers(String);

impl PartitionNumbers {
    const MAX_BYTES: usize = 600;

    /// Lists the numbers in the order of the input. `...` marks the omission of those beyond the limit.
    pub fn of<K: Display>(numbers: impl IntoIterator<Item = (K, u64)>) -> PartitionNumbers {
        PartitionNumbers(counts(numbers, PartitionNumbers::MAX_BYTES))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FieldType for PartitionNumbers {
    const KIND: FieldKind = FieldKind::Text;
    fn specimen(_: &'static str) -> Self {
        PartitionNumbers::of((0..i32::MAX).map(|partition| (partition, 0)))
    }
    fn recorded(&self) -> impl tracing::Value {
        self.as_str()
    }
}

/// Declares closed lists of values: for each an enum, the code of each value, and its [`FieldType`].
///
/// The doc comments of the variants are the meanings on the documentation page.
macro_rules! field_values {
    ($(
        $(#[doc = $about:literal])+
        pub enum $name:ident {
            $(
                $(#[doc = $meaning:literal])+
                $variant:ident = $code:literal,
            )+
        }
    )+) => {$(
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(
                $(#[doc = $meaning])+
                $variant,
            )+
        }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// Returns the value as the log contains it.
            pub const fn code(self) -> &'static str {
                match self {
                    $($name::$variant => $code,)+
                }
            }
        }

        impl $crate::observability::log_events::fields::FieldType for $name {
            const KIND: $crate::observability::log_events::FieldKind = $crate::observability::log_events::FieldKind::Text;
            const VALUES: &'static [$crate::observability::log_events::FieldValue] = &[
                $($crate::observability::log_events::FieldValue {
                    code: $code,
                    meaning: concat!($($meaning),+).trim_ascii(),
                },)+
            ];
            fn specimen(_: &'static str) -> Self {
                *Self::ALL.iter().max_by_key(|value| value.code().len()).expect("an enum has a value")
            }
            fn recorded(&self) -> impl tracing::Value {
                self.code()
            }
        }
    )+};
}
pub(super) use field_values;

/// Writes partition numbers as ranges, such as `0-3,7`: ascending and without repetition, whatever the order of the
/// input.
pub fn ranges(numbers: impl IntoIterator<Item = i32>) -> String {
    let mut numbers: Vec<i32> = numbers.into_iter().collect();
    numbers.sort_unstable();
    numbers.dedup();
    let runs = numbers.chunk_by(|left, right| left.checked_add(1) == Some(*right));
    let written = runs.map(|run| match run {
        [] => String::new(),
        [single] => single.to_string(),
        [first, .., last] => format!("{first}-{last}"),
    });
    written.collect::<Vec<_>>().join(",")
}

/// Writes counts by name, such as `0:12,1:0`, in the order of the input.
///
/// Entries beyond `limit` bytes are left out whole, so that no number is cut in two, and `...` marks the omission.
pub fn counts<K: Display>(pairs: impl IntoIterator<Item = (K, u64)>, limit: usize) -> String {
    let mut written = String::new();
    for (name, count) in pairs {
        let pair = format!("{}{name}:{count}", if written.is_empty() { "" } else { "," });
        if written.len() + pair.len() + ",...".len() > limit {
            written.push_str(",...");
            break;
        }
        written.push_str(&pair);
    }
    written
}
