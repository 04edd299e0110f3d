//! The log is a contract: written lines, the catalogue and the page agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::Value;
use steward::observability::log_events::{
    CATALOGUE, EventRejected, EventSpec, FieldKind, FieldSpec, FieldValue, KeyPolicy, LogEvent, ProcessPhase,
    ProgressStalled, StallPhase, StatsReported, all_events, counts, ranges,
};
use steward::observability::logging::{
    MAX_LINE_BYTES, MAX_TEXT_BYTES, {self},
};

use crate::support::capture::{Capture, Line, parse};
use crate::telemetry::{any_text, everything, lines_of, property};

#[apply(offline_test)]
fn every_event_writes_the_fields_of_its_catalogue_entry() {
    for spec in all_events() {
        let line = specimen(spec, "a text");
        assert_eq!(line.name, spec.name);
        assert_eq!(line.level, spec.level, "{}", spec.name);
        assert_eq!(line.message, spec.message, "{}", spec.name);
        let written: BTreeSet<&str> = line.fields.keys().map(String::as_str).collect();
        let listed: BTreeSet<&str> = spec.fields.iter().map(|field| field.name).collect();
        assert_eq!(written, listed, "{}", spec.name);
        for field in spec.fields {
            assert_eq!(Some(field.kind), kind_of(&line.fields[field.name], *field), "{} {}", spec.name, field.name);
            assert!(is_listed(&line.fields[field.name], field), "{} {}", spec.name, field.name);
        }
    }
}

#[apply(offline_test)]
fn listed_values_are_unique_and_in_snake_case_and_explained() {
    let mut lists = 0;
    for field in all_events().flat_map(|spec| spec.fields).filter(|field| !field.values.is_empty()) {
        let codes: BTreeSet<&str> = field.values.iter().map(|value| value.code).collect();
        assert_eq!(codes.len(), field.values.len(), "{field:?} has a value twice");
        for value in field.values {
            assert!(is_snake_case(value.code), "{value:?}");
            assert!(value.meaning.ends_with('.'), "{value:?}");
        }
        lists += 1;
    }
    assert!(lists > 10, "{lists} fields have closed lists");
    let stats = all_events().find(|spec| spec.name == StatsReported::NAME).expect("stats is in the catalogue");
    let phase = stats.fields.iter().find(|field| field.name == "phase").expect("stats has a phase");
    for word in ProcessPhase::ALL {
        assert!(phase.meaning.contains(&format!("`{}`", word.code())), "{} is not described", word.code());
    }
}

#[apply(offline_test)]
fn every_line_carries_the_target_of_its_family() {
    for family in CATALOGUE {
        for spec in family.events {
            let line = the_line(spec, "");
            assert_eq!(line["target"], family.target, "{}", spec.name);
        }
    }
}

#[apply(offline_test)]
fn names_are_unique_and_in_snake_case() {
    let mut seen = BTreeSet::new();
    for spec in all_events() {
        assert!(seen.insert(spec.name), "{} is there twice", spec.name);
        assert!(is_snake_case(spec.name), "{}", spec.name);
        assert!(!spec.meaning.is_empty() && !spec.action.is_empty(), "{}", spec.name);
    }
    assert!(!seen.contains(logging::LIBRARY_LOG));
}

#[apply(offline_test)]
fn no_event_has_a_field_with_a_reserved_name() {
    for spec in all_events() {
        for field in spec.fields {
            let reserved = ["timestamp", "level", "event", "message", "target", "truncated"];
            assert!(!reserved.contains(&field.name), "{} {}", spec.name, field.name);
        }
    }
}

#[apply(offline_test)]
fn the_longest_line_of_every_event_is_not_truncated() {
    // A control character takes the most room in a line: six bytes.
    let long: &'static str = String::leak("\u{1}".repeat(MAX_TEXT_BYTES));
    for spec in all_events() {
        let line = the_line(spec, long);
        assert!(line.to_string().len() < MAX_LINE_BYTES, "{}", spec.name);
        assert_eq!(line.get("truncated"), None, "{} has no room for all of its fields", spec.name);
    }
}

