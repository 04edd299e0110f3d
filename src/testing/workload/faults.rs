//! Makes an event invalid in one way, or odd in one way.

use crate::testing::workload::draft::EventDraft;
use crate::testing::workload::keys::{Keys, Random};
use crate::testing::workload::kinds::{InvalidKind, OddKind};
use crate::testing::workload::text::RawJson;

/// Levels of arrays and objects that a value may have, the outermost included.
const MAX_DEPTH: usize = 127;
/// Beyond the year 9999, in milliseconds since 1970.
const TOO_LATE_MS: i64 = 253_402_300_800_000;
const TOO_LARGE_ID: &str = "9007199254740992";

/// A record without its headers.
#[derive(Debug)]
pub(super) struct DraftedEvent {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    /// `None` if the record gets the workload's current timestamp.
    pub(super) timestamp_ms: Option<i64>,
}

impl DraftedEvent {
    pub(super) fn new(id: u64, draft: &EventDraft) -> DraftedEvent {
        DraftedEvent::of(id, draft.render())
    }

    pub(super) fn of(id: u64, value: Vec<u8>) -> DraftedEvent {
        DraftedEvent { key: Some(id.to_string().into_bytes()), value: Some(value), timestamp_ms: None }
    }
}

/// A valid event, before it is made invalid.
struct Base {
    id: u64,
    draft: EventDraft,
}

impl Base {
    fn event(&self) -> DraftedEvent {
        DraftedEvent::new(self.id, &self.draft)
    }

    fn with_key(self, key: Option<Vec<u8>>) -> DraftedEvent {
        DraftedEvent { key, ..self.event() }
    }

    fn with_value(&self, value: Vec<u8>) -> DraftedEvent {
        DraftedEvent::of(self.id, value)
    }

    /// Returns the event with changed members.
    fn with(self, change: impl FnOnce(EventDraft) -> EventDraft) -> DraftedEvent {
        DraftedEvent::new(self.id, &change(self.draft))
    }

    fn set(self, name: &'static str, value: impl Into<RawJson>) -> DraftedEvent {
        self.with(|draft| draft.set(name, value))
    }

    fn without(self, name: &str) -> DraftedEvent {
        self.with(|draft| draft.without(name))
    }

    /// Returns the event with an unknown field, so that the value has exactly `bytes` bytes.
    fn padded(self, bytes: u64) -> DraftedEvent {
        self.with_value(padded(self.draft.clone(), bytes))
    }
}

pub(super) struct InvalidEvents<'a> {
    pub(super) keys: &'a Keys,
    pub(super) random: &'a mut Random,
    pub(super) max_payload_bytes: u64,
}

