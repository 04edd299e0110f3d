//! What a line may contain of a record: its key, as configured by `log.keys`, and its trace.
//!
//! Architecture invariant: a key gets into a line only as a [`LoggedKey`], which only a [`KeyPolicy`] creates. So every
//! key in a line has passed the policy.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Maximum length of a key in a line, in bytes without the ellipsis. No id is longer; a longer key is a mistake of the
/// producer.
pub const MAX_KEY_BYTES: usize = 64;

/// Bytes of the hash that a hashed key shows: enough that a collision among a billion keys is unlikely.
const HASH_BYTES: usize = 8;

/// How lines show keys.
#[derive(Clone, Default)]
pub enum KeyPolicy {
    /// Escaped and bounded.
    Plain,
    /// As `#` and 16 hexadecimal digits.
    Hashed(KeyHash),
    /// Not at all. The default, so that keys are shown only on purpose.
    #[default]
    Omitted,
}

/// HMAC-SHA256 with a secret. Without the secret, a key cannot be found by hashing all possible ids.
#[derive(Clone)]
pub struct KeyHash(Hmac<Sha256>);

impl KeyPolicy {
    pub fn hashed(secret: &[u8]) -> KeyPolicy {
        KeyPolicy::Hashed(KeyHash(Hmac::new_from_slice(secret).expect("HMAC takes a secret of any length")))
    }

    /// Returns the key for a line; `None` if lines must not contain it.
    pub fn show(&self, key: &[u8]) -> Option<LoggedKey> {
        match self {
            KeyPolicy::Plain => Some(LoggedKey(escaped(key))),
            KeyPolicy::Hashed(hash) => Some(LoggedKey(hash.of(key))),
            KeyPolicy::Omitted => None,
        }
    }
}

impl KeyHash {
    fn of(&self, key: &[u8]) -> String {
        let tag = self.0.clone().chain_update(key).finalize().into_bytes();
        let mut shown = "#".to_owned();
        for byte in &tag[..HASH_BYTES] {
            push_hex(&mut shown, *byte, b"0123456789abcdef");
        }
        shown
    }
}

impl fmt::Debug for KeyPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyPolicy::Plain => "Plain",
            KeyPolicy::Hashed(_) => "Hashed",
            KeyPolicy::Omitted => "Omitted",
        })
    }
}

/// A key for a line. Its characters are letters, digits, `-`, `_`, `.` and `~`; `%` of an escaped byte; `#` of a hash;
/// `…` at the end if it was cut. None of them ends an entry of a list such as `42:17,43:5`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoggedKey(String);

impl LoggedKey {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn specimen(text: &'static str) -> LoggedKey {
        LoggedKey(text.to_owned())
    }
}

impl fmt::Display for LoggedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Escapes a key as in a URL: `%` and two digits for every byte that is not plain. `#` is escaped, so that a plain key
/// cannot look like a hashed one.
fn escaped(key: &[u8]) -> String {
    let mut shown = String::new();
    for byte in key {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
        let width = if is_plain { 1 } else { 3 };
        if shown.len() + width > MAX_KEY_BYTES {
            shown.push('…');
            return shown;
        }
        if is_plain {
            shown.push(char::from(*byte));
        } else {
            shown.push('%');
            push_hex(&mut shown, *byte, b"0123456789ABCDEF");
        }
    }
    shown
}

fn push_hex(to: &mut String, byte: u8, digits: &[u8; 16]) {
    for nibble in [byte >> 4, byte & 0x0f] {
        to.push(char::from(digits[usize::from(nibble)]));
    }
}

/// The trace of a record, as the fields of a line.
///
/// Source: W3C Trace Context, `traceparent`; the field names are OpenTelemetry's for logs that are not OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace<'a> {
    /// 32 hexadecimal digits, not all of them 0.
    pub trace_id: &'a str,
    /// 16 hexadecimal digits, not all of them 0.
    pub span_id: &'a str,
    /// 2 hexadecimal digits.
    pub trace_flags: &'a str,
}

impl<'a> Trace<'a> {
    /// Parses a `traceparent` as strictly as the standard requires. Returns `None` if it does not conform, because a
    /// made-up id would lead to an unrelated trace.
    pub fn parse(traceparent: &'a [u8]) -> Option<Trace<'a>> {
        let text = std::str::from_utf8(traceparent).ok()?;
        let (version, rest) = text.split_once('-')?;
        let (trace_id, rest) = rest.split_once('-')?;
        let (span_id, rest) = rest.split_once('-')?;
        // A later version may add fields after another dash; version 00 has none.
        let trace_flags = match rest.split_once('-') {
            None => rest,
            Some((trace_flags, _)) if version != "00" => trace_flags,
            Some(_) => return None,
        };
        let is_hex = |text: &str, digits: usize| {
            text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        let is_id = |text: &str, digits: usize| is_hex(text, digits) && text.bytes().any(|byte| byte != b'0');
        let is_valid = is_hex(version, 2)
            && version != "ff"
            && is_id(trace_id, 32)
            && is_id(span_id, 16)
            && is_hex(trace_flags, 2);
        is_valid.then_some(Trace { trace_id, span_id, trace_flags })
    }
}
