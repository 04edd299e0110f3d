//! The pages match the code: reasons and their examples, exit codes, links, and the commands and tests that they name.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use steward::cli;
use steward::entity::{Entity, Reason, Rejection, SizeLimits, apply_record};
use steward::exit_code::ExitCode;
use steward::record::{Batch, Epoch, Offset, Partition, Position, header};
use steward::service::{Service, State};

use crate::support::ledger::MAX_PAYLOAD_BYTES;

const LIMITS: SizeLimits = SizeLimits::of_payload(MAX_PAYLOAD_BYTES);
const REASONS: &str = include_str!("../../docs/dlq-reasons.md");
const OPERATING: &str = include_str!("../../docs/operating.md");
const README: &str = include_str!("../../README.md");

// ----------------------------------------------------------------------------------------------------- DLQ records

#[apply(offline_test)]
fn every_reason_has_its_section_in_order() {
    let codes: Vec<&str> = sections(REASONS).iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, Reason::ALL.map(Reason::code));
    for (code, text) in sections(REASONS) {
        assert!(text.contains("\nWhat to do: "), "{code} has no remedy");
        assert!(text.contains("\ndetail  "), "{code} has no example");
    }
}

#[apply(offline_test)]
fn the_examples_of_the_reasons_have_the_outcome_on_the_page() {
    let mut examples = 0;
    for (code, text) in sections(REASONS) {
        let example = Example::of(text);
        if code == Reason::Panicked.code() {
            // No event makes the shipped entity panic.
            assert!(example.detail.starts_with("the entity's code panicked: "), "{}", example.detail);
            continue;
        }
        // The page says that it is the example of a small state topic.
        let is_of_a_small_topic = code == Reason::StateTooLarge.code();
        let max_snapshot_bytes = if is_of_a_small_topic { 200 } else { LIMITS.max_snapshot_bytes };
        let limits = SizeLimits { max_snapshot_bytes, ..LIMITS };
        let rejection = example.outcome(limits).err().unwrap_or_else(|| panic!("the example of {code} is applied"));
        assert_eq!((rejection.reason.code(), &*rejection.detail), (code, example.detail), "the example of {code}");
        examples += 1;
    }
    assert_eq!(examples, Reason::ALL.len() - 1);
}

/// Every pair of field and code in the page's table occurs, and no event gets another pair.
#[apply(offline_test)]
fn the_page_lists_exactly_the_codes_of_invalid_event() {
    let listed: BTreeSet<(String, String)> = REASONS
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
            let [field, code, _, _] = cells.as_slice() else { return None };
            Some((field.trim_matches('`').to_owned(), code.trim_matches('`').to_owned()))
        })
        .filter(|(field, _)| field != "field")
        .collect();
    let mut seen = BTreeSet::new();
    for event_type in ["ServiceCreated", "ServiceUpdated", "ServiceDeleted"] {
        for [id, name, description, tags, price] in FIELDS {
            let mut value = format!("{{\"eventType\":\"{event_type}\"");
            let fields =
                [("id", id), ("name", name), ("description", description), ("tags", tags), ("pricePerHour", price)];
            for (field, json) in fields.into_iter().filter(|(_, json)| !json.is_empty()) {
                let _ = write!(value, ",\"{field}\":{json}");
            }
            value.push('}');
            for timestamp_ms in [None, Some(0), Some(i64::MAX)] {
                let verdict = verdict(&State::Absent, Some(b"42"), Some(value.as_bytes()), timestamp_ms, LIMITS);
                let Err(Rejection { reason: Reason::InvalidEvent, detail, .. }) = verdict else { continue };
                let listed: Vec<serde_json::Value> = serde_json::from_str(&detail).expect("the detail is a JSON array");
                seen.extend(listed.iter().map(|entry| {
                    let text = |name: &str| entry[name].as_str().expect("the three are strings").to_owned();
                    (text("field"), text("code"))
                }));
            }
        }
    }
    assert_eq!(listed, seen);
}

