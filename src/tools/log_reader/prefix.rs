//! Owns the parsing of the prefix of a line, which names its pod or container.
//!
//! | written by | looks like |
//! |---|---|
//! | `kubectl logs --prefix` | `[pod/steward-0/steward] {…}` |
//! | `docker compose logs` | `steward-1  \| {…}`, perhaps in colour |
//! | stern | `steward-0 steward {…}`, with a namespace in front if there are several |
//! | `logcli query` | `2026-01-31T12:00:00Z {pod="steward-0", …} {…}` |
//! | journald, syslog | `Jan 31 12:00:00 host steward[7]: {…}` |
//! | `--timestamps`, a container runtime's file | `2026-01-31T12:00:00.000000000Z stdout F {…}` |

use std::borrow::Cow;

/// Maximum length of a pod's name, in characters. Kubernetes allows 253, but names are shorter in practice.
const MAX_NAME_CHARS: usize = 80;

/// Returns the pod, container or process that a prefix names.
pub fn pod_of(prefix: &str) -> Option<String> {
    let plain = console::strip_ansi_codes(prefix);
    let prefix: Cow<'_, str> =
        if plain.contains(char::is_control) { plain.replace(char::is_control, " ").into() } else { plain };
    let marked = between(&prefix, "[pod/", &['/', ']']).or_else(|| between(&prefix, "pod=\"", &['"']));
    let name = marked.or_else(|| by_words(&prefix))?;
    Some(name.chars().take(MAX_NAME_CHARS).collect())
}

fn between<'a>(prefix: &'a str, start: &str, ends: &[char]) -> Option<&'a str> {
    let (_, rest) = prefix.split_once(start)?;
    named(rest.split(ends).next()?)
}

fn by_words(prefix: &str) -> Option<&str> {
    if let Some(before_colon) = prefix.trim_end().strip_suffix(':') {
        return named(before_colon.split_whitespace().next_back()?);
    }
    let words: Vec<&str> = prefix.split_whitespace().filter(|word| !is_decoration(word)).take(3).collect();
    match words.as_slice() {
        [] => None,
        [alone] => named(alone.trim_end_matches('|')),
        [pod, _container] => named(pod),
        [_namespace, pod, ..] => named(pod),
    }
}

fn named(name: &str) -> Option<&str> {
    let name = name.trim();
    (!name.is_empty()).then_some(name)
}

/// Returns whether a word is a timestamp, or what a container runtime writes beside it.
fn is_decoration(word: &str) -> bool {
    let is_timestamp = word.len() >= 10 && word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('T');
    is_timestamp || matches!(word, "|" | "stdout" | "stderr" | "F" | "P")
}