#[apply(offline_test)]
fn a_line_of_every_event_is_whole_and_bounded_whatever_its_texts_contain() {
    property(&any_text(), |text| {
        let text: &'static str = String::leak(text);
        for spec in all_events() {
            let line = the_line(spec, text);
            prop_assert!(line.to_string().len() < MAX_LINE_BYTES, "{}", spec.name);
            prop_assert!(line.get("truncated").is_none(), "{}", spec.name);
            for style in [logging::LogStyle::Text, logging::LogStyle::ColouredText] {
                let lines = lines_of(style, everything(), || (spec.emit_specimen)(text));
                prop_assert_eq!(lines.len(), 1);
                prop_assert!(lines[0].len() < MAX_LINE_BYTES, "{} as text", spec.name);
                prop_assert!(!lines[0].contains('\n'), "{} as text", spec.name);
            }
        }
        Ok(())
    });
}

#[apply(offline_test)]
fn every_event_is_emitted_by_the_sources() {
    let emitters: String =
        texts_below("src", |name| !name.starts_with("src/observability/log_events")).into_values().collect();
    for (name, event) in structs() {
        let built = [format!("{event} {{"), format!("{event}::")];
        assert!(built.iter().any(|built| emitters.contains(built)), "{name} is never emitted");
    }
}

/// The test support compares every line of a real process with the catalogue.
#[apply(offline_test)]
fn every_event_is_provoked_by_a_test() {
    let about_the_catalogue = ["tests/it/log_events.rs", "tests/it/docs.rs"];
    let tests = texts_below("tests", |name| !about_the_catalogue.contains(&name));
    let structs = structs();
    for spec in all_events() {
        let names = [format!("\"{}\"", spec.name), format!("{}::NAME", structs[spec.name])];
        let is_provoked = tests.values().any(|text| names.iter().any(|name| is_waited_for(text, name)));
        assert!(is_provoked, "no test waits for {}; provoke it", spec.name);
    }
}

#[apply(offline_test)]
fn an_absent_value_leaves_its_field_out() {
    let log = Capture::here();
    log.announce(ProgressStalled::NAME);
    let stalled = ProgressStalled {
        phase: StallPhase::Commit,
        waiting_for: "the brokers",
        partition: None,
        offset: Some(7),
        key: None,
        stalled_ms: 30_001,
        limit_ms: 30_000,
    };
    stalled.emit();
    let line = log.wait_for(ProgressStalled::NAME);
    assert_eq!(line.fields.get("partition"), None);
    assert_eq!(line.fields.get("key"), None);
    assert_eq!(line.integer("offset"), 7);
    let nothing_known = EventRejected {
        reason: "not_found",
        partition: 3,
        offset: 42,
        key: KeyPolicy::Omitted.show(b"7"),
        trace_id: None,
        span_id: None,
        trace_flags: None,
    };
    nothing_known.emit();
    let line = log.wait_for_match(EventRejected::NAME, |line| line.integer("offset") == 42);
    assert_eq!(line.fields.get("key"), None);
    assert_eq!(line.fields.get("trace_id"), None);
    assert_eq!(line.text("reason"), "not_found");
}

#[apply(offline_test)]
fn the_page_lists_exactly_the_catalogue() {
    let path = root().join("docs/log-events.md");
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let (intro, _) = page.split_once(MARKER).expect("the page has the marker above the catalogue");
    let expected = format!("{intro}{MARKER}\n{}", rendered());
    if std::env::var_os("STEWARD_WRITE_DOCS").is_some() {
        std::fs::write(&path, &expected).expect("the page can be written");
        return;
    }
    assert!(page == expected, "docs/log-events.md differs from the catalogue; STEWARD_WRITE_DOCS=1 writes it");
    for level in ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"] {
        assert!(intro.contains(&format!("`{level}`")), "the page does not explain {level}");
    }
    let [text, line] = [MAX_TEXT_BYTES, MAX_LINE_BYTES].map(thousands);
    assert!(intro.contains(&text) && intro.contains(&line), "the page names other bounds than {text} and {line}");
}

