//! The log is a contract: what an event writes, what the catalogue says, and what the page says are the same.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use steward::log_events::{
    CATALOGUE, EventRejected, EventSpec, FieldSpec, Kind, LogEvent, ProgressStalled, all_events, counts, key_text,
    ranges,
};
use steward::telemetry::{self, MAX_LINE_BYTES, MAX_TEXT_BYTES};

use crate::support::capture::{Capture, Line, parse};
use crate::telemetry::{everything, lines_of};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    trials![
        every_event_writes_what_the_catalogue_says,
        every_line_carries_the_target_of_its_family,
        names_are_unique_and_in_snake_case,
        no_event_has_a_field_that_the_line_itself_needs,
        the_longest_line_of_every_event_is_whole,
        an_absent_value_leaves_its_field_out,
        the_page_lists_exactly_the_catalogue,
        the_lines_that_the_page_shows_are_such_as_are_written,
        nobody_logs_around_the_catalogue,
        partitions_are_written_as_ranges,
        counts_are_left_out_whole_when_there_is_no_room,
        a_key_is_written_so_that_nothing_in_it_can_be_mistaken,
    ]
}

fn every_event_writes_what_the_catalogue_says() {
    for spec in all_events() {
        let line = specimen(spec, "a text");
        assert_eq!(line.name, spec.name);
        assert_eq!(line.level, spec.level, "{}", spec.name);
        assert_eq!(line.message, spec.message, "{}", spec.name);
        let written: BTreeSet<&str> = line.fields.keys().map(String::as_str).collect();
        let promised: BTreeSet<&str> = spec.fields.iter().map(|field| field.name).collect();
        assert_eq!(written, promised, "{}", spec.name);
        for field in spec.fields {
            assert_eq!(Some(field.kind), kind_of(&line.fields[field.name], *field), "{} {}", spec.name, field.name);
        }
    }
}

fn every_line_carries_the_target_of_its_family() {
    for family in CATALOGUE {
        for spec in family.events {
            let line = the_line(spec, "");
            assert_eq!(line["target"], family.target, "{}", spec.name);
        }
    }
}

fn names_are_unique_and_in_snake_case() {
    let mut seen = BTreeSet::new();
    for spec in all_events() {
        assert!(seen.insert(spec.name), "{} is there twice", spec.name);
        let snake =
            |name: &str| name.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_');
        assert!(snake(spec.name), "{}", spec.name);
        assert!(!spec.meaning.is_empty() && !spec.action.is_empty(), "{}", spec.name);
    }
    assert!(!seen.contains(telemetry::LIBRARY_LOG));
}

fn no_event_has_a_field_that_the_line_itself_needs() {
    for spec in all_events() {
        for field in spec.fields {
            let reserved = ["timestamp", "level", "event", "message", "target", "truncated"];
            assert!(!reserved.contains(&field.name), "{} {}", spec.name, field.name);
        }
    }
}

fn the_longest_line_of_every_event_is_whole() {
    // A control character takes the most room in a line: six bytes.
    let long: &'static str = String::leak("\u{1}".repeat(MAX_TEXT_BYTES));
    for spec in all_events() {
        let line = the_line(spec, long);
        assert!(line.to_string().len() < MAX_LINE_BYTES, "{}", spec.name);
        assert_eq!(line.get("truncated"), None, "{} has no room for all of its fields", spec.name);
    }
}

fn an_absent_value_leaves_its_field_out() {
    let log = Capture::here();
    log.announce(ProgressStalled::NAME);
    let stalled = ProgressStalled {
        phase: "committing",
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
    EventRejected { reason: "not_found", partition: 3, offset: 42, traceparent: None }.emit();
    let line = log.wait_for_match(EventRejected::NAME, |line| line.integer("offset") == 42);
    assert_eq!(line.fields.get("traceparent"), None);
    assert_eq!(line.text("reason"), "not_found");
}

fn the_page_lists_exactly_the_catalogue() {
    let path = root().join("docs/log-events.md");
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let (intro, _) = page.split_once(MARK).expect("the page has the mark under which the catalogue stands");
    let right = format!("{intro}{MARK}\n{}", rendered());
    if std::env::var_os("STEWARD_WRITE_DOCS").is_some() {
        std::fs::write(&path, &right).expect("the page can be written");
        return;
    }
    assert!(page == right, "docs/log-events.md is not what the catalogue says; STEWARD_WRITE_DOCS=1 writes it anew");
    for level in ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"] {
        assert!(intro.contains(&format!("`{level}`")), "the page does not explain {level}");
    }
    let [text, line] = [MAX_TEXT_BYTES, MAX_LINE_BYTES].map(thousands);
    assert!(intro.contains(&text) && intro.contains(&line), "the page names other bounds than {text} and {line}");
}

