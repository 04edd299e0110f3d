//! Renders the strings, numbers and times of a snapshot, each in its one valid form.

/// The earliest time that can be rendered: 0000-01-01T00:00:00.000Z, in milliseconds since 1970.
pub(super) const EARLIEST_MS: i64 = -62_167_219_200_000;
/// The latest time that can be rendered: 9999-12-31T23:59:59.999Z, in milliseconds since 1970.
pub(super) const LATEST_MS: i64 = 253_402_300_799_999;

/// Returns a string in quotes. Only control characters below the space, `"` and `\` are escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\u{0}'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => out.push(character),
        }
    }
    out.push('"');
    out
}

/// Returns the shortest decimal that parses to the same float, without an empty fraction.
///
/// The text has plain digits if the decimal point is within 16 digits and at most 4 zeros follow it. Otherwise it has an
/// exponent with a sign. Examples: `120`, `0.5`, `1000000000000000`, `1e+16`, `1e-6`. Minus zero is `0`.
pub fn number_text(number: f64) -> String {
    if number == 0.0 {
        return "0".into();
    }
    let scientific = shortest(number);
    let (mantissa, exponent) = scientific.split_once('e').expect("`{:e}` writes an exponent");
    let exponent: i32 = exponent.parse().expect("`{:e}` writes the exponent in decimal");
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits = mantissa.replace('.', "");
    let length = i32::try_from(digits.len()).expect("a float has at most 17 significant digits");
    // The number of digits before the decimal point.
    let point = exponent + 1;
    let text = if (1..=16).contains(&point) && point >= length {
        digits.clone() + &zeros(point - length)
    } else if (1..=16).contains(&point) {
        let (whole, fraction) = digits.split_at(usize::try_from(point).expect("within 1 to 16"));
        format!("{whole}.{fraction}")
    } else if (-4..=0).contains(&point) {
        format!("0.{}{digits}", zeros(-point))
    } else {
        format!("{mantissa}e{exponent:+}")
    };
    format!("{sign}{text}")
}

/// Returns the shortest digits that parse to the same float. Of several equally short ones, the nearest to the number;
/// of two equally near ones, the even one: 873383816278703.25 has `.2`, not `.3`.
fn shortest(number: f64) -> String {
    let some_shortest = format!("{number:e}");
    let digits = some_shortest.split('e').next().unwrap_or_default().chars().filter(char::is_ascii_digit).count();
    let nearest = format!("{number:.*e}", digits.saturating_sub(1));
    if nearest.parse() == Ok(number) { nearest } else { some_shortest }
}

fn zeros(count: i32) -> String {
    "0".repeat(usize::try_from(count).unwrap_or(0))
}

/// Renders RFC 3339 in UTC with milliseconds, for a time between [`EARLIEST_MS`] and [`LATEST_MS`].
pub(super) fn time_text(unix_ms: i64) -> String {
    assert!((EARLIEST_MS..=LATEST_MS).contains(&unix_ms), "events outside of the years 0 to 9999 are rejected");
    const DAY_MS: i64 = 86_400_000;
    let mut days = (unix_ms - EARLIEST_MS) / DAY_MS;
    let within_day = (unix_ms - EARLIEST_MS) % DAY_MS;
    // The calendar repeats after 400 years; year 0 begins the first such cycle.
    let mut year = days / 146_097 * 400;
    days %= 146_097;
    while days >= days_of_year(year) {
        days -= days_of_year(year);
        year += 1;
    }
    let mut month = 1;
    while days >= days_of_month(year, month) {
        days -= days_of_month(year, month);
        month += 1;
    }
    let (hour, minute) = (within_day / 3_600_000, within_day / 60_000 % 60);
    let (second, millisecond) = (within_day / 1000 % 60, within_day % 1000);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z", days + 1)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_year(year: i64) -> i64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}
