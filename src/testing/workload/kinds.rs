//! The ways in which an event is invalid, or odd but valid, each with its outcome under the contract.

use std::fmt;
use std::str::FromStr;

use crate::entity::Reason;

/// One way in which a generated event breaks the contract. The event breaks no other rule. The kinds are in the order in
/// which the contract checks the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InvalidKind {
    MissingKey,
    EmptyKey,
    NullPayload,
    TooLarge,
    ZeroBytes,
    NotJson,
    Truncated,
    ArrayNotObject,
    TrailingData,
    ByteOrderMark,
    InvalidUtf8,
    /// A byte in an unknown field is not UTF-8.
    InvalidUtf8Ignored,
    ControlCharacter,
    /// The tags are nested, 128 levels in all.
    TooDeep,
    /// An unknown field is nested, 128 levels in all.
    TooDeepIgnored,
    DuplicateName,
    /// `eventType` occurs twice, the second time escaped.
    DuplicateEventType,
    LoneSurrogate,
    /// The tags hold half of a surrogate pair, deeply nested.
    LoneSurrogateNested,
    /// The price is beyond a 64-bit float.
    NumberOverflow,
    /// The id has 400 digits.
    IdOverflow,
    UnknownType,
    AbsentType,
    NullType,
    TypeNotString,
    IdMissing,
    IdNull,
    IdFraction,
    IdExponent,
    IdString,
    IdNegative,
    IdMinusZero,
    IdTooLarge,
    NameMissing,
    /// A creation whose name is null.
    NameNull,
    NameEmpty,
    NameTooLong,
    /// The name is white space, none of it ASCII.
    NameBlank,
    NameBlankTooLong,
    NameWrongType,
    DescriptionMissing,
    DescriptionTooLong,
    DescriptionBlank,
    DescriptionWrongType,
    TagsMissing,
    TagsNotArray,
    TagWrongType,
    TagNull,
    PriceNegative,
    PriceString,
    /// The record's timestamp is after the year 9999. Brokers since Kafka 4.0 refuse it unless the topic raises
    /// `message.timestamp.after.max.ms`, so its default weight is 0.
    TimestampTooLate,
    /// A creation in which every field is wrong.
    ManyViolations,
    KeyMismatch,
    /// The key is the id with a zero before it.
    KeyLeadingZero,
    AlreadyExists,
    UpdateNotFound,
    DeleteNotFound,
}

/// One way in which a generated event is unusual but valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OddKind {
    UnknownFieldOverflow,
    UnknownFieldSurrogate,
    UnknownNameTwice,
    /// A field's name holds half of a surrogate pair.
    UnknownNameSurrogate,
    EscapedNames,
    EscapedEventType,
    /// An unknown field is nested, 127 levels in all.
    DeepestNesting,
    /// All white space that JSON allows, everywhere.
    WhiteSpace,
    EventTypeLast,
    NullPrice,
    MinusZeroPrice,
    HugePrice,
    /// The price is the smallest 64-bit float.
    TinyPrice,
    ExponentPrice,
    LongestName,
    LongestDescription,
    /// The name holds escapes of every kind, a surrogate pair and control characters among them.
    EscapedText,
    NoTags,
    RepeatedTags,
    LargestPayload,
    NothingChanges,
    /// A deletion whose other fields would be rejected in any other event.
    DeletionWithJunk,
}

/// The name of a field, and the code of the rule that it breaks.
type Violation = (&'static str, &'static str);
type InvalidRow = (InvalidKind, &'static str, Reason, &'static [Violation]);

const fn row(kind: InvalidKind, name: &'static str, reason: Reason) -> InvalidRow {
    (kind, name, reason, &[])
}

const fn broken(kind: InvalidKind, name: &'static str, violations: &'static [Violation]) -> InvalidRow {
    (kind, name, Reason::InvalidEvent, violations)
}