fn the_lines_that_the_page_shows_are_such_as_are_written() {
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
        }
    }
}

fn nobody_logs_around_the_catalogue() {
    let mut sources = Vec::new();
    collect(&root().join("src"), &mut sources);
    assert!(sources.len() > 10, "the sources were not found");
    for path in sources {
        let inside = path.strip_prefix(root()).expect("it was found below").to_string_lossy().into_owned();
        if inside.starts_with("src/log_events") {
            continue;
        }
        let source = std::fs::read_to_string(&path).expect("a source can be read");
        for level in ["error!(", "warn!(", "info!(", "debug!(", "trace!(", "tracing::event!("] {
            let loud = source.match_indices(level).find(|(at, _)| !source[..*at].ends_with(char::is_alphanumeric));
            assert_eq!(loud, None, "{inside} logs without an event of the catalogue");
        }
    }
}

fn partitions_are_written_as_ranges() {
    let check = |numbers: &[i32], written: &str| assert_eq!(ranges(numbers.iter().copied()), written);
    check(&[], "");
    check(&[7], "7");
    check(&[3, 2, 1, 0, 7], "0-3,7");
    check(&[4, 4, 5, 9, 8], "4-5,8-9");
    check(&[i32::MAX, 0], "0,2147483647");
}

fn counts_are_left_out_whole_when_there_is_no_room() {
    assert_eq!(counts([(0, 12), (1, 0)], 100), "0:12,1:0");
    assert_eq!(counts::<i32>([], 100), "");
    let many = counts((0..100).map(|partition| (partition, 123_456)), 40);
    assert_eq!(many, "0:123456,1:123456,2:123456,3:123456,...");
}

fn a_key_is_written_so_that_nothing_in_it_can_be_mistaken() {
    let check = |key: &[u8], written: &str| assert_eq!(key_text(key), written);
    check(b"42", "42");
    check(b"a-b_c.d~E", "a-b_c.d~E");
    check(b"1:2,3 4%\n", "1%3A2%2C3%204%25%0A");
    check("ü".as_bytes(), "%C3%BC");
    check(&[0xff, 0], "%FF%00");
    check(b"", "");
    check(&[b'x'; 64], &"x".repeat(64));
    check(&[b'x'; 65], &format!("{}…", "x".repeat(64)));
    check(&[b' '; 1_000], &format!("{}…", "%20".repeat(21)));
}

// ------------------------------------------------------------------------------------------------------- the helpers

/// Behind it the page is written by a test.
const MARK: &str =
    "<!-- From here on written from the catalogue: STEWARD_WRITE_DOCS=1 cargo test --test it log_events -->";

/// What an event records.
fn specimen(spec: &EventSpec, text: &'static str) -> Line {
    let log = Capture::here();
    log.announce(spec.name);
    (spec.emit_specimen)(text);
    log.wait_for(spec.name)
}

/// The JSON line of an event.
fn the_line(spec: &EventSpec, text: &'static str) -> Value {
    let lines = lines_of(telemetry::Look::Json, everything(), || (spec.emit_specimen)(text));
    let [line] = lines.as_slice() else { panic!("{} wrote {} lines", spec.name, lines.len()) };
    serde_json::from_str(line).expect("a line is JSON")
}

/// The kind that a value shows; of an optional one it cannot show that it is, so the catalogue's word counts.
fn kind_of(value: &Value, field: FieldSpec) -> Option<Kind> {
    let optional = matches!(field.kind, Kind::OptionalText | Kind::OptionalInteger);
    match value {
        Value::String(_) if optional => Some(Kind::OptionalText),
        Value::String(_) => Some(Kind::Text),
        Value::Number(number) if number.is_f64() => Some(Kind::Number),
        Value::Number(_) if optional => Some(Kind::OptionalInteger),
        Value::Number(_) => Some(Kind::Integer),
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
    let EventSpec { name, level, meaning, action, .. } = spec;
    let _ = writeln!(page, "\n### `{name}` {level}\n\n{meaning}\n\nAction: {action}.");
    if spec.fields.is_empty() {
        return;
    }
    let _ = writeln!(page, "\n| field | type | meaning |\n|---|---|---|");
    for FieldSpec { name, kind, meaning } in spec.fields {
        let kind = match kind {
            Kind::Text => "string",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::OptionalText => "string, or absent",
            Kind::OptionalInteger => "integer, or absent",
        };
        let _ = writeln!(page, "| `{name}` | {kind} | {meaning} |");
    }
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