impl InvalidEvents<'_> {
    /// Returns an event that is invalid in exactly this way. Returns `None` if no entity exists that could be created
    /// again.
    pub(super) fn invalid(&mut self, kind: InvalidKind) -> Option<DraftedEvent> {
        let event = match kind {
            InvalidKind::MissingKey => self.any().with_key(None),
            InvalidKind::EmptyKey => self.any().with_key(Some(Vec::new())),
            InvalidKind::NullPayload => DraftedEvent { value: None, ..self.any().event() },
            InvalidKind::TooLarge => self.any().padded(self.max_payload_bytes + 1),
            InvalidKind::ZeroBytes => self.any().with_value(Vec::new()),
            InvalidKind::NotJson => self.any().with_value(b"Please delete the service, thank you.".to_vec()),
            InvalidKind::Truncated => self.with_bytes(|json| json[..json.len() * 2 / 3].to_vec()),
            InvalidKind::ArrayNotObject => self.with_bytes(|json| [b"[", json, b"]"].concat()),
            InvalidKind::TrailingData => self.with_bytes(|json| [json, b"\n{}"].concat()),
            InvalidKind::ByteOrderMark => self.with_bytes(|json| [b"\xef\xbb\xbf", json].concat()),
            InvalidKind::InvalidUtf8 => self.with_bad_byte("name"),
            InvalidKind::InvalidUtf8Ignored => self.with_bad_byte("note"),
            InvalidKind::ControlCharacter => self.any().set("name", "\"two\nlines\""),
            InvalidKind::TooDeep => self.any().set("tags", nested(MAX_DEPTH)),
            InvalidKind::TooDeepIgnored => self.any().set("extra", nested(MAX_DEPTH)),
            InvalidKind::DuplicateName => {
                self.any().with(|draft| draft.set("name", r#""One""#).add("name", r#""Two""#))
            }
            InvalidKind::DuplicateEventType => {
                self.any().with(|draft| draft.add(r"\u0065ventType", r#""ServiceUpdated""#))
            }
            InvalidKind::LoneSurrogate => self.any().set("name", r#""half a smile \ud83d""#),
            InvalidKind::LoneSurrogateNested => self.any().set("tags", r#"[{"a":["\udc00"]}]"#),
            InvalidKind::NumberOverflow => self.any().set("pricePerHour", "1e999"),
            InvalidKind::IdOverflow => self.any().set("id", "9".repeat(400)),
            InvalidKind::UnknownType => self.any().set("eventType", r#""ServiceArchived""#),
            InvalidKind::AbsentType => self.any().without("eventType"),
            InvalidKind::NullType => self.any().set("eventType", "null"),
            InvalidKind::TypeNotString => self.any().set("eventType", "1"),
            InvalidKind::IdMissing => self.any().without("id"),
            InvalidKind::IdNull => self.any().set("id", "null"),
            InvalidKind::IdFraction => self.with_id(|id| format!("{id}.0")),
            InvalidKind::IdExponent => self.with_id(|id| format!("{id}e0")),
            InvalidKind::IdString => self.with_id(|id| format!("\"{id}\"")),
            InvalidKind::IdNegative => self.with_id(|id| format!("-{}", id + 1)),
            InvalidKind::IdMinusZero => self.any().set("id", "-0"),
            InvalidKind::IdTooLarge => self.any().set("id", TOO_LARGE_ID),
            InvalidKind::NameMissing => self.fresh().without("name"),
            InvalidKind::NameNull => self.fresh().set("name", "null"),
            InvalidKind::NameEmpty => self.any().set("name", r#""""#),
            InvalidKind::NameTooLong => self.any().set("name", quoted_times("n", 65)),
            InvalidKind::NameBlank => self.any().set("name", "\"\u{2003}\u{3000}\u{a0}\\t\""),
            InvalidKind::NameBlankTooLong => self.any().set("name", quoted_times(" ", 70)),
            InvalidKind::NameWrongType => self.any().set("name", "7"),
            InvalidKind::DescriptionMissing => self.fresh().without("description"),
            InvalidKind::DescriptionTooLong => self.any().set("description", quoted_times("d", 256)),
            InvalidKind::DescriptionBlank => self.any().set("description", r#""  \n ""#),
            InvalidKind::DescriptionWrongType => self.any().set("description", r#"["none"]"#),
            InvalidKind::TagsMissing => self.fresh().without("tags"),
            InvalidKind::TagsNotArray => self.any().set("tags", r#""web,remote""#),
            InvalidKind::TagWrongType => self.any().set("tags", r#"["web",2]"#),
            InvalidKind::TagNull => self.any().set("tags", r#"[null,"web"]"#),
            InvalidKind::PriceNegative => self.any().set("pricePerHour", "-0.01"),
            InvalidKind::PriceString => self.any().set("pricePerHour", r#""120""#),
            InvalidKind::TimestampTooLate => {
                let late_by = i64::try_from(self.random.below(1 << 40)).expect("less than 2^40");
                DraftedEvent { timestamp_ms: Some(TOO_LATE_MS + late_by), ..self.any().event() }
            }
            InvalidKind::ManyViolations => self.fresh().with(|draft| {
                let draft = draft.set("id", r#""none""#).set("name", quoted_times(" ", 70)).without("description");
                draft.set("tags", "[1]").set("pricePerHour", "-1")
            }),
            InvalidKind::KeyMismatch => {
                let base = self.any();
                let other = base.id + 1 + self.random.below(1000);
                base.with_key(Some(other.to_string().into_bytes()))
            }
            InvalidKind::KeyLeadingZero => {
                let base = self.any();
                let key = format!("0{}", base.id).into_bytes();
                base.with_key(Some(key))
            }
            InvalidKind::AlreadyExists => {
                let id = self.keys.popular(self.random)?.id;
                DraftedEvent::new(id, &EventDraft::created(id, self.random))
            }
            InvalidKind::UpdateNotFound => {
                let id = self.absent();
                DraftedEvent::new(id, &EventDraft::updated(id, self.random))
            }
            InvalidKind::DeleteNotFound => {
                let id = self.absent();
                DraftedEvent::new(id, &EventDraft::deleted(id))
            }
        };
        Some(event)
    }

    /// Returns an update of a live id, or a creation of an absent one.
    fn any(&mut self) -> Base {
        let update = self.random.below(3) > 0;
        match self.keys.popular(self.random).filter(|_| update) {
            Some(live) => Base { id: live.id, draft: EventDraft::updated(live.id, self.random) },
            None => self.fresh(),
        }
    }

    /// Returns a creation of an absent id.
    fn fresh(&mut self) -> Base {
        let id = self.absent();
        Base { id, draft: EventDraft::created(id, self.random) }
    }

    fn absent(&mut self) -> u64 {
        self.keys.absent(self.random).map_or_else(|| self.keys.spare(self.random), |drawn| drawn.id)
    }

    /// Returns an event whose rendered bytes are changed.
    fn with_bytes(&mut self, change: impl FnOnce(&[u8]) -> Vec<u8>) -> DraftedEvent {
        let base = self.any();
        base.with_value(change(&base.draft.render()))
    }

    fn with_id(&mut self, write: impl FnOnce(u64) -> String) -> DraftedEvent {
        let base = self.any();
        let id = write(base.id);
        base.set("id", id)
    }

    fn with_bad_byte(&mut self, name: &'static str) -> DraftedEvent {
        let mut event = self.any().set(name, r#""bad byte: ?""#);
        for byte in event.value.iter_mut().flatten().filter(|byte| **byte == b'?') {
            *byte = 0xff;
        }
        event
    }
}

/// Returns the value of an event that is unusual in this way. The draft is a creation or an update; an update without
/// fields for [`OddKind::NothingChanges`]; a deletion for [`OddKind::DeletionWithJunk`].
pub(super) fn odd(kind: OddKind, draft: EventDraft, max_payload_bytes: u64) -> Vec<u8> {
    let json = |draft: EventDraft| draft.render();
    match kind {
        OddKind::UnknownFieldOverflow => json(draft.add("weight", r#"{"kg":[1e999,-1e999]}"#)),
        OddKind::UnknownFieldSurrogate => json(draft.add("note", r#"["\ud800",{"\udfff":"\ud800\ud800"}]"#)),
        OddKind::UnknownNameTwice => json(draft.add("note", "1").add("note", "[2]")),
        OddKind::UnknownNameSurrogate => json(draft.add(r"\ud83d", "1e999").add(r"name\ud83d", "7")),
        OddKind::EscapedNames => {
            json(draft.rename("id", r"\u0069d").rename("name", r"n\u0061me").rename("tags", r"ta\u0067s"))
        }
        OddKind::EscapedEventType => {
            let value = if draft.is_creation() { r#""\u0053erviceCreated""# } else { r#""Service\u0055pdated""# };
            json(draft.set("eventType", value).rename("eventType", r"event\u0054ype"))
        }
        OddKind::DeepestNesting => json(draft.add("extra", nested(MAX_DEPTH - 1))),
        OddKind::WhiteSpace => draft.render_with(" \t\r\n", " \n: "),
        OddKind::EventTypeLast => json(draft.reversed()),
        OddKind::NullPrice => json(draft.set("pricePerHour", "null")),
        OddKind::MinusZeroPrice => json(draft.set("pricePerHour", "-0.0")),
        OddKind::HugePrice => json(draft.set("pricePerHour", "1e300")),
        OddKind::TinyPrice => json(draft.set("pricePerHour", "4.9406564584124654e-324")),
        OddKind::ExponentPrice => json(draft.set("pricePerHour", "1.25E+2")),
        OddKind::LongestName => json(draft.set("name", quoted_times("\u{1f6e0}", 64))),
        OddKind::LongestDescription => json(draft.set("description", quoted_times("d", 255))),
        OddKind::EscapedText => {
            json(draft.set("name", r#""\"\\\/\b\f\n\r\t\u0000\u001F\u007f\u00e9\ud83d\ude00\u2028""#))
        }
        OddKind::NoTags => json(draft.set("tags", "[]")),
        OddKind::RepeatedTags => json(draft.set("tags", r#"["web","web",""," ","web"]"#)),
        OddKind::LargestPayload => padded(draft, max_payload_bytes),
        OddKind::NothingChanges => json(draft),
        OddKind::DeletionWithJunk => {
            let draft = draft.add("name", r#""\ud800""#).add("name", "7").add("tags", r#"{"a":1e999}"#);
            json(draft.add("pricePerHour", "-1e999").add("description", "null"))
        }
    }
}

/// Renders the draft with an unknown field, so that the value has exactly `bytes` bytes.
fn padded(draft: EventDraft, bytes: u64) -> Vec<u8> {
    let bare = draft.clone().add("padding", r#""""#).render().len();
    let missing = usize::try_from(bytes).expect("payloads fit into memory").saturating_sub(bare);
    draft.add("padding", quoted_times("x", missing)).render()
}

fn nested(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

fn quoted_times(text: &str, times: usize) -> String {
    format!("\"{}\"", text.repeat(times))
}
