//! Owns the form in which the time of a record is written, and the range of years that the form supports.

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

/// `2026-01-31T12:00:00.000Z`: RFC 3339 in UTC, always with milliseconds, so that texts sort like times.
const FORM: [u8; 24] = *b"0000-00-00T00:00:00.000Z";

/// Start of each number in [`FORM`], and its digits.
const YEAR: (usize, usize) = (0, 4);
const MONTH: (usize, usize) = (5, 2);
const DAY: (usize, usize) = (8, 2);
const HOUR: (usize, usize) = (11, 2);
const MINUTE: (usize, usize) = (14, 2);
const SECOND: (usize, usize) = (17, 2);
const MILLISECOND: (usize, usize) = (20, 3);

/// A record's timestamp, in the years 0 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordTime(i64);

impl RecordTime {
    /// 0000-01-01T00:00:00.000Z in milliseconds since 1970.
    pub const MIN_MS: i64 = -62_167_219_200_000;
    /// 9999-12-31T23:59:59.999Z in milliseconds since 1970.
    pub const MAX_MS: i64 = 253_402_300_799_999;

    /// Returns the time, or `None` if its year does not have four digits.
    #[must_use]
    pub fn from_ms(ms: i64) -> Option<RecordTime> {
        (RecordTime::MIN_MS..=RecordTime::MAX_MS).contains(&ms).then_some(RecordTime(ms))
    }

    /// Reads exactly what [`write`](RecordTime::write) writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<RecordTime> {
        let text: &[u8; 24] = text.as_bytes().try_into().ok()?;
        let is_of_form = |(byte, form): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
        if !text.iter().zip(&FORM).all(is_of_form) {
            return None;
        }
        let number = |place| u16::try_from(digits(text, place)).ok();
        let small = |place| u8::try_from(digits(text, place)).ok();
        let month = Month::try_from(small(MONTH)?).ok()?;
        let date = Date::from_calendar_date(i32::from(number(YEAR)?), month, small(DAY)?).ok()?;
        let time = Time::from_hms_milli(small(HOUR)?, small(MINUTE)?, small(SECOND)?, number(MILLISECOND)?).ok()?;
        let at = PrimitiveDateTime::new(date, time).assume_utc();
        RecordTime::from_ms(at.unix_timestamp() * 1000 + i64::from(time.millisecond()))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn ms(self) -> i64 {
        self.0
    }

    /// Returns the 24 characters, all of them ASCII.
    #[must_use]
    pub fn write(self) -> [u8; 24] {
        let at = OffsetDateTime::from_unix_timestamp(self.0.div_euclid(1000))
            .expect("years 0 to 9999 are within the range of the time crate");
        let (year, month, day) = at.to_calendar_date();
        let (hour, minute, second) = at.to_hms();
        let mut text = FORM;
        put(&mut text, YEAR, year.unsigned_abs());
        put(&mut text, MONTH, u8::from(month).into());
        put(&mut text, DAY, day.into());
        put(&mut text, HOUR, hour.into());
        put(&mut text, MINUTE, minute.into());
        put(&mut text, SECOND, second.into());
        // The remainder of a division by 1000 is small, and not negative.
        put(&mut text, MILLISECOND, self.0.rem_euclid(1000).unsigned_abs() as u32);
        text
    }
}

/// Writes a number with leading zeros.
fn put(text: &mut [u8; 24], (start, len): (usize, usize), mut number: u32) {
    for digit in text[start..start + len].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Reads a number of at most 4 digits.
fn digits(text: &[u8; 24], (start, len): (usize, usize)) -> u32 {
    text[start..start + len].iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
}
