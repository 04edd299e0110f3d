//! Formats numbers for people, in few digits.

use indicatif::{HumanBytes, HumanCount};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::tools::log_reader::UnixMs;

const MOMENT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:3]Z");

/// `12,345`.
pub(crate) fn count(count: u64) -> String {
    HumanCount(count).to_string()
}

/// `0`, `3.2`, `1234`, `12.3k`, `4.5M`.
pub(crate) fn short(number: f64) -> String {
    match number.abs() {
        size if size < 0.05 => "0".to_owned(),
        size if size < 10.0 => format!("{number:.1}"),
        size if size < 10_000.0 => format!("{number:.0}"),
        size if size < 10_000_000.0 => format!("{:.1}k", number / 1e3),
        size if size < 1e10 => format!("{:.1}M", number / 1e6),
        _ => format!("{:.1}G", number / 1e9),
    }
}

/// Returns a count: `7`, `1234`, `12.3k`.
pub(crate) fn short_count(count: u64) -> String {
    if count < 10 { count.to_string() } else { short(count as f64) }
}

/// `7 ms`, `1.2 s`, `3 min`, `5 h`, `2 d`.
pub(crate) fn millis(millis: u64) -> String {
    let seconds = millis as f64 / 1000.0;
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..10_000 => format!("{seconds:.1} s"),
        10_000..120_000 => format!("{seconds:.0} s"),
        120_000..7_200_000 => format!("{:.0} min", seconds / 60.0),
        7_200_000..172_800_000 => format!("{:.0} h", seconds / 3600.0),
        _ => format!("{:.0} d", seconds / 86_400.0),
    }
}

/// `58.2 MiB`, `60 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let words = HumanBytes(bytes).to_string();
    let Some((number, unit)) = words.split_once(' ') else { return words };
    let Ok(number) = number.parse::<f64>() else { return words };
    let number = if number < 100.0 { format!("{number:.1}") } else { format!("{number:.0}") };
    format!("{} {unit}", number.strip_suffix(".0").unwrap_or(&number))
}

/// `2026-01-31 12:00:00.007Z`.
pub(crate) fn moment(at: UnixMs) -> String {
    time_of(at).and_then(|time| time.format(&MOMENT).ok()).unwrap_or_else(|| at.0.to_string())
}

/// `12:00:00`.
pub(crate) fn time_of_day(at: UnixMs) -> String {
    let time = time_of(at).map(|time| format!("{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second()));
    time.unwrap_or_else(|| at.0.to_string())
}

fn time_of(at: UnixMs) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000).ok()
}