/// In the order of the variants.
const INVALID: [InvalidRow; 57] = [
    row(InvalidKind::MissingKey, "missing-key", Reason::MissingKey),
    row(InvalidKind::EmptyKey, "empty-key", Reason::MissingKey),
    row(InvalidKind::NullPayload, "null-payload", Reason::NullPayload),
    row(InvalidKind::TooLarge, "too-large", Reason::PayloadTooLarge),
    row(InvalidKind::ZeroBytes, "zero-bytes", Reason::MalformedJson),
    row(InvalidKind::NotJson, "not-json", Reason::MalformedJson),
    row(InvalidKind::Truncated, "truncated", Reason::MalformedJson),
    row(InvalidKind::ArrayNotObject, "array-not-object", Reason::MalformedJson),
    row(InvalidKind::TrailingData, "trailing-data", Reason::MalformedJson),
    row(InvalidKind::ByteOrderMark, "byte-order-mark", Reason::MalformedJson),
    row(InvalidKind::InvalidUtf8, "invalid-utf8", Reason::MalformedJson),
    row(InvalidKind::InvalidUtf8Ignored, "invalid-utf8-ignored", Reason::MalformedJson),
    row(InvalidKind::ControlCharacter, "control-character", Reason::MalformedJson),
    row(InvalidKind::TooDeep, "too-deep", Reason::MalformedJson),
    row(InvalidKind::TooDeepIgnored, "too-deep-ignored", Reason::MalformedJson),
    row(InvalidKind::DuplicateName, "duplicate-name", Reason::MalformedJson),
    row(InvalidKind::DuplicateEventType, "duplicate-event-type", Reason::MalformedJson),
    row(InvalidKind::LoneSurrogate, "lone-surrogate", Reason::MalformedJson),
    row(InvalidKind::LoneSurrogateNested, "lone-surrogate-nested", Reason::MalformedJson),
    row(InvalidKind::NumberOverflow, "number-overflow", Reason::MalformedJson),
    row(InvalidKind::IdOverflow, "id-overflow", Reason::MalformedJson),
    row(InvalidKind::UnknownType, "unknown-type", Reason::UnknownEventType),
    row(InvalidKind::AbsentType, "absent-type", Reason::UnknownEventType),
    row(InvalidKind::NullType, "null-type", Reason::UnknownEventType),
    row(InvalidKind::TypeNotString, "type-not-string", Reason::UnknownEventType),
    broken(InvalidKind::IdMissing, "id-missing", &[("id", "required")]),
    broken(InvalidKind::IdNull, "id-null", &[("id", "required")]),
    broken(InvalidKind::IdFraction, "id-fraction", &[("id", "type")]),
    broken(InvalidKind::IdExponent, "id-exponent", &[("id", "type")]),
    broken(InvalidKind::IdString, "id-string", &[("id", "type")]),
    broken(InvalidKind::IdNegative, "id-negative", &[("id", "type")]),
    broken(InvalidKind::IdMinusZero, "id-minus-zero", &[("id", "type")]),
    broken(InvalidKind::IdTooLarge, "id-too-large", &[("id", "range")]),
    broken(InvalidKind::NameMissing, "name-missing", &[("name", "required")]),
    broken(InvalidKind::NameNull, "name-null", &[("name", "required")]),
    broken(InvalidKind::NameEmpty, "name-empty", &[("name", "length")]),
    broken(InvalidKind::NameTooLong, "name-too-long", &[("name", "length")]),
    broken(InvalidKind::NameBlank, "name-blank", &[("name", "blank")]),
    broken(InvalidKind::NameBlankTooLong, "name-blank-too-long", &[("name", "length"), ("name", "blank")]),
    broken(InvalidKind::NameWrongType, "name-wrong-type", &[("name", "type")]),
    broken(InvalidKind::DescriptionMissing, "description-missing", &[("description", "required")]),
    broken(InvalidKind::DescriptionTooLong, "description-too-long", &[("description", "length")]),
    broken(InvalidKind::DescriptionBlank, "description-blank", &[("description", "blank")]),
    broken(InvalidKind::DescriptionWrongType, "description-wrong-type", &[("description", "type")]),
    broken(InvalidKind::TagsMissing, "tags-missing", &[("tags", "required")]),
    broken(InvalidKind::TagsNotArray, "tags-not-array", &[("tags", "type")]),
    broken(InvalidKind::TagWrongType, "tag-wrong-type", &[("tags", "type")]),
    broken(InvalidKind::TagNull, "tag-null", &[("tags", "type")]),
    broken(InvalidKind::PriceNegative, "price-negative", &[("pricePerHour", "range")]),
    broken(InvalidKind::PriceString, "price-string", &[("pricePerHour", "type")]),
    broken(InvalidKind::TimestampTooLate, "timestamp-too-late", &[("timestamp", "timestamp")]),
    broken(
        InvalidKind::ManyViolations,
        "many-violations",
        &[
            ("id", "type"),
            ("name", "length"),
            ("name", "blank"),
            ("description", "required"),
            ("tags", "type"),
            ("pricePerHour", "range"),
        ],
    ),
    row(InvalidKind::KeyMismatch, "key-mismatch", Reason::KeyIdMismatch),
    row(InvalidKind::KeyLeadingZero, "key-leading-zero", Reason::KeyIdMismatch),
    row(InvalidKind::AlreadyExists, "already-exists", Reason::AlreadyExists),
    row(InvalidKind::UpdateNotFound, "update-not-found", Reason::NotFound),
    row(InvalidKind::DeleteNotFound, "delete-not-found", Reason::NotFound),
];

