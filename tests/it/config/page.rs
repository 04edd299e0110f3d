//! `config.toml`, `docs/configuration.md` and the chart's schema say what the declaration of the keys says. They are
//! written from it: `STEWARD_WRITE_DOCS=1 cargo test --test it config`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use steward::config::keys::{ConfigKey, Section, TextFormat, ValueKind};
use steward::config::properties::PropertyScope;
use steward::config::{Config, Mistake, Tls, keys, properties};

use super::{default_of, parse, parse_with};

/// Keys that the chart sets itself. Secrets are not in its values either, because they would end up in a ConfigMap.
const SET_BY_THE_CHART: [&str; 2] = ["kafka.instance_name", "health.file"];

#[apply(offline_test)]
fn the_file_at_the_top_level_is_the_default_and_holds_every_key() {
    let text = read(&root().join("config.toml"));
    let effective = parse(&text).expect("config.toml is allowed");
    assert_eq!(effective.config, Config::default());

    // Example lines count as keys too: they begin with `# ` and assign.
    let shown = |line: &str| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line).to_owned();
    let in_sections = text.lines().map(shown).scan(String::new(), |section, line| {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(section);
        }
        Some(line.split_once(" = ").map(|(name, _)| format!("{section}.{name}")))
    });
    let found: BTreeSet<String> = in_sections.flatten().filter(|key| !key.starts_with(keys::PROPERTIES)).collect();
    let expected: BTreeSet<String> = keys::all().map(|key| key.path.to_owned()).collect();
    assert_eq!(found, expected);
}

#[apply(offline_test)]
fn the_file_at_the_top_level_is_written_from_the_declaration_of_the_keys() {
    let mut text = TOP_OF_CONFIG_TOML.to_owned();
    for section in keys::SECTIONS {
        write!(text, "\n{}[{}]\n", comment(section.meaning), section.name).expect(INFALLIBLE);
        for (index, key) in section.keys.iter().enumerate() {
            let (_, name) = key.section_and_name();
            let separator = if index == 0 { "" } else { "\n" };
            let assignment = match (default_of(key.path), key.example) {
                (Some(default), _) => format!("{name} = {default}"),
                (None, Some(example)) => format!("# {name} = {example}"),
                (None, None) => panic!("{}: a key without a default needs an example", key.path),
            };
            writeln!(text, "{separator}{}{assignment}", comment_of(key)).expect(INFALLIBLE);
        }
        if section.name == "kafka.security" {
            text.push_str(PROPERTIES_OF_CONFIG_TOML);
        }
    }
    compare_or_write(&root().join("config.toml"), &text);
}

#[apply(offline_test)]
fn the_page_is_written_from_the_declaration_of_the_keys() {
    let path = root().join("docs/configuration.md");
    let mut page = read(&path);
    for section in keys::SECTIONS {
        page = with_table(&page, section);
    }
    compare_or_write(&path, &page);
}

#[apply(offline_test)]
fn the_schema_of_the_chart_is_written_from_the_declaration_of_the_keys() {
    let path = root().join("helm/steward/values.schema.json");
    let mut schema = read(&path);
    for section in keys::SECTIONS {
        schema = with_schema(&schema, section);
    }
    serde_json::from_str::<serde_json::Value>(&schema).expect("the schema is JSON");
    compare_or_write(&path, &schema);
}

#[apply(offline_test)]
fn the_ranges_of_the_declaration_are_in_force() {
    for key in keys::all() {
        let ValueKind::Number { min, max, .. } = key.kind else { continue };
        let (path, expected) = (key.path, format!("must be from {min} to {max}"));
        assert!(
            range_problem(path, max + 1).is_some_and(|problem| problem == expected),
            "{path}: {max} is the greatest"
        );
        assert_eq!(range_problem(path, max), None, "{path}: {max} is allowed");
        assert_eq!(range_problem(path, min), None, "{path}: {min} is allowed");
        if min > 0 {
            assert!(
                range_problem(path, min - 1).is_some_and(|problem| problem == expected),
                "{path}: {min} is the least"
            );
        }
    }
}

#[apply(offline_test)]
fn the_unit_of_a_number_is_the_end_of_its_name() {
    for key in keys::all() {
        if let ValueKind::Number { unit, .. } = key.kind {
            assert!(key.path.ends_with(&format!("_{unit}")), "{}: {unit}", key.path);
        }
    }
}

fn range_problem(path: &str, value: u64) -> Option<String> {
    let error = parse_with("", [(keys::variable(path).as_str(), value.to_string().as_str())], Tls::Absent).err()?;
    let of_this_key = |mistake: &&Mistake| mistake.key == path && mistake.problem.starts_with("must be from ");
    error.mistakes().iter().find(of_this_key).map(|mistake| mistake.problem.clone())
}