#[apply(offline_test)]
fn the_example_lines_of_the_page_conform_to_the_catalogue() {
    let page = std::fs::read_to_string(root().join("docs/log-events.md")).expect("the page is there");
    let shown: Vec<&str> = page.lines().filter(|line| line.starts_with('{')).collect();
    assert!(shown.len() >= 2, "the page shows no lines");
    for line in shown {
        let line = parse(line).unwrap_or_else(|| panic!("no line of the log: {line}"));
        let spec = all_events().find(|spec| spec.name == line.name).expect("the page shows an event of the catalogue");
        assert_eq!((line.level, line.message.as_str()), (spec.level, spec.message), "{}", spec.name);
        let names = line.fields.keys().map(String::as_str).collect::<BTreeSet<_>>();
        assert_eq!(names, spec.fields.iter().map(|field| field.name).collect(), "{}", spec.name);
        for field in spec.fields {
            assert_eq!(Some(field.kind), kind_of(&line.fields[field.name], *field), "{} {}", spec.name, field.name);
            assert!(is_listed(&line.fields[field.name], field), "{} {}", spec.name, field.name);
        }
    }
}

#[apply(offline_test)]
fn every_log_line_of_the_sources_is_an_event_of_the_catalogue() {
    let mut sources = Vec::new();
    collect(&root().join("src"), &mut sources);
    assert!(sources.len() > 10, "the sources were not found");
    for path in sources {
        let inside = path.strip_prefix(root()).expect("it was found below").to_string_lossy().into_owned();
        if inside.starts_with("src/observability/log_events") {
            continue;
        }
        let source = std::fs::read_to_string(&path).expect("a source can be read");
        for level in ["error!(", "warn!(", "info!(", "debug!(", "trace!(", "tracing::event!("] {
            let loud = source.match_indices(level).find(|(at, _)| !source[..*at].ends_with(char::is_alphanumeric));
            assert_eq!(loud, None, "{inside} logs without an event of the catalogue");
        }
    }
}

#[apply(offline_test)]
fn partitions_are_written_as_ranges() {
    let check = |numbers: &[i32], written: &str| assert_eq!(ranges(numbers.iter().copied()), written);
    check(&[], "");
    check(&[7], "7");
    check(&[3, 2, 1, 0, 7], "0-3,7");
    check(&[4, 4, 5, 9, 8], "4-5,8-9");
    check(&[i32::MAX, 0], "0,2147483647");
}

#[apply(offline_test)]
fn counts_beyond_the_limit_are_left_out_whole() {
    assert_eq!(counts([(0, 12), (1, 0)], 100), "0:12,1:0");
    assert_eq!(counts::<i32>([], 100), "");
    let many = counts((0..100).map(|partition| (partition, 123_456)), 40);
    assert_eq!(many, "0:123456,1:123456,2:123456,3:123456,...");
}

// ------------------------------------------------------------------------------------------------------- the helpers

/// Calls by which a test waits for an event, up to its name.
const WAITS: [&str; 7] =
    ["wait_for_event(", "wait_for_event_where(", "events(", "wait_for(", "wait_for_match(", "lines(", "appears("];

fn is_waited_for(text: &str, name: &str) -> bool {
    let before = text.match_indices(name).map(|(at, _)| text[..at].trim_end());
    before.into_iter().any(|before| WAITS.iter().any(|wait| before.ends_with(wait)))
}

/// Returns the struct of each event by the event's name, from the sources of the catalogue.
fn structs() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for text in texts_below("src/observability/log_events", |_| true).into_values() {
        for event in text.split("#[event(").skip(1) {
            let name = event.split('"').nth(1).expect("a name in quotes");
            let declared = event.split("pub struct ").nth(1).expect("a struct");
            let end = declared.find(|char: char| !char.is_alphanumeric()).expect("a name has an end");
            found.insert(name.to_owned(), declared[..end].to_owned());
        }
    }
    assert_eq!(found.len(), all_events().count(), "the source was read");
    found
}