/// In the order of the variants.
const ODD: [(OddKind, &str); 22] = [
    (OddKind::UnknownFieldOverflow, "unknown-field-overflow"),
    (OddKind::UnknownFieldSurrogate, "unknown-field-surrogate"),
    (OddKind::UnknownNameTwice, "unknown-name-twice"),
    (OddKind::UnknownNameSurrogate, "unknown-name-surrogate"),
    (OddKind::EscapedNames, "escaped-names"),
    (OddKind::EscapedEventType, "escaped-event-type"),
    (OddKind::DeepestNesting, "deepest-nesting"),
    (OddKind::WhiteSpace, "white-space"),
    (OddKind::EventTypeLast, "event-type-last"),
    (OddKind::NullPrice, "null-price"),
    (OddKind::MinusZeroPrice, "minus-zero-price"),
    (OddKind::HugePrice, "huge-price"),
    (OddKind::TinyPrice, "tiny-price"),
    (OddKind::ExponentPrice, "exponent-price"),
    (OddKind::LongestName, "longest-name"),
    (OddKind::LongestDescription, "longest-description"),
    (OddKind::EscapedText, "escaped-text"),
    (OddKind::NoTags, "no-tags"),
    (OddKind::RepeatedTags, "repeated-tags"),
    (OddKind::LargestPayload, "largest-payload"),
    (OddKind::NothingChanges, "nothing-changes"),
    (OddKind::DeletionWithJunk, "deletion-with-junk"),
];

impl InvalidKind {
    /// Returns the required reason of the DLQ record.
    pub fn reason(self) -> Reason {
        INVALID[self as usize].2
    }

    /// Returns field and code of each violation that [`Reason::InvalidEvent`] must list, in field order.
    pub fn violations(self) -> &'static [(&'static str, &'static str)] {
        INVALID[self as usize].3
    }

    /// Returns the relative frequency of the kind, unless the workload sets another one.
    pub fn default_weight(self) -> u32 {
        if self == InvalidKind::TimestampTooLate {
            0
        } else if self == InvalidKind::TooLarge {
            1
        } else {
            10
        }
    }
}

impl OddKind {
    /// Returns the relative frequency of the kind, unless the workload sets another one.
    pub fn default_weight(self) -> u32 {
        if self == OddKind::LargestPayload { 1 } else { 10 }
    }
}

/// No kind has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no kind of event called `{name}`; the kinds are {}", known.join(", "))]
pub struct UnknownKind {
    name: String,
    known: Vec<&'static str>,
}

macro_rules! named_by_table {
    ($Kind:ident, $ROWS:ident) => {
        impl $Kind {
            pub const ALL: [$Kind; $ROWS.len()] = {
                let mut all = [$ROWS[0].0; $ROWS.len()];
                let mut index = 0;
                while index < all.len() {
                    assert!($ROWS[index].0 as usize == index, "the table is in the order of the variants");
                    all[index] = $ROWS[index].0;
                    index += 1;
                }
                all
            };

            /// Returns the name on the command line: lower case with hyphens.
            pub fn name(self) -> &'static str {
                $ROWS[self as usize].1
            }
        }

        impl fmt::Display for $Kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $Kind {
            type Err = UnknownKind;

            fn from_str(name: &str) -> Result<$Kind, UnknownKind> {
                let found = $Kind::ALL.into_iter().find(|kind| kind.name() == name);
                found.ok_or_else(|| UnknownKind { name: name.into(), known: $Kind::ALL.map($Kind::name).into() })
            }
        }
    };
}

named_by_table!(InvalidKind, INVALID);
named_by_table!(OddKind, ODD);