#[apply(offline_test)]
fn the_page_lists_every_property() {
    let ticked = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let passed = properties::PASSED.iter().map(|(scope, names)| {
        let clients = match scope {
            PropertyScope::Both => "all",
            PropertyScope::Consumer => "consumers",
            PropertyScope::Producer => "producers",
        };
        format!("| {clients} | {} |", ticked(names))
    });
    let refused = properties::REFUSED
        .iter()
        .map(|(refusal, names)| format!("| {} | {} | {} |", ticked(names), refusal.reason, refusal.remedy));
    let page = read(&root().join("docs/configuration.md"));
    for row in passed.chain(refused) {
        assert!(page.lines().any(|line| line == row), "docs/configuration.md lacks the row\n{row}");
    }
}

#[apply(offline_test)]
fn the_examples_of_the_page_are_accepted() {
    let page = read(&root().join("docs/configuration.md"));
    let examples: Vec<&str> =
        page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().expect("an end")).collect();
    assert!(examples.len() >= 5);
    for example in examples {
        parse_with(example, [], Tls::BuiltIn).unwrap_or_else(|error| panic!("{example}\n{error}"));
    }
}

// ------------------------------------------------------------------------------------------------------ config.toml

const TOP_OF_CONFIG_TOML: &str = "\
# The configuration of steward, complete: every key with its default.
#
#   steward run --config config.toml
#
# An environment variable overrides a key: STEWARD__KAFKA__GROUP_ID, STEWARD__LIMITS__MAX_PAYLOAD_BYTES, and so on, with
# two underscores for each dot. A name that ends in _ms is a time in milliseconds, one in _bytes a size in bytes.
# docs/configuration.md shows how to set up TLS and SASL.
# `steward config check --config config.toml` reports mistakes without starting.
";

const PROPERTIES_OF_CONFIG_TOML: &str = "
# Further properties of librdkafka. A property that would break a guarantee is refused, with the reason.
[kafka.properties]
# \"fetch.wait.max.ms\" = 100
# \"client.rack\" = \"eu-central-1a\"
";

/// Width of a comment in `config.toml`, with its `# `.
const WIDTH: usize = 120;

/// What the key is, and on lines of their own the values that it accepts.
fn comment_of(key: &ConfigKey) -> String {
    let allowed = key.allowed();
    let limits = match key.kind {
        ValueKind::Flag => None,
        _ if allowed == "not empty" => None,
        ValueKind::Number { .. } => Some(format!("Range: {allowed}.")),
        ValueKind::Word(_) => Some(format!("One of {allowed}.")),
        ValueKind::Text(_) | ValueKind::File(_) | ValueKind::Secret => Some(format!("Allowed: {allowed}.")),
    };
    comment(key.meaning) + &limits.map(|limits| comment(&limits)).unwrap_or_default()
}

/// The text as lines of a comment, without the backticks of Markdown.
fn comment(markdown: &str) -> String {
    let mut lines = vec![String::new()];
    for word in plain(markdown).split(' ') {
        let line = lines.last_mut().expect("it starts with one line");
        if "# ".len() + line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(word.to_owned());
        } else {
            let separator = if line.is_empty() { "" } else { " " };
            write!(line, "{separator}{word}").expect(INFALLIBLE);
        }
    }
    lines.iter().map(|line| format!("# {line}\n")).collect()
}

fn plain(markdown: &str) -> String {
    markdown.replace('`', "")
}

// ------------------------------------------------------------------------------------------------------------ page

/// The page with the table of this section, under its heading.
fn with_table(page: &str, section: &Section) -> String {
    const HEADER: &str = "| Key | Type | Default | Range | Meaning |\n";
    let heading = format!("\n## `[{}]`\n", section.name);
    let (before, rest) = page.split_once(&heading).unwrap_or_else(|| panic!("the page lacks the heading{heading}"));
    let (intro, rest) = rest.split_once(HEADER).unwrap_or_else(|| panic!("[{}] has no table", section.name));
    let after = rest.find("\n\n").map_or("\n", |end| &rest[end + 1..]);
    let mut table = format!("{HEADER}|---|---|---|---|---|\n");
    for key in section.keys {
        let default = default_of(key.path).map_or_else(|| "none".to_owned(), |value| format!("`{value}`"));
        let ConfigKey { path, kind, meaning, .. } = key;
        let kind = match kind {
            ValueKind::Number { .. } => "number",
            ValueKind::Flag => "flag",
            ValueKind::Text(_) => "text",
            ValueKind::File(_) => "file",
            ValueKind::Word(_) => "word",
            ValueKind::Secret => "secret",
        };
        writeln!(table, "| `{path}` | {kind} | {default} | {} | {meaning} |", key.allowed()).expect(INFALLIBLE);
    }
    format!("{before}{heading}{intro}{table}{after}")
}

