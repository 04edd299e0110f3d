//! How a record's key is written into a line: the one place that does it.
//!
//! A key is any bytes, of any length, and may stand in a list beside others. So all but letters, digits and a few signs
//! is written as in a URL, and a long one is cut.

use std::fmt::Write as _;

/// The longest key that is written whole, in bytes of the text.
const MAX_KEY_TEXT: usize = 64;

/// The key as it stands in a line: `42`, `a%20b`; cut after 64 bytes, which a `…` shows.
#[must_use]
pub fn key_text(key: &[u8]) -> String {
    let mut text = String::new();
    for byte in key {
        let before = text.len();
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
        if text.len() > MAX_KEY_TEXT {
            text.truncate(before);
            text.push('…');
            break;
        }
    }
    text
}