/// Raw JSON of id, name, description, tags and price; empty if the field is left out.
const FIELDS: [[&str; 5]; 6] = [
    ["42", r#""a""#, r#""a""#, "[]", "1"],
    ["", "", "", "", ""],
    ["\"42\"", "1", "1", "1", r#""1""#],
    ["9007199254740992", r#""""#, r#""""#, "[1]", "-1"],
    ["42", "\" \"", "\" \"", "[null]", "null"],
    ["42", "null", "null", "null", "[]"],
];

#[apply(offline_test)]
fn the_page_lists_all_headers_of_a_dlq_record() {
    let names = [
        header::REASON,
        header::DETAIL,
        header::SOURCE_TOPIC,
        header::SOURCE_PARTITION,
        header::SOURCE_OFFSET,
        header::SOURCE_TIMESTAMP,
        header::GROUP,
        header::TRUNCATED,
        header::TRUNCATED_LENGTH,
        header::TRUNCATED_HEADERS,
        header::TRUNCATED_KEY_LENGTH,
        header::TRUNCATED_KEY_SHA256,
    ];
    let listed: Vec<&str> = REASONS
        .lines()
        .filter_map(|line| line.strip_prefix("| `steward-")?.split_once('`').map(|(name, _)| name))
        .collect();
    assert_eq!(listed, names.map(|name| name.strip_prefix("steward-").expect("each name begins with it")));
}

/// The example of a section: an event, the event before it, and the resulting detail.
struct Example<'a> {
    before: Option<&'a str>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    detail: &'a str,
}

impl<'a> Example<'a> {
    fn of(section: &'a str) -> Example<'a> {
        let (_, rest) = section.split_once("```text\n").expect("a section has an example");
        let (block, _) = rest.split_once("```").expect("the example ends");
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
        Example {
            before: field("before"),
            key: field("key").and_then(bytes_of),
            value: field("value").and_then(bytes_of),
            detail: field("detail").expect("an example has a detail"),
        }
    }

    fn outcome(&self, limits: SizeLimits) -> Result<State, Rejection> {
        let key = self.key.as_deref();
        let state = match self.before {
            None => Service.absent(),
            Some(event) => {
                verdict(&State::Absent, key, Some(event.as_bytes()), Some(0), limits).expect("it was applied")
            }
        };
        verdict(&state, key, self.value.as_deref(), Some(0), limits)
    }
}

/// `(null)`, `(262145 bytes)`, or the text itself.
fn bytes_of(shown: &str) -> Option<Vec<u8>> {
    match shown.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        None => Some(shown.as_bytes().to_vec()),
        Some("null") => None,
        Some(size) => {
            let count = size.strip_suffix(" bytes").and_then(|count| count.parse().ok());
            Some(vec![b' '; count.unwrap_or_else(|| panic!("what is {shown}?"))])
        }
    }
}

fn verdict(
    state: &State,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    timestamp_ms: Option<i64>,
    limits: SizeLimits,
) -> Result<State, Rejection> {
    let mut batch = Batch::new(Partition(0), Epoch(1), Position(0));
    batch.push(Offset(0), timestamp_ms, key, value, []);
    apply_record(&Service, state, &batch.record(0), limits)
}

/// Returns the sections of a page whose heading is `## ` and one code between back-quotes, in order.
fn sections(page: &str) -> Vec<(&str, &str)> {
    let parts = page.split("\n## ").skip(1);
    parts.filter_map(|part| part.strip_prefix('`')?.split_once("`\n")).collect()
}

// -------------------------------------------------------------------------------------------------------- operating

#[apply(offline_test)]
fn every_exit_code_has_a_line_in_the_troubleshooting() {
    let (_, table) = OPERATING.split_once("\n## Troubleshooting by exit code").expect("the page has that section");
    let listed: Vec<&str> = table
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('`'))
        .map(|line| line.split('|').nth(1).expect("a row has cells").trim())
        .collect();
    assert_eq!(listed, ExitCode::ALL.map(|code| format!("{} `{}`", code.code(), code.name())));
}

// ------------------------------------------------------------------------------------------------------ every page

#[apply(offline_test)]
fn every_link_has_a_target() {
    let mut followed = 0;
    for page in pages() {
        let text = read(&page);
        for target in links(&text) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { page.clone() } else { beside(&page, file) };
            assert!(file.exists(), "{} links to {target}, which does not exist", page.display());
            let is_page = file.extension().is_some_and(|extension| extension == "md");
            assert!(
                anchor.is_empty() || is_page && anchors(&read(&file)).contains(anchor),
                "{} links to {target}, and there is no such heading",
                page.display()
            );
            followed += 1;
        }
    }
    assert!(followed > 20, "only {followed} links were found");
}

#[apply(offline_test)]
fn every_command_in_the_readme_exists() {
    let named = commands_in(README);
    assert!(named.len() >= 6, "only {named:?} were found");
    for words in named {
        let mut command = cli::command();
        for word in &words {
            let below = command.find_subcommand(word).cloned();
            // Words after a command without subcommands are its arguments.
            match below {
                Some(below) => command = below,
                None if command.has_subcommands() => panic!("`steward {}` does not exist", words.join(" ")),
                None => break,
            }
        }
        assert!(!command.has_subcommands(), "`steward {}` is not a complete command", words.join(" "));
    }
}

