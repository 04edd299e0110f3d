//! Owns the one form in which a time is written, and the years for which that form exists.

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// `2026-01-31T12:00:00.000Z`: RFC 3339 in UTC, always with milliseconds, so that text sorts as time does.
const FORM: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// A record's timestamp, in the years 0 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordTime(i64);

impl RecordTime {
    /// 0000-01-01T00:00:00.000Z in milliseconds since 1970.
    pub(super) const MIN_MS: i64 = -62_167_219_200_000;
    /// 9999-12-31T23:59:59.999Z in milliseconds since 1970.
    pub(super) const MAX_MS: i64 = 253_402_300_799_999;

    /// `None` where the time cannot be written with a year of four digits.
    pub(super) fn from_ms(ms: i64) -> Option<RecordTime> {
        (RecordTime::MIN_MS..=RecordTime::MAX_MS).contains(&ms).then_some(RecordTime(ms))
    }

    /// Reads what [`write`](RecordTime::write) wrote, and a little more: who must know compares the bytes.
    pub(super) fn parse(text: &str) -> Option<RecordTime> {
        let at = PrimitiveDateTime::parse(text, FORM).ok()?.assume_utc();
        let ms = i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).ok()?;
        RecordTime::from_ms(ms)
    }

    /// Milliseconds since 1970.
    pub(super) fn ms(self) -> i64 {
        self.0
    }

    /// The 24 characters, all of them ASCII.
    pub(super) fn write(self) -> [u8; 24] {
        let mut text = [0; 24];
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .expect("years 0 to 9999 are within the range of the time crate")
            .format_into(&mut text.as_mut_slice(), FORM)
            .expect("a year of four digits makes exactly 24 bytes");
        text
    }
}