/// Returns the sources below a folder by name, filtered by `wanted`.
fn texts_below(folder: &str, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
    let mut sources = Vec::new();
    collect(&root().join(folder), &mut sources);
    let named = sources.into_iter().map(|path| {
        let name = path.strip_prefix(root()).expect("it was found below").to_string_lossy().into_owned();
        (name, std::fs::read_to_string(&path).expect("a source can be read"))
    });
    named.filter(|(name, _)| wanted(name)).collect()
}

/// A test writes the page after this marker.
const MARKER: &str =
    "<!-- From here on written from the catalogue: STEWARD_WRITE_DOCS=1 cargo test --test it log_events -->";

/// Captures the specimen of an event.
fn specimen(spec: &EventSpec, text: &'static str) -> Line {
    let log = Capture::here();
    log.announce(spec.name);
    (spec.emit_specimen)(text);
    log.wait_for(spec.name)
}

/// The JSON line of an event.
fn the_line(spec: &EventSpec, text: &'static str) -> Value {
    let lines = lines_of(logging::LogStyle::Json, everything(), || (spec.emit_specimen)(text));
    let [line] = lines.as_slice() else { panic!("{} wrote {} lines", spec.name, lines.len()) };
    serde_json::from_str(line).expect("a line is JSON")
}

/// Returns the kind of a value. A value cannot show that it is optional, so that comes from the catalogue.
fn kind_of(value: &Value, field: FieldSpec) -> Option<FieldKind> {
    let optional = matches!(field.kind, FieldKind::OptionalText | FieldKind::OptionalInteger);
    match value {
        Value::String(_) if optional => Some(FieldKind::OptionalText),
        Value::String(_) => Some(FieldKind::Text),
        Value::Number(number) if number.is_f64() => Some(FieldKind::Number),
        Value::Number(_) if optional => Some(FieldKind::OptionalInteger),
        Value::Number(_) => Some(FieldKind::Integer),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn rendered() -> String {
    let mut page = String::new();
    for family in CATALOGUE {
        let _ = writeln!(page, "\n## {}\n\nTarget `{}`.", family.title, family.target);
        for spec in family.events {
            render(&mut page, spec);
        }
    }
    page
}

fn render(page: &mut String, spec: &EventSpec) {
    let EventSpec { name, level, meaning, action, fields, .. } = spec;
    let _ = writeln!(page, "\n### `{name}` {level}\n\n{meaning}\n\nAction: {action}.");
    if fields.is_empty() {
        return;
    }
    let _ = writeln!(page, "\n| field | type | meaning |\n|---|---|---|");
    for FieldSpec { name, kind, meaning, .. } in *fields {
        let kind = match kind {
            FieldKind::Text => "string",
            FieldKind::Integer => "integer",
            FieldKind::Number => "number",
            FieldKind::OptionalText => "string, or absent",
            FieldKind::OptionalInteger => "integer, or absent",
        };
        let _ = writeln!(page, "| `{name}` | {kind} | {meaning} |");
    }
    for FieldSpec { name, values, .. } in fields.iter().filter(|field| !field.values.is_empty()) {
        let _ = writeln!(page, "\nValues of `{name}`:\n");
        for FieldValue { code, meaning } in *values {
            let _ = writeln!(page, "- `{code}`: {meaning}");
        }
    }
}

fn is_snake_case(name: &str) -> bool {
    name.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
}

fn is_listed(value: &Value, field: &FieldSpec) -> bool {
    field.values.is_empty() || field.values.iter().any(|listed| value == listed.code)
}

fn thousands(number: usize) -> String {
    format!("{},{:03}", number / 1000, number % 1000)
}

fn collect(folder: &Path, sources: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder can be read") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