#[apply(offline_test)]
fn every_test_and_file_on_a_page_exists() {
    let mut tests = 0;
    for page in pages() {
        let text = read(&page);
        for quoted in quotations(&text) {
            if quoted.starts_with("tests/") || quoted.starts_with("src/") {
                assert!(root().join(quoted).exists(), "{} names {quoted}", page.display());
            }
            if is_test_name(quoted) {
                assert!(test_exists(quoted), "{} names the test {quoted}, which does not exist", page.display());
                tests += 1;
            }
        }
    }
    assert!(tests > 50, "only {tests} names of tests were found");
    let guarantees = read(&root().join("docs/guarantees.md"));
    for name in quotations(&guarantees).filter(|quoted| quoted.contains("::")) {
        assert!(
            is_test_name(name) || name.ends_with("::"),
            "docs/guarantees.md names {name}, which is not the name of a test"
        );
    }
}

#[apply(offline_test)]
fn the_helpers_of_these_checks_work() {
    let page = "# One\n[a](x.md) and [b](https://y) ![c](#one-more--thing)\n## One `more`: thing\n```sh\n[d](z.md) # no\n```\n";
    assert_eq!(links(page), ["x.md", "#one-more--thing"]);
    assert_eq!(anchors("## One `more`, or 2\n"), BTreeSet::from(["one-more-or-2".to_owned()]));
    assert_eq!(commands_in("`steward a b` and cargo run --release -- c --d"), [vec!["a", "b"], vec!["c"]]);
    assert!(test_exists("docs::the_helpers_of_these_checks_work"));
    assert!(!test_exists("docs::the_helpers"));
    assert!(is_test_name("engine::recovery::nothing") && !is_test_name("ports::Terms"));
    assert_eq!(sections("a\n## `b`\nc\n## d\ne"), [("b", "c")]);
    assert_eq!(quotations("a `b` c\n```text\n`d`\n```\n`e::f`").collect::<Vec<_>>(), ["b", "e::f"]);
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn beside(page: &Path, file: &str) -> PathBuf {
    page.parent().expect("a page is in a folder").join(file)
}

/// Returns the pages at the top level, and all pages of `docs`.
fn pages() -> Vec<PathBuf> {
    let mut pages = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name)).to_vec();
    for entry in std::fs::read_dir(root().join("docs")).expect("the folder exists") {
        let path = entry.expect("an entry can be read").path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    assert!(pages.len() > 8, "the pages were not found");
    pages
}

/// Returns the lines of a page outside of its code blocks.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    page.lines().filter(move |line| {
        let fences = line.trim_start().starts_with("```");
        is_code ^= fences;
        !is_code && !fences
    })
}

/// Returns the targets of the links of a page, without web addresses.
fn links(page: &str) -> Vec<&str> {
    let targets = prose(page).flat_map(|line| line.split("](").skip(1)).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).collect()
}

/// Returns the texts between back-quotes.
fn quotations(page: &str) -> impl Iterator<Item = &str> {
    prose(page).flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Returns the link anchors of the headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = prose(page).filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let text = line.trim_start_matches('#').trim().to_lowercase();
            let kept = text.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// Returns the words after `steward` or `cargo run … --`, up to the first flag or other text.
fn commands_in(page: &str) -> Vec<Vec<&str>> {
    let mut found = Vec::new();
    for begin in ["`steward ", "/steward ", "cargo run --release -- ", "cargo run -- "] {
        for (_, rest) in page.match_indices(begin).map(|(at, _)| page.split_at(at + begin.len())) {
            let line = rest.split(['\n', '`', '|', '#']).next().unwrap_or_default();
            let words = line.split_whitespace().take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()));
            found.push(words.collect());
        }
    }
    found
}

/// Returns whether the text has the form `module::…::function`, with a module of the tests.
fn is_test_name(quoted: &str) -> bool {
    let mut parts = quoted.split("::");
    let is_lower =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let is_module = parts.next().is_some_and(|module| is_lower(module) && is_file(&["tests/it", module]));
    is_module && parts.clone().count() > 0 && parts.all(is_lower)
}

fn is_file(path: &[&str]) -> bool {
    root().join(path.join("/")).with_extension("rs").is_file()
}

/// Returns whether the test exists.
fn test_exists(name: &str) -> bool {
    let Some((modules, function)) = name.rsplit_once("::") else { return false };
    let path = root().join("tests/it").join(modules.replace("::", "/")).with_extension("rs");
    std::fs::read_to_string(path).is_ok_and(|source| source.contains(&format!("_test)]\nfn {function}() {{")))
}
