//! `config.toml` and `docs/configuration.md` tell what is in force.

use std::collections::{BTreeMap, BTreeSet};

use steward::config::keys::{
    KEYS, ValueKind, {self},
};
use steward::config::properties::{
    PropertyScope, {self},
};
use steward::config::{Config, Mistake, Tls};

use super::{default_of, parse, parse_with};

const CONFIG_TOML: &str = include_str!("../../../config.toml");
const PAGE: &str = include_str!("../../../docs/configuration.md");

#[apply(offline_test)]
fn the_file_at_the_top_level_is_the_default_and_holds_every_key() {
    let read = parse(CONFIG_TOML).expect("config.toml is allowed");
    assert_eq!(read.config, Config::default());

    // Example lines count as keys too: they begin with `# ` and assign.
    let shown = |line: &str| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line).to_owned();
    let in_sections = CONFIG_TOML.lines().map(shown).scan(String::new(), |section, line| {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(section);
        }
        Some(line.split_once(" = ").map(|(name, _)| format!("{section}.{name}")))
    });
    let found: BTreeSet<String> = in_sections.flatten().filter(|key| !key.starts_with(keys::PROPERTIES)).collect();
    let expected: BTreeSet<String> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    assert_eq!(found, expected);
}

#[apply(offline_test)]
fn the_page_tells_every_key_with_its_default() {
    let documented: BTreeMap<&str, &str> = page_rows().map(|row| (row[0], row[2])).collect();
    let expected: BTreeSet<&str> = KEYS.iter().map(|key| key.path).collect();
    assert_eq!(documented.keys().copied().collect::<BTreeSet<_>>(), expected);
    for (path, told) in documented {
        let default = default_of(path).map_or_else(|| "none".to_owned(), |value| format!("`{value}`"));
        assert_eq!(told, default, "{path}");
    }
    for row in page_rows() {
        let kind = match keys::find(row[0]).expect("compared above").kind {
            ValueKind::Number => "number",
            ValueKind::Flag => "flag",
            ValueKind::Text => "text",
            ValueKind::File => "file",
            ValueKind::Word(words) => {
                assert_eq!(row[3], words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", "));
                "word"
            }
            ValueKind::Secret => "secret",
        };
        assert_eq!(row[1], kind, "{}", row[0]);
    }
}

#[apply(offline_test)]
fn the_page_tells_the_ranges_in_force() {
    let numbers = KEYS.iter().filter(|key| key.kind == ValueKind::Number).map(|key| key.path);
    for path in numbers {
        let row = page_rows().find(|row| row[0] == path).expect("every key is documented");
        let range = row[3].split(';').next().expect("a range");
        let (min, max) =
            range.split_once(" to ").unwrap_or_else(|| panic!("{path}: a range such as 0 to 9, not {range}"));
        let (min, max): (u64, u64) = (min.parse().expect("a number"), max.parse().expect("a number"));
        let expected = format!("must be from {min} to {max}");
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
        // The comment in config.toml tells the same.
        assert!(
            CONFIG_TOML.replace("\n# ", " ").contains(&format!("{min} to {max}")),
            "{path}: config.toml does not tell {min} to {max}"
        );
    }
}

fn range_problem(path: &str, value: u64) -> Option<String> {
    let error = parse_with("", [(keys::variable(path).as_str(), value.to_string().as_str())], Tls::Absent).err()?;
    let of_this_key = |mistake: &&Mistake| mistake.key == path && mistake.problem.starts_with("must be from ");
    error.mistakes().iter().find(of_this_key).map(|mistake| mistake.problem.clone())
}

#[apply(offline_test)]
fn the_page_tells_every_property() {
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
    for row in passed.chain(refused) {
        assert!(PAGE.lines().any(|line| line == row), "docs/configuration.md lacks the row\n{row}");
    }
}

#[apply(offline_test)]
fn the_examples_of_the_page_are_accepted() {
    let examples: Vec<&str> =
        PAGE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().expect("an end")).collect();
    assert!(examples.len() >= 5);
    for example in examples {
        parse_with(example, [], Tls::BuiltIn).unwrap_or_else(|error| panic!("{example}\n{error}"));
    }
}

/// The cells of the tables of keys: path, type, default, range, meaning.
fn page_rows() -> impl Iterator<Item = Vec<&'static str>> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    let cells = rows.map(|row| row.split('|').map(|cell| cell.trim()).collect::<Vec<_>>());
    cells.filter(|cells| cells.len() == 5).map(|mut cells| {
        cells[0] = cells[0].trim_end_matches('`');
        cells
    })
}