// ---------------------------------------------------------------------------------------------------------- schema

/// The schema with the keys of this section. What is not a key stays: nested sections, and conditions between keys.
fn with_schema(schema: &str, section: &Section) -> String {
    // `config` lies 4 spaces deep, and each level below has an object and its `properties`.
    let depth = 4 + 4 * section.name.split('.').count();
    let [outer, inner] = [depth, depth + 2].map(|depth| " ".repeat(depth));
    let name = section.name.rsplit('.').next().expect("a name has a last part");
    let start = format!("\n{outer}\"{name}\": {{\n");
    let open = format!("\n{inner}\"properties\": {{\n");
    let close = format!("\n{inner}}}");
    let (before, rest) = schema.split_once(&start).unwrap_or_else(|| panic!("the schema lacks [{}]", section.name));
    let (intro, rest) = rest.split_once(&open).unwrap_or_else(|| panic!("[{}] has no properties", section.name));
    assert!(!intro.contains(&format!("\n{outer}}}")), "[{}] has no properties over several lines", section.name);
    let (old, after) = rest.split_once(&close).expect("the object ends");

    let entries: Vec<String> = section.keys.iter().filter_map(|key| schema_of(key, depth + 4)).collect();
    // Nested sections come after the keys.
    let nested_start = ["security", "properties"].iter().filter_map(|nested| {
        let line = format!("{}\"{nested}\": {{\n", " ".repeat(depth + 4));
        old.find(&line).filter(|at| *at == 0 || old[..*at].ends_with('\n'))
    });
    let nested = nested_start.min().map_or_else(String::new, |at| format!(",\n{}", &old[at..]));
    format!("{before}{start}{intro}{open}{}{nested}{close}{after}", entries.join(",\n"))
}

/// The entry of a key; `None` if it does not belong into the values of the chart.
fn schema_of(key: &ConfigKey, depth: usize) -> Option<String> {
    let mut members = vec![("description", json(&plain(key.meaning)))];
    match key.kind {
        ValueKind::Number { min, max, .. } => {
            members.extend([("type", json("integer")), ("minimum", min.to_string()), ("maximum", max.to_string())]);
        }
        ValueKind::Flag => members.push(("type", json("boolean"))),
        ValueKind::Word(words) => {
            let indent = " ".repeat(depth + 4);
            let words: Vec<String> = words.iter().map(|word| format!("{indent}{}", json(word))).collect();
            members.push(("enum", format!("[\n{}\n{}]", words.join(",\n"), " ".repeat(depth + 2))));
        }
        ValueKind::Text(_) | ValueKind::File(_) if SET_BY_THE_CHART.contains(&key.path) => return None,
        ValueKind::Text(format) => {
            members.extend([("type", json("string")), ("minLength", "1".to_owned())]);
            members.extend(pattern(format).map(|pattern| ("pattern", json(pattern))));
        }
        ValueKind::File(_) => members.extend([("type", json("string")), ("minLength", "1".to_owned())]),
        ValueKind::Secret => return None,
    }
    let indent = " ".repeat(depth);
    let members: Vec<String> =
        members.into_iter().map(|(name, value)| format!("{indent}  \"{name}\": {value}")).collect();
    let (_, name) = key.section_and_name();
    Some(format!("{indent}\"{name}\": {{\n{}\n{indent}}}", members.join(",\n")))
}

fn pattern(format: TextFormat) -> Option<&'static str> {
    match format {
        TextFormat::Free | TextFormat::LogLevel => None,
        TextFormat::Name => Some("^[a-zA-Z0-9._-]{1,249}$"),
        TextFormat::Extensions => Some(r"^\s*[a-zA-Z]+\s*=[ -+\--~]*(,\s*[a-zA-Z]+\s*=[ -+\--~]*)*$"),
        TextFormat::Servers => Some(
            r"^\s*(\[[0-9a-fA-F:.]+\]|[^\s,:\[\]/]+):[0-9]{1,5}(\s*,\s*(\[[0-9a-fA-F:.]+\]|[^\s,:\[\]/]+):[0-9]{1,5})*\s*$",
        ),
    }
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

// --------------------------------------------------------------------------------------------------------- helpers

const INFALLIBLE: &str = "writing to a String never fails";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn compare_or_write(path: &Path, expected: &str) {
    if std::env::var_os("STEWARD_WRITE_DOCS").is_some() {
        std::fs::write(path, expected).expect("the file can be written");
        return;
    }
    let found = read(path);
    let difference = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "{} differs from the declaration of the keys; STEWARD_WRITE_DOCS=1 writes it. First difference: {difference:?}",
        path.display()
    );
}
